//! The choices of AWS and of the owner: a schedule calls these methods.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::fleet::Fleet;
use crate::fleet::agenda::DueChange;
use crate::fleet::catalog::{LaunchConfiguration, TemplateVersion, Zone};
use crate::fleet::groups::{AutoScalingGroup, GroupLaunch, GroupMember, LifecycleState, ScheduledScaling};
use crate::fleet::instances::{EndOfInstance, GROUP_TAG};
use crate::fleet::launches::{InstanceLaunch, PoolRefusal};
use crate::fleet::load_balancing::{RegisteredTarget, TargetPhase};
use crate::fleet::sizes::Sizes;

/// A step of a group towards its desired capacity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupActivity {
    /// The group has launched this instance.
    Launched(String),
    /// The group terminates this member.
    Terminates(String),
    /// EC2 has refused the launch in every zone; this is the last code.
    LaunchRefused(String),
}

/// The choices of Auto Scaling and EC2.
impl Fleet {
    /// Returns the groups that count more or fewer members than they want.
    #[must_use]
    pub fn unsettled(&self) -> Vec<&str> {
        let groups = self.groups.values().filter(|group| group.counted() != group.desired);
        groups.map(|group| group.name.as_str()).collect()
    }

    /// Lets a group launch what it lacks, or terminate what it has beyond desired, unless a suspended process forbids it.
    ///
    /// `victim` chooses among the members that are not protected from scale-in, one after another: a custom termination
    /// policy may choose any. A member that is not in service yet may be chosen, too, as in `_scale_in_takes_time` of
    /// `endpoint/scaling.py`.
    pub fn group_acts(&mut self, name: &str, victim: usize, now: Timestamp) -> Vec<GroupActivity> {
        let Some(group) = self.groups.get(name) else { return Vec::new() };
        let (counted, desired) = (group.counted(), group.desired);
        if counted < desired && !group.is_suspended("Launch") {
            return (counted..desired).map(|_| self.launch_for(name, false, now)).collect();
        }
        if counted > desired && !group.is_suspended("Terminate") {
            return (desired..counted).filter_map(|_| self.scale_in(name, victim, now)).collect();
        }
        Vec::new()
    }

    fn scale_in(&mut self, name: &str, victim: usize, now: Timestamp) -> Option<GroupActivity> {
        let group = self.groups.get(name)?;
        let may_go =
            |member: &&GroupMember| member.state.is_counted() && !member.is_protected && !member.is_extra;
        let candidates: Vec<_> = group.members.iter().filter(may_go).collect();
        let id = candidates.get(victim.checked_rem(candidates.len())?)?.instance_id.clone();
        self.begin_termination(name, &id, now);
        Some(GroupActivity::Terminates(id))
    }

    /// Lets AZRebalance launch one member beyond desired, into the zone with the fewest, if the zones are not in balance.
    /// Once it is in service, [`Fleet::group_acts`] terminates another. Even MaxSize is exceeded by one.
    /// <https://docs.aws.amazon.com/autoscaling/ec2/userguide/auto-scaling-benefits.html#AutoScalingBehavior.InstanceUsage>
    pub fn rebalance(&mut self, name: &str, now: Timestamp) -> Option<GroupActivity> {
        let group = self.groups.get(name)?;
        let is_suspended = ["AZRebalance", "Launch"].iter().any(|process| group.is_suspended(process));
        let sizes: Vec<usize> =
            self.zones_of(group).iter().map(|zone| self.members_in(group, zone)).collect();
        let is_balanced = sizes.iter().max()?.abs_diff(*sizes.iter().min()?) <= 1;
        let is_under_way = group.members.iter().any(|member| member.is_extra);
        if is_suspended || is_balanced || is_under_way || group.is_being_deleted {
            return None;
        }
        Some(self.launch_for(name, true, now))
    }

