//! From text to tokens.

use std::iter::Peekable;
use std::str::Chars;

/// A token.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Number(f64),
    Text(String),
    /// A field's name or a word such as `and`.
    Name(String),
    /// A field's name in backquotes, which is never a word.
    Quoted(String),
    /// `$name`, without the `$`.
    Variable(String),
    Symbol(&'static str),
    End,
}

/// The symbols of JSONata; the longer ones come first. The parser refuses by name those that it does not support.
const SYMBOLS: [&str; 31] = [
    "!=", "<=", ">=", "**", "..", ":=", "~>", "??", "?:", ".", "[", "]", "{", "}", "(", ")", ",", "@", "#",
    ";", ":", "?", "+", "-", "*", "/", "%", "|", "=", "<", ">",
];

/// Returns the tokens of the text, the end among them.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    loop {
        rest = skip_blank(rest)?;
        let Some(first) = rest.chars().next() else {
            tokens.push(Token::End);
            return Ok(tokens);
        };
        let (token, after) = match first {
            '"' | '\'' => quoted(&rest[1..], first)?,
            '`' => backquoted(&rest[1..])?,
            '0'..='9' => number(rest)?,
            '$' => variable(&rest[1..])?,
            c if is_word(c) => {
                let (name, after) = word(rest);
                (Token::Name(name.to_owned()), after)
            }
            _ => symbol(rest)?,
        };
        tokens.push(token);
        rest = after;
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn word(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c| !is_word(c)).unwrap_or(text.len()))
}

fn skip_blank(text: &str) -> Result<&str, String> {
    let rest = text.trim_start();
    match rest.strip_prefix("/*") {
        None => Ok(rest),
        Some(comment) => {
            let (_, after) = comment.split_once("*/").ok_or("a comment has no end")?;
            skip_blank(after)
        }
    }
}

fn variable(text: &str) -> Result<(Token, &str), String> {
    let (name, after) = word(text);
    if name.is_empty() {
        return Err("`$` and `$$` have no meaning in Step Functions".to_owned());
    }
    Ok((Token::Variable(name.to_owned()), after))
}

fn symbol(text: &str) -> Result<(Token, &str), String> {
    let known = SYMBOLS.iter().chain(&["&", "^"]).find(|symbol| text.starts_with(**symbol));
    let symbol = known.ok_or_else(|| format!("`{text}` begins with no symbol of JSONata"))?;
    Ok((Token::Symbol(symbol), &text[symbol.len()..]))
}

fn number(text: &str) -> Result<(Token, &str), String> {
    let digits = |at: usize| text[at..].find(|c: char| !c.is_ascii_digit()).map_or(text.len(), |n| at + n);
    let mut end = digits(0);
    if text[end..].starts_with('.') && text[end + 1..].starts_with(|c: char| c.is_ascii_digit()) {
        end = digits(end + 1);
    }
    if text[end..].starts_with(['e', 'E']) {
        let sign = usize::from(text[end + 1..].starts_with(['+', '-']));
        end = digits(end + 1 + sign);
    }
    let value = text[..end].parse().map_err(|_| format!("`{}` is no number", &text[..end]))?;
    Ok((Token::Number(value), &text[end..]))
}

fn backquoted(text: &str) -> Result<(Token, &str), String> {
    let (name, after) = text.split_once('`').ok_or("a name in backquotes has no end")?;
    Ok((Token::Quoted(name.to_owned()), after))
}

fn quoted(text: &str, quote: char) -> Result<(Token, &str), String> {
    let mut value = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            c if c == quote => {
                let left: usize = chars.map(char::len_utf8).sum();
                return Ok((Token::Text(value), &text[text.len() - left..]));
            }
            '\\' => value.push(escaped(&mut chars)?),
            c => value.push(c),
        }
    }
    Err("a string has no end".to_owned())
}

/// Returns the character of an escape. A surrogate pair is two escapes.
fn escaped(chars: &mut Peekable<Chars<'_>>) -> Result<char, String> {
    Ok(match chars.next() {
        Some(c @ ('"' | '\\' | '/')) => c,
        Some('b') => '\u{8}',
        Some('f') => '\u{c}',
        Some('n') => '\n',
        Some('r') => '\r',
        Some('t') => '\t',
        Some('u') => {
            let unit = |chars: &mut Peekable<Chars<'_>>| {
                let digits: String = chars.by_ref().take(4).collect();
                u16::from_str_radix(&digits, 16).map_err(|_| format!("`\\u{digits}` is no character"))
            };
            let first = unit(chars)?;
            let mut units = vec![first];
            if (0xd800..0xdc00).contains(&first) && chars.next_if_eq(&'\\').is_some() {
                chars.next();
                units.push(unit(chars)?);
            }
            String::from_utf16(&units)
                .ok()
                .and_then(|text| text.chars().next())
                .ok_or("an escape is half a character")?
        }
        other => return Err(format!("`\\{}` is no escape of JSONata", other.unwrap_or(' '))),
    })
}
