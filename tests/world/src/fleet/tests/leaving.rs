//! Members that leave: refusals of `endpoint/autoscaling.py` and states of `endpoint/lifecycle.py` of local AWS.

use super::*;
use crate::fleet::Ec2State;
use crate::fleet::instances::GROUP_TAG;

#[test]
fn a_detached_member_drains_leaves_and_lives() {
    let mut scene = Scene::of(&GroupSpec { min: 0, ..with_target_group() });
    let id = scene.member(0);
    let answer = scene.detach(&id);
    assert!(
        one(&answer, "Cause")
            .ends_with("was detached in response to a user request, shrinking the capacity from 1 to 0.")
    );
    assert_eq!((scene.desired(), scene.states()[&id]), (0, LifecycleState::Detaching));
    assert_eq!(scene.target(&id).0, "draining");
    scene.wait(59);
    assert_eq!(scene.states()[&id], LifecycleState::Detaching, "it drains for 60 seconds");
    scene.wait(1);
    assert!(scene.states().is_empty());
    assert_eq!(scene.target(&id), ("unused".to_owned(), Some("Target.NotRegistered".to_owned())));
    let instance = &scene.fleet.instances()[&id];
    assert_eq!(instance.state, Ec2State::Running);
    assert!(!instance.tags.contains_key(GROUP_TAG));
}

#[test]
fn a_member_without_target_groups_leaves_after_the_lag() {
    let mut scene = Scene::of(&of_size(1));
    let id = scene.member(0);
    assert_done(&scene.detach(&id));
    scene.wait(29);
    assert_eq!(scene.states().len(), 1);
    scene.wait(1);
    assert!(scene.states().is_empty());
}

#[test]
fn every_refusal_of_a_detach_has_its_words() {
    let mut scene = Scene::of(&GroupSpec { size: 2, min: 2, max: 3, ..GroupSpec::default() });
    let (id, newcomer) = (scene.member(0), scene.newcomer("a"));
    let sizes = "web has min-size=2, max-size=3, and desired-size=2. To detach 1 more instances";
    assert_refused(&scene.detach(&id), "ValidationError", sizes);
    assert_refused(&scene.detach(&newcomer), "ValidationError", "is not part of Auto Scaling group web.");
    assert_done(&scene.attach(&newcomer));
    assert_refused(&scene.detach(&newcomer), "ValidationError", "is not in InService or Standby.");
    assert_done(&scene.detach(&id));
    assert_refused(&scene.detach(&id), "ValidationError", "is not part of Auto Scaling group web.");
    assert_eq!(scene.desired(), 2);
}

#[test]
fn a_detach_without_decrement_lets_the_group_launch_another() {
    let mut scene = Scene::of(&GroupSpec::default());
    let id = scene.member(0);
    let now = scene.now;
    assert!(scene.fleet.owner_detaches("web", &id, false, now));
    assert_eq!((scene.desired(), scene.fleet.unsettled()), (1, vec!["web"]));
    scene.fleet.group_acts("web", 0, now);
    assert_eq!(scene.fleet.group("web").unwrap().counted(), 1);
}

#[test]
fn the_group_tag_may_outlast_a_detach_and_a_death_in_it() {
    for keeps in [false, true] {
        let habits = AwsHabits {
            detached_keeps_group_tag: keeps,
            dead_detaching_keeps_group_tag: keeps,
            ..AwsHabits::default()
        };
        let mut scene = Scene::with(&of_size(2), habits);
        let (alive, dead) = (scene.member(0), scene.member(1));
        assert_done(&scene.detach(&alive));
        assert_done(&scene.detach(&dead));
        scene.fleet.instance_dies(&dead, scene.now);
        scene.wait(60);
        assert!(scene.states().is_empty());
        for id in [alive, dead] {
            assert_eq!(scene.fleet.instances()[&id].tags.contains_key(GROUP_TAG), keeps);
        }
    }
}

#[test]
fn descriptions_may_show_late_that_a_member_leaves() {
    let late = AwsHabits { leaving_shows_after: SignedDuration::from_secs(10), ..AwsHabits::default() };
    let mut scene = Scene::with(&of_size(3), late);
    let (detached, terminated) = (scene.member(0), scene.member(1));
    assert_done(&scene.detach(&detached));
    assert_done(&scene.terminate_in_group(&terminated, "true"));
    assert_eq!(scene.states()[&detached], LifecycleState::Detaching);
    let shown = |scene: &mut Scene| {
        let answer = scene.asg("DescribeAutoScalingGroups", &[]);
        (one(&answer, "DesiredCapacity"), texts(&answer, "LifecycleState"))
    };
    let words = |first, second| [first, second, "InService"].map(str::to_owned).to_vec();
    assert_eq!(shown(&mut scene), ("1".to_owned(), words("InService", "InService")));
    scene.wait(10);
    assert_eq!(shown(&mut scene), ("1".to_owned(), words("Detaching", "Terminating")));
}

