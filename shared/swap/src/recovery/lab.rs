//! The recovery of a lab swap, which carries its retirement forward, too.

use std::collections::BTreeSet;

use spot_cloud::RegionClients;
use spot_cloud::ec2::{addresses, images, instances};
use spot_cloud::error::CallError;
use spot_cloud::launch::gatekeeper::Gatekeeper;
use spot_cloud::load_balancing::targets;
use spot_cloud::tables::swaps::{Lease, Swaps, SwapsError};
use spot_domain::clock;
use spot_domain::settings::Settings;
use spot_domain::swap::group::{Instance, InstanceState};
use spot_domain::swap::journal::{Journal, Stage, SwapKind, Undo};
use spot_domain::swap::lab::{CapturedImage, LabSwap};
use spot_domain::swap::proof::left_alone;
use spot_domain::swap::recovery::lab::{
    Action, AddressAt, LeftVolume, Newcomer, Observed, OldState, Targets, goes_forward, next, why_not_forward,
};
use spot_domain::swap::recovery::{Decision, End, Ended};
use spot_domain::{InstanceId, Reason};

use super::{After, Permission, Progress, Recovery, Visit, calls_may_land, drive, is_recent};
use crate::last_look::{LastLook, last_look_at_described};
use crate::newcomer::{SwapInstances, look, unproven};
use crate::owner;

/// EC2's code for an address that is given to an instance that is starting or has ended: "The instance is not in a valid
/// state for this operation".
const INVALID_STATE: &str = "InvalidInstanceID";

/// Does all that can be done now for a lab swap, one way or the other.
///
/// # Errors
/// As for [`drive`]; or the swap is none of an instance in no group.
pub async fn recover_lab(
    gatekeeper: &Gatekeeper,
    visit: Visit<'_>,
    journal: &mut Journal,
) -> Result<Progress, SwapsError> {
    drive(LabRecovery { gatekeeper, last: None, gate_asked: false, owner_asked: false }, visit, journal).await
}

/// The ways of a lab swap.
#[derive(Debug)]
struct LabRecovery<'a> {
    gatekeeper: &'a Gatekeeper,
    last: Option<Action>,
    gate_asked: bool,
    owner_asked: bool,
}

/// What AWS shows of a lab swap, and what the swap moves.
struct Seen {
    facts: Observed,
    lab: LabSwap,
    newcomer: Option<Instance>,
}

