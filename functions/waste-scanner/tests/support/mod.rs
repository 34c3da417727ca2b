//! A scan of one account and region against a scripted EC2 and DynamoDB, and their answers.

#![allow(dead_code, unreachable_pub)] // each test binary uses its part
#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Duration;

use jiff::Timestamp;
use spot_cloud::RegionClients;
use spot_cloud::access::Access;
use spot_cloud::scopes::{AccountRegion, Scope};
use spot_domain::EnvironmentType;
use spot_domain::clock;
use spot_domain::settings::Settings;
use spot_domain::waste::prices::PriceBook;
use spot_domain::waste::report::Listing;
use spot_domain::waste::rules::{ResourceType, Rules};
use spot_scripted::{Endpoint, ScriptedAnswer};
use waste_scanner::scan::Scan;
use waste_scanner::table::WasteTable;
use waste_scanner::table::progress::ScanProgress;

pub const NOW: i64 = 1_795_000_000;
pub const PLENTY: Duration = Duration::from_mins(15);
pub const NONE: Duration = Duration::ZERO;

pub fn place() -> AccountRegion {
    AccountRegion { account_id: "123456789012".parse().unwrap(), region: "us-east-1".parse().unwrap() }
}

/// Returns the place of every test, whose region the row of Accounts or the input names, or not.
pub fn visit(is_named: bool) -> Scope {
    let access = Access { environment_type: EnvironmentType::Prod, role: None };
    Scope { place: place(), access, settings: Settings::default(), auto_terminate: false, is_named }
}

pub async fn scan(endpoint: &Endpoint, time: Duration, progress: ScanProgress) -> ScanProgress {
    scan_of(&visit(true), endpoint, time, progress).await
}

pub async fn scan_of(
    visit: &Scope,
    endpoint: &Endpoint,
    time: Duration,
    mut progress: ScanProgress,
) -> ScanProgress {
    let (region, config) = (&visit.place.region, endpoint.config().await);
    let prices = PriceBook::shipped(region);
    let table = WasteTable::new(aws_sdk_dynamodb::Client::new(&config), "waste");
    let now = Timestamp::from_second(NOW).unwrap();
    let rules = Rules { settings: &visit.settings, region, prices: &prices, now };
    let clients = RegionClients::new(&config);
    let deadline = clock::system_time() + time;
    Scan { visit, clients, table: &table, rules, deadline }.resume(&mut progress).await;
    progress
}

pub async fn scan_all(endpoint: &Endpoint) -> ScanProgress {
    scan(endpoint, PLENTY, ScanProgress::new(NOW, &place())).await
}

/// Scans an account that has these snapshots. Returns what the report says of them, and the endpoint with its requests.
pub async fn scanned(items: Vec<String>) -> (Endpoint, Listing) {
    let endpoint = Endpoint::answering(move |action, _| match action {
        "DescribeSnapshots" => page("snapshotSet", &items, None),
        action => nothing(action),
    })
    .await;
    let mut progress = scan_all(&endpoint).await;
    (endpoint, progress.report.types.remove(&ResourceType::Snapshot).unwrap())
}

pub fn page(set: &str, items: &[String], token: Option<&str>) -> ScriptedAnswer {
    let resource = match set {
        "addressesSet" => "Addresses",
        "volumeSet" => "Volumes",
        "snapshotSet" => "Snapshots",
        "launchTemplateVersionSet" => "LaunchTemplateVersions",
        _ => "Images",
    };
    let token = token.map(|token| format!("<nextToken>{token}</nextToken>")).unwrap_or_default();
    let items = items.concat();
    ScriptedAnswer::ok(format!(
        "<Describe{resource}Response><{set}>{items}</{set}>{token}</Describe{resource}Response>"
    ))
}

/// Answers a page of launch configurations, each of one block device.
pub fn configurations(snapshots: &[u32], token: Option<&str>) -> ScriptedAnswer {
    let member = |n: &u32| {
        format!(
            "<member><LaunchConfigurationName>web-{n}</LaunchConfigurationName><BlockDeviceMappings><member>\
             <DeviceName>/dev/xvdb</DeviceName><Ebs><SnapshotId>snap-{n:017x}</SnapshotId></Ebs></member>\
             </BlockDeviceMappings></member>"
        )
    };
    let members: Vec<String> = snapshots.iter().map(member).collect();
    let token = token.map(|token| format!("<NextToken>{token}</NextToken>")).unwrap_or_default();
    ScriptedAnswer::ok(format!(
        "<DescribeLaunchConfigurationsResponse><DescribeLaunchConfigurationsResult><LaunchConfigurations>{}\
         </LaunchConfigurations>{token}</DescribeLaunchConfigurationsResult></DescribeLaunchConfigurationsResponse>",
        members.concat()
    ))
}

