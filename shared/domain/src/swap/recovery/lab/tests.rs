use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::swap::journal::{Retirement, SwapKind, Undo};
use crate::swap::lab::{CapturedImage, Registration};

mod by_hand;
mod cut;

fn old() -> InstanceId {
    "i-00000001".parse().unwrap()
}

fn newcomer() -> InstanceId {
    "i-00000002".parse().unwrap()
}

/// The execution dies at its `left`th call: right before that, or right after.
#[derive(Debug, Clone, Copy)]
struct Cut {
    left: usize,
    made: bool,
}

struct Call {
    made: bool,
    last: bool,
}

impl Cut {
    fn after(calls: usize) -> Self {
        Self { left: calls, made: true }
    }

    fn at_next_call(&mut self) -> Call {
        self.left = self.left.saturating_sub(1);
        let last = self.left == 0;
        Call { made: !last || self.made, last }
    }
}

/// AWS as far as a lab swap touches it. Every action checks what must hold when it is done.
#[derive(Debug, Clone)]
struct World {
    journal: Journal,
    lab: LabSwap,
    seen: Observed,
    /// The owner has taken the old instance away by himself.
    old_taken: bool,
    /// The old instance answers the checks of its target groups only while it has its address.
    old_needs_address: bool,
    /// How often in a row it has answered: three times make an unhealthy one healthy.
    old_answered: usize,
    /// Calls of the retirement that were answered.
    calls: usize,
}

impl World {
    fn new(old_instance: OldInstance, has_address: bool, groups: usize, capture: bool) -> Self {
        let registration = Registration { target_group_arn: "tg".into(), port: Some(80) };
        let lab = LabSwap {
            instance_type: None,
            old_instance,
            address: has_address.then(|| "eipalloc-1".to_owned()),
            registrations: vec![registration; groups],
            capture,
            leaving: false,
            let_out: BTreeSet::new(),
            stopping: false,
            traits: crate::swap::lab::Traits::new(),
            losses: vec![],
            captured_at: None,
            is_over: false,
            captured: crate::swap::lab::Captured::default(),
            volumes: BTreeSet::new(),
            kept: BTreeMap::new(),
        };
        let seen = Observed {
            old: OldState::Running,
            newcomer: None,
            strays: vec![],
            launch_may_be_invisible: false,
            calls_may_land: false,
            address: if has_address { AddressAt::Old } else { AddressAt::Elsewhere },
            targets: vec![Targets { old: TargetState::Healthy, newcomer: TargetState::Absent }; groups],
            images: vec![],
            snapshots: vec![],
            newcomers_volumes: BTreeSet::new(),
            volumes: vec![],
            left_alone: vec![],
        };
        let journal = Journal::new(&old(), Timestamp::UNIX_EPOCH, Retirement::Detach, SwapKind::Group);
        Self { journal, lab, seen, old_taken: false, old_needs_address: false, old_answered: 0, calls: 0 }
    }

    /// The whole swap, as the state machine drives it (the journal is ahead of every call), until `cut`.
    fn run(&mut self, mut cut: Cut) {
        if self.lab.capture {
            self.journal.stage = Stage::Capturing;
            let call = cut.at_next_call();
            if call.made {
                let snapshots = ["snap-1", "snap-2"].map(str::to_owned).into();
                self.seen.images = vec![CapturedImage { id: "ami-1".into(), snapshots }];
                self.seen.snapshots = vec!["snap-1".into(), "snap-2".into()];
            }
            if call.last {
                return;
            }
        }
        self.journal.stage = Stage::Launching;
        let call = cut.at_next_call();
        if call.made {
            self.seen.newcomer = Some(Newcomer { id: newcomer(), alive: true });
            self.seen.volumes = vec![LeftVolume { id: "vol-1".into(), is_attached: true }];
            self.seen.newcomers_volumes = ["vol-1".to_owned()].into();
        }
        if !call.last && self.takes_over(&mut cut) {
            self.retires(&mut cut);
        }
    }

