//! EC2 as the audit sees it: running instances page by page, and a fresh look at single ones.

use std::collections::BTreeMap;

use aws_sdk_ec2::types as ec2;
use spot_cloud::error::{CallError, failed};
use spot_domain::InstanceId;
use spot_domain::authorization::Subject;

const DESCRIBE: &str = "ec2:DescribeInstances";
/// Instances a page: enough for few calls, few enough for flat memory.
const PAGE: i32 = 500;
/// Ids in one call: EC2 asks to keep such lists short.
const IDS_PER_CALL: usize = 200;

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
    pub async fn next(&mut self) -> Option<Result<Vec<Subject>, CallError>> {
        if self.ended {
            return None;
        }
        let page = self.page().await;
        self.ended = self.token.is_none() || page.is_err();
        Some(page)
    }

    async fn page(&mut self) -> Result<Vec<Subject>, CallError> {
        let answer = self
            .client
            .describe_instances()
            .filters(filter("instance-state-name", ["running".to_owned()]))
            .max_results(PAGE)
            .set_next_token(self.token.take())
            .send()
            .await
            .map_err(failed(DESCRIBE))?;
        self.token = answer.next_token.filter(|token| !token.is_empty());
        instances(answer.reservations).map(|instance| subject(instance).map(|(subject, _)| subject)).collect()
    }
}

/// Looks at these instances, whatever their state; what EC2 does not know is absent.
///
/// # Errors
/// The call fails.
pub async fn look_at(
    client: &aws_sdk_ec2::Client,
    ids: &[InstanceId],
) -> Result<BTreeMap<InstanceId, (Subject, Life)>, CallError> {
    let mut found = BTreeMap::new();
    for ids in ids.chunks(IDS_PER_CALL) {
        let mut pages = client
            .describe_instances()
            .filters(filter("instance-id", ids.iter().map(ToString::to_string)))
            .into_paginator()
            .send();
        while let Some(page) = pages.next().await {
            for instance in instances(page.map_err(failed(DESCRIBE))?.reservations) {
                let (subject, life) = subject(instance)?;
                found.insert(subject.id.clone(), (subject, life));
            }
        }
    }
    Ok(found)
}

fn filter(name: &str, values: impl IntoIterator<Item = String>) -> ec2::Filter {
    ec2::Filter::builder().name(name).set_values(Some(values.into_iter().collect())).build()
}

fn instances(reservations: Option<Vec<ec2::Reservation>>) -> impl Iterator<Item = ec2::Instance> {
    reservations.into_iter().flatten().flat_map(|r| r.instances.unwrap_or_default())
}

fn subject(instance: ec2::Instance) -> Result<(Subject, Life), CallError> {
    let id = instance.instance_id().unwrap_or_default();
    let id = id.parse::<InstanceId>().map_err(|e| CallError::malformed(DESCRIBE, e.to_string()))?;
    let life = match instance.state().and_then(|s| s.name()) {
        Some(ec2::InstanceStateName::Running) => Life::Running,
        Some(ec2::InstanceStateName::ShuttingDown | ec2::InstanceStateName::Terminated) => Life::Gone,
        _ => Life::Idle, // also what AWS invents tomorrow: it is neither judged nor believed gone
    };
    let operator = instance
        .operator()
        .filter(|o| o.managed() == Some(true))
        .map(|o| o.principal().unwrap_or("an AWS service").to_owned());
    let is_spot = instance.instance_lifecycle() == Some(&ec2::InstanceLifecycleType::Spot);
    let tags = instance.tags.unwrap_or_default().into_iter();
    let tags = tags.filter_map(|tag| Some((tag.key?, tag.value.unwrap_or_default()))).collect();
    Ok((Subject { id, tags, is_spot, operator, client_token: instance.client_token }, life))
}