/// Returns a version of a launch template, of one block device.
pub fn template_version(n: u32) -> String {
    format!(
        "<item><launchTemplateId>lt-{n:017x}</launchTemplateId><versionNumber>1</versionNumber><launchTemplateData>\
         <blockDeviceMappingSet><item><deviceName>/dev/xvdb</deviceName><ebs><snapshotId>snap-{n:017x}</snapshotId>\
         </ebs></item></blockDeviceMappingSet></launchTemplateData></item>"
    )
}

/// Answers a page of locks: snapshots, each with the state of its lock.
pub fn locks(locks: &[(u32, &str)], token: Option<&str>) -> ScriptedAnswer {
    let item = |(n, state): &(u32, &str)| {
        format!("<item><snapshotId>snap-{n:017x}</snapshotId><lockState>{state}</lockState></item>")
    };
    let items: Vec<String> = locks.iter().map(item).collect();
    let token = token.map(|token| format!("<nextToken>{token}</nextToken>")).unwrap_or_default();
    let items = items.concat();
    ScriptedAnswer::ok(format!(
        "<DescribeLockedSnapshotsResponse><snapshotSet>{items}</snapshotSet>{token}</DescribeLockedSnapshotsResponse>"
    ))
}

/// Answers the permissions of a snapshot, as EC2 writes them (`<userId>…`, `<group>all…`).
pub fn shared_with(permissions: &[&str]) -> ScriptedAnswer {
    let items: Vec<String> = permissions.iter().map(|one| format!("<item>{one}</item>")).collect();
    ScriptedAnswer::ok(format!(
        "<DescribeSnapshotAttributeResponse><snapshotId>snap-1</snapshotId><createVolumePermission>{}\
         </createVolumePermission></DescribeSnapshotAttributeResponse>",
        items.concat()
    ))
}

/// Answers a page of the Recycle Bin.
pub fn binned(resources: &str, set: &str, items: &[String], token: Option<&str>) -> ScriptedAnswer {
    let token = token.map(|token| format!("<nextToken>{token}</nextToken>")).unwrap_or_default();
    let (response, items) = (format!("List{resources}InRecycleBinResponse"), items.concat());
    ScriptedAnswer::ok(format!("<{response}><{set}>{items}</{set}>{token}</{response}>"))
}

pub fn volume(n: u32) -> String {
    format!(
        "<item><volumeId>vol-{n:017x}</volumeId><size>100</size><volumeType>gp3</volumeType><iops>3000</iops>\
         <throughput>125</throughput><status>available</status><availabilityZone>us-east-1a</availabilityZone>\
         <createTime>2024-01-01T00:00:00.000Z</createTime></item>"
    )
}

pub fn snapshot(n: u32, volume: &str) -> String {
    format!(
        "<item><snapshotId>snap-{n:017x}</snapshotId><volumeId>{volume}</volumeId><volumeSize>100</volumeSize>\
         <status>completed</status><ownerId>123456789012</ownerId><storageTier>standard</storageTier>\
         <startTime>2024-01-01T00:00:00.000Z</startTime></item>"
    )
}

pub fn address(n: u32) -> String {
    format!(
        "<item><allocationId>eipalloc-{n:017x}</allocationId><publicIp>198.51.100.{n}</publicIp>\
         <publicIpv4Pool>amazon</publicIpv4Pool><networkBorderGroup>us-east-1</networkBorderGroup></item>"
    )
}

/// Answers for an EC2 account that has nothing, and a table that is empty and takes every write.
pub fn nothing(action: &str) -> ScriptedAnswer {
    match action {
        "DescribeAddresses" => page("addressesSet", &[], None),
        "DescribeVolumes" => page("volumeSet", &[], None),
        "DescribeSnapshots" => page("snapshotSet", &[], None),
        "DescribeImages" => page("imagesSet", &[], None),
        "DescribeLaunchTemplateVersions" => page("launchTemplateVersionSet", &[], None),
        "DescribeLockedSnapshots" => locks(&[], None),
        "DescribeSnapshotAttribute" => shared_with(&[]),
        "DescribeLaunchConfigurations" => configurations(&[], None),
        "ListImagesInRecycleBin" => binned("Images", "imageSet", &[], None),
        "ListSnapshotsInRecycleBin" => binned("Snapshots", "snapshotSet", &[], None),
        "ListVolumesInRecycleBin" => binned("Volumes", "volumeSet", &[], None),
        "BatchGetItem" => ScriptedAnswer::ok(r#"{"Responses":{"waste":[]},"UnprocessedKeys":{}}"#),
        "BatchWriteItem" => ScriptedAnswer::ok(r#"{"UnprocessedItems":{}}"#),
        "Query" => ScriptedAnswer::ok(r#"{"Items":[],"Count":0}"#),
        "TransactWriteItems" | "UpdateItem" | "PutItem" => ScriptedAnswer::ok("{}"),
        other => panic!("{other} is not expected"),
    }
}

pub fn asked(endpoint: &Endpoint, what: &str) -> usize {
    endpoint.requests().iter().filter(|request| request.contains(what)).count()
}
