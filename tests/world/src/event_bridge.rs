//! EventBridge: the notices of EC2 and the launches of Auto Scaling, on their way to the functions that have asked for them.
//!
//! Events of another account come over the stack's bus: a rule of `account.yaml` forwards them.
//!
//! Each delivery is at least once, and in no order. EC2's notices and Auto Scaling's events are sent by best effort.
//! <https://docs.aws.amazon.com/eventbridge/latest/ref/event-delivery-level.html>

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::fleet::{AwsHabits, Fleet, LifecycleState};
use crate::lambda::Function;
use crate::scene::{ACCOUNT, REGION};

/// One delivery of an event to a function.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// The function.
    pub to: Function,
    /// The event.
    pub event: Value,
    /// The time from now to the delivery.
    pub after: Duration,
}

/// What wakes the reconciler beside one copy of each of its events, in milliseconds: two Lambdas never read the same time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wakes {
    /// Further copies of each event, so long after the first. EventBridge and its scheduler deliver at least once.
    pub copies: Vec<u64>,
    /// Runs of its schedule, so long after the end of an execution.
    pub sweeps: Vec<u64>,
}

/// A warning of EC2 about a Spot instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpotNotice {
    /// EC2 interrupts the instance in two minutes.
    Interruption,
    /// The instance is at elevated risk of an interruption.
    RebalanceRecommendation,
}

/// The rules, and the events that are under way.
#[derive(Debug, Clone, Default)]
pub struct EventBridge {
    /// Seconds after which the risk manager gets a notice, one number for each delivery. The notices take the lists in turn.
    /// Without any list, the risk manager does not run.
    pub to_risk_manager: Vec<Vec<u64>>,
    /// Deliveries that nobody has begun yet.
    pub to_deliver: Vec<Delivery>,
    /// Deliveries whose function has not succeeded yet, nor failed for good.
    pub under_way: usize,
    /// Events that the stack's bus has refused: they lie in the queue of the account that forwards them.
    pub undelivered: Vec<Value>,
    /// Events whose function has failed for good: they lie in the stack's dead-letter queue.
    pub dead_letters: Vec<Value>,
    account_id: String,
    notices: usize,
    /// Members whose launch Auto Scaling has announced, by group and id; `None` if nobody has asked for launches.
    announced: Option<BTreeSet<(String, String)>>,
}

impl EventBridge {
    /// Returns the rules of this account.
    #[must_use]
    pub fn of(account_id: &str) -> Self {
        Self { account_id: account_id.to_owned(), ..Self::default() }
    }

    /// Returns true if the risk manager hears of notices.
    #[must_use]
    pub fn tells_risk_manager(&self) -> bool {
        !self.to_risk_manager.is_empty()
    }

