//! Health of instances as their load balancers see it.

use aws_sdk_elasticloadbalancingv2::types::{TargetDescription, TargetHealthStateEnum};
use spot_domain::ids::InstanceId;

use crate::error::{CallError, Kind, failed};

/// What the target groups say of one instance, taken together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetHealth {
    /// Healthy in every target group that a load balancer uses.
    Healthy,
    /// Some target group still drains it.
    Draining,
    /// Not (yet) healthy everywhere.
    NotHealthy,
    /// No target group knows it.
    Absent,
}

/// Asks every target group about one instance. Without target groups it is [`TargetHealth::Absent`].
///
/// # Errors
/// A call fails.
pub async fn health(
    client: &aws_sdk_elasticloadbalancingv2::Client,
    target_group_arns: &[String],
    id: &InstanceId,
) -> Result<TargetHealth, CallError> {
    let mut states = Vec::new();
    for arn in target_group_arns {
        let answer = client
            .describe_target_health()
            .target_group_arn(arn)
            .targets(TargetDescription::builder().id(id.as_str()).build())
            .send()
            .await
            .map_err(failed("elasticloadbalancing:DescribeTargetHealth"));
        match answer {
            // A target or a target group that is gone drains nothing and serves nothing.
            Err(error) if error.kind == Kind::NotFound || error.code == "InvalidTarget" => {
                states.push(TargetHealth::Absent);
            }
            answer => states.push(parse(answer?.target_health_descriptions().first())),
        }
    }
    Ok(combined(&states))
}

fn parse(target: Option<&aws_sdk_elasticloadbalancingv2::types::TargetHealthDescription>) -> TargetHealth {
    let health = target.and_then(|t| t.target_health());
    let reason = health.and_then(|h| h.reason()).map(|r| r.as_str());
    match health.and_then(|h| h.state()) {
        Some(TargetHealthStateEnum::Healthy) => TargetHealth::Healthy,
        // Its target group is used by no load balancer: nothing will ever check it.
        Some(TargetHealthStateEnum::Unused) if reason == Some("Target.NotInUse") => TargetHealth::Healthy,
        Some(TargetHealthStateEnum::Unused) if reason == Some("Target.InvalidState") => {
            TargetHealth::NotHealthy
        }
        Some(TargetHealthStateEnum::Unused) | None => TargetHealth::Absent,
        Some(TargetHealthStateEnum::Draining | TargetHealthStateEnum::UnhealthyDraining) => {
            TargetHealth::Draining
        }
        Some(_) => TargetHealth::NotHealthy,
    }
}

/// The worst news of several target groups.
fn combined(states: &[TargetHealth]) -> TargetHealth {
    let any = |wanted| states.contains(&wanted);
    if any(TargetHealth::Draining) {
        TargetHealth::Draining
    } else if any(TargetHealth::NotHealthy) || (any(TargetHealth::Healthy) && any(TargetHealth::Absent)) {
        TargetHealth::NotHealthy
    } else if any(TargetHealth::Healthy) {
        TargetHealth::Healthy
    } else {
        TargetHealth::Absent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn healthy_means_healthy_everywhere() {
        use TargetHealth::{Absent, Draining, Healthy, NotHealthy};
        assert_eq!(combined(&[]), Absent);
        assert_eq!(combined(&[Healthy, Healthy]), Healthy);
        assert_eq!(combined(&[Healthy, NotHealthy]), NotHealthy);
        assert_eq!(combined(&[Healthy, Absent]), NotHealthy);
        assert_eq!(combined(&[Healthy, Draining]), Draining);
        assert_eq!(combined(&[Absent]), Absent);
    }
}
