//! Places the pods that must move, one after the other, as the scheduler might: is there room for all of
//! them?

use std::cmp::Reverse;

use super::demands::{Demands, Spread};
use super::{ATTACHABLE, Host, Lack, Lacks, Mover, Need, Resident, of_the_pod};
use crate::amount::Amount;

/// Returns the pods for which nothing is free, once all are placed one after the other, the largest first.
pub(super) fn homeless(newcomer: &Host, movers: &[Mover], others: &[Host]) -> Vec<Lack> {
    let mut places: Vec<FilledHost<'_>> = [newcomer].into_iter().chain(others).map(FilledHost::new).collect();
    let mut order: Vec<&Mover> = movers.iter().collect();
    order.sort_by_key(|mover| {
        let of = |resource: &str| mover.pod.demands.requests().get(resource).copied().unwrap_or_default();
        Reverse((of("cpu"), of("memory")))
    });
    let mut lacks = Lacks::default();
    for mover in order {
        let mut first = None;
        let home = places.iter_mut().position(|place| match place.refuses(mover) {
            None => true,
            Some(need) => {
                first.get_or_insert(need);
                false
            }
        });
        match (home, first) {
            (Some(home), _) => places[home].moved_in.push(mover),
            (None, Some(need)) => lacks.add(need, Some(mover)),
            (None, None) => {}
        }
    }
    lacks.0
}

/// A host with the pods that were placed there.
struct FilledHost<'a> {
    host: &'a Host,
    moved_in: Vec<&'a Mover>,
}

impl<'a> FilledHost<'a> {
    fn new(host: &'a Host) -> Self {
        Self { host, moved_in: Vec::new() }
    }

    /// Returns the need for which the pod can't be placed here.
    fn refuses(&self, mover: &Mover) -> Option<Need> {
        if let Some(need) = of_the_pod(mover, &self.host.node).into_iter().next() {
            return Some(need);
        }
        self.full(mover).or_else(|| self.port_taken(mover)).or_else(|| self.kept_apart(mover)).or_else(|| {
            let mut spreads = mover.pod.demands.spreads.iter();
            spreads.find(|spread| self.crowds(spread, mover)).map(|spread| Need::Spread(spread.max_skew))
        })
    }

    fn full(&self, mover: &Mover) -> Option<Need> {
        let wanted = &mover.pod.demands;
        let stays = |resident: &&Resident| !(resident.demands.facts.is_placeholder && gives_way(mover));
        let here: Vec<&Demands> =
            self.host.residents.iter().filter(stays).map(|resident| &resident.demands).collect();
        let placed = || self.moved_in.iter().map(|mover| &mover.pod.demands);
        let of = |demands: &&Demands, name: &str| demands.requests().get(name).copied().unwrap_or_default();
        let is_short = |(name, amount): &(&String, &Amount)| {
            let used: Amount = here.iter().copied().chain(placed()).map(|d| of(&d, name)).sum();
            let offered = self.host.node.allocatable.get(*name).copied().unwrap_or_default();
            offered < used.plus(**amount)
        };
        let volumes = || self.volumes_full(mover);
        let short = wanted.requests().iter().find(is_short);
        short.map(|(name, _)| Need::Free(name.clone())).or_else(volumes)
    }

    /// Returns the driver whose limit of volumes is reached. A node whose driver states no limit has none.
    fn volumes_full(&self, mover: &Mover) -> Option<Need> {
        let count = |driver: &str| {
            let movers = self.moved_in.iter().copied().chain([mover]);
            let volumes =
                movers.flat_map(|mover| &mover.volumes).filter(|v| v.driver.as_deref() == Some(driver));
            let mut names: Vec<&str> = volumes.map(|volume| volume.name.as_str()).collect();
            names.sort_unstable();
            names.dedup();
            Amount::of(i64::try_from(names.len()).unwrap_or(i64::MAX))
        };
        mover.volumes.iter().filter_map(|volume| volume.driver.as_deref()).find_map(|driver| {
            let resource = format!("{ATTACHABLE}{driver}");
            let offered = *self.host.node.allocatable.get(&resource)?;
            (offered < count(driver)).then_some(Need::Free(resource))
        })
    }

    fn port_taken(&self, mover: &Mover) -> Option<Need> {
        let residents = self.host.residents.iter().map(|resident| &resident.demands);
        let mut here = residents.chain(self.moved_in.iter().map(|mover| &mover.pod.demands));
        here.find_map(|other| mover.pod.demands.shared_port(other)).map(Need::HostPort)
    }

    fn kept_apart(&self, mover: &Mover) -> Option<Need> {
        let forbids = |pod: &Resident, other: &Resident| {
            pod.demands.keeps_off.iter().any(|term| term.forbids(&other.namespace, &other.labels))
        };
        let mut here = self.host.residents.iter().chain(self.moved_in.iter().map(|mover| &mover.pod));
        let clash = here.find(|other| forbids(&mover.pod, other) || forbids(other, &mover.pod));
        clash.map(|other| Need::Apart(other.to_string()))
    }

    /// Returns true if the pod would break the spread. The old node still counts when it is cordoned and
    /// empty: a node may then have `maxSkew` such pods at most.
    /// <https://kubernetes.io/docs/concepts/scheduling-eviction/topology-spread-constraints/>
    fn crowds(&self, spread: &Spread, mover: &Mover) -> bool {
        let here = self.host.residents.iter().chain(self.moved_in.iter().map(|mover| &mover.pod));
        let counts = |pod: &&Resident| {
            !pod.is_terminating && pod.namespace == mover.pod.namespace && spread.counts(&pod.labels)
        };
        i64::try_from(here.filter(counts).count()).unwrap_or(i64::MAX) >= spread.max_skew
    }
}

fn gives_way(mover: &Mover) -> bool {
    !mover.pod.demands.facts.is_patient && !mover.pod.demands.facts.is_placeholder
}
