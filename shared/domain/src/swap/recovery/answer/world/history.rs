//! The history of an answer: an execution that may be cut anywhere, two reconcilers, and a world that is not atomic. After
//! every event the oracles are asked.

use super::execution::{At, Execution};
use super::recoverer::Visit;
use super::*;
use crate::swap::recovery::fate::{Answer, Fate, Flights, LAG, LIFE, Past, QUIET, Refused, at};
use crate::swap::recovery::truth::{Basis, Call, OLD, Row, Step, Truth, View, ids, number, view};

pub(super) const DOOMED: u32 = OLD;

/// The next event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// The execution takes a step, or the reconciler of this number once the execution is dead.
    Step(usize, Step),
    /// Auto Scaling does something that is due.
    GroupActs(u16),
    /// Auto Scaling launches one beyond desired, to balance its zones.
    Rebalances,
    /// A policy asks for so many more or fewer.
    OwnerAsks(i32),
    /// The owner asks for so many in all.
    OwnerSets(u32),
    DoomedDies,
    MemberDies(u16),
    TimePasses(u32),
}

/// An event, and how long it takes: several calls fit into one tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Timed(pub Event, pub u32);

impl From<u32> for Timed {
    fn from(number: u32) -> Self {
        let [high, low] = [number >> 16, number & 0xFFFF].map(|half| u16::try_from(half).unwrap_or_default());
        let (kind, arg) = (low % 16, low / 16);
        let event = match (kind, arg % 4) {
            (0..=8, _) => Event::Step(usize::from(kind == 8), arg.into()),
            (9..=11, _) => Event::GroupActs(arg),
            (12, _) if high % 4 == 1 => Event::OwnerSets(u32::from(arg % 7)),
            (12, which) => Event::OwnerAsks([-1, 1, -2, 2][usize::from(which)]),
            (13, 0) => Event::DoomedDies,
            (13, _) => Event::MemberDies(arg / 4),
            (14, 0) => Event::Rebalances,
            (14, _) => Event::GroupActs(arg / 4),
            _ => Event::TimePasses(u32::from(arg) % (QUIET + 2)),
        };
        Self(event, u32::from(high % 3 == 0))
    }
}

/// The circumstances of a notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PlayedNotice {
    /// The members of the group.
    pub size: u32,
    /// The group is at its MaxSize.
    pub is_full: bool,
    pub has_targets: bool,
    /// See [`Truth::counts_twice`].
    pub counts_twice: bool,
    /// The ticks until the doomed one has to leave, whatever serves.
    pub time: u32,
    /// Somebody plays the interruption: the doomed one lives on.
    pub is_drill: bool,
}

#[derive(Debug)]
pub(super) struct History {
    pub now: u32,
    pub truth: Truth,
    past: Past<Truth>,
    pub row: Option<Row>,
    pub end: Option<End>,
    flights: Flights<Call, Basis>,
    pub execution: Execution,
    pub visits: [Visit; 3],
    notice: PlayedNotice,
    /// The MaxSize of the owner.
    pub max: u32,
    pub owner_acted: bool,
    pub owner_acted_at: Option<u32>,
    /// The owner's wish with what a policy took of the room that our MaxSize made: not to be had without us, it does not
    /// count in the wish itself.
    pub with_our_room: u32,
    /// Something went wrong that would not have had to.
    pub is_troubled: bool,
    /// A call or a write had no answer.
    pub is_unsure: bool,
    /// The owner has set desired himself, and our one is in what he set.
    pub is_absorbed: bool,
    /// Desired before the last call that lowered it.
    pub lowered_from: Option<u32>,
    /// The owner has set desired in the moment of our call, which took one off that: a person has to be told.
    pub is_raced: bool,
    /// Our raise of desired has landed. What is too many without it, the owner has made so.
    pub is_raised: bool,
    /// A person was told that something is left.
    pub told: bool,
    /// The last look showed what desired was before the raise, although our one was in it: the owner asked for one fewer
    /// (hole 5d).
    pub is_by_chance: bool,
    pub broken: Option<String>,
    is_verbose: bool,
    log: Vec<String>,
}

