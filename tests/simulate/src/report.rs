//! The table of the results.

use std::fmt::Write;

use crate::{Fleet, Policy, Run};

/// Returns the name of a policy in the table and the plot.
#[must_use]
pub fn name(policy: Policy, fleet: &Fleet) -> String {
    match policy {
        Policy::NoGate => "no gate".to_owned(),
        Policy::Threshold(1) => format!("1 account, {} days", fleet.poison_days),
        Policy::Threshold(n) => format!("{n} accounts, {} days", fleet.poison_days),
        Policy::WithRebalance(1) => "1 and rebalance".to_owned(),
        Policy::WithRebalance(n) => format!("{n} and rebalance"),
    }
}

/// Returns the table, one line for each policy. The first run is the one to compare with.
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
    text.push_str(&recommendations(fleet, runs));
    let _ = writeln!(
        text,
        "\nBy formula, a pool of {:.0} is poisoned {:.0} % of the time if nobody leaves it: 1 − e^(−n · rate · days).",
        f64::from(fleet.instances) / f64::from(fleet.pools),
        fleet.poisoned_by_formula() * 100.0
    );
    text
}

/// Returns what the recommendations add to each threshold: their price, apart from that of interruptions.
fn recommendations(fleet: &Fleet, runs: &[Run]) -> String {
    let mut text = String::new();
    for heeding in runs {
        let Policy::WithRebalance(accounts) = heeding.policy else { continue };
        let alone = Policy::Threshold(accounts);
        let Some(alone) = runs.iter().find(|run| run.policy == alone) else { continue };
        let poisoned = (heeding.mean_poisoned(fleet) - alone.mean_poisoned(fleet)) * 100.0;
        let avoided = alone.interruptions - heeding.interruptions;
        let lost = (alone.spot_share - heeding.spot_share) * f64::from(fleet.instances);
        let _ = writeln!(
            text,
            "  {accounts:>3} to poison: {poisoned:+.1} points of the pools poisoned, {avoided:+.0} interruptions avoided, \
             {lost:+.1} instances lost to the gate"
        );
    }
    if text.is_empty() {
        return text;
    }
    format!(
        "\nWhat rebalance recommendations add ({:.1} % a month, each poisons for {} days):\n{text}",
        fleet.rebalance_rate * 100.0,
        fleet.rebalance_days
    )
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate;

    #[test]
    fn the_price_of_recommendations_stands_apart_and_only_where_there_are_any() {
        let fleet = Fleet { days: 60, runs: 1, rebalance_rate: 0.3, ..Fleet::default() };
        let policies = [Policy::NoGate, Policy::Threshold(1), Policy::WithRebalance(1)];
        let told = table(&fleet, &simulate(&fleet, &policies));
        assert!(
            told.contains("What rebalance recommendations add (30.0 % a month, each poisons for 15 days)"),
            "{told}"
        );
        assert!(told.contains("1 to poison: +") && told.contains("instances lost to the gate"), "{told}");
        let without = table(&fleet, &simulate(&fleet, &policies[..2]));
        assert!(!without.contains("recommendations"), "{without}");
    }
}
