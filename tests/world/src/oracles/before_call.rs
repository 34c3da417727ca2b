//! What must hold as a call of ours is sent: each launch has a fresh answer of the gate, and no member leaves whom its owner
//! or the newcomer keeps.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use spot_domain::forwarding::BlindGate;
use spot_domain::settings::Settings;

use super::deaths::newcomer_of;
use super::{JUST_BEFORE, Oracles, POOL_RISK, Seen};
use crate::fleet::{Ec2Instance, Fleet, LifecycleState};
use crate::virtual_time::now;
use crate::wire::{ApiAnswer, ApiCall};
use crate::world::{is_enrolled, is_read};

/// The age of the gate's answer at a launch: a proof lasts 15 s, and its answer is under way for a moment.
const PROOF_LASTS: SignedDuration = SignedDuration::from_secs(16);
/// What was so for so long, a step has seen: its description may be 20 s old, and one of its calls may be lost.
pub(super) const SEEN_AFTER: SignedDuration = SignedDuration::from_secs(60);
/// No answer of the risk table is old, so that only a lost call delays what a step does about it.
const POISON_SEEN_AFTER: SignedDuration = SignedDuration::from_secs(40);
/// The longest time from the last look at the newcomer's targets to the departure of the old instance, with all repetitions.
const ILL_SEEN_AFTER: SignedDuration = SignedDuration::from_mins(5);

/// Since when something has been so.
#[derive(Debug, Clone, Default)]
pub struct Marks {
    /// The last answer of the risk table to each function and phase.
    gate_answered: BTreeMap<String, Timestamp>,
    /// Members in service, by group and id.
    in_service: BTreeMap<(String, String), Timestamp>,
    /// Members that their owner keeps.
    kept: BTreeMap<String, Timestamp>,
    /// Instances that EC2 has announced to take back.
    doomed: BTreeMap<String, Timestamp>,
    /// Instances that EC2 has marked for termination.
    marked: BTreeMap<String, Timestamp>,
    /// Members that we have detached, and their groups.
    detached: BTreeMap<String, String>,
    /// Instances that their group has refused to take back.
    refused_back: BTreeSet<String>,
    /// Members that have served at some time.
    has_served: BTreeSet<String>,
    /// Members that fail the health checks of a target group.
    ill: BTreeMap<String, Timestamp>,
    /// Groups that are not enrolled in the loop.
    not_enrolled: BTreeMap<String, Timestamp>,
}

impl Marks {
    /// Returns the marks of groups whose members have long been in service.
    #[must_use]
    pub(super) fn of(fleet: &Fleet, settings: &Settings) -> Self {
        let in_service = members_in_service(fleet).map(|member| (member, Timestamp::MIN)).collect();
        let not_enrolled = groups_not_enrolled(fleet, settings).map(|name| (name, Timestamp::MIN)).collect();
        Self { in_service, not_enrolled, ..Self::default() }
    }

    pub(super) fn look(&mut self, fleet: &Fleet, settings: &Settings) {
        renew(&mut self.in_service, members_in_service(fleet));
        renew(&mut self.kept, members_kept(fleet, settings));
        renew(&mut self.not_enrolled, groups_not_enrolled(fleet, settings));
        let marked = fleet.instances().keys().filter(|id| fleet.is_taken_back(id));
        renew(&mut self.marked, marked.cloned());
        let serving = fleet.groups().keys().flat_map(|name| fleet.serving(name));
        self.has_served.extend(serving.map(str::to_owned));
        let ill = fleet.groups().keys().flat_map(|name| fleet.unhealthy_members(name));
        renew(&mut self.ill, ill.map(str::to_owned));
    }

