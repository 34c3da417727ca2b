//! Health of instances as their load balancers see it.

use spot_domain::ids::InstanceId;
use spot_domain::swap::recovery::lab::TargetState;

use crate::error::CallError;
use crate::load_balancing::targets;

/// The health of one instance in all its target groups, taken together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetHealth {
    /// The instance is healthy in every target group that a load balancer uses.
    Healthy,
    /// Some target group still drains the instance.
    Draining,
    /// The instance is not (yet) healthy everywhere.
    NotHealthy,
    /// No target group knows the instance.
    Absent,
}

/// Asks every target group about one instance. Without target groups, the result is [`TargetHealth::Absent`].
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
        states.push(TargetHealth::from(targets::state_in(client, arn, id).await?));
    }
    Ok(combined(&states))
}

impl From<TargetState> for TargetHealth {
    fn from(state: TargetState) -> Self {
        match state {
            TargetState::Healthy => Self::Healthy,
            TargetState::Checking | TargetState::Unhealthy => Self::NotHealthy,
            TargetState::Draining => Self::Draining,
            // A target group that is gone drains nothing and serves nothing.
            TargetState::Absent | TargetState::NoGroup => Self::Absent,
        }
    }
}

/// Returns the worst health among several target groups, or among several ports in one.
pub(super) fn combined(states: &[TargetHealth]) -> TargetHealth {
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
