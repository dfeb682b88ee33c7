//! Commands about what may be done: policies, their tests and their answers, and the stages that are earned.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use headroom_actuator_decide::policy::{self, Cases, Policy};
use headroom_proto::EventTime;
use headroom_proto::v1::{PolicyDecision, StageStanding, StagesRequest, WhyRequest, WhyResponse};

use crate::cli::UserError;
use crate::config::{Config, ConfigArg};
use crate::control::{ServerArgs, connect, told};
use crate::terminal::answer;

/// `headroom policy ...`
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Say whether policies can be used, and everything that is wrong with them.
    Check(PolicyArgs),
    /// Ask the policies the questions of a file, and compare the answers.
    Test {
        /// Cases in TOML (`[[case]]`) or JSON: a question, `expect = "allow"` or "deny", and `rule` if wanted.
        cases: PathBuf,
        #[command(flatten)]
        policy: PolicyArgs,
    },
    /// Say which policies allowed or refused an action or a plan, and with which values.
    Why {
        #[command(flatten)]
        server: ServerArgs,
        /// The action's or the plan's id.
        id: String,
    },
    /// Print the policies that are shipped, to start from.
    Default,
    /// Print the schema: what policies may ask about.
    Schema,
}

/// Which policies: a file, or those of a configuration.
#[derive(Debug, Args)]
pub(crate) struct PolicyArgs {
    /// A file in the Cedar language; those of the configuration unless given.
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    policy: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigArg,
}

/// `headroom stage ...`
#[derive(Debug, Subcommand)]
pub(crate) enum StageCommand {
    /// The stage of each kind of action, and the track record behind it.
    Show {
        #[command(flatten)]
        server: ServerArgs,
        /// One workload; all when none is named.
        workload: Option<String>,
    },
}

/// Checks, tests and explains policies.
pub(crate) async fn policy(command: PolicyCommand) -> anyhow::Result<()> {
    match command {
        PolicyCommand::Check(args) => {
            let (policy, source) = args.read().await?;
            answer(format_args!("{source}: {} can be used, version {}", policies(&policy), policy.version()));
        }
        PolicyCommand::Test { cases, policy } => {
            let (policy, source) = policy.read().await?;
            test(&read_cases(&cases)?, &policy, &source)?;
        }
        PolicyCommand::Why { server, id } => {
            let request = WhyRequest { id };
            print_why(&connect(&server).await?.why(request).await.map_err(told)?.into_inner());
        }
        PolicyCommand::Default => answer(policy::DEFAULT.trim_end()),
        PolicyCommand::Schema => answer(policy::SCHEMA.trim_end()),
    }
    Ok(())
}

/// Shows stages.
pub(crate) async fn stage(command: StageCommand) -> anyhow::Result<()> {
    let StageCommand::Show { server, workload } = command;
    let request = StagesRequest { workload: workload.clone().unwrap_or_default() };
    let stages = connect(&server).await?.stages(request).await.map_err(told)?.into_inner().stages;
    if let Some(workload) = workload.filter(|_| stages.is_empty()) {
        return Err(UserError::new(format!("no workload `{workload}`: `headroom status` shows them")));
    }
    if stages.is_empty() {
        answer("no workload has been seen yet");
    }
    stages.iter().for_each(print_stage);
    Ok(())
}

impl PolicyArgs {
    /// The policies, and where they are from.
    async fn read(&self) -> anyhow::Result<(Policy, String)> {
        let file = match &self.policy {
            Some(file) => Some(file.clone()),
            None => Config::load(self.config.config.as_deref()).await?.actuate.policy_file,
        };
        let (text, source) = match &file {
            None => (policy::DEFAULT.to_owned(), "the policies that are shipped".to_owned()),
            Some(path) => (read(path)?, path.display().to_string()),
        };
        let policy = Policy::parse(&text).map_err(|error| UserError::new(format!("{source}: {error}")))?;
        Ok((policy, source))
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).map_err(|error| UserError::new(format!("{}: {error}", path.display())))
}

fn read_cases(path: &Path) -> anyhow::Result<Cases> {
    let text = read(path)?;
    let is_json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    let parsed = if is_json {
        serde_json::from_str::<Cases>(&text).map_err(|error| error.to_string())
    } else {
        toml::from_str::<Cases>(&text).map_err(|error| error.to_string())
    };
    let cases = parsed.map_err(|problem| UserError::new(format!("{}: {}", path.display(), problem.trim_end())))?;
    if cases.case.is_empty() {
        return Err(UserError::new(format!("{}: it has no case", path.display())));
    }
    Ok(cases)
}

/// Every failure in a line; none is success.
fn test(cases: &Cases, policy: &Policy, source: &str) -> anyhow::Result<()> {
    let mut failed = 0_usize;
    for case in &cases.case {
        if let Some(failure) = case.failure(policy) {
            failed += 1;
            answer(format_args!("{}: {failure}", case.name));
        }
    }
    let total = cases.case.len();
    if failed > 0 {
        return Err(UserError::new(format!("{failed} of {total} cases are answered otherwise by {source}")));
    }
    answer(format_args!("{total} cases are answered as expected by {source}"));
    Ok(())
}

fn policies(policy: &Policy) -> String {
    let names = policy.names();
    format!("{} policies ({})", names.len(), names.join(", "))
}

fn print_why(why: &WhyResponse) {
    let what = if why.action_id.is_empty() { &why.plan_id } else { &why.action_id };
    answer(format_args!("{what}  {}  {}: {}", why.workload, why.state, why.state_reason));
    if !why.approvals.is_empty() {
        answer(format_args!("    approved by {}", why.approvals.join(", ")));
    }
    for decision in &why.decisions {
        print_decision(&format!("at {}", EventTime::from_micros(decision.at_us)), decision);
    }
    if let Some(decision) = &why.now {
        print_decision("if Headroom asked now", decision);
    }
}

fn print_decision(when: &str, decision: &PolicyDecision) {
    let rules = decision.rules.join(", ");
    let said = match (decision.allowed, rules.is_empty()) {
        (true, _) => format!("allowed by {rules}"),
        (false, true) => "refused: nothing permits it".to_owned(),
        (false, false) => format!("refused by {rules}"),
    };
    answer(format_args!("    {when}: {said}"));
    let values: Vec<String> = decision.asked.iter().map(|value| format!("{}={}", value.name, value.value)).collect();
    answer(format_args!("        {}", values.join("  ")));
    answer(format_args!("        policies {}", decision.policy_version));
}

fn print_stage(stage: &StageStanding) {
    let source = if stage.earning {
        format!("earned {}, at most {}", stage.earned, stage.configured)
    } else {
        "configured; stages need not be earned".to_owned()
    };
    answer(format_args!("{}  {}: {}  ({source})", stage.workload, stage.kind, stage.stage));
    let record = if stage.total == 0 {
        "no action has been judged yet".to_owned()
    } else {
        format!(
            "{} of {} actions were good ({:.1} %): above {:.1} % with {} % confidence",
            stage.good,
            stage.total,
            stage.rate * 100.0,
            stage.lower_bound * 100.0,
            stage.confidence * 100.0
        )
    };
    answer(format_args!("    {record}"));
    if stage.earning {
        answer(format_args!(
            "    asked for: above {:.1} %, after {} actions for automate and {} for expand; {}",
            stage.required_bound * 100.0,
            stage.automate_after,
            stage.expand_after,
            stage.reason
        ));
    }
}
