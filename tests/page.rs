//! The console in Chromium: the real program serves it, playwright-core looks at it (see `page/page.mjs`).

#[allow(dead_code, reason = "shared with e2e, which uses more of it")]
#[path = "e2e/program.rs"]
mod program;

use std::path::{Path, PathBuf};
use std::process::Command;

use program::{Program, wait_for};

/// Long enough that forecasts begin and capacity has been changed.
const UNTIL: &str = "1998-05-20";
const MEND: &str = "run tests/run, which installs what the tests need";

#[test]
fn people_see_load_forecasts_actions_and_stages() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/page/page.mjs");
    let node = installed("node", &["--version"]);
    let chromium = std::env::var("CHROMIUM").unwrap_or_else(|_| "/usr/bin/chromium".to_owned());
    assert!(Path::new(&chromium).exists(), "no Chromium at {chromium}: {MEND}");
    let library = script.with_file_name("node_modules").join("playwright-core");
    assert!(library.exists(), "no {}: {MEND}", library.display());

    let program = Program::new();
    let _running = program.start(&["demo", "--until", UNTIL]);
    let url = wait_for("the console's address", || console_address(&program.log()));
    let output = Command::new(node)
        .arg(script)
        .arg(&url)
        .arg(screenshots())
        .env("CHROMIUM", chromium)
        .output()
        .expect("node starts");
    assert!(
        output.status.success(),
        "{}{}\nscreenshots are in {}\nthe program said:\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
        screenshots().display(),
        program.log()
    );
}

fn installed(name: &'static str, probe: &[&str]) -> &'static str {
    let answers = Command::new(name).args(probe).output().is_ok_and(|output| output.status.success());
    assert!(answers, "`{name}` does not run: {MEND}");
    name
}

fn console_address(log: &str) -> Option<String> {
    log.lines().find_map(|line| line.strip_prefix("console: ")).map(|url| url.trim().to_owned())
}

fn screenshots() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("page")
}
