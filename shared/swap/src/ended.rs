//! The swaps that a step has ended: what the run tells of after it, and did not before.

use spot_cloud::tables::swaps::{Lease, Leased};
use spot_domain::swap::ended::{EndedSwap, SwapEnd};
use spot_domain::swap::journal::SwapKind;
use spot_domain::swap::report::{NotSwapped, Swapped};
use spot_domain::words::{LONGEST, cut};
use spot_domain::{InstanceId, Pool};

use crate::work::Work;

/// A run before one of its steps: how many swaps have ended, and the one in progress.
#[derive(Debug, Default)]
pub(crate) struct Before {
    swapped: usize,
    rolled_back: usize,
    current: Option<(InstanceId, InstanceId, Pool)>,
}

impl Before {
    /// Notes a run as the step finds it.
    pub(crate) fn of(work: &Work) -> Self {
        let current = work.current.as_ref().map(|current| {
            (current.candidate.instance_id.clone(), current.newcomer.clone(), current.pool.clone())
        });
        Self { swapped: work.swapped.len(), rolled_back: work.rolled_back.len(), current }
    }

    /// Returns the swaps that have ended since.
    pub(crate) fn ended(&self, now: &Work) -> Vec<EndedSwap> {
        let done = now.swapped.iter().skip(self.swapped).map(|swapped| completed(now, swapped));
        let undone = now.rolled_back.iter().skip(self.rolled_back).map(|left| self.rolled_back(now, left));
        if now.dry_run { Vec::new() } else { done.chain(undone).collect() }
    }

    fn rolled_back(&self, work: &Work, left: &NotSwapped) -> EndedSwap {
        let newcomer = self.current.as_ref().filter(|(old, ..)| *old == left.instance_id);
        EndedSwap {
            new_instance_id: newcomer.map(|(_, newcomer, _)| newcomer.clone()),
            pool: newcomer.map(|(.., pool)| pool.clone()),
            ..ended(
                &work.lease,
                &work.kind,
                &left.instance_id,
                SwapEnd::RolledBack { reason: left.reason, detail: cut(&left.detail, LONGEST) },
            )
        }
    }
}

fn completed(work: &Work, swapped: &Swapped) -> EndedSwap {
    let end =
        SwapEnd::Completed { to: swapped.to, monthly_saving_usd: swapped.monthly_saving_usd, detail: None };
    EndedSwap {
        new_instance_id: Some(swapped.new_instance_id.clone()),
        pool: Some(swapped.pool.clone()),
        ..ended(&work.lease, &work.kind, &swapped.old_instance_id, end)
    }
}

/// Returns the end of a swap whose newcomer is not known.
pub(crate) fn ended(lease: &Lease, kind: &SwapKind, old: &InstanceId, end: SwapEnd) -> EndedSwap {
    let asg_name = match &lease.on {
        Leased::Group { name, .. } => Some(name.clone()),
        Leased::Instance(_) | Leased::ClusterSlot { .. } => None,
    };
    EndedSwap {
        execution_arn: lease.owner.execution().clone(),
        account_id: lease.account_id.clone(),
        region: lease.region.clone(),
        asg_name,
        cluster_name: kind.node().map(|node| node.cluster.clone()),
        old_instance_id: old.clone(),
        new_instance_id: None,
        pool: None,
        end,
    }
}

#[cfg(test)]
mod tests;
