//! The world: everything that AWS holds, what is written down of each call, and the oracles that look after every effect.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use spot_domain::enrolment::Enrolment;
use spot_domain::settings::Settings;

use crate::acts::RoomTaken;
use crate::chronicle::{Chronicle, SentCall};
use crate::cluster::{Cluster, no_cluster, not_played};
use crate::event_bridge::EventBridge;
use crate::executions::Executions;
use crate::fault::{Fault, Plan};
use crate::fleet::{AutoScalingGroup, Fleet, GroupActivity};
use crate::lambda::Invocation;
use crate::mailbox::Mailbox;
use crate::oracles::{Oracles, SWAPS, Seen};
use crate::scene::{ACCOUNT, REGION};
use crate::sessions::Sessions;
use crate::tables::Tables;
use crate::tables::attribute::AttributeMap;
use crate::virtual_time::now;
use crate::wire::{ApiAnswer, ApiCall, Service};

/// How long the past can be read.
const PAST: SignedDuration = SignedDuration::from_secs(90);
/// The HTTP status of what the world does not know.
const NOT_IN_THE_WORLD: u16 = 501;

/// What AWS holds, and the history so far.
#[derive(Debug, Clone)]
pub struct World {
    /// EC2, Auto Scaling and Elastic Load Balancing.
    pub fleet: Fleet,
    /// DynamoDB.
    pub tables: Tables,
    /// SNS and EventBridge.
    pub mailbox: Mailbox,
    /// STS.
    pub sessions: Sessions,
    /// The Kubernetes cluster whose nodes the instances are, if they are nodes.
    pub cluster: Option<Cluster>,
    /// Step Functions.
    pub executions: Executions,
    /// The faults to come.
    pub plan: Plan,
    /// What has happened.
    pub chronicle: Chronicle,
    /// The promises.
    pub oracles: Oracles,
    /// Calls that take effect later than their callers wait.
    pub flights: usize,
    /// Events of AWS on their way to the functions.
    pub event_bridge: EventBridge,
    /// The group watcher runs.
    pub is_watched: bool,
    /// Nothing is at rest before every enrolled group is on Spot.
    pub awaits_spot: bool,
    /// Acts of others that wait for a group on Spot.
    pub acts_to_come: usize,
    /// An event is in a dead-letter queue: its alarm tells a person.
    pub has_dead_letters: bool,
    /// The room that we made and a policy has taken.
    pub(crate) room_taken: Option<RoomTaken>,
    past: VecDeque<(Timestamp, Fleet, Tables)>,
}

impl World {
    /// Returns a world at its beginning.
    #[must_use]
    pub fn new(fleet: Fleet, tables: Tables, mailbox: Mailbox, plan: Plan) -> Self {
        Self {
            oracles: Oracles::of(&fleet),
            event_bridge: EventBridge::of(fleet.account_id()),
            fleet,
            tables,
            mailbox,
            sessions: Sessions::default(),
            cluster: None,
            executions: Executions::default(),
            plan,
            chronicle: Chronicle::default(),
            flights: 0,
            is_watched: false,
            awaits_spot: false,
            acts_to_come: 0,
            has_dead_letters: false,
            room_taken: None,
            past: VecDeque::new(),
        }
    }

    /// Returns a world without anything in it.
    #[must_use]
    pub fn empty() -> Self {
        let fleet = Fleet::new("", "", crate::fleet::AwsHabits::default());
        Self::new(fleet, Tables::new([]), Mailbox::new("", ""), Plan::none())
    }

    /// Notes a call that is sent, and returns its number and its fault.
    pub fn is_sent(&mut self, call: &ApiCall, by: Option<&Invocation>) -> (usize, Option<Fault>) {
        let number = self.chronicle.calls.len();
        let invocation = by.map(|invocation| invocation.number);
        let by = by.map(|invocation| invocation.label.clone()).unwrap_or_default();
        let seen = Seen { fleet: &self.fleet, tables: &self.tables, mailbox: &self.mailbox };
        self.oracles.before_call(call, &by, seen);
        self.oracles.before_take_over(call, &by, &self.tables, &self.executions);
        let mut sent = SentCall {
            by,
            invocation,
            service: call.service,
            action: call.action.clone(),
            is_read: is_read(call),
            fault: None,
            at: now(),
            effect: None,
        };
        sent.fault = self.plan.of(&sent, &self.chronicle.calls);
        let fault = sent.fault;
        self.chronicle.is_sent(sent);
        if let Some(act) = self.plan.act_at(number) {
            self.befalls(act);
        }
        (number, fault)
    }

