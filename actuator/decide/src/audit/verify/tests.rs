//! Whole exports, and what is found when they are changed.

use headroom_proto::v1::{ActionRecord, ActionState, Plan, Switch};
use prost::Message;

use super::*;
use crate::audit::log::{Entry, LogView};
use crate::audit::note::{Checkpoint, Signer};
use crate::audit::{plan_hash, sealed};

fn signer() -> Signer {
    Signer::new("headroom", [7; 32]).expect("a key")
}

fn plan(workload: &str, number: i64) -> Plan {
    let plan = Plan {
        plan_id: format!("plan-{workload}-{number}"),
        workload: workload.to_owned(),
        units: vec![3, 4, 5],
        decided_at_us: number,
        reason: "p90 of the forecast peaks at 287.4".to_owned(),
        expected_peak: 287.4,
        ..Plan::default()
    };
    Plan { plan_hash: plan_hash(&plan), ..plan }
}

/// Two workloads whose moves alternate, with a switch in between.
fn actions() -> (Vec<Entry>, Vec<Entry>) {
    let ways = [ActionState::Proposed, ActionState::Approved, ActionState::Intended, ActionState::Applied];
    let (mut entries, mut plans) = (Vec::new(), Vec::new());
    let mut heads = std::collections::BTreeMap::new();
    for number in 0..2 {
        for workload in ["shop", "bank"] {
            let plan = plan(workload, number);
            let (mut from, mut moves) = (ActionState::Unspecified, Vec::new());
            for to in ways {
                let (sequence, hash) = heads.remove(workload).unwrap_or((0, String::new()));
                let record = ActionRecord {
                    action_id: format!("{workload}-{number}"),
                    plan_id: plan.plan_id.clone(),
                    plan_hash: plan.plan_hash.clone(),
                    workload: workload.to_owned(),
                    sequence: sequence + 1,
                    state: to.into(),
                    previous_state: from.into(),
                    units_after: 5,
                    expected_peak: 0.1 + 0.2,
                    reason: "the load of now needs 5 units".to_owned(),
                    ..ActionRecord::default()
                };
                let record = sealed(record, &hash);
                heads.insert(workload, (record.sequence, record.hash.clone()));
                moves.push(entry("ActionRecord", workload, &record));
                from = to;
            }
            entries.append(&mut moves);
            plans.push(entry("Plan", workload, &plan));
        }
        let switch = Switch { workload: String::new(), paused: true, actor: "ann".to_owned(), ..Switch::default() };
        entries.push(entry("Switch", "", &switch));
    }
    (entries, plans)
}

fn entry(message: &str, key: &str, value: &impl Message) -> Entry {
    Entry { message: message.to_owned(), key: key.to_owned(), value: value.encode_to_vec() }
}

/// A log with checkpoints of these sizes.
fn log(origin: &str, entries: Vec<Entry>, sizes: &[usize]) -> LogView {
    let mut log = LogView { origin: origin.to_owned(), entries, ..LogView::default() };
    log.entries.iter().for_each(|entry| log.tree.push(entry.leaf()));
    for size in sizes {
        let root = log.tree.root(*size).expect("as many");
        let checkpoint = Checkpoint { origin: origin.to_owned(), size: *size, root };
        log.checkpoints.push((*size, signer().sign(&checkpoint.text())));
    }
    log
}

fn logs() -> [LogView; 2] {
    let (actions, plans) = actions();
    let (whole, of_plans) = (actions.len(), plans.len());
    [log("headroom/actions/0", actions, &[3, 8, whole]), log("headroom/plans/0", plans, &[of_plans])]
}

fn export(logs: &[LogView], chosen: Option<&str>) -> String {
    let header = Header {
        format: FORMAT,
        key: signer().verifier().to_string(),
        complete: chosen.is_none(),
        selection: "everything".to_owned(),
        logs: logs.iter().map(|log| (log.origin.clone(), log.checkpoints.last().map_or(0, |last| last.0))).collect(),
        problems: Vec::new(),
    };
    let mut text = Line::Export(header).text() + "\n";
    for log in logs {
        for line in log.lines(|entry| chosen.is_none_or(|workload| entry.key == workload)) {
            text += &(line.text() + "\n");
        }
    }
    let end = signer().sign(&Extent::of("everything", &text).text());
    text + &Line::End(EndLine { note: end }).text() + "\n"
}

