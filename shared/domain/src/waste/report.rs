//! The sums of a scan: per type, per account and region, and for the whole run.
//!
//! A total is the exact sum of its rows. A listing that failed or has not ended is never complete, so that
//! its figures never read as "none".

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::{AccountId, Region};
use crate::money::Usd;
use crate::not_visited::NotVisitedReason;
use crate::waste::rules::{LeftAlone, ResourceType};

mod lineages;

pub use lineages::Lineages;

/// The most characters of an error that a report quotes: an error may hold a whole answer of AWS.
const ERROR_CHARACTERS: usize = 400;
/// The name of the Recycle Bin in a [`Failed`].
const RECYCLE_BIN: &str = "recycle-bin";
/// The name of the locks of snapshots in a [`Failed`].
const SNAPSHOT_LOCKS: &str = "snapshot-locks";
/// The name of the sharing of snapshots in a [`Failed`].
const SNAPSHOT_SHARING: &str = "snapshot-sharing";

/// The findings of one type.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// The number of findings.
    pub count: u64,
    /// The findings' monthly cost: the sum of the rows. Snapshots of one volume count once, at the largest of
    /// them.
    pub monthly_cost_usd: Usd,
    /// Findings whose price no source knows; only `count` includes them.
    pub unknown_price: u64,
    /// The findings' monthly cost at most, as if no two snapshots shared a block. For other types, the bound
    /// is the same as `monthly_cost_usd`.
    pub upper_bound_usd: Usd,
    /// Volumes (and copies, and archived snapshots) that the snapshots were taken of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lineages: Option<u64>,
    /// Findings of which EC2 did not say if they are shared with other accounts, or was not asked.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub sharing_unknown: u64,
    /// Resources that looked like waste and were left alone, by reason.
    pub left_alone: BTreeMap<LeftAlone, Spared>,
    /// The listing ran to its end.
    pub complete: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Listing {
    /// Adds one finding: its share of the total, and its own cost at most.
    pub fn found(&mut self, monthly: Option<Usd>, upper_bound: Option<Usd>) {
        self.count += 1;
        match (monthly, upper_bound) {
            (Some(monthly), Some(bound)) => {
                self.monthly_cost_usd = self.monthly_cost_usd + monthly;
                self.upper_bound_usd = self.upper_bound_usd + bound;
            }
            _ => self.unknown_price += 1,
        }
    }

    /// Adds one resource that is left alone, and its own cost at most.
    pub fn left_alone(&mut self, why: LeftAlone, upper_bound: Option<Usd>) {
        let spared = self.left_alone.entry(why).or_default();
        spared.count += 1;
        match upper_bound {
            Some(bound) => spared.upper_bound_usd = spared.upper_bound_usd + bound,
            None => spared.unknown_price += 1,
        }
    }

    fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.monthly_cost_usd = self.monthly_cost_usd + other.monthly_cost_usd;
        self.unknown_price += other.unknown_price;
        self.sharing_unknown += other.sharing_unknown;
        self.upper_bound_usd = self.upper_bound_usd + other.upper_bound_usd;
        self.complete &= other.complete;
        if let Some(lineages) = other.lineages {
            *self.lineages.get_or_insert_default() += lineages;
        }
        for (why, other) in &other.left_alone {
            let spared = self.left_alone.entry(*why).or_default();
            spared.count += other.count;
            spared.upper_bound_usd = spared.upper_bound_usd + other.upper_bound_usd;
            spared.unknown_price += other.unknown_price;
        }
    }
}

/// Resources that were left alone for one reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spared {
    /// The number of resources.
    pub count: u64,
    /// The resources' monthly price at most, as if snapshots shared no blocks. For other types, the bound is
    /// their price.
    pub upper_bound_usd: Usd,
    /// Resources whose price no source knows; only `count` includes them.
    pub unknown_price: u64,
}

/// Findings that are gone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolved {
    /// The number of findings that ended.
    pub count: u64,
    /// The monthly saving of the deleted resources. A resource that still exists (attached again, opted out)
    /// ends as a finding and saves nothing.
    pub saved_monthly_usd: Usd,
    /// Deleted snapshots that may have shared their blocks with snapshots that are left. `count` includes
    /// them, and `saved_monthly_usd` has nothing of their saving.
    #[serde(default, skip_serializing_if = "SharedBlocks::is_none")]
    pub shared_blocks: SharedBlocks,
    /// Findings that were deleted into the Recycle Bin. Such findings are billed until they leave the bin;
    /// `count` includes none of them.
    #[serde(default, skip_serializing_if = "Binned::is_none")]
    pub recycle_bin: Binned,
}

