//! The SDK clients, and the stack's settings in a function's environment.

use std::time::Duration;

use aws_config::identity::IdentityCache;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use spot_domain::ids::MalformedText;
use spot_domain::{AccountId, EnvironmentType, ExecutionArn, Region};

use crate::access::Access;
use crate::environment::{BadEnvironment, variable};

/// The stack that this function belongs to, with its account, region and tables.
#[derive(Debug, Clone)]
pub struct Stack {
    /// The stack's own account.
    pub account_id: AccountId,
    /// The stack's own region.
    pub region: Region,
    /// The kind of the stack's own account, from the stack's parameter.
    pub environment_type: EnvironmentType,
    /// DynamoDB, in the stack's own account and region.
    pub dynamodb: aws_sdk_dynamodb::Client,
    session_name: SessionName,
    config: SdkConfig,
}

impl Stack {
    /// Reads the environment and builds the clients, without a call to AWS.
    ///
    /// # Errors
    /// A variable that the template sets is missing or malformed.
    pub async fn from_environment() -> Result<Self, BadEnvironment> {
        let config = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .retry_config(retries())
            .timeout_config(timeouts())
            .load()
            .await;
        Self::over(config)
    }

    /// Reads the environment, and builds the clients over this configuration of the stack's own account and region.
    ///
    /// # Errors
    /// A variable that the template sets is missing or malformed.
    pub fn over(config: SdkConfig) -> Result<Self, BadEnvironment> {
        Ok(Self {
            account_id: variable("STACK_ACCOUNT_ID")?,
            region: variable("AWS_REGION")?,
            environment_type: variable("ENVIRONMENT_TYPE")?,
            dynamodb: aws_sdk_dynamodb::Client::new(&config),
            session_name: variable("ROLE_SESSION_NAME")?,
            config,
        })
    }

    /// Returns the SDK configuration of the stack's own account and region.
    #[must_use]
    pub fn config(&self) -> &SdkConfig {
        &self.config
    }

    /// Returns the access to the stack's own account, which no role opens.
    #[must_use]
    pub fn own_access(&self) -> Access {
        Access { environment_type: self.environment_type, role: None }
    }

    /// Returns clients for the account and region that `access` opens.
    pub async fn clients(
        &self,
        access: &Access,
        region: &Region,
        execution: Option<&ExecutionArn>,
    ) -> RegionClients {
        RegionClients::new(&self.config_for(access, region, execution).await)
    }

    /// Returns the SDK configuration for the account and region that `access` opens. If a role is assumed,
    /// its session is named after the execution.
    pub async fn config_for(
        &self,
        access: &Access,
        region: &Region,
        execution: Option<&ExecutionArn>,
    ) -> SdkConfig {
        let mut builder =
            self.config.to_builder().region(aws_config::Region::new(region.as_str().to_owned()));
        if let Some(role) = &access.role {
            let mut provider = aws_config::sts::AssumeRoleProvider::builder(&role.arn)
                .configure(&self.config)
                .session_name(self.session_name.of(execution));
            if let Some(external_id) = &role.external_id {
                provider = provider.external_id(external_id);
            }
            // The SDK's own cache holds 64 sessions of all accounts and regions, and then drops one that is in use.
            builder.set_identity_cache(Some(IdentityCache::lazy().build()));
            builder.set_credentials_provider(Some(aws_sdk_ec2::config::SharedCredentialsProvider::new(
                provider.build().await,
            )));
        }
        builder.build()
    }
}

/// Returns the retries of the SDK's clients, unless a call asks for none.
#[must_use]
pub fn retries() -> RetryConfig {
    RetryConfig::standard().with_max_attempts(3)
}

/// Returns the timeouts of the SDK's clients: all tries of a call end within 25 seconds.
#[must_use]
pub fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(2))
        .operation_attempt_timeout(Duration::from_secs(10))
        .operation_timeout(Duration::from_secs(25))
        .build()
}

/// The name of a function's sessions in other accounts. The function's role may assume other roles under this
/// name alone, and `account.yaml` limits the session by it.
#[derive(Debug, Clone)]
struct SessionName(String);

impl SessionName {
    /// Returns the `RoleSessionName` of a session: the function's own name, then the execution's, cut at 64
    /// characters. <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>
    fn of(&self, execution: Option<&ExecutionArn>) -> String {
        let Some(execution) = execution else { return self.0.clone() };
        let run = execution.as_str().rsplit(':').next().unwrap_or_default();
        let allowed = |c: char| if may_stand_in_a_session_name(c) { c } else { '-' };
        format!("{}-{run}", self.0).chars().map(allowed).take(64).collect()
    }
}

impl std::str::FromStr for SessionName {
    type Err = MalformedText;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if !(2..=32).contains(&text.len()) || !text.chars().all(may_stand_in_a_session_name) {
            let (kind, expected) = ("session name", "2 to 32 of a-z, A-Z, 0-9 and _+=,.@-");
            return Err(MalformedText { kind, given: text.chars().take(80).collect(), expected });
        }
        Ok(Self(text.to_owned()))
    }
}

fn may_stand_in_a_session_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_+=,.@-".contains(c)
}

/// Clients of one account and region.
#[derive(Debug, Clone)]
pub struct RegionClients {
    /// EC2.
    pub ec2: aws_sdk_ec2::Client,
    /// Auto Scaling.
    pub autoscaling: aws_sdk_autoscaling::Client,
    /// Elastic Load Balancing, for target groups.
    pub elbv2: aws_sdk_elasticloadbalancingv2::Client,
}

impl RegionClients {
    /// Builds the clients over one configuration.
    #[must_use]
    pub fn new(config: &SdkConfig) -> Self {
        Self {
            ec2: aws_sdk_ec2::Client::new(config),
            autoscaling: aws_sdk_autoscaling::Client::new(config),
            elbv2: aws_sdk_elasticloadbalancingv2::Client::new(config),
        }
    }
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn execution(name: &str) -> ExecutionArn {
        format!("arn:aws:states:eu-west-1:123456789012:execution:Swap:{name}").parse().unwrap()
    }

    #[test]
    fn a_session_bears_the_functions_name_and_behind_it_the_executions() {
        let name: SessionName = "spot-optimizer-lab".parse().unwrap();
        assert_eq!(name.of(None), "spot-optimizer-lab");
        assert_eq!(name.of(Some(&execution("nightly-1"))), "spot-optimizer-lab-nightly-1");
        let long = name.of(Some(&execution(&"x".repeat(80))));
        assert!(long.len() == 64 && long.starts_with("spot-optimizer-lab-xxx"), "{long}");
    }

    #[test]
    fn an_execution_cannot_give_its_session_the_name_of_another_function() {
        let name: SessionName = "spot-optimizer-run".parse().unwrap();
        let given = name.of(Some(&execution("spot-optimizer-lab-1")));
        assert!(given.starts_with("spot-optimizer-run-"), "{given}");
    }

    #[test]
    fn a_name_that_sts_would_refuse_is_refused_at_the_start() {
        for bad in ["", "a", "with space", "slash/ed", &"x".repeat(33)] {
            assert!(bad.parse::<SessionName>().is_err(), "{bad}");
        }
    }
}
