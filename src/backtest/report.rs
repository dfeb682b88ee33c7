//! The findings as one HTML file that needs nothing else: the tables, the frontier of cost against violation, and each
//! workload's load beside its forecast band and the capacity that it led to.

use std::fmt::Write;

use headroom_proto::EventTime;
use headroom_proto::v1::Signal;
use plotly::common::{Fill, HoverInfo, Line, LineShape, Marker, Mode, Orientation, Position, Title};
use plotly::configuration::DisplayModeBar;
use plotly::layout::{Axis, AxisType, Legend, Margin, Shape, ShapeLayer, ShapeLine, ShapeType};
use plotly::{Configuration, Layout, Plot, Scatter};
use serde::{Deserialize, Serialize};

use super::output::{Findings, MODEL_COLUMNS, score, scores_of};
use crate::scoreboard::Row;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2rem auto;padding:0 1rem;color:#1c2733}\
    h1{font-size:1.6rem}h2{font-size:1.15rem;margin-top:2.2rem}table{border-collapse:collapse;width:100%}\
    th,td{padding:.3rem .6rem;text-align:right;border-bottom:1px solid #dde3ea;font-variant-numeric:tabular-nums}\
    th:first-child,td:first-child{text-align:left}.scroll{overflow-x:auto}.chart{height:430px}p{color:#4a5866}";
const LOAD: &str = "#1c2733";
const AHEAD: &str = "#0a7d6c";
const BAND: &str = "rgba(10,125,108,0.18)";
const FAINT: &str = "#8a97a5";
const EVENT: &str = "rgba(224,142,11,0.16)";

/// More charts than this make a page that no browser opens.
const MAX_COURSES: usize = 20;

/// One workload's scored part, step by step.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Course {
    /// Whose.
    pub(super) workload: String,
    /// Start of each step.
    pub(super) times: Vec<EventTime>,
    /// What was measured; NaN is a gap.
    pub(super) loads: Vec<f64>,
    /// The forecast's quantiles .1, .5 and .9, made one lead time before; NaN where none was.
    pub(super) band: [Vec<f64>; 3],
    /// The load at which the capacity that was ready is violated.
    pub(super) limits: Vec<f64>,
    /// Whose capacity it is.
    pub(super) policy: String,
}

/// The whole report.
pub(super) fn html(findings: &Findings, courses: &[&Course], signals: &[Signal]) -> String {
    let mut page =
        String::from("<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Headroom backtest</title>");
    page.push_str("<meta name=\"viewport\" content=\"width=device-width\">");
    page.push_str(&format!(
        "<style>{STYLE}</style>{}</head><body><h1>Headroom backtest</h1>",
        Plot::offline_js_sources()
    ));
    for premise in &findings.premises {
        page.push_str(&format!("<p>{}</p>", escaped(premise)));
    }
    page.push_str("<h2>Policies</h2>");
    page.push_str(&policies_table(&findings.policies));
    page.push_str(
        "<h2>Cost against violation</h2><p>Lower and further left is better; the oracle knows the future.</p>",
    );
    page.push_str(&chart(&frontier(&findings.policies), "frontier"));
    page.push_str("<h2>Forecasts</h2>");
    page.push_str(&models_table(findings));
    if courses.len() > MAX_COURSES {
        page.push_str(&format!("<p>The first {MAX_COURSES} of {} workloads are drawn.</p>", courses.len()));
    }
    for (number, course) in courses.iter().take(MAX_COURSES).enumerate() {
        page.push_str(&format!("<h2>{}</h2>", escaped(&course.workload)));
        page.push_str(
            "<p>Load, the forecast's 80 % band as it stood one lead time before, the load that the capacity could \
                       bear, and the event signals (shaded). Drag to zoom.</p>",
        );
        page.push_str(&chart(&course_plot(course, signals), &format!("course-{number}")));
    }
    page.push_str("</body></html>\n");
    page
}

fn policies_table(rows: &[Row]) -> String {
    let mut table = String::from(
        "<div class=\"scroll\"><table><tr><th>policy<th>violation minutes<th>unit hours<th>cost / oracle<th>lead, min</tr>",
    );
    for row in rows {
        let (policy, ratio) = (escaped(&row.policy), row.cost_vs_oracle);
        let lead = row.lead_minutes.map_or_else(|| "-".to_owned(), |lead| format!("{lead:.0}"));
        let (minutes, hours) = (row.violation_minutes, row.unit_hours);
        let cells = format!("<tr><td>{policy}<td>{minutes:.0}<td>{hours:.0}<td>{ratio:.2}<td>{lead}</tr>");
        table.push_str(&cells);
    }
    table.push_str("</table></div>");
    table
}

fn models_table(findings: &Findings) -> String {
    let mut table = String::from("<div class=\"scroll\"><table><tr><th>model");
    for column in MODEL_COLUMNS {
        table.push_str(&format!("<th>{column}"));
    }
    for row in &findings.models {
        table.push_str(&format!("</tr><tr><td>{}", escaped(&row.model)));
        for value in scores_of(row) {
            table.push_str(&format!("<td>{}", score(value)));
        }
    }
    table.push_str("</tr></table></div>");
    table
}

/// On a scale of ratios, since the static peak is many times dearer than the rest.
fn frontier(rows: &[Row]) -> Plot {
    let mut plot = Plot::new();
    for (ours, name, colour) in [(false, "others", FAINT), (true, "Headroom", AHEAD)] {
        let chosen: Vec<&Row> = rows.iter().filter(|row| row.policy.starts_with("headroom") == ours).collect();
        let ratios = chosen.iter().map(|row| row.cost_vs_oracle).collect();
        let minutes = chosen.iter().map(|row| row.violation_minutes).collect();
        let trace = Scatter::new(ratios, minutes)
            .name(name)
            .mode(if ours { Mode::LinesMarkersText } else { Mode::MarkersText })
            .text_array(chosen.iter().map(|row| row.policy.trim_start_matches("headroom ").to_owned()).collect())
            .text_position(if ours { Position::BottomCenter } else { Position::TopCenter })
            .clip_on_axis(false)
            .line(Line::new().color(colour).width(1.0))
            .marker(Marker::new().color(colour).size(9));
        plot.add_trace(trace);
    }
    let x_axis = Axis::new().title(Title::with_text("unit hours / oracle's")).type_(AxisType::Log);
    let y_axis = Axis::new().title(Title::with_text("minutes in violation"));
    plot.set_layout(layout().x_axis(x_axis).y_axis(y_axis));
    plot
}

fn course_plot(course: &Course, signals: &[Signal]) -> Plot {
    let times: Vec<String> = course.times.iter().map(EventTime::to_string).collect();
    let line = |values: &[f64], name: &str, colour: &str| {
        Scatter::new(times.clone(), values.to_vec())
            .name(name)
            .mode(Mode::Lines)
            .line(Line::new().color(colour.to_owned()).width(1.3))
    };
    let [low, median, high] = &course.band;
    let mut plot = Plot::new();
    plot.add_trace(line(low, "10 %", "rgba(0,0,0,0)").show_legend(false).hover_info(HoverInfo::Skip));
    plot.add_trace(line(high, "forecast, 80 %", "rgba(0,0,0,0)").fill(Fill::ToNextY).fill_color(BAND));
    plot.add_trace(line(median, "forecast, median", AHEAD));
    let limits = Scatter::new(times.clone(), course.limits.clone())
        .name(format!("limit of {}", course.policy))
        .mode(Mode::Lines)
        .line(Line::new().color(FAINT).width(1.3).shape(LineShape::Hv));
    plot.add_trace(limits);
    plot.add_trace(line(&course.loads, "load", LOAD));
    let shapes = events_within(course, signals).map(shade).collect();
    plot.set_layout(layout().shapes(shapes).y_axis(Axis::new().title(Title::with_text("load"))));
    plot
}

fn events_within<'a>(course: &Course, signals: &'a [Signal]) -> impl Iterator<Item = &'a Signal> {
    let (first, last) = (course.times.first().copied(), course.times.last().copied());
    signals.iter().filter(move |signal| {
        first.is_some_and(|first| signal.ends_at_us > first.micros())
            && last.is_some_and(|last| signal.starts_at_us < last.micros())
    })
}

