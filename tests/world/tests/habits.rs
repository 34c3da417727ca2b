//! A sample of histories with each open question about AWS answered the other way. `docs/to-try-on-aws.md` has the script
//! that settles each on a real account.

mod beside_policy;
mod forwarding;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jiff::SignedDuration;
use spot_world::acts::Act;
use spot_world::campaign::{all_that, spread};
use spot_world::chronicle::SentCall;
use spot_world::fault::{Fault, Plan};
use spot_world::fleet::{AwsHabits, GroupSpec, LifecycleHook};
use spot_world::history::{Ended, play};
use spot_world::machine::{DataLimit, Outcome};
use spot_world::scene::{Happening, Scene};

use crate::holds::{self, play_or_tell};

const SEED: u64 = 1;

/// The histories with a fault for each answer, unless the variable `HISTORIES` sets another number.
const SAMPLE: usize = 12;
/// The same for an answer that few calls depend on.
const FEW: usize = 4;

/// A full group of one behind a load balancer: MaxSize is raised, and the old member drains.
fn scene(habits: AwsHabits) -> Scene {
    Scene { habits, ..holds::scene("full-group") }
}

/// An instance whose twin starts from an image of its disks.
fn with_image(habits: AwsHabits) -> Scene {
    Scene { habits, ..holds::scene("lab-image") }
}

/// The swap succeeds without a fault, and the promises hold with one. `action` is a call that the answer concerns.
fn holds(scene: &Scene, action: &str) {
    assert_swaps(&play_or_tell(scene, Plan::none()));
    sampled(scene, action, SAMPLE, "");
}

fn assert_swaps(ended: &Ended) {
    assert!(matches!(ended.executions["by-hand"], Outcome::Succeeded(_)), "{}", ended.world.chronicle);
}

fn says(ended: &Ended, words: &str) -> bool {
    ended.world.chronicle.to_string().contains(words)
}

/// Returns the number of histories of a sample: that of the variable `HISTORIES`, or else this one.
fn histories(sample: usize) -> usize {
    std::env::var("HISTORIES").ok().and_then(|number| number.parse().ok()).unwrap_or(sample)
}

/// The promises hold, and the chronicle of one history at least has these words. Half of the sample are faults at calls of this
/// action, half are faults at others, both spread evenly.
fn sampled(scene: &Scene, action: &str, sample: usize, words: &str) {
    let ended = play_or_tell(scene, Plan::none());
    let calls = &ended.world.chronicle.calls;
    assert!(calls.iter().any(|call| call.action == action), "nothing of it asks for {action}");
    let told = AtomicUsize::new(usize::from(says(&ended, words)));
    let concerned = plans(scene, calls, |call| call.action == action);
    let others = plans(scene, calls, |call| call.action != action);
    let (half, mut random) = ((histories(sample) / 2).max(1), fastrand::Rng::with_seed(SEED));
    let sample = [&concerned, &others].map(|plans| spread(plans, half, &mut random)).concat();
    let findings = all_that(scene, &sample, |ended| {
        told.fetch_add(usize::from(says(ended, words)), Ordering::Relaxed);
        Ok(())
    });
    holds::holds(Ok(findings));
    assert!(told.into_inner() > 0, "no history has {words:?}");
}

fn plans(scene: &Scene, calls: &[SentCall], is_meant: impl Fn(&SentCall) -> bool) -> Vec<(Plan, u64)> {
    let meant = calls.iter().enumerate().filter(|(_, call)| is_meant(call));
    let of_each = meant.flat_map(|(number, call)| {
        let faults = Fault::ALL.into_iter().filter(|fault| fault.concerns(call.is_read));
        let faults = faults.filter(|fault| !is_known_to_break(scene, call, *fault));
        faults.map(move |fault| (Plan::At(BTreeMap::from([(number, fault)])), SEED))
    });
    of_each.collect()
}

/// A termination that the network delivers twice is counted twice: the API takes no token.
fn is_known_to_break(scene: &Scene, call: &SentCall, fault: Fault) -> bool {
    let is_termination = call.action == "TerminateInstanceInAutoScalingGroup";
    scene.habits.second_terminate_counts_again && is_termination && fault == Fault::Twice
}

#[test]
fn a_second_terminate_may_lower_desired_once_more() {
    let mut scene = scene(AwsHabits { second_terminate_counts_again: true, ..AwsHabits::default() });
    scene.group.min = 0; // AWS refuses to go below.
    scene.group.hooks = vec![LifecycleHook::at_termination(60)];
    holds(&scene, "TerminateInstanceInAutoScalingGroup");
}

