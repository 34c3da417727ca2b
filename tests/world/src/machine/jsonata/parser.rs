//! From tokens to the tree, by the strength of the operators (Pratt's method, as in jsonata-js).

use serde_json::Value;

use super::functions::Function;
use super::lexer::{Token, tokens};
use super::operators::number;
use super::syntax::{Operator, PathStep, Syntax};

/// Strengths of what is no operator between two operands.
const CONDITION: u8 = 20;
const PREFIX: u8 = 70;
const PATH: u8 = 75;
const PREDICATE: u8 = 80;

/// Returns the tree of an expression.
pub(super) fn parse(text: &str) -> Result<Syntax, String> {
    let mut parser = Parser { tokens: tokens(text)?, at: 0 };
    let root = parser.expression(0)?;
    match parser.next() {
        Token::End => Ok(root),
        token => Err(unsupported(&token)),
    }
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens.get(self.at).unwrap_or(&Token::End)
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    fn take(&mut self, symbol: &'static str) -> bool {
        let found = *self.peek() == Token::Symbol(symbol);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, symbol: &'static str) -> Result<(), String> {
        if self.take(symbol) {
            return Ok(());
        }
        Err(format!("expected `{symbol}`, found {}", shown(self.peek())))
    }

    /// Parses as long as what follows binds stronger than `power`.
    fn expression(&mut self, power: u8) -> Result<Syntax, String> {
        let mut left = self.prefix()?;
        loop {
            left = match self.peek().clone() {
                Token::Symbol(".") if PATH > power => self.field(left)?,
                Token::Symbol("[") if PREDICATE > power => self.predicate(left)?,
                Token::Symbol("?") if CONDITION > power => self.condition(left)?,
                Token::Symbol(text) => match self.operand(text, power)? {
                    None => return Ok(left),
                    Some((operator, right)) => Syntax::Binary(operator, left.into(), right.into()),
                },
                Token::Name(word) => match self.operand(&word, power)? {
                    None => return Ok(left),
                    Some((operator, right)) => Syntax::Binary(operator, left.into(), right.into()),
                },
                _ => return Ok(left),
            }
        }
    }

    /// Parses an operator and its right operand, if the operator binds stronger than `power`.
    fn operand(&mut self, written: &str, power: u8) -> Result<Option<(Operator, Syntax)>, String> {
        match Operator::find(written) {
            Some((operator, own)) if own > power => {
                self.at += 1;
                Ok(Some((operator, self.expression(own)?)))
            }
            _ => Ok(None),
        }
    }

    fn prefix(&mut self) -> Result<Syntax, String> {
        match self.next() {
            Token::Number(value) => number(value).map(Syntax::Literal).map_err(|error| error.to_string()),
            Token::Text(text) => Ok(Syntax::Literal(Value::String(text))),
            Token::Name(word) => match word.as_str() {
                "true" => Ok(Syntax::Literal(Value::Bool(true))),
                "false" => Ok(Syntax::Literal(Value::Bool(false))),
                "null" => Ok(Syntax::Literal(Value::Null)),
                _ => Err(format!("`{word}` begins a path, but Step Functions has no context item")),
            },
            Token::Variable(name) if self.take("(") => self.call(&name),
            Token::Variable(name) => Ok(Syntax::Variable(name)),
            Token::Symbol("-") => Ok(Syntax::Negation(self.expression(PREFIX)?.into())),
            Token::Symbol("(") => {
                let inner = self.expression(0)?;
                self.expect(")")?;
                Ok(Syntax::Block(inner.into()))
            }
            Token::Symbol("[") => Ok(Syntax::Array(self.list("]")?)),
            Token::Symbol("{") => self.object(),
            token => Err(unsupported(&token)),
        }
    }

    fn field(&mut self, head: Syntax) -> Result<Syntax, String> {
        self.expect(".")?;
        let (Token::Name(field) | Token::Quoted(field)) = self.next() else {
            return Err("a path continues with something else than a field's name".to_owned());
        };
        let mut indexes = Vec::new();
        while self.take("[") {
            indexes.push(self.index()?);
        }
        let step = PathStep { field, indexes };
        Ok(match head {
            Syntax::Path { head, indexes, mut steps } => {
                steps.push(step);
                Syntax::Path { head, indexes, steps }
            }
            head => Syntax::Path { head: head.into(), indexes: Vec::new(), steps: vec![step] },
        })
    }

    fn predicate(&mut self, head: Syntax) -> Result<Syntax, String> {
        self.expect("[")?;
        let index = self.index()?;
        Ok(match head {
            Syntax::Path { head, mut indexes, steps } if steps.is_empty() => {
                indexes.push(index);
                Syntax::Path { head, indexes, steps }
            }
            head => Syntax::Path { head: head.into(), indexes: vec![index], steps: Vec::new() },
        })
    }

    /// Parses `0]` or `-1]`; other predicates are not supported.
    fn index(&mut self) -> Result<i64, String> {
        let sign = if self.take("-") { -1 } else { 1 };
        let token = self.next();
        let position = match &token {
            Token::Number(value) => number(*value).ok().and_then(|value| value.as_i64()),
            _ => None,
        };
        let position =
            position.ok_or_else(|| format!("a predicate is no whole number: {}", shown(&token)))?;
        self.expect("]")?;
        Ok(sign * position)
    }

    fn condition(&mut self, condition: Syntax) -> Result<Syntax, String> {
        self.expect("?")?;
        let then = self.expression(0)?;
        let otherwise = if self.take(":") { Some(self.expression(0)?.into()) } else { None };
        Ok(Syntax::Condition(condition.into(), then.into(), otherwise))
    }

    fn list(&mut self, end: &'static str) -> Result<Vec<Syntax>, String> {
        let mut items = Vec::new();
        if self.take(end) {
            return Ok(items);
        }
        loop {
            items.push(self.expression(0)?);
            if !self.take(",") {
                self.expect(end)?;
                return Ok(items);
            }
        }
    }

    fn object(&mut self) -> Result<Syntax, String> {
        let mut fields = Vec::new();
        if self.take("}") {
            return Ok(Syntax::Object(fields));
        }
        loop {
            let key = self.expression(0)?;
            self.expect(":")?;
            fields.push((key, self.expression(0)?));
            if !self.take(",") {
                self.expect("}")?;
                return Ok(Syntax::Object(fields));
            }
        }
    }

    fn call(&mut self, name: &str) -> Result<Syntax, String> {
        let arguments = self.list(")")?;
        let function = Function::find(name).ok_or_else(|| format!("`${name}()` is not supported"))?;
        if !function.takes(arguments.len()) {
            return Err(format!("`${name}()` is called with {} arguments", arguments.len()));
        }
        Ok(Syntax::Call(function, arguments))
    }
}

fn unsupported(token: &Token) -> String {
    format!("{} is not expected, or not supported here", shown(token))
}

fn shown(token: &Token) -> String {
    match token {
        Token::Number(value) => format!("`{value}`"),
        Token::Text(text) => format!("{text:?}"),
        Token::Name(name) | Token::Quoted(name) => format!("`{name}`"),
        Token::Variable(name) => format!("`${name}`"),
        Token::Symbol(symbol) => format!("`{symbol}`"),
        Token::End => "the end".to_owned(),
    }
}
