//! What random plans have found. An act comes right before a call that is named, so that it stays where it was as others change.

use spot_world::fleet::Ec2State;
use spot_world::history::{Ended, play};
use spot_world::replay::{Replay, parse};

/// The old instance of every scene of a group, and that of a stand-alone one.
const OLD_MEMBER: &str = "i-00000000000000002";
const OLD_INSTANCE: &str = "i-00000000000000001";

/// Plays a scene. Each strike comes right before the first call of this function, phase and action after the strike before it.
/// One without a word only says from where the next one counts.
fn played(scene: &str, strikes: &[(&str, &str)]) -> Ended {
    let mut words: Vec<String> = scene.split(' ').map(str::to_owned).collect();
    let mut from = 0;
    for (call, strike) in strikes {
        let calls = plays(&words).world.chronicle.calls;
        let is_it = |n: &usize| format!("{} {}", calls[*n].by, calls[*n].action) == *call;
        let at = (from..calls.len()).find(is_it).unwrap_or_else(|| panic!("{words:?} makes no call {call}"));
        words.extend((!strike.is_empty()).then(|| format!("{at}~{strike}")));
        from = at + 1;
    }
    plays(&words)
}

fn plays(words: &[String]) -> Ended {
    let Replay { scene, plan, seed } = parse(words.iter().cloned()).unwrap_or_else(|it| panic!("{it}"));
    play(&scene, plan, seed).unwrap_or_else(|broken| panic!("{words:?}: {broken}"))
}

fn is_member(ended: &Ended, id: &str) -> bool {
    ended
        .world
        .fleet
        .group("web")
        .is_some_and(|web| web.members.iter().any(|member| member.instance_id == id))
}

fn state(ended: &Ended, id: &str) -> Option<Ec2State> {
    ended.world.fleet.instances().get(id).map(|instance| instance.state)
}

fn is_suspended(ended: &Ended) -> bool {
    ended.world.fleet.group("web").is_some_and(|web| web.suspended.contains("AZRebalance"))
}

#[test]
fn an_old_instance_comes_back_if_the_newcomers_pool_is_poisoned_before_the_reconciler() {
    let node = "KubernetesOptimizer Terminate DetachInstances";
    let group = "ClusterOptimizer RetireOld DetachInstances";
    for (scene, detach) in
        [("group zones=1", group), ("group size=3 max=4 zones=1", group), ("node max=2", node)]
    {
        let dead = [(detach, "StoppedAfter")];
        assert!(!is_member(&played(scene, &dead), OLD_MEMBER), "{scene}: the reconciler finishes it");
        let poisoned = ("Reconciler event DescribeExecution", "NewcomersPoolIsPoisoned");
        let ended = played(scene, &[dead[0], poisoned]);
        assert!(is_member(&ended, OLD_MEMBER), "{scene}: {}", ended.world.chronicle);
    }
}

/// In LAB, an interruption poisons nothing: the Spot request alone shows it.
#[test]
fn an_old_instance_serves_again_if_ec2_takes_its_twin_back_before_the_reconciler() {
    let dead = ("LabOptimizer RetireOld DeregisterTargets", "StoppedAfter");
    assert_eq!(state(&played("lab", &[dead]), OLD_INSTANCE), Some(Ec2State::Stopped), "it finishes the swap");
    let interrupted = ("Reconciler event DescribeExecution", "NewcomerIsInterrupted(1)");
    let ended = played("lab", &[dead, interrupted]);
    assert_eq!(state(&ended, OLD_INSTANCE), Some(Ec2State::Running), "{}", ended.world.chronicle);
    assert!(!ended.world.chronicle.to_string().contains("StopInstances"), "{}", ended.world.chronicle);
}

/// What is suspended after our resumption is the owner's wish, also if the way back goes on.
#[test]
fn a_way_back_resumes_az_rebalance_once() {
    let strikes = [
        ("ClusterOptimizer WaitForInService DescribeAutoScalingGroups", "OwnerSetsDesired(1)"),
        ("ClusterOptimizer Rollback ResumeProcesses", ""),
        ("ClusterOptimizer Rollback DescribeAutoScalingGroups", "OwnerSuspends(\"AZRebalance\")"),
    ];
    assert!(!is_suspended(&played("group max=1 zones=1", &strikes[..2])));
    assert!(is_suspended(&played("group max=1 zones=1", &strikes)));
    // The Lambda dies after the resumption.
    let died = [
        strikes[0],
        strikes[1],
        ("ClusterOptimizer Rollback DescribeInstances", "OwnerSuspends(\"AZRebalance\")"),
        ("ClusterOptimizer Rollback DescribeAutoScalingGroups", "DiesBefore"),
    ];
    assert!(is_suspended(&played("group max=1 zones=1", &died)));
}

