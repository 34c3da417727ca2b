//! The attempts to launch one newcomer, pool after pool and subnet after subnet. The journal records each
//! attempt's number before its call. The attempts end when one launch succeeds or EC2 has refused them all.

use jiff::SignedDuration;
use spot_cloud::launch::gatekeeper::{ClearedPool, GateClosed, PoolVerdict};
use spot_cloud::launch::launcher::{Launcher, Order};
use spot_cloud::{CallError, Kind, RegionClients};
use spot_domain::clock;
use spot_domain::swap::group::Launch;
use spot_domain::swap::journal::{Journal, OnDemandLaunch};
use spot_domain::words::first_few;
use spot_domain::{InstanceId, Pool, Reason};

use crate::Context;
use crate::error::StepError;
use crate::launch_journal::LaunchJournal;
use crate::order::Orders;
use crate::phases::gate::Refusal;
use crate::work::Work;

/// The most launches in one step: each refusal takes EC2 seconds, and the step has sixty. It also bounds the calls of a
/// run that may launch nothing at all.
const ATTEMPTS: usize = 10;
/// The age at which a launch counts as recent. The journal records when the last launch was requested; an undo
/// waits until that launch is visible.
const JUST_NOW: SignedDuration = SignedDuration::from_secs(5);

/// The outcome in one pool.
#[derive(Debug)]
pub enum InPool {
    /// A newcomer was launched.
    Launched {
        newcomer: InstanceId,
        /// The launch that the newcomer came from; `None` if the newcomer is the twin of an instance.
        came_from: Option<Launch>,
        /// What a person has to know of the newcomer.
        remark: Option<String>,
    },
    /// Nothing was launched; another pool may succeed.
    NextPool,
    /// The run ends: every other launch would be refused, too.
    EndsRun(Refusal),
}

/// The right to launch one instance.
#[derive(Debug)]
enum Right {
    Spot(ClearedPool),
    OnDemand(OnDemandLaunch),
}

/// The attempts for one candidate.
#[derive(Debug)]
pub struct Attempts<'a> {
    context: &'a Context,
    work: &'a Work,
    journal: LaunchJournal<'a>,
    orders: Orders<'a>,
    launcher: Launcher,
    /// An earlier run of the step may have launched by the attempt that the journal records.
    is_repeated: bool,
    /// An earlier run of the step was refused by attempts that are not made again, for reasons that nobody has kept.
    has_earlier: bool,
    tries: usize,
    refused: Vec<(Pool, Refusal)>,
    failed: Vec<Failed>,
}

impl<'a> Attempts<'a> {
    /// Returns the attempts, beginning at the one that the journal records. If an earlier run of the step may have made
    /// that one, no other is made before it: EC2 may not show its instance yet.
    #[must_use]
    pub fn new(
        context: &'a Context,
        clients: &RegionClients,
        work: &'a Work,
        journal: LaunchJournal<'a>,
        mut orders: Orders<'a>,
        is_repeated: bool,
    ) -> Self {
        orders.resume(journal.journal().attempt);
        let launcher = Launcher::new(clients);
        Self {
            context,
            work,
            journal,
            orders,
            launcher,
            is_repeated,
            has_earlier: false,
            tries: 0,
            refused: vec![],
            failed: vec![],
        }
    }

