//! What every event and every step of the responder needs.

use spot_cloud::announcements::Announcements;
use spot_cloud::environment::{BadEnvironment, variable};
use spot_cloud::tables::swaps::Swaps;
use spot_cloud::{RegionClients, Stack, tables};
use spot_swap::error::StepError;
use spot_swap::recovery::Visit;
use spot_swap::spans::{note_execution, note_swap};

use crate::executions::Executions;
use crate::work::Answering;

/// What every event and every step needs.
#[derive(Debug)]
pub struct Responder {
    /// The stack that the function belongs to.
    pub stack: Stack,
    /// The leases and journals.
    pub swaps: Swaps,
    /// The bus and the alerts.
    pub announcements: Announcements,
    /// The two state machines that it starts.
    pub executions: Executions,
    /// Drills count as notices.
    pub allow_drills: bool,
    /// The loop is on: recommendations start swaps.
    pub is_continuous: bool,
}

impl Responder {
    /// Reads the environment that the template sets.
    ///
    /// # Errors
    /// A variable is missing or malformed.
    pub fn new(stack: Stack) -> Result<Self, BadEnvironment> {
        Ok(Self {
            swaps: Swaps::new(&stack)?,
            announcements: Announcements::new(&stack)?,
            executions: Executions::new(&stack)?,
            allow_drills: variable("ALLOW_DRILLS")?,
            is_continuous: variable("CONTINUOUS")?,
            stack,
        })
    }

    /// Returns clients where the answer works. Names execution and answer in the span of the step.
    ///
    /// # Errors
    /// The account's row is gone or can't be read, or the table does not answer.
    pub async fn clients(&self, work: &Answering) -> Result<RegionClients, StepError> {
        note_execution(work.lease.owner.execution());
        if let Some(journal) = &work.journal {
            note_swap(&journal.swap_id);
        }
        let account = &work.lease.account_id;
        let access = tables::accounts::access_even_if_disabled(&self.stack, account).await?;
        Ok(self.stack.clients(&access, &work.lease.region, None).await)
    }

    /// Returns the visit of a step.
    #[must_use]
    pub fn visit<'a>(&'a self, clients: &'a RegionClients, work: &'a Answering) -> Visit<'a> {
        Visit { clients, swaps: &self.swaps, lease: &work.lease, settings: &work.settings }
    }
}
