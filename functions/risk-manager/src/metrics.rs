//! Metrics for CloudWatch in its embedded metric format: a line of the log, without a call.
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>

use jiff::Timestamp;
use serde_json::{Value, json};
use spot_cloud::lambda::stack_name;

/// Writes one line with these metrics: name, unit, value. CloudWatch keeps each metric under the stack's name.
/// With a `label` (name, value), CloudWatch keeps each a second time, under the stack's name and the label.
pub fn emit(figures: &[(&str, &str, Value)], label: Option<(&str, &str)>) {
    println!("{}", line(figures, label, &stack_name(), Timestamp::now()));
}

fn line(figures: &[(&str, &str, Value)], label: Option<(&str, &str)>, stack: &str, now: Timestamp) -> Value {
    let mut dimensions: Vec<Vec<&str>> = vec![vec!["Stack"]];
    dimensions.extend(label.map(|(name, _)| vec!["Stack", name]));
    let metrics: Vec<Value> =
        figures.iter().map(|(name, unit, _)| json!({"Name": name, "Unit": unit})).collect();
    let mut line = json!({
        "_aws": {
            "Timestamp": now.as_millisecond(),
            "CloudWatchMetrics": [
                {"Namespace": "SpotOptimizer", "Dimensions": dimensions, "Metrics": metrics}
            ]
        },
        "Stack": stack
    });
    for (name, _, value) in figures {
        line[*name] = value.clone();
    }
    if let Some((name, value)) = label {
        line[name] = value.into();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_labelled_figure_is_kept_under_its_stack_and_under_its_label_there() {
        let figures = [("Share", "Percent", json!(2.5))];
        let line = line(&figures, Some(("Region", "us-east-1")), "blue", Timestamp::UNIX_EPOCH);
        let metric = &line["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(metric["Dimensions"], json!([["Stack"], ["Stack", "Region"]]));
        assert_eq!(metric["Metrics"], json!([{"Name": "Share", "Unit": "Percent"}]));
        assert_eq!((&line["Share"], &line["Region"]), (&json!(2.5), &json!("us-east-1")));
        assert_eq!(line["Stack"], json!("blue"));
    }
}
