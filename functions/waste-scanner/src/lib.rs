//! Finds resources that cost money and serve no purpose: addresses that nothing uses, volumes that nothing
//! has attached, old snapshots that neither an image nor a launch needs. Prices them, and deletes nothing.
//!
//! A run scans every enabled account and region, or those that its input names. A listing that fails is part
//! of the report: the report never takes it for "nothing found" or "all unused". When Lambda's time is up,
//! the run records its progress and asks to be continued.

pub mod announce;
pub mod error;
pub mod input;
pub mod listings;
pub mod price_list;
pub mod scan;
pub mod table;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::Value;
use spot_cloud::announcements::Announcements;
use spot_cloud::environment::{BadEnvironment, variable};
use spot_cloud::scopes::{PlanError, Scope, Unreadable, plan};
use spot_cloud::tables::accounts::AccountError;
use spot_cloud::tables::settings;
use spot_cloud::{CallError, Stack};
use spot_domain::clock;
use spot_domain::waste::report::{Failed, ScanSummary};
use spot_domain::waste::rules::Rules;

use tracing::field::Empty;
use tracing::{Instrument, Span};

use error::WasteError;
use input::Run;
use price_list::StoragePrices;
use scan::{RESERVE, Scan};
use table::WasteTable;
use table::progress::{ScanProgress, StoredProgress};

/// A run of more invocations than this makes no progress.
const CONTINUATIONS: u32 = 200;

#[derive(Debug)]
pub struct WasteScanner {
    stack: Stack,
    table: WasteTable,
    prices: StoragePrices,
    announcements: Announcements,
}

impl WasteScanner {
    /// Reads the environment that the template sets.
    ///
    /// # Errors
    /// A variable is missing or malformed.
    pub fn new(stack: Stack) -> Result<Self, BadEnvironment> {
        Ok(Self {
            table: WasteTable::new(stack.dynamodb.clone(), variable::<String>("WASTE_RESOURCE_TABLE")?),
            prices: StoragePrices::new(&stack),
            announcements: Announcements::new(&stack)?,
            stack,
        })
    }

    /// Runs one invocation, which Lambda ends at `deadline`.
    ///
    /// # Errors
    /// The input or a setting is wrong, and nothing was scanned. Or a table or EventBridge does not answer,
    /// and the run may be repeated.
    pub async fn handle(&self, event: Value, deadline: SystemTime) -> Result<ScanSummary, WasteError> {
        let work = async {
            let outcome = self.run(event, deadline).await;
            match &outcome {
                Ok(summary) => tracing::info!(
                    total_monthly_waste_usd = %summary.total_monthly_waste_usd,
                    partial = summary.partial,
                    continues = summary.continues,
                    "scanned"
                ),
                Err(error) => tracing::error!(error = error.name(), "{error}"),
            }
            outcome
        };
        work.instrument(tracing::error_span!("scan", run_started = Empty)).await
    }

    async fn run(&self, event: Value, deadline: SystemTime) -> Result<ScanSummary, WasteError> {
        let run = input::parse(event, clock::now())?;
        Span::current().record("run_started", run.run_started);
        if run.continuation > CONTINUATIONS {
            return Err(WasteError::Endless(run.continuation));
        }
        let (account_id, region) = (run.request.account_id.as_ref(), run.request.region.as_ref());
        let plan = plan(&self.stack, account_id, region).await?;
        let settings = settings::load(&self.stack, &self.stack.account_id, &self.stack.region).await;
        let parallelism = settings.map_err(PlanError::from)?.scan_parallelism as usize;
        let moved = AtomicBool::new(false);
        let progress: Vec<ScanProgress> = stream::iter(&plan.visits)
            .map(|visit| {
                let span = tracing::error_span!("visit", place = %visit.place);
                self.visit(visit, &run, deadline, &moved).instrument(span)
            })
            .buffered(parallelism)
            .try_collect()
            .await?;
        let continues = progress.iter().any(|progress| progress.next.is_some());
        let scopes = progress.into_iter().map(|progress| progress.report).collect();
        let unreadable = plan.unreadable.iter().map(|error| self.unreadable(error)).collect();
        let summary = ScanSummary::new(run.started(), scopes, unreadable, continues);
        if continues {
            announce::to_be_continued(&self.announcements, &run).await?;
        } else {
            announce::completed(&self.announcements, &summary).await?;
        }
        Ok(summary)
    }

    /// Scans one account and region, from the position at which an earlier invocation of this run stopped.
    /// The first unfinished scope resumes even if little time is left, so that a run always makes progress.
    async fn visit(
        &self,
        visit: &Scope,
        run: &Run,
        deadline: SystemTime,
        moved: &AtomicBool,
    ) -> Result<ScanProgress, CallError> {
        let mut progress = ScanProgress::new(run.run_started, &visit.place);
        if run.continuation > 0 {
            match self.table.stored(&visit.place, run.run_started).await? {
                StoredProgress::Nothing => {}
                StoredProgress::Ours(kept) => progress = kept,
                StoredProgress::Newer => progress.overtaken(),
            }
        }
        let has_time = clock::system_time() + RESERVE < deadline;
        if progress.next.is_none() || (moved.swap(true, Ordering::Relaxed) && !has_time) {
            return Ok(progress);
        }
        let (settings, region) = (&visit.settings, &visit.place.region);
        let prices = self.prices.book(region).await;
        let clients = self.stack.clients(&visit.access, region, None).await;
        let rules = Rules { settings, region, prices: &prices, now: run.started() };
        let scan = Scan { visit, clients, table: &self.table, rules, deadline };
        scan.resume(&mut progress).await;
        if !self.table.store(&visit.place, &progress).await? {
            progress.overtaken();
        }
        Ok(progress)
    }

    fn unreadable(&self, error: &Unreadable) -> Failed {
        let account_id = match error {
            Unreadable::Row(AccountError::Malformed { account_id, .. })
            | Unreadable::Regions { account_id, .. }
            | Unreadable::Settings { account_id, .. } => account_id,
            Unreadable::Row(_) => &self.stack.account_id, // a key that is no account id lies in the stack's own table
        };
        Failed {
            account_id: account_id.clone(),
            region: None,
            listing: "account".to_owned(),
            error: error.to_string(),
        }
    }
}