fn checked(text: &str) -> Report {
    verify(text, Some(&signer().verifier()))
}

/// Everything that is found, as people read it.
fn told(report: &Report) -> String {
    report.findings.iter().map(|finding| format!("{finding}\n")).collect()
}

#[test]
fn a_whole_export_holds_and_so_does_a_part() {
    let whole = checked(&export(&logs(), None));
    assert!(whole.holds(), "{}", told(&whole));
    assert_eq!((whole.records, whole.checkpoints, whole.workloads, whole.is_complete), (22, 4, 2, true));
    let part = checked(&export(&logs(), Some("bank")));
    assert!(part.holds(), "{}", told(&part));
    assert_eq!((part.records, part.checkpoints, part.workloads, part.is_complete), (10, 4, 1, false));
    let stranger = Signer::new("headroom", [8; 32]).expect("a key").verifier();
    let other = verify(&export(&logs(), None), Some(&stranger));
    assert!(!other.holds() && told(&other).contains("another key"), "{}", told(&other));
}

/// A prime, so that all parts of the lines are visited.
const STEP: usize = 101;

/// Bytes of an export, one at a time: each change is found, and in the line that was changed, unless that makes
/// two lines one or the file end early.
#[test]
fn one_changed_byte_is_found_wherever_it_is() {
    let (actions, plans) = actions();
    let small =
        [log("headroom/actions/0", actions[..9].to_vec(), &[3, 9]), log("headroom/plans/0", plans[..2].to_vec(), &[2])];
    for chosen in [None, Some("shop")] {
        let text = export(&small, chosen);
        assert!(checked(&text).holds(), "{}", told(&checked(&text)));
        let mut number = 1;
        // All of them take minutes in a debug build.
        for at in (0..text.len()).step_by(STEP) {
            number = 1 + text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count();
            let mut bytes = text.clone().into_bytes();
            let was = bytes[at];
            bytes[at] = match was {
                b'0'..=b'8' | b'a'..=b'y' | b'A'..=b'Y' => was + 1,
                _ => b'0',
            };
            let changed = String::from_utf8_lossy(&bytes).into_owned();
            let report = checked(&changed);
            assert!(!report.holds(), "byte {at}, `{}` of line {number}: not found", char::from(was));
            let is_located = report.findings.iter().any(|finding| finding.line == number);
            assert!(is_located || was == b'\n', "byte {at} of line {number}:\n{}", told(&report));
        }
        assert!(number > 5, "the last lines were changed too");
    }
}

/// Bytes of a record on the topic, which an export shows beside the leaf that was signed: found to the byte.
#[test]
fn a_byte_that_was_changed_on_the_topic_is_located_in_its_field() {
    let logs = logs();
    let entry = &logs[0].entries[6];
    let place =
        |needle: &[u8]| entry.value.windows(needle.len()).position(|window| window == needle).expect("is there");
    for (offset, field) in [
        (place(b"bank-0"), "action_id"),
        (place(b"the load of now") + 4, "reason"),
        (place(b"plan-bank-0") + 10, "plan_id"),
        (0, "action_id"),
        (entry.value.len() - 1, "hash"),
    ] {
        let mut changed = logs.clone();
        changed[0].entries[6].value[offset] ^= 0x20;
        let report = checked(&export(&changed, None));
        let (was, is) = (entry.value[offset], entry.value[offset] ^ 0x20);
        let said =
            format!("field `{field}`, byte {offset} of {}: it is {is:#04x}, it was {was:#04x}", entry.value.len());
        let found = told(&report);
        assert!(found.contains("record 6 of headroom/actions/0") && found.contains(&said), "{said}\n{found}");
    }
    // A switch has no chain of its own: the log knows it.
    let mut changed = logs.clone();
    changed[0].entries[8].value[1] ^= 1;
    let found = told(&checked(&export(&changed, None)));
    assert!(found.contains("record 8 of headroom/actions/0 (Switch of )") && found.contains("it was"), "{found}");
}

