//! The visits of an execution to its states.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::{Execution, Outcome};
use crate::machine::definition::{Catcher, ChoiceState, FailState, MachineState, TaskState, names};
use crate::machine::history::TraceEvent;
use crate::machine::jsonata::Bindings;
use crate::machine::limits::{assigned_within_limit, within_limit};
use crate::machine::retry::{Retries, catcher};
use crate::machine::template::{Assign, Template, evaluate_all};
use crate::machine::{TaskFailure, Tasks};

/// A way out of a state.
enum Exit {
    Next(String, Value),
    End(Value),
}

/// The variables that a state assigns, and its output.
type Left = (BTreeMap<String, Value>, Value);

impl Execution {
    /// Visits one state after another.
    pub(super) async fn walk(&mut self, tasks: &impl Tasks) -> Outcome {
        let machine = self.machine.clone();
        loop {
            let Some(state) = machine.definition.states.get(&self.state) else {
                return Outcome::of(TaskFailure::new(names::RUNTIME, format!("{} is no state", self.state)));
            };
            match self.visit(state, tasks).await {
                Ok(Exit::Next(next, output)) => (self.state, self.input) = (next, output),
                Ok(Exit::End(output)) => return Outcome::Succeeded(output),
                Err(outcome) => return outcome,
            }
        }
    }

    async fn visit(&mut self, state: &MachineState, tasks: &impl Tasks) -> Result<Exit, Outcome> {
        self.enter().map_err(Outcome::of)?;
        let exit = match state {
            MachineState::Task(task) => self.task(task, tasks).await,
            MachineState::Choice(choice) => self.choose(choice),
            MachineState::Wait(wait) => match wait.seconds.seconds(&self.bindings()) {
                Ok(seconds) => {
                    sleep(Duration::from_secs(seconds)).await;
                    self.pass(&wait.assign, wait.output.as_ref(), wait.next.as_deref())
                }
                Err(failure) => Err(failure),
            },
            MachineState::Pass(pass) => self.pass(&pass.assign, pass.output.as_ref(), pass.next.as_deref()),
            MachineState::Succeed(succeed) => self.pass(&Assign::new(), succeed.output.as_ref(), None),
            MachineState::Fail(fail) => return Err(self.fail(fail)),
        };
        let exit = exit.and_then(|exit| self.history.record(1).map(|()| exit));
        exit.map_err(|failure| {
            self.note_failure(&failure);
            Outcome::of(failure)
        })
    }

    fn enter(&mut self) -> Result<(), TaskFailure> {
        self.history.record(1)?;
        self.history.transitions += 1;
        self.context_object["State"] = self.context.state(&self.state);
        self.note(TraceEvent::Entered);
        Ok(())
    }

    /// Attempts a task until it succeeds, or until no retrier takes its error.
    async fn task(&mut self, task: &TaskState, tasks: &impl Tasks) -> Result<Exit, TaskFailure> {
        let mut retries = Retries::new(&task.retry, self.context.data_limit);
        loop {
            let failure = match self.attempt(task, tasks, retries.total()).await {
                Ok(exit) => return Ok(exit),
                Err(failure) => failure,
            };
            let Some(after) = retries.after(&failure, &mut self.context.random) else {
                return match catcher(&task.catch, &failure, self.context.data_limit) {
                    Some(catcher) => self.caught(catcher, &failure),
                    None => Err(failure),
                };
            };
            self.note_failure(&failure);
            self.note(TraceEvent::Retried(after));
            sleep(after).await;
            self.history.transitions += 1;
        }
    }

