//! Secrets in AWS's answers (user data, a kubeconfig, credentials): an error's text repeats none of them.

#![allow(clippy::unwrap_used)]

use aws_sdk_ec2::config::http::HttpResponse;
use aws_sdk_ec2::error::SdkError;
use aws_sdk_ec2::operation::describe_instance_attribute::DescribeInstanceAttributeError;
use spot_cloud::ec2::instances;
use spot_cloud::{CallError, Kind};
use spot_domain::words::LONGEST;
use spot_scripted::{Endpoint, ScriptedAnswer};

async fn refused_by(answer: ScriptedAnswer) -> CallError {
    let endpoint = Endpoint::start(vec![answer]).await;
    let ec2 = aws_sdk_ec2::Client::new(&endpoint.config().await);
    instances::is_termination_protected(&ec2, &"i-0123456789abcdef0".parse().unwrap()).await.unwrap_err()
}

#[tokio::test]
async fn an_answer_that_cant_be_read_is_not_repeated() {
    let body = format!("<userData><value>s3cret</value>{}", "s3cret ".repeat(150_000));
    let error = refused_by(ScriptedAnswer::ok(body)).await;
    let told = format!("{error} {error:?}");
    assert!(!told.contains("s3cret") && told.len() < 2_000, "{told}");
    assert_eq!(error.kind, Kind::Retry);
}

#[tokio::test]
async fn the_sdks_error_is_kept_and_said_once() {
    let of = |code| ScriptedAnswer::ec2_error(400, code).saying("its words");
    let unreadable = ScriptedAnswer::ok("<userData>");
    for (answer, message) in
        [(of("InvalidInstanceID.NotFound"), "its words"), (unreadable, "DescribeInstanceAttribute")]
    {
        let error = refused_by(answer).await;
        let source = std::error::Error::source(&error).unwrap();
        assert!(source.downcast_ref::<SdkError<DescribeInstanceAttributeError, HttpResponse>>().is_some());
        assert!(error.message.contains(message), "{error}");
        let said = error.to_string();
        assert_eq!(said.matches(&error.message).count(), 1, "{said}");
    }
}

#[tokio::test]
async fn a_long_refusal_is_cut() {
    let words = format!("You are not authorized. {}", "x".repeat(5_000));
    let error = refused_by(ScriptedAnswer::ec2_error(403, "UnauthorizedOperation").saying(&words)).await;
    assert!(error.message.starts_with("You are not authorized."), "{error}");
    assert_eq!(error.message.chars().count(), LONGEST + 1, "and the mark of what is missing");
}
