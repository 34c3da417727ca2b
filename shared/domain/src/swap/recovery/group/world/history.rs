//! The history of a swap: an execution that may be cut anywhere, two reconcilers, and a world that is not atomic. After
//! every event the oracles are asked.

use jiff::Timestamp;

use super::recoverer::Visit;
use super::*;
use crate::swap::recovery::fate::{Answer, Fate, Flights, LAG, LIFE, Past, QUIET, Refused};
use crate::swap::recovery::truth::{Basis, Call, NEW, OLD, Row, Step, Truth, View, ids, view};

/// The next event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// The execution takes a step, or the reconciler of this number once the execution is dead.
    Step(usize, Step),
    /// Auto Scaling does something that is due.
    GroupActs(u16),
    /// The owner, or a policy, asks for so many more or fewer.
    OwnerAsks(i32),
    OldDies,
    NewcomerDies,
    MemberDies(u16),
    Poison,
    TimePasses(u32),
}

impl From<u16> for Event {
    fn from(number: u16) -> Self {
        let (kind, arg) = (number % 16, number / 16);
        match (kind, arg % 4) {
            (0..=8, _) => Self::Step(usize::from(kind == 8), arg.into()),
            (9..=11, _) => Self::GroupActs(arg),
            (12, which) => Self::OwnerAsks([-1, 1, -2, 2][usize::from(which)]),
            (13, 0) => Self::OldDies,
            (13, 1) => Self::NewcomerDies,
            (13, _) => Self::MemberDies(arg / 4),
            (14, 0) => Self::Poison,
            _ => Self::TimePasses(u32::from(arg) % (QUIET + 2)),
        }
    }
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
    pub poisoned: bool,
    owner_acted: bool,
    /// A person was told that something is left.
    pub told: bool,
    broken: Option<String>,
    is_verbose: bool,
    log: Vec<String>,
}

impl History {
    /// A swap in a group of `n`.
    pub(super) fn new(n: u32, is_at_max: bool, retirement: Retirement) -> Self {
        let truth = Truth::new(n, if is_at_max { n } else { n + 3 });
        Self {
            now: 0,
            past: Past::new(&truth),
            truth,
            row: None,
            end: None,
            flights: Flights::none(),
            execution: Execution::new(Journal::new(
                &ids(OLD),
                Timestamp::UNIX_EPOCH,
                retirement,
                SwapKind::Group,
            )),
            visits: <[Visit; 3]>::default(),
            poisoned: false,
            owner_acted: false,
            told: false,
            broken: None,
            is_verbose: false,
            log: vec![],
        }
    }

    /// Its failures tell what happened.
    pub(super) fn verbose(self) -> Self {
        Self { is_verbose: true, ..self }
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
        match event {
            Event::Step(who, step) => self.step(who, step),
            Event::GroupActs(which) => {
                self.truth.group_acts(usize::from(which));
            }
            Event::OwnerAsks(more) => self.owner_asks(more),
            Event::OldDies => self.truth.is_struck(OLD),
            Event::NewcomerDies => self.truth.is_struck(NEW),
            Event::MemberDies(which) => {
                let members = &self.truth.members;
                let struck = members.get(usize::from(which) % members.len().max(1)).map(|m| m.n);
                self.truth.is_struck(struck.unwrap_or(OLD));
            }
            Event::Poison => self.poisoned = true,
            Event::TimePasses(ticks) => self.pass(ticks),
        }
        self.note(|it| match event {
            Event::Step(..) => format!("    {}", it.truth),
            _ => format!("{event:?}\n    {}", it.truth),
        });
        self.pass(1);
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
        self.owner_acted |= self.truth.desired != before && self.row.is_some();
    }

    fn pass(&mut self, ticks: u32) {
        self.now += ticks;
        while let Some((call, basis)) = self.flights.land(self.now) {
            let answer = self.carry_out(call, basis);
            self.note(|_| format!("{call:?} lands: {answer:?}"));
        }
        self.past.remember(self.now, &self.truth);
    }

    // ---- the oracles ----

    /// The first broken promise counts.
    fn holds(&mut self, promise: bool, what: impl FnOnce() -> String) {
        if !promise && self.broken.is_none() {
            self.broken = Some(format!("{}\n{}\nrow: {:?}", what(), self.truth, self.row));
        }
    }

    fn ask_oracles(&mut self) {
        let (desired, wish) = (self.truth.desired, self.truth.wish);
        self.holds(desired >= wish && desired <= wish + 1, || {
            format!("desired {desired}, and the owner asks for {wish}")
        });
    }

