use base64::Engine;
use spot_domain::clock;

use super::*;
use spot_scripted::{Endpoint, ScriptedAnswer};

/// A self-signed certificate, in base64 over PEM as EKS returns it.
pub(crate) const AUTHORITY: &str = concat!(
    "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1JSUJkVENDQVJ1Z0F3SUJBZ0lVRWw3QWg2Z0xzZmZodjdaV3h4Z1",
    "d2S01qVlpVd0NnWUlLb1pJemowRUF3SXcKRHpFTk1Bc0dBMVVFQXd3RWRHVnpkREFnRncweU5qRXhNalV3TWpRd01U",
    "VmFHQTh5TVRJMk1URXdNVEF5TkRBeApOVm93RHpFTk1Bc0dBMVVFQXd3RWRHVnpkREJaTUJNR0J5cUdTTTQ5QWdFR0",
    "NDcUdTTTQ5QXdFSEEwSUFCT2tXCkNibEZxOXVaTnhBdmllZm4zUTlVczU5NGUzTWFWTHZqdENldndyMjlFNHFpZms3",
    "dnIrV1JRSlI1emNobVRnQk8KRnF3T0FWYkFSWU54UVhja1hlV2pVekJSTUIwR0ExVWREZ1FXQkJSbERCTjhuL2ptc1",
    "JGaUxCRGl2cnVYc2l1KwpmekFmQmdOVkhTTUVHREFXZ0JSbERCTjhuL2ptc1JGaUxCRGl2cnVYc2l1K2Z6QVBCZ05W",
    "SFJNQkFmOEVCVEFECkFRSC9NQW9HQ0NxR1NNNDlCQU1DQTBnQU1FVUNJQ0Q3d2kxQWEzN215SVhiaEdxa0xCZGlHRT",
    "lnZjRIdGovdU0KVThpd1kzU1ZBaUVBZ1VjZ1JPQjdKTktOZWtYbDFWSnNDSklMeTNtNE9iR3o2dFB0NG1vaFM0Zz0K",
    "LS0tLS1FTkQgQ0VSVElGSUNBVEUtLS0tLQo=",
);

const HEAD: &str = "
apiVersion: v1
kind: Config
current-context: prod
contexts: [{name: prod, context: {cluster: prod, user: optimizer}}]
";

fn with(cluster: &str, user: &str) -> String {
    format!(
        "{HEAD}clusters: [{{name: prod, cluster: {{server: \"https://10.0.0.1:6443\"{cluster}}}}}]\n\
         users: [{{name: optimizer, user: {{{user}}}}}]\n"
    )
}

fn refusal(text: &str) -> String {
    self_contained(text, clock::now()).unwrap_err()
}

#[tokio::test]
async fn a_real_client_is_built_from_a_kubeconfig() {
    let parsed = self_contained(&with("", "token: s3cret"), clock::now()).unwrap().0;
    // Panics if the TLS library found no or two crypto providers.
    client(parsed).await.unwrap();
}

#[tokio::test]
async fn credentials_that_the_tls_library_refuses_are_named() {
    let holding = |body: &str, label: &str| {
        let text = format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n");
        base64::engine::general_purpose::STANDARD.encode(text)
    };
    let pem = |label: &str| holding("MAA=", label);
    let identity = |certificate: &str, key: &str| {
        format!("client-certificate-data: {certificate}, client-key-data: {key}")
    };
    let cases = [
        ("", identity(AUTHORITY, &pem("PRIVATE KEY")), "client-key-data: "),
        ("", identity(AUTHORITY, AUTHORITY), "client-key-data: "),
        ("", identity(&pem("PRIVATE KEY"), &pem("PRIVATE KEY")), "client-certificate-data: "),
        (
            &format!(", certificate-authority-data: {}", pem("CERTIFICATE")),
            "token: t".to_owned(),
            "certificate-authority-data: ",
        ),
        (
            &format!(", certificate-authority-data: {}", holding("M~A=", "CERTIFICATE")),
            "token: t".to_owned(),
            "certificate-authority-data: ",
        ),
    ];
    for (cluster, user, expected) in cases {
        let parsed = self_contained(&with(cluster, &user), clock::now()).unwrap().0;
        let problem = client(parsed).await.err().unwrap_or_default();
        assert!(problem.starts_with(expected), "{expected:?}: {problem}");
    }
}

#[test]
fn files_programs_and_proxies_are_refused_by_name() {
    let cases = [
        (", certificate-authority: /etc/ca.crt", "token: s3cret", "uses certificate-authority,"),
        (", proxy-url: \"http://proxy:3128\"", "token: s3cret", "uses proxy-url,"),
        ("", "tokenFile: /var/token", "uses tokenFile,"),
        ("", "client-certificate: /c.crt, client-key: /c.key", "uses client-certificate,"),
        ("", "exec: {apiVersion: client.authentication.k8s.io/v1, command: aws}", "uses an exec plugin,"),
        ("", "auth-provider: {name: oidc}", "uses an auth-provider,"),
    ];
    for (cluster, user, expected) in cases {
        let problem = refusal(&with(cluster, user));
        assert!(problem.contains(expected), "{problem}");
    }
}

