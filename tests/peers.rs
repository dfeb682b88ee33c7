//! Planners' clients from PyPI against the real program: ADBC and pyarrow over Flight SQL; deltalake, Polars and DuckDB on
//! the files.

#[allow(dead_code, reason = "shared with e2e, which uses more of it")]
#[path = "e2e/program.rs"]
mod program;

use std::path::Path;
use std::process::Command;

use program::{Program, wait_for};

const TOKEN: &str = "planner-token-0123456789";
const MEND: &str = "run tests/run, which installs what the tests need and sets HEADROOM_TEST_PYTHON";

#[test]
fn planners_read_what_headroom_says() {
    let python = std::env::var("HEADROOM_TEST_PYTHON").unwrap_or_else(|_| panic!("no Python with the clients: {MEND}"));
    let program = Program::new();
    program.succeed(&["demo", "--until", "1998-05-14", "--exit"]);
    let tokens = program.write("tokens", &format!("planner:{TOKEN}\n"));
    let count = program.query("SELECT count(*) AS n FROM windows WHERE window_size_s = 300");
    let expected = count[0]["n"].as_i64().expect("a count");
    assert!(expected > 100, "{expected} windows");

    let config = program.write("headroom.toml", &format!("[flight]\ntoken_file = \"{tokens}\"\n"));
    std::fs::remove_file(program.data_dir().join("endpoints.json")).expect("removes");
    let _running = program.start(&["run", "--config", &config]);
    let address = format!("grpc://{}", program.endpoint("flight"));
    wait_for("the listener", || std::net::TcpStream::connect(program.endpoint("flight")).ok());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let lake = program.data_dir().join("lake");
    let peers = folder.join("tests/peers/peers.py");
    runs(Command::new(&python).arg(peers).args([&address, TOKEN]).arg(lake).arg(expected.to_string()), &program);
    let text = runs(Command::new(&python).arg(folder.join("examples/planner.py")).args([&address, TOKEN]), &program);
    for part in ["How close did we come", "How does load grow?", "worldcup98"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

fn runs(command: &mut Command, program: &Program) -> String {
    let output = command.output().expect("python starts");
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}\n{text}{errors}\nthe program said:\n{}", program.log());
    text.into_owned()
}
