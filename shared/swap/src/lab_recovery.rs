//! Carries a lab swap on: looks at AWS, asks `spot_domain::swap::recovery::lab` for the one thing to do, does
//! it, looks again. The rollback and the reconciler come here through [`crate::recovery::advance`].

use std::collections::BTreeSet;

use jiff::Timestamp;
use spot_cloud::RegionClients;
use spot_cloud::ec2::{addresses, images, instances};
use spot_cloud::error::CallError;
use spot_cloud::load_balancing::targets;
use spot_cloud::tables::swaps::{Lease, Swaps, SwapsError};
use spot_domain::settings::Settings;
use spot_domain::swap::group::{Instance, InstanceState};
use spot_domain::swap::journal::{Journal, Stage, Undo};
use spot_domain::swap::lab::LabSwap;
use spot_domain::swap::proof::left_alone;
use spot_domain::swap::recovery::End;
use spot_domain::swap::recovery::lab::{
    Action, AddressAt, CapturedImage, LeftVolume, Newcomer, Observed, OldState, Targets, goes_forward, next,
    why_not_forward,
};
use spot_domain::{InstanceId, Reason};

use crate::newcomer::look;
use crate::owner;
use crate::recovery::{Progress, calls_may_land, is_recent};

/// An address, a few target groups, two instances, an image: more means that something fights us.
const ACTIONS_PER_VISIT: usize = 20;

/// Does all that can be done now for the lab swap that `journal` tells of. Before each action the
/// journal is written, which proves that the lease is still held.
///
/// # Errors
/// A call fails. Whatever was done is done; the next visit goes on from there.
pub async fn advance(
    clients: &RegionClients,
    swaps: &Swaps,
    lease: &Lease,
    settings: &Settings,
    journal: &mut Journal,
) -> Result<Progress, SwapsError> {
    let (mut last, mut owner_asked) = (None, false);
    for _ in 0..ACTIONS_PER_VISIT {
        let Some(mut lab) = journal.lab.clone() else { break };
        let observed = observe(clients, lease, settings, journal, &lab).await?;
        if journal.stage == Stage::Retiring && !goes_forward(journal, &lab, &observed) {
            let (reason, why) = why_not_forward(&observed);
            turn_round(journal, reason, format!("while {} was to leave: {why}", journal.old));
            swaps.revise(lease, journal).await?;
            continue; // what was called before may land: the next look knows
        }
        let action = next(journal, &lab, &observed);
        // Once for all target groups, and right before each stop: an owner who protects the instance is heard, also if an
        // earlier stop may still land.
        let asks_the_owner = match action {
            Action::DeregisterOld(_) => !std::mem::replace(&mut owner_asked, true),
            Action::StopOld | Action::TerminateOld => true,
            _ => false,
        };
        if asks_the_owner && let Some(why) = owner::change(clients, settings, &journal.old, &lab).await? {
            turn_round(journal, Reason::InstanceChanged, why);
            swaps.revise(lease, journal).await?;
            continue;
        }
        tracing::info!(on = %lease.on, swap_id = %journal.swap_id, ?action, "carrying on");
        match &action {
            Action::Done(_) if !observed.left_alone.is_empty() && learns(swaps, lease, journal).await? => {
                continue;
            }
            Action::Done(end) => {
                // Another recovery may be about to call.
                swaps.revise(lease, journal).await?;
                if *end == End::Finished && observed.newcomer.is_some() {
                    swaps.remember(lease, journal).await?;
                }
                if *end == End::Undone && lab.is_over {
                    swaps.forget(lease, journal.newcomer.as_ref()).await?;
                }
                return Ok(ended(*end, &observed, &lab));
            }
            Action::Wait(why) => return Ok(Progress::Waiting((*why).to_owned())),
            again if last.as_ref() == Some(again) => {
                return Ok(Progress::Waiting(format!("AWS does not show yet what was done: {again:?}")));
            }
            action => action.record(&mut lab, &observed),
        }
        journal.lab = Some(lab.clone());
        let before = journal.changed_at.replace(Timestamp::now());
        swaps.revise(lease, journal).await?;
        perform(clients, journal, &lab, &observed, &action).await?;
        journal.changed_at = before; // it was answered: it lands no later
        last = Some(action);
    }
    Ok(Progress::Waiting("more than one visit's actions were needed".to_owned()))
}

