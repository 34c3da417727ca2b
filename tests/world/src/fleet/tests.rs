#![allow(clippy::unwrap_used)]

mod choices;
mod ec2;
mod groups;
mod launches;
mod leaving;
mod load_balancing;
mod membership;
mod standalone;
mod walks;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::fleet::{AwsHabits, Fleet, GroupSpec, LifecycleHook, LifecycleState};
use crate::wire::{ApiAnswer, ApiCall, CallBody, Service};

/// A fleet with one group `web`, at a moment.
struct Scene {
    fleet: Fleet,
    now: Timestamp,
}

impl Scene {
    fn of(spec: &GroupSpec) -> Self {
        Self::with(spec, AwsHabits::default())
    }

    fn with(spec: &GroupSpec, habits: AwsHabits) -> Self {
        let now = "2026-11-26T12:00:00Z".parse().unwrap();
        Self { fleet: Fleet::with_group(spec, habits, now), now }
    }

    fn ec2(&mut self, action: &str, parameters: &[(&str, &str)]) -> ApiAnswer {
        self.call(Service::Ec2, action, parameters)
    }

    fn asg(&mut self, action: &str, parameters: &[(&str, &str)]) -> ApiAnswer {
        self.call(Service::AutoScaling, action, parameters)
    }

    fn elb(&mut self, action: &str, parameters: &[(&str, &str)]) -> ApiAnswer {
        self.call(Service::ElasticLoadBalancing, action, parameters)
    }

    fn call(&mut self, service: Service, action: &str, parameters: &[(&str, &str)]) -> ApiAnswer {
        self.fleet.carry_out(&call(service, action, parameters), self.now)
    }

    /// Lets time pass, with all that happens by itself.
    fn wait(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
        self.fleet.pass(self.now);
    }

    fn member(&self, n: usize) -> String {
        self.fleet.group("web").unwrap().members[n].instance_id.clone()
    }

    /// Returns the states of the members by their ids.
    fn states(&self) -> BTreeMap<String, LifecycleState> {
        let group = self.fleet.group("web").unwrap();
        group.members.iter().map(|member| (member.instance_id.clone(), member.state)).collect()
    }

    fn desired(&self) -> u32 {
        self.fleet.group("web").unwrap().desired
    }

    /// Launches a Spot instance in the first zone, and waits until it runs.
    fn newcomer(&mut self, token: &str) -> String {
        let answer = self.run_spot(token, &[]);
        self.wait(30);
        one(&answer, "instanceId")
    }

    fn run_spot(&mut self, token: &str, more: &[(&str, &str)]) -> ApiAnswer {
        let mut parameters = vec![
            ("MinCount", "1"),
            ("MaxCount", "1"),
            ("ClientToken", token),
            ("InstanceType", "m5.large"),
            ("ImageId", "ami-0a000001"),
            ("SubnetId", "subnet-0a000001"),
            ("InstanceMarketOptions.MarketType", "spot"),
        ];
        parameters.retain(|(name, _)| more.iter().all(|(other, _)| other != name));
        self.ec2("RunInstances", &[&parameters, more].concat())
    }

    fn attach(&mut self, id: &str) -> ApiAnswer {
        self.asg("AttachInstances", &[("AutoScalingGroupName", "web"), ("InstanceIds.member.1", id)])
    }

    fn detach(&mut self, id: &str) -> ApiAnswer {
        let parameters = [
            ("AutoScalingGroupName", "web"),
            ("InstanceIds.member.1", id),
            ("ShouldDecrementDesiredCapacity", "true"),
        ];
        self.asg("DetachInstances", &parameters)
    }

    fn terminate_in_group(&mut self, id: &str, decrement: &str) -> ApiAnswer {
        let parameters = [("InstanceId", id), ("ShouldDecrementDesiredCapacity", decrement)];
        self.asg("TerminateInstanceInAutoScalingGroup", &parameters)
    }

    /// Returns state and reason of a target, as a description shows them.
    fn target(&mut self, id: &str) -> (String, Option<String>) {
        let arn = self.fleet.target_groups().keys().next().unwrap().clone();
        let parameters = [("TargetGroupArn", arn.as_str()), ("Targets.member.1.Id", id)];
        let answer = self.elb("DescribeTargetHealth", &parameters);
        (one(&answer, "State"), texts(&answer, "Reason").first().cloned())
    }
}

