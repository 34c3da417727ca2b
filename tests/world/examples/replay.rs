//! Plays one history again and prints what happens, as a failed campaign prints the command:
//! `cargo run -p spot-world --example replay -- [SCENE] [SEED] [CALL=FAULT…]`. `spot_world::replay` has all the words.

use std::env;
use std::process::ExitCode;

use spot_world::history::play;
use spot_world::replay::{Replay, parse};
use spot_world::scenes::NAMES;

fn main() -> ExitCode {
    let Replay { scene, plan, seed } = match parse(env::args().skip(1)) {
        Ok(replay) => replay,
        Err(unknown) => {
            eprintln!("{unknown}; the scenes are {}", NAMES.join(", "));
            return ExitCode::from(2);
        }
    };
    match play(&scene, plan, seed) {
        Ok(ended) => println!("{}{:#?}", ended.world.chronicle, ended.executions),
        Err(broken) => {
            println!("{broken}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