/// Takes over what another visit has noted meanwhile of the swap's own; returns true if that is anything new.
async fn learns(swaps: &Swaps, lease: &Lease, journal: &mut Journal) -> Result<bool, SwapsError> {
    let stored = swaps.read(lease).await?.and_then(|held| held.journal).and_then(|stored| stored.lab);
    let (Some(lab), Some(stored)) = (&mut journal.lab, stored) else { return Ok(false) };
    let known = lab.clone();
    lab.captured.images.extend(stored.captured.images);
    lab.captured.snapshots.extend(stored.captured.snapshots);
    lab.volumes.extend(stored.volumes);
    Ok(*lab != known)
}

/// From here it is undone, whatever comes.
fn turn_round(journal: &mut Journal, reason: Reason, detail: String) {
    journal.stage = Stage::Undoing;
    // An earlier run of this step may have called a moment ago, and got no answer.
    journal.changed_at = Some(Timestamp::now());
    tracing::warn!(%reason, "{detail}");
    journal.undo.get_or_insert(Undo { reason, detail });
}

fn ended(end: End, observed: &Observed, lab: &LabSwap) -> Progress {
    let newcomer = observed.newcomer.as_ref().filter(|n| n.alive).map(|n| n.id.clone());
    Progress::Ended { end, newcomer, pool: None, remarks: observed.remarks(lab), doubt: None }
}

async fn perform(
    clients: &RegionClients,
    journal: &Journal,
    lab: &LabSwap,
    observed: &Observed,
    action: &Action,
) -> Result<(), CallError> {
    let (ec2, elbv2, old) = (&clients.ec2, &clients.elbv2, &journal.old);
    let newcomer = observed.newcomer.as_ref().map(|newcomer| &newcomer.id);
    let at = |n: &usize| lab.registrations.get(*n);
    match action {
        Action::RegisterOld(n) => with(at(n), Some(old), |r, id| targets::register(elbv2, r, id)).await,
        Action::DeregisterOld(n) => with(at(n), Some(old), |r, id| targets::deregister(elbv2, r, id)).await,
        Action::RegisterNewcomer(n) => with(at(n), newcomer, |r, id| targets::register(elbv2, r, id)).await,
        Action::DeregisterNewcomer(n) => {
            with(at(n), newcomer, |r, id| targets::deregister(elbv2, r, id)).await
        }
        Action::AddressToNewcomer => {
            with(lab.address.as_ref(), newcomer, |address, id| addresses::give(ec2, address, id)).await
        }
        Action::AddressToOld => {
            with(lab.address.as_ref(), Some(old), |address, id| addresses::give(ec2, address, id)).await
        }
        Action::StopOld => instances::stop(ec2, old).await,
        Action::StartOld => instances::start(ec2, old).await,
        Action::TerminateOld => instances::terminate(ec2, old).await,
        Action::TerminateNewcomer(id) => instances::terminate(ec2, id).await,
        Action::DeregisterImage(id) => images::deregister(ec2, id).await,
        Action::DeleteSnapshot(id) => images::delete_snapshot(ec2, id).await,
        Action::DeleteVolume(id) => images::delete_volume(ec2, id).await,
        Action::Done(_) | Action::Wait(_) => Ok(()),
    }
}

/// What is decided on is there: the decision was made from it.
async fn with<'a, T, F: Future<Output = Result<(), CallError>>>(
    what: Option<&'a T>,
    whom: Option<&'a InstanceId>,
    call: impl FnOnce(&'a T, &'a InstanceId) -> F,
) -> Result<(), CallError> {
    match what.zip(whom) {
        Some((what, whom)) => call(what, whom).await,
        None => Ok(()),
    }
}

