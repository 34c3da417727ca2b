//! How executions end, what they count, and how they are redriven.

use super::*;

const CAUGHT: &str = "
  A:
    Type: Task
    Resource: arn
    Assign: {first: '{% $states.result %}'}
    Next: B
  B:
    Type: Task
    Resource: arn
    Retry: [{ErrorEquals: [Busy], IntervalSeconds: 1, MaxAttempts: 1}]
    Catch: [{ErrorEquals: [Stuck], Next: C}]
    Output: ['{% $first %}', '{% $states.result %}', '{% $states.context.Execution.RedriveCount %}']
    End: true
  C: {Type: Fail, Error: Stuck, Cause: '{% $states.input.Cause %}'}";

#[tokio::test(start_paused = true)]
async fn a_fail_state_fails_with_its_error_and_cause() {
    let script = Script::new([answer(json!(1)), error("Stuck")]);
    assert_eq!(run(CAUGHT, &script).await, failed("Stuck", "its cause"));
    let nameless = run("\n  A: {Type: Fail}", &script).await;
    assert_eq!(nameless, Outcome::Failed { error: None, cause: None });
}

#[tokio::test(start_paused = true)]
async fn a_choice_without_a_rule_that_matches_fails() {
    let states = "\n  A: {Type: Choice, Choices: [{Condition: '{% false %}', Next: A}]}";
    assert_eq!(error_of(&run(states, &Script::new([])).await), "States.NoChoiceMatched");
}

#[tokio::test(start_paused = true)]
async fn an_execution_times_out_in_a_wait_and_in_a_task() {
    let wait = "\n  A: {Type: Wait, Seconds: 3601, End: true}";
    let task = "
  A: {Type: Task, Resource: arn, Catch: [{ErrorEquals: [States.ALL], Next: B}], End: true}
  B: {Type: Succeed}";
    for states in [wait, task] {
        let script = Script::new([(3601, Ok(json!(1)))]);
        let began = Instant::now();
        assert_eq!(run(states, &script).await, Outcome::TimedOut);
        assert_eq!(began.elapsed().as_secs(), 3600);
    }
}

#[tokio::test(start_paused = true)]
async fn a_timeout_that_was_given_counts_from_the_start_and_from_a_redrive() {
    let machine = machine_of("\n  A: {Type: Wait, Seconds: 100, End: true}").timing_out_after(60);
    let mut execution = Execution::start(&machine, context(1), json!({}));
    let (began, script) = (Instant::now(), Script::new([]));
    assert_eq!(execution.run(&script).await, Outcome::TimedOut);
    execution.redrive().unwrap();
    assert_eq!(execution.run(&script).await, Outcome::TimedOut);
    assert_eq!(began.elapsed().as_secs(), 120);
}

