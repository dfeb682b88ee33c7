//! Commands for people who watch and decide: plans, rollback, pause and resume, over gRPC to a running Headroom.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use headroom_proto::EventTime;
use headroom_proto::v1::actuator_service_client::ActuatorServiceClient;
use headroom_proto::v1::{
    ActionRecord, ActionState, ApproveRequest, ListPlansRequest, PauseRequest, PlanView, RejectRequest,
    RollbackPlanRequest, StatusRequest,
};
use tonic::transport::Endpoint;

use crate::bearer::{Bearer, Server};
use crate::cli::{DataDirArg, UserError};
use crate::endpoints::Endpoints;
use crate::terminal::{answer, say};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Plans that may wait at once, for the one that is looked for.
const MAX_PENDING: u32 = 10_000;
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// How to reach a running Headroom and who is asking.
#[derive(Clone, Debug, Args)]
pub(crate) struct ServerArgs {
    #[command(flatten)]
    pub(crate) data_dir: DataDirArg,
    /// Address of the gRPC services; found through the data folder unless given.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) server: Option<String>,
    /// Who you are, for the record; your user's name unless given. A token says it by itself.
    #[arg(long = "as", value_name = "NAME")]
    actor: Option<String>,
    /// A file with the token to send, where `[grpc.auth]` asks for one; else the variable HEADROOM_TOKEN.
    #[arg(long, env = "HEADROOM_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl ServerArgs {
    fn token(&self) -> anyhow::Result<Option<String>> {
        let token = match &self.token_file {
            Some(file) => Some(
                std::fs::read_to_string(file)
                    .map_err(|error| UserError::new(format!("--token-file {}: {error}", file.display())))?,
            ),
            None => std::env::var("HEADROOM_TOKEN").ok(),
        };
        Ok(token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty()))
    }

    /// The name for the record; empty where the token says it.
    fn actor(&self) -> anyhow::Result<String> {
        if let Some(actor) = &self.actor {
            return Ok(actor.clone());
        }
        let has_token = self.token()?.is_some();
        let user =
            || std::env::var("USER").ok().filter(|user| !user.is_empty()).unwrap_or_else(|| "unknown".to_owned());
        Ok(if has_token { String::new() } else { user() })
    }
}

/// `headroom plan ...`
#[derive(Debug, Subcommand)]
pub(crate) enum PlanCommand {
    /// The newest plans and what became of them.
    List {
        #[command(flatten)]
        server: ServerArgs,
        /// Only those that wait for a person.
        #[arg(long)]
        pending: bool,
        /// Only those of one workload.
        #[arg(long)]
        workload: Option<String>,
        /// How many at most.
        #[arg(long, default_value_t = 20)]
        limit: u32,
    },
    /// Tell the story of a plan: why it was made, what it costs and risks, how it is undone, what came of it.
    Show {
        #[command(flatten)]
        server: ServerArgs,
        /// The id of the plan, or of one of its actions.
        plan_id: String,
        /// As a JSON document, with the numbers.
        #[arg(long)]
        json: bool,
    },
    /// Approve a plan that waits.
    Approve {
        #[command(flatten)]
        server: ServerArgs,
        /// The plan's id.
        plan_id: String,
        /// The plan's hash as you saw it: the approval is refused when the plan has changed since. Without it the
        /// plan is shown and approved as it is.
        #[arg(long)]
        hash: Option<String>,
        /// Why.
        #[arg(long, default_value = "")]
        comment: String,
    },
    /// Reject a plan that waits.
    Reject {
        #[command(flatten)]
        server: ServerArgs,
        /// The plan's id.
        plan_id: String,
        /// Why.
        #[arg(long, default_value = "")]
        comment: String,
    },
}

/// `headroom rollback ID`
#[derive(Debug, Args)]
pub(crate) struct RollbackArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// A plan or an action; what was done since is undone with it.
    #[arg(required_unless_present = "since", conflicts_with = "since")]
    id: Option<String>,
    /// Undo all that was decided for the workload since this time, such as 2026-11-27T08:00:00Z.
    #[arg(long, value_name = "TIME", requires = "workload", value_parser = time)]
    since: Option<EventTime>,
    /// The workload, with --since.
    #[arg(long, requires = "since")]
    workload: Option<String>,
    /// Why.
    #[arg(long, default_value = "")]
    reason: String,
}