fn shade(signal: &Signal) -> Shape {
    let time = |micros: i64| EventTime::from_micros(micros).to_string();
    Shape::new()
        .shape_type(ShapeType::Rect)
        .layer(ShapeLayer::Below)
        .y_ref("paper")
        .y0(0)
        .y1(1)
        .x0(time(signal.starts_at_us))
        .x1(time(signal.ends_at_us))
        .fill_color(EVENT)
        .line(ShapeLine::new().width(0.0))
}

/// Small margins, the legend above.
fn layout() -> Layout {
    let legend = Legend::new().orientation(Orientation::Horizontal).y(1.12);
    Layout::new().auto_size(true).margin(Margin::new().left(60).right(30).top(20).bottom(50)).legend(legend)
}

fn chart(plot: &Plot, id: &str) -> String {
    let mut quiet = plot.clone();
    quiet.set_configuration(Configuration::new().responsive(true).display_mode_bar(DisplayModeBar::False));
    format!("<div class=\"chart\">{}</div>", quiet.to_inline_html(Some(id)))
}

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' | '>' | '&' | '"' | '\'' => {
                // Writing to a string cannot fail.
                let _written = write!(safe, "&#{};", u32::from(c));
            }
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_needs_no_network_and_names_cannot_break_it() {
        let row = |policy: &str| Row {
            policy: policy.to_owned(),
            violation_minutes: 5.0,
            unit_hours: 7.0,
            cost_vs_oracle: 1.5,
            lead_minutes: None,
        };
        let findings = Findings {
            policies: vec![row("reactive"), row("headroom p90")],
            models: Vec::new(),
            premises: vec!["<script>alert(1)</script>".to_owned()],
        };
        let course = Course {
            workload: "a<b".to_owned(),
            times: vec![EventTime::from_micros(0), EventTime::from_micros(300_000_000)],
            loads: vec![1.0, f64::NAN],
            band: [vec![0.5, 0.6], vec![1.0, 1.1], vec![2.0, 2.1]],
            limits: vec![3.0, 3.0],
            policy: "headroom p90".to_owned(),
        };
        let signal = Signal { starts_at_us: 0, ends_at_us: 100_000_000, ..Signal::default() };
        let page = html(&findings, &[&course], &[signal]);
        assert!(page.contains("<h2>a&#60;b</h2>") && !page.contains("<script>alert(1)"), "names are escaped");
        assert!(!page.contains("<script src") && !page.contains("<link"), "everything is within");
        for expected in ["headroom p90", "Plotly.newPlot(\"frontier\"", "Plotly.newPlot(\"course-0\"", "[1.0,null]"] {
            assert!(page.contains(expected), "{expected}");
        }
    }
}
