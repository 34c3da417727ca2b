//! The SDK's way to the world. The SDK signs, serializes, retries and times out as ever; its requests end here.
//!
//! A call is three events in virtual time: it is sent, it takes effect, it is answered. A fault comes between them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_async::rt::sleep::{SharedAsyncSleep, TokioSleep};
use aws_smithy_async::time::SharedTimeSource;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;
use serde_json::{Value, json};
use spot_cloud::clients::{retries, timeouts};
use tokio::time::sleep;

use crate::cluster::{internal_error_of_server, too_many_requests};
use crate::fault::Fault;
use crate::lambda::Invocation;
use crate::sessions::account_of;
use crate::virtual_time::VirtualTime;
use crate::wire::{ApiAnswer, ApiCall, credential};
use crate::world::World;

/// The time of a call to its service, and of the answer back.
const ONE_WAY: Duration = Duration::from_millis(20);
/// How long after its first effect a call that is carried out twice has its second.
const TWICE_AFTER: Duration = Duration::from_secs(4);

/// The network between the SDK and the world.
#[derive(Debug, Clone)]
pub struct Network(Arc<Mutex<World>>);

impl Network {
    /// Returns the network around a world.
    #[must_use]
    pub fn around(world: World) -> Self {
        Self(Arc::new(Mutex::new(world)))
    }

    /// Returns the world. Nobody holds it across an await.
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the configuration of a function's SDK clients, with the timeouts and retries of production.
    #[must_use]
    pub fn sdk_config(&self, region: &str) -> SdkConfig {
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new(region.to_owned()))
            .credentials_provider(SharedCredentialsProvider::new(Credentials::new(
                "AKIDWORLD",
                "world",
                None,
                None,
                "world",
            )))
            .retry_config(retries())
            .timeout_config(timeouts())
            .sleep_impl(SharedAsyncSleep::new(TokioSleep::new()))
            .time_source(SharedTimeSource::new(VirtualTime))
            .http_client(self.clone())
            .build()
    }

    /// Sends a call, lets it take effect, and returns its answer, with the faults of the plan between.
    pub(crate) async fn exchange(self, call: ApiCall) -> Result<ApiAnswer, ConnectorError> {
        let invocation = Invocation::current();
        let (number, fault) = self.world().is_sent(&call, invocation.as_deref());
        self.befalls_before(fault, invocation.as_deref()).await;
        sleep(ONE_WAY).await;
        let answer = match fault {
            Some(Fault::RequestLost) => return never().await,
            Some(Fault::Throttled) => throttled(&call),
            Some(Fault::EffectLate(seconds)) => {
                return self.takes_effect_late(number, call, seconds).await;
            }
            Some(Fault::Stale(seconds)) => self.world().reads_past(number, &call, seconds),
            _ => self.world().carries_out(number, &call),
        };
        match fault {
            Some(Fault::AnswerLost) => return Err(ConnectorError::io("connection reset by peer".into())),
            Some(Fault::AnswerLate) => return never().await,
            Some(Fault::ErrorAfterEffect) => return Ok(internal_error(&call)),
            Some(Fault::Twice) => self.clone().repeats(number, call),
            _ => {}
        }
        befalls_after(fault, invocation.as_deref()).await;
        sleep(ONE_WAY).await;
        Ok(answer)
    }

    async fn befalls_before(&self, fault: Option<Fault>, invocation: Option<&Invocation>) {
        let Some(invocation) = invocation else { return };
        match fault {
            Some(Fault::DiesBefore) => {
                invocation.dies();
                never::<()>().await;
            }
            Some(Fault::StoppedBefore) => invocation.is_stopped(),
            Some(Fault::Zombie(seconds)) => {
                invocation.is_given_up();
                sleep(Duration::from_secs(seconds.into())).await;
            }
            _ => {}
        }
    }

    /// The call is under way longer than its caller may wait.
    async fn takes_effect_late(
        self,
        number: usize,
        call: ApiCall,
        seconds: u32,
    ) -> Result<ApiAnswer, ConnectorError> {
        let late = Duration::from_secs(seconds.into());
        self.world().flights += 1;
        let effect = tokio::spawn(async move {
            sleep(late).await;
            let mut world = self.world();
            world.flights -= 1;
            world.carries_out(number, &call)
        });
        effect.await.map_err(|error| ConnectorError::io(error.into()))
    }

    fn repeats(self, number: usize, call: ApiCall) {
        self.world().flights += 1;
        tokio::spawn(async move {
            sleep(TWICE_AFTER).await;
            let mut world = self.world();
            world.flights -= 1;
            world.carries_out(number, &call);
        });
    }
}

