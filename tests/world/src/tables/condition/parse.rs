//! The grammar of conditions, and the faults that DynamoDB finds before it reads an item.

use super::super::attribute::Attribute;
use super::super::error::DynamoDbError;
use super::super::parser::Parser;
use super::super::path::DocumentPath;
use super::super::placeholders::Placeholders;
use super::{Comparator, Condition, Operand, order};

const COMPARATORS: [&str; 6] = ["=", "<>", "<", "<=", ">", ">="];
/// The names of the types, for `attribute_type`.
const TYPES: [&str; 10] = ["S", "SS", "N", "NS", "B", "BS", "BOOL", "NULL", "L", "M"];
/// The most values of `IN`.
const MOST_CHOICES: usize = 100;

impl Condition {
    /// Parses a condition. `kind` is the name of the parameter.
    ///
    /// # Errors
    /// The expression is malformed, or it can't be evaluated with any item.
    pub fn parse(
        kind: &'static str,
        expression: &str,
        placeholders: &mut Placeholders,
    ) -> Result<Self, DynamoDbError> {
        let mut parser = Parser::new(kind, expression, placeholders)?;
        let condition = any(&mut parser)?;
        parser.require_end()?;
        Ok(condition)
    }
}

fn any(parser: &mut Parser<'_>) -> Result<Condition, DynamoDbError> {
    let mut condition = all(parser)?;
    while parser.keyword("OR") {
        condition = Condition::Or(Box::new(condition), Box::new(all(parser)?));
    }
    Ok(condition)
}

fn all(parser: &mut Parser<'_>) -> Result<Condition, DynamoDbError> {
    let mut condition = one(parser)?;
    while parser.keyword("AND") {
        condition = Condition::And(Box::new(condition), Box::new(one(parser)?));
    }
    Ok(condition)
}

fn one(parser: &mut Parser<'_>) -> Result<Condition, DynamoDbError> {
    if parser.keyword("NOT") {
        return Ok(Condition::Not(Box::new(one(parser)?)));
    }
    let is_redundant = parser.has_redundant_parentheses();
    if parser.sign("(") {
        if is_redundant {
            return Err(parser.invalid("The expression has redundant parentheses;"));
        }
        let condition = any(parser)?;
        parser.require_sign(")")?;
        return Ok(condition);
    }
    match parser.function().as_deref() {
        Some("size") => {
            let size = size(parser)?;
            comparison(parser, size)
        }
        Some(name) => function(parser, name),
        None => {
            let left = operand(parser)?;
            comparison(parser, left)
        }
    }
}

fn comparison(parser: &mut Parser<'_>, left: Operand) -> Result<Condition, DynamoDbError> {
    if parser.keyword("BETWEEN") {
        let low = operand(parser)?;
        parser.require_keyword("AND")?;
        let high = operand(parser)?;
        require_ordered(parser, "BETWEEN", &[&left, &low, &high])?;
        require_bounds(parser, &low, &high)?;
        return Ok(Condition::Between(left, low, high));
    }
    if parser.keyword("IN") {
        parser.require_sign("(")?;
        let list = operands(parser)?;
        if list.len() > MOST_CHOICES {
            return Err(parser.invalid(format!(
                "The IN operator is provided with too many operands; number of operands: {}",
                list.len() + 1
            )));
        }
        return Ok(Condition::In(left, list));
    }
    let is_size_alone = matches!(left, Operand::Size(_));
    let Some(sign) = parser.any_sign(&COMPARATORS) else {
        let problem = "The function is not allowed to be used this way in an expression; function: size";
        return Err(if is_size_alone { parser.invalid(problem) } else { parser.syntax_error() });
    };
    let comparator = Comparator::of(sign).ok_or_else(|| parser.syntax_error())?;
    let right = operand(parser)?;
    if !matches!(comparator, Comparator::Equal | Comparator::NotEqual) {
        require_ordered(parser, sign, &[&left, &right])?;
    }
    require_distinct(parser, sign, &left, &right)?;
    Ok(Condition::Compare(left, comparator, right))
}

fn operand(parser: &mut Parser<'_>) -> Result<Operand, DynamoDbError> {
    match parser.function().as_deref() {
        Some("size") => return size(parser),
        Some(name) => return Err(not_allowed(parser, name)),
        None => {}
    }
    match parser.value()? {
        Some(value) => Ok(Operand::Value(value)),
        None => parser.path().map(Operand::Path),
    }
}

/// Reads operands up to the closing parenthesis.
fn operands(parser: &mut Parser<'_>) -> Result<Vec<Operand>, DynamoDbError> {
    let mut list = vec![operand(parser)?];
    while parser.sign(",") {
        list.push(operand(parser)?);
    }
    parser.require_sign(")")?;
    Ok(list)
}