fn call(service: Service, action: &str, parameters: &[(&str, &str)]) -> ApiCall {
    let parameters = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let body = CallBody::Query(parameters.collect());
    ApiCall { service, account: None, region: "us-east-1".to_owned(), action: action.to_owned(), body }
}

/// Returns the texts of all elements of this name.
fn texts(answer: &ApiAnswer, element: &str) -> Vec<String> {
    let (open, close) = (format!("<{element}>"), format!("</{element}>"));
    let inner = answer.body.split(open.as_str()).skip(1);
    inner.filter_map(|rest| rest.split_once(close.as_str())).map(|(text, _)| text.to_owned()).collect()
}

fn one(answer: &ApiAnswer, element: &str) -> String {
    texts(answer, element).into_iter().next().unwrap_or_else(|| answer.body.clone())
}

/// Returns status, code and message of a refusal.
fn refusal(answer: &ApiAnswer) -> (u16, String, String) {
    (answer.status, one(answer, "Code"), one(answer, "Message"))
}

#[track_caller]
fn assert_refused(answer: &ApiAnswer, code: &str, words: &str) {
    let (_, found, message) = refusal(answer);
    assert!(found == code && message.contains(words), "{answer:?}");
}

#[track_caller]
fn assert_done(answer: &ApiAnswer) {
    assert_eq!(answer.status, 200, "{answer:?}");
}

fn with_target_group() -> GroupSpec {
    GroupSpec { has_target_group: true, ..GroupSpec::default() }
}

fn of_size(size: u32) -> GroupSpec {
    GroupSpec { size, min: 0, max: size + 2, ..GroupSpec::default() }
}

fn terminating_hook(completed_after_seconds: Option<u32>) -> LifecycleHook {
    let name = "drain".to_owned();
    LifecycleHook { name, is_launching: false, heartbeat_seconds: 300, completed_after_seconds }
}

#[test]
fn a_reading_call_changes_nothing_and_a_changing_one_is_no_reading() {
    let scene = Scene::of(&GroupSpec::default());
    let read = |action| scene.fleet.read(&call(Service::AutoScaling, action, &[]), scene.now);
    assert_eq!(read("DescribeAutoScalingGroups").unwrap().status, 200);
    assert_eq!(read("SetDesiredCapacity"), None);
}

#[test]
fn a_call_or_a_parameter_that_is_not_played_is_refused() {
    let mut scene = Scene::of(&GroupSpec::default());
    assert_refused(&scene.ec2("RebootInstances", &[]), "NotPlayedByTheWorld", "RebootInstances");
    let parameters = [("AutoScalingGroupName", "web"), ("HealthCheckType", "ELB")];
    let answer = scene.asg("UpdateAutoScalingGroup", &parameters);
    assert_refused(&answer, "NotPlayedByTheWorld", "HealthCheckType");
}

#[test]
fn a_clone_shows_the_past() {
    let mut scene = Scene::of(&of_size(2));
    let earlier = scene.fleet.clone();
    let member = scene.member(0);
    scene.fleet.set_desired("web", 1);
    scene.fleet.instance_dies(&member, scene.now);
    let describe = call(Service::AutoScaling, "DescribeAutoScalingGroups", &[]);
    assert_eq!(one(&earlier.read(&describe, scene.now).unwrap(), "DesiredCapacity"), "2");
    assert_eq!(one(&scene.fleet.read(&describe, scene.now).unwrap(), "DesiredCapacity"), "1");
}

#[test]
fn changes_come_at_their_times_and_in_their_order() {
    let mut scene = Scene::of(&with_target_group());
    let newcomer = scene.newcomer("a");
    assert_done(&scene.attach(&newcomer));
    assert_eq!(scene.fleet.due(), Some(scene.now + scene.fleet.habits.attach_lag));
    // InService after 10 seconds; healthy 30 seconds after that, though nobody looked in between.
    scene.wait(40);
    assert_eq!(scene.target(&newcomer).0, "healthy");
    assert_eq!(scene.fleet.due(), None);
}
