//! One account and region: its enrolled groups and lab instances, what each has to swap, and what stands against a start.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use jiff::Timestamp;
use spot_cloud::auto_scaling::groups;
use spot_cloud::ec2::instances;
use spot_cloud::scopes::Scope;
use spot_cloud::tables::swaps::slot_key;
use spot_cloud::{CallError, RegionClients};
use spot_domain::clock;
use spot_domain::enrolment::Enrolment;
use spot_domain::owners::group_of;
use spot_domain::swap::group::{Group, Instance};
use spot_domain::tags::SWAP_TAG;
use spot_domain::watch::enrolment::{ENABLED_TAG, InstanceTerms, Terms, terms, terms_of_instance};
use spot_domain::watch::{Deferral, Deferred};
use spot_domain::{BadTag, ClusterName, EnvironmentType, GroupName, InstanceId};
use spot_swap::error::StepError;

use crate::answer::{Answer, Failure, NotNow, Subject};
use crate::input::Request;
use crate::judge::{Judge, NotYet, SubjectTurn};
use crate::look::{Look, Verdict};
use crate::remember::remember;
use crate::start::{StartOrder, StartTarget, start, too_many};
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

/// A group or lab instance that may be swapped now, as far as it and its past say.
struct ReadySubject<'a> {
    subject: Subject,
    target: StartTarget<'a>,
    /// The fingerprint of the members that may be swapped.
    members: String,
    memory: Memory,
}