/// The owner detaches the old instance right before we do. The refusal proves that it was not our call.
#[test]
fn an_old_instance_that_its_owner_has_detached_stays_his() {
    let group = "ClusterOptimizer RetireOld DetachInstances";
    let node = "KubernetesOptimizer Terminate DetachInstances";
    let scenes = [
        ("group max=1 zones=1", group, "OwnerDetaches(0)", 1),
        ("group max=1 zones=1 leaving_shows_after=1", group, "OwnerDetaches(0)", 1),
        ("group max=1 zones=1 leaving_shows_after=11", group, "OwnerDetaches(0)", 1),
        ("group size=2 max=2", group, "OwnerTakesOut(0)", 2),
        ("group size=2 max=2 leaving_shows_after=11", group, "OwnerTakesOut(0)", 2),
        ("node max=2", node, "OwnerDetaches(0)", 2),
    ];
    for (scene, call, act, desired) in scenes {
        let ended = played(scene, &[(call, act)]);
        let chronicle = &ended.world.chronicle;
        assert_eq!(state(&ended, OLD_MEMBER), Some(Ec2State::Running), "{scene}: {chronicle}");
        let web = ended.world.fleet.group("web").unwrap();
        assert_eq!(web.desired, desired, "{scene}: {chronicle}");
        let nodes = ended.world.cluster.iter().flat_map(|cluster| cluster.nodes().values());
        let cordoned: Vec<_> = nodes.filter(|node| node.is_unschedulable()).map(|node| &node.name).collect();
        assert!(cordoned.is_empty(), "{scene}: {cordoned:?}");
    }
}

/// The execution is stopped right after the refusal, its Lambda dies, or AWS throttles the detach and the owner is faster than
/// its repetition: the row keeps the proof.
#[test]
fn whoever_ends_the_swap_knows_that_the_owner_has_detached_the_old_instance() {
    let detach = "ClusterOptimizer RetireOld DetachInstances";
    let look = "ClusterOptimizer RetireOld DescribeAutoScalingGroups";
    let stopped = [(detach, "OwnerDetaches(0)"), ("ClusterOptimizer Rollback GetItem", "StoppedBefore")];
    let died = [(detach, "OwnerDetaches(0)"), (look, "DiesBefore")];
    let throttled =
        [(detach, "Throttled"), (detach, "Throttled"), (detach, "Throttled"), (look, "OwnerDetaches(0)")];
    let all: [&[(&str, &str)]; 3] = [&stopped, &died, &throttled];
    for strikes in all {
        let ended = played("group max=1 zones=1", strikes);
        assert_eq!(
            state(&ended, OLD_MEMBER),
            Some(Ec2State::Running),
            "{strikes:?}: {}",
            ended.world.chronicle
        );
    }
}

/// The owner detaches the old instance right before the attach, and its group launches another one. That is Pending as the
/// newcomer is attached, and InService before its target is healthy.
#[test]
fn a_way_back_waits_for_the_targets_of_a_member_that_was_pending_at_the_attach() {
    let strikes = [
        ("ClusterOptimizer WaitForHealth DescribeSpotInstanceRequests", "OwnerDetaches(0)"),
        ("ClusterOptimizer Attach DescribeAutoScalingGroups", "Zombie(20)"),
    ];
    let ended = played("group 86 max=1 zones=1 has_target_group=1 leaving_shows_after=2", &strikes);
    let chronicle = ended.world.chronicle.to_string();
    assert!(chronicle.contains("Rollback autoscaling:DetachInstances"), "{chronicle}");
}

