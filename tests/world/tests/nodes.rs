//! The swap of a Kubernetes node: its pods move by eviction before its instance goes, whatever fails on the way.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use spot_world::acts::Act;
use spot_world::campaign::{all, beside_calls, one_in};
use spot_world::chronicle::SentCall;
use spot_world::fault::{Fault, Plan};
use spot_world::fleet::{GroupSpec, LifecycleHook};
use spot_world::machine::Outcome;
use spot_world::scene::{Happening, Scene};
use spot_world::world::World;

use crate::holds::{
    faults_of_recovery, first_call_by, holds, last_call, output, play_or_tell, scene, stopped_after,
};

/// No tag names the cluster of the nodes: the request does.
fn two_nodes() -> Scene {
    scene("node")
}

/// A node that has all pods of two workloads. One has no budget, and of the other only one pod may be away.
fn tight_budget() -> Scene {
    scene("node-with-budget")
}

#[test]
fn a_node_moves_to_spot_with_its_pods() {
    let ended = play_or_tell(&two_nodes(), Plan::none());
    assert_eq!(output(&ended)["outcome"], json!("SWAPPED"));
    let (world, old) = (&ended.world, two_nodes().first_member());
    assert_eq!(world.fleet.serving("web").len(), 2);
    let newcomers: Vec<_> = world.fleet.instances().values().filter(|instance| instance.is_spot()).collect();
    assert_eq!(newcomers.len(), 1);
    assert_eq!(newcomers[0].tags["spot-optimizer:cluster"], "shop");
    let cluster = world.cluster.as_ref();
    assert!(cluster.is_some_and(|cluster| cluster.node_of(&old).is_none() && cluster.nodes().len() == 2));
}

#[test]
fn a_tight_budget_is_waited_out() {
    let ended = play_or_tell(&tight_budget(), Plan::none());
    let output = output(&ended);
    assert_eq!((&output["outcome"], &output["evicted"]), (&json!("SWAPPED"), &json!(6)), "{output}");
    let refusals = ended.world.chronicle.to_string().matches("kubernetes:EvictPods").count() - 6;
    assert!(refusals >= 3, "the budget has refused {refusals} evictions");
}

/// Stops the execution at this call. The old node must be as before, and the newcomer gone.
fn is_put_back_when_stopped_at(scene: &Scene, call: usize) {
    let ended = play_or_tell(scene, Plan::At(BTreeMap::from([(call, Fault::StoppedAfter)])));
    assert!(matches!(ended.executions["by-hand"], Outcome::Aborted), "{:?}", ended.executions);
    let world = &ended.world;
    let spot = world.fleet.serving("web").into_iter().filter(|id| world.fleet.instances()[*id].is_spot());
    assert_eq!(spot.count(), 0, "the newcomer is gone");
    let old = world.cluster.as_ref().and_then(|cluster| cluster.node_of(&scene.first_member()));
    assert!(old.is_some_and(|old| old.is_ready() && !old.is_unschedulable()), "{old:?}");
}

#[test]
fn the_reconciler_puts_a_stopped_swap_back_in_the_middle_of_its_drain() {
    for scene in [two_nodes(), tight_budget()] {
        is_put_back_when_stopped_at(&scene, last_call(&scene, "EvictPods"));
    }
}

#[test]
fn the_reconciler_puts_a_swap_back_that_was_stopped_as_a_phase_began() {
    for phase in ["ScaleOut", "AwaitReady", "Cordon", "Drain"] {
        is_put_back_when_stopped_at(&two_nodes(), first_call_by(&two_nodes(), phase));
    }
}

/// The newcomer leaves through the hook of its group. Its pods must not come back to it meanwhile.
#[test]
fn the_reconciler_puts_a_stopped_swap_of_a_group_with_a_terminating_hook_back() {
    let mut scene = two_nodes();
    scene.group.hooks = vec![LifecycleHook::at_termination(60)];
    is_put_back_when_stopped_at(&scene, last_call(&scene, "EvictPods"));
}

