//! What the reconciler tells of a swap that has ended.

use jiff::{SignedDuration, Timestamp};
use spot_cloud::announcements::Announcements;
use spot_cloud::tables::swaps::{Lease, Outcome, Owner};
use spot_domain::swap::alert::Alert;
use spot_domain::swap::ended::EndedSwap;
use spot_domain::swap::recovery::End;
use spot_swap::announce;

/// The time within which a run that has ended a swap tells of it, or has died: longer than one lease may take.
const TELLS_WITHIN: SignedDuration = SignedDuration::from_secs(30);
pub(crate) const BY_RECONCILER: &str = "by the reconciler after the execution died";

/// The event of a swap of a dead execution, and an alert where a person is needed.
#[derive(Debug)]
pub(crate) struct News {
    ended: Option<EndedSwap>,
    alert: Option<Alert>,
}

impl News {
    /// Returns what there is to tell; `summary` says it in words. Of further swaps that the reconciler ends for one execution,
    /// only those alert that leave something to a person.
    pub(crate) fn of(lease: &Lease, outcome: &Outcome, summary: &str, has_alerted: bool) -> Self {
        let Outcome { journal, ended: how, .. } = outcome;
        let ended = announce::by_reconciler(lease, journal, how, summary);
        let is_undone = ended.is_some() && how.end == End::Undone;
        // As the report of a living run: what the swap of an instance leaves is told, and costs.
        let leaves = journal.kind.lab().is_some() && !how.remarks.is_empty();
        let leaves_something = leaves || how.doubt.is_some() || journal.kind.kept().is_some();
        let on = lease.on.to_string();
        let execution = lease.owner.execution();
        let alert = || match outcome.by {
            Owner::ReconcilerFor(_) => Alert::of_reconciler(&on, how.end, summary, execution),
            Owner::Execution(_) => Alert::of_dead_run(&on, summary, execution),
        };
        Self { alert: (leaves_something || (is_undone && !has_alerted)).then(alert), ended }
    }

    pub(crate) fn is_alert(&self) -> bool {
        self.alert.is_some()
    }

    /// Tells bus and people. A failure is a warning: the swap has ended.
    pub(crate) async fn tell(self, announcements: &Announcements) {
        announce::tell(announcements, self.ended.as_slice()).await;
        if let Some(Alert { subject, message }) = self.alert {
            announcements.alert_or_warn(&subject, &message).await;
        }
    }
}

/// Says if another run has ended the swap a moment ago: it tells of it.
pub(crate) fn is_being_told(outcome: &Outcome, now: Timestamp) -> bool {
    matches!(outcome.by, Owner::ReconcilerFor(_)) && now.duration_since(outcome.at) < TELLS_WITHIN
}

/// Says for a person how a swap has ended.
pub(crate) fn in_words(Outcome { journal, ended, by, .. }: &Outcome) -> String {
    let by = match by {
        Owner::ReconcilerFor(_) => BY_RECONCILER,
        Owner::Execution(_) => "before the execution died",
    };
    let kept = journal.kind.kept().map(|kept| kept.why.as_str());
    let more = kept.into_iter().chain(ended.remarks.iter().chain(&ended.doubt).map(String::as_str));
    more.fold(format!("{} {by}", ended.end), |told, more| format!("{told}; {more}"))
}

#[cfg(test)]
mod tests {
    use spot_domain::swap::journal::{AnswerJournal, SwapKind};
    use spot_domain::swap::recovery::Ended;
    use spot_swap::work::Work;

    use super::*;

    /// A lease, and an outcome under it.
    fn undone() -> (Lease, Outcome) {
        let payload = include_str!("../../../shared/swap/tests/payloads/3fb1158-group-after-launch.json");
        let Work { lease, current, .. } = serde_json::from_str(payload).unwrap();
        let ended = Ended { end: End::Undone, newcomer: None, pool: None, remarks: Vec::new(), doubt: None };
        let by = Owner::ReconcilerFor(lease.owner.execution().clone());
        (lease, Outcome { journal: current.unwrap().journal, ended, by, at: Timestamp::UNIX_EPOCH })
    }

    #[test]
    fn people_are_told_once_that_swaps_were_undone_and_of_each_that_leaves_them_something() {
        let (lease, undone) = undone();
        let alerts = |outcome: &Outcome, has_alerted| News::of(&lease, outcome, "", has_alerted).is_alert();
        let doubt = Some("lower it by one".to_owned());
        let with =
            |end, doubt| Outcome { ended: Ended { end, doubt, ..undone.ended.clone() }, ..undone.clone() };
        assert!(alerts(&undone, false) && !alerts(&undone, true));
        assert!(!alerts(&with(End::Finished, None), false));
        assert!(
            alerts(&with(End::Undone, doubt.clone()), true)
                && alerts(&with(End::Finished, doubt.clone()), false)
        );
        let mut answer = with(End::Undone, doubt);
        answer.journal.kind = SwapKind::Answer(AnswerJournal::new(Timestamp::UNIX_EPOCH));
        assert!(alerts(&answer, false), "it is no swap, and its group is in doubt");
        answer.ended.doubt = None;
        assert!(!alerts(&answer, false));
    }

    #[test]
    fn what_is_told_later_says_who_has_ended_the_swap() {
        let (lease, mut outcome) = undone();
        outcome.ended.remarks = vec!["image ami-1 stays".to_owned()];
        outcome.ended.doubt = Some("lower it by one".to_owned());
        let told = in_words(&outcome);
        assert_eq!(
            told,
            "Undone by the reconciler after the execution died; image ami-1 stays; lower it by one"
        );
        outcome.by = lease.owner;
        assert!(in_words(&outcome).starts_with("Undone before the execution died; image"));
    }

    #[test]
    fn a_run_leaves_another_the_time_to_tell_of_what_it_has_ended() {
        let (lease, mut outcome) = undone();
        let at = |second| Timestamp::from_second(second).unwrap();
        assert!(is_being_told(&outcome, at(29)) && !is_being_told(&outcome, at(30)));
        outcome.by = lease.owner;
        assert!(!is_being_told(&outcome, at(1)), "its execution is dead");
    }
}
