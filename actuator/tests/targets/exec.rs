//! A program, here a shell script, that keeps its side of the contract.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use headroom_actuator::{Drain, Fault, Target};
use headroom_proto::EventTime;
use standardwebhooks::Webhook;
use tempfile::TempDir;

use super::contract::{self, Bench, Pace, Trouble, WORKLOAD};

/// The example key of the Standard Webhooks specification.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Keeps the value, the greatest fence and the keys in files beside it.
const SCRIPT: &str = r#"
cd "$1"
request=$(cat)
printf '%s' "$request" >request
printf '%s %s %s' "$WEBHOOK_ID" "$WEBHOOK_TIMESTAMP" "$WEBHOOK_SIGNATURE" >signed
env >environment
field() { printf '%s' "$request" | sed -n "s/.*\"$1\":\"\{0,1\}\([^\",}]*\).*/\1/p"; }
trouble=$(cat trouble)
if [ "$trouble" = away ]; then echo "come back later" >&2; exit 75; fi
if [ "$trouble" = slow ]; then exec sleep 60; fi
case $request in
*capacity.read*)
    value=$(cat value)
    if [ "$value" = null ]; then echo '{"value": null}'; else echo "{\"value\": \"$value\", \"ready\": $value}"; fi
    exit 0 ;;
esac
fence=$(field fence)
if [ "$(printf '%s\n%s\n' "$fence" "$(cat fence)" | LC_ALL=C sort | head -n 1)" = "$fence" ] &&
    [ "$fence" != "$(cat fence)" ]; then echo "a newer change was here" >&2; exit 76; fi
if [ "$trouble" = before ]; then exit 75; fi
if [ "$trouble" != lies ] && ! grep -qxF "$(field key)" keys; then
    field key >>keys; echo >>keys
    printf '%s' "$fence" >fence
    field value >value
fi
if [ "$trouble" = after ]; then exit 75; fi
"#;

struct Program {
    folder: TempDir,
    section: String,
}

impl Program {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temp folder");
        let path = folder.path().display().to_string();
        for (name, text) in [("script", SCRIPT), ("secret", SECRET), ("value", "10"), ("trouble", ""), ("fence", "")] {
            std::fs::write(folder.path().join(name), text).expect("writes");
        }
        std::fs::write(folder.path().join("keys"), "").expect("writes");
        let section = format!(
            "kind = \"exec\"\nprogram = \"/bin/sh\"\nargs = [\"{path}/script\", \"{path}\"]\nper_unit = 10\n\
             secret = {{ file = \"{path}/secret\" }}\n"
        );
        Self { folder, section }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.file(name)).expect("reads")
    }
}

#[async_trait]
impl Bench for Program {
    fn open_at(&self, pace: Pace) -> Arc<dyn Target> {
        contract::opened(&self.section, pace, self.folder.path())
    }

    async fn actual(&self) -> String {
        self.text("value").trim().to_owned()
    }

    async fn by_hand(&self, number: Option<u64>) {
        let value = number.map_or_else(|| "null".to_owned(), |number| number.to_string());
        std::fs::write(self.file("value"), value).expect("writes");
    }

    fn per_unit(&self) -> u64 {
        10
    }

    fn troubles(&self) -> &[Trouble] {
        &[Trouble::Away, Trouble::Slow, Trouble::CutBefore, Trouble::CutAfter, Trouble::Lies]
    }

    async fn trouble(&self, trouble: Option<Trouble>) {
        let word = match trouble {
            None => "",
            Some(Trouble::Away) => "away",
            Some(Trouble::Slow) => "slow",
            Some(Trouble::CutBefore) => "before",
            Some(Trouble::CutAfter) => "after",
            Some(Trouble::Lies) => "lies",
        };
        std::fs::write(self.file("trouble"), word).expect("writes");
    }

    fn secrets(&self) -> Vec<String> {
        vec![SECRET.to_owned()]
    }

