//! Each mistake of a user's gives one clear message that says how to mend it, and exit code 2.

use crate::program::Program;

/// Runs, expects exit code 2, and gives the message.
fn refused(program: &Program, args: &[&str]) -> String {
    let output = program.run(args);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{args:?}: {message}");
    assert!(!message.contains("panicked"), "{message}");
    message
}

#[test]
fn an_unknown_flag() {
    assert!(refused(&Program::new(), &["demo", "--sped", "3"]).contains("--speed"));
}

#[test]
fn configurations_that_are_missing_malformed_or_wrong() {
    let program = Program::new();
    assert!(refused(&program, &["run", "--config", "nowhere.toml"]).contains("nowhere.toml: no such file"));
    for (text, expected) in [
        ("[http\nlisten = 1", "headroom.toml"),
        ("[forecast]\nhorizn = '24h'", "horizn"),
        ("[actuate.planner]\nmin_units = 0", "min_units"),
        ("[actuate]\nstage = 'autopilot'", "`autopilot` is no stage"),
        ("[actuate.stages]\nshop = { grow = 'automate' }", "`grow` is no kind"),
        ("[actuate.earn]\nbound = 2", "actuate: earn: `bound`"),
        ("[[actuate.notify]]\nurl = 'http://example.org'", "actuate: notify[0]"),
        ("[forecast]\nhorizon = '24 apples'", "24 apples"),
        ("[query]\nscheduler = 'nonsense'", "query.scheduler"),
        ("[flight]\nmax_rows = 0", "flight.max_rows"),
        ("[[features]]\nname = 'x'\nsource = 'metrics'\nwindows = ['10s']\nsql = 'SELECT 1 ORDER BY 1'", "line 1"),
    ] {
        let path = program.write("headroom.toml", text);
        let message = refused(&program, &["config", "check", "--config", &path]);
        assert!(message.contains(expected), "{text}: {message}");
    }
    assert!(!program.data_dir().exists(), "a refused configuration leaves nothing behind");
}

#[test]
fn a_port_in_use() {
    let program = Program::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = taken.local_addr().expect("an address").to_string();
    let message = refused(&program, &["demo", "--exit", "--listen", &address]);
    assert!(message.contains(&address) && message.contains("http.listen"), "{message}");
    let path = program.write("headroom.toml", &format!("[broker]\nembedded_listen = '{address}'"));
    let message = refused(&program, &["run", "--config", &path]);
    assert!(message.contains(&address) && message.contains("embedded_listen"), "{message}");
}

#[test]
fn a_replay_that_cannot_be_read() {
    let program = Program::new();
    program.write("load.csv", "time,load\n1998-06-01T00:00:00Z,1\n");
    for (file, expected) in [("nowhere.csv", "nowhere.csv: no such file"), ("load.csv", "time_column")] {
        let path = program.write("headroom.toml", &format!("[collect.replay]\nfile = '{file}'"));
        let message = refused(&program, &["run", "--config", &path]);
        assert!(message.contains(expected) && message.contains(file), "{message}");
    }
}

#[test]
fn a_data_folder_of_another_version() {
    let program = Program::new();
    std::fs::create_dir_all(program.data_dir()).expect("creates");
    std::fs::write(program.data_dir().join("VERSION"), "0").expect("writes");
    for args in [&["demo", "--exit"][..], &["run"], &["query", "SELECT 1"]] {
        let message = refused(&program, args);
        assert!(message.contains("format `0`") && message.contains("--data-dir"), "{message}");
    }
}

#[test]
fn a_question_the_lake_cannot_answer() {
    let program = Program::new();
    assert!(refused(&program, &["query", "SELECT 1"]).contains("--data-dir"));
    std::fs::create_dir_all(program.data_dir().join("lake")).expect("creates");
    std::fs::write(program.data_dir().join("VERSION"), "2").expect("writes");
    assert!(refused(&program, &["query", "SELECT * FROM widnows"]).contains("windows"));
    refused(&program, &["query", "DROP TABLE windows"]);
    refused(&program, &["query", "SELEC 1"]);
}

