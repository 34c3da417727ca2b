//! The deployed machines with tasks that answer at random.

use std::collections::BTreeSet;
use std::future::pending;

use super::deployed::{FILES, deployed};
use super::*;

/// The calls after which a task answers no more, so that the execution times out.
const CALLS: usize = 150;
const DECISIONS: [&str; 5] = ["PROCEED", "WAIT", "UNDO", "NEXT_CANDIDATE", "REPORT"];
const ERRORS: [&str; 5] = ["Transient", "Stuck", "Refused", "Lambda.Unknown", "Runtime.ExitError"];

/// Answers with a random decision or error. The work has each field that a machine reads.
struct Chance {
    random: RefCell<fastrand::Rng>,
    left: RefCell<usize>,
}

impl Chance {
    fn answer(&self, state: &str) -> Result<Value, TaskFailure> {
        let mut random = self.random.borrow_mut();
        if random.u8(..) < 20 {
            let name = ERRORS[random.usize(..ERRORS.len())];
            return Err(if random.bool() {
                TaskFailure::of_function(name, "its words")
            } else {
                TaskFailure::new(name, "RequestId: 1 Error: Runtime exited")
            });
        }
        let mut ids = || vec!["i-1"; random.usize(..3)];
        let (swapped, queue, ahead) = (ids(), ids(), ids());
        let mut work = json!({
            "pause_seconds": random.u8(1..60), "run": { "swap": { "pause_seconds": 15 } }, "result": null,
            "settings": { "launch_ahead": random.u8(1..4) }, "lab": { "capture": random.bool() },
            "swapped": swapped, "queue": queue, "ahead": ahead,
        });
        if random.bool() {
            work["node"] = json!({ "cluster_name": "prod" });
        }
        // More often than not, the decision that leads on.
        let leads_on = if matches!(state, "Gate" | "Restore") { "NEXT_CANDIDATE" } else { "PROCEED" };
        let next = if random.u8(..) < 180 { leads_on } else { DECISIONS[random.usize(..DECISIONS.len())] };
        let mut answer = json!({ "next": next, "work": work, "refused": random.bool() });
        if random.bool() {
            answer["continuation"] = json!({ "name": "two", "input": {} });
        }
        answer["ExecutionArn"] = json!("arn:two");
        Ok(answer)
    }
}

impl Tasks for Chance {
    async fn invoke(&self, _: &str, state: &str, _: Value, _: u32) -> Result<Value, TaskFailure> {
        sleep(Duration::from_millis(300)).await;
        let Some(left) = self.left.borrow().checked_sub(1) else { return pending().await };
        self.left.replace(left);
        self.answer(state)
    }
}

/// Makes a random walk.
async fn walk(machine: &StateMachine, seed: u64) -> (Outcome, Execution) {
    let random = fastrand::Rng::with_seed(seed);
    let chance = Chance { random: RefCell::new(random), left: RefCell::new(CALLS) };
    let mut execution = Execution::start(machine, context(seed), json!({ "asg_name": "web" }));
    (execution.run(&chance).await, execution)
}

fn report(execution: &Execution) -> String {
    execution.trace().iter().map(|entry| entry.to_string()).collect::<Vec<_>>().join("\n")
}

#[tokio::test(start_paused = true)]
async fn whatever_tasks_answer_no_expression_of_a_deployed_machine_fails() {
    for (file, text) in FILES {
        let machine = deployed(file, text);
        let mut visited = BTreeSet::new();
        for seed in 0..400 {
            let (outcome, execution) = walk(&machine, seed).await;
            let broken = execution.trace().iter().any(
                |entry| matches!(&entry.event, TraceEvent::Failed(failure) if failure.error.starts_with("States.")),
            );
            assert!(!broken, "{file}, seed {seed}, {outcome}:\n{}", report(&execution));
            visited.extend(execution.trace().iter().map(|entry| entry.state.clone()));
        }
        let missed: Vec<_> = machine.states().filter(|state| !visited.contains(*state)).collect();
        assert!(missed.is_empty(), "{file}: no walk visits {missed:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_makes_the_same_run() {
    let machine = deployed(FILES[0].0, FILES[0].1);
    let (first, second) = (walk(&machine, 3).await, walk(&machine, 3).await);
    assert_eq!(first.0, second.0);
    assert_eq!(report(&first.1), report(&second.1));
    assert_ne!(report(&first.1), report(&walk(&machine, 4).await.1));
}
