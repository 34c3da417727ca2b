//! Whole walks through the calls of a swap, and of the answer to a notice, on a day without faults.

use super::*;

const WEB: (&str, &str) = ("AutoScalingGroupName", "web");

fn is_in_service(scene: &Scene, id: &str) -> bool {
    scene.states().get(id) == Some(&LifecycleState::InService)
}

#[test]
fn a_swap_of_a_full_group_keeps_it_serving_and_leaves_it_as_it_was() {
    let mut scene = Scene::of(&GroupSpec { size: 2, max: 2, ..with_target_group() });
    let old = scene.member(0);
    let newcomer = scene.newcomer("swap-0");
    scene.wait(120);
    assert_eq!(
        texts(&scene.ec2("DescribeInstanceStatus", &[("InstanceId.1", &newcomer)]), "status"),
        ["ok"; 2]
    );
    let rebalance = [WEB, ("ScalingProcesses.member.1", "AZRebalance")];
    assert_done(&scene.asg("SuspendProcesses", &rebalance));
    assert_refused(&scene.attach(&newcomer), "ValidationError", "update the AutoScalingGroup sizes");
    assert_done(&scene.asg("UpdateAutoScalingGroup", &[WEB, ("MaxSize", "3")]));
    assert_done(&scene.attach(&newcomer));
    scene.wait(40);
    assert_eq!(scene.fleet.serving("web").len(), 3);
    assert_done(&scene.detach(&old));
    assert_done(&scene.asg("UpdateAutoScalingGroup", &[WEB, ("MaxSize", "2")]));
    assert!(scene.fleet.group_acts("web", 0, scene.now).is_empty(), "desired is two, and two are counted");
    assert_eq!(scene.fleet.serving("web").len(), 2);
    scene.wait(60);
    assert_done(&scene.ec2("TerminateInstances", &[("InstanceId.1", &old)]));
    assert_done(&scene.asg("ResumeProcesses", &rebalance));
    scene.wait(3 * 3_600);
    let group = scene.fleet.group("web").unwrap();
    assert_eq!((group.min, group.desired, group.max, group.suspended.len()), (1, 2, 2, 0));
    assert!(is_in_service(&scene, &newcomer) && !scene.fleet.instances().contains_key(&old));
    assert_eq!(scene.fleet.serving("web").len(), 2);
}

#[test]
fn an_answer_to_a_notice_has_its_replacement_in_service_before_the_end() {
    let mut scene = Scene::of(&GroupSpec { size: 1, max: 1, ..with_target_group() });
    let (on_demand, doomed) = (scene.member(0), scene.newcomer("a"));
    assert_done(&scene.asg("UpdateAutoScalingGroup", &[WEB, ("MaxSize", "2")]));
    assert_done(&scene.attach(&doomed));
    assert_done(&scene.detach(&on_demand));
    assert_done(&scene.asg("UpdateAutoScalingGroup", &[WEB, ("MaxSize", "1")]));
    scene.wait(60);
    assert!(scene.fleet.interrupt(&doomed, scene.now + SignedDuration::from_secs(120)));
    assert_done(&scene.asg("UpdateAutoScalingGroup", &[WEB, ("MaxSize", "2")]));
    assert_done(
        &scene.asg("SetDesiredCapacity", &[WEB, ("DesiredCapacity", "2"), ("HonorCooldown", "false")]),
    );
    scene.fleet.group_acts("web", 0, scene.now);
    scene.wait(60);
    assert_eq!(scene.fleet.serving("web").len(), 2);
    assert_done(&scene.terminate_in_group(&doomed, "true"));
    assert_done(&scene.asg("UpdateAutoScalingGroup", &[WEB, ("MaxSize", "1")]));
    scene.wait(300);
    let group = scene.fleet.group("web").unwrap();
    assert_eq!((group.desired, group.max, group.members.len()), (1, 1, 1));
    assert_eq!(scene.fleet.serving("web"), [scene.member(0)]);
    assert!(scene.fleet.unsettled().is_empty());
}
