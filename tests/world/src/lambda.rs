//! Lambda: runs the real handlers, each invocation a task of its own that may die, or live on when nobody waits for it.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use spot_cloud::Stack;
use spot_cloud::environment::BadEnvironment;
use spot_domain::clock;
use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio::time::timeout;

use crate::machine::TaskFailure;

tokio::task_local! {
    static CURRENT: Arc<Invocation>;
}

/// One invocation of a function.
#[derive(Debug)]
pub struct Invocation {
    /// The function, and the phase that it was asked for.
    pub label: String,
    /// The number of the invocation in its history.
    pub number: u32,
    death: Notify,
    given_up: Notify,
    stop: Option<Arc<Notify>>,
}

impl Invocation {
    /// Returns the invocation whose code runs.
    #[must_use]
    pub fn current() -> Option<Arc<Self>> {
        CURRENT.try_with(Arc::clone).ok()
    }

    /// The process ends: nothing of the invocation goes on.
    pub fn dies(&self) {
        self.death.notify_one();
    }

    /// Lambda tells Step Functions that the invocation has failed. It has not.
    pub fn is_given_up(&self) {
        self.given_up.notify_one();
    }

    /// A person stops the execution. The invocation goes on.
    pub fn is_stopped(&self) {
        if let Some(stop) = &self.stop {
            stop.notify_one();
        }
    }
}

/// The functions of the stack.
pub struct Functions {
    cluster_optimizer:
        spot_swap::machine::Phases<spot_swap::work::Work, spot_domain::swap::report::SwapReport>,
    kubernetes_optimizer: kubernetes_optimizer::Tables,
    lab_optimizer: spot_swap::machine::Phases<spot_swap::work::Work, lab_optimizer::LabAnswer>,
    swap_context: spot_swap::Context,
    responses: interruption_responder::Table,
    responder: interruption_responder::Responder,
    reconciler: reconciler::Reconciler,
    panicked: Cell<bool>,
    invocations: Cell<u32>,
    risk_manager: risk_manager::RiskManager,
    group_watcher: group_watcher::GroupWatcher,
}

/// A function by the name of its folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    /// Swaps a group.
    ClusterOptimizer,
    /// Swaps a node, or evacuates one.
    KubernetesOptimizer,
    /// Swaps a stand-alone instance.
    LabOptimizer,
    /// Answers notices.
    InterruptionResponder,
    /// Ends what is left.
    Reconciler,
    /// Poisons pools.
    RiskManager,
    /// Starts the swaps of enrolled groups.
    GroupWatcher,
}

impl Function {
    /// The function's `Timeout` in `template.yaml`.
    fn timeout(self) -> Duration {
        Duration::from_secs(match self {
            Self::RiskManager => 30,
            Self::ClusterOptimizer
            | Self::KubernetesOptimizer
            | Self::LabOptimizer
            | Self::InterruptionResponder => 60,
            Self::Reconciler | Self::GroupWatcher => 300,
        })
    }

    /// The waits before the attempts of an asynchronous invocation: the function's `MaximumRetryAttempts`. Lambda repeats a
    /// failed one after one minute, and once more after two.
    /// <https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html>
    #[must_use]
    pub fn attempts(self) -> &'static [u64] {
        match self {
            Self::InterruptionResponder => &[1, 60],
            _ => &[1, 60, 120],
        }
    }
}

impl Functions {
    /// Starts the functions over one stack.
    ///
    /// # Errors
    /// A variable of the environment is missing.
    pub async fn start(stack: &Stack) -> Result<Rc<Self>, BadEnvironment> {
        Ok(Rc::new(Self {
            cluster_optimizer: cluster_optimizer::phase_table(),
            kubernetes_optimizer: kubernetes_optimizer::Tables::new(),
            lab_optimizer: lab_optimizer::phase_table(),
            swap_context: spot_swap::Context::new(stack.clone()).await?,
            responses: interruption_responder::phase_table(),
            responder: interruption_responder::Responder::new(stack.clone())?,
            reconciler: reconciler::Reconciler::new(stack.clone()).await?,
            panicked: Cell::new(false),
            invocations: Cell::new(0),
            risk_manager: risk_manager::RiskManager::new(stack.clone())?,
            group_watcher: group_watcher::GroupWatcher::new(stack.clone()).await?,
        }))
    }

