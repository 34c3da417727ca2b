//! A finding: the content of a row of the WasteResource table, apart from its times.

use aws_sdk_dynamodb::types::AttributeValue;
use jiff::Timestamp;
use spot_cloud::tables::row::{Row, number, text};
use spot_domain::Usd;
use spot_domain::tags::Tags;
use spot_domain::waste::prices::Price;
use spot_domain::waste::resources::{Address, Lock, Sharing, Snapshot, Tier, Volume};
use spot_domain::waste::rules::ResourceType;

/// Key (RANGE): `type#id`.
pub const RESOURCE: &str = "resource";
/// Key (HASH): `account#region`.
pub const ACCOUNT_REGION: &str = "account_region";
/// `elastic-ip`, `volume` or `snapshot` (S).
pub const RESOURCE_TYPE: &str = "resource_type";
/// OPEN or RESOLVED (S).
pub const STATUS: &str = "status";
/// The monthly cost (N); absent if no source knows a price.
pub const MONTHLY_COST_USD: &str = "monthly_cost_usd";
/// `price-list-api`, `shipped-table` or `unknown` (S).
pub const PRICE_SOURCE: &str = "price_source";
/// The date of the price (S); absent if there is no price.
pub const PRICE_AS_OF: &str = "price_as_of";
/// When it was first found (N, epoch seconds).
pub const FIRST_SEEN: &str = "first_seen";
/// When it was last found (N, epoch seconds).
pub const LAST_SEEN: &str = "last_seen";
/// On snapshots (BOOL): the price is an upper bound of the storage.
pub const UPPER_BOUND: &str = "upper_bound";
/// On snapshots (N): the most that the storage of this one costs by itself.
pub const UPPER_BOUND_USD: &str = "upper_bound_usd";
/// On snapshots (S): the volume or the copy chain that the snapshot belongs to.
pub const LINEAGE: &str = "lineage";
/// On snapshots (N): the part of a run that counted it, as `ScanProgress::snapshot_parts` names it.
pub const COUNTED_IN: &str = "counted_in";
/// Details of the resource for people (M).
pub const DETAILS: &str = "details";

/// The cost of a snapshot that no price includes: EC2 does not list it with the snapshot.
const FAST_RESTORE: &str = "fast snapshot restore";

/// The lineage of a snapshot, and the part of the run that counted it.
#[derive(Debug, Clone)]
struct Lineage {
    name: String,
    counted_in: i64,
}

/// A resource that costs money and serves no purpose.
#[derive(Debug, Clone)]
pub struct Finding {
    pub kind: ResourceType,
    /// The id of the resource, as EC2 spells it.
    pub id: String,
    /// The monthly amount that the finding adds to the total.
    pub monthly: Option<Usd>,
    /// The price of the resource by itself.
    pub price: Option<Price>,
    lineage: Option<Lineage>,
    details: Vec<(&'static str, AttributeValue)>,
}

impl Finding {
    /// Makes the finding of an address.
    #[must_use]
    pub fn address(address: Address, price: Option<Price>) -> Self {
        let details = vec![("public_ip", text(&address.public_ip))];
        Self::new(ResourceType::ElasticIp, address.id, price, details, &address.tags)
    }

    /// Makes the finding of a volume.
    #[must_use]
    pub fn volume(volume: Volume, price: Option<Price>) -> Self {
        let mut details = vec![
            ("volume_type", text(&volume.volume_type)),
            ("size_gib", number(&volume.size_gib)),
            ("availability_zone", text(&volume.availability_zone)),
        ];
        details.extend(volume.iops.map(|iops| ("iops", number(&iops))));
        details.extend(volume.throughput_mibps.map(|mibps| ("throughput_mibps", number(&mibps))));
        details.extend(date("created", volume.created));
        Self::new(ResourceType::Volume, volume.id, price, details, &volume.tags)
    }

    /// Makes the finding of a snapshot. `adds` is the amount that it adds to the price of its lineage, as the
    /// part `counted_in` of the run counts.
    #[must_use]
    pub fn snapshot(snapshot: Snapshot, price: Option<Price>, adds: Option<Usd>, counted_in: i64) -> Self {
        let mut details = vec![
            ("volume_size_gib", number(&snapshot.volume_gib)),
            ("price_excludes", text(FAST_RESTORE)),
            ("storage_tier", text(if snapshot.tier == Tier::Archive { "archive" } else { "standard" })),
        ];
        details.extend(snapshot.volume_id.as_deref().map(|id| ("volume_id", text(id))));
        details.extend(snapshot.full_bytes.map(|bytes| ("full_snapshot_size_bytes", number(&bytes))));
        details.extend(date("started", snapshot.started));
        details.extend(date("restored_until", snapshot.restored_until));
        details.extend((snapshot.lock == Lock::Unknown).then(|| ("lock", text("unknown"))));
        details.extend((snapshot.sharing == Sharing::Unknown).then(|| ("sharing", text("unknown"))));
        let lineage = Some(Lineage { name: snapshot.lineage().to_owned(), counted_in });
        let finding = Self::new(ResourceType::Snapshot, snapshot.id, price, details, &snapshot.tags);
        Self { monthly: adds, lineage, ..finding }
    }

    fn new(
        kind: ResourceType,
        id: String,
        price: Option<Price>,
        mut details: Vec<(&'static str, AttributeValue)>,
        tags: &Tags,
    ) -> Self {
        details.extend(tags.get("Name").map(|name| ("name", text(name))));
        Self { kind, id, monthly: price.map(|price| price.monthly), price, lineage: None, details }
    }

    /// Returns the RANGE key of the row.
    #[must_use]
    pub fn resource(&self) -> String {
        format!("{}#{}", self.kind, self.id)
    }

    /// Returns the row of an open finding.
    #[must_use]
    pub fn into_row(self, account_region: &str, first_seen: i64, last_seen: i64) -> Row {
        let mut row = Row::with_capacity(14);
        let mut set = |name: &str, value| row.insert(name.to_owned(), value);
        set(ACCOUNT_REGION, text(account_region));
        set(RESOURCE, text(&self.resource()));
        set(RESOURCE_TYPE, text(self.kind.name()));
        set(STATUS, text("OPEN"));
        set(FIRST_SEEN, number(&first_seen));
        set(LAST_SEEN, number(&last_seen));
        set(PRICE_SOURCE, text(self.price.map_or("unknown", |price| price.source.name())));
        if let (Some(price), Some(monthly)) = (self.price, self.monthly) {
            set(MONTHLY_COST_USD, number(&monthly));
            set(PRICE_AS_OF, text(&price.as_of));
            if self.lineage.is_some() {
                set(UPPER_BOUND_USD, number(&price.monthly));
            }
        }
        if let Some(lineage) = &self.lineage {
            set(UPPER_BOUND, AttributeValue::Bool(true));
            set(LINEAGE, text(&lineage.name));
            set(COUNTED_IN, number(&lineage.counted_in));
        }
        let details = self.details.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        set(DETAILS, AttributeValue::M(details));
        row
    }
}

fn date(name: &'static str, date: Option<Timestamp>) -> Option<(&'static str, AttributeValue)> {
    date.map(|date| (name, text(&date)))
}
