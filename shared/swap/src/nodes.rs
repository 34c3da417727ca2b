//! The Kubernetes side of a swap's way back: no instance that is a node leaves before its pods have moved,
//! by eviction, and what we cordoned is schedulable again at the end. The rollback of an execution and
//! the reconciler both go through [`permit`].

use kube::Client;
use spot_cloud::accounts::Access;
use spot_cloud::swaps::Lease;
use spot_cloud::{Stack, instances};
use spot_cluster::access::{self, AccessError};
use spot_cluster::drain::{self, State};
use spot_cluster::pods::Policy;
use spot_cluster::{node, volumes};
use spot_domain::journal::{Journal, NodeSwap};
use spot_domain::recovery::{Action, Observed, goes_forward};
use spot_domain::{ClusterName, ExecutionArn, InstanceId, Region};

use crate::Context;
use crate::error::StepError;
use crate::recovery::Permission;
use crate::work::Work;

/// Which cluster, and how it is reached.
#[derive(Debug, Clone, Copy)]
pub struct Door<'a> {
    /// The cluster.
    pub cluster: &'a ClusterName,
    /// The secret with its kubeconfig; `None` for EKS.
    pub kubeconfig_secret: Option<&'a str>,
}

impl<'a> From<&'a NodeSwap> for Door<'a> {
    fn from(node: &'a NodeSwap) -> Self {
        Self { cluster: &node.cluster, kubeconfig_secret: node.kubeconfig_secret.as_deref() }
    }
}

/// A client of the cluster's API server, with a token minted now.
///
/// # Errors
/// The cluster can't be reached.
pub async fn connect(
    stack: &Stack,
    account: &Access,
    region: &Region,
    execution: &ExecutionArn,
    door: Door<'_>,
) -> Result<Client, AccessError> {
    let config = stack.config_for(account, region, Some(execution)).await;
    match door.kubeconfig_secret {
        Some(secret) => access::kubeconfig(&config, secret).await,
        None => access::eks(&config, door.cluster).await,
    }
}

/// The same for a run.
///
/// # Errors
/// The cluster can't be reached.
pub async fn connect_for(context: &Context, work: &Work, node: &NodeSwap) -> Result<Client, StepError> {
    let (lease, access) = (&work.lease, &work.access);
    Ok(connect(&context.stack, access, &lease.region, lease.owner.execution(), node.into()).await?)
}

/// Whether `action` may be done now. A cluster that does not answer lets nothing go: a node whose pods
/// can't be counted is not drained.
pub async fn permit(
    stack: &Stack,
    lease: &Lease,
    access: &Access,
    journal: &Journal,
    observed: &Observed,
    action: &Action,
) -> Permission {
    let Some(node) = &journal.node else { return Permission::Granted };
    let client = match connect(stack, access, &lease.region, lease.owner.execution(), node.into()).await {
        Ok(client) => client,
        // With the cluster went its nodes and pods. A secret that is gone says nothing of the kind.
        Err(AccessError::NotFound { .. }) if node.kubeconfig_secret.is_none() => return Permission::Granted,
        Err(error) => return Permission::NotYet(format!("cluster {}: {error}", node.cluster)),
    };
    let way = Way { stack, lease, access, client: &client, mark: journal.swap_id.as_str() };
    match way.prepare(journal, node, observed, action).await {
        Ok(permission) => permission,
        Err(error) => Permission::NotYet(format!("cluster {}: {error}", node.cluster)),
    }
}

struct Way<'a> {
    stack: &'a Stack,
    lease: &'a Lease,
    access: &'a Access,
    client: &'a Client,
    mark: &'a str,
}

impl Way<'_> {
    async fn prepare(
        &self,
        journal: &Journal,
        node: &NodeSwap,
        observed: &Observed,
        action: &Action,
    ) -> Result<Permission, StepError> {
        let goes = action.removes(&journal.old);
        // Whatever else we cordoned stays, by now: the old node on the way back, a newcomer or an extra one
        // that somebody's wish for more capacity has made a node like any other.
        for marked in node::marked(self.client, self.mark).await? {
            let is_going = goes.is_some() && marked.instance_id.as_ref() == goes;
            let is_old = marked.name == node.old;
            let is_done_with = is_going || (is_old && goes_forward(journal, observed));
            if !is_done_with {
                node::uncordon(self.client, &marked.name, self.mark).await?;
            }
        }
        match goes {
            Some(id) => self.drained(id, policy(node)).await,
            None => Ok(Permission::Granted),
        }
    }

    /// Evicts what is left on the node of this instance. Where the instance no longer runs, there is
    /// nobody to evict from.
    async fn drained(&self, id: &InstanceId, policy: Policy) -> Result<Permission, StepError> {
        let execution = Some(self.lease.owner.execution());
        let target = self.stack.target(self.access, &self.lease.region, execution).await;
        if !instances::is_running(&target.ec2, id).await? {
            return Ok(Permission::Granted);
        }
        let Some(node) = node::find(self.client, id).await? else { return Ok(Permission::Granted) };
        node::cordon(self.client, &node.name, self.mark).await?;
        let pass = drain::pass(self.client, &node.name, policy, State::default()).await?;
        if pass.is_done {
            let attached = volumes::attached(self.client, &node.name, policy).await?;
            let waits = |volume: &String| format!("volume {volume} is still attached to node {}", node.name);
            return Ok(attached.first().map_or(Permission::Granted, |v| Permission::NotYet(waits(v))));
        }
        let blocked = pass
            .blocked
            .first()
            .map(|b| format!("; {}/{}: {}", b.namespace, b.pod, b.why))
            .unwrap_or_default();
        Ok(Permission::NotYet(format!(
            "{} pods must still move from node {}{blocked}",
            pass.remaining.len(),
            node.name
        )))
    }
}

/// Which pods may be evicted, as the settings had it when the run began.
#[must_use]
pub fn policy(node: &NodeSwap) -> Policy {
    Policy { evict_local_storage: node.evict_local_storage, evict_unmanaged: node.evict_unmanaged }
}
