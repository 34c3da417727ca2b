//! Terminate: N+1 → N. One more look at the newcomer and at the old node, then the old instance leaves
//! its group with decrement, so that nothing relaunches it, is drained by its target groups, and is
//! terminated; the owner's settings are restored. Records and undoes as `spot_swap`'s RetireOld,
//! WaitForRetirement and Restore do.

use spot_cluster::{drain, node};
use spot_domain::Reason;
use spot_swap::error::StepError;
use spot_swap::phases::{restore, retire_old, wait_for_retirement};
use spot_swap::work::{Current, Next};
use spot_swap::{Context, nodes};

use crate::phases::await_ready::not_ready;
use crate::work::{Leaving, NodeRun, NodeWork};

/// Goes as far as it can now.
///
/// # Errors
/// A call fails, or the old instance does not leave by its deadline ([`StepError::Stuck`]).
pub async fn run(context: &Context, work: &mut NodeWork) -> Result<Next, StepError> {
    let (run, _) = work.run()?;
    let mut current = run.take_current()?;
    if run.leaving == Leaving::NotYet {
        let next = let_go(context, run, &mut current).await?;
        if next == Next::Proceed {
            run.leaving = Leaving::LetGo;
        }
        run.swap.current = Some(current);
        return Ok(if next == Next::Proceed { Next::Wait } else { next });
    }
    if run.leaving == Leaving::LetGo {
        let next = wait_for_retirement::run(context, &mut run.swap, &current).await?;
        if next != Next::Proceed {
            run.swap.current = Some(current);
            return Ok(next);
        }
        run.leaving = Leaving::Gone;
    }
    let next = restore::run(context, &mut run.swap, &current).await?;
    run.swap.current = (next == Next::Wait).then_some(current);
    Ok(if next == Next::NextTarget { Next::Report } else { next })
}

async fn let_go(context: &Context, run: &mut NodeRun, current: &mut Current) -> Result<Next, StepError> {
    if let Some(why) = not_ready(context, run, current).await? {
        return Ok(run.swap.undo(Reason::NodeNotReady, format!("newcomer {}: {why}", current.newcomer)));
    }
    let client = nodes::connect_for(context, &run.swap, &run.node).await?;
    if let Some(old) = node::get(&client, &run.node.old).await? {
        let pass = drain::pass(&client, &old.name, nodes::policy(&run.node), run.drain.clone()).await?;
        run.drain = pass.state;
        if !pass.is_done {
            let detail = format!("{} pods came back to node {}", pass.remaining.len(), run.node.old);
            return Ok(run.swap.undo(Reason::DrainTimedOut, detail));
        }
    }
    retire_old::run(context, &mut run.swap, current).await
}
