//! `headroom.v1.AuditService`: what is on record, its proofs, and the stories it tells. It reads the topics, since the
//! loop keeps the newest only.

pub(crate) mod export;
mod lookup;

use std::pin::Pin;

use futures::Stream;
use headroom_actuator_decide::story::Story;
use headroom_ingest_broker::{Broker, BrokerError};
use headroom_proto::v1::audit_service_server::AuditService;
use headroom_proto::v1::{
    AuditExportRequest, AuditLines, AuditShowRequest, AuditShowResponse, ExplainPlanRequest, ExplainPlanResponse,
    PublicKeyRequest, PublicKeyResponse,
};
use tonic::{Request, Response, Status};

use crate::notary::{NotaryHandle, read};
use lookup::Known;

/// The service, over the topics.
#[derive(Clone, Debug)]
pub struct AuditRpc {
    broker: Broker,
    notary: Option<NotaryHandle>,
}

impl AuditRpc {
    pub(crate) fn new(broker: Broker, notary: Option<NotaryHandle>) -> Self {
        Self { broker, notary }
    }

    fn notary(&self) -> Result<&NotaryHandle, Status> {
        self.notary.as_ref().ok_or_else(|| Status::failed_precondition("nothing is signed here: no key file is set"))
    }
}

fn unread(error: BrokerError) -> Status {
    Status::unavailable(format!("the record cannot be read now: {error}"))
}

#[tonic::async_trait]
impl AuditService for AuditRpc {
    async fn show(&self, request: Request<AuditShowRequest>) -> Result<Response<AuditShowResponse>, Status> {
        let id = request.into_inner().id;
        let known = Known::read(&self.broker).await.map_err(unread)?;
        let (text, document) = known.show(&id).ok_or_else(|| {
            Status::not_found(format!(
                "no action, plan or workload `{id}` is on record: `headroom plan list` shows them"
            ))
        })?;
        Ok(Response::new(AuditShowResponse { text, json: document.to_string() }))
    }

    type ExportStream = Pin<Box<dyn Stream<Item = Result<AuditLines, Status>> + Send>>;

    async fn export(&self, request: Request<AuditExportRequest>) -> Result<Response<Self::ExportStream>, Status> {
        let notary = self.notary()?;
        notary.catch_up().await.ok_or_else(|| Status::unavailable("the actuator is stopping"))?;
        let read = read(&self.broker, &notary.name).await.map_err(unread)?;
        let chunks = export::chunks(read, &request.into_inner(), &notary.signer);
        let lines = chunks.into_iter().map(|text| Ok(AuditLines { text }));
        Ok(Response::new(Box::pin(futures::stream::iter(lines))))
    }

    async fn public_key(&self, _: Request<PublicKeyRequest>) -> Result<Response<PublicKeyResponse>, Status> {
        Ok(Response::new(PublicKeyResponse { key: self.notary()?.signer.verifier().to_string() }))
    }

    async fn explain_plan(
        &self,
        request: Request<ExplainPlanRequest>,
    ) -> Result<Response<ExplainPlanResponse>, Status> {
        let id = request.into_inner().plan_id;
        let known = Known::read(&self.broker).await.map_err(unread)?;
        let Some(plan) = known.plan(&id) else {
            return Err(Status::not_found(format!("no plan `{id}`: `headroom plan list` shows them")));
        };
        let moves = known.moves_of_plan(&plan.plan_id);
        let outcomes = known.outcomes_of(&moves);
        let signals = lookup::signals(&self.broker, plan).await.map_err(unread)?;
        let story = Story { plan, moves: &moves, outcomes: &outcomes, signals: &signals };
        let (text, json) = (story.text(), story.json().to_string());
        Ok(Response::new(ExplainPlanResponse { plan: Some(plan.clone()), text, json, moves, outcomes }))
    }
}