pub(crate) fn time(text: &str) -> Result<EventTime, String> {
    EventTime::parse(text).map_err(|error| error.to_string())
}

/// `headroom pause|resume [WORKLOAD]`
#[derive(Debug, Args)]
pub(crate) struct SwitchArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// One workload; all when none is named.
    workload: Option<String>,
    /// Why.
    #[arg(long, default_value = "")]
    reason: String,
}

/// Lists, approves or rejects plans.
pub(crate) async fn plan(command: PlanCommand) -> anyhow::Result<()> {
    match command {
        PlanCommand::List { server, pending, workload, limit } => {
            let request = ListPlansRequest { workload: workload.clone().unwrap_or_default(), pending, limit };
            let mut client = connect(&server).await?;
            let plans = client.list_plans(request).await.map_err(told)?.into_inner().plans;
            if let Some(name) = workload.filter(|_| plans.is_empty()) {
                has_appeared(&mut client, &name).await?;
            }
            if plans.is_empty() {
                answer(if pending { "no plan waits for a person" } else { "no plans" });
            }
            print_plans(&plans);
        }
        PlanCommand::Show { server, plan_id, json } => crate::audit_command::explain(&server, plan_id, json).await?,
        PlanCommand::Approve { server, plan_id, hash, comment } => {
            let mut client = connect(&server).await?;
            let plan_hash = match hash {
                Some(hash) => hash,
                None => shown_hash(&mut client, &plan_id).await?,
            };
            let request = ApproveRequest { plan_id, plan_hash, actor: server.actor()?, comment };
            print_action(&client.approve(request).await.map_err(told)?.into_inner());
        }
        PlanCommand::Reject { server, plan_id, comment } => {
            let request = RejectRequest { plan_id, actor: server.actor()?, comment };
            print_action(&connect(&server).await?.reject(request).await.map_err(told)?.into_inner());
        }
    }
    Ok(())
}

/// Undoes a plan or an action, with what followed.
pub(crate) async fn rollback(args: RollbackArgs) -> anyhow::Result<()> {
    let request = RollbackPlanRequest {
        id: args.id.unwrap_or_default(),
        actor: args.server.actor()?,
        reason: args.reason,
        workload: args.workload.unwrap_or_default(),
        since_us: args.since.map_or(0, EventTime::micros),
    };
    let mut client = connect(&args.server).await?;
    let moves = client.rollback_plan(request).await.map_err(told)?.into_inner().moves;
    for action in &moves {
        print_action(action);
    }
    let undone = moves.iter().filter(|action| action.state() == ActionState::RolledBack);
    let undone: BTreeSet<&str> = undone.map(|action| action.workload.as_str()).collect();
    let statuses = client.status(StatusRequest {}).await.map_err(told)?.into_inner().workloads;
    for status in statuses.iter().filter(|status| status.paused && undone.contains(status.workload.as_str())) {
        let workload = &status.workload;
        answer(format_args!("automation of {workload} is paused: `headroom resume {workload}` lets it go on"));
    }
    Ok(())
}

/// Sets the switch of one workload or of all.
pub(crate) async fn switch(args: SwitchArgs, paused: bool) -> anyhow::Result<()> {
    let request =
        PauseRequest { workload: args.workload.unwrap_or_default(), actor: args.server.actor()?, reason: args.reason };
    let mut client = connect(&args.server).await?;
    let switched = if paused { client.pause(request).await } else { client.resume(request).await };
    let state = switched.map_err(told)?.into_inner();
    let scope = if state.workload.is_empty() { "every workload" } else { state.workload.as_str() };
    answer(format_args!("{scope}: automation {}", if state.paused { "paused" } else { "on" }));
    if !state.warning.is_empty() {
        say(format_args!("warning: {}", state.warning));
    }
    Ok(())
}

/// A client of a running Headroom.
pub(crate) async fn connect(server: &ServerArgs) -> anyhow::Result<ActuatorServiceClient<Server>> {
    Ok(ActuatorServiceClient::new(channel(server).await?))
}