/// A newcomer dies before the retirement ends, and the old instance is attached again. Once it serves, its owner detaches it.
#[test]
fn an_old_instance_that_came_back_is_its_owners() {
    let strikes = [
        ("ClusterOptimizer WaitForRetirement DescribeAutoScalingGroups", "NewcomerDies"),
        ("ClusterOptimizer Rollback AttachInstances", ""),
        ("ClusterOptimizer Rollback ResumeProcesses", ""),
        ("ClusterOptimizer Rollback DescribeAutoScalingGroups", "OwnerDetaches(0)"),
    ];
    let ended = played("group zones=1 has_target_group=1", &strikes);
    let chronicle = ended.world.chronicle.to_string();
    assert_eq!(chronicle.matches("Rollback autoscaling:AttachInstances").count(), 1, "{chronicle}");
    assert_eq!(state(&ended, OLD_MEMBER), Some(Ec2State::Running), "{chronicle}");
}

/// A policy takes the room that MaxSize has made, so that it can't go back yet. The owner suspends AZRebalance meanwhile.
#[test]
fn a_swap_resumes_az_rebalance_once() {
    let strikes = [
        ("ClusterOptimizer RetireOld DetachInstances", ""),
        ("ClusterOptimizer RetireOld DescribeAutoScalingGroups", "PolicyScales(2)"),
        ("ClusterOptimizer Restore ResumeProcesses", ""),
        ("ClusterOptimizer Restore DescribeInstances", "OwnerSuspends(\"AZRebalance\")"),
    ];
    let scene = "group max=1 zones=1 has_target_group=1 max_covers_leaving=1";
    let ended = played(scene, &strikes);
    assert!(is_suspended(&ended), "{}", ended.world.chronicle);
    // The step dies after the resumption, and is repeated.
    let fails = [
        strikes[0],
        ("ClusterOptimizer Restore ResumeProcesses", ""),
        ("ClusterOptimizer Restore DescribeAutoScalingGroups", "OwnerSuspends(\"AZRebalance\")"),
        ("ClusterOptimizer Restore UpdateItem", "DiesBefore"),
    ];
    let ended = played(scene, &fails);
    assert!(is_suspended(&ended), "{}", ended.world.chronicle);
}

/// A member dies unseen before the attach, and a policy scales out: the newcomer serves in the dead one's place.
#[test]
fn an_old_instance_stays_while_its_group_launches_another_one() {
    let strikes = [
        ("ClusterOptimizer WaitForHealth DescribeInstanceStatus", ""),
        ("ClusterOptimizer WaitForHealth DescribeSpotInstanceRequests", "MemberDies(1)"),
        ("ClusterOptimizer Attach DescribeAutoScalingGroups", "PolicyScales(2)"),
    ];
    let ended = played("group size=3 max=5 zones=1 has_target_group=1", &strikes);
    let chronicle = ended.world.chronicle.to_string();
    assert!(chronicle.contains("RetireOld autoscaling:DetachInstances"), "{chronicle}");
}

/// The write that begins a swap is late. Its repetition lands first, and the swap ends before the late one does: the row tells
/// of it again. Nothing is launched by that, and the lease ends.
#[test]
fn a_swap_that_begins_again_after_its_end_launches_nothing() {
    let strikes = [
        ("ClusterOptimizer Launch UpdateItem", "EffectLate(15)"),
        ("ClusterOptimizer Launch RunInstances", ""),
        ("ClusterOptimizer WaitForHealth DescribeInstances", "NewcomerDies"),
        ("ClusterOptimizer Rollback GetItem", "StoppedBefore"),
    ];
    for strikes in [&strikes[..], &strikes[..3]] {
        let chronicle = played("group size=2 max=3 zones=1", strikes).world.chronicle.to_string();
        let launches = chronicle.matches("ec2:RunInstances ClientToken=i-00000000000000002").count();
        assert_eq!(launches, 1, "{chronicle}");
    }
}

/// A policy scales out while the old instance dies, and its group is launching what it misses.
#[test]
fn a_newcomer_stays_while_its_group_launches_another_one() {
    let strikes = [
        ("ClusterOptimizer WaitForHealth DescribeInstanceStatus", ""),
        ("ClusterOptimizer WaitForHealth DescribeSpotInstanceRequests", "MemberDies(0)"),
        ("ClusterOptimizer Attach DescribeAutoScalingGroups", "PolicyScales(2)"),
    ];
    let ended = played("group size=3 max=5 zones=1 has_target_group=1", &strikes);
    let chronicle = ended.world.chronicle.to_string();
    assert!(chronicle.contains("Rollback autoscaling:DetachInstances"), "{chronicle}");
}

