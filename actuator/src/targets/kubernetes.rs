//! A number of an object in Kubernetes: the replicas of whatever has the scale subresource (a Deployment, a StatefulSet, a
//! custom resource such as CloudNativePG's `Cluster`), or a field by its path (a HorizontalPodAutoscaler's `minReplicas`).
//!
//! It is set by server-side apply, under a field manager of the target's name, so that the cluster knows who owns it. What
//! somebody else owns is not taken: the refusal says whose it is, and `force = true` overrides it. The record of changes is
//! an annotation of the object, so every actuator sees it; each write holds for the version of the object that was read, so
//! of two at once one has to look again.
//!
//! Access to `get` and `patch` of the object, and of its `scale` when that is used, is all that is needed.

mod access;
mod api;
mod kubeconfig;
mod yaml;

use std::fs::File;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use headroom_proto::time::{Span, span_text};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::api::{Api, Manner, Refusal};
use super::governed::{Failure, Governed, Knob, Patience, Reading, Setting};
use super::ledger::{self, Entry, Ledger};
use crate::{Fault, Fence, Target};

pub use access::ClusterSettings;

/// How often a write is made anew when the object has changed meanwhile: controllers write its status all the time.
const ATTEMPTS: usize = 8;

/// Settings of a number of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KubernetesConfig {
    /// Group and version: `apps/v1`.
    pub api_version: String,
    /// The resource as its address has it: `deployments`.
    pub resource: String,
    /// Where the object is.
    pub namespace: String,
    /// The object's name.
    pub name: String,
    /// The way to the number, such as `["spec", "instances"]`; without one the scale subresource is used, or `minReplicas`
    /// of a HorizontalPodAutoscaler.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub path: Vec<String>,
    /// The way to the number that serves; known for the resources of `apps` and `autoscaling` and for CloudNativePG, else
    /// what the scale subresource reports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ready: Vec<String>,
    /// Take the number over from others who own it.
    #[serde(default)]
    pub force: bool,
    /// Which cluster; without a word the one that this program runs in.
    #[serde(default)]
    pub cluster: ClusterSettings,
    /// Of the number, in one unit.
    #[serde(default = "super::one")]
    pub per_unit: u32,
    /// A change or a question takes no longer.
    #[serde(default = "super::default_timeout", with = "span_text")]
    pub timeout: Span,
    /// A change is reported within this time.
    #[serde(default = "super::default_settle", with = "span_text")]
    pub settle: Span,
}

/// The number.
struct Number {
    config: KubernetesConfig,
    /// The object's address, below that of the server.
    object: String,
    /// The way to it; none for the scale subresource.
    path: Option<Vec<String>>,
    /// The way to what serves; none for what the scale subresource reports.
    ready: Option<Vec<String>>,
    /// Who owns the number, and who the record.
    manager: String,
    recorder: String,
    annotation: String,
    /// For the lock that others on this machine respect.
    journal: PathBuf,
}

/// The object as it was read last.
struct Session {
    api: Api,
    object: Value,
    lock: Option<File>,
}

/// A target over the number; `folder` is for a lock.
pub(super) fn open(name: &str, config: &KubernetesConfig, folder: &Path) -> impl Target + 'static {
    let (group, resource) = (config.api_version.as_str(), config.resource.as_str());
    let root = if group.contains('/') { "apis" } else { "api" };
    let (path, ready) = config.ways();
    let knob = Number {
        config: config.clone(),
        object: format!("/{root}/{group}/namespaces/{}/{resource}/{}", config.namespace, config.name),
        path,
        ready,
        manager: format!("headroom.{name}"),
        recorder: format!("headroom.{name}.changes"),
        annotation: format!("headroom.io/{name}"),
        journal: folder.join(format!("{name}.json")),
    };
    Governed::new(name, knob, config.per_unit, Patience::new(config.timeout, config.settle))
}

