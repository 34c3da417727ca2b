//! The sharing of snapshots with other accounts. EC2 says it of one snapshot at a time, so that it is asked only for
//! snapshots that would be waste.

use std::sync::atomic::{AtomicBool, Ordering};

use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::SnapshotAttributeName;
use futures_util::{StreamExt, stream};
use spot_cloud::ec2::listing::Page;
use spot_cloud::error::failed;
use spot_cloud::{CallError, Kind};
use spot_domain::AccountId;
use spot_domain::waste::resources::{Sharing, Snapshot};
use spot_domain::waste::rules::WasteVerdict;

use super::{Judged, judged, patiently};

const DESCRIBE_ATTRIBUTE: &str = "ec2:DescribeSnapshotAttribute";
/// Snapshots that are asked for at a time. EC2 takes about 20 such calls a second, and 100 at once.
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/throttling.html>
const SIDE_BY_SIDE: usize = 4;

/// The most snapshots of a place that one visit asks for. More would take the account's own calls for some minutes.
const MOST: usize = 200;

/// What a visit has asked for so far.
#[derive(Debug, Default)]
pub struct Asked {
    /// The snapshots.
    count: usize,
    /// The last error, by which the sharing of a finding is unknown.
    pub failure: Option<CallError>,
}

impl Asked {
    /// Begins the count anew, with a listing that begins anew.
    pub fn restart(&mut self) {
        self.count = 0;
    }
}

/// Returns the number of findings of a page whose sharing is unknown.
#[must_use]
pub fn unknown(page: &Page<Judged<Snapshot>>) -> u64 {
    let is_unknown =
        |item: &&Judged<Snapshot>| matches!(item, Judged::Waste(found) if found.sharing == Sharing::Unknown);
    u64::try_from(page.items.iter().filter(is_unknown).count()).unwrap_or(u64::MAX)
}

/// Asks for the sharing of the snapshots of a page that would be waste, and judges them again.
///
/// A visit asks for its first 200: the sharing of the others is unknown. So it is after a call that fails for the
/// rest of the page, and after a denial for the rest of the visit.
pub async fn with_sharing(
    client: &Client,
    owner: &AccountId,
    page: Page<Judged<Snapshot>>,
    so_far: &mut Asked,
    judge: impl Fn(&Snapshot) -> WasteVerdict,
) -> Page<Judged<Snapshot>> {
    let is_denied = so_far.failure.as_ref().is_some_and(|error| error.kind == Kind::Denied);
    let stopped = AtomicBool::new(is_denied);
    let (stopped, judge) = (&stopped, &judge);
    let numbered = page.items.into_iter().map(|item| {
        so_far.count += usize::from(matches!(item, Judged::Waste(_)));
        (item, so_far.count <= MOST)
    });
    let answers: Vec<(Option<Judged<Snapshot>>, Option<CallError>)> = stream::iter(numbered)
        .map(|(item, is_asked)| async move {
            match item {
                Judged::Waste(snapshot) if is_asked => {
                    let (sharing, error) = asked(client, owner, &snapshot.id, stopped).await;
                    (judged(Snapshot { sharing, ..snapshot }, judge), error)
                }
                Judged::Waste(snapshot) => {
                    let unknown = Snapshot { sharing: Sharing::Unknown, ..snapshot };
                    (judged(unknown, judge), None)
                }
                item @ Judged::LeftAlone(..) => (Some(item), None),
            }
        })
        .buffered(SIDE_BY_SIDE)
        .collect()
        .await;
    let mut items = Vec::with_capacity(answers.len());
    for (item, error) in answers {
        items.extend(item);
        if error.is_some() {
            so_far.failure = error;
        }
    }
    Page { items, next: page.next }
}

/// Returns the sharing of a snapshot, and the error if the call failed.
async fn asked(
    client: &Client,
    owner: &AccountId,
    id: &str,
    stopped: &AtomicBool,
) -> (Sharing, Option<CallError>) {
    if stopped.load(Ordering::Relaxed) {
        return (Sharing::Unknown, None);
    }
    match patiently(|| sharing(client, owner, id)).await {
        Ok(sharing) => (sharing, None),
        // Deleted since it was listed: the next scan resolves it.
        Err(error) if error.kind == Kind::NotFound => (Sharing::Unknown, None),
        Err(error) => {
            stopped.store(true, Ordering::Relaxed);
            (Sharing::Unknown, Some(error))
        }
    }
}

async fn sharing(client: &Client, owner: &AccountId, id: &str) -> Result<Sharing, CallError> {
    let request = client.describe_snapshot_attribute().snapshot_id(id);
    let request = request.attribute(SnapshotAttributeName::CreateVolumePermission);
    let answer = request.send().await.map_err(failed(DESCRIBE_ATTRIBUTE))?;
    let permissions = answer.create_volume_permissions.ok_or_else(|| {
        CallError::malformed(DESCRIBE_ATTRIBUTE, "the answer has no createVolumePermission")
    })?;
    let is_shared = permissions.iter().any(|permission| permission.user_id() != Some(owner.as_str()));
    Ok(if is_shared { Sharing::Shared } else { Sharing::Private })
}