    fn nothing_is_left(&mut self) {
        let truth = self.truth.clone();
        let original = self.execution.journal.original.as_ref();
        let max = original.map_or(truth.max, |original| original.max);
        let is_astray = |alive: bool, n| alive && truth.member(n).is_none();
        let newcomer_is_astray = truth.new.is_some_and(|new| is_astray(new.alive, NEW));
        let is_one_too_many = truth.desired > truth.wish && !self.told && !self.owner_acted;
        self.holds(!truth.suspended, || "AZRebalance stays suspended".to_owned());
        self.holds(truth.max == max || self.told, || "MaxSize stays raised".to_owned());
        self.holds(!is_astray(truth.old.alive, OLD), || "the old instance runs outside".to_owned());
        self.holds(!newcomer_is_astray, || "the newcomer runs outside".to_owned());
        self.holds(!is_one_too_many, || "one too many for ever".to_owned());
    }

    // ---- calls and looks ----

    fn carry_out(&mut self, call: Call, basis: Basis) -> Result<(), Refused> {
        let before = self.truth.serving();
        if let Call::SetMax(to) = call
            && to < self.truth.desired
        {
            let is_raced = self.truth.wish > basis.wish;
            self.holds(is_raced, || format!("MaxSize {to} makes the group pick victims"));
            // The owner asked for more between our look and our MaxSize (hole 12b): what he asked for beyond it is lost to
            // him. Our one goes first, and all else is promised as before.
            self.truth.wish = self.truth.wish.min(to);
        }
        if call == Call::Terminate(OLD) {
            let is_member = self.truth.member(OLD).is_some_and(|m| m.stays() && m.alive);
            self.holds(!is_member, || "the old instance is terminated in its group".to_owned());
        }
        let ends_old = call == Call::Terminate(OLD) && self.truth.old.alive;
        let answer = self.truth.carry_out(call);
        let original = self.row.as_ref().and_then(|row| Some(row.journal.original.as_ref()?.serving));
        if (self.truth.serving() < before || ends_old)
            && let Some(original) = original
        {
            let wanted = basis.wish.min(self.truth.wish).min(basis.serving).min(original);
            let would_serve = self.truth.serving() + self.truth.lost - basis.lost;
            self.holds(would_serve >= wanted, || format!("{call:?}: {would_serve} serve of {wanted}"));
        }
        answer
    }

    pub(super) fn call(&mut self, call: Call, fate: Fate, basis: Basis) -> Answer {
        let heard = |answer: Result<(), Refused>| if answer.is_ok() { Answer::Done } else { Answer::Refused };
        let answer = match fate {
            Fate::Done | Fate::CutAfter => heard(self.carry_out(call, basis)),
            Fate::AnswerLost => {
                let _ = self.carry_out(call, basis);
                if call.is_repeated_by_the_sdk() { Answer::Again } else { Answer::Nothing }
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

    pub(super) fn look(&self, ages: [u8; 3]) -> View {
        let of = |age: u8| self.past.of(age, &self.truth);
        view(of(ages[0]), of(ages[1]), of(ages[2]))
    }

    pub(super) fn observed(&self, journal: &Journal, view: &View) -> Observed {
        let is_within =
            |ticks: u32| move |since: Timestamp| i64::from(self.now) - since.as_second() < i64::from(ticks);
        let (is_recent, is_in_time) = (is_within(QUIET), is_within(3 * QUIET));
        Observed {
            group: Some(view.group.clone()),
            old_alive: view.old.alive,
            old_has_group_tag: view.old.has_group_tag,
            newcomer: view.new.map(|new| Newcomer {
                id: ids(NEW),
                alive: new.alive,
                has_group_tag: new.has_group_tag,
            }),
            launch_may_be_invisible: is_recent(journal.launching_since),
            calls_may_land: journal.changed_at.is_some_and(is_recent),
            awaits_others: journal.changed_at.is_some_and(is_in_time),
            ..Observed::default()
        }
    }

    // ---- who steps ----

    pub(super) fn step(&mut self, who: usize, step: Step) {
        if self.end.is_some() {
            return;
        }
        match self.execution.died_at {
            None if self.execution.at == At::Rollback => self.visit(0, step),
            None => self.phase(step),
            Some(died_at) if self.now >= died_at + QUIET => self.visit(1 + who, step),
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
        for round in 0..40 {
            if self.end.is_some() || self.broken.is_some() {
                break;
            }
            self.pass(QUIET + 1);
            self.truth.comes_to_rest();
            self.pass(LAG + 1);
            for _ in 0..LIFE {
                // What waits for long gives up.
                self.step(0, Step { gives_up: round >= 20, ..Step::with(Fate::Done) });
                self.pass(1);
                self.ask_oracles();
            }
        }
        let original = self.row.as_ref().and_then(|row| row.journal.original.as_ref());
        // MaxSize stays raised until the group fits below it, and a person is told.
        let is_outgrown = original.is_some_and(|original| self.truth.wish > original.max);
        self.holds(self.end.is_some() || is_outgrown, || "it never ends".to_owned());
        if self.end.is_some() {
            self.pass(QUIET + 1);
            self.truth.comes_to_rest();
            self.ask_oracles();
            self.nothing_is_left();
        }
        self.broken.map_or(Ok(()), |broken| Err(format!("{broken}\n{}", self.log.join("\n"))))
    }
}
