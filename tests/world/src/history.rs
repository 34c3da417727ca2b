//! One history: the deployed state machines and the real handlers over a world, until everything is at rest.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use spot_cloud::{Stack, environment};
use tokio::runtime::Builder;
use tokio::sync::Notify;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Instant, sleep, sleep_until};

use crate::acts::Act;
use crate::arrival::Arrival;
use crate::cluster::ApiServer;
use crate::event_bridge::{Delivery, Wakes};
use crate::executions::status;
use crate::fault::{Plan, Stop};
use crate::lambda::{Function, Functions};
use crate::machine::{DataLimit, Execution, ExecutionContext, Outcome, PAYLOAD_BYTES, TaskFailure};
use crate::scene::{ACCOUNT, REGION, Scene};
use crate::transport::Network;
use crate::virtual_time::{self, BEGIN, now};
use crate::world::World;

mod deployed;

use deployed::{MACHINES, Machines, StackTasks};

/// The time between two looks of AWS's own processes.
const TICK: Duration = Duration::from_secs(2);
/// The reconciler's schedule.
const EVERY_FIVE_MINUTES: Duration = Duration::from_mins(5);
/// A person who was told has mended by then what is missing: from there, everything comes to rest by itself.
const MENDED_AFTER: Duration = Duration::from_hours(4);
/// A history that has not come to rest by then never does.
const LONGEST: Duration = Duration::from_hours(12);
/// Nothing has happened for so long: everything is at rest.
const QUIET: Duration = Duration::from_mins(10);
/// The group watcher's schedule.
const EVERY_QUARTER: Duration = Duration::from_mins(15);
/// The same where the group watcher runs: a sweep, and its repetition, have noted what has ended.
const QUIET_BETWEEN_SWEEPS: Duration = Duration::from_mins(20);
/// Nothing has happened for so long: AWS's own processes are looked at seldom.
const CALM: Duration = Duration::from_mins(3);
const CALM_TICK: Duration = Duration::from_secs(10);
/// The time between two looks at a group that is to be on Spot.
const SETTLED: Duration = Duration::from_secs(30);

/// What a history has come to.
#[derive(Debug)]
pub struct Ended {
    /// The world at rest.
    pub world: World,
    /// How each execution ended, by name.
    pub executions: BTreeMap<String, Outcome>,
    /// State transitions and history events of all executions.
    pub transitions: u32,
    /// The inputs of the functions, if the scene keeps them.
    pub arrivals: Vec<Arrival>,
}

/// A history in which a promise was broken.
#[derive(Debug, thiserror::Error)]
#[error("{promise}\n{chronicle}")]
pub struct Broken {
    /// The promise.
    pub promise: String,
    /// What happened until then.
    pub chronicle: String,
}

/// Plays a scene with these faults. The same seed plays the same history.
///
/// # Errors
/// A promise was broken.
pub fn play(scene: &Scene, plan: Plan, seed: u64) -> Result<Ended, Broken> {
    fastrand::seed(seed);
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.map_err(|error| broken(&error.to_string(), ""))?;
    LocalSet::new().block_on(&runtime, History::run(scene, plan, seed))
}

fn broken(promise: &str, chronicle: &str) -> Broken {
    Broken { promise: promise.to_owned(), chronicle: chronicle.to_owned() }
}

/// What the tasks of a history share.
struct History {
    network: Network,
    functions: Rc<Functions>,
    machines: &'static Machines,
    seed: u64,
    data_limit: DataLimit,
    payload_bytes: usize,
    machine_timeout: Option<u64>,
    wakes: Wakes,
    began: Instant,
    /// Others act until then.
    acts_until: Instant,
    is_watched: bool,
    /// A person stops the executions that run.
    stopped: Notify,
    /// A person redrives those that have ended without success.
    redriven: Notify,
    transitions: std::cell::Cell<u32>,
    /// The inputs of the functions so far, if they are kept.
    arrivals: Option<RefCell<Vec<Arrival>>>,
}

