//! Target groups: `initial` before healthy, `draining` after deregistration, as `endpoint/elb.py` of local AWS has it.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::fleet::Fleet;
use crate::fleet::agenda::DueChange;
use crate::fleet::catalog::VPC;
use crate::fleet::parameters::{page, plays_only, required, structures};
use crate::fleet::xml::{Answered, ApiError, Xml};
use crate::wire::ApiCall;

/// The state of a target, as far as its load balancer sets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetPhase {
    /// Registered; the health checks have not passed yet.
    Initial,
    Healthy,
    /// The health checks fail.
    Unhealthy,
    /// Deregistered; open requests may end.
    Draining,
}

/// A target of a target group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegisteredTarget {
    pub phase: TargetPhase,
    /// The time of its next phase. Earlier plans for it are void.
    pub(super) proceeds_at: Option<Timestamp>,
}

/// A target group, whose targets are instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetGroup {
    pub arn: String,
    pub name: String,
    /// By instance id.
    pub targets: BTreeMap<String, RegisteredTarget>,
    pub deregistration_delay: SignedDuration,
    /// Some listener of a load balancer uses it.
    pub is_in_use: bool,
}

const PORT: u16 = 80;

impl Fleet {
    /// Describes target groups or targets; `None` for any other call.
    pub(super) fn read_load_balancing(&self, call: &ApiCall, now: Timestamp) -> Option<Answered> {
        Some(match call.action.as_str() {
            "DescribeTargetGroups" => self.describe_target_groups(call),
            "DescribeTargetHealth" => self.describe_target_health(call, now),
            _ => return None,
        })
    }

    pub(super) fn change_load_balancing(&mut self, call: &ApiCall, now: Timestamp) -> Answered {
        match call.action.as_str() {
            "RegisterTargets" => self.change_targets(call, now, Self::register),
            "DeregisterTargets" => self.change_targets(call, now, Self::deregister),
            other => Err(ApiError::not_played(other)),
        }
    }

    fn describe_target_groups(&self, call: &ApiCall) -> Answered {
        let arns = call.list("TargetGroupArns");
        if let Some(unknown) = arns.iter().find(|arn| !self.target_groups.contains_key(**arn)) {
            return Err(no_target_group(unknown));
        }
        let shown = self.target_groups.iter().filter(|(arn, _)| arns.is_empty() || arns.contains(&&***arn));
        let shown = shown.map(|(arn, group)| (arn.clone(), group));
        let page = page(shown, call.parameter("Marker"), self.page_size(call, "PageSize")?)?;
        let mut xml = Xml::default();
        xml.list("TargetGroups", "member", page.items, |xml, group| {
            xml.text("TargetGroupArn", &group.arn);
            xml.text("TargetGroupName", &group.name);
            xml.text("Protocol", "HTTP");
            xml.text("Port", PORT);
            xml.text("VpcId", VPC);
            xml.text("TargetType", "instance");
        });
        xml.optional("NextMarker", page.next);
        Ok(xml)
    }

    /// Lists targets that drain, too, if the call names no target; see `_all_of_them` in `endpoint/elb.py`.
    ///
    /// A target that does not exist is refused, and so is an instance that EC2 has forgotten.
    /// <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_DescribeTargetHealth.html>
    fn describe_target_health(&self, call: &ApiCall, now: Timestamp) -> Answered {
        let arn = required(call, "TargetGroupArn")?;
        let group = self.target_groups.get(arn).ok_or_else(|| no_target_group(arn))?;
        let asked = ids(call);
        let is_known = |id: &str| {
            let instance = self.instances.get(id);
            instance.is_some_and(|it| now >= it.launched_at + self.habits.targets_known_after)
        };
        if let Some(unknown) = asked.iter().find(|id| !is_known(id)) {
            return Err(invalid_target(unknown));
        }
        let shown = if asked.is_empty() { group.targets.keys().cloned().collect() } else { asked };
        let mut xml = Xml::default();
        xml.list("TargetHealthDescriptions", "member", shown, |xml, id| {
            let (state, reason) = self.health(group, &id);
            xml.within("Target", |xml| {
                xml.text("Id", &id);
                xml.text("Port", PORT);
            });
            xml.text("HealthCheckPort", PORT);
            xml.within("TargetHealth", |xml| {
                xml.text("State", state);
                xml.optional("Reason", reason);
            });
        });
        Ok(xml)
    }