/// A connection to the running Headroom, with the token that was given.
pub(crate) async fn channel(server: &ServerArgs) -> anyhow::Result<Server> {
    let bearer = match server.token()? {
        Some(token) => Bearer::of(&token).ok_or_else(|| UserError::new("the token cannot stand in a header"))?,
        None => Bearer::default(),
    };
    let address = match &server.server {
        Some(address) => address.clone(),
        None => Endpoints::read(&server.data_dir.data_dir)?.grpc.to_string(),
    };
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|_| UserError::new(format!("--server `{address}` is no address: write HOST:PORT")))?;
    let channel = endpoint.connect_timeout(CONNECT_TIMEOUT).timeout(CALL_TIMEOUT).connect().await.map_err(|_| {
        UserError::new(format!("nothing answers at {address}: is `headroom run` or `headroom demo` still running?"))
    })?;
    Ok(bearer.over(channel))
}

/// A refusal is the user's to mend; the rest is ours.
pub(crate) fn told(status: tonic::Status) -> anyhow::Error {
    use tonic::Code;
    let message = status.message().to_owned();
    let code = status.code();
    if code == Code::Unauthenticated {
        return UserError::new(format!("{message}: give it by --token-file or HEADROOM_TOKEN"));
    }
    if matches!(code, Code::NotFound | Code::FailedPrecondition | Code::InvalidArgument | Code::PermissionDenied) {
        return UserError::new(message);
    }
    anyhow::anyhow!("the actuator answered {code:?}: {message}")
}

/// Shows a plan that waits; its hash.
async fn shown_hash(client: &mut ActuatorServiceClient<Server>, plan_id: &str) -> anyhow::Result<String> {
    let request = ListPlansRequest { pending: true, limit: MAX_PENDING, ..ListPlansRequest::default() };
    let mut plans = client.list_plans(request).await.map_err(told)?.into_inner().plans;
    plans.retain(|view| view.plan.as_ref().is_some_and(|plan| plan.plan_id == plan_id));
    print_plans(&plans);
    // An unknown plan, or one that does not wait, is the actuator's to refuse.
    Ok(plans.into_iter().find_map(|view| view.plan).map(|plan| plan.plan_hash).unwrap_or_default())
}

/// A workload that nobody knows has no plans either; a wrong name should not look like a quiet workload.
async fn has_appeared(client: &mut ActuatorServiceClient<Server>, name: &str) -> anyhow::Result<()> {
    let known = client.status(StatusRequest {}).await.map_err(told)?.into_inner().workloads;
    if known.iter().any(|status| status.workload == name) {
        return Ok(());
    }
    Err(UserError::new(format!("no workload `{name}`: `headroom status` shows them")))
}

fn print_plans(plans: &[PlanView]) {
    for view in plans {
        let Some(plan) = &view.plan else { continue };
        answer(format_args!(
            "{}  {}  {}  {} -> {} units  {}",
            plan.plan_id,
            EventTime::from_micros(plan.decided_at_us),
            plan.workload,
            plan.units_before,
            plan.units_now,
            if plan.would.is_empty() { state_word(view.state()) } else { "observed".to_owned() }
        ));
        answer(format_args!("    {}", plan.reason));
        if !view.action_id.is_empty() {
            answer(format_args!("    action {}  hash {}", view.action_id, plan.plan_hash));
        } else if !view.state_reason.is_empty() {
            answer(format_args!("    {}", view.state_reason));
        }
        if view.expires_at_us > 0 {
            let approved = if view.approvals.is_empty() { "nobody yet".to_owned() } else { view.approvals.join(", ") };
            // What waits since it was proposed has the plan's reason, which stands above.
            let held = Some(&view.state_reason).filter(|reason| **reason != plan.reason && !reason.is_empty());
            let held = held.map(|reason| format!("; {reason}")).unwrap_or_default();
            let until = EventTime::from_micros(view.expires_at_us);
            answer(format_args!("    waits until {until}; approved by {approved}{held}"));
        }
    }
}

fn print_action(action: &ActionRecord) {
    let (state, reason) = (state_word(action.state()), &action.reason);
    // Most reasons begin with what they are the reason of.
    let told = if reason.starts_with(&state) { reason.clone() } else { format!("{state}: {reason}") };
    let ActionRecord { action_id, workload, units_before, units_after, .. } = action;
    answer(format_args!("{action_id}  {workload}  {units_before} -> {units_after} units  {told}"));
}

fn state_word(state: ActionState) -> String {
    let name = state.as_str_name();
    name.strip_prefix("ACTION_STATE_").unwrap_or(name).to_ascii_lowercase().replace('_', " ")
}
