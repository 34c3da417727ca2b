//! Launch: one Spot instance for the next candidate, in the same subnet, from the first cleared
//! pool that has capacity.
//!
//! Records, before the first call: the swap's id, which is the newcomer's tag and the stem of its
//! ClientTokens; before each further attempt: its number. Undone by: terminating what bears the tag.

use jiff::{SignedDuration, Timestamp};
use spot_cloud::gatekeeper::{ClearedPool, Verdict};
use spot_cloud::launcher::{Launcher, Order};
use spot_cloud::swaps::{Entered, Leased, Release};
use spot_cloud::{CallError, Kind, Target, groups, instances};
use spot_domain::group::Instance;
use spot_domain::journal::Journal;
use spot_domain::selection::Candidate;
use spot_domain::tags::inherited;
use spot_domain::{InstanceId, Pool, Reason};

use crate::Context;
use crate::error::StepError;
use crate::phases::gate::{Refusal, first_few};
use crate::work::{Current, Next, Work};

/// Pools tried in one step: each refusal takes EC2 seconds, and the step has sixty.
const ATTEMPTS: usize = 10;
/// The journal tells when the last launch was asked for: until that is visible, an undo waits.
const JUST_NOW: SignedDuration = SignedDuration::from_secs(5);
/// A run lasts for hours: what was asked of the group this long ago is asked again.
const CHECKED_FOR: SignedDuration = SignedDuration::from_mins(5);

/// Launches for the head of the queue.
///
/// # Errors
/// A call fails in a way that may pass: the step is repeated, and goes on with the same attempt.
pub async fn run(context: &Context, work: &mut Work) -> Result<Next, StepError> {
    if work.queue.is_empty() {
        return Ok(work.next_target());
    }
    let target = context.target(work).await;
    let candidate = work.queue.remove(0);
    let mut journal = Journal::new(&candidate.instance_id, work.lease.since, work.retirement);
    journal.node.clone_from(&work.node);
    journal.lab.clone_from(&work.lab);
    let entered = context.swaps.enter(&work.lease, &journal).await?;
    let repeated = matches!(entered, Entered::Again(_));
    if let Entered::Again(earlier) = entered {
        journal = earlier;
    }
    let launched = match unfit(&target, work, &candidate).await? {
        Some(refusal) => Err(refusal),
        None => match earlier(&target, repeated, &journal, &candidate).await? {
            Some(launched) => Ok(launched),
            None => launch(context, work, &target, &candidate, &mut journal).await?,
        },
    };
    match launched {
        Ok((newcomer, pool)) => {
            tracing::info!(%newcomer, %pool, replaces = %candidate.instance_id, "launched");
            let deadline = work.wait_at_most(work.settings.health_timeout_seconds);
            work.current = Some(Current { candidate, journal, newcomer, pool, deadline });
            Ok(Next::Proceed)
        }
        // An attempt whose answer was lost may have launched all the same: the rollback looks. It also
        // takes away what was made for the launch.
        Err(refusal) if repeated || work.has_captured() => {
            work.queue.insert(0, candidate);
            Ok(work.undo(refusal.reason, refusal.detail))
        }
        Err(refusal) => {
            context.swaps.close(&work.lease, Release::Keep).await?;
            work.skip(&candidate.instance_id, refusal.reason, refusal.detail);
            Ok(work.next_target())
        }
    }
}

type Launched = (InstanceId, Pool);

/// Why there is no launch for this candidate. Asked after the journal was looked at: an earlier run of
/// this very step may have launched.
async fn unfit(
    target: &Target,
    work: &mut Work,
    candidate: &Candidate,
) -> Result<Option<Refusal>, CallError> {
    if let Some(detail) = check_again(target, work).await? {
        work.ended_by = Some(Reason::GroupChanged);
        return Ok(Some(Refusal { reason: Reason::GroupChanged, detail }));
    }
    unterminable(target, candidate).await
}

/// Refreshes begun and hooks added since the group was last asked.
async fn check_again(target: &Target, work: &mut Work) -> Result<Option<String>, CallError> {
    if Timestamp::now().duration_since(work.checked_at) < CHECKED_FOR {
        return Ok(None);
    }
    let Leased::Group { name, .. } = &work.lease.on else { return Ok(None) };
    let refresh = groups::active_refresh(&target.autoscaling, name).await?;
    work.retirement = groups::retirement(&target.autoscaling, name).await?;
    work.checked_at = Timestamp::now();
    Ok(refresh)
}