/// The monthly amount that a deletion saves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saving {
    /// The finding's share of the total: nothing else holds the resource's blocks.
    Whole(Usd),
    /// From nothing to this amount: snapshots of the same volume are left, and may hold the same blocks.
    AtMost(Usd),
}

impl Saving {
    /// Returns the amount that is saved for certain.
    #[must_use]
    pub fn certain(self) -> Usd {
        match self {
            Self::Whole(amount) => amount,
            Self::AtMost(_) => Usd::default(),
        }
    }
}

/// Deleted snapshots of volumes that have other snapshots. Snapshots are incremental, and AWS reports no
/// sizes of their own blocks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedBlocks {
    /// The number of deleted snapshots.
    pub count: u64,
    /// The monthly saving of the snapshots at most, as if none had shared a block. The least is nothing.
    pub upper_bound_usd: Usd,
}

impl SharedBlocks {
    fn is_none(&self) -> bool {
        self.count == 0
    }
}

/// Findings that are in the Recycle Bin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binned {
    /// The number of findings.
    pub count: u64,
    /// The findings' monthly cost, as the total counted them while they were open.
    pub monthly_cost_usd: Usd,
}

impl Binned {
    fn is_none(&self) -> bool {
        self.count == 0
    }
}

impl Resolved {
    /// Adds a finding whose resource still exists.
    pub fn kept(&mut self) {
        self.count += 1;
    }

    /// Adds a finding whose resource was deleted, and its saving; `None` if the price was unknown.
    pub fn deleted(&mut self, saving: Option<Saving>) {
        self.count += 1;
        if let Some(saving) = saving {
            self.saved_monthly_usd = self.saved_monthly_usd + saving.certain();
        }
        if let Some(Saving::AtMost(bound)) = saving {
            self.shared_blocks.count += 1;
            self.shared_blocks.upper_bound_usd = self.shared_blocks.upper_bound_usd + bound;
        }
    }

    /// Adds a finding that is in the Recycle Bin, and its monthly cost there.
    pub fn binned(&mut self, monthly: Usd) {
        self.recycle_bin.count += 1;
        self.recycle_bin.monthly_cost_usd = self.recycle_bin.monthly_cost_usd + monthly;
    }

    fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.saved_monthly_usd = self.saved_monthly_usd + other.saved_monthly_usd;
        self.shared_blocks.count += other.shared_blocks.count;
        let bound = self.shared_blocks.upper_bound_usd + other.shared_blocks.upper_bound_usd;
        self.shared_blocks.upper_bound_usd = bound;
        self.recycle_bin.count += other.recycle_bin.count;
        let monthly = self.recycle_bin.monthly_cost_usd + other.recycle_bin.monthly_cost_usd;
        self.recycle_bin.monthly_cost_usd = monthly;
    }
}

/// A listing that failed. The findings of such a listing are unknown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// The account.
    pub account_id: AccountId,
    /// The region; absent if the scan failed before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<Region>,
    /// The listing that failed: a resource type, `recycle-bin`, `snapshot-locks`, `snapshot-sharing`, or
    /// `account`.
    pub listing: String,
    /// The error, cut.
    pub error: String,
}

/// An enabled region that was not scanned. Its findings, if it ever had any, stay as they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotScanned {
    /// The account.
    pub account_id: AccountId,
    /// The region.
    pub region: Region,
    /// The reason for it.
    pub reason: NotVisitedReason,
}

/// One account and region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScopeReport {
    /// The account.
    pub account_id: AccountId,
    /// The region.
    pub region: Region,
    /// The findings by type. A type that was not reached yet is absent.
    pub types: BTreeMap<ResourceType, Listing>,
    /// Findings that this run resolved.
    pub resolved: Resolved,
    /// Listings that failed.
    pub failed: Vec<Failed>,
    /// A newer run began here before this one had seen all of it, and reports the rest.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub overtaken: bool,
    /// A service control policy denies the region, which nobody names, so that nothing was scanned.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub left_out: bool,
}

impl ScopeReport {
    /// Returns the report of a scope before its scan.
    #[must_use]
    pub fn new(account_id: AccountId, region: Region) -> Self {
        let (types, resolved) = (BTreeMap::new(), Resolved::default());
        Self { account_id, region, types, resolved, failed: Vec::new(), overtaken: false, left_out: false }
    }

