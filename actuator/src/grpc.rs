//! `headroom.v1.ActuatorService`: requests go to the loop, which answers in its turn.

use headroom_proto::v1::actuator_service_server::ActuatorService;
use headroom_proto::v1::{
    ActionRecord, ApproveRequest, ListActionsRequest, ListActionsResponse, ListPlansRequest, ListPlansResponse,
    PauseRequest, RejectRequest, RollbackPlanRequest, RollbackPlanResponse, RollbackRequest, ShadowRequest,
    ShadowResponse, StagesRequest, StagesResponse, StatusRequest, StatusResponse, SwitchState, WhyRequest, WhyResponse,
};
use tokio::sync::{mpsc, oneshot};
use tonic::{Request, Response, Status};

use crate::caller::identified;
use crate::service::{Board, Command};

/// The service, over a channel to the loop.
#[derive(Clone, Debug)]
pub struct Rpc {
    commands: mpsc::Sender<Command>,
    board: Board,
}

impl Rpc {
    pub(crate) fn new(commands: mpsc::Sender<Command>, board: Board) -> Self {
        Self { commands, board }
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<Result<T, Status>>) -> Command) -> Result<T, Status> {
        let (reply, answer) = oneshot::channel();
        let gone = || Status::unavailable("the actuator is stopping");
        self.commands.send(command(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

#[tonic::async_trait]
impl ActuatorService for Rpc {
    async fn list_plans(&self, request: Request<ListPlansRequest>) -> Result<Response<ListPlansResponse>, Status> {
        let plans = self.ask(|reply| Command::ListPlans(request.into_inner(), reply)).await?;
        Ok(Response::new(ListPlansResponse { plans }))
    }

    async fn list_actions(
        &self,
        request: Request<ListActionsRequest>,
    ) -> Result<Response<ListActionsResponse>, Status> {
        let actions = self.ask(|reply| Command::ListActions(request.into_inner(), reply)).await?;
        Ok(Response::new(ListActionsResponse { actions }))
    }

    async fn approve(&self, request: Request<ApproveRequest>) -> Result<Response<ActionRecord>, Status> {
        let (request, roles) = identified(request, |request| &mut request.actor)?;
        self.ask(|reply| Command::Approve(request, roles, reply)).await.map(Response::new)
    }

    async fn reject(&self, request: Request<RejectRequest>) -> Result<Response<ActionRecord>, Status> {
        let (request, _) = identified(request, |request| &mut request.actor)?;
        self.ask(|reply| Command::Reject(request, reply)).await.map(Response::new)
    }

    async fn rollback(&self, request: Request<RollbackRequest>) -> Result<Response<ActionRecord>, Status> {
        let (request, roles) = identified(request, |request| &mut request.actor)?;
        self.ask(|reply| Command::Rollback(request, roles, reply)).await.map(Response::new)
    }

    async fn rollback_plan(
        &self,
        request: Request<RollbackPlanRequest>,
    ) -> Result<Response<RollbackPlanResponse>, Status> {
        let (request, roles) = identified(request, |request| &mut request.actor)?;
        self.ask(|reply| Command::RollbackPlan(request, roles, reply)).await.map(Response::new)
    }

    /// Not through the loop, which may be busy: it counts at once.
    async fn pause(&self, request: Request<PauseRequest>) -> Result<Response<SwitchState>, Status> {
        let (request, _) = identified(request, |request| &mut request.actor)?;
        let PauseRequest { workload, actor, reason } = request;
        let warning = self.board.warning(&workload, true);
        self.board.stop(&workload, &actor, &reason).await?;
        Ok(Response::new(SwitchState { paused: true, workload, actor, reason, warning }))
    }

    async fn resume(&self, request: Request<PauseRequest>) -> Result<Response<SwitchState>, Status> {
        let (request, _) = identified(request, |request| &mut request.actor)?;
        self.ask(|reply| Command::Resume(request, reply)).await.map(Response::new)
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let workloads = self.ask(Command::Status).await?;
        Ok(Response::new(StatusResponse { workloads, stopped: self.board.all_stopped() }))
    }

    async fn why(&self, request: Request<WhyRequest>) -> Result<Response<WhyResponse>, Status> {
        self.ask(|reply| Command::Why(request.into_inner(), reply)).await.map(Response::new)
    }

    async fn shadow(&self, request: Request<ShadowRequest>) -> Result<Response<ShadowResponse>, Status> {
        self.ask(|reply| Command::Shadow(request.into_inner(), reply)).await.map(Response::new)
    }

    async fn stages(&self, request: Request<StagesRequest>) -> Result<Response<StagesResponse>, Status> {
        let stages = self.ask(|reply| Command::Stages(request.into_inner(), reply)).await?;
        Ok(Response::new(StagesResponse { stages }))
    }
}
