//! What must hold in the cluster whose nodes the instances are: pods move under their budgets, and no node goes with a pod
//! that must move.

use jiff::{SignedDuration, Timestamp};

use super::{JUST_BEFORE, Oracles, Seen};
use crate::chronicle::SentCall;
use crate::cluster::{Cluster, ClusterPod, WorkloadKind, WorkloadSpec};
use crate::fleet::{Ec2State, Fleet};
use crate::virtual_time::now;
use crate::wire::{ApiAnswer, ApiCall, Service};

/// The phases whose time is that of the drain.
const DRAINS: [&str; 2] = ["KubernetesOptimizer Drain", "KubernetesOptimizer Terminate"];
/// The time for which a way back waits for another pod before it evicts the last Ready one of a workload.
const WAY_BACK_KEEPS_LAST_FOR: SignedDuration = SignedDuration::from_mins(5);
/// A cordon shows to the oracles with the next call.
const CORDON_SHOWS_WITHIN: SignedDuration = SignedDuration::from_secs(2);

impl Oracles {
    /// Notes since when nodes are cordoned.
    pub fn look_at_nodes(&mut self, cluster: &Cluster) {
        let cordoned = cluster.nodes().values().filter(|node| node.is_unschedulable());
        let before = std::mem::take(&mut self.cordoned);
        let since = |name: &String| before.get(name).copied().unwrap_or_else(now);
        self.cordoned = cordoned.map(|node| (node.name.clone(), since(&node.name))).collect();
    }

    /// Asks what must hold after a changing call of ours, in the cluster.
    pub fn after_call_in_cluster(
        &mut self,
        call: &ApiCall,
        answer: &ApiAnswer,
        sent: &SentCall,
        (fleet, before): (&Fleet, &Cluster),
        after: &Cluster,
    ) {
        if call.service == Service::Kubernetes {
            let is_played = !answer.body.contains("is not in the world");
            self.holds(is_played, || format!("{} is not in the world", call.action));
        }
        for pod in before.pods() {
            let is_there = after.pods().any(|left| left.uid == pod.uid);
            self.holds(is_there, || format!("{} deleted pod {}", call.action, pod.name));
        }
        if call.action == "EvictPods" && answer.status == 201 {
            self.after_eviction(sent, before, after);
        }
        if call.service == Service::AutoScaling {
            for id in super::before_call::leaving(call) {
                self.after_departure(call, &id, sent.at, (fleet, before));
            }
        }
        if answer.status == 200 && call.action.starts_with("Terminate") {
            for id in super::before_call::leaving(call) {
                self.nothing_is_left(&call.action, &id, sent.at, (fleet, before));
            }
        }
    }

    /// An eviction leaves as many pods as the budget demands. It takes no pod that nothing brings back, and not the last
    /// Ready one of several, unless EC2 takes the node back.
    fn after_eviction(&mut self, sent: &SentCall, before: &Cluster, after: &Cluster) {
        let stays = |pod: &&ClusterPod| after.pods().any(|left| left.uid == pod.uid && left.serves());
        for pod in before.pods().filter(|pod| pod.serves()).filter(|pod| !stays(pod)) {
            self.holds(pod.must_move(), || format!("evicted pod {}, which stays with its node", pod.name));
            let serving = after.serving(&pod.workload);
            for budget in after.budgets().iter().filter(|budget| budget.workload == pod.workload) {
                self.holds(serving >= budget.min_available, || {
                    format!(
                        "budget {} demands {} pods, {serving} are left",
                        budget.name, budget.min_available
                    )
                });
            }
            let is_several = |workload: &WorkloadSpec| workload.name == pod.workload && workload.replicas > 1;
            let has_several = after.workloads().iter().any(is_several);
            self.evicted.insert(pod.workload.clone());
            let since = pod.node.as_ref().and_then(|node| self.cordoned.get(node));
            let kept_for = self.keeps_last_for(&sent.by) - CORDON_SHOWS_WITHIN;
            let is_early = since.is_none_or(|since| now().duration_since(*since) < kept_for);
            // One that lands late finds other pods than those that were there as it was sent.
            let is_late = now().duration_since(sent.at) > JUST_BEFORE;
            let may_be_last = !is_early || is_late || sent.by.ends_with("EvacuateNode");
            self.holds(serving > 0 || !has_several || may_be_last, || {
                format!("evicted the last Ready pod of {}, which wants several", pod.workload)
            });
        }
    }

