//! Descriptions of groups, and changes of their sizes, processes and tags: refusals of `endpoint/scaling.py`.

use super::*;
use crate::fleet::ScheduledScaling;

fn described(scene: &mut Scene) -> ApiAnswer {
    scene.asg("DescribeAutoScalingGroups", &[("AutoScalingGroupNames.member.1", "web")])
}

fn update(scene: &mut Scene, parameters: &[(&str, &str)]) -> ApiAnswer {
    let name = [("AutoScalingGroupName", "web")];
    scene.asg("UpdateAutoScalingGroup", &[&name, parameters].concat())
}

#[test]
fn a_group_is_described_with_its_members() {
    let mut scene = Scene::of(&GroupSpec { size: 2, ..with_target_group() });
    let answer = described(&mut scene);
    for (element, expected) in [
        ("MinSize", "1"),
        ("MaxSize", "2"),
        ("DesiredCapacity", "2"),
        ("VPCZoneIdentifier", "subnet-0a000001,subnet-0a000002,subnet-0a000003"),
    ] {
        assert_eq!(texts(&answer, element), [expected], "{element}");
    }
    assert_eq!(texts(&answer, "InstanceId"), [scene.member(0), scene.member(1)]);
    assert_eq!(texts(&answer, "LifecycleState"), ["InService"; 2]);
    assert_eq!(texts(&answer, "AvailabilityZone"), ["us-east-1a", "us-east-1b"]);
    assert_eq!(texts(&answer, "Version"), ["$Default", "1", "1"], "the group's own, and resolved ones");
    assert!(texts(&answer, "Overrides").is_empty() && texts(&answer, "Status").is_empty());
    let none = scene.asg("DescribeAutoScalingGroups", &[("AutoScalingGroupNames.member.1", "db")]);
    assert_eq!((none.status, texts(&none, "MinSize").len()), (200, 0));
}

#[test]
fn a_group_launches_from_a_policy_or_from_a_configuration() {
    let overrides = vec!["m5.large".to_owned(), "c5.large".to_owned()];
    let mut scene = Scene::of(&GroupSpec { overrides, ..GroupSpec::default() });
    let answer = described(&mut scene);
    let policy = one(&answer, "MixedInstancesPolicy");
    assert!(policy.contains("<InstanceType>c5.large</InstanceType>"), "{policy}");
    let mut scene = Scene::of(&GroupSpec { uses_configuration: true, ..GroupSpec::default() });
    let answer = described(&mut scene);
    assert_eq!(texts(&answer, "LaunchConfigurationName"), ["web"; 2], "group and member");
    let name = [("LaunchConfigurationNames.member.1", "web")];
    let answer = scene.asg("DescribeLaunchConfigurations", &name);
    assert_eq!(texts(&answer, "InstanceType"), ["m5.large"]);
}

#[test]
fn groups_are_listed_by_pages_and_by_tag() {
    let mut scene = Scene::of(&GroupSpec::default());
    for name in ["api", "db"] {
        let tags = [("enrolled".to_owned(), "true".to_owned())].into();
        scene.fleet.add_group(&GroupSpec { name: name.to_owned(), tags, ..GroupSpec::default() }, scene.now);
    }
    let first = scene.asg("DescribeAutoScalingGroups", &[("MaxRecords", "2")]);
    assert_eq!(texts(&first, "AutoScalingGroupName"), ["api", "db"]);
    let token = one(&first, "NextToken");
    let second = scene.asg("DescribeAutoScalingGroups", &[("MaxRecords", "2"), ("NextToken", &token)]);
    assert_eq!(texts(&second, "AutoScalingGroupName"), ["web"]);
    assert!(texts(&second, "NextToken").is_empty());
    let filter = [("Filters.member.1.Name", "tag-key"), ("Filters.member.1.Values.member.1", "enrolled")];
    let tagged = scene.asg("DescribeAutoScalingGroups", &filter);
    assert_eq!(texts(&tagged, "AutoScalingGroupName"), ["api", "db"]);
}

