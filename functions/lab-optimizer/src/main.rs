//! Wires the lab optimizer to the Lambda runtime.

use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use serde_json::Value;
use spot_cloud::Stack;
use spot_swap::Context;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    spot_cloud::lambda::init_tracing();
    let (phases, context) =
        (&lab_optimizer::phase_table(), &Context::new(Stack::from_environment().await?).await?);
    run(service_fn(|event: LambdaEvent<Value>| phases.run_and_tell(context, event.payload))).await
}
