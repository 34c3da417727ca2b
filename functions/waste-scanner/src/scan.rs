//! The scan of one account and region: first addresses, then volumes, then snapshots.
//!
//! The scan judges and writes each page before it asks for the next. Memory holds one page, whatever the
//! account's size. A complete listing may resolve findings that it did not see. A listing that fails resolves
//! nothing and stands in the report.

use std::collections::{BTreeSet, HashSet};
use std::time::{Duration, SystemTime};

use futures_util::{StreamExt, TryStreamExt, stream};
use spot_cloud::ec2::listing::Page;
use spot_cloud::scopes::Scope;
use spot_cloud::{CallError, Kind, RegionClients};
use spot_domain::clock;
use spot_domain::waste::prices::Price;
use spot_domain::waste::report::{Lineages, Listing, Resolved};
use spot_domain::waste::resources::{Address, Snapshot, Volume};
use spot_domain::waste::rules::{ResourceType, Rules};

use crate::listings::images::Images;
use crate::listings::launches::{self, Launches};
use crate::listings::locks::{self, Locks};
use crate::listings::sharing::{self, Asked, with_sharing};
use crate::listings::{self, Binned, Judged};
use crate::table::WasteTable;
use crate::table::finding::Finding;
use crate::table::findings::{Resolution, Stale};
use crate::table::progress::{Position, ScanProgress};

/// No new page is begun with less time than this. A throttled page, written and resolved in full, and the
/// run's summary take less.
/// It also asks for the sharing of 200 snapshots at most: ten seconds.
pub const RESERVE: Duration = Duration::from_mins(2);

/// Findings that are resolved at a time, each by a conditional write of its own.
const CONCURRENT_RESOLUTIONS: usize = 16;

/// The tools of a scan.
#[derive(Debug)]
pub struct Scan<'a> {
    /// The account and region.
    pub visit: &'a Scope,
    /// Clients of the account and region.
    pub clients: RegionClients,
    /// The table of the findings.
    pub table: &'a WasteTable,
    /// The rules that say which resources are waste. Their `now` is the run's start.
    pub rules: Rules<'a>,
    /// The time at which Lambda ends this invocation.
    pub deadline: SystemTime,
}

/// The facts that the snapshots' listing carries from page to page.
#[derive(Debug, Default)]
struct SnapshotContext {
    images: Images,
    launches: Launches,
    locks: Locks,
    sharing: Asked,
    lineages: Lineages,
    /// The current part, as [`ScanProgress::snapshot_parts`] names it.
    part: i64,
}

