//! What would have been done, beside what was.

use headroom_actuator_decide::policy::Stage;
use headroom_proto::v1::{ShadowRequest, ShadowUnits};

use super::ground::{Ground, time};

#[tokio::test(flavor = "multi_thread")]
async fn at_stage_observe_nothing_is_done_and_what_would_have_been_is_told() {
    let mut ground = Ground::new(Stage::Observe).await;
    let actuator = ground.start();
    // 300 / 70 is 5 units, from window 1 on; ready two windows later, when the load comes.
    ground.turns("shop", 1..=3, 50.0, 300.0).await;
    ground.turns("shop", 4..=6, 290.0, 300.0).await;
    actuator.knows("shop", 6).await;
    assert!(ground.target.asked().is_empty() && ground.moves("shop").await.is_empty());
    let request = ShadowRequest { workload: "shop".to_owned(), since_us: i64::MIN };
    let shadow = actuator.shadow(request.clone()).await.expect("answers");
    assert_eq!((shadow.stage.as_str(), shadow.windows.len()), ("observe", 6));
    let would: Vec<ShadowUnits> = shadow.windows.iter().filter_map(|window| window.would).collect();
    let units = |ready, paid| ShadowUnits { ready, paid, violated: false };
    assert_eq!(would, [units(1, 1), units(1, 5), units(1, 5), units(5, 5), units(5, 5), units(5, 5)]);
    assert!(shadow.method.starts_with("estimate"));
    assert!((shadow.violation_minutes_was - 15.0).abs() < 1e-9, "{shadow:?}");
    assert!((shadow.unit_hours_was - 6.0 / 12.0).abs() < 1e-9, "{shadow:?}");

    let late = actuator.shadow(ShadowRequest { since_us: time(4).micros(), ..request }).await.expect("answers");
    assert_eq!(late.windows.len(), 2);
    let unknown = actuator.shadow(ShadowRequest { workload: "nobody".to_owned(), since_us: 0 }).await;
    assert_eq!(unknown.expect_err("unknown").code(), tonic::Code::NotFound);
    actuator.stop().await;
}
