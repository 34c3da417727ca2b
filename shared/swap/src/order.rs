//! The launch requests for one candidate. Each pool has the launch of its type, in the candidate's subnet. If that
//! subnet is full, another one of the same zone follows.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use spot_cloud::ec2::{images, subnets};
use spot_cloud::launch::launcher::{Blueprint, Order};
use spot_cloud::launch::twin::{Twin, TwinSource};
use spot_cloud::tables::swaps::Leased;
use spot_cloud::{CallError, RegionClients};
use spot_domain::Pool;
use spot_domain::ids::InstanceType;
use spot_domain::swap::group::Launch;
use spot_domain::swap::journal::SwapId;
use spot_domain::swap::selection::{Candidate, replacement_launch};
use spot_domain::tags::Tags;

use crate::error::StepError;
use crate::group::{GroupLook, Resolved, resolve};
use crate::work::Work;

/// The most attempts for one pool: one for each subnet. The number of an attempt identifies pool and subnet.
const SUBNETS_PER_POOL: usize = 100;

/// The source of the launches for one candidate, as the last look has found it.
#[derive(Debug)]
pub enum LaunchFrom {
    /// The candidate's group.
    Group(Box<GroupLook>),
    /// The candidate itself, in no group: its twin is launched.
    Instance(Box<TwinSource>),
}

impl LaunchFrom {
    /// Returns the group; `None` for the twin of an instance.
    #[must_use]
    pub fn group(&self) -> Option<&GroupLook> {
        match self {
            Self::Group(look) => Some(look),
            Self::Instance(_) => None,
        }
    }
}

/// The launch requests for one candidate.
#[derive(Debug)]
pub struct Orders<'a> {
    clients: &'a RegionClients,
    work: &'a Work,
    candidate: &'a Candidate,
    /// The pools that number the attempts. They are those of the queue, which stay when the candidate loses some.
    numbered: &'a [Pool],
    from: LaunchFrom,
    tags: Tags,
    resolved: BTreeMap<Launch, Result<Resolved, String>>,
    /// The subnets of the zone, the candidate's first. The others are described once that one is full.
    subnets: Vec<String>,
    knows_subnets: bool,
    full: BTreeSet<String>,
    /// The number of requests that each pool has had.
    given: BTreeMap<Pool, usize>,
}

/// The number of an attempt, and its launch request.
pub type Numbered = (usize, Order);
/// The blueprint of a type, and the image that the group names for the type.
type OfType = (Blueprint, Option<String>);

impl<'a> Orders<'a> {
    /// Returns the requests for `candidate`. `numbered` are the candidate's pools as they were queued.
    #[must_use]
    pub fn new(
        clients: &'a RegionClients,
        work: &'a Work,
        candidate: &'a Candidate,
        mut from: LaunchFrom,
        numbered: &'a [Pool],
        tags: Tags,
    ) -> Self {
        let resolved = match &mut from {
            LaunchFrom::Group(look) => std::mem::take(&mut look.resolved),
            LaunchFrom::Instance(_) => BTreeMap::new(),
        };
        let subnets = vec![candidate.subnet_id.clone()];
        let (full, given) = (BTreeSet::new(), BTreeMap::new());
        Self {
            clients,
            work,
            candidate,
            numbered,
            from,
            tags,
            resolved,
            subnets,
            knows_subnets: false,
            full,
            given,
        }
    }

    /// Returns the next request for a pool; `None` once all subnets of its zone were tried or are full. The inner
    /// error says why the pool's type can't be launched.
    ///
    /// # Errors
    /// A call fails.
    pub async fn next(&mut self, pool: &Pool) -> Result<Result<Option<Numbered>, String>, StepError> {
        if !self.full.is_empty() {
            self.know_subnets().await?;
        }
        let given = self.given.get(pool).copied().unwrap_or(0);
        let Some((index, subnet_id)) =
            self.subnets.iter().enumerate().skip(given).find(|(_, subnet)| !self.full.contains(*subnet))
        else {
            return Ok(Ok(None));
        };
        let subnet_id = subnet_id.clone();
        self.given.insert(pool.clone(), index + 1);
        let position = self.numbered.iter().position(|known| known == pool).unwrap_or(0);
        let (blueprint, image_id) = match self.blueprint(&pool.instance_type).await? {
            Ok(of_type) => of_type,
            Err(why) => return Ok(Err(why)),
        };
        let group = self.from.group().map(|look| &look.group);
        let order = Order {
            blueprint,
            image_id,
            placement_group: group.and_then(|group| group.placement_group.clone()),
            spot_max_price: self.work.spot_max_price,
            availability_zone: self.candidate.availability_zone.clone(),
            az_id: pool.az_id.clone(),
            subnet_id,
            tags: self.tags.clone(),
        };
        Ok(Ok(Some((position * SUBNETS_PER_POOL + index, order))))
    }

