//! A number in a file of a real repository, over git's own protocol.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use headroom_actuator::{ApplyRequest, Fault, Fence, Target};
use headroom_proto::EventTime;
use tempfile::TempDir;

use super::contract::{self, Bench, Pace, Trouble, WORKLOAD};
use super::process::{self, Process};
use super::tap::{Tap, Way};

const FILE: &str = "\
# The shop, behind its pool.
kind: Deployment   # kept
spec:
  replicas:  20  # set by Headroom
  template: {spec: {containers: [{name: shop}]}}
";

struct Hub {
    folder: TempDir,
    server: Mutex<Process>,
    tap: Tap,
    section: String,
}

fn git(folder: &Path, args: &[&str], input: &str) -> String {
    let mut command = Command::new("git");
    command.args(args).current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped());
    for role in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{role}_NAME"), "somebody").env(format!("GIT_{role}_EMAIL"), "somebody@localhost");
    }
    let mut child = command.spawn().expect("git runs");
    std::io::Write::write_all(&mut child.stdin.take().expect("piped"), input.as_bytes()).expect("it listens");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "git {args:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

impl Hub {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temp folder");
        let bare = folder.path().join("fleet.git");
        std::fs::create_dir(&bare).expect("makes");
        git(&bare, &["init", "--quiet", "--bare", "--initial-branch=main", "."], "");
        let hub_port = process::free_port().await;
        let mut command = Command::new("/usr/lib/git-core/git-daemon");
        command.args(["--reuseaddr", "--listen=127.0.0.1", "--export-all", "--enable=receive-pack"]);
        command.arg(format!("--port={hub_port}")).arg(format!("--base-path={}", folder.path().display()));
        command.arg(folder.path());
        let server = Process::start(command, "TERM");
        process::listens(hub_port).await;
        let tap = Tap::to(hub_port).await;
        let section = format!(
            "kind = \"git\"\nrepository = \"git://127.0.0.1:{}/fleet.git\"\nbranch = \"main\"\n\
             file = \"prod/shop.yaml\"\npath = [\"spec\", \"replicas\"]\nper_unit = 10\n",
            tap.port
        );
        let hub = Self { folder, server: Mutex::new(server), tap, section };
        hub.commit(FILE);
        hub
    }

    fn bare(&self) -> PathBuf {
        self.folder.path().join("fleet.git")
    }

    fn git(&self, args: &[&str], input: &str) -> String {
        git(&self.bare(), args, input)
    }

    fn text(&self) -> String {
        self.git(&["show", "main:prod/shop.yaml"], "")
    }

    /// Somebody else's commit.
    fn commit(&self, text: &str) {
        let object = self.git(&["hash-object", "-w", "--stdin"], text);
        let file = self.git(&["mktree"], &format!("100755 blob {}\tshop.yaml\n", object.trim()));
        let tree = self.git(&["mktree"], &format!("040000 tree {}\tprod\n", file.trim()));
        let parents = self.git(&["for-each-ref", "--format=%(objectname)", "refs/heads/main"], "");
        let mut args = vec!["commit-tree", tree.trim(), "-m", "by hand"];
        args.extend(parents.lines().next().map(|parent| ["-p", parent]).into_iter().flatten());
        let commit = self.git(&args, "");
        self.git(&["update-ref", "refs/heads/main", commit.trim()], "");
    }

    fn hook(&self, name: &str, script: &str) {
        let file = self.bare().join("hooks").join(name);
        std::fs::write(&file, script).expect("writes");
        let may_run = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&file, may_run).expect("sets");
    }

    fn unhook(&self, name: &str) {
        if let Err(error) = std::fs::remove_file(self.bare().join("hooks").join(name)) {
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
        }
    }
}

#[async_trait]
impl Bench for Hub {
    fn open_at(&self, pace: Pace) -> Arc<dyn Target> {
        contract::opened(&self.section, pace, self.folder.path())
    }

    async fn actual(&self) -> String {
        self.text()
    }

    async fn by_hand(&self, number: Option<u64>) {
        let text = self.text();
        let line = text.lines().find(|line| line.contains("replicas:")).expect("its line");
        let number = number.expect("it always has a value");
        self.commit(&text.replace(line, &format!("  replicas:  {number}  # set by Headroom")));
    }

    fn per_unit(&self) -> u64 {
        10
    }

    fn can_be_unset(&self) -> bool {
        false
    }

