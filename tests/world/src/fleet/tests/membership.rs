//! Members that join, and the refusals of an attach: those of `endpoint/autoscaling.py` of local AWS.

use super::*;
use crate::fleet::instances::GROUP_TAG;

#[test]
fn an_attached_instance_raises_desired_and_comes_into_service() {
    let mut scene = Scene::of(&with_target_group());
    let id = scene.newcomer("a");
    assert_done(&scene.attach(&id));
    assert_eq!((scene.desired(), scene.states()[&id]), (2, LifecycleState::Pending));
    assert_eq!(scene.target(&id).0, "unused");
    scene.wait(10);
    assert_eq!(scene.states()[&id], LifecycleState::InService);
    assert_eq!(scene.target(&id).0, "initial");
    assert_eq!(scene.fleet.serving("web").len(), 1);
    scene.wait(30);
    assert_eq!(scene.target(&id).0, "healthy");
    assert_eq!(scene.fleet.serving("web").len(), 2);
}

#[test]
fn every_refusal_of_an_attach_has_its_words() {
    let mut scene = Scene::of(&of_size(1));
    let (member, newcomer) = (scene.member(0), scene.newcomer("a"));
    assert_refused(&scene.attach("i-none"), "ValidationError", "Invalid Instance ID(s): [i-none]");
    assert_refused(&scene.attach(&member), "ValidationError", "is already part of AutoScalingGroup:web");
    let pending = one(&scene.run_spot("b", &[]), "instanceId");
    assert_refused(&scene.attach(&pending), "ValidationError", "must be in 'running' state");
    scene.fleet.suspend("web", "Launch");
    assert_refused(&scene.attach(&newcomer), "ValidationError", "has its Launch process suspended");
    scene.fleet.resume("web", "Launch", scene.now);
    scene.fleet.set_max("web", 1);
    let sizes = "web has min-size=0, max-size=1, and desired-size=1. To attach 1 more instances";
    assert_refused(&scene.attach(&newcomer), "ValidationError", sizes);
    let parameters = [("AutoScalingGroupName", "db"), ("InstanceIds.member.1", newcomer.as_str())];
    assert_refused(&scene.asg("AttachInstances", &parameters), "ValidationError", "'db' not found");
    assert_eq!(scene.desired(), 1, "no refusal raises desired");
    scene.fleet.set_max("web", 2);
    assert_done(&scene.attach(&newcomer));
    assert_refused(&scene.attach(&newcomer), "ValidationError", "is already part of");
}

#[test]
fn an_instance_of_a_foreign_zone_is_not_attached() {
    let mut scene = Scene::of(&GroupSpec { zones: 1, ..GroupSpec::default() });
    let answer = scene.run_spot("a", &[("SubnetId", "subnet-0a000003")]);
    let id = one(&answer, "instanceId");
    scene.wait(30);
    assert_refused(&scene.attach(&id), "ValidationError", "not in an Availability Zone");
}

#[test]
fn one_refused_instance_keeps_the_others_of_the_call_out() {
    let mut scene = Scene::of(&of_size(1));
    let (good, bad) = (scene.newcomer("a"), scene.member(0));
    let parameters = [
        ("AutoScalingGroupName", "web"),
        ("InstanceIds.member.1", good.as_str()),
        ("InstanceIds.member.2", bad.as_str()),
    ];
    assert_eq!(scene.asg("AttachInstances", &parameters).status, 400);
    assert_eq!((scene.desired(), scene.states().len()), (1, 1));
}

#[test]
fn an_attach_takes_twenty_instances_at_most() {
    let mut scene = Scene::of(&GroupSpec { max: 30, ..GroupSpec::default() });
    let mut attach = |count: usize| {
        let ids: Vec<_> = (0..count).map(|n| scene.newcomer(&format!("{count}-{n}"))).collect();
        let named = ids.iter().enumerate().map(|(n, id)| (format!("InstanceIds.member.{}", n + 1), id));
        let named: Vec<_> = named.collect();
        let named = named.iter().map(|(name, id)| (name.as_str(), id.as_str()));
        let parameters: Vec<_> = [("AutoScalingGroupName", "web")].into_iter().chain(named).collect();
        scene.asg("AttachInstances", &parameters)
    };
    assert_refused(&attach(21), "ValidationError", "1 to 20");
    assert_refused(&attach(0), "ValidationError", "1 to 20");
    assert_done(&attach(20));
    assert_eq!(scene.desired(), 21);
}

