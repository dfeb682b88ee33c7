//! What stands for a target at AWS in a program without AWS. The settings are refused before it is asked anything.

use std::path::Path;

use async_trait::async_trait;
use headroom_proto::EventTime;

use crate::{Applied, ApplyRequest, Fault, Target, TargetError, TargetState};

/// A target that refuses.
pub(super) struct Absent {
    name: String,
}

impl Absent {
    pub(super) fn new(name: &str, _folder: &Path) -> Self {
        Self { name: name.to_owned() }
    }

    fn refuse<T>(&self) -> Result<T, TargetError> {
        let problem = "this headroom was built without AWS".to_owned();
        Err(TargetError { target: self.name.clone(), fault: Fault::Refused, problem })
    }
}

#[async_trait]
impl Target for Absent {
    fn name(&self) -> &str {
        &self.name
    }

    async fn apply(&self, _request: &ApplyRequest) -> Result<Applied, TargetError> {
        self.refuse()
    }

    async fn observe(&self, _workload: &str, _at: EventTime) -> Result<TargetState, TargetError> {
        self.refuse()
    }

    async fn probe(&self, _workload: &str) -> Result<(), TargetError> {
        self.refuse()
    }
}
