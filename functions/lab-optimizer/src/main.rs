//! Wires the lab optimizer to the Lambda runtime.

use lab_optimizer::Optimizer;
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use serde_json::Value;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    spot_cloud::lambda::init_tracing();
    let optimizer = &Optimizer::from_environment().await?;
    run(service_fn(|event: LambdaEvent<Value>| optimizer.handle(event.payload))).await
}