    /// Returns how many members have served and fail their health checks now, as some of the group leave. One that was in service as
    /// the newcomer was launched has served, as its group counts. A newcomer that was never healthy is none, and neither is one
    /// that has long been ill as what it replaces leaves.
    pub(super) fn fallen_ill(&self, fleet: &Fleet, group: &str, leaving: &[String]) -> usize {
        let newcomers = || leaving.iter().filter_map(|old| newcomer_of(fleet, old));
        let replaces = |id: &str| newcomers().any(|newcomer| newcomer.id == id);
        let was_there = |id: &str| {
            let since = self.in_service.get(&(group.to_owned(), id.to_owned()));
            since.is_some_and(|since| newcomers().any(|newcomer| *since < newcomer.launched_at))
        };
        let has_served = |id: &str| self.has_served.contains(id) || was_there(id);
        let is_old = |at: &Timestamp| now().duration_since(*at) > ILL_SEEN_AFTER;
        let is_seen = |id: &str| replaces(id) && self.ill.get(id).is_some_and(is_old);
        let ill = fleet.unhealthy_members(group).into_iter();
        ill.filter(|id| has_served(id) && !is_seen(id)).count()
    }

    /// Returns how many members of a group EC2 has marked for termination since then: nobody can have seen it.
    pub(super) fn noticed_since(&self, fleet: &Fleet, group: &str, since: Timestamp) -> usize {
        let members = fleet.group(group).into_iter().flat_map(|group| &group.members);
        members.filter(|member| self.marked.get(&member.instance_id).is_some_and(|at| *at >= since)).count()
    }

    /// Returns since when a group is not enrolled; `None` for one that is, or that does not exist.
    pub(super) fn not_enrolled_since(&self, group: &str) -> Option<Timestamp> {
        self.not_enrolled.get(group).copied()
    }

    /// Returns true for a member that we have detached.
    pub(super) fn was_detached(&self, id: &str) -> bool {
        self.detached.contains_key(id)
    }

    /// Notes an attach that AWS has refused.
    pub(super) fn attach_is_refused(&mut self, call: &ApiCall) {
        self.refused_back.extend(call.list("InstanceIds").into_iter().map(str::to_owned));
    }

    /// Notes that EC2 has announced to take an instance back.
    pub fn is_doomed(&mut self, id: &str) {
        self.doomed.insert(id.to_owned(), now());
    }
}

impl Oracles {
    /// The settings in force are these, from the beginning of the history.
    pub fn follow(&mut self, settings: Settings, fleet: &Fleet) {
        self.marks = Marks::of(fleet, &settings);
        self.settings = settings;
    }

    /// Asks what must hold as a call of ours is sent. `by` is the function with its phase.
    pub fn before_call(&mut self, call: &ApiCall, by: &str, seen: Seen<'_>) {
        if call.action == "RunInstances" && call.parameter("InstanceMarketOptions.MarketType") == Some("spot")
        {
            self.before_launch(call, by, seen);
        }
        if !is_read(call) {
            self.before_change(call, by);
        }
        if call.action == "DetachInstances" {
            let group = call.parameter("AutoScalingGroupName").unwrap_or_default();
            self.marks.detached.extend(leaving(call).into_iter().map(|id| (id, group.to_owned())));
        }
        if ["ClusterOptimizer", "KubernetesOptimizer", "Reconciler"]
            .iter()
            .any(|function| by.starts_with(function))
        {
            for id in leaving(call) {
                self.before_departure(call, by, &id, seen.fleet);
                self.before_retirement(call, by, &id, seen.fleet);
            }
        }
    }

    /// Notes an answer of the risk table to a function with its phase, and one that tells Spot prices.
    pub fn after_read(&mut self, call: &ApiCall, by: &str, answer: &ApiAnswer) {
        let is_gate = call.action == "BatchGetItem" && call.json()["RequestItems"].get(POOL_RISK).is_some();
        if is_gate && answer.status == 200 {
            self.marks.gate_answered.insert(by.to_owned(), now());
        }
        if call.action == "DescribeSpotPriceHistory" && answer.status == 200 {
            self.spot_prices.are_told();
        }
    }

