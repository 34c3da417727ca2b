//! The demands of a pod's containers on its node: resources, and ports of the node.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Container, ContainerPort, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::amount::{Amount, Amounts};

/// The resource that counts pods in `allocatable.pods` of a node.
pub(crate) const PODS: &str = "pods";

/// A port of the node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    pub(crate) port: i32,
    protocol: String,
    /// The address; none means all addresses of the node.
    address: Option<String>,
}

/// The demands of one container.
#[derive(Debug, Clone, Default)]
pub(crate) struct ContainerDemands {
    requests: Amounts,
    ports: Vec<HostPort>,
    /// True for an init container that starts before the others and runs on beside them.
    is_sidecar: bool,
}

impl HostPort {
    /// Returns true if one node can't give both ports.
    pub(crate) fn clashes(&self, other: &Self) -> bool {
        let is_same_address =
            self.address.is_none() || other.address.is_none() || self.address == other.address;
        self.port == other.port && self.protocol == other.protocol && is_same_address
    }
}

impl ContainerDemands {
    /// Reads a container. The pattern names every field: a new field of Kubernetes' doesn't compile before a
    /// developer has judged it.
    pub(crate) fn of(container: &Container) -> Self {
        let Container {
            ports,
            resources,
            restart_policy,
            // A claim's device: the pod's volumes name the claim.
            volume_devices: _,
            // `mounted` reads which volumes it may write.
            volume_mounts: _,
            // The pod's grace period says how long the end takes.
            lifecycle: _,
            // The condition Ready includes the probes: the drain waits for it.
            liveness_probe: _,
            readiness_probe: _,
            startup_probe: _,
            // The newcomer pulls the image as any node does. If it can't, the replacement is not Ready, and
            // the drain names it.
            image: _,
            image_pull_policy: _,
            // A resize in place changes `resources`, which each look reads anew.
            resize_policy: _,
            // These fields mean the same on every node.
            args: _,
            command: _,
            env: _,
            env_from: _,
            name: _,
            security_context: _,
            termination_message_path: _,
            termination_message_policy: _,
            working_dir: _,
            // An attached session ends with its pod, as with kubectl.
            stdin: _,
            stdin_once: _,
            tty: _,
        } = container;
        Self {
            requests: requested(resources.as_ref()),
            ports: ports.iter().flatten().filter_map(host_port).collect(),
            is_sidecar: restart_policy.as_deref() == Some("Always"),
        }
    }
}

/// Returns the ports of the node that the pod holds for as long as it runs. An init container's port is free
/// again once the container has ended.
pub(crate) fn host_ports(init: &[ContainerDemands], main: &[ContainerDemands]) -> BTreeSet<HostPort> {
    let sidecars = init.iter().filter(|container| container.is_sidecar);
    main.iter().chain(sidecars).flat_map(|container| container.ports.clone()).collect()
}

/// Returns the most that the pod holds at a time: its containers and sidecars, or one of its init containers
/// beside the sidecars that started before. Requests of the pod as a whole (`of_pod`) replace those of its
/// containers.
/// <https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/#resource-sharing-within-containers>
pub(crate) fn requests(
    init: &[ContainerDemands],
    main: &[ContainerDemands],
    of_pod: Option<&ResourceRequirements>,
    overhead: Option<&BTreeMap<String, Quantity>>,
) -> Amounts {
    let (mut sidecars, mut starting) = (Amounts::new(), Amounts::new());
    for container in init {
        let mut holds = container.requests.clone();
        if container.is_sidecar {
            add(&mut sidecars, holds);
            holds = Amounts::new();
        }
        add(&mut holds, sidecars.clone());
        for (name, amount) in holds {
            let most: &mut Amount = starting.entry(name).or_default();
            *most = amount.max(*most);
        }
    }
    let mut total = sidecars;
    for container in main {
        add(&mut total, container.requests.clone());
    }
    for (name, amount) in starting {
        let most = total.entry(name).or_default();
        *most = amount.max(*most);
    }
    total.extend(requested(of_pod));
    add(&mut total, amounts(overhead));
    total.insert(PODS.to_owned(), Amount::ONE);
    total.retain(|_, amount| !amount.is_zero());
    total
}

/// Returns the requests. A limit without a request requests as much.
fn requested(resources: Option<&ResourceRequirements>) -> Amounts {
    let Some(resources) = resources else { return Amounts::new() };
    let ResourceRequirements {
        limits,
        requests,
        // The names of the pod's `resourceClaims`, which are read there.
        claims: _,
    } = resources;
    let mut requested = amounts(limits.as_ref());
    requested.extend(amounts(requests.as_ref()));
    requested
}

/// Reads quantities. The API server refuses a malformed quantity; a quantity that this version can't read
/// counts as more than any node has.
fn amounts(quantities: Option<&BTreeMap<String, Quantity>>) -> Amounts {
    let read = |(name, quantity): (&String, &Quantity)| {
        (name.clone(), Amount::parse(quantity).unwrap_or(Amount::MAX))
    };
    quantities.into_iter().flatten().map(read).collect()
}

fn add(to: &mut Amounts, more: Amounts) {
    for (name, amount) in more {
        let sum = to.entry(name).or_default();
        *sum = sum.plus(amount);
    }
}

fn host_port(port: &ContainerPort) -> Option<HostPort> {
    let ContainerPort {
        host_port,
        host_ip,
        protocol,
        // The container's port in its own network. With `hostNetwork` the API server writes it into
        // `hostPort`.
        container_port: _,
        name: _,
    } = port;
    let every = |address: &&String| !matches!(address.as_str(), "" | "0.0.0.0" | "::");
    Some(HostPort {
        port: host_port.filter(|port| *port > 0)?,
        protocol: protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
        address: host_ip.as_ref().filter(every).cloned(),
    })
}
