//! Servers that the tests start and stop, as a user without rights, since the servers refuse to run as root.

use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A server, which ends with this.
pub(crate) struct Process {
    child: Child,
    /// How it is asked to end: `INT`, `QUIT`.
    signal: &'static str,
}

/// Who runs the servers: whoever owns the tests, or `postgres` when that is root.
fn user() -> Option<(u32, u32)> {
    let is_root = std::fs::metadata("/proc/self").expect("a process").uid() == 0;
    is_root.then(|| {
        let home = std::fs::metadata("/var/lib/postgresql").expect("Debian's postgresql makes the user");
        (home.uid(), home.gid())
    })
}

/// Gives a file or folder to the user of the servers.
pub(crate) fn hand_over(path: &Path) {
    if let Some((uid, gid)) = user() {
        chown(path, Some(uid), Some(gid)).expect("root may");
    }
}

/// A command as that user. It heeds `QUIT`, which whatever a shell has started in the background ignores.
pub(crate) fn command(program: &str) -> Command {
    let mut command = Command::new("env");
    command.arg("--default-signal=QUIT");
    if let Some((uid, gid)) = user() {
        command.args(["setpriv", &format!("--reuid={uid}"), &format!("--regid={gid}"), "--clear-groups"]);
    }
    command.arg(program);
    command
}

impl Process {
    pub(crate) fn start(mut command: Command, signal: &'static str) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Self { child: child.expect("the server starts; is its Debian package installed?"), signal }
    }

    /// `STOP` freezes it, `CONT` lets it go on.
    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("kill").arg(format!("-{signal}")).arg(self.child.id().to_string()).status();
        assert!(sent.expect("kill runs").success(), "{signal} reaches the server");
    }

    pub(crate) fn stop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.signal(self.signal);
            self.child.wait().expect("it ends");
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What `tests/run` has put aside for the tests: named by a variable, else where it puts it.
pub(crate) fn prepared(variable: &str, place: &str) -> PathBuf {
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home).expect("a home");
    let path = std::env::var_os(variable).map_or_else(|| cache.join("headroom").join(place), PathBuf::from);
    assert!(path.exists(), "{} is missing: tests/run makes it, and sets {variable}", path.display());
    path
}

/// A Python with clients of other makers.
pub(crate) fn python() -> PathBuf {
    prepared("HEADROOM_TEST_PYTHON", "peers-python/bin/python")
}

/// A port that nobody listens on.
pub(crate) async fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    listener.local_addr().expect("an address").port()
}

/// Waits until somebody listens there.
pub(crate) async fn listens(port: u16) {
    until("it listens", async || TcpStream::connect(("127.0.0.1", port)).await.is_ok()).await;
}

/// Waits until it is so.
pub(crate) async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
