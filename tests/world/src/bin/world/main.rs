//! Serves the world's model over HTTP on a loopback port, so that any client of AWS can call it.
//!
//! The signature of a call names its service. A request below `/_world/` moves time, or makes one of AWS's choices. Time is
//! real time plus what was skipped. The program prints its port, and ends when its standard input closes.
//!
//! ```sh
//! cargo run --bin world # prints PORT; in another shell:
//! curl -X POST "http://127.0.0.1:PORT/_world/begin?size=2&max=3&target_group=true"
//! aws --endpoint-url http://127.0.0.1:PORT autoscaling describe-auto-scaling-groups
//! curl -X POST "http://127.0.0.1:PORT/_world/pass?seconds=60"
//! ```

mod acts;
mod http;

use std::io::{self, Read as _};
use std::net::{TcpListener, TcpStream};
use std::{process, thread};

use serde_json::{Value, json};
use spot_world::virtual_time;
use spot_world::wire::{ApiAnswer, ApiCall};
use spot_world::world::World;

use http::Request;

fn main() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?.port());
    thread::spawn(end_with_input);
    virtual_time::begin();
    let mut world = World::empty();
    for stream in listener.incoming() {
        // A client that breaks off concerns nobody else.
        if let Err(error) = serve(&mut world, stream?) {
            eprintln!("{error}");
        }
    }
    Ok(())
}

fn end_with_input() {
    let _ = io::stdin().read_to_end(&mut Vec::new());
    process::exit(0);
}

/// Answers one request. Requests come one after another, so that the same script has the same history.
fn serve(world: &mut World, mut stream: TcpStream) -> io::Result<()> {
    let Some(request) = Request::read(&mut stream)? else { return Ok(()) };
    http::write(&mut stream, &answer(world, &request))
}

fn answer(world: &mut World, request: &Request) -> ApiAnswer {
    if let Some(act) = request.path.strip_prefix("/_world/") {
        return told(acts::act(world, act));
    }
    let (authorization, target) = (request.header("authorization"), request.header("x-amz-target"));
    match ApiCall::signed(authorization, target, &request.body) {
        Ok(call) => {
            let (number, _) = world.is_sent(&call, None);
            world.carries_out(number, &call)
        }
        Err(problem) => ApiAnswer::json_error(400, "MalformedCall", &problem.to_string()),
    }
}

fn told(outcome: Result<Value, String>) -> ApiAnswer {
    match outcome {
        Ok(told) => ApiAnswer::json(&told),
        Err(problem) => ApiAnswer { status: 400, body: json!({"error": problem}).to_string() },
    }
}
