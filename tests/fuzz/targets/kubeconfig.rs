//! Kubeconfigs: the text of a secret, up to a client that has made no call.
//!
//! It promises: no panic. No file is read and no program is run: every path in the samples leads nowhere, so that a
//! try would show as an error of the operating system. No server but an https one is taken. An error names the field.

use spot_cluster::access::{self, AccessError};
use spot_fuzz::Target;

use crate::promise;

const SECRET: &str = "arn:aws:secretsmanager:us-east-1:123456789012:secret:prod";
/// The parts of a kubeconfig that an error may name.
const FIELDS: [&str; 22] = [
    "no YAML of a kubeconfig",
    "current-context",
    "current context",
    "context",
    "cluster",
    "user",
    "server",
    "exec",
    "auth-provider",
    "token",
    "tokenFile",
    "client-certificate",
    "client certificate",
    "client-key",
    "client key",
    "certificate-authority",
    "certificate authority",
    "proxy-url",
    "insecure-skip-tls-verify",
    "tls-server-name",
    "kind",
    "apiVersion",
];
/// The longest error: it becomes the detail of a report.
const LONGEST_ERROR: usize = 1_001;

#[test]
fn kubeconfig() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let words = &[
        "client-certificate",
        "client-key",
        "/nonexistent/file",
        "tokenFile",
        "https://[::1]:6443",
        "https://",
        "https:",
        "https://a b",
        "https://x:99999",
        "unix:///run/x",
    ];
    Target { name: "kubeconfig", samples: &[], words, cases: 2_000 }.fuzz(|bytes| {
        let text = String::from_utf8_lossy(bytes);
        check(runtime.block_on(access::by_text(SECRET, &text)).map(drop))
    });
}

/// Two hundred bytes that stand for a billion texts.
#[tokio::test]
async fn a_bomb_of_aliases_is_refused() {
    let levels = (1..9)
        .map(|level| format!("a{level}: &a{level} [{}]\n", vec![format!("*a{}", level - 1); 9].join(",")));
    let bomb = format!("a0: &a0 x\n{}", levels.collect::<String>());
    let refused = access::by_text(SECRET, &bomb).await.err().unwrap().to_string();
    assert!(refused.ends_with("no YAML of a kubeconfig"), "{refused}");
}

fn check(opened: Result<(), AccessError>) -> Result<(), String> {
    match opened {
        Ok(()) => Ok(()),
        Err(AccessError::Kubeconfig { problem, .. }) => {
            let problem = problem.to_string();
            let touched =
                ["os error", "No such file", "unable to run"].iter().any(|sign| problem.contains(sign));
            promise(!touched, || format!("a file was read or a program was run: {problem}"))?;
            promise(problem.chars().count() <= LONGEST_ERROR, || {
                format!("an error of {} bytes", problem.len())
            })?;
            let named = FIELDS.iter().any(|field| problem.contains(field));
            promise(named, || format!("the error names no field: {problem}"))
        }
        Err(other) => Err(format!("no error of the kubeconfig: {other:?}")),
    }
}
