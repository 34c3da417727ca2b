//! What a person must be told outlives the Lambda that has seen it: each dies around the last write of a way back, and around
//! the message.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;
use serde_json::json;
use spot_domain::events::OwnEvent;
use spot_world::campaign::{all, all_that};
use spot_world::chronicle::SentCall;
use spot_world::fault::{Fault, Plan, Strike};
use spot_world::fleet::{AwsHabits, GroupSpec};
use spot_world::history::{Ended, play};
use spot_world::replay::{Replay, parse};
use spot_world::scene::Scene;

use crate::holds::{holds, play_or_tell, scene, stopped_after};

/// A policy takes our MaxSize for its own, in the second of the attach. The swap is undone, and nothing tells whose desired is.
const IN_DOUBT: &str = "group 73 max=1 zones=1 has_target_group=1 45~PolicyScales(2)";
/// What a person is told of the doubt.
const DOUBT: &str = "if neither you nor a scaling policy has raised it, lower it by one";
/// So many calls before the message, and after it, a Lambda may die.
const AROUND: usize = 12;
const DEATHS: [Fault; 2] = [Fault::DiesBefore, Fault::DiesAfter];

/// A history with strikes.
struct History {
    scene: Scene,
    strikes: BTreeMap<usize, Strike>,
    seed: u64,
}

impl History {
    fn of(words: &str) -> Self {
        let read = parse(words.split(' ').map(str::to_owned));
        let Replay { scene, plan, seed } = read.unwrap_or_else(|unknown| panic!("{unknown}"));
        let Plan::Random(strikes) = plan else { panic!("{plan:?}") };
        Self { scene, strikes, seed }
    }

    /// Returns the history of the doubt. It is what its words say: the act is in the second of the attach, and the doubt is told.
    fn in_doubt() -> Self {
        let history = Self::of(IN_DOUBT);
        let world = history.played().world;
        let calls = &world.chronicle.calls;
        for act in history.strikes.keys() {
            let is_near = |call: &SentCall| {
                call.at.duration_since(calls[*act].at).abs() <= SignedDuration::from_secs(1)
            };
            let is_beside = calls.iter().any(|call| call.action == "AttachInstances" && is_near(call));
            assert!(is_beside, "{act} is beside no attach:\n{}", world.chronicle);
        }
        let is_told = world.mailbox.messages.iter().any(|told| told.message.contains(DOUBT));
        assert!(is_told, "nobody is told of the doubt: {:?}", world.mailbox.messages);
        history
    }

    fn played(&self) -> Ended {
        let played = play(&self.scene, Plan::Random(self.strikes.clone()), self.seed);
        played.unwrap_or_else(|broken| panic!("{broken}"))
    }

    fn calls(&self) -> Vec<SentCall> {
        self.played().world.chronicle.calls
    }

    fn with(&self, call: usize, fault: Fault) -> Self {
        let strikes = self.strikes.clone().into_iter().chain([(call, Strike::Fault(fault))]).collect();
        Self { scene: self.scene.clone(), strikes, seed: self.seed }
    }

    /// Plays each of the faults at the calls that are meant around the message. The oracles ask if a person was told.
    fn tells_under(&self, faults: &[Fault], message: &str, is_meant: impl Fn(&SentCall) -> bool) {
        let calls = self.calls();
        let plans: Vec<(Plan, u64)> = around(&calls, message, is_meant)
            .flat_map(|(number, call)| faults.iter().map(move |fault| (number, call, *fault)))
            .filter(|(_, call, fault)| fault.concerns(call.is_read))
            .map(|(number, _, fault)| (Plan::Random(self.with(number, fault).strikes), self.seed))
            .collect();
        holds(Ok(all(&self.scene, &plans)));
    }
}

/// Returns the number of the first call that is meant and sends the message.
fn first_told(calls: &[SentCall], message: &str, is_meant: impl Fn(&SentCall) -> bool) -> usize {
    let told = calls.iter().position(|call| is_meant(call) && call.action == message);
    told.unwrap_or_else(|| panic!("no {message} in {calls:?}"))
}

/// Returns the calls that are meant around the first of them that sends the message.
fn around<'a>(
    calls: &'a [SentCall],
    message: &str,
    is_meant: impl Fn(&SentCall) -> bool,
) -> impl Iterator<Item = (usize, &'a SentCall)> {
    let told = first_told(calls, message, &is_meant);
    let near = calls.iter().enumerate().skip(told.saturating_sub(AROUND)).take(2 * AROUND);
    near.filter(move |(_, call)| is_meant(call))
}

/// Returns true for the calls by which an execution ends its way back.
fn is_of_end(call: &SentCall) -> bool {
    call.by.ends_with(" Rollback") || call.by.ends_with(" Report")
}

fn is_of_reconciler(call: &SentCall) -> bool {
    call.by.starts_with("Reconciler")
}

