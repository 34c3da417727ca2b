//! Answer: looks at the instance and its group, and decides how the instance leaves. Takes the lease where a replacement
//! comes first. A Kubernetes node needs none: its evacuation changes nothing of its group.
//!
//! Records: the lease, and a journal that says that nothing is raised yet.
//! Undone by: releasing the lease.

use serde_json::Value;
use spot_cloud::RegionClients;
use spot_cloud::auto_scaling::groups;
use spot_cloud::tables::swaps::{Entered, Lease, Leased, Owner, SwapsError};
use spot_cloud::tables::{accounts, settings};
use spot_domain::clock;
use spot_domain::response::evacuation::DoomedNode;
use spot_domain::response::verdict::{Rescue, cluster_unknown, end_of, is_of_swap, not_first};
use spot_domain::response::{AnswerOutcome, AnswerReason, Because};
use spot_domain::swap::group::Group;
use spot_domain::swap::journal::{AnswerJournal, Journal, Retirement, SwapKind};
use spot_domain::{ClusterName, ExecutionArn, GroupName};
use spot_swap::error::StepError;
use spot_swap::request;
use spot_swap::work::Next;

use crate::context::Responder;
use crate::hear::look;
use crate::work::{Answering, Request};

const SHAPE: &str = r#"{"instance_id": "i-…", "asg_name": "…", "cluster_name"?}"#;

/// Decides.
///
/// # Errors
/// The input can't be meant, or a call fails. Nothing was changed but the lease.
pub async fn run(
    responder: &Responder,
    execution: ExecutionArn,
    input: Value,
) -> Result<(Next, Answering), StepError> {
    let Request { instance_id, asg_name, cluster_name, account_id, region, occurred } =
        request::parse(input, SHAPE)?;
    let (stack, now) = (&responder.stack, clock::now());
    let account_id = account_id.unwrap_or_else(|| stack.account_id.clone());
    let region = region.unwrap_or_else(|| stack.region.clone());
    let access = accounts::access(stack, &account_id).await?;
    let settings = settings::load_what_holds(stack, &account_id, &region).await?;
    let clients = stack.clients(&access, &region, None).await;
    let found = look(&clients, &instance_id, &settings).await?;
    let group = named(found.group, &asg_name, &clients).await?;
    let lease = Lease {
        on: Leased::Group { arn: group.arn.clone(), name: group.name.clone() },
        account_id,
        region,
        owner: Owner::Execution(execution),
        since: now,
    };
    let ends_at = end_of(occurred.unwrap_or(now), now);
    let work = Answering::new(instance_id, lease, settings, ends_at.as_ref().copied().unwrap_or(now));
    // It may have moved to another group since the execution was started.
    let elsewhere = group
        .member(&work.instance_id)
        .is_none()
        .then(|| Because::of(AnswerReason::NotInGroup, format!("it is no member of group {}", group.name)));
    let rescue = match (found.rescue, elsewhere.or(ends_at.err())) {
        (Ok(rescue), None) => rescue,
        (Err(why), _) | (Ok(_), Some(why)) => return Ok(ignore(work, why)),
    };
    match (cluster_name.or_else(|| rescue.cluster().cloned()), rescue) {
        (Some(cluster), _) => evacuate(responder, work, cluster).await,
        (None, Rescue::Node(_)) => Ok(ignore(work, cluster_unknown())),
        (None, Rescue::Member) => replace(responder, work, &clients, &group).await,
    }
}

fn ignore(mut work: Answering, why: Because) -> (Next, Answering) {
    work.decide(AnswerOutcome::Ignored, Some(why));
    (Next::Report, work)
}

async fn replace(
    responder: &Responder,
    mut work: Answering,
    clients: &RegionClients,
    group: &Group,
) -> Result<(Next, Answering), StepError> {
    work.saw(group);
    let busy = match groups::active_refresh(&clients.autoscaling, &group.name).await? {
        Some(why) => Some(Because::of(AnswerReason::GroupBusy, why)),
        None => not_first(group, work.ends_at, clock::now()),
    };
    let next = begin(responder, &mut work, group, busy).await?;
    Ok((next, work))
}

/// Has the node evacuated, whoever holds the lease: the evacuation touches the node alone. Only a swap that moves the
/// node's pods by itself is left to do so.
async fn evacuate(
    responder: &Responder,
    mut work: Answering,
    cluster_name: ClusterName,
) -> Result<(Next, Answering), StepError> {
    let (arn, asg_name) = work.group().map(|(arn, name)| (arn.clone(), name.clone()))?;
    let swap = responder.swaps.holder(&arn).await?.and_then(|held| held.journal);
    if let Some(why) = swap.and_then(|journal| is_of_swap(&journal, &work.instance_id)) {
        return Ok(ignore(work, why));
    }
    work.node = Some(DoomedNode {
        instance_id: work.instance_id.clone(),
        asg_name,
        cluster_name,
        account_id: work.lease.account_id.clone(),
        region: work.lease.region.clone(),
        ends_at: work.ends_at,
    });
    Ok((Next::Proceed, work))
}

/// The group of the input, which may be another than the instance's own by now.
async fn named(found: Option<Group>, name: &GroupName, clients: &RegionClients) -> Result<Group, StepError> {
    if let Some(group) = found.filter(|group| &group.name == name) {
        return Ok(group);
    }
    let group = groups::describe(&clients.autoscaling, name).await?;
    let none = || format!("asg_name: there is no Auto Scaling group {name}");
    group.ok_or_else(|| StepError::GroupNotFound(none().into()))
}

/// Takes the lease, unless something stands against a replacement. The lease is asked for in any case: the swap that holds
/// it may be about this very instance. An instance that leaves while another works on its group needs no lease: it leaves
/// without decrement, and desired stays.
async fn begin(
    responder: &Responder,
    work: &mut Answering,
    group: &Group,
    busy: Option<Because>,
) -> Result<Next, StepError> {
    if let Some(held) = responder.swaps.holder(&group.arn).await?
        && held.lease.owner != work.lease.owner
    {
        let about_it = held.journal.as_ref().and_then(|journal| is_of_swap(journal, &work.instance_id));
        if let Some(why) = about_it {
            work.decide(AnswerOutcome::Ignored, Some(why));
            return Ok(Next::Report);
        }
        return Ok(leave(work, leased(&held.lease)));
    }
    if let Some(why) = busy {
        return Ok(leave(work, why));
    }
    match responder.swaps.take(&work.lease).await {
        Err(SwapsError::Busy { .. }) => return Ok(leave(work, leased(&work.lease))),
        answer => answer?,
    }
    // A repeated step finds the lease of its first try, and with it the moment that names the answer.
    let since = responder.swaps.read(&work.lease).await?.map_or(work.lease.since, |held| held.lease.since);
    work.lease.since = since;
    let kind = SwapKind::Answer(AnswerJournal::new(work.ends_at));
    let mut journal = Journal::new(&work.instance_id, since, Retirement::TerminateInGroup, kind);
    if let Entered::Again(earlier) = responder.swaps.enter(&work.lease, &mut journal).await? {
        journal = earlier;
    }
    work.journal = Some(journal);
    Ok(Next::Proceed)
}

fn leased(lease: &Lease) -> Because {
    Because::of(AnswerReason::GroupLeased, format!("{}: another execution works on it", lease.on))
}

fn leave(work: &mut Answering, why: Because) -> Next {
    work.decide(AnswerOutcome::Released, Some(why));
    Next::Undo
}
