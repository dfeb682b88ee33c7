//! `headroom signal`: what event signals do to the load, as a running forecaster has learned it.

use std::fmt::Write;

use clap::Subcommand;
use headroom_proto::EventTime;
use headroom_proto::v1::forecast_service_client::ForecastServiceClient;
use headroom_proto::v1::{Lift, LiftRange, ListLiftsRequest, PastLift, SignalLift};

use crate::cli::UserError;
use crate::control::{ServerArgs, channel, told};
use crate::terminal::answer;

/// `headroom signal ...`
#[derive(Debug, Subcommand)]
pub(crate) enum SignalCommand {
    /// Every signal that stands, with its lift: load with it over load without it, at the peak and over its window.
    List {
        #[command(flatten)]
        server: ServerArgs,
        /// Only what they do to one workload.
        #[arg(long, value_name = "WORKLOAD")]
        workload: Option<String>,
    },
    /// The lift of a signal, or of an ordinary event of a kind, its interval, and the past events that it rests on.
    Show {
        #[command(flatten)]
        server: ServerArgs,
        /// The signal's id.
        #[arg(required_unless_present = "kind", conflicts_with = "kind", value_name = "ID")]
        signal_id: Option<String>,
        /// A kind, such as match or sale, in place of a signal.
        #[arg(long, value_name = "KIND")]
        kind: Option<String>,
        /// Only what it does to one workload.
        #[arg(long, value_name = "WORKLOAD")]
        workload: Option<String>,
    },
}

/// Asks the running forecaster.
pub(crate) async fn run(command: SignalCommand) -> anyhow::Result<()> {
    match command {
        SignalCommand::List { server, workload } => {
            let request = ListLiftsRequest { workload: workload.unwrap_or_default(), ..Default::default() };
            let lifts = ask(&server, request).await?;
            if lifts.is_empty() {
                answer("no signal stands, or there is too little history to say what signals do");
            }
            for lift in &lifts {
                answer(line(lift));
            }
        }
        SignalCommand::Show { server, signal_id, kind, workload } => {
            let kind = kind.map(|kind| kind.to_lowercase()).unwrap_or_default();
            let (signal_id, workload) = (signal_id.unwrap_or_default(), workload.unwrap_or_default());
            for lift in &ask(&server, ListLiftsRequest { workload, signal_id, kind }).await? {
                answer(story(lift));
            }
        }
    }
    Ok(())
}

async fn ask(server: &ServerArgs, request: ListLiftsRequest) -> anyhow::Result<Vec<SignalLift>> {
    let mut client = ForecastServiceClient::new(channel(server).await?);
    let lifts = client.list_lifts(request).await.map_err(|status| {
        if status.code() == tonic::Code::Unimplemented {
            return UserError::new("no forecaster runs at this address: name its own by --server");
        }
        told(status)
    });
    Ok(lifts?.into_inner().lifts)
}

/// One line of the list.
fn line(lift: &SignalLift) -> String {
    let mut line = format!("{:<24} {:<12} {}", lift.signal_id, lift.kind, EventTime::from_micros(lift.starts_at_us));
    write!(line, "  {}  peak {}  window {}", lift.workload, range(lift.peak), range(lift.window)).ok();
    if let Some(Lift { peak, window }) = lift.observed {
        write!(line, "  observed {peak:.2} / {window:.2}").ok();
    }
    if !lift.unlike.is_empty() {
        write!(line, "  unlike: {}", lift.unlike).ok();
    }
    line
}

/// All that is known of one signal.
fn story(lift: &SignalLift) -> String {
    let time = |us| EventTime::from_micros(us);
    let what = if lift.signal_id.is_empty() {
        format!("an ordinary {}", lift.kind)
    } else {
        let named = if lift.name.is_empty() { String::new() } else { format!(", {}", lift.name) };
        format!("{} ({}{named})", lift.signal_id, lift.kind)
    };
    let mut text = format!("{what} on {}", lift.workload);
    if !lift.signal_id.is_empty() {
        write!(text, "\n  from {} to {}", time(lift.starts_at_us), time(lift.ends_at_us)).ok();
    }
    write!(text, "\n  weight {}", lift.weight).ok();
    write!(text, "\n  lift at the peak       {}", range(lift.peak)).ok();
    write!(text, "\n  lift over its window   {}", range(lift.window)).ok();
    if let Some(Lift { peak, window }) = lift.observed {
        write!(text, "\n  observed               {peak:.2} at the peak, {window:.2} over its window").ok();
    }
    if !lift.unlike.is_empty() {
        write!(text, "\n  unlike those before:   {}", lift.unlike).ok();
    }
    let spread = "80 % of events like it, by the spread of past ones around the models";
    write!(text, "\n  the interval is that of {spread}").ok();
    if lift.past.is_empty() {
        text.push_str("\n  it rests on no past event");
    } else {
        write!(
            text,
            "\n  it rests on {} past events (observed against expected now, at the peak and over the window):",
            lift.past.len()
        )
        .ok();
    }
    for past in &lift.past {
        write!(text, "\n    {}", past_line(past)).ok();
    }
    text
}

fn past_line(past: &PastLift) -> String {
    let [observed, expected] = [past.observed, past.expected].map(Option::unwrap_or_default);
    format!(
        "{:<24} {}  {:<12} weight {:<5} peak {:.2} against {:.2}  window {:.2} against {:.2}  {}",
        past.signal_id,
        EventTime::from_micros(past.starts_at_us),
        past.kind,
        past.weight,
        observed.peak,
        expected.peak,
        observed.window,
        expected.window,
        past.name
    )
}

fn range(range: Option<LiftRange>) -> String {
    let LiftRange { lift, low, high } = range.unwrap_or_default();
    format!("{lift:.2} ({low:.2} to {high:.2})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_names_the_past_and_what_is_unlike() {
        let past = PastLift {
            signal_id: "m1".to_owned(),
            observed: Some(Lift { peak: 2.5, window: 2.0 }),
            expected: Some(Lift { peak: 2.0, window: 1.8 }),
            ..PastLift::default()
        };
        let lift = SignalLift {
            workload: "shop".to_owned(),
            signal_id: "m2".to_owned(),
            kind: "match".to_owned(),
            peak: Some(LiftRange { lift: 2.2, low: 1.5, high: 3.1 }),
            unlike: "its weight is 4".to_owned(),
            past: vec![past],
            ..SignalLift::default()
        };
        let text = story(&lift);
        for expected in ["m2 (match) on shop", "2.20 (1.50 to 3.10)", "unlike those before:   its weight is 4", "m1 "] {
            assert!(text.contains(expected), "{expected} in {text}");
        }
        assert!(text.contains("peak 2.50 against 2.00"), "{text}");
        assert!(!line(&lift).contains("observed"), "{}", line(&lift));
    }
}