#[test]
fn the_reconciler_finishes_a_swap_whose_old_instance_has_left() {
    let scene = two_nodes();
    let faults = BTreeMap::from([(last_call(&scene, "DetachInstances"), Fault::StoppedAfter)]);
    let ended = play_or_tell(&scene, Plan::At(faults));
    assert!(matches!(ended.executions["by-hand"], Outcome::Aborted), "{:?}", ended.executions);
    assert!(ended.world.cluster.is_some_and(|cluster| cluster.node_of(&scene.first_member()).is_none()));
}

#[test]
fn a_swap_of_a_node_survives_faults_at_its_calls() {
    holds(one_in(120, &two_nodes(), &Fault::ALL, 1));
}

#[test]
fn a_swap_under_a_tight_budget_survives_faults_at_its_calls() {
    holds(one_in(200, &tight_budget(), &Fault::ALL, 1));
}

/// Plays one in so many of these faults at the reconciler's calls whose name has this part. The execution was stopped as the
/// last call of this action was sent. The seed decides which.
fn survives_in_recovery((action, part): (&str, &str), faults: &[Fault], share: (usize, u64)) {
    let scene = two_nodes();
    let stopped = stopped_after(&scene, action);
    let is_meant = |call: &SentCall| call.action.contains(part);
    holds(Ok(all(&scene, &faults_of_recovery(&scene, &stopped, is_meant, faults, share))));
}

#[test]
fn the_way_back_of_a_node_survives_faults_at_its_calls() {
    survives_in_recovery(("EvictPods", ""), &Fault::ALL, (100, 1));
}

#[test]
fn the_end_of_a_swap_that_the_reconciler_finishes_survives_faults_at_its_calls() {
    survives_in_recovery(("DetachInstances", ""), &Fault::ALL, (100, 2));
}

#[test]
fn the_reconciler_lets_no_node_go_while_its_cluster_is_silent() {
    survives_in_recovery(("EvictPods", "ListNodes"), &[Fault::AnswerLost], (1, 3));
}

/// The tight budget, in whose drain of two minutes these happen.
fn with(happenings: Vec<(u64, Happening)>) -> Scene {
    let happenings = happenings.into_iter().map(|(at, happens)| (Duration::from_secs(at), happens)).collect();
    let input = BTreeMap::from([("drain_timeout_seconds".to_owned(), json!(120))]);
    Scene { happenings, input, ..tight_budget() }
}

fn first_node(world: &mut World, act: impl FnOnce(&mut spot_world::cluster::Cluster, &str)) {
    let Some(cluster) = &mut world.cluster else { return };
    let Some(name) = cluster.nodes().keys().next().cloned() else { return };
    act(cluster, &name);
}

const FORBIDS: Happening = |world| first_node(world, |cluster, _| cluster.owner_sets_budget("web", 4));
const ALLOWS: Happening = |world| first_node(world, |cluster, _| cluster.owner_sets_budget("web", 3));

/// The pods that have moved stay on the newcomer until the budget lets them go.
#[test]
fn a_budget_that_forbids_evictions_beyond_the_drain_ends_the_swap_and_is_named() {
    let ended = play_or_tell(&with(vec![(168, FORBIDS), (600, ALLOWS)]), Plan::none());
    let output = output(&ended);
    assert_eq!((&output["outcome"], &output["reason"]), (&json!("ROLLED_BACK"), &json!("DRAIN_TIMED_OUT")));
    assert_eq!(output["blocked"][0]["budget"], json!("web"), "{output}");
    let cluster = ended.world.cluster.as_ref();
    assert!(cluster.is_some_and(|cluster| cluster.nodes().len() == 1 && cluster.serving("web") == 4));
}

