//! Replaces the On-Demand instances of an Auto Scaling group with Spot, N → N+1 → N.
//!
//! The state machine `swap.asl.yaml` beside this crate drives. Each invocation is one short step of one
//! phase, safe to repeat. [`phases`] holds a file for each phase, named as in the state machine. A step hands
//! a [`Work`] to the next one. The journal in the Swaps table holds everything that must survive a
//! crash.

pub mod phases;

use spot_domain::swap::report::SwapReport;
use spot_swap::machine::{self, Phases, Start, on_attached, on_current, start, step};
use spot_swap::phases::{attach, gate, launch, launch_ahead, restore, retire_old, rollback};
use spot_swap::phases::{wait_for_health, wait_for_in_service, wait_for_retirement};
use spot_swap::recovery::group::recover_group;
use spot_swap::work::{Next, Work};

use phases::{discover, report};

/// Returns the phases, by the names of the state machine's tasks.
#[must_use]
pub fn phase_table() -> Phases<Work, SwapReport> {
    Phases::new([
        (
            "Discover",
            start(async |context, Start { execution, input, .. }| {
                Ok((Next::Proceed, discover::run(context, execution, input).await?))
            }),
        ),
        ("Gate", step(gate::run)),
        ("Launch", step(launch::run)),
        ("WaitForHealth", on_current(wait_for_health::run)),
        ("Attach", on_current(attach::run)),
        ("LaunchAhead", on_current(launch_ahead::run)),
        ("WaitForInService", on_attached(wait_for_in_service::run)),
        ("RetireOld", on_attached(retire_old::run)),
        ("WaitForRetirement", on_current(wait_for_retirement::run)),
        ("Restore", on_attached(restore::run)),
        (
            "Rollback",
            machine::rollback(async |context, work, failure| {
                rollback::run(context, work, failure, recover_group).await.map(|visited| visited.next)
            }),
        ),
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
        assert_eq!(table.len(), 12);
        assert_eq!(BTreeSet::from_iter(table), BTreeSet::from_iter(tasks));
        assert_eq!(MACHINE.phases(), MACHINE.tasks(), "each task asks for the phase of its name");
    }
}
