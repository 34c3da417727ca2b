//! A client for a cluster's API server: of EKS, or by a kubeconfig in Secrets Manager.
//!
//! The client retries nothing by itself and gives up on a silent server after 32 s. The caller decides what
//! follows.

use std::time::Duration;

use aws_credential_types::provider::ProvideCredentials;
use aws_sdk_eks::config::http::HttpResponse;
use aws_sdk_eks::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_eks::types::{AuthenticationMode, ClusterStatus};
use aws_types::SdkConfig;
use jiff::Timestamp;
use kube::client::RustlsTlsError;
use kube::config::{
    AuthInfo, Cluster, Context, KubeConfigOptions, Kubeconfig, KubeconfigError, NamedAuthInfo, NamedCluster,
    NamedContext,
};
use kube::{Client, Config};
use secrecy::ExposeSecret;
use spot_domain::Region;
use spot_domain::clock;
use spot_domain::ids::ClusterName;
use spot_domain::words::{Cause, LONGEST, chain, cut};

pub use crate::access_error::AccessError;
use crate::eks_token;
use crate::expiry;
use crate::knock::{Route, knock};
pub use simulated::simulate;

mod simulated;

/// The longest wait for the API server to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The longest silence of the API server within an answer. An admission webhook may take 30 s for one
/// eviction; with `failurePolicy: Ignore` the API server grants the eviction after that
/// (<https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#timeouts>). A
/// client that has left by then is granted nothing.
pub const READ_TIMEOUT: Duration = Duration::from_secs(32);

/// A client that has made no call yet.
pub struct Untried {
    /// The first call shows a missing access entry, as [`Kind::Unauthorized`](crate::Kind::Unauthorized).
    pub client: Client,
    of: String,
    route: Route,
}

impl Untried {
    /// Makes the first call, which shows that the API server answers and knows the caller.
    ///
    /// # Errors
    /// [`AccessError`] names the problem and the way out.
    pub async fn tried(self) -> Result<Client, AccessError> {
        knock(&self.client, &self.of, &self.route).await?;
        Ok(self.client)
    }
}

/// Opens a client for an EKS cluster, with a token minted now (valid for 15 minutes). Make a new client for
/// each invocation.
///
/// # Errors
/// [`AccessError`] names the problem and the way out.
pub async fn eks(config: &SdkConfig, cluster: &ClusterName) -> Result<Untried, AccessError> {
    let of = format!("cluster {cluster}");
    let call = "eks:DescribeCluster";
    let answer = aws_sdk_eks::Client::new(config).describe_cluster().name(cluster.as_str()).send().await;
    let found = answer.map_err(|e| sorted(&of, call, e))?.cluster.ok_or_else(|| lacks(&of, "no cluster"))?;
    match found.status {
        // The API server keeps serving while EKS updates it.
        Some(ClusterStatus::Active | ClusterStatus::Updating) => {}
        status => {
            let status = status.map_or("UNKNOWN".to_owned(), |status| status.as_str().to_owned());
            return Err(AccessError::NotActive { cluster: cluster.clone(), status });
        }
    }
    let endpoint = found.endpoint.ok_or_else(|| lacks(&of, "no endpoint"))?;
    let vpc = found.resources_vpc_config;
    let mode = found.access_config.and_then(|access| access.authentication_mode);
    let route = Route::Eks {
        endpoint: endpoint.clone(),
        is_public: vpc.as_ref().is_none_or(|vpc| vpc.endpoint_public_access),
        public_cidrs: vpc.and_then(|vpc| vpc.public_access_cidrs).unwrap_or_default(),
        takes_access_entries: mode != Some(AuthenticationMode::ConfigMap),
    };
    let authority = found.certificate_authority.and_then(|authority| authority.data);
    let server = Cluster {
        server: Some(endpoint),
        certificate_authority_data: Some(authority.ok_or_else(|| lacks(&of, "no certificate authority"))?),
        ..Cluster::default()
    };
    let user = AuthInfo { token: Some(mint(config, &of, cluster).await?), ..AuthInfo::default() };
    match client(kubeconfig_of(server, user)).await {
        Ok(client) => Ok(Untried { client, of, route }),
        Err(problem) => Err(AccessError::Client { of, problem: problem.into() }),
    }
}

