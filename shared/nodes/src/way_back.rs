//! The rollback of a swap whose instances are nodes. No instance leaves before its pods have moved, by eviction,
//! and a node that we cordoned is schedulable again at the end. The rollback of an execution and the reconciler
//! both go through [`recover_node`].
//!
//! A newcomer keeps its pods for as long as they have no node to go back to. That is the case while the old node
//! is not Ready, is cordoned by another party, or is gone and has no successor yet. The rollback then ends as stuck,
//! which notifies a person. A group that is asked for fewer nodes by now launches no successor: its pods go.
//!
//! If the newcomer's pods can't leave it, the newcomer stays a node in service. A policy may forbid the eviction, or
//! the pods may come back in spite of the cordon. The rollback ends without it, and its report names the pod and
//! what is left to do.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use kube::Client;
use spot_cloud::CallError;
use spot_cloud::Stack;
use spot_cloud::access::Access;
use spot_cloud::ec2::instances;
use spot_cloud::launch::gatekeeper::Gatekeeper;
use spot_cloud::tables::swaps::{Lease, SwapsError};
use spot_cluster::access::AccessError;
use spot_cluster::drain::{self, LastReady, Manner, Others, Pass, State};
use spot_cluster::node::NodeName;
use spot_cluster::pods::{self, NodePod};
use spot_cluster::{node, volumes};
use spot_domain::clock;
use spot_domain::swap::eviction::Turns;
use spot_domain::swap::group::{Group, Member, MemberState};
use spot_domain::swap::journal::{
    Journal, Kept, LeavingNode, NodeJournal, NodeSwap, Retirement, Stage, SwapKind,
};
use spot_domain::swap::recovery::group::{Action, Observed, goes_forward, is_full_without_newcomer};
use spot_domain::swap::recovery::{Decision, End, Ended};
use spot_domain::{InstanceId, Reason};
use spot_swap::error::StepError;
use spot_swap::newcomer::unproven;
use spot_swap::recovery::group::{GroupRecovery, Seen};
use spot_swap::recovery::{After, Permission, Progress, Recovery, Visit, drive};

use crate::door::connect;
use crate::error::failed;
use crate::policy::policy;

mod kept;

use kept::{Grown, held_for_good, stays};

/// The time that the rollback waits for another pod before it evicts the last Ready one of a controller. The
/// rollback has no deadline of its own that the reconciler would share.
const LAST_READY_KEPT_FOR: SignedDuration = SignedDuration::from_mins(5);

/// Does all that can be done now for a swap of nodes.
///
/// # Errors
/// As for [`drive`]; or the swap is none of nodes.
pub async fn recover_node(
    stack: &Stack,
    access: &Access,
    gatekeeper: &Gatekeeper,
    visit: Visit<'_>,
    journal: &mut Journal,
) -> Result<Progress, SwapsError> {
    drive(NodeRecovery { stack, access, group: GroupRecovery::over(gatekeeper, visit)? }, visit, journal)
        .await
}

/// The ways of a swap of nodes: those of its group's swap, and no node goes undrained.
#[derive(Debug)]
struct NodeRecovery<'a> {
    stack: &'a Stack,
    access: &'a Access,
    group: GroupRecovery<'a>,
}