    /// Gives the two minutes' notice of an interruption, which comes at `at`. Returns false for an instance that is not
    /// Spot, or not alive.
    pub fn interrupt(&mut self, id: &str, at: Timestamp) -> bool {
        let instance = self.instances.get(id).filter(|instance| instance.state.is_alive());
        let request = instance.and_then(|instance| instance.spot_request_id.as_ref());
        let Some(request) = request.and_then(|request| self.spot_requests.get_mut(request)) else {
            return false;
        };
        "marked-for-termination".clone_into(&mut request.status_code);
        self.at(at, DueChange::SpotInterrupted(id.to_owned()));
        true
    }

    /// Returns true if EC2 has given notice to the instance.
    #[must_use]
    pub fn is_taken_back(&self, id: &str) -> bool {
        let request = self.instances.get(id).and_then(|instance| instance.spot_request_id.as_ref());
        let request = request.and_then(|request| self.spot_requests.get(request));
        request.is_some_and(|request| request.status_code == "marked-for-termination")
    }

    /// Returns the members that are in service and fail the health checks of a target group.
    #[must_use]
    pub fn unhealthy_members(&self, name: &str) -> Vec<&str> {
        let Some(group) = self.groups.get(name) else { return Vec::new() };
        let targets = || group.target_group_arns.iter().filter_map(|arn| self.target_groups.get(arn));
        let fails = |id: &str| {
            targets()
                .any(|it| it.targets.get(id).is_some_and(|target| target.phase == TargetPhase::Unhealthy))
        };
        let in_service = group.members.iter().filter(|member| member.state == LifecycleState::InService);
        in_service.map(|member| member.instance_id.as_str()).filter(|id| fails(id)).collect()
    }

    /// Lets an instance end by itself.
    pub fn instance_dies(&mut self, id: &str, now: Timestamp) {
        self.end_instance(id, EndOfInstance::InternalError, now);
    }

    /// Lets the status checks of an instance fail from now on.
    pub fn status_checks_fail(&mut self, id: &str) {
        if let Some(instance) = self.instances.get_mut(id) {
            instance.is_impaired = true;
        }
    }

    /// Lets the health checks of all target groups fail for an instance, or pass again.
    pub fn set_target_health(&mut self, id: &str, is_healthy: bool) {
        let phase = if is_healthy { TargetPhase::Healthy } else { TargetPhase::Unhealthy };
        let targets = self.target_groups.values_mut().filter_map(|group| group.targets.get_mut(id));
        for target in targets.filter(|target| target.phase != TargetPhase::Draining) {
            *target = RegisteredTarget { phase, proceeds_at: None };
        }
    }

    /// Lets EC2 refuse such launches from now on.
    pub fn refuse_launches(&mut self, refusal: PoolRefusal) {
        self.refusals.push(refusal);
    }

    /// Lets EC2 accept all launches again.
    pub fn accept_launches(&mut self) {
        self.refusals.clear();
    }

    /// Lets Spot cost as much as On-Demand from now on.
    /// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/using-spot-instances-history.html>
    pub fn spot_prices_rise(&mut self) {
        let catalog = self.catalog_mut();
        for ((kind, _), usd) in &mut catalog.spot {
            if let Some(on_demand) = catalog.on_demand.get(kind) {
                *usd = *on_demand;
            }
        }
    }
}

/// The actions of the owner of a group, and of its scaling policies. A false result means that AWS refuses.
impl Fleet {
    /// Sets desired.
    pub fn set_desired(&mut self, name: &str, desired: u32) -> bool {
        self.want(name, desired).is_ok()
    }

    /// Sets MaxSize. Below desired, it lowers desired.
    pub fn set_max(&mut self, name: &str, max: u32) -> bool {
        self.resize(name, Sizes { max: Some(max), ..Sizes::default() }).is_ok()
    }

    /// Sets MinSize. Above desired, it raises desired.
    pub fn set_min(&mut self, name: &str, min: u32) -> bool {
        self.resize(name, Sizes { min: Some(min), ..Sizes::default() }).is_ok()
    }

    /// Lets a scaling policy change desired, within the bounds of the group.
    /// <https://docs.aws.amazon.com/autoscaling/ec2/userguide/asg-capacity-limits.html>
    pub fn scale(&mut self, name: &str, by: i32, now: Timestamp) -> bool {
        let Some(group) = self.groups.get_mut(name) else { return false };
        if group.is_suspended("AlarmNotification") || group.is_being_deleted {
            return false;
        }
        let before = group.desired;
        group.desired = before.saturating_add_signed(by).clamp(group.min, group.max);
        if group.desired > before {
            group.scaled_out_at = Some(now);
        }
        true
    }

