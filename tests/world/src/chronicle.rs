//! What happened in a history, so that a person can read it.

use std::fmt::{self, Display, Write as _};

use jiff::Timestamp;

use crate::fault::Fault;
use crate::virtual_time::{elapsed_ms, now};
use crate::wire::{ApiAnswer, ApiCall, CallBody, Service};

/// A call of the code under test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentCall {
    /// The function and its phase.
    pub by: String,
    /// The number of its invocation.
    pub invocation: Option<u32>,
    /// The service.
    pub service: Service,
    /// The action.
    pub action: String,
    /// The call changes nothing.
    pub is_read: bool,
    /// What went wrong with it.
    pub fault: Option<Fault>,
    /// When it was sent.
    pub at: Timestamp,
    /// When it first took effect or was refused, and the status of its answer.
    pub effect: Option<(Timestamp, u16)>,
}

/// The calls of a history by their numbers, and everything else in the order of time.
#[derive(Debug, Clone, Default)]
pub struct Chronicle {
    /// Every call, by its number.
    pub calls: Vec<SentCall>,
    lines: Vec<(i64, String)>,
}

impl Chronicle {
    /// Notes an event.
    pub fn notes(&mut self, what: impl Display) {
        self.lines.push((elapsed_ms(), what.to_string()));
    }

    /// Notes a call that is sent.
    pub fn is_sent(&mut self, call: SentCall) {
        if let Some(fault) = call.fault {
            let number = self.calls.len();
            self.notes(format_args!("#{number} {} {}:{}: {fault}", call.by, call.service, call.action));
        }
        self.calls.push(call);
    }

    /// Returns the function, with its phase, that has made a call.
    #[must_use]
    pub fn by(&self, number: usize) -> &str {
        self.calls.get(number).map_or("", |sent| &sent.by)
    }

    /// Notes a call that took effect.
    pub fn takes_effect(&mut self, number: usize, call: &ApiCall, answer: &ApiAnswer) {
        let by = self.by(number).to_owned();
        if let Some(sent) = self.calls.get_mut(number) {
            sent.effect.get_or_insert((now(), answer.status));
        }
        let mut line = format!("#{number} {by} {}:{}", call.service, call.action);
        if !self.calls.get(number).is_some_and(|sent| sent.is_read) {
            let _ = write!(line, " {}", parameters(call));
        }
        if answer.status >= 300 {
            let _ = write!(line, " -> {} {}", answer.status, cut(&answer.body, 240));
        }
        self.notes(line);
    }
}

fn parameters(call: &ApiCall) -> String {
    match &call.body {
        CallBody::Query(parameters) => {
            let told = parameters.iter().filter(|(name, _)| {
                !["Version", "AutoScalingGroupName"].contains(&name.as_str()) && !name.contains("Tag")
            });
            told.map(|(name, value)| format!("{name}={}", cut(value, 60))).collect::<Vec<_>>().join(" ")
        }
        CallBody::Json(body) => cut(&body.to_string(), 700),
    }
}

fn cut(text: &str, longest: usize) -> String {
    text.chars().take(longest).collect()
}

impl Display for Chronicle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at_ms, line) in &self.lines {
            writeln!(f, "{:>8}.{:03} {line}", at_ms / 1000, at_ms % 1000)?;
        }
        Ok(())
    }
}
