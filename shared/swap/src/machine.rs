//! The runner of the three swap state machines. Step Functions invokes an optimizer once for each Task state. The
//! runner finds the state's phase in the optimizer's table, runs one step of it, and answers with the next state and
//! its input, or with the report.
//!
//! The names of the phases, the answers and the errors are a contract with each `swap.asl.yaml`.

use std::pin::Pin;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use spot_domain::ExecutionArn;
use spot_domain::swap::ended::EndedSwap;
use spot_domain::swap::journal::Original;
use spot_domain::words::Cause;
use tracing::{Instrument, Span};

use crate::ended::Before;
use crate::error::StepError;
use crate::spans::{self, note_execution, note_swap};
use crate::work::{Current, Next, Work};
use crate::{Context, StepFailure};

/// The phases of an optimizer by their states' names. `W` travels between steps, `R` is the answer that is no step.
pub struct Phases<W, R, C = Context>(Vec<(&'static str, Phase<W, R, C>)>);

/// One step of a phase: reads the event and acts.
pub type Phase<W, R, C = Context> = Box<dyn for<'a> Fn(&'a C, Value) -> Answering<'a, W, R>>;

type Answering<'a, W, R> = Pin<Box<dyn Future<Output = Result<StepAnswer<W, R>, StepError>> + 'a>>;

/// The answer to the state machine.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum StepAnswer<W, R> {
    /// The decision that the state's Choice reads, and the input of the next state.
    Step {
        /// The decision.
        next: Next,
        /// The input of the next state.
        work: Box<W>,
        /// The swaps that the step has ended; none of a first step.
        #[serde(skip)]
        ended: Vec<EndedSwap>,
    },
    /// The execution's output, or another answer that is no step.
    Other(Box<R>),
}

/// The event of a first phase.
#[derive(Debug, Deserialize)]
pub struct Start {
    /// The execution.
    pub execution: ExecutionArn,
    /// Its input, as a person typed it.
    pub input: Value,
    /// Repetitions of this step by the state machine so far.
    #[serde(default)]
    pub tries: u32,
}

/// The event of every later phase.
#[derive(Debug, Deserialize)]
struct StepEvent<W> {
    work: W,
    error: Option<StepFailure>,
}

/// The payload that one step hands to the next.
pub trait Payload: DeserializeOwned + 'static {
    /// Returns the run that the payload holds; `None` if the request was refused.
    fn run(&mut self) -> Option<&mut Work>;
}

impl Payload for Work {
    fn run(&mut self) -> Option<&mut Work> {
        Some(self)
    }
}

impl<W, R> From<(Next, W)> for StepAnswer<W, R> {
    fn from((next, work): (Next, W)) -> Self {
        Self::Step { next, work: Box::new(work), ended: Vec::new() }
    }
}

impl<W, R, C> Phases<W, R, C> {
    /// Lists the phases.
    #[must_use]
    pub fn new(phases: impl Into<Vec<(&'static str, Phase<W, R, C>)>>) -> Self {
        Self(phases.into())
    }

    /// Returns the names, in the order of the list.
    #[must_use]
    pub fn names(&self) -> Vec<&'static str> {
        self.0.iter().map(|(name, _)| *name).collect()
    }

    /// Runs one step. Its log lines stand in one span, at every level of the log.
    ///
    /// # Errors
    /// The step failed. Retry and Catch of the state machine match on the error's name.
    pub async fn run(&self, context: &C, event: Value) -> Result<StepAnswer<W, R>, StepError> {
        let step = async {
            let answer = self.step(context, event).await;
            if let Err(error) = &answer {
                tracing::warn!(error = error.name(), "{error}");
            }
            answer
        };
        step.instrument(spans::step()).await
    }

    async fn step(&self, context: &C, event: Value) -> Result<StepAnswer<W, R>, StepError> {
        let name = event.get("phase").and_then(Value::as_str).unwrap_or_default();
        Span::current().record("phase", name);
        let Some((_, phase)) = self.0.iter().find(|(known, _)| *known == name) else {
            return Err(StepError::Protocol(format!("phase: {name:?} is unknown").into()));
        };
        phase(context, event).await
    }
}

