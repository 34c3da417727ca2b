//! The rules of Spot Optimizer: pools and their poison, the choice of instances to swap, the recovery of a
//! swap that died. Values in, decisions out.
//!
//! A folder for each subject: [`swap`], [`response`], [`risk`], [`waste`], [`audit`], [`watch`]. The other modules are the ground that all of them stand on.
//! The crate never does I/O and depends on no SDK, so that its tests run in milliseconds.

pub mod audit;
pub mod clock;
mod codes;
pub mod enrolment;
pub mod environment;
pub mod events;
pub mod forwarding;
pub mod ids;
pub mod metrics;
pub mod money;
pub mod not_visited;
pub mod old_instance;
pub mod own_tags;
pub mod owner_marks;
pub mod owners;
pub mod reason;
pub mod response;
pub mod risk;
pub mod settings;
pub mod spelling;
pub mod swap;
pub mod tags;
pub mod waste;
pub mod watch;
pub mod words;

pub use environment::EnvironmentType;
pub use ids::{
    AccountId, AzId, ClusterName, ExecutionArn, GroupArn, GroupName, InstanceId, InstanceType, NodeName,
    Region,
};
pub use money::Usd;
pub use own_tags::BadTag;
pub use reason::Reason;
pub use risk::pool::Pool;
