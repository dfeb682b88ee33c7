//! `headroom status`: what each workload has, what is trusted, what is stopped and what waits.

use clap::Args;
use headroom_proto::EventTime;
use headroom_proto::v1::{ListPlansRequest, StatusRequest, StatusResponse, SwitchState, WorkloadStatus};

use crate::cli::UserError;
use crate::control::{ServerArgs, connect, told};
use crate::terminal::answer;

/// Plans that may wait at once.
const MAX_PENDING: u32 = 10_000;

/// `headroom status [WORKLOAD]`
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// One workload; all when none is named.
    workload: Option<String>,
    /// As a JSON document.
    #[arg(long)]
    json: bool,
}

/// Shows it.
pub(crate) async fn show(args: StatusArgs) -> anyhow::Result<()> {
    let mut client = connect(&args.server).await?;
    let mut status = client.status(StatusRequest {}).await.map_err(told)?.into_inner();
    if let Some(name) = &args.workload {
        status.workloads.retain(|known| known.workload == *name);
        status.stopped.retain(|switch| switch.workload.is_empty() || switch.workload == *name);
        if status.workloads.is_empty() {
            return Err(UserError::new(format!("no workload `{name}`: `headroom status` shows them")));
        }
    }
    if args.json {
        answer(serde_json::to_string_pretty(&status)?);
        return Ok(());
    }
    let workload = args.workload.unwrap_or_default();
    let request = ListPlansRequest { workload, pending: true, limit: MAX_PENDING };
    let waiting = client.list_plans(request).await.map_err(told)?.into_inner().plans.len();
    lines(&status, waiting).iter().for_each(answer);
    Ok(())
}

fn lines(status: &StatusResponse, waiting: usize) -> Vec<String> {
    let mut lines: Vec<String> = status.workloads.iter().map(of_workload).collect();
    if lines.is_empty() {
        lines.push("no workload has been seen yet".to_owned());
    }
    lines.extend(status.stopped.iter().map(stopped));
    lines.push(match waiting {
        0 => "no plan waits for a person".to_owned(),
        1 => "1 plan waits for a person: `headroom plan list --pending`".to_owned(),
        more => format!("{more} plans wait for a person: `headroom plan list --pending`"),
    });
    lines
}

fn of_workload(status: &WorkloadStatus) -> String {
    let WorkloadStatus { workload, stage, units_ready, units_commanded, verdict, .. } = status;
    let units = match (units_ready, units_commanded) {
        (1, 1) => "1 unit".to_owned(),
        (ready, commanded) if ready == commanded => format!("{commanded} units"),
        (ready, commanded) => format!("{commanded} units, of which {ready} serve"),
    };
    let forecast = if verdict == "none" { "no forecast".to_owned() } else { format!("forecast {verdict}") };
    let (load, at) = (status.observed_load, EventTime::from_micros(status.event_time_us));
    if status.event_time_us <= 0 {
        return format!("{workload}  {units}  stage {stage}  no window is decided yet");
    }
    format!("{workload}  {units}  load {load:.1}  {forecast}  stage {stage}  at {at}")
}

fn stopped(switch: &SwitchState) -> String {
    let SwitchState { workload, actor, reason, warning, .. } = switch;
    let scope = if workload.is_empty() { "every workload" } else { workload.as_str() };
    let because = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    let unknown = if warning.is_empty() { "" } else { " (no workload of that name has appeared)" };
    let undo = format!("headroom resume {workload}");
    format!("automation of {scope}{unknown} is paused by {actor}{because}; `{}` lets it go on", undo.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(units_ready: u32, units_commanded: u32, verdict: &str) -> WorkloadStatus {
        WorkloadStatus {
            workload: "shop".to_owned(),
            stage: "automate".to_owned(),
            units_ready,
            units_commanded,
            observed_load: 120.25,
            verdict: verdict.to_owned(),
            event_time_us: 894_844_800_000_000,
            ..WorkloadStatus::default()
        }
    }

    #[test]
    fn what_there_is_what_is_stopped_and_what_waits_are_told() {
        let switch = |workload: &str, reason: &str, warning: &str| SwitchState {
            paused: true,
            workload: workload.to_owned(),
            actor: "ann".to_owned(),
            reason: reason.to_owned(),
            warning: warning.to_owned(),
        };
        let new = WorkloadStatus { event_time_us: EventTime::MIN.micros(), ..workload(1, 1, "none") };
        let status = StatusResponse {
            workloads: vec![workload(2, 5, "fresh"), workload(1, 1, "none"), workload(3, 3, "stale"), new],
            stopped: vec![switch("", "incident", ""), switch("shpo", "", "no workload `shpo` has appeared")],
        };
        assert_eq!(
            lines(&status, 1),
            [
                "shop  5 units, of which 2 serve  load 120.2  forecast fresh  stage automate  at 1998-05-11T00:00:00Z",
                "shop  1 unit  load 120.2  no forecast  stage automate  at 1998-05-11T00:00:00Z",
                "shop  3 units  load 120.2  forecast stale  stage automate  at 1998-05-11T00:00:00Z",
                "shop  1 unit  stage automate  no window is decided yet",
                "automation of every workload is paused by ann: incident; `headroom resume` lets it go on",
                "automation of shpo (no workload of that name has appeared) is paused by ann; `headroom resume shpo` lets it \
                 go on",
                "1 plan waits for a person: `headroom plan list --pending`",
            ]
        );
        assert_eq!(
            lines(&StatusResponse::default(), 0),
            ["no workload has been seen yet", "no plan waits for a person"]
        );
    }
}
