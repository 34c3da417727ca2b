//! The files as they are deployed.

use super::*;

const TEMPLATE: &str = include_str!("../../../../../template.yaml");
pub(super) const FILES: [(&str, &str); 4] = [
    ("functions/cluster-optimizer/swap.asl.yaml", GROUP_SWAP),
    (
        "functions/lab-optimizer/swap.asl.yaml",
        include_str!("../../../../../functions/lab-optimizer/swap.asl.yaml"),
    ),
    (
        "functions/kubernetes-optimizer/swap.asl.yaml",
        include_str!("../../../../../functions/kubernetes-optimizer/swap.asl.yaml"),
    ),
    (
        "functions/interruption-responder/respond.asl.yaml",
        include_str!("../../../../../functions/interruption-responder/respond.asl.yaml"),
    ),
];

pub(super) const GROUP_SWAP: &str = include_str!("../../../../../functions/cluster-optimizer/swap.asl.yaml");

/// Returns the names in `DefinitionSubstitutions` of the template for a file.
fn substitutions(file: &str) -> Vec<&'static str> {
    let (_, after) = TEMPLATE.split_once(&format!("DefinitionUri: {file}\n")).unwrap();
    let (_, block) = after.split_once("DefinitionSubstitutions:\n").unwrap();
    let lines = block.lines().map_while(|line| line.strip_prefix("        "));
    lines.map(|line| line.split_once(':').unwrap().0).collect()
}

pub(super) fn deployed(file: &str, text: &str) -> StateMachine {
    let values = substitutions(file)
        .into_iter()
        .map(|name| (name, "arn:aws:lambda:eu-central-1:111122223333:function:f"));
    StateMachine::parse(text, &values.collect()).unwrap_or_else(|error| panic!("{file}: {error}"))
}

#[test]
fn every_state_of_a_deployed_file_is_parsed() {
    for (file, text) in FILES {
        let (_, states) = text.split_once("\nStates:\n").unwrap();
        let name = |line: &'static str| {
            line.strip_prefix("  ")?.strip_suffix(':').filter(|name| !name.starts_with(' '))
        };
        let mut written: Vec<_> = states.lines().filter_map(name).collect();
        written.sort_unstable();
        assert_eq!(written.len(), states.matches("\n    Type: ").count(), "{file}: {written:?}");
        assert_eq!(deployed(file, text).states().collect::<Vec<_>>(), written, "{file}");
    }
}

#[test]
fn a_deployed_file_with_one_more_field_is_refused() {
    for (file, text) in FILES {
        let values = substitutions(file).into_iter().map(|name| (name, "arn")).collect();
        let changed = text.replacen("    Type: Task\n", "    Type: Task\n    HeartbeatSeconds: 60\n", 1);
        assert!(StateMachine::parse(&changed, &values).is_err(), "{file}");
    }
}
