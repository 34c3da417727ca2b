//! The change of desired in Auto Scaling's answers to calls that decrement, against a scripted endpoint.

#![allow(clippy::unwrap_used)]

use spot_cloud::auto_scaling::groups::{self, Desired};
use spot_domain::swap::decrement::Decremented;
use spot_scripted::{Endpoint, ScriptedAnswer};

/// Returns what a detach, a decrementing and a replacing termination make of an answer whose activities have these causes.
async fn read(causes: &[&str]) -> [Option<Decremented>; 3] {
    let activity = |cause: &&str| format!("<Cause>{cause}</Cause><StatusCode>InProgress</StatusCode>");
    let members: Vec<String> =
        causes.iter().map(|cause| format!("<member>{}</member>", activity(cause))).collect();
    let one = causes.first().map(activity).map_or(String::new(), |one| format!("<Activity>{one}</Activity>"));
    let answer = |call: &str, body: &str| {
        ScriptedAnswer::ok(format!("<{call}Response><{call}Result>{body}</{call}Result></{call}Response>"))
    };
    let terminated = answer("TerminateInstanceInAutoScalingGroup", &one);
    let detached = answer("DetachInstances", &format!("<Activities>{}</Activities>", members.concat()));
    let endpoint = Endpoint::start(vec![detached, terminated]).await;
    let client = aws_sdk_autoscaling::Client::new(&endpoint.config().await);
    let id = "i-1234567890abcdef0".parse().unwrap();
    [
        groups::detach(&client, &"my asg".parse().unwrap(), &id).await.unwrap(),
        groups::terminate(&client, &id, Desired::Decrement).await.unwrap(),
        groups::terminate(&client, &id, Desired::Keep).await.unwrap(),
    ]
}

#[tokio::test]
async fn the_answer_of_a_call_that_decrements_tells_from_what_to_what() {
    let cause = "At 2022-06-14T00:07:30Z instance i-1234567890abcdef0 was detached in response to a user request, \
                 shrinking the capacity from 4 to 3.";
    let told = Some(Decremented { from: 4, to: 3 });
    assert_eq!(read(&[cause]).await, [told, told, None]);
}

#[tokio::test]
async fn an_answer_that_tells_nothing_is_no_failure() {
    assert_eq!(read(&[]).await, [None; 3]);
    assert_eq!(read(&["At noon it was detached in response to a user request."]).await, [None; 3]);
}
