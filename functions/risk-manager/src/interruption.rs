//! An interruption, and the checks of what an event says of one: in a notice of AWS, or in a member's report.

use jiff::{SignedDuration, Timestamp};
use serde::de::DeserializeOwned;
use serde_json::Value;
use spot_domain::clock;
use spot_domain::events::AwsEvent;
use spot_domain::words::Cause;
use spot_domain::{AccountId, InstanceId, Region};

use crate::error::RiskError;

/// The most time that an event's clock may be ahead of ours.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(5);

/// The notice that AWS sends about a Spot instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// The instance will be interrupted in two minutes.
    InterruptionWarning,
    /// The instance is at elevated risk of an interruption.
    RebalanceRecommendation,
}

impl Notice {
    /// Returns the event's `detail-type`, which is stored as the cause.
    #[must_use]
    pub const fn detail_type(self) -> &'static str {
        match self {
            Self::InterruptionWarning => AwsEvent::InterruptionWarning.detail_type(),
            Self::RebalanceRecommendation => AwsEvent::RebalanceRecommendation.detail_type(),
        }
    }
}

/// A Spot instance that is being interrupted, or soon may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interruption {
    pub notice: Notice,
    /// The account that AWS stamped on the event.
    pub account_id: AccountId,
    /// The region that AWS stamped on the event.
    pub region: Region,
    pub instance_id: InstanceId,
    /// The time of the event itself.
    pub occurred: Timestamp,
    /// Set for a drill, which is no real notice.
    pub is_drill: bool,
}

/// Parses the event itself, or the part of it at the field `at`.
pub(crate) fn read<T: DeserializeOwned>(at: Option<&'static str>, part: Value) -> Result<T, RiskError> {
    spot_cloud::input::parse(at, part).map_err(|bad| {
        let field = if bad.field == spot_cloud::input::WHOLE { "event".to_owned() } else { bad.field };
        invalid(field, bad.problem)
    })
}

/// Refuses a time in the future. An event may be late, but not early: its poison would last longer than the
/// settings say.
pub(crate) fn not_in_the_future(field: &'static str, time: Timestamp) -> Result<(), RiskError> {
    if time > clock::now() + CLOCK_SKEW {
        return Err(invalid(field, format!("{time} lies in the future")));
    }
    Ok(())
}

pub(crate) fn notice(field: &'static str, detail_type: &str) -> Result<Notice, RiskError> {
    [Notice::InterruptionWarning, Notice::RebalanceRecommendation]
        .into_iter()
        .find(|notice| notice.detail_type() == detail_type)
        .ok_or_else(|| invalid(field, format!("{detail_type:?} is not handled here")))
}

pub(crate) fn invalid(field: impl Into<String>, problem: impl Into<Cause>) -> RiskError {
    RiskError::InvalidEvent { field: field.into(), problem: problem.into() }
}
