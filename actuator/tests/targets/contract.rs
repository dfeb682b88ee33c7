//! What every target keeps to.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use headroom_actuator::targets::simulated::{SimulatedConfig, SimulatedTarget};
use headroom_actuator::{ActuatorConfig, Applied, ApplyRequest, Fault, Fence, Target, TargetError, TargetState};
use headroom_proto::EventTime;
use tokio::time::Instant;

/// The workload of the suite.
pub(crate) const WORKLOAD: &str = "shop";
/// The timeout of those in a hurry.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(3);
/// What an answer may take beyond its timeout on a busy machine.
const GRACE: Duration = Duration::from_secs(30);

/// How long a target waits.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// As long as a busy machine takes.
    Patient,
    /// Not long for an answer.
    Hurried,
    /// Not long for a change to be reported.
    Strict,
}

/// What can be wrong with a system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It is not there.
    Away,
    /// It is there and says nothing.
    Slow,
    /// It goes away in the middle of a change, before the change has its effect.
    CutBefore,
    /// It goes away in the middle of a change, after the change had its effect.
    CutAfter,
    /// It acknowledges a change and does nothing.
    Lies,
}

/// A system, and a target over it.
#[async_trait]
pub(crate) trait Bench: Send + Sync {
    /// A target that knows nothing but what is outside this process: as after a restart.
    fn open_at(&self, pace: Pace) -> Arc<dyn Target>;
    /// The same, with patience.
    fn open(&self) -> Arc<dyn Target> {
        self.open_at(Pace::Patient)
    }
    /// What holds, in the system's own words, asked past our code. Equal words are an equal state.
    async fn actual(&self) -> String;
    /// Somebody sets a number, or takes it away, past our code.
    async fn by_hand(&self, number: Option<u64>);
    /// What is asked for comes to serve, where nobody else in the bench sees to that.
    async fn serves(&self) {}
    /// When its changes are to begin; at once without.
    fn begin_at(&self) -> Option<EventTime> {
        None
    }
    /// The number that 1 unit is.
    fn per_unit(&self) -> u64;
    /// Can there be no value at all?
    fn can_be_unset(&self) -> bool {
        true
    }
    /// Troubles that it can have.
    fn troubles(&self) -> &[Trouble];
    /// Makes trouble; none ends it.
    async fn trouble(&self, trouble: Option<Trouble>);
    /// What must not be printed.
    fn secrets(&self) -> Vec<String> {
        Vec::new()
    }
    /// The configuration as it is printed.
    fn printed(&self) -> String {
        String::new()
    }
}

/// A configuration with that section for the target of the workload.
pub(crate) fn configured(section: &str, pace: Pace) -> ActuatorConfig {
    let (timeout, settle) = match pace {
        Pace::Patient => ("2m", "1m"),
        Pace::Hurried => ("3s", "1s"),
        Pace::Strict => ("2m", "500ms"),
    };
    let limits = format!("timeout = \"{timeout}\"\nsettle = \"{settle}\"");
    let text = format!("[workloads.{WORKLOAD}]\ntarget = \"it\"\n[targets.it]\n{limits}\n{section}");
    let config: ActuatorConfig = toml::from_str(&text).expect("the section is right");
    assert_eq!(config.problems(), Vec::<String>::new());
    config
}

/// The target of that section.
pub(crate) fn opened(section: &str, pace: Pace, folder: &Path) -> Arc<dyn Target> {
    let fallback = SimulatedTarget::open(SimulatedConfig::default(), &folder.join("simulated.json"));
    configured(section, pace).open_targets(Arc::new(fallback.expect("a new one")), folder).of(WORKLOAD)
}

/// A change beyond the suite, in its place among those.
pub(crate) fn request(units: u32, position: u64) -> ApplyRequest {
    let at = EventTime::from_micros(1_800_000_000_000_000);
    ApplyRequest {
        workload: WORKLOAD.to_owned(),
        units,
        idempotency_key: format!("later/{position}"),
        fence: Fence::new(at, position),
        undoes: None,
        at,
        begin_at: None,
    }
}

/// The configuration as `headroom config show` prints it, and as a panic would.
pub(crate) fn printed(section: &str) -> String {
    let config = configured(section, Pace::Patient);
    format!("{config:?}\n{}", toml::to_string_pretty(&config).expect("prints"))
}

