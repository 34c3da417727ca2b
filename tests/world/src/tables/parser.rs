//! The parts that all expressions share: paths, values, keywords and signs.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use super::attribute::Attribute;
use super::error::DynamoDbError;
use super::path::{DocumentPath, PathStep};
use super::placeholders::{Placeholders, invalid};
use super::token::{Token, split, syntax_error};

/// The words that no expression may use as names.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ReservedWords.html>
const RESERVED_WORDS: &str = include_str!("reserved_words.txt");

/// An expression that is being read.
pub(super) struct Parser<'a> {
    /// The name of the parameter.
    pub kind: &'static str,
    tokens: Vec<Token>,
    at: usize,
    placeholders: &'a mut Placeholders,
}

impl<'a> Parser<'a> {
    pub(super) fn new(
        kind: &'static str,
        expression: &str,
        placeholders: &'a mut Placeholders,
    ) -> Result<Self, DynamoDbError> {
        Ok(Self { kind, tokens: split(kind, expression)?, at: 0, placeholders })
    }

    /// Returns the fault of this expression.
    pub(super) fn invalid(&self, problem: impl std::fmt::Display) -> DynamoDbError {
        invalid(self.kind, problem)
    }

    /// Returns the fault of an expression that can't go on like this.
    pub(super) fn syntax_error(&self) -> DynamoDbError {
        let rest = match self.tokens.get(self.at) {
            Some(Token::Word(text) | Token::NamePlaceholder(text) | Token::ValuePlaceholder(text)) => {
                text.clone()
            }
            Some(Token::Integer(number)) => number.to_string(),
            Some(Token::Sign(sign)) => (*sign).to_owned(),
            None => "<EOF>".to_owned(),
        };
        syntax_error(self.kind, &rest)
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.tokens.len()
    }

    pub(super) fn require_end(&self) -> Result<(), DynamoDbError> {
        if self.is_at_end() { Ok(()) } else { Err(self.syntax_error()) }
    }

    /// Reads a sign, if it comes next.
    pub(super) fn sign(&mut self, sign: &str) -> bool {
        let is_next = matches!(self.tokens.get(self.at), Some(Token::Sign(next)) if *next == sign);
        self.at += usize::from(is_next);
        is_next
    }

    pub(super) fn require_sign(&mut self, sign: &str) -> Result<(), DynamoDbError> {
        if self.sign(sign) { Ok(()) } else { Err(self.syntax_error()) }
    }

    /// Reads one of the signs.
    pub(super) fn any_sign(&mut self, signs: &[&'static str]) -> Option<&'static str> {
        signs.iter().copied().find(|sign| self.sign(sign))
    }

    /// Reads a keyword, if it comes next. Keywords may be in any case.
    pub(super) fn keyword(&mut self, keyword: &str) -> bool {
        let next = self.tokens.get(self.at);
        let is_next = matches!(next, Some(Token::Word(word)) if word.eq_ignore_ascii_case(keyword));
        self.at += usize::from(is_next);
        is_next
    }

    pub(super) fn require_keyword(&mut self, keyword: &str) -> Result<(), DynamoDbError> {
        if self.keyword(keyword) { Ok(()) } else { Err(self.syntax_error()) }
    }

    /// Reads the name of a function and its opening parenthesis.
    pub(super) fn function(&mut self) -> Option<String> {
        let Some(Token::Word(name)) = self.tokens.get(self.at) else { return None };
        if self.tokens.get(self.at + 1) != Some(&Token::Sign("(")) {
            return None;
        }
        let name = name.clone();
        self.at += 2;
        Some(name)
    }

    /// Returns true if the parenthesis that comes next encloses nothing but another pair.
    pub(super) fn has_redundant_parentheses(&self) -> bool {
        self.tokens.get(self.at + 1) == Some(&Token::Sign("("))
            && self.closing(self.at + 1).map(|inner| inner + 1) == self.closing(self.at)
    }

    fn closing(&self, open: usize) -> Option<usize> {
        let mut depth = 0_usize;
        self.tokens.iter().enumerate().skip(open).find_map(|(at, token)| {
            match token {
                Token::Sign("(") => depth += 1,
                Token::Sign(")") => depth -= 1,
                _ => {}
            }
            (depth == 0).then_some(at)
        })
    }

    /// Reads a value, if a placeholder of one comes next.
    pub(super) fn value(&mut self) -> Result<Option<Attribute>, DynamoDbError> {
        let Some(Token::ValuePlaceholder(name)) = self.tokens.get(self.at).cloned() else { return Ok(None) };
        self.at += 1;
        self.placeholders.value(self.kind, name).map(Some)
    }

    /// Reads a document path.
    pub(super) fn path(&mut self) -> Result<DocumentPath, DynamoDbError> {
        let mut path = DocumentPath { root: self.name()?, steps: Vec::new() };
        loop {
            if self.sign(".") {
                path.steps.push(PathStep::Name(self.name()?));
            } else if self.sign("[") {
                let Some(Token::Integer(index)) = self.tokens.get(self.at) else {
                    return Err(self.syntax_error());
                };
                path.steps.push(PathStep::Index(*index));
                self.at += 1;
                self.require_sign("]")?;
            } else {
                return Ok(path);
            }
        }
    }

    fn name(&mut self) -> Result<String, DynamoDbError> {
        let name = match self.tokens.get(self.at).cloned() {
            Some(Token::NamePlaceholder(name)) => self.placeholders.name(self.kind, name)?,
            Some(Token::Word(name)) if is_reserved(&name) => {
                let problem = "Attribute name is a reserved keyword; reserved keyword";
                return Err(self.invalid(format!("{problem}: {name}")));
            }
            Some(Token::Word(name)) => name,
            _ => return Err(self.syntax_error()),
        };
        self.at += 1;
        Ok(name)
    }
}

fn is_reserved(name: &str) -> bool {
    static WORDS: LazyLock<BTreeSet<&str>> =
        LazyLock::new(|| RESERVED_WORDS.split_ascii_whitespace().collect());
    WORDS.contains(name.to_ascii_uppercase().as_str())
}

/// Reads a projection, a list of paths.
///
/// # Errors
/// The expression is malformed, or two of its paths overlap.
pub(super) fn projection(
    expression: &str,
    placeholders: &mut Placeholders,
) -> Result<Vec<DocumentPath>, DynamoDbError> {
    let mut parser = Parser::new("ProjectionExpression", expression, placeholders)?;
    let mut paths = vec![parser.path()?];
    while parser.sign(",") {
        paths.push(parser.path()?);
    }
    parser.require_end()?;
    require_apart(parser.kind, &paths)?;
    Ok(paths)
}

/// Checks that no path of an expression leads through another.
pub(super) fn require_apart(kind: &str, paths: &[DocumentPath]) -> Result<(), DynamoDbError> {
    for (n, one) in paths.iter().enumerate() {
        for two in &paths[n + 1..] {
            let fault = match (one.overlaps(two), one.conflicts_with(two)) {
                (true, _) => "overlap with each other; must remove or rewrite one of these paths",
                (false, true) => "conflict with each other; must remove or rewrite one of these paths",
                (false, false) => continue,
            };
            let problem = format!("Two document paths {fault}; path one: {one}, path two: {two}");
            return Err(invalid(kind, problem));
        }
    }
    Ok(())
}
