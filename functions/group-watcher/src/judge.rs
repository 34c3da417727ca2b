//! Whose turn it is in a group, and if it is the turn of a lab instance, as far as tags, members and the past say.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use jiff::Timestamp;
use spot_domain::InstanceId;
use spot_domain::settings::Settings;
use spot_domain::swap::asked;
use spot_domain::swap::group::{Group, Instance};
use spot_domain::swap::lab;
use spot_domain::watch::back_off::LOOK_AGAIN;
use spot_domain::watch::enrolment::{InstanceTerms, Terms};
use spot_domain::watch::prospects::{Prospects, restless, settling};
use spot_domain::watch::window::Window;
use spot_domain::watch::{Deferral, Deferred};

use crate::start::StartTarget;
use crate::table::{Memories, Memory, Seen};

/// Whose turn it is.
#[derive(Debug)]
pub enum SubjectTurn<'a> {
    /// Nobody's: there is nothing to swap.
    Nobody,
    /// That of the target. `members` is the [`fingerprint`] of the members that may be swapped.
    Of { target: StartTarget<'a>, members: String },
}

/// A deferral, and the look that it comes from if sweeps take that for granted.
pub type NotYet = (Deferred, Option<Seen>);

/// What a subject is judged by beside itself.
#[derive(Debug)]
pub struct Judge<'a> {
    pub settings: &'a Settings,
    pub now: Timestamp,
    /// What the loop remembers of the subject.
    pub memory: &'a Memory,
    /// What it remembers of all.
    pub memories: &'a Memories,
    /// Every enrolled subject is judged, not only one that somebody names.
    pub is_sweep: bool,
}

