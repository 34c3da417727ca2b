//! The findings in the WasteResource table: written, resolved, and found again.
//!
//! Findings go out in batches, which takes a hundredth of the calls of single writes. Two runs that overlap
//! write the same rows. `first_seen` comes from the run that opened the row. `last_seen` is the moment of the
//! write, so that neither run resolves a finding that the other has just seen.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::{Put, TransactWriteItem};
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use spot_cloud::CallError;
use spot_cloud::error::{failed, unreadable};
use spot_cloud::tables::batches::{self, FIRST_PAUSE, READ_BATCH, Repeat, WRITE_BATCH};
use spot_cloud::tables::row::{Row, names, number, number_in, seconds, text, text_in, written};
use spot_domain::Usd;
use spot_domain::clock;
use spot_domain::waste::report::Saving;
use spot_domain::waste::rules::ResourceType;

use super::finding::{
    ACCOUNT_REGION, COUNTED_IN, FIRST_SEEN, Finding, LAST_SEEN, LINEAGE, MONTHLY_COST_USD, RESOURCE, STATUS,
    UPPER_BOUND_USD,
};
use super::progress::ScanProgress;
use super::{WasteTable, key};

const OPEN_ALL: &str = "dynamodb:TransactWriteItems";
/// Batches on their way at a time.
const CONCURRENT_BATCHES: usize = 4;
/// Attempts for the items that DynamoDB left unprocessed.
const ATTEMPTS: u32 = 8;

/// The time at which a finding was resolved (N, epoch seconds).
const RESOLVED_AT: &str = "resolved_at";
/// The reason why the finding is resolved (S): DELETED, KEPT, or RECYCLE_BIN. Each scan checks a RECYCLE_BIN
/// row again until the resource leaves the bin. `saved_monthly_usd` (N) stands beside the reason.
const RESOLUTION: &str = "resolution";
/// The value of [`RESOLUTION`] for a resource that was deleted and is still billed.
const IN_RECYCLE_BIN: &str = "RECYCLE_BIN";
/// The time at which the Recycle Bin deletes the resource for good (N, epoch seconds), as far as EC2 says.
const RECYCLE_BIN_EXIT_AT: &str = "recycle_bin_exit_at";

/// Findings that are open, or that an earlier run found in the Recycle Bin, and that the present run has not
/// seen. The present run has already counted the resources that it found in the bin itself.
const UNSEEN: &str =
    "(#status = :open OR (#resolution = :bin AND #resolved_at <= :before)) AND #last_seen < :before";

/// A finding that the present run has not seen: an open one, or one that lay in the Recycle Bin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stale {
    /// `type#id`.
    pub resource: String,
    /// The amount that the finding adds to the total.
    pub monthly: Option<Usd>,
    /// The monthly cost of the snapshot by itself.
    pub upper_bound: Option<Usd>,
    /// The lineage of the snapshot.
    pub lineage: Option<String>,
}

/// The end of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// The resource was deleted and is in the Recycle Bin: it is billed, and can be restored.
    InRecycleBin {
        /// The time at which the bin deletes the resource for good; `None` if EC2 does not say.
        until: Option<Timestamp>,
    },
    /// EC2 does not know the resource any more.
    Deleted {
        /// The monthly amount that the deletion saves; `None` if the price was unknown.
        saving: Option<Saving>,
    },
    /// The resource exists and costs what it did: it is in use again, opted out, or the rules changed.
    Kept,
}

impl Stale {
    /// Returns the resource's id in EC2.
    #[must_use]
    pub fn id(&self) -> &str {
        self.resource.split_once('#').map_or(self.resource.as_str(), |(_, id)| id)
    }

    /// Returns the saving of the deletion; `None` if the price is unknown. `shares_blocks` says if snapshots
    /// of the same volume are left.
    #[must_use]
    pub fn saving(&self, shares_blocks: bool) -> Option<Saving> {
        let monthly = self.monthly?;
        let at_most = Saving::AtMost(self.upper_bound.unwrap_or(monthly));
        Some(if shares_blocks { at_most } else { Saving::Whole(monthly) })
    }
}

impl WasteTable {
    /// Writes findings as OPEN. A finding that was open already keeps its `first_seen`.
    ///
    /// # Errors
    /// The table does not take all findings.
    pub async fn write(&self, scope: &str, findings: Vec<Finding>) -> Result<(), CallError> {
        let mut findings = findings.into_iter();
        let batches = std::iter::from_fn(|| {
            let batch: Vec<Finding> = findings.by_ref().take(READ_BATCH).collect();
            (!batch.is_empty()).then_some(batch)
        });
        stream::iter(batches)
            .map(|batch| self.write_batch(scope, batch))
            .buffer_unordered(CONCURRENT_BATCHES)
            .try_collect()
            .await
    }

