//! What the reconciler tells of a swap that has ended.

use spot_cloud::announcements::Announcements;
use spot_cloud::tables::swaps::{Lease, Outcome};
use spot_domain::swap::alert::Alert;
use spot_domain::swap::ended::EndedSwap;
use spot_domain::swap::recovery::End;
use spot_swap::announce;

/// The event of a swap of a dead execution, and an alert where a person is needed.
#[derive(Debug)]
pub(crate) struct News {
    ended: Option<EndedSwap>,
    alert: Option<Alert>,
}

impl News {
    /// Returns what there is to tell; `summary` says it in words. Of further swaps of one execution, only those alert that
    /// leave something to a person.
    pub(crate) fn of(lease: &Lease, outcome: &Outcome, summary: &str, has_alerted: bool) -> Self {
        let Outcome { journal, ended: how, .. } = outcome;
        let ended = announce::by_reconciler(lease, journal, how, summary);
        let is_undone = ended.is_some() && how.end == End::Undone;
        let leaves_something = how.doubt.is_some() || journal.kind.kept().is_some();
        let alert = || Alert::of_reconciler(&lease.on.to_string(), how.end, summary, lease.owner.execution());
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
