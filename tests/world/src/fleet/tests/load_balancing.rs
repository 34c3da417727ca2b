//! Target groups and their targets: as `endpoint/elb.py` of local AWS has them.

use super::*;

fn arn(scene: &Scene) -> String {
    scene.fleet.target_groups().keys().next().unwrap().clone()
}

#[test]
fn a_target_is_initial_then_healthy_then_draining_then_unused() {
    let mut scene = Scene::of(&with_target_group());
    let (arn, id) = (arn(&scene), scene.newcomer("a"));
    let targets = [("TargetGroupArn", arn.as_str()), ("Targets.member.1.Id", id.as_str())];
    let reason = |text: &str| Some(text.to_owned());
    assert_eq!(scene.target(&id), ("unused".into(), reason("Target.NotRegistered")));
    assert_done(&scene.elb("RegisterTargets", &targets));
    assert_eq!(scene.target(&id), ("initial".into(), reason("Elb.RegistrationInProgress")));
    scene.wait(30);
    assert_done(&scene.elb("RegisterTargets", &targets));
    assert_eq!(scene.target(&id), ("healthy".into(), None), "a repetition changes nothing");
    assert_done(&scene.elb("DeregisterTargets", &targets));
    assert_eq!(scene.target(&id), ("draining".into(), reason("Target.DeregistrationInProgress")));
    scene.wait(59);
    assert_done(&scene.elb("DeregisterTargets", &targets));
    scene.wait(1);
    assert_eq!(scene.target(&id).0, "unused", "a repetition does not prolong the drain");
}

#[test]
fn a_target_that_is_registered_while_it_drains_begins_anew() {
    let mut scene = Scene::of(&with_target_group());
    let (arn, id) = (arn(&scene), scene.member(0));
    let targets = [("TargetGroupArn", arn.as_str()), ("Targets.member.1.Id", id.as_str())];
    assert_done(&scene.elb("DeregisterTargets", &targets));
    scene.wait(50);
    assert_done(&scene.elb("RegisterTargets", &targets));
    assert_eq!(scene.target(&id).0, "initial");
    scene.wait(10);
    assert_eq!(scene.target(&id).0, "initial", "the end of the earlier drain is void");
    scene.wait(20);
    assert_eq!(scene.target(&id).0, "healthy");
}

#[test]
fn a_listing_shows_targets_that_drain() {
    let mut scene = Scene::of(&GroupSpec { size: 2, min: 0, ..with_target_group() });
    let (arn, id) = (arn(&scene), scene.member(0));
    assert_done(&scene.detach(&id));
    let answer = scene.elb("DescribeTargetHealth", &[("TargetGroupArn", &arn)]);
    assert_eq!(texts(&answer, "State"), ["draining", "healthy"]);
    scene.wait(60);
    let answer = scene.elb("DescribeTargetHealth", &[("TargetGroupArn", &arn)]);
    assert_eq!(texts(&answer, "Id"), [scene.member(0)]);
}

#[test]
fn unknown_groups_and_targets_are_refused() {
    let mut scene = Scene::of(&with_target_group());
    let arn = arn(&scene);
    let answer = scene.elb("DescribeTargetHealth", &[("TargetGroupArn", "arn:none")]);
    assert_refused(&answer, "TargetGroupNotFound", "arn:none");
    let answer = scene.elb("DescribeTargetGroups", &[("TargetGroupArns.member.1", "arn:none")]);
    assert_refused(&answer, "TargetGroupNotFound", "arn:none");
    let unknown = [("TargetGroupArn", arn.as_str()), ("Targets.member.1.Id", "i-none")];
    assert_refused(&scene.elb("DescribeTargetHealth", &unknown), "InvalidTarget", "i-none");
    let pending = one(&scene.run_spot("a", &[]), "instanceId");
    let pending = [("TargetGroupArn", arn.as_str()), ("Targets.member.1.Id", pending.as_str())];
    assert_refused(&scene.elb("RegisterTargets", &pending), "InvalidTarget", "running");
}

#[test]
fn a_target_may_be_unknown_for_a_while_after_its_launch() {
    let targets_known_after = SignedDuration::from_secs(150);
    let habits = AwsHabits { targets_known_after, ..AwsHabits::default() };
    let mut scene = Scene::with(&with_target_group(), habits);
    let (arn, id) = (arn(&scene), scene.member(0));
    let of_member = [("TargetGroupArn", arn.as_str()), ("Targets.member.1.Id", id.as_str())];
    assert_done(&scene.elb("DescribeTargetHealth", &of_member));
    let young = one(&scene.run_spot("a", &[]), "instanceId");
    let of_young = [("TargetGroupArn", arn.as_str()), ("Targets.member.1.Id", young.as_str())];
    scene.wait(149);
    assert_refused(&scene.elb("DescribeTargetHealth", &of_young), "InvalidTarget", &young);
    scene.wait(1);
    assert_done(&scene.elb("DescribeTargetHealth", &of_young));
}

#[test]
fn a_target_may_fail_its_checks_or_have_no_load_balancer() {
    let mut scene = Scene::of(&with_target_group());
    let id = scene.member(0);
    scene.fleet.set_target_health(&id, false);
    assert_eq!(scene.target(&id).0, "unhealthy");
    assert!(scene.fleet.serving("web").is_empty());
    scene.fleet.set_target_health(&id, true);
    assert_eq!(scene.fleet.serving("web").len(), 1);
    let arn = arn(&scene);
    let targets = [("TargetGroupArn", arn.as_str()), ("Targets.member.1.Id", id.as_str())];
    assert_done(&scene.elb("DeregisterTargets", &targets));
    scene.fleet.set_target_health(&id, true);
    assert_eq!(scene.target(&id).0, "draining", "no check ends a drain");
    assert_done(&scene.elb("RegisterTargets", &targets));
    scene.fleet.target_groups.get_mut(&arn).unwrap().is_in_use = false;
    assert_eq!(scene.target(&id), ("unused".to_owned(), Some("Target.NotInUse".to_owned())));
    assert_eq!(scene.fleet.serving("web").len(), 1);
}

#[test]
fn target_groups_are_listed_by_pages() {
    let mut scene = Scene::of(&with_target_group());
    scene.fleet.add_group(&GroupSpec { name: "api".to_owned(), ..with_target_group() }, scene.now);
    let first = scene.elb("DescribeTargetGroups", &[("PageSize", "1")]);
    let marker = one(&first, "NextMarker");
    let second = scene.elb("DescribeTargetGroups", &[("PageSize", "1"), ("Marker", &marker)]);
    let names = [texts(&first, "TargetGroupName"), texts(&second, "TargetGroupName")].concat();
    assert_eq!(names, ["api", "web"]);
    assert!(texts(&second, "NextMarker").is_empty());
    assert_eq!(texts(&first, "VpcId"), ["vpc-0a000001"], "the VPC of the instances");
}
