//! The scan of one account and region: address by address, volume by volume, snapshot by snapshot.
//!
//! Each page is judged and written before the next is asked for: memory holds one page, whatever the
//! account's size. A listing that ends well may resolve what it did not see; one that fails resolves
//! nothing, finds nothing wrong, and stands in the report.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use futures_util::{StreamExt, TryStreamExt, stream};
use spot_cloud::listing::Page;
use spot_cloud::places::Place;
use spot_cloud::{CallError, Kind};
use spot_domain::Usd;
use spot_domain::ebs_prices::Price;
use spot_domain::storage::{Address, Snapshot, Volume};
use spot_domain::waste::{ResourceType, Rules};
use spot_domain::waste_report::{Lineages, Listing};

use crate::finding::Finding;
use crate::images::Images;
use crate::listings::{self, Binned, Judged};
use crate::progress::{Position, Progress};
use crate::table::{End, Stale, WasteTable};

/// No new page is begun with less time than this: one page, throttled and written in full, its
/// resolving, and the run's summary fit in.
pub const RESERVE: Duration = Duration::from_mins(1);

/// Findings that are resolved at a time: each is a conditional write of its own.
const RESOLVED_SIDE_BY_SIDE: usize = 16;

/// What a scan works with.
#[derive(Debug)]
pub struct Scan<'a> {
    /// The account and region.
    pub place: &'a Place,
    /// EC2 there.
    pub ec2: aws_sdk_ec2::Client,
    /// Where findings go.
    pub table: &'a WasteTable,
    /// What waste is. Its `now` is the run's start.
    pub rules: Rules<'a>,
    /// When Lambda ends this invocation.
    pub deadline: SystemTime,
}

/// What the snapshots' listing carries along, page by page.
#[derive(Debug, Default)]
struct SnapshotContext {
    images: Images,
    lineages: Lineages,
    /// The present part, as [`Progress::snapshot_parts`] names it.
    part: i64,
}