/// Opens a client by the kubeconfig that the secret holds as text. The kubeconfig must be self-contained,
/// since a Lambda has neither files nor programs: data instead of paths, a token or a client certificate
/// instead of an `exec` plugin.
///
/// # Errors
/// [`AccessError`] names the problem and the way out.
pub async fn kubeconfig(config: &SdkConfig, secret_arn: &str) -> Result<Untried, AccessError> {
    let of = format!("secret {secret_arn}");
    let answer =
        aws_sdk_secretsmanager::Client::new(config).get_secret_value().secret_id(secret_arn).send().await;
    let secret = answer.map_err(|e| sorted(&of, "secretsmanager:GetSecretValue", e))?.secret_string;
    let Some(text) = secret else {
        let problem = "it holds binary data; store the kubeconfig as text".into();
        return Err(AccessError::Kubeconfig { secret: secret_arn.to_owned(), problem });
    };
    by_text(secret_arn, &text).await
}

/// Opens a client by the text that the secret holds. Makes no call, reads no file and runs no program.
///
/// # Errors
/// [`AccessError::Kubeconfig`] names the field and the way out.
pub async fn by_text(secret_arn: &str, text: &str) -> Result<Untried, AccessError> {
    let of = format!("secret {secret_arn}");
    let refused = |problem: String| {
        let problem = cut(&problem, LONGEST).into(); // it quotes names and addresses
        AccessError::Kubeconfig { secret: secret_arn.to_owned(), problem }
    };
    let (parsed, server) = self_contained(text, clock::now()).map_err(refused)?;
    let route = Route::Kubeconfig { secret: secret_arn.to_owned(), server };
    Ok(Untried { client: client(parsed).await.map_err(refused)?, of, route })
}

async fn mint(
    config: &SdkConfig,
    of: &str,
    cluster: &ClusterName,
) -> Result<secrecy::SecretString, AccessError> {
    let region = config.region().map(ToString::to_string).unwrap_or_default();
    let region: Region = region.parse().map_err(|_| lacks(of, "no region in the configuration"))?;
    let provider = config.credentials_provider().ok_or_else(|| lacks(of, "no credentials"))?;
    // An assumed role's credentials come over the network.
    let credentials = provider.provide_credentials().await.map_err(|e| AccessError::Retry {
        of: of.to_owned(),
        call: "sts:AssumeRole",
        message: Cause::in_words(chain(&e), e),
    })?;
    Ok(eks_token::token(&credentials, &region, cluster, clock::now())?)
}

/// Parses a kubeconfig. Refuses one that needs files, programs or a proxy, or whose credentials have expired.
/// Returns the kubeconfig and the API server's address.
fn self_contained(text: &str, now: Timestamp) -> Result<(Kubeconfig, String), String> {
    // The parser's own message shows the lines around the error, which may be secrets.
    let config = Kubeconfig::from_yaml(text).map_err(|_| "it is no YAML of a kubeconfig".to_owned())?;
    let name = config.current_context.as_deref().ok_or("it has no current-context")?;
    let named = config.contexts.iter().find(|context| context.name == name);
    let context = named
        .and_then(|c| c.context.as_ref())
        .ok_or_else(|| format!("it lacks its current context {name}"))?;
    let cluster = config.clusters.iter().find(|cluster| cluster.name == context.cluster);
    let cluster = cluster
        .and_then(|c| c.cluster.as_ref())
        .ok_or_else(|| format!("it lacks the cluster {}", context.cluster))?;
    let login = context.user.as_deref().unwrap_or_default();
    let user = config.auth_infos.iter().find(|user| user.name == login);
    let user = user.and_then(|u| u.auth_info.as_ref()).ok_or_else(|| format!("it lacks the user {login}"))?;
    let unusable = [
        (user.exec.is_some(), "an exec plugin", "use a service account's token"),
        (user.auth_provider.is_some(), "an auth-provider", "use a service account's token"),
        (user.token.is_none() && user.token_file.is_some(), "tokenFile", "use token"),
        (
            user.client_certificate_data.is_none() && user.client_certificate.is_some(),
            "client-certificate",
            "use client-certificate-data",
        ),
        (user.client_key_data.is_none() && user.client_key.is_some(), "client-key", "use client-key-data"),
        (
            cluster.certificate_authority_data.is_none() && cluster.certificate_authority.is_some(),
            "certificate-authority",
            "use certificate-authority-data",
        ),
        (cluster.proxy_url.is_some(), "proxy-url", "make the API server reachable without one"),
    ];
    if cluster.insecure_skip_tls_verify == Some(true) {
        return Err("it has insecure-skip-tls-verify: whoever answers would be given its credentials; use \
                    certificate-authority-data"
            .to_owned());
    }
    if let Some((_, what, instead)) = unusable.into_iter().find(|(is_used, ..)| *is_used) {
        return Err(format!("it uses {what}, but there are no files, programs or proxies here: {instead}"));
    }
    if let Some(problem) = expired(user, now) {
        return Err(problem);
    }
    let server =
        cluster.server.clone().ok_or_else(|| format!("the cluster {} has no server", context.cluster))?;
    let is_https = server.parse::<http::Uri>().is_ok_and(|uri| uri.scheme_str() == Some("https"));
    if !is_https {
        return Err(format!(
            "its server {server} is no https:// address: its credentials would travel in the open"
        ));
    }
    Ok((config, server))
}