impl Scan<'_> {
    /// Resumes from `progress` and runs to the end, or until the time is up.
    pub async fn resume(&self, progress: &mut ScanProgress) {
        while let Some(position) = progress.next.take() {
            let kind = position.listing;
            match self.resume_type(position, progress).await {
                Ok(None) => {}
                Ok(unfinished) => {
                    progress.next = unfinished;
                    return;
                }
                Err(error) if self.is_left_out(kind, progress, &error) => {
                    tracing::info!("not scanned: {error}");
                    progress.report.leave_out();
                    return;
                }
                Err(error) => {
                    tracing::error!(scope = self.visit.place.key(), listing = kind.name(), "{error}");
                    progress.report.fail(kind, &error);
                }
            }
            progress.next = following(kind).map(Position::first);
            if progress.next.is_some() && !self.has_time() {
                return;
            }
        }
    }

    /// Lists one type, then resolves the findings that the listing did not see. Returns `None` at the end,
    /// and the position if the time is up.
    async fn resume_type(
        &self,
        position: Position,
        progress: &mut ScanProgress,
    ) -> Result<Option<Position>, CallError> {
        let mut context = self.context(&position, progress).await?;
        if !position.listed {
            let (next, listing) = self.listed(&position, progress, &mut context).await;
            progress.report.types.insert(position.listing, listing);
            if let Some(error) = context.images.unread() {
                progress.report.fail_recycle_bin(error);
            }
            if let Some(error) = context.locks.unread() {
                progress.report.fail_locks(error);
            }
            if let Some(error) = &context.sharing.failure {
                progress.report.fail_sharing(error);
            }
            if let Some(next) = next? {
                return Ok(Some(next));
            }
        }
        let done = self.resolve(position.listing, progress).await?;
        Ok((!done).then_some(Position { token: None, listed: true, ..position }))
    }

    /// Reads the facts of earlier invocations that this one needs.
    async fn context(
        &self,
        position: &Position,
        progress: &mut ScanProgress,
    ) -> Result<SnapshotContext, CallError> {
        let mut context = SnapshotContext::default();
        if position.listing != ResourceType::Snapshot || position.listed {
            return Ok(context);
        }
        if position.token.is_some() {
            for (lineage, price) in self.table.lineages_of(&self.visit.place.key(), progress).await? {
                context.lineages.add(&lineage, price);
            }
        } else {
            progress.snapshot_parts.clear();
        }
        context.part = progress.begin_snapshot_part();
        Ok(context)
    }

    /// Resumes a listing. Returns the position for the next invocation, if the time is up, and the carried
    /// facts.
    async fn listed(
        &self,
        position: &Position,
        progress: &mut ScanProgress,
        context: &mut SnapshotContext,
    ) -> (Result<Option<Position>, CallError>, Listing) {
        let resumed = position.token.is_some();
        let before = progress.report.types.remove(&position.listing);
        let mut listing = before.filter(|_| resumed).unwrap_or_default();
        let mut ended = self.list(position, &mut listing, context).await;
        if resumed && ended.as_ref().is_err_and(is_refused_token) {
            // EC2 keeps its tokens for a limited time: list this type from its beginning.
            (listing, context.lineages) = Default::default();
            context.sharing.restart();
            progress.snapshot_parts.clear();
            context.part = progress.begin_snapshot_part();
            ended = self.list(&Position::first(position.listing), &mut listing, context).await;
        }
        listing.complete = matches!(ended, Ok(None));
        (ended, listing)
    }

    /// Lists one type to its end (`None`), or until the time is up.
    async fn list(
        &self,
        from: &Position,
        listing: &mut Listing,
        context: &mut SnapshotContext,
    ) -> Result<Option<Position>, CallError> {
        if from.listing == ResourceType::Snapshot {
            context.images = listings::images(&self.clients.ec2).await?;
            context.launches = launches::launches(&self.clients).await?;
            context.locks = locks::locks(&self.clients.ec2).await;
        }
        let mut token = from.token.clone();
        loop {
            let next = self.page(from.listing, token.as_deref(), listing, context).await?;
            if from.listing == ResourceType::Snapshot {
                listing.lineages = Some(context.lineages.count());
            }
            if next.is_none() || !self.has_time() {
                return Ok(next.map(|token| Position { token: Some(token), ..Position::first(from.listing) }));
            }
            token = next;
        }
    }

    /// Lists, judges and writes one page. Returns the token of the next page.
    async fn page(
        &self,
        kind: ResourceType,
        token: Option<&str>,
        listing: &mut Listing,
        context: &mut SnapshotContext,
    ) -> Result<Option<String>, CallError> {
        let rules = &self.rules;
        let (findings, next) = match kind {
            ResourceType::ElasticIp => {
                let page = listings::addresses(&self.clients.ec2, |address| rules.address(address)).await?;
                let price = |address: &Address| rules.address_price(address);
                found(page, listing, price, Finding::address)
            }
            ResourceType::Volume => {
                let page = listings::volumes(&self.clients.ec2, token, |volume| rules.volume(volume)).await?;
                found(page, listing, |volume: &Volume| rules.volume_price(volume), Finding::volume)
            }
            ResourceType::Snapshot => {
                let (owner, judge) =
                    (&self.visit.place.account_id, |snapshot: &Snapshot| rules.snapshot(snapshot));
                let SnapshotContext { images, launches, locks, .. } = &*context;
                let ec2 = &self.clients.ec2;
                let page = listings::snapshots(ec2, owner, images, launches, locks, token, judge).await?;
                let page = with_sharing(ec2, owner, page, &mut context.sharing, judge).await;
                listing.sharing_unknown += sharing::unknown(&page);
                let price = |snapshot: &Snapshot| rules.snapshot_price(snapshot);
                found(page, listing, price, |snapshot, price| {
                    let adds = price.map(|price| context.lineages.add(snapshot.lineage(), price.monthly));
                    Finding::snapshot(snapshot, price, adds, context.part)
                })
            }
        };
        self.table.write(&self.visit.place.key(), findings).await?;
        Ok(next)
    }

    /// Resolves the findings that a complete listing did not see. Returns false if the time is up before the
    /// end. Only a resource that EC2 does not know any more saves money. If the Recycle Bin can't be read,
    /// findings of missing resources stay as they are.
    async fn resolve(&self, kind: ResourceType, progress: &mut ScanProgress) -> Result<bool, CallError> {
        let scope = self.visit.place.key();
        let (mut after, mut bin) = (None, Bin::NotAsked);
        loop {
            let (stale, next) = self.table.stale(&scope, kind, self.rules.now, after).await?;
            let ids: Vec<String> = stale.iter().map(|stale| stale.id().to_owned()).collect();
            let existing = listings::existing(&self.clients.ec2, kind, &ids).await?;
            let gone: Vec<&Stale> = stale.iter().filter(|stale| !existing.contains(stale.id())).collect();
            if matches!(bin, Bin::NotAsked) && !gone.is_empty() {
                bin = match listings::recycle_bin(&self.clients.ec2, kind).await {
                    Ok(binned) => Bin::Read(binned),
                    Err(error) => {
                        progress.report.fail_recycle_bin(&error);
                        Bin::Unread
                    }
                };
            }
            let shared = listings::with_snapshots(&self.clients.ec2, &volumes(&gone)).await?;
            let ends = stale.iter().filter_map(|stale| Some((stale, end(stale, &existing, &bin, &shared)?)));
            let mut ends = stream::iter(ends)
                .map(|(stale, end)| self.resolved(&scope, stale, end))
                .buffer_unordered(CONCURRENT_RESOLUTIONS);
            while let Some(marked) = ends.try_next().await? {
                if let Some((stale, end)) = marked {
                    count(&mut progress.report.resolved, stale, end);
                }
            }
            if next.is_none() || !self.has_time() {
                return Ok(next.is_none());
            }
            after = next;
        }
    }

    /// Marks the end of a finding; `None` if another run has seen the finding meanwhile.
    async fn resolved<'s>(
        &self,
        scope: &str,
        stale: &'s Stale,
        end: Resolution,
    ) -> Result<Option<(&'s Stale, Resolution)>, CallError> {
        let marked = self.table.resolve(scope, stale, self.rules.now, end).await?;
        Ok(marked.then_some((stale, end)))
    }

    /// Returns true if the first call of all leaves the region out. A listing that is complete has had its answer.
    fn is_left_out(&self, kind: ResourceType, progress: &ScanProgress, error: &CallError) -> bool {
        let is_listed = progress.report.types.values().any(|listing| listing.complete);
        kind == ResourceType::ALL[0] && !is_listed && self.visit.is_left_out(error)
    }

    fn has_time(&self) -> bool {
        clock::system_time() + RESERVE < self.deadline
    }
}

