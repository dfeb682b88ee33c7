//! The shipped policies, mistakes in policies, and files of cases.

use headroom_proto::EventTime;

use super::*;
use crate::risk::Risk;
use crate::roles::{Role, Roles};

fn question<'a>() -> Question<'a> {
    Question {
        workload: "shop",
        stage: Stage::Automate,
        ceiling: Stage::Automate,
        verdict: "fresh",
        units_before: 2,
        units_after: 4,
        ..Question::default()
    }
}

fn answer(question: &Question<'_>) -> Answer {
    Policy::parse(DEFAULT).expect("valid").ask(question).expect("answers")
}

fn allowed(question: &Question<'_>) -> bool {
    answer(question).allowed
}

#[test]
fn what_headroom_may_do_by_itself() {
    assert_eq!(answer(&question()).rules, ["automate-reversible"]);
    for stage in [Stage::Observe, Stage::Recommend] {
        let refused = answer(&Question { stage, ceiling: stage, ..question() });
        assert_eq!((refused.allowed, refused.told().as_str()), (false, "nothing permits it"), "{stage}");
    }
    let irreversible = answer(&Question { reversible: false, ..question() });
    assert_eq!(irreversible.rules, ["irreversible-needs-a-person"]);
    assert_eq!(answer(&Question { paused: true, ..question() }).rules, ["paused"]);
    assert_eq!(answer(&Question { blackout: true, ..question() }).rules, ["blackout"]);
    for (verdict, released) in [
        ("fresh", true),
        ("suspect", true),
        ("stale", false),
        ("abstain", false),
        ("incomplete", false),
        ("none", false),
    ] {
        assert_eq!(allowed(&Question { verdict, units_after: 1, ..question() }), released, "release on {verdict}");
        assert_eq!(allowed(&Question { verdict, ..question() }), released, "raise on {verdict}");
        assert!(allowed(&Question { verdict, needed_now: true, ..question() }), "needed now, on {verdict}");
    }
}

#[test]
fn larger_changes_are_for_expand_and_very_large_ones_for_two_people() {
    for (risk, automate, expand) in [(Risk::Low, true, true), (Risk::Medium, false, true), (Risk::High, false, false)] {
        let at = |stage| allowed(&Question { risk, stage, ceiling: stage, ..question() });
        assert_eq!((at(Stage::Automate), at(Stage::Expand)), (automate, expand), "{risk}");
    }
    let person = Question { person: Some("ann"), stage: Stage::Recommend, approvals: 1, ..question() };
    assert!(allowed(&person));
    let alone = answer(&Question { risk: Risk::High, ..person.clone() });
    assert_eq!((alone.allowed, alone.told().as_str()), (false, "forbidden by four-eyes"));
    assert!(allowed(&Question { risk: Risk::High, approvals: 2, ..person.clone() }));
    assert!(
        allowed(&Question { action: "rollback", risk: Risk::High, paused: true, ..person.clone() }),
        "one may undo"
    );
    for (role, approves, undoes) in [
        (Role::Viewer, false, false),
        (Role::Approver, true, false),
        (Role::Operator, false, true),
        (Role::Admin, true, true),
    ] {
        let of_role = Question { roles: Roles::of([role]), ..person.clone() };
        assert_eq!(allowed(&of_role), approves, "{role:?}");
        assert_eq!(allowed(&Question { action: "rollback", ..of_role.clone() }), undoes, "{role:?}");
        let shown = of_role.shown().get("roles").cloned();
        assert_eq!(shown.is_some(), role != Role::Admin, "{shown:?}");
    }
}

#[test]
fn policies_may_ask_for_roles_of_their_own_choice() {
    let policy =
        Policy::parse("@id(\"admins\") permit (principal in Role::\"admin\", action, resource == Workload::\"shop\");");
    let policy = policy.expect("valid");
    let asked = |roles| policy.ask(&Question { person: Some("ann"), roles, ..question() }).expect("answers").allowed;
    assert!(asked(Roles::ALL) && !asked(Roles::of([Role::Approver, Role::Operator])));
}