impl History {
    pub(super) fn new(notice: PlayedNotice) -> Self {
        let PlayedNotice { size, is_full, has_targets, counts_twice, .. } = notice;
        let mut truth = Truth::new(size, if is_full { size } else { size + 3 });
        (truth.has_targets, truth.counts_twice) = (has_targets, counts_twice);
        Self {
            now: 0,
            past: Past::new(&truth),
            max: truth.max,
            truth,
            row: None,
            end: None,
            flights: Flights::none(),
            execution: Execution::new(),
            visits: <[Visit; 3]>::default(),
            notice,
            owner_acted: false,
            owner_acted_at: None,
            with_our_room: size,
            is_troubled: false,
            is_unsure: false,
            is_absorbed: false,
            lowered_from: None,
            is_raced: false,
            is_raised: false,
            told: false,
            is_by_chance: false,
            broken: None,
            is_verbose: false,
            log: vec![],
        }
    }

    /// Its failures tell what happened.
    pub(super) fn verbose(self) -> Self {
        Self { is_verbose: true, ..self }
    }

    /// Returns the end of the doomed one. The time that it needs to leave before is as many ticks as it has seconds.
    pub(super) fn ends_at(&self) -> Timestamp {
        at(self.notice.time).saturating_add(RELEASE_BEFORE_END).unwrap()
    }

    pub(super) fn is_time_up(&self) -> bool {
        is_time_up(self.ends_at(), at(self.now))
    }

    /// Plays the events, then lets the world come to rest. Fails with the first broken promise.
    pub(super) fn play(mut self, events: impl Iterator<Item = Timed>) -> Result<(), String> {
        for Timed(event, ticks) in events {
            if self.broken.is_some() || (self.end.is_some() && self.flights.is_empty()) {
                break;
            }
            self.event(event, ticks);
        }
        self.ends()
    }

    pub(super) fn event(&mut self, event: Event, ticks: u32) {
        match event {
            Event::Step(who, step) => self.step(who, step),
            Event::GroupActs(which) => {
                self.truth.group_acts(usize::from(which));
            }
            Event::Rebalances => self.truth.launches(),
            Event::OwnerAsks(more) => self.owner_asks(more),
            Event::OwnerSets(to) => self.owner_sets(to),
            Event::DoomedDies => self.truth.is_struck(DOOMED),
            Event::MemberDies(which) => {
                let members = &self.truth.members;
                let struck = members.get(usize::from(which) % members.len().max(1)).map(|m| m.n);
                self.truth.is_struck(struck.unwrap_or(DOOMED));
            }
            Event::TimePasses(ticks) => self.pass(ticks),
        }
        self.is_troubled |= match event {
            Event::Step(_, step) => step.fate != Fate::Done || step.ages != [0; 3],
            Event::GroupActs(_) | Event::TimePasses(_) => false,
            Event::Rebalances
            | Event::OwnerAsks(_)
            | Event::OwnerSets(_)
            | Event::DoomedDies
            | Event::MemberDies(_) => true,
        };
        self.is_unsure |= match event {
            Event::Step(_, step) => !matches!(step.fate, Fate::Done | Fate::Refused),
            _ => false,
        };
        self.note(|it| match event {
            Event::Step(..) => format!("    {}", it.truth),
            _ => format!("{event:?}\n    {}", it.truth),
        });
        self.pass(ticks);
        self.ask_oracles();
    }

    pub(super) fn note(&mut self, what: impl FnOnce(&Self) -> String) {
        if self.is_verbose {
            let line = format!("{:>3} {}", self.now, what(self));
            self.log.push(line);
        }
    }

    fn owner_asks(&mut self, more: i32) {
        let before = self.truth.desired;
        self.truth.owner_asks(more);
        self.with_our_room = (self.with_our_room + self.truth.desired).saturating_sub(before);
        self.truth.wish = self.truth.wish.min(self.max);
        if self.truth.desired != before {
            self.owner_has_acted();
        }
    }

    fn owner_sets(&mut self, to: u32) {
        let to = to.clamp(1, self.max.min(self.truth.max));
        (self.truth.desired, self.truth.wish, self.with_our_room) = (to, to, to);
        self.is_absorbed = true;
        self.owner_has_acted();
    }

    fn owner_has_acted(&mut self) {
        self.owner_acted |= self.row.is_some();
        self.owner_acted_at = Some(self.now);
    }

    fn pass(&mut self, ticks: u32) {
        for _ in 0..ticks {
            self.now += 1;
            self.is_now();
        }
        self.past.remember(self.now, &self.truth);
    }

