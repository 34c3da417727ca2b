//! Preflight: checks the instance, its node, the node's pods and their budgets, and its group. Refuses by name
//! what can't be swapped, before any launch. Changes nothing but the leases, and acquires them last: one of the
//! cluster's slots, then the group's lease.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use kube::Client;
use serde_json::Value;
use spot_cloud::auto_scaling::groups;
use spot_cloud::ec2::instances;
use spot_cloud::tables::swaps::{Lease, Leased};
use spot_cluster::access::AccessError;
use spot_cluster::drain::State;
use spot_cluster::ownership::NodeOwner;
use spot_cluster::preflight::{Gathered, Line, PodFate, Report, Terms};
use spot_cluster::{node, preflight};
use spot_domain::swap::asked::Asked;
use spot_domain::swap::fitness::Hook;
use spot_domain::swap::group::Instance;
use spot_domain::swap::journal::{NodeSwap, SwapKind};
use spot_domain::swap::node::{NodePlan, NodeSwapRequest};
use spot_domain::swap::report::NotSwapped;
use spot_domain::swap::selection::{Candidate, MemberKind, select_one};
use spot_domain::tags::{GROUP_NAME_TAG, cluster_of};
use spot_domain::words::Cause;
use spot_domain::{ClusterName, ExecutionArn, GroupName, Pool, Reason};
use spot_nodes::{failed, no_access};
use spot_swap::error::StepError;
use spot_swap::group::GroupLook;
use spot_swap::phases::gate::Refusal;
use spot_swap::request::{Site, parse};
use spot_swap::work::{Next, Work};
use spot_swap::{Context, group};

use crate::phases::drain::{BLOCKED_LISTED, blocked_pod};
use crate::work::{Joining, Leaving, NodeRun, NodeWork, Seen};

const SHAPE: &str = r#"{"instance_id": "i-...", "cluster_name"?, "account_id"?, "region"?, "drain_timeout_seconds"?, "dry_run"?}"#;

/// The number of times that the first call to a silent cluster is repeated, some seconds apart, before the swap is
/// refused.
pub(crate) const TRIES_OF_SILENCE: u32 = 3;

/// The longest drain timeout, the same as for the setting: an execution lasts 24 hours at most, and has other
/// phases, too.
const MAX_DRAIN_SECONDS: u32 = 43_200;

/// Plans the run, or says why there is none.
///
/// # Errors
/// The request or the settings are refused, or another run holds the group or the cluster. Nothing was changed
/// then. A call fails.
pub async fn run(
    context: &Context,
    execution: ExecutionArn,
    input: Value,
    tries: u32,
) -> Result<(Next, NodeWork), StepError> {
    let request: NodeSwapRequest = parse(input, SHAPE)?;
    if request.drain_timeout_seconds.is_some_and(|seconds| seconds.get() > MAX_DRAIN_SECONDS) {
        let most = format!("drain_timeout_seconds: expected 1 to {MAX_DRAIN_SECONDS}");
        return Err(StepError::InvalidInput(most.into()));
    }
    let (account_id, region) = (request.account_id.clone(), request.region.clone());
    let site = Site::of(context, account_id, region, execution).await?;
    let looks = Looks(&site);
    let id = request.instance_id.clone();
    let refused = |cluster, (reason, detail): (Reason, String)| {
        tracing::info!(instance_id = %id, %reason, "refused: {detail}");
        Ok((Next::Report, NodeWork::refused(id.clone(), cluster, reason, detail)))
    };
    let described = instances::describe(&site.clients.ec2, std::slice::from_ref(&id)).await?;
    let Some(instance) = described.get(&id) else {
        return refused(request.cluster_name, (Reason::InstanceGone, "EC2 does not describe it".into()));
    };
    let cluster = cluster(&request, instance)?;
    let timeout = request.drain_timeout_seconds.map_or(site.settings.drain_timeout_seconds, NonZeroU32::get);
    let opened = looks.open(context, &cluster, tries).await?;
    let (node, report) = match looks.look_at_node(opened, &cluster, instance, timeout).await? {
        Ok(found) => found,
        Err(why) => return refused(Some(cluster), why),
    };
    if let Some(why) = stands_against(&report) {
        let (next, mut work) = refused(Some(cluster), why)?;
        work.plan = request.dry_run.then(|| plan(&node, &report, &[]));
        work.blocked = report.blocked.into_iter().take(BLOCKED_LISTED).map(blocked_pod).collect();
        return Ok((next, work));
    }
    let found = match looks.look_at_group(instance).await? {
        Ok(found) => found,
        Err(why) => return refused(Some(cluster), why),
    };
    let plan = plan(&node, &report, &found.candidate.pools);
    let mut run = looks.run(found, node, timeout);
    run.swap.blind = site.blindness(context).await?;
    let mut work = NodeWork {
        instance_id: id.clone(),
        cluster: Some(cluster),
        refused: None,
        blocked: vec![],
        plan: None,
        gate: run.swap.gate_view(),
        run: Some(run),
    };
    if request.dry_run {
        work.plan = Some(plan);
        return dry_run(context, work).await;
    }
    let (run, _) = work.run()?;
    if let Some(blind) = Refusal::of_blind_gate(&run.swap) {
        work.refused = Some(NotSwapped::new(&id, blind.reason, blind.detail));
        work.run = None;
        return Ok((Next::Report, work));
    }
    take_leases(context, run).await?;
    tracing::info!(instance_id = %id, node = %run.node.old, "fit to be swapped");
    Ok((Next::Proceed, work))
}

