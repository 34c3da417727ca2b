//! The only place that launches an instance. A Spot launch uses up a [`ClearedPool`], an On-Demand one the right that
//! the journal of its swap gives ([`OnDemandLaunch`]).

use aws_sdk_autoscaling::types::LaunchConfiguration;
use aws_sdk_ec2::config::retry::RetryConfig;
use aws_sdk_ec2::types as ec2;
use spot_domain::Usd;
use spot_domain::ids::{AzId, InstanceId, InstanceType};
use spot_domain::swap::journal::OnDemandLaunch;
use spot_domain::swap::market::Market;
use spot_domain::tags::Tags;

use crate::clients::RegionClients;
use crate::error::{CallError, Kind, failed};
use crate::launch::configuration;
use crate::launch::gatekeeper::ClearedPool;
use crate::launch::template::{ResolvedTemplate, TemplatePlacement};
use crate::launch::twin::{self, Twin};

const RUN: &str = "ec2:RunInstances";

/// The source of a launch: its owner's configuration, never ours.
#[derive(Debug, Clone)]
pub enum Blueprint {
    /// A launch template, its version resolved.
    Template(Box<ResolvedTemplate>),
    /// A launch configuration, as it is now.
    Configuration(Box<LaunchConfiguration>),
    /// Another instance, as the last look before the launch has found it.
    Twin(Twin),
}

/// One launch of one type in one zone.
#[derive(Debug, Clone)]
pub struct Order {
    /// The source of the launch.
    pub blueprint: Blueprint,
    /// The image, if the group names one for this type.
    pub image_id: Option<String>,
    /// The group's placement group.
    pub placement_group: Option<String>,
    /// The most that the group's owner pays for Spot, in US dollars an hour.
    pub spot_max_price: Option<Usd>,
    /// The zone's name.
    pub availability_zone: String,
    /// The zone's id.
    pub az_id: AzId,
    /// The subnet, which is in that zone.
    pub subnet_id: String,
    /// The tags, which the instance has from its launch.
    pub tags: Tags,
}

/// Launches instances in one account and region.
#[derive(Debug, Clone)]
pub struct Launcher {
    clients: RegionClients,
}

impl Launcher {
    /// Returns a launcher over these clients.
    #[must_use]
    pub fn new(clients: &RegionClients) -> Self {
        Self { clients: clients.clone() }
    }

    /// Launches one one-time Spot instance from the cleared pool.
    ///
    /// A repeated call with the same token launches nothing more. The SDK does not repeat the call:
    /// `InsufficientInstanceCapacity` comes as HTTP 500, and EC2 would be hammered.
    ///
    /// # Errors
    /// EC2 refuses ([`Kind`] says what to do), or the proof has expired.
    pub async fn launch(
        &self,
        cleared: ClearedPool,
        order: &Order,
        client_token: &str,
    ) -> Result<InstanceId, CallError> {
        let instance_type = &cleared.pool().instance_type;
        let request = self.request(Market::Spot, instance_type, order, client_token);
        let request = request.instance_market_options(one_time_spot(order.spot_max_price));
        // The time to record the attempt may have outlasted the proof.
        if !cleared.is_fresh() {
            let message = format!("the proof for pool {} is too old: ask the gate again", cleared.pool());
            let code = "StaleProof".to_owned();
            return Err(CallError { kind: Kind::Retry, code, ..CallError::malformed(RUN, message) });
        }
        send(request).await
    }

    /// Launches one On-Demand instance. A repeated call with the same token launches nothing more, and the SDK does
    /// not repeat the call, as in [`Launcher::launch`].
    ///
    /// # Errors
    /// EC2 refuses ([`Kind`] says what to do).
    pub async fn launch_on_demand(
        &self,
        launch: OnDemandLaunch,
        order: &Order,
        client_token: &str,
    ) -> Result<InstanceId, CallError> {
        send(self.request(Market::OnDemand, launch.instance_type(), order, client_token)).await
    }

    fn request(
        &self,
        market: Market,
        instance_type: &InstanceType,
        order: &Order,
        client_token: &str,
    ) -> Request {
        #[expect(
            clippy::disallowed_methods,
            reason = "the one launch there is, and its caller holds a proof"
        )]
        let request = self.clients.ec2.run_instances();
        let request = request
            .min_count(1)
            .max_count(1)
            .client_token(client_token)
            .instance_type(ec2::InstanceType::from(instance_type.as_str()))
            .set_image_id(order.image_id.clone())
            .tag_specifications(tag_specification(&order.tags));
        match &order.blueprint {
            Blueprint::Template(template) => from_template(request, market, template, order),
            Blueprint::Configuration(source) => {
                let placement_group = order.placement_group.as_deref();
                configuration::apply(request, source, &order.subnet_id, placement_group)
            }
            Blueprint::Twin(twin) => twin::apply(request, twin, &order.subnet_id, &order.tags),
        }
    }
}

