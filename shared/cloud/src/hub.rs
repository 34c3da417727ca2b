//! Herd immunity: the role of this stack among others, and a member's access to what the others learned.
//!
//! A member launches only into pools that are clear in its own table and in the hub's. A member reads the
//! hub's table through a role of the hub that may read that one table and nothing else.

use std::str::FromStr;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_ec2::config::SharedCredentialsProvider;
use spot_domain::Region;

use crate::environment::{BadEnvironment, variable};

/// The role of a stack among others, from its parameter `Role`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StackRole {
    /// The stack learns alone.
    Standalone,
    /// The stack accepts the reports of its members, and lets them read its table.
    Hub,
    /// The stack reports to a hub, and asks the hub's table.
    Member,
}

/// A `Role` that the template doesn't know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?}: expected standalone, hub or member")]
pub struct UnknownStackRole(String);

impl FromStr for StackRole {
    type Err = UnknownStackRole;

    fn from_str(text: &str) -> Result<Self, UnknownStackRole> {
        match text {
            "standalone" => Ok(Self::Standalone),
            "hub" => Ok(Self::Hub),
            "member" => Ok(Self::Member),
            _ => Err(UnknownStackRole(text.chars().take(80).collect())),
        }
    }
}

impl StackRole {
    /// Reads the stack's parameter. There is no default: a member that took itself for standalone would
    /// launch without asking the hub.
    ///
    /// # Errors
    /// The variable is missing or malformed.
    pub fn from_environment() -> Result<Self, BadEnvironment> {
        variable("STACK_ROLE")
    }
}

/// The hub's risk table, as a member reads it.
#[derive(Debug, Clone)]
pub struct Hub {
    pub(crate) dynamodb: aws_sdk_dynamodb::Client,
    pub(crate) table: String,
}

impl Hub {
    /// The time in which the hub's table must answer. The table may be in another region, and the first
    /// question after a cold start first needs the role's credentials.
    pub(crate) const DEADLINE: Duration = Duration::from_secs(3);

    /// Returns the hub that this stack is a member of, if it is one.
    ///
    /// The function makes no call: the role is assumed at the first question, and its credentials are kept
    /// until they expire.
    ///
    /// # Errors
    /// A variable that the template sets is missing or malformed.
    pub(crate) async fn from_environment(config: &SdkConfig) -> Result<Option<Self>, BadEnvironment> {
        if StackRole::from_environment()? != StackRole::Member {
            return Ok(None);
        }
        let region: Region = variable("HUB_REGION")?;
        let role = aws_config::sts::AssumeRoleProvider::builder(variable::<String>("HUB_READER_ROLE_ARN")?)
            .configure(config)
            .session_name("spot-optimizer-gate")
            .external_id(variable::<String>("HUB_EXTERNAL_ID")?)
            .build()
            .await;
        let config = config
            .to_builder()
            .region(aws_config::Region::new(region.as_str().to_owned()))
            .credentials_provider(SharedCredentialsProvider::new(role))
            .build();
        Ok(Some(Self {
            dynamodb: aws_sdk_dynamodb::Client::new(&config),
            table: variable("HUB_POOL_RISK_TABLE")?,
        }))
    }
}
