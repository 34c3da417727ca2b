#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::super::attribute::map;
use super::super::error::DynamoDbError;
use super::super::placeholders::Placeholders;
use super::*;

fn item() -> AttributeMap {
    let item = json!({
        "word": {"S": "banana"}, "fruit": {"S": "cherry"}, "nil": {"N": "0"}, "ten": {"N": "10.0"},
        "flag": {"BOOL": true}, "nothing": {"NULL": true}, "blank": {"S": ""},
        "words": {"SS": ["a", "b"]}, "numbers": {"NS": ["1", "2"]},
        "line": {"L": [{"S": "first"}, {"M": {"deep": {"N": "7"}}}]},
        "tree": {"M": {"leaf": {"S": "x"}, "status": {"S": "odd"}}},
        "region": {"S": "us-east-1"},
    });
    map(item.as_object().unwrap()).unwrap()
}

/// The placeholders that an expression mentions, out of a fixed set.
fn placeholders(expression: &str) -> Placeholders {
    let names = json!({"#region": "region", "#tree": "tree", "#status": "status", "#absent": "absent"});
    let values = json!({
        ":banana": {"S": "banana"}, ":ba": {"S": "ba"}, ":an": {"S": "an"}, ":a": {"S": "a"}, ":z": {"S": "z"},
        ":one": {"N": "1"}, ":nine": {"N": "9"}, ":ten": {"N": "10"}, ":eleven": {"N": "1.1e1"}, ":odd": {"S": "odd"},
        ":true": {"BOOL": true}, ":set": {"SS": ["b", "a"]}, ":seven": {"N": "7"}, ":S": {"S": "S"}, ":first": {"S": "first"},
        ":home": {"S": "us-east-1"}, ":list": {"L": []}, ":bad": {"S": "T"},
    });
    let is_used = |name: &str| {
        let mut found = expression.match_indices(name);
        found.any(|(at, _)| {
            !expression[at + name.len()..].starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        })
    };
    let some = |all: &Value| -> Value {
        all.as_object()
            .unwrap()
            .iter()
            .filter(|(name, _)| is_used(name))
            .map(|(n, v)| (n.clone(), v.clone()))
            .collect()
    };
    let mut call = json!({});
    for (field, all) in [("ExpressionAttributeNames", names), ("ExpressionAttributeValues", values)] {
        let some: Value = some(&all);
        if some != json!({}) {
            call[field] = some;
        }
    }
    Placeholders::of(&call).unwrap()
}

fn parse(expression: &str) -> Result<Condition, DynamoDbError> {
    let mut placeholders = placeholders(expression);
    let condition = Condition::parse("ConditionExpression", expression, &mut placeholders)?;
    placeholders.require_all_used()?;
    Ok(condition)
}

#[test]
fn a_condition_holds_or_fails_as_dynamodb_evaluates_it() {
    for (expression, expected) in [
        ("word = :banana", true),
        ("word <> :banana", false),
        ("ten = :ten", true),
        ("ten = :banana", false),
        ("ten <> :banana", true),
        ("ten > :nine", true),
        ("ten >= :ten AND ten <= :ten", true),
        ("ten < :ten", false),
        ("ten > :ten", false),
        ("word < fruit", true),
        ("word < :ten", false),
        ("word > :ten", false),
        ("flag = :true", true),
        ("words = :set", true),
        ("ten BETWEEN :nine AND :eleven", true),
        ("nil BETWEEN :nine AND :eleven", false),
        ("ten between :ten and :ten", true),
        ("word IN (:a, :banana)", true),
        ("word in (:a, :z)", false),
        ("word IN (fruit, word)", true),
        ("begins_with(word, :ba)", true),
        ("begins_with (word, :an)", false),
        ("begins_with(ten, :ba)", false),
        ("contains(word, :an)", true),
        ("contains(words, :a)", true),
        ("contains(words, :an)", false),
        ("contains(numbers, :one)", true),
        ("contains(line, :first)", true),
        ("contains(ten, :one)", false),
        ("size(words) < :ten", true),
        ("size(word) = :seven", false),
        ("size(line) > :one", true),
        ("size(ten) < :ten", false),
        ("size(absent) < :ten", false),
        ("attribute_exists(nothing)", true),
        ("attribute_exists(line[1].deep)", true),
        ("attribute_exists(line[2])", false),
        ("attribute_not_exists(line[0].deep)", true),
        ("attribute_not_exists(word)", false),
        ("attribute_type(word, :S)", true),
        ("attribute_type(ten, :S)", false),
        ("tree.leaf <> :banana", true),
        ("#tree.#status = :odd", true),
        ("line[1].deep = :seven", true),
        ("line[0] = :first", true),
        ("#region = :home", true),
    ] {
        assert_eq!(parse(expression).unwrap().holds(&item()), expected, "{expression}");
    }
}

