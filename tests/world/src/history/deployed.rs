//! The state machines as they are deployed, and the functions that their tasks invoke.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use serde_json::{Value, json};
use tokio::sync::Notify;

use super::History;
use crate::executions::{CLUSTER_SWAP, INTERRUPTION_RESPONSE, LAB_SWAP, NODE_SWAP};
use crate::lambda::Function;
use crate::machine::{StateMachine, TaskFailure, Tasks};
use crate::virtual_time::now;

const CLUSTER_OPTIMIZER_ARN: &str = "arn:aws:lambda:us-east-1:123456789012:function:cluster-optimizer";
const RESPONDER_ARN: &str = "arn:aws:lambda:us-east-1:123456789012:function:interruption-responder";
const KUBERNETES_OPTIMIZER_ARN: &str = "arn:aws:lambda:us-east-1:123456789012:function:kubernetes-optimizer";
const LAB_OPTIMIZER_ARN: &str = "arn:aws:lambda:us-east-1:123456789012:function:lab-optimizer";

/// What the tasks of the state machines call.
pub(super) struct StackTasks<'a> {
    pub(super) history: &'a History,
    pub(super) stop: Arc<Notify>,
}

impl Tasks for StackTasks<'_> {
    async fn invoke(
        &self,
        resource: &str,
        _state: &str,
        arguments: Value,
        _attempt: u32,
    ) -> Result<Value, TaskFailure> {
        let function = match resource {
            CLUSTER_OPTIMIZER_ARN => Function::ClusterOptimizer,
            RESPONDER_ARN => Function::InterruptionResponder,
            KUBERNETES_OPTIMIZER_ARN => Function::KubernetesOptimizer,
            LAB_OPTIMIZER_ARN => Function::LabOptimizer,
            "arn:aws:states:::states:startExecution" => return self.start_execution(&arguments),
            other => return Err(TaskFailure::new("Lambda.ResourceNotFoundException", other)),
        };
        self.history.invokes(function, arguments, Some(Arc::clone(&self.stop))).await
    }
}

impl StackTasks<'_> {
    fn start_execution(&self, arguments: &Value) -> Result<Value, TaskFailure> {
        let text = |field: &str| arguments.get(field).and_then(Value::as_str).unwrap_or_default();
        let input = match arguments.get("Input") {
            Some(Value::String(text)) => serde_json::from_str(text).unwrap_or_default(),
            Some(input) => input.clone(),
            None => json!({}),
        };
        let mut world = self.history.network.world();
        let started = world.executions.start(text("StateMachineArn"), text("Name"), input, now());
        let arn =
            started.map_err(|e| TaskFailure::new("Sfn.ExecutionAlreadyExistsException", e.to_string()))?;
        Ok(json!({"ExecutionArn": arn, "StartDate": now().to_string()}))
    }
}

/// State machines by the ends of their ARNs.
pub(super) type Machines = BTreeMap<&'static str, StateMachine>;

/// The state machines as they are deployed, parsed once for all histories.
pub(super) static MACHINES: LazyLock<Result<Machines, String>> = LazyLock::new(machines);

/// Parses the deployed definitions, with their `DefinitionSubstitutions`.
fn machines() -> Result<Machines, String> {
    let parse = |text, substitutions: &[(&str, &str)]| {
        let substitutions = substitutions.iter().copied().collect();
        StateMachine::parse(text, &substitutions).map_err(|error| error.to_string())
    };
    let of_groups = [("ClusterOptimizerFunctionArn", CLUSTER_OPTIMIZER_ARN), ("Partition", "aws")];
    let of_nodes = [("KubernetesOptimizerFunctionArn", KUBERNETES_OPTIMIZER_ARN)];
    let of_instances = [("LabOptimizerFunctionArn", LAB_OPTIMIZER_ARN)];
    let of_notices = [
        ("InterruptionResponderFunctionArn", RESPONDER_ARN),
        ("KubernetesOptimizerFunctionArn", KUBERNETES_OPTIMIZER_ARN),
    ];
    Ok(BTreeMap::from([
        (
            CLUSTER_SWAP,
            parse(include_str!("../../../../functions/cluster-optimizer/swap.asl.yaml"), &of_groups)?,
        ),
        (
            NODE_SWAP,
            parse(include_str!("../../../../functions/kubernetes-optimizer/swap.asl.yaml"), &of_nodes)?,
        ),
        (LAB_SWAP, parse(include_str!("../../../../functions/lab-optimizer/swap.asl.yaml"), &of_instances)?),
        (
            INTERRUPTION_RESPONSE,
            parse(
                include_str!("../../../../functions/interruption-responder/respond.asl.yaml"),
                &of_notices,
            )?,
        ),
    ]))
}
