//! AWS as a lab swap meets it: instances boot and stop slowly, target groups check and drain, an image takes its time, and
//! an address leaves a dead instance late. Each field of a look may be some states old.

use super::*;
use crate::swap::recovery::fate::Refused;

/// One of the instances of a swap. A newcomer is told by the number of its launch attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    Old,
    New(usize),
}

impl Who {
    /// Its place in a target group.
    const fn place(self) -> usize {
        match self {
            Self::Old => 0,
            Self::New(attempt) => 1 + attempt,
        }
    }

    pub(super) fn id(self) -> InstanceId {
        format!("i-{:08x}", 1 + self.place()).parse().unwrap()
    }

    pub(super) fn newcomer(id: &InstanceId) -> usize {
        (0..ATTEMPTS).find(|attempt| &Self::New(*attempt).id() == id).expect("it is none of the newcomers")
    }
}

/// The pools that a launch tries.
pub(super) const ATTEMPTS: usize = 2;

pub(super) const ALL: [Who; 1 + ATTEMPTS] = [Who::Old, Who::New(0), Who::New(1)];

/// The instance itself, the address, and two target groups.
pub(super) type Served = [bool; 4];

/// The state of an instance, as EC2 names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Power {
    Pending,
    Running,
    Stopping,
    Stopped,
    ShuttingDown,
    Terminated,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Machine {
    pub power: Power,
    /// Both status checks have passed since it booted.
    pub is_booted: bool,
    /// Its software answers the checks of target groups.
    pub answers: bool,
}

impl Machine {
    const fn begins(power: Power) -> Self {
        Self { power, is_booted: matches!(power, Power::Running), answers: true }
    }

    pub(super) const fn is_dead(self) -> bool {
        matches!(self.power, Power::ShuttingDown | Power::Terminated)
    }

    /// Pending or running, as [`Newcomer::alive`] means it.
    pub(super) const fn is_alive(self) -> bool {
        matches!(self.power, Power::Pending | Power::Running)
    }

    pub(super) const fn serves(self) -> bool {
        matches!(self.power, Power::Running) && self.is_booted
    }
}

/// What has the Elastic IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holder {
    Nobody,
    Of(Who),
    Elsewhere,
}

/// Everything at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Truth {
    pub old: Machine,
    pub new: [Option<Machine>; ATTEMPTS],
    pub address: Holder,
    /// The old instance and the newcomers, in each target group.
    pub groups: Vec<[TargetState; 1 + ATTEMPTS]>,
    /// The image; true once it is available.
    pub image: Option<bool>,
    /// Its snapshot exists.
    pub snapshot: bool,
    /// The volume of each newcomer, which outlives it; true while it is attached.
    pub volumes: [Option<bool>; ATTEMPTS],
    pub owner: Deeds,
    /// Deaths, failed health and stops, none of them ours.
    pub struck: u32,
    /// Changes that the owner has made.
    pub moved: u32,
}

/// What the owner has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Deeds {
    /// He stopped or terminated the old instance while it ran: its service is his to end.
    pub ended_old: bool,
    /// It is he who stopped the old instance last.
    pub stopped: bool,
    pub started: bool,
    /// He retagged or protected the old instance, when that many of his changes were made.
    pub changed: Option<u32>,
    /// AWS stops and terminates it for nobody.
    pub protected: bool,
    pub took_address: bool,
    pub gave_address_to_old: bool,
    /// The old instance is out of the target group by his own call.
    pub took_old_out: [bool; 2],
    /// He has put the old instance into the target group himself.
    pub put_old_in: [bool; 2],
    pub took_new_out: [bool; 2],
}

/// The next deed of the owner. A number is that of a target group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
    StopsOld,
    StartsOld,
    TerminatesOld,
    RetagsOld,
    ProtectsOld,
    MovesAddress,
    GivesAddressToOld,
    TakesOldOut(usize),
    PutsOldIn(usize),
    TakesNewOut(usize),
    DeletesGroup(usize),
}

/// A changing call of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    CreateImage,
    Launch(usize),
    Register(Who, usize),
    Deregister(Who, usize),
    GiveAddress(Who),
    StopOld,
    StartOld,
    Terminate(Who),
    DeregisterImage,
    DeleteSnapshot,
    DeleteVolume(usize),
}