impl Scan<'_> {
    /// Goes on from `progress` to the end, or until the time is up.
    pub async fn go_on(&self, progress: &mut Progress) {
        while let Some(position) = progress.next.take() {
            let kind = position.listing;
            match self.go_on_with(position, progress).await {
                Ok(None) => {}
                Ok(unfinished) => {
                    progress.next = unfinished;
                    return;
                }
                Err(error) => {
                    tracing::error!(scope = self.place.key(), listing = kind.name(), "{error}");
                    progress.report.fail(kind, &error);
                }
            }
            progress.next = following(kind).map(Position::first);
            if progress.next.is_some() && !self.has_time() {
                return;
            }
        }
    }

    /// One type to its end (`None`), or until the time is up: listed, then what was not seen resolved.
    async fn go_on_with(
        &self,
        position: Position,
        progress: &mut Progress,
    ) -> Result<Option<Position>, CallError> {
        let mut context = self.context(&position, progress).await?;
        if !position.listed {
            let (next, listing) = self.listed(&position, progress, &mut context).await;
            progress.report.types.insert(position.listing, listing);
            if let Some(error) = context.images.unread() {
                progress.report.fail_recycle_bin(error);
            }
            if let Some(next) = next? {
                return Ok(Some(next));
            }
        }
        let done = self.resolve(position.listing, &context.lineages, progress).await?;
        Ok((!done).then_some(Position { token: None, listed: true, ..position }))
    }

    /// What an earlier invocation knew that this one needs.
    async fn context(
        &self,
        position: &Position,
        progress: &mut Progress,
    ) -> Result<SnapshotContext, CallError> {
        let mut context = SnapshotContext::default();
        if position.listing != ResourceType::Snapshot {
            return Ok(context);
        }
        if position.listed || position.token.is_some() {
            for (lineage, price) in self.table.lineages_of(&self.place.key(), progress).await? {
                context.lineages.add(&lineage, price);
            }
        } else {
            progress.snapshot_parts.clear();
        }
        context.part = progress.begin_snapshot_part();
        Ok(context)
    }

    /// Goes on with a listing: where the next invocation goes on, if the time is up, and what it holds.
    async fn listed(
        &self,
        position: &Position,
        progress: &mut Progress,
        context: &mut SnapshotContext,
    ) -> (Result<Option<Position>, CallError>, Listing) {
        let resumed = position.token.is_some();
        let before = progress.report.types.remove(&position.listing);
        let mut listing = before.filter(|_| resumed).unwrap_or_default();
        let mut ended = self.list(position, &mut listing, context).await;
        if resumed && ended.as_ref().is_err_and(is_refused_token) {
            // EC2 keeps its tokens for a while only: list this type from its beginning.
            (listing, context.lineages) = Default::default();
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
            context.images = listings::images(&self.ec2).await?;
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

    /// Lists, judges and writes one page; the token of the next.
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
                let page = listings::addresses(&self.ec2, |address| rules.address(address)).await?;
                let price = |address: &Address| rules.address_price(address);
                found(page, listing, price, Finding::address)
            }
            ResourceType::Volume => {
                let page = listings::volumes(&self.ec2, token, |volume| rules.volume(volume)).await?;
                found(page, listing, |volume: &Volume| rules.volume_price(volume), Finding::volume)
            }
            ResourceType::Snapshot => {
                let (owner, judge) = (&self.place.account_id, |snapshot: &Snapshot| rules.snapshot(snapshot));
                let page = listings::snapshots(&self.ec2, owner, &context.images, token, judge).await?;
                let price = |snapshot: &Snapshot| rules.snapshot_price(snapshot);
                found(page, listing, price, |snapshot, price| {
                    let adds = price.map(|price| context.lineages.add(snapshot.lineage(), price.monthly));
                    Finding::snapshot(snapshot, price, adds, context.part)
                })
            }
        };
        self.table.write(&self.place.key(), findings).await?;
        Ok(next)
    }

    /// Resolves what a complete listing did not see; false if the time is up before the end. Only what
    /// EC2 does not know any more saves money. Where the Recycle Bin can't be read, what is gone stays as it is.
    async fn resolve(
        &self,
        kind: ResourceType,
        lineages: &Lineages,
        progress: &mut Progress,
    ) -> Result<bool, CallError> {
        let scope = self.place.key();
        let (mut after, mut bin) = (None, Bin::NotAsked);
        loop {
            let (stale, next) = self.table.stale(&scope, kind, self.rules.now, after).await?;
            let ids: Vec<String> = stale.iter().map(|stale| stale.id().to_owned()).collect();
            let existing = listings::existing(&self.ec2, kind, &ids).await?;
            if matches!(bin, Bin::NotAsked) && ids.iter().any(|id| !existing.contains(id)) {
                bin = match listings::recycle_bin(&self.ec2, kind).await {
                    Ok(binned) => Bin::Read(binned),
                    Err(error) => {
                        progress.report.fail_recycle_bin(&error);
                        Bin::Unread
                    }
                };
            }
            let ends = stale.iter().filter_map(|stale| Some((stale, end(stale, &existing, &bin, lineages)?)));
            let mut ends = stream::iter(ends)
                .map(|(stale, end)| self.resolved(&scope, stale, end))
                .buffer_unordered(RESOLVED_SIDE_BY_SIDE);
            while let Some(marked) = ends.try_next().await? {
                match marked {
                    Some((_, End::Deleted { saved })) => {
                        progress.report.resolved.ended(saved.unwrap_or_default());
                    }
                    Some((_, End::Kept)) => progress.report.resolved.ended(Usd::default()),
                    Some((stale, End::InRecycleBin { .. })) => {
                        progress.report.resolved.binned(stale.monthly.unwrap_or_default());
                    }
                    None => {}
                }
            }
            if next.is_none() || !self.has_time() {
                return Ok(next.is_none());
            }
            after = next;
        }
    }

    /// Marks the end of a finding; `None` if another run has seen it meanwhile.
    async fn resolved<'s>(
        &self,
        scope: &str,
        stale: &'s Stale,
        end: End,
    ) -> Result<Option<(&'s Stale, End)>, CallError> {
        let marked = self.table.resolve(scope, stale, self.rules.now, end).await?;
        Ok(marked.then_some((stale, end)))
    }

    fn has_time(&self) -> bool {
        SystemTime::now() + RESERVE < self.deadline
    }
}

/// An answer that can't be read refuses nothing: it would be the same from the beginning.
fn is_refused_token(error: &CallError) -> bool {
    matches!(error.kind, Kind::Rejected | Kind::NotFound) && !error.is_malformed()
}

/// The Recycle Bin, as far as the resolving of a type has come.
enum Bin {
    /// Nothing that is gone has been met yet.
    NotAsked,
    /// What of the type lies in it.
    Read(Binned),
    /// It can't be read.
    Unread,
}

/// Returns how a finding ended that a complete listing did not see; `None` if that is unknown.
fn end(stale: &Stale, existing: &HashSet<String>, bin: &Bin, lineages: &Lineages) -> Option<End> {
    let id = stale.id();
    if existing.contains(id) {
        return Some(End::Kept);
    }
    let Bin::Read(binned) = bin else { return None };
    Some(match binned.get(id) {
        Some(until) => End::InRecycleBin { until: *until },
        None => End::Deleted { saved: saved(stale, lineages) },
    })
}

/// What the deletion of a finding saves.
fn saved(stale: &Stale, lineages: &Lineages) -> Option<Usd> {
    let monthly = stale.monthly?;
    Some(stale.lineage.as_ref().map_or(monthly, |lineage| lineages.saved(lineage, monthly)))
}

/// Counts what a page holds; the findings in it, and the token of the next.
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
