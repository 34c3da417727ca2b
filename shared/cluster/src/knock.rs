//! The first call to a cluster: says why an API server is not reached, or does not accept its caller, with
//! the way out in words. Later calls are patient with a server that is silent for a while. At the first call,
//! a moment's silence looks like an address that never answers: the caller repeats the call some times before
//! it believes in the latter. A certificate that is wrong says so at once.

use spot_domain::words::Cause;
use std::net::IpAddr;

use kube::Client;

use crate::access_error::AccessError;
use crate::error::{ClusterError, Kind, cut, failed};

const CALL: &str = "get /version";
const INTO_THE_VPC: &str = "deploy the stack with the parameters VpcSubnetIds and VpcSecurityGroupIds, so that its \
                            functions run in that VPC, and let them in on the API server's port";

/// The way to the API server, as far as it explains a failure to reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    /// The cluster of EKS, by DescribeCluster.
    Eks {
        endpoint: String,
        /// True if the endpoint answers outside of the cluster's VPC.
        is_public: bool,
        /// The only addresses to which the public endpoint answers.
        public_cidrs: Vec<String>,
        /// True if access entries count (authentication mode `API` or `API_AND_CONFIG_MAP`).
        takes_access_entries: bool,
    },
    /// The server of the kubeconfig in this secret.
    Kubeconfig { secret: String, server: String },
}

/// Makes one call that every known caller may make.
///
/// # Errors
/// The server is not reached or does not know the caller; [`AccessError::Retry`] if that may pass by itself.
pub(crate) async fn knock(client: &Client, of: &str, route: &Route) -> Result<(), AccessError> {
    match client.apiserver_version().await.map_err(failed(CALL, of)) {
        Ok(_) => Ok(()),
        Err(error) => sorted(of, route, error),
    }
}

fn sorted(of: &str, route: &Route, error: ClusterError) -> Result<(), AccessError> {
    let of = of.to_owned();
    let message = cut(&error.message);
    match error.kind {
        Kind::Unauthorized => {
            let problem = Cause::in_words(unknown_caller(route), error);
            Err(AccessError::NotLetIn { of, problem })
        }
        Kind::Retry | Kind::Rejected if error.reason == "NoAnswer" => {
            if message.contains("certificate") {
                let problem = format!("{} ({message})", certificate(&message, route.server()));
                return Err(route.refuses(of, Cause::in_words(problem, error)));
            }
            Err(match unreachable(route, &message) {
                Some(problem) => {
                    let problem = Cause::in_words(problem, error);
                    AccessError::Silent { of, secret: route.secret(), problem }
                }
                None => AccessError::Retry { of, call: CALL, message: Cause::in_words(message, error) },
            })
        }
        Kind::Retry => Err(AccessError::Retry { of, call: CALL, message: Cause::in_words(message, error) }),
        // The server knows the caller. The next call shows the caller's rights.
        Kind::Denied | Kind::NotFound | Kind::Conflict | Kind::Rejected => Ok(()),
    }
}

impl Route {
    fn refuses(&self, of: String, problem: Cause) -> AccessError {
        match self {
            Self::Eks { .. } => AccessError::Unreachable { of, problem },
            Self::Kubeconfig { secret, .. } => AccessError::Kubeconfig { secret: secret.clone(), problem },
        }
    }

    fn secret(&self) -> Option<String> {
        match self {
            Self::Eks { .. } => None,
            Self::Kubeconfig { secret, .. } => Some(secret.clone()),
        }
    }

    fn server(&self) -> &str {
        match self {
            Self::Eks { endpoint, .. } => endpoint,
            Self::Kubeconfig { server, .. } => server,
        }
    }
}

fn unknown_caller(route: &Route) -> String {
    match route {
        Route::Eks { takes_access_entries: false, .. } => {
            "the API server does not know the function's role (401): the cluster's authentication mode is CONFIG_MAP, \
             in which access entries do not count; change it to API_AND_CONFIG_MAP, then create an access entry for \
             the role with the Kubernetes group spot-optimizer"
        }
        Route::Eks { .. } => {
            "the API server does not know the function's role (401): create an access entry for it with the \
             Kubernetes group spot-optimizer (aws eks create-access-entry --kubernetes-groups spot-optimizer), or \
             deploy the stack with the parameter EksClusterName"
        }
        Route::Kubeconfig { .. } => {
            "the API server does not know the user of the kubeconfig (401): store one with a token or a client \
             certificate that is valid"
        }
    }
    .to_owned()
}

/// Returns what keeps the server from being reached, if its address alone explains the silence.
fn unreachable(route: &Route, message: &str) -> Option<String> {
    let server = route.server();
    if message.contains("dns error") || message.contains("failed to lookup address") {
        return Some(format!(
            "the name of its API server {server} can't be resolved ({message}): correct it, or {INTO_THE_VPC}"
        ));
    }
    match route {
        Route::Eks { is_public: false, .. } => Some(format!(
            "its endpoint {server} is private and does not answer ({message}): {INTO_THE_VPC}, or make the endpoint \
             public, too"
        )),
        Route::Eks { public_cidrs, .. }
            if !public_cidrs.is_empty() && !public_cidrs.iter().any(|c| c.ends_with("/0")) =>
        {
            Some(format!(
                "its endpoint {server} does not answer ({message}) and takes callers from {} only: add the address \
                 that the functions call from, or {INTO_THE_VPC}",
                public_cidrs.join(", ")
            ))
        }
        Route::Kubeconfig { .. } if is_private(server) => Some(format!(
            "its API server {server} has a private address and does not answer ({message}): {INTO_THE_VPC}"
        )),
        Route::Eks { .. } | Route::Kubeconfig { .. } => None,
    }
}

