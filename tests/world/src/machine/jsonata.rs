//! JSONata, as far as the deployed state machines and their near neighbours use it.
//!
//! Step Functions implements JSONata 2.0.6 without a context item: a path begins with a variable or a function
//! (<https://docs.aws.amazon.com/step-functions/latest/dg/transforming-data.html>).
//! Everything else of JSONata is an error of the parser, so that no expression is evaluated by half.
//! Rules: <https://docs.jsonata.org/path-operators>, <https://docs.jsonata.org/comparison-operators>.

mod evaluator;
mod functions;
mod lexer;
mod operators;
mod parser;
mod syntax;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::Value;

use syntax::Syntax;

/// A parsed JSONata expression.
#[derive(Debug)]
pub(super) struct Expression {
    text: String,
    root: Syntax,
}

/// The text is no JSONata, or it is JSONata that this subset does not have.
#[derive(Debug, thiserror::Error)]
#[error("JSONata `{text}`: {problem}")]
pub(super) struct ParseError {
    text: String,
    problem: String,
}

/// The evaluation failed. The message begins with the code of JSONata's own error where it has one.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct EvaluationError(pub(super) String);

/// A value, or nothing (`undefined` in JSONata).
pub(super) type Evaluated<'a> = Option<Cow<'a, Value>>;

/// The variables that an expression sees. The first four are the fields of `$states`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bindings<'a> {
    /// `$states.input`.
    pub(super) input: &'a Value,
    /// `$states.result`, once a task has one.
    pub(super) result: Option<&'a Value>,
    /// `$states.errorOutput`, in a catcher.
    pub(super) error_output: Option<&'a Value>,
    /// `$states.context`.
    pub(super) context: &'a Value,
    /// The workflow variables by name.
    pub(super) variables: &'a BTreeMap<String, Value>,
}

impl Expression {
    /// Parses the text between `{%` and `%}`.
    pub(super) fn parse(text: &str) -> Result<Self, ParseError> {
        parser::parse(text)
            .map(|root| Self { text: text.to_owned(), root })
            .map_err(|problem| ParseError { text: text.to_owned(), problem })
    }

    /// Returns the value of the expression, or nothing.
    pub(super) fn evaluate(&self, bindings: &Bindings<'_>) -> Result<Option<Value>, EvaluationError> {
        Ok(self.root.evaluate(bindings)?.map(Cow::into_owned))
    }

    /// Returns the text of the expression.
    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

impl<'a> Bindings<'a> {
    /// Returns a field of `$states`.
    fn states_field(&self, name: &str) -> Option<&'a Value> {
        match name {
            "input" => Some(self.input),
            "result" => self.result,
            "errorOutput" => self.error_output,
            "context" => Some(self.context),
            _ => None,
        }
    }

    /// Returns the value of a variable; `$states` is built for it.
    fn variable(&self, name: &str) -> Evaluated<'a> {
        if name != "states" {
            return self.variables.get(name).map(Cow::Borrowed);
        }
        let fields = ["input", "result", "errorOutput", "context"];
        let states = fields.into_iter().filter_map(|n| Some((n.to_owned(), self.states_field(n)?.clone())));
        Some(Cow::Owned(states.collect()))
    }
}
