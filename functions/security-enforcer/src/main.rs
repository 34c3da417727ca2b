//! Wires the security enforcer to the Lambda runtime.

use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use security_enforcer::SecurityEnforcer;
use serde_json::Value;
use spot_cloud::Stack;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    spot_cloud::lambda::init_tracing();
    let enforcer = &SecurityEnforcer::new(Stack::from_environment().await?)?;
    run(service_fn(|event: LambdaEvent<Value>| async move {
        enforcer.handle(event.payload, &event.context.request_id).await
    }))
    .await
}