#[test]
fn records_that_are_dropped_swapped_or_cut_off_are_found() {
    let text = export(&logs(), None);
    let lines: Vec<&str> = text.lines().collect();
    let joined = |lines: &[&str]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    let mut dropped = lines.clone();
    dropped.remove(5);
    let found = told(&checked(&joined(&dropped)));
    assert!(found.contains("record 4 of headroom/actions/0: missing: a signed checkpoint"), "{found}");

    let mut swapped = lines.clone();
    swapped.swap(5, 6);
    let found = told(&checked(&joined(&swapped)));
    assert!(found.contains("line 7: record 4 of headroom/actions/0"), "{found}");
    assert!(found.contains("it stands behind record 5: moved, swapped or repeated"), "{found}");

    // The last records of the log, with and without the checkpoints that cover them.
    let last =
        lines.iter().rposition(|line| line.contains("headroom/actions/0") && line.contains("\"record\"")).expect("one");
    let mut cut = lines.clone();
    cut.drain(last - 1..=last);
    let found = told(&checked(&joined(&cut)));
    assert!(found.contains("records 16 to 17 of headroom/actions/0: missing, at the end"), "{found}");
    let mut cut = lines.clone();
    cut.drain(last - 1..=last + 3);
    let found = told(&checked(&joined(&cut)));
    assert!(found.contains("the size of headroom/actions/0"), "{found}");
    let found = told(&checked(text.get(..text.len() - 20).expect("longer")));
    assert!(found.contains("the file is cut"), "{found}");
    // What a part leaves out nobody can see in it, but it was signed as it was.
    let part = export(&logs(), Some("bank"));
    let mut lines: Vec<&str> = part.lines().collect();
    let plan = lines.iter().position(|line| line.contains("\"message\":\"Plan\"")).expect("a plan");
    lines.remove(plan);
    let found = told(&checked(&joined(&lines)));
    assert!(found.contains("15 lines were signed, 14 stand before the end"), "{found}");
    assert!(told(&checked(&joined(&lines[1..]))).contains("the first line is missing"));
    assert!(told(&checked("")).contains("the first line is missing"));
}

/// Someone who rewrites a record together with its leaf, proofs and chain still cannot sign.
#[test]
fn a_rewritten_history_does_not_have_the_signed_root() {
    let honest = logs();
    let mut rewritten = honest.clone();
    let mut before = String::new();
    for entry in rewritten[0].entries.iter_mut().filter(|entry| entry.key == "shop") {
        let mut record = ActionRecord::decode(entry.value.as_slice()).expect("an action");
        record.units_after += 1;
        let record = sealed(record, &before);
        before.clone_from(&record.hash);
        entry.value = record.encode_to_vec();
    }
    rewritten[0].tree = super::super::merkle::Tree::default();
    let leaves: Vec<_> = rewritten[0].entries.iter().map(Entry::leaf).collect();
    leaves.into_iter().for_each(|leaf| rewritten[0].tree.push(leaf));
    let report = checked(&export(&rewritten, None));
    let found = told(&report);
    assert!(found.contains("it is signed for another root"), "{found}");
    assert!(found.contains("record 0 of headroom/actions/0") && found.contains("not what the log holds"), "{found}");
}

#[test]
fn an_illegal_move_a_broken_chain_and_an_unknown_plan_are_found_under_a_valid_signature() {
    let (actions, plans) = actions();
    let changed = |change: fn(&mut Vec<Entry>)| {
        let mut entries = actions.clone();
        change(&mut entries);
        let count = entries.len();
        told(&checked(&export(
            &[log("headroom/actions/0", entries, &[count]), log("headroom/plans/0", plans.clone(), &[4])],
            None,
        )))
    };
    let skipped = changed(|entries| drop(entries.remove(1)));
    assert!(skipped.contains("the chain of shop breaks: its number does not follow"), "{skipped}");
    assert!(skipped.contains("the move is not legal"), "{skipped}");
    let count = actions.len();
    let planless = [log("headroom/actions/0", actions, &[count]), log("headroom/plans/0", plans[1..].to_vec(), &[3])];
    let found = told(&checked(&export(&planless, None)));
    assert!(found.contains("no plan has the hash"), "{found}");
}
