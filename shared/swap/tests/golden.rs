//! The wire of this release: the payload between two steps, and the journal in the Swaps table, a file for each kind of
//! swap and each stage. A change of the wire shows in a diff. The files of an earlier release are never rewritten: they
//! must still be read.
//!
//! `UPDATE_GOLDEN=1 cargo test --workspace --test golden` writes the files of this release.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use spot_domain::swap::eviction::Turns;
use spot_domain::swap::journal::{
    AnswerJournal, Journal, Kept, LeavingNode, Original, Raise, Retirement, Stage, SwapKind, Undo,
};
use spot_domain::swap::selection::Candidate;
use spot_domain::{InstanceId, Reason};
use spot_swap::work::ahead::{Ahead, LaunchedNewcomer};
use spot_swap::work::{Current, Work};

const RELEASE: &str = env!("CARGO_PKG_VERSION");
/// The payloads of an earlier release, from which those of this one are made: all their times and ids are fixed.
const BEFORE: [(&str, &str); 3] = [
    ("group", include_str!("payloads/3fb1158-group-after-launch.json")),
    ("node", include_str!("payloads/3fb1158-node-after-launch.json")),
    ("lab", include_str!("payloads/3fb1158-lab-after-launch.json")),
];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/payloads")
}

/// Compares a value with its file, and reads the file back.
fn is_golden<T: Serialize + DeserializeOwned>(name: &str, value: &T) {
    let path = folder().join(format!("{RELEASE}-{name}.json"));
    let written = serde_json::to_string_pretty(value).unwrap() + "\n";
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &written).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        committed,
        written,
        "{}: write it with UPDATE_GOLDEN=1 if the wire is to change",
        path.display()
    );
    let read: T = serde_json::from_str(&committed).unwrap();
    assert_eq!(
        serde_json::to_string_pretty(&read).unwrap() + "\n",
        committed,
        "{name} is read as it was written"
    );
}

fn works() -> impl Iterator<Item = (&'static str, Work)> {
    BEFORE.into_iter().map(|(kind, payload)| (kind, serde_json::from_str(payload).unwrap()))
}

fn in_stage(kind: &str, current: &Current, stage: Stage) -> Journal {
    let mut journal = current.journal.clone();
    journal.stage = stage;
    if matches!(stage, Stage::Capturing | Stage::Launching) {
        return journal;
    }
    journal.newcomer = Some(current.newcomer.clone());
    journal.changed_at = Some(Timestamp::from_second(1_800_000_000).unwrap());
    if kind != "lab" {
        let members = vec![journal.old.clone()];
        let original = Original {
            desired: 1,
            max: 1,
            az_rebalance_suspended: false,
            serving: 1,
            members,
            not_serving: vec![],
        };
        (journal.original, journal.max_raised_to) = (Some(original), Some(2));
    }
    if stage == Stage::Undoing {
        journal.undo =
            Some(Undo { reason: Reason::GroupChanged, detail: "desired capacity was changed".into() });
        journal.revision = 7;
    }
    if stage == Stage::Undoing && kind == "node" {
        let instance_id = current.newcomer.clone();
        let SwapKind::Node(node) = &mut journal.kind else { panic!("{journal:?}") };
        node.kept =
            Some(Kept { instance_id: instance_id.clone(), why: "default/web-0 can't be evicted".into() });
        node.leaving = Some(LeavingNode {
            instance_id,
            since: Timestamp::from_second(1_800_000_060).unwrap(),
            turns: Turns::default(),
            claims: BTreeSet::from(["default/data-web-0".to_owned()]),
            stuck_visits: 2,
        });
    }
    if stage == Stage::Undoing && kind == "group" {
        journal.turned_back = true;
        journal.retired = true;
        journal.refused_reattaches = 1;
        journal.taking_out.clone_from(&journal.newcomer);
        journal.desired_settled = true;
    }
    journal
}

#[test]
fn the_journal_of_each_kind_and_stage_is_written_as_committed() {
    for (kind, work) in works() {
        let current = work.current.as_ref().unwrap();
        for stage in [Stage::Capturing, Stage::Launching, Stage::Attaching, Stage::Retiring, Stage::Undoing] {
            if stage == Stage::Capturing && kind != "lab" {
                continue;
            }
            let journal = in_stage(kind, current, stage);
            assert_eq!(journal.contradiction(), None, "{kind} {}", stage.name());
            is_golden(&format!("{kind}-journal-{}", stage.name().to_lowercase()), &journal);
        }
    }
}

#[test]
fn the_payload_of_each_kind_is_written_as_committed() {
    for (kind, mut work) in works() {
        is_golden(&format!("{kind}-after-launch"), &work);
        let current = work.current.take().unwrap();
        work.queue.push(current.candidate.clone());
        work.blind = Some("its rule spot-optimizer-notices is disabled: enable it".to_owned());
        is_golden(&format!("{kind}-after-discover"), &work);
        work.queue.clear();
        work.done(current.swapped());
        is_golden(&format!("{kind}-before-report"), &work);
    }
}

/// A run whose next newcomer was launched ahead.
#[test]
fn a_newcomer_ahead_is_written_as_committed() {
    let (_, mut work) = works().next().unwrap();
    let current = work.current.as_mut().unwrap();
    let old: InstanceId = "i-0123456789abcdef9".parse().unwrap();
    let next = Journal::new(&old, Timestamp::UNIX_EPOCH, Retirement::Detach, SwapKind::Group);
    current.journal.ahead = vec![Journal { launching_since: Timestamp::UNIX_EPOCH, is_ahead: true, ..next }];
    is_golden("group-journal-ahead", &in_stage("group", current, Stage::Attaching));
    let newcomer = LaunchedNewcomer {
        id: "i-0123456789abcdefa".parse().unwrap(),
        pool: current.pool.clone(),
        came_from: None,
        remark: None,
    };
    work.queue = vec![Candidate { instance_id: old.clone(), ..current.candidate.clone() }];
    work.ahead = vec![Ahead { old, newcomer: Some(newcomer) }];
    is_golden("group-after-launchahead", &work);
}

/// An answer to an interruption: its journal lies under the lease of a group, too.
#[test]
fn the_journal_of_an_answer_is_written_as_committed() {
    let (_, work) = works().next().unwrap();
    let current = work.current.unwrap();
    for stage in [Stage::Launching, Stage::Attaching, Stage::Retiring, Stage::Undoing] {
        let raise = match stage {
            Stage::Launching => Raise::NotAsked,
            Stage::Attaching => Raise::Asked,
            _ => Raise::Made,
        };
        let ends_at = Timestamp::from_second(1_800_000_120).unwrap();
        let journal = Journal {
            newcomer: None,
            retirement: Retirement::TerminateInGroup,
            kind: SwapKind::Answer(AnswerJournal { raise, ..AnswerJournal::new(ends_at) }),
            ..in_stage("answer", &current, stage)
        };
        assert_eq!(journal.contradiction(), None, "{}", stage.name());
        is_golden(&format!("answer-journal-{}", stage.name().to_lowercase()), &journal);
    }
}

/// A file that no test compares any more would pass for the wire of this release.
#[test]
fn every_file_of_this_release_is_compared() {
    let names = fs::read_dir(folder()).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let ours = names.filter(|name| name.starts_with(RELEASE)).count();
    assert_eq!(ours, 18 + 10, "18 journals and 10 payloads");
}
