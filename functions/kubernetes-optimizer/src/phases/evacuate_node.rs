//! EvacuateNode: one step of the answer to a two-minute notice for a node. Finds the node, asks who drains it, cordons it,
//! and makes one pass of evictions. The state machine repeats the step until no pod is left that must move, or until ten
//! seconds before the end. Deletes no pod, and overrides no budget.
//!
//! Records nothing: the cluster itself shows what is left to do. Not undone: the node is about to be lost.

use kube::Client;
use serde::Deserialize;
use spot_cloud::RegionClients;
use spot_cloud::access::Access;
use spot_cloud::auto_scaling::groups;
use spot_cloud::ec2::instances;
use spot_cloud::tables::accounts;
use spot_cluster::access::AccessError;
use spot_cluster::node::{self, Cordon, Node};
use spot_cluster::{drain, drainers};
use spot_domain::ExecutionArn;
use spot_domain::clock;
use spot_domain::response::evacuation::{DoomedNode, stopped};
use spot_domain::response::{AnswerOutcome, AnswerReason, Because};
use spot_domain::settings::Settings;
use spot_domain::words::Cause;
use spot_nodes::{ClusterEndpoint, connect, failed, no_access};
use spot_swap::Context;
use spot_swap::error::StepError;
use spot_swap::spans::note_execution;
use spot_swap::work::Next;

use crate::evacuation::{Evacuation, manner, policy};

/// The event of the step.
#[derive(Debug, Deserialize)]
pub struct EvacuateEvent {
    execution: ExecutionArn,
    node: DoomedNode,
    /// The settings in force when the answer began.
    settings: Settings,
    /// The evacuation after the last pass; absent before the first one.
    #[serde(default)]
    work: Option<Evacuation>,
}

/// Makes one pass.
///
/// # Errors
/// AWS does not answer, or the cluster can't be entered for a reason that time does not mend.
pub async fn run(context: &Context, event: EvacuateEvent) -> Result<(Next, Evacuation), StepError> {
    let EvacuateEvent { execution, node, settings, work } = event;
    note_execution(&execution);
    let mut evacuation = work.unwrap_or_else(|| Evacuation::new(&settings));
    let next = match visit(context, &execution, &node, &settings, &mut evacuation).await {
        // While an API server starts, it forbids what it grants a moment later.
        Err(StepError::ClusterSilent(why) | StepError::NotAuthorized(why) | StepError::Transient(why)) => {
            evacuation.troubled(&why.to_string(), node.ends_at, clock::now())
        }
        answer => answer?,
    };
    Ok((next, evacuation))
}

/// Makes one pass, unless the evacuation has to stop.
async fn visit(
    context: &Context,
    execution: &ExecutionArn,
    doomed: &DoomedNode,
    settings: &Settings,
    evacuation: &mut Evacuation,
) -> Result<Next, StepError> {
    let access = accounts::access_even_if_disabled(&context.stack, &doomed.account_id).await?;
    let clients = context.stack.clients(&access, &doomed.region, Some(execution)).await;
    match stops(&clients, doomed, settings, evacuation).await? {
        Some((outcome, why)) => Ok(evacuation.end(outcome, Some(why))),
        None => Step { context, access: &access, execution, doomed, settings }.pass(evacuation).await,
    }
}

/// Says if the evacuation has to stop: EC2 was faster, or the owner opted out.
async fn stops(
    clients: &RegionClients,
    doomed: &DoomedNode,
    settings: &Settings,
    evacuation: &Evacuation,
) -> Result<Option<(AnswerOutcome, Because)>, StepError> {
    let id = &doomed.instance_id;
    let described = instances::describe(&clients.ec2, std::slice::from_ref(id)).await?;
    let group = groups::describe(&clients.autoscaling, &doomed.asg_name).await?;
    Ok(stopped(described.get(id), group.as_ref(), settings, evacuation.unfinished.as_ref()))
}

/// What one step works with.
struct Step<'a> {
    context: &'a Context,
    access: &'a Access,
    execution: &'a ExecutionArn,
    doomed: &'a DoomedNode,
    settings: &'a Settings,
}

impl Step<'_> {
    async fn pass(&self, evacuation: &mut Evacuation) -> Result<Next, StepError> {
        let client = self.open(evacuation).await?;
        let ends_at = self.doomed.ends_at;
        let Some(node) = self.node(&client, evacuation).await? else {
            return Ok(match &evacuation.unfinished {
                None => evacuation.end(AnswerOutcome::Ignored, Some(self.not_a_node())),
                // EC2 shows soon that the instance is gone, or the node joins again.
                Some(_) => evacuation.troubled("the node is gone from the cluster", ends_at, clock::now()),
            });
        };
        if evacuation.node.is_none()
            && let Some(drainer) = drainers::drainer(&client, &node).await.map_err(failed)?
        {
            let why = Because::of(AnswerReason::DrainedElsewhere, drainer.in_words());
            return Ok(evacuation.end(AnswerOutcome::Ignored, Some(why)));
        }
        // Whoever has cordoned it before: nothing shows that somebody drains it.
        if node::cordon(&client, &node.name, self.execution.name()).await.map_err(failed)? == Cordon::ByOther
        {
            tracing::info!(node = %node.name, "somebody else has cordoned it");
        }
        evacuation.node = Some(node.name.clone());
        let (policy, manner) = (policy(self.settings), manner(ends_at, clock::now()));
        let pass = drain::pass(&client, &node.name, policy, manner, evacuation.drain.clone())
            .await
            .map_err(failed)?;
        Ok(evacuation.passed(pass, &node.name, ends_at, clock::now()))
    }

    /// Returns a client of the cluster. The first call of an evacuation shows what keeps us out.
    async fn open(&self, evacuation: &Evacuation) -> Result<Client, StepError> {
        let DoomedNode { cluster_name: cluster, region, .. } = self.doomed;
        let kubeconfig_secret = self.settings.kubeconfig_secrets.get(cluster).map(String::as_str);
        let door = ClusterEndpoint { cluster, kubeconfig_secret };
        let opened = connect(&self.context.stack, self.access, region, self.execution, door)
            .await
            .map_err(kept_out)?;
        match evacuation.node {
            Some(_) => Ok(opened.client),
            None => opened.tried().await.map_err(kept_out),
        }
    }

    /// Returns the node of the instance. If several name it, one is stale; pods run on the one that is Ready.
    async fn node(&self, client: &Client, evacuation: &Evacuation) -> Result<Option<Node>, StepError> {
        let id = &self.doomed.instance_id;
        if let Some(name) = &evacuation.node {
            let known = node::get(client, name).await.map_err(failed)?;
            return Ok(known.filter(|node| node.instance_id.as_ref() == Some(id)));
        }
        let found = node::naming(client, id).await.map_err(failed)?;
        Ok(found.into_iter().max_by_key(|node| node.is_ready))
    }

    fn not_a_node(&self) -> Because {
        let detail = format!("cluster {} has no node whose providerID names it", self.doomed.cluster_name);
        Because::of(AnswerReason::NotANode, detail)
    }
}

/// Returns the error for a cluster that is not entered. A silent one is asked again for as long as there is time.
fn kept_out(error: AccessError) -> StepError {
    match error {
        AccessError::Silent { .. } => StepError::ClusterSilent(Cause::of(error)),
        error => no_access(error),
    }
}