    /// Tries one pool in each subnet of its zone. Without a verdict, a Spot launch asks the gate first.
    ///
    /// # Errors
    /// A call fails in a way that may pass: the step is repeated with the same attempt.
    pub async fn in_pool(
        &mut self,
        pool: &Pool,
        mut verdict: Option<PoolVerdict>,
    ) -> Result<InPool, StepError> {
        while self.tries < ATTEMPTS {
            let (number, order) = match self.orders.next(pool).await? {
                Ok(Some(numbered)) => numbered,
                Ok(None) => break, // no further subnet
                Err(why) => {
                    self.failed.push((pool.clone(), Reason::LaunchRejected, why));
                    break;
                }
            };
            let journal = self.journal.journal();
            if number < journal.attempt {
                self.has_earlier = true;
                continue; // an earlier run of this step was refused here
            }
            let may_have_launched = self.is_repeated && !journal.is_unattempted && self.tries == 0;
            if may_have_launched && number != journal.attempt {
                return Ok(InPool::EndsRun(in_doubt(journal.attempt)));
            }
            let right = match self.right(pool, verdict.take()).await {
                Ok(Ok(right)) => right,
                Ok(Err(refusal)) if may_have_launched => return Ok(InPool::EndsRun(refusal)),
                Ok(Err(refusal)) => {
                    self.refused.push((pool.clone(), refusal));
                    break;
                }
                Err(why) => return Ok(InPool::EndsRun(closed(&why))),
            };
            self.tries += 1;
            match self.launch(right, number, &order).await? {
                Ok(newcomer) => {
                    let came_from = self.orders.came_from(&pool.instance_type);
                    let remark = self.orders.left_off(&pool.instance_type);
                    return Ok(InPool::Launched { newcomer, came_from, remark });
                }
                Err(error) if error.kind == Kind::Retry => return Err(error.into()),
                // AWS denies the call before it looks for the instance that the ClientToken has launched.
                Err(error) if error.kind == Kind::Denied && may_have_launched => {
                    let detail = error.to_string();
                    return Ok(InPool::EndsRun(Refusal::new(Reason::NotAuthorized, detail)));
                }
                Err(error) => {
                    let why = said(&error, &order.subnet_id);
                    self.failed.push((pool.clone(), reason_of(error.kind), why));
                    if error.kind != Kind::NextSubnet {
                        break;
                    }
                    self.orders.note_full(&order.subnet_id);
                }
            }
        }
        Ok(InPool::NextPool)
    }

    /// Returns the right to launch one instance: what the journal gives if the swap goes to On-Demand, else the gate's
    /// proof. The inner error is the gate's refusal.
    async fn right(
        &self,
        pool: &Pool,
        verdict: Option<PoolVerdict>,
    ) -> Result<Result<Right, Refusal>, GateClosed> {
        let journal = self.journal.journal();
        if let Some(launch) = journal.on_demand_launch(&pool.instance_type) {
            return Ok(Ok(Right::OnDemand(launch)));
        }
        Ok(match fresh(self.context, pool, verdict).await? {
            PoolVerdict::Cleared(cleared) => Ok(Right::Spot(cleared)),
            verdict => Err(Refusal::of(&verdict).unwrap_or_else(|| in_doubt(journal.attempt))),
        })
    }

    /// Makes one attempt. The journal records the number first.
    async fn launch(
        &mut self,
        right: Right,
        number: usize,
        order: &Order,
    ) -> Result<Result<InstanceId, CallError>, StepError> {
        let journal = self.journal.journal();
        let age = clock::now().duration_since(journal.launching_since);
        if journal.is_unattempted || number != journal.attempt || age > JUST_NOW {
            let attempt = |journal: &mut Journal| {
                journal.is_unattempted = false;
                journal.attempt = number;
                journal.launching_since = clock::now();
            };
            self.journal.record(&self.context.swaps, &self.work.lease, attempt).await?;
        }
        let token = self.journal.journal().client_token(number);
        Ok(match right {
            Right::Spot(cleared) => self.launcher.launch(cleared, order, &token).await,
            Right::OnDemand(launch) => self.launcher.launch_on_demand(launch, order, &token).await,
        })
    }

    /// Returns one reason for all refusals, of which the details name the first few.
    #[must_use]
    pub fn none_launched(self, not_cheaper: &str) -> Refusal {
        let refusal = none_launched(self.failed, &self.refused, not_cheaper);
        Refusal { others_may_launch: refusal.others_may_launch || self.has_earlier, ..refusal }
    }
}

/// A launch that failed: its pool, the reason, and the reason in words.
type Failed = (Pool, Reason, String);

/// Returns one reason for the launches of a candidate that failed, and the pools that the gate refused.
///
/// A quota or a missing permission ends the run if all pools were tried. A quota may be that of one class of types, and a
/// policy or an image may deny one type: a type that the gate refused here may launch in another zone.
fn none_launched(failed: Vec<Failed>, refused: &[(Pool, Refusal)], not_cheaper: &str) -> Refusal {
    if failed.is_empty() && refused.is_empty() {
        return Refusal::new(Reason::NoCapacity, "no further pool or subnet is left to try");
    }
    if failed.is_empty() {
        return Refusal::all(refused);
    }
    let reasons: Vec<Reason> = failed.iter().map(|(_, reason, _)| *reason).collect();
    let failed = failed.into_iter().map(|(pool, _, why)| format!("{pool}: {why}"));
    let details = failed.chain((!not_cheaper.is_empty()).then(|| not_cheaper.to_owned())).collect();
    let refusal = Refusal::new(worst(&reasons), first_few(details));
    Refusal { others_may_launch: !refused.is_empty(), ..refusal }
}

