//! The actuator over gRPC, as a client elsewhere sees it.

use headroom_actuator_decide::policy::Stage;
use headroom_proto::v1::actuator_service_client::ActuatorServiceClient;
use headroom_proto::v1::{
    ActionState, ApproveRequest, ListActionsRequest, ListPlansRequest, PauseRequest, RejectRequest, RollbackRequest,
    StatusRequest,
};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Channel, Error, Server};
use tonic::{Code, Status};

use super::ground::{Actuator, Ground, time};

type Client = ActuatorServiceClient<Channel>;

/// A server on a free port, and its client.
async fn serve(actuator: &Actuator) -> (Client, JoinHandle<Result<(), Error>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    let server =
        Server::builder().add_service(actuator.handle.grpc()).serve_with_incoming(TcpListenerStream::new(listener));
    let task = tokio::spawn(server);
    (ActuatorServiceClient::connect(address).await.expect("connects"), task)
}

fn code<T>(outcome: Result<T, Status>) -> Option<Code> {
    outcome.err().map(|status| status.code())
}

fn approval(plan_id: &str, plan_hash: &str, actor: &str) -> ApproveRequest {
    ApproveRequest {
        plan_id: plan_id.to_owned(),
        plan_hash: plan_hash.to_owned(),
        actor: actor.to_owned(),
        ..ApproveRequest::default()
    }
}

fn undo(action_id: &str, actor: &str) -> RollbackRequest {
    RollbackRequest { action_id: action_id.to_owned(), actor: actor.to_owned(), ..RollbackRequest::default() }
}

fn refusal(plan_id: &str) -> RejectRequest {
    RejectRequest { plan_id: plan_id.to_owned(), actor: "ann".to_owned(), ..RejectRequest::default() }
}

fn switch(workload: &str, actor: &str) -> PauseRequest {
    PauseRequest { workload: workload.to_owned(), actor: actor.to_owned(), ..PauseRequest::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn plans_are_listed_approved_and_rolled_back_and_mistakes_have_their_codes() {
    let mut ground = Ground::new(Stage::Recommend).await;
    let actuator = ground.start();
    let (mut client, server) = serve(&actuator).await;
    for workload in ["shop", "bank"] {
        ground.turns(workload, 1..=1, 50.0, 300.0).await;
        actuator.knows(workload, 1).await;
    }
    let all = client.list_plans(ListPlansRequest::default()).await.expect("answers").into_inner().plans;
    assert_eq!(all.len(), 2, "{all:?}");
    let of_shop = ListPlansRequest { workload: "shop".to_owned(), pending: true, limit: 5 };
    let plans = client.list_plans(of_shop.clone()).await.expect("answers").into_inner().plans;
    assert_eq!(plans.len(), 1, "{plans:?}");
    let (view, plan) = (&plans[0], plans[0].plan.clone().expect("a plan"));
    assert_eq!((view.state(), plan.units_before, plan.units_now), (ActionState::Proposed, 1, 5));

    let nobody = client.approve(approval(&plan.plan_id, &plan.plan_hash, " ")).await;
    assert_eq!(code(nobody), Some(Code::InvalidArgument));
    let unknown = client.approve(approval("plan-of-nobody", "", "ann")).await;
    assert_eq!(code(unknown), Some(Code::NotFound));
    let another = client.approve(approval(&plan.plan_id, "another", "ann")).await;
    assert_eq!(code(another), Some(Code::FailedPrecondition));
    assert_eq!(code(client.reject(refusal("plan-of-nobody")).await), Some(Code::NotFound));
    assert_eq!(code(client.rollback(undo("action-of-nobody", "ann")).await), Some(Code::NotFound));
    assert_eq!(code(client.rollback(undo(&view.action_id, "ann")).await), Some(Code::FailedPrecondition));
    assert_eq!(code(client.rollback(undo(&view.action_id, "")).await), Some(Code::InvalidArgument));
    assert!(ground.target.asked().is_empty());

    let approved = client.approve(approval(&plan.plan_id, &plan.plan_hash, "ann")).await.expect("approved");
    assert_eq!(approved.into_inner().state(), ActionState::Holding);
    assert_eq!(code(client.reject(refusal(&plan.plan_id)).await), Some(Code::FailedPrecondition));
    let pending = client.list_plans(of_shop).await.expect("answers").into_inner().plans;
    assert!(pending.is_empty(), "{pending:?}");
    assert_eq!(ground.units("shop", 1).await, 5);
    let undone = client.rollback(undo(&view.action_id, "ann")).await.expect("rolled back").into_inner();
    assert_eq!(undone.state(), ActionState::RolledBack);
    assert_eq!(ground.units("shop", 1).await, 1);

    let newest = ListActionsRequest { workload: String::new(), limit: 1 };
    let actions = client.list_actions(newest).await.expect("answers").into_inner().actions;
    assert_eq!(actions.len(), 1, "{actions:?}");
    assert_eq!((&actions[0].action_id, actions[0].actor.as_str()), (&view.action_id, "ann"));
    let bank = all.iter().find(|view| view.plan.as_ref().is_some_and(|plan| plan.workload == "bank")).expect("listed");
    let bank_plan = bank.plan.as_ref().map(|plan| plan.plan_id.clone()).unwrap_or_default();
    assert_eq!(client.reject(refusal(&bank_plan)).await.expect("rejected").into_inner().state(), ActionState::Rejected);
    actuator.stop().await;

    // Nobody answers any more.
    let gone = client.list_plans(ListPlansRequest::default()).await;
    assert_eq!(gone.expect_err("it has stopped").code(), Code::Unavailable);
    server.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_shows_in_the_status_until_it_is_lifted() {
    let mut ground = Ground::new(Stage::Automate).await;
    let actuator = ground.start();
    let (mut client, server) = serve(&actuator).await;
    assert_eq!(client.pause(switch("shop", "")).await.expect_err("who?").code(), Code::InvalidArgument);
    let paused = client.pause(switch("shop", "ann")).await.expect("paused").into_inner();
    assert_eq!((paused.paused, paused.workload.as_str(), paused.actor.as_str()), (true, "shop", "ann"));
    ground.turns("shop", 1..=1, 50.0, 300.0).await;
    actuator.reaches(1).await;
    let statuses = client.status(StatusRequest {}).await.expect("answers").into_inner().workloads;
    assert_eq!(statuses.len(), 1, "{statuses:?}");
    let status = &statuses[0];
    assert_eq!((status.workload.as_str(), status.stage.as_str(), status.paused), ("shop", "automate", true));
    assert_eq!((status.units_ready, status.units_commanded, status.verdict.as_str()), (1, 1, "fresh"));
    assert_eq!(status.event_time_us, time(1).micros());
    assert!((status.observed_load - 50.0).abs() < 1e-9, "{status:?}");
    assert!(actuator.handle.status().note.contains("paused"), "{:?}", actuator.handle.status());

    assert!(!client.resume(switch("shop", "ann")).await.expect("resumed").into_inner().paused);
    ground.turns("shop", 2..=2, 50.0, 300.0).await;
    actuator.reaches(2).await;
    let statuses = client.status(StatusRequest {}).await.expect("answers").into_inner().workloads;
    assert_eq!((statuses[0].paused, statuses[0].units_ready, statuses[0].units_commanded), (false, 1, 5));
    actuator.stop().await;
    server.abort();
}
