use proptest::prelude::*;

use super::values::kubeconfig_secrets;
use super::*;

fn overrides(field: &str, value: Value) -> BTreeMap<String, Value> {
    BTreeMap::from([(field.to_owned(), value)])
}

#[test]
fn the_nearest_scope_wins_field_by_field() {
    let settings = Settings::default()
        .with("global", &overrides("poison_days", Value::Number(10)))
        .and_then(|s| s.with("account#1", &overrides("poison_days", Value::Number(5))))
        .and_then(|s| s.with("account#1#r", &overrides("poll_seconds", Value::Number(3))))
        .unwrap();
    assert_eq!((settings.poison_days, settings.poll_seconds), (5, 3));
    assert!(settings.rebalance_poisons);
}

#[test]
fn a_bad_override_names_scope_and_field() {
    let cases = [
        ("poison_days", Value::Number(0), "0 is out of range: expected 1 to 365"),
        ("poison_days", Value::Text("15".into()), "expected a number from 1 to 365"),
        ("poison_day", Value::Number(15), "no such setting"),
        ("rebalance_poisons", Value::Number(1), "expected true or false (BOOL)"),
        ("poll_seconds", Value::Number(-1), "-1 is out of range: expected 1 to 300"),
        (
            "opt_out_tag",
            Value::Text("aws:x".into()),
            "expected a tag key of 1 to 128 characters that does not start with aws:",
        ),
        ("blind_gate", Value::Text("open".into()), "expected refuse or allow"),
        ("blind_gate", Value::Bool(true), "expected a text (S)"),
        ("max_swaps", Value::Other, "expected a number from 1 to 500"),
        ("poison_threshold_accounts", Value::Number(0), "0 is out of range: expected 1 to 100"),
        ("max_poisons_per_account_per_hour", Value::Number(0), "0 is out of range: expected 1 to 10000"),
        ("max_poisoned_share_of_region", Value::Number(101), "101 is out of range: expected 1 to 100"),
    ];
    for (field, value, problem) in cases {
        let error = Settings::default().with("global", &overrides(field, value)).unwrap_err();
        assert_eq!(error.to_string(), format!("settings \"global\", field {field:?}: {problem}"));
    }
}

/// An owner who writes a mark or a list here would believe that it protects something.
#[test]
fn the_opt_out_tag_is_one_key() {
    let opt_out = |key: &str| {
        let value = Value::Text(key.to_owned());
        Settings::default().with("global", &overrides("opt_out_tag", value))
    };
    for key in ["spot-optimizer:opt-out ", " hold", "hold\t", "team=hands-off", "hold*", "keep,hold"] {
        let BadOverride { field, problem, .. } = opt_out(key).unwrap_err();
        let is_named = problem.contains(&format!("{key:?}")) && problem.contains("expected one tag key");
        assert!(field == "opt_out_tag" && is_named, "{problem}");
    }
    for key in ["hold", "Cost Centre", "team/hands-off", "a+b@c"] {
        assert_eq!(opt_out(key).unwrap().opt_out_tag, key);
    }
}

#[test]
fn a_bad_field_costs_no_other_field_of_its_row() {
    let further =
        Settings::default().with("global", &overrides("opt_out_tag", Value::Text("hands-off".into())));
    let further = further.unwrap();
    let row = BTreeMap::from([
        ("launch_visible_after_seconds".to_owned(), Value::Number(300)),
        ("opt_out_tag".to_owned(), Value::Text("team=hands-off".into())),
        ("poll_secs".to_owned(), Value::Number(1)),
        ("poison_days".to_owned(), Value::Number(0)),
    ]);
    let (settings, bad) = further.with_what_holds("account#1", &row);
    assert_eq!(settings, Settings { launch_visible_after_seconds: 300, ..further.clone() });
    let named: Vec<_> = bad.iter().map(|bad| (bad.scope.as_str(), bad.field.as_str())).collect();
    assert_eq!(
        named,
        [("account#1", "opt_out_tag"), ("account#1", "poison_days"), ("account#1", "poll_secs")]
    );
    assert_eq!(further.with("account#1", &row).as_ref(), Err(&bad[0]), "a run stops at the first one");
}

fn some_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        (-1_i64..400).prop_map(Value::Number),
        any::<bool>().prop_map(Value::Bool),
        "[a-z=*, :]{0,10}".prop_map(Value::Text),
    ]
}

fn some_row() -> impl Strategy<Value = BTreeMap<String, Value>> {
    let fields = Settings::reference().into_iter().map(|setting| setting.name).chain(["no_such"]);
    let field = prop::sample::select(fields.collect::<Vec<_>>()).prop_map(str::to_owned);
    prop::collection::btree_map(field, some_value(), 0..8)
}

proptest! {
    #[test]
    fn what_holds_is_the_row_without_its_bad_fields(row in some_row()) {
        let (settings, bad) = Settings::default().with_what_holds("global", &row);
        let mut good = row.clone();
        good.retain(|field, _| bad.iter().all(|bad| bad.field != *field));
        prop_assert_eq!(Settings::default().with("global", &good), Ok(settings));
        prop_assert_eq!(Settings::default().with("global", &row).err(), bad.into_iter().next());
    }
}

