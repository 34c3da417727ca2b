//! The span of every log line. One test in a process of its own: `tracing` shares what it knows of a line's subscribers
//! between threads, and a thread without a subscriber could switch a line off for the others.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;
use std::task::{Context as Wake, Poll, Waker};

use serde_json::{Value, json};
use spot_swap::error::StepError;
use spot_swap::machine::{Phases, on_current, step};
use spot_swap::work::{Current, Next, Work};
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
fn logged(level: LevelFilter, phase: &str, work: &str) -> Vec<Value> {
    let table: Phases<Work, String, ()> = Phases::new([
        ("Launch", step(async |(): &(), _: &mut Work| fails())),
        ("Attach", on_current(async |(): &(), _: &mut Work, _: &mut Current| fails())),
    ]);
    let (lines, writer) = std::io::pipe().unwrap();
    let log = tracing_subscriber::fmt().json().with_max_level(level).with_writer(Arc::new(writer));
    tracing::subscriber::with_default(log.finish(), || {
        let event = json!({ "phase": phase, "work": payload(work) });
        let mut step = std::pin::pin!(table.run(&(), event));
        match step.as_mut().poll(&mut Wake::from_waker(Waker::noop())) {
            Poll::Ready(answer) => assert!(answer.is_err()),
            Poll::Pending => panic!("no phase here waits"),
        }
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
            let lines = logged(level, phase, work);
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
}
