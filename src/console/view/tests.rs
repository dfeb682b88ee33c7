use headroom_proto::v1::{ActionState, SignalStatus, Verdict};
use serde_json::{Value, json};

use super::*;

const STEP_US: i64 = 300_000_000;
const WINDOW: Span = Span::from_mins(5);
const LIMITS: Limits = Limits { points: 1_000, actions: 3, signals: 2, workloads: 2 };

fn view() -> View {
    View::new(LIMITS, Span::from_mins(10), WINDOW)
}

fn load(start: i64, value: f64) -> Update {
    load_of("shop", start, 0, Some(value))
}

fn load_of(workload: &str, start: i64, revision: i32, load: Option<f64>) -> Update {
    Update::Load(LoadPoint { workload: workload.to_owned(), start_us: start * STEP_US, revision, load })
}

/// A forecast of `steps` steps from `origin` on whose median is `median`, with levels .1, .5 and .9.
fn forecast(origin: i64, steps: usize, median: f32) -> Forecast {
    Forecast {
        workload: "shop".to_owned(),
        origin_us: origin * STEP_US,
        step_us: STEP_US,
        levels: vec![0.1, 0.5, 0.9],
        values: [median - 4.0, median, median + 8.0].repeat(steps),
        verdict: Verdict::Fresh.into(),
        ..Forecast::default()
    }
}

fn action(id: &str, sequence: u64, state: ActionState, at: i64, units: (u32, u32)) -> Update {
    Update::Action(ActionRecord {
        action_id: id.to_owned(),
        workload: "shop".to_owned(),
        sequence,
        state: state.into(),
        at_us: at * STEP_US,
        units_before: units.0,
        units_after: units.1,
        undo_units: units.0,
        reason: format!("{} at {at}", state.as_str_name()),
        ..ActionRecord::default()
    })
}

fn plan(at: i64, units_before: u32, lead_steps: i64) -> Update {
    Update::Plan(Plan {
        workload: "shop".to_owned(),
        decided_at_us: at * STEP_US,
        step_us: STEP_US,
        units_before,
        lead_time_us: lead_steps * STEP_US,
        ..Plan::default()
    })
}

fn signal(id: &str, revision: u64, starts: i64, status: SignalStatus) -> Update {
    Update::Signal(Signal {
        signal_id: id.to_owned(),
        revision,
        status: status.into(),
        starts_at_us: starts * STEP_US,
        ends_at_us: (starts + 1) * STEP_US,
        ..Signal::default()
    })
}

fn filled(updates: impl IntoIterator<Item = Update>) -> View {
    let mut view = view();
    for update in updates {
        view.apply(update).expect("makes sense");
    }
    view
}

fn everything() -> Request {
    Request { recent: Span::from_hours(1_000), ..Request::default() }
}

fn shown(view: &View, request: &Request) -> Value {
    serde_json::to_value(view.state(request)).expect("serialises")
}

fn since(number: u64) -> Request {
    Request { since: Some(number), ..Request::default() }
}

#[test]
fn nothing_is_shown_before_anything_is_known() {
    let state = shown(&view(), &everything());
    assert_eq!(state["workload"], Value::Null);
    assert_eq!(state["points"], json!([]));
    let other = Request { workload: Some("other".to_owned()), ..Request::default() };
    assert_eq!(shown(&filled([load(0, 1.0)]), &other)["now"], Value::Null);
}

#[test]
fn a_snapshot_shows_the_recent_past_unless_more_is_asked_for() {
    let view = filled((0..10).map(|start| load(start, 1.0)));
    let recent = Request { recent: Span::from_mins(15), ..Request::default() };
    assert_eq!(shown(&view, &recent)["points"].as_array().map(Vec::len), Some(3));
    let more = Request { from_us: Some(5 * STEP_US), ..recent };
    assert_eq!(shown(&view, &more)["points"].as_array().map(Vec::len), Some(5));
}

#[test]
fn gaps_stay_gaps_and_corrections_replace() {
    let view = filled([
        load(0, 5.0),
        load_of("shop", 1, 0, None),
        load(3, 7.0),
        load_of("shop", 0, 1, Some(6.0)),
        load(0, 5.0),
    ]);
    let state = shown(&view, &everything());
    assert_eq!(state["points"], json!([[0, 6.0, null], [300_000, null, null], [900_000, 7.0, null]]));
    assert_eq!(state["now"], json!(1_200_000));
}

