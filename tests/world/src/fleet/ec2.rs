//! EC2's calls about instances: descriptions with filters and pages, tags, terminations.

use jiff::Timestamp;

use crate::fleet::Fleet;
use crate::fleet::belongings::describe_instance_types;
use crate::fleet::instances::{Ec2Instance, Ec2State, EndOfInstance, SpotRequest};
use crate::fleet::parameters::{matches, page, plays_only, required, tags};
use crate::fleet::xml::{Answered, ApiError, Xml};
use crate::wire::ApiCall;

/// EC2 User Guide, "Tag restrictions": tags whose key begins with `aws:` do not count.
pub(super) const MAX_TAGS: usize = 50;

impl Fleet {
    /// Answers a description of EC2; `None` for any other call.
    pub(super) fn read_ec2(&self, call: &ApiCall, now: Timestamp) -> Option<Answered> {
        Some(match call.action.as_str() {
            "DescribeInstances" => self.describe_instances(call, now),
            "DescribeInstanceStatus" => self.describe_instance_status(call, now),
            "DescribeInstanceAttribute" => self.describe_instance_attribute(call, now),
            "DescribeSpotInstanceRequests" => self.describe_spot_requests(call),
            "DescribeSpotPriceHistory" => self.describe_spot_prices(call, now),
            "DescribeAvailabilityZones" => Ok(self.describe_zones(call)),
            "DescribeSubnets" => self.describe_subnets(call),
            "DescribeLaunchTemplateVersions" => self.describe_template_versions(call),
            "DescribeImages" => self.describe_images(call),
            "DescribeSnapshots" => self.describe_snapshots(call),
            "DescribeVolumes" => self.describe_volumes(call, now),
            "DescribeAddresses" => self.describe_addresses(call),
            "DescribeInstanceTypes" => Ok(describe_instance_types(call)),
            _ => return None,
        })
    }

    pub(super) fn change_ec2(&mut self, call: &ApiCall, now: Timestamp) -> Answered {
        match call.action.as_str() {
            "RunInstances" => self.run_instances(call, now),
            "TerminateInstances" => self.terminate_instances(call, now),
            "CreateTags" => self.create_tags(call, now),
            "DeleteTags" => self.delete_tags(call, now),
            "StopInstances" => self.stop_instances(call, now),
            "StartInstances" => self.start_instances(call, now),
            "AssociateAddress" => self.associate_address(call, now),
            "CreateImage" => self.create_image(call, now),
            "DeregisterImage" => self.deregister_image(call, now),
            "DeleteSnapshot" => self.delete_snapshot(call, now),
            "DeleteVolume" => self.delete_volume(call),
            other => Err(ApiError::not_played(other)),
        }
    }

    fn describe_instances(&self, call: &ApiCall, now: Timestamp) -> Answered {
        let ids = call.list("InstanceId");
        self.refuse_unknown(&ids, now)?;
        let filters = call.filters();
        let mut shown = Vec::new();
        for instance in self.instances.values() {
            let is_asked = ids.is_empty() || ids.contains(&instance.id.as_str());
            if is_asked && self.visible(&instance.id, now).is_some() && self.passes(instance, &filters)? {
                shown.push((instance.id.clone(), instance));
            }
        }
        let page = page(shown, call.parameter("NextToken"), self.page_size(call, "MaxResults")?)?;
        let mut xml = Xml::default();
        xml.list("reservationSet", "item", page.items, |xml, instance| self.write_reservation(xml, instance));
        xml.optional("nextToken", page.next);
        Ok(xml)
    }

    /// Writes the reservation of one launch, with its one instance.
    pub(super) fn write_reservation(&self, xml: &mut Xml, instance: &Ec2Instance) {
        xml.text("reservationId", format!("r-{}", instance.number()));
        xml.text("ownerId", &self.account);
        xml.list("instancesSet", "item", [instance], |xml, instance| self.write_instance(xml, instance));
    }

    /// Writes an instance. A terminated one has neither volumes nor addresses any more.
    fn write_instance(&self, xml: &mut Xml, instance: &Ec2Instance) {
        xml.text("instanceId", &instance.id);
        xml.text("imageId", &instance.image_id);
        xml.within("instanceState", |xml| state(xml, instance.state));
        xml.text("instanceType", &instance.instance_type);
        xml.time("launchTime", instance.started_at);
        xml.within("placement", |xml| {
            xml.text("availabilityZone", &instance.zone);
            xml.optional("availabilityZoneId", self.catalog.zone(&instance.zone).map(|zone| &zone.id));
            xml.text("groupName", instance.placement_group.as_deref().unwrap_or_default());
            xml.text("tenancy", "default");
        });
        xml.text("clientToken", &instance.client_token);
        let operation = self.catalog.usage_operations.get(&instance.image_id);
        xml.text("platformDetails", if operation.is_some() { "licensed" } else { "Linux/UNIX" });
        let end = if instance.is_spot() { self.habits.spot_operation_end } else { "" };
        xml.text("usageOperation", format!("{}{end}", operation.map_or("RunInstances", String::as_str)));
        if let Some(request) = &instance.spot_request_id {
            xml.text("instanceLifecycle", "spot");
            xml.text("spotInstanceRequestId", request);
        }
        if let Some((code, message)) = &instance.state_reason {
            xml.within("stateReason", |xml| {
                xml.text("code", code);
                xml.text("message", message);
            });
        }
        xml.tags(&instance.tags);
        xml.text("rootDeviceName", super::catalog::ROOT_DEVICE);
        if instance.state != Ec2State::Terminated {
            self.write_belongings(xml, instance);
        }
    }