    fn before_launch(&mut self, call: &ApiCall, by: &str, seen: Seen<'_>) {
        let age = self.marks.gate_answered.get(by).map(|at| now().duration_since(*at));
        self.holds(age.is_some_and(|age| age <= PROOF_LASTS), || {
            format!("launched, and the gate's last answer is {age:?} old")
        });
        let is_heard = seen.mailbox.rules.values().any(|rule| rule.state == "ENABLED");
        let may_be_blind = self.settings.blind_gate == BlindGate::Allow;
        self.holds(is_heard || may_be_blind, || "launched where nobody hears of interruptions".to_owned());
        self.holds(is_marked(call), || "launched without the tag ManagedBy".to_owned());
    }

    fn before_departure(&mut self, call: &ApiCall, by: &str, id: &str, fleet: &Fleet) {
        let Some(instance) = fleet.instances().get(id).filter(|instance| instance.state.is_alive()) else {
            return;
        };
        if is_ours(fleet, id) {
            return;
        }
        let is_old = |at: &Timestamp| now().duration_since(*at) > SEEN_AFTER;
        // What a group that has opted out has launched in our one's place is no wish of its owner.
        let is_extra =
            self.provenance.may_take_as_extra(call, by, instance, fleet) && !is_protected(fleet, id);
        let is_kept = self.marks.kept.get(id).is_some_and(is_old) && !is_extra;
        self.holds(!is_kept, || format!("{} of {id}, which its owner keeps", call.action));
        let ours: Vec<String> = fleet.instances().keys().filter(|id| is_ours(fleet, id)).cloned().collect();
        let doomed = ours.iter().find(|id| self.marks.doomed.get(*id).is_some_and(is_old));
        self.holds(doomed.is_none(), || {
            format!("{} of {id}, and EC2 takes newcomer {doomed:?} back", call.action)
        });
        // Nothing tells who has taken an instance out that our way back had attached.
        // Where others have moved desired, nothing tells our one from theirs, and an attach adds one more.
        let is_of = |group: &String| self.moved_desired.iter().any(|moved| moved.group == *group);
        let is_moved = self.marks.detached.get(id).is_some_and(is_of);
        let cant_come_back = is_moved || self.owners.contains(id) || self.marks.refused_back.contains(id);
        if call.action == "TerminateInstances" && !cant_come_back {
            let launched_at = |id: &&String| fleet.instances().get(*id).map(|instance| instance.launched_at);
            // One that was launched ahead is no member yet, and replaces another.
            let members: Vec<&String> =
                fleet.groups().values().flat_map(|group| &group.members).map(|it| &it.instance_id).collect();
            let newcomer = ours.iter().filter(|id| members.contains(id)).max_by_key(launched_at);
            let pools = newcomer.and_then(|newcomer| pool(fleet, newcomer)).into_iter();
            let is_seen = |at: &Timestamp| now().duration_since(*at) > POISON_SEEN_AFTER;
            let poisoned: Vec<_> =
                pools.filter(|pool| self.poisoned.get(pool).is_some_and(is_seen)).collect();
            self.holds(poisoned.is_empty(), || {
                format!("terminated {id}, and the newcomer's pool {poisoned:?} is poisoned")
            });
        }
        self.before_warm_up(call, id, fleet);
    }

