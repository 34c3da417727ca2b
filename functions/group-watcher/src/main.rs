//! Wires the group watcher to the Lambda runtime.

use group_watcher::GroupWatcher;
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use serde_json::Value;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    spot_cloud::lambda::init_tracing();
    let watcher = &GroupWatcher::from_environment().await?;
    run(service_fn(|event: LambdaEvent<Value>| watcher.handle(event.payload, event.context.deadline()))).await
}