#[test]
fn a_window_shows_the_forecast_made_the_lead_before_it() {
    // The lead is two steps: window 5 shows what was said at 3, though it was said at 2 and at 4 too.
    let mut view = filled([forecast(2, 8, 20.0), forecast(3, 8, 30.0), forecast(4, 8, 40.0)].map(Update::Forecast));
    let median = |view: &View, start: i64| {
        let state = shown(view, &everything());
        let points = state["points"].as_array().expect("points");
        let point = points.iter().find(|point| point[0] == json!(start * 300_000)).expect("the window is shown");
        point[2][2].as_f64().expect("a median")
    };
    for start in 2..=6 {
        view.apply(load(start, 1.0)).expect("makes sense");
    }
    let medians = |starts: &[i64]| starts.iter().map(|start| median(&view, *start).to_string()).collect::<Vec<_>>();
    assert_eq!(medians(&[2, 3, 4, 5, 6]), ["20", "20", "20", "30", "40"]);
    view.apply(Update::Forecast(forecast(1, 8, 10.0))).expect("makes sense");
    let medians = |starts: &[i64]| starts.iter().map(|start| median(&view, *start).to_string()).collect::<Vec<_>>();
    assert_eq!(medians(&[2, 3, 4]), ["10", "10", "20"], "read out of order");
}

#[test]
fn bands_are_interpolated_between_the_levels_that_were_forecast() {
    let state = shown(&filled([Update::Forecast(forecast(0, 1, 10.0))]), &everything());
    let band: Vec<f64> =
        state["ahead"]["bands"][0].as_array().expect("a band").iter().map(|q| q.as_f64().expect("a number")).collect();
    // .05 and .95 lie beyond the levels; .25 is 3/8 of the way from .1 to .5, .75 is 5/8 from .5 to .9.
    for (quantile, expected) in band.iter().zip([6.0, 7.5, 10.0, 15.0, 18.0]) {
        assert!((quantile - expected).abs() < 1e-5, "{quantile} is not {expected}: f32 has seven digits");
    }
}

#[test]
fn a_forecast_that_contradicts_itself_is_refused() {
    let mut odd = forecast(0, 2, 10.0);
    odd.values.pop();
    assert!(matches!(view().apply(Update::Forecast(odd)), Err(ViewError::Forecast { values: 5, levels: 3, .. })));
    let abstains = Forecast {
        values: Vec::new(),
        levels: Vec::new(),
        verdict_reason: "too little history".to_owned(),
        ..forecast(0, 0, 1.0)
    };
    let state = shown(&filled([Update::Forecast(abstains)]), &everything());
    assert_eq!(state["ahead"]["reason"], "too little history");
}

#[test]
fn a_page_is_told_what_it_has_missed_and_no_more() {
    let mut view =
        filled([load(0, 5.0), Update::Forecast(forecast(1, 3, 9.0)), signal("sale", 1, 4, SignalStatus::Announced)]);
    let seen = view.sequence();
    let idle = shown(&view, &since(seen));
    assert_eq!(idle["points"], json!([]));
    assert!(idle.get("ahead").is_none() && idle["signals"] == json!([]));
    view.apply(load(1, 6.0)).expect("makes sense");
    view.apply(action("a", 1, ActionState::Proposed, 2, (2, 3))).expect("makes sense");
    let state = shown(&view, &since(seen));
    assert_eq!(state["snapshot"], json!(false));
    assert_eq!(state["points"].as_array().map(Vec::len), Some(1), "{state}");
    assert_eq!(state["points"][0][1], json!(6.0));
    assert_eq!(state["points"][0][2][2], json!(9.0), "the band that was forecast comes with the load");
    assert_eq!(state["actions"][0]["id"], "a");
    let before_all = shown(&view, &since(0));
    assert_eq!(before_all["points"].as_array().map(Vec::len), Some(2));
}

