#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::super::attribute::{map, to_json};
use super::*;

fn item() -> Value {
    json!({
        "key": {"S": "k"}, "count": {"N": "5"}, "word": {"S": "t"}, "words": {"SS": ["a", "b"]}, "numbers": {"NS": ["1"]},
        "line": {"L": [{"N": "0"}, {"N": "1"}, {"N": "2"}]}, "tree": {"M": {"a": {"N": "1"}, "b": {"N": "2"}}},
    })
}

fn values() -> Value {
    json!({
        ":1": {"N": "1"}, ":2": {"N": "2"}, ":t": {"S": "new"}, ":ab": {"SS": ["a", "b"]}, ":bc": {"SS": ["b", "c"]},
        ":l": {"L": [{"N": "9"}]}, ":n": {"NS": ["1", "2"]}, ":true": {"BOOL": true},
    })
}

fn parse(expression: &str) -> Result<Update, DynamoDbError> {
    let call =
        json!({"ExpressionAttributeValues": values(), "ExpressionAttributeNames": {"#count": "count"}});
    Update::parse(expression, &mut Placeholders::of(&call).unwrap())
}

fn apply(expression: &str) -> Result<Value, DynamoDbError> {
    let before = map(item().as_object().unwrap()).unwrap();
    parse(expression)?.apply(&before, before.clone()).map(|after| to_json(&after))
}

#[test]
fn an_update_changes_what_it_names_and_nothing_else() {
    for (expression, path, expected) in [
        ("SET word = :t", "/word", json!({"S": "new"})),
        ("set fresh = :1", "/fresh", json!({"N": "1"})),
        ("SET #count = #count + :1", "/count", json!({"N": "6"})),
        ("SET #count = :2 - #count", "/count", json!({"N": "-3"})),
        ("SET word = if_not_exists(word, :t)", "/word", json!({"S": "t"})),
        ("SET fresh = if_not_exists(fresh, :t)", "/fresh", json!({"S": "new"})),
        ("SET fresh = if_not_exists(fresh, :1) + :2", "/fresh", json!({"N": "3"})),
        ("SET line = list_append(line, :l)", "/line/L/3", json!({"N": "9"})),
        ("SET fresh = list_append(if_not_exists(fresh, :l), line)", "/fresh/L/0", json!({"N": "9"})),
        ("SET line[1] = :t", "/line/L/1", json!({"S": "new"})),
        ("SET line[7] = :t", "/line/L/3", json!({"S": "new"})),
        ("SET tree.a = :t", "/tree/M/a", json!({"S": "new"})),
        ("SET tree.c = tree.b", "/tree/M/c", json!({"N": "2"})),
        ("REMOVE tree.a", "/tree/M", json!({"b": {"N": "2"}})),
        ("REMOVE line[0], line[1]", "/line/L", json!([{"N": "2"}])),
        ("REMOVE line[2]", "/line/L", json!([{"N": "0"}, {"N": "1"}])),
        ("REMOVE line[3]", "/line/L/2", json!({"N": "2"})),
        ("ADD #count :2", "/count", json!({"N": "7"})),
        ("ADD fresh :2", "/fresh", json!({"N": "2"})),
        ("ADD words :bc", "/words", json!({"SS": ["a", "b", "c"]})),
        ("ADD fresh :n", "/fresh", json!({"NS": ["1", "2"]})),
        ("ADD tree.a :1", "/tree/M/a", json!({"N": "2"})),
        ("DELETE words :bc", "/words", json!({"SS": ["a"]})),
    ] {
        let (before, after) = (item(), apply(expression).unwrap());
        assert_eq!(after.pointer(path), Some(&expected), "{expression}: {after}");
        let changed = path.split('/').nth(1).unwrap();
        for (name, value) in before.as_object().unwrap().iter().filter(|(name, _)| *name != changed) {
            assert_eq!(after.get(name), Some(value), "{expression}");
        }
    }
}

#[test]
fn an_attribute_is_gone_after_its_removal_or_the_end_of_its_set() {
    for (expression, name) in [
        ("REMOVE word", "word"),
        ("DELETE words :ab", "words"),
        ("DELETE numbers :n", "numbers"),
        ("REMOVE fresh", "fresh"),
        ("DELETE fresh :ab", "fresh"),
    ] {
        let mut expected = item();
        expected.as_object_mut().unwrap().remove(name);
        assert_eq!(apply(expression).unwrap(), expected, "{expression}");
    }
}

#[test]
fn all_sections_read_the_item_before_the_update() {
    let after =
        apply("SET fresh = #count, word = line[0] REMOVE line[0] ADD #count :1 DELETE words :bc").unwrap();
    assert_eq!(after["fresh"], json!({"N": "5"}));
    assert_eq!(after["word"], json!({"N": "0"}));
    assert_eq!(after["count"], json!({"N": "6"}));
    assert_eq!(after["line"]["L"], json!([{"N": "1"}, {"N": "2"}]));
    assert_eq!(after["words"], json!({"SS": ["a"]}));
}

#[test]
fn an_update_that_can_not_be_carried_out_is_refused() {
    for (expression, problem) in [
        ("", "can not be empty"),
        ("word = :t", "Syntax error"),
        ("SET word :t", "Syntax error"),
        ("SET word = :t,", "Syntax error"),
        ("REMOVE", "Syntax error"),
        ("ADD #count #count", "Syntax error"),
        ("SET word = :t SET fresh = :t", "\"SET\" section can only be used once"),
        ("SET word = :t REMOVE word", "overlap with each other"),
        ("SET tree = :t, tree.a = :t", "overlap with each other"),
        ("SET tree.a = :t, tree[0] = :t", "conflict with each other"),
        ("SET word = size(word)", "Invalid function name"),
        ("SET status = :t", "reserved keyword: status"),
        ("SET word = :unknown", "not defined"),
        ("SET word = #count + :t", "operand type: S"),
        ("SET line = list_append(line, :t)", "operand type: S"),
        ("ADD word :t", "operand type: S"),
        ("DELETE #count :1", "operand type: N"),
        ("SET word = fresh", "does not exist in the item"),
        ("SET word = fresh + :1", "does not exist in the item"),
        ("SET fresh = word + :1", "incorrect data type"),
        ("SET fresh = list_append(word, :l)", "incorrect data type"),
        ("ADD word :1", "incorrect data type"),
        ("ADD words :n", "incorrect data type"),
        ("DELETE #count :ab", "incorrect data type"),
        ("SET fresh.a = :t", "invalid for update"),
        ("SET word.a = :t", "invalid for update"),
        ("SET tree[0] = :t", "invalid for update"),
        ("REMOVE fresh.a", "invalid for update"),
        ("REMOVE line.a", "invalid for update"),
        ("DELETE fresh.a :ab", "invalid for update"),
    ] {
        let error = apply(expression).unwrap_err();
        assert!(
            matches!(&error, DynamoDbError::Validation(told) if told.contains(problem)),
            "{expression}: {error}"
        );
    }
}

#[test]
fn the_touched_part_of_an_item_is_what_the_paths_lead_to() {
    let before = map(item().as_object().unwrap()).unwrap();
    let touched = parse("SET tree.a = :1 REMOVE line[1], fresh ADD #count :1").unwrap().touched(&before);
    let expected =
        json!({"tree": {"M": {"a": {"N": "1"}}}, "line": {"L": [{"N": "1"}]}, "count": {"N": "5"}});
    assert_eq!(to_json(&touched), expected);
}
