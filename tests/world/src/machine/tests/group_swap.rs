//! The state machine of a group swap, from state to state.

use super::deployed::GROUP_SWAP;
use super::*;

const FUNCTION: &str = "arn:aws:lambda:eu-central-1:111122223333:function:cluster-optimizer";

/// Answers each state by its name with the answers of its list in turn; the last is repeated.
struct ScriptedPhases {
    answers: RefCell<BTreeMap<&'static str, VecDeque<TimedAnswer>>>,
    calls: RefCell<Vec<(String, Value)>>,
}

impl ScriptedPhases {
    fn new(answers: impl IntoIterator<Item = (&'static str, Vec<TimedAnswer>)>) -> Self {
        let answers = answers.into_iter().map(|(state, answers)| (state, answers.into()));
        Self { answers: RefCell::new(answers.collect()), calls: RefCell::default() }
    }

    fn states(&self) -> Vec<String> {
        self.calls.borrow().iter().map(|(state, _)| state.clone()).collect()
    }

    /// Returns the last event of a state.
    fn event(&self, state: &str) -> Value {
        self.calls.borrow().iter().rev().find(|(name, _)| name == state).unwrap().1.clone()
    }
}

impl Tasks for ScriptedPhases {
    async fn invoke(
        &self,
        resource: &str,
        state: &str,
        arguments: Value,
        _: u32,
    ) -> Result<Value, TaskFailure> {
        let continues = state == "Continue";
        assert_eq!(resource, if continues { "arn:aws:states:::states:startExecution" } else { FUNCTION });
        self.calls.borrow_mut().push((state.to_owned(), arguments));
        let mut answers = self.answers.borrow_mut();
        let answers = answers.get_mut(state).unwrap_or_else(|| panic!("{state} is not expected"));
        let (_, answer) = answers.pop_front().unwrap();
        if answers.is_empty() {
            answers.push_back((0, answer.clone()));
        }
        answer
    }
}

/// Returns the answer of a phase. `swapped` shows that the work travels.
fn step(next: &str, swapped: &[&str]) -> TimedAnswer {
    let settings = json!({ "launch_ahead": 2 });
    let work = json!({
        "pause_seconds": 15, "settings": settings, "swapped": swapped, "queue": ["i-2", "i-3"], "ahead": ["i-2"],
    });
    answer(json!({ "next": next, "work": work }))
}

fn happy() -> BTreeMap<&'static str, Vec<TimedAnswer>> {
    BTreeMap::from([
        ("Discover", vec![step("NEXT_CANDIDATE", &[])]),
        ("Gate", vec![step("NEXT_CANDIDATE", &[])]),
        ("Launch", vec![step("WAIT", &[]), step("PROCEED", &[])]),
        ("WaitForHealth", vec![step("WAIT", &[]), step("WAIT", &[]), step("PROCEED", &[])]),
        ("Attach", vec![step("PROCEED", &[]), step("PROCEED", &["i-1"])]),
        ("LaunchAhead", vec![step("PROCEED", &["i-1"])]),
        ("WaitForInService", vec![step("PROCEED", &["i-1"])]),
        ("RetireOld", vec![step("PROCEED", &["i-1"])]),
        ("WaitForRetirement", vec![step("PROCEED", &["i-1"])]),
        ("Restore", vec![step("NEXT_CANDIDATE", &["i-1"]), step("REPORT", &["i-1", "i-2"])]),
        ("Report", vec![answer(json!({ "swapped": 2 }))]),
    ])
}

async fn walk(phases: &ScriptedPhases) -> (Outcome, Execution) {
    let substitutions = BTreeMap::from([("ClusterOptimizerFunctionArn", FUNCTION), ("Partition", "aws")]);
    let machine = StateMachine::parse(GROUP_SWAP, &substitutions).unwrap();
    let mut execution = Execution::start(&machine, context(7), json!({ "asg_name": "web" }));
    (execution.run(phases).await, execution)
}

