//! The record of a running Headroom: told, exported, verified, and what is found when an export is changed.

use serde_json::Value;

use crate::program::Program;

/// While it runs. Gives the text of an export.
pub(crate) fn the_record_is_told_exported_and_verified(program: &Program) -> String {
    let plans = program.succeed(&["plan", "list", "--limit", "1"]);
    let plan = plans.split_whitespace().next().expect("a plan's id");
    let story = program.succeed(&["plan", "show", plan]);
    let (undo, costs) = (format!("headroom rollback {plan}"), "1 - unit / (60 x violation)");
    for part in ["What is coming", "How much", costs, "What it costs", "If it is wrong", "Too high", "Who decided"] {
        assert!(story.contains(part), "not there: {part}\n{story}");
    }
    assert!(story.contains(&undo) || story.contains("It was undone") || story.contains("nothing to undo"), "{story}");
    let document: Value = serde_json::from_str(&program.succeed(&["plan", "show", plan, "--json"])).expect("JSON");
    assert_eq!(document["plan"]["plan_id"], plan);

    let shown = program.succeed(&["audit", "show", plan]);
    for part in ["What", "Why", "Approved by", "Policy", "Model", "Signals", "Expected", "Observed", "Undone"] {
        assert!(shown.contains(part), "not there: {part}\n{shown}");
    }
    serde_json::from_str::<Value>(&program.succeed(&["audit", "show", plan, "--json"])).expect("JSON");
    let status = program.succeed(&["status", "worldcup98"]);
    assert!(status.starts_with("worldcup98  ") && status.contains("no plan waits for a person"), "{status}");
    for args in [
        ["audit", "show", "nobody"],
        ["plan", "show", "nobody"],
        ["plan", "list", "--workload=nobody"],
        ["rollback", "nobody", "--as=ann"],
        ["status", "nobody", "--json"],
    ] {
        let output = program.run(&args);
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && message.contains("nobody"), "{args:?}: {message}");
    }

    let live = program.succeed(&["audit", "verify"]);
    assert!(live.contains("the record holds") && live.contains("every record is here"), "{live}");
    let file = program.write("record.jsonl", "");
    program.succeed(&["audit", "export", "--out", &file]);
    let part = program.write("part.jsonl", "");
    let since = ["audit", "export", "--out", &part, "--since", "1998-05-19", "--workload", "worldcup98"];
    program.succeed(&since);
    assert!(program.succeed(&["audit", "verify", &part]).contains("a part"));
    std::fs::read_to_string(file).expect("the export")
}

/// Bytes changed, a record dropped, two swapped, the tail cut: each is found, with exit code 1, and located.
pub(crate) fn an_export_is_verified_without_a_running_headroom(program: &Program, text: &str) {
    let key = program.succeed(&["audit", "key"]).trim().to_owned();
    assert!(key.starts_with("headroom+"), "{key}");
    let changed = |name: &str, text: &str| {
        let file = program.write(name, text);
        let output = program.run(&["audit", "verify", &file, "--key", &key]);
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, said) = changed("whole.jsonl", text);
    assert!(code == Some(0) && said.contains("the record holds"), "{said}");
    for share in 1..8 {
        let at = text.len() * share / 8;
        let mut bytes = text.as_bytes().to_vec();
        bytes[at] = if bytes[at] == b'7' { b'8' } else { b'7' };
        let line = 1 + text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count();
        let (code, said) = changed("byte.jsonl", &String::from_utf8_lossy(&bytes));
        assert!(code == Some(1) && said.contains(&format!("line {line}: ")), "byte {at} of line {line}: {said}");
    }
    let mut lines: Vec<&str> = text.lines().collect();
    let joined = |lines: &[&str]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    lines.swap(3, 4);
    let (code, said) = changed("swapped.jsonl", &joined(&lines));
    assert!(code == Some(1) && said.contains("moved, swapped or repeated"), "{said}");
    lines.swap(3, 4);
    let dropped = lines.remove(5);
    let (code, said) = changed("dropped.jsonl", &joined(&lines));
    assert!(code == Some(1) && said.contains("record 4 of headroom/actions/0: missing"), "{said}");
    lines.insert(5, dropped);
    lines.truncate(lines.len() / 2);
    let (code, said) = changed("cut.jsonl", &joined(&lines));
    assert!(code == Some(1) && said.contains("the file is cut"), "{said}");
}