impl KubernetesConfig {
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = super::common_problems(self.per_unit, self.timeout, self.settle);
        problems.extend(self.cluster.problems().into_iter().map(|problem| format!("cluster: {problem}")));
        let is_name = |text: &str| {
            let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
            !text.is_empty() && text.chars().all(is_plain) && !text.contains("..")
        };
        for (key, text) in [("namespace", &self.namespace), ("name", &self.name)] {
            if !is_name(text) {
                problems.push(format!("`{key}`: `{text}` is no name in Kubernetes"));
            }
        }
        if !is_name(&self.resource) {
            let mend = "write the plural as its address has it, such as `deployments`";
            problems.push(format!("`resource`: `{}` is none: {mend}", self.resource));
        }
        if !self.api_version.split('/').all(is_name) || self.api_version.split('/').count() > 2 {
            problems.push(format!("`api_version`: `{}` is none: write `apps/v1`", self.api_version));
        }
        if self.path.iter().chain(&self.ready).any(|key| key.is_empty() || key.chars().all(|c| c.is_ascii_digit())) {
            problems.push("`path` and `ready` have keys of mappings only, none of them empty".to_owned());
        }
        if self.path.first().is_some_and(|key| key != "spec") {
            problems.push("`path` leads into `spec`".to_owned());
        }
        problems
    }

    /// The ways to the number and to what serves, as far as they are not said but known.
    fn ways(&self) -> (Option<Vec<String>>, Option<Vec<String>>) {
        let group = self.api_version.split_once('/').map_or("", |(group, _)| group);
        let (path, ready) = match (group, self.resource.as_str()) {
            ("apps", _) => (None, Some(["status", "readyReplicas"])),
            ("autoscaling", "horizontalpodautoscalers") => {
                (Some(["spec", "minReplicas"]), Some(["status", "currentReplicas"]))
            }
            ("postgresql.cnpg.io", "clusters") => (None, Some(["status", "readyInstances"])),
            _ => (None, None),
        };
        let said = |said: &Vec<String>, known: Option<[&str; 2]>| {
            let known = known.map(|keys| keys.map(str::to_owned).to_vec());
            if said.is_empty() { known } else { Some(said.clone()) }
        };
        (said(&self.path, path), said(&self.ready, ready))
    }
}

fn at<'a>(object: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(object, |value, key| value.get(key)).filter(|value| !value.is_null())
}

fn text_at<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

impl Number {
    fn scale(&self) -> String {
        format!("{}/scale", self.object)
    }

    async fn look(&self, session: &mut Session) -> Result<(), Failure> {
        session.object = session.api.get(&self.object).await?;
        Ok(())
    }

    /// The record of changes as it stands in the object.
    fn record<'a>(&self, object: &'a Value) -> Option<&'a str> {
        object.pointer("/metadata/annotations")?.get(&self.annotation)?.as_str()
    }

    fn ledger_in(&self, object: &Value) -> Result<Ledger, Failure> {
        let failed = |failure: Failure| {
            let problem = format!("the annotation `{}`: {}", self.annotation, failure.problem);
            Failure { problem, ..failure }
        };
        self.record(object).map_or_else(|| Ok(Ledger::default()), |text| Ledger::parse(text).map_err(failed))
    }

    /// Fields of the object in the version that was read.
    fn fields(&self, object: &Value) -> Value {
        json!({
            "apiVersion": self.config.api_version,
            "kind": object.get("kind"),
            "metadata": {
                "name": self.config.name,
                "namespace": self.config.namespace,
                "resourceVersion": text_at(object, "/metadata/resourceVersion"),
            },
        })
    }

    fn with_record(&self, object: &Value, ledger: &str) -> Value {
        let mut fields = self.fields(object);
        if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("annotations".to_owned(), json!({ self.annotation.as_str(): ledger }));
        }
        fields
    }

    /// The address and the fields that set the number, or take it away.
    fn with_number(&self, object: &Value, setting: &Setting) -> Result<(String, Value), Failure> {
        let not_a_number = |text: &str| Failure::refused(format!("`{text}` is no number"));
        let number = setting.as_ref().map(|text| text.parse::<u64>().map_err(|_| not_a_number(text))).transpose()?;
        let mut fields = self.fields(object);
        let Some(path) = &self.path else {
            merge(&mut fields, &json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "spec": {"replicas": number}}));
            return Ok((self.scale(), fields));
        };
        if let Some(number) = number {
            merge(&mut fields, &path.iter().rev().fold(json!(number), |value, key| json!({ key.as_str(): value })));
        }
        Ok((self.object.clone(), fields))
    }

    /// Applies what `fields` makes of the object. When the object has changed since it was read it is read again: as long as
    /// nobody has been asked for another change, only the version is another.
    async fn apply(
        &self,
        session: &mut Session,
        manner: Manner<'_>,
        fence: Fence,
        fields: impl Fn(&Value) -> Result<(String, Value), Failure> + Send + Sync,
    ) -> Result<(), Failure> {
        for _ in 0..ATTEMPTS {
            let (path, asked) = fields(&session.object)?;
            match session.api.apply(&path, manner, &asked).await {
                Ok(applied) if path == self.object => {
                    session.object = applied;
                    return Ok(());
                }
                Ok(_) => return self.look_again(session, fence).await,
                Err(Refusal::Other(failure)) => return Err(failure),
                Err(Refusal::Changed) => self.look_again(session, fence).await?,
            }
        }
        Err(Failure::new(Fault::Away, format!("{}: it changes all the time", self.object)))
    }

    async fn look_again(&self, session: &mut Session, fence: Fence) -> Result<(), Failure> {
        let known = self.record(&session.object).map(str::to_owned);
        self.look(session).await?;
        if self.record(&session.object) == known.as_deref() {
            return Ok(());
        }
        match self.ledger_in(&session.object)?.newest() {
            Some(newest) if newest.fence > fence => {
                let problem = format!("overtaken: it knows a change of {}, asked for just now", newest.fence);
                Err(Failure::new(Fault::Fenced, problem))
            }
            _ => Err(Failure::new(Fault::Away, "another change was asked for at the same time".to_owned())),
        }
    }

    fn by(&self) -> Manner<'_> {
        Manner { manager: &self.manager, force: self.config.force, dry_run: false }
    }

    /// The annotation is ours alone, whoever has rewritten the object.
    fn by_recorder(&self) -> Manner<'_> {
        Manner { manager: &self.recorder, force: true, dry_run: false }
    }

    fn count(&self, value: &Value) -> Result<u64, Failure> {
        value.as_u64().ok_or_else(|| Failure::refused(format!("{}: {value} is no whole number", self.object)))
    }
}