    /// What is due at this tick comes.
    fn is_now(&mut self) {
        while let Some((call, basis)) = self.flights.land(self.now) {
            let answer = self.carry_out(call, basis);
            self.note(|_| format!("{call:?} lands: {answer:?}"));
        }
        let is_over = at(self.now) >= self.ends_at();
        if is_over && !self.notice.is_drill && self.truth.old.alive {
            self.truth.is_struck(DOOMED);
        }
        self.past.remember(self.now, &self.truth);
    }

    // ---- calls and looks ----

    pub(super) fn call(&mut self, call: Call, step: Step, basis: Basis) -> Answer {
        let heard = |answer: Result<(), Refused>| if answer.is_ok() { Answer::Done } else { Answer::Refused };
        let unheard =
            |call: Call| if call.is_repeated_by_the_sdk() { Answer::Again } else { Answer::Nothing };
        let answer = match step.fate {
            Fate::Done | Fate::CutAfter => heard(self.carry_out(call, basis)),
            Fate::AnswerLost => {
                let _ = self.carry_out(call, basis);
                unheard(call)
            }
            Fate::Refused => Answer::Refused,
            Fate::Never | Fate::CutBefore => Answer::Nothing,
            Fate::Late => {
                self.flights.depart(self.now, call, basis);
                if step.retries { unheard(call) } else { Answer::Nothing }
            }
        };
        self.note(|_| format!("{call:?} ({:?}): {answer:?}", step.fate));
        answer
    }

    pub(super) fn look(&self, ages: [u8; 3]) -> View {
        let of = |age: u8| self.past.of(age, &self.truth);
        view(of(ages[0]), of(ages[1]), of(ages[1]))
    }

    pub(super) fn observed(&self, journal: &Journal, view: &View) -> Observed {
        let is_recent = |since: Timestamp| i64::from(self.now) - since.as_second() < i64::from(QUIET);
        let known = journal.original.iter().flat_map(|original| &original.members);
        let later = view.group.members.iter().filter(|m| m.serves() && !known.clone().any(|id| id == &m.id));
        // A target group knows no instance that is gone, however long a description still shows it.
        let has_targets = self.truth.has_targets;
        let is_awaited = |id: &InstanceId| {
            self.truth.member(number(id)).map_or(has_targets, |member| !member.is_registered)
        };
        Observed {
            group: Some(view.group.clone()),
            not_serving: later.map(|member| member.id.clone()).filter(is_awaited).collect(),
            calls_may_land: journal.changed_at.is_some_and(is_recent),
            now: at(self.now),
        }
    }

    // ---- who steps ----

    pub(super) fn step(&mut self, who: usize, step: Step) {
        if self.end.is_some() {
            return;
        }
        match self.execution.died_at {
            None => self.phase(step),
            Some(died_at) if self.now >= died_at + QUIET => drop(self.visit(1 + who, step)),
            Some(_) => {}
        }
    }

    pub(super) fn close(&mut self, end: End) {
        self.note(|_| format!("closed: {end:?}"));
        self.row = None;
        self.end = Some(end);
    }

    /// Nobody interferes any more: the world comes to rest, and nothing of ours is left.
    pub(super) fn ends(mut self) -> Result<(), String> {
        for round in 0..60 {
            if self.end.is_some() || self.broken.is_some() {
                break;
            }
            self.pass(if round < 40 { 1 } else { QUIET + 1 });
            self.truth.comes_to_rest();
            self.pass(LAG + 1);
            for _ in 0..LIFE {
                self.step(0, Step::with(Fate::Done));
                self.pass(1);
                self.ask_oracles();
            }
        }
        let is_outgrown = self.truth.desired > self.max;
        self.holds(self.end.is_some() || is_outgrown, || "it never ends".to_owned());
        if self.end.is_some() {
            self.pass(QUIET + 1);
            self.truth.comes_to_rest();
            self.ask_oracles();
            self.nothing_is_left();
        }
        self.broken.map_or(Ok(()), |broken| Err(format!("{broken}\n{}", self.log.join("\n"))))
    }

    pub(super) fn is_at(&self, at: At) -> bool {
        self.execution.at == at
    }
}

pub(super) fn doomed() -> InstanceId {
    ids(DOOMED)
}