/// Says if EC2 refuses the token itself. An answer that can't be read refuses nothing: it would be the same
/// from the beginning.
fn is_refused_token(error: &CallError) -> bool {
    matches!(error.kind, Kind::Rejected | Kind::NotFound) && !error.is_malformed()
}

/// The Recycle Bin, as the resolving of a type knows it.
enum Bin {
    /// No missing resource has been met yet.
    NotAsked,
    /// The resources of the type in the bin.
    Read(Binned),
    /// The bin can't be read.
    Unread,
}

/// Returns the volumes that these snapshots were taken of, each once. A copy and an archived snapshot are
/// lineages of their own, and name none.
fn volumes(snapshots: &[&Stale]) -> Vec<String> {
    let lineages = snapshots.iter().filter_map(|stale| stale.lineage.as_deref());
    let volumes: BTreeSet<&str> = lineages.filter(|lineage| lineage.starts_with("vol-")).collect();
    volumes.into_iter().map(str::to_owned).collect()
}

/// Returns the end of a finding that a complete listing did not see; `None` if that is unknown. `shared` are
/// the volumes that have snapshots left.
fn end(stale: &Stale, existing: &HashSet<String>, bin: &Bin, shared: &HashSet<String>) -> Option<Resolution> {
    let id = stale.id();
    if existing.contains(id) {
        return Some(Resolution::Kept);
    }
    let Bin::Read(binned) = bin else { return None };
    if let Some(until) = binned.get(id) {
        return Some(Resolution::InRecycleBin { until: *until });
    }
    let shares_blocks = stale.lineage.as_ref().is_some_and(|volume| shared.contains(volume));
    Some(Resolution::Deleted { saving: stale.saving(shares_blocks) })
}

/// Counts a finding that ended.
fn count(resolved: &mut Resolved, stale: &Stale, end: Resolution) {
    match end {
        Resolution::Deleted { saving } => resolved.deleted(saving),
        Resolution::Kept => resolved.kept(),
        Resolution::InRecycleBin { .. } => resolved.binned(stale.monthly.unwrap_or_default()),
    }
}

/// Counts the resources of a page. Returns the findings among them, and the token of the next page.
fn found<T>(
    page: Page<Judged<T>>,
    listing: &mut Listing,
    price: impl Fn(&T) -> Option<Price>,
    mut finding: impl FnMut(T, Option<Price>) -> Finding,
) -> (Vec<Finding>, Option<String>) {
    let mut findings = Vec::new();
    for judged in page.items {
        match judged {
            Judged::Waste(resource) => {
                let price = price(&resource);
                let finding = finding(resource, price);
                listing.found(finding.monthly, finding.price.map(|price| price.monthly));
                findings.push(finding);
            }
            Judged::LeftAlone(why, resource) => {
                listing.left_alone(why, price(&resource).map(|price| price.monthly));
            }
        }
    }
    (findings, page.next)
}

fn following(kind: ResourceType) -> Option<ResourceType> {
    ResourceType::ALL.into_iter().find(|next| *next > kind)
}
