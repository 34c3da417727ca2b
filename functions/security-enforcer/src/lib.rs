//! The security enforcer: audits running instances. If enforcement is on, terminates those that nothing has
//! authorised since their flag.
//!
//! A run audits everything first (`audit`, which changes nothing in EC2). It then decides if all due instances
//! stay within the blast radius, and only then acts (`terminate`), one instance a call. If an account and region
//! can't be seen in full, the run terminates nothing there.

pub mod announce;
pub mod audit;
pub mod auth_table;
pub mod error;
pub mod failure;
pub mod fleet;
pub mod input;
pub mod report;
pub mod summary;
pub mod terminate;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use spot_cloud::announcements::Announcements;
use spot_cloud::environment::{BadEnvironment, variable};
use spot_cloud::metrics;
use spot_cloud::price_list::PriceList;
use spot_cloud::scopes::{AccountRegion, Scope, Unreadable, plan};
use spot_cloud::tables::swaps::{Held, Swaps};
use spot_cloud::{CallError, Stack};
use spot_domain::audit::enforcement::AuditRun;
use spot_domain::audit::swaps_in_progress::SwapsInProgress;
use spot_domain::clock;
use spot_domain::swap::journal::Journal;
use tokio::task::JoinSet;
use tracing::Instrument;

use announce::Announcer;
use audit::{Audit, Auditor};
use auth_table::AuthTable;
use error::EnforcerError;
use failure::Failure;
use fleet::facts::InstancePrices;
use summary::AuditSummary;

/// The number of accounts and regions that are audited at a time.
const SIDE_BY_SIDE: usize = 8;

/// The claims of the rows of Swaps, by account and region.
type Claimed = BTreeMap<AccountRegion, SwapsInProgress>;

/// The resources that every run needs.
#[derive(Debug)]
pub struct SecurityEnforcer {
    stack: Stack,
    swaps: Swaps,
    table: AuthTable,
    announcer: Announcer,
    price_list: PriceList,
}

impl SecurityEnforcer {
    /// Reads the variables that the template sets.
    ///
    /// # Errors
    /// A variable is missing or malformed.
    pub fn new(stack: Stack) -> Result<Self, BadEnvironment> {
        let announcer = Announcer::new(Announcements::new(&stack)?);
        let table = AuthTable::new(stack.dynamodb.clone(), variable("INSTANCE_AUTH_TABLE")?);
        let price_list = PriceList::over(stack.config());
        Ok(Self { swaps: Swaps::new(&stack)?, table, announcer, price_list, stack })
    }

    /// Runs once; `run` is the invocation's id.
    ///
    /// # Errors
    /// The run could not begin: an input, an account or a setting is bad. Nothing was changed.
    pub async fn handle(&self, event: Value, run: &str) -> Result<AuditSummary, EnforcerError> {
        let work = async {
            let summary = Box::pin(self.run(event, run)).await; // the type of one deep future is too deep for rustc
            match &summary {
                Ok(summary) => tracing::info!(?summary, "audited"),
                Err(error) => tracing::error!(error = error.name(), "{error}"),
            }
            summary
        };
        work.instrument(tracing::error_span!("audit", run)).await
    }

    async fn run(&self, event: Value, run: &str) -> Result<AuditSummary, EnforcerError> {
        let request = input::parse(event)?;
        let mut plan = plan(&self.stack, request.account_id.as_ref(), request.region.as_ref()).await?;
        for visit in &mut plan.visits {
            visit.auto_terminate &= request.auto_terminate != Some(false);
        }
        let (swaps, unknown_swaps) = self.swaps_in_progress().await?;
        let heard = self.announcer.is_heard().await;
        let nobody_hears = matches!(heard, Ok(false));
        let enforces = plan.visits.iter().any(|visit| visit.auto_terminate);
        let auditor = Auditor {
            heard: matches!(heard, Ok(true)),
            table: self.table.clone(),
            announcer: self.announcer.clone(),
            swaps: Arc::new(swaps),
            prices: InstancePrices::of(self.price_list.clone()),
            look: AuditRun { at: clock::now(), run: request.run_name(run) },
        };
        let (audits, lost) = self.audit_all(&auditor, std::mem::take(&mut plan.visits)).await;
        let mut summary = AuditSummary::of(&audits, plan.unreadable.iter().map(unreadable).collect());
        if request.region.is_none() {
            summary.not_audited.extend(plan.not_visited(&self.stack).await);
        }
        summary.fail_all(lost);
        // A swap that can't be read might be replacing any of them, and an owner without a notice can't object. In
        // either case nothing is terminated.
        let may_act = auditor.heard && unknown_swaps.is_empty();
        summary.fail_all(unheard(heard, enforces).into_iter().chain(unknown_swaps).collect());
        terminate::enforce(&auditor, &audits, may_act, &mut summary).await;
        report::report(&auditor, nobody_hears, &mut summary).await;
        metrics::emit(&summary.figures());
        Ok(summary)
    }