    /// The swap right before its retirement.
    fn serves_beside_the_old(&mut self) {
        let mut uncut = Cut::after(usize::MAX);
        self.seen.newcomer = Some(Newcomer { id: newcomer(), alive: true });
        self.seen.volumes = vec![LeftVolume { id: "vol-1".into(), is_attached: true }];
        self.seen.newcomers_volumes = ["vol-1".to_owned()].into();
        assert!(self.takes_over(&mut uncut));
        self.journal.stage = Stage::Retiring;
    }

    fn takes_over(&mut self, cut: &mut Cut) -> bool {
        self.journal.stage = Stage::Attaching;
        self.journal.newcomer = Some(newcomer());
        loop {
            let step = take_over(&self.lab, &self.seen);
            let call = match step {
                TakeOver::Done => return true,
                TakeOver::Undo(..) => return false,
                TakeOver::Wait(_) => Call { made: true, last: false },
                TakeOver::Register(_) | TakeOver::MoveAddress => cut.at_next_call(),
            };
            match step {
                TakeOver::Register(n) if call.made => self.seen.targets[n].newcomer = TargetState::Checking,
                TakeOver::MoveAddress if call.made => self.seen.address = AddressAt::Newcomer,
                _ => self.tick(),
            }
            if call.last {
                return false;
            }
        }
    }

    fn retires(&mut self, cut: &mut Cut) {
        self.journal.stage = Stage::Retiring;
        loop {
            let decision = self.decide();
            let call = match decision {
                Decision::Done(_) => return,
                Decision::Wait(_) => Call { made: true, last: false },
                Do(_) => cut.at_next_call(),
            };
            if call.made {
                self.carries_out(&decision);
            }
            if call.last {
                return;
            }
        }
    }

    fn serves(&self, who: AddressAt, state: impl Fn(&Targets) -> TargetState) -> bool {
        let ours = self.lab.address.is_some() && self.seen.address != AddressAt::Elsewhere;
        let holds = !ours || self.seen.address == who;
        holds && self.seen.targets.iter().all(|t| state(t) == TargetState::Healthy)
    }

    /// Decides, and notes what is to be done ahead.
    fn decide(&mut self) -> Decision<Action> {
        let decision = next(&self.journal, &self.lab, &self.seen);
        if let Do(action) = &decision {
            action.record(&mut self.lab, &self.seen);
        }
        decision
    }

    fn carries_out(&mut self, decision: &Decision<Action>) {
        match decision {
            Do(action) => self.perform(action),
            Decision::Done(_) | Decision::Wait(_) => self.tick(),
        }
    }

    fn perform(&mut self, action: &Action) {
        let alive = self.seen.newcomer.as_ref().is_some_and(|n| n.alive);
        match action {
            Action::RegisterNewcomer(n) => self.seen.targets[*n].newcomer = TargetState::Checking,
            Action::DeregisterNewcomer(n) => {
                let served = alive && self.seen.targets[*n].newcomer == TargetState::Healthy;
                let old_is_back = self.old_taken || self.seen.targets[*n].old == TargetState::Healthy;
                assert!(!served || old_is_back, "a target group without a healthy target: {self:?}");
                self.seen.targets[*n].newcomer = TargetState::Draining;
            }
            Action::RegisterOld(n) => {
                assert_eq!(self.seen.old, OldState::Running, "AWS refuses a target that does not run");
                self.seen.targets[*n].old = TargetState::Checking;
            }
            Action::DeregisterOld(n) => {
                assert!(self.lab.leaving, "written ahead");
                assert!(alive && self.seen.targets[*n].newcomer == TargetState::Healthy);
                self.seen.targets[*n].old = TargetState::Draining;
            }
            Action::AddressToNewcomer => self.seen.address = AddressAt::Newcomer,
            Action::AddressToOld => self.seen.address = AddressAt::Old,
            Action::StopOld | Action::TerminateOld => {
                assert!(self.lab.stopping, "written ahead");
                let stopped = self.seen.old == OldState::Stopped;
                assert!(alive && (stopped || self.serves(AddressAt::Newcomer, |t| t.newcomer)));
                let gone = matches!(action, Action::TerminateOld);
                self.seen.old = if gone { OldState::Gone } else { OldState::Stopped };
            }
            Action::StartOld => self.seen.old = OldState::Starting,
            Action::TerminateNewcomer(_) => {
                assert!(self.lab.volumes.contains("vol-1"), "its volumes are noted first");
                let old_is_back = self.old_taken
                    || self.seen.old == OldState::Gone
                    || self.serves(AddressAt::Old, |t| t.old);
                assert!(old_is_back, "the newcomer goes last: {self:?}");
                self.newcomer_dies();
            }
            Action::DeregisterImage(id) => {
                assert!(self.lab.captured.snapshots.len() == 2, "its snapshots are noted first");
                self.seen.images.retain(|image| &image.id != id);
            }
            Action::DeleteSnapshot(id) => {
                assert!(self.seen.images.is_empty(), "EC2 refuses: an image uses it");
                self.seen.snapshots.retain(|snapshot| snapshot != id);
            }
            Action::DeleteVolume(id) => {
                assert!(!alive, "a newcomer that lives needs its volumes");
                self.seen.volumes.retain(|volume| volume.id != *id);
            }
        }
    }

