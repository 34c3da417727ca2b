//! The scan of one account and region: address by address, volume by volume, snapshot by snapshot.
//!
//! Each page is judged and written before the next is asked for: memory holds one page, whatever the
//! account's size. A listing that ends well may resolve what it did not see; one that fails resolves
//! nothing, finds nothing wrong, and stands in the report.

use std::time::{Duration, SystemTime};

use spot_cloud::places::Place;
use spot_cloud::{CallError, Kind};
use spot_domain::Usd;
use spot_domain::storage::Snapshot;
use spot_domain::waste::{ResourceType, Rules, Verdict};
use spot_domain::waste_report::{Lineages, Listing};

use crate::finding::Finding;
use crate::listings::{self, Page, UsedSnapshots};
use crate::progress::{Position, Progress};
use crate::table::{End, Stale, WasteTable};

/// No new page is begun with less time than this: one page, throttled and written in full, its
/// resolving, and the run's summary fit in.
pub const RESERVE: Duration = Duration::from_mins(1);

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
    used: UsedSnapshots,
    lineages: Lineages,
}

impl Scan<'_> {
    /// Goes on from `progress` to the end, or until the time is up.
    pub async fn go_on(&self, progress: &mut Progress) {
        while let Some(position) = progress.next.take() {
            let (kind, resumed) = (position.listing, position.token.is_some());
            let mut listing = progress.report.types.remove(&kind).filter(|_| resumed).unwrap_or_default();
            let mut context = SnapshotContext::default();
            let mut ended = self.list(&position, &mut listing, &mut context).await;
            if resumed && ended.as_ref().is_err_and(|e| matches!(e.kind, Kind::Rejected | Kind::NotFound)) {
                // EC2 keeps its tokens for a while only: list this type from its beginning.
                let from_start = Position { listing: kind, token: None };
                (listing, context) = Default::default();
                ended = self.list(&from_start, &mut listing, &mut context).await;
            }
            let resolved = match &ended {
                Ok(None) => self.resolve(kind, &context.lineages, progress).await,
                _ => Ok(()),
            };
            listing.complete = matches!(ended, Ok(None));
            progress.report.types.insert(kind, listing);
            match ended.and_then(|position| resolved.map(|()| position)) {
                Ok(Some(position)) => {
                    progress.next = Some(position);
                    return;
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(scope = self.place.key(), listing = kind.name(), "{error}");
                    progress.report.fail(kind, &error);
                }
            }
            progress.next = following(kind).map(|listing| Position { listing, token: None });
            if progress.next.is_some() && !self.has_time() {
                return;
            }
        }
    }

    /// Lists one type to its end (`None`), or until the time is up.
    async fn list(
        &self,
        from: &Position,
        listing: &mut Listing,
        context: &mut SnapshotContext,
    ) -> Result<Option<Position>, CallError> {
        if from.listing == ResourceType::Snapshot {
            context.used = listings::used_by_images(&self.ec2).await?;
            if from.token.is_some() {
                let before = self.table.lineages_since(&self.place.key(), self.rules.now).await?;
                for (lineage, price) in before {
                    context.lineages.add(&lineage, price);
                }
            }
        }
        let mut token = from.token.clone();
        loop {
            let next = self.page(from.listing, token.as_deref(), listing, context).await?;
            if from.listing == ResourceType::Snapshot {
                listing.lineages = Some(context.lineages.count());
            }
            if next.is_none() || !self.has_time() {
                return Ok(next.map(|token| Position { listing: from.listing, token: Some(token) }));
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
                let page = listings::addresses(&self.ec2).await?;
                judge(page, listing, |address| match rules.address(&address) {
                    Verdict::Waste => {
                        let price = rules.address_price(&address);
                        Ok(Finding::address(address, price))
                    }
                    verdict => Err(verdict),
                })
            }
            ResourceType::Volume => {
                let page = listings::volumes(&self.ec2, token).await?;
                judge(page, listing, |volume| match rules.volume(&volume) {
                    Verdict::Waste => {
                        let price = rules.volume_price(&volume);
                        Ok(Finding::volume(volume, price))
                    }
                    verdict => Err(verdict),
                })
            }
            ResourceType::Snapshot => {
                let owner = &self.place.account_id;
                let page = listings::snapshots(&self.ec2, owner, &context.used, token).await?;
                judge(page, listing, |snapshot| self.snapshot(snapshot, &mut context.lineages))
            }
        };
        self.table.write(&self.place.key(), findings).await?;
        Ok(next)
    }

    fn snapshot(&self, snapshot: Snapshot, lineages: &mut Lineages) -> Result<Finding, Verdict> {
        match self.rules.snapshot(&snapshot) {
            Verdict::Waste => {
                let price = self.rules.snapshot_price(&snapshot);
                let adds = price.map(|price| lineages.add(snapshot.lineage(), price.monthly));
                Ok(Finding::snapshot(snapshot, price, adds))
            }
            verdict => Err(verdict),
        }
    }

    /// Resolves what a complete listing did not see. Only what EC2 does not know any more saves money.
    async fn resolve(
        &self,
        kind: ResourceType,
        lineages: &Lineages,
        progress: &mut Progress,
    ) -> Result<(), CallError> {
        let (scope, before) = (self.place.key(), self.rules.now);
        let mut after = None;
        loop {
            let (stale, next) = self.table.stale(&scope, kind, before, after).await?;
            let ids: Vec<String> = stale.iter().map(|stale| stale.id().to_owned()).collect();
            let existing = listings::existing(&self.ec2, kind, &ids).await?;
            for stale in &stale {
                let end = if existing.contains(stale.id()) {
                    End::Kept
                } else {
                    End::Deleted { saved: saved(stale, lineages) }
                };
                if self.table.resolve(&scope, stale, before, end).await? {
                    progress.report.resolved.add(end.saved());
                }
            }
            if next.is_none() {
                return Ok(());
            }
            after = next;
        }
    }

    fn has_time(&self) -> bool {
        SystemTime::now() + RESERVE < self.deadline
    }
}

/// What the deletion of a finding saves.
fn saved(stale: &Stale, lineages: &Lineages) -> Option<Usd> {
    let monthly = stale.monthly?;
    Some(stale.lineage.as_ref().map_or(monthly, |lineage| lineages.saved(lineage, monthly)))
}

/// Counts what a page holds; the findings in it, and the token of the next.
fn judge<T>(
    page: Page<T>,
    listing: &mut Listing,
    mut judge: impl FnMut(T) -> Result<Finding, Verdict>,
) -> (Vec<Finding>, Option<String>) {
    let mut findings = Vec::new();
    for item in page.items {
        match judge(item) {
            Ok(finding) => {
                listing.found(finding.monthly, finding.price.map(|price| price.monthly));
                findings.push(finding);
            }
            Err(Verdict::LeftAlone(why)) => listing.left_alone(why),
            Err(_) => {}
        }
    }
    (findings, page.next)
}

fn following(kind: ResourceType) -> Option<ResourceType> {
    ResourceType::ALL.into_iter().find(|next| *next > kind)
}
