//! Plays one history again and prints what happens: `cargo run -p spot-world --example replay -- [SEED] [CALL=FAULT…]`,
//! with faults as a campaign prints them: `41=EffectLate(55)`.

use std::collections::BTreeMap;
use std::env;
use std::process::ExitCode;

use spot_world::fault::{Fault, Plan};
use spot_world::history::play;
use spot_world::scene::Scene;

fn main() -> ExitCode {
    let (mut seed, mut faults) = (1, BTreeMap::new());
    for argument in env::args().skip(1) {
        let parsed = argument.split_once('=').map(|(call, fault)| (call.parse(), fault.parse::<Fault>()));
        match (argument.parse(), parsed) {
            (Ok(number), _) => seed = number,
            (_, Some((Ok(call), Ok(fault)))) => drop(faults.insert(call, fault)),
            _ => {
                eprintln!("{argument}: expected a seed, or CALL=FAULT such as 41=EffectLate(55)");
                return ExitCode::from(2);
            }
        }
    }
    match play(&Scene::default(), Plan::At(faults), seed) {
        Ok(ended) => println!("{}{:#?}", ended.world.chronicle, ended.executions),
        Err(broken) => {
            println!("{broken}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