    /// Protects a member from scale-in, or takes the protection away.
    pub fn protect(&mut self, name: &str, id: &str, is_protected: bool) -> bool {
        let member = self.groups.get_mut(name).and_then(|group| group.member_mut(id));
        member.map(|member| member.is_protected = is_protected).is_some()
    }

    /// Sets or removes the termination protection of an instance.
    pub fn protect_from_termination(&mut self, id: &str, is_protected: bool) {
        if let Some(instance) = self.instances.get_mut(id) {
            instance.disable_api_termination = is_protected;
        }
    }

    /// Sets or removes the stop protection of an instance.
    pub fn protect_from_stop(&mut self, id: &str, is_protected: bool) {
        if let Some(instance) = self.instances.get_mut(id) {
            instance.disable_api_stop = is_protected;
        }
    }

    /// Suspends a process of a group.
    pub fn suspend(&mut self, name: &str, process: &str) -> bool {
        self.groups.get_mut(name).map(|group| group.suspended.insert(process.to_owned())).is_some()
    }

    /// Resumes a process of a group.
    pub fn resume(&mut self, name: &str, process: &str, now: Timestamp) -> bool {
        let is_known = self.groups.get_mut(name).map(|group| group.suspended.remove(process)).is_some();
        self.look_for_deaths(name, now);
        is_known
    }

    /// Plans a scheduled action, which sets desired within the bounds of the group.
    pub fn schedule(&mut self, name: &str, action: ScheduledScaling) -> bool {
        let Some(group) = self.groups.get_mut(name) else { return false };
        let (at, action_name) = (action.at, action.name.clone());
        group.scheduled.push(action);
        self.at(at, DueChange::ActionRuns { group: name.to_owned(), action: action_name });
        true
    }

    /// Detaches a member, with or without decrement.
    pub fn owner_detaches(&mut self, name: &str, id: &str, decrement: bool, now: Timestamp) -> bool {
        self.detach_members(name, &[id], decrement, now).is_ok()
    }

    /// Terminates an instance by EC2's own call, protected or not.
    pub fn owner_terminates(&mut self, id: &str, now: Timestamp) {
        self.end_instance(id, EndOfInstance::ByUser, now);
    }

    /// Begins the deletion of a group with its members (`ForceDelete`), without their hooks. The group is described until
    /// the last of them has left. A member that is Detaching goes on to leave alive.
    /// <https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_DeleteAutoScalingGroup.html>
    pub fn delete_group(&mut self, name: &str, now: Timestamp) -> bool {
        let Some(group) = self.groups.get_mut(name) else { return false };
        (group.is_being_deleted, group.min, group.max, group.desired) = (true, 0, 0, 0);
        if group.members.is_empty() {
            self.groups.remove(name);
            return true;
        }
        let stay = group.members.iter().filter(|member| member.state != LifecycleState::Detaching);
        let ids: Vec<String> = stay.map(|member| member.instance_id.clone()).collect();
        for id in ids {
            self.terminate_member(name, &id, now);
        }
        true
    }

    /// Returns a group, for a change by its owner that has no method of its own: tags, hooks, the launch template.
    pub fn group_mut(&mut self, name: &str) -> Option<&mut AutoScalingGroup> {
        self.groups.get_mut(name)
    }

    /// Sets a tag of an instance, or removes it.
    pub fn tag_instance(&mut self, id: &str, key: &str, value: Option<&str>) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        match value {
            Some(value) => drop(instance.tags.insert(key.to_owned(), value.to_owned())),
            None => drop(instance.tags.remove(key)),
        }
    }
}

/// The launches of a group.
impl Fleet {
    fn zones_of(&self, group: &AutoScalingGroup) -> Vec<Zone> {
        group.subnet_ids.iter().filter_map(|subnet| self.catalog.subnet(subnet).cloned()).collect()
    }