fn certificate(message: &str, server: &str) -> String {
    if message.contains("Expired") || message.contains("expired") {
        return format!("the certificate of its API server {server} has expired: renew it");
    }
    if message.contains("NotValidForName") || message.contains("not valid for") {
        return format!(
            "the certificate of its API server {server} is for another name: correct server, or set tls-server-name"
        );
    }
    format!(
        "the certificate of its API server {server} is of another authority: store the cluster's CA in \
         certificate-authority-data"
    )
}

fn is_private(server: &str) -> bool {
    let host = server.parse::<http::Uri>().ok().and_then(|uri| uri.host().map(str::to_owned));
    let address = host.and_then(|host| host.trim_matches(['[', ']']).parse::<IpAddr>().ok());
    address.is_some_and(|address| match address {
        IpAddr::V4(address) => address.is_private() || address.is_link_local(),
        IpAddr::V6(address) => address.is_unique_local(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;

    fn eks(is_public: bool, cidrs: &[&str], takes_access_entries: bool) -> Route {
        Route::Eks {
            endpoint: "https://ABC.gr7.us-east-1.eks.amazonaws.com".to_owned(),
            is_public,
            public_cidrs: cidrs.iter().map(|cidr| (*cidr).to_owned()).collect(),
            takes_access_entries,
        }
    }

    fn by_kubeconfig(server: &str) -> Route {
        Route::Kubeconfig { secret: "shop".to_owned(), server: server.to_owned() }
    }

    fn silent(message: &str) -> ClusterError {
        ClusterError::new(CALL, "cluster shop", kube::Error::Service(message.to_owned().into()))
    }

    fn said(route: &Route, error: ClusterError) -> (String, bool) {
        let error = sorted("cluster shop", route, error).unwrap_err();
        (error.to_string(), error.is_retryable())
    }

    #[test]
    fn what_may_not_mend_itself_is_named_with_its_way_out() {
        let late = "client error (Connect): deadline has elapsed";
        let cases = [
            (eks(false, &[], true), late, "is private and does not answer"),
            (eks(true, &["203.0.113.0/24"], true), late, "takes callers from 203.0.113.0/24 only"),
            (
                eks(true, &["0.0.0.0/0"], true),
                "dns error: failed to lookup address information",
                "can't be resolved",
            ),
            (by_kubeconfig("https://api.shop.invalid"), "dns error: no record", "can't be resolved"),
            (by_kubeconfig("https://10.0.0.1:6443"), late, "has a private address"),
            (by_kubeconfig("https://[fd00::1]:6443"), late, "has a private address"),
            (
                by_kubeconfig("https://192.0.2.1"),
                "invalid peer certificate: Expired",
                "has expired: renew it",
            ),
            (by_kubeconfig("https://192.0.2.1"), "invalid peer certificate: NotValidForName", "another name"),
            (
                by_kubeconfig("https://192.0.2.1"),
                "invalid peer certificate: UnknownIssuer",
                "another authority",
            ),
        ];
        for (route, message, expected) in cases {
            let (text, is_retryable) = said(&route, silent(message));
            assert!(text.contains(expected) && !is_retryable, "{message}: {text}");
            let error = sorted("cluster shop", &route, silent(message)).unwrap_err();
            // Only a certificate is wrong at every try.
            assert_eq!(
                matches!(error, AccessError::Silent { .. }),
                !message.contains("certificate"),
                "{error}"
            );
        }
        for route in [eks(false, &[], true), by_kubeconfig("https://10.0.0.1")] {
            assert!(said(&route, silent(late)).0.contains("VpcSubnetIds"));
        }
    }

    #[test]
    fn a_server_that_restarts_is_tried_again() {
        for route in [eks(true, &["0.0.0.0/0"], true), by_kubeconfig("https://api.example.org")] {
            assert!(said(&route, silent("connection refused")).1);
            let status = Status::failure("etcd is away", "ServiceUnavailable").with_code(503);
            let busy = ClusterError::from_status(CALL, "cluster shop", &status);
            assert!(said(&route, busy).1);
        }
    }

    #[test]
    fn a_caller_that_is_not_known_hears_how_to_be() {
        let status = Status::failure("Unauthorized", "Unauthorized").with_code(401);
        let error = ClusterError::from_status(CALL, "cluster shop", &status);
        let cases = [
            (eks(true, &[], true), "create an access entry"),
            (eks(true, &[], false), "authentication mode is CONFIG_MAP"),
            (by_kubeconfig("https://10.0.0.1"), "client certificate"),
        ];
        for (route, expected) in cases {
            let refused = sorted("cluster shop", &route, error.clone()).unwrap_err();
            assert!(
                matches!(refused, AccessError::NotLetIn { .. }) && refused.to_string().contains(expected),
                "{refused}"
            );
        }
    }

    #[test]
    fn a_known_caller_is_let_in_whatever_it_may_do() {
        let status = Status::failure("forbidden", "Forbidden").with_code(403);
        let error = ClusterError::from_status(CALL, "cluster shop", &status);
        assert!(sorted("cluster shop", &eks(true, &[], true), error).is_ok());
    }
}