    fn troubles(&self) -> &[Trouble] {
        &[Trouble::Away, Trouble::Slow, Trouble::CutBefore, Trouble::CutAfter, Trouble::Lies]
    }

    async fn trouble(&self, trouble: Option<Trouble>) {
        self.tap.set(match trouble {
            Some(Trouble::Away) => Way::Shut,
            Some(Trouble::CutBefore) => Way::CutBefore("PACK"),
            Some(Trouble::CutAfter) => Way::CutAfter("PACK"),
            Some(Trouble::Slow | Trouble::Lies) | None => Way::Open,
        });
        match trouble {
            Some(Trouble::Slow) => self.server.lock().expect("no panic").signal("STOP"),
            // The push is acknowledged, and taken back behind our back.
            Some(Trouble::Lies) => {
                self.hook("post-receive", "#!/bin/sh\nread old new ref\ngit update-ref \"$ref\" \"$old\"\n");
            }
            None => {
                self.server.lock().expect("no panic").signal("CONT");
                self.unhook("post-receive");
            }
            Some(Trouble::Away | Trouble::CutBefore | Trouble::CutAfter) => {}
        }
    }

    fn printed(&self) -> String {
        contract::printed(&self.section)
    }
}

fn request(units: u32, position: u64) -> ApplyRequest {
    let at = EventTime::from_micros(1_790_000_000_000_000);
    let (workload, idempotency_key) = (WORKLOAD.to_owned(), format!("shop/{position}"));
    ApplyRequest { workload, units, idempotency_key, fence: Fence::new(at, position), undoes: None, at, begin_at: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_in_a_repository_keeps_the_contract() {
    let hub = Hub::start().await;
    contract::holds(&hub).await;
    // Its mode and every other byte have stayed, and the commits say who and why.
    assert_eq!(hub.text().replace("replicas:  2 ", "replicas:  20 "), FILE.replace("replicas:  2 ", "replicas:  20 "));
    assert!(hub.git(&["ls-tree", "main", "prod/"], "").starts_with("100755"));
    let log = hub.git(&["log", "--format=%an <%ae> %s%n%b", "main"], "");
    assert!(
        log.contains("Headroom <headroom@localhost> spec.replicas: ") && log.contains("Headroom-Change: {"),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_of_somebody_else_is_kept_and_a_protected_branch_is_named() {
    let hub = Hub::start().await;
    // Somebody commits between our look and our push, once.
    let others = FILE.replace("kind: Deployment ", "kind: StatefulSet");
    std::fs::write(hub.folder.path().join("others.yaml"), &others).expect("writes");
    hub.hook(
        "pre-receive",
        "#!/bin/sh\n[ -e others.done ] && exit 0\ntouch others.done\nunset GIT_QUARANTINE_PATH GIT_OBJECT_DIRECTORY\n\
         object=$(git hash-object -w ../others.yaml)\nfile=$(printf '100755 blob %s\\tshop.yaml\\n' $object | git mktree)\n\
         tree=$(printf '040000 tree %s\\tprod\\n' $file | git mktree)\nexport GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a\n\
         export GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a\n\
         git update-ref refs/heads/main $(git commit-tree $tree -p main -m others)\n",
    );
    let applied = hub.open().apply(&request(5, 1)).await.expect("upon the other's commit");
    assert_eq!((applied.before.as_str(), applied.after.as_str()), ("20", "50"));
    assert_eq!(hub.text(), others.replace("replicas:  20", "replicas:  50"));

    hub.hook("pre-receive", "#!/bin/sh\necho only by review >&2\nexit 1\n");
    let error = hub.open().apply(&request(6, 2)).await.expect_err("protected");
    assert_eq!(error.fault, Fault::Refused, "{error}");
    assert!(error.to_string().contains("pre-receive hook declined"), "{error}");
    hub.unhook("pre-receive");

    hub.commit("spec: {replicas: auto}\n");
    let error = hub.open().probe(WORKLOAD).await.expect_err("no number");
    assert!(error.to_string().contains("prod/shop.yaml: the value of `spec.replicas` is no plain number"), "{error}");
    hub.git(&["update-ref", "-d", "refs/heads/main"], "");
    let error = hub.open().probe(WORKLOAD).await.expect_err("no branch");
    assert!(error.fault == Fault::Refused && error.to_string().contains("no branch `main`"), "{error}");
}
