//! The rules of Spot Optimizer: pools and their poison, the choice of instances to swap, the recovery of a
//! swap that died. Values in, decisions out.
//!
//! The crate never does I/O and depends on no SDK, so that its tests run in milliseconds.

pub mod authorization;
pub mod belongings;
pub mod ebs_prices;
pub mod enforcement;
pub mod environment;
pub mod eviction;
pub mod fitness;
pub mod group;
pub mod group_tags;
pub mod ids;
pub mod journal;
pub mod keepers;
pub mod lab;
pub mod lab_losses;
pub mod lab_recovery;
pub mod money;
pub mod node_swap;
pub mod owners;
pub mod pool;
pub mod pricing;
pub mod proof;
pub mod reason;
pub mod recovery;
pub mod reminders;
pub mod risk;
pub mod scaling;
pub mod selection;
pub mod settings;
pub mod storage;
pub mod swap;
pub mod swaps_in_progress;
pub mod tags;
pub mod waste;
pub mod waste_report;
pub mod words;

pub use environment::EnvironmentType;
pub use group_tags::BadTag;
pub use ids::{
    AccountId, AzId, ClusterName, ExecutionArn, GroupArn, GroupName, InstanceId, InstanceType, NodeName,
    Region,
};
pub use money::Usd;
pub use pool::Pool;
pub use reason::Reason;
