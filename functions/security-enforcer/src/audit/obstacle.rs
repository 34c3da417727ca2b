//! The obstacles to the termination of an unauthorised instance, and their note in the instance's row.

use spot_domain::audit::enforcement::{AuditNotice, AuthStatus, Record, RowChange};
use spot_domain::audit::subject::Subject;
use spot_domain::audit::swaps_in_progress::SwapsInProgress;
use spot_domain::own_tags::like_opt_out;
use spot_domain::owners::group_of;
use spot_domain::settings::Settings;

/// The reason for which a protected instance stays.
pub const PROTECTED: &str = "its termination protection is on (DisableApiTermination)";

/// Returns the obstacle to the termination of an unauthorised instance, in words: its tags, or a row of Swaps that
/// may be right.
#[must_use]
pub fn to_end(subject: &Subject, swaps: &SwapsInProgress, settings: &Settings) -> Option<String> {
    if let Some(group) = group_of(&subject.tags) {
        // The group would launch another instance in its place. The role is denied the termination, too.
        return Some(format!(
            "it is a member of the Auto Scaling group {group}, which bears none of group_marks: end the group"
        ));
    }
    // The row belongs to a swap whose newcomer does not exist yet, or is forged. It authorises nothing, and a
    // person has to check it.
    if let Some(claim) = swaps.unproven(&subject.id) {
        return Some(claim.unproven());
    }
    // The tag authorises nothing, but its owner asked that the instance stays.
    let opted_out = settings.opts_out(&subject.tags);
    let tag = opted_out.then(|| format!("it is opted out by its tag {}", settings.opt_out_tag));
    let misspelt = || like_opt_out(&subject.tags, settings);
    tag.or_else(|| misspelt().map(|bad| format!("it may be opted out: {}", bad.of_instance())))
}

/// Blocks the termination of an instance whose row was `before` and becomes `record`.
#[must_use]
pub fn block(before: &Record, record: Record, why: &str) -> RowChange {
    // The same obstacle as in the run before is no news: the audit sends a reminder once a day.
    let is_known = before.status == Some(AuthStatus::TerminationBlocked) && before.reason == why;
    let record = Record {
        status: Some(AuthStatus::TerminationBlocked),
        terminating_at: None,
        reason: why.to_owned(),
        ..record
    };
    RowChange { record, news: (!is_known).then_some(AuditNotice::TerminationBlocked) }
}
