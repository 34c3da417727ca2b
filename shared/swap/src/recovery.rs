//! Finishes or undoes a swap from its journal. Looks at AWS, asks the domain for the one thing to do, writes it down,
//! does it, and looks again. Undoing reads what was recorded, never what was asked for.
//!
//! There is one loop for all kinds of swap, [`drive`]. A [`Recovery`] says what its kind observes and performs: [`group`],
//! [`lab`] and [`answer`] here, nodes in `spot-nodes`.

use std::collections::BTreeMap;
use std::fmt;

use jiff::{SignedDuration, Timestamp};
use spot_cloud::RegionClients;
use spot_cloud::ec2::instances;
use spot_cloud::error::{CallError, Kind};
use spot_cloud::load_balancing::target_groups::{self, TargetHealth};
use spot_cloud::tables::swaps::{Lease, Swaps, SwapsError};
use spot_domain::InstanceId;
use spot_domain::clock;
use spot_domain::settings::Settings;
use spot_domain::swap::group::{Group, Instance};
use spot_domain::swap::journal::{Journal, Original};
use spot_domain::swap::recovery::{Decision, End, Ended};
use spot_domain::swap::selection::{Change, too_few_last};

use crate::group::members;
use crate::work::Current;

pub mod answer;
pub mod group;
pub mod lab;

/// How far a visit came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Nothing is left to do.
    Ended(Ended),
    /// AWS is at work; come again.
    Waiting(String),
}

/// The leave to carry a decision out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Permission {
    /// Now.
    Granted,
    /// Later: this has to happen first.
    NotYet(String),
    /// The journal says something else by now: look and decide anew.
    LookAgain,
}

/// What comes after a call.
#[derive(Debug)]
pub enum After {
    /// The next look.
    GoOn,
    /// The next look, once the journal is written: no look shows what the answer has told.
    WriteAndGoOn,
    /// The next visit, which looks at what AWS has taken in by then.
    NextVisit(String),
    /// The failure.
    Failed(CallError),
}

/// A visit to a swap: the lease, the settings in force, and the way to AWS.
#[derive(Debug, Clone, Copy)]
pub struct Visit<'a> {
    pub clients: &'a RegionClients,
    pub swaps: &'a Swaps,
    pub lease: &'a Lease,
    pub settings: &'a Settings,
}

/// The ways of a kind of swap: what is observed, decided and performed. [`drive`] does the rest.
#[expect(async_fn_in_trait, reason = "a visit stays on the thread of its Lambda")]
pub trait Recovery {
    /// What AWS shows.
    type Observed;
    /// A change.
    type Action: fmt::Debug;

    /// The actions of one visit at most; more means that something fights us.
    const ACTIONS_PER_VISIT: usize;

