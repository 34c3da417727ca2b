//! A look at AWS, as `observe` in `shared/swap/src/recovery/lab.rs` takes it: each field of another moment.

use super::aws::{ATTEMPTS, Holder, Machine, Power, Served, Truth, Who};
use super::history::History;
use super::*;
use crate::swap::lab::CapturedImage;
use crate::swap::proof::left_alone;
use crate::swap::recovery::fate::QUIET;

/// The old instance, the newcomers, the address, the targets of each, and the storage.
pub(super) const FIELDS: usize = 6;

/// The measure of a decision: what had happened by the oldest field of its look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Basis {
    pub struck: u32,
    pub moved: u32,
    /// What was owed and served in each of the moments that it shows.
    pub served: Served,
}

#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub truth: Truth,
    pub basis: Basis,
}

impl History {
    pub(super) fn look(&self, ages: [u8; FIELDS]) -> Seen {
        let of = |age: u8| self.past.of(age, &self.truth);
        let [old, new, address, olds, news, storage] = ages.map(of);
        let both_serve = |a: Served, b: Served| std::array::from_fn(|n| a[n] && b[n]);
        let both = olds.groups.iter().zip(&news.groups);
        let truth = Truth {
            old: old.old,
            new: new.new,
            address: address.address,
            groups: both.map(|(old, new)| [old[0], new[1], new[2]]).collect(),
            image: storage.image,
            snapshot: storage.snapshot,
            volumes: storage.volumes,
            owner: old.owner,
            struck: 0,
            moved: 0,
        };
        let all = [old, new, address, olds, news, storage];
        let basis = Basis {
            struck: all.iter().map(|truth| truth.struck).min().unwrap_or_default(),
            moved: all.iter().map(|truth| truth.moved).min().unwrap_or_default(),
            served: all
                .iter()
                .map(|truth| both_serve(truth.served(), truth.owed()))
                .reduce(both_serve)
                .unwrap_or_default(),
        };
        Seen { truth, basis }
    }

    pub(super) fn observed(&self, journal: &Journal, seen: &Truth) -> Observed {
        let lab = journal.kind.lab().expect("the swap of a lab");
        let is_recent = |since: Timestamp| i64::from(self.now) - since.as_second() < i64::from(QUIET);
        let found = newcomer(journal, seen);
        let attempt = found.map(|(attempt, _)| attempt);
        let is_alive = found.is_some_and(|(_, machine)| machine.is_some_and(Machine::is_alive));
        let mut observed = Observed {
            old: old_state(journal, lab, seen, is_alive),
            newcomer: attempt.map(|n| Newcomer { id: Who::New(n).id(), alive: is_alive }),
            strays: (0..ATTEMPTS)
                .filter(|n| attempt != Some(*n) && seen.new[*n].is_some_and(Machine::is_alive))
                .map(|n| Who::New(n).id())
                .collect(),
            launch_may_be_invisible: is_recent(journal.launching_since),
            calls_may_land: journal.changed_at.is_some_and(is_recent),
            address: match seen.address {
                _ if lab.address.is_none() => AddressAt::Elsewhere,
                Holder::Of(Who::Old) => AddressAt::Old,
                Holder::Of(Who::New(n)) if attempt == Some(n) => AddressAt::Newcomer,
                Holder::Nobody => AddressAt::Nobody,
                Holder::Of(_) | Holder::Elsewhere => AddressAt::Elsewhere,
            },
            targets: (0..seen.groups.len())
                .map(|n| Targets {
                    old: seen.target(Who::Old, n),
                    newcomer: attempt.map_or(TargetState::Absent, |new| seen.target(Who::New(new), n)),
                })
                .collect(),
            images: vec![],
            snapshots: vec![],
            newcomers_volumes: attempt.filter(|_| is_alive).map(volume).into_iter().collect(),
            volumes: vec![],
            left_alone: vec![],
        };
        if lab.capture {
            images(lab, seen, &mut observed);
        }
        if !is_alive {
            let is_shown = found.is_some_and(|(_, machine)| machine.is_some());
            volumes(lab, seen, attempt, is_shown, &mut observed);
        }
        observed
    }
}

/// The newcomer, by its attempt, and what EC2 shows of it.
fn newcomer(journal: &Journal, seen: &Truth) -> Option<(usize, Option<Machine>)> {
    if let Some(id) = &journal.newcomer {
        let attempt = Who::newcomer(id);
        return Some((attempt, seen.new[attempt]));
    }
    let launched = (0..ATTEMPTS).filter(|n| seen.new[*n].is_some());
    let found = launched.max_by_key(|n| seen.new[*n].is_some_and(Machine::is_alive));
    found.map(|n| (n, seen.new[n]))
}

fn old_state(journal: &Journal, lab: &LabSwap, seen: &Truth, newcomer_lives: bool) -> OldState {
    match seen.old.power {
        Power::Running => {
            let is_back = journal.stage == Stage::Undoing && lab.stopping && newcomer_lives;
            if is_back && !seen.old.is_booted { OldState::Starting } else { OldState::Running }
        }
        Power::Pending => OldState::Starting,
        Power::Stopping | Power::Stopped => OldState::Stopped,
        Power::ShuttingDown | Power::Terminated => OldState::Gone,
    }
}

pub(super) const IMAGE: &str = "ami-1";
const SNAPSHOT: &str = "snap-1";

pub(super) fn volume(attempt: usize) -> String {
    format!("vol-{attempt}")
}

pub(super) fn captured(is_available: bool) -> CapturedImage {
    // The mappings of an image that is pending name no snapshot.
    let snapshots = is_available.then(|| SNAPSHOT.to_owned()).into_iter().collect();
    CapturedImage { id: IMAGE.to_owned(), snapshots }
}

fn images(lab: &LabSwap, seen: &Truth, observed: &mut Observed) {
    observed.images.extend(seen.image.map(captured));
    let mut made = lab.captured.clone();
    made.note(&observed.images);
    if !seen.snapshot {
        return;
    }
    if made.images.contains(IMAGE) || made.snapshots.contains(SNAPSHOT) {
        observed.snapshots.push(SNAPSHOT.to_owned());
    } else {
        observed.left_alone.push(left_alone("snapshot", SNAPSHOT));
    }
}

fn volumes(lab: &LabSwap, seen: &Truth, newcomer: Option<usize>, is_shown: bool, observed: &mut Observed) {
    for (n, is_attached) in seen.volumes.iter().enumerate().filter_map(|(n, is)| Some((n, (*is)?))) {
        let (id, is_its) = (volume(n), is_attached && newcomer == Some(n));
        if is_shown && lab.volumes.contains(&id) {
            if is_its || !is_attached {
                observed.volumes.push(LeftVolume { id, is_attached });
            }
        } else {
            observed.left_alone.push(left_alone("volume", &id));
        }
    }
}