#[test]
fn a_server_that_anybody_could_play_is_refused() {
    let skipped = refusal(&with(", insecure-skip-tls-verify: true", "token: s3cret"));
    assert!(skipped.contains("has insecure-skip-tls-verify"), "{skipped}");
    let kubeconfig = |server: &str| with("", "token: s3cret").replace("https://10.0.0.1:6443", server);
    for server in ["http://10.0.0.1:6443", "HTTP://10.0.0.1", "10.0.0.1:6443", "unix:///run/api.sock", ""] {
        let problem = refusal(&kubeconfig(server));
        assert!(problem.contains("is no https:// address") && !problem.contains("s3cret"), "{problem}");
    }
    let verified = with(", insecure-skip-tls-verify: false", "token: s3cret");
    for fine in [verified, kubeconfig("HTTPS://10.0.0.1:6443")] {
        self_contained(&fine, clock::now()).unwrap();
    }
}

#[test]
fn credentials_that_have_expired_are_refused_before_any_call() {
    let certificate = with("", &format!("client-certificate-data: {AUTHORITY}, client-key-data: a2V5"));
    let at = |text: &str| text.parse().unwrap();
    assert!(self_contained(&certificate, at("2100-01-01T00:00:00Z")).is_ok());
    let problem = self_contained(&certificate, at("2127-01-01T00:00:00Z")).unwrap_err();
    assert_eq!(
        problem,
        "its client certificate expired at 2126-11-01T02:40:15Z: store a kubeconfig with a new one"
    );
    let token = with("", "token: e30.eyJleHAiOjF9.c2ln");
    assert!(refusal(&token).starts_with("its token expired at 1970-01-01"), "{}", refusal(&token));
}

#[test]
fn an_incomplete_kubeconfig_says_what_it_lacks() {
    assert_eq!(refusal("kind: Config"), "it has no current-context");
    let no_user = format!("{HEAD}clusters: [{{name: prod, cluster: {{server: \"https://10.0.0.1\"}}}}]\n");
    assert_eq!(refusal(&no_user), "it lacks the user optimizer");
    assert_eq!(refusal(HEAD), "it lacks the cluster prod");
}

#[tokio::test]
async fn a_long_name_makes_no_long_error() {
    let text = format!("current-context: {}", "x".repeat(5_000));
    let error = by_text("arn", &text).await.err().unwrap().to_string();
    assert!(error.contains("lacks its current context xxx") && error.len() < 1_100, "{}", error.len());
}

#[test]
fn a_malformed_kubeconfig_keeps_its_secrets() {
    let problem = refusal("users: [{name: a, user: {token: s3cret\nclusters: ]");
    assert!(!problem.contains("s3cret"), "{problem}");
}

#[test]
fn the_client_gives_up_in_time_and_repeats_nothing() {
    let mut config = Config::new("https://10.0.0.1".parse().unwrap());
    config.proxy_url = Some("http://proxy:3128".parse().unwrap());
    let config = cautious(config);
    assert!(!config.default_retry);
    assert_eq!(config.proxy_url, None);
    assert_eq!(config.connect_timeout, Some(Duration::from_secs(2)));
    assert_eq!(config.read_timeout, Some(Duration::from_secs(32)));
}

/// Returns the errors of Secrets Manager and of EKS, which both answer from the script.
async fn refused_by(answer: ScriptedAnswer) -> (AccessError, AccessError) {
    let config = Endpoint::start(vec![answer]).await.config().await;
    let eks = eks(&config, &"prod".parse().unwrap()).await.err().unwrap();
    let secret = kubeconfig(&config, "arn:aws:secretsmanager:us-east-1:123456789012:secret:prod").await;
    (eks, secret.err().unwrap())
}

#[tokio::test]
async fn an_answer_that_cant_be_read_is_not_repeated_in_the_error() {
    let (eks, secret) =
        refused_by(ScriptedAnswer::ok(r#"{"SecretString":"s3cret", "cluster": s3cret"#)).await;
    for error in [eks, secret] {
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
    }
}

#[tokio::test]
async fn a_missing_permission_is_named() {
    let (eks, secret) = refused_by(ScriptedAnswer::json_error(403, "AccessDeniedException")).await;
    assert_eq!(eks.to_string(), "cluster prod: permission eks:DescribeCluster is missing: scripted");
    assert!(matches!(&secret, AccessError::Denied { call: "secretsmanager:GetSecretValue", .. }), "{secret}");
    assert!(!eks.is_retryable() && !secret.is_retryable());
}

#[tokio::test]
async fn what_does_not_exist_is_told_from_what_does_not_answer() {
    let (eks, secret) = refused_by(ScriptedAnswer::json_error(400, "ResourceNotFoundException")).await;
    assert_eq!(eks.to_string(), "cluster prod does not exist in this account and region");
    assert!(matches!(secret, AccessError::NotFound { .. }));
    let (eks, secret) = refused_by(ScriptedAnswer::json_error(503, "ServiceUnavailable")).await;
    assert!(eks.is_retryable() && secret.is_retryable(), "{eks}, {secret}");
}

#[tokio::test]
async fn only_a_cluster_that_serves_is_opened() {
    let described = |status: &str| {
        format!(
            r#"{{"cluster":{{"name":"prod","status":"{status}","endpoint":"https://10.0.0.1","certificateAuthority":{{"data":"{AUTHORITY}"}}}}}}"#
        )
    };
    let config = Endpoint::start(
        ["CREATING", "UPDATING", "ACTIVE"].map(|status| ScriptedAnswer::ok(described(status))).to_vec(),
    );
    let config = config.await.config().await;
    let error = eks(&config, &"prod".parse().unwrap()).await.err().unwrap();
    assert_eq!(error.to_string(), "cluster prod is CREATING, not ACTIVE");
    for _ in 0..2 {
        eks(&config, &"prod".parse().unwrap()).await.unwrap();
    }
}