#[test]
fn an_attribute_that_does_not_exist_differs_from_everything_and_has_no_order() {
    for (expression, expected) in [
        ("absent = :ten", false),
        ("absent <> :ten", true),
        ("absent <> gone", true),
        ("absent = gone", false),
        ("absent < :ten", false),
        ("absent > :ten", false),
        ("absent BETWEEN :nine AND :eleven", false),
        ("absent IN (:ten)", false),
        ("absent IN (gone)", false),
        ("begins_with(absent, :ba)", false),
        ("contains(absent, :ba)", false),
        ("NOT absent = :ten", true),
        ("attribute_not_exists(#absent) OR #absent <> :ten", true),
    ] {
        assert_eq!(parse(expression).unwrap().holds(&item()), expected, "{expression}");
    }
}

#[test]
fn not_binds_closer_than_and_and_and_closer_than_or() {
    for (expression, expected) in [
        ("flag = :true OR word = :a AND word = :z", true),
        ("(flag = :true OR word = :a) AND word = :z", false),
        ("NOT word = :a AND word = :z", false),
        ("NOT (word = :a AND word = :z)", true),
        ("not not flag = :true", true),
        ("word = :z AND word = :a OR flag = :true", true),
        ("word = :z AND (word = :a OR flag = :true)", false),
        ("(word = :a OR (flag = :true AND (ten = :ten OR nil = :ten)))", true),
    ] {
        assert_eq!(parse(expression).unwrap().holds(&item()), expected, "{expression}");
    }
}

#[test]
fn a_condition_that_no_item_could_mend_is_refused() {
    for (expression, problem) in [
        ("", "The expression can not be empty"),
        ("  ", "The expression can not be empty"),
        ("word", "Syntax error"),
        ("word =", "Syntax error"),
        ("word = :banana AND", "Syntax error"),
        ("word == :banana", "Syntax error"),
        ("(word = :banana", "Syntax error"),
        ("word = :banana)", "Syntax error"),
        ("word = 5", "Syntax error"),
        ("word = \"a\"", "Syntax error"),
        ("word IN ()", "Syntax error"),
        ("line[x] = :ten", "Syntax error"),
        ("((word = :banana))", "redundant parentheses"),
        ("NOT ((word = :banana OR ten = :ten))", "redundant parentheses"),
        ("region = :home", "reserved keyword: region"),
        ("tree.Status = :odd", "reserved keyword: Status"),
        ("word = :unknown", "value used in expression is not defined; attribute value: :unknown"),
        ("#unknown = :ten", "not defined; attribute name: #unknown"),
        ("ten < :true", "operand type: BOOL"),
        ("ten BETWEEN :ten AND :list", "operand type: L"),
        ("ten BETWEEN :eleven AND :nine", "upper bound to be greater than or equal to lower bound"),
        ("ten BETWEEN :a AND :nine", "same data type"),
        ("begins_with(word, :ten)", "operand type: N"),
        ("begins_with(word)", "number of operands: 1"),
        ("attribute_exists(word, fruit)", "number of operands: 2"),
        ("attribute_exists(:a)", "requires a document path"),
        ("attribute_type(word, :bad)", "Invalid attribute type name"),
        ("size(:ten) = :ten", "operand type: N"),
        ("size(word)", "not allowed to be used this way in an expression; function: size"),
        ("if_not_exists(word, :a) = :a", "not allowed to be used this way"),
        ("word = contains(word, :a)", "not allowed to be used this way"),
        ("Size(word) = :ten", "Invalid function name; function: Size"),
        ("word = word", "must be distinct"),
        ("contains(word, word)", "must be distinct"),
    ] {
        let error = parse(expression).map(|_| ()).unwrap_err();
        assert!(
            matches!(&error, DynamoDbError::Validation(told) if told.contains(problem)),
            "{expression}: {error}"
        );
    }
    let long = format!("word = :a OR {}", "word = :a OR ".repeat(400));
    assert!(parse(&long).unwrap_err().to_string().contains("exceeded the maximum allowed size"));
}

#[test]
fn a_parenthesis_that_encloses_a_pair_and_more_is_not_redundant() {
    for expression in ["((word = :a) OR (word = :z))", "(word = :a AND (word = :z))", "(NOT (word = :a))"] {
        parse(expression).unwrap();
    }
}
