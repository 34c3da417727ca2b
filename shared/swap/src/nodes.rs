//! The Kubernetes side of a swap's way back: no instance that is a node leaves before its pods have moved,
//! by eviction, and what we cordoned is schedulable again at the end. The rollback of an execution and
//! the reconciler both go through [`permit`].
//!
//! A newcomer keeps its pods for as long as they have nowhere to go back to: while the old node is not Ready, is
//! cordoned by somebody else, or is gone and nothing has taken its place. The rollback then ends as stuck, which tells a person.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use kube::Client;
use spot_cloud::accounts::Access;
use spot_cloud::swaps::Lease;
use spot_cloud::{Stack, instances};
use spot_cluster::access::{self, AccessError, Untried};
use spot_cluster::drain::{self, LastReady, State};
use spot_cluster::node::NodeName;
use spot_cluster::pods::{self, NodePod, Policy};
use spot_cluster::{node, volumes};
use spot_domain::eviction::Turns;
use spot_domain::group::Member;
use spot_domain::journal::{Journal, LeavingNode, NodeSwap};
use spot_domain::recovery::{Action, Observed, goes_forward};
use spot_domain::{ClusterName, ExecutionArn, InstanceId, Region};

use crate::Context;
use crate::error::StepError;
use crate::recovery::Permission;
use crate::work::Work;

/// How long the way back waits for another pod before it evicts the last Ready one of a controller. The rollback has
/// no deadline of its own that the reconciler would share.
const LAST_READY_KEPT_FOR: SignedDuration = SignedDuration::from_mins(5);

/// A pod that came back to the newcomer twice may find another node later: the way back must come to an end.
const TURNS_COUNT_FOR: SignedDuration = SignedDuration::from_mins(15);

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
) -> Result<Untried, AccessError> {
    let config = stack.config_for(account, region, Some(execution)).await;
    match door.kubeconfig_secret {
        Some(secret) => access::kubeconfig(&config, secret).await,
        None => access::eks(&config, door.cluster).await,
    }
}

/// A client for a run that has begun.
///
/// # Errors
/// The cluster can't be reached.
pub async fn connect_for(context: &Context, work: &Work, node: &NodeSwap) -> Result<Client, StepError> {
    let (lease, access) = (&work.lease, context.access(work).await?);
    let opened =
        connect(&context.stack, &access, &lease.region, lease.owner.execution(), node.into()).await?;
    Ok(opened.client)
}

