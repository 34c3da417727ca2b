//! Wires the reconciler to the Lambda runtime.

use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use reconciler::Reconciler;
use serde_json::Value;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    spot_cloud::lambda::init_tracing();
    let reconciler = &Reconciler::from_environment().await?;
    run(service_fn(|event: LambdaEvent<Value>| async move { reconciler.handle(&event.payload).await })).await
}