#[test]
fn what_the_load_of_now_needs_is_not_held_back() {
    let guard = Question {
        needed_now: true,
        stage: Stage::Recommend,
        verdict: "stale",
        risk: Risk::High,
        blackout: true,
        ..question()
    };
    assert_eq!(answer(&guard).rules, ["guard-may-raise"], "although the earned stage is lost");
    assert!(!allowed(&Question { ceiling: Stage::Recommend, ..guard.clone() }), "the configured stage counts");
    assert!(!allowed(&Question { units_after: 1, ..guard.clone() }), "only a raise");
    assert!(!allowed(&Question { paused: true, ..guard }), "a switch stops it as well");
}

#[test]
fn time_is_asked_in_utc() {
    let text = "@id(\"office\") permit (principal, action, resource) \
                when { context.weekday == \"monday\" && context.minute_of_day >= 540 && context.minute_of_day < 1020 };";
    let policy = Policy::parse(text).expect("valid");
    for (at, within) in [
        ("2026-11-23T09:00:00Z", true),
        ("2026-11-23T16:59:59Z", true),
        ("2026-11-23T17:00:00Z", false),
        ("2026-11-23T08:59:00Z", false),
        ("2026-11-22T12:00:00Z", false),
        ("1969-12-29T12:00:00Z", true),
    ] {
        let at = EventTime::parse(at).expect("a time");
        assert_eq!(policy.ask(&Question { at, ..question() }).expect("answers").allowed, within, "{at}");
    }
}

#[test]
fn a_mistake_is_an_error_with_its_line_and_how_to_mend_it() {
    for (text, said) in [
        ("permit (principal, action", &["policy"][..]),
        (
            "@id(\"a\")\npermit (principal, action, resource)\nwhen { context.stagee == \"automate\" };",
            &["line 3", "stagee", "did you mean `stage`"],
        ),
        ("\n\npermit (principal, action, resource) when { context.stage > 3 };", &["line 3", "String"]),
        ("permit (principal, action == Action::\"aply\", resource);", &["line 1", "aply", "apply"]),
        ("permit (principal is Persn, action, resource);", &["line 1", "Persn", "Person"]),
    ] {
        let error = Policy::parse(text).expect_err(text).to_string();
        for said in said {
            assert!(error.contains(said), "`{said}` is not in: {error}");
        }
    }
}

#[test]
fn every_value_is_shown_and_asked() {
    let shown = Question { person: Some("ann"), risk: Risk::High, ..question() }.shown();
    for (name, value) in [("principal", "person ann"), ("risk", "high"), ("kind", "raise"), ("units_after", "4")] {
        assert_eq!(shown.get(name).map(String::as_str), Some(value));
    }
    // The schema has no attribute that the context lacks, and the other way round: a request is checked against it.
    answer(&question());
    for name in shown.keys().filter(|name| !["principal", "action", "workload"].contains(&name.as_str())) {
        assert!(SCHEMA.contains(&format!("  {name}: ")), "{name} is not in the schema");
    }
}

#[test]
fn a_case_says_what_is_different() {
    let policy = Policy::parse(DEFAULT).expect("valid");
    let failure = |case: &str| {
        let case: Case = serde_json::from_str(case).expect("a case");
        case.failure(&policy)
    };
    assert_eq!(failure(r#"{"name": "a", "expect": "allow", "rule": "automate-reversible"}"#), None);
    assert_eq!(failure(r#"{"name": "b", "expect": "deny", "paused": true, "rule": "paused"}"#), None);
    let wrong = failure(r#"{"name": "c", "expect": "allow", "person": "ann", "risk": "high"}"#).expect("a failure");
    assert!(wrong.contains("expected to be allowed") && wrong.contains("four-eyes"), "{wrong}");
    let other = failure(r#"{"name": "d", "expect": "deny", "paused": true, "rule": "blackout"}"#).expect("a failure");
    assert!(other.contains("not by `blackout`") && other.contains("forbidden by paused"), "{other}");
    assert!(failure(r#"{"name": "e", "expect": "allow", "at": "soon"}"#).expect("a failure").contains("soon"));
    assert!(failure(r#"{"name": "f", "expect": "deny", "action": "aply"}"#).is_some(), "no such action");
    assert!(serde_json::from_str::<Case>(r#"{"name": "g", "expect": "deny", "rsk": "low"}"#).is_err());
}
