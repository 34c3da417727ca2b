//! What is no state machine, or one that would run by half.

use super::*;

fn refusal(yaml: &str, substitutions: &[(&str, &str)]) -> String {
    let substitutions = substitutions.iter().copied().collect();
    match StateMachine::parse(yaml, &substitutions) {
        Ok(_) => panic!("not refused: {yaml}"),
        Err(error) => error.to_string(),
    }
}

fn refusal_of(states: &str) -> String {
    refusal(&format!("QueryLanguage: JSONata\nStartAt: A\nStates:\n{states}"), &[])
}

#[test]
fn a_state_that_is_not_understood_is_refused_by_name() {
    for (state, word) in [
        ("{Type: Map, End: true}", "unknown variant `Map`"),
        ("{Type: Task, Resource: arn, HeartbeatSeconds: 5, End: true}", "unknown field `HeartbeatSeconds`"),
        ("{Type: Task, Resource: arn, ResultPath: $, End: true}", "unknown field `ResultPath`"),
        ("{Type: Wait, Timestamp: '2026-11-26T12:00:00Z', End: true}", "unknown field `Timestamp`"),
        ("{Type: Choice, Choices: [{Variable: $.a, Next: A}]}", "unknown field `Variable`"),
        ("{Type: Choice, Choices: []}", "no choices"),
        (
            "{Type: Task, Resource: arn, Retry: [{ErrorEquals: [A], Delay: 1}], End: true}",
            "unknown field `Delay`",
        ),
        ("{Type: Task, Resource: arn, Catch: [{ErrorEquals: [A], ResultPath: $, Next: A}]}", "`ResultPath`"),
        ("{Type: Pass, Output: '{% $work.* %}', End: true}", "JSONata `$work.*`"),
        ("{Type: Pass}", "either Next or End"),
        ("{Type: Pass, End: false}", "either Next or End"),
        ("{Type: Pass, Next: A, End: true}", "either Next or End"),
        ("{Type: Task, End: true}", "missing field `Resource`"),
    ] {
        let refusal = refusal_of(&format!("  A: {state}"));
        assert!(refusal.starts_with("state A: ") && refusal.contains(word), "{state}: {refusal}");
    }
}

#[test]
fn the_wildcard_of_all_errors_stands_alone_and_last() {
    for rules in [
        "Catch: [{ErrorEquals: [A, States.ALL], Next: A}]",
        "Catch: [{ErrorEquals: [States.ALL], Next: A}, {ErrorEquals: [B], Next: A}]",
        "Retry: [{ErrorEquals: [States.ALL]}, {ErrorEquals: [B]}]",
    ] {
        let refusal = refusal_of(&format!("  A: {{Type: Task, Resource: arn, {rules}, End: true}}"));
        assert!(refusal.contains("States.ALL must stand alone"), "{rules}: {refusal}");
    }
    for rules in
        ["ErrorEquals: []", "ErrorEquals: [A], BackoffRate: 0.5", "ErrorEquals: [A], IntervalSeconds: 0"]
    {
        let refusal =
            refusal_of(&format!("  A: {{Type: Task, Resource: arn, Retry: [{{{rules}}}], End: true}}"));
        assert!(refusal.contains("a rule of Retry"), "{rules}: {refusal}");
    }
}

#[test]
fn transitions_lead_to_states_and_every_state_is_reached() {
    assert!(refusal_of("  A: {Type: Pass, Next: B}").contains("leads to B, which is no state"));
    assert!(refusal_of("  B: {Type: Succeed}").contains("leads to A, which is no state"));
    let catch = "  A: {Type: Task, Resource: arn, Catch: [{ErrorEquals: [A], Next: B}], End: true}";
    assert!(refusal_of(catch).contains("leads to B, which is no state"));
    assert!(refusal_of("  A: {Type: Succeed}\n  B: {Type: Succeed}").contains("no transition leads to B"));
}

#[test]
fn the_top_level_is_understood_whole() {
    let states = "StartAt: A\nStates: {A: {Type: Succeed}}";
    for (rest, word) in [
        ("QueryLanguage: JSONPath", "JSONPath"),
        ("Comment: no language", "QueryLanguage"),
        ("QueryLanguage: JSONata\nVersion: '1.0'", "Version"),
        ("QueryLanguage: JSONata\nStartAt: B", "StartAt"),
    ] {
        let refusal = refusal(&format!("{rest}\n{states}"), &[]);
        assert!(refusal.contains(word), "{rest}: {refusal}");
    }
}

#[test]
fn a_state_or_a_field_that_is_there_twice_is_refused() {
    assert!(refusal_of("  A: {Type: Succeed}\n  A: {Type: Fail}").contains("duplicate"));
    assert!(refusal_of("  A: {Type: Succeed, Type: Fail}").contains("duplicate"));
}

#[test]
fn substitutions_and_their_places_belong_together() {
    let yaml = "QueryLanguage: JSONata\nStartAt: A\nStates: {A: {Type: Task, Resource: '${Arn}', End: true}}";
    assert!(refusal(yaml, &[]).contains("substitution Arn has no value"));
    assert!(
        refusal(yaml, &[("Arn", "arn"), ("Other", "arn")]).contains("no place for the substitution Other")
    );
}
