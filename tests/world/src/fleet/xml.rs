//! Answers of the Query protocol as they are written, and the refusals that take their place.

use std::collections::BTreeMap;
use std::fmt::Display;

use jiff::Timestamp;

use crate::wire::{ApiAnswer, ApiCall, Service, escape};

/// The elements of an answer, in their order.
#[derive(Debug, Clone, Default)]
pub(super) struct Xml(String);

impl Xml {
    pub(super) fn text(&mut self, name: &str, value: impl Display) {
        self.within(name, |xml| xml.0.push_str(&escape(&value.to_string())));
    }

    /// Writes elements that are XML already.
    pub(super) fn elements(&mut self, xml: &str) {
        self.0.push_str(xml);
    }

    pub(super) fn optional(&mut self, name: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }

    pub(super) fn time(&mut self, name: &str, at: Timestamp) {
        self.text(name, format!("{at:.3}"));
    }

    pub(super) fn within(&mut self, name: &str, inner: impl FnOnce(&mut Self)) {
        self.0.extend(["<", name, ">"]);
        inner(self);
        self.0.extend(["</", name, ">"]);
    }

    /// Writes the tags of a resource as EC2 lists them.
    pub(super) fn tags(&mut self, tags: &BTreeMap<String, String>) {
        self.list("tagSet", "item", tags, |xml, (key, value)| {
            xml.text("key", key);
            xml.text("value", value);
        });
    }

    /// Writes a list: EC2 names each element `item`, the other services `member`.
    pub(super) fn list<T>(
        &mut self,
        name: &str,
        element: &str,
        items: impl IntoIterator<Item = T>,
        mut write: impl FnMut(&mut Self, T),
    ) {
        self.within(name, |xml| {
            for item in items {
                xml.within(element, |xml| write(xml, item));
            }
        });
    }

    /// Writes a list of plain texts.
    pub(super) fn texts<T: Display>(
        &mut self,
        name: &str,
        element: &str,
        items: impl IntoIterator<Item = T>,
    ) {
        self.within(name, |xml| items.into_iter().for_each(|item| xml.text(element, item)));
    }
}

/// A call that AWS refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ApiError {
    pub(super) status: u16,
    pub(super) code: String,
    pub(super) message: String,
}

impl ApiError {
    pub(super) fn new(code: &str, message: impl Into<String>) -> Self {
        Self { status: 400, code: code.to_owned(), message: message.into() }
    }

    /// Auto Scaling's usual refusal: the text alone tells one from another.
    pub(super) fn validation(message: impl Into<String>) -> Self {
        Self::new("ValidationError", message)
    }

    /// Returns the refusal of an action or a parameter that the world does not play. Ignored, it would go unnoticed.
    pub(super) fn not_played(what: &str) -> Self {
        let message = format!("{what} is not played by the world");
        Self { status: 501, ..Self::new("NotPlayedByTheWorld", message) }
    }
}

pub(super) type Answered = Result<Xml, ApiError>;

/// Returns the answer as it goes over the wire.
pub(super) fn answer(call: &ApiCall, answered: Answered) -> ApiAnswer {
    let action = &call.action;
    match (answered, call.service) {
        (Ok(Xml(inner)), Service::Ec2) => ApiAnswer::xml(format!(
            "<{action}Response xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\">{inner}</{action}Response>"
        )),
        (Ok(Xml(inner)), service) => {
            let space = match service {
                Service::AutoScaling => "http://autoscaling.amazonaws.com/doc/2011-01-01/",
                _ => "http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/",
            };
            ApiAnswer::xml(format!(
                "<{action}Response xmlns=\"{space}\"><{action}Result>{inner}</{action}Result></{action}Response>"
            ))
        }
        (Err(error), Service::Ec2) => ApiAnswer::ec2_error(error.status, &error.code, &error.message),
        (Err(error), _) => ApiAnswer::query_error(error.status, &error.code, &error.message),
    }
}
