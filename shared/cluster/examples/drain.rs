//! Drains a node of the current kubeconfig: cordon, then passes until no pod is left to move.
//!
//! `cargo run -p spot-cluster --example drain -- NODE [--delete-emptydir-data] [--force] [--timeout=SECONDS]`
//!
//! The two flags mean the same as for `kubectl drain`. After the timeout (600 s by default) the node is made
//! schedulable again, the blocking pods are named, and the exit code is 1.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use kube::{Client, Config};
use spot_cluster::drain::LastReady;
use spot_cluster::node::{self, Cordon, NodeName};
use spot_cluster::pods::Policy;
use spot_cluster::{Kind, access, drain};

const MARK: &str = "example-drain";
const PAUSE: Duration = Duration::from_secs(1);

struct Arguments {
    node: NodeName,
    policy: Policy,
    timeout: Duration,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let arguments = arguments()?;
    let client = Client::try_from(access::cautious(Config::infer().await?))?;
    if node::cordon(&client, &arguments.node, MARK).await? == Cordon::ByOther {
        eprintln!("{} was cordoned by somebody else: left alone", arguments.node);
        return Ok(ExitCode::FAILURE);
    }
    let is_drained = drained(&client, &arguments).await;
    if !matches!(is_drained, Ok(true)) {
        node::uncordon(&client, &arguments.node, MARK).await?;
        println!("{} is schedulable again", arguments.node);
    }
    Ok(if is_drained? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Drains the node; returns true if the node was empty before the timeout.
async fn drained(client: &Client, arguments: &Arguments) -> Result<bool, spot_cluster::ClusterError> {
    let began = Instant::now();
    let mut state = drain::State::default();
    loop {
        // As in the node swap, kubectl's semantics hold once two thirds of the time have passed.
        let is_late = began.elapsed() > arguments.timeout * 2 / 3;
        let last_ready = if is_late { LastReady::Evict } else { LastReady::Keep };
        let pass = drain::pass(client, &arguments.node, arguments.policy, last_ready, state.clone());
        let pass = match pass.await {
            Ok(pass) => pass,
            Err(error) if error.kind == Kind::Retry && began.elapsed() < arguments.timeout => {
                eprintln!("{error}");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            Err(error) => return Err(error),
        };
        if pass.is_done {
            println!(
                "{} drained: {} pods evicted in {} ms",
                arguments.node,
                pass.state.evicted,
                began.elapsed().as_millis()
            );
            return Ok(true);
        }
        if let Some(trouble) = &pass.trouble {
            eprintln!("{trouble}");
        }
        if began.elapsed() >= arguments.timeout {
            for blocked in &pass.blocked {
                eprintln!("{}/{}: {}", blocked.namespace, blocked.pod, blocked.why);
            }
            return Ok(false);
        }
        println!("{} evicted, {} remaining", pass.state.evicted, pass.remaining.len());
        state = pass.state;
        tokio::time::sleep(PAUSE).await;
    }
}

fn arguments() -> Result<Arguments, Box<dyn std::error::Error>> {
    let usage = "usage: drain NODE [--delete-emptydir-data] [--force] [--timeout=SECONDS]";
    let mut node = None;
    let mut policy = Policy::default();
    let mut timeout = Duration::from_mins(10);
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--delete-emptydir-data" => policy.evict_local_storage = true,
            "--force" => policy.evict_unmanaged = true,
            text => match text.strip_prefix("--timeout=") {
                Some(seconds) => timeout = Duration::from_secs(seconds.parse()?),
                None => node = Some(text.parse()?),
            },
        }
    }
    Ok(Arguments { node: node.ok_or(usage)?, policy, timeout })
}
