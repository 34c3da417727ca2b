//! EC2 instances and their Spot requests: what there is of each, and how its state changes with time.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::fleet::Fleet;
use crate::fleet::agenda::DueChange;
use crate::fleet::habits::{FORGETS_INSTANCE_AFTER, FORGETS_SPOT_REQUEST_AFTER};

/// The tag by which Auto Scaling marks the members of a group.
pub(super) const GROUP_TAG: &str = "aws:autoscaling:groupName";

/// The state of an instance, as EC2 names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ec2State {
    Pending,
    Running,
    Stopping,
    Stopped,
    ShuttingDown,
    Terminated,
}

impl Ec2State {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::ShuttingDown => "shutting-down",
            Self::Terminated => "terminated",
        }
    }

    /// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_InstanceState.html>
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Pending => 0,
            Self::Running => 16,
            Self::ShuttingDown => 32,
            Self::Terminated => 48,
            Self::Stopping => 64,
            Self::Stopped => 80,
        }
    }

    /// Returns true if the instance is pending or running.
    #[must_use]
    pub fn is_alive(self) -> bool {
        matches!(self, Self::Pending | Self::Running)
    }

    /// Returns true if the instance has begun to end. A stopped one has not.
    pub(super) fn is_ending(self) -> bool {
        matches!(self, Self::ShuttingDown | Self::Terminated)
    }
}

/// An instance as it is, whatever descriptions show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ec2Instance {
    pub id: String,
    pub instance_type: String,
    /// The name of its zone.
    pub zone: String,
    pub subnet_id: String,
    pub image_id: String,
    pub state: Ec2State,
    /// Code and message of `StateReason`.
    pub state_reason: Option<(String, String)>,
    /// The Spot request; `None` for On-Demand.
    pub spot_request_id: Option<String>,
    /// Empty if the caller gave none.
    pub client_token: String,
    pub tags: BTreeMap<String, String>,
    pub launched_at: Timestamp,
    /// `LaunchTime`: of the launch, or of the last start.
    pub started_at: Timestamp,
    /// The tags of its volume.
    pub volume_tags: BTreeMap<String, String>,
    /// Its volume outlives it: `DeleteOnTermination` is false.
    pub keeps_volume: bool,
    pub disable_api_termination: bool,
    pub disable_api_stop: bool,
    pub placement_group: Option<String>,
    /// The status checks never pass.
    pub is_impaired: bool,
}

impl Ec2Instance {
    /// Returns true if the instance is Spot.
    #[must_use]
    pub fn is_spot(&self) -> bool {
        self.spot_request_id.is_some()
    }

    /// Returns the id of the volume that it has since its launch.
    #[must_use]
    pub fn volume_id(&self) -> String {
        format!("vol-{}", self.number())
    }

    /// Returns the number in the instance's id, which its volume and its address have, too.
    pub(super) fn number(&self) -> &str {
        self.id.trim_start_matches("i-")
    }

    pub(super) fn private_ip(&self) -> String {
        let number = u64::from_str_radix(self.number(), 16).unwrap_or_default();
        format!("10.0.{}.{}", number / 250 % 250, number % 250 + 4)
    }
}

/// The request that EC2 makes for a Spot launch of RunInstances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpotRequest {
    pub id: String,
    pub instance_id: String,
    pub instance_type: String,
    pub zone: String,
    pub created_at: Timestamp,
    /// The state is `active`, not `closed`.
    pub is_active: bool,
    /// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-request-status.html>
    pub status_code: String,
}

/// The reason for which an instance ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndOfInstance {
    /// A caller of the API terminates it, its group included.
    ByUser,
    /// EC2 takes a Spot instance back.
    SpotInterruption,
    /// EC2 fails: host, volume or encryption key.
    InternalError,
}

impl EndOfInstance {
    /// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_StateReason.html>
    pub(super) fn state_reason(self) -> (String, String) {
        let (code, message) = match self {
            Self::ByUser => ("Client.UserInitiatedShutdown", "User initiated shutdown"),
            Self::SpotInterruption => ("Server.SpotInstanceTermination", "Spot instance termination"),
            Self::InternalError => ("Server.InternalError", "Internal error on launch"),
        };
        (code.to_owned(), format!("{code}: {message}"))
    }

    fn spot_status(self) -> &'static str {
        match self {
            Self::SpotInterruption => "instance-terminated-no-capacity",
            Self::ByUser | Self::InternalError => "instance-terminated-by-user",
        }
    }
}

impl Fleet {
    /// Begins the end of an instance, if it has not begun. Its group learns of it by its next health check.
    pub(super) fn end_instance(&mut self, id: &str, why: EndOfInstance, now: Timestamp) {
        let Some(instance) = self.instances.get_mut(id).filter(|instance| !instance.state.is_ending()) else {
            return;
        };
        instance.state = Ec2State::ShuttingDown;
        instance.state_reason = Some(why.state_reason());
        if let Some(request) = instance.spot_request_id.as_ref().and_then(|id| self.spot_requests.get_mut(id))
        {
            request.is_active = false;
            why.spot_status().clone_into(&mut request.status_code);
        }
        let terminated_at = now + self.habits.shuts_down_after;
        self.at(terminated_at, DueChange::InstanceTerminated(id.to_owned()));
        self.at(now + self.habits.notices_death_after, DueChange::DeathNoticed(id.to_owned()));
    }

    pub(super) fn instance_runs(&mut self, id: &str, at: Timestamp) {
        if let Some(instance) = self.instances.get_mut(id).filter(|i| i.state == Ec2State::Pending) {
            instance.state = Ec2State::Running;
            self.targets_are_checked_again(id, at);
        }
    }

    pub(super) fn instance_terminated(&mut self, id: &str, at: Timestamp) {
        let Some(instance) = self.instances.get_mut(id).filter(|i| i.state == Ec2State::ShuttingDown) else {
            return;
        };
        instance.state = Ec2State::Terminated;
        let request = instance.spot_request_id.clone();
        self.lets_go_of_address(id);
        self.lets_go_of_volume(id);
        self.at(at + self.habits.terminated_keeps_tags_for, DueChange::TagsGo(id.to_owned()));
        self.at(at + FORGETS_INSTANCE_AFTER, DueChange::InstanceForgotten(id.to_owned()));
        if let Some(request) = request {
            self.at(at + FORGETS_SPOT_REQUEST_AFTER, DueChange::SpotRequestForgotten(request));
        }
    }

    pub(super) fn tags_go(&mut self, id: &str) {
        if let Some(instance) = self.instances.get_mut(id) {
            instance.tags.clear();
        }
    }

    /// Returns true if both status checks of the instance pass.
    #[must_use]
    pub fn passes_checks(&self, id: &str, now: Timestamp) -> bool {
        let instance = self.instances.get(id).filter(|instance| instance.state == Ec2State::Running);
        instance.is_some_and(|it| !it.is_impaired && now >= it.started_at + self.habits.passes_checks_after)
    }

    /// Returns an instance, if EC2's descriptions show it by now.
    pub(super) fn visible(&self, id: &str, now: Timestamp) -> Option<&Ec2Instance> {
        self.instances.get(id).filter(|instance| now >= instance.launched_at + self.habits.visible_after)
    }

    pub(super) fn runs(&self, id: &str) -> bool {
        self.instances.get(id).is_some_and(|instance| instance.state == Ec2State::Running)
    }

    pub(super) fn is_alive(&self, id: &str) -> bool {
        self.instances.get(id).is_some_and(|instance| instance.state.is_alive())
    }
}