impl Recovery for LabRecovery<'_> {
    type Observed = Seen;
    type Action = Action;

    /// An address, a few target groups, two instances, an image.
    const ACTIONS_PER_VISIT: usize = 20;

    async fn observe(&self, visit: Visit<'_>, journal: &Journal) -> Result<Seen, SwapsError> {
        let Some(lab) = journal.kind.lab().cloned() else {
            let problem = format!("swap {} is none of an instance in no group", journal.swap_id);
            return Err(unproven(visit.lease, &problem));
        };
        let both = look(visit.clients, visit.lease, journal).await?;
        let newcomer = both.newcomer.instance().cloned();
        let facts = facts(visit.clients, visit.settings, journal, &lab, both).await?;
        Ok(Seen { facts, lab, newcomer })
    }

    fn decide(&self, _: Visit<'_>, journal: &Journal, seen: &Seen) -> Result<Decision<Action>, SwapsError> {
        Ok(next(journal, &seen.lab, &seen.facts))
    }

    async fn permit(
        &mut self,
        visit: Visit<'_>,
        journal: &mut Journal,
        seen: &Seen,
        decision: &Decision<Action>,
    ) -> Result<Permission, SwapsError> {
        if journal.stage == Stage::Retiring && !goes_forward(journal, &seen.lab, &seen.facts) {
            let (reason, why) = why_not_forward(&seen.facts);
            turn_round(journal, reason, format!("while {} was to leave: {why}", journal.old));
            return Ok(Permission::LookAgain); // what was called before may land: the next look knows
        }
        if self.asks_the_gate(journal, seen, decision)
            && let Some(newcomer) = &seen.newcomer
        {
            match last_look_at_described(self.gatekeeper, visit.clients, newcomer, &visit.lease.region)
                .await?
            {
                LastLook::Clear => {}
                LastLook::AtRisk(why) => {
                    turn_round(journal, Reason::NewcomerAtRisk, why);
                    return Ok(Permission::LookAgain);
                }
                LastLook::Unknown(why) => return Ok(Permission::NotYet(why)),
            }
        }
        // Once for all target groups, and right before each stop: an owner who protects the instance is heard, also if an
        // earlier stop may still land.
        let asks_the_owner = match decision {
            Decision::Do(Action::DeregisterOld(_)) => !std::mem::replace(&mut self.owner_asked, true),
            Decision::Do(Action::StopOld | Action::TerminateOld) => true,
            _ => false,
        };
        let Visit { clients, settings, .. } = visit;
        if asks_the_owner && let Some(why) = owner::change(clients, settings, &journal.old, &seen.lab).await?
        {
            turn_round(journal, Reason::InstanceChanged, why);
            return Ok(Permission::LookAgain);
        }
        if let Decision::Do(action @ Action::TerminateNewcomer(id)) = decision
            && self.last.as_ref() != Some(action)
            && let Some(use_of_it) = owner::settled_on(clients, settings, id, &seen.lab).await?
        {
            keep(journal, id, use_of_it);
            return Ok(Permission::LookAgain);
        }
        let is_end = matches!(decision, Decision::Done(_));
        if is_end && !seen.facts.left_alone.is_empty() && learns(visit.swaps, visit.lease, journal).await? {
            return Ok(Permission::LookAgain);
        }
        let again = decision.action().filter(|action| self.last.as_ref() == Some(action));
        Ok(again.map_or(Permission::Granted, |again| {
            Permission::NotYet(format!("AWS does not show yet what was done: {again:?}"))
        }))
    }

    fn foresee(&self, journal: &mut Journal, seen: &Seen, action: &Action) {
        let mut lab = seen.lab.clone();
        action.record(&mut lab, &seen.facts);
        journal.kind = SwapKind::Lab(Box::new(lab));
        journal.changed_at = Some(clock::now());
    }

    async fn perform(
        &self,
        visit: Visit<'_>,
        journal: &Journal,
        seen: &Seen,
        action: &Action,
    ) -> Result<(), CallError> {
        let (ec2, elbv2, old) = (&visit.clients.ec2, &visit.clients.elbv2, &journal.old);
        let newcomer =
            || seen.facts.newcomer.as_ref().map(|newcomer| &newcomer.id).ok_or_else(|| missing(action));
        let at = |n: &usize| seen.lab.registrations.get(*n).ok_or_else(|| missing(action));
        let address = || seen.lab.address.as_deref().ok_or_else(|| missing(action));
        match action {
            Action::RegisterOld(n) => targets::register(elbv2, at(n)?, old).await,
            Action::DeregisterOld(n) => targets::deregister(elbv2, at(n)?, old).await,
            Action::RegisterNewcomer(n) => targets::register(elbv2, at(n)?, newcomer()?).await,
            Action::DeregisterNewcomer(n) => targets::deregister(elbv2, at(n)?, newcomer()?).await,
            Action::AddressToNewcomer => addresses::give(ec2, address()?, newcomer()?).await,
            Action::AddressToOld => addresses::give(ec2, address()?, old).await,
            Action::StopOld => instances::stop(ec2, old).await,
            Action::StartOld => instances::start(ec2, old).await,
            Action::TerminateOld => instances::terminate(ec2, old).await,
            Action::TerminateNewcomer(id) => instances::terminate(ec2, id).await,
            Action::DeregisterImage(id) => images::deregister(ec2, id).await,
            Action::DeleteSnapshot(id) => images::delete_snapshot(ec2, id).await,
            Action::DeleteVolume(id) => images::delete_volume(ec2, id).await,
        }
    }

    fn settle(
        &mut self,
        journal: &mut Journal,
        before: &Journal,
        action: Action,
        answer: Result<(), CallError>,
    ) -> After {
        if let Err(error) = answer {
            let is_of_address = matches!(action, Action::AddressToNewcomer | Action::AddressToOld);
            // The instance has ended since the look. The next one shows it.
            return if is_of_address && error.code == INVALID_STATE {
                After::NextVisit("the instance is in no state to take the address".to_owned())
            } else {
                After::Failed(error)
            };
        }
        journal.changed_at = before.changed_at; // it was answered: it lands no later
        self.last = Some(action);
        After::GoOn
    }

    async fn ended(
        &self,
        visit: Visit<'_>,
        journal: &Journal,
        seen: Seen,
        end: End,
    ) -> Result<Ended, SwapsError> {
        let Seen { facts, lab, .. } = seen;
        if end == End::Finished && facts.newcomer.is_some() {
            visit.swaps.remember(visit.lease, journal).await?;
        }
        if end == End::Undone && lab.is_over {
            visit.swaps.forget(visit.lease, journal.newcomer.as_ref()).await?;
        }
        let newcomer =
            facts.newcomer.as_ref().filter(|newcomer| newcomer.alive).map(|newcomer| newcomer.id.clone());
        Ok(Ended { end, newcomer, pool: None, remarks: facts.remarks(&lab), doubt: None })
    }
}

