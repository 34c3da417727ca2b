//! The access to the cluster of a swap.

use kube::Client;
use spot_cloud::Stack;
use spot_cloud::access::Access;
use spot_cluster::access::{self, AccessError, Untried};
use spot_domain::swap::journal::NodeSwap;
use spot_domain::{ClusterName, ExecutionArn, Region};
use spot_swap::Context;
use spot_swap::error::StepError;
use spot_swap::work::Work;

use crate::no_access;

/// A cluster, and the access to it.
#[derive(Debug, Clone, Copy)]
pub struct ClusterEndpoint<'a> {
    pub cluster: &'a ClusterName,
    /// The secret with the kubeconfig of the cluster; `None` for EKS.
    pub kubeconfig_secret: Option<&'a str>,
}

impl<'a> From<&'a NodeSwap> for ClusterEndpoint<'a> {
    fn from(node: &'a NodeSwap) -> Self {
        Self { cluster: &node.cluster, kubeconfig_secret: node.kubeconfig_secret.as_deref() }
    }
}

/// Returns a client of the cluster's API server, with a token minted now.
///
/// # Errors
/// The cluster can't be reached.
pub async fn connect(
    stack: &Stack,
    account: &Access,
    region: &Region,
    execution: &ExecutionArn,
    door: ClusterEndpoint<'_>,
) -> Result<Untried, AccessError> {
    let config = stack.config_for(account, region, Some(execution)).await;
    match door.kubeconfig_secret {
        Some(secret) => access::kubeconfig(&config, secret).await,
        None => access::eks(&config, door.cluster).await,
    }
}

/// Returns a client for a run that has begun.
///
/// # Errors
/// The cluster can't be reached.
pub async fn connect_for(context: &Context, work: &Work, node: &NodeSwap) -> Result<Client, StepError> {
    let (lease, access) = (&work.lease, context.access(work).await?);
    let opened = connect(&context.stack, &access, &lease.region, lease.owner.execution(), node.into()).await;
    Ok(opened.map_err(no_access)?.client)
}