/// Whether `action` may be done now. A cluster that does not answer lets nothing go: a node whose pods
/// can't be counted is not drained.
pub async fn permit(
    stack: &Stack,
    lease: &Lease,
    access: &Access,
    journal: &mut Journal,
    observed: &Observed,
    action: &Action,
) -> Permission {
    let Some(node) = &journal.node.clone() else { return Permission::Granted };
    let client = match connect(stack, access, &lease.region, lease.owner.execution(), node.into()).await {
        Ok(opened) => opened.client,
        // With the cluster went its nodes and pods. A secret that is gone says nothing of the kind.
        Err(AccessError::NotFound { .. }) if node.kubeconfig_secret.is_none() => return Permission::Granted,
        Err(error) => return Permission::NotYet(format!("cluster {}: {error}", node.cluster)),
    };
    let mark = journal.swap_id.to_string();
    let way = Way { stack, lease, access, client: &client, mark: &mark };
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
        journal: &mut Journal,
        node: &NodeSwap,
        observed: &Observed,
        action: &Action,
    ) -> Result<Permission, StepError> {
        let goes = action.removes(&journal.old).cloned();
        // Whatever else we cordoned stays, by now: the old node on the way back, a newcomer or an extra one
        // that somebody's wish for more capacity has made a node like any other.
        for marked in node::marked(self.client, self.mark).await? {
            let is_going = goes.is_some() && marked.instance_id == goes;
            let is_old = marked.name == node.old;
            let is_done_with = is_going || (is_old && goes_forward(journal, observed));
            if !is_done_with {
                node::uncordon(self.client, &marked.name, self.mark).await?;
            }
        }
        match goes {
            Some(id) => self.drained(&id, journal, node, observed).await,
            None => Ok(Permission::Granted),
        }
    }

    /// Evicts what is left on the node of this instance. Where the instance no longer runs, there is
    /// nobody to evict from.
    async fn drained(
        &self,
        id: &InstanceId,
        journal: &mut Journal,
        swap: &NodeSwap,
        observed: &Observed,
    ) -> Result<Permission, StepError> {
        let execution = Some(self.lease.owner.execution());
        let target = self.stack.target(self.access, &self.lease.region, execution).await;
        if !instances::is_running(&target.ec2, id).await? {
            return Ok(Permission::Granted);
        }
        let Some(node) = node::find(self.client, id).await? else { return Ok(Permission::Granted) };
        if !goes_forward(journal, observed)
            && let Some(why) = self.nowhere_to_go(journal, swap, observed).await?
            && pods::on_node(self.client, &node.name, policy(swap)).await?.iter().any(NodePod::must_go)
        {
            // It is the place that the pods have: it takes those that the old node loses, too. Its drain begins anew.
            node::uncordon(self.client, &node.name, self.mark).await?;
            journal.leaving_node = None;
            return Ok(Permission::NotYet(format!(
                "{why}; until then instance {id} keeps the pods of node {}",
                node.name
            )));
        }
        node::cordon(self.client, &node.name, self.mark).await?;
        self.evict(id, &node.name, journal, policy(swap)).await
    }

    /// One pass. What it has done is noted in the journal: the next visit may be another process.
    async fn evict(
        &self,
        id: &InstanceId,
        node: &NodeName,
        journal: &mut Journal,
        policy: Policy,
    ) -> Result<Permission, StepError> {
        let known = journal.leaving_node.take().filter(|known| &known.instance_id == id);
        let anew = |claims| {
            let (instance_id, since) = (id.clone(), Timestamp::now());
            LeavingNode { instance_id, since, turns: Turns::default(), claims }
        };
        let known = match known {
            Some(known) if Timestamp::now().duration_since(known.since) < TURNS_COUNT_FOR => known,
            Some(known) => anew(known.claims),
            None => anew(BTreeSet::new()),
        };
        journal.leaving_node = Some(known.clone());
        let is_late = Timestamp::now().duration_since(known.since) > LAST_READY_KEPT_FOR;
        let last_ready = if is_late { LastReady::Evict } else { LastReady::Keep };
        let state = State { turns: known.turns, claims: known.claims, ..State::default() };
        let pass = drain::pass(self.client, node, policy, last_ready, state).await?;
        let left = pass.left(node);
        let State { turns, claims, .. } = pass.state;
        let attached = match left {
            None => volumes::attached(self.client, node, &claims).await?,
            Some(_) => Vec::new(),
        };
        let (instance_id, since) = (id.clone(), known.since);
        journal.leaving_node = Some(LeavingNode { instance_id, since, turns, claims });
        let waits = |volume: &String| format!("volume {volume} is still attached to node {node}");
        Ok(left.or_else(|| attached.first().map(waits)).map_or(Permission::Granted, Permission::NotYet))
    }

    /// Says why the pods of a newcomer have no node to go back to: the old one must be Ready and schedulable, or
    /// else a node that its group has launched in its place.
    async fn nowhere_to_go(
        &self,
        journal: &Journal,
        swap: &NodeSwap,
        observed: &Observed,
    ) -> Result<Option<String>, StepError> {
        let name = &swap.old;
        let old = node::get(self.client, name).await?;
        if let Some(old) = old.filter(|old| old.instance_id.as_ref() == Some(&journal.old)) {
            let id = &journal.old;
            return Ok(if !old.is_ready {
                Some(format!("node {name} is not Ready: mend it, or terminate instance {id}"))
            } else if old.is_unschedulable {
                Some(format!(
                    "somebody else has cordoned node {name}: uncordon it, or terminate instance {id}"
                ))
            } else {
                None
            });
        }
        if observed.old_alive {
            return Ok(Some(format!(
                "node {name} is gone from the cluster, and its instance {} runs: let it join again, or terminate it",
                journal.old
            )));
        }
        let (Some(group), Some(original)) = (&observed.group, &journal.original) else { return Ok(None) };
        let newcomer = observed.newcomer.as_ref().map(|newcomer| &newcomer.id);
        let is_in_place =
            |m: &&Member| m.serves() && !original.members.contains(&m.id) && Some(&m.id) != newcomer;
        for member in group.members.iter().filter(is_in_place) {
            let node = node::find(self.client, &member.id).await?;
            if node.is_some_and(|node| node.is_ready && !node.is_unschedulable) {
                return Ok(None);
            }
        }
        Ok(Some(format!(
            "node {name} is gone with its instance, and its group has no Ready node in its place yet"
        )))
    }
}

/// Which pods may be evicted, as the settings had it when the run began.
#[must_use]
pub fn policy(node: &NodeSwap) -> Policy {
    Policy { evict_local_storage: node.evict_local_storage, evict_unmanaged: node.evict_unmanaged }
}
