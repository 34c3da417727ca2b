//! The table.

use std::fmt::Write;

use crate::{Fleet, Policy, Run};

/// How the table and the plot name a policy.
#[must_use]
pub fn name(policy: Policy, fleet: &Fleet) -> String {
    match policy {
        Policy::NoGate => "no gate".to_owned(),
        Policy::Threshold(1) => format!("1 account, {} days", fleet.poison_days),
        Policy::Threshold(n) => format!("{n} accounts, {} days", fleet.poison_days),
    }
}

/// One line for each policy. The first run is what the others are compared with.
#[must_use]
pub fn table(fleet: &Fleet, runs: &[Run]) -> String {
    let mut text = format!(
        "{} instances of {} accounts in {} pools, {} of them open to each; {:.1} % interruptions a month,\n\
         {:.0} % of them in crunches; {} days, {} runs averaged, seed {}.\n\n",
        fleet.instances,
        fleet.accounts,
        fleet.pools,
        fleet.choices,
        fleet.monthly_rate * 100.0,
        fleet.crunch_share * 100.0,
        fleet.days,
        fleet.runs,
        fleet.seed
    );
    let headings =
        ["poisoned by", "pools poisoned", "interruptions", "avoided", "on Spot", "lost to the gate"];
    line(&mut text, headings.map(str::to_owned));
    let Some(base) = runs.first() else { return text };
    for run in runs {
        line(&mut text, cells(fleet, base, run));
    }
    let _ = writeln!(
        text,
        "\nBy formula, a pool of {:.0} is poisoned {:.0} % of the time if nobody leaves it: 1 − e^(−n · rate · days).",
        f64::from(fleet.instances) / f64::from(fleet.pools),
        fleet.poisoned_by_formula() * 100.0
    );
    text
}

fn cells(fleet: &Fleet, base: &Run, run: &Run) -> [String; 6] {
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    let is_base = run.policy == base.policy;
    let avoided = 1.0 - run.interruptions / base.interruptions.max(1.0);
    let lost = (base.spot_share - run.spot_share) * f64::from(fleet.instances);
    [
        name(run.policy, fleet),
        if is_base { "–".to_owned() } else { percent(run.mean_poisoned(fleet)) },
        format!("{:.0}", run.interruptions),
        if is_base { "–".to_owned() } else { percent(avoided) },
        percent(run.spot_share),
        if is_base { "–".to_owned() } else { format!("{lost:.1} instances") },
    ]
}

fn line(text: &mut String, cells: [String; 6]) {
    let [policy, poisoned, interruptions, avoided, spot, lost] = cells;
    let _ = writeln!(
        text,
        "  {policy:<20}  {poisoned:>14}  {interruptions:>13}  {avoided:>8}  {spot:>8}  {lost:>17}"
    );
}