    /// Writes the findings that are open already, in batches. Opens the others in a transaction that holds
    /// only while no other run has opened them. If another run was faster, reads them again, so that the
    /// first run's `first_seen` stands.
    async fn write_batch(&self, scope: &str, mut batch: Vec<Finding>) -> Result<(), CallError> {
        let mut pause = FIRST_PAUSE;
        for _ in 0..ATTEMPTS {
            let open_since = self.open_since(scope, &batch).await?;
            let now = clock::now().as_second();
            let (open, new): (Vec<_>, Vec<_>) = batch
                .into_iter()
                .map(|finding| (open_since.get(&finding.resource()).copied(), finding))
                .partition(|(since, _)| since.is_some());
            let mut rows: Vec<Row> = open
                .into_iter()
                .map(|(since, finding)| finding.into_row(scope, since.unwrap_or(now), now))
                .collect();
            while !rows.is_empty() {
                let batch: Vec<Row> = rows.drain(..rows.len().min(WRITE_BATCH)).collect();
                batches::put(&self.dynamodb, &self.name, batch, ATTEMPTS).await?;
            }
            batch = new.into_iter().map(|(_, finding)| finding).collect();
            let rows = batch.iter().map(|finding| finding.clone().into_row(scope, now, now)).collect();
            if self.open_all(rows).await? {
                return Ok(());
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        Err(batches::unprocessed(OPEN_ALL, &self.name, batch.len(), ATTEMPTS))
    }

    /// Opens all findings or none. Opens none and returns false if one of them is open by now.
    async fn open_all(&self, rows: Vec<Row>) -> Result<bool, CallError> {
        if rows.is_empty() {
            return Ok(true);
        }
        let put = |row| {
            let put = Put::builder()
                .table_name(&self.name)
                .set_item(Some(row))
                .condition_expression("attribute_not_exists(#status) OR #status <> :open")
                .expression_attribute_names("#status", STATUS)
                .expression_attribute_values(":open", text("OPEN"));
            put.build().map(|put| TransactWriteItem::builder().put(put).build())
        };
        let items = rows.into_iter().map(put).collect::<Result<Vec<_>, _>>();
        let items = items.map_err(unreadable(OPEN_ALL))?;
        let request = self.dynamodb.transact_write_items().set_transact_items(Some(items));
        written(request.send().await.map_err(failed(OPEN_ALL)))
    }

    /// Returns `first_seen` of the findings that are OPEN already, by resource.
    async fn open_since(&self, scope: &str, batch: &[Finding]) -> Result<HashMap<String, i64>, CallError> {
        let keys = batch.iter().map(|finding| key(scope, &finding.resource())).collect();
        let attributes = [RESOURCE, STATUS, FIRST_SEEN];
        let rows =
            batches::get(&self.dynamodb, &self.name, keys, attributes, Repeat::Attempts(ATTEMPTS)).await?;
        Ok(rows.iter().filter_map(open_row).collect())
    }

    /// Returns a page of a type's findings that were last seen before `before`: the OPEN ones, and those that
    /// an earlier run found in the Recycle Bin. Returns also the key after which the next page begins.
    ///
    /// # Errors
    /// The table does not answer.
    pub async fn stale(
        &self,
        scope: &str,
        kind: ResourceType,
        before: Timestamp,
        after: Option<Row>,
    ) -> Result<(Vec<Stale>, Option<Row>), CallError> {
        let names = names([
            ACCOUNT_REGION,
            RESOURCE,
            STATUS,
            RESOLUTION,
            RESOLVED_AT,
            LAST_SEEN,
            MONTHLY_COST_USD,
            UPPER_BOUND_USD,
            LINEAGE,
        ]);
        let answer = self
            .of_type(scope, kind)
            .filter_expression(UNSEEN)
            .projection_expression("#resource, #monthly_cost_usd, #upper_bound_usd, #lineage")
            .set_expression_attribute_names(Some(names))
            .expression_attribute_values(":open", text("OPEN"))
            .expression_attribute_values(":bin", text(IN_RECYCLE_BIN))
            .expression_attribute_values(":before", seconds(before))
            .set_exclusive_start_key(after)
            .send()
            .await
            .map_err(failed("dynamodb:Query"))?;
        let rows = answer.items.unwrap_or_default();
        Ok((rows.iter().filter_map(stale_row).collect(), answer.last_evaluated_key))
    }

    /// Returns the lineages that the stored parts of this listing have counted, with the price of each
    /// snapshot. A continued listing needs this from the invocations before it. A row that another run, or a
    /// repeat of this one, has written since is left out. Its lineage may then be counted once more.
    ///
    /// # Errors
    /// The table does not answer.
    pub async fn lineages_of(
        &self,
        scope: &str,
        progress: &ScanProgress,
    ) -> Result<Vec<(String, Usd)>, CallError> {
        let mut pages = self
            .of_type(scope, ResourceType::Snapshot)
            .filter_expression("#last_seen >= :started AND attribute_exists(#upper_bound_usd)")
            .projection_expression("#lineage, #upper_bound_usd, #counted_in")
            .set_expression_attribute_names(Some(names([
                ACCOUNT_REGION,
                RESOURCE,
                LAST_SEEN,
                LINEAGE,
                UPPER_BOUND_USD,
                COUNTED_IN,
            ])))
            .expression_attribute_values(":started", number(&progress.run_started))
            .into_paginator()
            .items()
            .send();
        let counted = |row: &Row| {
            let part = number_in(row, COUNTED_IN);
            part.is_some_and(|part| progress.snapshot_parts.contains(&part))
        };
        let mut lineages = Vec::new();
        while let Some(row) = pages.next().await {
            let row = row.map_err(failed("dynamodb:Query"))?;
            let lineage = text_in(&row, LINEAGE).cloned().zip(amount(&row, UPPER_BOUND_USD));
            lineages.extend(lineage.filter(|_| counted(&row)));
        }
        Ok(lineages)
    }

    /// Marks a finding as RESOLVED, unless another run has seen it since. Returns true if it was marked.
    ///
    /// # Errors
    /// The table does not answer.
    pub async fn resolve(
        &self,
        scope: &str,
        stale: &Stale,
        before: Timestamp,
        end: Resolution,
    ) -> Result<bool, CallError> {
        let (resolution, saved, exit) = match end {
            Resolution::Deleted { saving } => ("DELETED", saving.map(Saving::certain), None),
            Resolution::Kept => ("KEPT", Some(Usd::default()), None),
            Resolution::InRecycleBin { until } => (IN_RECYCLE_BIN, Some(Usd::default()), until),
        };
        let names = names([STATUS, LAST_SEEN, RESOLVED_AT, RESOLUTION, RECYCLE_BIN_EXIT_AT]);
        let mut set = "SET #status = :resolved, #resolved_at = :now, #resolution = :resolution".to_owned();
        let mut request = self.dynamodb.update_item().table_name(&self.name);
        if let Some(saved) = saved {
            set.push_str(", saved_monthly_usd = :saved");
            request = request.expression_attribute_values(":saved", number(&saved));
        }
        let update = match exit {
            Some(exit) => {
                request = request.expression_attribute_values(":exit", seconds(exit));
                format!("{set}, #{RECYCLE_BIN_EXIT_AT} = :exit")
            }
            None if saved.is_none() => format!("{set} REMOVE #{RECYCLE_BIN_EXIT_AT}, saved_monthly_usd"),
            None => format!("{set} REMOVE #{RECYCLE_BIN_EXIT_AT}"),
        };
        let answer = request
            .set_key(Some(key(scope, &stale.resource)))
            .update_expression(update)
            .condition_expression(UNSEEN)
            .set_expression_attribute_names(Some(names))
            .expression_attribute_values(":resolved", text("RESOLVED"))
            .expression_attribute_values(":open", text("OPEN"))
            .expression_attribute_values(":bin", text(IN_RECYCLE_BIN))
            .expression_attribute_values(":now", seconds(clock::now()))
            .expression_attribute_values(":before", seconds(before))
            .expression_attribute_values(":resolution", text(resolution))
            .send()
            .await
            .map_err(failed("dynamodb:UpdateItem"));
        written(answer)
    }

    fn of_type(
        &self,
        scope: &str,
        kind: ResourceType,
    ) -> aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder {
        self.dynamodb
            .query()
            .table_name(&self.name)
            .consistent_read(true)
            .key_condition_expression("#account_region = :scope AND begins_with(#resource, :type)")
            .expression_attribute_values(":scope", text(scope))
            .expression_attribute_values(":type", text(&format!("{kind}#")))
    }
}

fn amount(row: &Row, name: &str) -> Option<Usd> {
    number_in(row, name).map(Usd::new)
}

fn open_row(row: &Row) -> Option<(String, i64)> {
    let first_seen = number_in(row, FIRST_SEEN)?;
    (text_in(row, STATUS)? == "OPEN").then_some((text_in(row, RESOURCE)?.clone(), first_seen))
}

fn stale_row(row: &Row) -> Option<Stale> {
    Some(Stale {
        resource: text_in(row, RESOURCE)?.clone(),
        monthly: amount(row, MONTHLY_COST_USD),
        upper_bound: amount(row, UPPER_BOUND_USD),
        lineage: text_in(row, LINEAGE).cloned(),
    })
}
