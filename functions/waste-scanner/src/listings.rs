//! EC2's listings, page by page. A page may be empty and still have a successor; what EC2 throttles
//! is asked again, patiently; an answer that lacks an id fails the listing.

use std::collections::HashSet;
use std::future::Future;
use std::time::Duration;

use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::Filter;
use spot_cloud::error::failed;
use spot_cloud::{CallError, Kind};
use spot_domain::AccountId;
use spot_domain::storage::{Address, Snapshot, Volume};
use spot_domain::waste::ResourceType;

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

/// One page, and where the next one begins.
#[derive(Debug)]
pub struct Page<T> {
    /// May be empty, although there is a next page.
    pub items: Vec<T>,
    /// The token of the next page; `None` at the end.
    pub next: Option<String>,
}

/// The snapshots that images use, by id.
pub type UsedSnapshots = HashSet<Box<str>>;

/// All addresses: EC2 does not page them.
///
/// # Errors
/// The call fails.
pub async fn addresses(client: &Client) -> Result<Page<Address>, CallError> {
    let answer =
        patiently(|| async { client.describe_addresses().send().await.map_err(failed(DESCRIBE_ADDRESSES)) })
            .await?;
    let items = parse_all(answer.addresses.unwrap_or_default(), DESCRIBE_ADDRESSES, address)?;
    Ok(Page { items, next: None })
}

/// A page of the volumes that nothing has attached.
///
/// # Errors
/// The call fails.
pub async fn volumes(client: &Client, token: Option<&str>) -> Result<Page<Volume>, CallError> {
    let answer = patiently(|| async {
        let request = client.describe_volumes().filters(filter("status", ["available".to_owned()]));
        let request = request.max_results(VOLUMES_PER_PAGE).set_next_token(token.map(str::to_owned));
        request.send().await.map_err(failed(DESCRIBE_VOLUMES))
    })
    .await?;
    let next = next_token(DESCRIBE_VOLUMES, token, answer.next_token)?;
    Ok(Page { items: parse_all(answer.volumes.unwrap_or_default(), DESCRIBE_VOLUMES, volume)?, next })
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
) -> Result<Page<Snapshot>, CallError> {
    let answer = patiently(|| async {
        let request = client.describe_snapshots().owner_ids("self").max_results(PER_PAGE);
        let request = request.set_next_token(token.map(str::to_owned));
        request.send().await.map_err(failed(DESCRIBE_SNAPSHOTS))
    })
    .await?;
    let next = next_token(DESCRIBE_SNAPSHOTS, token, answer.next_token)?;
    let parse = |found| snapshot(found, owner, used);
    Ok(Page { items: parse_all(answer.snapshots.unwrap_or_default(), DESCRIBE_SNAPSHOTS, parse)?, next })
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
        let answer = patiently(|| async {
            let request = client.describe_images().owners("self").include_disabled(true);
            let request = request.include_deprecated(true).max_results(PER_PAGE);
            request.set_next_token(token.clone()).send().await.map_err(failed(DESCRIBE_IMAGES))
        })
        .await?;
        let devices = answer.images.unwrap_or_default().into_iter();
        let devices = devices.flat_map(|image| image.block_device_mappings.unwrap_or_default());
        used.extend(devices.filter_map(|d| d.ebs?.snapshot_id).map(String::into_boxed_str));
        token = next_token(DESCRIBE_IMAGES, token.as_deref(), answer.next_token)?;
        if token.is_none() {
            return Ok(used);
        }
    }
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
            let page = patiently(|| existing_page(client, kind, ids, token.clone())).await?;
            found.extend(page.items);
            if page.next.is_none() {
                break;
            }
            token = page.next;
        }
    }
    Ok(found)
}

async fn existing_page(
    client: &Client,
    kind: ResourceType,
    ids: &[String],
    token: Option<String>,
) -> Result<Page<String>, CallError> {
    let by = |name: &str| filter(name, ids.iter().cloned());
    let (items, next): (Vec<Option<String>>, _) = match kind {
        ResourceType::ElasticIp => {
            let request = client.describe_addresses().filters(by("allocation-id"));
            let answer = request.send().await.map_err(failed(DESCRIBE_ADDRESSES))?;
            (answer.addresses.unwrap_or_default().into_iter().map(|a| a.allocation_id).collect(), None)
        }
        ResourceType::Volume => {
            let request = client.describe_volumes().filters(by("volume-id")).set_next_token(token.clone());
            let answer = request.send().await.map_err(failed(DESCRIBE_VOLUMES))?;
            (answer.volumes.unwrap_or_default().into_iter().map(|v| v.volume_id).collect(), answer.next_token)
        }
        ResourceType::Snapshot => {
            let request = client.describe_snapshots().owner_ids("self").filters(by("snapshot-id"));
            let request = request.set_next_token(token.clone());
            let answer = request.send().await.map_err(failed(DESCRIBE_SNAPSHOTS))?;
            let ids = answer.snapshots.unwrap_or_default().into_iter().map(|s| s.snapshot_id);
            (ids.collect(), answer.next_token)
        }
    };
    let next = next_token(DESCRIBE_VOLUMES, token.as_deref(), next)?;
    Ok(Page { items: items.into_iter().flatten().collect(), next })
}

fn filter(name: &str, values: impl IntoIterator<Item = String>) -> Filter {
    Filter::builder().name(name).set_values(Some(values.into_iter().collect())).build()
}

fn parse_all<S, T>(
    found: Vec<S>,
    call: &'static str,
    parse: impl Fn(S) -> Option<T>,
) -> Result<Vec<T>, CallError> {
    let without_id = || CallError::malformed(call, "a resource without an id");
    found.into_iter().map(|item| parse(item).ok_or_else(without_id)).collect()
}

/// A token that leads back to its own page would list for ever.
fn next_token(
    call: &'static str,
    asked: Option<&str>,
    next: Option<String>,
) -> Result<Option<String>, CallError> {
    let next = next.filter(|token| !token.is_empty());
    if next.is_some() && next.as_deref() == asked {
        return Err(CallError::malformed(call, "the next page has the token of this one"));
    }
    Ok(next)
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
