//! Replaces an On-Demand node of a Kubernetes cluster with Spot: scale out, cordon, drain, terminate.
//!
//! The state machine `swap.asl.yaml` beside this crate drives; each invocation is one short step of
//! one phase, safe to repeat. The node's Auto Scaling group goes N → N+1 → N by the phases of
//! `spot_swap`; between them the pods move, by eviction only. What one step hands to the next is a
//! [`work::NodeWork`]; what must survive any death is the journal in the Swaps table.
//!
//! The interruption responder's state machine asks for one phase more: [`phases::evacuate_node`] moves the pods of a node
//! that EC2 takes back.

pub mod evacuation;
pub mod phases;
pub mod work;

use serde::Serialize;
use serde_json::Value;
use spot_domain::swap::node::NodeSwapReport;
use spot_swap::Context;
use spot_swap::error::StepError;
use spot_swap::machine::{self, Phases, Start, StepAnswer, phase, self_paced, start, step};

use evacuation::Evacuation;
use phases::{await_ready, cordon, drain, evacuate_node, preflight, report, rollback, scale_out, terminate};
use work::NodeWork;

/// The report of an evacuation: there is none, since the interruption responder reports.
#[derive(Debug, Serialize)]
pub enum NoReport {}

/// The phases of both state machines.
pub struct Tables {
    swap: Phases<NodeWork, NodeSwapReport>,
    evacuation: Phases<Evacuation, NoReport>,
}

/// The answer to a step of either state machine.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum StepHandled {
    /// Of a swap.
    Swap(StepAnswer<NodeWork, NodeSwapReport>),
    /// Of an evacuation.
    Evacuation(StepAnswer<Evacuation, NoReport>),
}

impl Tables {
    /// Lists the phases.
    #[must_use]
    pub fn new() -> Self {
        Self { swap: phase_table(), evacuation: evacuation_table() }
    }

    /// Runs one step. A step of a swap then tells of the swaps that it has ended.
    ///
    /// # Errors
    /// The step failed.
    pub async fn run_and_tell(&self, context: &Context, event: Value) -> Result<StepHandled, StepError> {
        let phase = event.get("phase").and_then(Value::as_str);
        if phase.is_some_and(|phase| self.evacuation.names().contains(&phase)) {
            return self.evacuation.run(context, event).await.map(StepHandled::Evacuation);
        }
        self.swap.run_and_tell(context, event).await.map(StepHandled::Swap)
    }
}

impl Default for Tables {
    fn default() -> Self {
        Self::new()
    }
}

/// Returns the phases of an evacuation, by the names of the tasks of the interruption responder's state machine.
#[must_use]
pub fn evacuation_table() -> Phases<Evacuation, NoReport> {
    Phases::new([("EvacuateNode", phase(evacuate_node::run))])
}

/// Returns the phases of a swap, by the names of the state machine's tasks.
#[must_use]
pub fn phase_table() -> Phases<NodeWork, NodeSwapReport> {
    Phases::new([
        (
            "Preflight",
            start(async |context, Start { execution, input, tries }| {
                preflight::run(context, execution, input, tries).await
            }),
        ),
        ("ScaleOut", step(scale_out::run)),
        ("AwaitReady", step(await_ready::run)),
        ("Cordon", self_paced(cordon::run)),
        ("Drain", self_paced(drain::run)),
        ("Terminate", step(terminate::run)),
        ("Rollback", machine::rollback(rollback::run)),
        ("Report", machine::report(report::run)),
    ])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use spot_scripted::state_machine::StateMachine;

    const MACHINE: StateMachine = StateMachine(include_str!("../swap.asl.yaml"));

    #[test]
    fn the_table_lists_every_task_of_the_state_machine_and_no_other() {
        let (table, tasks) = (super::phase_table().names(), MACHINE.tasks());
        assert_eq!(table.len(), 8);
        assert_eq!(BTreeSet::from_iter(table), BTreeSet::from_iter(tasks));
        assert_eq!(MACHINE.phases(), MACHINE.tasks(), "each task asks for the phase of its name");
    }

    #[test]
    fn the_other_table_lists_what_the_answer_to_a_notice_asks_this_function_for() {
        const RESPONSE: StateMachine =
            StateMachine(include_str!("../../interruption-responder/respond.asl.yaml"));
        let table = super::evacuation_table().names();
        assert_eq!(table, RESPONSE.tasks_of("KubernetesOptimizerFunctionArn"));
        assert!(super::phase_table().names().iter().all(|name| !table.contains(name)));
    }

    #[test]
    fn a_silent_cluster_is_asked_more_often_than_once_and_the_machine_goes_along() {
        let tries = "tries: '{% $states.context.State.RetryCount %}'";
        let (_, after) = MACHINE.0.split_once(tries).expect("Preflight hears how often it was asked");
        let (_, most) = after.split_once("MaxAttempts: ").unwrap();
        let most: u32 = most.split('\n').next().unwrap().parse().unwrap();
        assert!((1..=most).contains(&super::preflight::TRIES_OF_SILENCE));
    }
}
