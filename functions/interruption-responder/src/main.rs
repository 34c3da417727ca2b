//! Wires the interruption responder to the Lambda runtime.

use interruption_responder::{Responder, handle, phase_table};
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use serde_json::Value;
use spot_cloud::Stack;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    spot_cloud::lambda::init_tracing();
    let (phases, responder) = (&phase_table(), &Responder::new(Stack::from_environment().await?)?);
    run(service_fn(|event: LambdaEvent<Value>| handle(responder, phases, event.payload))).await
}