#[test]
fn policies_that_cannot_be_used_and_cases_that_are_answered_otherwise() {
    let program = Program::new();
    let cases = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/policy-cases.toml");
    assert!(program.succeed(&["policy", "test", cases]).contains("11 cases are answered as expected"));
    assert!(program.succeed(&["policy", "check"]).contains("four-eyes"));
    let wrong = "permit (principal, action, resource)\nwhen { context.stagee == \"automate\" };";
    let path = program.write("wrong.cedar", wrong);
    let message = refused(&program, &["policy", "check", "--policy", &path]);
    assert!(message.contains("line 2") && message.contains("did you mean `stage`"), "{message}");
    let config = program.write("headroom.toml", "[actuate]\npolicy_file = 'wrong.cedar'");
    assert!(refused(&program, &["policy", "check", "--config", &config]).contains("line 2"));
    let nothing = program.write("nothing.cedar", "forbid (principal, action, resource);");
    let output = program.run(&["policy", "test", cases, "--policy", &nothing]);
    assert_eq!(output.status.code(), Some(2));
    let (told, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(told.contains("a small raise is done at stage automate: expected to be allowed"), "{told}");
    assert!(said.contains("of 11 cases"), "{said}");
    let path = program.write("cases.toml", "[[case]]\nname = 'x'\nexpekt = 'allow'");
    assert!(refused(&program, &["policy", "test", &path]).contains("expekt"));
}

#[test]
fn control_commands_without_a_running_headroom() {
    let program = Program::new();
    assert!(refused(&program, &["plan", "list"]).contains("--data-dir"));
    assert!(refused(&program, &["status", "shop"]).contains("--data-dir"));
    assert!(refused(&program, &["pause", "--server", "127.0.0.1:1"]).contains("nothing answers"));
}

#[test]
fn an_audit_without_its_file_key_or_headroom() {
    let program = Program::new();
    assert!(refused(&program, &["audit", "show", "shop"]).contains("--data-dir"));
    assert!(refused(&program, &["audit", "export", "--out", "record.jsonl"]).contains("--data-dir"));
    assert!(refused(&program, &["audit", "key"]).contains("--data-dir"));
    assert!(refused(&program, &["plan", "show", "plan-1"]).contains("--data-dir"));
    let message = refused(&program, &["audit", "verify", "nowhere.jsonl"]);
    assert!(message.contains("nowhere.jsonl") && message.contains("headroom audit export"), "{message}");
    let message = refused(&program, &["audit", "verify", "nowhere.jsonl", "--key", "headroom+nonsense"]);
    assert!(message.contains("headroom+nonsense") && message.contains("headroom audit key"), "{message}");
    assert!(refused(&program, &["audit", "export", "--out", "x", "--since", "yesterday"]).contains("RFC 3339"));
    assert!(refused(&program, &["rollback"]).contains("<ID"));
    assert!(refused(&program, &["rollback", "--since", "2026-01-01"]).contains("--workload"));
}

#[test]
fn a_signing_key_that_is_none_or_open_to_others() {
    let program = Program::new();
    let key = program.write("signing.key", "PRIVATE+KEY+headroom+00000000+AAAA");
    let path = program.write("headroom.toml", "[actuate.audit]\nkey_file = 'signing.key'");
    let message = refused(&program, &["run", "--config", &path]);
    assert!(message.contains("signing.key") && !message.contains("AAAA"), "{message}");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("sets");
        let message = refused(&program, &["run", "--config", &path]);
        assert!(message.contains("no Ed25519 key") && !message.contains("AAAA"), "{message}");
    }
}

#[test]
fn a_backtest_on_files_that_are_missing_or_corrupt() {
    let program = Program::new();
    let signals = program
        .write("signals.csv", "event_id,kind,announced_at,starts_at,ends_at,expected_reach,weight,audience,name\n");
    let message = refused(&program, &["backtest", "--data", "nowhere.csv", "--signals", &signals]);
    assert!(message.contains("nowhere.csv"), "{message}");
    let corrupt = program.write("load.csv", "ts,value\n2026-01-01 00:00:00,1\n2026-01-01 00:05:00,many\n");
    let message = refused(&program, &["backtest", "--data", &corrupt, "--signals", &signals]);
    assert!(message.contains("load.csv") && message.contains('3') && message.contains("many"), "{message}");
    let columns = program.write("other.csv", "time,load\n2026-01-01 00:00:00,1\n");
    let message = refused(&program, &["backtest", "--data", &columns, "--signals", &signals]);
    assert!(message.contains("--time-column"), "{message}");
}