#[test]
fn the_enforcers_settings_are_held_to_their_ranges() {
    let bad = [
        ("grace_hours", Value::Number(0)),
        ("grace_hours", Value::Text("24".into())),
        ("max_terminations_per_run", Value::Number(-1)),
        ("max_terminations_percent", Value::Number(101)),
        ("audit_gap_minutes", Value::Number(1)),
        ("owner_marks", Value::Text(String::new())),
        ("owner_marks", Value::Text("team,,x".into())),
        ("owner_marks", Value::Text("team=".into())),
        ("owner_marks", Value::Text("keep, team= payments".into())),
        ("owner_marks", Value::Text("team, kube*/cluster".into())),
        ("group_marks", Value::Text(String::new())),
        ("group_marks", Value::Text("aws:autoscaling:groupName".into())),
        ("group_marks", Value::Text("team, aws:*".into())),
        ("storage_marks", Value::Text("keep*=yes".into())),
    ];
    for (field, value) in bad {
        let error = Settings::default().with("account#1", &overrides(field, value)).unwrap_err();
        assert_eq!((error.scope.as_str(), error.field.as_str()), ("account#1", field));
    }
    let marks = Value::Text("team, CreatedBy=EC2 Image Builder".into());
    let settings = Settings::default().with("global", &overrides("owner_marks", marks)).unwrap();
    let marks: Vec<_> = settings.owner_marks.iter().map(ToString::to_string).collect();
    assert!(marks.ends_with(&["team".into(), "CreatedBy=EC2 Image Builder".into()]));
    assert_eq!(marks.len(), OwnerMark::defaults().len() + 2);
}

#[test]
fn marks_of_groups_and_storage_are_lists_that_replace_nothing() {
    let with = |field, list: &str| {
        let value = Value::Text(list.into());
        Settings::default().with("global", &overrides(field, value)).unwrap()
    };
    let texts = |marks: &[OwnerMark]| marks.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let groups = with("group_marks", "team, aws:autoscaling:groupName=web");
    assert_eq!(texts(&groups.group_marks), "team aws:autoscaling:groupName=web");
    assert_eq!(groups.owner_marks, OwnerMark::defaults());
    assert_eq!(texts(&with("storage_marks", "legal-hold, backup/*").storage_marks), "legal-hold backup/*");
}

/// A rule of the seed; an owner may shorten it on purpose.
#[test]
fn both_notices_poison_for_fifteen_days_by_default() {
    let settings = Settings::default();
    assert_eq!((settings.poison_days, settings.rebalance_poison_days), (15, 15));
}

/// Once a step is killed, what it called last may still land.
#[test]
fn reader_7_the_quiet_period_outlasts_a_step() {
    const LONGEST_STEP: u32 = 60;
    assert!(Settings::default().launch_visible_after_seconds >= LONGEST_STEP + 30);
}

#[test]
fn kubeconfig_secrets_are_pairs() {
    let pairs = kubeconfig_secrets("lab = arn:aws:secretsmanager:r:a:secret:x , k3s.local=y").unwrap();
    assert_eq!(pairs[&"lab".parse().unwrap()], "arn:aws:secretsmanager:r:a:secret:x");
    assert_eq!(pairs.len(), 2);
    assert!(kubeconfig_secrets("lab").unwrap_err().contains("\"lab\": expected cluster="));
    assert!(kubeconfig_secrets("la b=x").unwrap_err().contains("cluster name \"la b\""));
    let two = kubeconfig_secrets("lab=x, k3s.local=y, lab = z").unwrap_err();
    assert_eq!(two, "cluster lab has two secrets: keep one of them");
    assert_eq!(kubeconfig_secrets("lab=x, lab=x").unwrap().len(), 1);
}

#[test]
fn instance_types_are_a_comma_separated_list() {
    let types = parse_instance_types(" m5.large, m5a.large ,").unwrap();
    assert_eq!(types.iter().map(InstanceType::as_str).collect::<Vec<_>>(), ["m5.large", "m5a.large"]);
    assert!(parse_instance_types("m5.large, big").unwrap_err().contains("\"big\""));
}

#[test]
fn the_payload_of_an_earlier_release_has_the_defaults_of_later_settings() {
    let payload = r#"{"poison_days": 3, "lab_old_instance": "terminate"}"#;
    let expected =
        Settings { poison_days: 3, lab_old_instance: OldInstance::Terminate, ..Settings::default() };
    assert_eq!(serde_json::from_str::<Settings>(payload).unwrap(), expected);
}

/// Every setting can be set by its name to the bounds of its range, and to nothing beyond them.
#[test]
fn every_setting_takes_the_values_that_the_reference_says() {
    let outside = Settings::default();
    for setting in Settings::reference() {
        let takes = |value: Value| outside.with("global", &overrides(setting.name, value));
        match setting.attribute {
            "N" => {
                let (least, most) = setting.values.split_once(" to ").unwrap();
                let (least, most): (i64, i64) = (least.parse().unwrap(), most.parse().unwrap());
                for (n, is_taken) in [(least - 1, false), (least, true), (most, true), (most + 1, false)] {
                    assert_eq!(takes(Value::Number(n)).is_ok(), is_taken, "{} = {n}", setting.name);
                }
                let default: i64 = setting.default.parse().unwrap();
                assert_eq!(takes(Value::Number(default)), Ok(outside.clone()), "{}", setting.name);
            }
            "BOOL" => {
                let default = setting.default == "true";
                assert_eq!(takes(Value::Bool(default)), Ok(outside.clone()), "{}", setting.name);
                assert_ne!(takes(Value::Bool(!default)), Ok(outside.clone()), "{}", setting.name);
            }
            attribute => {
                assert_eq!(attribute, "S");
                let problem = takes(Value::Number(1)).unwrap_err().problem;
                assert_eq!(problem, "expected a text (S)", "{}", setting.name);
            }
        }
    }
}

#[test]
fn the_reference_has_every_field_of_a_payload() {
    let payload = serde_json::to_value(Settings::default()).unwrap();
    let fields: std::collections::BTreeSet<_> = payload.as_object().unwrap().keys().cloned().collect();
    let listed = Settings::reference().iter().map(|setting| setting.name.to_owned()).collect();
    assert_eq!(fields, listed);
}
