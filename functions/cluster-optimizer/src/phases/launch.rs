//! Launch: one Spot instance for the next candidate, in the same subnet, from the first cleared
//! pool that has capacity.
//!
//! Records, before the first call: the swap's id, which is the newcomer's tag and the stem of its
//! ClientTokens. Undone by: terminating what bears the tag.

use spot_cloud::gatekeeper::{ClearedPool, Verdict};
use spot_cloud::launcher::{Launcher, Order};
use spot_cloud::{CallError, Kind, Target, instances};
use spot_domain::group::InstanceState;
use spot_domain::journal::{Journal, Stage, SwapId};
use spot_domain::selection::Candidate;
use spot_domain::tags::inherited;
use spot_domain::{InstanceId, Pool, Reason};

use crate::Optimizer;
use crate::error::StepError;
use crate::phases::gate::Refusal;
use crate::work::{Current, Next, Work, deadline};

/// Launches for the head of the queue.
///
/// # Errors
/// A call fails in a way that may pass: the step is repeated, and finds what it launched before.
pub async fn run(optimizer: &Optimizer, work: &mut Work) -> Result<Next, StepError> {
    if work.queue.is_empty() {
        return Ok(work.next_target());
    }
    let candidate = work.queue.remove(0);
    let target = optimizer.target(work).await;
    let refused = match instances::is_termination_protected(&target.ec2, &candidate.instance_id).await {
        Ok(false) => None,
        Ok(true) => Some((Reason::TerminationProtected, "DisableApiTermination is on".to_owned())),
        Err(error) if error.kind == Kind::NotFound => Some((Reason::InstanceGone, error.to_string())),
        Err(error) => return Err(error.into()),
    };
    if let Some((reason, detail)) = refused {
        work.skip(&candidate.instance_id, reason, detail);
        return Ok(work.next_target());
    }
    let journal = journal(work, &candidate);
    let before = optimizer.swaps.write(&work.lease, &journal).await?;
    let launched = match earlier(&target, &journal, before.as_ref(), &candidate).await? {
        Some(launched) => Ok(launched),
        None => launch(optimizer, work, &target, &candidate, &journal).await?,
    };
    match launched {
        Ok((newcomer, pool)) => {
            tracing::info!(%newcomer, %pool, replaces = %candidate.instance_id, "launched");
            let deadline = deadline(work.settings.health_timeout_seconds);
            work.current = Some(Current { candidate, journal, newcomer, pool, deadline });
            Ok(Next::Proceed)
        }
        Err(refusal) => {
            optimizer.swaps.close(&work.lease, spot_cloud::swaps::Release::Keep).await?;
            work.skip(&candidate.instance_id, refusal.reason, refusal.detail);
            Ok(work.next_target())
        }
    }
}

type Launched = (InstanceId, Pool);

fn journal(work: &Work, candidate: &Candidate) -> Journal {
    Journal {
        swap_id: SwapId::new(&candidate.instance_id, work.lease.since),
        stage: Stage::Launching,
        old: candidate.instance_id.clone(),
        original: work.original.clone(),
        max_raised_to: None,
        retirement: work.retirement,
        newcomer_removed: false,
        undo: None,
    }
}

/// What an earlier run of this very step launched before its answer was lost.
async fn earlier(
    target: &Target,
    journal: &Journal,
    before: Option<&Journal>,
    candidate: &Candidate,
) -> Result<Option<Launched>, CallError> {
    if before.is_none_or(|before| before.swap_id != journal.swap_id) {
        return Ok(None);
    }
    let found = instances::launched_by(&target.ec2, journal.swap_id.as_str()).await?;
    let alive =
        found.into_iter().find(|i| matches!(i.state, InstanceState::Pending | InstanceState::Running));
    Ok(alive.and_then(|instance| {
        let pool = candidate.pools.iter().find(|pool| pool.instance_type == instance.instance_type)?;
        Some((instance.id, pool.clone()))
    }))
}

/// Asks the gate once more, then tries the cleared pools in their order. The inner error is why
/// this candidate is skipped.
async fn launch(
    optimizer: &Optimizer,
    work: &Work,
    target: &Target,
    candidate: &Candidate,
    journal: &Journal,
) -> Result<Result<Launched, Refusal>, StepError> {
    let verdicts = match optimizer.gatekeeper.ask(&candidate.pools).await {
        Ok(verdicts) => verdicts,
        Err(closed) => {
            return Ok(Err(Refusal { reason: Reason::GateUnreachable, detail: closed.to_string() }));
        }
    };
    let order = Order {
        blueprint: work.blueprint.clone(),
        subnet_id: candidate.subnet_id.clone(),
        tags: inherited(&candidate.tags, journal.swap_id.as_str()),
    };
    let launcher = Launcher::new(target);
    let mut refusals = Vec::new();
    let mut without_capacity = Vec::new();
    for (attempt, verdict) in verdicts.into_iter().enumerate() {
        let pool = &candidate.pools[attempt];
        let cleared: ClearedPool = match verdict {
            Verdict::Cleared(cleared) => cleared,
            refused => {
                refusals.extend(Refusal::of(&refused).map(|refusal| (pool, refusal)));
                continue;
            }
        };
        match launcher.launch(cleared, &order, &journal.swap_id.client_token(attempt)).await {
            Ok(newcomer) => return Ok(Ok((newcomer, pool.clone()))),
            Err(error) if error.kind == Kind::NextPool => {
                without_capacity.push(format!("{pool}: {}", error.code));
            }
            Err(error) if error.kind == Kind::Retry => return Err(error.into()),
            Err(error) => return Ok(Err(Refusal { reason: fatal(error.kind), detail: error.to_string() })),
        }
    }
    if without_capacity.is_empty() {
        return Ok(Err(Refusal::all(&refusals)));
    }
    Ok(Err(Refusal { reason: Reason::NoCapacity, detail: without_capacity.join("; ") }))
}

fn fatal(kind: Kind) -> Reason {
    match kind {
        Kind::Quota => Reason::QuotaExceeded,
        Kind::Denied => Reason::NotAuthorized,
        _ => Reason::LaunchRejected,
    }
}