#[test]
fn the_doubt_is_told_if_the_lambda_dies_right_before_the_event_of_the_way_back() {
    let in_doubt = History::in_doubt();
    let event = first_told(&in_doubt.calls(), "PutEvents", is_of_end);
    in_doubt.with(event, Fault::DiesBefore).calls();
}

#[test]
fn the_doubt_is_told_whenever_the_end_of_a_way_back_dies_or_its_execution_is_stopped() {
    let faults =
        [Fault::DiesBefore, Fault::DiesAfter, Fault::AnswerLost, Fault::StoppedBefore, Fault::StoppedAfter];
    History::in_doubt().tells_under(&faults, "PutEvents", is_of_end);
}

/// The execution is stopped as it begins to go back.
#[test]
fn the_doubt_is_told_whenever_the_reconciler_dies_at_the_end_of_a_way_back() {
    let in_doubt = History::in_doubt();
    let first = in_doubt.calls().iter().position(|call| call.by.ends_with(" Rollback"));
    let first = first.unwrap_or_else(|| panic!("the swap is not undone"));
    let stopped = in_doubt.with(first, Fault::StoppedBefore);
    stopped.tells_under(&DEATHS, "Publish", is_of_reconciler);
}

/// Returns true if bus and people know that a swap was undone without its execution.
fn is_told(ended: &Ended) -> bool {
    let mailbox = &ended.world.mailbox;
    let rolled_back = OwnEvent::SwapRolledBack.declared().detail_type;
    let subject = |subject: &String| {
        subject.starts_with("A swap of") && subject.ends_with("was undone by the reconciler")
    };
    mailbox.events.iter().any(|event| event["detail-type"] == rolled_back)
        && mailbox.messages.iter().any(|message| message.subject.as_ref().is_some_and(subject))
}

/// The reconciler undoes the swap that is stopped after this call, and dies.
fn an_undone_swap_is_told_of(name: &str, action: &str) {
    let scene = scene(name);
    let stopped = stopped_after(&scene, action);
    let calm = play_or_tell(&scene, Plan::At(stopped.clone()));
    assert!(is_told(&calm), "{}", calm.world.chronicle);
    let with = |number: usize, fault: Fault| -> BTreeMap<usize, Fault> {
        stopped.clone().into_iter().chain([(number, fault)]).collect()
    };
    let plans: Vec<(Plan, u64)> = around(&calm.world.chronicle.calls, "Publish", is_of_reconciler)
        .flat_map(|(number, call)| DEATHS.map(|fault| (number, call, fault)))
        .filter(|(_, call, fault)| fault.concerns(call.is_read))
        .map(|(number, _, fault)| (Plan::At(with(number, fault)), 1))
        .collect();
    let demand = |ended: &Ended| is_told(ended).then_some(()).ok_or_else(|| "nobody is told".to_owned());
    holds(Ok(all_that(&scene, &plans, demand)));
}

#[test]
fn a_group_s_swap_that_the_reconciler_has_undone_is_told_of_whenever_it_dies() {
    an_undone_swap_is_told_of("full-group", "AttachInstances");
}

#[test]
fn a_node_s_swap_that_the_reconciler_has_undone_is_told_of_whenever_it_dies() {
    an_undone_swap_is_told_of("node", "EvictPods");
}

#[test]
fn an_instance_s_swap_that_the_reconciler_has_undone_is_told_of_whenever_it_dies() {
    an_undone_swap_is_told_of("lab", "AssociateAddress");
}

/// A run that has told of its first swap dies in the second. The reconciler tells of the second alone.
#[test]
fn what_a_run_has_told_is_not_told_again_by_the_reconciler() {
    let habits = AwsHabits { passes_checks_after: SignedDuration::from_hours(9), ..AwsHabits::default() };
    let group = GroupSpec { size: 3, max: 4, ..GroupSpec::default() };
    let settings = [("health_timeout_seconds".to_owned(), json!(60))].into();
    let scene = Scene { group, habits, settings, ..Scene::default() };
    let ended = play_or_tell(&scene, Plan::At(stopped_after(&scene, "RunInstances")));
    let rolled_back = OwnEvent::SwapRolledBack.declared().detail_type;
    let mailbox = &ended.world.mailbox;
    let told = mailbox.events.iter().filter(|event| event["detail-type"] == rolled_back);
    let told: Vec<&str> = told.filter_map(|event| event["detail"]["old_instance_id"].as_str()).collect();
    let once: BTreeSet<&str> = told.iter().copied().collect();
    assert!(told.len() > 1 && told.len() == once.len(), "{told:?}");
    let alerts = mailbox.messages.iter().filter(|message| {
        message.subject.as_ref().is_some_and(|subject| subject.ends_with("was undone by the reconciler"))
    });
    assert_eq!(alerts.count(), 1);
}
