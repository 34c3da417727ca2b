//! One account and region: its enrolled groups, what each has to swap, and what stands against a start.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::SystemTime;

use jiff::Timestamp;
use spot_cloud::auto_scaling::groups;
use spot_cloud::ec2::instances;
use spot_cloud::scopes::Scope;
use spot_cloud::tables::swaps::slot_key;
use spot_cloud::{CallError, RegionClients};
use spot_domain::enrolment::Enrolment;
use spot_domain::swap::group::{Group, Instance};
use spot_domain::watch::enrolment::{ENABLED_TAG, Terms, terms};
use spot_domain::watch::prospects::{Prospects, restless};
use spot_domain::watch::{Deferral, Deferred};
use spot_domain::{ClusterName, InstanceId};
use spot_swap::error::StepError;

use crate::answer::{Answer, Failure, Named, NotNow};
use crate::input::Request;
use crate::look::{Look, Verdict};
use crate::remember::remember;
use crate::start::{Order, cluster, start, too_many};
use crate::table::{Memories, Memory, Seen};
use crate::tell::{Telling, tell};
use crate::tools::Tools;

/// A visit of one account and region.
#[derive(Debug)]
pub struct Visit<'a> {
    pub tools: &'a Tools,
    pub scope: &'a Scope,
    pub clients: &'a RegionClients,
    pub now: Timestamp,
    /// No further look begins after this time.
    pub stop_at: SystemTime,
    pub answer: &'a mut Answer,
}

/// A group that may be swapped now, as far as its own tags and members say.
struct Ready<'a> {
    group: &'a Group,
    /// The node whose turn it is; `None` if the group is swapped as a whole.
    node: Option<&'a Instance>,
    /// The [`fingerprint`] of its members that may be swapped.
    members: String,
    memory: Memory,
}

impl Ready<'_> {
    fn order(&self) -> Order<'_> {
        let Self { group, node, members, memory } = self;
        Order { group, node: *node, members, last: memory.execution.as_ref() }
    }
}

/// Whose turn it is in a group. The text is the [`fingerprint`] of the members that may be swapped.
enum Turn<'a> {
    /// Nobody's: the group has nothing to swap.
    Nobody,
    /// The group's as a whole.
    Group(String),
    /// That of one member, a node.
    Node(&'a Instance, String),
}

