//! What a script asks of the world itself: a new beginning, time, and AWS's own choices.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::SignedDuration;
use serde_json::{Value, json};
use spot_world::executions::CLUSTER_SWAP;
use spot_world::fault::Plan;
use spot_world::fleet::{Fleet, GroupSpec, LifecycleHook, ScheduledScaling};
use spot_world::machine::Outcome;
use spot_world::scene::Scene;
use spot_world::virtual_time::{self, now};
use spot_world::world::World;

/// Carries out an act, such as `pass?seconds=60`.
pub(crate) fn act(world: &mut World, act: &str) -> Result<Value, String> {
    let (name, query) = act.split_once('?').unwrap_or((act, ""));
    let query = Query(form_urlencoded::parse(query.as_bytes()).into_owned().collect());
    match name {
        "begin" => begin(world, &query),
        "pass" => {
            virtual_time::skip(Duration::from_secs(query.number::<u32>("seconds", 0)?.into()));
            world.passes();
            Ok(json!({"now": now().to_string()}))
        }
        "act/groups" => Ok(groups_act(&mut world.fleet)),
        "act/die" => {
            world.fleet.instance_dies(query.text("instance")?, now());
            Ok(json!({}))
        }
        "act/protect" => {
            world.fleet.protect_from_termination(query.text("instance")?, true);
            Ok(json!({}))
        }
        "act/interrupt" => {
            let at = now() + SignedDuration::from_secs(query.number::<u32>("seconds", 120)?.into());
            Ok(json!({"is_interrupted": world.fleet.interrupt(query.text("instance")?, at)}))
        }
        "act/target-health" => {
            let is_healthy = query.text("healthy")? == "true";
            world.fleet.set_target_health(query.text("instance")?, is_healthy);
            Ok(json!({}))
        }
        "act/schedule" => {
            let at = now() + SignedDuration::from_secs(query.number::<u32>("seconds", 3600)?.into());
            let action =
                ScheduledScaling { name: "scale".to_owned(), at, desired: query.number("desired", 1)? };
            Ok(json!({"is_scheduled": world.fleet.schedule(query.text("group")?, action)}))
        }
        "act/end-execution" => {
            world.executions.end(query.text("arn")?, Outcome::Succeeded(json!({})), now());
            Ok(json!({}))
        }
        other => Err(format!("the world has no act {other:?}")),
    }
}

/// Begins anew with one group of On-Demand instances that has been in service for an hour.
fn begin(world: &mut World, query: &Query) -> Result<Value, String> {
    virtual_time::begin();
    let group = GroupSpec {
        size: query.number("size", 1)?,
        min: query.number("min", 1)?,
        max: query.number("max", 2)?,
        zones: query.number("zones", 2)?,
        has_target_group: query.text("target_group").is_ok_and(|has| has == "true"),
        hooks: query.text("hook").ok().map(hook).into_iter().collect(),
        ..GroupSpec::default()
    };
    *world = Scene { group, ..Scene::default() }.world(Plan::none());
    let has_address = query.text("address").is_ok_and(|has| has == "true");
    let address = has_address.then(|| world.fleet.add_address(None));
    let fleet = &world.fleet;
    let (group, template) = (fleet.groups().values().next(), fleet.catalog().templates.values().next());
    let image = template.and_then(|template| template.versions.values().next()).map(|data| &data.image_id);
    let members: Vec<_> = group.iter().flat_map(|group| &group.members).map(|it| &it.instance_id).collect();
    Ok(json!({
        "group": group.map(|group| &group.name),
        "members": members,
        "target_group": group.and_then(|group| group.target_group_arns.first()),
        "subnets": group.map(|group| &group.subnet_ids),
        "image": image,
        "address": address,
        "state_machine": CLUSTER_SWAP,
        "topic": world.mailbox.topic_arn,
    }))
}

/// Returns a hook of a minute at `launching` or `terminating`.
fn hook(transition: &str) -> LifecycleHook {
    LifecycleHook {
        name: "hook".to_owned(),
        is_launching: transition == "launching",
        heartbeat_seconds: 300,
        completed_after_seconds: Some(60),
    }
}

/// Lets each group go one step towards its desired capacity.
fn groups_act(fleet: &mut Fleet) -> Value {
    let unsettled: Vec<String> = fleet.unsettled().into_iter().map(str::to_owned).collect();
    let acts = unsettled.iter().flat_map(|name| fleet.group_acts(name, 0, now()));
    acts.map(|activity| format!("{activity:?}")).collect()
}

/// The parameters of an act.
struct Query(BTreeMap<String, String>);

impl Query {
    fn text(&self, name: &str) -> Result<&str, String> {
        self.0.get(name).map(String::as_str).ok_or_else(|| format!("{name} is missing"))
    }

    fn number<T: std::str::FromStr>(&self, name: &str, default: T) -> Result<T, String> {
        let Some(text) = self.0.get(name) else { return Ok(default) };
        text.parse().map_err(|_| format!("{name}={text} is no number of this kind"))
    }
}