/// Plans without changes. The gate is asked, too: without a clear pool there is no plan.
async fn dry_run(context: &Context, mut work: NodeWork) -> Result<(Next, NodeWork), StepError> {
    let (run, _) = work.run()?;
    run.swap.dry_run = true;
    spot_swap::phases::gate::run(context, &mut run.swap).await?;
    work.refused = run.swap.skipped.first().cloned();
    work.run = None;
    Ok((Next::Report, work))
}

fn cluster(request: &NodeSwapRequest, instance: &Instance) -> Result<ClusterName, StepError> {
    let named = request.cluster_name.clone().or_else(|| cluster_of(&instance.tags));
    named.ok_or_else(|| {
        let id = &instance.id;
        StepError::InvalidInput(
            format!(
                "cluster_name: missing, and no tag of instance {id} names its cluster (aws:eks:cluster-name, \
             kubernetes.io/cluster/<name>)"
            )
            .into(),
        )
    })
}

/// Returns the error for a failed first call. A silent cluster is retried; after the last try the swap is refused.
fn believed(error: AccessError, tries: u32) -> StepError {
    match error {
        AccessError::Silent { .. } if tries < TRIES_OF_SILENCE => StepError::Transient(Cause::of(error)),
        error => no_access(error),
    }
}

/// Returns the obstacle that the report shows to a swap of the node.
fn stands_against(report: &Report) -> Option<Why> {
    if let Some(owner) = &report.owner {
        return Some((reason_of(owner), owner.way_out()));
    }
    if let Some(first) = report.blocked.first() {
        let pods: BTreeSet<_> = report.blocked.iter().map(|b| (&b.namespace, &b.pod)).collect();
        let detail = format!(
            "{} pods of node {} could never be evicted; {}/{}: {}",
            pods.len(),
            report.node,
            first.namespace,
            first.pod,
            first.why
        );
        return Some((Reason::PodsNotEvictable, detail));
    }
    let label = report.on_demand_label.as_ref()?;
    let detail = format!(
        "node {} calls itself On-Demand ({label}), and so would a Spot newcomer from the same launch template: take \
         the label out of the template; if user data computes it, take it off the node",
        report.node
    );
    Some((Reason::NotSpotCapable, detail))
}

/// Returns the reason for a refusal because of the node's owner. An opt-out has one reason, another manager of the
/// node has a second.
pub(crate) fn reason_of(owner: &NodeOwner) -> Reason {
    match owner {
        NodeOwner::LeftAlone(_) => Reason::OptedOut,
        NodeOwner::ManagedNodeGroup(_)
        | NodeOwner::Karpenter(_)
        | NodeOwner::AutoMode
        | NodeOwner::Fargate
        | NodeOwner::Machine(_)
        | NodeOwner::ControlPlane(_)
        | NodeOwner::Leaving(_) => Reason::ManagedElsewhere,
    }
}