    /// Looks.
    ///
    /// # Errors
    /// A call fails, or the journal names what something else launched ([`SwapsError::Unproven`]).
    async fn observe(&self, visit: Visit<'_>, journal: &Journal) -> Result<Self::Observed, SwapsError>;

    /// Notes in the journal what a later look may not show any more. Returns true if that is news.
    fn note(&self, _journal: &mut Journal, _observed: &Self::Observed) -> bool {
        false
    }

    /// Returns the next thing to do.
    ///
    /// # Errors
    /// The journal orders what nothing proves to be its swap's ([`SwapsError::Unproven`]).
    fn decide(
        &self,
        visit: Visit<'_>,
        journal: &Journal,
        observed: &Self::Observed,
    ) -> Result<Decision<Self::Action>, SwapsError>;

    /// Says if the decision may be carried out now. May prepare it, and note in the journal how far that came.
    ///
    /// # Errors
    /// A call fails.
    async fn permit(
        &mut self,
        _visit: Visit<'_>,
        _journal: &mut Journal,
        _observed: &Self::Observed,
        _decision: &Decision<Self::Action>,
    ) -> Result<Permission, SwapsError> {
        Ok(Permission::Granted)
    }

    /// Notes in the journal what may come of the action, ahead of its call.
    fn foresee(&self, journal: &mut Journal, observed: &Self::Observed, action: &Self::Action);

    /// Makes the call.
    ///
    /// # Errors
    /// It fails.
    async fn perform(
        &self,
        visit: Visit<'_>,
        journal: &Journal,
        observed: &Self::Observed,
        action: &Self::Action,
    ) -> Result<(), CallError>;

    /// Notes in the journal what the answer to the call tells; `before` is the journal without the action.
    fn settle(
        &mut self,
        journal: &mut Journal,
        before: &Journal,
        action: Self::Action,
        answer: Result<(), CallError>,
    ) -> After;

    /// Returns the end as its reader has to know it.
    ///
    /// # Errors
    /// The table does not answer.
    async fn ended(
        &self,
        visit: Visit<'_>,
        journal: &Journal,
        observed: Self::Observed,
        end: End,
    ) -> Result<Ended, SwapsError>;
}

/// Does all that can be done now for the swap that `journal` tells of. Before each call the journal is written, which
/// proves that the lease is still held.
///
/// # Errors
/// A call fails, or the journal orders what nothing proves to be its swap's ([`SwapsError::Unproven`]). Whatever was
/// done is done; the next visit goes on from there.
pub async fn drive<R: Recovery>(
    mut recovery: R,
    visit: Visit<'_>,
    journal: &mut Journal,
) -> Result<Progress, SwapsError> {
    let Visit { swaps, lease, .. } = visit;
    for _ in 0..R::ACTIONS_PER_VISIT {
        let observed = recovery.observe(visit, journal).await?;
        if recovery.note(journal, &observed) {
            swaps.revise(lease, journal).await?;
        }
        let decision = recovery.decide(visit, journal, &observed)?;
        tracing::info!(on = %lease.on, swap_id = %journal.swap_id, ?decision, "recovering");
        let known = journal.clone();
        let permission = recovery.permit(visit, journal, &observed, &decision).await?;
        if permission != Permission::Granted && *journal != known {
            swaps.revise(lease, journal).await?;
        }
        match permission {
            Permission::Granted => {}
            Permission::NotYet(why) => return Ok(Progress::Waiting(why)),
            Permission::LookAgain => continue,
        }
        let action = match decision {
            Decision::Do(action) => action,
            Decision::Wait(why) => return Ok(Progress::Waiting(why.to_owned())),
            Decision::Done(end) => {
                // Another recovery may be about to call.
                swaps.revise(lease, journal).await?;
                return Ok(Progress::Ended(recovery.ended(visit, journal, observed, end).await?));
            }
        };
        let before = journal.clone();
        recovery.foresee(journal, &observed, &action);
        swaps.revise(lease, journal).await?;
        let foreseen = journal.clone();
        let answer = recovery.perform(visit, journal, &observed, &action).await;
        let after = recovery.settle(journal, &before, action, answer);
        if !matches!(after, After::GoOn) && *journal != foreseen {
            swaps.revise(lease, journal).await?;
        }
        match after {
            After::GoOn | After::WriteAndGoOn => {}
            After::NextVisit(why) => return Ok(Progress::Waiting(why)),
            After::Failed(error) => return Err(error.into()),
        }
    }
    Ok(Progress::Waiting("more than one visit's actions were needed".to_owned()))
}

/// Returns those of the members that a target group of their group does not find healthy.
///
/// # Errors
/// A call fails.
pub(crate) async fn not_healthy_in(
    clients: &RegionClients,
    group: &Group,
    members: Vec<InstanceId>,
) -> Result<Vec<InstanceId>, CallError> {
    let mut found = Vec::new();
    if group.target_group_arns.is_empty() {
        return Ok(found);
    }
    for id in members {
        let health = target_groups::health(&clients.elbv2, &group.target_group_arns, &id).await?;
        if health != TargetHealth::Healthy {
            found.push(id);
        }
    }
    Ok(found)
}

/// Returns the members that serve since the attach of a forward swap, and that the group's target groups do not find healthy.
/// Their group calls them InService before they have requests. Those that served before count as the group counts them.
///
/// # Errors
/// A call fails.
pub(crate) async fn ill_latecomers(
    clients: &RegionClients,
    group: &Group,
    original: &Original,
    newcomer: &InstanceId,
) -> Result<Vec<InstanceId>, CallError> {
    let serving = group.members.iter().filter(|member| member.serves()).map(|member| &member.id);
    let later = serving.filter(|id| original.served_later(id, Some(newcomer)));
    not_healthy_in(clients, group, later.cloned().collect()).await
}

/// Returns the members that have died, and that their group still shows in service.
///
/// # Errors
/// The call fails.
pub(crate) async fn died_unseen(
    clients: &RegionClients,
    group: &Group,
) -> Result<Vec<InstanceId>, CallError> {
    if !group.notices_deaths() {
        return Ok(Vec::new());
    }
    Ok(group.died_unseen(&members(clients, group).await?))
}

/// Returns the members beside the newcomer that their group still counts as serving, and that have died or that EC2 takes back,
/// with the reason. The group replaces them late. `described` are the members as EC2 describes them now.
///
/// # Errors
/// The call fails.
pub(crate) async fn lost_unseen(
    clients: &RegionClients,
    group: &Group,
    described: &BTreeMap<InstanceId, Instance>,
    newcomer: Option<&InstanceId>,
) -> Result<BTreeMap<InstanceId, String>, CallError> {
    let is_another = |id: &InstanceId| Some(id) != newcomer;
    let is_spot = |id: &InstanceId| described.get(id).is_some_and(|it| it.is_spot && it.is_alive());
    let serving = group.members.iter().filter(|member| member.serves()).map(|member| &member.id);
    let spot: Vec<InstanceId> = serving.filter(|id| is_another(id) && is_spot(id)).cloned().collect();
    let taken = instances::taken_back(&clients.ec2, &spot).await?.into_iter();
    let taken = taken.map(|(id, code)| (id, format!("its Spot request is {code}")));
    let dead = group.died_unseen(described).into_iter().filter(is_another);
    Ok(taken.chain(dead.map(|id| (id, "it has died".to_owned()))).collect())
}

/// Returns the members as EC2 describes them now; or the change, if too few of those beside the old instance last.
///
/// # Errors
/// A call fails.
pub(crate) async fn members_if_enough_last(
    clients: &RegionClients,
    group: &Group,
    original: &Original,
    current: &Current,
) -> Result<Result<BTreeMap<InstanceId, Instance>, Change>, CallError> {
    let described = members(clients, group).await?;
    let lost = lost_unseen(clients, group, &described, Some(&current.newcomer)).await?;
    let change = too_few_last(group, &lost, &current.candidate.instance_id, original);
    Ok(change.map_or(Ok(described), Err))
}

/// Says if the last changing call of the swap is so recent that it may still land, or not show yet.
#[must_use]
pub fn calls_may_land(journal: &Journal, settings: &Settings) -> bool {
    journal.changed_at.is_some_and(|at| is_recent(at, settings))
}

/// Says if AWS refuses to set MaxSize as its owner had it. AWS may count members that are leaving: the call succeeds once
/// they are gone.
pub(crate) fn is_max_refused(error: &CallError) -> bool {
    error.kind == Kind::Rejected && error.is_refusal()
}

/// Returns when the last changing call of the swap can't land any more.
#[must_use]
pub fn landed_by(journal: &Journal, settings: &Settings) -> Option<Timestamp> {
    journal.changed_at.and_then(|at| landed(at, settings))
}

/// Says if a step of the swap was repeated so recently that a call of its earlier try may still land.
#[must_use]
pub fn earlier_calls_may_land(journal: &Journal, settings: &Settings) -> bool {
    journal.repeated_at.is_some_and(|at| is_recent(at, settings))
}

/// Says if a call of that moment may still land, or not show yet.
pub(crate) fn is_recent(at: Timestamp, settings: &Settings) -> bool {
    landed(at, settings).is_none_or(|landed| clock::now() < landed)
}

/// Says if other members may still come into service in time: a swap waits so long for its newcomer. A rollback has time left
/// after that.
pub(crate) fn awaits_others(journal: &Journal, settings: &Settings) -> bool {
    let seconds = settings.in_service_timeout_seconds.min(settings.rollback_timeout_seconds / 2);
    let until = journal.changed_at.and_then(|at| later(at, seconds));
    until.is_some_and(|until| clock::now() < until)
}

/// Returns when a call of that moment has landed, and shows, if ever.
fn landed(at: Timestamp, settings: &Settings) -> Option<Timestamp> {
    later(at, settings.launch_visible_after_seconds)
}

fn later(at: Timestamp, seconds: u32) -> Option<Timestamp> {
    at.checked_add(SignedDuration::from_secs(i64::from(seconds))).ok()
}