/// The newcomer dies in a group whose hooks nobody completes for the dead. It is in them for an hour, and EC2 forgets it. The
/// reconciler takes its replacement out meanwhile, and the swap is over.
#[test]
fn a_dead_newcomer_in_its_hooks_holds_up_no_way_back() {
    let strikes = [
        ("ClusterOptimizer WaitForInService DescribeInstanceAttribute", "NewcomerDies"),
        ("ClusterOptimizer WaitForInService DescribeLifecycleHooks", "StoppedBefore"),
    ];
    let scene = "group size=2 max=2 zones=1 heartbeat_seconds=3600 hooks_of_dead_are_completed=0";
    let ended = played(scene, &strikes);
    let web = ended.world.fleet.group("web").unwrap();
    assert_eq!((web.desired, web.max), (2, 2), "{}", ended.world.chronicle);
}

/// A policy scales in right before the attach, and the group takes the old node. Nothing comes in its place.
#[test]
fn a_way_back_waits_for_no_node_where_its_group_is_asked_for_fewer() {
    let scaled_in = [("KubernetesOptimizer AwaitReady DescribeLaunchTemplateVersions", "PolicyScales(-1)")];
    let ended = played("node 17 max=2 leaving_shows_after=11", &scaled_in);
    let chronicle = ended.world.chronicle.to_string();
    assert!(
        !is_member(&ended, OLD_MEMBER) && chronicle.contains("Rollback autoscaling:DetachInstances"),
        "{chronicle}"
    );
    assert!(!chronicle.contains("Stuck"), "{chronicle}");
}

/// The old node ends before the attach, and its group may not replace it: the newcomer keeps the pods.
#[test]
fn a_newcomer_that_is_no_member_yet_keeps_the_pods_of_a_node_that_nobody_replaces() {
    let strikes = [
        ("KubernetesOptimizer ScaleOut RunInstances", "OwnerSuspends(\"Terminate\")"),
        ("KubernetesOptimizer AwaitReady PatchNodes", "MemberDies(0)"),
    ];
    let chronicle = played("node size=1 max=1", &strikes).world.chronicle.to_string();
    let mended = chronicle.find("a person mends").unwrap_or_else(|| panic!("{chronicle}"));
    assert!(chronicle.contains("Stuck") && !chronicle[..mended].contains("EvictPods"), "{chronicle}");
}

/// A policy scales out while the execution is dead. That the old instance keeps its tag says nothing once we have ended it.
#[test]
fn what_a_policy_launches_is_not_taken_for_a_replacement_of_what_we_have_ended() {
    let strikes = [
        ("ClusterOptimizer RetireOld DetachInstances", "StoppedAfter"),
        ("Reconciler event Scan", "PolicyScales(1)"),
    ];
    let ended = played("group zones=1 has_target_group=1 detached_keeps_group_tag=1", &strikes);
    assert_eq!(ended.world.fleet.group("web").map(|web| web.desired), Some(2), "{}", ended.world.chronicle);
}

/// The twin ends as it takes over, and the old instance during the way back.
#[test]
fn a_twin_that_ends_with_its_old_instance_is_in_no_target_group() {
    let strikes = [
        ("LabOptimizer TakeOver RegisterTargets", ""),
        ("LabOptimizer TakeOver DescribeInstances", "OwnerOfTwin(Terminates)"),
        ("LabOptimizer Rollback DescribeInstances", "OwnerOfInstance(TerminatesOld)"),
    ];
    let ended = played("lab has_address=0 capture_image=0", &strikes);
    let fleet = &ended.world.fleet;
    let is_alive = |id: &String| fleet.instances().get(id).is_some_and(|instance| instance.state.is_alive());
    let alive: Vec<_> = fleet.instances().keys().filter(|id| is_alive(id)).collect();
    assert!(alive.is_empty(), "{alive:?} live: {}", ended.world.chronicle);
    let mut targets = fleet.target_groups().values().flat_map(|group| group.targets.keys());
    assert_eq!(targets.find(|id| *id != OLD_INSTANCE), None);
}

