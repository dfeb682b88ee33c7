//! `headroom shadow WORKLOAD`: what would have been done, beside what was.

use clap::Args;
use headroom_proto::EventTime;
use headroom_proto::v1::{ShadowRequest, ShadowResponse, ShadowUnits, ShadowWindow};

use crate::control::{ServerArgs, connect, time, told};
use crate::terminal::answer;

/// `headroom shadow WORKLOAD`
#[derive(Debug, Args)]
pub(crate) struct ShadowArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// The workload.
    workload: String,
    /// Only windows after this time, such as 2026-11-27T08:00:00Z; all that the actuator has seen without it.
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<EventTime>,
    /// Every window, not only those where something changes.
    #[arg(long)]
    all: bool,
    /// As a JSON document, with every window.
    #[arg(long, conflicts_with = "all")]
    json: bool,
}

/// Shows it.
pub(crate) async fn show(args: ShadowArgs) -> anyhow::Result<()> {
    let since_us = args.since.map_or(i64::MIN, EventTime::micros);
    let request = ShadowRequest { workload: args.workload, since_us };
    let shadow = connect(&args.server).await?.shadow(request).await.map_err(told)?.into_inner();
    if args.json {
        answer(serde_json::to_string_pretty(&shadow)?);
        return Ok(());
    }
    lines(&shadow, args.all).iter().for_each(answer);
    Ok(())
}

/// The table and what it comes to.
fn lines(shadow: &ShadowResponse, all: bool) -> Vec<String> {
    let ShadowResponse { workload, stage, method, windows, .. } = shadow;
    let Some((first, last)) = windows.first().zip(windows.last()) else {
        return vec![format!("{workload}: no window has closed since then, or since the actuator has begun to act")];
    };
    let (from, to) = (EventTime::from_micros(first.end_us - shadow.window_us), EventTime::from_micros(last.end_us));
    let mut lines = vec![
        format!("{workload}, stage {stage}, {from} to {to}"),
        format!("would: {method}"),
        format!("{:<26}{:>12}{:>14}{:>14}", "window ends", "load", "units", "would have"),
    ];
    let mut before: Option<&ShadowWindow> = None;
    for window in windows {
        let is_same = before.is_some_and(|before| (before.was, before.would) == (window.was, window.would));
        if all || !is_same {
            let end = EventTime::from_micros(window.end_us).to_string();
            let (was, would) = (units(window.was.as_ref()), units(window.would.as_ref()));
            lines.push(format!("{end:<26}{:>12.1}{was:>14}{would:>14}", window.load));
        }
        before = Some(window);
    }
    lines.push("! in violation; 2/5: 2 serve and 5 are paid".to_owned());
    lines.push(format!(
        "violation minutes  {:>10.0} were, {:>10.0} would have been",
        shadow.violation_minutes_was, shadow.violation_minutes_would
    ));
    lines.push(format!(
        "unit-hours         {:>10.1} were, {:>10.1} would have been",
        shadow.unit_hours_was, shadow.unit_hours_would
    ));
    lines
}

fn units(units: Option<&ShadowUnits>) -> String {
    let Some(units) = units else { return String::new() };
    let count =
        if units.ready == units.paid { units.ready.to_string() } else { format!("{}/{}", units.ready, units.paid) };
    if units.violated { format!("{count} !") } else { count }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_where_nothing_changes_are_left_out_and_the_sums_are_told() {
        let units = |ready, paid, violated| Some(ShadowUnits { ready, paid, violated });
        let window = |step: i64, load: f64, was, would| ShadowWindow { end_us: step * 300_000_000, load, was, would };
        let one = units(1, 1, false);
        let shadow = ShadowResponse {
            workload: "shop".to_owned(),
            stage: "observe".to_owned(),
            method: "estimate".to_owned(),
            window_us: 300_000_000,
            windows: vec![
                window(1, 50.0, one, one),
                window(2, 51.0, one, one),
                window(3, 52.0, one, units(1, 5, false)),
                window(4, 300.0, units(1, 1, true), units(5, 5, false)),
            ],
            violation_minutes_was: 5.0,
            unit_hours_was: 0.3,
            unit_hours_would: 1.0,
            ..ShadowResponse::default()
        };
        let told = lines(&shadow, false);
        assert_eq!(told.len(), 3 + 3 + 3, "{told:?}");
        assert!(told[1].contains("estimate"), "{told:?}");
        assert!(told[4].ends_with("1           1/5"), "{told:?}");
        assert!(told[5].ends_with("1 !             5"), "{told:?}");
        assert!(told[7].contains("5 were") && told[7].contains("0 would have been"), "{told:?}");
        assert_eq!(lines(&shadow, true).len(), 3 + 4 + 3);
        assert_eq!(lines(&ShadowResponse::default(), false).len(), 1);
    }
}