/// Why the candidate could never be terminated, or need not be.
async fn unterminable(target: &Target, candidate: &Candidate) -> Result<Option<Refusal>, CallError> {
    match instances::is_termination_protected(&target.ec2, &candidate.instance_id).await {
        Ok(false) => Ok(None),
        Ok(true) => Ok(Some(Refusal {
            reason: Reason::TerminationProtected,
            detail: "DisableApiTermination is on".to_owned(),
        })),
        Err(error) if error.kind == Kind::NotFound => {
            Ok(Some(Refusal { reason: Reason::InstanceGone, detail: error.to_string() }))
        }
        Err(error) => Err(error),
    }
}

/// What an earlier run of this very step launched before its answer was lost.
async fn earlier(
    target: &Target,
    repeated: bool,
    journal: &Journal,
    candidate: &Candidate,
) -> Result<Option<Launched>, CallError> {
    if !repeated {
        return Ok(None);
    }
    let found = instances::launched_by(&target.ec2, journal.swap_id.as_str()).await?;
    let alive = found.into_iter().find(Instance::is_alive);
    Ok(alive.and_then(|instance| {
        let pool = candidate.pools.iter().find(|pool| pool.instance_type == instance.instance_type)?;
        Some((instance.id, pool.clone()))
    }))
}

/// Asks the gate once more, then tries the cleared pools in their order, from the attempt that the
/// journal speaks of. The inner error is why this candidate is skipped.
async fn launch(
    context: &Context,
    work: &Work,
    target: &Target,
    candidate: &Candidate,
    journal: &mut Journal,
) -> Result<Result<Launched, Refusal>, StepError> {
    let closed = |why: spot_cloud::gatekeeper::GateClosed| Refusal {
        reason: Reason::GateUnreachable,
        detail: why.to_string(),
    };
    let verdicts = match context.gatekeeper.ask(&candidate.pools).await {
        Ok(verdicts) => verdicts,
        Err(why) => return Ok(Err(closed(why))),
    };
    let order = Order {
        blueprint: work.blueprint.clone(),
        subnet_id: candidate.subnet_id.clone(),
        tags: inherited(&candidate.tags, journal.swap_id.as_str()),
    };
    let launcher = Launcher::new(target);
    let (mut refused, mut failed) = (Vec::new(), Vec::new());
    let first = journal.attempt;
    for (attempt, verdict) in verdicts.into_iter().enumerate().skip(first).take(ATTEMPTS) {
        let pool = &candidate.pools[attempt];
        let cleared = match fresh(context, pool, verdict).await {
            Ok(Verdict::Cleared(cleared)) => cleared,
            Ok(verdict) => {
                refused.extend(Refusal::of(&verdict).map(|refusal| (pool, refusal)));
                continue;
            }
            Err(why) => return Ok(Err(closed(why))),
        };
        if attempt != journal.attempt || Timestamp::now().duration_since(journal.launching_since) > JUST_NOW {
            journal.attempt = attempt;
            journal.launching_since = Timestamp::now();
            context.swaps.write(&work.lease, journal).await?;
        }
        match launcher.launch(cleared, &order, &journal.swap_id.client_token(attempt)).await {
            Ok(newcomer) => return Ok(Ok((newcomer, pool.clone()))),
            Err(error) if error.kind == Kind::Retry => return Err(error.into()),
            // The whole account's trouble, not the pool's.
            Err(error) if matches!(error.kind, Kind::Quota | Kind::Denied) => {
                let reason =
                    if error.kind == Kind::Quota { Reason::QuotaExceeded } else { Reason::NotAuthorized };
                return Ok(Err(Refusal { reason, detail: error.to_string() }));
            }
            Err(error) => failed.push((pool, error)),
        }
    }
    Ok(Err(none_launched(&refused, &failed)))
}

/// A pool's verdict, asked again if earlier attempts took so long that its proof is stale.
async fn fresh(
    context: &Context,
    pool: &Pool,
    verdict: Verdict,
) -> Result<Verdict, spot_cloud::gatekeeper::GateClosed> {
    if !matches!(&verdict, Verdict::Cleared(cleared) if !ClearedPool::is_fresh(cleared)) {
        return Ok(verdict);
    }
    let mut verdicts = context.gatekeeper.ask(std::slice::from_ref(pool)).await?;
    Ok(verdicts.pop().unwrap_or(verdict))
}

fn none_launched(refused: &[(&Pool, Refusal)], failed: &[(&Pool, CallError)]) -> Refusal {
    if failed.is_empty() {
        return Refusal::all(refused);
    }
    let details =
        failed.iter().map(|(pool, error)| format!("{pool}: {}: {}", error.code, error.message)).collect();
    let capacity = failed.iter().any(|(_, error)| error.kind == Kind::NextPool);
    let reason = if capacity { Reason::NoCapacity } else { Reason::LaunchRejected };
    Refusal { reason, detail: first_few(details) }
}