    /// Returns the swaps in progress that the Swaps table claims, by account and region. Beside them, returns the
    /// rows that can't be read.
    async fn swaps_in_progress(&self) -> Result<(Claimed, Vec<Failure>), CallError> {
        let (mut swaps, mut unreadable) = (Claimed::new(), Vec::new());
        for held in self.swaps.all_held().await? {
            match held {
                Ok(Held { lease, journal: Some(journal), .. }) => {
                    let row = lease.key();
                    let place = AccountRegion { account_id: lease.account_id, region: lease.region };
                    let swaps = swaps.entry(place).or_default();
                    for Journal { swap_id, old, .. } in journal.ahead {
                        swaps.claim(row.clone(), swap_id, old);
                    }
                    swaps.claim(row, journal.swap_id, journal.old);
                }
                Ok(_) => {}
                Err(error) => unreadable.push(error.to_string().into()),
            }
        }
        Ok((swaps, unreadable))
    }

    /// Returns the audits, and the failures of those that did not finish.
    async fn audit_all(&self, auditor: &Auditor, visits: Vec<Scope>) -> (Vec<Audit>, Vec<Failure>) {
        let (mut running, mut ended) = (JoinSet::new(), Vec::new());
        for visit in visits {
            if running.len() >= SIDE_BY_SIDE {
                ended.extend(running.join_next().await);
            }
            let (auditor, ec2) = (auditor.clone(), self.ec2(&visit).await);
            // A task stands in no span but its own.
            let span = tracing::error_span!("visit", place = %visit.place);
            running.spawn(async move { Box::pin(auditor.audit(visit, ec2)).await }.instrument(span));
        }
        while let Some(audit) = running.join_next().await {
            ended.push(audit);
        }
        let (mut audits, mut lost) = (Vec::new(), Vec::new());
        for audit in ended {
            match audit {
                Ok(audit) => audits.push(audit),
                Err(error) => lost.push(Failure {
                    cause: "an audit broke off".to_owned(),
                    words: format!("an audit broke off: {error}"),
                }),
            }
        }
        audits.sort_by(|a, b| a.visit.place.cmp(&b.visit.place));
        (audits, lost)
    }

    async fn ec2(&self, visit: &Scope) -> aws_sdk_ec2::Client {
        self.stack.clients(&visit.access, &visit.place.region, None).await.ec2
    }
}

/// Returns the failure of an account that the run could not visit as its row asks.
fn unreadable(why: &Unreadable) -> Failure {
    match why {
        Unreadable::Row(_) | Unreadable::Settings { .. } => why.to_string().into(),
        Unreadable::Regions { account_id, error, .. } => {
            Failure { words: why.to_string(), ..Failure::of(format!("account {account_id}"), error) }
        }
    }
}

/// Returns the failure if no subscriber hears the notices. A run that only audits needs no subscriber. If the
/// topic does not answer, every run reports it.
fn unheard(heard: Result<bool, CallError>, enforces: bool) -> Option<Failure> {
    match heard {
        Ok(false) if enforces => Some(
            "nobody has confirmed a subscription of the alerts topic: no notice of a flag reaches anyone, and \
             without one nothing is terminated"
                .to_owned()
                .into(),
        ),
        Ok(_) => None,
        Err(error) => Some(Failure::of("whether anyone hears the alerts is unknown", &error)),
    }
}