#[test]
fn a_launch_may_be_invisible_for_half_a_minute() {
    let visible_after = SignedDuration::from_secs(30);
    holds(&scene(AwsHabits { visible_after, ..AwsHabits::default() }), "RunInstances");
}

#[test]
fn the_filter_client_token_may_take_no_wildcards() {
    let habits = AwsHabits { client_token_takes_wildcards: false, ..AwsHabits::default() };
    holds(&scene(habits), "RunInstances");
}

#[test]
fn a_detached_instance_may_keep_the_tag_of_its_group() {
    holds(&scene(AwsHabits { detached_keeps_group_tag: true, ..AwsHabits::default() }), "DetachInstances");
}

/// The old member dies at one of the calls after its detach: in some of these histories it is Detaching still.
#[test]
fn an_instance_that_dies_while_detaching_may_keep_the_tag_of_its_group() {
    let scene = scene(AwsHabits { dead_detaching_keeps_group_tag: true, ..AwsHabits::default() });
    let calls = play_or_tell(&scene, Plan::none()).world.chronicle.calls;
    let detach = calls.iter().rposition(|call| call.action == "DetachInstances").expect("the old one leaves");
    let plans = (detach + 1..calls.len())
        .flat_map(|call| [0, 1].map(|which| Plan::ActAt(call, Act::MemberDies(which))));
    let kept = plans.filter(|plan| {
        let ended = play(&scene, plan.clone(), SEED).unwrap_or_else(|broken| panic!("{plan:?}: {broken}"));
        let old = ended.world.fleet.instances().get(&scene.first_member());
        old.is_some_and(|old| old.tags.contains_key("aws:autoscaling:groupName"))
    });
    assert!(kept.count() > 0, "it has died while Detaching in none");
}

/// AWS refuses the owner's MaxSize while the old member leaves, and the run asks again.
#[test]
fn a_max_size_may_have_to_cover_the_members_that_leave() {
    let habits = AwsHabits { max_covers_leaving: true, ..AwsHabits::default() };
    holds(&scene(habits), "UpdateAutoScalingGroup");
}

/// The newcomer of a way back counts until it has left. The run asks again, and ends without a person.
#[test]
fn a_way_back_asks_again_where_max_size_has_to_cover_the_newcomer() {
    let scene = scene(AwsHabits { max_covers_leaving: true, ..AwsHabits::default() });
    let calls = play_or_tell(&scene, Plan::none()).world.chronicle.calls;
    let retires = calls.iter().position(|call| call.by.ends_with("RetireOld")).expect("the old one retires");
    let ended = play_or_tell(&scene, Plan::ActAt(retires, Act::OwnerProtects(0)));
    let is_refused = ended.world.chronicle.to_string().contains("must not be less than");
    assert!(is_refused, "AWS refused nothing: {}", ended.world.chronicle);
    let end = &ended.executions["by-hand"];
    assert!(matches!(end, Outcome::Succeeded(_)), "{end}: {}", ended.world.chronicle);
}

#[test]
fn every_page_may_have_one_item() {
    let mut scene = scene(AwsHabits { page_size: Some(1), ..AwsHabits::default() });
    (scene.group.size, scene.group.max) = (2, 2);
    holds(&scene, "DescribeInstances");
}

#[test]
fn descriptions_may_show_the_new_capacity_before_the_member_leaves() {
    let late = AwsHabits { leaving_shows_after: SignedDuration::from_secs(10), ..AwsHabits::default() };
    let scene = scene(late);
    assert_swaps(&play_or_tell(&scene, Plan::none()));
    sampled(&scene, "DetachInstances", FEW, "");
}

/// Somebody fills up the newcomer's tags before its attach, and the owner gives the group one more.
const TAGS_FILL_UP: Happening = |world| {
    let newcomer = world.fleet.instances().values().find(|it| it.is_spot() && it.state.is_alive()).cloned();
    let Some(newcomer) = newcomer else { return };
    for n in newcomer.tags.len()..50 {
        world.fleet.tag_instance(&newcomer.id, &format!("other-{n}"), Some("1"));
    }
    if let Some(group) = world.fleet.group_mut("web") {
        group.tags.insert("late".to_owned(), ("1".to_owned(), true));
    }
};

