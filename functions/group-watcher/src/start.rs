//! The start of an execution: counted in, started, noted and told, in this order.

use serde_json::{Value, json};
use spot_cloud::CallError;
use spot_cloud::announcements::event;
use spot_cloud::error::unreadable;
use spot_cloud::scopes::Scope;
use spot_domain::events::OwnEvent;
use spot_domain::ids::MalformedText;
use spot_domain::swap::group::{Group, Instance};
use spot_domain::tags::cluster_of;
use spot_domain::watch::name::{execution_name, next_name_at};
use spot_domain::watch::{Deferral, Deferred};
use spot_domain::{ClusterName, ExecutionArn};

use crate::answer::{Answer, Failure, Named, Started};
use crate::executions::{self, Begun, Machine};
use crate::table::Memories;
use crate::tools::{Tools, now};

/// What is to be swapped.
#[derive(Debug, Clone, Copy)]
pub struct Order<'a> {
    /// The group.
    pub group: &'a Group,
    /// The only member that is to be swapped, a node; `None` for the group as a whole.
    pub node: Option<&'a Instance>,
    /// The members that may be swapped, as a text that differs for others.
    pub members: &'a str,
    /// The execution that was started for the group before.
    pub last: Option<&'a ExecutionArn>,
}

/// Starts the execution. Returns why it was not started; the answer holds what was.
///
/// # Errors
/// The execution could not be started, or may have been: then it counts as running until Step Functions say otherwise.
pub async fn start(
    tools: &Tools,
    scope: &Scope,
    order: &Order<'_>,
    memories: &mut Memories,
    answer: &mut Answer,
) -> Result<Option<Deferred>, CallError> {
    let now = now();
    let most = scope.settings.max_groups_at_once;
    let group = Named { asg_name: order.group.name.clone(), place: scope.place.clone() };
    // A node has a name of its own: the next of its group may follow at once.
    let node = order.node.map_or("", |node| node.id.as_str());
    let name = execution_name(group.asg_name.as_str(), &format!("{}{node}", order.group.arn), now);
    let (machine, input) = request(tools, &group, order);
    let execution = machine.execution(&name).map_err(unreadable::<MalformedText>("states:StartExecution"))?;
    // Counted in first: of two invocations that see the last free place, one gets it.
    if !tools.table.count_in(&execution, most).await? {
        return Ok(too_many(most as usize, most));
    }
    match executions::start(&tools.sfn, machine, &name, &input).await {
        Ok(Begun::Running) => {}
        Ok(Begun::EndedAlready) => {
            // One that is not the last known was started by another invocation: the next sweep notes its end.
            if order.last == Some(&execution) {
                tools.table.count_out(vec![execution.to_string()]).await?;
            }
            let detail = format!("{execution} was started for it already");
            return Ok(Some(Deferred::until(Deferral::StartedRecently, detail, next_name_at(now))));
        }
        Err(error) => {
            // After any other error it may run.
            if error.is_refusal() {
                tools.table.count_out(vec![execution.to_string()]).await?;
            }
            return Err(error);
        }
    }
    memories.running.insert(execution.clone());
    let instance_id = order.node.map(|node| node.id.clone());
    let started = Started { group, execution_arn: execution, instance_id };
    tracing::info!(asg_name = %started.group.asg_name, execution = %started.execution_arn, "started");
    let noted = tools.table.note_start(&order.group.arn, &started, order.members, now).await;
    let told = match event(OwnEvent::SwapStarted, &started) {
        Ok(event) => tools.announcements.put(vec![event]).await,
        Err(error) => Err(error),
    };
    for error in [noted, told].into_iter().filter_map(Result::err) {
        answer.failed.push(Failure::of(&scope.place, started.group.asg_name.as_str(), &error));
    }
    answer.started.push(started);
    Ok(None)
}

/// Returns the state machine and its input.
fn request<'a>(tools: &'a Tools, group: &Named, order: &Order<'_>) -> (&'a Machine, Value) {
    let Named { asg_name, place } = group;
    let mut input = json!({"account_id": place.account_id, "region": place.region});
    let Some(node) = order.node else {
        input["asg_name"] = json!(asg_name);
        return (&tools.group_swap, input);
    };
    input["instance_id"] = json!(node.id);
    if let Some(cluster) = cluster(order.group, node) {
        input["cluster_name"] = json!(cluster);
    }
    (&tools.node_swap, input)
}

/// Returns the deferral of a start beyond the limit, if so many executions run.
#[must_use]
pub fn too_many(running: usize, most: u32) -> Option<Deferred> {
    let detail = format!("{running} executions of the loop run, of at most {most}");
    (running >= most as usize).then(|| Deferred::new(Deferral::TooManyAtOnce, detail))
}

/// Returns the cluster of a node, by its own tags or by its group's.
#[must_use]
pub fn cluster(group: &Group, node: &Instance) -> Option<ClusterName> {
    cluster_of(&node.tags).or_else(|| cluster_of(&group.tags))
}
