//! The notices about a run itself: the parts that it could not see or do, and a blast radius that it exceeded. A
//! message goes out at once for a new cause, and once a day while the cause lasts. Alarms ring independently.

use std::collections::BTreeSet;

use spot_domain::audit::reminders::Notified;
use spot_domain::clock;

use crate::audit::Auditor;
use crate::failure::Failure;
use crate::summary::AuditSummary;

const PARTIAL: &str = "Spot Optimizer: security audit is partial";
const EXCEEDED: &str = "Spot Optimizer: blast radius exceeded, nothing terminated";

/// Sends the notices that are due to people, and records them as sent, unless `nobody_hears` the alerts.
pub async fn report(auditor: &Auditor, nobody_hears: bool, summary: &mut AuditSummary) {
    let now = clock::now();
    // If the earlier notices can't be read, all are sent again.
    let mut known = auditor.table.told().await.unwrap_or_else(|error| {
        tracing::warn!("{error}");
        Notified::default()
    });
    let mut told = BTreeSet::new();
    let exceeded = summary.blast_radius_exceeded.clone();
    if let Some(exceeded) = exceeded.filter(|exceeded| known.owes([&exceeded.cause], now)) {
        match auditor.announcer.publish(EXCEEDED, &exceeded.words).await {
            Ok(()) => told.extend([exceeded.cause]),
            Err(error) => summary.fail(Failure::of("blast radius", &error)),
        }
    }
    if known.owes(summary.failed.iter().map(|failure| &failure.cause), now) {
        let (failures, named) = summary.failures(&known, now);
        match auditor.announcer.publish(PARTIAL, &format!("The audit is partial.\n\n{failures}")).await {
            Ok(()) => told.extend(named),
            Err(error) => tracing::error!("{error}"),
        }
    }
    if told.is_empty() || nobody_hears {
        return;
    }
    known.note(&told, now);
    if let Err(error) = auditor.table.note_told(&known).await {
        tracing::warn!("{error}; the same may be told again in an hour");
    }
}
