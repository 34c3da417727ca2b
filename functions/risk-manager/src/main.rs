//! Wires the risk manager to the Lambda runtime.

use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use risk_manager::RiskManager;
use serde_json::Value;
use spot_cloud::Stack;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    spot_cloud::lambda::init_tracing();
    let risk_manager = &RiskManager::new(Stack::from_environment().await?)?;
    run(service_fn(|event: LambdaEvent<Value>| risk_manager.handle(event.payload))).await
}
