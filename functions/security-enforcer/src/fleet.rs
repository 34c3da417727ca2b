//! EC2 as the audit sees it: running instances page by page, and a fresh look at single ones.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ec2::operation::describe_instances::builders::DescribeInstancesFluentBuilder;
use aws_sdk_ec2::types::Filter;
use spot_cloud::error::{CallError, Kind};
use spot_cloud::listing::{self, Page};
use spot_domain::InstanceId;
use spot_domain::authorization::Subject;
use spot_domain::journal::SwapId;
use spot_listing::{Item, Malformed, Shape};

use crate::facts::Facts;

const DESCRIBE: &str = "ec2:DescribeInstances";
const INSTANCES: Shape =
    Shape { root: "DescribeInstancesResponse", items: "reservationSet/item/instancesSet/item" };
/// Instances a page: enough for few calls, few enough for flat memory.
const PAGE: i32 = 500;
/// Values of a filter in one call: EC2 takes no more (`FilterLimitExceeded`).
const VALUES_PER_CALL: usize = 200;

/// Whether an instance lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// It runs.
    Running,
    /// Pending, stopping or stopped: it exists.
    Idle,
    /// Shutting down or terminated.
    Gone,
}

/// An instance as one call described it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The part that bears on who answers for it.
    pub subject: Subject,
    /// The part that a notice names.
    pub facts: Facts,
    /// Its state.
    pub life: Life,
}

/// The running instances of one account and region, page by page.
#[derive(Debug)]
pub struct Running<'a> {
    client: &'a aws_sdk_ec2::Client,
    token: Option<String>,
    ended: bool,
}

impl<'a> Running<'a> {
    /// From the first page on.
    #[must_use]
    pub fn of(client: &'a aws_sdk_ec2::Client) -> Self {
        Self { client, token: None, ended: false }
    }

    /// The next page, which may be empty; `None` after the last. After an error the listing is
    /// incomplete, and must not be read as if the rest did not exist.
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

/// Looks for what these swaps launched, whatever its state and its tags: by the ClientToken, which nobody can write later.
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

/// Looks at these instances, whatever their state; what EC2 does not know is absent.
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
        let mut token = None;
        loop {
            let those = filter(name, values.iter().cloned());
            let page = page(client.describe_instances().filters(those).set_next_token(token)).await?;
            found.extend(page.items);
            token = page.next;
            if token.is_none() {
                break;
            }
        }
    }
    Ok(found)
}

fn filter(name: &str, values: impl IntoIterator<Item = String>) -> Filter {
    Filter::builder().name(name).set_values(Some(values.into_iter().collect())).build()
}

/// An answer that breaks off while it is read, which the SDK does not see, is asked for once more.
async fn page(request: DescribeInstancesFluentBuilder) -> Result<Page<Seen>, CallError> {
    match page_once(request.clone()).await {
        Err(error) if error.kind == Kind::Retry => {
            tracing::warn!("{error}; asking again");
            page_once(request).await
        }
        answer => answer,
    }
}

async fn page_once(request: DescribeInstancesFluentBuilder) -> Result<Page<Seen>, CallError> {
    let asked = request.get_next_token().clone();
    let send = |unread| request.customize().interceptor(unread).send();
    listing::page(INSTANCES, DESCRIBE, asked.as_deref(), send, |item| seen(item).map(Some)).await
}

fn seen(item: &Item) -> Result<Seen, Malformed> {
    let id = item.parse_required("instanceId")?;
    let life = match item.text("instanceState/name") {
        Some("running") => Life::Running,
        Some("shutting-down" | "terminated") => Life::Gone,
        _ => Life::Idle, // also what AWS invents tomorrow: it is neither judged nor believed gone
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
