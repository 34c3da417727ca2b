//! What one step of a state machine hands to the next: of an older release, or of a state machine that is not ours.

use spot_world::acts::Act;
use spot_world::cluster::ClusterSpec;
use spot_world::fleet::{GroupSpec, InstanceSpec};
use spot_world::scene::Scene;

use super::judge::{arrivals, is_of_step, judge};

/// Changes so many of the payloads of the history without a fault, each in the world of its step.
fn each_step_reads_or_refuses(scene: &Scene, phases: usize, most: usize) {
    let steps: Vec<_> = arrivals(scene).into_iter().filter(is_of_step).collect();
    let labels: Vec<_> = steps.iter().map(spot_world::arrival::Arrival::label).collect();
    assert!(steps.len() >= phases, "only {labels:?}");
    judge(scene, &steps, most);
}

#[test]
fn a_payload_of_the_swap_of_a_group_is_read_or_refused_by_its_field() {
    let group = GroupSpec::full_behind_load_balancer();
    each_step_reads_or_refuses(&Scene { group, ..Scene::default() }, 8, 80);
}

#[test]
fn a_payload_of_the_swap_of_a_node_is_read_or_refused_by_its_field() {
    let group = GroupSpec { size: 2, max: 3, ..GroupSpec::default() };
    let scene = Scene { group, nodes: Some(ClusterSpec::default()), ..Scene::default() };
    each_step_reads_or_refuses(&scene, 6, 60);
}

#[test]
fn a_payload_of_the_swap_of_an_instance_is_read_or_refused_by_its_field() {
    let lab = Some(InstanceSpec { has_address: true, target_groups: 1, ..InstanceSpec::default() });
    each_step_reads_or_refuses(&Scene { lab, ..Scene::default() }, 6, 60);
}

#[test]
fn a_payload_of_the_answer_to_a_notice_is_read_or_refused_by_its_field() {
    let tags = [("spot-optimizer:enabled".to_owned(), "true".to_owned())].into();
    let group = GroupSpec { size: 2, spot: 2, max: 2, tags, ..GroupSpec::default() };
    let acts = vec![(10, Act::MemberIsInterrupted(0, 1))];
    let scene = Scene { group, is_quiet: true, acts, ..Scene::default() };
    each_step_reads_or_refuses(&scene, 4, 60);
}
