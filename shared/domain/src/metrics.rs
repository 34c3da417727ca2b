//! The metrics that the stack keeps in CloudWatch. Their names are an interface: users alarm on them.
//!
//! A metric is declared once, in the list below: what is emitted is a declared metric, and docs/reference/metrics.md
//! follows from the list.

use std::fmt;

/// The namespace of every metric.
pub const NAMESPACE: &str = "SpotOptimizer";
/// The dimension that every metric has: the name of the stack.
pub const STACK: &str = "Stack";
/// The dimension of the metrics that are kept for each region, too.
pub const REGION: &str = "Region";

/// The unit of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Count,
    Percent,
}

impl fmt::Display for Unit {
    /// Writes the unit as CloudWatch spells it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Count => "Count",
            Self::Percent => "Percent",
        })
    }
}

/// A metric, as the reference lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeclaredMetric {
    pub name: &'static str,
    pub unit: Unit,
    /// The sets of dimensions under which CloudWatch keeps the metric.
    pub dimensions: &'static [&'static [&'static str]],
    /// The function that publishes the metric, and when.
    pub publisher: &'static str,
    /// The template's alarm that watches the metric, by its logical id.
    pub alarm: Option<&'static str>,
    /// The meaning, in Markdown.
    pub doc: &'static str,
}

const BY_STACK: &[&[&str]] = &[&[STACK]];
const BY_STACK_AND_REGION: &[&[&str]] = &[&[STACK], &[STACK, REGION]];

const AUDIT: &str = "security enforcer, at each run";
const MEASURE: &str = "risk manager, hourly";
const SWEEP: &str = "group watcher, at each sweep";

/// Makes the metrics from `Name { … }`, the fields of [`DeclaredMetric`].
macro_rules! metrics {
    ($($(#[doc = $doc:literal])+ $name:ident { $($field:ident: $value:expr),+ $(,)? })+) => {
        /// A metric of the stack.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Metric { $($(#[doc = $doc])+ $name,)+ }

        impl Metric {
            /// Every metric that exists.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// Returns the metric's declaration.
            #[must_use]
            pub const fn declared(self) -> &'static DeclaredMetric {
                match self {
                    $(Self::$name => const {
                        let doc = concat!($($doc),+).trim_ascii();
                        &DeclaredMetric { name: stringify!($name), doc, $($field: $value),+ }
                    },)+
                }
            }
        }
    };
}

metrics! {
    /// Pools that are poisoned, or whose row can't be read.
    PoisonedPools {
        unit: Unit::Count, dimensions: BY_STACK, publisher: "risk manager, daily at 01:00 UTC", alarm: None,
    }
    /// The part of a region's pools (types × zones offered) that is poisoned, for each region with a poisoned pool that the
    /// stack's own account has enabled, and the stack's own.
    PoisonedSharePercent {
        unit: Unit::Percent, dimensions: BY_STACK_AND_REGION, publisher: MEASURE, alarm: None,
    }
    /// 1 if that part is larger than `max_poisoned_share_of_region`, else 0.
    PoisonedShareExceeded {
        unit: Unit::Count, dimensions: BY_STACK_AND_REGION, publisher: MEASURE, alarm: Some("PoisonedShareAlarm"),
    }
    /// Those of these regions whose share could not be measured. A region that a service control policy denies to the
    /// stack's own account is left out.
    UnmeasuredRegions {
        unit: Unit::Count, dimensions: BY_STACK, publisher: MEASURE, alarm: Some("UnmeasuredRegionsAlarm"),
    }
    /// 1 for each report of a member that has poisoned more than it may.
    MutedReports {
        unit: Unit::Count,
        dimensions: BY_STACK,
        publisher: "risk manager of a hub, at each such report",
        alarm: Some("MutedAccountAlarm"),
    }
    /// 1 for each report of an account that is not registered, or is disabled.
    UnregisteredReports {
        unit: Unit::Count, dimensions: BY_STACK, publisher: "risk manager of a hub, at each such report", alarm: None,
    }
    /// Running instances that nothing authorises, or that bear `ManagedBy=SpotOptimizer` without proof.
    UnauthorisedInstances {
        unit: Unit::Count, dimensions: BY_STACK, publisher: AUDIT, alarm: Some("UnauthorisedInstancesAlarm"),
    }
    /// Enabled regions that no row of Accounts asks for, or that a service control policy denies. 0 if the run is asked for one region.
    RegionsNotAudited {
        unit: Unit::Count, dimensions: BY_STACK, publisher: AUDIT, alarm: None,
    }
    /// 1 if more instances were due than a run may terminate, so that none was terminated, else 0.
    BlastRadiusExceeded {
        unit: Unit::Count, dimensions: BY_STACK, publisher: AUDIT, alarm: Some("BlastRadiusAlarm"),
    }
    /// What the run could not see, announce or do.
    SecurityAuditFailures {
        unit: Unit::Count, dimensions: BY_STACK, publisher: AUDIT, alarm: Some("SecurityAuditAlarm"),
    }
    /// What the loop could not look at, start, announce or note.
    LoopFailures {
        unit: Unit::Count, dimensions: BY_STACK, publisher: SWEEP, alarm: Some("LoopFailuresAlarm"),
    }
    /// 1 if the time of a sweep did not suffice for all accounts and regions, so that the next one resumes there, else 0.
    LoopPartial {
        unit: Unit::Count, dimensions: BY_STACK, publisher: SWEEP, alarm: None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_metric_has_a_name_of_its_own_and_is_kept_by_stack() {
        let names: BTreeSet<_> = Metric::ALL.iter().map(|metric| metric.declared().name).collect();
        assert_eq!(names.len(), Metric::ALL.len());
        for metric in Metric::ALL {
            let DeclaredMetric { name, dimensions, .. } = metric.declared();
            assert!(dimensions.contains(&[STACK].as_slice()), "{name}: alarms read it by stack");
            assert!(dimensions.iter().all(|set| set.contains(&STACK)), "{name}: two stacks stay apart");
        }
    }
}