/// Drops a run after so many seconds.
async fn run_for(execution: &mut Execution, script: &Script, seconds: u64) {
    tokio::select! {
        biased;
        () = sleep(Duration::from_secs(seconds)) => {}
        outcome = execution.run(script) => panic!("{outcome}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_run_is_an_aborted_execution_without_a_catch() {
    let script = Script::new([answer(json!(1)), (100, Err(TaskFailure::new("Stuck", "")))]);
    let mut execution = start(CAUGHT);
    run_for(&mut execution, &script, 50).await;
    sleep(Duration::from_secs(100)).await;
    assert_eq!(execution.outcome(), Some(&Outcome::Aborted));
    assert_eq!(execution.run(&script).await, Outcome::Aborted, "it has ended");
    assert_eq!(script.calls().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_stopped_execution_does_not_run() {
    let script = Script::new([answer(json!(1))]);
    let mut execution = start(CAUGHT);
    execution.stop();
    assert_eq!(execution.run(&script).await, Outcome::Aborted);
    assert!(script.calls().is_empty());
    let mut done = start("\n  A: {Type: Succeed}");
    let outcome = done.run(&script).await;
    done.stop();
    assert_eq!(done.outcome(), Some(&outcome), "what has ended stays as it is");
}

#[tokio::test(start_paused = true)]
async fn a_redrive_continues_in_the_state_that_failed() {
    let script =
        Script::new([answer(json!(1)), error("Busy"), error("Busy"), error("Busy"), answer(json!(2))]);
    let mut execution = start(CAUGHT);
    assert_eq!(execution.run(&script).await, failed("Busy", "its cause"));
    execution.redrive().unwrap();
    assert_eq!(execution.run(&script).await, Outcome::Succeeded(json!([1, 2, 1])));
    let visits: Vec<_> = script.calls().into_iter().map(|(_, state, _, attempt)| (state, attempt)).collect();
    let expected = [("A", 0), ("B", 0), ("B", 1), ("B", 0), ("B", 1)];
    assert_eq!(visits, expected.map(|(state, attempt)| (state.to_owned(), attempt)), "retries count afresh");
    assert_eq!(execution.redrive(), Err(NotRedrivable::Succeeded));
}

#[tokio::test(start_paused = true)]
async fn a_redrive_of_a_fail_state_fails_again() {
    let script = Script::new([answer(json!(1)), error("Stuck"), answer(json!(2))]);
    let mut execution = start(CAUGHT);
    let outcome = execution.run(&script).await;
    execution.redrive().unwrap();
    assert_eq!(execution.run(&script).await, outcome);
    assert_eq!(script.calls().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_redrive_waits_in_full_and_resets_the_timeout() {
    let states = "\n  A: {Type: Wait, Seconds: 3599, End: true}";
    let script = Script::new([]);
    let mut execution = start(states);
    run_for(&mut execution, &script, 3000).await;
    execution.redrive().unwrap();
    let again = Instant::now();
    assert!(matches!(execution.run(&script).await, Outcome::Succeeded(_)));
    assert_eq!(again.elapsed().as_secs(), 3599);
}

#[tokio::test(start_paused = true)]
async fn what_runs_or_ended_long_ago_is_not_redriven() {
    let script = Script::new([error("Stuck")]);
    let mut execution = start("\n  A: {Type: Task, Resource: arn, End: true}");
    assert_eq!(execution.redrive(), Err(NotRedrivable::Running));
    execution.run(&script).await;
    sleep(Duration::from_hours(14 * 24)).await;
    execution.redrive().unwrap();
    execution.run(&script).await;
    sleep(Duration::from_hours(14 * 24) + Duration::from_secs(1)).await;
    assert_eq!(execution.redrive(), Err(NotRedrivable::Period));
}

/// Returns the events and the transitions of an execution.
async fn counts(states: &str, script: &Script) -> (u32, u32) {
    let mut execution = start(states);
    execution.run(script).await;
    (execution.events(), execution.transitions())
}

#[tokio::test(start_paused = true)]
async fn events_and_transitions_are_counted_as_step_functions_does() {
    let two = |first: &str| format!("\n  A: {first}\n  B: {{Type: Succeed}}");
    let task = "Type: Task, Resource: arn, Retry: [{ErrorEquals: [Busy]}]";
    for (first, answers, expected) in [
        ("{Type: Pass, Next: B}".to_owned(), vec![], (6, 2)),
        ("{Type: Wait, Seconds: 1, Next: B}".to_owned(), vec![], (6, 2)),
        ("{Type: Choice, Choices: [{Condition: '{% true %}', Next: B}]}".to_owned(), vec![], (6, 2)),
        (format!("{{{task}, Next: B}}"), vec![answer(json!(1))], (9, 2)),
        (format!("{{{task}, Next: B}}"), vec![error("Busy"), answer(json!(1))], (12, 3)),
        (format!("{{{task}, Catch: [{{ErrorEquals: [A], Next: B}}], End: true}}"), vec![error("A")], (9, 2)),
        (format!("{{{task}, Next: B}}"), vec![error("A")], (6, 1)),
        (format!("{{{task}, Arguments: '{{% $absent %}}', Next: B}}"), vec![], (4, 1)),
    ] {
        assert_eq!(counts(&two(&first), &Script::new(answers)).await, expected, "{first}");
    }
    let fail = "\n  A: {Type: Fail}";
    assert_eq!(counts(fail, &Script::new([])).await, (3, 1));
    let late = "\n  A: {Type: Wait, Seconds: 3601, End: true}";
    assert_eq!(counts(late, &Script::new([])).await, (3, 1));
}

#[tokio::test(start_paused = true)]
async fn an_aborted_execution_counts_its_end_once() {
    let mut execution = start("\n  A: {Type: Task, Resource: arn, End: true}");
    let script = Script::new([(100, Ok(json!(1)))]);
    run_for(&mut execution, &script, 50).await;
    assert_eq!(execution.events(), 5);
    execution.stop();
    assert_eq!(execution.events(), 5);
    execution.redrive().unwrap();
    assert_eq!(execution.events(), 6);
    execution.run(&script).await;
    assert_eq!(execution.events(), 12);
}

#[tokio::test(start_paused = true)]
async fn an_execution_fails_at_25_000_events_without_a_catch() {
    let states = "
  A:
    Type: Task
    Resource: arn
    Retry: [{ErrorEquals: [States.ALL]}]
    Catch: [{ErrorEquals: [States.ALL], Next: B}]
    Next: A
  B: {Type: Succeed}";
    let mut execution = start(states);
    let script = Script::new([answer(json!(1))]);
    let outcome = execution.run(&script).await;
    let cause = "The execution reached the maximum number of history events (25000).";
    assert_eq!(outcome, failed("States.Runtime", cause));
    assert_eq!((execution.events(), script.calls().len()), (25_000, 5000));
    assert_eq!(execution.redrive(), Err(NotRedrivable::EventQuota));
}

/// Passes so many Choices on the way to a Succeed. After the first one comes a task, if `first` is the name of the group.
async fn run_choices(first: &str, choices: u32) -> (Outcome, u32) {
    let states = format!(
        "
  A:
    Type: Choice
    Choices: [{{Condition: '{{% $states.input.asg_name = \"{first}\" %}}', Output: 1, Next: T}}]
    Output: 1
    Default: B
  T: {{Type: Task, Resource: arn, Next: B}}
  B:
    Type: Choice
    Choices: [{{Condition: '{{% $states.input = {} %}}', Next: C}}]
    Output: '{{% $states.input + 1 %}}'
    Default: B
  C: {{Type: Succeed}}",
        choices - 1
    );
    let mut execution = start(&states);
    let outcome = execution.run(&Script::new([answer(json!(1))])).await;
    (outcome, execution.events())
}

#[tokio::test(start_paused = true)]
async fn the_end_may_be_the_last_event_of_the_quota() {
    assert!(matches!(run_choices("none", 12_498).await, (Outcome::Succeeded(_), 25_000)));
    assert!(matches!(run_choices("web", 12_495).await, (Outcome::Succeeded(_), 24_999)));
    let (outcome, events) = run_choices("web", 12_496).await;
    assert_eq!((error_of(&outcome), events), ("States.Runtime", 25_000));
}

#[tokio::test(start_paused = true)]
async fn the_trace_reads_as_a_report() {
    let script = Script::new([answer(json!(1)), error("Busy"), error("Stuck")]);
    let mut execution = start(CAUGHT);
    execution.run(&script).await;
    let lines: Vec<_> = execution.trace().iter().map(|entry| entry.to_string()).collect();
    let expected = [
        "       0.000 s  A: entered",
        "       0.000 s  B: entered",
        "       0.000 s  B: failed: Busy: its cause",
        "       0.000 s  B: retried after 1.000 s",
        "       1.000 s  B: failed: Stuck: its cause",
        "       1.000 s  B: caught, next is C",
        "       1.000 s  C: entered",
        "       1.000 s  C: the execution ended: failed: Stuck: its cause",
    ];
    assert_eq!(lines, expected);
}

/// Answers at once. Unlike a script, it may cross threads.
struct Echo;

impl Tasks for Echo {
    async fn invoke(&self, _: &str, _: &str, arguments: Value, _: u32) -> Result<Value, TaskFailure> {
        Ok(arguments)
    }
}

#[tokio::test(start_paused = true)]
async fn an_execution_can_be_spawned_if_its_tasks_can() {
    let mut execution = start("\n  A: {Type: Task, Resource: arn, End: true}");
    let spawned = tokio::spawn(async move { execution.run(&Echo).await });
    assert_eq!(spawned.await.unwrap(), Outcome::Succeeded(json!({ "asg_name": "web" })));
}
