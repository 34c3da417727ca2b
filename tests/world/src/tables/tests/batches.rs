#![allow(clippy::unwrap_used)]

use super::*;

fn put(resource: &str) -> Value {
    json!({"Put": {
        "TableName": "waste",
        "Item": {"account_region": {"S": "one"}, "resource": {"S": resource}, "status": {"S": "OPEN"}},
        "ConditionExpression": "attribute_not_exists(#status) OR #status <> :open",
        "ExpressionAttributeNames": {"#status": "status"}, "ExpressionAttributeValues": {":open": {"S": "OPEN"}},
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }})
}

#[test]
fn a_transaction_has_all_its_writes_or_none_and_says_which_was_refused() {
    let mut tables = tables();
    tables.put("swaps", &json!({"target": {"S": "a"}, "count": {"N": "1"}})).unwrap();
    let update = json!({"Update": {
        "TableName": "swaps", "Key": {"target": {"S": "a"}}, "UpdateExpression": "ADD #c :one",
        "ExpressionAttributeNames": {"#c": "count"}, "ExpressionAttributeValues": {":one": {"N": "1"}},
    }});
    let check = json!({"ConditionCheck": {
        "TableName": "swaps", "Key": {"target": {"S": "b"}}, "ConditionExpression": "attribute_not_exists(stage)",
    }});
    let all = json!({"TransactItems": [put("x"), update, check]});
    assert_eq!(done(&mut tables, "TransactWriteItems", all.clone()), json!({}));
    assert_eq!(row(&mut tables, "a")["count"], json!({"N": "2"}));
    assert_eq!(row(&mut tables, "b"), Value::Null, "a check writes nothing");

    let before = tables.clone();
    let (status, answer) = send(&mut tables, "TransactWriteItems", all);
    assert_eq!((status, kind(&answer)), (400, "TransactionCanceledException"));
    assert!(
        answer["Message"].as_str().unwrap().ends_with("[ConditionalCheckFailed, None, None]"),
        "{answer}"
    );
    let reasons = &answer["CancellationReasons"];
    assert_eq!(reasons[0]["Code"], json!("ConditionalCheckFailed"));
    assert_eq!(reasons[0]["Item"]["resource"], json!({"S": "x"}));
    assert_eq!(reasons[1], json!({"Code": "None"}));
    assert_eq!(tables, before);
}

#[test]
fn a_transaction_that_comes_twice_is_carried_out_once_for_ten_minutes() {
    let mut tables = tables();
    let add = |n: &str| {
        json!({"ClientRequestToken": "t", "TransactItems": [{"Update": {
            "TableName": "swaps", "Key": {"target": {"S": "a"}}, "UpdateExpression": "ADD n :n",
            "ExpressionAttributeValues": {":n": {"N": n}},
        }}]})
    };
    let mut send_at = |second, n: &str| tables.carry_out(&call("TransactWriteItems", add(n)), at(second));
    assert_eq!(send_at(0, "1").status, 200);
    assert_eq!(send_at(599, "1").status, 200);
    let other = send_at(599, "2");
    assert!(other.body.contains("IdempotentParameterMismatchException"), "{}", other.body);
    assert_eq!(send_at(600, "2").status, 200);
    assert_eq!(row(&mut tables, "a")["n"], json!({"N": "3"}));
}

#[test]
fn a_transaction_that_was_cancelled_may_come_again_with_its_token() {
    let mut tables = tables();
    tables
        .put(
            "waste",
            &json!({"account_region": {"S": "one"}, "resource": {"S": "x"}, "status": {"S": "OPEN"}}),
        )
        .unwrap();
    let call = json!({"ClientRequestToken": "t", "TransactItems": [put("x")]});
    assert_eq!(send(&mut tables, "TransactWriteItems", call.clone()).0, 400);
    let key = json!({"account_region": {"S": "one"}, "resource": {"S": "x"}});
    done(&mut tables, "DeleteItem", json!({"TableName": "waste", "Key": key}));
    done(&mut tables, "TransactWriteItems", call);
    assert_eq!(tables.items("waste").count(), 1);
}