/// Puts the members of one object into another, and those of what both have likewise.
fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key.as_str()).or_insert(Value::Null), value);
            }
        }
        (into, from) => from.clone_into(into),
    }
}

#[async_trait]
impl Knob for Number {
    type Session = Session;

    async fn open(&self, _workload: &str) -> Result<Session, Failure> {
        let (server, client) = self.config.cluster.access().await?.client()?;
        Ok(Session { api: Api { server, client }, object: Value::Null, lock: None })
    }

    async fn hold(&self, session: &mut Session) -> Result<(), Failure> {
        session.lock = Some(ledger::lock(&self.journal).await?);
        Ok(())
    }

    async fn ledger(&self, session: &mut Session) -> Result<Ledger, Failure> {
        self.look(session).await?;
        self.ledger_in(&session.object)
    }

    async fn keep(&self, session: &mut Session, ledger: &Ledger) -> Result<(), Failure> {
        let Some(newest) = ledger.newest() else { return Ok(()) };
        let text = ledger.text();
        let fields = |object: &Value| Ok((self.object.clone(), self.with_record(object, &text)));
        self.apply(session, self.by_recorder(), newest.fence, fields).await
    }

    async fn read(&self, session: &mut Session) -> Result<Reading, Failure> {
        let known = self.record(&session.object).map(str::to_owned);
        let object = session.api.get(&self.object).await?;
        // Once a turn has begun, what it knows of the record stays until a write finds that it is another.
        if session.object.is_null() || self.record(&object) == known.as_deref() {
            session.object = object.clone();
        }
        let scale = match (&self.path, &self.ready) {
            (Some(_), Some(_)) => Value::Null,
            _ => session.api.get(&self.scale()).await?,
        };
        let replicas = |pointer: &str| scale.pointer(pointer).map_or(Ok(0), |value| self.count(value));
        let number = match &self.path {
            // A scale leaves a zero out.
            None => Some(replicas("/spec/replicas")?),
            Some(path) => at(&object, path).map(|value| self.count(value)).transpose()?,
        };
        let ready = match &self.ready {
            None => replicas("/status/replicas")?,
            Some(path) => at(&object, path).map_or(Ok(0), |value| self.count(value))?,
        };
        let setting = number.map(|number| number.to_string());
        Ok(Reading { setting, commanded: number.unwrap_or(ready), ready, unsettled: None })
    }

    async fn write(&self, session: &mut Session, entry: &Entry) -> Result<(), Failure> {
        let fields = |object: &Value| self.with_number(object, &entry.after);
        self.apply(session, self.by(), entry.fence, fields).await
    }

    fn setting(&self, number: u64) -> Result<String, Failure> {
        Ok(number.to_string())
    }

    fn shown(&self, setting: &Setting) -> String {
        let what = self.path.as_ref().and_then(|path| path.last()).map_or("replicas", String::as_str);
        setting.as_ref().map_or_else(|| format!("no {what}"), |number| format!("{what}={number}"))
    }

    /// Asks for what is there already, as a dry run: rights, admission and owners are checked, and nothing is done.
    async fn ready_for_change(&self, session: &mut Session) -> Result<(), Failure> {
        self.hold(session).await?;
        let reading = self.read(session).await?;
        let Some(setting) = reading.setting.or_else(|| Some("1".to_owned())) else { return Ok(()) };
        let text = self.record(&session.object).unwrap_or("[]").to_owned();
        let record = (self.object.clone(), self.with_record(&session.object, &text), self.by_recorder());
        let (path, fields) = self.with_number(&session.object, &Some(setting))?;
        for (path, fields, manner) in [record, (path, fields, self.by())] {
            match session.api.apply(&path, Manner { dry_run: true, ..manner }, &fields).await {
                // One that has changed since could be changed.
                Ok(_) | Err(Refusal::Changed) => {}
                Err(Refusal::Other(failure)) => return Err(failure),
            }
        }
        Ok(())
    }
}
