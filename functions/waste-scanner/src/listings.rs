//! EC2's listings, page by page. A page may be empty and still have a successor; what EC2 throttles
//! is asked again, patiently; an answer that lacks an id fails the listing. Of a page only what is or
//! looks like waste is kept.

use std::collections::HashSet;
use std::future::Future;
use std::time::Duration;

use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::Filter;
use spot_cloud::listing::{self, Page};
use spot_cloud::{CallError, Kind};
use spot_domain::AccountId;
use spot_domain::storage::{Address, Snapshot, Volume};
use spot_domain::waste::{LeftAlone, ResourceType, Verdict};
use spot_listing::{Item, Shape};

use crate::describe::{address, snapshot, volume};

/// The most that EC2 gives in one page of volumes.
const VOLUMES_PER_PAGE: i32 = 500;
/// The most that EC2 gives in one page of snapshots or images.
const PER_PAGE: i32 = 1_000;
/// EC2's limit for the values of one filter.
const FILTER_VALUES: usize = 200;
/// Rounds that a throttled call gets, each with the SDK's own retries.
const ROUNDS: u32 = 5;
/// The pause after the first round; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

const DESCRIBE_VOLUMES: &str = "ec2:DescribeVolumes";
const DESCRIBE_SNAPSHOTS: &str = "ec2:DescribeSnapshots";
const DESCRIBE_ADDRESSES: &str = "ec2:DescribeAddresses";
const DESCRIBE_IMAGES: &str = "ec2:DescribeImages";

const ADDRESSES: Shape = Shape { root: "DescribeAddressesResponse", items: "addressesSet/item" };
const VOLUMES: Shape = Shape { root: "DescribeVolumesResponse", items: "volumeSet/item" };
const SNAPSHOTS: Shape = Shape { root: "DescribeSnapshotsResponse", items: "snapshotSet/item" };
const IMAGES: Shape = Shape { root: "DescribeImagesResponse", items: "imagesSet/item" };

/// A resource that the rules have something to say of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judged<T> {
    /// It costs and serves nobody.
    Waste(T),
    /// It looks like waste.
    LeftAlone(LeftAlone),
}

/// The snapshots that images use, by id.
pub type UsedSnapshots = HashSet<Box<str>>;

/// All addresses: EC2 does not page them.
///
/// # Errors
/// The call fails.
pub async fn addresses(
    client: &Client,
    judge: impl Fn(&Address) -> Verdict,
) -> Result<Page<Judged<Address>>, CallError> {
    patiently(|| async {
        let send = |unread| client.describe_addresses().customize().interceptor(unread).send();
        let keep = |item: &Item| Ok(judged(address(item)?, &judge));
        listing::page(ADDRESSES, DESCRIBE_ADDRESSES, None, send, keep).await
    })
    .await
}

/// A page of the volumes that nothing has attached.
///
/// # Errors
/// The call fails.
pub async fn volumes(
    client: &Client,
    token: Option<&str>,
    judge: impl Fn(&Volume) -> Verdict,
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

/// A page of the account's own snapshots.
///
/// # Errors
/// The call fails.
pub async fn snapshots(
    client: &Client,
    owner: &AccountId,
    used: &UsedSnapshots,
    token: Option<&str>,
    judge: impl Fn(&Snapshot) -> Verdict,
) -> Result<Page<Judged<Snapshot>>, CallError> {
    patiently(|| async {
        let request = client.describe_snapshots().owner_ids("self").max_results(PER_PAGE);
        let request = request.set_next_token(token.map(str::to_owned));
        let send = |unread| request.customize().interceptor(unread).send();
        let keep = |item: &Item| Ok(judged(snapshot(item, owner, used)?, &judge));
        listing::page(SNAPSHOTS, DESCRIBE_SNAPSHOTS, token, send, keep).await
    })
    .await
}

/// The snapshots that any image of the account refers to, disabled and deprecated images included:
/// both can be launched again.
///
/// # Errors
/// The call fails. Without this list nothing can be said of any snapshot.
pub async fn used_by_images(client: &Client) -> Result<UsedSnapshots, CallError> {
    let mut used = UsedSnapshots::new();
    let mut token: Option<String> = None;
    loop {
        let page = patiently(|| images(client, token.as_deref())).await?;
        used.extend(page.items.into_iter().flatten());
        token = page.next;
        if token.is_none() {
            return Ok(used);
        }
    }
}

async fn images(client: &Client, token: Option<&str>) -> Result<Page<Vec<Box<str>>>, CallError> {
    let request = client.describe_images().owners("self").include_disabled(true).include_deprecated(true);
    let request = request.max_results(PER_PAGE).set_next_token(token.map(str::to_owned));
    let send = |unread| request.customize().interceptor(unread).send();
    let snapshots = |item: &Item| item.all("blockDeviceMapping/item/ebs/snapshotId").map(Box::from).collect();
    listing::page(IMAGES, DESCRIBE_IMAGES, token, send, |item| Ok(Some(snapshots(item)))).await
}

/// Which of these resources still exist. Asked by filter, so that one that is gone does not fail the
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
        let mut token: Option<String> = None;
        loop {
            let page = patiently(|| existing_page(client, kind, ids, token.as_deref())).await?;
            found.extend(page.items);
            token = page.next;
            if token.is_none() {
                break;
            }
        }
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

fn filter(name: &str, values: impl IntoIterator<Item = String>) -> Filter {
    Filter::builder().name(name).set_values(Some(values.into_iter().collect())).build()
}

fn judged<T>(resource: T, judge: impl Fn(&T) -> Verdict) -> Option<Judged<T>> {
    match judge(&resource) {
        Verdict::Waste => Some(Judged::Waste(resource)),
        Verdict::LeftAlone(why) => Some(Judged::LeftAlone(why)),
        Verdict::Fine => None,
    }
}

async fn patiently<T, F>(mut call: impl FnMut() -> F) -> Result<T, CallError>
where
    F: Future<Output = Result<T, CallError>>,
{
    let mut pause = FIRST_PAUSE;
    for _ in 1..ROUNDS {
        match call().await {
            Err(error) if error.kind == Kind::Retry => {
                tracing::warn!("{error}; asking again in {} ms", pause.as_millis());
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            answer => return answer,
        }
    }
    call().await
}
