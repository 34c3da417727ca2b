//! Wires the group watcher to the Lambda runtime.

use group_watcher::GroupWatcher;
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use serde_json::Value;
use spot_cloud::Stack;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    spot_cloud::lambda::init_tracing();
    let watcher = &GroupWatcher::new(Stack::from_environment().await?).await?;
    run(service_fn(|event: LambdaEvent<Value>| watcher.handle(event.payload, event.context.deadline()))).await
}