fn size(parser: &mut Parser<'_>) -> Result<Operand, DynamoDbError> {
    let [of] = exactly(parser, "size")?;
    match of {
        Operand::Value(value) if value.count().is_none() => Err(wrong_type(parser, "size", &value)),
        of => Ok(Operand::Size(Box::new(of))),
    }
}

fn function(parser: &mut Parser<'_>, name: &str) -> Result<Condition, DynamoDbError> {
    match name {
        "attribute_exists" => {
            let [operand] = exactly(parser, name)?;
            path_of(parser, name, operand).map(Condition::Exists)
        }
        "attribute_not_exists" => {
            let [operand] = exactly(parser, name)?;
            path_of(parser, name, operand).map(Condition::NotExists)
        }
        "attribute_type" => {
            let [operand, kind] = exactly(parser, name)?;
            let path = path_of(parser, name, operand)?;
            match kind {
                Operand::Value(Attribute::S(kind)) if TYPES.contains(&kind.as_str()) => {
                    Ok(Condition::HasType(path, kind))
                }
                _ => Err(parser.invalid("Invalid attribute type name found; type: unknown")),
            }
        }
        "begins_with" => {
            let [value, prefix] = exactly(parser, name)?;
            require_distinct(parser, name, &value, &prefix)?;
            for operand in [&value, &prefix] {
                if let Operand::Value(value) = operand
                    && value.as_s().is_none()
                {
                    return Err(wrong_type(parser, name, value));
                }
            }
            Ok(Condition::BeginsWith(value, prefix))
        }
        "contains" => {
            let [whole, part] = exactly(parser, name)?;
            require_distinct(parser, name, &whole, &part)?;
            Ok(Condition::Contains(whole, part))
        }
        _ => Err(not_allowed(parser, name)),
    }
}

fn exactly<const N: usize>(parser: &mut Parser<'_>, function: &str) -> Result<[Operand; N], DynamoDbError> {
    let list = operands(parser)?;
    <[Operand; N]>::try_from(list).map_err(|list| {
        let problem = "Incorrect number of operands for operator or function; operator or function";
        parser.invalid(format!("{problem}: {function}, number of operands: {}", list.len()))
    })
}

fn path_of(parser: &Parser<'_>, function: &str, operand: Operand) -> Result<DocumentPath, DynamoDbError> {
    match operand {
        Operand::Path(path) => Ok(path),
        _ => Err(parser.invalid(format!(
            "Operator or function requires a document path; operator or function: {function}"
        ))),
    }
}

fn not_allowed(parser: &Parser<'_>, name: &str) -> DynamoDbError {
    match name {
        "attribute_exists"
        | "attribute_not_exists"
        | "attribute_type"
        | "begins_with"
        | "contains"
        | "if_not_exists"
        | "list_append" => parser.invalid(format!(
            "The function is not allowed to be used this way in an expression; function: {name}"
        )),
        _ => parser.invalid(format!("Invalid function name; function: {name}")),
    }
}

fn wrong_type(parser: &Parser<'_>, operator: &str, value: &Attribute) -> DynamoDbError {
    let problem = "Incorrect operand type for operator or function; operator or function";
    parser.invalid(format!("{problem}: {operator}, operand type: {}", value.kind()))
}

/// Checks that values of the call have an order. The attribute of an item that has none only fails the condition.
fn require_ordered(parser: &Parser<'_>, operator: &str, operands: &[&Operand]) -> Result<(), DynamoDbError> {
    for operand in operands {
        match operand {
            Operand::Value(Attribute::S(_) | Attribute::N(_)) | Operand::Path(_) | Operand::Size(_) => {}
            Operand::Value(value) => return Err(wrong_type(parser, operator, value)),
        }
    }
    Ok(())
}

fn require_bounds(parser: &Parser<'_>, low: &Operand, high: &Operand) -> Result<(), DynamoDbError> {
    let (Operand::Value(low), Operand::Value(high)) = (low, high) else { return Ok(()) };
    match order(low, high) {
        Some(order) if order.is_le() => Ok(()),
        Some(_) => Err(parser.invalid(
            "The BETWEEN operator requires upper bound to be greater than or equal to lower bound; \
             lower bound operand, upper bound operand",
        )),
        None => Err(parser.invalid(
            "The BETWEEN operator requires same data type for lower and upper bounds; \
             lower bound operand, upper bound operand",
        )),
    }
}

fn require_distinct(
    parser: &Parser<'_>,
    operator: &str,
    one: &Operand,
    two: &Operand,
) -> Result<(), DynamoDbError> {
    match (one, two) {
        (Operand::Path(path), Operand::Path(other)) if path == other => Err(parser.invalid(format!(
            "The first operand must be distinct from the remaining operands for this operator or function; \
             operator: {operator}, first operand: {path}"
        ))),
        _ => Ok(()),
    }
}