#[test]
fn an_attach_may_be_refused_for_too_many_tags() {
    let habits = AwsHabits { attach_refuses_too_many_tags: true, ..AwsHabits::default() };
    let happenings = vec![(Duration::from_mins(1), TAGS_FILL_UP)];
    let scene = Scene { happenings, ..scene(habits) };
    sampled(&scene, "AttachInstances", FEW, "The maximum number of Tags");
}

/// A group with the loop's tag, and with so many of its members on Spot.
fn enabled(size: u32, spot: u32) -> GroupSpec {
    let tags = [("spot-optimizer:enabled".to_owned(), "true".to_owned())].into();
    GroupSpec { size, spot, max: size + 1, tags, ..GroupSpec::default() }
}

/// The next sweep shows the watcher what no event has told.
#[test]
fn auto_scaling_may_announce_no_launch_for_an_attached_instance() {
    let scene = |attach_announces_launch| Scene {
        group: enabled(1, 0),
        habits: AwsHabits { attach_announces_launch, ..AwsHabits::default() },
        is_quiet: true,
        watched_from: Some(20),
        ..Scene::default()
    };
    let looks = |announces| {
        let world = play_or_tell(&scene(announces), Plan::none()).world;
        assert!(world.is_settled_on_spot(), "{}", world.chronicle);
        world.chronicle.calls.iter().filter(|call| call.by.starts_with("GroupWatcher")).count()
    };
    let (announced, silent) = (looks(true), looks(false));
    assert!(silent < announced, "the watcher calls {announced} times with the event, {silent} without");
    sampled(&scene(false), "AttachInstances", FEW, "");
}

#[test]
fn auto_scaling_may_refuse_to_terminate_a_member_that_is_interrupted() {
    let scene = Scene {
        group: enabled(2, 2),
        habits: AwsHabits { refuses_to_terminate_interrupted: true, ..AwsHabits::default() },
        is_quiet: true,
        acts: vec![(10, Act::MemberIsInterrupted(0, 1))],
        ..Scene::default()
    };
    sampled(&scene, "TerminateInstanceInAutoScalingGroup", FEW, "is being interrupted");
}

/// With the end that bills have, the newcomer is billed as the old instance is. With another one, it is undone.
#[test]
fn the_operation_of_a_spot_instance_may_have_an_end() {
    for (spot_operation_end, is_swapped) in [(":SV006", true), (":spot", false)] {
        let scene = scene(AwsHabits { spot_operation_end, ..AwsHabits::default() });
        let ended = play_or_tell(&scene, Plan::none());
        let end = &ended.executions["by-hand"];
        let is_refused = end.to_string().contains("NOT_CHEAPER");
        assert_eq!((has_swapped(end), is_refused), (is_swapped, !is_swapped), "{}", ended.world.chronicle);
        assert!(is_as_before(&ended), "{}", ended.world.chronicle);
        sampled(&scene, "RunInstances", FEW / 2, "");
    }
}

/// The swap finds its image by the name alone once it is available.
#[test]
fn a_pending_image_may_not_name_its_source() {
    let scene = with_image(AwsHabits { pending_image_names_source: false, ..AwsHabits::default() });
    let ended = play_or_tell(&scene, Plan::none());
    assert_swaps(&ended);
    assert!(says(&ended, "InvalidAMIName.Duplicate"), "{}", ended.world.chronicle);
    sampled(&scene, "CreateImage", FEW, "");
}

#[test]
fn a_pending_image_may_name_its_snapshots() {
    let scene = with_image(AwsHabits { pending_image_names_snapshots: true, ..AwsHabits::default() });
    assert_swaps(&play_or_tell(&scene, Plan::none()));
    sampled(&scene, "CreateImage", FEW, "");
}

/// A person stops the swap as its image is pending. Its snapshot goes once it is complete, whenever it was deleted.
#[test]
fn a_pending_image_may_be_deregistered_or_not_and_goes_with_its_snapshot() {
    for pending_image_deregisters in [true, false] {
        let images_after = SignedDuration::from_mins(30);
        let habits = AwsHabits { pending_image_deregisters, images_after, ..AwsHabits::default() };
        let scene = with_image(habits);
        let calls = play_or_tell(&scene, Plan::none()).world.chronicle.calls;
        let asks = calls.iter().position(|call| call.action == "CreateImage").expect("it makes an image");
        let ended = play_or_tell(&scene, Plan::At([(asks, Fault::StoppedAfter)].into()));
        let own = ended.world.fleet.own_images();
        assert!(own.images.is_empty() && own.snapshots.is_empty(), "{}", ended.world.chronicle);
        let is_refused = says(&ended, "InvalidAMIID.Unavailable");
        assert_eq!(is_refused, !pending_image_deregisters, "{}", ended.world.chronicle);
    }
}