#[test]
fn hooks_refreshes_and_actions_are_described() {
    let mut scene = Scene::of(&GroupSpec { hooks: vec![terminating_hook(None)], ..GroupSpec::default() });
    let name = ("AutoScalingGroupName", "web");
    let hooks = scene.asg("DescribeLifecycleHooks", &[name]);
    assert_eq!(one(&hooks, "LifecycleTransition"), "autoscaling:EC2_INSTANCE_TERMINATING");
    assert_eq!(
        (one(&hooks, "HeartbeatTimeout"), one(&hooks, "GlobalTimeout")),
        ("300".into(), "30000".into())
    );
    assert!(texts(&scene.asg("DescribeInstanceRefreshes", &[name]), "Status").is_empty());
    let at = scene.now + SignedDuration::from_secs(600);
    scene.fleet.group_mut("web").unwrap().refresh = Some("InProgress".to_owned());
    scene.fleet.schedule("web", ScheduledScaling { name: "evening".to_owned(), at, desired: 1 });
    assert_eq!(texts(&scene.asg("DescribeInstanceRefreshes", &[name]), "Status"), ["InProgress"]);
    for (until, shown) in [("2026-11-26T12:09:59Z", 0), ("2026-11-26T12:10:00Z", 1)] {
        let answer = scene.asg("DescribeScheduledActions", &[name, ("EndTime", until)]);
        assert_eq!(texts(&answer, "StartTime").len(), shown, "{answer:?}");
    }
    for action in ["DescribeLifecycleHooks", "DescribeInstanceRefreshes", "DescribeScheduledActions"] {
        let answer = scene.asg(action, &[("AutoScalingGroupName", "db")]);
        assert_refused(&answer, "ValidationError", "AutoScalingGroup 'db' not found");
    }
}

#[test]
fn max_size_below_desired_lowers_desired_and_min_size_above_raises_it() {
    let mut scene = Scene::of(&of_size(3));
    assert_done(&update(&mut scene, &[("MaxSize", "2")]));
    assert_eq!(scene.desired(), 2);
    assert_done(&update(&mut scene, &[("MaxSize", "9")]));
    assert_eq!(scene.desired(), 2, "nothing raises it again");
    assert_done(&update(&mut scene, &[("MinSize", "4")]));
    assert_eq!(scene.desired(), 4);
    assert_refused(&update(&mut scene, &[("MaxSize", "3")]), "ValidationError", "Max bound, 3");
    let answer = update(&mut scene, &[("DesiredCapacity", "3")]);
    assert_refused(&answer, "ValidationError", "Desired capacity:3 must be between the specified min size:4");
}

#[test]
fn max_size_may_have_to_cover_a_member_that_leaves() {
    for covers in [false, true] {
        let habits = AwsHabits { max_covers_leaving: covers, ..AwsHabits::default() };
        let mut scene = Scene::with(&of_size(2), habits);
        let id = scene.member(0);
        assert_done(&scene.detach(&id));
        assert_eq!(update(&mut scene, &[("MaxSize", "1")]).status, if covers { 400 } else { 200 });
        scene.wait(30);
        assert_done(&update(&mut scene, &[("MaxSize", "1")]));
        assert_eq!(scene.desired(), 1);
    }
}

#[test]
fn desired_stays_within_the_bounds() {
    let mut scene = Scene::of(&GroupSpec::default());
    for (desired, words) in [("0", "value 0 is below min value 1"), ("3", "value 3 is above max value 2")] {
        let parameters = [("AutoScalingGroupName", "web"), ("DesiredCapacity", desired)];
        assert_refused(&scene.asg("SetDesiredCapacity", &parameters), "ValidationError", words);
    }
    let parameters = [("AutoScalingGroupName", "web"), ("DesiredCapacity", "2"), ("HonorCooldown", "false")];
    assert_done(&scene.asg("SetDesiredCapacity", &parameters));
    assert_eq!(scene.desired(), 2);
}