/// Returns the happy path with other answers for some states.
fn phases(others: impl IntoIterator<Item = (&'static str, Vec<TimedAnswer>)>) -> ScriptedPhases {
    let mut answers = happy();
    answers.extend(others);
    ScriptedPhases::new(answers)
}

fn stuck(message: &str) -> TimedAnswer {
    (0, Err(TaskFailure::of_function("Stuck", message)))
}

fn broken() -> TimedAnswer {
    (0, Err(TaskFailure::of_function("Broken", "its words")))
}

#[tokio::test(start_paused = true)]
async fn a_run_swaps_one_candidate_after_another_and_reports() {
    let phases = phases([]);
    let began = Instant::now();
    let (outcome, execution) = walk(&phases).await;
    assert_eq!(outcome, Outcome::Succeeded(json!({ "swapped": 2 })));
    let mut expected =
        vec!["Discover", "Gate", "Launch", "Launch", "WaitForHealth", "WaitForHealth", "WaitForHealth"];
    expected.extend(["Attach", "WaitForInService", "RetireOld", "WaitForRetirement", "Restore"]);
    expected.extend(["Launch", "WaitForHealth", "Attach", "LaunchAhead", "WaitForInService", "RetireOld"]);
    expected.extend(["WaitForRetirement", "Restore", "Report"]);
    assert_eq!(phases.states(), expected);
    assert_eq!(began.elapsed().as_secs(), 3 * 15, "it waits for the pause of the work");
    let start = json!({ "phase": "Discover", "execution": execution.arn(), "input": { "asg_name": "web" } });
    assert_eq!(phases.event("Discover"), start);
    assert_eq!(phases.event("Report")["work"]["swapped"], json!(["i-1", "i-2"]), "the work travels");
}

#[tokio::test(start_paused = true)]
async fn a_long_run_continues_in_another_execution() {
    let report =
        json!({ "swapped": 2, "continuation": { "name": "two", "input": { "asg_name": "web", "left": 3 } } });
    let started = answer(json!({ "ExecutionArn": "arn:two", "StartDate": 1 }));
    let phases =
        phases([("Report", vec![answer(report.clone())]), ("Continue", vec![error("Throttled"), started])]);
    let (outcome, execution) = walk(&phases).await;
    let mut continued = report;
    continued["continued_in"] = json!("arn:two");
    assert_eq!(outcome, Outcome::Succeeded(continued));
    let expected = json!({
        "StateMachineArn": context(1).state_machine_arn,
        "Name": "two",
        "Input": { "asg_name": "web", "left": 3 },
    });
    assert_eq!(phases.event("Continue"), expected);
    assert!(execution.trace().iter().any(|entry| matches!(entry.event, TraceEvent::Retried(_))));
}

#[tokio::test(start_paused = true)]
async fn a_continuation_that_cannot_be_started_leaves_the_report() {
    let report = json!({ "continuation": { "name": "two", "input": {} } });
    let phases = phases([("Report", vec![answer(report.clone())]), ("Continue", vec![error("Denied")])]);
    assert_eq!(walk(&phases).await.0, Outcome::Succeeded(report));
    assert_eq!(phases.states().iter().filter(|state| *state == "Continue").count(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_has_the_words_of_the_function() {
    let refused = (0, Err(TaskFailure::of_function("Refused", "the group has a warm pool")));
    let phases = phases([("Discover", vec![refused])]);
    assert_eq!(walk(&phases).await.0, failed("Refused", "the group has a warm pool"));
    assert_eq!(phases.states(), ["Discover"]);
}

#[tokio::test(start_paused = true)]
async fn a_phase_that_breaks_is_rolled_back_and_the_run_goes_on() {
    let rollback = vec![step("WAIT", &[]), step("REPORT", &[])];
    let phases = phases([("Attach", vec![broken()]), ("Rollback", rollback)]);
    assert_eq!(walk(&phases).await.0, Outcome::Succeeded(json!({ "swapped": 2 })));
    let states = phases.states();
    assert_eq!(states[states.len() - 4..], ["Attach", "Rollback", "Rollback", "Report"]);
    let error = phases.event("Rollback")["error"].clone();
    assert_eq!(error["Error"], json!("Broken"), "the second pass has the error too");
}

#[tokio::test(start_paused = true)]
async fn a_decision_to_undo_is_rolled_back_without_an_error() {
    let phases =
        phases([("WaitForHealth", vec![step("UNDO", &[])]), ("Rollback", vec![step("REPORT", &[])])]);
    assert_eq!(walk(&phases).await.0, Outcome::Succeeded(json!({ "swapped": 2 })));
    assert_eq!(phases.event("Rollback")["error"], json!(null));
}

#[tokio::test(start_paused = true)]
async fn a_lost_lease_is_stuck_at_once() {
    let phases = phases([("RetireOld", vec![stuck("another execution holds the lease")])]);
    assert_eq!(walk(&phases).await.0, failed("Stuck", "another execution holds the lease"));
    assert_eq!(phases.states().last().map(String::as_str), Some("RetireOld"));
}

#[tokio::test(start_paused = true)]
async fn a_rollback_that_breaks_is_stuck() {
    let killed = (
        0,
        Err(TaskFailure::new("Sandbox.Timedout", "RequestId: 1 Error: Task timed out after 60.00 seconds")),
    );
    let phases = phases([("Launch", vec![broken()]), ("Rollback", vec![killed])]);
    let (outcome, execution) = walk(&phases).await;
    assert_eq!(outcome, failed("Stuck", "RequestId: 1 Error: Task timed out after 60.00 seconds"));
    assert_eq!(phases.states().iter().filter(|state| *state == "Rollback").count(), 6, "five retries");
    assert_eq!(execution.variable("next"), Some(&json!("NEXT_CANDIDATE")));
}