    /// Returns true if an event is not delivered yet.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !self.to_deliver.is_empty() || self.under_way > 0
    }

    /// Returns true if the stack gets an event of this account, and as AWS has sent it.
    #[must_use]
    pub fn hands_over(&self, habits: &AwsHabits) -> bool {
        self.account_id == ACCOUNT || habits.bus_admits_forwarded && habits.forwarded_keeps_origin
    }

    /// Returns an event as the stack's functions get it; `None` if the stack's bus refuses it.
    fn forwards(&mut self, event: &Value, habits: &AwsHabits) -> Option<Value> {
        let mut forwarded = event.clone();
        if self.account_id == ACCOUNT {
            return Some(forwarded);
        }
        if !habits.bus_admits_forwarded {
            self.undelivered.push(forwarded);
            return None;
        }
        if !habits.forwarded_keeps_origin {
            (forwarded["account"], forwarded["region"]) = (json!(ACCOUNT), json!(REGION));
        }
        Some(forwarded)
    }

    /// Announces the launches of these groups from now on to the group watcher.
    pub fn announces_launches_of(&mut self, fleet: &Fleet) {
        self.announced = Some(in_service(fleet).collect());
    }

    /// Announces the members that have come into service since the last time. An attached instance counts as a launch, if
    /// AWS has that habit.
    pub fn announces_launches(&mut self, fleet: &Fleet, now: Timestamp) {
        let Some(announced) = &mut self.announced else { return };
        let is_told = |group: &str, id: &str| {
            let member = fleet.group(group).and_then(|group| group.member(id));
            fleet.habits.attach_announces_launch || member.is_some_and(|member| !member.is_attached)
        };
        let new: Vec<_> = in_service(fleet).filter(|member| announced.insert(member.clone())).collect();
        for (group, id) in new.into_iter().filter(|(group, id)| is_told(group, id)) {
            let event = instance_launched(&group, &self.account_id, &id, now);
            let event = self.forwards(&event, &fleet.habits);
            let deliver = |event| Delivery { to: Function::GroupWatcher, event, after: Duration::ZERO };
            self.to_deliver.extend(event.map(deliver));
        }
    }

    /// Sends a notice to the risk manager, if it runs, and so often to the responder. Returns the notice as EC2 has sent it.
    pub fn sends_notice(
        &mut self,
        notice: SpotNotice,
        id: &str,
        times: u8,
        habits: &AwsHabits,
        now: Timestamp,
    ) -> Value {
        self.notices += 1;
        let sent = notice.event(self.notices, &self.account_id, id, now);
        let Some(event) = self.forwards(&sent, habits) else { return sent };
        let deliver = |to, after| Delivery { to, event: event.clone(), after: Duration::from_secs(after) };
        let delays = self.to_risk_manager.iter().cycle().nth(self.notices - 1);
        let to_risk_manager = delays.into_iter().flatten();
        self.to_deliver.extend(to_risk_manager.map(|after| deliver(Function::RiskManager, *after)));
        self.to_deliver.extend((0..times).map(|_| deliver(Function::InterruptionResponder, 0)));
        sent
    }
}

impl SpotNotice {
    /// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html>
    /// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/rebalance-recommendations.html>
    fn event(self, number: usize, account_id: &str, id: &str, now: Timestamp) -> Value {
        let (detail_type, detail) = match self {
            Self::Interruption => (
                "EC2 Spot Instance Interruption Warning",
                json!({"instance-id": id, "instance-action": "terminate"}),
            ),
            Self::RebalanceRecommendation => {
                ("EC2 Instance Rebalance Recommendation", json!({"instance-id": id}))
            }
        };
        json!({
            "version": "0", "id": format!("12345678-1234-1234-1234-{number:012}"),
            "detail-type": detail_type, "source": "aws.ec2",
            "account": account_id, "time": format!("{now:.0}"), "region": REGION,
            "resources": [format!("arn:aws:ec2:{REGION}a:instance/{id}")],
            "detail": detail,
        })
    }
}

fn in_service(fleet: &Fleet) -> impl Iterator<Item = (String, String)> {
    fleet.groups().iter().flat_map(|(name, group)| {
        let in_service = group.members.iter().filter(|member| member.state == LifecycleState::InService);
        in_service.map(|member| (name.clone(), member.instance_id.clone()))
    })
}

