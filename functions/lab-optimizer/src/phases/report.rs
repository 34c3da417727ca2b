//! Report: reports the outcome of the run and releases the lease. Alerts people if the swap was
//! rolled back or failed, and of what is left by one that ended well.

use spot_domain::swap::alert::Alert;
use spot_domain::swap::lab::losses::NOT_LOOKED_AT;
use spot_domain::swap::lab::{INSTANCE_STORE_IS_LOST, LabOutcome, LabReport, LabSwap, OldInstance};
use spot_domain::swap::report::NotSwapped;
use spot_domain::{InstanceId, Reason};
use spot_swap::Context;
use spot_swap::error::StepError;
use spot_swap::work::Work;

/// Ends a run that was refused before it began: there is nothing to release.
#[must_use]
pub fn refused(left: NotSwapped) -> LabReport {
    report(left.instance_id, LabOutcome::Refused, None, Some(left.reason), Some(left.detail))
}

/// Ends a run.
///
/// # Errors
/// The lease can't be released; the reconciler will release it.
pub async fn run(context: &Context, work: Work) -> Result<LabReport, StepError> {
    let mut report = outcome(&work)?;
    report.gate = work.gate_view();
    if !work.dry_run {
        tracing::info!(on = %work.lease.on, ?report, "ended");
        // Before the lease ends, the row is what tells if this Lambda dies.
        context.alert(Alert::of_lab(&report, &work.remarks, work.lease.owner.execution())).await;
        context.swaps.let_go(&work.lease, &format!("{:?}", report.outcome)).await?;
    }
    Ok(report)
}

fn outcome(work: &Work) -> Result<LabReport, StepError> {
    if let Some(done) = work.swapped.first() {
        let (old, new) = (done.old_instance_id.clone(), done.new_instance_id.clone());
        return Ok(report(old, LabOutcome::Swapped, Some(new), None, Some(what_became(work))));
    }
    if let Some(left) = work.rolled_back.first() {
        let (id, detail) = (left.instance_id.clone(), left.detail.clone());
        let is_back = left.reason != Reason::InstanceGone;
        if is_back && work.kind.lab().is_some_and(|lab| lab.is_over) {
            return Ok(report(id, LabOutcome::BroughtBack, None, None, Some(detail)));
        }
        return Ok(report(id, LabOutcome::RolledBack, None, Some(left.reason), Some(detail)));
    }
    if let Some(left) = work.skipped.first() {
        return Ok(refused(left.clone()));
    }
    let planned = work.queue.first().filter(|_| work.dry_run);
    let candidate = planned.ok_or_else(|| StepError::Protocol("a run without an outcome".into()))?;
    let pool = candidate.pools.first().map(|pool| format!("from pool {pool}"));
    let planned = report(candidate.instance_id.clone(), LabOutcome::Planned, None, None, pool);
    Ok(LabReport {
        losses: work.kind.lab().map(|lab| lab.losses.clone()).unwrap_or_default(),
        not_looked_at: NOT_LOOKED_AT.map(str::to_owned).to_vec(),
        ..planned
    })
}

fn what_became(work: &Work) -> String {
    let Some(lab) = work.kind.lab() else { return String::new() };
    let start = if lab.capture {
        format!("the new one started from an image of its EBS volumes ({INSTANCE_STORE_IS_LOST})")
    } else {
        "the new one started from its AMI".to_owned()
    };
    let told = [became_of_the_old(lab), start].into_iter();
    let told = told.chain(lab.losses.iter().cloned()).chain(work.remarks.iter().cloned());
    told.collect::<Vec<_>>().join("; ")
}

fn became_of_the_old(lab: &LabSwap) -> String {
    match (lab.old_instance, lab.captured_at) {
        (OldInstance::Stop, _) => "the old instance is stopped; its volumes are kept, and cost".to_owned(),
        (OldInstance::Terminate, None) => {
            "the old instance is terminated; what was written to its volumes since the image was made is lost"
                .to_owned()
        }
        (OldInstance::Terminate, Some(at)) => format!(
            "the old instance is terminated; what was written to its volumes since {at:.0} is lost, when the \
             image was asked for"
        ),
    }
}

fn report(
    instance_id: InstanceId,
    outcome: LabOutcome,
    new_instance_id: Option<InstanceId>,
    reason: Option<Reason>,
    detail: Option<String>,
) -> LabReport {
    LabReport {
        instance_id,
        new_instance_id,
        outcome,
        reason,
        detail,
        losses: Vec::new(),
        not_looked_at: Vec::new(),
        gate: None,
    }
}
