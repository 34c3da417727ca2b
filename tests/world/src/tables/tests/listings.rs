#![allow(clippy::unwrap_used)]

use super::*;

/// Findings of two scopes. `n` counts up within a scope.
fn findings() -> Tables {
    let mut tables = tables();
    for scope in ["one", "two"] {
        for n in 0..5 {
            let kind = if n < 3 { "volume" } else { "snapshot" };
            let item = json!({
                "account_region": {"S": scope}, "resource": {"S": format!("{kind}#{n}")}, "n": {"N": n.to_string()},
            });
            tables.put("waste", &item).unwrap();
        }
    }
    tables
}

fn resources(answer: &Value) -> Vec<String> {
    let items = answer["Items"].as_array().unwrap().iter();
    items.map(|item| item["resource"]["S"].as_str().unwrap().to_owned()).collect()
}

fn query(tables: &mut Tables, condition: &str, values: &Value, more: &Value) -> Value {
    let mut call = json!({"TableName": "waste", "KeyConditionExpression": condition, "ExpressionAttributeValues": values});
    call.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    done(tables, "Query", call)
}

#[test]
fn a_query_finds_one_partition_in_the_order_of_its_sort_key() {
    let mut tables = findings();
    let one = || json!({":s": {"S": "one"}});
    let with = |kind: &str| json!({":s": {"S": "one"}, ":t": {"S": kind}});
    let found = query(&mut tables, "account_region = :s", &one(), &json!({}));
    assert_eq!(resources(&found), ["snapshot#3", "snapshot#4", "volume#0", "volume#1", "volume#2"]);
    assert_eq!(
        (&found["Count"], &found["ScannedCount"], found.get("LastEvaluatedKey")),
        (&json!(5), &json!(5), None)
    );
    let backward =
        query(&mut tables, "account_region = :s", &one(), &json!({"ScanIndexForward": false, "Limit": 2}));
    assert_eq!(resources(&backward), ["volume#2", "volume#1"]);
    for (condition, expected) in [
        ("account_region = :s AND begins_with(#r, :t)", vec!["volume#0", "volume#1", "volume#2"]),
        ("#r = :t AND account_region = :s", vec![]),
        ("account_region = :s AND #r < :t", vec!["snapshot#3", "snapshot#4"]),
        ("account_region = :s AND #r BETWEEN :t AND :t", vec![]),
    ] {
        let names = json!({"ExpressionAttributeNames": {"#r": "resource"}});
        assert_eq!(
            resources(&query(&mut tables, condition, &with("volume"), &names)),
            expected,
            "{condition}"
        );
    }
    let none = query(&mut tables, "account_region = :s", &json!({":s": {"S": "none"}}), &json!({}));
    assert_eq!(none, json!({"Items": [], "Count": 0, "ScannedCount": 0}));
}

#[test]
fn pages_follow_each_other_without_gap_or_repetition_and_filters_come_after_the_limit() {
    for (action, is_backward) in [("Query", false), ("Query", true), ("Scan", false)] {
        let mut tables = findings();
        let mut call = json!({
            "TableName": "waste", "Limit": 2, "FilterExpression": "n <> :n", "ProjectionExpression": "#r",
            "ExpressionAttributeNames": {"#r": "resource"}, "ExpressionAttributeValues": {":n": {"N": "1"}},
        });
        if action == "Query" {
            call["KeyConditionExpression"] = json!("account_region = :s");
            call["ExpressionAttributeValues"][":s"] = json!({"S": "one"});
            call["ScanIndexForward"] = json!(!is_backward);
        }
        let (mut found, mut scanned, mut pages) = (Vec::new(), 0, 0);
        loop {
            let page = done(&mut tables, action, call.clone());
            found.extend(resources(&page));
            assert!(page["Items"].as_array().unwrap().iter().all(|item| item.get("n").is_none()));
            (scanned, pages) = (scanned + page["ScannedCount"].as_u64().unwrap(), pages + 1);
            let Some(last) = page.get("LastEvaluatedKey") else { break };
            assert_eq!(last.as_object().unwrap().len(), 2);
            call["ExclusiveStartKey"] = last.clone();
        }
        let expected = if action == "Scan" { (8, 10, 6) } else { (4, 5, 3) };
        assert_eq!((found.len(), scanned, pages), expected, "{action}: {found:?}");
    }
}

