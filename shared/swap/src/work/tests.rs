//! Payloads of older releases, and what ends a run.

use std::num::NonZeroU32;

use jiff::SignedDuration;
use spot_domain::clock;
use spot_domain::swap::group::{MOST_MEMBERS, MOST_MEMBERS_IN_A_RUN};
use spot_domain::swap::report::EndedBy;

use super::*;
use crate::phases::gate::Refusal;

/// What executions of release 3fb1158 handed from one step to the next. An upgrade in the middle of one must not
/// end it: these stay as they are, and each release adds its own.
const PAYLOADS: [(&str, &str); 6] = [
    ("group, after Discover", include_str!("../../tests/payloads/3fb1158-group-after-discover.json")),
    ("group, after Launch", include_str!("../../tests/payloads/3fb1158-group-after-launch.json")),
    ("group, after Attach", include_str!("../../tests/payloads/3fb1158-group-after-attach.json")),
    ("group, after RetireOld", include_str!("../../tests/payloads/3fb1158-group-after-retireold.json")),
    ("node, after Launch", include_str!("../../tests/payloads/3fb1158-node-after-launch.json")),
    ("lab, after Launch", include_str!("../../tests/payloads/3fb1158-lab-after-launch.json")),
];

fn work() -> Work {
    serde_json::from_str(PAYLOADS[0].1).unwrap()
}

fn id(n: u32) -> InstanceId {
    format!("i-{n:017x}").parse().unwrap()
}

fn undo(reason: Reason) -> Undo {
    Undo { reason, detail: "its words".into() }
}

#[test]
fn a_payload_of_an_older_release_is_read() {
    for (name, payload) in PAYLOADS {
        let work: Work = serde_json::from_str(payload).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(work.settings.min_saving_percent, 20, "{name}: a setting of this release has its default");
        let again = serde_json::to_value(&work).unwrap();
        assert_eq!(serde_json::from_value::<Work>(again).unwrap().steps, work.steps, "{name}");
    }
}

#[test]
fn what_is_handed_on_names_nothing_to_launch_from_and_no_way_into_an_account() {
    for (name, payload) in PAYLOADS {
        let sent = serde_json::to_value(serde_json::from_str::<Work>(payload).unwrap()).unwrap();
        assert!(sent.get("blueprint").is_none() && sent.get("access").is_none(), "{name}: {sent}");
        assert!(!sent.to_string().contains("external_id"), "{name}: {sent}");
    }
}

#[test]
fn several_failures_in_a_row_end_a_run_with_the_last_ones_words() {
    let mut run = work();
    run.put_back(&id(1), &undo(Reason::NewcomerUnhealthy));
    run.put_back(&id(2), &undo(Reason::NewcomerNotServing));
    assert_eq!(run.ending(), None);
    run.skip(&id(3), Reason::LaunchRejected, "a bad parameter");
    let ended = run.ending().unwrap();
    assert_eq!(ended.reason, Reason::LaunchRejected);
    assert!(ended.detail.starts_with("3 swaps in a row failed") && ended.detail.ends_with("a bad parameter"));
    assert_eq!(run.next_candidate(), Next::Report);
}

fn done() -> Swapped {
    Swapped {
        old_instance_id: id(8),
        new_instance_id: id(9),
        pool: "us-east-1#use1-az6#m5.large".parse().unwrap(),
        from: Market::OnDemand,
        to: Market::Spot,
        monthly_saving_usd: None,
    }
}

#[test]
fn a_success_begins_the_count_anew_and_a_skip_is_no_failure() {
    let mut run = work();
    let done = done();
    for n in 0..3 {
        run.put_back(&id(n), &undo(Reason::NewcomerUnhealthy));
        run.skip(&id(n), Reason::NoCapacity, "none");
        run.skip(&id(n), Reason::SubnetFull, "none");
        run.done(done.clone());
    }
    assert_eq!(run.ending(), None);
}

#[test]
fn a_denial_that_leaves_others_their_turn_keeps_its_name_and_counts_as_a_failure() {
    let mut run = work();
    let refusal = Refusal { others_may_launch: true, ..Refusal::new(Reason::NotAuthorized, "its words") };
    for n in 1..run.settings.max_failures_in_a_row {
        run.skip_refused(&id(n), refusal.clone());
        assert_eq!((run.ending(), run.skipped.last().unwrap().reason), (None, Reason::NotAuthorized));
    }
    run.skip_refused(&id(9), refusal.clone());
    assert_eq!(run.ending().unwrap().reason, Reason::NotAuthorized, "several in a row");
    let mut run = work();
    run.skip_refused(&id(1), Refusal { others_may_launch: false, ..refusal });
    assert_eq!(run.ending().unwrap().reason, Reason::NotAuthorized);
}

