//! A group as it is while we work on it: nothing is atomic. Members leave slowly, the group scales both ways by itself, a
//! call may land after its caller gave up, and each field of a look may be some states old.

use std::collections::BTreeSet;

use crate::ids::InstanceId;
use crate::swap::group::tests::{group_of, id, member};
use crate::swap::group::{AZ_REBALANCE, Group, Member, MemberState};
use crate::swap::journal::Journal;
use crate::swap::recovery::fate::{Fate, Refused};

/// The row of the Swaps table.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub journal: Journal,
    pub revision: u32,
}

impl Row {
    /// Writes the next revision of a journal that was read at revision `read`; false if the writer does not go on.
    pub(super) fn stores(&mut self, journal: &Journal, read: &mut u32, fate: Fate) -> bool {
        if self.revision != *read {
            return false; // another has written since
        }
        if fate.is_written() {
            *read += 1;
            *self = Self { journal: journal.clone(), revision: *read };
        }
        matches!(fate, Fate::Done)
    }
}

pub(super) const OLD: u32 = 0;
pub(super) const NEW: u32 = 99;

/// The number of an id that the tests made.
pub(super) fn number(id: &InstanceId) -> u32 {
    u32::from_str_radix(&id.as_str()[2..], 16).expect("the tests number their instances")
}

/// A member, as it really is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Inside {
    pub n: u32,
    pub state: MemberState,
    pub alive: bool,
    /// It leaves by a detach, and lives on.
    pub is_detaching: bool,
    /// Its target groups find it healthy.
    pub is_registered: bool,
}

impl Inside {
    /// A member that its group has just launched, or was given.
    const fn pending(n: u32) -> Self {
        Self { n, state: MemberState::Pending, alive: true, is_detaching: false, is_registered: false }
    }

    pub(super) const fn stays(self) -> bool {
        !matches!(self.state, MemberState::Leaving)
    }

    /// EC2 is asked for the swap's own two; that another has died shows once its group has noticed.
    const fn serves(self) -> bool {
        let is_shown = matches!(self.state, MemberState::InService) && self.is_registered;
        is_shown && (self.alive || !matches!(self.n, OLD | NEW))
    }
}

/// The old instance or the newcomer, outside of its group too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Machine {
    pub alive: bool,
    pub has_group_tag: bool,
}

/// The group and both instances at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Truth {
    pub desired: u32,
    pub max: u32,
    pub suspended: bool,
    pub members: Vec<Inside>,
    pub old: Machine,
    pub new: Option<Machine>,
    /// The newcomer was given up before it served: nobody counts on it.
    pub is_given_up: bool,
    /// The capacity that the owner, and his policies, ask for.
    pub wish: u32,
    /// The number of serving members that were lost so far, and not by us.
    pub lost: u32,
    /// The group has target groups: a member that is InService is healthy there some time later.
    pub has_targets: bool,
    /// A decrement counts a member out that is leaving already. Nobody has tried if AWS does so
    /// (kubernetes/autoscaler#5411).
    pub counts_twice: bool,
    launched: u32,
}

impl std::fmt::Display for Truth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { desired, max, wish, .. } = self;
        write!(f, "desired {desired} (wish {wish}), max {max}, suspended {}:", self.suspended)?;
        for Inside { n, state, alive, .. } in &self.members {
            write!(f, " {n} {state:?}{}", if *alive { "" } else { " dead" })?;
        }
        write!(f, "; old {:?}, new {:?}", self.old, self.new)
    }
}

/// A changing call of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    Launch,
    SetMax(u32),
    SetDesired(u32),
    Suspend,
    Resume,
    Attach(u32),
    Detach(u32),
    TerminateMember { n: u32, decrement: bool },
    Terminate(u32),
}

impl Call {
    /// Says if the SDK asks again where it got no answer. What sets a group's sizes or processes, or lowers desired, is asked
    /// once.
    pub(super) const fn is_repeated_by_the_sdk(self) -> bool {
        matches!(self, Self::Attach(_) | Self::Terminate(_))
    }
}

impl Truth {
    pub(super) fn new(n: u32, max: u32) -> Self {
        let inside = |n| Inside { state: MemberState::InService, is_registered: true, ..Inside::pending(n) };
        Self {
            desired: n,
            max,
            suspended: false,
            members: (0..n).map(inside).collect(),
            old: Machine { alive: true, has_group_tag: true },
            new: None,
            is_given_up: false,
            wish: n,
            lost: 0,
            has_targets: false,
            counts_twice: false,
            launched: 50,
        }
    }

