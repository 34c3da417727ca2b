use super::*;

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

#[tokio::test]
async fn a_real_client_is_built_from_a_kubeconfig() {
    let parsed = self_contained(&with("", "token: s3cret")).unwrap();
    // Panics if the TLS library found no or two crypto providers.
    client(parsed).await.unwrap();
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
        let problem = self_contained(&with(cluster, user)).unwrap_err();
        assert!(problem.contains(expected), "{problem}");
    }
}

#[test]
fn an_incomplete_kubeconfig_says_what_it_lacks() {
    assert_eq!(self_contained("kind: Config").unwrap_err(), "it has no current-context");
    let no_user = format!("{HEAD}clusters: [{{name: prod, cluster: {{server: \"https://10.0.0.1\"}}}}]\n");
    assert_eq!(self_contained(&no_user).unwrap_err(), "it lacks the user optimizer");
    assert_eq!(self_contained(HEAD).unwrap_err(), "it lacks the cluster prod");
}

#[test]
fn a_malformed_kubeconfig_keeps_its_secrets() {
    let problem = self_contained("users: [{name: a, user: {token: s3cret\nclusters: ]").unwrap_err();
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
    assert_eq!(config.read_timeout, Some(Duration::from_secs(10)));
}
