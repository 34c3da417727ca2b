//! Wires the waste scanner to the Lambda runtime.

use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use serde_json::Value;
use spot_cloud::Stack;
use waste_scanner::WasteScanner;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    spot_cloud::lambda::init_tracing();
    let scanner = &WasteScanner::new(Stack::from_environment().await?)?;
    run(service_fn(|event: LambdaEvent<Value>| scanner.handle(event.payload, event.context.deadline()))).await
}