    /// Notes the progress of an earlier run of the same step, by the number of its last attempt.
    pub fn resume(&mut self, attempt: usize) {
        if !attempt.is_multiple_of(SUBNETS_PER_POOL) {
            self.full.insert(self.candidate.subnet_id.clone());
        }
    }

    /// Notes that a subnet has no free address, so that no other pool tries it.
    pub fn note_full(&mut self, subnet_id: &str) {
        self.full.insert(subnet_id.to_owned());
    }

    /// Returns the launch that an instance of this type came from.
    #[must_use]
    pub fn came_from(&self, instance_type: &InstanceType) -> Option<Launch> {
        let launch = self.launch(self.from.group()?, instance_type)?;
        self.resolved.get(&launch)?.as_ref().ok()?.came_from(launch.image_id)
    }

    /// Returns what a person has to know of a newcomer of this type: the protections that its template asks for, and that
    /// an On-Demand launch of ours leaves off. A Spot instance has none in any case.
    #[must_use]
    pub fn left_off(&self, instance_type: &InstanceType) -> Option<String> {
        let launch = self.launch(self.from.group()?, instance_type)?;
        let Blueprint::Template(template) = &self.resolved.get(&launch)?.as_ref().ok()?.blueprint else {
            return None;
        };
        let protections = template.not_for_spot.protections();
        (self.candidate.to.is_on_demand() && !protections.is_empty()).then(|| {
            let (id, names) = (&template.id, protections.join(" and "));
            format!(
                "launch template {id} asks for {names}, which its replacement does not have: switch that on"
            )
        })
    }

    /// Adds the group's other subnets of the candidate's zone, in the group's order: a repeated step must find the
    /// same number for each.
    async fn know_subnets(&mut self) -> Result<(), CallError> {
        let Some(look) = self.from.group().filter(|_| !self.knows_subnets) else { return Ok(()) };
        self.knows_subnets = true;
        let ids = &look.group.subnet_ids;
        if ids.is_empty() {
            return Ok(());
        }
        let zones = subnets::zones(&self.clients.ec2, ids).await?;
        let (zone, own) = (&self.candidate.availability_zone, &self.candidate.subnet_id);
        let is_in_zone = |id: &&String| zones.get(*id) == Some(zone);
        let more = ids.iter().filter(|id| *id != own).filter(is_in_zone).take(SUBNETS_PER_POOL - 1);
        self.subnets.extend(more.cloned());
        Ok(())
    }

    /// Returns the launch of a type, and the image that the group names for the type.
    async fn blueprint(&mut self, instance_type: &InstanceType) -> Result<Result<OfType, String>, StepError> {
        let look = match &self.from {
            LaunchFrom::Group(look) => look,
            LaunchFrom::Instance(source) => return self.twin(source).await,
        };
        let Some(launch) = self.launch(look, instance_type) else {
            return Ok(Err("its group has nothing to launch it from".to_owned()));
        };
        let image_id = launch.image_id.clone();
        let resolved = match self.resolved.entry(launch) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let resolved = resolve(self.clients, &look.group, new.key(), self.candidate.to).await?;
                new.insert(resolved)
            }
        };
        Ok(resolved.clone().map(|resolved| (resolved.blueprint, image_id)))
    }

    /// Returns the leased instance's twin. The payload of a step names neither instance nor image: any caller who
    /// may invoke the function could otherwise make it launch anything.
    async fn twin(&self, source: &TwinSource) -> Result<Result<OfType, String>, StepError> {
        let Leased::Instance(of) = &self.work.lease.on else {
            return Err(StepError::Protocol(
                "work.lease.on: neither a group nor an instance to launch from".into(),
            ));
        };
        let mut twin = Twin { source: Box::new(source.clone()), image_id: None };
        if self.work.has_captured() {
            let swap = SwapId::new(of, self.work.lease.since);
            let Some(image) = images::captured_by(&self.clients.ec2, &swap, of).await? else {
                let why = format!("EC2 does not show the image {} now", swap.image_name());
                return Err(StepError::Transient(why.into()));
            };
            twin.image_id = Some(image.id);
        }
        Ok(Ok((Blueprint::Twin(twin), None)))
    }

    fn launch(&self, look: &GroupLook, instance_type: &InstanceType) -> Option<Launch> {
        let (old, old_type) = (&self.candidate.instance_id, &self.candidate.instance_type);
        replacement_launch(&look.group, old, old_type, instance_type)
    }
}
