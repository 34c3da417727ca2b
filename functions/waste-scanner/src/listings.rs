//! EC2's listings, page by page. A page may be empty and still have a successor. A throttled call is repeated
//! patiently. An answer that lacks an id fails the listing. Of a page, only waste and resources that look
//! like waste are kept.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::time::Duration;

use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::Filter;
use jiff::Timestamp;
use spot_cloud::CallError;
use spot_cloud::ec2::listing::{self, Page};
use spot_cloud::retry::{self, may_pass};
use spot_domain::AccountId;
use spot_domain::waste::resources::{Address, Snapshot, Volume};
use spot_domain::waste::rules::{LeftAlone, ResourceType, WasteVerdict};
use spot_listing::{Item, MalformedListing, Shape};

pub mod describe;
mod ids;
pub mod images;
pub mod launches;
pub mod locks;
pub mod sharing;

use describe::{address, snapshot, volume};
use images::Images;
use launches::Launches;
use locks::Locks;

/// The most that EC2 gives in one page of volumes.
const VOLUMES_PER_PAGE: i32 = 500;
/// The most that EC2 gives in one page of snapshots or images.
const PER_PAGE: i32 = 1_000;
/// EC2's limit for the values of one filter.
const FILTER_VALUES: usize = 200;
/// The pauses between the rounds that a throttled call gets, each with the SDK's own retries.
const PAUSES: [Duration; 4] =
    [Duration::from_millis(250), Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];

const DESCRIBE_VOLUMES: &str = "ec2:DescribeVolumes";
const DESCRIBE_SNAPSHOTS: &str = "ec2:DescribeSnapshots";
const DESCRIBE_ADDRESSES: &str = "ec2:DescribeAddresses";
const DESCRIBE_IMAGES: &str = "ec2:DescribeImages";
const LIST_BINNED_IMAGES: &str = "ec2:ListImagesInRecycleBin";
const LIST_BINNED_SNAPSHOTS: &str = "ec2:ListSnapshotsInRecycleBin";
const LIST_BINNED_VOLUMES: &str = "ec2:ListVolumesInRecycleBin";

const ADDRESSES: Shape = Shape { root: "DescribeAddressesResponse", items: "addressesSet/item" };
const VOLUMES: Shape = Shape { root: "DescribeVolumesResponse", items: "volumeSet/item" };
const SNAPSHOTS: Shape = Shape { root: "DescribeSnapshotsResponse", items: "snapshotSet/item" };
const IMAGES: Shape = Shape { root: "DescribeImagesResponse", items: "imagesSet/item" };
const BINNED_IMAGES: Shape = Shape { root: "ListImagesInRecycleBinResponse", items: "imageSet/item" };
const BINNED_SNAPSHOTS: Shape =
    Shape { root: "ListSnapshotsInRecycleBinResponse", items: "snapshotSet/item" };
const BINNED_VOLUMES: Shape = Shape { root: "ListVolumesInRecycleBinResponse", items: "volumeSet/item" };

/// A resource on which the rules decide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judged<T> {
    /// The resource costs money and serves no purpose.
    Waste(T),
    /// The resource looks like waste, and is needed for this reason.
    LeftAlone(LeftAlone, T),
}

/// The resources in the Recycle Bin, by id, each with the time at which it leaves the bin, as far as EC2
/// says.
pub type Binned = HashMap<String, Option<Timestamp>>;

/// Lists all addresses; EC2 does not page them.
///
/// # Errors
/// The call fails.
pub async fn addresses(
    client: &Client,
    judge: impl Fn(&Address) -> WasteVerdict,
) -> Result<Page<Judged<Address>>, CallError> {
    patiently(|| async {
        let send = |unread| client.describe_addresses().customize().interceptor(unread).send();
        let keep = |item: &Item| Ok(judged(address(item)?, &judge));
        listing::page(ADDRESSES, DESCRIBE_ADDRESSES, None, send, keep).await
    })
    .await
}

/// Lists a page of the volumes that nothing has attached.
///
/// # Errors
/// The call fails.
pub async fn volumes(
    client: &Client,
    token: Option<&str>,
    judge: impl Fn(&Volume) -> WasteVerdict,
) -> Result<Page<Judged<Volume>>, CallError> {
    patiently(|| async {
        let request = client.describe_volumes().filters(filter("status", ["available".to_owned()]));
        let request = request.max_results(VOLUMES_PER_PAGE).set_next_token(token.map(str::to_owned));
        let send = |unread| request.customize().interceptor(unread).send();
        let keep = |item: &Item| Ok(judged(volume(item)?, &judge));
        listing::page(VOLUMES, DESCRIBE_VOLUMES, token, send, keep).await
    })
    .await
}