impl History {
    async fn run(scene: &Scene, plan: Plan, seed: u64) -> Result<Ended, Broken> {
        virtual_time::begin();
        environment::replace(scene.environment());
        let stop = plan.stop();
        let acts = scene.acts.iter().map(|(at, _)| *at).chain(stop.map(Stop::is_over_at));
        let last_act = acts.max().unwrap_or_default();
        let network = Network::around(scene.world(plan));
        let stack = Stack::over(network.sdk_config(REGION)).map_err(|e| broken(&e.to_string(), ""))?;
        ApiServer::stands_in(&network, REGION);
        let history = Rc::new(Self {
            functions: Functions::start(&stack).await.map_err(|e| broken(&e.to_string(), ""))?,
            network,
            machines: MACHINES.as_ref().map_err(|problem| broken(problem, ""))?,
            seed,
            data_limit: scene.data_limit,
            payload_bytes: scene.payload_bytes.unwrap_or(PAYLOAD_BYTES),
            machine_timeout: scene.machine_timeout,
            wakes: scene.wakes.clone(),
            began: Instant::now(),
            acts_until: Instant::now() + Duration::from_secs(last_act),
            is_watched: scene.watched_from.is_some(),
            stopped: Notify::new(),
            redriven: Notify::new(),
            transitions: std::cell::Cell::new(0),
            arrivals: scene.keeps_arrivals.then(RefCell::default),
        });
        for (machine, name, input) in scene.starts() {
            let _ = history.network.world().executions.start(machine, &name, input, now());
        }
        spawn_local(Rc::clone(&history).reconciles_on_schedule());
        spawn_local(Rc::clone(&history).plays(scene.acts.clone()));
        if let Some(stop) = stop {
            spawn_local(Rc::clone(&history).stops_and_redrives(stop));
        }
        spawn_local(Rc::clone(&history).plays_once_on_spot(scene.once_on_spot.clone()));
        if let Some(first) = scene.watched_from {
            spawn_local(Rc::clone(&history).sweeps_on_schedule(first));
        }
        scene.begin(&history.network);
        history.comes_to_rest().await?;
        Ok(history.end())
    }

    /// Everything that AWS does by itself, tick by tick, until nothing happens any more.
    async fn comes_to_rest(self: &Rc<Self>) -> Result<(), Broken> {
        let mut random = fastrand::Rng::with_seed(self.seed);
        let (mut busy_until, mut has_mended) = (Instant::now(), false);
        loop {
            self.starts_executions();
            self.delivers();
            let is_calm = self.is_watched && busy_until.elapsed() > CALM;
            sleep(if is_calm { CALM_TICK } else { TICK }).await;
            let mut world = self.network.world();
            world.passes();
            let has_acted = world.groups_act(&mut random);
            world.announces_launches();
            world.remembers();
            if self.functions.have_panicked() {
                world.oracles.is_not_played("a handler has panicked");
            }
            if let Some(promise) = world.oracles.broken.clone() {
                return Err(broken(&promise, &world.chronicle.to_string()));
            }
            if world.is_busy() || has_acted || Instant::now() < self.acts_until {
                busy_until = Instant::now();
            }
            let quiet = if self.is_watched { QUIET_BETWEEN_SWEEPS } else { QUIET };
            if busy_until.elapsed() > quiet {
                world.rests();
                return match world.oracles.broken.clone() {
                    Some(promise) => Err(broken(&promise, &world.chronicle.to_string())),
                    None => Ok(()),
                };
            }
            if !has_mended && self.began.elapsed() > MENDED_AFTER && world.is_a_person_told() {
                world.a_person_mends();
                has_mended = true;
            }
            if self.began.elapsed() > LONGEST && world.is_left_to_a_person() {
                return Ok(());
            }
            if self.began.elapsed() > LONGEST + QUIET {
                return Err(broken("it never comes to rest", &world.chronicle.to_string()));
            }
        }
    }