impl Truth {
    /// The old instance runs and serves, in so many target groups.
    pub(super) fn new(has_address: bool, groups: usize) -> Self {
        let alone = [TargetState::Healthy, TargetState::Absent, TargetState::Absent];
        Self {
            old: Machine::begins(Power::Running),
            new: [None; ATTEMPTS],
            address: if has_address { Holder::Of(Who::Old) } else { Holder::Elsewhere },
            groups: vec![alone; groups],
            image: None,
            snapshot: false,
            volumes: [None; ATTEMPTS],
            owner: Deeds::default(),
            struck: 0,
            moved: 0,
        }
    }

    /// The swap is over, and its newcomer serves.
    pub(super) fn is_swapped(&mut self) {
        self.old.power = Power::Stopped;
        self.new[0] = Some(Machine::begins(Power::Running));
        self.volumes[0] = Some(true);
        if self.address == Holder::Of(Who::Old) {
            self.address = Holder::Of(Who::New(0));
        }
        for group in &mut self.groups {
            *group = [TargetState::Absent, TargetState::Healthy, TargetState::Absent];
        }
    }

    pub(super) fn machine(&mut self, who: Who) -> Option<&mut Machine> {
        match who {
            Who::Old => Some(&mut self.old),
            Who::New(attempt) => self.new[attempt].as_mut(),
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (Who, Machine)> + '_ {
        let new = self.new.iter().enumerate().filter_map(|(n, machine)| Some((Who::New(n), (*machine)?)));
        std::iter::once((Who::Old, self.old)).chain(new)
    }

    pub(super) fn target(&self, who: Who, group: usize) -> TargetState {
        self.groups[group][who.place()]
    }

    /// Returns true for each thing that is served: that one of them runs at all, the address, each target group.
    pub(super) fn served(&self) -> Served {
        let is_able = |who: Who| self.all().any(|(it, machine)| it == who && machine.serves());
        let able = ALL.map(|who| (who, is_able(who)));
        let by = |serves: &dyn Fn(Who) -> bool| able.iter().any(|(who, is_able)| *is_able && serves(*who));
        let group =
            |n: usize| n < self.groups.len() && by(&|who| self.target(who, n) == TargetState::Healthy);
        [by(&|_| true), by(&|who| self.address == Holder::Of(who)), group(0), group(1)]
    }

    /// Returns true for each of those things that its owner has not ended himself.
    pub(super) fn owed(&self) -> Served {
        let lives = !self.owner.ended_old;
        let group = |n: usize| {
            let exists = n < self.groups.len() && self.target(Who::Old, n) != TargetState::NoGroup;
            lives && exists && !self.owner.took_old_out[n]
        };
        let address = lives && self.address != Holder::Elsewhere && !self.owner.took_address;
        [lives, address, group(0), group(1)]
    }

    pub(super) fn carry_out(&mut self, call: Call) -> Result<(), Refused> {
        match call {
            Call::CreateImage => {
                self.snapshot |= self.image.is_none();
                self.image = self.image.or(Some(false));
            }
            // One token is one instance, however often it is sent.
            Call::Launch(attempt) if self.new[attempt].is_none() => {
                self.new[attempt] = Some(Machine::begins(Power::Pending));
                self.volumes[attempt] = Some(true);
            }
            Call::Launch(_) => {}
            Call::Register(who, group) => {
                let runs = self.machine(who).is_some_and(|m| m.power == Power::Running);
                let target = &mut self.groups[group][who.place()];
                match *target {
                    TargetState::NoGroup => return Err(Refused),
                    _ if !runs => return Err(Refused), // a target must run
                    TargetState::Absent | TargetState::Draining => *target = TargetState::Checking,
                    _ => {}
                }
            }
            Call::Deregister(who, group) => {
                let target = &mut self.groups[group][who.place()];
                match *target {
                    TargetState::NoGroup => return Err(Refused),
                    TargetState::Absent => {}
                    _ => *target = TargetState::Draining,
                }
            }
            Call::GiveAddress(who) => {
                let can_have_it = |m: &mut Machine| !m.is_dead() && m.power != Power::Pending;
                if !self.machine(who).is_some_and(can_have_it) {
                    return Err(Refused);
                }
                self.address = Holder::Of(who);
            }
            Call::StopOld => match self.old.power {
                _ if self.owner.protected => return Err(Refused),
                Power::Running => self.old.power = Power::Stopping,
                Power::Stopping | Power::Stopped => {}
                _ => return Err(Refused),
            },
            Call::StartOld => match self.old.power {
                Power::Stopped => self.old = Machine { is_booted: false, power: Power::Pending, ..self.old },
                // While it is stopping, EC2 refuses, which is no error to us.
                Power::Stopping | Power::Pending | Power::Running => {}
                _ => return Err(Refused),
            },
            Call::Terminate(Who::Old) if self.owner.protected => return Err(Refused),
            Call::Terminate(who) => self.dies(who),
            Call::DeregisterImage => self.image = None,
            Call::DeleteSnapshot if self.image.is_some() => return Err(Refused),
            Call::DeleteSnapshot => self.snapshot = false,
            Call::DeleteVolume(n) if self.volumes[n] == Some(true) => return Err(Refused),
            Call::DeleteVolume(n) => self.volumes[n] = None,
        }
        Ok(())
    }

    fn dies(&mut self, who: Who) {
        if let Some(machine) = self.machine(who).filter(|machine| !machine.is_dead()) {
            machine.power = Power::ShuttingDown;
        }
    }

    /// A death that is none of our doing.
    pub(super) fn is_struck(&mut self, who: Who) {
        self.dies(who);
        self.struck += 1;
    }

    /// The software of an instance answers no more, or again.
    pub(super) fn answers(&mut self, who: Who, answers: bool) {
        self.machine(who).into_iter().for_each(|machine| machine.answers = answers);
        self.struck += u32::from(!answers);
    }

    pub(super) fn owner_does(&mut self, deed: Deed) {
        let registered = |truth: &Self, who: Who, n: usize| {
            truth.groups.get(n).is_some_and(|group| group[who.place()].is_registered())
        };
        let old_runs = self.old.power == Power::Running;
        match deed {
            Deed::StopsOld if old_runs => {
                self.old.power = Power::Stopping;
                (self.owner.ended_old, self.owner.stopped) = (true, true);
            }
            Deed::StartsOld if self.old.power == Power::Stopped => {
                self.old = Machine { is_booted: false, power: Power::Pending, ..self.old };
                (self.owner.started, self.owner.stopped) = (true, false);
            }
            Deed::TerminatesOld if !self.old.is_dead() => {
                self.dies(Who::Old);
                self.owner.ended_old = true;
            }
            Deed::RetagsOld | Deed::ProtectsOld => {
                self.owner.changed = self.owner.changed.or(Some(self.moved + 1));
                self.owner.protected |= deed == Deed::ProtectsOld;
            }
            Deed::MovesAddress if self.address != Holder::Elsewhere => {
                self.address = Holder::Elsewhere;
                self.owner.took_address = true;
            }
            Deed::GivesAddressToOld if self.address != Holder::Elsewhere && !self.old.is_dead() => {
                self.address = Holder::Of(Who::Old);
                self.owner.gave_address_to_old = true;
            }
            Deed::TakesOldOut(n) if registered(self, Who::Old, n) => {
                self.groups[n][0] = TargetState::Draining;
                self.owner.took_old_out[n] = true;
            }
            Deed::PutsOldIn(n) if old_runs && self.groups.get(n).is_some_and(|g| g[0].is_out()) => {
                self.groups[n][0] = TargetState::Checking;
                (self.owner.put_old_in[n], self.owner.took_old_out[n]) = (true, false);
            }
            Deed::TakesNewOut(n) if registered(self, Who::New(0), n) => {
                self.groups[n][1] = TargetState::Draining;
                self.owner.took_new_out[n] = true;
            }
            Deed::DeletesGroup(n) if n < self.groups.len() => {
                self.groups[n] = [TargetState::NoGroup; 1 + ATTEMPTS];
            }
            _ => return,
        }
        self.moved += 1;
        let harms_nobody =
            matches!(deed, Deed::RetagsOld | Deed::ProtectsOld | Deed::StartsOld | Deed::PutsOldIn(_));
        self.struck += u32::from(!harms_nobody);
    }
}
