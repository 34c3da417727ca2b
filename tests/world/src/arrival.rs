//! One input of a function, and the world as it was when the input came. The function can be given another input there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;
use spot_cloud::{Stack, environment};
use tokio::runtime::Builder;
use tokio::task::LocalSet;
use tokio::time::sleep;

use crate::cluster::ApiServer;
use crate::fault::Plan;
use crate::fleet::Fleet;
use crate::lambda::{Function, Functions};
use crate::machine::TaskFailure;
use crate::scene::{REGION, Scene};
use crate::transport::Network;
use crate::virtual_time;
use crate::world::World;

/// An input of a function.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// The function.
    pub function: Function,
    /// The input.
    pub event: Value,
    /// The time since the beginning of the history.
    pub after: Duration,
    /// The world as it was.
    pub world: World,
}

/// What a function has made of an input.
#[derive(Debug)]
pub struct Handled {
    /// The answer.
    pub answer: Result<Value, TaskFailure>,
    /// The handler has panicked.
    pub has_panicked: bool,
    /// The world after the answer.
    pub world: World,
    /// The same world, had nobody called.
    without: World,
}

impl Arrival {
    /// Returns an input that comes at the beginning of a scene.
    #[must_use]
    pub fn at_beginning(scene: &Scene, function: Function, event: Value) -> Self {
        Self { function, event, after: Duration::ZERO, world: scene.world(Plan::none()) }
    }

    /// Returns the function with its phase.
    #[must_use]
    pub fn label(&self) -> String {
        let phase = self.event.get("phase").or(self.event.get("detail-type")).and_then(Value::as_str);
        format!("{:?} {}", self.function, phase.unwrap_or("event"))
    }

    /// Gives the function this input in the place of its own, once. Nothing else happens in the world.
    ///
    /// # Errors
    /// The functions can't be started.
    pub fn handles(&self, scene: &Scene, event: Value) -> Result<Handled, String> {
        fastrand::seed(1);
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        LocalSet::new().block_on(&runtime, self.invokes(scene, event))
    }

    async fn invokes(&self, scene: &Scene, event: Value) -> Result<Handled, String> {
        virtual_time::begin();
        environment::replace(scene.environment());
        sleep(self.after).await;
        let network = Network::around(self.world.clone());
        let stack = Stack::over(network.sdk_config(REGION)).map_err(|error| error.to_string())?;
        ApiServer::stands_in(&network, REGION);
        let functions = Functions::start(&stack).await.map_err(|error| error.to_string())?;
        network.world().passes();
        let mut without = World::clone(&network.world());
        let answer = functions.invoke(self.function, event, None).await;
        let mut world = std::mem::replace(&mut *network.world(), World::empty());
        world.passes();
        without.passes();
        Ok(Handled { answer, has_panicked: functions.have_panicked(), world, without })
    }
}

impl Handled {
    /// Returns everything that the function has changed, in words. A message to a person is a change, too.
    #[must_use]
    pub fn changes(&self) -> Vec<String> {
        let sent = self.world.chronicle.calls.iter().skip(self.without.chronicle.calls.len());
        let calls = sent.filter(|call| !call.is_read);
        let calls = calls.map(|call| format!("{} called {}:{}", call.by, call.service, call.action));
        let rows = (self.without.tables != self.world.tables).then(|| "a row has changed".to_owned());
        let fleet = (shape(&self.without.fleet) != shape(&self.world.fleet))
            .then(|| "a group or an instance has changed".to_owned());
        calls.chain(rows).chain(fleet).collect()
    }

    /// Returns how the input was refused, with the name of the error; `None` if it was not.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        self.answer.as_ref().err().map(|failure| format!("{}: {}", failure.error, failure.cause))
    }
}

/// The sizes, suspended processes and members of each group, and the instances.
type Shape = (BTreeMap<String, (u32, u32, BTreeSet<String>, BTreeSet<String>)>, BTreeSet<String>);

fn shape(fleet: &Fleet) -> Shape {
    let groups = fleet.groups().iter().map(|(name, group)| {
        let members = group.members.iter().map(|member| member.instance_id.clone()).collect();
        (name.clone(), (group.desired, group.max, group.suspended.clone(), members))
    });
    (groups.collect(), fleet.instances().keys().cloned().collect())
}