#[test]
fn capacity_is_ready_after_the_lead_time_and_gone_at_once() {
    let mut view = filled([
        plan(1, 2, 3),
        action("up", 1, ActionState::Applied, 4, (2, 6)),
        action("down", 2, ActionState::Applied, 20, (6, 3)),
    ]);
    let steps = |view: &View, request: &Request| shown(view, request)["capacity"].clone();
    assert_eq!(steps(&view, &everything()), json!([[300_000, 2], [2_100_000, 6], [6_000_000, 3]]));
    let from = Request { from_us: Some(10 * STEP_US), ..Request::default() };
    assert_eq!(steps(&view, &from), json!([[2_100_000, 6], [6_000_000, 3]]));
    let seen = view.sequence();
    assert_eq!(steps(&view, &since(seen)), json!([]));
    view.apply(action("up", 3, ActionState::RolledBack, 30, (2, 6))).expect("makes sense");
    assert_eq!(steps(&view, &since(seen)), json!([[9_000_000, 2]]));
    let seen = view.sequence();
    view.apply(plan(31, 2, 3)).expect("makes sense");
    assert_eq!(steps(&view, &since(seen)), json!([]), "a later plan changes nothing that was ready");
}

#[test]
fn a_launch_that_is_taken_back_never_becomes_ready() {
    let view = filled([
        plan(0, 2, 3),
        action("up", 1, ActionState::Applied, 4, (2, 6)),
        action("down", 2, ActionState::Applied, 5, (6, 4)),
    ]);
    assert_eq!(shown(&view, &everything())["capacity"], json!([[0, 2], [2_100_000, 4]]));
}

#[test]
fn an_action_tells_its_first_reason_its_moves_and_its_outcome() {
    let outcome = Outcome {
        action_id: "a".to_owned(),
        workload: "shop".to_owned(),
        judgement: "good".to_owned(),
        ..Outcome::default()
    };
    let view = filled([
        action("a", 1, ActionState::Proposed, 1, (2, 3)),
        action("a", 2, ActionState::Applied, 1, (2, 3)),
        action("a", 2, ActionState::Applied, 1, (2, 3)),
        Update::Outcome(outcome),
    ]);
    let shown = &shown(&view, &everything())["actions"][0];
    assert_eq!(shown["reason"], "ACTION_STATE_PROPOSED at 1");
    assert_eq!(shown["state"], "applied");
    assert_eq!(shown["moves"].as_array().map(Vec::len), Some(2));
    assert_eq!(shown["outcome"]["judgement"], "good");
}

#[test]
fn the_newest_actions_and_signals_are_kept_within_the_limits() {
    let mut view = view();
    for at in 0..5 {
        view.apply(action(&format!("a{at}"), 1, ActionState::Proposed, at, (1, 2))).expect("makes sense");
        view.apply(signal(&format!("s{at}"), 1, at, SignalStatus::Announced)).expect("makes sense");
    }
    let state = shown(&view, &everything());
    let ids = |key: &str| -> Vec<&str> {
        state[key].as_array().expect("a list").iter().map(|item| item["id"].as_str().expect("an id")).collect()
    };
    assert_eq!(ids("actions"), ["a4", "a3", "a2"]);
    assert_eq!(ids("signals"), ["s3", "s4"]);
}

#[test]
fn points_and_workloads_are_bounded() {
    let mut view = View::new(Limits { points: 10, ..LIMITS }, Span::from_mins(10), WINDOW);
    for start in 0..30 {
        view.apply(load(start, 1.0)).expect("makes sense");
    }
    assert_eq!(shown(&view, &everything())["points"].as_array().map(Vec::len), Some(10));
    view.apply(load_of("b", 0, 0, Some(1.0))).expect("makes sense");
    assert_eq!(view.apply(load_of("c", 0, 0, Some(1.0))), Err(ViewError::Workloads("c".to_owned())));
}

#[test]
fn the_highest_revision_of_a_signal_counts() {
    let view = filled([
        load(0, 1.0),
        signal("sale", 2, 5, SignalStatus::Cancelled),
        signal("sale", 1, 3, SignalStatus::Announced),
    ]);
    let state = shown(&view, &everything());
    assert_eq!(state["signals"][0]["cancelled"], json!(true));
    assert_eq!(state["signals"][0]["starts"], json!(1_500_000));
    let before = Request { to_us: Some(STEP_US), ..Request::default() };
    assert_eq!(shown(&view, &before)["signals"], json!([]));
}
