//! The launches of a group, as it is configured today: what each is made from, and if the newcomer came from it.

use spot_cloud::launch::launcher::Blueprint;
use spot_cloud::launch::template::TemplateRef;
use spot_cloud::launch::{configuration, template};
use spot_cloud::{CallError, Kind, RegionClients};
use spot_domain::swap::belongings::Given;
use spot_domain::swap::group::{Group, Launch, LaunchSource};
use spot_domain::swap::market::Market;
use spot_domain::swap::selection::{Change, replacement_launch};
use spot_domain::{Reason, Usd};

use crate::work::Current;

/// A launch of the group, as it is configured today.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// The launch template, the launch configuration or the twin.
    pub blueprint: Blueprint,
    /// The properties that the launch gives to each instance.
    pub given: Given,
    /// The highest Spot price that the group pays, USD an hour.
    pub spot_max_price: Option<Usd>,
}

impl Resolved {
    /// Returns the source of the launch, a template by its id and number; `None` for a twin.
    #[must_use]
    pub fn came_from(&self, image_id: Option<String>) -> Option<Launch> {
        let source = match &self.blueprint {
            Blueprint::Template(template) => {
                LaunchSource::Template { id: template.id.clone(), version: template.version.clone() }
            }
            Blueprint::Configuration(source) => {
                LaunchSource::Configuration(source.launch_configuration_name()?.to_owned())
            }
            Blueprint::Twin(_) => return None,
        };
        Some(Launch { source, image_id })
    }
}

/// Resolves one launch of the group. The inner error says why the launch can't be made in that market.
///
/// # Errors
/// A call fails.
pub async fn resolve(
    clients: &RegionClients,
    group: &Group,
    launch: &Launch,
    to: Market,
) -> Result<Result<Resolved, String>, CallError> {
    let template = match &launch.source {
        LaunchSource::Template { id, version } => (TemplateRef::Id(id), version),
        LaunchSource::NamedTemplate { name, version } => (TemplateRef::Name(name), version),
        LaunchSource::Configuration(name) => return configuration(clients, name).await,
    };
    let template = match template::resolve(&clients.ec2, template.0, template.1).await {
        Err(error) if error.kind == Kind::NotFound => return Ok(Err(error.to_string())),
        answer => answer?,
    };
    Ok(template.and_then(|template| {
        if let Some(why) = template.not_as_spot.filter(|_| to.is_spot()) {
            return Err(format!("launch template {}, version {}: {why}", template.id, template.version));
        }
        if template.placement.group_id.is_some() && group.placement_group.is_some() {
            let why = "it names a placement group by id, and its group another one by name";
            return Err(format!("launch template {}: {why}", template.id));
        }
        let given = template.given.clone();
        Ok(Resolved { blueprint: Blueprint::Template(Box::new(template)), given, spot_max_price: None })
    }))
}

async fn configuration(clients: &RegionClients, name: &str) -> Result<Result<Resolved, String>, CallError> {
    let source = match configuration::describe(&clients.autoscaling, name).await {
        Err(error) if error.is_malformed() => return Ok(Err(error.message)), // deleted
        answer => answer?,
    };
    Ok(configuration::given(&source).map(|(given, spot_max_price)| Resolved {
        blueprint: Blueprint::Configuration(Box::new(source)),
        given,
        spot_max_price,
    }))
}

/// Says that the group's launch differs by now from the one that the newcomer came from.
///
/// # Errors
/// A call fails.
pub async fn launches_otherwise(
    clients: &RegionClients,
    group: &Group,
    current: &Current,
) -> Result<Option<Change>, CallError> {
    let candidate = &current.candidate;
    let (old, old_type) = (&candidate.instance_id, &candidate.instance_type);
    let launch = replacement_launch(group, old, old_type, &current.pool.instance_type);
    let (Some(came_from), Some(launch)) = (&current.came_from, launch) else { return Ok(None) };
    if launch == *came_from {
        return Ok(None);
    }
    let changed = |detail| Some(Change::of_swap(Reason::GroupChanged, detail));
    match resolve(clients, group, &launch, candidate.to).await? {
        Err(why) => Ok(changed(why)),
        Ok(resolved) if resolved.came_from(launch.image_id.clone()).as_ref() == Some(came_from) => Ok(None),
        Ok(_) => Ok(changed(format!(
            "the newcomer came from {came_from}, the group launches from {launch} by now"
        ))),
    }
}
