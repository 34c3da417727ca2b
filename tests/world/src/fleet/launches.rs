//! Launches: RunInstances with its ClientToken and its refusals, and the launches that groups make themselves.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::fleet::Fleet;
use crate::fleet::agenda::DueChange;
use crate::fleet::catalog::{TemplateVersion, Zone, millionths, usd};
use crate::fleet::descriptions::{no_template, no_version};
use crate::fleet::ec2::refuse_too_many;
use crate::fleet::instances::{Ec2Instance, Ec2State, SpotRequest};
use crate::fleet::parameters::{is_true, plays_only, required, structures, tags};
use crate::fleet::xml::{Answered, ApiError, Xml};
use crate::wire::{ApiCall, CallBody};

/// The parameters that a launch from a template or a launch configuration may have.
const PLAYED: [&str; 20] = [
    "BlockDeviceMapping",
    "ClientToken",
    "DisableApiStop",
    "DisableApiTermination",
    "DryRun",
    "EbsOptimized",
    "IamInstanceProfile",
    "ImageId",
    "InstanceInitiatedShutdownBehavior",
    "InstanceMarketOptions",
    "InstanceType",
    "LaunchTemplate",
    "MaxCount",
    "MetadataOptions",
    "MinCount",
    "Monitoring",
    "NetworkInterface",
    "Placement",
    "SecurityGroupId",
    "SubnetId",
];
const ALSO_PLAYED: [&str; 3] = ["TagSpecification", "KeyName", "UserData"];

/// A refusal of launches that a schedule asks for. A field that is `None` stands for all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolRefusal {
    /// Spot alone, On-Demand alone, or both.
    pub is_spot: Option<bool>,
    pub instance_type: Option<String>,
    /// The zone's name.
    pub zone: Option<String>,
    pub status: u16,
    pub code: String,
    pub message: String,
}

impl PoolRefusal {
    /// Returns the refusal of a pool without capacity, in both markets. It comes as HTTP 500.
    /// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html>
    #[must_use]
    pub fn insufficient_capacity(instance_type: &str, zone: &str) -> Self {
        Self {
            is_spot: None,
            instance_type: Some(instance_type.to_owned()),
            zone: Some(zone.to_owned()),
            status: 500,
            code: "InsufficientInstanceCapacity".to_owned(),
            message: format!("We currently do not have sufficient {instance_type} capacity in {zone}."),
        }
    }

    /// Returns the refusal of an account whose Spot quota is used up.
    #[must_use]
    pub fn spot_quota() -> Self {
        Self {
            is_spot: Some(true),
            instance_type: None,
            zone: None,
            status: 400,
            code: "MaxSpotInstanceCountExceeded".to_owned(),
            message: "Max spot instance count exceeded".to_owned(),
        }
    }

    fn is_about(&self, launch: &InstanceLaunch) -> bool {
        self.is_spot.is_none_or(|is_spot| is_spot == launch.is_spot)
            && self.instance_type.as_ref().is_none_or(|kind| *kind == launch.instance_type)
            && self.zone.as_ref().is_none_or(|zone| *zone == launch.zone.name)
    }
}

/// A launch that a ClientToken stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PastLaunch {
    parameters: BTreeMap<String, String>,
    /// The instance. EC2 may have forgotten it by the time of a repetition.
    id: String,
}

/// One launch, template and request taken together.
#[derive(Debug, Clone)]
pub(super) struct InstanceLaunch {
    pub(super) instance_type: String,
    pub(super) image_id: String,
    pub(super) zone: Zone,
    pub(super) is_spot: bool,
    pub(super) max_price: Option<String>,
    pub(super) client_token: String,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) disable_api_termination: bool,
    pub(super) disable_api_stop: bool,
    pub(super) placement_group: Option<String>,
    pub(super) volume_tags: BTreeMap<String, String>,
}