    fn members_in(&self, group: &AutoScalingGroup, zone: &Zone) -> usize {
        let is_in = |id: &str| self.instances.get(id).is_some_and(|instance| instance.zone == zone.name);
        let counted = group.members.iter().filter(|member| member.state.is_counted());
        counted.filter(|member| is_in(&member.instance_id)).count()
    }

    /// Launches one member into the zone with the fewest members, or into the next one if EC2 refuses.
    fn launch_for(&mut self, name: &str, is_extra: bool, now: Timestamp) -> GroupActivity {
        let Some(group) = self.groups.get(name) else {
            return GroupActivity::LaunchRefused("the group is gone".to_owned());
        };
        let mut zones = self.zones_of(group);
        zones.sort_by_key(|zone| self.members_in(group, zone));
        let mut refused = "ValidationError".to_owned();
        for zone in zones {
            let Some((launch, template)) = self.launch_of(name, zone) else { continue };
            match self.refuse_launch(&launch) {
                Ok(()) => return self.launch_member(name, launch, template, is_extra, now),
                Err(error) => refused = error.code,
            }
        }
        GroupActivity::LaunchRefused(refused)
    }

    /// Returns true if the next member is Spot: a mixed-instances policy has its On-Demand share already.
    fn wants_spot(&self, group: &AutoScalingGroup) -> bool {
        let is_on_demand = |id: &str| self.instances.get(id).is_some_and(|instance| !instance.is_spot());
        let counted = group.members.iter().filter(|member| member.state.is_counted());
        let on_demand = counted.filter(|member| is_on_demand(&member.instance_id)).count();
        let share = group.desired.saturating_mul(group.on_demand_percentage).div_ceil(100);
        !group.overrides.is_empty() && u32::try_from(on_demand).is_ok_and(|count| count >= share)
    }

    fn launch_member(
        &mut self,
        name: &str,
        launch: InstanceLaunch,
        template: Option<(String, u32)>,
        is_extra: bool,
        now: Timestamp,
    ) -> GroupActivity {
        let id = self.launch(launch, now).id;
        let Some(group) = self.groups.get_mut(name) else { return GroupActivity::Launched(id) };
        let member = GroupMember {
            instance_id: id.clone(),
            state: LifecycleState::Pending,
            is_protected: group.protects_new_members,
            is_attached: false,
            template,
            is_extra,
            is_unhealthy: false,
            proceeds_at: None,
        };
        group.members.push(member);
        self.plan_member(name, &id, now + self.habits.boots_after + self.habits.attach_lag);
        GroupActivity::Launched(id)
    }

    /// Returns the next launch of a group: the first override's type, from the template's version of today.
    pub(super) fn launch_of(
        &self,
        name: &str,
        zone: Zone,
    ) -> Option<(InstanceLaunch, Option<(String, u32)>)> {
        let group = self.groups.get(name)?;
        let (source, template) = match &group.launch {
            GroupLaunch::Template { id, version } => {
                let (number, data) = self.catalog.templates.get(id)?.version(version)?;
                (data.clone(), Some((id.clone(), number)))
            }
            GroupLaunch::Configuration(name) => {
                let LaunchConfiguration { image_id, instance_type } =
                    self.catalog.configurations.get(name)?.clone();
                (TemplateVersion { image_id, instance_type, ..TemplateVersion::default() }, None)
            }
        };
        let mut tags = source.tags;
        tags.extend(group.propagated_tags());
        tags.insert(GROUP_TAG.to_owned(), group.name.clone());
        let launch = InstanceLaunch {
            instance_type: group.overrides.first().cloned().unwrap_or(source.instance_type),
            image_id: source.image_id,
            zone,
            is_spot: source.is_spot || self.wants_spot(group),
            max_price: None,
            client_token: format!("fleet-{}", self.counter),
            tags,
            disable_api_termination: source.disable_api_termination,
            disable_api_stop: source.disable_api_stop,
            placement_group: group.placement_group.clone(),
            volume_tags: BTreeMap::new(),
        };
        Some((launch, template))
    }
}
