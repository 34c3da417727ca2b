//! Retry, Catch and the timeout of a task.

use super::*;

const TASK: &str = "
  A:
    Type: Task
    Resource: arn
    Arguments: {tries: '{% $states.context.State.RetryCount %}'}
";

fn task(rest: &str) -> String {
    format!("{TASK}{rest}\n    End: true")
}

#[tokio::test(start_paused = true)]
async fn the_interval_grows_by_the_backoff_rate() {
    let script = Script::new([error("Busy"), error("Busy"), error("Busy"), answer(json!("done"))]);
    let states =
        task("    Retry: [{ErrorEquals: [Busy], IntervalSeconds: 2, MaxAttempts: 5, BackoffRate: 3}]");
    assert_eq!(run(&states, &script).await, Outcome::Succeeded(json!("done")));
    assert_eq!(script.times(), [0, 2, 8, 26]);
}

#[tokio::test(start_paused = true)]
async fn an_interval_ends_at_max_delay_seconds() {
    let script = Script::new([error("Busy"), error("Busy"), error("Busy"), answer(json!("done"))]);
    run(&task("    Retry: [{ErrorEquals: [Busy], IntervalSeconds: 2, MaxDelaySeconds: 3}]"), &script).await;
    assert_eq!(script.times(), [0, 2, 5, 8]);
}

#[tokio::test(start_paused = true)]
async fn a_retrier_without_numbers_has_those_of_the_states_language() {
    let script = Script::new([error("Busy")]);
    assert_eq!(run(&task("    Retry: [{ErrorEquals: [Busy]}]"), &script).await, failed("Busy", "its cause"));
    assert_eq!(script.times(), [0, 1, 3, 7]);
}

#[tokio::test(start_paused = true)]
async fn full_jitter_waits_between_nothing_and_the_interval() {
    let states = task(
        "    Retry: [{ErrorEquals: [Busy], IntervalSeconds: 100, MaxAttempts: 1, JitterStrategy: FULL}]",
    );
    let mut waits = Vec::new();
    for seed in (0..50).chain([0]) {
        let script = Script::new([error("Busy"), answer(json!(null))]);
        Execution::start(&machine_of(&states), context(seed), json!({})).run(&script).await;
        waits.push(script.times()[1]);
    }
    assert!(waits.iter().all(|wait| *wait < 100), "{waits:?}");
    assert!(waits.iter().any(|wait| *wait < 20) && waits.iter().any(|wait| *wait > 80), "{waits:?}");
    assert_eq!(waits.first(), waits.last(), "the same seed makes the same wait");
}

#[tokio::test(start_paused = true)]
async fn each_retrier_counts_its_own_attempts() {
    let answers = [error("A"), error("B"), error("A"), error("B"), error("A")];
    let script = Script::new(answers);
    let states = task(
        "    Retry: [{ErrorEquals: [A], IntervalSeconds: 1, MaxAttempts: 2}, {ErrorEquals: [B], IntervalSeconds: 10}]",
    );
    assert_eq!(run(&states, &script).await, failed("A", "its cause"));
    assert_eq!(script.times(), [0, 1, 11, 13, 33]);
}

#[tokio::test(start_paused = true)]
async fn a_retrier_that_has_made_its_attempts_hands_over_to_no_other() {
    let script = Script::new([error("A")]);
    let retry =
        "    Retry: [{ErrorEquals: [A], MaxAttempts: 1}, {ErrorEquals: [States.ALL], MaxAttempts: 9}]";
    run(&task(retry), &script).await;
    assert_eq!(script.times(), [0, 1]);
}

#[tokio::test(start_paused = true)]
async fn max_attempts_of_zero_never_retries() {
    let script = Script::new([error("A")]);
    run(&task("    Retry: [{ErrorEquals: [A], MaxAttempts: 0}]"), &script).await;
    assert_eq!(script.times(), [0]);
}

#[tokio::test(start_paused = true)]
async fn a_try_knows_how_many_went_before_it() {
    let script = Script::new([error("A"), error("B"), answer(json!(null))]);
    run(&task("    Retry: [{ErrorEquals: [A]}, {ErrorEquals: [B]}]"), &script).await;
    let tries: Vec<_> =
        script.calls().into_iter().map(|(_, _, arguments, attempt)| (arguments, attempt)).collect();
    assert_eq!(tries, [0, 1, 2].map(|tries| (json!({ "tries": tries }), tries)));
}

