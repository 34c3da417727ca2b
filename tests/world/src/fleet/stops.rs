//! Instances that are stopped and started again.

use jiff::Timestamp;

use crate::fleet::Fleet;
use crate::fleet::agenda::DueChange;
use crate::fleet::ec2::state;
use crate::fleet::instances::{Ec2State, EndOfInstance};
use crate::fleet::parameters::plays_only;
use crate::fleet::xml::{Answered, ApiError, Xml};
use crate::wire::ApiCall;

impl Fleet {
    /// Stops instances. One that stops or is stopped stays so, and the call succeeds. A one-time Spot instance can't stop.
    /// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_StopInstances.html>
    pub(super) fn stop_instances(&mut self, call: &ApiCall, now: Timestamp) -> Answered {
        self.changes_state(call, |fleet, id| fleet.stop(id, now), now)
    }

    fn stop(&mut self, id: &str, now: Timestamp) -> Result<(), ApiError> {
        let Some(instance) = self.instances.get_mut(id) else { return Ok(()) };
        if instance.disable_api_stop {
            let text = format!(
                "The instance '{id}' may not be stopped. Modify its 'disableApiStop' instance attribute"
            );
            return Err(ApiError::new("OperationNotPermitted", text));
        }
        if instance.is_spot() {
            let text = format!("You can't stop the Spot Instance '{id}': its request is a one-time one.");
            return Err(ApiError::new("UnsupportedOperation", text));
        }
        match instance.state {
            Ec2State::Stopping | Ec2State::Stopped => Ok(()),
            Ec2State::Running => {
                instance.state = Ec2State::Stopping;
                instance.state_reason = Some(EndOfInstance::ByUser.state_reason());
                self.at(now + self.habits.stops_after, DueChange::InstanceStopped(id.to_owned()));
                Ok(())
            }
            Ec2State::Pending | Ec2State::ShuttingDown | Ec2State::Terminated => {
                Err(incorrect_state(id, "stopped"))
            }
        }
    }

    /// Starts instances. One that is pending or runs stays so, and the call succeeds; one that is stopping is refused.
    /// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_StartInstances.html>
    pub(super) fn start_instances(&mut self, call: &ApiCall, now: Timestamp) -> Answered {
        self.changes_state(call, |fleet, id| fleet.start(id, now), now)
    }

    fn start(&mut self, id: &str, now: Timestamp) -> Result<(), ApiError> {
        let Some(instance) = self.instances.get_mut(id) else { return Ok(()) };
        match instance.state {
            Ec2State::Pending | Ec2State::Running => Ok(()),
            Ec2State::Stopped => {
                instance.state = Ec2State::Pending;
                instance.state_reason = None;
                instance.started_at = now;
                self.at(now + self.habits.boots_after, DueChange::InstanceRuns(id.to_owned()));
                Ok(())
            }
            Ec2State::Stopping | Ec2State::ShuttingDown | Ec2State::Terminated => {
                Err(incorrect_state(id, "started"))
            }
        }
    }

    /// Lets the owner stop an instance that runs. Returns false if it does not, or is protected.
    pub fn owner_stops(&mut self, id: &str, now: Timestamp) -> bool {
        self.runs(id) && self.stop(id, now).is_ok()
    }

    /// Lets the owner start an instance that is stopped. Returns false for any other.
    pub fn owner_starts(&mut self, id: &str, now: Timestamp) -> bool {
        let is_stopped = self.instances.get(id).is_some_and(|it| it.state == Ec2State::Stopped);
        is_stopped && self.start(id, now).is_ok()
    }

    fn changes_state(
        &mut self,
        call: &ApiCall,
        change: impl Fn(&mut Self, &str) -> Result<(), ApiError>,
        now: Timestamp,
    ) -> Answered {
        plays_only(call, &["InstanceId"])?;
        let ids = call.list("InstanceId");
        self.refuse_unknown(&ids, now)?;
        let mut states = Vec::new();
        for id in ids {
            let of = |fleet: &Self| fleet.instances.get(id).map(|instance| instance.state);
            let before = of(self);
            change(self, id)?;
            states.push((id, before, of(self)));
        }
        let mut xml = Xml::default();
        xml.list("instancesSet", "item", states, |xml, (id, before, after)| {
            xml.text("instanceId", id);
            for (name, at) in [("previousState", before), ("currentState", after)] {
                xml.within(name, |xml| at.into_iter().for_each(|at| state(xml, at)));
            }
        });
        Ok(xml)
    }

    pub(super) fn instance_stopped(&mut self, id: &str) {
        if let Some(instance) = self.instances.get_mut(id).filter(|i| i.state == Ec2State::Stopping) {
            instance.state = Ec2State::Stopped;
        }
    }
}

fn incorrect_state(id: &str, verb: &str) -> ApiError {
    let text = format!("The instance '{id}' is not in a state from which it can be {verb}.");
    ApiError::new("IncorrectInstanceState", text)
}