/// Lists a page of the account's own snapshots.
///
/// # Errors
/// The call fails.
pub async fn snapshots(
    client: &Client,
    owner: &AccountId,
    images: &Images,
    launches: &Launches,
    locks: &Locks,
    token: Option<&str>,
    judge: impl Fn(&Snapshot) -> WasteVerdict,
) -> Result<Page<Judged<Snapshot>>, CallError> {
    patiently(|| async {
        let request = client.describe_snapshots().owner_ids("self").max_results(PER_PAGE);
        let request = request.set_next_token(token.map(str::to_owned));
        let send = |unread| request.customize().interceptor(unread).send();
        let keep = |item: &Item| Ok(judged(snapshot(item, owner, images, launches, locks)?, &judge));
        listing::page(SNAPSHOTS, DESCRIBE_SNAPSHOTS, token, send, keep).await
    })
    .await
}

/// Lists the images of the account, with disabled and deprecated ones and those in the Recycle Bin: all can
/// be launched again.
///
/// # Errors
/// DescribeImages fails: nothing can be said of any snapshot. If the Recycle Bin can't be read, the answer
/// says so.
pub async fn images(client: &Client) -> Result<Images, CallError> {
    let mut images = Images::default();
    let page = async |token: Option<String>| patiently(|| image_page(client, token.as_deref())).await;
    listing::all(page, |page| {
        for (id, snapshots) in page {
            images.registered.insert(id);
            images.snapshots.extend(snapshots);
        }
    })
    .await?;
    images.recycle_bin = binned_images(client).await.into();
    Ok(images)
}

/// An image's id, and the snapshots that the image refers to.
type ImageSnapshots = (Box<str>, Vec<Box<str>>);

async fn image_page(client: &Client, token: Option<&str>) -> Result<Page<ImageSnapshots>, CallError> {
    let request = client.describe_images().owners("self").include_disabled(true).include_deprecated(true);
    let request = request.max_results(PER_PAGE).set_next_token(token.map(str::to_owned));
    let send = |unread| request.customize().interceptor(unread).send();
    let image = |item: &Item| {
        let snapshots = item.all("blockDeviceMapping/item/ebs/snapshotId").map(Box::from).collect();
        Ok(Some((item.required("imageId")?.into(), snapshots)))
    };
    listing::page(IMAGES, DESCRIBE_IMAGES, token, send, image).await
}

async fn binned_images(client: &Client) -> Result<HashSet<Box<str>>, CallError> {
    let mut binned = HashSet::new();
    let page = async |token: Option<String>| patiently(|| binned_image_page(client, token.clone())).await;
    listing::all(page, |ids| binned.extend(ids)).await?;
    Ok(binned)
}

async fn binned_image_page(client: &Client, token: Option<String>) -> Result<Page<Box<str>>, CallError> {
    let request = client.list_images_in_recycle_bin().max_results(PER_PAGE).set_next_token(token.clone());
    let send = |unread| request.customize().interceptor(unread).send();
    let id = |item: &Item| Ok(Some(Box::from(item.required("imageId")?)));
    listing::page(BINNED_IMAGES, LIST_BINNED_IMAGES, token.as_deref(), send, id).await
}

/// Lists the resources of a type in the Recycle Bin: deleted, and billed until they leave it. Addresses have
/// no Recycle Bin.
///
/// # Errors
/// The call fails: the savings of a deletion are unknown.
pub async fn recycle_bin(client: &Client, kind: ResourceType) -> Result<Binned, CallError> {
    let mut binned = Binned::new();
    let keep = |items| binned.extend::<Vec<BinnedItem>>(items);
    match kind {
        ResourceType::ElasticIp => {}
        ResourceType::Volume => {
            let page =
                async |token: Option<String>| patiently(|| binned_volumes(client, token.clone())).await;
            listing::all(page, keep).await?;
        }
        ResourceType::Snapshot => {
            let page =
                async |token: Option<String>| patiently(|| binned_snapshots(client, token.clone())).await;
            listing::all(page, keep).await?;
        }
    }
    Ok(binned)
}

type BinnedItem = (String, Option<Timestamp>);

async fn binned_volumes(client: &Client, token: Option<String>) -> Result<Page<BinnedItem>, CallError> {
    let request = client.list_volumes_in_recycle_bin().max_results(VOLUMES_PER_PAGE);
    let request = request.set_next_token(token.clone());
    let send = |unread| request.customize().interceptor(unread).send();
    listing::page(BINNED_VOLUMES, LIST_BINNED_VOLUMES, token.as_deref(), send, binned("volumeId")).await
}

