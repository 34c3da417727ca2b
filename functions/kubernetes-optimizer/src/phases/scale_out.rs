//! ScaleOut: launches one Spot instance from the first cleared pool with capacity. The instance comes from the
//! template of the node's own group, and lies in the same subnet and so in the same zone. Records and undoes as
//! `spot_swap`'s Launch does. If a node can't be replaced, it stays untouched.

use spot_swap::Context;
use spot_swap::error::StepError;
use spot_swap::phases::launch;
use spot_swap::work::Next;

use crate::work::NodeWork;

/// Launches the newcomer.
///
/// # Errors
/// A call fails in a way that may pass: the step is repeated.
pub async fn run(context: &Context, work: &mut NodeWork) -> Result<Next, StepError> {
    let (run, _) = work.run()?;
    run.note_queued();
    let next = launch::run(context, &mut run.swap).await?;
    Ok(if next == Next::NextCandidate { Next::Report } else { next })
}