/// <https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-event-reference.html>
fn instance_launched(group: &str, account_id: &str, id: &str, now: Timestamp) -> Value {
    json!({
        "version": "0", "id": format!("12345678-1234-1234-1234-{}", &id[id.len() - 12..]),
        "detail-type": "EC2 Instance Launch Successful", "source": "aws.autoscaling",
        "account": account_id, "time": format!("{now:.0}"), "region": REGION,
        "resources": [format!("arn:aws:ec2:{REGION}:{account_id}:instance/{id}")],
        "detail": {
            "StatusCode": "InProgress", "AutoScalingGroupName": group, "EC2InstanceId": id,
            "Origin": "EC2", "Destination": "AutoScalingGroup",
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::GroupSpec;
    use crate::virtual_time::BEGIN;

    fn after(bridge: &EventBridge, function: Function) -> Vec<u64> {
        let its = bridge.to_deliver.iter().filter(|delivery| delivery.to == function);
        its.map(|delivery| delivery.after.as_secs()).collect()
    }

    #[test]
    fn notices_take_the_delays_in_turn() {
        let mut bridge =
            EventBridge { to_risk_manager: vec![vec![0, 90], vec![5]], ..EventBridge::default() };
        for _ in 0..3 {
            bridge.sends_notice(SpotNotice::Interruption, "i-1", 1, &AwsHabits::default(), BEGIN);
        }
        assert_eq!(after(&bridge, Function::RiskManager), [0, 90, 5, 0, 90]);
        assert_eq!(after(&bridge, Function::InterruptionResponder), [0, 0, 0]);
    }

    #[test]
    fn a_risk_manager_that_does_not_run_gets_nothing() {
        let mut bridge = EventBridge::of("210987654321");
        let notice = SpotNotice::RebalanceRecommendation;
        let event = bridge.sends_notice(notice, "i-1", 0, &AwsHabits::default(), BEGIN);
        assert_eq!(event["account"], "210987654321");
        assert_eq!(event["time"], "2026-01-05T09:00:00Z");
        assert!(!bridge.is_busy() && !bridge.tells_risk_manager());
    }

    #[test]
    fn a_notice_of_another_account_reaches_the_stack_as_aws_has_the_habit() {
        for (admits, keeps) in [(true, true), (true, false), (false, true)] {
            let habits = AwsHabits {
                bus_admits_forwarded: admits,
                forwarded_keeps_origin: keeps,
                ..AwsHabits::default()
            };
            for (account, is_own) in [(ACCOUNT, true), ("345678901234", false)] {
                let mut bridge = EventBridge { to_risk_manager: vec![vec![0]], ..EventBridge::of(account) };
                let sent = bridge.sends_notice(SpotNotice::Interruption, "i-1", 1, &habits, BEGIN);
                assert_eq!(sent["account"], account);
                let told = if is_own || keeps { account } else { ACCOUNT };
                let delivered = if is_own || admits { vec![told; 2] } else { vec![] };
                let accounts: Vec<_> = bridge.to_deliver.iter().map(|it| &it.event["account"]).collect();
                assert_eq!(accounts, delivered, "{habits:?}");
                assert_eq!(bridge.undelivered.is_empty(), is_own || admits);
                assert_eq!(bridge.hands_over(&habits), is_own || admits && keeps);
            }
        }
    }

    #[test]
    fn a_member_is_announced_once_and_one_from_before_never() {
        let mut fleet = Fleet::with_group(&GroupSpec::default(), AwsHabits::default(), BEGIN);
        let mut bridge = EventBridge::default();
        bridge.announces_launches(&fleet, BEGIN);
        bridge.announces_launches_of(&fleet);
        bridge.announces_launches(&fleet, BEGIN);
        assert!(!bridge.is_busy(), "{bridge:?}");
        fleet.add_group(&GroupSpec { name: "api".to_owned(), ..GroupSpec::default() }, BEGIN);
        bridge.announces_launches(&fleet, BEGIN);
        bridge.announces_launches(&fleet, BEGIN);
        assert_eq!(after(&bridge, Function::GroupWatcher), [0]);
    }

    #[test]
    fn an_attached_member_is_announced_if_aws_has_that_habit() {
        for announces in [false, true] {
            let habits = AwsHabits { attach_announces_launch: announces, ..AwsHabits::default() };
            let mut fleet = Fleet::with_group(&GroupSpec::default(), habits, BEGIN);
            let mut bridge = EventBridge::default();
            bridge.announces_launches_of(&fleet);
            fleet.add_group(&GroupSpec { name: "api".to_owned(), ..GroupSpec::default() }, BEGIN);
            let members = fleet.group_mut("api").into_iter().flat_map(|group| &mut group.members);
            members.for_each(|member| member.is_attached = true);
            bridge.announces_launches(&fleet, BEGIN);
            assert_eq!(after(&bridge, Function::GroupWatcher).len(), usize::from(announces));
        }
    }
}
