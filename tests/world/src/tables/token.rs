//! The words and signs of an expression.

use super::error::DynamoDbError;
use super::placeholders::invalid;

/// The longest expression in bytes.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html>
const LONGEST_EXPRESSION: usize = 4096;
/// Two-character signs come before their first characters.
const SIGNS: [&str; 14] = ["<>", "<=", ">=", "=", "<", ">", "(", ")", "[", "]", ",", ".", "+", "-"];

/// A word or a sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// A keyword, a function or an attribute's name.
    Word(String),
    /// `#name`.
    NamePlaceholder(String),
    /// `:value`.
    ValuePlaceholder(String),
    Integer(usize),
    Sign(&'static str),
}

/// Splits an expression. `kind` is the name of the parameter.
pub(super) fn split(kind: &str, expression: &str) -> Result<Vec<Token>, DynamoDbError> {
    if expression.trim().is_empty() {
        return Err(invalid(kind, "The expression can not be empty;"));
    }
    if expression.len() > LONGEST_EXPRESSION {
        let size = expression.len();
        return Err(invalid(
            kind,
            format!("Expression size has exceeded the maximum allowed size; expression size: {size}"),
        ));
    }
    let mut tokens = Vec::new();
    let mut rest = expression.trim_start();
    while !rest.is_empty() {
        let (token, length) = next(rest).ok_or_else(|| syntax_error(kind, rest))?;
        tokens.push(token);
        rest = rest[length..].trim_start();
    }
    Ok(tokens)
}

/// Returns the fault of an expression that breaks off or goes on wrongly before `rest`.
pub(super) fn syntax_error(kind: &str, rest: &str) -> DynamoDbError {
    let near: String = rest.chars().take(20).collect();
    invalid(kind, format!("Syntax error; token: \"{near}\", near: \"{near}\""))
}

fn next(rest: &str) -> Option<(Token, usize)> {
    if let Some(sign) = SIGNS.into_iter().find(|sign| rest.starts_with(sign)) {
        return Some((Token::Sign(sign), sign.len()));
    }
    let first = rest.chars().next()?;
    let is_placeholder = first == '#' || first == ':';
    let start = usize::from(is_placeholder);
    let is_of_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let length = start + rest[start..].find(|c| !is_of_word(c)).unwrap_or(rest.len() - start);
    let word = rest[..length].to_owned();
    let token = match first {
        _ if length == start => return None,
        '#' => Token::NamePlaceholder(word),
        ':' => Token::ValuePlaceholder(word),
        '0'..='9' => Token::Integer(word.parse().ok()?),
        'a'..='z' | 'A'..='Z' => Token::Word(word),
        _ => return None,
    };
    Some((token, length))
}