/// EC2 has no capacity for a member that has died: the newcomer stays, and a person is told. Once it has, the swap is undone.
#[test]
fn a_way_back_ends_by_itself_once_a_person_has_mended_what_it_waits_for() {
    let strikes = [
        ("ClusterOptimizer Attach SuspendProcesses", "MemberDies(1)"),
        ("ClusterOptimizer Attach AttachInstances", "CapacityIsShort(0)"),
    ];
    let ended = played("group size=2 max=3 zones=1 has_target_group=1", &strikes);
    let chronicle = ended.world.chronicle.to_string();
    assert!(chronicle.contains("Stuck") && chronicle.contains("a person mends"), "{chronicle}");
}

/// A member dies and can't be replaced, and then the group is asked for fewer: the newcomer serves, and is no longer beyond
/// desired. It stays.
#[test]
fn a_newcomer_that_serves_stays_where_its_swap_went_back_for_others() {
    let strikes = [
        ("ClusterOptimizer Attach SuspendProcesses", "MemberDies(1)"),
        ("ClusterOptimizer Attach AttachInstances", "CapacityIsShort(0)"),
        ("ClusterOptimizer Rollback DescribeAutoScalingGroups", "PolicyScales(-1)"),
    ];
    let ended = played("group size=2 max=3 zones=1 has_target_group=1", &strikes);
    assert!(is_member(&ended, OLD_MEMBER), "{}", ended.world.chronicle);
    assert_eq!(ended.world.fleet.serving("web").len(), 2, "{}", ended.world.chronicle);
}

/// EC2 takes another member back, and AWS does not let it go before its time. Until another one serves in its place, the old
/// instance stays; and where the swap goes back, the newcomer.
#[test]
fn nobody_leaves_while_ec2_takes_another_member_back() {
    let swap = "ClusterOptimizer WaitForInService";
    let (look, asks) = (format!("{swap} DescribeAutoScalingGroups"), format!("{swap} DescribeTargetHealth"));
    // The newcomer of the first swap gets its notice during the second.
    let noticed = [
        ("ClusterOptimizer WaitForRetirement DescribeAutoScalingGroups", ""),
        (look.as_str(), "MemberIsInterrupted(1, 1)"),
    ];
    // Or between a stop of the second and the reconciler's way back, two minutes later.
    let sweeps = "Reconciler event Scan";
    let stopped =
        [noticed[0], (asks.as_str(), "StoppedBefore"), (sweeps, ""), (sweeps, "MemberIsInterrupted(1, 1)")];
    let balanced = "group size=2 max=3 zones=1 has_target_group=1 refuses_to_terminate_interrupted=1";
    let plain = "group size=2 max=2 zones=1 max_covers_leaving=1 refuses_to_terminate_interrupted=1";
    for (scene, strikes) in [(balanced, &noticed[..]), (plain, &noticed), (balanced, &stopped)] {
        let chronicle = played(scene, strikes).world.chronicle.to_string();
        assert!(chronicle.contains("EC2 gives notice to"), "{chronicle}");
    }
}

/// EC2 forgets the newcomer before its group may launch again, and with it the proof that the old instance is the swap's.
#[test]
fn without_a_proof_an_old_instance_is_left_to_a_person() {
    let strikes = [
        ("ClusterOptimizer RetireOld UpdateItem", "OwnerSuspends(\"Launch\")"),
        ("ClusterOptimizer RetireOld DetachInstances", "NewcomerDies"),
    ];
    let ended = played("group max=1 zones=1", &strikes);
    assert_eq!(state(&ended, OLD_MEMBER), Some(Ec2State::Running), "{}", ended.world.chronicle);
}

