#![allow(clippy::unwrap_used)]

use super::*;

/// The acquisition of a lease, as our code sends it.
fn take(owner: &str) -> Value {
    json!({
        "TableName": "swaps", "Key": {"target": {"S": "web"}},
        "UpdateExpression": "SET lease_owner = :me, lease_since = if_not_exists(lease_since, :since), leased = :leased, \
                             account_id = :account, #region = :region, updated_at = :now",
        "ConditionExpression": "attribute_not_exists(lease_owner) OR lease_owner = :me",
        "ExpressionAttributeNames": {"#region": "region"},
        "ExpressionAttributeValues": {
            ":me": {"S": owner}, ":since": {"N": "1"}, ":leased": {"S": "{}"}, ":account": {"S": "123456789012"},
            ":region": {"S": "us-east-1"}, ":now": {"N": "1"},
        },
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    })
}

#[test]
fn a_lease_has_one_owner_and_the_refusal_names_it() {
    let mut tables = tables();
    assert_eq!(done(&mut tables, "UpdateItem", take("run-1")), json!({}));
    done(&mut tables, "UpdateItem", take("run-1"));
    let (status, answer) = send(&mut tables, "UpdateItem", take("run-2"));
    assert_eq!((status, kind(&answer)), (400, "ConditionalCheckFailedException"));
    assert_eq!(answer["Item"]["lease_owner"], json!({"S": "run-1"}));
    assert_eq!(row(&mut tables, "web"), answer["Item"], "nothing is written");
}

#[test]
fn a_refusal_shows_the_row_only_if_it_is_asked_for_and_there_is_one() {
    let mut tables = tables();
    done(&mut tables, "UpdateItem", take("run-1"));
    let mut other = take("run-2");
    other["ReturnValuesOnConditionCheckFailure"].take();
    assert_eq!(send(&mut tables, "UpdateItem", other).1.get("Item"), None);
    let of_nothing = json!({
        "TableName": "swaps", "Key": {"target": {"S": "none"}}, "UpdateExpression": "SET journal = :j",
        "ConditionExpression": "attribute_exists(journal)", "ExpressionAttributeValues": {":j": {"S": ""}},
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    });
    let (_, answer) = send(&mut tables, "UpdateItem", of_nothing);
    assert_eq!((kind(&answer), answer.get("Item")), ("ConditionalCheckFailedException", None));
    assert_eq!(row(&mut tables, "none"), Value::Null);
}

#[test]
fn an_update_makes_the_row_unless_it_only_takes_away() {
    let mut tables = tables();
    for (target, update, values, expected) in [
        ("empty", None, None, json!({"target": {"S": "empty"}})),
        ("removed", Some("REMOVE journal"), None, Value::Null),
        ("deleted", Some("DELETE executions :set"), Some(json!({":set": {"SS": ["a"]}})), Value::Null),
        (
            "set",
            Some("SET stage = :a REMOVE journal"),
            Some(json!({":a": {"S": "a"}})),
            json!({"target": {"S": "set"}, "stage": {"S": "a"}}),
        ),
        (
            "added",
            Some("ADD interruptions :one REMOVE journal"),
            Some(json!({":one": {"N": "1"}})),
            json!({"target": {"S": "added"}, "interruptions": {"N": "1"}}),
        ),
    ] {
        let update = json!({
            "TableName": "swaps", "Key": {"target": {"S": target}}, "UpdateExpression": update,
            "ExpressionAttributeValues": values,
        });
        done(&mut tables, "UpdateItem", update);
        assert_eq!(row(&mut tables, target), expected, "{target}");
    }
}

#[test]
fn a_write_returns_the_attributes_that_it_is_asked_for() {
    for (returns, expected) in [
        ("NONE", json!({})),
        ("ALL_OLD", json!({"target": {"S": "a"}, "stage": {"S": "old"}, "other": {"N": "1"}})),
        ("UPDATED_OLD", json!({"stage": {"S": "old"}})),
        ("ALL_NEW", json!({"target": {"S": "a"}, "stage": {"S": "new"}, "other": {"N": "1"}})),
        ("UPDATED_NEW", json!({"stage": {"S": "new"}})),
    ] {
        let mut tables = tables();
        let item = json!({"target": {"S": "a"}, "stage": {"S": "old"}, "other": {"N": "1"}});
        tables.put("swaps", &item).unwrap();
        let update = json!({
            "TableName": "swaps", "Key": {"target": {"S": "a"}}, "UpdateExpression": "SET stage = :new",
            "ExpressionAttributeValues": {":new": {"S": "new"}}, "ReturnValues": returns,
        });
        let answer = done(&mut tables, "UpdateItem", update);
        let shown = answer.get("Attributes").cloned().unwrap_or_else(|| json!({}));
        assert_eq!(shown, expected, "{returns}");
    }
    let mut tables = tables();
    let put = |stage: &str| json!({"TableName": "swaps", "Item": {"target": {"S": "a"}, "stage": {"S": stage}}, "ReturnValues": "ALL_OLD"});
    assert_eq!(done(&mut tables, "PutItem", put("one")), json!({}));
    assert_eq!(done(&mut tables, "PutItem", put("two"))["Attributes"]["stage"], json!({"S": "one"}));
    let delete = json!({"TableName": "swaps", "Key": {"target": {"S": "a"}}, "ReturnValues": "ALL_OLD"});
    assert_eq!(done(&mut tables, "DeleteItem", delete.clone())["Attributes"]["stage"], json!({"S": "two"}));
    assert_eq!(done(&mut tables, "DeleteItem", delete), json!({}));
    let mut bad = put("three");
    bad["ReturnValues"] = json!("ALL_NEW");
    assert!(refused(&mut tables, "PutItem", bad).contains("'ReturnValues'"));
}

