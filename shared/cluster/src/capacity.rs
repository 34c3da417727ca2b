//! Labels that say how a node is paid for.

use std::collections::BTreeMap;

/// Keys without their prefix and in lower case, dashes and underscores left out: `capacityType` of EKS,
/// `capacity-type` of Karpenter, `lifecycle` of eksctl and of AWS's own examples, `node-lifecycle` of Spot Ocean.
const KEYS: [&str; 9] = [
    "capacitytype",
    "lifecycle",
    "nodelifecycle",
    "instancelifecycle",
    "ec2lifecycle",
    "purchaseoption",
    "purchasingoption",
    "purchasetype",
    "markettype",
];
/// Values of these keys, in the same spelling, that no Spot instance may bear.
const ON_DEMAND: [&str; 5] = ["ondemand", "normal", "od", "reserved", "ec2ondemand"];
/// Keys that say it alone, unless their value is `false`: kops' `on-demand: "true"`, roles of nodes.
const BY_KEY: [&str; 2] = ["ondemand", "ondemandworker"];

/// Says if a node label means "this node is On-Demand".
#[must_use]
pub fn says_on_demand(key: &str, value: &str) -> bool {
    let name = plain(key.rsplit('/').next().unwrap_or(key));
    let value = plain(value);
    match name.as_str() {
        // kops' and others' `spot: "false"`.
        "spot" => value == "false",
        name if BY_KEY.contains(&name) => value != "false",
        name => KEYS.contains(&name) && ON_DEMAND.contains(&value.as_str()),
    }
}

/// The label by which a node calls itself On-Demand, as `key=value`.
#[must_use]
pub fn on_demand_label(labels: &BTreeMap<String, String>) -> Option<String> {
    let found = labels.iter().find(|(key, value)| says_on_demand(key, value));
    found.map(|(key, value)| format!("{key}={value}"))
}

fn plain(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_on_demand_is_known() {
        for (key, value) in [
            ("eks.amazonaws.com/capacityType", "ON_DEMAND"),
            ("karpenter.sh/capacity-type", "on-demand"),
            ("karpenter.sh/capacity-type", "reserved"),
            ("node.kubernetes.io/lifecycle", "normal"),
            ("lifecycle", "OnDemand"),
            ("kubernetes.io/lifecycle", "on-demand"),
            ("spotinst.io/node-lifecycle", "od"),
            ("node.kubernetes.io/instance-lifecycle", "on_demand"),
            ("example.com/purchase-option", "ondemand"),
            ("on-demand", "true"),
            ("node-role.kubernetes.io/on-demand-worker", ""),
            ("spot", "false"),
        ] {
            assert!(says_on_demand(key, value), "{key}={value}");
        }
    }

    #[test]
    fn what_says_spot_or_nothing_is_left_alone() {
        for (key, value) in [
            ("eks.amazonaws.com/capacityType", "SPOT"),
            ("karpenter.sh/capacity-type", "spot"),
            ("node.kubernetes.io/lifecycle", "spot"),
            ("lifecycle", "Ec2Spot"),
            ("spot", "true"),
            ("on-demand", "false"),
            ("mode", "normal"),
            ("priority", "normal"),
            ("kubernetes.io/os", "linux"),
        ] {
            assert!(!says_on_demand(key, value), "{key}={value}");
        }
    }
}