impl Visit<'_> {
    /// Looks at the groups that the request names, and starts what may start.
    ///
    /// # Errors
    /// The place can't be looked at.
    pub async fn run(&mut self, request: &Request, memories: &mut Memories) -> Result<(), CallError> {
        let (groups, launched) = self.groups(request).await?;
        let enrolled = self.enrolled(groups);
        if enrolled.is_empty() {
            return Ok(()); // Nobody has asked for anything here.
        }
        self.answer.looked_at += enrolled.len();
        let members: Vec<InstanceId> = enrolled
            .iter()
            .flat_map(|(group, _)| group.members.iter().map(|member| member.id.clone()))
            .collect();
        let instances = match members.as_slice() {
            [] => BTreeMap::new(),
            members => instances::describe(&self.clients.ec2, members).await?,
        };
        // The launch of a Spot instance, ours above all, gives nothing to swap.
        if launched.is_some_and(|id| instances.get(&id).is_some_and(|instance| instance.is_spot)) {
            return Ok(());
        }
        if *request != Request::Sweep {
            *memories = remember(self.tools, self.answer).await?;
        }
        let (mut tellings, mut ready) = (Vec::new(), Vec::new());
        for (group, terms) in &enrolled {
            let memory = match memories.groups.get(&group.arn) {
                None => Memory::default(),
                Some(Ok(memory)) => memory.clone(),
                Some(Err(problem)) => {
                    let error = format!("its row in the Groups table can't be read, delete it: {problem}");
                    self.fail(group, &error);
                    continue;
                }
            };
            match self.judge(group, terms, &instances, &memory, memories, request == &Request::Sweep) {
                Ok(Turn::Nobody) => self.forget(group, &memory).await,
                Ok(Turn::Group(members)) => ready.push(Ready { group, node: None, members, memory }),
                Ok(Turn::Node(node, members)) => {
                    ready.push(Ready { group, node: Some(node), members, memory });
                }
                Err((deferred, look)) => tellings.extend(self.defer(group, &memory, deferred, look)),
            }
        }
        tellings.extend(self.start_all(ready, memories).await?);
        tell(self.tools, tellings, self.now, self.answer).await;
        Ok(())
    }

    /// Starts what may start of the groups that are ready. Returns the deferrals of the others.
    async fn start_all(
        &mut self,
        mut ready: Vec<Ready<'_>>,
        memories: &mut Memories,
    ) -> Result<Vec<Telling>, CallError> {
        // Who has waited longest goes first.
        ready.sort_by_key(|ready| ready.memory.started_at);
        let leases = self.leases(&ready).await?;
        let (mut tellings, mut taken) = (Vec::new(), BTreeMap::new());
        for ready in ready {
            if SystemTime::now() >= self.stop_at {
                self.answer.partial = true;
                break;
            }
            let cluster = ready.node.and_then(|node| cluster(ready.group, node));
            let verdict = match self.in_the_way(&ready, cluster.as_ref(), &leases, &taken, memories) {
                Some(deferred) => Ok(Verdict::Defer(deferred)),
                None => self.look(&ready).await,
            };
            let deferred = match verdict {
                Ok(Verdict::Start) => {
                    let begun = start(self.tools, self.scope, &ready.order(), memories, self.answer).await;
                    if matches!(begun, Ok(None)) {
                        *taken.entry(cluster).or_insert(0) += 1;
                    }
                    begun.map(|deferred| deferred.map(|deferred| (deferred, None))).map_err(StepError::from)
                }
                Ok(Verdict::Defer(deferred)) => Ok(Some((deferred, None))),
                Ok(Verdict::DeferForLong(deferred, until)) => {
                    Ok(Some((deferred, Some(Seen { until, members: ready.members.clone() }))))
                }
                Err(error) => Err(error),
            };
            match deferred {
                Ok(Some((deferred, seen))) => {
                    tellings.extend(self.defer(ready.group, &ready.memory, deferred, seen));
                }
                Ok(None) => {}
                Err(error) => self.fail(ready.group, &error),
            }
        }
        Ok(tellings)
    }

    /// Returns the groups that the request names, and the instance that was launched, if that is its cause.
    async fn groups(&mut self, request: &Request) -> Result<(Vec<Group>, Option<InstanceId>), CallError> {
        let autoscaling = &self.clients.autoscaling;
        let place = &self.scope.place;
        match request {
            Request::Sweep => {
                let by_tag = self.scope.settings.enrolment == Enrolment::OptIn;
                let mut readable = Vec::new();
                for group in groups::list(autoscaling, by_tag.then_some(ENABLED_TAG)).await? {
                    match group {
                        Ok(group) => readable.push(group),
                        Err((name, error)) => self.answer.failed.push(Failure::of(place, &name, &error)),
                    }
                }
                Ok((readable, None))
            }
            Request::Group { asg_name, launched, .. } => {
                let group = groups::describe(autoscaling, asg_name).await?;
                // A group that a launch event names may be deleted by now.
                if group.is_none() && launched.is_none() {
                    let error = format!(
                        "asg_name: {place} has no Auto Scaling group {asg_name:?}",
                        asg_name = asg_name.as_str()
                    );
                    self.answer.failed.push(Failure::of(place, asg_name.as_str(), &error));
                }
                Ok((group.into_iter().collect(), launched.clone()))
            }
        }
    }

    /// Returns the enrolled groups with the terms of their owners, or with the tag that can't be read.
    fn enrolled(&self, groups: Vec<Group>) -> Vec<(Group, Result<Terms, Deferred>)> {
        let enrolment = self.scope.settings.enrolment;
        groups
            .into_iter()
            .filter_map(|group| {
                let terms = match terms(&group.tags, enrolment) {
                    Ok(terms) => Ok(terms?),
                    Err(bad) => Err(Deferred::new(Deferral::BadTag, bad.to_string())),
                };
                Some((group, terms))
            })
            .collect()
    }

    /// Returns whose turn it is in a group, as far as its tags, its members and its past say.
    fn judge<'a>(
        &self,
        group: &'a Group,
        terms: &Result<Terms, Deferred>,
        instances: &'a BTreeMap<InstanceId, Instance>,
        memory: &Memory,
        memories: &Memories,
        is_sweep: bool,
    ) -> Result<Turn<'a>, (Deferred, Option<Seen>)> {
        let settings = &self.scope.settings;
        let at_once = |deferred: Deferred| (deferred, None);
        let terms = terms.as_ref().map_err(|bad| at_once(bad.clone()))?;
        let prospects = Prospects::of(group, instances, settings)
            .map_err(|bad| at_once(Deferred::new(Deferral::BadTag, bad.to_string())))?;
        if prospects.is_empty() {
            return Ok(Turn::Nobody);
        }
        if let Some(execution) =
            memory.execution.as_ref().filter(|execution| memories.running.contains(*execution))
        {
            return Err(at_once(Deferred::new(Deferral::SwapInProgress, format!("{execution} works on it"))));
        }
        let members = prospects.members.iter().chain(&prospects.nodes).map(|instance| &instance.id);
        let members = fingerprint(&members.collect());
        let node = next_node(&prospects, memory).filter(|_| prospects.members.is_empty());
        // What a run could not swap says nothing of members that came later, nor of the nodes after its own.
        let has_others = memory.members_of_run.as_ref() != Some(&members)
            || node.zip(memory.instance_id.as_ref()).is_some_and(|(node, last)| node.id > *last);
        let paused = memory.past.forbids(settings, self.now);
        if let Some(deferred) = paused.filter(|pause| pause.reason != Deferral::NothingSwapped || !has_others)
        {
            return Err(at_once(deferred));
        }
        if let Some(window) = terms.window.as_ref().filter(|window| !window.is_open(self.now)) {
            let detail = format!("the window {window} is closed");
            let not_before = window.next_opening(self.now);
            return Err(at_once(Deferred { not_before, ..Deferred::new(Deferral::WindowClosed, detail) }));
        }
        if let Some(deferred) = restless(group, instances, settings, self.now) {
            return Err(at_once(deferred));
        }
        let known = memory.told.as_ref().filter(|told| {
            is_sweep
                && told.seen.as_ref().is_some_and(|seen| self.now < seen.until && seen.members == members)
        });
        if let Some(told) = known {
            return Err((told.deferred.clone(), told.seen.clone()));
        }
        Ok(match node {
            Some(node) => Turn::Node(node, members),
            None => Turn::Group(members),
        })
    }

    /// Returns the holders of all leases that stand in the way of these groups.
    async fn leases(&self, ready: &[Ready<'_>]) -> Result<BTreeMap<String, String>, CallError> {
        let slots = |ready: &Ready<'_>| {
            let cluster = ready.node.and_then(|node| cluster(ready.group, node));
            cluster.map(|cluster| self.slots(&cluster)).unwrap_or_default()
        };
        let keys: BTreeSet<String> = ready
            .iter()
            .flat_map(|ready| std::iter::once(ready.group.arn.to_string()).chain(slots(ready)))
            .collect();
        self.tools.swaps.owners(&keys.into_iter().collect::<Vec<_>>()).await
    }

    fn slots(&self, cluster: &ClusterName) -> Vec<String> {
        let place = &self.scope.place;
        let slot = |slot| slot_key(&place.account_id, &place.region, cluster, slot);
        (0..self.scope.settings.max_unavailable_nodes).map(slot).collect()
    }

    /// Returns what forbids a start without a further look: a lease, a cluster without a free slot, or the number of
    /// executions that run.
    fn in_the_way(
        &self,
        ready: &Ready<'_>,
        cluster: Option<&ClusterName>,
        leases: &BTreeMap<String, String>,
        taken: &BTreeMap<Option<ClusterName>, usize>,
        memories: &Memories,
    ) -> Option<Deferred> {
        if let Some(owner) = leases.get(ready.group.arn.as_str()) {
            return Some(Deferred::new(Deferral::SwapInProgress, format!("{owner} works on it")));
        }
        if let Some(cluster) = cluster {
            let slots = self.slots(cluster);
            let held = slots.iter().filter(|slot| leases.contains_key(*slot)).count();
            if held + taken.get(&Some(cluster.clone())).copied().unwrap_or(0) >= slots.len() {
                let detail =
                    format!("as many nodes of cluster {cluster} are being swapped as may be at a time");
                return Some(Deferred::new(Deferral::SwapInProgress, detail));
            }
        }
        too_many(memories.running.len(), self.scope.settings.max_groups_at_once)
    }

    async fn look(&self, ready: &Ready<'_>) -> Result<Verdict, StepError> {
        let look = Look {
            clients: self.clients,
            gatekeeper: &self.tools.gatekeeper,
            region: &self.scope.place.region,
            settings: &self.scope.settings,
            now: self.now,
        };
        look.at(ready.group.clone(), ready.node.map(|node| &node.id)).await
    }

    /// Puts a deferral into the answer. Returns what is to be told and noted of it, if that is new.
    fn defer(
        &mut self,
        group: &Group,
        memory: &Memory,
        deferred: Deferred,
        seen: Option<Seen>,
    ) -> Option<Telling> {
        let named = self.named(group);
        self.answer.deferred.push(NotNow { group: named.clone(), deferred: deferred.clone() });
        let telling = Telling::of(named, &group.arn, memory.told.as_ref(), deferred, seen, self.now);
        telling.unwrap_or_else(|error| {
            self.fail(group, &error);
            None
        })
    }

    fn fail(&mut self, group: &Group, error: &impl ToString) {
        self.answer.failed.push(Failure::of(&self.scope.place, group.name.as_str(), error));
    }

    /// Forgets a deferral of a group that has nothing to swap any more.
    async fn forget(&mut self, group: &Group, memory: &Memory) {
        if memory.told.is_some()
            && let Err(error) = self.tools.table.forget_deferral(&group.arn).await
        {
            self.fail(group, &error);
        }
    }

    fn named(&self, group: &Group) -> Named {
        Named { asg_name: group.name.clone(), place: self.scope.place.clone() }
    }
}

/// Returns a text that differs for other members.
#[must_use]
pub fn fingerprint(members: &BTreeSet<&InstanceId>) -> String {
    let mut hasher = DefaultHasher::new();
    members.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// Returns the node whose turn it is: the one after that of the last run, so that a node that can't be swapped holds up
/// no other.
fn next_node<'a>(prospects: &Prospects<'a>, memory: &Memory) -> Option<&'a Instance> {
    let mut nodes = prospects.nodes.clone();
    nodes.sort_by(|a, b| a.id.cmp(&b.id));
    let after = nodes.iter().find(|node| memory.instance_id.as_ref().is_some_and(|last| node.id > *last));
    after.or(nodes.first()).copied()
}