#[test]
fn a_termination_of_an_interrupted_member_may_be_refused() {
    for refuses in [false, true] {
        let habits = AwsHabits { refuses_to_terminate_interrupted: refuses, ..AwsHabits::default() };
        let mut scene = Scene::with(&GroupSpec { spot: 1, ..of_size(2) }, habits);
        let id = scene.member(0);
        assert!(scene.fleet.interrupt(&id, scene.now + SignedDuration::from_mins(2)));
        assert_eq!(scene.terminate_in_group(&id, "true").status == 200, !refuses);
    }
}

#[test]
fn a_terminating_hook_holds_a_member_until_it_is_completed_or_runs_out() {
    for (completed, waits) in [(Some(50), 50), (Some(500), 300), (None, 300)] {
        let hooks = vec![terminating_hook(completed)];
        let mut scene = Scene::of(&GroupSpec { hooks, min: 0, ..with_target_group() });
        let id = scene.member(0);
        let answer = scene.terminate_in_group(&id, "true");
        assert!(one(&answer, "Cause").contains("taken out of service"), "{answer:?}");
        assert!(one(&answer, "Cause").ends_with("shrinking the capacity from 1 to 0."));
        assert_eq!((scene.desired(), scene.target(&id).0.as_str()), (0, "draining"));
        scene.wait(waits - 1);
        assert_eq!(scene.states()[&id], LifecycleState::TerminatingWait);
        scene.wait(1);
        assert_eq!(scene.states()[&id], LifecycleState::Terminating);
        scene.wait(30);
        assert!(scene.states().is_empty());
        assert_eq!(scene.fleet.instances()[&id].state, Ec2State::ShuttingDown);
    }
}

#[test]
fn every_refusal_of_a_termination_in_the_group_has_its_words() {
    let mut scene = Scene::of(&GroupSpec { size: 2, min: 1, ..GroupSpec::default() });
    let (first, second) = (scene.member(0), scene.member(1));
    let none = "No managed instance found for instance ID: i-none";
    assert_refused(&scene.terminate_in_group("i-none", "true"), "ValidationError", none);
    assert_done(&scene.terminate_in_group(&first, "true"));
    assert_refused(&scene.terminate_in_group(&first, "false"), "ValidationError", "already being terminated");
    let smallest = "Currently, desiredSize equals minSize (1).";
    assert_refused(&scene.terminate_in_group(&second, "true"), "ValidationError", smallest);
    let answer = scene.terminate_in_group(&second, "false");
    assert!(!one(&answer, "Cause").contains("shrinking"), "{answer:?}");
    assert_eq!((scene.desired(), scene.fleet.group("web").unwrap().counted()), (1, 0));
}

#[test]
fn a_second_termination_may_count_again() {
    for counts in [false, true] {
        let habits = AwsHabits { second_terminate_counts_again: counts, ..AwsHabits::default() };
        let mut scene = Scene::with(&of_size(3), habits);
        let id = scene.member(0);
        assert_done(&scene.terminate_in_group(&id, "true"));
        let answer = scene.terminate_in_group(&id, "true");
        assert_eq!((answer.status == 200, scene.desired()), (counts, if counts { 1 } else { 2 }));
    }
}

#[test]
fn a_second_termination_prolongs_nothing() {
    let habits = AwsHabits { second_terminate_counts_again: true, ..AwsHabits::default() };
    let hooks = vec![terminating_hook(Some(60))];
    let mut scene = Scene::with(&GroupSpec { hooks, ..of_size(3) }, habits);
    let id = scene.member(0);
    assert_done(&scene.terminate_in_group(&id, "true"));
    scene.wait(50);
    assert_done(&scene.terminate_in_group(&id, "true"));
    scene.wait(10);
    assert_eq!(scene.states()[&id], LifecycleState::Terminating);
}

#[test]
fn a_terminated_member_drains_first() {
    let mut scene = Scene::of(&GroupSpec { min: 0, ..with_target_group() });
    let id = scene.member(0);
    assert_done(&scene.terminate_in_group(&id, "true"));
    scene.wait(59);
    assert_eq!(scene.states()[&id], LifecycleState::Terminating);
    scene.wait(1);
    assert!(scene.states().is_empty());
}