type Request = aws_sdk_ec2::operation::run_instances::builders::RunInstancesFluentBuilder;

async fn send(request: Request) -> Result<InstanceId, CallError> {
    let once = aws_sdk_ec2::config::Builder::new().retry_config(RetryConfig::disabled());
    let answer = request.customize().config_override(once).send().await.map_err(failed(RUN))?;
    answer.instances().first().and_then(|i| i.instance_id()?.parse().ok()).ok_or_else(|| CallError {
        kind: Kind::Retry, // it may have been launched all the same
        ..CallError::malformed(RUN, "the answer names no instance")
    })
}

/// Repeats what a template's launch needs beside the template.
///
/// A newcomer that fails must be terminated again, so that both protections stay off in either market. One-time Spot
/// does not have them at all.
fn from_template(request: Request, market: Market, template: &ResolvedTemplate, order: &Order) -> Request {
    let specification = ec2::LaunchTemplateSpecification::builder()
        .launch_template_id(&template.id)
        .version(&template.version);
    let overruled = template.not_for_spot;
    let request = request
        .launch_template(specification.build())
        .set_placement(placement(&template.placement, order))
        .set_disable_api_termination(overruled.termination_protection.then_some(false))
        .set_disable_api_stop(overruled.stop_protection.then_some(false))
        .set_instance_initiated_shutdown_behavior(
            (market.is_spot() && overruled.stops_at_shutdown).then_some(ec2::ShutdownBehavior::Terminate),
        );
    if template.network_interfaces.is_empty() {
        return request.subnet_id(&order.subnet_id);
    }
    let interfaces = template.network_interfaces.iter().map(|nic| nic.in_subnet(&order.subnet_id));
    request.set_network_interfaces(Some(interfaces.collect()))
}

/// Returns the placement of a launch: the group's placement group before the template's, and the zone of the
/// subnet.
///
/// AWS does not document a merge of both, so that the launch repeats the template's other parts.
/// <https://docs.aws.amazon.com/autoscaling/ec2/userguide/create-launch-template.html>
fn placement(of_template: &TemplatePlacement, order: &Order) -> Option<ec2::Placement> {
    let names_a_zone = of_template.names_zone || of_template.names_zone_id;
    if order.placement_group.is_none() && !names_a_zone {
        return None; // the template's own, as it is
    }
    let placement = ec2::Placement::builder()
        .set_group_name(order.placement_group.clone().or_else(|| of_template.group_name.clone()))
        .set_group_id(of_template.group_id.clone().filter(|_| order.placement_group.is_none()))
        .set_tenancy(of_template.tenancy.clone())
        .set_partition_number(of_template.partition_number)
        .set_spread_domain(of_template.spread_domain.clone())
        .set_availability_zone(of_template.names_zone.then(|| order.availability_zone.clone()))
        .set_availability_zone_id(of_template.names_zone_id.then(|| order.az_id.to_string()));
    Some(placement.build())
}

/// Returns the market options of a one-time Spot instance.
///
/// MaxPrice is set only if the owner's own policy names one. A lower price means more interruptions, and Spot
/// never costs more than On-Demand.
fn one_time_spot(max_price: Option<Usd>) -> ec2::InstanceMarketOptionsRequest {
    let spot = ec2::SpotMarketOptions::builder()
        .spot_instance_type(ec2::SpotInstanceType::OneTime)
        .instance_interruption_behavior(ec2::InstanceInterruptionBehavior::Terminate)
        .set_max_price(max_price.map(|price| price.to_string()));
    ec2::InstanceMarketOptionsRequest::builder()
        .market_type(ec2::MarketType::Spot)
        .spot_options(spot.build())
        .build()
}

fn tag_specification(tags: &Tags) -> ec2::TagSpecification {
    let tags = tags.iter().map(|(key, value)| ec2::Tag::builder().key(key).value(value).build()).collect();
    ec2::TagSpecification::builder().resource_type(ec2::ResourceType::Instance).set_tags(Some(tags)).build()
}