    fn passes(&self, instance: &Ec2Instance, filters: &[(String, Vec<String>)]) -> Result<bool, ApiError> {
        for (name, wanted) in filters {
            let text = |text: &str| wanted.iter().any(|pattern| matches(pattern, text));
            let passes = match name.as_str() {
                "instance-id" => text(&instance.id),
                "instance-state-name" => text(instance.state.name()),
                "client-token" if self.habits.client_token_takes_wildcards => text(&instance.client_token),
                "client-token" => wanted.contains(&instance.client_token),
                "instance-type" => text(&instance.instance_type),
                "availability-zone" => text(&instance.zone),
                "instance-lifecycle" => instance.is_spot() && text("spot"),
                "tag-key" => instance.tags.keys().any(|key| text(key)),
                other => match other.strip_prefix("tag:") {
                    Some(key) => instance.tags.get(key).is_some_and(|value| text(value)),
                    None => return Err(unknown_filter(other)),
                },
            };
            if !passes {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// EC2 lists running instances only, unless it is asked for all.
    fn describe_instance_status(&self, call: &ApiCall, now: Timestamp) -> Answered {
        let ids = call.list("InstanceId");
        self.refuse_unknown(&ids, now)?;
        let running = self.instances.values().filter(|instance| instance.state == Ec2State::Running);
        let is_asked = |id: &str| ids.is_empty() || ids.contains(&id);
        let shown = running.filter(|i| is_asked(&i.id) && self.visible(&i.id, now).is_some());
        let mut xml = Xml::default();
        xml.list("instanceStatusSet", "item", shown, |xml, instance| {
            let is_young = now < instance.started_at + self.habits.passes_checks_after;
            let status = match (is_young, instance.is_impaired) {
                (true, _) => "initializing",
                (false, true) => "impaired",
                (false, false) => "ok",
            };
            xml.text("instanceId", &instance.id);
            xml.text("availabilityZone", &instance.zone);
            xml.within("instanceState", |xml| state(xml, instance.state));
            xml.within("systemStatus", |xml| xml.text("status", status));
            xml.within("instanceStatus", |xml| xml.text("status", status));
        });
        Ok(xml)
    }

    fn describe_instance_attribute(&self, call: &ApiCall, now: Timestamp) -> Answered {
        let (id, attribute) = (required(call, "InstanceId")?, required(call, "Attribute")?);
        let instance = self.visible(id, now).ok_or_else(|| unknown_instance(id))?;
        let value = match attribute {
            "disableApiTermination" => instance.disable_api_termination.to_string(),
            "disableApiStop" => instance.disable_api_stop.to_string(),
            "instanceInitiatedShutdownBehavior" => "stop".to_owned(),
            "userData" => String::new(),
            other => return Err(ApiError::not_played(&format!("attribute {other}"))),
        };
        let mut xml = Xml::default();
        xml.text("instanceId", id);
        xml.within(attribute, |xml| xml.text("value", value));
        Ok(xml)
    }

    fn describe_spot_requests(&self, call: &ApiCall) -> Answered {
        let filters = call.filters();
        let mut shown = Vec::new();
        for request in self.spot_requests.values() {
            if request_passes(request, &filters)? {
                shown.push((request.id.clone(), request));
            }
        }
        let page = page(shown, call.parameter("NextToken"), self.page_size(call, "MaxResults")?)?;
        let mut xml = Xml::default();
        xml.list("spotInstanceRequestSet", "item", page.items, |xml, request| {
            let zone_id = self.catalog.zone(&request.zone).map(|zone| &zone.id);
            xml.text("spotInstanceRequestId", &request.id);
            xml.text("type", "one-time");
            xml.text("state", if request.is_active { "active" } else { "closed" });
            xml.within("status", |xml| xml.text("code", &request.status_code));
            xml.text("instanceId", &request.instance_id);
            xml.within("launchSpecification", |xml| xml.text("instanceType", &request.instance_type));
            xml.text("launchedAvailabilityZone", &request.zone);
            xml.optional("launchedAvailabilityZoneId", zone_id);
            xml.time("createTime", request.created_at);
        });
        xml.optional("nextToken", page.next);
        Ok(xml)
    }

    /// Terminates instances. A second call for the same instance succeeds and changes nothing, and so does the first one
    /// for an instance that is dying already.
    fn terminate_instances(&mut self, call: &ApiCall, now: Timestamp) -> Answered {
        plays_only(call, &["InstanceId"])?;
        let ids = call.list("InstanceId");
        self.refuse_unknown(&ids, now)?;
        for id in &ids {
            self.refuse_protected(id)?;
        }
        let mut xml = Xml::default();
        xml.list("instancesSet", "item", ids, |xml, id| {
            let before = self.instances.get(id).map(|instance| instance.state);
            self.end_instance(id, EndOfInstance::ByUser, now);
            let after = self.instances.get(id).map(|instance| instance.state);
            xml.text("instanceId", id);
            for (name, at) in [("previousState", before), ("currentState", after)] {
                xml.within(name, |xml| at.into_iter().for_each(|at| state(xml, at)));
            }
        });
        Ok(xml)
    }

    /// Stop protection keeps an instance from being terminated, too.
    /// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-stop-protection.html>
    pub(super) fn refuse_protected(&self, id: &str) -> Result<(), ApiError> {
        let Some(instance) = self.instances.get(id).filter(|instance| !instance.state.is_ending()) else {
            return Ok(());
        };
        let attribute = match (instance.disable_api_termination, instance.disable_api_stop) {
            (true, _) => "disableApiTermination",
            (_, true) => "disableApiStop",
            _ => return Ok(()),
        };
        let text = format!(
            "The instance '{id}' may not be terminated. Modify its '{attribute}' instance attribute and try again."
        );
        Err(ApiError::new("OperationNotPermitted", text))
    }

    fn create_tags(&mut self, call: &ApiCall, now: Timestamp) -> Answered {
        plays_only(call, &["ResourceId", "Tag"])?;
        let (ids, tags) = (call.list("ResourceId"), tags(call, "Tag"));
        self.refuse_unknown(&ids, now)?;
        if tags.keys().any(|key| key.starts_with("aws:")) {
            let text = "Tag keys starting with 'aws:' are reserved for internal use";
            return Err(ApiError::new("InvalidParameterValue", text));
        }
        for id in &ids {
            let keys = self.instances.get(*id).into_iter().flat_map(|instance| instance.tags.keys());
            refuse_too_many(keys.chain(tags.keys()))?;
        }
        for id in ids {
            if let Some(instance) = self.instances.get_mut(id) {
                instance.tags.extend(tags.clone());
            }
        }
        Ok(done())
    }

    fn delete_tags(&mut self, call: &ApiCall, now: Timestamp) -> Answered {
        plays_only(call, &["ResourceId", "Tag"])?;
        let (ids, tags) = (call.list("ResourceId"), tags(call, "Tag"));
        self.refuse_unknown(&ids, now)?;
        for id in ids {
            if let Some(instance) = self.instances.get_mut(id) {
                instance.tags.retain(|key, _| !tags.contains_key(key));
            }
        }
        Ok(done())
    }

    /// Refuses ids that EC2 does not know, or does not show yet.
    pub(super) fn refuse_unknown(&self, ids: &[&str], now: Timestamp) -> Result<(), ApiError> {
        match ids.iter().find(|id| self.visible(id, now).is_none()) {
            Some(unknown) => Err(unknown_instance(unknown)),
            None => Ok(()),
        }
    }
}

pub(super) fn state(xml: &mut Xml, state: Ec2State) {
    xml.text("code", state.code());
    xml.text("name", state.name());
}

fn request_passes(request: &SpotRequest, filters: &[(String, Vec<String>)]) -> Result<bool, ApiError> {
    for (name, wanted) in filters {
        let value = match name.as_str() {
            "instance-id" => &request.instance_id,
            "spot-instance-request-id" => &request.id,
            other => return Err(unknown_filter(other)),
        };
        if !wanted.iter().any(|pattern| matches(pattern, value)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Refuses more tags than an instance can have.
pub(super) fn refuse_too_many<'a>(keys: impl Iterator<Item = &'a String>) -> Result<(), ApiError> {
    let own: std::collections::BTreeSet<_> = keys.filter(|key| !key.starts_with("aws:")).collect();
    if own.len() > MAX_TAGS {
        let text = "The maximum number of Tags for a resource has been reached.";
        return Err(ApiError::new("TagLimitExceeded", text));
    }
    Ok(())
}

pub(super) fn done() -> Xml {
    let mut xml = Xml::default();
    xml.text("return", true);
    xml
}

pub(super) fn unknown_filter(name: &str) -> ApiError {
    ApiError::new("InvalidParameterValue", format!("The filter '{name}' is invalid"))
}

pub(super) fn unknown_instance(id: &str) -> ApiError {
    ApiError::new("InvalidInstanceID.NotFound", format!("The instance ID '{id}' does not exist"))
}
