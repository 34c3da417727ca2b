//! An API server of a simulation, in the place of those that a thread's clients would reach.

use std::cell::RefCell;
use std::rc::Rc;

use kube::{Client, Config};

type Connect = Rc<dyn Fn(&Config) -> Client>;

thread_local! {
    static SIMULATED: RefCell<Option<Connect>> = const { RefCell::new(None) };
}

/// Lets this thread's clients reach the API server of a simulation. `connect` makes each client from the configuration by
/// which it would reach a real one.
pub fn simulate(connect: impl Fn(&Config) -> Client + 'static) {
    SIMULATED.set(Some(Rc::new(connect)));
}

/// Returns the client of the simulation that this thread takes part in; `None` outside of one.
pub(super) fn client(config: &Config) -> Option<Client> {
    let connect = SIMULATED.with_borrow(Clone::clone)?;
    Some(connect(config))
}