    /// Returns the monthly cost of the findings.
    #[must_use]
    pub fn total(&self) -> Usd {
        self.types.values().map(|listing| listing.monthly_cost_usd).sum()
    }

    /// Notes that the region is left out: a service control policy denies it, and nobody names it.
    pub fn leave_out(&mut self) {
        self.types.clear();
        self.left_out = true;
    }

    fn not_scanned(self) -> NotScanned {
        let (account_id, region) = (self.account_id, self.region);
        NotScanned { account_id, region, reason: NotVisitedReason::Denied }
    }

    /// Notes that a type could not be listed.
    pub fn fail(&mut self, listing: ResourceType, error: &impl ToString) {
        self.types.entry(listing).or_default().complete = false;
        self.note(listing.name(), error);
    }

    /// Notes that a call of the Recycle Bin failed, the same failure once for each scope. The listings are
    /// complete without that call.
    pub fn fail_recycle_bin(&mut self, error: &impl ToString) {
        let failure = self.failure(RECYCLE_BIN, error);
        if !self.failed.contains(&failure) {
            self.failed.push(failure);
        }
    }

    /// Notes that the locks of the snapshots could not be listed, once for each scope. The listing is complete
    /// without them.
    pub fn fail_locks(&mut self, error: &impl ToString) {
        self.note_once(SNAPSHOT_LOCKS, error);
    }

    /// Notes that EC2 did not say of each finding if it is shared, once for each scope: a refusal names the
    /// snapshot, and reads differently for each. The listing is complete without it.
    pub fn fail_sharing(&mut self, error: &impl ToString) {
        self.note_once(SNAPSHOT_SHARING, error);
    }

    fn note_once(&mut self, listing: &str, error: &impl ToString) {
        if !self.failed.iter().any(|failed| failed.listing == listing) {
            self.note(listing, error);
        }
    }

    fn note(&mut self, listing: &str, error: &impl ToString) {
        self.failed.push(self.failure(listing, error));
    }

    fn failure(&self, listing: &str, error: &impl ToString) -> Failed {
        Failed {
            account_id: self.account_id.clone(),
            region: Some(self.region.clone()),
            listing: listing.to_owned(),
            error: error.to_string().chars().take(ERROR_CHARACTERS).collect(),
        }
    }
}

/// The whole run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ScanSummary {
    /// The time when the run began.
    pub run_started: Timestamp,
    /// The monthly cost of all findings: the sum of the types, which are the sums of their rows.
    pub total_monthly_waste_usd: Usd,
    /// The scan is not complete: a listing failed, the run continues, or a newer run overtook it.
    pub partial: bool,
    /// The invocation's time was up. The run continues in another invocation, which reports the whole.
    pub continues: bool,
    /// The findings by type, over all accounts and regions.
    pub types: BTreeMap<ResourceType, Listing>,
    /// Findings that are gone.
    pub resolved: Resolved,
    /// The listings that failed.
    pub failed: Vec<Failed>,
    /// The report of each account and region.
    pub scopes: Vec<ScopeReport>,
    /// The enabled regions that were left out: a service control policy denies them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_scanned: Vec<NotScanned>,
}

impl ScanSummary {
    /// Adds up the scopes. `failed` are accounts that could not even be entered. `continues` says that some
    /// scopes have not ended.
    #[must_use]
    pub fn new(
        run_started: Timestamp,
        scopes: Vec<ScopeReport>,
        mut failed: Vec<Failed>,
        continues: bool,
    ) -> Self {
        let (left_out, scopes): (Vec<_>, Vec<_>) = scopes.into_iter().partition(|scope| scope.left_out);
        let mut types = BTreeMap::new();
        let mut resolved = Resolved::default();
        for kind in ResourceType::ALL {
            let mut sum = Listing { complete: true, ..Listing::default() };
            for scope in &scopes {
                match scope.types.get(&kind) {
                    Some(listing) => sum.add(listing),
                    None => sum.complete = false,
                }
            }
            types.insert(kind, sum);
        }
        for scope in &scopes {
            failed.extend(scope.failed.iter().cloned());
            resolved.add(&scope.resolved);
        }
        Self {
            run_started,
            total_monthly_waste_usd: types.values().map(|listing| listing.monthly_cost_usd).sum(),
            partial: continues || !failed.is_empty() || scopes.iter().any(|scope| scope.overtaken),
            continues,
            types,
            resolved,
            failed,
            scopes,
            not_scanned: left_out.into_iter().map(ScopeReport::not_scanned).collect(),
        }
    }
}

#[cfg(test)]
mod tests;