    /// A call takes effect.
    pub fn carries_out(&mut self, number: usize, call: &ApiCall) -> ApiAnswer {
        self.passes();
        if self.is_elsewhere(call) && !is_read(call) {
            let account = call.account.as_deref().unwrap_or(ACCOUNT);
            self.oracles.is_not_played(&format!("{} in account {account}, which has nothing", call.action));
        }
        let before = (!is_read(call)).then(|| (self.fleet.clone(), self.cluster.clone()));
        let answer = match call.service {
            Service::DynamoDb => self.tables.carry_out(call, now()),
            Service::StepFunctions => self.executions.carry_out(call, now()),
            _ if self.is_elsewhere(call) => self.nothing_there(call).carry_out(call, now()),
            Service::Ec2 | Service::AutoScaling | Service::ElasticLoadBalancing | Service::Pricing => {
                self.fleet.carry_out(call, now())
            }
            Service::Sns | Service::EventBridge => self.mailbox.carry_out(call, &self.fleet.habits, now()),
            Service::Sts => self.sessions.carry_out(call, now()),
            Service::Eks => match &self.cluster {
                Some(cluster) => cluster.describe(call),
                None => no_cluster("any"),
            },
            Service::Kubernetes => match &mut self.cluster {
                Some(cluster) => cluster.carry_out(call, now()),
                None => not_played(call),
            },
        };
        self.chronicle.takes_effect(number, call, &answer);
        if answer.status == NOT_IN_THE_WORLD {
            self.oracles.is_not_played(&format!("the world has no such {}: {}", call.action, answer.body));
        }
        self.oracles.after_read(call, self.chronicle.by(number), &answer);
        if let Some(sent) = self.chronicle.calls.get(number).filter(|sent| sent.fault.is_none()) {
            self.oracles.after_look(call, &sent.by, &answer, &self.fleet);
        }
        if call.service == Service::StepFunctions {
            self.oracles.look_at_runs(&self.executions);
        }
        if let Some((before, cluster_before)) = before {
            let seen = Seen { fleet: &self.fleet, tables: &self.tables, mailbox: &self.mailbox };
            let sent_at = self.chronicle.calls.get(number).map_or_else(now, |sent| sent.at);
            self.oracles.after_call(call, self.chronicle.by(number), &answer, sent_at, &before, seen);
            let sent = self.chronicle.calls.get(number);
            if let (Some(was), Some(is), Some(sent)) = (&cluster_before, &self.cluster, sent) {
                self.oracles.after_call_in_cluster(call, &answer, sent, (&before, was), is);
            }
        }
        answer
    }

    /// A read shows an earlier state. DynamoDB shows one only to reads that allow it.
    pub fn reads_past(&mut self, number: usize, call: &ApiCall, seconds: u32) -> ApiAnswer {
        self.passes();
        let at = now() - SignedDuration::from_secs(seconds.into());
        if self.past.is_empty() {
            self.oracles.is_not_played("a read of a past that was not kept");
        }
        let earlier = self.past.iter().rev().find(|(then, ..)| *then <= at).or(self.past.front());
        let answer = earlier.and_then(|(_, fleet, tables)| match call.service {
            Service::DynamoDb => self.tables.read_from(tables, call),
            _ if self.is_elsewhere(call) => None,
            _ => fleet.read(call, now()),
        });
        match answer {
            Some(answer) => {
                self.chronicle.takes_effect(number, call, &answer);
                self.oracles.after_read(call, self.chronicle.by(number), &answer);
                answer
            }
            None => self.carries_out(number, call),
        }
    }

    /// Returns true if a call is made in an account that the fleet is not of.
    fn is_elsewhere(&self, call: &ApiCall) -> bool {
        let services = [Service::Ec2, Service::AutoScaling, Service::ElasticLoadBalancing];
        let account = call.account.as_deref().unwrap_or(ACCOUNT);
        services.contains(&call.service) && account != self.fleet.account_id()
    }

    /// Returns the account of such a call, which has neither instances nor groups.
    fn nothing_there(&self, call: &ApiCall) -> Fleet {
        let account = call.account.as_deref().unwrap_or(ACCOUNT);
        Fleet::new(account, REGION, self.fleet.habits.clone())
    }

    /// What AWS does by itself has happened up to now.
    pub fn passes(&mut self) {
        self.fleet.pass(now());
        if let Some(cluster) = &mut self.cluster {
            cluster.pass(&self.fleet, now());
            self.oracles.look_at_nodes(cluster);
        }
        let seen = Seen { fleet: &self.fleet, tables: &self.tables, mailbox: &self.mailbox };
        self.oracles.look(seen);
    }

    /// The delivery of a notice to the risk manager has come to its end.
    pub fn notice_is_over(&mut self, event: &Value, is_handled: bool) {
        self.oracles.notice_is_over(event, is_handled, &self.tables);
    }

    /// Auto Scaling announces the launches since the last time.
    pub fn announces_launches(&mut self) {
        self.event_bridge.announces_launches(&self.fleet, now());
    }

