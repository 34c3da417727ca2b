//! Conditions: of writes, of filters and of keys.
//! <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Expressions.OperatorsAndFunctions.html>

use std::cmp::Ordering;

use super::attribute::{Attribute, AttributeMap};
use super::number::Number;
use super::path::DocumentPath;

mod parse;

/// A condition on an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    Compare(Operand, Comparator, Operand),
    Between(Operand, Operand, Operand),
    In(Operand, Vec<Operand>),
    Exists(DocumentPath),
    NotExists(DocumentPath),
    /// The attribute at the path is of the type.
    HasType(DocumentPath, String),
    BeginsWith(Operand, Operand),
    Contains(Operand, Operand),
    Not(Box<Condition>),
    And(Box<Condition>, Box<Condition>),
    Or(Box<Condition>, Box<Condition>),
}

/// One side of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operand {
    Path(DocumentPath),
    Value(Attribute),
    /// The function `size`.
    Size(Box<Operand>),
}

/// The sign of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparator {
    fn of(sign: &str) -> Option<Self> {
        Some(match sign {
            "=" => Self::Equal,
            "<>" => Self::NotEqual,
            "<" => Self::Less,
            "<=" => Self::LessOrEqual,
            ">" => Self::Greater,
            ">=" => Self::GreaterOrEqual,
            _ => return None,
        })
    }

    /// Returns the result of a comparison. An attribute that does not exist differs from everything, also from another
    /// such; it is neither less nor greater.
    fn holds(self, left: Option<&Attribute>, right: Option<&Attribute>) -> bool {
        let order = left.zip(right).and_then(|(left, right)| order(left, right));
        match self {
            Self::Equal => left.is_some() && left == right,
            Self::NotEqual => left.is_none() || left != right,
            Self::Less => order.is_some_and(Ordering::is_lt),
            Self::LessOrEqual => order.is_some_and(Ordering::is_le),
            Self::Greater => order.is_some_and(Ordering::is_gt),
            Self::GreaterOrEqual => order.is_some_and(Ordering::is_ge),
        }
    }
}

/// Returns the order of two texts or of two numbers. Texts are ordered by their UTF-8 bytes.
fn order(left: &Attribute, right: &Attribute) -> Option<Ordering> {
    match (left, right) {
        (Attribute::S(left), Attribute::S(right)) => Some(left.cmp(right)),
        (Attribute::N(left), Attribute::N(right)) => Some(left.cmp(right)),
        _ => None,
    }
}

impl Operand {
    fn read(&self, item: &AttributeMap) -> Option<Attribute> {
        match self {
            Self::Path(path) => path.find(item).cloned(),
            Self::Value(value) => Some(value.clone()),
            Self::Size(of) => of.read(item)?.count().map(Number::from).map(Attribute::N),
        }
    }
}

impl Condition {
    /// Returns true if the item meets the condition. An item that does not exist has no attributes.
    #[must_use]
    pub fn holds(&self, item: &AttributeMap) -> bool {
        match self {
            Self::Compare(left, comparator, right) => {
                comparator.holds(left.read(item).as_ref(), right.read(item).as_ref())
            }
            Self::Between(value, low, high) => {
                let value = value.read(item);
                Comparator::GreaterOrEqual.holds(value.as_ref(), low.read(item).as_ref())
                    && Comparator::LessOrEqual.holds(value.as_ref(), high.read(item).as_ref())
            }
            Self::In(value, list) => {
                let value = value.read(item);
                value.is_some() && list.iter().any(|one| one.read(item) == value)
            }
            Self::Exists(path) => path.find(item).is_some(),
            Self::NotExists(path) => path.find(item).is_none(),
            Self::HasType(path, kind) => path.find(item).is_some_and(|value| value.kind() == kind),
            Self::BeginsWith(value, prefix) => match (value.read(item), prefix.read(item)) {
                (Some(Attribute::S(text)), Some(Attribute::S(prefix))) => text.starts_with(&prefix),
                _ => false,
            },
            Self::Contains(whole, part) => match (whole.read(item), part.read(item)) {
                (Some(whole), Some(part)) => contains(&whole, &part),
                _ => false,
            },
            Self::Not(condition) => !condition.holds(item),
            Self::And(one, two) => one.holds(item) && two.holds(item),
            Self::Or(one, two) => one.holds(item) || two.holds(item),
        }
    }

    /// Returns the roots of all paths.
    #[must_use]
    pub fn roots(&self) -> Vec<&str> {
        match self {
            Self::Compare(one, _, two) | Self::BeginsWith(one, two) | Self::Contains(one, two) => {
                roots([one, two])
            }
            Self::Between(one, two, three) => roots([one, two, three]),
            Self::In(one, list) => roots(std::iter::once(one).chain(list)),
            Self::Exists(path) | Self::NotExists(path) | Self::HasType(path, _) => vec![&path.root],
            Self::Not(condition) => condition.roots(),
            Self::And(one, two) | Self::Or(one, two) => [one.roots(), two.roots()].concat(),
        }
    }
}

fn roots<'a>(operands: impl IntoIterator<Item = &'a Operand>) -> Vec<&'a str> {
    fn root(operand: &Operand) -> Option<&str> {
        match operand {
            Operand::Path(path) => Some(&path.root),
            Operand::Size(of) => root(of),
            Operand::Value(_) => None,
        }
    }
    operands.into_iter().filter_map(root).collect()
}

fn contains(whole: &Attribute, part: &Attribute) -> bool {
    match (whole, part) {
        (Attribute::S(text), Attribute::S(part)) => text.contains(part.as_str()),
        (Attribute::Ss(texts), Attribute::S(text)) => texts.contains(text),
        (Attribute::Ns(numbers), Attribute::N(number)) => numbers.contains(number),
        (Attribute::L(values), value) => values.contains(value),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
