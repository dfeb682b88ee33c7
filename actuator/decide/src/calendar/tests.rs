use super::*;

fn time(text: &str) -> EventTime {
    EventTime::parse(text).expect("a time")
}

fn when(text: &str) -> When {
    text.parse().expect(text)
}

#[test]
fn weekly_and_single_windows_hold_what_they_say() {
    // 2026-11-20 is a Friday.
    for (text, inside, outside) in [
        (
            "mon-fri 02:00-05:00",
            ["2026-11-20T02:00:00Z", "2026-11-20T04:59:59Z"],
            ["2026-11-20T05:00:00Z", "2026-11-21T03:00:00Z"],
        ),
        (
            "fri 22:00-06:00",
            ["2026-11-20T23:00:00Z", "2026-11-21T05:59:00Z"],
            ["2026-11-20T05:00:00Z", "2026-11-21T06:00:00Z"],
        ),
        (
            "sun 20:00-04:00",
            ["2026-11-22T20:00:00Z", "2026-11-23T03:00:00Z"],
            ["2026-11-22T19:00:00Z", "2026-11-24T03:00:00Z"],
        ),
        (
            "sat,sun 00:00-24:00",
            ["2026-11-21T00:00:00Z", "2026-11-22T23:59:59Z"],
            ["2026-11-20T23:59:59Z", "2026-11-23T00:00:00Z"],
        ),
        (
            "fri-mon 10:00-11:00",
            ["2026-11-23T10:30:00Z", "2026-11-20T10:30:00Z"],
            ["2026-11-24T10:30:00Z", "2026-11-19T10:30:00Z"],
        ),
        (
            "daily 12:00-13:00",
            ["1969-12-31T12:30:00Z", "2026-11-24T12:00:00Z"],
            ["2026-11-24T13:00:00Z", "2026-11-24T11:00:00Z"],
        ),
        (
            "2026-11-27T00:00:00Z/2026-11-28T00:00:00Z",
            ["2026-11-27T00:00:00Z", "2026-11-27T23:59:59Z"],
            ["2026-11-28T00:00:00Z", "2026-11-26T23:59:59Z"],
        ),
    ] {
        let window = when(text);
        assert_eq!(window.to_string().parse::<When>(), Ok(window.clone()), "{text}");
        for at in inside {
            assert!(window.holds(time(at)), "{text} at {at}");
        }
        for at in outside {
            assert!(!window.holds(time(at)), "{text} at {at}");
        }
    }
    let next = when("mon 02:00-03:00").next(time("2026-11-20T00:00:00Z"));
    assert_eq!(next, Some((time("2026-11-23T02:00:00Z"), time("2026-11-23T03:00:00Z"))));
    let a_week_later = when("sun 02:00-03:00").next(time("2026-11-22T03:00:00Z"));
    assert_eq!(a_week_later, Some((time("2026-11-29T02:00:00Z"), time("2026-11-29T03:00:00Z"))));
    assert_eq!(when("2026-11-27T00:00:00Z/2026-11-28T00:00:00Z").next(time("2026-11-28T00:00:00Z")), None);
}

#[test]
fn what_is_no_window_is_refused() {
    for text in
        ["", "mon", "mon 25:00-26:00", "xyz 01:00-02:00", "mon 01:00", "mon 24:00-25:00", "2026-11-28/2026-11-27"]
    {
        let error = text.parse::<When>().expect_err(text).to_string();
        assert!(error.contains("mon-fri"), "{error}");
    }
}

fn quiet(name: &str, text: &str, guard_raises: bool) -> Quiet {
    Quiet { name: name.to_owned(), when: when(text), guard_raises }
}

#[test]
fn times_without_changes_that_touch_are_one_and_the_guard_needs_leave_of_all() {
    let calendar = Calendar {
        blackouts: vec![
            quiet("freeze", "2026-11-27T00:00:00Z/2026-11-28T00:00:00Z", true),
            quiet("backup", "daily 23:30-00:30", true),
        ],
        maintenance: vec![quiet("upgrade", "2026-11-27T12:00:00Z/2026-11-27T13:00:00Z", false)],
        ..Calendar::default()
    };
    let ahead = calendar.closed(time("2026-11-26T20:00:00Z")).expect("closed");
    assert_eq!((ahead.name.as_str(), ahead.from), ("blackout backup", time("2026-11-26T23:30:00Z")));
    assert_eq!(ahead.until, time("2026-11-28T00:30:00Z"), "backup, freeze, and the next backup");
    assert_eq!(calendar.closed_at(time("2026-11-26T20:00:00Z")), None);
    let inside = calendar.closed_at(time("2026-11-27T10:00:00Z")).expect("closed");
    assert!(inside.guard_raises && inside.name == "blackout freeze", "{inside:?}");
    let upgrade = calendar.closed_at(time("2026-11-27T12:30:00Z")).expect("closed");
    assert!(!upgrade.guard_raises, "{upgrade:?}");
}

#[test]
fn units_are_released_in_their_times_alone() {
    let calendar = Calendar { release: vec![when("mon-fri 02:00-05:00")], ..Calendar::default() };
    assert_eq!(calendar.may_release(time("2026-11-20T03:00:00Z")), Ok(()));
    assert_eq!(calendar.may_release(time("2026-11-20T06:00:00Z")), Err(Some(time("2026-11-23T02:00:00Z"))));
    assert_eq!(Calendar::default().may_release(time("2026-11-20T06:00:00Z")), Ok(()));
    let over = Calendar { release: vec![when("2026-11-27T00:00:00Z/2026-11-28T00:00:00Z")], ..Calendar::default() };
    assert_eq!(over.may_release(time("2026-12-01T00:00:00Z")), Err(None));
}

#[test]
fn mistakes_are_named() {
    let nameless = Calendar { blackouts: vec![quiet(" ", "daily 01:00-02:00", false)], ..Calendar::default() };
    assert_eq!(nameless.problems().len(), 1);
    let raising = Calendar { maintenance: vec![quiet("x", "daily 01:00-02:00", true)], ..Calendar::default() };
    assert_eq!(raising.problems().len(), 1);
    assert!(Calendar::default().problems().is_empty());
}