fn plan(node: &NodeSwap, report: &Report, pools: &[Pool]) -> NodePlan {
    let names = report.would_move.iter().map(|pod| format!("{}/{}", pod.namespace, pod.pod));
    NodePlan {
        node: node.old.to_string(),
        would_move: names.take(NodePlan::LISTED).collect(),
        would_move_count: report.would_move.len(),
        stays_count: report.stays.len(),
        zone_bound: report.is_zone_bound,
        all_replicas_here: report.gathered.iter().take(NodePlan::LISTED).map(sentence).collect(),
        table: table(&report.lines),
        pools: pools.to_vec(),
    }
}

fn sentence(gathered: &Gathered) -> String {
    let Gathered { workload, replicas, budget } = gathered;
    let budget = budget.as_ref().map_or("no budget".to_owned(), |name| format!("budget {name}"));
    format!("{workload}: {replicas} of {replicas} replicas on this node, {budget}")
}

fn table(lines: &[Line]) -> Vec<String> {
    let row = |line: &Line| {
        let verdict = match line.verdict {
            PodFate::Blocked => "BLOCKED",
            PodFate::Moves => "moves",
            PodFate::Stays => "stays",
        };
        let workload = if line.workload.is_empty() { "-" } else { &line.workload };
        [
            verdict.to_owned(),
            format!("{}/{}", line.namespace, line.pod),
            workload.to_owned(),
            line.why.clone(),
        ]
    };
    let rows: Vec<[String; 4]> = lines.iter().map(row).collect();
    NodePlan::lines(["VERDICT", "POD", "WORKLOAD", "WHY"], &rows)
}

/// The looks at the node and its group, before anything is changed.
struct Looks<'a>(&'a Site);

type Why = (Reason, String);

impl Looks<'_> {
    /// Returns a client whose first call the API server has answered.
    async fn open(&self, context: &Context, cluster: &ClusterName, tries: u32) -> Result<Client, StepError> {
        let kubeconfig_secret = self.kubeconfig_secret(cluster);
        let door = spot_nodes::ClusterEndpoint { cluster, kubeconfig_secret };
        let opened =
            spot_nodes::connect(&context.stack, &self.0.access, &self.0.region, &self.0.execution, door)
                .await
                .map_err(no_access)?;
        opened.tried().await.map_err(|error| believed(error, tries))
    }

    fn kubeconfig_secret(&self, cluster: &ClusterName) -> Option<&str> {
        self.0.settings.kubeconfig_secrets.get(cluster).map(String::as_str)
    }

    /// Describes the node and the fate of its pods.
    async fn look_at_node(
        &self,
        client: Client,
        cluster: &ClusterName,
        instance: &Instance,
        drain_timeout_seconds: u32,
    ) -> Result<Result<(NodeSwap, Report), Why>, StepError> {
        let mut found = node::naming(&client, &instance.id).await.map_err(failed)?;
        if found.len() > 1 {
            let names: Vec<&str> = found.iter().map(|node| node.name.as_str()).collect();
            let detail = format!(
                "{} nodes of cluster {cluster} name it ({}): delete those that are stale",
                names.len(),
                names.join(", ")
            );
            return Ok(Err((Reason::NotANode, detail)));
        }
        let Some(node) = found.pop() else {
            let detail = format!("cluster {cluster} has no node whose providerID names it");
            return Ok(Err((Reason::NotANode, detail)));
        };
        if let Some(owner) = &node.owner {
            return Ok(Err((reason_of(owner), owner.way_out())));
        }
        if node.is_unschedulable {
            let detail = format!("node {} is cordoned, and not by this system: uncordon it first", node.name);
            return Ok(Err((Reason::CordonedByOthers, detail)));
        }
        if !node.is_ready {
            return Ok(Err((Reason::NotInService, format!("node {} is not Ready", node.name))));
        }
        let swap = NodeSwap {
            cluster: cluster.clone(),
            kubeconfig_secret: self.kubeconfig_secret(cluster).map(str::to_owned),
            old: node.name.clone(),
            evict_local_storage: self.0.settings.evict_local_storage,
            evict_unmanaged: self.0.settings.evict_unmanaged,
        };
        let terms = Terms { policy: spot_nodes::policy(&swap), drain_timeout_seconds };
        let look = preflight::look(&client, node, terms).await.map_err(failed)?;
        Ok(Ok((swap, preflight::report(&look))))
    }

    /// Describes the node's group, and the node as a candidate of it.
    async fn look_at_group(&self, instance: &Instance) -> Result<Result<NodeInGroup, Why>, StepError> {
        let name = instance.tags.get(GROUP_NAME_TAG).and_then(|name| name.parse::<GroupName>().ok());
        let group = match &name {
            Some(name) => groups::describe(&self.0.clients.autoscaling, name).await?,
            None => None,
        };
        let Some(group) = group else {
            let detail =
                "it is in no Auto Scaling group, which would keep its place in the cluster".to_owned();
            return Ok(Err((Reason::NotInGroup, detail)));
        };
        let hooks = group::refuse_unfit(&self.0.clients, &self.0.settings, &group).await?;
        let (clients, region) = (&self.0.clients, &self.0.region);
        let look = group::look_for(clients, region, group, &[&instance.id], &Asked::default()).await?;
        let selected = select_one(look.view(), &instance.id, &self.0.settings, MemberKind::Node)
            .map_err(|bad| group::malformed(&look.group, &bad))?;
        Ok(selected
            .map(|candidate| NodeInGroup { look, hooks, candidate })
            .map_err(|left| (left.reason, left.detail)))
    }

    fn run(self, found: NodeInGroup, node: NodeSwap, drain_timeout_seconds: u32) -> NodeRun {
        let group = &found.look.group;
        let on = Leased::Group { arn: group.arn.clone(), name: group.name.clone() };
        let lease = self.0.lease(on);
        let slot = Leased::ClusterSlot { cluster: node.cluster.clone(), slot: 0 };
        let slot = Lease { on: slot, ..lease.clone() };
        let mut swap = Work::new(lease, self.0.settings.clone());
        swap.note_hooks(&found.hooks);
        swap.spot_max_price = found.look.spot_max_price();
        swap.max_swaps = 1;
        swap.kind = SwapKind::of_node(node.clone());
        swap.drain_timeout_seconds = Some(drain_timeout_seconds);
        swap.queue = vec![found.candidate];
        NodeRun {
            swap,
            slot,
            node,
            joining: Joining::Starting,
            leaving: Leaving::NotYet,
            drain_deadline: None,
            drain: State::default(),
            queued: None,
            seen: Seen::default(),
        }
    }
}

