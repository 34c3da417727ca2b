//! Wires the reconciler to the Lambda runtime.

use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use reconciler::Reconciler;
use serde_json::Value;
use spot_cloud::Stack;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    spot_cloud::lambda::init_tracing();
    let reconciler = &Reconciler::new(Stack::from_environment().await?).await?;
    run(service_fn(|event: LambdaEvent<Value>| async move { reconciler.handle(&event.payload).await })).await
}