    /// <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetHealth.html>
    fn health(&self, group: &TargetGroup, id: &str) -> (&'static str, Option<&'static str>) {
        let Some(target) = group.targets.get(id) else {
            return ("unused", Some("Target.NotRegistered"));
        };
        match target.phase {
            TargetPhase::Draining => ("draining", Some("Target.DeregistrationInProgress")),
            _ if !group.is_in_use => ("unused", Some("Target.NotInUse")),
            _ if !self.is_alive(id) => ("unused", Some("Target.InvalidState")),
            TargetPhase::Initial => ("initial", Some("Elb.RegistrationInProgress")),
            TargetPhase::Healthy => ("healthy", None),
            TargetPhase::Unhealthy => ("unhealthy", Some("Target.FailedHealthChecks")),
        }
    }

    fn change_targets(
        &mut self,
        call: &ApiCall,
        now: Timestamp,
        change: fn(&mut Self, &str, &str, Timestamp),
    ) -> Answered {
        plays_only(call, &["TargetGroupArn", "Targets"])?;
        let (arn, ids) = (required(call, "TargetGroupArn")?, ids(call));
        if !self.target_groups.contains_key(arn) {
            return Err(no_target_group(arn));
        }
        if let Some(dead) = ids.iter().find(|id| call.action == "RegisterTargets" && !self.runs(id)) {
            return Err(invalid_target(dead));
        }
        for id in &ids {
            change(self, arn, id, now);
        }
        Ok(Xml::default())
    }

    /// Registers a running instance. An instance that drains is registered anew.
    pub(super) fn register(&mut self, arn: &str, id: &str, now: Timestamp) {
        let healthy_at = now + self.habits.turns_healthy_after;
        let Some(group) = self.target_groups.get_mut(arn) else { return };
        if group.targets.get(id).is_none_or(|target| target.phase == TargetPhase::Draining) {
            let target = RegisteredTarget { phase: TargetPhase::Initial, proceeds_at: Some(healthy_at) };
            group.targets.insert(id.to_owned(), target);
            self.target_goes_on(arn, id, healthy_at);
        }
    }

    /// Deregisters an instance, if it is registered. A target that is not healthy has no open requests, and drains
    /// nevertheless.
    pub(super) fn deregister(&mut self, arn: &str, id: &str, now: Timestamp) {
        let Some(group) = self.target_groups.get_mut(arn) else { return };
        let gone_at = now + group.deregistration_delay;
        if let Some(target) = group.targets.get_mut(id).filter(|t| t.phase != TargetPhase::Draining) {
            *target = RegisteredTarget { phase: TargetPhase::Draining, proceeds_at: Some(gone_at) };
            self.target_goes_on(arn, id, gone_at);
        }
    }

    fn target_goes_on(&mut self, arn: &str, id: &str, at: Timestamp) {
        let change = DueChange::TargetProceeds { target_group: arn.to_owned(), instance: id.to_owned() };
        self.at(at, change);
    }

    pub(super) fn target_proceeds(&mut self, arn: &str, id: &str, at: Timestamp) {
        let Some(group) = self.target_groups.get_mut(arn) else { return };
        let Some(target) = group.targets.get_mut(id).filter(|t| t.proceeds_at == Some(at)) else { return };
        match target.phase {
            TargetPhase::Draining => drop(group.targets.remove(id)),
            TargetPhase::Initial => {
                *target = RegisteredTarget { phase: TargetPhase::Healthy, proceeds_at: None };
            }
            TargetPhase::Healthy | TargetPhase::Unhealthy => {}
        }
    }

    /// An instance was started again: its health checks begin anew.
    pub(super) fn targets_are_checked_again(&mut self, id: &str, now: Timestamp) {
        let healthy_at = now + self.habits.turns_healthy_after;
        let mut checked = Vec::new();
        for (arn, group) in &mut self.target_groups {
            if let Some(target) = group.targets.get_mut(id).filter(|t| t.phase != TargetPhase::Draining) {
                *target = RegisteredTarget { phase: TargetPhase::Initial, proceeds_at: Some(healthy_at) };
                checked.push(arn.clone());
            }
        }
        for arn in checked {
            self.target_goes_on(&arn, id, healthy_at);
        }
    }

    /// Returns true if a load balancer sends requests to the instance, or none has anything to do with it.
    #[must_use]
    pub fn is_healthy_in(&self, arns: &[String], id: &str) -> bool {
        arns.iter().all(|arn| {
            let group = self.target_groups.get(arn);
            group.is_none_or(|group| !group.is_in_use || self.health(group, id).0 == "healthy")
        })
    }
}

fn ids(call: &ApiCall) -> Vec<String> {
    let id = |prefix: String| call.parameter(&format!("{prefix}.Id")).map(str::to_owned);
    structures(call, "Targets").into_iter().filter_map(id).collect()
}

fn no_target_group(arn: &str) -> ApiError {
    ApiError::new("TargetGroupNotFound", format!("Target groups '[{arn}]' not found"))
}

fn invalid_target(id: &str) -> ApiError {
    ApiError::new("InvalidTarget", format!("The following targets are not in a running state: '{id}'"))
}