/// The suite, over one bench.
pub(crate) struct Suite<'a> {
    bench: &'a dyn Bench,
    position: u64,
    said: Vec<String>,
}

/// Everything that is asked of a target.
pub(crate) async fn holds(bench: &dyn Bench) {
    let mut suite = Suite { bench, position: 0, said: vec![bench.printed()] };
    suite.it_changes_and_reports_the_actual_state().await;
    suite.a_key_counts_once_also_after_a_restart().await;
    suite.what_is_overtaken_is_refused().await;
    suite.of_two_at_once_the_newer_stands().await;
    suite.an_undo_is_exact().await;
    for trouble in bench.troubles() {
        suite.it_stands(*trouble).await;
    }
    for secret in bench.secrets() {
        let told = suite.said.iter().find(|said| said.contains(&secret));
        assert!(told.is_none(), "a secret is printed: {told:?}");
    }
}

fn at(position: u64) -> EventTime {
    EventTime::from_micros(1_790_000_000_000_000 + i64::try_from(position).expect("few"))
}

impl Suite<'_> {
    fn request(&mut self, units: u32) -> ApplyRequest {
        self.position += 1;
        ApplyRequest {
            workload: WORKLOAD.to_owned(),
            units,
            idempotency_key: format!("{WORKLOAD}/{}", self.position),
            fence: Fence::new(at(self.position), self.position),
            undoes: None,
            at: at(self.position),
            begin_at: self.bench.begin_at(),
        }
    }

    fn undo(&mut self, undone: &ApplyRequest) -> ApplyRequest {
        let idempotency_key = format!("{}/rollback", undone.idempotency_key);
        ApplyRequest { idempotency_key, undoes: Some(undone.idempotency_key.clone()), ..self.request(1) }
    }

    /// Asks a target that has just been opened.
    async fn apply(&mut self, request: &ApplyRequest) -> Result<Applied, TargetError> {
        self.apply_at(Pace::Patient, request).await
    }

    async fn apply_at(&mut self, pace: Pace, request: &ApplyRequest) -> Result<Applied, TargetError> {
        let outcome = self.bench.open_at(pace).apply(request).await;
        self.said.push(format!("{outcome:?}"));
        outcome.inspect_err(|error| self.said.push(error.to_string()))
    }

    async fn done(&mut self, request: &ApplyRequest) -> Applied {
        self.apply(request).await.expect(&request.idempotency_key)
    }

    async fn state(&self) -> TargetState {
        self.bench.serves().await;
        self.bench.open().observe(WORKLOAD, at(self.position)).await.expect("answers")
    }

    async fn it_changes_and_reports_the_actual_state(&mut self) {
        self.bench.open().probe(WORKLOAD).await.expect("it is well");
        let three = self.request(3);
        let applied = self.done(&three).await;
        assert_ne!(applied.before, applied.after);
        let state = self.state().await;
        assert_eq!((state.ready, state.commanded, &state.value), (3, 3, &applied.after));
        let after_three = self.bench.actual().await;
        let five = self.request(5);
        assert_eq!(self.done(&five).await.before, applied.after);
        assert_ne!(self.bench.actual().await, after_three);

        // Somebody else changes it: what is reported is what is there, and a unit counts when it is whole.
        self.bench.by_hand(Some(self.bench.per_unit() * 8 - 1)).await;
        let state = self.state().await;
        assert_eq!((state.ready, state.commanded), (7, 7), "{state:?}");
        let three_again = self.request(3);
        self.done(&three_again).await;
        assert_eq!(self.bench.actual().await, after_three);
    }

    async fn a_key_counts_once_also_after_a_restart(&mut self) {
        let (four, six) = (self.request(4), self.request(6));
        let applied = self.done(&four).await;
        let with_four = self.bench.actual().await;
        assert_eq!(self.done(&four).await, applied, "the same answer");
        self.done(&six).await;
        let with_six = self.bench.actual().await;
        assert_eq!(self.done(&four).await, applied, "it happened once");
        assert_eq!(self.bench.actual().await, with_six);
        self.bench.by_hand(Some(self.bench.per_unit() * 4)).await;
        self.done(&six).await;
        assert_eq!(self.bench.actual().await, with_four, "what somebody has set since stays");
    }

    async fn what_is_overtaken_is_refused(&mut self) {
        let (older, newer) = (self.request(2), self.request(7));
        let same_place = ApplyRequest { idempotency_key: "another".to_owned(), units: 9, ..newer.clone() };
        // Both were open before either asked, as two actuators would be.
        let (one, other) = (self.bench.open(), self.bench.open());
        one.apply(&newer).await.expect("takes it");
        let actual = self.bench.actual().await;
        for overtaken in [&older, &same_place] {
            let error = other.apply(overtaken).await.expect_err("overtaken");
            assert_eq!(error.fault, Fault::Fenced, "{error}");
            assert!(!error.fault.is_passing() && error.to_string().contains("overtaken"), "{error}");
            assert_eq!(self.apply(overtaken).await.expect_err("after a restart").fault, Fault::Fenced);
        }
        assert_eq!(self.bench.actual().await, actual);
    }

    async fn of_two_at_once_the_newer_stands(&mut self) {
        let (older, newer) = (self.request(3), self.request(6));
        let (one, other) = (self.bench.open(), self.bench.open());
        let (overtaken, stands) = tokio::join!(one.apply(&older), other.apply(&newer));
        stands.expect("it is the newer");
        if let Err(error) = overtaken {
            assert_eq!(error.fault, Fault::Fenced, "{error}");
        }
        assert_eq!(self.state().await.commanded, 6);
    }

    async fn an_undo_is_exact(&mut self) {
        let odd = self.bench.per_unit() * 5 - 1;
        let mut numbers = vec![Some(odd)];
        numbers.extend(self.bench.can_be_unset().then_some(None));
        for number in numbers {
            self.bench.by_hand(number).await;
            let before = self.bench.actual().await;
            let (first, second) = (self.request(8), self.request(9));
            self.done(&first).await;
            let between = self.bench.actual().await;
            self.done(&second).await;
            let undo = self.undo(&second);
            self.done(&undo).await;
            assert_eq!(self.bench.actual().await, between, "{number:?}");
            let undo = self.undo(&first);
            let undone = self.done(&undo).await;
            assert_eq!(self.bench.actual().await, before, "{number:?}");
            assert_eq!(self.done(&undo).await, undone, "once");
            let never = self.request(9);
            let undo = self.undo(&never);
            self.done(&undo).await;
            assert_eq!(self.bench.actual().await, before, "what never came here has no undoing");
        }
    }

    /// In trouble it fails in time and says how; afterwards the same change is finished, once, and can be undone.
    async fn it_stands(&mut self, trouble: Trouble) {
        self.bench.by_hand(Some(self.bench.per_unit() * 2)).await;
        let before = self.bench.actual().await;
        let change = self.request(4);
        self.bench.trouble(Some(trouble)).await;
        let started = Instant::now();
        let pace = match trouble {
            Trouble::Slow => Pace::Hurried,
            Trouble::Lies => Pace::Strict,
            Trouble::Away | Trouble::CutBefore | Trouble::CutAfter => Pace::Patient,
        };
        let error = self.apply_at(pace, &change).await.expect_err("in trouble");
        assert!(started.elapsed() < TIMEOUT + GRACE, "{trouble:?}: it took {:?}", started.elapsed());
        let expected: &[Fault] = match trouble {
            Trouble::Away => &[Fault::Away],
            Trouble::Slow => &[Fault::Slow],
            Trouble::CutBefore | Trouble::CutAfter => &[Fault::HalfDone],
            Trouble::Lies => &[Fault::NotChanged],
        };
        assert!(expected.contains(&error.fault), "{trouble:?}: {:?}: {error}", error.fault);
        assert!(error.fault.is_passing() && error.to_string().starts_with("target it: "), "{error}");
        if matches!(trouble, Trouble::Away | Trouble::Slow) {
            let target = self.bench.open_at(pace);
            let (observed, probed) = (target.observe(WORKLOAD, at(1)).await, target.probe(WORKLOAD).await);
            let faults = [observed.expect_err("in trouble").fault, probed.expect_err("in trouble").fault];
            assert!(faults.iter().all(|fault| expected.contains(fault)), "{faults:?}");
        }
        self.bench.trouble(None).await;
        self.done(&change).await;
        let state = self.state().await;
        assert_eq!((state.ready, state.commanded), (4, 4), "{trouble:?}");
        let undo = self.undo(&change);
        self.done(&undo).await;
        assert_eq!(self.bench.actual().await, before, "{trouble:?}: back to what was before it was begun");
    }
}