    /// Returns true once a handler has panicked. Lambda takes it for a death; here it is a defect.
    #[must_use]
    pub fn have_panicked(&self) -> bool {
        self.panicked.get()
    }

    async fn handle(&self, function: Function, event: Value) -> Result<Value, TaskFailure> {
        match function {
            Function::ClusterOptimizer => {
                let answer = self.cluster_optimizer.run_and_tell(&self.swap_context, event).await;
                answered(answer, |error| error.name())
            }
            Function::KubernetesOptimizer => {
                let answer = self.kubernetes_optimizer.run_and_tell(&self.swap_context, event).await;
                answered(answer, |error| error.name())
            }
            Function::LabOptimizer => {
                let answer = self.lab_optimizer.run_and_tell(&self.swap_context, event).await;
                answered(answer, |error| error.name())
            }
            Function::InterruptionResponder => {
                let answer = interruption_responder::handle(&self.responder, &self.responses, event).await;
                answered(answer, |error| error.name())
            }
            Function::Reconciler => answered(self.reconciler.handle(&event).await, |_| "ReconcileError"),
            Function::RiskManager => answered(self.risk_manager.handle(event).await, |error| error.name()),
            Function::GroupWatcher => {
                let deadline = clock::system_time() + function.timeout();
                answered(self.group_watcher.handle(event, deadline).await, |error| error.name())
            }
        }
    }

    /// Invokes a function and waits for its answer. `stop` stops the execution that waits for it.
    ///
    /// # Errors
    /// The function failed, ran into its timeout or died: as Lambda tells Step Functions.
    /// <https://docs.aws.amazon.com/lambda/latest/dg/invocation-retries.html>
    pub async fn invoke(
        self: &Rc<Self>,
        function: Function,
        event: Value,
        stop: Option<Arc<Notify>>,
    ) -> Result<Value, TaskFailure> {
        let phase = event.get("phase").and_then(Value::as_str).unwrap_or("event");
        let label = format!("{function:?} {phase}");
        let number = self.invocations.get();
        self.invocations.set(number + 1);
        let (death, given_up) = (Notify::new(), Notify::new());
        let invocation = Arc::new(Invocation { label, number, death, given_up, stop });
        let (functions, inner) = (Rc::clone(self), Arc::clone(&invocation));
        let mut work = spawn_local(async move {
            let handled = CURRENT.scope(Arc::clone(&inner), functions.handle(function, event));
            tokio::select! {
                handled = timeout(function.timeout(), handled) => handled.unwrap_or_else(|_| Err(timed_out())),
                () = inner.death.notified() => Err(died()),
            }
        });
        tokio::select! {
            done = &mut work => done.unwrap_or_else(|error| {
                if error.is_panic() {
                    self.panicked.set(true);
                }
                Err(died())
            }),
            () = invocation.given_up.notified() => Err(timed_out()),
        }
    }
}

fn answered<A: serde::Serialize, E: std::fmt::Display>(
    answer: Result<A, E>,
    name: impl Fn(&E) -> &str,
) -> Result<Value, TaskFailure> {
    match answer {
        Ok(answer) => serde_json::to_value(answer)
            .map_err(|error| TaskFailure::of_function("Runtime.Unknown", &error.to_string())),
        Err(error) => Err(TaskFailure::of_function(name(&error), &error.to_string())),
    }
}

fn timed_out() -> TaskFailure {
    TaskFailure::of_function("Sandbox.Timedout", "RequestId: 0 Error: Task timed out after 60.00 seconds")
}

fn died() -> TaskFailure {
    TaskFailure::of_function(
        "Runtime.ExitError",
        "RequestId: 0 Error: Runtime exited with error: signal: killed",
    )
}
