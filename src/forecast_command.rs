//! `headroom forecast`: the newest forecast of a running forecaster, for people.

use std::fmt::Write;

use clap::Subcommand;
use headroom_proto::v1::forecast_service_client::ForecastServiceClient;
use headroom_proto::v1::{Forecast, LatestForecastRequest};
use headroom_proto::{EventTime, Span};

use crate::control::{ServerArgs, channel, told};
use crate::terminal::answer;

/// Levels that are shown, of those that there are.
const SHOWN: [f64; 3] = [0.1, 0.5, 0.9];
const HOUR_US: i64 = 3_600_000_000;

/// `headroom forecast ...`
#[derive(Debug, Subcommand)]
pub(crate) enum ForecastCommand {
    /// When it was made, how far it can be trusted and why, and its hourly course.
    Show {
        #[command(flatten)]
        server: ServerArgs,
        /// The workload.
        workload: String,
    },
}

/// Asks the running forecaster.
pub(crate) async fn run(command: ForecastCommand) -> anyhow::Result<()> {
    let ForecastCommand::Show { server, workload } = command;
    let mut client = ForecastServiceClient::new(channel(&server).await?);
    let forecast = client.latest(LatestForecastRequest { workload }).await.map_err(told)?.into_inner();
    answer(story(&forecast));
    Ok(())
}

fn story(forecast: &Forecast) -> String {
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
