//! Updates of items: `SET`, `REMOVE`, `ADD` and `DELETE`.
//! <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Expressions.UpdateExpressions.html>

use super::attribute::{Attribute, AttributeMap};
use super::error::DynamoDbError;
use super::number::{BadNumber, Number};
use super::parser::{Parser, require_apart};
use super::path::{DocumentPath, NoParent, project};
use super::placeholders::Placeholders;

const KIND: &str = "UpdateExpression";
const SECTIONS: [&str; 4] = ["SET", "REMOVE", "ADD", "DELETE"];

/// An update of an item. The default one changes nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Update {
    sets: Vec<(DocumentPath, Term)>,
    removes: Vec<DocumentPath>,
    adds: Vec<(DocumentPath, Attribute)>,
    deletes: Vec<(DocumentPath, Attribute)>,
}

/// The value that `SET` writes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Term {
    Path(DocumentPath),
    Value(Attribute),
    IfNotExists(DocumentPath, Box<Term>),
    ListAppend(Box<Term>, Box<Term>),
    Plus(Box<Term>, Box<Term>),
    Minus(Box<Term>, Box<Term>),
}

impl Update {
    /// Parses an update.
    ///
    /// # Errors
    /// The expression is malformed, or two of its paths overlap.
    pub fn parse(expression: &str, placeholders: &mut Placeholders) -> Result<Self, DynamoDbError> {
        let mut parser = Parser::new(KIND, expression, placeholders)?;
        let mut update = Self::default();
        let mut seen = Vec::new();
        while !parser.is_at_end() {
            let section = SECTIONS.into_iter().find(|section| parser.keyword(section));
            let section = section.ok_or_else(|| parser.syntax_error())?;
            if seen.contains(&section) {
                return Err(parser.invalid(format!(
                    "The \"{section}\" section can only be used once in an update expression;"
                )));
            }
            seen.push(section);
            update.section(section, &mut parser)?;
            while parser.sign(",") {
                update.section(section, &mut parser)?;
            }
        }
        require_apart(KIND, &update.paths())?;
        Ok(update)
    }

    /// Reads one action of a section.
    fn section(&mut self, section: &str, parser: &mut Parser<'_>) -> Result<(), DynamoDbError> {
        let path = parser.path()?;
        match section {
            "SET" => {
                parser.require_sign("=")?;
                self.sets.push((path, sum(parser)?));
            }
            "REMOVE" => self.removes.push(path),
            _ => {
                let value = parser.value()?.ok_or_else(|| parser.syntax_error())?;
                let is_set = matches!(value, Attribute::Ss(_) | Attribute::Ns(_));
                let is_number = matches!(value, Attribute::N(_));
                match section {
                    "ADD" if is_set || is_number => self.adds.push((path, value)),
                    "DELETE" if is_set => self.deletes.push((path, value)),
                    _ => return Err(wrong_type(parser, section, &value)),
                }
            }
        }
        Ok(())
    }

    /// Returns the paths that the update writes to.
    fn paths(&self) -> Vec<DocumentPath> {
        let with_value = self.adds.iter().chain(&self.deletes).map(|(path, _)| path);
        self.sets.iter().map(|(path, _)| path).chain(&self.removes).chain(with_value).cloned().collect()
    }

    /// Returns the attributes of an item that the update writes to.
    pub fn roots(&self) -> impl Iterator<Item = String> {
        self.paths().into_iter().map(|path| path.root)
    }

    /// Returns the parts of an item that the update writes to.
    #[must_use]
    pub fn touched(&self, item: &AttributeMap) -> AttributeMap {
        project(item, &self.paths())
    }

    /// Returns true if the update only takes away. Then it makes no item where there is none.
    /// <https://github.com/scylladb/scylladb/issues/5862> compares this with DynamoDB itself.
    #[must_use]
    pub fn only_takes_away(&self) -> bool {
        let takes_away = !self.removes.is_empty() || !self.deletes.is_empty();
        takes_away && self.sets.is_empty() && self.adds.is_empty()
    }

    /// Returns the item after the update. All values are read from the item before it; `base` is that item, or the key
    /// alone where there is none.
    ///
    /// # Errors
    /// The item does not have what the update needs.
    pub fn apply(&self, before: &AttributeMap, base: AttributeMap) -> Result<AttributeMap, DynamoDbError> {
        let mut after = base;
        let mut writes = Vec::new();
        for (path, term) in &self.sets {
            writes.push((path, term.read(before)?));
        }
        // An index beyond the end of a list appends, in the order of the indexes.
        writes.sort_by(|one, two| one.0.cmp(two.0));
        for (path, value) in writes {
            path.set(&mut after, value).map_err(no_parent)?;
        }
        for (path, added) in &self.adds {
            let sum = add(path.find(before), added)?;
            path.set(&mut after, sum).map_err(no_parent)?;
        }
        for (path, deleted) in &self.deletes {
            match path.find(before).map(|set| delete(set, deleted)).transpose()? {
                Some(Some(rest)) => path.set(&mut after, rest).map_err(no_parent)?,
                Some(None) | None => path.remove(&mut after).map_err(no_parent)?,
            }
        }
        // The indexes are those of the list before: the last go first.
        let mut removes: Vec<_> = self.removes.iter().collect();
        removes.sort_unstable_by(|one, two| two.cmp(one));
        for path in removes {
            path.remove(&mut after).map_err(no_parent)?;
        }
        Ok(after)
    }
}