    pub(super) fn member(&self, n: u32) -> Option<Inside> {
        self.members.iter().copied().find(|m| m.n == n)
    }

    pub(super) fn serving(&self) -> u32 {
        let counts = |m: &&Inside| m.serves() && !(self.is_given_up && m.n == NEW);
        u32::try_from(self.members.iter().filter(counts).count()).unwrap()
    }

    fn staying(&self) -> usize {
        self.members.iter().filter(|m| m.stays()).count()
    }

    fn machine(&mut self, n: u32) -> Option<&mut Machine> {
        match n {
            OLD => Some(&mut self.old),
            NEW => self.new.as_mut(),
            _ => None,
        }
    }

    fn leaves(&mut self, n: u32, is_detaching: bool, decrement: bool) -> Result<(), Refused> {
        let Some(member) = self.members.iter_mut().find(|m| m.n == n) else { return Err(Refused) };
        if decrement && self.desired == 0 {
            return Err(Refused);
        }
        if !member.stays() {
            self.desired -= u32::from(decrement && self.counts_twice);
            return if self.counts_twice { Ok(()) } else { Err(Refused) };
        }
        (member.state, member.is_detaching) = (MemberState::Leaving, is_detaching);
        self.desired -= u32::from(decrement);
        Ok(())
    }

    pub(super) fn carry_out(&mut self, call: Call) -> Result<(), Refused> {
        match call {
            Call::Launch => {
                self.new = self.new.or(Some(Machine { alive: true, has_group_tag: false }));
                Ok(())
            }
            Call::SetMax(to) => {
                self.max = to;
                self.desired = self.desired.min(to);
                Ok(())
            }
            Call::SetDesired(to) if to > self.max => Err(Refused),
            Call::SetDesired(to) => {
                self.desired = to;
                Ok(())
            }
            Call::Suspend | Call::Resume => {
                self.suspended = call == Call::Suspend;
                Ok(())
            }
            Call::Attach(n) => {
                let has_room = self.desired < self.max && self.member(n).is_none();
                let Some(machine) = self.machine(n).filter(|m| m.alive && has_room) else {
                    return Err(Refused);
                };
                machine.has_group_tag = true;
                self.members.push(Inside::pending(n));
                self.desired += 1;
                Ok(())
            }
            Call::Detach(n) => self.leaves(n, true, true),
            Call::TerminateMember { n, decrement } => self.leaves(n, false, decrement),
            Call::Terminate(n) => {
                self.dies(n);
                Ok(())
            }
        }
    }

    /// An instance ends. Its group has not noticed yet.
    pub(super) fn dies(&mut self, n: u32) {
        if let Some(machine) = self.machine(n) {
            machine.alive = false;
        }
        if let Some(member) = self.members.iter_mut().find(|m| m.n == n) {
            member.alive = false;
        }
    }

    /// A death that is none of our doing.
    pub(super) fn is_struck(&mut self, n: u32) {
        let before = self.serving();
        self.dies(n);
        self.lost += before - self.serving();
    }

    /// The owner, or a policy, asks for more or fewer than there are.
    pub(super) fn owner_asks(&mut self, more: i32) {
        let asked = self.desired.saturating_add_signed(more).clamp(self.desired.min(1), self.max);
        let wish = self.wish + asked;
        self.wish = wish.saturating_sub(self.desired);
        self.desired = asked;
    }

    /// Auto Scaling does one of the things that are due; says if there was one.
    pub(super) fn group_acts(&mut self, which: usize) -> bool {
        let of = |wanted: fn(Inside) -> bool| move |(at, m): (usize, &Inside)| wanted(*m).then_some(at);
        let at = |truth: &Self, wanted| {
            truth.members.iter().enumerate().filter_map(of(wanted)).collect::<Vec<_>>()
        };
        let leaving = at(self, |m| !m.stays());
        let starting = at(self, |m| m.state == MemberState::Pending && m.alive);
        let unregistered = at(self, |m| m.state == MemberState::InService && !m.is_registered);
        let dead = at(self, |m| m.stays() && !m.alive);
        let staying = at(self, Inside::stays);
        let desired = self.desired as usize;
        let mut due: Vec<fn(&mut Self, usize)> = vec![];
        let mut places: Vec<usize> = vec![];
        let mut add = |list: &[usize], act: fn(&mut Self, usize)| {
            if let Some(place) = list.get(which % list.len().max(1)) {
                due.push(act);
                places.push(*place);
            }
        };
        add(&leaving, Self::is_gone);
        add(&starting, |w, at| {
            (w.members[at].state, w.members[at].is_registered) = (MemberState::InService, !w.has_targets);
        });
        add(&unregistered, |w, at| w.members[at].is_registered = true);
        add(&dead, Self::goes);
        match staying.len() {
            few if few < desired => add(&[0], |w, _| w.launches()),
            many if many > desired => add(&staying, Self::goes),
            _ => {}
        }
        let Some(choice) = (which / 8).checked_rem(due.len()) else { return false };
        due[choice](self, places[choice]);
        true
    }