    fn newcomer_dies(&mut self) {
        self.seen.newcomers_volumes.clear();
        if let Some(newcomer) = self.seen.newcomer.as_mut() {
            newcomer.alive = false;
            for volume in &mut self.seen.volumes {
                volume.is_attached = false;
            }
            for target in &mut self.seen.targets {
                target.newcomer = TargetState::Absent;
            }
            if self.seen.address == AddressAt::Newcomer {
                self.seen.address = AddressAt::Nobody;
            }
        }
    }

    fn owner_terminates_the_old(&mut self) {
        self.old_taken = true;
        self.seen.old = OldState::Gone;
        for target in &mut self.seen.targets {
            target.old = TargetState::Absent;
        }
        if self.seen.address == AddressAt::Old {
            self.seen.address = AddressAt::Nobody;
        }
    }

    fn tick(&mut self) {
        if self.seen.old == OldState::Starting {
            self.seen.old = OldState::Running;
        }
        let old_answers = !self.old_needs_address || self.seen.address == AddressAt::Old;
        self.old_answered = if old_answers { self.old_answered + 1 } else { 0 };
        for target in &mut self.seen.targets {
            for (state, answers) in [(&mut target.old, old_answers), (&mut target.newcomer, true)] {
                *state = match *state {
                    TargetState::Checking if answers => TargetState::Healthy,
                    TargetState::Checking | TargetState::Healthy if !answers => TargetState::Unhealthy,
                    TargetState::Unhealthy if self.old_answered >= 3 => TargetState::Healthy,
                    TargetState::Draining => TargetState::Absent,
                    other => other,
                };
            }
        }
    }

    fn decide_to_recover(&mut self) {
        if self.journal.stage != Stage::Retiring {
            self.journal.stage = Stage::Undoing;
        }
        self.journal.undo = Some(Undo { reason: Reason::ExecutionDied, detail: String::new() });
    }

    fn recover(&mut self) -> End {
        self.decide_to_recover();
        for _ in 0..60 {
            if self.journal.stage == Stage::Retiring && !goes_forward(&self.journal, &self.lab, &self.seen) {
                self.journal.stage = Stage::Undoing;
            }
            let decision = self.decide();
            if let Decision::Done(end) = decision {
                return end;
            }
            self.carries_out(&decision);
            self.tick();
        }
        panic!("it does not end: {self:?}");
    }

    fn assert_nothing_is_left(&self) {
        assert!(self.seen.images.is_empty() && self.seen.snapshots.is_empty());
    }
}

/// What a retirement asked of the old instance, when it lands after its caller gave up.
fn lands(world: &mut World, action: &Action) {
    match action {
        Action::DeregisterOld(n) => world.seen.targets[*n].old = TargetState::Draining,
        Action::StopOld => world.seen.old = OldState::Stopped,
        Action::TerminateOld => world.seen.old = OldState::Gone,
        _ => world.perform(action),
    }
}
