//! The plot: the share that is poisoned over time, the interruptions that were avoided, the time on Spot.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::report::name;
use crate::{Fleet, Run};

const SIZE: (u32, u32) = (1_000, 760);
const FONT: &str = "sans-serif";
/// The palette of Okabe and Ito, which colour-blind readers can tell apart. Grey is "no gate".
const COLOURS: [RGBColor; 8] = [
    RGBColor(120, 120, 120),
    RGBColor(213, 94, 0),
    RGBColor(0, 114, 178),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
];

/// The plot could not be written.
#[derive(Debug, thiserror::Error)]
#[error("the plot can't be drawn: {0}")]
pub struct PlotFailed(String);

impl<E: std::error::Error + Send + Sync> From<DrawingAreaErrorKind<E>> for PlotFailed {
    fn from(error: DrawingAreaErrorKind<E>) -> Self {
        Self(error.to_string())
    }
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Writes the plot as SVG.
///
/// # Errors
/// The file can't be written.
pub fn draw(fleet: &Fleet, runs: &[Run], file: &Path) -> Result<(), PlotFailed> {
    let root = SVGBackend::new(file, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let title = format!(
        "{} instances, {} accounts, {} pools, {:.0} % interruptions a month ({:.0} % of them in crunches)",
        fleet.instances,
        fleet.accounts,
        fleet.pools,
        fleet.monthly_rate * 100.0,
        fleet.crunch_share * 100.0
    );
    let root = root.titled(&title, (FONT, 20))?;
    let (above, below) = root.split_vertically(420);
    over_time(fleet, runs, &above)?;
    let (left, right) = below.split_horizontally(SIZE.0 / 2);
    let most = runs.iter().map(|run| run.interruptions).fold(1.0, f64::max);
    bars(&left, "Interruptions", fleet, runs, most * 1.2, |run| {
        (run.interruptions, format!("{:.0}", run.interruptions))
    })?;
    bars(&right, "Share of instance hours on Spot (%)", fleet, runs, 120.0, |run| {
        (run.spot_share * 100.0, format!("{:.1} %", run.spot_share * 100.0))
    })?;
    root.present()?;
    Ok(())
}

fn over_time(fleet: &Fleet, runs: &[Run], area: &Area<'_>) -> Result<(), PlotFailed> {
    let mut chart = ChartBuilder::on(area)
        .caption("Pools poisoned (%)", (FONT, 18))
        .margin(12)
        .margin_right(30)
        .x_label_area_size(40)
        .y_label_area_size(50)
        .build_cartesian_2d(0.0..f64::from(fleet.days), 0.0..100.0)?;
    chart
        .configure_mesh()
        .x_desc("day")
        .x_label_formatter(&|day| format!("{day:.0}"))
        .y_label_formatter(&|share| format!("{share:.0}"))
        .light_line_style(WHITE)
        .label_style((FONT, 14))
        .axis_desc_style((FONT, 15))
        .draw()?;
    // A policy that poisons nothing has no line of poisoned pools.
    for (run, colour) in runs.iter().zip(COLOURS).skip(1) {
        let days = run.poisoned.iter().zip(1_u32..).map(|(share, day)| (f64::from(day), share * 100.0));
        chart
            .draw_series(LineSeries::new(days, colour.stroke_width(2)))?
            .label(name(run.policy, fleet))
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 24, y)], colour.stroke_width(3)));
    }
    let formula = fleet.poisoned_by_formula() * 100.0;
    let ends = [(0.0, formula), (f64::from(fleet.days), formula)];
    chart
        .draw_series(DashedLineSeries::new(ends, 6, 5, BLACK.stroke_width(1)))?
        .label("1 account, by formula")
        .legend(|(x, y)| PathElement::new([(x, y), (x + 24, y)], BLACK.stroke_width(1)));
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.3))
        .label_font((FONT, 15))
        .draw()?;
    Ok(())
}

fn bars(
    area: &Area<'_>,
    caption: &str,
    fleet: &Fleet,
    runs: &[Run],
    most: f64,
    measure: impl Fn(&Run) -> (f64, String),
) -> Result<(), PlotFailed> {
    let count = u32::try_from(runs.len()).unwrap_or(1);
    let mut chart = ChartBuilder::on(area)
        .caption(caption, (FONT, 18))
        .margin(12)
        .x_label_area_size(30)
        .y_label_area_size(50)
        .build_cartesian_2d(0.0..f64::from(count), 0.0..most)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .disable_x_axis()
        .light_line_style(WHITE)
        .y_labels(6)
        .y_label_formatter(&|height| format!("{height:.0}"))
        .label_style((FONT, 14))
        .draw()?;
    let centred = plotters::style::text_anchor::Pos::new(
        plotters::style::text_anchor::HPos::Center,
        plotters::style::text_anchor::VPos::Bottom,
    );
    let label = TextStyle::from((FONT, 14).into_font()).pos(centred);
    for ((run, colour), slot) in runs.iter().zip(COLOURS).zip(0_u32..) {
        let (left, (height, text)) = (f64::from(slot), measure(run));
        let bar = Rectangle::new([(left + 0.2, 0.0), (left + 0.8, height)], colour.filled());
        chart.draw_series([bar])?;
        chart.draw_series([Text::new(text, (left + 0.5, height + most * 0.01), label.clone())])?;
        let under = EmptyElement::at((left + 0.5, 0.0))
            + Text::new(short(&name(run.policy, fleet)), (0, 22), label.clone());
        chart.plotting_area().draw(&under)?;
    }
    Ok(())
}

/// Shortens a name by its days: they are the same for all, and the legend above names them.
fn short(name: &str) -> String {
    name.split(',').next().unwrap_or(name).to_owned()
}