    async fn attempt(
        &mut self,
        task: &TaskState,
        tasks: &impl Tasks,
        retries: u32,
    ) -> Result<Exit, TaskFailure> {
        self.context_object["State"]["RetryCount"] = Value::from(retries);
        let bindings = self.bindings();
        let arguments = task.arguments.as_ref().map_or(Ok(self.input.clone()), |a| a.evaluate(&bindings))?;
        let limit = task.timeout_seconds.as_ref().map(|seconds| seconds.seconds(&bindings)).transpose()?;
        within_limit(self.context.payload_bytes, &arguments, "the input of the task")?;
        self.history.record(2)?;
        let invocation = tasks.invoke(&task.resource, &self.state, arguments, retries);
        let result = match limit {
            None => invocation.await,
            Some(seconds) => timeout(Duration::from_secs(seconds), invocation)
                .await // AWS gives this error no cause.
                .unwrap_or_else(|_| Err(TaskFailure::new(names::TIMEOUT, ""))),
        };
        self.history.record(1)?;
        let result = result?;
        within_limit(self.context.payload_bytes, &result, "the result of the task")?;
        let bindings = Bindings { result: Some(&result), ..self.bindings() };
        let left = self.leave(&task.assign, task.output.as_ref(), &result, &bindings)?;
        Ok(self.exit(left, task.next.as_deref()))
    }

    fn caught(&mut self, catcher: &Catcher, failure: &TaskFailure) -> Result<Exit, TaskFailure> {
        self.note_failure(failure);
        let error = json!({ "Error": failure.error, "Cause": failure.cause });
        let bindings = Bindings { error_output: Some(&error), ..self.bindings() };
        let left = self.leave(&catcher.assign, catcher.output.as_ref(), &error, &bindings)?;
        self.note(TraceEvent::Caught { next: catcher.next.clone() });
        Ok(self.exit(left, Some(&catcher.next)))
    }

    /// Takes the first rule whose condition holds. No rule of a Choice catches an error.
    fn choose(&mut self, choice: &ChoiceState) -> Result<Exit, TaskFailure> {
        let bindings = self.bindings();
        for rule in &choice.choices {
            if rule.condition.condition(&bindings)? {
                return self.pass(&rule.assign, rule.output.as_ref(), Some(&rule.next));
            }
        }
        let Some(default) = &choice.default else {
            return Err(TaskFailure::new(
                names::NO_CHOICE_MATCHED,
                "no rule matches, and there is no Default",
            ));
        };
        self.pass(&choice.assign, choice.output.as_ref(), Some(default))
    }

    /// Leaves a state whose result is its input.
    fn pass(
        &mut self,
        assign: &Assign,
        output: Option<&Template>,
        next: Option<&str>,
    ) -> Result<Exit, TaskFailure> {
        let left = self.leave(assign, output, &self.input, &self.bindings())?;
        Ok(self.exit(left, next))
    }

    fn exit(&mut self, (assigned, output): Left, next: Option<&str>) -> Exit {
        self.variables.extend(assigned);
        match next {
            Some(next) => Exit::Next(next.to_owned(), output),
            None => Exit::End(output),
        }
    }

    /// Returns the outcome of a Fail state. An expression in it that fails is the error instead.
    fn fail(&mut self, fail: &FailState) -> Outcome {
        let bindings = self.bindings();
        let text = |template: &Option<Template>| template.as_ref().map(|t| t.text(&bindings)).transpose();
        match text(&fail.error).and_then(|error| Ok((error, text(&fail.cause)?))) {
            Ok((error, cause)) => Outcome::Failed { error, cause },
            Err(failure) => {
                self.note_failure(&failure);
                Outcome::of(failure)
            }
        }
    }

    fn bindings(&self) -> Bindings<'_> {
        Bindings {
            input: &self.input,
            result: None,
            error_output: None,
            context: &self.context_object,
            variables: &self.variables,
        }
    }

    /// Returns what a state assigns, and its output. Both see the variables as they were before
    /// (<https://docs.aws.amazon.com/step-functions/latest/dg/workflow-variables.html>).
    fn leave(
        &self,
        assign: &Assign,
        output: Option<&Template>,
        result: &Value,
        bindings: &Bindings<'_>,
    ) -> Result<Left, TaskFailure> {
        let assigned = evaluate_all(assign, bindings)?;
        let output = output.map_or_else(|| Ok(result.clone()), |output| output.evaluate(bindings))?;
        assigned_within_limit(self.context.payload_bytes, &assigned)?;
        within_limit(self.context.payload_bytes, &output, "the output of the state")?;
        Ok((assigned, output))
    }
}