#[test]
fn a_page_ends_after_a_megabyte_or_where_the_world_ends_it() {
    let mut tables = tables();
    for n in 0..4 {
        let item = json!({"target": {"S": n.to_string()}, "journal": {"S": "x".repeat(300 * 1024)}});
        tables.put("swaps", &item).unwrap();
    }
    let page = done(&mut tables, "Scan", json!({"TableName": "swaps"}));
    assert_eq!((&page["Count"], page["LastEvaluatedKey"].is_object()), (&json!(3), true));
    let next = json!({"TableName": "swaps", "ExclusiveStartKey": page["LastEvaluatedKey"]});
    let next = done(&mut tables, "Scan", next);
    assert_eq!((&next["Count"], next.get("LastEvaluatedKey")), (&json!(1), None));
    let page = done(&mut findings().with_pages_of(1), "Scan", json!({"TableName": "waste", "Limit": 3}));
    assert_eq!(page["Count"], json!(1));
}

#[test]
fn a_count_has_no_items() {
    let mut tables = findings();
    let count = done(&mut tables, "Scan", json!({"TableName": "waste", "Select": "COUNT"}));
    assert_eq!(count, json!({"Count": 10, "ScannedCount": 10}));
}

#[test]
fn a_query_that_dynamodb_can_not_serve_is_refused() {
    let mut tables = findings();
    let values = json!({":s": {"S": "one"}, ":t": {"S": "x"}});
    for (condition, filter, problem) in [
        ("n = :s AND account_region = :t", None, "missed key schema element: account_region"),
        ("begins_with(account_region, :s) AND #r = :t", None, "not supported"),
        ("account_region = :s AND #r <> :t", None, "not supported"),
        ("account_region = :s AND contains(#r, :t)", None, "not supported"),
        ("account_region = :s OR #r = :t", None, "Invalid operator used in KeyConditionExpression: OR"),
        ("#r = :t AND begins_with(#r, :s)", None, "missed key schema element"),
        ("account_region = :s", Some("#r = :t"), "Primary key attribute: resource"),
    ] {
        let call = json!({
            "TableName": "waste", "KeyConditionExpression": condition, "FilterExpression": filter,
            "ExpressionAttributeValues": values, "ExpressionAttributeNames": if condition.contains("#r") || filter.is_some() { json!({"#r": "resource"}) } else { Value::Null },
        });
        let told = refused(&mut tables, "Query", call);
        assert!(told.contains(problem), "{condition}: {told}");
    }
    assert!(refused(&mut tables, "Query", json!({"TableName": "waste"})).contains("must be specified"));
    let outside = json!({
        "TableName": "waste", "KeyConditionExpression": "account_region = :s",
        "ExpressionAttributeValues": {":s": {"S": "one"}},
        "ExclusiveStartKey": {"account_region": {"S": "two"}, "resource": {"S": "x"}},
    });
    assert!(refused(&mut tables, "Query", outside).contains("outside query boundaries"));
    let start = json!({"TableName": "waste", "ExclusiveStartKey": {"account_region": {"S": "two"}}});
    assert!(refused(&mut tables, "Scan", start).contains("starting key is invalid"));
    assert!(refused(&mut tables, "Scan", json!({"TableName": "waste", "Limit": 0})).contains("Limit"));
}

#[test]
fn a_read_is_of_the_past_unless_it_asks_for_consistency() {
    let past = findings();
    let mut present = past.clone();
    present.put("waste", &json!({"account_region": {"S": "one"}, "resource": {"S": "volume#9"}})).unwrap();
    let key = json!({"account_region": {"S": "one"}, "resource": {"S": "volume#9"}});
    for (action, mut body) in [
        ("GetItem", json!({"TableName": "waste", "Key": key})),
        ("BatchGetItem", json!({"RequestItems": {"waste": {"Keys": [key]}}})),
        ("Scan", json!({"TableName": "waste"})),
        (
            "Query",
            json!({"TableName": "waste", "KeyConditionExpression": "account_region = :s", "ExpressionAttributeValues": {":s": {"S": "one"}}}),
        ),
    ] {
        let sees = |body: &Value| {
            present.read_from(&past, &call(action, body.clone())).unwrap().body.contains("volume#9")
        };
        assert!(!sees(&body), "{action}");
        let consistent =
            if action == "BatchGetItem" { &mut body["RequestItems"]["waste"] } else { &mut body };
        consistent["ConsistentRead"] = json!(true);
        assert!(sees(&body), "{action}");
    }
    assert_eq!(present.read_from(&past, &call("PutItem", json!({}))), None);
}
