//! A launch's pool, cleared by the real gate against a scripted table, and an order into that pool.

use spot_cloud::launch::gatekeeper::{ClearedPool, Gatekeeper, PoolVerdict};
use spot_cloud::launch::launcher::{Blueprint, Order};
use spot_domain::tags::Tags;
use spot_scripted::{Endpoint, ScriptedAnswer};

pub(crate) async fn cleared() -> ClearedPool {
    let table = Endpoint::start(vec![ScriptedAnswer::ok(r#"{"Responses":{"risk":[]}}"#)]).await;
    let gate = Gatekeeper::over(aws_sdk_dynamodb::Client::new(&table.config().await), "risk");
    let pools = ["us-east-1#use1-az6#m5.large".parse().unwrap()];
    match gate.ask(&pools).await.unwrap().pop() {
        Some(PoolVerdict::Cleared(cleared)) => cleared,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn order_for(blueprint: Blueprint) -> Order {
    Order {
        blueprint,
        image_id: None,
        placement_group: None,
        spot_max_price: None,
        availability_zone: "us-east-1a".into(),
        az_id: "use1-az6".parse().unwrap(),
        subnet_id: "subnet-1".into(),
        tags: Tags::new(),
    }
}
