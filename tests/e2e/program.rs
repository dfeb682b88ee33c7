//! The real binary, run in a data folder of its own and stopped at the end.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A generous limit for waiting on a condition: machines of builds are slow and busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

/// A data folder and the ways to run Headroom on it. Every listener takes a free port.
pub(crate) struct Program {
    folder: tempfile::TempDir,
}

/// A started Headroom, killed when it is dropped.
pub(crate) struct Running {
    child: Child,
}

impl Program {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temp folder") }
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_headroom"));
        command
            .args(args)
            .env("HEADROOM_DATA_DIR", self.data_dir())
            .env("HEADROOM__HTTP__LISTEN", "127.0.0.1:0")
            .env("HEADROOM__GRPC__LISTEN", "127.0.0.1:0")
            .env("HEADROOM__FLIGHT__LISTEN", "127.0.0.1:0")
            .env_remove("HEADROOM_CONFIG")
            .env_remove("HEADROOM_LOG")
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs to the end.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("the program starts")
    }

    /// Runs to the end and expects success; gives stdout.
    pub(crate) fn succeed(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// Starts in the background, stderr into a file of the folder.
    pub(crate) fn start(&self, args: &[&str]) -> Running {
        let log = std::fs::File::options().create(true).append(true).open(self.log_path()).expect("a log file");
        let child = self.command(args).stdout(Stdio::null()).stderr(log).spawn().expect("the program starts");
        Running { child }
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("stderr.log")
    }

    /// Rows of the lake as JSON objects.
    pub(crate) fn query(&self, sql: &str) -> Vec<Value> {
        let text = self.succeed(&["query", sql, "--output", "json"]);
        serde_json::from_str(&text).expect("JSON")
    }

    /// The address of a listener, once it is up.
    pub(crate) fn endpoint(&self, name: &str) -> String {
        let path = self.data_dir().join("endpoints.json");
        let text = wait_for("the endpoints", || std::fs::read_to_string(&path).ok());
        let value: Value = serde_json::from_str(&text).expect("endpoints.json");
        value.get(name).and_then(Value::as_str).expect("an address").to_owned()
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).expect("writes");
        path.to_str().expect("UTF-8").to_owned()
    }
}

impl Running {
    /// SIGKILL: no drain, no goodbye.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("kills");
        self.child.wait().expect("reaps");
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the program's own end.
    pub(crate) fn wait(mut self) -> std::process::ExitStatus {
        wait_for("the program to end", || self.child.try_wait().expect("a child"))
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_none()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.is_running() {
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}

/// Asks again until there is an answer; fails after [`PATIENCE`].
#[expect(clippy::disallowed_methods, reason = "waits on another process, in real time")]
pub(crate) fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "no {what} after {} s", PATIENCE.as_secs());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// How many bytes a folder's files have, as a sign of progress.
pub(crate) fn size_of(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let of_entry = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size_of(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.flatten().map(of_entry).sum()
}
