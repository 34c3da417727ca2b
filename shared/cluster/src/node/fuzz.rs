//! The fuzz target `node`: a node as the API server describes it.
//!
//! The parser promises: no panic. A node is read, or an error says that its name is malformed. An offer that can't be read
//! counts as nothing. A node without our mark is not uncordoned, and a cordon is always marked.

use k8s_openapi::api::core::v1 as core;
use spot_fuzz::Target;

use super::*;

const MARK: &str = "i-0123456789abcdef0-1795631035976";

#[test]
fn node() {
    let words = &[
        MARK,
        CORDONED_BY,
        EXCLUDED_BY,
        KEPT_BY,
        SCALE_DOWN_DISABLED,
        "aws:////i-0123456789abcdef0",
        "1e2147483647",
    ];
    Target { name: "node", samples: &[], words, cases: 2_000 }.fuzz(check);
}

fn check(bytes: &[u8]) -> Result<(), String> {
    // The client hands on nothing but nodes.
    let Ok(node) = serde_json::from_slice::<core::Node>(bytes) else { return Ok(()) };
    patches(&node)?;
    match look_at(&node) {
        Ok(read) => holds(&read, &node),
        Err(error) => promise(error.to_string().contains("node name"), || {
            format!("the error does not name the node's name: {error}")
        }),
    }
}

fn holds(read: &Node, node: &core::Node) -> Result<(), String> {
    let name = node.metadata.name.as_deref();
    promise(name == Some(read.name.as_str()), || format!("{name:?} is read as {}", read.name))?;
    let provider_id = node.spec.as_ref().and_then(|spec| spec.provider_id.as_deref()).unwrap_or_default();
    promise(read.instance_id.as_ref().is_none_or(|id| provider_id.ends_with(id.as_str())), || {
        format!("{provider_id:?} is read as {:?}", read.instance_id)
    })?;
    let offers = node.status.iter().flat_map(|status| status.allocatable.iter().flatten());
    for (resource, quantity) in offers {
        let expected = Amount::parse(quantity).unwrap_or_default();
        promise(read.allocatable.get(resource) == Some(&expected), || {
            format!("{quantity:?} of {resource} is read as {:?}", read.allocatable)
        })?;
    }
    // A taint of the node's condition counts even if the old node has it.
    let beyond = read.taints_beyond(read);
    promise(beyond.iter().all(|taint| taint.starts_with(CONDITIONS)), || {
        format!("{beyond:?} is beyond its own")
    })?;
    promise(read.taints_to_keep().all(|taint| read.startup_taints.contains(taint)), || {
        "it keeps a taint that it has not".to_owned()
    })
}

fn patches(node: &core::Node) -> Result<(), String> {
    let cordon = cordoned(node, MARK);
    let is_marked_by_it = cordon.pointer("/metadata/annotations").is_some_and(|set| set[CORDONED_BY] == MARK);
    promise(is_marked_by_it && cordon["spec"]["unschedulable"] == true, || format!("a cordon of {cordon}"))?;
    let bears = |key: &str| annotation(node, key) == Some(MARK);
    let uncordon = unmarked(node, MARK);
    let uncordons = uncordon["spec"].get("unschedulable").is_some();
    promise(uncordons == bears(CORDONED_BY), || format!("{uncordon} uncordons: {uncordons}"))?;
    let labels = uncordon["metadata"]["labels"].get(EXCLUDE_FROM_LOAD_BALANCERS).is_some();
    promise(labels == bears(EXCLUDED_BY), || format!("{uncordon} takes a label off: {labels}"))
}

fn promise(holds: bool, broken: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(broken()) }
}
