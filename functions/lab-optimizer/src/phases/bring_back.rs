//! BringBack, in the place of Discover: undoes a finished swap at its owner's wish, for instance after the
//! newcomer was interrupted.
//!
//! Records the journal of that swap again, to be undone. The rollback starts the old instance, registers it
//! again, gives it back its address and terminates the newcomer, unless the owner has come to use it since. Volumes that
//! outlive the newcomer belong to its owner by now, and stay.

use spot_cloud::RegionClients;
use spot_cloud::ec2::instances;
use spot_cloud::tables::swaps::{Lease, SwapsError};
use spot_domain::settings::Settings;
use spot_domain::swap::group::InstanceState;
use spot_domain::swap::journal::{Journal, Stage, Undo};
use spot_domain::swap::lab::LabSwapRequest;
use spot_domain::swap::report::NotSwapped;
use spot_domain::{InstanceId, Reason};
use spot_swap::Context;
use spot_swap::error::StepError;
use spot_swap::newcomer::look;
use spot_swap::owner::settled_on;
use spot_swap::work::Work;

/// Refuses options of a swap beside `bring_back`.
///
/// # Errors
/// The request has such an option.
pub fn check(request: &LabSwapRequest) -> Result<(), StepError> {
    let other = [("capture_image", request.capture_image), ("dry_run", request.dry_run)];
    match other.iter().find(|(_, is_set)| request.bring_back && *is_set) {
        Some((field, _)) => Err(StepError::InvalidInput(
            format!("{field}: only a swap takes it; leave it out, or leave out `bring_back`").into(),
        )),
        None => Ok(()),
    }
}

/// Returns the journal to undo, or the reason why there is none.
///
/// # Errors
/// A call fails, or the row can't be read.
pub async fn journal(
    context: &Context,
    clients: &RegionClients,
    lease: &Lease,
    settings: &Settings,
    old: &InstanceId,
) -> Result<Result<Journal, NotSwapped>, StepError> {
    let left = |reason, detail: &str| Ok(Err(NotSwapped::new(old, reason, detail)));
    let described = instances::describe(&clients.ec2, std::slice::from_ref(old)).await?;
    if described.get(old).is_none_or(|instance| instance.state == InstanceState::Dead) {
        return left(Reason::InstanceGone, "it is terminated: nothing is left to bring back");
    }
    let Some(journal) = context.swaps.replaced(lease).await? else {
        return left(Reason::InstanceChanged, "no swap of it has finished: nothing replaced it");
    };
    match look(clients, lease, &journal).await {
        Err(error @ SwapsError::Unproven { .. }) => return left(Reason::InstanceChanged, &error.to_string()),
        looked => looked?,
    };
    if let (Some(newcomer), Some(lab)) = (&journal.newcomer, journal.kind.lab())
        && let Some(why) = settled_on(clients, settings, newcomer, lab).await?
    {
        let detail = format!("{why}; remove that first, or keep the new one");
        return left(Reason::InstanceChanged, &detail);
    }
    Ok(Ok(to_undo(journal)))
}

fn to_undo(mut journal: Journal) -> Journal {
    let newcomer = journal.newcomer.as_ref().map_or_else(|| "a newcomer".to_owned(), ToString::to_string);
    journal.stage = Stage::Undoing;
    journal.undo = Some(Undo {
        reason: Reason::InstanceChanged,
        detail: format!("its owner asked for it; it serves again in the place of {newcomer}"),
    });
    if let Some(lab) = journal.kind.lab_mut() {
        (lab.leaving, lab.stopping, lab.is_over, lab.capture) = (true, true, true, false);
        lab.kept.clear(); // the way back asks again
    }
    journal
}

/// Acquires the lease and writes the journal, from which the rollback and the reconciler resume.
///
/// # Errors
/// Another execution works on the instance, or the table does not answer.
pub async fn begin(context: &Context, work: &mut Work, journal: &Journal) -> Result<(), StepError> {
    context.swaps.take(&work.lease).await?;
    context.swaps.enter(&work.lease, &mut journal.clone()).await?;
    work.kind.clone_from(&journal.kind);
    work.undo.clone_from(&journal.undo);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_for_the_old_one_is_no_swap() {
        let request = |more: &str| -> LabSwapRequest {
            let input = format!(r#"{{"instance_id": "i-0123456789abcdef0", "bring_back": true{more}}}"#);
            serde_json::from_str(&input).unwrap()
        };
        assert!(check(&request("")).is_ok());
        let error = check(&request(r#", "dry_run": true"#)).unwrap_err();
        assert!(error.to_string().starts_with("dry_run:"), "{error}");
    }
}