impl Judge<'_> {
    /// Returns whose turn it is in a group.
    ///
    /// # Errors
    /// Why none of it may be swapped yet.
    pub fn group<'a>(
        &self,
        group: &'a Group,
        terms: &Result<Terms, Deferred>,
        instances: &'a BTreeMap<InstanceId, Instance>,
    ) -> Result<SubjectTurn<'a>, NotYet> {
        let terms = terms.as_ref().map_err(|bad| at_once(bad.clone()))?;
        let prospects = Prospects::of(group, instances, self.settings)
            .map_err(|bad| at_once(Deferred::new(Deferral::BadTag, bad.to_string())))?;
        if prospects.is_empty() {
            return Ok(SubjectTurn::Nobody);
        }
        let settled = prospects.settled(self.settings, self.now);
        let able = settled.as_ref().unwrap_or(&prospects);
        let members = fingerprint(&able.members.iter().chain(&able.nodes).map(|member| &member.id).collect());
        let mut nodes = if able.members.is_empty() { nodes_in_turn(able, self.memory) } else { Vec::new() };
        // What a run could not swap says nothing of members that came later, nor of the nodes after its own.
        let has_changed = self.memory.members_of_run.as_ref() != Some(&members);
        let is_after =
            |node: &&Instance| self.memory.instance_id.as_ref().is_some_and(|last| node.id > *last);
        let has_others = has_changed || nodes.iter().any(is_after);
        if !has_changed && self.rests() {
            nodes.retain(is_after);
        }
        self.forbidden(terms.window.as_ref(), has_others)
            .map_or(Ok(()), |deferred| Err(at_once(deferred)))?;
        restless(group, self.now).map_or(Ok(()), |deferred| Err(at_once(deferred)))?;
        if let Err(young) = &settled {
            return Err(at_once(young.clone()));
        }
        self.known(&members).map_or(Ok(()), Err)?;
        let target = match nodes.split_first() {
            Some((&node, next)) => StartTarget::Node { group, node, next: next.to_vec() },
            None => StartTarget::Group { group, replace: those_that_are_settled(able, &prospects) },
        };
        Ok(SubjectTurn::Of { target, members })
    }

    /// Says if it is the turn of a lab instance.
    ///
    /// # Errors
    /// Why it may not be swapped yet.
    pub fn lab<'a>(
        &self,
        instance: &'a Instance,
        terms: &Result<InstanceTerms, Deferred>,
    ) -> Result<SubjectTurn<'a>, NotYet> {
        let terms = terms.as_ref().map_err(|bad| at_once(bad.clone()))?;
        if self.settings.opts_out(&instance.tags) {
            return Ok(SubjectTurn::Nobody);
        }
        let members = fingerprint(&BTreeSet::from([&instance.id]));
        self.forbidden(terms.window.as_ref(), false).map_or(Ok(()), |deferred| Err(at_once(deferred)))?;
        settling(instance, self.settings, self.now).map_or(Ok(()), |young| Err(at_once(young)))?;
        self.known(&members).map_or(Ok(()), Err)?;
        if let Some((reason, detail)) = lab::not_ours(instance, self.settings) {
            let again = self.now.checked_add(LOOK_AGAIN).unwrap_or(Timestamp::MAX);
            let told = format!("{}: {reason}: {detail}", instance.id);
            let deferred = Deferred::until(Deferral::NoCandidate, told, again);
            return Err((deferred, Some(Seen { until: again, members })));
        }
        let capture_image = terms.capture_image;
        Ok(SubjectTurn::Of { target: StartTarget::Lab { instance, capture_image }, members })
    }

    /// Returns what forbids a start of any kind: a run in progress, the end of the last one, or a closed window.
    fn forbidden(&self, window: Option<&Window>, has_others: bool) -> Option<Deferred> {
        let running = self.memory.execution.as_ref();
        if let Some(execution) = running.filter(|execution| self.memories.running.contains(*execution)) {
            return Some(Deferred::new(Deferral::SwapInProgress, format!("{execution} works on it")));
        }
        let paused = self.memory.past.forbids(self.settings, self.now);
        let paused = paused.filter(|pause| pause.reason != Deferral::NothingSwapped || !has_others);
        let closed = || {
            let window = window.filter(|window| !window.is_open(self.now))?;
            let detail = format!("the window {window} is closed");
            let not_before = window.next_opening(self.now);
            Some(Deferred { not_before, ..Deferred::new(Deferral::WindowClosed, detail) })
        };
        paused.or_else(closed)
    }

    /// Returns true while the pause after a run that swapped nothing lasts.
    fn rests(&self) -> bool {
        let pause = self.memory.past.forbids(self.settings, self.now);
        pause.is_some_and(|pause| pause.reason == Deferral::NothingSwapped)
    }

    /// Returns the deferral that an earlier look has found, while sweeps take that for granted.
    fn known(&self, members: &str) -> Option<NotYet> {
        let told = self.memory.told.as_ref().filter(|_| self.is_sweep)?;
        let holds = |seen: &Seen| self.now < seen.until && seen.members == members;
        told.seen.as_ref().filter(|seen| holds(seen))?;
        Some((told.deferred.clone(), told.seen.clone()))
    }
}

fn at_once(deferred: Deferred) -> NotYet {
    (deferred, None)
}

/// Returns the settled members if others of the group are too young; `None` if the run may take all.
fn those_that_are_settled(settled: &Prospects<'_>, all: &Prospects<'_>) -> Option<asked::Named> {
    let ids: Vec<InstanceId> = settled.members.iter().map(|member| member.id.clone()).collect();
    if settled.members.len() < all.members.len() { ids.try_into().ok() } else { None }
}

/// Returns a text that differs for other members.
#[must_use]
pub fn fingerprint(members: &BTreeSet<&InstanceId>) -> String {
    let mut hasher = DefaultHasher::new();
    members.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// Returns the nodes in the order of their turn. It begins after the node of the last run, so that a node whose run
/// swapped nothing holds up no other.
fn nodes_in_turn<'a>(prospects: &Prospects<'a>, memory: &Memory) -> Vec<&'a Instance> {
    let mut nodes = prospects.nodes.clone();
    nodes.sort_by(|a, b| a.id.cmp(&b.id));
    let last = memory.instance_id.as_ref();
    let had_theirs = last.map_or(0, |last| nodes.partition_point(|node| node.id <= *last));
    nodes.rotate_left(had_theirs);
    nodes
}
