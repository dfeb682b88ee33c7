//! `headroom features`: what is computed from telemetry, and how.

use std::path::PathBuf;

use clap::Subcommand;
use headroom_ingest_window::FeatureQuery;

use crate::cli::UserError;
use crate::config::{Config, ConfigArg};
use crate::terminal::answer;

/// `headroom features ...`
#[derive(Debug, Subcommand)]
pub(crate) enum FeaturesCommand {
    /// Say whether the feature queries of a configuration can stream, and what they give.
    Check {
        /// The configuration.
        file: PathBuf,
    },
    /// Show what a feature query reads, keeps and gives, and the plans that make it.
    Explain {
        /// The query's name.
        name: String,
        #[command(flatten)]
        config: ConfigArg,
    },
}

/// Checks or explains.
pub(crate) async fn features(command: FeaturesCommand) -> anyhow::Result<()> {
    match command {
        FeaturesCommand::Check { file } => {
            for feature in Config::load(Some(&file)).await?.features {
                let query = FeatureQuery::try_new(feature).await?;
                answer(format_args!("{}: {}", query.name(), query.columns().join(", ")));
            }
            Ok(())
        }
        FeaturesCommand::Explain { name, config } => {
            let features = Config::load(config.config.as_deref()).await?.features;
            let names: Vec<String> = features.iter().map(|feature| feature.name.clone()).collect();
            let Some(feature) = features.into_iter().find(|feature| feature.name == name) else {
                let known = names.join(", ");
                return Err(UserError::new(format!("no feature query `{name}`: there are {known}")));
            };
            answer(FeatureQuery::try_new(feature).await?.explain().trim_end());
            Ok(())
        }
    }
}