/// The node's group, its lifecycle hooks, and the node as a candidate of it.
struct NodeInGroup {
    look: GroupLook,
    hooks: Vec<Hook>,
    candidate: Candidate,
}

/// Acquires one of the cluster's slots, then the group's lease. If the group is busy, releases the slot.
async fn take_leases(context: &Context, run: &mut NodeRun) -> Result<(), StepError> {
    let mut busy = None;
    for slot in 0..run.swap.settings.max_unavailable_nodes {
        run.slot.on = Leased::ClusterSlot { cluster: run.node.cluster.clone(), slot };
        match context.swaps.take(&run.slot).await {
            Ok(()) => {
                busy = None;
                break;
            }
            Err(error) => busy = Some(StepError::from(error)),
        }
        if !matches!(busy, Some(StepError::GroupBusy(_))) {
            break;
        }
    }
    match busy {
        Some(StepError::GroupBusy(why)) => return Err(StepError::ClusterBusy(why)),
        Some(error) => return Err(error),
        None => {}
    }
    let taken = context.swaps.take(&run.swap.lease).await;
    if taken.is_err() {
        context.swaps.let_go(&run.slot, "its group was busy").await?;
    }
    Ok(taken?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moments_silence_is_not_believed_and_one_that_lasts_is() {
        let silent = |secret: Option<&str>| AccessError::Silent {
            of: "cluster shop".to_owned(),
            secret: secret.map(str::to_owned),
            problem: "its endpoint is private and does not answer".into(),
        };
        let names = |secret| (0..5).map(|tries| believed(silent(secret), tries).name()).collect::<Vec<_>>();
        let [again, input, settings] = ["Transient", "InvalidInput", "InvalidSettings"];
        assert_eq!(names(None), [again, again, again, input, input]);
        assert_eq!(names(Some("shop")), [again, again, again, settings, settings]);
        let wrong = AccessError::Unreachable { of: "cluster shop".to_owned(), problem: "".into() };
        assert_eq!(believed(wrong, 0).name(), input, "it was answered, and wrong");
    }

    #[test]
    fn the_sample_input_is_a_request() {
        let sample = include_str!("../../../../events/node-swap-input.json");
        let request: NodeSwapRequest = parse(serde_json::from_str(sample).unwrap(), SHAPE).unwrap();
        assert!(request.dry_run, "a sample that swaps at the first click is none");
    }
}
