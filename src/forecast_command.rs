//! `headroom forecast`: the newest forecast of a running forecaster, for people.

use std::fmt::Write;

use clap::Subcommand;
use headroom_proto::v1::forecast_service_client::ForecastServiceClient;
use headroom_proto::v1::outlook_service_client::OutlookServiceClient;
use headroom_proto::v1::{DeriveRequest, Derived, Forecast, LatestForecastRequest};
use headroom_proto::{EventTime, Span};

use crate::control::{ServerArgs, channel, told};
use crate::terminal::answer;

/// Levels that are shown, of those that there are.
const SHOWN: [f64; 3] = [0.1, 0.5, 0.9];
const HOUR_US: i64 = 3_600_000_000;
const DAY_US: i64 = 24 * HOUR_US;

/// `headroom forecast ...`
#[derive(Debug, Subcommand)]
pub(crate) enum ForecastCommand {
    /// When it was made, how far it can be trusted and why, and its hourly course.
    Show {
        #[command(flatten)]
        server: ServerArgs,
        /// The workload.
        workload: String,
        /// The outlook of so many days instead, a line for each day: its mean, its peak and when. Up to 14.
        #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u8).range(1..=14))]
        days: Option<u8>,
        /// What follows from the outlook: sessions at work, latency, units, cost, storage. A running lake stage tells it.
        #[arg(long, conflicts_with = "days")]
        derived: bool,
    },
}

/// Asks the running forecaster.
pub(crate) async fn run(command: ForecastCommand) -> anyhow::Result<()> {
    let ForecastCommand::Show { server, workload, days, derived } = command;
    let channel = channel(&server).await?;
    if derived {
        let mut client = OutlookServiceClient::new(channel);
        let derived = client.derive(DeriveRequest { workload }).await.map_err(told)?.into_inner().derived;
        answer(derived.iter().map(derived_told).collect::<Vec<_>>().join("\n"));
        return Ok(());
    }
    let mut client = ForecastServiceClient::new(channel);
    let request = LatestForecastRequest { workload };
    let Some(days) = days else {
        let forecast = client.latest(request).await.map_err(told)?.into_inner();
        answer(story(&forecast));
        return Ok(());
    };
    let outlook = client.outlook(request).await.map_err(told)?.into_inner();
    answer(days_told(&outlook, days.into()));
    Ok(())
}

/// One number, or why it is not told.
fn derived_told(derived: &Derived) -> String {
    let Derived { quantity, unit, finding, rests_on, abstains, .. } = derived;
    if abstains.is_empty() {
        format!("{quantity} ({unit}): {finding}\n  from {rests_on}")
    } else {
        format!("{quantity}: not told: {abstains}")
    }
}

/// An outlook, a line for each day of UTC: the mean of the medians, and the hour with the highest median.
fn days_told(outlook: &Forecast, days: usize) -> String {
    let mut text = heading(outlook);
    let levels = outlook.levels.len().max(1);
    let of_day = |hour: usize| {
        let at_us = outlook.origin_us + outlook.step_us * i64::try_from(hour).unwrap_or(0);
        at_us.div_euclid(DAY_US)
    };
    let hours: Vec<(usize, &[f32])> = outlook.values.chunks_exact(levels).enumerate().collect();
    for day in hours.chunk_by(|(one, _), (next, _)| of_day(*one) == of_day(*next)).take(days) {
        let at_level = |row: &[f32], level: f64| headroom_models::score::at_level(&outlook.levels, row, level);
        let medians = || day.iter().map(|(_, row)| at_level(row, 0.5));
        #[expect(clippy::cast_precision_loss, reason = "hours of a day")]
        let mean = medians().sum::<f64>() / day.len().max(1) as f64;
        let peak = day.iter().max_by(|one, other| at_level(one.1, 0.5).total_cmp(&at_level(other.1, 0.5)));
        let Some((hour, row)) = peak else { continue };
        let at = EventTime::from_micros(outlook.origin_us + outlook.step_us * i64::try_from(*hour).unwrap_or(0));
        let [low, middle, high] = SHOWN.map(|level| at_level(row, level));
        let has_event = day.iter().any(|(hour, _)| outlook.event_steps.get(*hour) == Some(&true));
        let event = if has_event { "  event" } else { "" };
        let peak = format!("peak {middle:.2} ({low:.2} to {high:.2}) in the hour from {at}");
        write!(text, "\n  mean {mean:>12.2}  {peak}{event}").ok();
    }
    text
}

