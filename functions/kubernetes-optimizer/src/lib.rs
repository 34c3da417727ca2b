//! Replaces an On-Demand node of a Kubernetes cluster with Spot: scale out, cordon, drain, terminate.
//!
//! The state machine `swap.asl.yaml` beside this crate drives; each invocation is one short step of
//! one phase, safe to repeat. The node's Auto Scaling group goes N → N+1 → N by the phases of
//! `spot_swap`; between them the pods move, by eviction only. What one step hands to the next is a
//! [`work::NodeWork`]; what must survive any death is the journal in the Swaps table.

pub mod phases;
pub mod work;

use spot_domain::swap::node::NodeSwapReport;
use spot_swap::machine::{self, Phases, Start, self_paced, start, step};

use phases::{await_ready, cordon, drain, preflight, report, rollback, scale_out, terminate};
use work::NodeWork;

/// Returns the phases, by the names of the state machine's tasks.
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
    fn a_silent_cluster_is_asked_more_often_than_once_and_the_machine_goes_along() {
        let tries = "tries: '{% $states.context.State.RetryCount %}'";
        let (_, after) = MACHINE.0.split_once(tries).expect("Preflight hears how often it was asked");
        let (_, most) = after.split_once("MaxAttempts: ").unwrap();
        let most: u32 = most.split('\n').next().unwrap().parse().unwrap();
        assert!((1..=most).contains(&super::preflight::TRIES_OF_SILENCE));
    }
}