async fn binned_snapshots(client: &Client, token: Option<String>) -> Result<Page<BinnedItem>, CallError> {
    let request = client.list_snapshots_in_recycle_bin().max_results(PER_PAGE);
    let request = request.set_next_token(token.clone());
    let send = |unread| request.customize().interceptor(unread).send();
    listing::page(BINNED_SNAPSHOTS, LIST_BINNED_SNAPSHOTS, token.as_deref(), send, binned("snapshotId")).await
}

fn binned(id: &'static str) -> impl Fn(&Item) -> Result<Option<BinnedItem>, MalformedListing> {
    move |item| Ok(Some((item.required(id)?.to_owned(), item.parse("recycleBinExitTime")?)))
}

/// Returns the ids among `ids` that still exist. Asks by filter, so that an id that is gone does not fail the
/// others.
///
/// # Errors
/// The call fails.
pub async fn existing(
    client: &Client,
    kind: ResourceType,
    ids: &[String],
) -> Result<HashSet<String>, CallError> {
    let mut found = HashSet::new();
    for ids in ids.chunks(FILTER_VALUES) {
        let page = async |token: Option<String>| {
            patiently(|| existing_page(client, kind, ids, token.as_deref())).await
        };
        listing::all(page, |ids| found.extend(ids)).await?;
    }
    Ok(found)
}

async fn existing_page(
    client: &Client,
    kind: ResourceType,
    ids: &[String],
    token: Option<&str>,
) -> Result<Page<String>, CallError> {
    let by = |name: &str| filter(name, ids.iter().cloned());
    let id = |path| move |item: &Item| Ok(Some(item.required(path)?.to_owned()));
    let next = token.map(str::to_owned);
    match kind {
        ResourceType::ElasticIp => {
            let request = client.describe_addresses().filters(by("allocation-id"));
            let send = |unread| request.customize().interceptor(unread).send();
            listing::page(ADDRESSES, DESCRIBE_ADDRESSES, token, send, id("allocationId")).await
        }
        ResourceType::Volume => {
            let request = client.describe_volumes().filters(by("volume-id")).set_next_token(next);
            let send = |unread| request.customize().interceptor(unread).send();
            listing::page(VOLUMES, DESCRIBE_VOLUMES, token, send, id("volumeId")).await
        }
        ResourceType::Snapshot => {
            let request = client.describe_snapshots().owner_ids("self").filters(by("snapshot-id"));
            let request = request.set_next_token(next);
            let send = |unread| request.customize().interceptor(unread).send();
            listing::page(SNAPSHOTS, DESCRIBE_SNAPSHOTS, token, send, id("snapshotId")).await
        }
    }
}

/// Returns the volumes among `volumes` of which the account has snapshots left. Archived snapshots share no
/// blocks, and count as none.
///
/// # Errors
/// The call fails.
pub async fn with_snapshots(client: &Client, volumes: &[String]) -> Result<HashSet<String>, CallError> {
    let mut found = HashSet::new();
    for volumes in volumes.chunks(FILTER_VALUES) {
        let page = async |token: Option<String>| {
            patiently(|| snapshots_of_page(client, volumes, token.as_deref())).await
        };
        listing::all(page, |ids| found.extend(ids)).await?;
    }
    Ok(found)
}

async fn snapshots_of_page(
    client: &Client,
    volumes: &[String],
    token: Option<&str>,
) -> Result<Page<String>, CallError> {
    let request = client.describe_snapshots().owner_ids("self").max_results(PER_PAGE);
    let request = request.filters(filter("volume-id", volumes.iter().cloned()));
    let request = request.set_next_token(token.map(str::to_owned));
    let send = |unread| request.customize().interceptor(unread).send();
    let volume = |item: &Item| {
        let is_archived = item.text("storageTier") == Some("archive");
        Ok(item.text("volumeId").filter(|_| !is_archived).map(str::to_owned))
    };
    listing::page(SNAPSHOTS, DESCRIBE_SNAPSHOTS, token, send, volume).await
}

fn filter(name: &str, values: impl IntoIterator<Item = String>) -> Filter {
    Filter::builder().name(name).set_values(Some(values.into_iter().collect())).build()
}

fn judged<T>(resource: T, judge: impl Fn(&T) -> WasteVerdict) -> Option<Judged<T>> {
    match judge(&resource) {
        WasteVerdict::Waste => Some(Judged::Waste(resource)),
        WasteVerdict::LeftAlone(why) => Some(Judged::LeftAlone(why, resource)),
        WasteVerdict::Fine => None,
    }
}

async fn patiently<T, F>(call: impl FnMut() -> F) -> Result<T, CallError>
where
    F: Future<Output = Result<T, CallError>>,
{
    retry::patiently(&PAUSES, may_pass, call).await
}
