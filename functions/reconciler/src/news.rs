//! What the reconciler tells of the swaps that it has ended.

use spot_cloud::announcements::Announcements;
use spot_cloud::tables::swaps::Lease;
use spot_domain::swap::alert::Alert;
use spot_domain::swap::ended::EndedSwap;
use spot_domain::swap::journal::Journal;
use spot_domain::swap::recovery::End;
use spot_swap::announce;
use spot_swap::recovery::Ended;

/// The events of the swaps of a dead execution, and one alert if any was undone.
#[derive(Debug, Default)]
pub(crate) struct News {
    ended: Vec<EndedSwap>,
    alert: Option<Alert>,
}

impl News {
    /// Notes the end of a swap; `summary` says the same in words.
    pub(crate) fn note(&mut self, lease: &Lease, journal: &Journal, how: &Ended, summary: &str) {
        let ended = announce::by_reconciler(lease, journal, how, summary);
        let is_swap = ended.is_some();
        self.ended.extend(ended);
        if is_swap && how.end == End::Undone {
            let alert = || Alert::of_reconciler(&lease.on.to_string(), summary, lease.owner.execution());
            self.alert.get_or_insert_with(alert);
        }
    }

    /// Tells bus and people. A failure is a warning: the swaps have ended.
    pub(crate) async fn tell(self, announcements: &Announcements) {
        announce::tell(announcements, &self.ended).await;
        if let Some(Alert { subject, message }) = self.alert {
            announcements.alert_or_warn(&subject, &message).await;
        }
    }
}