fn expired(user: &AuthInfo, now: Timestamp) -> Option<String> {
    let certificate = user.client_certificate_data.as_deref().and_then(expiry::of_certificate);
    let token = user.token.as_ref().and_then(|token| expiry::of_token(token.expose_secret()));
    let ends = [("client certificate", certificate), ("token", token)];
    let (what, end) =
        ends.into_iter().find_map(|(what, end)| Some((what, end.filter(|end| *end <= now)?)))?;
    Some(format!("its {what} expired at {end}: store a kubeconfig with a new one"))
}

fn kubeconfig_of(cluster: Cluster, user: AuthInfo) -> Kubeconfig {
    let name = "eks".to_owned();
    let context = Context { cluster: name.clone(), user: Some(name.clone()), ..Context::default() };
    Kubeconfig {
        current_context: Some(name.clone()),
        contexts: vec![NamedContext {
            name: name.clone(),
            context: Some(context),
            ..NamedContext::default()
        }],
        auth_infos: vec![NamedAuthInfo {
            name: name.clone(),
            auth_info: Some(user),
            ..NamedAuthInfo::default()
        }],
        clusters: vec![NamedCluster { name, cluster: Some(cluster), ..NamedCluster::default() }],
        ..Kubeconfig::default()
    }
}

/// Builds the real client. By its defaults, kube would repeat 429, 503 and 504 for minutes, wait for an
/// answer without end, and take a proxy from the environment.
async fn client(kubeconfig: Kubeconfig) -> Result<Client, String> {
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    let config = config.map_err(|e| match &e {
        KubeconfigError::ParseCertificates(problem) => format!("certificate-authority-data: {problem}"),
        _ => e.to_string(),
    })?;
    let config = cautious(config);
    if let Some(client) = simulated::client(&config) {
        return Ok(client);
    }
    Client::try_from(config).map_err(|e| match &e {
        kube::Error::RustlsTls(problem) => format!("{}: {problem}", field_of(problem)),
        _ => e.to_string(),
    })
}

/// Returns the field of a kubeconfig that the TLS library refuses.
fn field_of(problem: &RustlsTlsError) -> &'static str {
    match problem {
        RustlsTlsError::AddRootCertificate(_) | RustlsTlsError::NoValidNativeRootCA(_) => {
            "certificate-authority-data"
        }
        RustlsTlsError::InvalidServerName(_) => "tls-server-name",
        RustlsTlsError::MissingCertificate => "client-certificate-data",
        RustlsTlsError::MissingPrivateKey
        | RustlsTlsError::InvalidPrivateKey(_)
        | RustlsTlsError::UnknownPrivateKeyFormat => "client-key-data",
        RustlsTlsError::InvalidIdentityPem(_) => "client-certificate-data or client-key-data",
    }
}

/// Returns the same cluster and user, with the timeouts and without the retries that this crate wants.
#[must_use]
pub fn cautious(mut config: Config) -> Config {
    config.default_retry = false;
    config.proxy_url = None;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(READ_TIMEOUT);
    // Without this, the time that a connection was idle would count as silence.
    config.reset_reader_on_write = true;
    config
}

fn lacks(of: &str, problem: &str) -> AccessError {
    AccessError::Client { of: of.to_owned(), problem: problem.into() }
}

fn sorted<E>(of: &str, call: &'static str, error: SdkError<E, HttpResponse>) -> AccessError
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let of = of.to_owned();
    let message = error.message().map_or_else(|| chain(&error), |message| cut(message, LONGEST));
    let status = error.raw_response().map(|response| response.status().as_u16());
    let code = error.code().unwrap_or_default().to_owned();
    let message = Cause::in_words(message, error);
    match code.as_str() {
        "ResourceNotFoundException" => AccessError::NotFound { of },
        "AccessDeniedException" | "AccessDenied" | "UnrecognizedClientException" | "DecryptionFailure" => {
            AccessError::Denied { of, call, message }
        }
        code if code.contains("Throttl") || code.contains("ExpiredToken") || code == "RequestTimeout" => {
            AccessError::Retry { of, call, message }
        }
        _ if status.is_none_or(|status| status >= 500 || status == 429) => {
            AccessError::Retry { of, call, message }
        }
        _ => AccessError::Rejected { of, call, message },
    }
}

#[cfg(test)]
pub(crate) mod tests;
