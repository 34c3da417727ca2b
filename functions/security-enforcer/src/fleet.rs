//! EC2 for the audit: the running instances page by page, and a fresh description of single ones.

pub mod facts;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aws_sdk_ec2::operation::describe_instances::builders::DescribeInstancesFluentBuilder;
use aws_sdk_ec2::types::Filter;
use spot_cloud::CallError;
use spot_cloud::ec2::listing::{self, Page};
use spot_cloud::retry::{self, may_pass};
use spot_domain::InstanceId;
use spot_domain::audit::subject::Subject;
use spot_domain::swap::journal::SwapId;
use spot_listing::{Item, MalformedListing, Shape};

use facts::Facts;

const DESCRIBE: &str = "ec2:DescribeInstances";
const INSTANCES: Shape =
    Shape { root: "DescribeInstancesResponse", items: "reservationSet/item/instancesSet/item" };
/// The number of instances in a page: enough for few calls, few enough for flat memory.
const PAGE: i32 = 500;
/// The most values of a filter in one call (`FilterLimitExceeded`).
const VALUES_PER_CALL: usize = 200;

/// The state of an instance, as far as the audit distinguishes states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// The instance runs.
    Running,
    /// The instance exists and does not run: it is pending, stopping or stopped.
    Idle,
    /// The instance is shutting down or terminated.
    Gone,
}

/// An instance as one call described it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The part that decides if the instance is authorised.
    pub subject: Subject,
    /// The part that a notice names.
    pub facts: Facts,
    pub life: Presence,
}

/// The running instances of one account and region, page by page.
#[derive(Debug)]
pub struct Running<'a> {
    client: &'a aws_sdk_ec2::Client,
    token: Option<String>,
    ended: bool,
}

impl<'a> Running<'a> {
    /// Returns a listing that begins at the first page.
    #[must_use]
    pub fn of(client: &'a aws_sdk_ec2::Client) -> Self {
        Self { client, token: None, ended: false }
    }

    /// Returns the next page, which may be empty; `None` after the last. After an error the listing is incomplete:
    /// an absent instance may still exist.
    pub async fn next(&mut self) -> Option<Result<Vec<Seen>, CallError>> {
        if self.ended {
            return None;
        }
        let page = self.page().await;
        self.ended = self.token.is_none() || page.is_err();
        Some(page)
    }

    async fn page(&mut self) -> Result<Vec<Seen>, CallError> {
        let running = filter("instance-state-name", ["running".to_owned()]);
        let request = self.client.describe_instances().filters(running).max_results(PAGE);
        let page = page(request.set_next_token(self.token.take())).await?;
        self.token = page.next;
        Ok(page.items)
    }
}

/// Returns the instances that these swaps launched, in any state and with any tags. The search is by the
/// ClientToken, which no caller can write later.
///
/// # Errors
/// The call fails.
pub async fn launched_by(
    client: &aws_sdk_ec2::Client,
    swaps: impl Iterator<Item = &SwapId>,
) -> Result<Vec<Seen>, CallError> {
    // Values of filters take wildcards: <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Filtering.html>
    let tokens: BTreeSet<String> = swaps.map(|swap| format!("{swap}-*")).collect();
    described(client, "client-token", &tokens.into_iter().collect::<Vec<_>>()).await
}

/// Describes these instances, in any state. Instances that EC2 does not know are absent from the answer.
///
/// # Errors
/// The call fails.
pub async fn look_at(
    client: &aws_sdk_ec2::Client,
    ids: &[InstanceId],
) -> Result<BTreeMap<InstanceId, Seen>, CallError> {
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    let seen = described(client, "instance-id", &ids).await?;
    Ok(seen.into_iter().map(|seen| (seen.subject.id.clone(), seen)).collect())
}

async fn described(
    client: &aws_sdk_ec2::Client,
    name: &str,
    values: &[String],
) -> Result<Vec<Seen>, CallError> {
    let mut found = Vec::new();
    for values in values.chunks(VALUES_PER_CALL) {
        let those = filter(name, values.iter().cloned());
        let request = client.describe_instances().filters(those);
        listing::all(|token| page(request.clone().set_next_token(token)), |seen| found.extend(seen)).await?;
    }
    Ok(found)
}

fn filter(name: &str, values: impl IntoIterator<Item = String>) -> Filter {
    Filter::builder().name(name).set_values(Some(values.into_iter().collect())).build()
}

/// Returns one page. If an answer breaks off while it is read, which the SDK does not notice, the call is repeated
/// once.
async fn page(request: DescribeInstancesFluentBuilder) -> Result<Page<Seen>, CallError> {
    retry::patiently(&[Duration::ZERO], may_pass, || page_once(request.clone())).await
}

async fn page_once(request: DescribeInstancesFluentBuilder) -> Result<Page<Seen>, CallError> {
    let asked = request.get_next_token().clone();
    let send = |unread| request.customize().interceptor(unread).send();
    listing::page(INSTANCES, DESCRIBE, asked.as_deref(), send, |item| seen(item).map(Some)).await
}

fn seen(item: &Item) -> Result<Seen, MalformedListing> {
    let id = item.parse_required("instanceId")?;
    let life = match item.text("instanceState/name") {
        Some("running") => Presence::Running,
        Some("shutting-down" | "terminated") => Presence::Gone,
        _ => Presence::Idle, // also a state that AWS adds later: neither judged nor taken for gone
    };
    let operator = item
        .is("operator/managed")?
        .then(|| item.text("operator/principal").unwrap_or("an AWS service").to_owned());
    let subject = Subject {
        id,
        tags: item.tags().collect(),
        is_spot: item.text("instanceLifecycle") == Some("spot"),
        operator,
        client_token: item.text("clientToken").map(str::to_owned),
    };
    Ok(Seen { subject, facts: Facts::of(item), life })
}
