//! The syntax tree.

use serde_json::Value;

use super::functions::Function;

/// A part of an expression.
#[derive(Debug)]
pub(super) enum Syntax {
    Literal(Value),
    Variable(String),
    /// An expression in parentheses.
    Block(Box<Syntax>),
    /// `head[0].field.field[1]`.
    Path {
        head: Box<Syntax>,
        indexes: Vec<i64>,
        steps: Vec<PathStep>,
    },
    Negation(Box<Syntax>),
    Binary(Operator, Box<Syntax>, Box<Syntax>),
    /// `condition ? then : otherwise`.
    Condition(Box<Syntax>, Box<Syntax>, Option<Box<Syntax>>),
    Array(Vec<Syntax>),
    Object(Vec<(Syntax, Syntax)>),
    Call(Function, Vec<Syntax>),
}

/// A field in a path, with the positions that are picked from it.
#[derive(Debug)]
pub(super) struct PathStep {
    pub(super) field: String,
    pub(super) indexes: Vec<i64>,
}

/// An operator between two operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Concatenate,
    And,
    Or,
    In,
}

/// The operators as they are written, with the strength of their binding in the parser of jsonata-js.
const OPERATORS: [(&str, Operator, u8); 15] = [
    ("or", Operator::Or, 25),
    ("and", Operator::And, 30),
    ("=", Operator::Equal, 40),
    ("!=", Operator::NotEqual, 40),
    ("<", Operator::Less, 40),
    ("<=", Operator::LessOrEqual, 40),
    (">", Operator::Greater, 40),
    (">=", Operator::GreaterOrEqual, 40),
    ("in", Operator::In, 40),
    ("+", Operator::Add, 50),
    ("-", Operator::Subtract, 50),
    ("&", Operator::Concatenate, 50),
    ("*", Operator::Multiply, 60),
    ("/", Operator::Divide, 60),
    ("%", Operator::Remainder, 60),
];

impl Operator {
    /// Returns the operator that is written so, with its binding strength.
    pub(super) fn find(text: &str) -> Option<(Self, u8)> {
        OPERATORS
            .iter()
            .find(|(written, ..)| *written == text)
            .map(|(_, operator, power)| (*operator, *power))
    }

    /// Returns how the operator is written.
    pub(super) fn written(self) -> &'static str {
        OPERATORS.iter().find(|(_, operator, _)| *operator == self).map_or("", |(written, ..)| written)
    }
}