#[test]
fn a_malformed_transaction_is_refused_as_a_whole() {
    let mut tables = tables();
    let mut two_verbs = put("x");
    two_verbs["Delete"] = json!({"TableName": "waste"});
    let check = json!({"ConditionCheck": {"TableName": "swaps", "Key": {"target": {"S": "b"}}}});
    for (items, problem) in [
        (json!([]), "length greater than or equal to 1"),
        (Value::from(vec![put("x"); 101]), "length less than or equal to 100"),
        (json!([put("x"), put("x")]), "multiple operations on one item"),
        (json!([two_verbs]), "can only contain one of"),
        (json!([{}]), "can only contain one of"),
        (json!([check]), "can not be empty"),
    ] {
        let told = refused(&mut tables, "TransactWriteItems", json!({"TransactItems": items}));
        assert!(told.contains(problem), "{told}");
    }
}

#[test]
fn a_batch_of_writes_puts_and_deletes() {
    let mut tables = tables();
    tables.put("swaps", &json!({"target": {"S": "old"}})).unwrap();
    let requests = json!({"swaps": [
        {"PutRequest": {"Item": {"target": {"S": "a"}}}},
        {"DeleteRequest": {"Key": {"target": {"S": "old"}}}},
    ]});
    let answer = done(&mut tables, "BatchWriteItem", json!({"RequestItems": requests}));
    assert_eq!(answer, json!({"UnprocessedItems": {}}));
    assert!(tables.item("swaps", "a", None).is_some() && tables.item("swaps", "old", None).is_none());
}

#[test]
fn a_malformed_batch_is_refused_as_a_whole() {
    let mut tables = tables();
    let puts = |names: Vec<usize>| -> Vec<Value> {
        names.iter().map(|n| json!({"PutRequest": {"Item": {"target": {"S": n.to_string()}}}})).collect()
    };
    for (requests, problem) in [
        (json!({}), "RequestItems is empty"),
        (json!({"swaps": puts((0..26).collect())}), "less than or equal to 25"),
        (json!({"swaps": puts(vec![1, 2, 1])}), "duplicates"),
        (json!({"swaps": [{}]}), "WriteRequest is empty"),
        (
            json!({"swaps": [puts(vec![1])[0], {"PutRequest": {"Item": {"id": {"S": "x"}}}}]}),
            "Missing the key target",
        ),
    ] {
        let told = refused(&mut tables, "BatchWriteItem", json!({"RequestItems": requests}));
        assert!(told.contains(problem), "{told}");
    }
}

#[test]
fn a_batch_of_reads_leaves_out_rows_that_do_not_exist() {
    let mut tables = tables();
    for target in ["a", "b"] {
        tables
            .put(
                "swaps",
                &json!({"target": {"S": target}, "lease_owner": {"S": "me"}, "journal": {"S": "{}"}}),
            )
            .unwrap();
    }
    let read = |keys: &[&str]| {
        let keys: Vec<_> = keys.iter().map(|key| json!({"target": {"S": key}})).collect();
        json!({"RequestItems": {"swaps": {
            "Keys": keys, "ConsistentRead": true, "ProjectionExpression": "#target, #lease_owner",
            "ExpressionAttributeNames": {"#target": "target", "#lease_owner": "lease_owner"},
        }}})
    };
    let answer = done(&mut tables, "BatchGetItem", read(&["a", "gone", "b"]));
    let rows = answer["Responses"]["swaps"].as_array().unwrap();
    assert_eq!((rows.len(), &answer["UnprocessedKeys"]), (2, &json!({})));
    assert!(rows.contains(&json!({"target": {"S": "b"}, "lease_owner": {"S": "me"}})), "{rows:?}");
    let none = done(&mut tables, "BatchGetItem", read(&["gone"]));
    assert_eq!(none["Responses"], json!({"swaps": []}), "the answer mentions the table");
    assert!(refused(&mut tables, "BatchGetItem", read(&["a", "a"])).contains("duplicates"));
    assert!(refused(&mut tables, "BatchGetItem", read(&[])).contains("greater than or equal to 1"));
    let many: Vec<_> = (0..101).map(|n| n.to_string()).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    assert!(refused(&mut tables, "BatchGetItem", read(&many)).contains("Too many items"));
}
