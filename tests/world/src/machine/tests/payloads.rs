//! Variables, inputs and outputs, and the quotas of their sizes.

use super::*;

#[tokio::test(start_paused = true)]
async fn the_input_passes_through_a_wait_a_choice_and_a_success() {
    let states = "
  A: {Type: Wait, Seconds: '{% $length($states.input.asg_name) %}', Next: B}
  B: {Type: Choice, Choices: [{Condition: '{% false %}', Next: A}], Default: C}
  C: {Type: Succeed}";
    let began = Instant::now();
    let outcome = run(states, &Script::new([])).await;
    assert_eq!(outcome, Outcome::Succeeded(json!({ "asg_name": "web" })));
    assert_eq!(began.elapsed().as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_task_without_arguments_gets_the_input_and_its_result_is_the_output() {
    let states = "\n  A: {Type: Task, Resource: arn, End: true}";
    let script = Script::new([answer(json!({ "next": "WAIT" }))]);
    assert_eq!(run(states, &script).await, Outcome::Succeeded(json!({ "next": "WAIT" })));
    assert_eq!(script.calls()[0].2, json!({ "asg_name": "web" }));
}

#[tokio::test(start_paused = true)]
async fn assign_and_output_see_the_variables_as_they_were() {
    let states = "
  A: {Type: Pass, Assign: {a: 1, b: 2}, Next: B}
  B: {Type: Pass, Assign: {a: '{% $b %}', b: '{% $a %}'}, Output: ['{% $a %}', '{% $b %}'], Next: C}
  C: {Type: Pass, Output: ['{% $states.input %}', '{% $a %}', '{% $b %}', '{% null %}', null], End: true}";
    let expected = json!([[1, 2], 2, 1, null, null]);
    assert_eq!(run(states, &Script::new([])).await, Outcome::Succeeded(expected));
}

#[tokio::test(start_paused = true)]
async fn an_output_of_null_is_not_an_output_left_out() {
    let states = "\n  A: {Type: Pass, Output: null, End: true}";
    assert_eq!(run(states, &Script::new([])).await, Outcome::Succeeded(json!(null)));
}

#[tokio::test(start_paused = true)]
async fn the_rule_that_is_chosen_assigns_and_no_other() {
    let states = "
  A:
    Type: Choice
    Choices:
      - {Condition: '{% $states.input.asg_name = \"api\" %}', Assign: {is: first}, Next: B}
      - {Condition: '{% $states.input.asg_name = \"web\" %}', Assign: {is: second}, Output: chosen, Next: B}
      - {Condition: '{% true %}', Assign: {is: third}, Next: B}
    Assign: {is: default}
    Default: B
  B: {Type: Pass, Output: ['{% $states.input %}', '{% $is %}'], End: true}";
    assert_eq!(run(states, &Script::new([])).await, Outcome::Succeeded(json!(["chosen", "second"])));
}

#[tokio::test(start_paused = true)]
async fn the_context_object_names_the_execution_and_the_state() {
    let states = "
  A: {Type: Wait, Seconds: 90, Next: B}
  B: {Type: Pass, Output: '{% $states.context %}', End: true}";
    let expected = json!({
        "Execution": {
            "Id": "arn:aws:states:eu-central-1:111122223333:execution:swap:one",
            "Input": { "asg_name": "web" },
            "Name": "one",
            "RoleArn": "arn:aws:iam::111122223333:role/swap",
            "StartTime": "2026-11-26T12:00:00.000Z",
            "RedriveCount": 0,
        },
        "StateMachine": { "Id": "arn:aws:states:eu-central-1:111122223333:stateMachine:swap", "Name": "swap" },
        "State": { "EnteredTime": "2026-11-26T12:01:30.000Z", "Name": "B", "RetryCount": 0 },
    });
    assert_eq!(run(states, &Script::new([])).await, Outcome::Succeeded(expected));
}

/// Returns a string whose JSON has so many bytes.
fn of_bytes(bytes: usize) -> Value {
    json!("x".repeat(bytes - 2))
}

#[tokio::test(start_paused = true)]
async fn a_result_of_256_kib_passes_and_one_byte_more_ends_the_execution() {
    let states = "
  A:
    Type: Task
    Resource: arn
    Retry: [{ErrorEquals: [States.ALL]}]
    Catch: [{ErrorEquals: [States.ALL], Next: B}]
    End: true
  B: {Type: Succeed}";
    let script = Script::new([answer(of_bytes(262_144)), answer(of_bytes(262_145))]);
    assert!(matches!(run(states, &script).await, Outcome::Succeeded(_)));
    assert_eq!(error_of(&run(states, &script).await), "States.DataLimitExceeded");
    assert_eq!(script.calls().len(), 2, "it is not retried");
}

#[tokio::test(start_paused = true)]
async fn wildcards_take_a_payload_that_is_too_large_if_the_context_says_so() {
    let states = "
  A:
    Type: Task
    Resource: arn
    Retry: [{ErrorEquals: [States.TaskFailed], MaxAttempts: 1}]
    Catch: [{ErrorEquals: [States.ALL], Output: caught, Next: B}]
    End: true
  B: {Type: Succeed}";
    let script = Script::new([answer(of_bytes(262_145))]);
    let context = ExecutionContext { data_limit: DataLimit::Caught, ..context(1) };
    let outcome = Execution::start(&machine_of(states), context, json!({})).run(&script).await;
    assert_eq!(outcome, Outcome::Succeeded(json!("caught")));
    assert_eq!(script.calls().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn arguments_an_output_and_what_is_assigned_have_the_same_quota() {
    for field in [
        "Arguments: ['{% $states.input %}']",
        "Output: ['{% $states.result %}']",
        "Assign: {a: '{% $states.result %}'}",
    ] {
        let states = format!("\n  A: {{Type: Task, Resource: arn, {field}, End: true}}");
        let script = Script::new([answer(of_bytes(262_144))]);
        let mut execution = Execution::start(&machine_of(&states), context(1), of_bytes(262_144));
        assert_eq!(error_of(&execution.run(&script).await), "States.DataLimitExceeded", "{field}");
        assert_eq!(script.calls().is_empty(), field.starts_with("Arguments"), "{field}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_expression_that_fails_outside_of_a_task_ends_the_execution() {
    for state in [
        "{Type: Pass, Output: '{% $absent %}', End: true}",
        "{Type: Pass, Output: {deep: ['{% $absent.field %}']}, End: true}",
        "{Type: Wait, Seconds: '{% $absent.pause_seconds %}', End: true}",
        "{Type: Wait, Seconds: '{% 1.5 %}', End: true}",
        "{Type: Wait, Seconds: '{% -1 %}', End: true}",
        "{Type: Wait, Seconds: 100000000, End: true}",
        "{Type: Wait, Seconds: '{% \"1\" %}', End: true}",
        "{Type: Choice, Choices: [{Condition: '{% $absent > 1 %}', Next: A}], Default: A}",
        "{Type: Choice, Choices: [{Condition: '{% 1 %}', Next: A}], Default: A}",
        "{Type: Fail, Error: '{% $absent %}'}",
        "{Type: Fail, Error: Stuck, Cause: '{% 1 %}'}",
    ] {
        let outcome = run(&format!("\n  A: {state}"), &Script::new([])).await;
        assert_eq!(error_of(&outcome), "States.QueryEvaluationError", "{state}");
    }
}
