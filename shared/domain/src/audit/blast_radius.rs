//! The limits of one run of the enforcer: how many instances it may terminate, and of which share of those that run.

/// One account and region of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TerminationScope {
    /// The name of the scope in messages.
    pub name: String,
    /// The number of running instances.
    pub running: usize,
    /// The number of instances that are due.
    pub due: usize,
    /// The most that a whole run may terminate, as set for this account and region.
    pub max_per_run: u32,
    /// The most of the running instances that a run may terminate, in percent.
    pub max_percent: u32,
}

/// The limit that a run exceeds: more is due than it may terminate, so that it terminates none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlastRadius {
    /// Too many instances in all.
    #[error("{due} instances are due, more than max_terminations_per_run = {limit}: none is terminated")]
    PerRun {
        /// The number due in the whole run.
        due: usize,
        /// The strictest limit among the scopes with an instance due.
        limit: u32,
    },
    /// Too many instances of one account and region.
    #[error(
        "{name}: {due} of {running} running instances are due, more than max_terminations_percent = {limit}: none is terminated"
    )]
    Percent {
        /// The account and region.
        name: String,
        /// The number due there.
        due: usize,
        /// The number running there.
        running: usize,
        /// The limit there.
        limit: u32,
    },
}

impl BlastRadius {
    /// Returns the limit and its place, which are the same in every run that exceeds it.
    #[must_use]
    pub fn cause(&self) -> String {
        match self {
            Self::PerRun { .. } => "max_terminations_per_run".to_owned(),
            Self::Percent { name, .. } => format!("{name}: max_terminations_percent"),
        }
    }
}

/// Checks that a run stays within its limits: the count over the whole run, the percentage in each account
/// and region.
///
/// A run that exceeds one of them terminates nothing, anywhere.
///
/// # Errors
/// The limit that is exceeded.
pub fn blast_radius(reaches: &[TerminationScope]) -> Result<(), BlastRadius> {
    let acting = || reaches.iter().filter(|reach| reach.due > 0);
    let due = acting().map(|reach| reach.due).sum();
    let limit = acting().map(|reach| reach.max_per_run).min().unwrap_or(0);
    if due > limit as usize {
        return Err(BlastRadius::PerRun { due, limit });
    }
    let too_many =
        |r: &&TerminationScope| r.due.saturating_mul(100) > r.running.saturating_mul(r.max_percent as usize);
    acting().find(too_many).map_or(Ok(()), |r| {
        let TerminationScope { name, due, running, max_percent: limit, .. } = r.clone();
        Err(BlastRadius::Percent { name, due, running, limit })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reach(due: usize, running: usize) -> TerminationScope {
        TerminationScope { name: "a".into(), running, due, max_per_run: 10, max_percent: 10 }
    }

    #[test]
    fn the_blast_radius_is_a_count_over_the_run_and_a_percentage_in_each_place() {
        assert_eq!(blast_radius(&[]), Ok(()));
        assert_eq!(blast_radius(&[reach(0, 0)]), Ok(()));
        assert_eq!(blast_radius(&[reach(10, 100)]), Ok(()));
        assert!(matches!(blast_radius(&[reach(11, 1_000)]), Err(BlastRadius::PerRun { due: 11, limit: 10 })));
        assert!(matches!(blast_radius(&[reach(6, 100), reach(5, 100)]), Err(BlastRadius::PerRun { .. })));
        assert!(matches!(
            blast_radius(&[reach(1, 100), reach(1, 9)]),
            Err(BlastRadius::Percent { running: 9, .. })
        ));
        let none = TerminationScope { max_per_run: 0, ..reach(1, 100) };
        assert!(blast_radius(&[none.clone(), reach(1, 100)]).is_err());
        assert_eq!(blast_radius(&[TerminationScope { due: 0, ..none }, reach(1, 100)]), Ok(()));
    }

    proptest! {
        /// A run that passes the blast radius never exceeds either limit.
        #[test]
        fn what_passes_is_within_both_limits(
            places in prop::collection::vec((0_usize..30, 0_usize..300, 0_u32..20, 0_u32..=100), 0..6),
        ) {
            let reaches: Vec<TerminationScope> = places
                .into_iter()
                .map(|(due, more, max_per_run, max_percent)| {
                    TerminationScope { name: String::new(), running: due + more, due, max_per_run, max_percent }
                })
                .collect();
            if blast_radius(&reaches).is_ok() {
                let total: usize = reaches.iter().map(|r| r.due).sum();
                for reach in reaches.iter().filter(|r| r.due > 0) {
                    prop_assert!(total <= reach.max_per_run as usize);
                    prop_assert!(reach.due * 100 <= reach.running * reach.max_percent as usize);
                }
            }
        }
    }
}