impl Recovery for NodeRecovery<'_> {
    type Observed = Seen;
    type Action = Action;

    const ACTIONS_PER_VISIT: usize = GroupRecovery::ACTIONS_PER_VISIT;

    async fn observe(&self, visit: Visit<'_>, journal: &Journal) -> Result<Seen, SwapsError> {
        self.group.observe(visit, journal).await
    }

    fn note(&self, journal: &mut Journal, seen: &Seen) -> bool {
        self.group.note(journal, seen)
    }

    fn decide(
        &self,
        visit: Visit<'_>,
        journal: &Journal,
        seen: &Seen,
    ) -> Result<Decision<Action>, SwapsError> {
        self.group.decide(visit, journal, seen)
    }

    /// If the cluster does not answer, there is no permission: a node whose pods can't be counted is not drained.
    async fn permit(
        &mut self,
        visit: Visit<'_>,
        journal: &mut Journal,
        seen: &Seen,
        decision: &Decision<Action>,
    ) -> Result<Permission, SwapsError> {
        let permission = self.group.permit(visit, journal, seen, decision).await?;
        if permission != Permission::Granted {
            return Ok(permission);
        }
        let Visit { lease, .. } = visit;
        let SwapKind::Node(mut part) = journal.kind.clone() else {
            let problem = format!("swap {} is none of Kubernetes nodes", journal.swap_id);
            return Err(unproven(lease, &problem));
        };
        let cluster = part.node.cluster.clone();
        let (execution, node) = (lease.owner.execution(), &part.node);
        let client = match connect(self.stack, self.access, &lease.region, execution, node.into()).await {
            Ok(opened) => opened.client,
            // The nodes and pods went with the cluster. A secret that is gone says no such thing.
            Err(AccessError::NotFound { .. }) if node.kubeconfig_secret.is_none() => {
                return Ok(Permission::Granted);
            }
            Err(error) => return Ok(Permission::NotYet(format!("cluster {cluster}: {error}"))),
        };
        let mark = journal.swap_id.to_string();
        let nodes = Nodes { stack: self.stack, lease, access: self.access, client: &client, mark: &mark };
        let goes = decision.action().and_then(|action| action.removes(&journal.old)).cloned();
        let permission = nodes.prepare(journal, &mut part, &seen.facts, goes).await;
        journal.kind = SwapKind::Node(part);
        Ok(permission.unwrap_or_else(|error| Permission::NotYet(format!("cluster {cluster}: {error}"))))
    }

    fn foresee(&self, journal: &mut Journal, seen: &Seen, action: &Action) {
        self.group.foresee(journal, seen, action);
    }

    async fn perform(
        &self,
        visit: Visit<'_>,
        journal: &Journal,
        seen: &Seen,
        action: &Action,
    ) -> Result<(), CallError> {
        self.group.perform(visit, journal, seen, action).await
    }

    fn settle(
        &mut self,
        journal: &mut Journal,
        before: &Journal,
        action: Action,
        answer: Result<(), CallError>,
    ) -> After {
        self.group.settle(journal, before, action, answer)
    }

    async fn ended(
        &self,
        visit: Visit<'_>,
        journal: &Journal,
        seen: Seen,
        end: End,
    ) -> Result<Ended, SwapsError> {
        self.group.ended(visit, journal, seen, end).await
    }
}

/// The nodes of a swap, in their cluster.
struct Nodes<'a> {
    stack: &'a Stack,
    lease: &'a Lease,
    access: &'a Access,
    client: &'a Client,
    mark: &'a str,
}