#[test]
fn what_concerns_the_account_ends_a_run_at_once() {
    for reason in [Reason::QuotaExceeded, Reason::NotAuthorized, Reason::GateUnreachable] {
        let mut run = work();
        run.skip(&id(1), reason, "its words");
        assert_eq!(run.ending(), Some(EndedBy { reason, detail: "its words".into() }));
    }
}

#[test]
fn a_run_says_how_many_more_it_takes() {
    let mut run = work();
    let one = run.queue[0].clone();
    run.queue = vec![one; 3];
    run.deferred = 171;
    run.rolled_back = (0..26).map(|n| NotSwapped::new(&id(n), Reason::NewcomerUnhealthy, "x")).collect();
    assert_eq!(run.executions_needed(), Some(7));
    run.queue.clear();
    run.deferred = 0;
    assert_eq!(run.executions_needed(), None);
    run.dry_run = true;
    run.deferred = 200;
    assert_eq!(run.executions_needed(), Some(4), "65 a run at most");
    run.deferred = 20;
    assert_eq!(run.executions_needed(), None, "one does");
}

/// A run that has swapped one of three.
fn cut() -> Work {
    let mut run = work();
    let one = run.queue[0].clone();
    run.queue = vec![one; 2];
    run.done(done());
    run.steps = run.settings.steps_per_execution;
    run.lease.since = clock::now(); // a run that is as old as its payload has no room, either
    run
}

#[test]
fn a_run_without_room_goes_on_in_another_execution() {
    let run = cut();
    assert_eq!(run.next_candidate(), Next::Report);
    let next = run.continuation().unwrap();
    assert_eq!(Some(&next.input.asg_name), run.group().ok().map(|(_, name)| name));
    assert_eq!(next.input.max_swaps.map(NonZeroU32::get), Some(run.max_swaps - 1));
    assert!(next.name.ends_with("-part2"), "{}", next.name);
    let mut deferred = Work { steps: 0, queue: Vec::new(), ..cut() };
    assert_eq!(deferred.continuation(), None, "nothing is left");
    (deferred.deferred, deferred.to) = (1, Market::OnDemand);
    let next = deferred.continuation().expect("the payload had no room");
    assert_eq!(next.input.to, Market::OnDemand, "a way back goes on as one");
}

#[test]
fn a_run_that_ends_for_another_reason_is_not_gone_on_with() {
    let mut has_room = cut();
    has_room.steps = 1;
    assert_eq!(has_room.continuation(), None);
    let mut at_its_limit = cut();
    at_its_limit.max_swaps = 1;
    assert_eq!(at_its_limit.continuation(), None);
    let mut ended = cut();
    ended.end(Reason::QuotaExceeded, "its words".into());
    assert_eq!(ended.continuation(), None);
    let mut idle = cut();
    idle.swapped.clear();
    assert_eq!(idle.continuation(), None, "it would go on for ever");
}

#[test]
fn a_continuation_names_only_the_members_that_are_left() {
    let mut run = cut();
    let (done, left) = (run.swapped[0].old_instance_id.clone(), id(77));
    run.replace = Some(vec![done, left.clone()].try_into().unwrap());
    assert_eq!(run.continuation().unwrap().input.replace.unwrap().ids(), [left]);
}

#[test]
fn a_pause_ends_when_something_is_expected_and_before_a_deadline() {
    let mut run: Work = serde_json::from_str(PAYLOADS[1].1).unwrap();
    let from_now = |seconds| clock::now() + SignedDuration::from_secs(seconds);
    run.waiting_since = Some(from_now(-1_200));
    run.current.as_mut().unwrap().deadline = from_now(10_000);
    run.look_at = Some(from_now(30));
    run.pace();
    assert!((29..=31).contains(&run.pause_seconds), "{}", run.pause_seconds);
    run.pace();
    assert_eq!(run.pause_seconds, 600, "once");
    run.current.as_mut().unwrap().deadline = from_now(100);
    run.pace();
    assert!((48..=50).contains(&run.pause_seconds), "{}", run.pause_seconds);
}