impl LabRecovery<'_> {
    /// Says if the newcomer is looked at once more: once a visit while the old instance drains, and right before it stops.
    fn asks_the_gate(&mut self, journal: &Journal, seen: &Seen, decision: &Decision<Action>) -> bool {
        let stops = matches!(decision, Decision::Do(Action::StopOld | Action::TerminateOld));
        let runs = seen.facts.old == OldState::Running && (stops || !seen.lab.stopping);
        if !runs || journal.stage != Stage::Retiring || !goes_forward(journal, &seen.lab, &seen.facts) {
            return false;
        }
        stops || !std::mem::replace(&mut self.gate_asked, true)
    }
}

/// The decision was made from what this action needs.
fn missing(action: &Action) -> CallError {
    CallError::malformed("recovery", format!("{action:?} names what the swap does not have"))
}

/// Takes over what another visit has noted meanwhile of the swap's own; returns true if that is anything new.
async fn learns(swaps: &Swaps, lease: &Lease, journal: &mut Journal) -> Result<bool, SwapsError> {
    let stored = swaps.read(lease).await?.and_then(|held| held.journal);
    let (Some(lab), Some(stored)) =
        (journal.kind.lab_mut(), stored.as_ref().and_then(|stored| stored.kind.lab()))
    else {
        return Ok(false);
    };
    let known = lab.clone();
    lab.captured.images.extend(stored.captured.images.iter().cloned());
    lab.captured.snapshots.extend(stored.captured.snapshots.iter().cloned());
    lab.volumes.extend(stored.volumes.iter().cloned());
    Ok(*lab != known)
}

/// From here it is undone, whatever comes.
fn turn_round(journal: &mut Journal, reason: Reason, detail: String) {
    journal.stage = Stage::Undoing;
    // An earlier run of this step may have called a moment ago, and got no answer.
    journal.changed_at = Some(clock::now());
    tracing::warn!(%reason, "{detail}");
    match &mut journal.undo {
        Some(undo) => undo.add(&detail),
        none => *none = Some(Undo { reason, detail }),
    }
}

/// From here the newcomer is its owner's.
fn keep(journal: &mut Journal, newcomer: &InstanceId, use_of_it: String) {
    tracing::warn!(%newcomer, "it is not terminated: {use_of_it}");
    if let Some(lab) = journal.kind.lab_mut() {
        lab.kept.insert(newcomer.clone(), use_of_it);
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
    Ok(facts(clients, settings, journal, lab, look(clients, lease, journal).await?).await?)
}

async fn facts(
    clients: &RegionClients,
    settings: &Settings,
    journal: &Journal,
    lab: &LabSwap,
    look: SwapInstances,
) -> Result<Observed, CallError> {
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
