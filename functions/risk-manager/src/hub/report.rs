//! The report of a member to its hub: an interruption with its pool. The member looks up the pool, since the hub
//! can't describe instances of other accounts, and should not have to.
//!
//! The member puts the report on a bus that accepts only the member's own reports, and a rule there forwards it.
//! So AWS itself stamps the sender's account on the report. The detail proves nothing about the sender.
//!
//! The pool may lie in another region than the report was sent from: a member reports from its own region what
//! `account.yaml` forwards from the other regions of its account.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use spot_cloud::CallError;
use spot_cloud::announcements::{Announcements, event_at};
use spot_domain::events::OwnEvent;
use spot_domain::{AccountId, InstanceId, Pool};

use crate::error::RiskError;
use crate::interruption::{Interruption, Notice, not_in_the_future, notice, read};

/// The event's detail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Detail {
    pool: Pool,
    /// The instance's lifecycle, as EC2 spells it. Only `spot` poisons.
    instance_lifecycle: String,
    instance_id: InstanceId,
    /// The `detail-type` of the notice.
    notice: String,
    /// The time of the notice itself.
    occurred: Timestamp,
    #[serde(default)]
    is_drill: bool,
}

/// An interruption in another account, as a member reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub notice: Notice,
    /// The account that AWS stamped on the event.
    pub account_id: AccountId,
    /// The pool, in any region. The member names it.
    pub pool: Pool,
    /// True if the instance is Spot.
    pub is_spot: bool,
    /// The time of the notice itself.
    pub occurred: Timestamp,
    /// Set for a drill, which is no real notice.
    pub is_drill: bool,
}

/// Parses the detail of a report from the hub's bus. `account_id` is the one that AWS stamped on the event.
///
/// # Errors
/// [`RiskError::InvalidEvent`] names the field.
pub fn parse(detail: Value, account_id: AccountId) -> Result<Report, RiskError> {
    let detail: Detail = read(Some("detail"), detail)?;
    not_in_the_future("detail.occurred", detail.occurred)?;
    Ok(Report {
        notice: notice("detail.notice", &detail.notice)?,
        account_id,
        pool: detail.pool,
        is_spot: detail.instance_lifecycle == "spot",
        occurred: detail.occurred,
        is_drill: detail.is_drill,
    })
}

/// Puts a member's report on its bus for reports; the template's rule forwards the report to the hub.
///
/// # Errors
/// EventBridge did not accept the report. The member's event must be handled again.
pub async fn tell(
    announcements: &Announcements,
    bus: &str,
    event: &Interruption,
    pool: &Pool,
) -> Result<(), CallError> {
    let detail = Detail {
        pool: pool.clone(),
        instance_lifecycle: "spot".to_owned(),
        instance_id: event.instance_id.clone(),
        notice: event.notice.detail_type().to_owned(),
        occurred: event.occurred,
        is_drill: event.is_drill,
    };
    let mut report = event_at(OwnEvent::SpotPoolInterrupted, &detail, event.occurred)?;
    report.event_bus_name = Some(bus.to_owned());
    announcements.put(vec![report]).await
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn about(pool: &str) -> Detail {
        Detail {
            pool: pool.parse().unwrap(),
            instance_lifecycle: "spot".to_owned(),
            instance_id: "i-0123456789abcdef0".parse().unwrap(),
            notice: Notice::RebalanceRecommendation.detail_type().to_owned(),
            occurred: "2026-11-23T00:00:00Z".parse().unwrap(),
            is_drill: true,
        }
    }

    fn parsed(detail: Value) -> Result<Report, RiskError> {
        parse(detail, "222222222222".parse().unwrap())
    }

    #[test]
    fn a_report_has_the_declared_fields_and_is_read_as_it_was_sent() {
        let sent = about("us-east-1#use1-az6#m5.large");
        let detail = serde_json::to_value(&sent).unwrap();
        let fields: BTreeSet<_> = detail.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(fields, OwnEvent::SpotPoolInterrupted.declared().fields_of_all().collect());
        let read = parsed(detail).unwrap();
        assert_eq!(
            (read.pool, read.notice, read.occurred),
            (sent.pool, Notice::RebalanceRecommendation, sent.occurred)
        );
        assert!(read.is_spot && read.is_drill);
    }

    #[test]
    fn a_pool_may_lie_in_any_region_and_must_lie_in_one() {
        for pool in ["us-west-2#usw2-az1#m5.large", "eusc-de-east-1#eusce1-az1#m5.large"] {
            let read = parsed(serde_json::to_value(about(pool)).unwrap()).unwrap();
            assert_eq!(read.pool.to_string(), pool);
        }
        for pool in ["Narnia#use1-az6#m5.large", "us-east-1a#use1-az6#m5.large", "#use1-az6#m5.large"] {
            let mut detail = serde_json::to_value(about("us-east-1#use1-az6#m5.large")).unwrap();
            detail["pool"] = pool.into();
            let error = parsed(detail).unwrap_err();
            assert_eq!(error.name(), "InvalidEvent");
            assert!(error.to_string().starts_with("field \"detail.pool\""), "{error}");
        }
    }
}