fn no_parent(_: NoParent) -> DynamoDbError {
    DynamoDbError::validation("The document path provided in the update expression is invalid for update")
}

fn incorrect_type() -> DynamoDbError {
    DynamoDbError::validation("An operand in the update expression has an incorrect data type")
}

fn wrong_type(parser: &Parser<'_>, operator: &str, value: &Attribute) -> DynamoDbError {
    let problem = "Incorrect operand type for operator or function; operator or function";
    parser.invalid(format!("{problem}: {operator}, operand type: {}", value.kind()))
}

/// Reads an operand, or the sum or difference of two.
fn sum(parser: &mut Parser<'_>) -> Result<Term, DynamoDbError> {
    let one = term(parser)?;
    let Some(sign) = parser.any_sign(&["+", "-"]) else { return Ok(one) };
    let two = term(parser)?;
    for operand in [&one, &two] {
        if let Term::Value(value) = operand
            && value.as_n().is_none()
        {
            return Err(wrong_type(parser, sign, value));
        }
    }
    let (one, two) = (Box::new(one), Box::new(two));
    Ok(if sign == "+" { Term::Plus(one, two) } else { Term::Minus(one, two) })
}

fn term(parser: &mut Parser<'_>) -> Result<Term, DynamoDbError> {
    match parser.function().as_deref() {
        Some("if_not_exists") => {
            let path = parser.path()?;
            parser.require_sign(",")?;
            let or = term(parser)?;
            parser.require_sign(")")?;
            Ok(Term::IfNotExists(path, Box::new(or)))
        }
        Some("list_append") => {
            let one = term(parser)?;
            parser.require_sign(",")?;
            let two = term(parser)?;
            parser.require_sign(")")?;
            for operand in [&one, &two] {
                if let Term::Value(value) = operand
                    && !matches!(value, Attribute::L(_))
                {
                    return Err(wrong_type(parser, "list_append", value));
                }
            }
            Ok(Term::ListAppend(Box::new(one), Box::new(two)))
        }
        Some(name) => Err(parser.invalid(format!("Invalid function name; function: {name}"))),
        None => match parser.value()? {
            Some(value) => Ok(Term::Value(value)),
            None => parser.path().map(Term::Path),
        },
    }
}

impl Term {
    fn read(&self, item: &AttributeMap) -> Result<Attribute, DynamoDbError> {
        match self {
            Self::Path(path) => path.find(item).cloned().ok_or_else(|| {
                DynamoDbError::validation(
                    "The provided expression refers to an attribute that does not exist in the item",
                )
            }),
            Self::Value(value) => Ok(value.clone()),
            Self::IfNotExists(path, or) => path.find(item).cloned().map_or_else(|| or.read(item), Ok),
            Self::ListAppend(one, two) => match (one.read(item)?, two.read(item)?) {
                (Attribute::L(one), Attribute::L(two)) => Ok(Attribute::L([one, two].concat())),
                _ => Err(incorrect_type()),
            },
            Self::Plus(one, two) => calculate(&one.read(item)?, &two.read(item)?, Number::plus),
            Self::Minus(one, two) => calculate(&one.read(item)?, &two.read(item)?, Number::minus),
        }
    }
}

fn calculate(
    one: &Attribute,
    two: &Attribute,
    result: impl Fn(Number, Number) -> Result<Number, BadNumber>,
) -> Result<Attribute, DynamoDbError> {
    let (one, two) = one.as_n().zip(two.as_n()).ok_or_else(incorrect_type)?;
    result(one, two).map(Attribute::N).map_err(|error| DynamoDbError::validation(error.to_string()))
}

/// Adds to a number or to a set. A missing number is zero, and a missing set is empty.
fn add(stored: Option<&Attribute>, added: &Attribute) -> Result<Attribute, DynamoDbError> {
    match (stored, added) {
        (None, added) => Ok(added.clone()),
        (Some(stored @ Attribute::N(_)), Attribute::N(_)) => calculate(stored, added, Number::plus),
        (Some(Attribute::Ss(stored)), Attribute::Ss(added)) => Ok(Attribute::Ss(stored | added)),
        (Some(Attribute::Ns(stored)), Attribute::Ns(added)) => Ok(Attribute::Ns(stored | added)),
        _ => Err(incorrect_type()),
    }
}

/// Deletes from a set. A set that would be empty does not exist.
fn delete(stored: &Attribute, deleted: &Attribute) -> Result<Option<Attribute>, DynamoDbError> {
    let rest = match (stored, deleted) {
        (Attribute::Ss(stored), Attribute::Ss(deleted)) => Attribute::Ss(stored - deleted),
        (Attribute::Ns(stored), Attribute::Ns(deleted)) => Attribute::Ns(stored - deleted),
        _ => return Err(incorrect_type()),
    };
    Ok(Some(rest).filter(|rest| rest.count() != Some(0)))
}

#[cfg(test)]
mod tests;
