//! The history of a lab swap: an execution that may be cut anywhere, a zombie beside it, two reconcilers, an owner, and a
//! world that is not atomic.

use super::aws::{ALL, ATTEMPTS, Call, Deed, Truth, Who};
use super::look::{Basis, FIELDS};
use super::recoverer::Visit;
use super::*;
use crate::swap::recovery::fate::{Answer, Fate, Flights, LAG, LIFE, Past, QUIET, Refused};

/// The next step of a process: a write, a look, or a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    pub fate: Fate,
    /// The age of each field of its look, in changes.
    pub ages: [u8; FIELDS],
    /// After a failure the state machine repeats the step, instead of rolling back.
    pub retries: bool,
    /// A deadline has passed.
    pub gives_up: bool,
}

impl Step {
    pub(super) const fn with(fate: Fate) -> Self {
        Self { fate, ages: [0; FIELDS], retries: false, gives_up: false }
    }
}

/// The next event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// The execution takes a step, or the reconciler of this number once the execution is dead.
    Step(usize, Step),
    /// The Lambda that the state machine gave up goes on.
    Zombie(Step),
    /// The state machine gives up the running Lambda, which lives on; it repeats the step, or rolls back.
    GivesUp(bool),
    /// AWS does something that is due.
    AwsActs(u16),
    Owner(Deed),
    Dies(Who),
    Answers(Who, bool),
    /// The pool of this attempt.
    Poison(usize),
    TimePasses(u32),
}

impl From<u16> for Event {
    fn from(number: u16) -> Self {
        let (kind, arg) = (number % 16, number / 16);
        let which = usize::from(arg % 2);
        match (kind, arg % 8) {
            (0..=7, _) => Self::Step(usize::from(kind == 7), arg.into()),
            (8..=11, _) => Self::AwsActs(arg),
            (12, _) => Self::Owner(arg.into()),
            (13, 0 | 1) => Self::Dies(Who::Old),
            (13, 2 | 3) => Self::Dies(Who::New(which)),
            (13, 4) => Self::Answers(Who::Old, false),
            (13, 5) => Self::Answers(Who::New(0), false),
            (13, _) => Self::Answers(if which == 0 { Who::Old } else { Who::New(0) }, true),
            (14, 0 | 1) => Self::Poison(which),
            (14, 2) => Self::GivesUp(arg / 8 % 2 == 0),
            (14, _) => Self::Zombie((arg / 8).into()),
            _ => Self::TimePasses(u32::from(arg) % (QUIET + 2)),
        }
    }
}

impl From<u16> for Deed {
    fn from(number: u16) -> Self {
        let group = usize::from(number / 16 % 2);
        match number % 16 {
            0 | 1 => Self::StopsOld,
            2 => Self::StartsOld,
            3 => Self::TerminatesOld,
            4 => Self::RetagsOld,
            5 => Self::ProtectsOld,
            6 | 7 => Self::MovesAddress,
            8 => Self::GivesAddressToOld,
            9 | 10 => Self::TakesOldOut(group),
            11 => Self::PutsOldIn(group),
            12 | 13 => Self::TakesNewOut(group),
            _ => Self::DeletesGroup(group),
        }
    }
}

impl From<u16> for Step {
    fn from(number: u16) -> Self {
        let fate = match number % 24 {
            18 => Fate::Refused,
            19 => Fate::AnswerLost,
            20 => Fate::Never,
            21 => Fate::Late,
            22 => Fate::CutBefore,
            23 => Fate::CutAfter,
            _ => Fate::Done,
        };
        let rest = usize::from(number / 24);
        // Half of the looks are fresh; in the others each field has an age of its own.
        let age =
            |field: usize| u8::try_from((rest / 4 * 7 + 5 * field * (1 + rest % 3)) % 3).unwrap_or_default();
        let ages = if rest % 2 == 0 { [0; FIELDS] } else { std::array::from_fn(age) };
        Self { fate, ages, retries: rest / 2 % 3 > 0, gives_up: rest % 16 == 15 }
    }
}

/// The steps that a Lambda takes in no time while nobody interferes.
const STEPS_A_ROUND: usize = 12;

/// The kind of swap.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub has_address: bool,
    pub groups: usize,
    pub capture: bool,
    pub terminate: bool,
}

