//! The executions that the responder starts. Their names hold that each instance is answered once.

use aws_sdk_sfn::Client;
use serde_json::{Value, json};
use spot_cloud::Stack;
use spot_cloud::environment::{BadEnvironment, variable};
use spot_cloud::error::{CallError, failed};
use spot_domain::{ClusterName, ExecutionArn, GroupName};

use crate::event::{Announced, Heard};

const START: &str = "states:StartExecution";

/// The two state machines.
#[derive(Debug)]
pub struct Executions {
    client: Client,
    cluster_swap: String,
    response: String,
}

/// The instance of a notice, by its place.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    pub group: &'a GroupName,
    /// The cluster of an instance that is a Kubernetes node.
    pub cluster: Option<&'a ClusterName>,
}

/// The execution that answers a notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerBegun {
    pub execution: ExecutionArn,
    /// This notice has started it. Otherwise an earlier notice of the same kind has, and it may have ended.
    pub is_new: bool,
}

impl Executions {
    /// Reads the environment that the template sets.
    ///
    /// # Errors
    /// A variable is missing.
    pub fn new(stack: &Stack) -> Result<Self, BadEnvironment> {
        Ok(Self {
            client: Client::new(stack.config()),
            cluster_swap: variable("CLUSTER_SWAP_STATE_MACHINE_ARN")?,
            response: variable("RESPONSE_STATE_MACHINE_ARN")?,
        })
    }

    /// Starts the execution that answers a notice. If a notice of the same kind has started one for the instance, that one is
    /// returned.
    ///
    /// # Errors
    /// The call fails.
    pub async fn start(&self, heard: &Heard, place: Place<'_>) -> Result<AnswerBegun, CallError> {
        let machine = match heard.announced {
            Announced::Interruption => &self.response,
            Announced::Rebalance => &self.cluster_swap,
        };
        let name = name(heard);
        let started = self
            .client
            .start_execution()
            .state_machine_arn(machine)
            .name(&name)
            .input(input(heard, place).to_string())
            .send()
            .await
            .map_err(failed(START));
        let (arn, is_new) = match started {
            // Step Functions keeps a name for 90 days; an instance id never comes again.
            Err(error) if error.code == "ExecutionAlreadyExists" => (arn(machine, &name), false),
            answer => (answer?.execution_arn, true),
        };
        let malformed = |_| CallError::malformed(START, format!("{arn:?} is no execution"));
        Ok(AnswerBegun { execution: arn.parse().map_err(malformed)?, is_new })
    }
}

fn arn(machine: &str, name: &str) -> String {
    format!("{}:{name}", machine.replacen(":stateMachine:", ":execution:", 1))
}

/// A drill may be repeated; the second delivery of one has the same time.
fn name(heard: &Heard) -> String {
    let (kind, id) = (
        match heard.announced {
            Announced::Interruption => "interruption",
            Announced::Rebalance => "rebalance",
        },
        &heard.instance_id,
    );
    if heard.is_drill {
        format!("{kind}-{id}-drill-{}", heard.occurred.as_second())
    } else {
        format!("{kind}-{id}")
    }
}

fn input(heard: &Heard, Place { group, cluster }: Place<'_>) -> Value {
    let Heard { account_id, region, instance_id, occurred, .. } = heard;
    let mut input = json!({"asg_name": group, "account_id": account_id, "region": region});
    match heard.announced {
        Announced::Interruption => {
            input["instance_id"] = json!(instance_id);
            input["occurred"] = json!(occurred);
        }
        Announced::Rebalance => input["replace"] = json!([instance_id]),
    }
    if let Some(cluster) = cluster {
        input["cluster_name"] = json!(cluster);
    }
    input
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn heard(announced: Announced) -> Heard {
        Heard {
            announced,
            account_id: "123456789012".parse().unwrap(),
            region: "us-east-1".parse().unwrap(),
            instance_id: "i-0123456789abcdef0".parse().unwrap(),
            occurred: Timestamp::from_second(1_700_000_000).unwrap(),
            is_drill: false,
        }
    }

    #[test]
    fn an_execution_is_named_after_what_is_said_of_which_instance() {
        assert_eq!(name(&heard(Announced::Interruption)), "interruption-i-0123456789abcdef0");
        assert_eq!(name(&heard(Announced::Rebalance)), "rebalance-i-0123456789abcdef0");
        let drill = name(&Heard { is_drill: true, ..heard(Announced::Interruption) });
        assert_eq!(drill, "interruption-i-0123456789abcdef0-drill-1700000000");
        assert!(drill.len() <= 80, "AWS's limit of a name");
        let machine = "arn:aws:states:us-east-1:123456789012:stateMachine:respond";
        assert_eq!(arn(machine, "a"), "arn:aws:states:us-east-1:123456789012:execution:respond:a");
    }

    #[test]
    fn a_recommendation_asks_the_swap_of_the_group_for_this_member_alone() {
        let group = "web".parse().unwrap();
        let input = input(&heard(Announced::Rebalance), Place { group: &group, cluster: None });
        assert_eq!(
            input,
            json!({"asg_name": "web", "replace": ["i-0123456789abcdef0"], "account_id": "123456789012", "region": "us-east-1"})
        );
    }

    #[test]
    fn a_notice_names_the_cluster_of_a_node() {
        let (group, cluster) = ("web".parse().unwrap(), "shop".parse().unwrap());
        let of = |cluster| input(&heard(Announced::Interruption), Place { group: &group, cluster });
        let member = json!({"instance_id": "i-0123456789abcdef0", "asg_name": "web", "account_id": "123456789012",
            "region": "us-east-1", "occurred": "2023-11-14T22:13:20Z"});
        assert_eq!(of(None), member);
        let mut node = member;
        node["cluster_name"] = json!("shop");
        assert_eq!(of(Some(&cluster)), node);
    }
}