impl Visit<'_> {
    /// Looks at what the request names, and starts what may start.
    ///
    /// # Errors
    /// The place can't be looked at.
    pub async fn run(&mut self, request: &Request, memories: &mut Memories) -> Result<(), CallError> {
        let (groups, launched) = match self.groups(request).await {
            Err(error) if self.scope.is_left_out(&error) => {
                tracing::info!("not watched: {error}");
                self.answer.not_watched.push(self.scope.place.clone());
                return Ok(());
            }
            found => found?,
        };
        let handing_on = groups.iter().find(|group| group.propagated_tags.contains_key(ENABLED_TAG));
        let handing_on = handing_on.map(|group| group.name.clone());
        let enrolled = self.enrolled(groups);
        let labs = if *request == Request::Sweep { self.labs(handing_on).await } else { Vec::new() };
        if enrolled.is_empty() && labs.is_empty() {
            return Ok(()); // Nobody has asked for anything here.
        }
        self.answer.looked_at += enrolled.len() + labs.len();
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
        let is_sweep = *request == Request::Sweep;
        if !is_sweep {
            *memories = remember(self.tools, self.answer).await?;
        }
        let (mut tellings, mut ready) = (Vec::new(), Vec::new());
        for (group, terms) in &enrolled {
            let subject = Subject::of_group(group, &self.scope.place);
            let judged =
                self.judge(&subject, memories, is_sweep, |judge| judge.group(group, terms, &instances));
            self.sort(subject, judged, &mut ready, &mut tellings).await;
        }
        for (instance, terms) in &labs {
            let subject = Subject::of_instance(&instance.id, &self.scope.place);
            let judged = self.judge(&subject, memories, is_sweep, |judge| judge.lab(instance, terms));
            self.sort(subject, judged, &mut ready, &mut tellings).await;
        }
        tellings.extend(self.start_all(ready, memories).await?);
        tell(self.tools, tellings, self.now, self.answer).await;
        Ok(())
    }

    /// Judges a subject by its row. Returns the row, too; `None` if it can't be read, which is noted as a failure.
    fn judge<'a>(
        &mut self,
        subject: &Subject,
        memories: &Memories,
        is_sweep: bool,
        whose: impl FnOnce(&Judge<'_>) -> Result<SubjectTurn<'a>, NotYet>,
    ) -> Option<(Memory, Result<SubjectTurn<'a>, NotYet>)> {
        let memory = match memories.rows.get(&subject.key) {
            None => Memory::default(),
            Some(Ok(memory)) => memory.clone(),
            Some(Err(problem)) => {
                let error = format!("its row in the Groups table can't be read, delete it: {problem}");
                self.fail(subject, &error);
                return None;
            }
        };
        let (settings, now) = (&self.scope.settings, self.now);
        let turn = whose(&Judge { settings, now, memory: &memory, memories, is_sweep });
        Some((memory, turn))
    }

    /// Puts a judged subject among those that are ready, or tells why it is not.
    async fn sort<'a>(
        &mut self,
        subject: Subject,
        judged: Option<(Memory, Result<SubjectTurn<'a>, NotYet>)>,
        ready: &mut Vec<ReadySubject<'a>>,
        tellings: &mut Vec<Telling>,
    ) {
        match judged {
            None => {}
            Some((memory, Ok(SubjectTurn::Nobody))) => self.forget(&subject, &memory).await,
            Some((memory, Ok(SubjectTurn::Of { target, members }))) => {
                ready.push(ReadySubject { subject, target, members, memory });
            }
            Some((memory, Err((deferred, seen)))) => {
                tellings.extend(self.defer(&subject, &memory, deferred, seen));
            }
        }
    }

    /// Starts what may start of all that is ready. Returns the deferrals of the others.
    async fn start_all(
        &mut self,
        mut ready: Vec<ReadySubject<'_>>,
        memories: &mut Memories,
    ) -> Result<Vec<Telling>, CallError> {
        // Who has waited longest goes first.
        ready.sort_by_key(|ready| ready.memory.started_at);
        let leases = self.leases(&ready).await?;
        let (mut tellings, mut taken) = (Vec::new(), BTreeMap::new());
        for ready in ready {
            if clock::system_time() >= self.stop_at {
                self.answer.partial = true;
                break;
            }
            let ReadySubject { subject, target, members, memory } = &ready;
            let cluster = target.cluster();
            let verdict = match self.in_the_way(&ready, cluster.as_ref(), &leases, &taken, memories) {
                Some(deferred) => Ok(Verdict::Defer(deferred)),
                None => self.look(target).await,
            };
            let deferred = match verdict {
                Ok(Verdict::Start(target)) => {
                    let most = self.scope.settings.max_groups_at_once;
                    let last = memory.execution.as_ref();
                    let order = StartOrder { subject, target: &target, members, last, most };
                    let begun = start(self.tools, &order, memories, self.answer).await;
                    if matches!(begun, Ok(None)) {
                        *taken.entry(target.cluster()).or_insert(0) += 1;
                    }
                    begun.map(|deferred| deferred.map(|deferred| (deferred, None))).map_err(StepError::from)
                }
                Ok(Verdict::Defer(deferred)) => Ok(Some((deferred, None))),
                Ok(Verdict::DeferForLong(deferred, until)) => {
                    Ok(Some((deferred, Some(Seen { until, members: members.clone() }))))
                }
                Err(error) => Err(error),
            };
            match deferred {
                Ok(Some((deferred, seen))) => tellings.extend(self.defer(subject, memory, deferred, seen)),
                Ok(None) => {}
                Err(error) => self.fail(subject, &error),
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
                        Err((name, error)) => {
                            self.answer.failed.push(Failure::of_group(place, &name, &error));
                        }
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
                    self.answer.failed.push(Failure::of_group(place, asg_name.as_str(), &error));
                }
                Ok((group.into_iter().collect(), launched.clone()))
            }
        }
    }

    /// Returns the enrolled groups with the terms of their owners, or with the tag that can't be read.
    fn enrolled(&self, groups: Vec<Group>) -> Vec<(Group, Result<Terms, Deferred>)> {
        let settings = &self.scope.settings;
        groups
            .into_iter()
            .filter_map(|group| {
                let terms = readable(terms(&group.tags, settings), "group")?;
                Some((group, terms))
            })
            .collect()
    }

    /// Returns the enrolled On-Demand instances that are in no group, in a LAB account; no other account has any. A group
    /// hands its tags to its members, and a swap hands those of the old instance to the new one: neither is meant.
    ///
    /// A member that has left its group keeps the tag, and nothing else tells it from an instance of its own. So none is
    /// started while a group, `handing_on`, hands the tag to its members.
    async fn labs(
        &mut self,
        handing_on: Option<GroupName>,
    ) -> Vec<(Instance, Result<InstanceTerms, Deferred>)> {
        if self.scope.access.environment_type != EnvironmentType::Lab {
            return Vec::new();
        }
        let tagged = match instances::running_with_tag(&self.clients.ec2, ENABLED_TAG).await {
            Ok(tagged) => tagged,
            Err(error) => {
                self.answer.failed.push(Failure::at(&self.scope.place, &error));
                return Vec::new();
            }
        };
        let settings = &self.scope.settings;
        let is_newcomer = |instance: &Instance| instance.tags.contains_key(SWAP_TAG);
        let is_alone = |i: &Instance| !i.is_spot && group_of(&i.tags).is_none() && !is_newcomer(i);
        let enrolled = tagged.into_iter().filter(is_alone).filter_map(|instance| {
            let terms = readable(terms_of_instance(&instance.tags, settings), "instance")?;
            let ambiguous = handing_on.as_ref().map(|group| {
                let detail = format!(
                    "group {group} hands the tag {ENABLED_TAG} to its members, and one that has left it looks like this \
                     instance; set PropagateAtLaunch of the group's tag to false"
                );
                Deferred::new(Deferral::BadTag, detail)
            });
            Some((instance, ambiguous.map_or(terms, Err)))
        });
        enrolled.collect()
    }

    /// Returns the holders of all leases that stand in the way of these groups.
    async fn leases(&self, ready: &[ReadySubject<'_>]) -> Result<BTreeMap<String, String>, CallError> {
        let slots = |ready: &ReadySubject<'_>| {
            ready.target.cluster().map(|cluster| self.slots(&cluster)).unwrap_or_default()
        };
        let keys: BTreeSet<String> = ready
            .iter()
            .flat_map(|ready| std::iter::once(ready.subject.key.clone()).chain(slots(ready)))
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
        ready: &ReadySubject<'_>,
        cluster: Option<&ClusterName>,
        leases: &BTreeMap<String, String>,
        taken: &BTreeMap<Option<ClusterName>, usize>,
        memories: &Memories,
    ) -> Option<Deferred> {
        if let Some(owner) = leases.get(&ready.subject.key) {
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

    async fn look<'a>(&self, target: &StartTarget<'a>) -> Result<Verdict<'a>, StepError> {
        let look = Look {
            clients: self.clients,
            gatekeeper: &self.tools.gatekeeper,
            region: &self.scope.place.region,
            settings: &self.scope.settings,
            now: self.now,
        };
        look.at(target).await
    }

    /// Puts a deferral into the answer. Returns what is to be told and noted of it, if that is new.
    fn defer(
        &mut self,
        subject: &Subject,
        memory: &Memory,
        deferred: Deferred,
        seen: Option<Seen>,
    ) -> Option<Telling> {
        self.answer.deferred.push(NotNow { subject: subject.clone(), deferred: deferred.clone() });
        let telling = Telling::of(subject.clone(), memory.told.as_ref(), deferred, seen, self.now);
        telling.unwrap_or_else(|error| {
            self.fail(subject, &error);
            None
        })
    }

    fn fail(&mut self, subject: &Subject, error: &impl ToString) {
        self.answer.failed.push(Failure::of(subject, error));
    }

    /// Forgets a deferral of a subject that has nothing to swap any more.
    async fn forget(&mut self, subject: &Subject, memory: &Memory) {
        if memory.told.is_some()
            && let Err(error) = self.tools.table.forget_deferral(&subject.key).await
        {
            self.fail(subject, &error);
        }
    }
}

/// Returns the terms of what is enrolled, or the tag of it that can't be read; `None` if it is not enrolled.
fn readable<T>(terms: Result<Option<T>, BadTag>, of: &str) -> Option<Result<T, Deferred>> {
    let told = |BadTag { tag, problem }| format!("tag {tag:?} of the {of}: {problem}");
    terms.map_err(|bad| Deferred::new(Deferral::BadTag, told(bad))).transpose()
}