#[derive(Debug)]
pub(super) struct History {
    pub now: u32,
    pub truth: Truth,
    pub past: Past<Truth>,
    /// The row of the Swaps table: its journal bears the revision.
    pub row: Option<Journal>,
    pub end: Option<End>,
    /// What a person was told at the end.
    pub told: Vec<String>,
    /// The measure of the look on which it ended, and the journal by then.
    pub end_basis: Basis,
    pub last: Option<Journal>,
    pub flights: Flights<Call, Basis>,
    pub execution: Execution,
    zombie: Option<(Execution, u32)>,
    pub reconcilers: [Visit; 2],
    pub poisoned: [bool; ATTEMPTS],
    pub traces: Traces,
    pub broken: Option<String>,
    is_verbose: bool,
    log: Vec<String>,
}

/// The journal of a swap that is about to launch.
pub(super) fn journal(lab: LabSwap) -> Journal {
    let kind = SwapKind::Lab(Box::new(lab));
    Journal::new(&Who::Old.id(), Timestamp::UNIX_EPOCH, Retirement::Detach, kind)
}

impl History {
    pub(super) fn new(plan: Plan) -> Self {
        let truth = Truth::new(plan.has_address, plan.groups);
        let mut journal = journal(lab_swap(plan));
        journal.launching_since = Timestamp::UNIX_EPOCH;
        Self::of(truth, Execution::new(journal))
    }

    /// A swap that is over, and is brought back: `functions/lab-optimizer/src/phases/bring_back.rs`.
    pub(super) fn brings_back(plan: Plan) -> Self {
        let mut history = Self::new(plan);
        history.truth.is_swapped();
        let mut lab = lab_swap(plan);
        (lab.leaving, lab.stopping, lab.is_over, lab.capture) = (true, true, true, false);
        lab.volumes.insert(super::look::volume(0));
        let mut journal = journal(lab);
        let undo = Undo { reason: Reason::InstanceChanged, detail: String::new() };
        (journal.stage, journal.undo) = (Stage::Undoing, Some(undo.clone()));
        (journal.newcomer, journal.launching_since) = (Some(Who::New(0).id()), Timestamp::UNIX_EPOCH);
        let mut history = Self::of(history.truth, Execution::new(journal.clone()));
        (history.execution.at, history.execution.undo) = (At::Rollback, Some(undo));
        history.row = Some(journal);
        history.pass(QUIET);
        history
    }

    fn of(truth: Truth, execution: Execution) -> Self {
        Self {
            now: 0,
            past: Past::new(&truth),
            truth,
            row: None,
            end: None,
            told: vec![],
            end_basis: Basis::default(),
            last: None,
            flights: Flights::none(),
            execution,
            zombie: None,
            reconcilers: <[Visit; 2]>::default(),
            poisoned: [false; ATTEMPTS],
            traces: Traces::default(),
            broken: None,
            is_verbose: false,
            log: vec![],
        }
    }

    /// Its failures tell what happened.
    pub(super) fn verbose(self) -> Self {
        Self { is_verbose: true, ..self }
    }

    /// All goes well until the execution is there.
    pub(super) fn until(mut self, at: At) -> Self {
        for _ in 0..200 {
            if self.execution.at == at || self.end.is_some() {
                return self;
            }
            self.event(Event::Step(0, Step::with(Fate::Done)));
            if self.execution.at == self.execution.at.phase() {
                self.truth.comes_to_rest();
                self.pass(LAG);
            }
        }
        panic!("the execution never reached {at:?}: it is at {:?}", self.execution.at);
    }

    /// Plays the events, then lets the world come to rest. Fails with the first broken promise.
    pub(super) fn play(mut self, events: impl Iterator<Item = Event>) -> Result<(), String> {
        for event in events {
            if self.broken.is_some() || (self.end.is_some() && self.flights.is_empty()) {
                break;
            }
            self.event(event);
        }
        self.ends()
    }

    pub(super) fn event(&mut self, event: Event) {
        self.note(|it| match event {
            Event::Step(who, step) => format!("step {who} at {:?}: {step:?}", it.execution.at),
            _ => format!("{event:?}"),
        });
        match event {
            Event::Step(who, step) => self.step(who, step),
            Event::Zombie(step) => self.zombie_steps(step),
            Event::GivesUp(retries) => self.gives_up(retries),
            Event::AwsActs(which) => drop(self.truth.aws_acts(usize::from(which))),
            Event::Owner(deed) => self.truth.owner_does(deed),
            Event::Dies(who) => self.truth.is_struck(who),
            Event::Answers(who, answers) => self.truth.answers(who, answers),
            Event::Poison(attempt) => self.poisoned[attempt] = true,
            Event::TimePasses(ticks) => self.pass(ticks),
        }
        self.note(|it| format!("    {:?}", it.truth));
        self.pass(1);
    }

    pub(super) fn note(&mut self, what: impl FnOnce(&Self) -> String) {
        if self.is_verbose {
            let line = format!("{:>3} {}", self.now, what(self));
            self.log.push(line);
        }
    }

