//! What the reconciler tells of a swap that it has ended.

use spot_cloud::announcements::Announcements;
use spot_cloud::tables::swaps::Lease;
use spot_domain::swap::alert::Alert;
use spot_domain::swap::ended::EndedSwap;
use spot_domain::swap::journal::Journal;
use spot_domain::swap::recovery::End;
use spot_swap::announce;
use spot_swap::recovery::Ended;

/// The event of a swap that has ended, and the alert of one that was undone.
#[derive(Debug)]
pub(crate) struct News {
    ended: Option<EndedSwap>,
    alert: Option<Alert>,
}

impl News {
    /// Returns what is told of the end; `summary` says the same in words.
    pub(crate) fn of(lease: &Lease, journal: &Journal, how: &Ended, summary: &str) -> Self {
        let execution = lease.owner.execution();
        let undone = how.end == End::Undone;
        Self {
            ended: announce::by_reconciler(lease, journal, how, summary),
            alert: undone.then(|| Alert::of_reconciler(&lease.on.to_string(), summary, execution)),
        }
    }

    /// Tells bus and people. A failure is a warning: the swap has ended.
    pub(crate) async fn tell(self, announcements: &Announcements) {
        announce::tell(announcements, self.ended.as_slice()).await;
        if let Some(Alert { subject, message }) = self.alert {
            announcements.alert_or_warn(&subject, &message).await;
        }
    }
}