    /// The group lets a member go: it is dead, or the victim of a scale-in.
    fn goes(&mut self, at: usize) {
        self.lost += u32::from(self.members[at].serves());
        self.members[at].state = MemberState::Leaving;
    }

    fn is_gone(&mut self, at: usize) {
        let gone = self.members.remove(at);
        if gone.is_detaching {
            self.machine(gone.n).into_iter().for_each(|machine| machine.has_group_tag = false);
        } else {
            self.dies(gone.n);
        }
    }

    /// The group launches one: it misses one, or balances its zones.
    pub(super) fn launches(&mut self) {
        self.launched += 1;
        self.members.push(Inside::pending(self.launched));
    }

    /// An instance dies, and its group is rid of it at once.
    pub(super) fn buries(&mut self, n: u32) {
        self.is_struck(n);
        self.members.retain(|member| member.n != n);
    }

    /// A scale-in of one that is due chooses this member.
    pub(super) fn dismisses(&mut self, n: u32) {
        let at = self.members.iter().position(|m| m.n == n).expect("a victim is a member");
        assert!(self.staying() > self.desired as usize, "nothing is to be scaled in");
        self.goes(at);
    }

    /// Everything that is due is done, as if hours passed.
    pub(super) fn comes_to_rest(&mut self) {
        while self.group_acts(0) {}
        debug_assert_eq!(self.staying(), self.desired as usize);
    }
}

/// The measure of a decision: the owner's wish, what was lost and what served, as they were when it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Basis {
    pub wish: u32,
    pub lost: u32,
    pub serving: u32,
}

/// The answer to a look.
#[derive(Debug, Clone)]
pub(super) struct View {
    pub group: Group,
    pub old: Machine,
    pub new: Option<Machine>,
    /// As it was at the oldest of its fields.
    pub basis: Basis,
}

/// A look whose fields are each of another moment.
pub(super) fn view(settings: &Truth, members: &Truth, machines: &Truth) -> View {
    let mut group = group_of(0);
    (group.desired, group.max) = (settings.desired, settings.max);
    group.suspended =
        if settings.suspended { BTreeSet::from([AZ_REBALANCE.to_owned()]) } else { BTreeSet::new() };
    group.members = members.members.iter().map(|m| Member { state: m.state, ..member(m.n) }).collect();
    let all = [settings, members, machines];
    View {
        group,
        old: machines.old,
        new: machines.new,
        basis: Basis {
            wish: all.iter().map(|truth| truth.wish).min().unwrap_or_default(),
            lost: all.iter().map(|truth| truth.lost).min().unwrap_or_default(),
            serving: all.iter().map(|truth| truth.serving()).min().unwrap_or_default(),
        },
    }
}

pub(super) fn ids(n: u32) -> InstanceId {
    id(n)
}

/// The next step of a process: a write, a look, or a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    pub fate: Fate,
    /// The age of the three parts of its look, in changes: the group's settings, its members, EC2's instances.
    pub ages: [u8; 3],
    /// After a failure the state machine repeats the step, instead of rolling back.
    pub retries: bool,
    /// A newcomer that does not serve by now is given up.
    pub gives_up: bool,
}

impl Step {
    pub(super) const fn with(fate: Fate) -> Self {
        Self { fate, ages: [0; 3], retries: false, gives_up: false }
    }
}

impl From<u16> for Step {
    fn from(number: u16) -> Self {
        let fate = match number % 16 {
            10 => Fate::Refused,
            11 => Fate::AnswerLost,
            12 => Fate::Never,
            13 => Fate::Late,
            14 => Fate::CutBefore,
            15 => Fate::CutAfter,
            _ => Fate::Done,
        };
        let rest = number / 16;
        let age = |at: u32| u8::try_from(rest / 4 / 3_u16.pow(at) % 3).unwrap_or_default();
        // One look in two is fresh.
        let ages = if rest.is_multiple_of(2) { [0; 3] } else { [age(0), age(1), age(2)] };
        Self { fate, ages, retries: (rest / 2).is_multiple_of(2), gives_up: rest % 8 == 7 }
    }
}
