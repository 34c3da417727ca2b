//! The way of a Kubernetes client to the world. The client writes and reads as ever; its requests end here.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use spot_cluster::access::{READ_TIMEOUT, simulate};
use tokio::time::timeout;
use tower_service::Service;

use crate::transport::Network;
use crate::wire::{ApiAnswer, ApiCall};

type BoxError = Box<dyn Error + Send + Sync>;

/// The API server of the world's cluster.
#[derive(Debug, Clone)]
pub struct ApiServer {
    network: Network,
    region: String,
}

impl ApiServer {
    /// Lets every Kubernetes client of this thread reach the world's cluster.
    pub fn stands_in(network: &Network, region: &str) {
        let server = Self { network: network.clone(), region: region.to_owned() };
        simulate(move |config| Client::new(server.clone(), config.default_namespace.clone()));
    }

    /// Sends a request. As the production client does, it waits for an answer for a while and then gives up.
    async fn send(self, request: Request<Body>) -> Result<Response<Body>, BoxError> {
        let (head, body) = request.into_parts();
        let body = body.collect_bytes().await?;
        let (path, query) = (head.uri.path(), head.uri.query().unwrap_or_default());
        let call = ApiCall::to_api_server(&self.region, &head.method, path, query, &body);
        let answer = timeout(READ_TIMEOUT, self.network.exchange(call)).await;
        let ApiAnswer { status, body } = answer.map_err(|_| "timed out reading response")??;
        Ok(Response::builder().status(status).body(Body::from(body.into_bytes()))?)
    }
}

impl Service<Request<Body>> for ApiServer {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.clone().send(request))
    }
}