#[test]
fn a_group_of_thousands_fits_the_payload() {
    let mut run = work();
    run.queue.clear();
    let mut one = serde_json::from_str::<Work>(PAYLOADS[0].1).unwrap().queue.remove(0);
    one.tags = (0..40).map(|n| (format!("some-tag-{n}"), "its value".repeat(4))).collect();
    let detail =
        "tag kubernetes.io/cluster/shop: a Kubernetes node, whose pods must move first; use the node swap";
    let left = |n| NotSwapped::new(&id(n), Reason::KubernetesNode, detail);
    run.leave_alone((0..3_000).map(left).collect());
    run.enqueue(vec![one; 2_000]);
    assert_eq!(run.skipped.len() + run.skipped_more[&Reason::KubernetesNode], 3_000);
    assert_eq!(run.queue.len() + run.deferred, 2_000);
    assert!(serde_json::to_vec(&run).unwrap().len() < 200_000, "256 KiB, and results to come");
}

#[test]
fn the_largest_group_fits_the_payload_while_it_grows_and_its_journal_names_each_member() {
    let mut run = group_at_launch();
    run.queue.clear();
    let mut one = serde_json::from_str::<Work>(PAYLOADS[0].1).unwrap().queue.remove(0);
    one.tags = (0..40).map(|n| (format!("some-tag-{n}"), "its value".repeat(4))).collect();
    let before = serde_json::to_vec(&one).unwrap().len();
    run.group_size = MOST_MEMBERS;
    run.leave_alone(
        (0..3_000).map(|n| NotSwapped::new(&id(n), Reason::KubernetesNode, "its pods")).collect(),
    );
    run.enqueue(vec![one.clone(); 2_000]);
    assert_eq!(run.queue.len(), 30_000 / before, "the queue makes room for the members");
    let members = (0..u32::try_from(MOST_MEMBERS_IN_A_RUN).unwrap()).map(id).collect();
    let original = Original {
        desired: 1,
        max: 1,
        az_rebalance_suspended: false,
        serving: 1,
        members,
        not_serving: vec![],
    };
    run.current.as_mut().unwrap().journal.original = Some(original);
    assert!(serde_json::to_vec(&run).unwrap().len() < 200_000, "256 KiB, and results to come");
    let mut small = Work { group_size: 10, queue: Vec::new(), ..group_at_launch() };
    small.enqueue(vec![one; 2_000]);
    assert_eq!(small.queue.len(), (100_000 - 10 * 22) / before);
}

#[test]
fn a_hook_of_two_days_is_waited_for_at_a_pace_that_fits_one_execution() {
    let mut run = work();
    let hook = |seconds, transition| Hook { name: "h".into(), transition, global_timeout_seconds: seconds };
    run.note_hooks(&[hook(172_800, Transition::Terminating), hook(900, Transition::Launching)]);
    assert_eq!((run.retirement, run.retire_seconds()), (Retirement::TerminateInGroup, 172_800 + 3_900));
    let mut journal = group_at_launch().current.unwrap().journal;
    run.note_retirement(&mut journal);
    assert_eq!((journal.retirement, journal.hook_seconds), (Retirement::TerminateInGroup, 172_800));
    run.waiting_since = Some(clock::now() - SignedDuration::from_secs(40));
    run.pace();
    assert_eq!(run.pause_seconds, 20);
    run.waiting_since = Some(clock::now() - SignedDuration::from_hours(24));
    run.pace();
    assert_eq!(run.pause_seconds, 720);
    run.note_hooks(&[]);
    assert_eq!((run.retirement, run.retire_seconds()), (Retirement::Detach, 3_900));
}

fn group_at_launch() -> Work {
    serde_json::from_str(PAYLOADS[1].1).unwrap()
}

#[test]
fn a_newcomer_on_demand_is_reported_in_its_market_and_its_pool_is_not_kept() {
    let mut work = group_at_launch();
    let mut current = work.current.take().unwrap();
    work.complete(&current);
    assert_eq!(work.newcomers().len(), 1, "a Spot newcomer may be interrupted");
    assert_eq!((work.swapped[0].from, work.swapped[0].to), (Market::OnDemand, Market::Spot));
    (current.candidate.from, current.candidate.to) = (Market::Spot, Market::OnDemand);
    current.newcomer = id(7);
    current.remarks = vec!["its template asks for more".into()];
    work.complete(&current);
    assert!(!work.newcomers().contains_key(&id(7)), "no interruption of it poisons a pool");
    assert_eq!((work.swapped[1].from, work.swapped[1].to), (Market::Spot, Market::OnDemand));
    assert_eq!(
        work.remarks,
        [format!("swap of {}: its template asks for more", current.candidate.instance_id)]
    );
}
