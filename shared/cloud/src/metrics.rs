//! Metrics for CloudWatch in its embedded metric format: a line of the log, without a call.
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};
use spot_domain::Region;
use spot_domain::clock;
use spot_domain::metrics::{DeclaredMetric, Metric, NAMESPACE, REGION, STACK};

use crate::lambda::stack_name;

/// The value of a metric.
pub type Figure = (Metric, Value);

/// Writes one line with these figures of the stack.
pub fn emit(figures: &[Figure]) {
    println!("{}", line(figures, None, &stack_name(), clock::now()));
}

/// Writes one line with these figures of one region. CloudWatch keeps each as the metric's declaration says: under
/// the stack's name, and under the region, too.
pub fn emit_of(region: &Region, figures: &[Figure]) {
    println!("{}", line(figures, Some(region), &stack_name(), clock::now()));
}

fn line(figures: &[Figure], region: Option<&Region>, stack: &str, now: Timestamp) -> Value {
    let mut line = json!({
        "_aws": {"Timestamp": now.as_millisecond(), "CloudWatchMetrics": directives(figures, region.is_some())},
        STACK: stack,
    });
    for (metric, value) in figures {
        line[metric.declared().name] = value.clone();
    }
    if let Some(region) = region {
        line[REGION] = region.as_str().into();
    }
    line
}

/// Returns the directives of a line, one for the metrics of the same dimensions. CloudWatch drops a metric that asks
/// for a dimension which the line lacks.
fn directives(figures: &[Figure], has_region: bool) -> Vec<Value> {
    let mut alike: BTreeMap<&[&[&str]], Vec<Value>> = BTreeMap::new();
    for (metric, _) in figures {
        let DeclaredMetric { name, unit, dimensions, .. } = metric.declared();
        alike.entry(dimensions).or_default().push(json!({"Name": name, "Unit": unit.to_string()}));
    }
    let directive = |(sets, metrics): (&[&[&str]], Vec<Value>)| {
        let known = sets.iter().filter(|set| has_region || !set.contains(&REGION));
        json!({"Namespace": NAMESPACE, "Dimensions": known.collect::<Vec<_>>(), "Metrics": metrics})
    };
    alike.into_iter().map(directive).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_each_figure_with_its_unit_and_its_value_under_the_name_of_the_stack() {
        let figures = [(Metric::UnauthorisedInstances, json!(3)), (Metric::BlastRadiusExceeded, json!(0))];
        let expected = json!({
            "_aws": {
                "Timestamp": 1_000,
                "CloudWatchMetrics": [{
                    "Namespace": "SpotOptimizer",
                    "Dimensions": [["Stack"]],
                    "Metrics": [
                        {"Name": "UnauthorisedInstances", "Unit": "Count"},
                        {"Name": "BlastRadiusExceeded", "Unit": "Count"}
                    ]
                }]
            },
            "Stack": "blue",
            "UnauthorisedInstances": 3,
            "BlastRadiusExceeded": 0
        });
        assert_eq!(line(&figures, None, "blue", Timestamp::from_second(1).unwrap()), expected);
    }

    #[test]
    fn a_figure_of_a_region_is_kept_under_its_stack_and_under_its_region_there() {
        let region = "us-east-1".parse().unwrap();
        let figures = [(Metric::PoisonedSharePercent, json!(2.5)), (Metric::PoisonedPools, json!(4))];
        let line = line(&figures, Some(&region), "blue", Timestamp::UNIX_EPOCH);
        let [pools, share] = line["_aws"]["CloudWatchMetrics"].as_array().unwrap().as_slice() else {
            panic!("{line}")
        };
        assert_eq!(share["Dimensions"], json!([["Stack"], ["Stack", "Region"]]));
        assert_eq!(share["Metrics"], json!([{"Name": "PoisonedSharePercent", "Unit": "Percent"}]));
        assert_eq!(pools["Dimensions"], json!([["Stack"]]), "the metric is declared for the stack alone");
        assert_eq!((&line["PoisonedSharePercent"], &line["Region"]), (&json!(2.5), &json!("us-east-1")));
    }

    /// CloudWatch drops a metric whose dimension the line lacks.
    #[test]
    fn a_line_has_every_dimension_that_it_names() {
        let region = "us-east-1".parse().unwrap();
        for region in [None, Some(&region)] {
            for metric in Metric::ALL {
                let line = line(&[(*metric, json!(1))], region, "blue", Timestamp::UNIX_EPOCH);
                let named = line["_aws"]["CloudWatchMetrics"][0]["Dimensions"].as_array().unwrap();
                assert!(!named.is_empty(), "{metric:?}");
                for dimension in named.iter().flat_map(|set| set.as_array().unwrap()) {
                    assert!(line[dimension.as_str().unwrap()].is_string(), "{metric:?} {dimension}");
                }
            }
        }
    }
}
