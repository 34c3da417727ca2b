use proptest::prelude::*;

use super::*;
use crate::interruption::Notice;

fn sample(name: &str) -> Value {
    let path = format!("{}/../../events/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn the_sample_events_are_read() {
    let Incoming::Interruption(real) = parse(sample("spot-interruption-warning"), false).unwrap() else {
        panic!("not an interruption");
    };
    assert_eq!(real.notice, Notice::InterruptionWarning);
    assert_eq!(real.instance_id.as_str(), "i-0b662ef9931388ba0");
    assert!(!real.is_drill);
    let Incoming::Interruption(rebalance) = parse(sample("rebalance-recommendation"), false).unwrap() else {
        panic!("not an interruption");
    };
    assert_eq!(rebalance.notice, Notice::RebalanceRecommendation);
    assert_eq!(parse(sample("risk-clean-up"), false).unwrap(), Incoming::CleanUp);
    assert_eq!(parse(sample("risk-measure"), false).unwrap(), Incoming::Measure);
    let Incoming::Report(report) = parse(sample("spot-pool-interrupted"), false).unwrap() else {
        panic!("not a report");
    };
    assert_eq!(report.pool.to_string(), "us-east-1#use1-az6#m5.large");
    assert!(report.is_spot && !report.is_drill);
}

#[test]
fn a_forwarded_event_is_of_the_account_and_region_that_aws_stamped() {
    let Incoming::Interruption(forwarded) =
        parse(sample("spot-interruption-warning-forwarded"), false).unwrap()
    else {
        panic!("not an interruption");
    };
    assert_eq!((forwarded.account_id.as_str(), forwarded.region.as_str()), ("222222222222", "eu-west-1"));
}

#[test]
fn a_report_from_one_region_may_be_about_another() {
    let mut event = sample("spot-pool-interrupted");
    event["region"] = "us-east-1".into();
    event["detail"]["pool"] = "us-west-2#usw2-az1#m5.large".into();
    let Incoming::Report(report) = parse(event, false).unwrap() else { panic!("not a report") };
    assert_eq!(report.pool.region.as_str(), "us-west-2");
}

#[test]
fn a_drill_counts_only_where_the_stack_allows_it() {
    assert!(parse(sample("drill-interruption-warning"), true).is_ok());
    let error = parse(sample("drill-interruption-warning"), false).unwrap_err().to_string();
    assert!(error.contains("AllowDrills"), "{error}");
    let mut report = sample("spot-pool-interrupted");
    report["detail"]["is-drill"] = true.into();
    assert!(parse(report.clone(), true).is_ok());
    assert!(parse(report, false).unwrap_err().to_string().contains("AllowDrills"));
}

#[test]
fn a_malformed_event_names_its_field() {
    let broken: [(&str, Value, &str); 9] = [
        ("source", "aws.s3".into(), "source"),
        ("source", Value::Null, "source"),
        ("detail-type", "EC2 Instance State-change Notification".into(), "detail-type"),
        ("account", "12".into(), "account"),
        ("region", "Narnia".into(), "region"),
        ("time", "yesterday".into(), "time"),
        ("time", "2999-01-01T00:00:00Z".into(), "time"),
        ("detail", serde_json::json!({}), "detail.instance-id"),
        ("detail", serde_json::json!({"instance-id": "web-1"}), "detail.instance-id"),
    ];
    for (field, value, expected) in broken {
        let mut event = sample("spot-interruption-warning");
        event[field] = value;
        let error = parse(event, true).unwrap_err();
        assert_eq!(error.name(), "InvalidEvent");
        assert!(error.to_string().starts_with(&format!("field {expected:?}")), "{error}");
    }
    let reports: [(&str, Value, &str); 6] = [
        ("pool", "us-east-1#us-east-1a#m5.large".into(), "detail.pool"),
        ("pool", "Europe#euw1-az1#m5.large".into(), "detail.pool"),
        ("notice", "EC2 Instance State-change Notification".into(), "detail.notice"),
        ("occurred", "2999-01-01T00:00:00Z".into(), "detail.occurred"),
        ("instance-id", "web-1".into(), "detail.instance-id"),
        ("instance-lifecycle", Value::Null, "detail.instance-lifecycle"),
    ];
    for (field, value, expected) in reports {
        let mut event = sample("spot-pool-interrupted");
        event["detail"][field] = value;
        let error = parse(event, true).unwrap_err();
        assert!(error.to_string().starts_with(&format!("field {expected:?}")), "{error}");
    }
    for event in [Value::Null, serde_json::json!([]), serde_json::json!({"task": "wipe"})] {
        assert!(parse(event, true).is_err());
    }
    let misspelt = parse(serde_json::json!({"tsak": "clean-up"}), true).unwrap_err().to_string();
    assert!(misspelt.starts_with("field \"task\"") && misspelt.contains("`tsak`"), "{misspelt}");
}

#[test]
fn an_event_without_a_field_names_it() {
    let lacking = |name: &str, path: &[&str]| {
        let mut event = sample(name);
        let (field, above) = path.split_last().unwrap();
        let parent = above.iter().fold(&mut event, |part, key| &mut part[*key]);
        parent.as_object_mut().unwrap().remove(*field).unwrap();
        parse(event, true).unwrap_err().to_string()
    };
    let interruption: [&[&str]; 7] = [
        &["source"],
        &["detail-type"],
        &["account"],
        &["region"],
        &["time"],
        &["detail"],
        &["detail", "instance-id"],
    ];
    let report: [&[&str]; 5] = [
        &["detail", "pool"],
        &["detail", "instance-lifecycle"],
        &["detail", "instance-id"],
        &["detail", "notice"],
        &["detail", "occurred"],
    ];
    for name in ["spot-interruption-warning", "rebalance-recommendation"] {
        for path in interruption {
            let error = lacking(name, path);
            assert!(error.starts_with(&format!("field {:?}: missing", path.join("."))), "{error}");
        }
    }
    for path in report {
        let error = lacking("spot-pool-interrupted", path);
        assert!(error.starts_with(&format!("field {:?}: missing", path.join("."))), "{error}");
    }
}

#[test]
fn what_is_no_event_is_refused_whatever_it_holds() {
    let in_order =
        |event: &Value, keys: &[&str]| -> Value { keys.iter().map(|key| event[*key].clone()).collect() };
    let event = sample("spot-interruption-warning");
    let keys = ["version", "id", "detail-type", "source", "account", "time", "region", "resources", "detail"];
    let error = parse(in_order(&event, &keys), true).unwrap_err().to_string();
    assert!(error.starts_with("field \"event\": must be a JSON object"), "{error}");
    let mut report = sample("spot-pool-interrupted");
    let keys = ["pool", "instance-lifecycle", "instance-id", "notice", "occurred", "is-drill"];
    report["detail"] = in_order(&report["detail"], &keys);
    let error = parse(report, true).unwrap_err().to_string();
    assert!(error.starts_with("field \"detail\": must be a JSON object"), "{error}");
}

#[test]
fn the_time_is_that_of_the_event() {
    let occurred = |time: &str| {
        let mut event = sample("spot-interruption-warning");
        event["time"] = time.into();
        match parse(event, false).unwrap() {
            Incoming::Interruption(interruption) => interruption.occurred.to_string(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(occurred("2025-11-20T10:15:00Z"), "2025-11-20T10:15:00Z");
    assert_eq!(occurred("2025-11-20T10:15:00.250Z"), "2025-11-20T10:15:00.25Z");
    assert_eq!(occurred("2025-11-20T11:15:00+01:00"), "2025-11-20T10:15:00Z");
    assert_eq!(occurred("2016-12-31T23:59:60Z"), "2017-01-01T00:00:00Z", "a leap second");
}

/// Returns any JSON, as deep as an event and deeper.
fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,40}".prop_map(Value::from),
        "[+-]?[0-9]{1,6}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(Z|[+-][0-9]{2}:[0-9]{2})"
            .prop_map(Value::from),
        "i-[0-9a-f]{17}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map("[a-z-]{0,12}", inner, 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// Returns a sample with one field replaced by anything, at the top or in the detail.
fn disturbed() -> impl Strategy<Value = Value> {
    let samples = vec!["spot-interruption-warning", "rebalance-recommendation", "spot-pool-interrupted"];
    let fields = |event: &Value| -> Vec<(bool, String)> {
        let keys = |part: &Value| part.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        let inside = keys(&event["detail"]).into_iter().map(|key| (true, key));
        keys(event).into_iter().map(|key| (false, key)).chain(inside).collect()
    };
    prop::sample::select(samples).prop_flat_map(move |name| {
        let event = sample(name);
        (Just(event.clone()), prop::sample::select(fields(&event)), json()).prop_map(
            |(mut event, (is_inside, key), anything)| {
                let part = if is_inside { &mut event["detail"] } else { &mut event };
                part[key.as_str()] = anything;
                event
            },
        )
    })
}

proptest! {
    #[test]
    fn anything_is_read_or_refused_by_the_name_of_a_field(
        event in prop_oneof![json(), disturbed()],
        allow_drills: bool,
    ) {
        if let Err(error) = parse(event, allow_drills) {
            prop_assert!(matches!(&error, RiskError::InvalidEvent { field, .. } if !field.is_empty()), "{error:?}");
        }
    }
}