#[test]
fn a_launch_that_dies_while_its_hook_runs_never_serves() {
    let hook = LifecycleHook { is_launching: true, ..terminating_hook(Some(20)) };
    let mut scene = Scene::of(&GroupSpec { hooks: vec![hook], ..GroupSpec::default() });
    scene.fleet.set_desired("web", 2);
    scene.fleet.group_acts("web", 0, scene.now);
    let id = scene.member(1);
    scene.wait(30);
    scene.fleet.instance_dies(&id, scene.now);
    scene.wait(20);
    assert_eq!(scene.states()[&id], LifecycleState::PendingWait);
}

#[test]
fn an_attached_instance_gets_the_tags_of_its_group_up_to_the_limit() {
    let tags = [("ManagedBy", "owner"), ("team", "web")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    let mut scene = Scene::of(&GroupSpec { tags: tags.into(), ..GroupSpec::default() });
    let id = scene.newcomer("a");
    scene.fleet.tag_instance(&id, "ManagedBy", Some("SpotOptimizer"));
    for n in 0..49 {
        scene.fleet.tag_instance(&id, &format!("k{n}"), Some("x"));
    }
    assert_done(&scene.attach(&id));
    let tags = &scene.fleet.instances()[&id].tags;
    assert_eq!((tags[GROUP_TAG].as_str(), tags["ManagedBy"].as_str()), ("web", "owner"));
    assert!(!tags.contains_key("team"), "the limit drops it");
}

#[test]
fn hooks_hold_the_launches_of_the_group_and_no_attached_instance() {
    let hook = LifecycleHook { is_launching: true, ..terminating_hook(Some(60)) };
    let mut scene = Scene::of(&GroupSpec { hooks: vec![hook], max: 3, ..GroupSpec::default() });
    let attached = scene.newcomer("a");
    assert_done(&scene.attach(&attached));
    scene.fleet.set_desired("web", 3);
    scene.fleet.group_acts("web", 0, scene.now);
    let launched = scene.member(2);
    scene.wait(30);
    assert_eq!(scene.states()[&attached], LifecycleState::InService);
    assert_eq!(scene.states()[&launched], LifecycleState::PendingWait);
    scene.wait(60);
    assert_eq!(scene.states()[&launched], LifecycleState::InService);
}

#[test]
fn a_launch_whose_hook_runs_out_is_abandoned() {
    let hook = LifecycleHook { is_launching: true, ..terminating_hook(None) };
    let mut scene = Scene::of(&GroupSpec { hooks: vec![hook], ..GroupSpec::default() });
    scene.fleet.set_desired("web", 2);
    scene.fleet.group_acts("web", 0, scene.now);
    let launched = scene.member(1);
    scene.wait(30 + 300);
    assert_eq!(scene.states()[&launched], LifecycleState::Terminating);
    scene.wait(30);
    assert!(!scene.states().contains_key(&launched));
    assert_eq!(scene.fleet.unsettled(), ["web"]);
}

#[test]
fn an_attached_instance_that_dies_before_its_service_leaves_its_place_behind() {
    let mut scene = Scene::of(&GroupSpec::default());
    let id = scene.newcomer("a");
    assert_done(&scene.attach(&id));
    scene.fleet.instance_dies(&id, scene.now);
    scene.wait(59);
    assert_eq!(scene.states()[&id], LifecycleState::Pending);
    scene.wait(1);
    assert!(!scene.states().contains_key(&id));
    assert_eq!(scene.desired(), 2, "the group launches another");
}

#[test]
fn without_add_to_load_balancer_a_member_serves_no_target_group() {
    let mut scene = Scene::of(&with_target_group());
    scene.fleet.suspend("web", "AddToLoadBalancer");
    let id = scene.newcomer("a");
    assert_done(&scene.attach(&id));
    scene.wait(60);
    assert_eq!(scene.states()[&id], LifecycleState::InService);
    assert_eq!(scene.target(&id), ("unused".to_owned(), Some("Target.NotRegistered".to_owned())));
}
