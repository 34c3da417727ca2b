//! The span of every log line. One test in a process of its own: `tracing` shares what it knows of a line's subscribers
//! between threads, and a thread without a subscriber could switch a line off for the others.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;
use std::task::{Context as Wake, Poll, Waker};

use serde_json::{Value, json};
use spot_cloud::tables::swaps::Held;
use spot_domain::swap::journal::SwapId;
use spot_swap::error::StepError;
use spot_swap::machine::{Phases, on_current, step};
use spot_swap::spans;
use spot_swap::work::{Current, Next, Work};
use tracing::Instrument;
use tracing_subscriber::filter::LevelFilter;

const IN_PROGRESS: &str = include_str!("payloads/3fb1158-group-after-launch.json");
const QUEUED: &str = include_str!("payloads/3fb1158-group-after-discover.json");

fn fails() -> Result<Next, StepError> {
    tracing::info!("decides");
    Err(StepError::Stuck("its words".into()))
}

fn payload(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// Returns the log lines of one step that fails.
fn step_logged(level: LevelFilter, phase: &str, work: &str) -> Vec<Value> {
    let table: Phases<Work, String, ()> = Phases::new([
        ("Launch", step(async |(): &(), _: &mut Work| fails())),
        ("Attach", on_current(async |(): &(), _: &mut Work, _: &mut Current| fails())),
    ]);
    let event = json!({ "phase": phase, "work": payload(work) });
    logged(level, async { assert!(table.run(&(), event).await.is_err()) })
}

/// Returns the log lines of a future that waits for nothing.
fn logged(level: LevelFilter, future: impl Future<Output = ()>) -> Vec<Value> {
    let (lines, writer) = std::io::pipe().unwrap();
    let log = tracing_subscriber::fmt().json().with_max_level(level).with_writer(Arc::new(writer));
    tracing::subscriber::with_default(log.finish(), || {
        let mut future = std::pin::pin!(future);
        let polled = future.as_mut().poll(&mut Wake::from_waker(Waker::noop()));
        assert!(matches!(polled, Poll::Ready(())), "nothing here waits");
    });
    serde_json::Deserializer::from_reader(lines).into_iter().map(Result::unwrap).collect()
}

#[test]
fn every_log_line_of_a_step_stands_in_a_span_with_execution_and_swap_whatever_the_level() {
    let execution = &payload(IN_PROGRESS)["lease"]["owner"];
    let swap = &payload(IN_PROGRESS)["current"]["journal"]["swap_id"];
    let next_swap = serde_json::from_str::<Work>(QUEUED).unwrap().swap_id().unwrap();
    for (phase, work, swap) in [("Attach", IN_PROGRESS, swap), ("Launch", QUEUED, &json!(next_swap.as_str()))]
    {
        // The phase's own line, and the runner's of its failure.
        for (level, count) in [(LevelFilter::INFO, 2), (LevelFilter::WARN, 1)] {
            let lines = step_logged(level, phase, work);
            assert_eq!(lines.len(), count, "{lines:?}");
            for line in &lines {
                let span = &line["span"];
                assert_eq!((&span["phase"], &span["execution"]), (&json!(phase), execution), "{line}");
                assert_eq!(&span["swap"], swap, "{line}");
            }
            let fields = &lines.last().unwrap()["fields"];
            assert_eq!((&fields["error"], &fields["message"]), (&json!("Stuck"), &json!("its words")));
        }
    }
    of_a_visit();
}

/// A visit begins with the journal of its look, and goes on with the one that is stored by then.
fn of_a_visit() {
    let work: Work = serde_json::from_str(IN_PROGRESS).unwrap();
    let (lease, current) = (work.lease, work.current.unwrap());
    let (execution, on) = (lease.owner.execution().to_string(), lease.on.to_string());
    let swap = current.journal.swap_id.clone();
    let other: SwapId = "i-0123456789abcdef0-1".parse().unwrap();
    let held = Held { lease, journal: Some(current.journal), closed: None, outcome: None };
    let visit = async {
        tracing::warn!("waiting");
        spans::note_swap(&other);
        tracing::warn!("not reconciled");
    };
    let lines = logged(LevelFilter::WARN, async { visit.instrument(spans::visit(&held)).await });
    for (line, swap) in lines.iter().zip([&swap, &other]) {
        let span = &line["span"];
        assert_eq!((&span["execution"], &span["on"]), (&json!(execution), &json!(on)), "{line}");
        assert_eq!(span["swap"], json!(swap.as_str()), "{line}");
    }
    assert_eq!(lines.len(), 2);
}