/// A phase that reads its own kind of event and answers in its own way.
pub fn phase<E: DeserializeOwned, W, R, C, A: Into<StepAnswer<W, R>>>(
    run: impl AsyncFn(&C, E) -> Result<A, StepError> + Copy + 'static,
) -> Phase<W, R, C> {
    Box::new(move |context, event| {
        Box::pin(async move {
            let event = spot_cloud::input::parse(None, event);
            let event = event.map_err(|bad| StepError::Protocol(Cause::of(bad)))?;
            run(context, event).await.map(Into::into)
        })
    })
}

/// The first phase of a run.
pub fn start<W, R, C, A: Into<StepAnswer<W, R>>>(
    run: impl AsyncFn(&C, Start) -> Result<A, StepError> + Copy + 'static,
) -> Phase<W, R, C> {
    phase(async move |context: &C, start: Start| {
        note_execution(&start.execution);
        run(context, start).await
    })
}

/// A phase of the swap in progress, or of the next candidate's.
pub fn step<W: Payload, R, C>(
    run: impl AsyncFn(&C, &mut W) -> Result<Next, StepError> + Copy + 'static,
) -> Phase<W, R, C> {
    rollback(async move |context: &C, work: &mut W, _: Option<&StepFailure>| run(context, work).await)
}

/// A step that sets its own pause.
pub fn self_paced<W: Payload, R, C>(
    run: impl AsyncFn(&C, &mut W) -> Result<Next, StepError> + Copy + 'static,
) -> Phase<W, R, C> {
    phase(async move |context: &C, StepEvent { mut work, .. }: StepEvent<W>| {
        let before = enter(&mut work);
        let next = run(context, &mut work).await?;
        Ok(before.answer(next, work))
    })
}

/// A step that needs a swap in progress, and leaves it in progress unless it decides for the next candidate or the end.
pub fn on_current<R, C>(
    run: impl AsyncFn(&C, &mut Work, &mut Current) -> Result<Next, StepError> + Copy + 'static,
) -> Phase<Work, R, C> {
    step(async move |context: &C, work: &mut Work| {
        let none = || StepError::Protocol("work.current: no swap in progress".into());
        let mut current = work.current.take().ok_or_else(none)?;
        let next = run(context, work, &mut current).await?;
        let is_over = matches!(next, Next::NextCandidate | Next::Report);
        work.current = (!is_over).then_some(current);
        Ok(next)
    })
}

/// A step of a newcomer that may be in the group. It gets the group as its owner had it before.
pub fn on_attached<R, C>(
    run: impl AsyncFn(&C, &mut Work, &mut Current, &Original) -> Result<Next, StepError> + Copy + 'static,
) -> Phase<Work, R, C> {
    on_current(async move |context: &C, work: &mut Work, current: &mut Current| {
        let original = current.original()?;
        run(context, work, current, &original).await
    })
}

/// A step that is told of the failure that led to it.
pub fn rollback<W: Payload, R, C>(
    run: impl AsyncFn(&C, &mut W, Option<&StepFailure>) -> Result<Next, StepError> + Copy + 'static,
) -> Phase<W, R, C> {
    phase(async move |context: &C, StepEvent { mut work, error }: StepEvent<W>| {
        let before = enter(&mut work);
        let next = run(context, &mut work, error.as_ref()).await?;
        if let Some(run) = work.run().filter(|_| next == Next::Wait) {
            run.pace();
        }
        Ok(before.answer(next, work))
    })
}

/// The last phase, whose answer is the execution's output.
pub fn report<W: Payload, R, C>(
    run: impl AsyncFn(&C, W) -> Result<R, StepError> + Copy + 'static,
) -> Phase<W, R, C> {
    phase(async move |context: &C, StepEvent { mut work, .. }: StepEvent<W>| {
        if let Some(run) = work.run() {
            note_execution(run.lease.owner.execution());
        }
        Ok(StepAnswer::Other(Box::new(run(context, work).await?)))
    })
}

/// Notes the run as the step finds it.
fn enter(work: &mut impl Payload) -> Before {
    let Some(run) = work.run() else { return Before::default() };
    let before = Before::of(run);
    run.steps = run.steps.saturating_add(1);
    note_execution(run.lease.owner.execution());
    if let Some(swap) = run.swap_id() {
        note_swap(&swap);
    }
    before
}

impl Before {
    /// Returns the answer of the step, with the swaps that it has ended.
    fn answer<W: Payload, R>(&self, next: Next, mut work: W) -> StepAnswer<W, R> {
        let ended = work.run().map(|run| self.ended(run)).unwrap_or_default();
        StepAnswer::Step { next, work: Box::new(work), ended }
    }
}

#[cfg(test)]
mod tests;
