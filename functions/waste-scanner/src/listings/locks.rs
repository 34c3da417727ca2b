//! The locks of an account's snapshots. EC2 refuses to delete a locked snapshot.

use std::collections::HashSet;

use aws_sdk_ec2::Client;
use spot_cloud::CallError;
use spot_cloud::ec2::listing::{self, Page};
use spot_domain::waste::resources::Lock;
use spot_listing::{Item, Shape};

use super::ids::Ids;
use super::{PER_PAGE, patiently};

const DESCRIBE_LOCKED: &str = "ec2:DescribeLockedSnapshots";
const LOCKED: Shape = Shape { root: "DescribeLockedSnapshotsResponse", items: "snapshotSet/item" };
/// The one state in which a lock forbids nothing any more.
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_LockedSnapshotsInfo.html>
const EXPIRED: &str = "expired";

/// The ids of the locked snapshots.
#[derive(Debug, Default)]
pub struct Locks(Ids);

impl Locks {
    /// Returns the lock of a snapshot.
    #[must_use]
    pub fn of(&self, id: &str) -> Lock {
        match &self.0 {
            Ids::Read(locked) if locked.contains(id) => Lock::Locked,
            Ids::Read(_) => Lock::None,
            Ids::Unread(_) => Lock::Unknown,
        }
    }

    /// Returns the error by which the locks could not be listed, if any.
    #[must_use]
    pub fn unread(&self) -> Option<&CallError> {
        self.0.unread()
    }
}

/// Lists the locked snapshots. If a call fails, the answer says so.
pub async fn locks(client: &Client) -> Locks {
    let mut locked = HashSet::new();
    let page = async |token: Option<String>| patiently(|| locked_page(client, token.as_deref())).await;
    let listed = listing::all(page, |ids| locked.extend(ids)).await;
    Locks(Ids::from(listed.map(|()| locked)))
}

async fn locked_page(client: &Client, token: Option<&str>) -> Result<Page<Box<str>>, CallError> {
    let request = client.describe_locked_snapshots().max_results(PER_PAGE);
    let request = request.set_next_token(token.map(str::to_owned));
    let send = |unread| request.customize().interceptor(unread).send();
    let id = |item: &Item| {
        let id = item.required("snapshotId")?;
        Ok((item.text("lockState") != Some(EXPIRED)).then(|| Box::from(id)))
    };
    listing::page(LOCKED, DESCRIBE_LOCKED, token, send, id).await
}