#[test]
fn a_member_that_is_terminated_on_its_way_in_follows_the_new_plan() {
    let mut scene = Scene::of(&GroupSpec::default());
    let id = scene.newcomer("a");
    assert_done(&scene.attach(&id));
    assert_done(&scene.terminate_in_group(&id, "true"));
    scene.wait(29);
    assert_eq!(scene.states()[&id], LifecycleState::Terminating, "the attach had 10 seconds");
    scene.wait(1);
    assert!(!scene.states().contains_key(&id));
}

#[test]
fn a_protected_instance_does_not_stop_its_group() {
    let mut scene = Scene::of(&of_size(1));
    let id = scene.member(0);
    scene.fleet.protect_from_termination(&id, true);
    assert_done(&scene.terminate_in_group(&id, "true"));
    scene.wait(30);
    assert_eq!(scene.fleet.instances()[&id].state, Ec2State::ShuttingDown);
}

#[test]
fn a_dead_member_stays_until_its_group_notices() {
    let mut scene = Scene::of(&with_target_group());
    let id = scene.member(0);
    assert_done(&scene.ec2("TerminateInstances", &[("InstanceId.1", &id)]));
    assert_eq!(scene.states()[&id], LifecycleState::InService);
    assert_eq!(scene.target(&id), ("unused".to_owned(), Some("Target.InvalidState".to_owned())));
    assert!(scene.fleet.serving("web").is_empty());
    scene.wait(400);
    assert!(scene.states().is_empty());
    assert_eq!(scene.desired(), 1);
}

#[test]
fn a_dead_member_goes_through_its_hooks_while_its_group_launches_another() {
    for (is_completed, seconds) in [(true, 20), (false, 300)] {
        let hooks = vec![LifecycleHook::at_termination(20)];
        let habits = AwsHabits { hooks_of_dead_are_completed: is_completed, ..AwsHabits::default() };
        let mut scene = Scene::with(&GroupSpec { hooks, ..GroupSpec::default() }, habits);
        let id = scene.member(0);
        scene.fleet.instance_dies(&id, scene.now);
        scene.wait(60);
        assert_eq!(scene.states()[&id], LifecycleState::TerminatingWait);
        assert_eq!(scene.fleet.group_acts("web", 0, scene.now).len(), 1, "another one is launched");
        scene.wait(seconds - 1);
        assert_eq!(scene.states()[&id], LifecycleState::TerminatingWait);
        scene.wait(60);
        assert!(!scene.states().contains_key(&id));
    }
}

#[test]
fn an_instance_that_has_ended_loses_its_tags_after_a_while() {
    let mut scene = Scene::of(&GroupSpec::default());
    let id = scene.member(0);
    scene.fleet.instance_dies(&id, scene.now);
    let tags = |scene: &Scene| scene.fleet.instances()[&id].tags.len();
    scene.wait(60);
    assert_ne!(tags(&scene), 0);
    scene.wait(600);
    assert_eq!(tags(&scene), 0);
}

fn described_group(scene: &mut Scene) -> String {
    scene.asg("DescribeAutoScalingGroups", &[("AutoScalingGroupNames.member.1", "web")]).body
}

#[test]
fn a_suspended_health_check_keeps_a_dead_member_until_it_is_resumed() {
    let mut scene = Scene::of(&GroupSpec::default());
    let id = scene.member(0);
    scene.fleet.suspend("web", "HealthCheck");
    scene.fleet.instance_dies(&id, scene.now);
    scene.wait(600);
    assert_eq!(scene.states().len(), 1);
    assert!(
        described_group(&mut scene).contains("<HealthStatus>Healthy</HealthStatus>"),
        "nobody has looked"
    );
    let parameters = [("AutoScalingGroupName", "web"), ("ScalingProcesses.member.1", "HealthCheck")];
    assert_done(&scene.asg("ResumeProcesses", &parameters));
    scene.wait(90);
    assert!(scene.states().is_empty());
}

#[test]
fn a_dead_member_that_a_suspended_process_keeps_is_unhealthy() {
    for process in ["ReplaceUnhealthy", "Terminate"] {
        let mut scene = Scene::of(&GroupSpec::default());
        let id = scene.member(0);
        scene.fleet.suspend("web", process);
        scene.fleet.instance_dies(&id, scene.now);
        scene.wait(600);
        assert_eq!(scene.states()[&id], LifecycleState::InService);
        assert!(described_group(&mut scene).contains("<HealthStatus>Unhealthy</HealthStatus>"), "{process}");
        scene.fleet.resume("web", process, scene.now);
        scene.wait(90);
        assert!(scene.states().is_empty(), "{process}");
    }
}
