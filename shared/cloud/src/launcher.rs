//! The only place that launches an instance. It takes a [`ClearedPool`], and uses it up.

use aws_sdk_ec2::config::retry::RetryConfig;
use aws_sdk_ec2::types as ec2;
use serde::{Deserialize, Serialize};
use spot_domain::ids::InstanceId;
use spot_domain::tags::Tags;

use crate::clients::Target;
use crate::error::{CallError, Kind, failed};
use crate::gatekeeper::ClearedPool;
use crate::launch_configuration;
use crate::launch_template::ResolvedTemplate;
use crate::twin::{self, Twin};

const RUN: &str = "ec2:RunInstances";

/// What to launch from: the owner's own words, never ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Blueprint {
    /// A launch template, its version resolved.
    Template(ResolvedTemplate),
    /// A launch configuration, by name.
    Configuration(String),
    /// Another instance, as it is at the time of the launch.
    Twin(Twin),
}

/// What is launched, whichever pool it comes from.
#[derive(Debug, Clone)]
pub struct Order {
    /// What to launch from.
    pub blueprint: Blueprint,
    /// Where.
    pub subnet_id: String,
    /// With which tags; they come into being with the instance.
    pub tags: Tags,
}

/// Launches instances in one account and region.
#[derive(Debug, Clone)]
pub struct Launcher {
    target: Target,
}

impl Launcher {
    /// A launcher over these clients.
    #[must_use]
    pub fn new(target: &Target) -> Self {
        Self { target: target.clone() }
    }

    /// Launches one one-time Spot instance from the cleared pool. Repeating the call with the same
    /// token launches nothing more. The SDK does not repeat it: `InsufficientInstanceCapacity`
    /// comes as HTTP 500, and would be hammered.
    ///
    /// # Errors
    /// EC2 refuses ([`Kind`] says what to do), or the proof is too old.
    pub async fn launch(
        &self,
        cleared: ClearedPool,
        order: &Order,
        client_token: &str,
    ) -> Result<InstanceId, CallError> {
        #[expect(clippy::disallowed_methods, reason = "the one launch there is, and it holds a proof")]
        let request = self.target.ec2.run_instances();
        let instance_type = ec2::InstanceType::from(cleared.pool().instance_type.as_str());
        let request = request
            .min_count(1)
            .max_count(1)
            .client_token(client_token)
            .instance_type(instance_type)
            .instance_market_options(one_time_spot())
            .tag_specifications(tag_specification(&order.tags));
        let request = match &order.blueprint {
            Blueprint::Template(template) => from_template(request, template, &order.subnet_id),
            Blueprint::Configuration(name) => {
                let source = launch_configuration::describe(&self.target.autoscaling, name).await?;
                launch_configuration::apply(request, &source, &order.subnet_id)
            }
            Blueprint::Twin(twin) => {
                let source = twin::describe(&self.target.ec2, &twin.of).await?;
                twin::apply(request, &source, twin, &order.subnet_id)
            }
        };
        // What the template or the old instance says may have taken a while to read.
        if !cleared.is_fresh() {
            let message = format!("the proof for pool {} is too old: ask the gate again", cleared.pool());
            return Err(CallError { call: RUN, kind: Kind::Retry, code: "StaleProof".to_owned(), message });
        }
        let once = aws_sdk_ec2::config::Builder::new().retry_config(RetryConfig::disabled());
        let answer = request.customize().config_override(once).send().await.map_err(failed(RUN))?;
        answer.instances().first().and_then(|i| i.instance_id()?.parse().ok()).ok_or_else(|| CallError {
            kind: Kind::Retry, // it may have been launched all the same
            ..CallError::malformed(RUN, "the answer names no instance")
        })
    }
}

type Request = aws_sdk_ec2::operation::run_instances::builders::RunInstancesFluentBuilder;

fn from_template(request: Request, template: &ResolvedTemplate, subnet_id: &str) -> Request {
    let specification = ec2::LaunchTemplateSpecification::builder()
        .launch_template_id(&template.id)
        .version(&template.version);
    let request = request.launch_template(specification.build());
    if template.network_interfaces.is_empty() {
        return request.subnet_id(subnet_id);
    }
    let interfaces = template.network_interfaces.iter().map(|nic| nic.in_subnet(subnet_id));
    request.set_network_interfaces(Some(interfaces.collect()))
}

/// No MaxPrice: a lower one means more interruptions, and Spot never costs more than On-Demand.
fn one_time_spot() -> ec2::InstanceMarketOptionsRequest {
    let spot = ec2::SpotMarketOptions::builder()
        .spot_instance_type(ec2::SpotInstanceType::OneTime)
        .instance_interruption_behavior(ec2::InstanceInterruptionBehavior::Terminate);
    ec2::InstanceMarketOptionsRequest::builder()
        .market_type(ec2::MarketType::Spot)
        .spot_options(spot.build())
        .build()
}

fn tag_specification(tags: &Tags) -> ec2::TagSpecification {
    let tags = tags.iter().map(|(key, value)| ec2::Tag::builder().key(key).value(value).build()).collect();
    ec2::TagSpecification::builder().resource_type(ec2::ResourceType::Instance).set_tags(Some(tags)).build()
}
