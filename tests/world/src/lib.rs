//! The deployed state machines and the real handlers in a model of AWS that misbehaves, in virtual time.

pub mod acts;
pub mod arrival;
pub mod campaign;
pub mod chronicle;
pub mod cluster;
pub mod event_bridge;
pub mod excuses;
pub mod executions;
pub mod fault;
pub mod fleet;
mod forgeries;
pub mod history;
pub mod lambda;
pub mod machine;
pub mod mailbox;
pub mod mutation;
pub mod oracles;
pub mod replay;
pub mod scene;
pub mod scenes;
pub mod sessions;
pub mod settings;
pub mod tables;
pub mod transport;
pub mod virtual_time;
pub mod wire;
pub mod world;
