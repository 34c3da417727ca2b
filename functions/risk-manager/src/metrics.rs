//! Figures for CloudWatch in its embedded metric format: a line of the log, without a call.
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>

use jiff::Timestamp;
use serde_json::{Value, json};

/// Writes one line with these figures: name, unit, value. With a `label` (name, value) each is kept
/// twice, in total and under the label.
pub fn emit(figures: &[(&str, &str, Value)], label: Option<(&str, &str)>) {
    println!("{}", line(figures, label, Timestamp::now()));
}

fn line(figures: &[(&str, &str, Value)], label: Option<(&str, &str)>, now: Timestamp) -> Value {
    let total: Vec<&str> = Vec::new();
    let dimensions: Vec<Vec<&str>> =
        [Some(total), label.map(|(name, _)| vec![name])].into_iter().flatten().collect();
    let metrics: Vec<Value> =
        figures.iter().map(|(name, unit, _)| json!({"Name": name, "Unit": unit})).collect();
    let mut line = json!({
        "_aws": {
            "Timestamp": now.as_millisecond(),
            "CloudWatchMetrics": [
                {"Namespace": "SpotOptimizer", "Dimensions": dimensions, "Metrics": metrics}
            ]
        }
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
    fn a_labelled_figure_is_kept_in_total_and_under_its_label() {
        let line =
            line(&[("Share", "Percent", json!(2.5))], Some(("Region", "us-east-1")), Timestamp::UNIX_EPOCH);
        let metric = &line["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(metric["Dimensions"], json!([[], ["Region"]]));
        assert_eq!(metric["Metrics"], json!([{"Name": "Share", "Unit": "Percent"}]));
        assert_eq!((&line["Share"], &line["Region"]), (&json!(2.5), &json!("us-east-1")));
    }
}