    fn starts_executions(self: &Rc<Self>) {
        let to_run = std::mem::take(&mut self.network.world().executions.to_run);
        for arn in to_run {
            spawn_local(Rc::clone(self).executes(arn));
        }
    }

    /// EventBridge delivers what it has.
    fn delivers(self: &Rc<Self>) {
        let mut world = self.network.world();
        let to_deliver = std::mem::take(&mut world.event_bridge.to_deliver);
        world.event_bridge.under_way += to_deliver.len();
        for delivery in to_deliver {
            spawn_local(Rc::clone(self).carries(delivery));
        }
    }

    async fn carries(self: Rc<Self>, Delivery { to, event, after }: Delivery) {
        sleep(after).await;
        let is_handled = self.is_told(to, event.clone()).await;
        let mut world = self.network.world();
        world.event_bridge.under_way -= 1;
        if to == Function::RiskManager {
            world.notice_is_over(&event, is_handled);
        }
        if !is_handled {
            world.event_bridge.dead_letters.push(event);
        }
    }

    /// Each act takes place once the group has been on Spot for a moment.
    async fn plays_once_on_spot(self: Rc<Self>, acts: Vec<Act>) {
        for act in acts {
            let mut looks = 0;
            while looks < 2 {
                sleep(SETTLED).await;
                looks = if self.network.world().is_settled_on_spot() { looks + 1 } else { 0 };
            }
            let mut world = self.network.world();
            world.befalls(act);
            world.acts_to_come -= 1;
        }
    }

    async fn sweeps_on_schedule(self: Rc<Self>, first: u64) {
        sleep(Duration::from_secs(first)).await;
        loop {
            let this = Rc::clone(&self);
            spawn_local(async move { this.is_told(Function::GroupWatcher, json!({})).await });
            sleep(EVERY_QUARTER).await;
        }
    }

    async fn plays(self: Rc<Self>, mut acts: Vec<(u64, Act)>) {
        acts.sort_by_key(|(at, _)| *at);
        for (at, act) in acts {
            sleep_until(self.began + Duration::from_secs(at)).await;
            self.network.world().befalls(act);
        }
    }

    async fn executes(self: Rc<Self>, arn: String) {
        let Some(record) = self.network.world().executions.get(&arn).cloned() else { return };
        let Some(machine) = self.machines.get(record.state_machine_arn.as_str()) else { return };
        let context = ExecutionContext {
            execution_arn: arn.clone(),
            name: record.name.clone(),
            state_machine_name: record.state_machine_arn.rsplit(':').next().unwrap_or_default().to_owned(),
            state_machine_arn: record.state_machine_arn.clone(),
            role_arn: format!("arn:aws:iam::{ACCOUNT}:role/machine"),
            origin: self.began,
            epoch: BEGIN,
            data_limit: self.data_limit,
            payload_bytes: self.payload_bytes,
            random: fastrand::Rng::with_seed(self.seed ^ 0x5eed),
        };
        let shortened = self.machine_timeout.map(|seconds| machine.timing_out_after(seconds));
        let mut execution = Execution::start(shortened.as_ref().unwrap_or(machine), context, record.input);
        loop {
            self.runs(&mut execution, &record.name).await;
            self.redriven.notified().await;
            if execution.redrive().is_err() {
                return;
            }
            let mut world = self.network.world();
            world.chronicle.notes(format_args!("execution {} is redriven", record.name));
            world.executions.is_redriven(&arn);
        }
    }