#[tokio::test(start_paused = true)]
async fn leaving_the_state_resets_the_attempts() {
    let states = "
  A:
    Type: Task
    Resource: arn
    Retry: [{ErrorEquals: [Busy], IntervalSeconds: 1, MaxAttempts: 1}]
    Next: B
  B:
    Type: Choice
    Choices: [{Condition: '{% $states.input = 2 %}', Next: C}]
    Default: A
  C: {Type: Succeed}";
    let script = Script::new([error("Busy"), answer(json!(1)), error("Busy"), answer(json!(2))]);
    assert_eq!(run(states, &script).await, Outcome::Succeeded(json!(2)));
    assert_eq!(script.calls().into_iter().map(|call| call.3).collect::<Vec<_>>(), [0, 1, 0, 1]);
}

/// Returns which of the wildcards caught the error, if one did.
async fn caught_by(error: TaskFailure) -> Outcome {
    let states = "
  A:
    Type: Task
    Resource: arn
    Catch:
      - {ErrorEquals: [Named], Next: ByName}
      - {ErrorEquals: [States.TaskFailed], Next: AsFailed}
      - {ErrorEquals: [States.ALL], Next: AsAll}
    End: true
  ByName: {Type: Pass, Output: name, End: true}
  AsFailed: {Type: Pass, Output: failed, End: true}
  AsAll: {Type: Pass, Output: all, End: true}";
    run(states, &Script::new([(0, Err(error))])).await
}

#[tokio::test(start_paused = true)]
async fn the_first_catcher_that_takes_the_error_decides() {
    for (error, catcher) in [
        ("Named", "name"),
        ("Other", "failed"),
        ("Lambda.Unknown", "failed"),
        ("States.QueryEvaluationError", "failed"),
        ("States.Timeout", "all"),
    ] {
        let outcome = caught_by(TaskFailure::new(error, "")).await;
        assert_eq!(outcome, Outcome::Succeeded(json!(catcher)), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_wildcard_takes_a_terminal_error() {
    for error in ["States.DataLimitExceeded", "States.Runtime"] {
        assert_eq!(caught_by(TaskFailure::new(error, "it")).await, failed(error, "it"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_catcher_sees_the_error_and_its_output_is_the_error() {
    let states = "
  A:
    Type: Task
    Resource: arn
    Catch: [{ErrorEquals: [States.ALL], Assign: {error: '{% $states.errorOutput %}'}, Next: B}]
    End: true
  B: {Type: Pass, Output: {passed: '{% $states.input %}', kept: '{% $error.Cause %}'}, End: true}";
    let failure = TaskFailure::of_function("Stuck", "its words");
    let cause = json!({ "errorType": "Stuck", "errorMessage": "its words" }).to_string();
    let expected = json!({ "passed": { "Error": "Stuck", "Cause": cause }, "kept": cause });
    assert_eq!(run(states, &Script::new([(0, Err(failure))])).await, Outcome::Succeeded(expected));
}

#[tokio::test(start_paused = true)]
async fn a_task_times_out_after_its_seconds_and_may_be_retried() {
    let script = Script::new([(60, Ok(json!("late"))), (5, Ok(json!("in time")))]);
    let states = task("    TimeoutSeconds: 10\n    Retry: [{ErrorEquals: [States.Timeout]}]");
    assert_eq!(run(&states, &script).await, Outcome::Succeeded(json!("in time")));
    assert_eq!(script.times(), [0, 11]);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_has_a_name_and_no_cause() {
    let script = Script::new([(60, Ok(json!("late")))]);
    let outcome = run(&task("    TimeoutSeconds: 10"), &script).await;
    assert_eq!(outcome, Outcome::Failed { error: Some("States.Timeout".to_owned()), cause: None });
}

#[tokio::test(start_paused = true)]
async fn an_expression_of_a_task_that_fails_can_be_caught() {
    for field in
        ["Arguments: '{% $absent %}'", "Assign: {a: '{% 1 + \"a\" %}'}", "Output: '{% $states.result.b %}'"]
    {
        let states = format!(
            "
  A:
    Type: Task
    Resource: arn
    {field}
    Catch: [{{ErrorEquals: [States.QueryEvaluationError], Next: B}}]
    End: true
  B: {{Type: Pass, Output: caught, End: true}}"
        );
        let outcome = run(&states, &Script::new([answer(json!({ "a": 1 }))])).await;
        assert_eq!(outcome, Outcome::Succeeded(json!("caught")), "{field}");
    }
}