/// Looks at everything that the journal names.
///
/// # Errors
/// A call fails, or the journal names a newcomer that something else launched ([`SwapsError::Unproven`]).
pub async fn observe(
    clients: &RegionClients,
    lease: &Lease,
    settings: &Settings,
    journal: &Journal,
    lab: &LabSwap,
) -> Result<Observed, SwapsError> {
    let look = look(clients, lease, journal).await?;
    let found = &look.newcomer;
    let newcomer = found.id().map(|id| Newcomer { id: id.clone(), alive: found.is_alive() });
    let id = newcomer.as_ref().map(|newcomer| &newcomer.id);
    let address = match &lab.address {
        Some(address) => whereabouts(clients, address, &journal.old, id).await?,
        None => AddressAt::Elsewhere,
    };
    let mut both = Vec::with_capacity(lab.registrations.len());
    for registration in &lab.registrations {
        let old = targets::state(&clients.elbv2, registration, &journal.old).await?;
        let newcomer = match id {
            Some(id) => targets::state(&clients.elbv2, registration, id).await?,
            None => spot_domain::swap::recovery::lab::TargetState::Absent,
        };
        both.push(Targets { old, newcomer });
    }
    let mut storage = if lab.capture { images_of(clients, journal, lab).await? } else { Storage::default() };
    // Of a newcomer that stays, no volume is in question.
    if !found.is_alive() {
        // Without a newcomer to prove the swap, its journal proves no volume.
        let noted = if found.instance().is_some() { lab.volumes.clone() } else { BTreeSet::new() };
        let volumes = images::volumes_left_by(&clients.ec2, &journal.swap_id, id, &noted).await?;
        storage.volumes = volumes.left;
        storage.left_alone.extend(volumes.only_tagged.iter().map(|id| left_alone("volume", id)));
    }
    storage.left_alone.extend(look.left_alone);
    let mut old = old_state(look.old.as_ref());
    // One that we started again serves only once it has booted: until then the newcomer stays in its place.
    let is_back = journal.stage == Stage::Undoing && lab.stopping && old == OldState::Running;
    if is_back
        && newcomer.as_ref().is_some_and(|newcomer| newcomer.alive)
        && !instances::passes_status_checks(&clients.ec2, &journal.old).await?
    {
        old = OldState::Starting;
    }
    Ok(Observed {
        old,
        newcomer,
        strays: look.strays,
        launch_may_be_invisible: is_recent(journal.launching_since, settings),
        calls_may_land: calls_may_land(journal, settings),
        address,
        targets: both,
        images: storage.images,
        snapshots: storage.snapshots,
        newcomers_volumes: look.newcomer.instance().map(launched_with).unwrap_or_default(),
        volumes: storage.volumes,
        left_alone: storage.left_alone,
    })
}

/// The storage of a swap, told from what only bears its tag.
#[derive(Default)]
struct Storage {
    images: Vec<CapturedImage>,
    snapshots: Vec<String>,
    volumes: Vec<LeftVolume>,
    left_alone: Vec<String>,
}

async fn images_of(clients: &RegionClients, journal: &Journal, lab: &LabSwap) -> Result<Storage, CallError> {
    let (ec2, swap, old) = (&clients.ec2, &journal.swap_id, &journal.old);
    let mut storage = Storage::default();
    let captured = images::captured_by(ec2, swap, old).await?;
    storage.images.extend(captured.map(|image| CapturedImage { id: image.id, snapshots: image.snapshots }));
    let mut made = lab.captured.clone();
    made.note(&storage.images);
    for image in images::tagged_images(ec2, swap).await? {
        if !made.images.contains(&image) {
            storage.left_alone.push(left_alone("image", &image));
        }
    }
    for snapshot in images::tagged_snapshots(ec2, swap).await? {
        if made.holds(&snapshot, swap, old) {
            storage.snapshots.push(snapshot.id);
        } else {
            storage.left_alone.push(left_alone("snapshot", &snapshot.id));
        }
    }
    Ok(storage)
}

/// Returns the volumes that came with the launch of an instance. What its owner has attached later is the owner's.
#[must_use]
pub fn launched_with(newcomer: &Instance) -> BTreeSet<String> {
    let volumes = newcomer.belongings.volumes.iter();
    volumes.filter(|volume| volume.is_from_launch).map(|volume| volume.id.clone()).collect()
}

/// An old instance that its owner has given another address keeps that: ours would take its place.
async fn whereabouts(
    clients: &RegionClients,
    address: &str,
    old: &InstanceId,
    newcomer: Option<&InstanceId>,
) -> Result<AddressAt, CallError> {
    let at = addresses::whereabouts(&clients.ec2, address, old, newcomer).await?;
    let has_another =
        at != AddressAt::Old && addresses::of(&clients.ec2, old).await?.iter().any(|held| held != address);
    Ok(if has_another { AddressAt::Elsewhere } else { at })
}

fn old_state(old: Option<&Instance>) -> OldState {
    match old.map(|old| old.state) {
        Some(InstanceState::Running) => OldState::Running,
        Some(InstanceState::Pending) => OldState::Starting,
        Some(InstanceState::Stopped) => OldState::Stopped,
        Some(InstanceState::Dead) | None => OldState::Gone,
    }
}