#[test]
fn a_put_replaces_the_whole_row_if_its_condition_holds() {
    let mut tables = tables();
    let put = |run: &str, extra: &str| {
        json!({
            "TableName": "waste",
            "Item": {"account_region": {"S": "summary"}, "resource": {"S": "1#r"}, "run_started": {"N": run}, extra: {"BOOL": true}},
            "ConditionExpression": "attribute_not_exists(#run) OR #run <= :run",
            "ExpressionAttributeNames": {"#run": "run_started"}, "ExpressionAttributeValues": {":run": {"N": run}},
        })
    };
    done(&mut tables, "PutItem", put("9", "first"));
    done(&mut tables, "PutItem", put("10", "second"));
    let (_, answer) = send(&mut tables, "PutItem", put("9.5", "third"));
    assert_eq!(kind(&answer), "ConditionalCheckFailedException");
    let stored = tables.item("waste", "summary", Some("1#r")).unwrap();
    assert_eq!(stored.keys().collect::<Vec<_>>(), ["account_region", "resource", "run_started", "second"]);
}

#[test]
fn a_delete_is_refused_by_its_condition_too() {
    let mut tables = tables();
    tables.put("swaps", &json!({"target": {"S": "a"}, "stage": {"S": "x"}})).unwrap();
    let delete = |stage: &str| {
        json!({
            "TableName": "swaps", "Key": {"target": {"S": "a"}}, "ConditionExpression": "stage = :stage",
            "ExpressionAttributeValues": {":stage": {"S": stage}},
        })
    };
    assert_eq!(send(&mut tables, "DeleteItem", delete("y")).0, 400);
    assert_ne!(row(&mut tables, "a"), Value::Null);
    done(&mut tables, "DeleteItem", delete("x"));
    assert_eq!(row(&mut tables, "a"), Value::Null);
}

/// The other expressions of our code, each with the values that it sends.
#[test]
fn the_expressions_of_the_stack_are_understood() {
    for (update, condition, values) in [
        (
            "SET journal = :j, stage = :s, revision = :r, swap_id = :swap, updated_at = :n",
            "lease_owner = :me AND attribute_exists(journal) AND (attribute_not_exists(swap_id) OR swap_id = :swap) \
             AND (attribute_not_exists(revision) OR revision <= :r)",
            ":j :s :r :swap :n :me",
        ),
        (
            "SET journal = :j",
            "lease_owner = :me AND (attribute_not_exists(stage) OR (stage = :before AND (attribute_not_exists(swap_id) OR \
             swap_id = :swap)))",
            ":j :me :before :swap",
        ),
        (
            "SET updated_at = :n, closed_swap = :swap, closed_as = :end, last_execution = :me, last_summary = :s REMOVE \
             journal, stage, revision, swap_id, lease_owner, lease_since",
            "lease_owner = :me AND (attribute_not_exists(journal) OR ((attribute_not_exists(swap_id) OR swap_id = :swap) \
             AND (attribute_not_exists(revision) OR revision = :r)))",
            ":n :swap :end :me :s :r",
        ),
        (
            "SET at_risk = :a, revision = :next, expires_at = :e",
            "attribute_not_exists(revision) OR revision = :read",
            ":a :next :e :read",
        ),
        ("REMOVE replaced", "lease_owner = :me", ":me"),
        (
            "ADD executions :set",
            "attribute_not_exists(executions) OR size(executions) < :most OR contains(executions, :one)",
            ":set :most :one",
        ),
        (
            "SET is_poisoned = :t, poisoned_at = :at, poison_expires_at = :until, cause = :c ADD interruptions :r",
            "attribute_not_exists(poison_expires_at) OR poison_expires_at < :until",
            ":t :at :until :c :r",
        ),
        (
            "ADD pools :set SET expires_at = :e",
            "attribute_not_exists(pools) OR size(pools) < :r",
            ":set :e :r",
        ),
        (
            "SET asg_name = :n, account_id = :a REMOVE reason, detail, not_before",
            "execution = :e",
            ":n :a :e",
        ),
    ] {
        let value = |name: &str| match name {
            ":set" => json!({"SS": ["x"]}),
            ":r" | ":most" | ":until" | ":next" | ":read" => json!({"N": "3"}),
            _ => json!({"S": "x"}),
        };
        let values: Value = values
            .split(' ')
            .map(|name| (name.to_owned(), value(name)))
            .collect::<serde_json::Map<_, _>>()
            .into();
        let update = json!({
            "TableName": "swaps", "Key": {"target": {"S": "a"}}, "UpdateExpression": update,
            "ConditionExpression": condition, "ExpressionAttributeValues": values,
        });
        let (status, answer) = send(&mut tables(), "UpdateItem", update);
        assert!(status == 200 || kind(&answer) == "ConditionalCheckFailedException", "{condition}: {answer}");
    }
}

#[test]
fn the_words_of_a_call_that_the_world_does_not_know_are_not_ignored() {
    let mut tables = tables();
    let old = json!({"TableName": "swaps", "Key": {"target": {"S": "a"}}, "AttributeUpdates": {}});
    assert_eq!(send(&mut tables, "UpdateItem", old).0, 501);
    assert_eq!(send(&mut tables, "Query", json!({"TableName": "waste", "IndexName": "by-type"})).0, 501);
    assert_eq!(send(&mut tables, "DescribeTable", json!({"TableName": "waste"})).0, 501);
}