    /// Runs an execution until it ends or is stopped. The end is announced to the reconciler.
    async fn runs(self: &Rc<Self>, execution: &mut Execution, name: &str) {
        let (stop, before) = (Arc::new(Notify::new()), execution.transitions());
        let tasks = StackTasks { history: self, stop: Arc::clone(&stop) };
        let end = tokio::select! {
            outcome = execution.run(&tasks) => outcome,
            () = stop.notified() => Outcome::Aborted,
            () = self.stopped.notified() => Outcome::Aborted,
        };
        execution.stop();
        self.transitions.set(self.transitions.get() + execution.transitions() - before);
        let arn = execution.arn().to_owned();
        self.notes_end(&arn, name, &end);
        if !matches!(end, Outcome::Succeeded(_)) {
            self.wakes_reconciler(Duration::ZERO, &status_change(&arn, status(&end)));
            for after in &self.wakes.sweeps {
                self.wakes_reconciler(Duration::from_millis(*after), &sweep());
            }
        }
    }

    /// The reconciler gets an event after this time, and each further copy of it.
    fn wakes_reconciler(self: &Rc<Self>, after: Duration, event: &Value) {
        for later in [0].iter().chain(&self.wakes.copies) {
            let (this, event) = (Rc::clone(self), event.clone());
            let after = after + Duration::from_millis(*later);
            spawn_local(async move {
                if !after.is_zero() {
                    sleep(after).await;
                }
                this.is_told(Function::Reconciler, event).await
            });
        }
    }

    async fn stops_and_redrives(self: Rc<Self>, Stop { at, redriven_after }: Stop) {
        sleep_until(self.began + Duration::from_secs(at)).await;
        self.stopped.notify_waiters();
        let Some(after) = redriven_after else { return };
        sleep(Duration::from_secs(after)).await;
        self.redriven.notify_waiters();
    }

    fn notes_end(&self, arn: &str, name: &str, end: &Outcome) {
        let mut world = self.network.world();
        world.chronicle.notes(format_args!("execution {name} ends: {end}"));
        world.executions.end(arn, end.clone(), now());
    }

    async fn reconciles_on_schedule(self: Rc<Self>) {
        loop {
            sleep(EVERY_FIVE_MINUTES).await;
            self.wakes_reconciler(Duration::ZERO, &sweep());
        }
    }

    /// An asynchronous invocation. Returns false if all attempts have failed: the event is in the dead-letter queue.
    async fn is_told(&self, function: Function, event: Value) -> bool {
        for wait in function.attempts() {
            sleep(Duration::from_secs(*wait)).await;
            if self.invokes(function, event.clone(), None).await.is_ok() {
                return true;
            }
        }
        self.network.world().has_dead_letters = true;
        false
    }

    /// Invokes a function. Its input is kept first, if the scene asks for that.
    async fn invokes(
        &self,
        function: Function,
        event: Value,
        stop: Option<Arc<Notify>>,
    ) -> Result<Value, TaskFailure> {
        if let Some(arrivals) = &self.arrivals {
            let world = World::clone(&self.network.world());
            let arrival = Arrival { function, event: event.clone(), after: self.began.elapsed(), world };
            arrivals.borrow_mut().push(arrival);
        }
        self.functions.invoke(function, event, stop).await
    }

    fn end(&self) -> Ended {
        let mut world = self.network.world();
        let ended = world
            .executions
            .all()
            .filter_map(|(_, record)| Some((record.name.clone(), record.ended.as_ref()?.1.clone())));
        let executions = ended.collect();
        let world = std::mem::replace(&mut *world, World::empty());
        let arrivals = self.arrivals.as_ref().map(RefCell::take).unwrap_or_default();
        Ended { world, executions, transitions: self.transitions.get(), arrivals }
    }
}

/// The event of the reconciler's schedule.
fn sweep() -> Value {
    json!({"task": "sweep"})
}

fn status_change(arn: &str, status: &str) -> Value {
    json!({
        "version": "0", "id": "1", "detail-type": "Step Functions Execution Status Change",
        "source": "aws.states", "account": ACCOUNT, "time": now().to_string(), "region": REGION,
        "resources": [arn], "detail": {"executionArn": arn, "status": status},
    })
}
