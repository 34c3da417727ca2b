//! What an audit found, as the answer of the run shows it.

use serde::Serialize;
use spot_cloud::scopes::{AccountRegion, Scope};
use spot_domain::InstanceId;
use spot_domain::audit::authorization::Authorization;

/// The findings of one audit; the counts are of instances.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Findings {
    #[serde(flatten)]
    pub place: AccountRegion,
    /// True if due instances may be terminated here.
    pub enforced: bool,
    /// The running instances.
    pub running: usize,
    /// The running instances that an owner or a service authorises.
    pub authorised: usize,
    /// The running instances that nothing authorises.
    pub unauthorised: usize,
    /// The running instances that bear our mark without proof.
    pub suspicious: usize,
    /// The running instances that a swap is replacing right now.
    pub being_replaced: usize,
    /// The instances that this run flagged.
    pub flagged: usize,
    /// The instances that this run cleared.
    pub cleared: usize,
    /// The instances that are due for termination.
    pub due: usize,
}

impl Findings {
    pub(super) fn of(visit: &Scope) -> Self {
        Self {
            place: visit.place.clone(),
            enforced: visit.auto_terminate,
            running: 0,
            authorised: 0,
            unauthorised: 0,
            suspicious: 0,
            being_replaced: 0,
            flagged: 0,
            cleared: 0,
            due: 0,
        }
    }

    pub(super) fn count(&mut self, standing: &Authorization) {
        self.running += 1;
        match standing {
            Authorization::Authorised(_) => self.authorised += 1,
            Authorization::Unauthorised => self.unauthorised += 1,
            Authorization::Suspicious(_) => self.suspicious += 1,
            Authorization::BeingReplaced => self.being_replaced += 1,
        }
    }
}

/// An instance that was due and lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotTerminated {
    pub instance_id: InstanceId,
    pub reason: String,
}

impl NotTerminated {
    /// Returns an instance that stays.
    #[must_use]
    pub fn new(id: &InstanceId, reason: String) -> Self {
        Self { instance_id: id.clone(), reason }
    }
}