/// For seconds, it costs no swap. For minutes, the promises hold.
#[test]
fn a_snapshot_may_be_in_use_after_its_image_is_deregistered() {
    for seconds in [10, 300] {
        let snapshot_in_use_after = SignedDuration::from_secs(seconds);
        let scene = with_image(AwsHabits { snapshot_in_use_after, ..AwsHabits::default() });
        let ended = play_or_tell(&scene, Plan::none());
        if seconds == 10 {
            assert_swaps(&ended);
        }
        assert!(says(&ended, "InvalidSnapshot.InUse"), "{}", ended.world.chronicle);
        sampled(&scene, "DeleteSnapshot", FEW / 2, "");
    }
}

/// The newcomer passes its checks two minutes after its launch. The swap asks until the target group knows it.
#[test]
fn target_groups_may_not_know_a_newcomer_yet() {
    let targets_known_after = SignedDuration::from_secs(240);
    let habits = AwsHabits { targets_known_after, ..AwsHabits::default() };
    let scene = Scene { habits, ..Scene::of_instance() };
    let ended = play_or_tell(&scene, Plan::none());
    assert_swaps(&ended);
    assert!(says(&ended, "InvalidTarget"), "{}", ended.world.chronicle);
    sampled(&scene, "DescribeTargetHealth", FEW, "");
}

const TOO_LARGE: &str = "States.DataLimitExceeded";

/// A machine whose payloads are smaller than AWS's, since the group is.
fn limited(payload_bytes: usize, data_limit: DataLimit) -> Scene {
    Scene { payload_bytes: Some(payload_bytes), data_limit, ..scene(AwsHabits::default()) }
}

/// Returns a size that the largest payload of the swap exceeds by 32 bytes at most.
fn too_few_bytes() -> usize {
    let fits = |bytes| {
        let ended = play_or_tell(&limited(bytes, DataLimit::Terminal), Plan::none());
        matches!(ended.executions["by-hand"], Outcome::Succeeded(_))
    };
    let (mut too_few, mut enough) = (1_024, 32_768);
    assert!(!fits(too_few) && fits(enough));
    while enough - too_few > 32 {
        let between = usize::midpoint(too_few, enough);
        if fits(between) {
            enough = between;
        } else {
            too_few = between;
        }
    }
    too_few
}

/// Returns true if the group is as its owner had it.
fn is_as_before(ended: &Ended) -> bool {
    let fleet = &ended.world.fleet;
    let group = fleet.group("web").map(|group| (group.desired, group.max, group.suspended.is_empty()));
    group == Some((1, 1, true)) && fleet.serving("web").len() == 1
}

/// The payload grows with the attach, since the group as its owner had it is in it from there on. If no wildcard catches the
/// error, the reconciler ends the swap; else `Rollback` tries, with a payload that may be too large as well.
#[test]
fn a_payload_may_grow_too_large_in_a_swap_whether_a_wildcard_catches_that_or_not() {
    let too_few = too_few_bytes();
    for data_limit in [DataLimit::Terminal, DataLimit::Caught] {
        let mut attached = 0;
        for bytes in [too_few, too_few - 60, too_few - 120, too_few - 240] {
            let ended = play_or_tell(&limited(bytes, data_limit), Plan::none());
            let (calls, chronicle) = (&ended.world.chronicle.calls, &ended.world.chronicle);
            let end = &ended.executions["by-hand"];
            assert!(!has_swapped(end), "nothing is too large for {bytes} bytes:\n{chronicle}");
            let is_uncaught = matches!(end, Outcome::Failed { error: Some(error), .. } if error == TOO_LARGE);
            assert_eq!(is_uncaught, data_limit == DataLimit::Terminal, "{end}:\n{chronicle}");
            let is_told = !ended.world.mailbox.messages.is_empty();
            assert!(is_as_before(&ended) || is_told, "{bytes} bytes:\n{chronicle}");
            attached += usize::from(calls.iter().any(|call| call.action == "AttachInstances"));
        }
        assert!(attached > 0, "it is too large before the attach each time");
        sampled(&limited(too_few, data_limit), "AttachInstances", FEW, "");
    }
}

fn has_swapped(end: &Outcome) -> bool {
    match end {
        Outcome::Succeeded(output) => output["swapped"].as_array().is_some_and(|all| !all.is_empty()),
        _ => false,
    }
}
