//! The request of an execution: its input, as a person typed it into the console, and the account and region that it names.

use serde::de::DeserializeOwned;
use serde_json::Value;

use spot_cloud::access::Access;
use spot_cloud::forwarding::NeededRule;
use spot_cloud::tables::swaps::{Lease, Leased, Owner};
use spot_cloud::tables::{accounts, settings};
use spot_cloud::{CallError, RegionClients};
use spot_domain::clock;
use spot_domain::forwarding::{BlindGate, Blindness};
use spot_domain::settings::Settings;
use spot_domain::words::Cause;
use spot_domain::{AccountId, ExecutionArn, Region};

use crate::Context;
use crate::error::StepError;

/// The account and region that an execution works in.
#[derive(Debug)]
pub struct Site {
    pub account_id: AccountId,
    pub region: Region,
    pub access: Access,
    pub settings: Settings,
    pub execution: ExecutionArn,
    pub clients: RegionClients,
}

impl Site {
    /// Opens the account and region that a request names: by default, the stack's own.
    ///
    /// # Errors
    /// The account is unknown or disabled, the settings can't be applied, or a table does not answer.
    pub async fn of(
        context: &Context,
        account_id: Option<AccountId>,
        region: Option<Region>,
        execution: ExecutionArn,
    ) -> Result<Self, StepError> {
        let stack = &context.stack;
        let account_id = account_id.unwrap_or_else(|| stack.account_id.clone());
        let region = region.unwrap_or_else(|| stack.region.clone());
        let access = accounts::access(stack, &account_id).await?;
        let settings = settings::load(stack, &account_id, &region).await?;
        let clients = stack.clients(&access, &region, Some(&execution)).await;
        Ok(Self { account_id, region, access, settings, execution, clients })
    }

    /// Looks whether the interruptions at the site reach the stack. Returns the reason why they do not.
    ///
    /// # Errors
    /// A call fails in a way that may pass, and a blind gate would refuse the swap.
    pub async fn blindness(&self, context: &Context) -> Result<Option<String>, StepError> {
        let stack = &context.stack;
        let rule = NeededRule::of(stack, &self.account_id, &self.region)?;
        let config = stack.config_for(&self.access, &self.region, Some(&self.execution)).await;
        let looked = rule.blindness(&config, &self.settings.notices_that_poison()).await;
        let blind = believed(looked, self.settings.blind_gate)?;
        if let Some(blind) = &blind {
            tracing::warn!(account_id = %self.account_id, region = %self.region, "the gate is blind: {blind}");
        }
        Ok(blind)
    }

    /// Returns the lease that the execution asks for.
    #[must_use]
    pub fn lease(&self, on: Leased) -> Lease {
        Lease {
            on,
            account_id: self.account_id.clone(),
            region: self.region.clone(),
            owner: Owner::Execution(self.execution.clone()),
            since: clock::now(),
        }
    }
}

/// Returns what a look at the rule proves. Where a blind gate refuses nothing, a look that fails is no reason to wait.
fn believed(
    looked: Result<Option<Blindness>, CallError>,
    blind_gate: BlindGate,
) -> Result<Option<String>, CallError> {
    match looked {
        Ok(blind) => Ok(blind.map(|blind| blind.to_string())),
        Err(outage) if blind_gate == BlindGate::Allow => Ok(Some(outage.to_string())),
        Err(outage) => Err(outage),
    }
}

/// Parses the input. `shape` is an example of a correct input, which the error shows.
///
/// # Errors
/// [`StepError::InvalidInput`] names the field and its problem.
pub fn parse<T: DeserializeOwned>(input: Value, shape: &str) -> Result<T, StepError> {
    if !input.is_object() {
        return Err(StepError::InvalidInput(format!("the input must be a JSON object: {shape}").into()));
    }
    spot_cloud::input::parse(None, input).map_err(|bad| StepError::InvalidInput(Cause::of(bad)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use spot_domain::swap::report::SwapRequest;

    #[test]
    fn an_input_that_is_no_object_is_refused_with_its_shape() {
        for input in [serde_json::json!(["web"]), serde_json::json!("web"), Value::Null] {
            let error = parse::<SwapRequest>(input, r#"{"asg_name": "..."}"#).unwrap_err();
            assert_eq!(error.name(), "InvalidInput");
            assert!(error.to_string().contains("\"asg_name\""), "{error}");
        }
    }

    #[test]
    fn an_outage_is_asked_again_unless_a_blind_gate_refuses_nothing() {
        let outage = || {
            let (code, message) = ("NoAnswer".to_owned(), "timed out".to_owned());
            Err(CallError {
                call: "events:DescribeRule",
                kind: spot_cloud::Kind::Retry,
                code,
                message,
                source: None,
            })
        };
        let error = StepError::from(believed(outage(), BlindGate::Refuse).unwrap_err());
        assert_eq!(error.name(), "Transient");
        let blind = believed(outage(), BlindGate::Allow).unwrap();
        assert!(blind.is_some_and(|why| why.contains("events:DescribeRule")));
        for setting in [BlindGate::Refuse, BlindGate::Allow] {
            let no_rule = Blindness::NoRule { rule: "x-notices".to_owned() };
            assert_eq!(believed(Ok(None), setting).unwrap(), None);
            assert!(believed(Ok(Some(no_rule)), setting).unwrap().is_some());
        }
    }

    #[test]
    fn a_field_that_cannot_be_read_is_named() {
        let error = parse::<SwapRequest>(serde_json::json!({"asg_name": "g", "region": 1}), "").unwrap_err();
        assert!(error.to_string().starts_with("region: "), "{error}");
    }
}
