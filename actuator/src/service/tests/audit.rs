//! Signed checkpoints of what was done, exports, and the stories told over gRPC.

use headroom_actuator_decide::audit::note::{Signer, Verifier};
use headroom_actuator_decide::audit::verify::{Report, verify};
use headroom_actuator_decide::policy::Stage;
use headroom_ingest_broker::Record;
use headroom_proto::topics::Topic;
use headroom_proto::v1::audit_service_client::AuditServiceClient;
use headroom_proto::v1::{AuditExportRequest, AuditShowRequest, ExplainPlanRequest, LogCheckpoint, PublicKeyRequest};
use prost::Message;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Code;
use tonic::transport::{Channel, Server};

use super::ground::{Actuator, Ground, again, records};
use crate::ActuatorError;
use crate::audit::export::chunks;
use crate::notary::read;

const SIGNED: [Topic; 3] = [Topic::Actions, Topic::Plans, Topic::Outcomes];

async fn client(actuator: &Actuator) -> AuditServiceClient<Channel> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    let service = actuator.handle.audit_grpc();
    tokio::spawn(Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)));
    AuditServiceClient::connect(address).await.expect("connects")
}

async fn exported(client: &mut AuditServiceClient<Channel>, request: AuditExportRequest) -> String {
    let mut stream = client.export(request).await.expect("exports").into_inner();
    let mut text = String::new();
    while let Some(piece) = stream.message().await.expect("a piece") {
        text += &piece.text;
    }
    text
}

fn told(report: &Report) -> String {
    report.findings.iter().map(|finding| format!("{finding}\n")).collect()
}

/// Two workloads with their moves, a switch, and an outcome each.
async fn history(ground: &mut Ground) {
    for workload in ["shop", "bank"] {
        ground.turns(workload, 1..=2, 50.0, 300.0).await;
        ground.turns(workload, 3..=6, 280.0, 300.0).await;
    }
}