impl Fleet {
    pub(super) fn run_instances(&mut self, call: &ApiCall, now: Timestamp) -> Answered {
        plays_only(call, &[&PLAYED[..], &ALSO_PLAYED].concat())?;
        let launch = self.requested(call)?;
        let parameters = match &call.body {
            CallBody::Query(parameters) => parameters.clone(),
            CallBody::Json(_) => BTreeMap::new(),
        };
        let token = (launch.client_token.clone(), launch.zone.name.clone());
        let instance = match self.launches.get(&token).filter(|_| !launch.client_token.is_empty()) {
            Some(past) if past.parameters == parameters => {
                let known = self.instances.get(&past.id).filter(|known| known.state != Ec2State::Terminated);
                known.ok_or_else(launched_has_ended)?.clone()
            }
            Some(_) => return Err(mismatch()),
            None => {
                self.refuse_launch(&launch)?;
                if is_true(call, "DryRun") {
                    return Err(would_have_succeeded());
                }
                let instance = self.launch(launch, now);
                self.launches.insert(token, PastLaunch { parameters, id: instance.id.clone() });
                instance
            }
        };
        let mut xml = Xml::default();
        self.write_reservation(&mut xml, &instance);
        Ok(xml)
    }

    /// Puts template and request together: a parameter of the request takes the place of the template's.
    /// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-launch-templates.html>
    fn requested(&self, call: &ApiCall) -> Result<InstanceLaunch, ApiError> {
        if (required(call, "MinCount")?, required(call, "MaxCount")?) != ("1", "1") {
            return Err(ApiError::not_played("a launch of several instances"));
        }
        let template = self.template_of(call)?;
        let of_template = |value: &str| Some(value.to_owned()).filter(|value| !value.is_empty());
        let text = |name: &str| call.parameter(name).map(str::to_owned);
        let flag = |name: &str, of_template: bool| match call.parameter(name) {
            Some(value) => value == "true",
            None => of_template,
        };
        let market = call.parameter("InstanceMarketOptions.MarketType");
        let mut all_tags = template.tags.clone();
        all_tags.extend(tags_for(call, "instance"));
        let instance_type = text("InstanceType").or_else(|| of_template(&template.instance_type));
        let image_id = text("ImageId").or_else(|| of_template(&template.image_id));
        Ok(InstanceLaunch {
            instance_type: instance_type.ok_or_else(|| missing("InstanceType"))?,
            image_id: image_id.ok_or_else(|| missing("ImageId"))?,
            zone: self.zone_of(call)?,
            is_spot: market.map_or(template.is_spot, |market| market == "spot"),
            max_price: text("InstanceMarketOptions.SpotOptions.MaxPrice"),
            client_token: text("ClientToken").unwrap_or_default(),
            tags: all_tags,
            disable_api_termination: flag("DisableApiTermination", template.disable_api_termination),
            disable_api_stop: flag("DisableApiStop", template.disable_api_stop),
            placement_group: text("Placement.GroupName"),
            volume_tags: tags_for(call, "volume"),
        })
    }

    fn template_of(&self, call: &ApiCall) -> Result<TemplateVersion, ApiError> {
        let id = call.parameter("LaunchTemplate.LaunchTemplateId");
        let name = call.parameter("LaunchTemplate.LaunchTemplateName");
        if id.or(name).is_none() {
            return Ok(TemplateVersion::default());
        }
        let template = self.catalog.template(id, name).ok_or_else(|| no_template(id, name))?;
        let version = call.parameter("LaunchTemplate.Version").unwrap_or("$Default");
        let found = template.version(version).ok_or_else(|| no_version(template, version))?;
        Ok(found.1.clone())
    }

    fn zone_of(&self, call: &ApiCall) -> Result<Zone, ApiError> {
        let in_interface = call.parameter("NetworkInterface.1.SubnetId");
        let subnet = call.parameter("SubnetId").or(in_interface).ok_or_else(|| missing("SubnetId"))?;
        let unknown = || {
            let text = format!("The subnet ID '{subnet}' does not exist");
            ApiError::new("InvalidSubnetID.NotFound", text)
        };
        self.catalog.subnet(subnet).cloned().ok_or_else(unknown)
    }

    /// Refuses a launch as EC2 does, before anything of it exists.
    pub(super) fn refuse_launch(&self, launch: &InstanceLaunch) -> Result<(), ApiError> {
        self.refuse_image(&launch.image_id)?;
        if !self.catalog.on_demand.contains_key(&launch.instance_type) {
            let text = format!("Invalid value '{}' for InstanceType.", launch.instance_type);
            return Err(ApiError::new("InvalidParameterValue", text));
        }
        refuse_too_many(launch.tags.keys())?;
        if !launch.zone.has_free_addresses {
            let text = format!(
                "There are not enough free addresses in subnet '{}' to satisfy the requested number of instances.",
                launch.zone.subnet_id
            );
            return Err(ApiError::new("InsufficientFreeAddressesInSubnet", text));
        }
        if launch.is_spot {
            self.refuse_spot(launch)?;
        }
        let refused = self.refusals.iter().find(|refusal| refusal.is_about(launch));
        refused.map_or(Ok(()), |refusal| {
            Err(ApiError { status: refusal.status, ..ApiError::new(&refusal.code, refusal.message.as_str()) })
        })
    }