/// Returns the reason that stands for all failed launches of one candidate. A quota or a missing permission stands if each
/// launch failed by it. Else capacity comes before a full subnet, and what EC2 rejects comes last.
fn worst(failed: &[Reason]) -> Reason {
    let is_the_only = |reason: &Reason| failed.iter().all(|found| found == reason);
    let account_wide = [Reason::QuotaExceeded, Reason::NotAuthorized].into_iter().find(is_the_only);
    let of_pools = || [Reason::NoCapacity, Reason::SubnetFull].into_iter().find(|r| failed.contains(r));
    account_wide.or_else(of_pools).unwrap_or(Reason::LaunchRejected)
}

/// Returns the pool's verdict. Asks the gate again if the verdict was used, or if its proof is stale.
async fn fresh(
    context: &Context,
    pool: &Pool,
    verdict: Option<PoolVerdict>,
) -> Result<PoolVerdict, GateClosed> {
    match verdict {
        Some(PoolVerdict::Cleared(cleared)) if cleared.is_fresh() => Ok(PoolVerdict::Cleared(cleared)),
        Some(PoolVerdict::Cleared(_)) | None => context.gatekeeper.ask_one(pool).await,
        Some(refused) => Ok(refused),
    }
}

/// Returns the refusal for an attempt that may have launched, and can't be made again.
fn in_doubt(attempt: usize) -> Refusal {
    let detail = format!("launch attempt {attempt} got no answer, and its pool is not tried any more");
    Refusal::new(Reason::StepFailed, detail)
}

/// Returns the refusal for a gate that does not answer.
#[must_use]
pub fn closed(why: &GateClosed) -> Refusal {
    Refusal::new(Reason::GateUnreachable, why.to_string())
}

/// Returns the reason for a refused launch. The refusal concerns the pool, the subnet, this very instance, or a
/// quota or permission that other types may not need.
fn reason_of(kind: Kind) -> Reason {
    match kind {
        Kind::NextPool => Reason::NoCapacity,
        Kind::NextSubnet => Reason::SubnetFull,
        Kind::Quota => Reason::QuotaExceeded,
        Kind::Denied => Reason::NotAuthorized,
        _ => Reason::LaunchRejected,
    }
}

fn said(error: &CallError, subnet_id: &str) -> String {
    match error.kind {
        Kind::NextSubnet => format!("{subnet_id}: {}: {}", error.code, error.message),
        Kind::Denied => error.to_string(), // with the name of the call
        _ => format!("{}: {}", error.code, error.message),
    }
}

#[cfg(test)]
mod tests {
    use super::Reason::{LaunchRejected, NoCapacity, NotAuthorized, PoolPoisoned, QuotaExceeded, SubnetFull};
    use super::{Failed, Pool, Refusal, none_launched, worst};

    #[test]
    fn what_one_pool_says_of_the_account_ends_no_run_if_another_pool_says_otherwise() {
        for account_wide in [QuotaExceeded, NotAuthorized] {
            assert_eq!(worst(&[account_wide; 2]), account_wide);
            for other in [NoCapacity, SubnetFull, LaunchRejected] {
                assert_eq!(worst(&[account_wide, other]), other);
                assert_eq!(worst(&[other, account_wide]), other);
            }
        }
        assert_eq!(worst(&[QuotaExceeded, NotAuthorized]), LaunchRejected);
        assert_eq!(worst(&[LaunchRejected, SubnetFull, NoCapacity]), NoCapacity);
    }

    #[test]
    fn a_denial_keeps_its_name_beside_a_pool_that_the_gate_refused() {
        let pool = |kind: &str| -> Pool { format!("us-east-1#use1-az6#{kind}").parse().unwrap() };
        let denied =
            |kind: &str| -> Failed { (pool(kind), NotAuthorized, "ec2:RunInstances: denied".into()) };
        let poisoned = [(pool("m5.large"), Refusal::new(PoolPoisoned, "poisoned until X"))];
        let cases: [(&[(Pool, Refusal)], bool); 2] = [(&poisoned, true), (&[], false)];
        for (refused, others_may_launch) in cases {
            let refusal = none_launched(vec![denied("c5.large"), denied("r5.large")], refused, "");
            assert_eq!((refusal.reason, refusal.others_may_launch), (NotAuthorized, others_may_launch));
            assert!(refusal.detail.contains("c5.large: ec2:RunInstances: denied"), "{}", refusal.detail);
        }
    }
}