    /// Returns the time for which a phase keeps the last Ready pod of a workload: a drain for two thirds of its own.
    fn keeps_last_for(&self, by: &str) -> SignedDuration {
        let drain = SignedDuration::from_secs(self.settings.drain_timeout_seconds.into());
        if DRAINS.contains(&by) { drain * 2 / 3 } else { WAY_BACK_KEEPS_LAST_FOR }
    }

    /// A node leaves its group only once its pods have moved, and an old one only once all pods serve elsewhere. One that the
    /// group has launched meanwhile may leave as they start elsewhere. A node that has died takes its pods along.
    fn after_departure(
        &mut self,
        call: &ApiCall,
        id: &str,
        sent_at: Timestamp,
        (fleet, before): (&Fleet, &Cluster),
    ) {
        self.nothing_is_left(&call.action, id, sent_at, (fleet, before));
        let has_died = fleet.instances().get(id).is_some_and(|instance| !instance.state.is_alive());
        if has_died || super::before_call::is_ours(fleet, id) {
            return;
        }
        for workload in before.workloads().iter().filter(|workload| workload.kind != WorkloadKind::DaemonSet)
        {
            let serving = before.serving(&workload.name);
            let is_of_it = |pod: &&ClusterPod| pod.workload == workload.name && !pod.serves();
            let is_old = self.provenance.replaced.contains(id);
            let is_excused =
                |pod: &&ClusterPod| is_on_dead_node(pod, before) || (!is_old && pod.node.is_some());
            let excused = before.pods().filter(is_of_it).filter(is_excused);
            self.holds(serving + excused.count() >= workload.replicas, || {
                format!("{} of {id}, and {serving} pods of {} serve", call.action, workload.name)
            });
        }
    }

    /// A call of ours takes no running instance on whose node a pod is left that must move. Pods that came after the call was
    /// sent are nobody's fault.
    fn nothing_is_left(
        &mut self,
        action: &str,
        id: &str,
        sent_at: Timestamp,
        (fleet, before): (&Fleet, &Cluster),
    ) {
        let runs = fleet.instances().get(id).is_some_and(|instance| instance.state == Ec2State::Running);
        let Some(node) = before.node_of(id).filter(|_| runs) else { return };
        let is_left = |pod: &&ClusterPod| {
            pod.must_move() && pod.node.as_ref() == Some(&node.name) && pod.bound_at <= sent_at
        };
        let left = before.pods().find(is_left);
        self.holds(left.is_none(), || {
            let pod = left.map(|pod| pod.name.as_str()).unwrap_or_default();
            format!("{action} of {id}, and pod {pod} is left on its node")
        });
    }

    /// At rest, no mark and no cordon of ours is left on a node, and every pod serves; or a person was told.
    pub fn nodes_at_rest(&mut self, cluster: &Cluster, seen: Seen<'_>) {
        let is_told = |what: &str| seen.mailbox.messages.iter().any(|told| told.message.contains(what));
        for node in cluster.nodes().values() {
            let marks: Vec<&str> = node.marks().collect();
            let is_left = !marks.is_empty() || (node.is_unschedulable() && !node.is_kept_cordoned);
            self.holds(!is_left || is_told(&node.name) || is_told(&node.instance_id), || {
                format!("at rest node {} is cordoned or bears {marks:?}, and nobody was told", node.name)
            });
        }
        // What a group has lost and can't launch, its pods miss. Those that we have evicted are another matter.
        let is_short = seen.fleet.groups().iter().any(|(name, group)| {
            let serving = u32::try_from(seen.fleet.serving(name).len()).unwrap_or(u32::MAX);
            serving < group.desired
        });
        for workload in cluster.workloads() {
            let wanted = match workload.kind {
                WorkloadKind::DaemonSet => cluster.nodes().len(),
                WorkloadKind::ReplicaSet | WorkloadKind::StatefulSet => workload.replicas,
            };
            let serving = cluster.serving(&workload.name);
            let is_known = is_told(&workload.name) || seen.fleet.instances().keys().any(|id| is_told(id));

            self.holds(
                serving >= wanted || is_known || (is_short && !self.evicted.contains(&workload.name)),
                || format!("at rest {serving} pods of {} serve of {wanted}", workload.name),
            );
        }
    }
}

fn is_on_dead_node(pod: &ClusterPod, cluster: &Cluster) -> bool {
    let node = pod.node.as_ref().and_then(|name| cluster.nodes().get(name));
    node.is_some_and(|node| !node.has_kubelet())
}

#[cfg(test)]
mod tests;