    /// As `_refuse_spot` in `endpoint/launches.py` of local AWS. One-time Spot has no protections:
    /// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_ChangingDisableAPITermination.html>
    fn refuse_spot(&self, launch: &InstanceLaunch) -> Result<(), ApiError> {
        if launch.disable_api_termination || launch.disable_api_stop {
            let text = "Termination protection and stop protection can't be enabled for Spot Instances.";
            return Err(ApiError::new("InvalidParameterCombination", text));
        }
        let pool = (launch.instance_type.clone(), launch.zone.name.clone());
        let (Some(price), Some(now)) = (&launch.max_price, self.catalog.spot.get(&pool)) else {
            return Ok(());
        };
        let refused = |code, text: String| Err(ApiError::new(code, text));
        match millionths(price) {
            None | Some(0..1_000) => {
                refused("InvalidParameterValue", format!("The spot max price {price} is invalid."))
            }
            Some(most) if most < *now => refused(
                "SpotMaxPriceTooLow",
                format!(
                    "Your Spot request price of {price} is lower than the minimum required Spot request fulfillment \
                     price of {}.",
                    usd(*now)
                ),
            ),
            Some(_) => Ok(()),
        }
    }

    /// Launches an instance, which nothing refuses any more.
    pub(super) fn launch(&mut self, launch: InstanceLaunch, now: Timestamp) -> Ec2Instance {
        let keeps_volume = self.keeps_volume(&launch.image_id);
        self.counter += 1;
        let id = format!("i-{:017x}", self.counter);
        let spot_request_id = launch.is_spot.then(|| format!("sir-{:08x}", self.counter));
        if let Some(request) = &spot_request_id {
            let request = SpotRequest {
                id: request.clone(),
                instance_id: id.clone(),
                instance_type: launch.instance_type.clone(),
                zone: launch.zone.name.clone(),
                created_at: now,
                is_active: true,
                status_code: "fulfilled".to_owned(),
            };
            self.spot_requests.insert(request.id.clone(), request);
        }
        let instance = Ec2Instance {
            id: id.clone(),
            instance_type: launch.instance_type,
            zone: launch.zone.name,
            subnet_id: launch.zone.subnet_id,
            image_id: launch.image_id,
            state: Ec2State::Pending,
            state_reason: None,
            spot_request_id,
            client_token: launch.client_token,
            tags: launch.tags,
            launched_at: now,
            started_at: now,
            volume_tags: launch.volume_tags,
            keeps_volume,
            disable_api_termination: launch.disable_api_termination,
            disable_api_stop: launch.disable_api_stop,
            placement_group: launch.placement_group,
            is_impaired: false,
        };
        self.instances.insert(id.clone(), instance.clone());
        self.at(now + self.habits.boots_after, DueChange::InstanceRuns(id));
        instance
    }
}

/// Returns the tags that a call gives to what it makes of this type.
pub(super) fn tags_for(call: &ApiCall, resource_type: &str) -> BTreeMap<String, String> {
    let is_for = |prefix: &String| call.parameter(&format!("{prefix}.ResourceType")) == Some(resource_type);
    let specifications = structures(call, "TagSpecification").into_iter().filter(is_for);
    specifications.flat_map(|prefix| tags(call, &format!("{prefix}.Tag"))).collect()
}

fn missing(name: &str) -> ApiError {
    ApiError::new("MissingParameter", format!("The request must contain the parameter {name}"))
}

/// The token is looked up within its zone only, since a subnet names one. The same token launches anew in another zone.
/// <https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-idempotency.html>
fn mismatch() -> ApiError {
    let text =
        "Arguments on this idempotent request are inconsistent with arguments used in previous request(s).";
    ApiError::new("IdempotentParameterMismatch", text)
}

/// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html>
fn launched_has_ended() -> ApiError {
    let text = "The client token was used in a request whose instance has been terminated.";
    ApiError::new("IdempotentInstanceTerminated", text)
}

fn would_have_succeeded() -> ApiError {
    let text = "Request would have succeeded, but DryRun flag is set.";
    ApiError { status: 412, ..ApiError::new("DryRunOperation", text) }
}