/// Each of these was a false alarm: nothing was wrong with the code, and a promise asked for too much.
#[test]
fn what_others_did_is_no_fault_of_a_swap() {
    let of_node = "node size=1 max=1";
    let group = "group max=1 zones=1";
    let alarms: [(&str, &[(&str, &str)]); 13] = [
        // The owner asks for more while a newcomer, which is a part of it, is on its way into service.
        (
            "group max=3 zones=1 has_target_group=1",
            &[
                ("ClusterOptimizer Attach AttachInstances", ""),
                ("ClusterOptimizer WaitForInService DescribeAutoScalingGroups", "OwnerSetsDesired(3)"),
            ],
        ),
        // A target that was never healthy counts as its group counts it, if it was in service before the launch.
        (
            "group max=3 zones=1 has_target_group=1",
            &[
                ("ClusterOptimizer Discover BatchGetItem", "PolicyScales(2)"),
                ("ClusterOptimizer Launch RunInstances", "TargetTurnsUnhealthy(11713378)"),
            ],
        ),
        // The owner sets MaxSize twice, each time as we are about to. The second time it is the number that we had raised it to.
        (
            "group size=2 zones=1",
            &[
                ("ClusterOptimizer WaitForHealth DescribeAutoScalingGroups", "OwnerSetsMax(5)"),
                ("ClusterOptimizer WaitForRetirement DescribeAutoScalingGroups", "OwnerSetsMax(3)"),
            ],
        ),
        // An eviction lands a minute late.
        (
            "node size=1 max=2",
            &[
                ("KubernetesOptimizer Drain EvictPods", "EffectLate(55)"),
                ("KubernetesOptimizer Drain EvictPods", "RequestLost"),
                ("KubernetesOptimizer Drain DescribeInstances", "NewcomerDies"),
            ],
        ),
        // Its owner ends the old instance, and keeps the twin.
        (
            "lab has_address=0 capture_image=0",
            &[
                ("LabOptimizer Launch RunInstances", "OwnerOfInstance(StopsOld)"),
                ("LabOptimizer WaitForHealth AssumeRole", "OwnerOfTwin(OptsOut)"),
            ],
        ),
        // A number that somebody moves away, and that another sets again, looks like the one that we left.
        (
            "node size=1 max=2",
            &[
                ("KubernetesOptimizer AwaitReady AttachInstances", ""),
                ("KubernetesOptimizer AwaitReady DescribeAutoScalingGroups", "PolicyScales(-1)"),
                ("KubernetesOptimizer AwaitReady DescribeInstances", "OwnerSetsDesired(2)"),
            ],
        ),
        // The group does not show yet that a member leaves, which EC2 takes back.
        (
            "group 29 size=3 max=3 zones=1 leaving_shows_after=7",
            &[
                ("ClusterOptimizer Attach AttachInstances", ""),
                ("ClusterOptimizer WaitForInService DescribeAutoScalingGroups", "MemberIsInterrupted(1, 1)"),
            ],
        ),
        // Back where the swap found it, the address is a part of what the twin takes over.
        (
            "lab capture_image=1",
            &[
                ("LabOptimizer Launch DescribeTargetGroups", "OwnerOfInstance(MovesAddress)"),
                ("LabOptimizer Launch DescribeTargetHealth", "OwnerOfInstance(GivesAddressToOld)"),
            ],
        ),
        // A group that may not launch keeps pods waiting.
        (
            of_node,
            &[
                ("KubernetesOptimizer Preflight DescribeLifecycleHooks", "OwnerSuspends(\"Launch\")"),
                ("KubernetesOptimizer Report UpdateItem", "MemberDies(0)"),
            ],
        ),
        // The owner sets MaxSize to what we are about to set.
        (of_node, &[("KubernetesOptimizer AwaitReady UpdateAutoScalingGroup", "OwnerSetsMax(2)")]),
        // What a group launches for a member that its owner has taken is our one too many, also if it has opted out.
        (
            group,
            &[
                ("ClusterOptimizer RetireOld UpdateItem", "OwnerOptsOut"),
                ("ClusterOptimizer RetireOld DetachInstances", "OwnerDetaches(0)"),
                ("ClusterOptimizer Rollback DescribeAutoScalingGroups", "StoppedBefore"),
            ],
        ),
        // AWS takes no instance back into a group that may not launch.
        (
            group,
            &[
                ("ClusterOptimizer RetireOld UpdateItem", "OwnerSuspends(\"Launch\")"),
                ("ClusterOptimizer RetireOld DetachInstances", "StoppedAfter"),
                ("Reconciler event Scan", "NewcomersPoolIsPoisoned"),
            ],
        ),
        // A newcomer that has just died is nobody's to keep.
        (
            of_node,
            &[
                ("KubernetesOptimizer AwaitReady AttachInstances", ""),
                ("KubernetesOptimizer AwaitReady DescribeInstances", "OwnerOptsOut"),
                ("KubernetesOptimizer AwaitReady DescribeInstanceAttribute", "StoppedBefore"),
                ("Reconciler event DetachInstances", "MemberDies(1)"),
            ],
        ),
    ];
    for (scene, strikes) in alarms {
        played(scene, strikes);
    }
}