    /// Lets each group act that counts more or fewer members than it wants, every other time. Returns true if one has.
    pub fn groups_act(&mut self, random: &mut fastrand::Rng) -> bool {
        self.policy_gives_room_back();
        let unsettled: Vec<String> = self.fleet.unsettled().into_iter().map(str::to_owned).collect();
        let mut has_acted = false;
        for name in unsettled {
            if !random.bool() {
                continue;
            }
            for activity in self.fleet.group_acts(&name, random.usize(..), now()) {
                if !matches!(activity, GroupActivity::LaunchRefused(_)) {
                    has_acted = true;
                    self.chronicle.notes(format_args!("{name}: {activity:?}"));
                }
            }
        }
        has_acted
    }

    /// Keeps the present for reads of the past, if there will be any.
    pub fn remembers(&mut self) {
        if !self.plan.may_read_past() {
            return;
        }
        self.past.push_back((now(), self.fleet.clone(), self.tables.clone()));
        while self.past.front().is_some_and(|(then, ..)| now().duration_since(*then) > PAST) {
            self.past.pop_front();
        }
    }

    /// Everything is at rest: what must hold now is asked.
    pub fn rests(&mut self) {
        self.passes();
        let seen = Seen { fleet: &self.fleet, tables: &self.tables, mailbox: &self.mailbox };
        self.oracles.at_rest(seen);
        if self.is_watched {
            self.oracles.loop_at_rest(&self.tables, &self.executions);
        }
        if let Some(cluster) = &self.cluster {
            self.oracles.nodes_at_rest(cluster, seen);
        }
    }

    /// Returns true if something is under way.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        let is_leased = self.tables.items(SWAPS).any(|row| row.contains_key("lease_owner"));
        let is_under_way = self.flights > 0 || self.event_bridge.is_busy() || self.acts_to_come > 0;
        let is_unswapped =
            self.awaits_spot && self.fleet.groups().keys().any(|name| self.is_to_be_swapped(name));
        !self.executions.have_ended() || is_under_way || is_leased || is_unswapped
    }

    /// Returns true if all that is left are old instances outside their groups whose newcomer EC2 has forgotten, about an hour after
    /// its end: without that proof none is touched, and a person was told.
    #[must_use]
    pub fn is_left_to_a_person(&self) -> bool {
        let leased = || self.tables.items(SWAPS).filter(|row| row.contains_key("lease_owner"));
        let is_unproven = |row: &AttributeMap| {
            let journal = row.get("journal").and_then(|journal| journal.as_s());
            let journal: Option<Value> = journal.and_then(|journal| serde_json::from_str(journal).ok());
            let id = |of: &str| journal.as_ref().and_then(|journal| journal[of].as_str());
            let shown = |of: &str| id(of).and_then(|id| self.fleet.instances().get(id));
            let is_member = |id: &str| self.fleet.groups().values().any(|group| group.member(id).is_some());
            let is_outside = shown("old").is_some_and(|old| old.state.is_alive() && !is_member(&old.id));
            is_outside && id("newcomer").is_some() && shown("newcomer").is_none()
        };
        let is_at_rest = self.flights == 0 && self.acts_to_come == 0 && self.executions.have_ended();
        let is_left = leased().next().is_some() && leased().all(is_unproven);
        is_at_rest && is_left && self.is_a_person_told()
    }

    /// Returns true if an enrolled group has a member that is not Spot.
    fn is_to_be_swapped(&self, name: &str) -> bool {
        let is_enrolled = |group: &AutoScalingGroup| is_enrolled(group, &self.oracles.settings);
        self.fleet.group(name).is_some_and(is_enrolled) && !self.is_on_spot(name)
    }

    /// Returns true if a group is complete, and every member is Spot.
    fn is_on_spot(&self, name: &str) -> bool {
        let Some(group) = self.fleet.group(name) else { return false };
        let is_spot = |id: &str| self.fleet.instances().get(id).is_some_and(|instance| instance.is_spot());
        group.counted() == group.desired && group.members.iter().all(|member| is_spot(&member.instance_id))
    }

    /// Returns true if nothing of ours is under way and the first group serves in full, with Spot alone.
    #[must_use]
    pub fn is_settled_on_spot(&self) -> bool {
        let Some((name, group)) = self.fleet.groups().first_key_value() else { return false };
        let is_leased = self.tables.items(SWAPS).any(|row| row.contains_key("lease_owner"));
        let serves = self.fleet.serving(name).len() == group.desired as usize;
        serves && self.is_on_spot(name) && self.executions.have_ended() && !is_leased
    }
}

/// Returns true if a group is in the loop by its owner's tag, or without one by the setting `enrolment`.
#[must_use]
pub fn is_enrolled(group: &AutoScalingGroup, settings: &Settings) -> bool {
    let tag = group.tags.get("spot-optimizer:enabled");
    tag.map_or(settings.enrolment == Enrolment::OptOut, |(value, _)| value == "true")
}

/// Returns true if the call changes nothing.
#[must_use]
pub fn is_read(call: &ApiCall) -> bool {
    const VERBS: [&str; 7] = ["Describe", "Get", "List", "Query", "Scan", "BatchGet", "AssumeRole"];
    VERBS.iter().any(|verb| call.action.starts_with(verb))
}