impl Nodes<'_> {
    async fn prepare(
        &self,
        journal: &mut Journal,
        part: &mut NodeJournal,
        observed: &Observed,
        goes: Option<InstanceId>,
    ) -> Result<Permission, StepError> {
        // All other nodes that we cordoned stay in service by now. They are the old node of a rollback, and a
        // newcomer or an extra node that a raised desired capacity keeps.
        for marked in node::marked(self.client, self.mark).await.map_err(failed)? {
            let is_going = goes.is_some() && marked.instance_id == goes;
            let is_old = marked.name == part.node.old;
            let is_leaving = may_be_leaving(marked.instance_id.as_ref(), is_old, journal, observed);
            let goes_with_swap = is_old && goes_forward(journal, observed) && !journal.leaves_old_to_owner();
            let is_done_with = is_going || is_leaving || goes_with_swap;
            if !is_done_with {
                node::uncordon(self.client, &marked.name, self.mark).await.map_err(failed)?;
            }
        }
        match goes {
            Some(id) => self.drained(&id, journal, part, observed).await,
            None => Ok(Permission::Granted),
        }
    }

    /// Evicts the pods that are left on the node of this instance. If the instance no longer runs, no pod is left
    /// to evict.
    async fn drained(
        &self,
        id: &InstanceId,
        journal: &mut Journal,
        part: &mut NodeJournal,
        observed: &Observed,
    ) -> Result<Permission, StepError> {
        let execution = Some(self.lease.owner.execution());
        let clients = self.stack.clients(self.access, &self.lease.region, execution).await;
        if !instances::is_running(&clients.ec2, id).await? {
            return Ok(Permission::Granted);
        }
        let Some(node) = node::find(self.client, id).await.map_err(failed)? else {
            return Ok(Permission::Granted);
        };
        if !goes_forward(journal, observed)
            && let Some(why) = self.nowhere_to_go(journal, &part.node, observed).await?
            && pods::on_node(self.client, &node.name, policy(&part.node))
                .await
                .map_err(failed)?
                .iter()
                .any(NodePod::must_go)
        {
            // The pods have no other node: this one takes those that the old node loses, too. Its drain begins
            // anew.
            node::uncordon(self.client, &node.name, self.mark).await.map_err(failed)?;
            part.leaving = None;
            return Ok(Permission::NotYet(format!(
                "{why}; until then instance {id} keeps the pods of node {}",
                node.name
            )));
        }
        node::cordon(self.client, &node.name, self.mark).await.map_err(failed)?;
        let is_old = id == &journal.old;
        // AWS may reclaim an instance at risk in a moment, and a dead kubelet ends no pod.
        let is_at_risk = journal.newcomer_at_risk || journal.undo_reason() == Some(Reason::NewcomerAtRisk);
        let may_be_lost = is_at_risk || !node.is_ready;
        let others = if is_old || may_be_lost { Others::Go } else { Others::Stay };
        let pass = self.evict(id, &node.name, part, others).await?;
        let held = held_for_good(&pass.drained, may_be_lost, pass.since_its_begin);
        if !is_old && !held.is_empty() {
            let group = Grown::by(id, journal, observed.group.as_ref());
            let why = stays(id, &node.name, &held, group.as_ref());
            return self.keep(id, &node.name, journal, part, why).await;
        }
        self.what_is_left(&node.name, &pass.drained).await
    }

    /// Makes one pass, and notes its effects in the journal: the next visit may run in another process.
    async fn evict(
        &self,
        id: &InstanceId,
        node: &NodeName,
        part: &mut NodeJournal,
        others: Others,
    ) -> Result<DrainVisit, StepError> {
        let now = clock::now();
        let known = part.leaving.take().filter(|known| &known.instance_id == id);
        let known = known.unwrap_or_else(|| LeavingNode {
            instance_id: id.clone(),
            since: now,
            turns: Turns::default(),
            claims: BTreeSet::new(),
            stuck_visits: 0,
        });
        part.leaving = Some(known.clone());
        let LeavingNode { instance_id, since, turns, claims, stuck_visits } = known;
        let since_its_begin = now.duration_since(since);
        let is_late = since_its_begin > LAST_READY_KEPT_FOR;
        let last_ready = if is_late { LastReady::Evict } else { LastReady::Keep };
        let state = State { turns, claims, stuck_passes: stuck_visits, ..State::default() };
        let manner = Manner { last_ready, others };
        let drained =
            drain::pass(self.client, node, policy(&part.node), manner, state).await.map_err(failed)?;
        let State { turns, claims, stuck_passes: stuck_visits, .. } = drained.state.clone();
        part.leaving = Some(LeavingNode { instance_id, since, turns, claims, stuck_visits });
        Ok(DrainVisit { drained, since_its_begin })
    }

    async fn what_is_left(&self, node: &NodeName, pass: &Pass) -> Result<Permission, StepError> {
        if let Some(left) = pass.left(node) {
            return Ok(Permission::NotYet(left));
        }
        let attached = volumes::attached(self.client, node, &pass.state.claims).await.map_err(failed)?;
        let waits = |volume: &String| format!("volume {volume} is still attached to node {node}");
        Ok(attached.first().map(waits).map_or(Permission::Granted, Permission::NotYet))
    }

    /// Leaves the instance in service for good: the journal records it, and the next visit continues without the
    /// instance.
    async fn keep(
        &self,
        id: &InstanceId,
        node: &NodeName,
        journal: &mut Journal,
        part: &mut NodeJournal,
        why: String,
    ) -> Result<Permission, StepError> {
        node::uncordon(self.client, node, self.mark).await.map_err(failed)?;
        tracing::warn!(instance_id = %id, %node, "kept on the way back: {why}");
        if let Some(undo) = &mut journal.undo {
            undo.add(&why);
        }
        part.leaving = None;
        part.kept = Some(Kept { instance_id: id.clone(), why: why.clone() });
        Ok(Permission::NotYet(why))
    }

    /// Says why the pods of a newcomer have no node to go back to. The old node must be Ready and schedulable, or
    /// its group must have launched a node in its place.
    async fn nowhere_to_go(
        &self,
        journal: &Journal,
        swap: &NodeSwap,
        observed: &Observed,
    ) -> Result<Option<String>, StepError> {
        let name = &swap.old;
        let old = node::get(self.client, name).await.map_err(failed)?;
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
        let Some(group) = &observed.group else { return Ok(None) };
        let is_taken = self.is_place_taken(journal, observed, group).await?;
        let waits = || {
            format!("node {name} is gone with its instance, and its group has no Ready node in its place yet")
        };
        Ok((!is_taken).then(waits))
    }

    /// Says if nothing is to come any more in the place of a node that is gone: another one is Ready there, or its group is asked
    /// for fewer. Before the attach, nobody knows who came later: each that serves must be Ready.
    async fn is_place_taken(
        &self,
        journal: &Journal,
        observed: &Observed,
        group: &Group,
    ) -> Result<bool, StepError> {
        let is_full = is_full_without_newcomer(journal, observed);
        let newcomer = observed.newcomer.as_ref().map(|newcomer| &newcomer.id);
        let others = || group.members.iter().filter(|m| m.id != journal.old && Some(&m.id) != newcomer);
        let nodes = node::all(self.client).await.map_err(failed)?;
        let node_of =
            |member: &Member| nodes.iter().find(|node| node.instance_id.as_ref() == Some(&member.id));
        let is_ready = |member: &Member| node_of(member).is_some_and(|node| node.is_ready);
        let takes_pods =
            |member: &Member| node_of(member).is_some_and(|it| it.is_ready && !it.is_unschedulable);
        let Some(original) = &journal.original else {
            return Ok(is_full && others().filter(|member| member.serves()).all(is_ready));
        };
        let mut later = others().filter(|member| original.came_later(&member.id, newcomer)).peekable();
        if later.peek().is_none() {
            return Ok(is_full);
        }
        Ok(later.any(|member| member.serves() && takes_pods(member)))
    }
}

/// Says if the group terminates the instance of a node, or may do so by a call that does not show yet. Pods that come back
/// to the node now would die with it.
fn may_be_leaving(id: Option<&InstanceId>, is_old: bool, journal: &Journal, observed: &Observed) -> bool {
    let member = id.and_then(|id| observed.group.as_ref()?.member(id));
    let was_asked = if is_old { journal.stage == Stage::Retiring } else { journal.desired_settled };
    let may_show_later = journal.retirement == Retirement::TerminateInGroup && observed.calls_may_land;
    member.is_some_and(|member| member.state == MemberState::Leaving) || (was_asked && may_show_later)
}

/// A pass over a node that leaves, and the time since the first pass.
struct DrainVisit {
    drained: Pass,
    since_its_begin: SignedDuration,
}

#[cfg(test)]
mod tests;