    /// As many members must be past their group's warm-up without this one as are asked for.
    fn before_warm_up(&mut self, call: &ApiCall, id: &str, fleet: &Fleet) {
        for (name, group) in fleet.groups() {
            let warm_up =
                SignedDuration::from_secs(group.warm_up_seconds.unwrap_or(group.grace_seconds).into());
            let is_warm = |member: &&str| {
                let since = self.marks.in_service.get(&(name.clone(), (*member).to_owned()));
                since.is_some_and(|since| *since == Timestamp::MIN || now().duration_since(*since) >= warm_up)
            };
            let warm: Vec<&str> = fleet.serving(name).into_iter().filter(is_warm).collect();
            let rest = warm.iter().filter(|member| **member != id).count();
            // One that EC2 takes back may have left just now.
            let noticed = self.marks.noticed_since(fleet, name, now() - JUST_BEFORE);
            let still_serve = warm.iter().filter(|member| fleet.is_taken_back(member)).count();
            let excused = self.excuses.of(name)
                + self.marks.fallen_ill(fleet, name, &[id.to_owned()])
                + noticed.saturating_sub(still_serve);
            let asked = self.wishes.get(name).map_or(0, |wish| wish.desired as usize);
            let is_enough = rest + excused >= asked.min(warm.len());
            self.holds(is_enough, || {
                format!("{} of {id}: {rest} of {name} are past its warm-up", call.action)
            });
        }
    }
}

fn is_protected(fleet: &Fleet, id: &str) -> bool {
    fleet.groups().values().filter_map(|group| group.member(id)).any(|member| member.is_protected)
}

/// Returns the members that the call takes away.
pub(super) fn leaving(call: &ApiCall) -> Vec<String> {
    let ids = match call.action.as_str() {
        "DetachInstances" => call.list("InstanceIds"),
        "TerminateInstanceInAutoScalingGroup" => call.parameter("InstanceId").into_iter().collect(),
        "TerminateInstances" => call.list("InstanceId"),
        _ => Vec::new(),
    };
    ids.into_iter().map(str::to_owned).collect()
}

fn members_in_service(fleet: &Fleet) -> impl Iterator<Item = (String, String)> {
    fleet.groups().iter().flat_map(|(name, group)| {
        let in_service = group.members.iter().filter(|member| member.state == LifecycleState::InService);
        in_service.map(|member| (name.clone(), member.instance_id.clone()))
    })
}

/// Returns the members that are protected from scale-in, and those of groups that have opted out.
fn members_kept(fleet: &Fleet, settings: &Settings) -> impl Iterator<Item = String> {
    fleet.groups().values().flat_map(move |group| {
        let is_out = group.tags.get(&settings.opt_out_tag).is_some_and(|(value, _)| value != "false");
        let kept = group.members.iter().filter(move |member| is_out || member.is_protected);
        kept.map(|member| member.instance_id.clone())
    })
}

fn groups_not_enrolled(fleet: &Fleet, settings: &Settings) -> impl Iterator<Item = String> {
    let not_enrolled = fleet.groups().values().filter(move |group| !is_enrolled(group, settings));
    not_enrolled.map(|group| group.name.clone())
}

pub(super) fn renew<K: Ord + Clone>(since: &mut BTreeMap<K, Timestamp>, present: impl Iterator<Item = K>) {
    let before = std::mem::take(since);
    since.extend(present.map(|key| (key.clone(), before.get(&key).copied().unwrap_or_else(now))));
}

pub(super) fn is_ours(fleet: &Fleet, id: &str) -> bool {
    let is_alive = |it: &&Ec2Instance| it.state.is_alive() && !it.is_a_strangers();
    let instance = fleet.instances().get(id).filter(is_alive);
    instance.is_some_and(|instance| instance.tags.get("ManagedBy").is_some_and(|by| by == "SpotOptimizer"))
}

fn pool(fleet: &Fleet, id: &str) -> Option<String> {
    let instance = fleet.instances().get(id).filter(|instance| instance.is_spot())?;
    let zone = fleet.catalog().zones.iter().find(|zone| zone.name == instance.zone)?;
    Some(format!("us-east-1#{}#{}", zone.id, instance.instance_type))
}

fn is_marked(call: &ApiCall) -> bool {
    let tag = |n: usize, part: &str| call.parameter(&format!("TagSpecification.1.Tag.{n}.{part}"));
    let mut keys = (1..).map_while(|n| Some((n, tag(n, "Key")?)));
    keys.any(|(n, key)| key == "ManagedBy" && tag(n, "Value") == Some("SpotOptimizer"))
}
