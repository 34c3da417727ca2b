//! The locks of an account's snapshots. EC2 refuses to delete a locked snapshot.

use std::collections::HashSet;

use aws_sdk_ec2::Client;
use spot_cloud::CallError;
use spot_cloud::ec2::listing::{self, Page};
use spot_domain::waste::resources::Lock;
use spot_listing::{Item, Shape};

use super::{PER_PAGE, patiently};

const DESCRIBE_LOCKED: &str = "ec2:DescribeLockedSnapshots";
const LOCKED: Shape = Shape { root: "DescribeLockedSnapshotsResponse", items: "snapshotSet/item" };
/// The one state in which a lock forbids nothing any more.
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_LockedSnapshotsInfo.html>
const EXPIRED: &str = "expired";

/// The locks of the snapshots, as far as EC2 lists them.
#[derive(Debug)]
pub enum Locks {
    /// The ids of all locked snapshots.
    Read(HashSet<Box<str>>),
    /// The locks can't be listed, because of this error.
    Unread(CallError),
}

impl Default for Locks {
    fn default() -> Self {
        Self::Read(HashSet::new())
    }
}

impl Locks {
    /// Returns the lock of a snapshot.
    #[must_use]
    pub fn of(&self, id: &str) -> Lock {
        match self {
            Self::Read(locked) if locked.contains(id) => Lock::Locked,
            Self::Read(_) => Lock::None,
            Self::Unread(_) => Lock::Unknown,
        }
    }

    /// Returns the error by which the locks could not be listed, if any.
    #[must_use]
    pub fn unread(&self) -> Option<&CallError> {
        match self {
            Self::Read(_) => None,
            Self::Unread(error) => Some(error),
        }
    }
}

/// Lists the locked snapshots. If a call fails, the answer says so.
pub async fn locks(client: &Client) -> Locks {
    let mut locked = HashSet::new();
    let page = async |token: Option<String>| patiently(|| locked_page(client, token.as_deref())).await;
    match listing::all(page, |ids| locked.extend(ids)).await {
        Ok(()) => Locks::Read(locked),
        Err(error) => Locks::Unread(error),
    }
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