#[test]
fn a_budget_that_forbids_evictions_for_a_while_is_waited_for() {
    let ended = play_or_tell(&with(vec![(168, FORBIDS), (220, ALLOWS)]), Plan::none());
    assert_eq!(output(&ended)["outcome"], json!("SWAPPED"));
}

#[test]
fn a_node_that_somebody_uncordons_in_its_drain_stays() {
    let uncordons: Happening = |world| first_node(world, |cluster, name| cluster.owner_cordons(name, false));
    let ended = play_or_tell(&with(vec![(168, uncordons)]), Plan::none());
    let output = output(&ended);
    let reason = json!("CORDONED_BY_OTHERS");
    assert_eq!((&output["outcome"], &output["reason"]), (&json!("ROLLED_BACK"), &reason));
    let cluster = ended.world.cluster.as_ref();
    assert!(cluster.is_some_and(|cluster| cluster.node_of(&tight_budget().first_member()).is_some()));
}

#[test]
fn the_newcomer_or_the_old_node_may_die_in_a_swap() {
    for (seed, act) in [(1, Act::NewcomerDies), (2, Act::MemberDies(0)), (3, Act::NewcomerIsInterrupted(1))] {
        holds(beside_calls(&two_nodes(), act, seed));
    }
}

#[test]
fn a_node_that_ec2_takes_back_is_evacuated_in_time() {
    let tags = BTreeMap::from([
        ("spot-optimizer:enabled".to_owned(), "true".to_owned()),
        ("kubernetes.io/cluster/shop".to_owned(), "owned".to_owned()),
    ]);
    let group = GroupSpec { size: 2, spot: 2, max: 3, tags, ..GroupSpec::default() };
    let acts = vec![(10, Act::MemberIsInterrupted(0, 2))];
    let ended = play_or_tell(&Scene { group, is_quiet: true, acts, ..two_nodes() }, Plan::none());
    let Some(Outcome::Succeeded(output)) = ended.executions.values().next() else {
        panic!("{:?}", ended.executions)
    };
    assert_eq!((&output["outcome"], &output["evicted"]), (&json!("DRAINED"), &json!(3)), "{output}");
}

#[test]
fn a_notice_for_the_newcomer_of_a_node_that_no_tag_named_moves_its_pods() {
    let acts = vec![(1_800, Act::NewcomerIsInterrupted(2))];
    let ended = play_or_tell(&Scene { acts, ..two_nodes() }, Plan::none());
    assert_eq!(output(&ended)["outcome"], json!("SWAPPED"));
    let answers = ended.executions.values().filter_map(|outcome| match outcome {
        Outcome::Succeeded(output) => Some(&output["outcome"]),
        _ => None,
    });
    assert!(answers.into_iter().any(|outcome| *outcome == json!("DRAINED")), "{:?}", ended.executions);
}

#[test]
fn a_node_moves_by_the_tags_of_its_controllers() {
    let mut scene = two_nodes();
    scene.group.tags.insert("kubernetes.io/cluster/shop".to_owned(), "owned".to_owned());
    let ended = play_or_tell(&scene, Plan::none());
    assert_eq!(output(&ended)["outcome"], json!("SWAPPED"));
    let is_marked = |tags: &BTreeMap<String, String>| tags.contains_key("spot-optimizer:cluster");
    assert!(!ended.world.fleet.instances().values().any(|instance| is_marked(&instance.tags)));
}

#[test]
fn the_owner_may_act_in_the_swap_of_a_node() {
    for (seed, act) in [(1, Act::OwnerProtects(0)), (2, Act::OwnerOptsOut), (3, Act::PolicyScales(1))] {
        holds(beside_calls(&two_nodes(), act, seed));
    }
}

#[test]
fn the_same_seed_plays_the_same_history() {
    let faults = BTreeMap::from([(last_call(&two_nodes(), "EvictPods"), Fault::Zombie(20))]);
    let told = || play_or_tell(&two_nodes(), Plan::At(faults.clone())).world.chronicle.to_string();
    assert_eq!(told(), told());
}