async fn befalls_after(fault: Option<Fault>, invocation: Option<&Invocation>) {
    let Some(invocation) = invocation else { return };
    match fault {
        Some(Fault::DiesAfter) => {
            invocation.dies();
            never::<()>().await;
        }
        Some(Fault::StoppedAfter) => invocation.is_stopped(),
        _ => {}
    }
}

async fn never<T>() -> T {
    std::future::pending().await
}

fn throttled(call: &ApiCall) -> ApiAnswer {
    use crate::wire::Service;
    let message = "Rate exceeded";
    match call.service {
        Service::Ec2 => ApiAnswer::ec2_error(503, "RequestLimitExceeded", message),
        Service::DynamoDb => ApiAnswer::json_error(400, "ThrottlingException", message),
        Service::StepFunctions | Service::EventBridge | Service::Pricing => {
            ApiAnswer::json_error(400, "ThrottlingException", message)
        }
        Service::Eks => ApiAnswer::json_error(429, "ThrottlingException", message),
        Service::Kubernetes => too_many_requests(),
        _ => ApiAnswer::query_error(400, "Throttling", message),
    }
}

fn internal_error(call: &ApiCall) -> ApiAnswer {
    use crate::wire::Service;
    let message = "We encountered an internal error. Please try again.";
    match call.service {
        Service::Ec2 => ApiAnswer::ec2_error(500, "InternalError", message),
        Service::DynamoDb => ApiAnswer::json_error(500, "InternalServerError", message),
        Service::StepFunctions | Service::EventBridge | Service::Pricing => {
            ApiAnswer::json_error(500, "InternalFailure", message)
        }
        Service::Eks => ApiAnswer::json_error(500, "ServerException", message),
        Service::Kubernetes => internal_error_of_server(),
        _ => ApiAnswer::query_error(500, "InternalFailure", message),
    }
}

impl HttpClient for Network {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Network {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let call = read(&request);
        let network = self.clone();
        HttpConnectorFuture::new(async move {
            let call = call.map_err(|problem| ConnectorError::user(problem.into()))?;
            network.world().oracles.is_in_account(&call);
            let ApiAnswer { status, body } = network.exchange(call).await?;
            let status = StatusCode::try_from(status).map_err(|error| ConnectorError::user(error.into()))?;
            Ok(HttpResponse::new(status, SdkBody::from(body)))
        })
    }
}

/// Returns the account whose role a call is signed with; `None` for the stack's own functions.
fn account(request: &HttpRequest) -> Option<String> {
    let key = credential(request.headers().get("authorization")?)?.split('/').next()?;
    account_of(key).map(str::to_owned)
}

fn read(request: &HttpRequest) -> Result<ApiCall, String> {
    let headers = request.headers();
    let authorization = headers.get("authorization");
    let body = request.body().bytes().ok_or("a request whose body is a stream")?;
    let call = match rest(request.uri()) {
        Some((target, parameters)) => {
            ApiCall::signed(authorization, Some(target), parameters.to_string().as_bytes())
        }
        None => ApiCall::signed(authorization, headers.get("x-amz-target"), body),
    };
    let account = account(request);
    call.map(|call| ApiCall { account, ..call }).map_err(|problem| problem.to_string())
}

/// Returns target and parameters of a REST call. Of the services of the world, EKS alone has such calls.
/// <https://docs.aws.amazon.com/eks/latest/APIReference/API_DescribeCluster.html>
fn rest(uri: &str) -> Option<(&'static str, Value)> {
    let uri: http::Uri = uri.parse().ok()?;
    let name = uri.path().strip_prefix("/clusters/")?;
    Some(("eks.DescribeCluster", json!({"name": name})))
}
