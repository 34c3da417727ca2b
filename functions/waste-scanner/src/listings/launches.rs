//! The snapshots that launches make volumes of: block devices of launch templates and of launch
//! configurations. An image cache or a warmed CI cache is such a snapshot. Without it, every launch fails.
//!
//! EC2 lists two versions of each template, the default and the latest. Any other version is unknown here.

use std::collections::HashSet;

use aws_sdk_ec2::Client;
use spot_cloud::ec2::listing::{self, Page};
use spot_cloud::launch::configuration;
use spot_cloud::{CallError, RegionClients};
use spot_listing::{Item, Shape};

use super::patiently;

/// The most that EC2 gives in one page of versions.
/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeLaunchTemplateVersions.html>
const VERSIONS_PER_PAGE: i32 = 200;

const DESCRIBE_VERSIONS: &str = "ec2:DescribeLaunchTemplateVersions";
const VERSIONS: Shape =
    Shape { root: "DescribeLaunchTemplateVersionsResponse", items: "launchTemplateVersionSet/item" };

/// The snapshots that launches make volumes of, by id.
#[derive(Debug, Default)]
pub struct Launches {
    snapshots: HashSet<Box<str>>,
}

impl Launches {
    /// Returns true if a launch makes a volume of the snapshot.
    #[must_use]
    pub fn use_snapshot(&self, id: &str) -> bool {
        self.snapshots.contains(id)
    }
}

/// Lists the snapshots of all launch templates and launch configurations.
///
/// # Errors
/// A call fails: nothing can be said of any snapshot.
pub async fn launches(clients: &RegionClients) -> Result<Launches, CallError> {
    let mut snapshots = HashSet::new();
    let client = &clients.ec2;
    let page = async |token: Option<String>| patiently(|| version_page(client, token.as_deref())).await;
    listing::all(page, |versions| snapshots.extend(versions.into_iter().flatten())).await?;
    let client = &clients.autoscaling;
    let page = async |token: Option<String>| {
        patiently(|| configuration::snapshot_page(client, token.as_deref())).await
    };
    listing::all(page, |named| snapshots.extend(named)).await?;
    Ok(Launches { snapshots })
}

/// Lists a page of the snapshots that the templates' versions name, version by version.
async fn version_page(client: &Client, token: Option<&str>) -> Result<Page<Vec<Box<str>>>, CallError> {
    let request = client.describe_launch_template_versions().versions("$Default").versions("$Latest");
    let request = request.max_results(VERSIONS_PER_PAGE).set_next_token(token.map(str::to_owned));
    let send = |unread| request.customize().interceptor(unread).send();
    let named = |item: &Item| {
        let path = "launchTemplateData/blockDeviceMappingSet/item/ebs/snapshotId";
        let snapshots: Vec<Box<str>> = item.all(path).map(Box::from).collect();
        Ok((!snapshots.is_empty()).then_some(snapshots))
    };
    listing::page(VERSIONS, DESCRIBE_VERSIONS, token, send, named).await
}