#[test]
fn set_desired_capacity_in_the_second_of_a_scale_out_does_what_aws_has_as_its_habit() {
    use crate::fleet::SetBesidePolicy::{IsRefused, Overwrites, Yields};
    let parameters = [("AutoScalingGroupName", "web"), ("DesiredCapacity", "3")];
    for (habit, desired) in [(Overwrites, 3), (Yields, 4), (IsRefused, 4)] {
        let mut scene = Scene::of(&GroupSpec { size: 2, max: 5, ..GroupSpec::default() });
        scene.fleet.habits.set_desired_beside_policy = habit;
        assert!(scene.fleet.scale("web", 2, scene.now));
        let answer = scene.asg("SetDesiredCapacity", &parameters);
        assert_eq!(answer.body.contains("ScalingActivityInProgress"), habit == IsRefused, "{answer:?}");
        assert_eq!(scene.desired(), desired, "{habit:?}");
        scene.wait(2);
        assert_done(&scene.asg("SetDesiredCapacity", &parameters));
        assert_eq!(scene.desired(), 3, "{habit:?}: two seconds later the number counts");
    }
}

#[test]
fn processes_are_suspended_and_resumed_by_name_or_all_of_them() {
    let mut scene = Scene::of(&GroupSpec::default());
    let rebalance = [("AutoScalingGroupName", "web"), ("ScalingProcesses.member.1", "AZRebalance")];
    for _ in 0..2 {
        assert_done(&scene.asg("SuspendProcesses", &rebalance));
    }
    assert_eq!(texts(&described(&mut scene), "ProcessName"), ["AZRebalance"]);
    assert_done(&scene.asg("ResumeProcesses", &rebalance));
    assert!(texts(&described(&mut scene), "ProcessName").is_empty());
    assert_done(&scene.asg("SuspendProcesses", &rebalance[..1]));
    assert_eq!(texts(&described(&mut scene), "ProcessName").len(), 9);
    let unknown = [rebalance[0], ("ScalingProcesses.member.1", "Nap")];
    assert_refused(&scene.asg("SuspendProcesses", &unknown), "ValidationError", "Nap");
}

#[test]
fn a_group_that_is_being_deleted_may_not_be_modified() {
    let mut scene = Scene::of(&of_size(2));
    let newcomer = scene.newcomer("a");
    scene.fleet.delete_group("web", scene.now);
    assert_eq!(texts(&described(&mut scene), "Status"), ["Delete in progress"]);
    assert_refused(&update(&mut scene, &[("MaxSize", "9")]), "ValidationError", "pending delete");
    assert_refused(&scene.attach(&newcomer), "ValidationError", "pending delete");
    let name = [("AutoScalingGroupName", "web")];
    assert_refused(&scene.asg("SuspendProcesses", &name), "ValidationError", "pending delete");
    scene.wait(30);
    assert!(scene.fleet.group("web").is_none());
    assert_refused(&scene.detach(&newcomer), "ValidationError", "'web' not found");
}

#[test]
fn tags_of_a_group_are_set_and_removed() {
    let mut scene = Scene::of(&GroupSpec::default());
    let tag = [
        ("Tags.member.1.ResourceId", "web"),
        ("Tags.member.1.ResourceType", "auto-scaling-group"),
        ("Tags.member.1.Key", "spot-optimizer:run"),
        ("Tags.member.1.Value", "running"),
        ("Tags.member.1.PropagateAtLaunch", "false"),
    ];
    assert_done(&scene.asg("CreateOrUpdateTags", &tag));
    let answer = described(&mut scene);
    assert_eq!((one(&answer, "Key"), one(&answer, "Value")), ("spot-optimizer:run".into(), "running".into()));
    assert_eq!(texts(&answer, "PropagateAtLaunch"), ["false"]);
    assert_done(&scene.asg("DeleteTags", &tag));
    assert!(texts(&described(&mut scene), "Key").is_empty());
    let unknown = [("Tags.member.1.ResourceId", "db"), ("Tags.member.1.Key", "x")];
    assert_refused(&scene.asg("CreateOrUpdateTags", &unknown), "ValidationError", "'db' not found");
}
