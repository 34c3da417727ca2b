//! The start of an execution: counted in, started, noted and told, in this order.

use serde_json::{Value, json};
use spot_cloud::CallError;
use spot_cloud::announcements::event;
use spot_cloud::error::unreadable;
use spot_domain::events::OwnEvent;
use spot_domain::ids::MalformedText;
use spot_domain::swap::asked;
use spot_domain::swap::group::{Group, Instance};
use spot_domain::tags::cluster_of;
use spot_domain::watch::name::{execution_name, next_name_at};
use spot_domain::watch::{Deferral, Deferred};
use spot_domain::{ClusterName, ExecutionArn, InstanceId};

use crate::answer::{Answer, Failure, Started, Subject};
use crate::executions::{self, Begun, Machine};
use crate::table::Memories;
use crate::tools::{Tools, now};

/// What is to be swapped.
#[derive(Debug, Clone)]
pub enum StartTarget<'a> {
    /// A group as a whole, or only those of its members that `replace` names.
    Group {
        /// The group.
        group: &'a Group,
        /// The settled members, if others are too young.
        replace: Option<asked::Named>,
    },
    /// One member of a group, a node.
    Node {
        /// The group.
        group: &'a Group,
        /// The node.
        node: &'a Instance,
        /// The nodes whose turn comes if this one can't be swapped now, in this order.
        next: Vec<&'a Instance>,
    },
    /// A stand-alone instance of a LAB account.
    Lab {
        /// The instance.
        instance: &'a Instance,
        /// The twin starts from an image of its EBS volumes.
        capture_image: bool,
    },
}

impl StartTarget<'_> {
    /// Returns the node that is to be swapped.
    #[must_use]
    pub fn node(&self) -> Option<&InstanceId> {
        match self {
            Self::Node { node, .. } => Some(&node.id),
            Self::Group { .. } | Self::Lab { .. } => None,
        }
    }

    /// Returns the cluster of the node, by its own tags or by its group's.
    #[must_use]
    pub fn cluster(&self) -> Option<ClusterName> {
        match self {
            Self::Node { group, node, .. } => cluster_of(&node.tags).or_else(|| cluster_of(&group.tags)),
            Self::Group { .. } | Self::Lab { .. } => None,
        }
    }
}

/// The order of a swap.
#[derive(Debug, Clone, Copy)]
pub struct StartOrder<'a> {
    /// The group or lab instance.
    pub subject: &'a Subject,
    /// What of it is to be swapped.
    pub target: &'a StartTarget<'a>,
    /// The members that may be swapped, as a text that differs for others.
    pub members: &'a str,
    /// The execution that was started for the subject before.
    pub last: Option<&'a ExecutionArn>,
    /// The most executions at a time.
    pub most: u32,
}

/// Starts the execution. Returns why it was not started; the answer holds what was.
///
/// # Errors
/// The execution could not be started, or may have been: then it counts as running until Step Functions say otherwise.
pub async fn start(
    tools: &Tools,
    order: &StartOrder<'_>,
    memories: &mut Memories,
    answer: &mut Answer,
) -> Result<Option<Deferred>, CallError> {
    let now = now();
    let StartOrder { subject, target, most, .. } = *order;
    // A node has a name of its own: the next of its group may follow at once.
    let node = target.node().map_or("", |node| node.as_str());
    let name = execution_name(subject.name.as_str(), &format!("{}{node}", subject.key), now);
    let (machine, input) = request(tools, subject, target);
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
    let started =
        Started { subject: subject.clone(), execution_arn: execution, node: target.node().cloned() };
    tracing::info!(subject = %subject.name, execution = %started.execution_arn, "started");
    let noted = tools.table.note_start(&started, order.members, now).await;
    let told = match event(OwnEvent::SwapStarted, &started) {
        Ok(event) => tools.announcements.put(vec![event]).await,
        Err(error) => Err(error),
    };
    for error in [noted, told].into_iter().filter_map(Result::err) {
        answer.failed.push(Failure::of(subject, &error));
    }
    answer.started.push(started);
    Ok(None)
}

/// Returns the state machine and its input.
fn request<'a>(tools: &'a Tools, subject: &Subject, target: &StartTarget<'_>) -> (&'a Machine, Value) {
    let place = &subject.place;
    let mut input = json!({"account_id": place.account_id, "region": place.region});
    match target {
        StartTarget::Group { group, replace } => {
            input["asg_name"] = json!(group.name);
            if let Some(settled) = replace {
                input["replace"] = json!(settled.ids());
            }
            (&tools.group_swap, input)
        }
        StartTarget::Node { node, .. } => {
            input["instance_id"] = json!(node.id);
            if let Some(cluster) = target.cluster() {
                input["cluster_name"] = json!(cluster);
            }
            (&tools.node_swap, input)
        }
        StartTarget::Lab { instance, capture_image } => {
            input["instance_id"] = json!(instance.id);
            if *capture_image {
                input["capture_image"] = json!(true);
            }
            (&tools.lab_swap, input)
        }
    }
}

/// Returns the deferral of a start beyond the limit, if so many executions run.
#[must_use]
pub fn too_many(running: usize, most: u32) -> Option<Deferred> {
    let detail = format!("{running} executions of the loop run, of at most {most}");
    (running >= most as usize).then(|| Deferred::new(Deferral::TooManyAtOnce, detail))
}