/// What it is of, how far it can be trusted and why, and what it was made with.
fn heading(forecast: &Forecast) -> String {
    let verdict = forecast.verdict().as_str_name().trim_start_matches("VERDICT_").to_lowercase();
    let origin = EventTime::from_micros(forecast.origin_us);
    let mut text = format!("{} of {}, made at {origin}: {verdict}", forecast.target, forecast.workload);
    if !forecast.verdict_reason.is_empty() {
        write!(text, " ({})", forecast.verdict_reason).ok();
    }
    for mark in &forecast.marks {
        let kind = mark.kind().as_str_name().trim_start_matches("MARK_KIND_").to_lowercase();
        write!(text, "\n  {kind}: {}", mark.reason).ok();
    }
    if !forecast.model_version.is_empty() {
        write!(text, "\n  model {}", forecast.model_version).ok();
    }
    let signals: Vec<&str> = forecast.signals.iter().map(|signal| signal.signal_id.as_str()).collect();
    if !signals.is_empty() {
        write!(text, "\n  signals {}", signals.join(", ")).ok();
    }
    text
}

fn story(forecast: &Forecast) -> String {
    let (mut text, origin) = (heading(forecast), EventTime::from_micros(forecast.origin_us));
    let levels = forecast.levels.len().max(1);
    let hourly = usize::try_from(HOUR_US / forecast.step_us.max(1)).unwrap_or(1).max(1);
    for (step, row) in forecast.values.chunks_exact(levels).enumerate().step_by(hourly) {
        let at = origin + Span::from_micros(forecast.step_us).times(i64::try_from(step).unwrap_or(0));
        let [low, middle, high] = SHOWN.map(|level| headroom_models::score::at_level(&forecast.levels, row, level));
        let event = if forecast.event_steps.get(step) == Some(&true) { "  event" } else { "" };
        write!(text, "\n  {at}  {middle:>12.2}  ({low:.2} to {high:.2}){event}").ok();
    }
    text
}

#[cfg(test)]
mod tests {
    use headroom_proto::v1::{Mark, MarkKind, Verdict};

    use super::*;

    #[test]
    fn an_outlook_is_told_by_the_day() {
        // From 22:00 on: two hours of one day, three of the next.
        let outlook = Forecast {
            workload: "shop".to_owned(),
            origin_us: 22 * HOUR_US,
            step_us: HOUR_US,
            levels: vec![0.1, 0.5, 0.9],
            values: [10.0, 30.0, 20.0, 70.0, 60.0].iter().flat_map(|at| [at - 1.0, *at, at + 2.0]).collect(),
            event_steps: vec![false, false, false, true, false],
            verdict: Verdict::Fresh.into(),
            ..Forecast::default()
        };
        let text = days_told(&outlook, 14);
        let lines: Vec<&str> = text.lines().skip(1).collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(
            lines[0].contains("20.00  peak 30.00 (29.00 to 32.00) in the hour from 1970-01-01T23:00:00Z"),
            "{text}"
        );
        assert!(lines[1].contains("50.00  peak 70.00") && lines[1].ends_with("event"), "{text}");
        assert_eq!(days_told(&outlook, 1).lines().count(), 2);
    }

    #[test]
    fn marks_and_hours_are_told() {
        let forecast = Forecast {
            workload: "shop".to_owned(),
            step_us: HOUR_US / 2,
            levels: vec![0.1, 0.5, 0.9],
            values: vec![1.0, 2.0, 3.0, 9.0, 9.0, 9.0, 4.0, 5.0, 6.0],
            verdict: Verdict::Suspect.into(),
            marks: vec![Mark { kind: MarkKind::Unlike.into(), reason: "no launch has been seen".to_owned() }],
            ..Forecast::default()
        };
        let text = story(&forecast);
        assert!(text.contains("suspect") && text.contains("unlike: no launch has been seen"), "{text}");
        assert!(text.contains("5.00  (4.00 to 6.00)") && !text.contains("9.00"), "{text}");
    }
}
