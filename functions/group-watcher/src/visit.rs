//! One account and region: its enrolled groups, what each has to swap, and what stands against a start.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::SystemTime;

use jiff::Timestamp;
use serde_json::json;
use spot_cloud::announcements::event;
use spot_cloud::auto_scaling::groups;
use spot_cloud::ec2::instances;
use spot_cloud::scopes::Scope;
use spot_cloud::tables::swaps::slot_key;
use spot_cloud::{CallError, Kind, RegionClients};
use spot_domain::events::OwnEvent;
use spot_domain::swap::group::{Group, Instance};
use spot_domain::tags::cluster_of;
use spot_domain::watch::enrolment::{ENABLED_TAG, Enrolment, Terms, terms};
use spot_domain::watch::name::{execution_name, next_name_at};
use spot_domain::watch::prospects::{Prospects, restless};
use spot_domain::watch::{Deferral, Deferred};
use spot_domain::{ClusterName, ExecutionArn, InstanceId};

use crate::answer::{Answer, Failure, Named, NotNow, Started};
use crate::executions::{Begun, Machine, start};
use crate::input::Request;
use crate::look::{Look, Verdict};
use crate::remember::remember;
use crate::table::{Memories, Memory, Seen};
use crate::tell::{Telling, tell};
use crate::tools::{Tools, now};

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
        // Who has waited longest goes first.
        ready.sort_by_key(|ready| ready.memory.started_at);
        let leases = self.leases(&ready).await?;
        let mut taken = BTreeMap::new();
        for ready in ready {
            if SystemTime::now() >= self.stop_at {
                self.answer.partial = true;
                break;
            }
            let cluster = ready.node.and_then(|node| cluster(ready.group, node));
            let verdict = match self.in_the_way(&ready, cluster.as_ref(), &leases, &taken, memories) {
                Some(deferred) => Verdict::Defer(deferred),
                None => match self.look(&ready).await {
                    Ok(verdict) => verdict,
                    Err(error) => {
                        self.fail(ready.group, &error);
                        continue;
                    }
                },
            };
            let deferred = match verdict {
                Verdict::Start => match self.start(&ready, memories).await {
                    Ok(None) => {
                        *taken.entry(cluster).or_insert(0) += 1;
                        continue;
                    }
                    Ok(Some(deferred)) => (deferred, None),
                    Err(error) => {
                        self.fail(ready.group, &error);
                        continue;
                    }
                },
                Verdict::Defer(deferred) => (deferred, None),
                Verdict::DeferForLong(deferred, until) => {
                    (deferred, Some(Seen { until, members: ready.members.clone() }))
                }
            };
            tellings.extend(self.defer(ready.group, &ready.memory, deferred.0, deferred.1));
        }
        tell(self.tools, tellings, self.now, self.answer).await;
        Ok(())
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
        self.too_many(memories.running.len())
    }

    fn too_many(&self, running: usize) -> Option<Deferred> {
        let most = self.scope.settings.max_groups_at_once;
        (running >= most as usize).then(|| {
            Deferred::new(
                Deferral::TooManyAtOnce,
                format!("{running} executions of the loop run, of at most {most}"),
            )
        })
    }

    async fn look(&self, ready: &Ready<'_>) -> Result<Verdict, CallError> {
        let look = Look {
            clients: self.clients,
            gatekeeper: &self.tools.gatekeeper,
            region: &self.scope.place.region,
            settings: &self.scope.settings,
            now: self.now,
        };
        look.at(ready.group.clone(), ready.node.map(|node| &node.id)).await
    }

    /// Starts the execution of a group. Returns why it was not started.
    async fn start(
        &mut self,
        ready: &Ready<'_>,
        memories: &mut Memories,
    ) -> Result<Option<Deferred>, CallError> {
        let (tools, now, place) = (self.tools, now(), &self.scope.place);
        let group = self.named(ready.group);
        // A node has a name of its own: the next of its group may follow at once.
        let node = ready.node.map_or("", |node| node.id.as_str());
        let name = execution_name(group.asg_name.as_str(), &format!("{}{node}", ready.group.arn), now);
        let mut input = json!({"account_id": place.account_id, "region": place.region});
        let machine: &Machine = match ready.node {
            None => {
                input["asg_name"] = json!(group.asg_name);
                &tools.group_swap
            }
            Some(node) => {
                input["instance_id"] = json!(node.id);
                if let Some(cluster) = cluster(ready.group, node) {
                    input["cluster_name"] = json!(cluster);
                }
                &tools.node_swap
            }
        };
        let malformed = |error: spot_domain::ids::MalformedText| {
            CallError::malformed("states:StartExecution", error.to_string())
        };
        let execution: ExecutionArn = machine.execution(&name).map_err(malformed)?;
        // Counted in first: of two invocations that see the last free place, one gets it.
        if !tools.table.count_in(&execution, self.scope.settings.max_groups_at_once).await? {
            return Ok(self.too_many(self.scope.settings.max_groups_at_once as usize));
        }
        match start(&tools.sfn, machine, &name, &input).await {
            Ok(Begun::Running) => {}
            Ok(Begun::EndedAlready) => {
                tools.table.count_out(vec![execution.to_string()]).await?;
                let detail = format!("{execution} was started for it, and has ended");
                return Ok(Some(Deferred::until(Deferral::StartedRecently, detail, next_name_at(now))));
            }
            Err(error) => {
                // After any other error it may run: the next sweep asks Step Functions.
                if error.kind != Kind::Retry {
                    tools.table.count_out(vec![execution.to_string()]).await?;
                }
                return Err(error);
            }
        }
        memories.running.insert(execution.clone());
        let instance_id = ready.node.map(|node| node.id.clone());
        let started = Started { group, execution_arn: execution, instance_id };
        tracing::info!(asg_name = %started.group.asg_name, execution = %started.execution_arn, "started");
        let noted = tools.table.note_start(&ready.group.arn, &started, &ready.members, now).await;
        let told = match event(OwnEvent::SwapStarted, &started) {
            Ok(event) => tools.announcements.put(vec![event]).await,
            Err(error) => Err(error),
        };
        for error in [noted, told].into_iter().filter_map(Result::err) {
            self.answer.failed.push(Failure::of(place, started.group.asg_name.as_str(), &error));
        }
        self.answer.started.push(started);
        Ok(None)
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

/// Returns the cluster of a node, by its own tags or by its group's.
fn cluster(group: &Group, node: &Instance) -> Option<ClusterName> {
    cluster_of(&node.tags).or_else(|| cluster_of(&group.tags))
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
