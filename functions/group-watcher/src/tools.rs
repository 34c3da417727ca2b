//! The tables, services and state machines of the stack that every look and every start needs.

use jiff::Timestamp;
use spot_cloud::Stack;
use spot_cloud::announcements::Announcements;
use spot_cloud::environment::{BadEnvironment, variable};
use spot_cloud::launch::gatekeeper::Gatekeeper;
use spot_cloud::tables::swaps::Swaps;
use spot_domain::clock;

use crate::executions::Machine;
use crate::table::GroupsTable;

/// Returns the time, to the second: the table keeps no more, and an answer must not differ from what is noted.
#[must_use]
pub fn now() -> Timestamp {
    let now = clock::now();
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

/// What the group watcher works with in the stack's own account.
#[derive(Debug)]
pub struct Tools {
    /// The leases, which the watcher only reads.
    pub swaps: Swaps,
    /// The memory of the loop.
    pub table: GroupsTable,
    /// The gate.
    pub gatekeeper: Gatekeeper,
    /// The default bus and the alerts topic.
    pub announcements: Announcements,
    pub sfn: aws_sdk_sfn::Client,
    /// The state machine that swaps a group.
    pub group_swap: Machine,
    /// The state machine that swaps a node.
    pub node_swap: Machine,
    /// The state machine that swaps a stand-alone instance of a LAB account.
    pub lab_swap: Machine,
}

impl Tools {
    /// Reads the environment that the template sets.
    ///
    /// # Errors
    /// A variable is missing or malformed.
    pub async fn new(stack: &Stack) -> Result<Self, BadEnvironment> {
        Ok(Self {
            swaps: Swaps::new(stack)?,
            table: GroupsTable::new(stack.dynamodb.clone(), variable("GROUPS_TABLE")?),
            gatekeeper: Gatekeeper::new(stack).await?,
            announcements: Announcements::new(stack)?,
            sfn: aws_sdk_sfn::Client::new(stack.config()),
            group_swap: Machine(variable("CLUSTER_SWAP_STATE_MACHINE_ARN")?),
            node_swap: Machine(variable("NODE_SWAP_STATE_MACHINE_ARN")?),
            lab_swap: Machine(variable("LAB_SWAP_STATE_MACHINE_ARN")?),
        })
    }
}