async fn signed(records_of: &Ground) -> Vec<LogCheckpoint> {
    let found = records(&records_of.broker, Topic::Checkpoints).await;
    found.iter().map(|record| LogCheckpoint::decode(&*record.value).expect("a checkpoint")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_is_signed_exported_verified_and_told() {
    let mut ground = Ground::new(Stage::Automate).await;
    let key_file = ground.signs();
    history(&mut ground).await;
    let actuator = ground.start();
    for workload in ["shop", "bank"] {
        actuator.knows(workload, 6).await;
    }
    actuator.pause("").await;
    let mut asked = client(&actuator).await;
    let key = asked.public_key(PublicKeyRequest {}).await.expect("answers").into_inner().key;
    let verifier = Verifier::parse(&key).expect("a key");
    let published = std::fs::read_to_string(key_file.with_extension("pub")).expect("beside the secret one");
    assert_eq!(published.trim(), key);

    let text = exported(&mut asked, AuditExportRequest::default()).await;
    let report = verify(&text, Some(&verifier));
    assert!(report.holds(), "{}", told(&report));
    // 6 moves, a plan and an outcome of each, the switch, and the beginning of the term on both partitions.
    assert_eq!((report.records, report.workloads, report.is_complete), (19, 2, true));
    let of_shop = AuditExportRequest { workload: "shop".to_owned(), ..AuditExportRequest::default() };
    let part = verify(&exported(&mut asked, of_shop).await, Some(&verifier));
    assert!(part.holds(), "{}", told(&part));
    assert_eq!((part.records, part.workloads, part.is_complete), (11, 1, false));
    let late = AuditExportRequest { since_us: super::time(6).micros(), ..AuditExportRequest::default() };
    let part = verify(&exported(&mut asked, late).await, Some(&verifier));
    assert!(part.holds() && part.records < 19 && part.records > 0, "{} of {}", told(&part), part.records);

    stories(&mut asked, &ground.moves("shop").await[0]).await;
    let before = signed(&ground).await.len();
    actuator.stop().await;

    // A start goes on from the checkpoints, and signs at its end what came since.
    let actuator = ground.start();
    actuator.resume("").await;
    actuator.stop().await;
    let all = signed(&ground).await;
    assert_eq!(all.len(), before + 2, "the logs of both partitions had new records");
    let actuator = ground.start();
    actuator.runs().await;
    let report = verify(&exported(&mut client(&actuator).await, AuditExportRequest::default()).await, Some(&verifier));
    assert!(report.holds(), "{}", told(&report));
    assert_eq!((report.records, report.checkpoints), (19 + 3 + 2, all.len() + 2));
    actuator.stop().await;
}

async fn stories(asked: &mut AuditServiceClient<Channel>, first: &headroom_proto::v1::ActionRecord) {
    let plan_id = first.plan_id.clone();
    let story = asked.explain_plan(ExplainPlanRequest { plan_id }).await.expect("answers").into_inner();
    for part in [
        "State: verified",
        "P75 of the forecast peaks at 300.0",
        "300.0 / (100.0 x 0.70) = 4.29, rounded up 5",
        "1 - unit / (60 x violation)",
        "5 units cost 5.00 an hour: 4.00 more than doing nothing (1 unit)",
        "permitted by automate-reversible",
        "headroom rollback plan-shop-",
        "Judged good. Without it: used up to 280 %, 15 minutes in violation (estimate: the same load on the 1 unit before",
    ] {
        assert!(story.text.contains(part), "not there: {part}\n{}", story.text);
    }
    assert_eq!((story.moves.len(), story.outcomes.len()), (6, 1));
    let document: serde_json::Value = serde_json::from_str(&story.json).expect("JSON");
    assert_eq!(document["state"], "verified");

    for id in [&first.action_id, &first.plan_id, &first.workload] {
        let shown = asked.show(AuditShowRequest { id: id.clone() }).await.expect("answers").into_inner();
        assert!(shown.text.contains("Model        model-1, verdict fresh"), "{id}: {}", shown.text);
        assert!(shown.text.contains("Approved by  policy"), "{id}: {}", shown.text);
        let is_workload = *id == first.workload;
        let stop = "automation of every workload paused by ann: a drill";
        assert_eq!(shown.text.contains(stop), is_workload, "{id}: {}", shown.text);
    }
    let unknown = asked.show(AuditShowRequest { id: "nobody".to_owned() }).await.expect_err("unknown");
    assert_eq!(unknown.code(), Code::NotFound);
    let unknown = asked.explain_plan(ExplainPlanRequest { plan_id: "nobody".to_owned() }).await.expect_err("unknown");
    assert_eq!(unknown.code(), Code::NotFound);
}

/// The topics again, with something changed, beside the checkpoints that were signed.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_changed_on_the_topics_is_located_and_nothing_is_done_on_it() {
    let mut before = Ground::new(Stage::Automate).await;
    let key_file = before.signs();
    history(&mut before).await;
    let actuator = before.start();
    for workload in ["shop", "bank"] {
        actuator.knows(workload, 6).await;
    }
    actuator.pause("").await;
    actuator.stop().await;
    let public = std::fs::read_to_string(key_file.with_extension("pub")).expect("is there");
    let verifier = Verifier::parse(&public).expect("a key");
    let secret = std::fs::read_to_string(&key_file).expect("is there");
    let signer = Signer::parse(&secret).expect("a key");

    let mut all: Vec<Record> = Vec::new();
    for topic in SIGNED.into_iter().chain([Topic::Checkpoints]) {
        for record in records(&before.broker, topic).await {
            all.push(Record { partition: Some(record.partition), ..again(&record) });
        }
    }
    let at = |needle: &'static [u8], topic: Topic| {
        let found = all.iter().position(|record| record.topic == topic && holds(&record.value, needle).is_some());
        found.expect("such a record")
    };
    let changed = |at: usize, needle: &[u8]| {
        let mut sent = all.clone();
        let mut bytes = sent[at].value.to_vec();
        let place = holds(&bytes, needle).expect("is there");
        bytes[place] ^= 0x20;
        sent[at].value = bytes.into();
        sent
    };
    let (plan, outcome, switch) =
        (at(b"peaks at", Topic::Plans), at(b"good", Topic::Outcomes), at(b"a drill", Topic::Actions));
    let move_of_shop = at(b"shop-", Topic::Actions);
    let mut missing = all.clone();
    missing.remove(switch);
    let mut swapped = all.clone();
    swapped.swap(0, 1);
    for (sent, located) in [
        (changed(plan, b"peaks at"), "in field `reason`"),
        (changed(outcome, b"good"), "in field `judgement`"),
        (changed(switch, b"a drill"), "in field `reason`"),
        (changed(move_of_shop, b"shop-"), "in field `action_id`"),
        (missing, "missing, at the end"),
        (swapped, "one was removed, added or moved before it"),
    ] {
        let mut after = Ground::new(Stage::Automate).await;
        after.config.audit.key_file = Some(key_file.clone());
        after.send(sent).await;
        let gathered = read(&after.broker, "headroom").await.expect("reads");
        let text = chunks(gathered, &AuditExportRequest::default(), &signer).concat();
        let report = verify(&text, Some(&verifier));
        assert!(told(&report).contains(located), "not there: {located}\n{}", told(&report));
        let error = after.start().ends().await.expect_err("the record does not hold");
        assert!(matches!(error, ActuatorError::Log(_)), "{error:?}");
        assert!(error.to_string().contains("nothing is done"), "{error}");
        assert!(after.target.asked().is_empty());
    }
}

fn holds(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}