    pub(super) fn pass(&mut self, ticks: u32) {
        self.now += ticks;
        while let Some((call, basis)) = self.flights.land(self.now) {
            let answer = self.carry_out(call, basis);
            self.note(|_| format!("{call:?} lands: {answer:?}"));
        }
        self.past.remember(self.now, &self.truth);
    }

    // ---- calls ----

    pub(super) fn call(&mut self, call: Call, fate: Fate, basis: Basis) -> Answer {
        let heard = |answer: Result<(), Refused>| if answer.is_ok() { Answer::Done } else { Answer::Refused };
        let answer = match fate {
            Fate::Done | Fate::CutAfter => heard(self.carry_out(call, basis)),
            Fate::AnswerLost => {
                let _ = self.carry_out(call, basis);
                Answer::Again
            }
            Fate::Refused => Answer::Refused,
            Fate::Never | Fate::CutBefore => Answer::Nothing,
            Fate::Late => {
                self.flights.depart(self.now, call, basis);
                Answer::Nothing
            }
        };
        self.note(|_| format!("{call:?} ({fate:?}): {answer:?}"));
        answer
    }

    // ---- who steps ----

    pub(super) fn step(&mut self, who: usize, step: Step) {
        if self.end.is_some() {
            return;
        }
        match self.execution.died_at {
            None => self.phase(step),
            Some(died_at) if self.now >= died_at + QUIET => {
                let mut visit = std::mem::take(&mut self.reconcilers[who]);
                if self.recovers(&mut visit, step) && self.end.is_none() {
                    self.reconcilers[who] = visit;
                }
            }
            Some(_) => {}
        }
    }

    fn gives_up(&mut self, retries: bool) {
        let execution = &self.execution;
        let is_running = execution.at != execution.at.phase() || execution.visit.journal.is_some();
        if is_running && execution.died_at.is_none() && self.end.is_none() {
            self.zombie = Some((self.execution.clone(), self.now + LIFE));
            self.fails(retries);
        }
    }

    fn zombie_steps(&mut self, step: Step) {
        let Some((mut zombie, until)) = self.zombie.take().filter(|(_, until)| self.now <= *until) else {
            return;
        };
        if self.end.is_some() {
            return;
        }
        let phase = zombie.at.phase();
        std::mem::swap(&mut self.execution, &mut zombie);
        self.note(|it| format!("a zombie at {:?}", it.execution.at));
        self.phase(step);
        std::mem::swap(&mut self.execution, &mut zombie);
        // Nobody hears the answer of its step.
        let is_over = zombie.at == zombie.at.phase() && zombie.visit.journal.is_none();
        if !is_over && zombie.at.phase() == phase && zombie.died_at.is_none() {
            self.zombie = Some((zombie, until));
        }
    }

    /// Nobody interferes any more: the world comes to rest, and nothing of ours is left.
    pub(super) fn ends(mut self) -> Result<(), String> {
        for round in 0..60 {
            if self.end.is_some() || self.broken.is_some() {
                break;
            }
            self.pass(QUIET + 1);
            for who in ALL {
                self.truth.answers(who, true);
            }
            self.truth.comes_to_rest();
            self.pass(LAG + 1);
            for _ in 0..STEPS_A_ROUND {
                // What waits for long gives up.
                self.step(0, Step { gives_up: round >= 30, ..Step::with(Fate::Done) });
                self.pass(0);
            }
        }
        let has_ended = self.end.is_some();
        self.holds(has_ended, || "it never ends".to_owned());
        if has_ended {
            self.pass(QUIET + 1);
            for who in ALL {
                self.truth.answers(who, true);
            }
            self.truth.comes_to_rest();
            self.nothing_is_left();
        }
        self.broken.map_or(Ok(()), |broken| Err(format!("{broken}\n{}", self.log.join("\n"))))
    }
}

fn lab_swap(plan: Plan) -> LabSwap {
    let registration = |n| Registration { target_group_arn: format!("tg-{n}"), port: Some(80) };
    LabSwap {
        instance_type: None,
        old_instance: if plan.terminate { OldInstance::Terminate } else { OldInstance::Stop },
        address: plan.has_address.then(|| "eipalloc-1".to_owned()),
        registrations: (0..plan.groups).map(registration).collect(),
        capture: plan.capture,
        leaving: false,
        let_out: BTreeSet::new(),
        stopping: false,
        traits: Traits::new(),
        losses: vec![],
        captured_at: None,
        is_over: false,
        captured: Captured::default(),
        volumes: BTreeSet::new(),
        kept: std::collections::BTreeMap::new(),
    }
}