    fn printed(&self) -> String {
        contract::printed(&self.section)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_keeps_the_contract() {
    contract::holds(&Program::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_signed_and_the_program_has_nothing_of_ours_but_that() {
    let program = Program::new();
    program.open().probe(WORKLOAD).await.expect("answers");
    let signed = program.text("signed");
    let [id, timestamp, signature] = signed.split(' ').collect::<Vec<_>>()[..] else {
        panic!("three values: {signed}")
    };
    let mut headers = axum::http::HeaderMap::new();
    for (name, value) in [("webhook-id", id), ("webhook-timestamp", timestamp), ("webhook-signature", signature)] {
        headers.insert(name, value.parse().expect("a header"));
    }
    let webhook = Webhook::new(SECRET).expect("a key");
    webhook.verify(program.text("request").as_bytes(), &headers).expect("the signature of what was sent");
    let environment = program.text("environment");
    for line in environment.lines() {
        let name = line.split('=').next().expect("a name");
        let is_expected =
            name.starts_with("WEBHOOK_") || ["PATH", "HOME", "LANG", "PWD", "OLDPWD", "SHLVL", "_"].contains(&name);
        assert!(is_expected, "it has {name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_none_is_refused() {
    let program = Program::new();
    for (script, said) in [
        ("echo soon", "its answer to a read is not"),
        ("echo '{\"value\": \"many\"}'", "no whole number"),
        ("echo oh no >&2; exit 3", "it says: oh no"),
        ("head -c 70000 /dev/zero", "longer than"),
    ] {
        std::fs::write(program.file("script"), script).expect("writes");
        let error = program.open().probe(WORKLOAD).await.expect_err(script);
        assert_eq!(error.fault, Fault::Refused, "{error}");
        assert!(error.to_string().contains(said), "{error}");
    }
}

/// What a program has started must not go on when its time is over: its change would come behind a newer one.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_program_is_killed_with_its_children() {
    let program = Program::new();
    let script = "cd \"$1\"; sh -c 'echo $$ >child.new; mv child.new child; exec sleep 600' & wait";
    std::fs::write(program.file("script"), script).expect("writes");
    let error = contract::opened(&program.section, Pace::Hurried, program.folder.path())
        .observe(WORKLOAD, EventTime::from_micros(0))
        .await
        .expect_err("too slow");
    assert_eq!(error.fault, Fault::Slow, "{error}");
    let process = PathBuf::from("/proc").join(program.text("child").trim());
    // Its parent is gone: whoever adopts it may leave a dead one on the list for a while.
    let lives = || std::fs::read_to_string(process.join("status")).is_ok_and(|text| !text.contains("State:\tZ"));
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    while lives() {
        assert!(tokio::time::Instant::now() < deadline, "it goes on");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_is_asked_to_let_work_go_before_a_release() {
    let mut program = Program::new();
    program.section += "drain = \"30s\"\n";
    let request = contract::request(1, 1);
    let target = program.open();
    assert_eq!(target.drains_within(), Some(std::time::Duration::from_secs(30)));
    std::fs::write(program.file("script"), "cat >$1/asked; echo '{\"drained\": false, \"left\": \"3 sessions\"}'")
        .expect("writes");
    assert_eq!(target.drain(&request).await.expect("answers"), Drain::Left("3 sessions".to_owned()));
    let asked: serde_json::Value = serde_json::from_str(&program.text("asked")).expect("JSON");
    assert_eq!(asked["type"], "headroom.capacity.drain.v1");
    assert_eq!((&asked["data"]["value"], &asked["data"]["key"]), (&"10".into(), &"later/1".into()));
    std::fs::write(program.file("script"), "echo '{\"drained\": true}'").expect("writes");
    assert_eq!(target.drain(&request).await.expect("answers"), Drain::Done);
    std::fs::write(program.file("script"), "echo yes").expect("writes");
    let error = target.drain(&request).await.expect_err("no answer to a drain");
    assert!(error.to_string().contains("its answer to a drain is not"), "{error}");
}
