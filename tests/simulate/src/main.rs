//! `simulate`: shows what a poison policy costs a fleet, and what it saves. Prints a table, writes a plot.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

use lexopt::prelude::*;
use spot_simulate::{Fleet, Policy, picture, report, simulate};

const HELP: &str = "\
Replays Spot interruptions over a fleet through the rules of the risk manager.

  --accounts N        accounts that share what they learn          [10]
  --instances N       instances of all accounts that want Spot     [140]
  --pools N           pools that they are spread over              [10]
  --choices N         pools that each instance may use             [1]
  --monthly-rate P    interruptions of an instance, % a month      [10]
  --crunch-share P    % of them that come in crunches of a pool    [50]
  --days N            days simulated                               [180]
  --poison-days N     days that an interruption poisons            [15]
  --rebalance-rate P  rebalance recommendations of an instance, % a
                      month; 0 leaves them out                     [0]
  --rebalance-days N  days that a recommendation poisons           [15]
  --thresholds A,B,…  accounts that it takes to poison a pool      [1,2,3]
  --runs N            runs that are averaged                       [20]
  --seed N            the same seed, the same picture              [1]
  --out FILE.svg      the plot                                     [simulation.svg]
";

struct Arguments {
    fleet: Fleet,
    thresholds: Vec<u32>,
    out: PathBuf,
}

fn main() -> ExitCode {
    let arguments = match parse() {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("simulate: {error}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    let fleet = &arguments.fleet;
    let policies = policies(fleet, &arguments.thresholds);
    let runs = simulate(fleet, &policies);
    print!("{}", report::table(fleet, &runs));
    let folder = arguments.out.parent().unwrap_or(Path::new(""));
    if let Err(error) = std::fs::create_dir_all(folder) {
        eprintln!("simulate: {}: {error}", folder.display());
        return ExitCode::FAILURE;
    }
    match picture::draw(fleet, &runs, &arguments.out) {
        Ok(()) => {
            println!("\nplot: {}", arguments.out.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("simulate: {}: {error}", arguments.out.display());
            ExitCode::FAILURE
        }
    }
}

/// Returns each threshold by itself, and then with recommendations, if the fleet gets any.
fn policies(fleet: &Fleet, thresholds: &[u32]) -> Vec<Policy> {
    let alone = thresholds.iter().map(|accounts| Policy::Threshold(*accounts));
    let heeding = thresholds.iter().map(|accounts| Policy::WithRebalance(*accounts));
    let heeding = heeding.filter(|_| fleet.rebalance_rate > 0.0);
    [Policy::NoGate].into_iter().chain(alone).chain(heeding).collect()
}

fn parse() -> Result<Option<Arguments>, lexopt::Error> {
    let mut arguments = Arguments {
        fleet: Fleet::default(),
        thresholds: vec![1, 2, 3],
        out: PathBuf::from("simulation.svg"),
    };
    let fleet = &mut arguments.fleet;
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("accounts") => fleet.accounts = at_least_one(&mut parser, "--accounts")?,
            Long("instances") => fleet.instances = at_least_one(&mut parser, "--instances")?,
            Long("pools") => fleet.pools = at_least_one(&mut parser, "--pools")?,
            Long("choices") => fleet.choices = at_least_one(&mut parser, "--choices")?,
            Long("monthly-rate") => fleet.monthly_rate = percent(&mut parser, "--monthly-rate")?,
            Long("crunch-share") => fleet.crunch_share = percent(&mut parser, "--crunch-share")?,
            Long("days") => fleet.days = at_least_one(&mut parser, "--days")?,
            Long("poison-days") => fleet.poison_days = at_least_one(&mut parser, "--poison-days")?,
            Long("rebalance-rate") => fleet.rebalance_rate = rebalance_rate(&mut parser)?,
            Long("rebalance-days") => fleet.rebalance_days = at_least_one(&mut parser, "--rebalance-days")?,
            Long("thresholds") => arguments.thresholds = thresholds(&mut parser)?,
            Long("runs") => fleet.runs = at_least_one(&mut parser, "--runs")?,
            Long("seed") => fleet.seed = number(&mut parser, "--seed", "a whole number", |_| true)?,
            Long("out") => arguments.out = parser.value()?.into(),
            Short('h') | Long("help") => return Ok(None),
            _ => return Err(argument.unexpected()),
        }
    }
    if fleet.choices > fleet.pools {
        return Err("there are fewer --pools than --choices".into());
    }
    Ok(Some(arguments))
}

fn thresholds(parser: &mut lexopt::Parser) -> Result<Vec<u32>, lexopt::Error> {
    let given = parser.value()?.string()?;
    let thresholds: Option<Vec<u32>> = given.split(',').map(|n| n.trim().parse().ok()).collect();
    let possible = thresholds.filter(|all| all.iter().all(|accounts| (1..=100).contains(accounts)));
    possible.ok_or_else(|| {
        format!("--thresholds {given}: it takes from 1 to 100 accounts to poison a pool, as in 1,2,3").into()
    })
}

fn at_least_one(parser: &mut lexopt::Parser, name: &str) -> Result<u32, lexopt::Error> {
    number(parser, name, "a whole number from 1 to 100000", |n: &u32| (1..=100_000).contains(n))
}

/// Parses the recommendations in percent of instances a month; returned as a fraction. An instance may get
/// several, so that more than 100 is right.
fn rebalance_rate(parser: &mut lexopt::Parser) -> Result<f64, lexopt::Error> {
    let name = "--rebalance-rate";
    number(parser, name, "0 to 10000 (%)", |n: &f64| (0.0..=10_000.0).contains(n)).map(|rate| rate / 100.0)
}

/// Parses 0 to 100; returned as a fraction.
fn percent(parser: &mut lexopt::Parser, name: &str) -> Result<f64, lexopt::Error> {
    number(parser, name, "0 to 100 (%)", |n: &f64| (0.0..=100.0).contains(n)).map(|percent| percent / 100.0)
}

fn number<T: FromStr>(
    parser: &mut lexopt::Parser,
    name: &str,
    expected: &str,
    is_possible: impl Fn(&T) -> bool,
) -> Result<T, lexopt::Error> {
    let given = parser.value()?.string()?;
    let number = given.parse().ok().filter(is_possible);
    number.ok_or_else(|| format!("{name} {given}: expected {expected}").into())
}
