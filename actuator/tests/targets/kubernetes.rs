//! Objects of a real Kubernetes API: the contract over the scale subresource and over a field by its path, who owns what,
//! who may do what, and the ways to say who asks.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine;
use headroom_actuator::{ApplyRequest, Fault, Target};
use headroom_proto::EventTime;
use serde_json::{Value, json};

use super::contract::{self, Bench, Pace, Trouble, WORKLOAD, request};
use super::kubernetes_server::{ADMIN, SCALER, Server, kubeconfig};
use super::process;
use super::tap::{Tap, Way};

const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/default/deployments/shop";
const CLUSTER: &str = "/apis/postgresql.cnpg.io/v1/namespaces/default/clusters/shop";
const HPA: &str = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers/shop";
const POLICIES: &str = "/apis/admissionregistration.k8s.io/v1";

/// One number of one object.
struct Object<'a> {
    server: &'a Server,
    tap: Tap,
    /// Its address, and the members that lead to the number.
    address: &'static str,
    way: [&'static str; 2],
    section: String,
    can_be_unset: bool,
    /// What a body has that sets the number.
    word: &'static str,
    /// What a policy must match to undo it.
    matched: Value,
}

/// Makes what the tests change.
async fn furnish(server: &Server) {
    let template = json!({
        "metadata": {"labels": {"app": "shop"}},
        "spec": {"containers": [{"name": "shop", "image": "shop:1"}]},
    });
    let spec = json!({"replicas": 20, "selector": {"matchLabels": {"app": "shop"}}, "template": template});
    let deployment = json!({"metadata": {"name": "shop", "labels": {"team": "a"}}, "spec": spec});
    server.create("/apis/apps/v1/namespaces/default/deployments?fieldManager=helm", &deployment).await;
    let set = json!({"metadata": {"name": "shop"}, "spec": spec});
    server.create("/apis/apps/v1/namespaces/default/statefulsets", &set).await;
    let scaled = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "shop"});
    let hpa = json!({"metadata": {"name": "shop"}, "spec": {"maxReplicas": 60, "scaleTargetRef": scaled}});
    server.create("/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers", &hpa).await;
    // The names, the number and the scale of CloudNativePG; the rest of its fields play no part.
    let definition = json!({
        "metadata": {"name": "clusters.postgresql.cnpg.io"},
        "spec": {
            "group": "postgresql.cnpg.io",
            "scope": "Namespaced",
            "names": {"kind": "Cluster", "plural": "clusters", "singular": "cluster"},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "properties": {
                        "instances": {"type": "integer"}, "imageName": {"type": "string"},
                    }},
                    "status": {"type": "object", "properties": {
                        "instances": {"type": "integer"}, "readyInstances": {"type": "integer"},
                    }},
                }}},
                "subresources": {"status": {}, "scale": {
                    "specReplicasPath": ".spec.instances", "statusReplicasPath": ".status.instances",
                }},
            }],
        },
    });
    server.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition).await;
    let clusters = "/apis/postgresql.cnpg.io/v1/namespaces/default/clusters";
    process::until("the resource is served", async || server.exists(clusters).await).await;
    let cluster = json!({
        "apiVersion": "postgresql.cnpg.io/v1", "kind": "Cluster",
        "metadata": {"name": "shop"}, "spec": {"instances": 20, "imageName": "postgresql:18"},
    });
    server.create(clusters, &cluster).await;
}

impl<'a> Object<'a> {
    async fn deployment(server: &'a Server) -> Self {
        let tap = Tap::to(server.plain_port).await;
        let section = section("apps/v1", "deployments", &reached(server, &tap));
        Self {
            server,
            tap,
            address: DEPLOYMENT,
            way: ["spec", "replicas"],
            section,
            can_be_unset: false,
            word: "\"kind\":\"Scale\"",
            matched: json!({"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments/scale"]}),
        }
    }

    async fn cluster(server: &'a Server) -> Self {
        let tap = Tap::to(server.plain_port).await;
        let section = section("postgresql.cnpg.io/v1", "clusters", &reached(server, &tap));
        Self {
            server,
            tap,
            address: CLUSTER,
            way: ["spec", "instances"],
            section: format!("path = [\"spec\", \"instances\"]\n{section}"),
            can_be_unset: true,
            word: "\"spec\":{\"instances\"",
            matched: json!({"apiGroups": ["postgresql.cnpg.io"], "apiVersions": ["v1"], "resources": ["clusters"]}),
        }
    }

    fn pointer(&self) -> String {
        format!("/{}", self.way.join("/"))
    }

    async fn number(&self) -> Option<u64> {
        self.server.get(self.address).await.pointer(&self.pointer()).and_then(Value::as_u64)
    }

    /// An admission policy of the cluster: whoever sets the number, it stays what it was.
    async fn set_lies(&self, lies: bool) {
        let policy = json!({"metadata": {"name": "stays"}, "spec": {
            "matchConstraints": {"resourceRules": [{
                "apiGroups": self.matched.get("apiGroups"), "apiVersions": self.matched.get("apiVersions"),
                "resources": self.matched.get("resources"), "operations": ["UPDATE"],
            }]},
            "failurePolicy": "Fail",
            "reinvocationPolicy": "Never",
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": format!(
                "[JSONPatch{{op: \"replace\", path: \"{0}\", value: oldObject.{1}}}]", self.pointer(), self.way.join(".")
            )}}],
        }});
        let binding = json!({"metadata": {"name": "stays"}, "spec": {"policyName": "stays"}});
        let lists = [("mutatingadmissionpolicies", policy), ("mutatingadmissionpolicybindings", binding)];
        for (list, object) in lists {
            if lies {
                self.server.create(&format!("{POLICIES}/{list}"), &object).await;
            } else {
                self.server.delete(&format!("{POLICIES}/{list}/stays")).await;
            }
        }
        // It counts some time after it is there.
        let suffix = if self.word.contains("Scale") { "/scale" } else { "" };
        let probe = format!("{}{suffix}?dryRun=All", self.address);
        let field = if suffix.is_empty() { self.way[1] } else { "replicas" };
        for _ in 0..1_000 {
            let told = self.server.merge(&probe, &json!({"spec": {field: 777}})).await;
            if (told.pointer(&format!("/spec/{field}")) != Some(&json!(777))) == lies {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        unreachable!("the policy should count by now");
    }
}

/// A kubeconfig that leads through the tap.
fn reached(server: &Server, tap: &Tap) -> String {
    let text =
        kubeconfig(&format!("http://127.0.0.1:{}", tap.port), &server.authority(), &format!("{{token: {ADMIN}}}"));
    let path = server.write(&format!("kubeconfig-{}", tap.port), &text);
    format!("kubeconfig = \"{}\"", path.display())
}

fn section(api_version: &str, resource: &str, cluster: &str) -> String {
    format!(
        "kind = \"kubernetes\"\napi_version = \"{api_version}\"\nresource = \"{resource}\"\nnamespace = \"default\"\n\
         name = \"shop\"\nper_unit = 10\nforce = true\ncluster = {{ {cluster} }}\n"
    )
}

#[async_trait]
impl Bench for Object<'_> {
    fn open_at(&self, pace: Pace) -> Arc<dyn Target> {
        contract::opened(&self.section, pace, self.server.folder.path())
    }

    /// Everything that is asked for in the object, and everything that is noted on it but the record of changes.
    async fn actual(&self) -> String {
        let mut object = self.server.get(self.address).await;
        let mut annotations = object.pointer("/metadata/annotations").cloned().unwrap_or(json!({}));
        annotations.as_object_mut().expect("annotations").retain(|key, _| !key.starts_with("headroom.io/"));
        let labels = object.pointer("/metadata/labels").cloned();
        format!("{} {labels:?} {annotations}", object["spec"].take())
    }

    async fn by_hand(&self, number: Option<u64>) {
        let address = format!("{}?fieldManager=kubectl-edit", self.address);
        self.server.merge(&address, &json!({ self.way[0]: {self.way[1]: number} })).await;
    }

    async fn serves(&self) {
        let number = self.number().await.unwrap_or(0);
        let status =
            json!({"replicas": number, "readyReplicas": number, "instances": number, "readyInstances": number});
        self.server.merge(&format!("{}/status", self.address), &json!({"status": status})).await;
    }

    fn per_unit(&self) -> u64 {
        10
    }

    fn can_be_unset(&self) -> bool {
        self.can_be_unset
    }

    fn troubles(&self) -> &[Trouble] {
        &[Trouble::Away, Trouble::Slow, Trouble::CutBefore, Trouble::CutAfter, Trouble::Lies]
    }

    async fn trouble(&self, trouble: Option<Trouble>) {
        self.tap.set(match trouble {
            Some(Trouble::Away) => Way::Shut,
            Some(Trouble::CutBefore) => Way::CutBefore(self.word),
            Some(Trouble::CutAfter) => Way::CutAfter(self.word),
            Some(Trouble::Slow | Trouble::Lies) | None => Way::Open,
        });
        match trouble {
            Some(Trouble::Slow) => self.server.signal("STOP"),
            Some(Trouble::Lies) => self.set_lies(true).await,
            None => {
                self.server.signal("CONT");
                if self.server.exists(&format!("{POLICIES}/mutatingadmissionpolicies/stays")).await {
                    self.set_lies(false).await;
                }
            }
            Some(Trouble::Away | Trouble::CutBefore | Trouble::CutAfter) => {}
        }
    }

    fn secrets(&self) -> Vec<String> {
        vec![ADMIN.to_owned()]
    }

    fn printed(&self) -> String {
        contract::printed(&self.section)
    }
}

fn target(server: &Server, section: &str) -> Arc<dyn Target> {
    contract::opened(section, Pace::Patient, server.folder.path())
}

/// With TLS, as the one who is let scale Deployments and nothing else.
fn as_scaler(server: &Server, api_version: &str, resource: &str) -> String {
    let token = server.write("token", SCALER);
    let cluster = format!(
        "server = \"https://127.0.0.1:{}\", ca_file = \"{}\", token = {{ file = \"{}\" }}",
        server.port,
        server.authority().display(),
        token.display()
    );
    section(api_version, resource, &cluster)
}

/// Everything in one test, since a server takes its time to start.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an API server that takes long to build: `tests/run all` does"]
async fn objects_of_a_real_kubernetes_keep_the_contract() {
    let server = Server::start().await;
    furnish(&server).await;
    contract::holds(&Object::deployment(&server).await).await;
    contract::holds(&Object::cluster(&server).await).await;
    rights_are_asked_for_and_named(&server).await;
    what_somebody_else_owns_is_not_taken(&server).await;
    the_minimum_of_an_autoscaler_is_a_number_too(&server).await;
    actuators_that_share_nothing_are_told_apart(&server).await;
    the_ways_to_say_who_asks(&server).await;
}

async fn rights_are_asked_for_and_named(server: &Server) {
    let section = as_scaler(server, "apps/v1", "statefulsets");
    let target = target(server, &section);
    let error = target.probe(WORKLOAD).await.expect_err("nothing is allowed");
    assert_eq!(error.fault, Fault::Refused, "{error}");
    let said = error.to_string();
    assert!(said.contains("cannot get resource \"statefulsets\"") && said.contains("must be allowed"), "{said}");
    server.allow("see", "apps", &["statefulsets", "statefulsets/scale", "deployments"], &["get"]).await;
    process::until("it may read", async || target.observe(WORKLOAD, EventTime::MIN).await.is_ok()).await;
    let before = server.get("/apis/apps/v1/namespaces/default/statefulsets/shop").await;
    let error = target.probe(WORKLOAD).await.expect_err("it may not change it");
    assert!(error.to_string().contains("cannot patch resource \"statefulsets\""), "{error}");
    let all = ["statefulsets", "statefulsets/scale", "deployments", "deployments/scale"];
    server.allow("scale", "apps", &all, &["get", "patch"]).await;
    process::until("it may change it", async || target.probe(WORKLOAD).await.is_ok()).await;
    let after = server.get("/apis/apps/v1/namespaces/default/statefulsets/shop").await;
    assert_eq!(before, after, "a probe changes nothing");
    let applied = target.apply(&request(3, 1)).await.expect("takes it");
    assert_eq!((applied.before.as_str(), applied.after.as_str()), ("replicas=20", "replicas=30"));
    let state = target.observe(WORKLOAD, EventTime::MIN).await.expect("answers");
    assert_eq!((state.ready, state.commanded), (0, 3), "nothing serves without a node: {state:?}");
    let error = target_of_nothing(server).probe(WORKLOAD).await.expect_err("it is not there");
    assert!(error.fault == Fault::Refused && error.to_string().contains("not found"), "{error}");
}

fn target_of_nothing(server: &Server) -> Arc<dyn Target> {
    target(server, &as_scaler(server, "apps/v1", "deployments").replace("name = \"shop\"", "name = \"shoes\""))
}

async fn what_somebody_else_owns_is_not_taken(server: &Server) {
    let applied = json!({"spec": {"replicas": 7}});
    server.merge(&format!("{DEPLOYMENT}?fieldManager=argocd"), &applied).await;
    let section = as_scaler(server, "apps/v1", "deployments");
    let polite = target(server, &section.replace("force = true\n", ""));
    let error = polite.apply(&request(3, 11)).await.expect_err("it is argocd's");
    assert_eq!(error.fault, Fault::Refused, "{error}");
    let said = error.to_string();
    assert!(said.contains(".spec.replicas belongs to \"argocd\"") && said.contains("force = true"), "{said}");
    assert_eq!(server.get(DEPLOYMENT).await["spec"]["replicas"], 7);
    target(server, &section).apply(&request(4, 12)).await.expect("by force");
    let object = server.get(DEPLOYMENT).await;
    assert_eq!(object["spec"]["replicas"], 40);
    let managers: Vec<&Value> = object["metadata"]["managedFields"].as_array().expect("managers").iter().collect();
    let ours = managers.iter().find(|entry| entry["manager"] == "headroom.it").expect("it is ours now");
    assert_eq!((&ours["operation"], &ours["subresource"]), (&json!("Apply"), &json!("scale")));
    polite.apply(&request(5, 13)).await.expect("it owns it since");
}

async fn the_minimum_of_an_autoscaler_is_a_number_too(server: &Server) {
    let tap = Tap::to(server.plain_port).await;
    let section = section("autoscaling/v2", "horizontalpodautoscalers", &reached(server, &tap));
    let target = target(server, &section);
    let three = request(3, 21);
    assert_eq!(target.apply(&three).await.expect("takes it").after, "minReplicas=30");
    let status = json!({"status": {"currentReplicas": 25, "desiredReplicas": 30}});
    server.merge(&format!("{HPA}/status"), &status).await;
    let state = target.observe(WORKLOAD, EventTime::MIN).await.expect("answers");
    assert_eq!((state.ready, state.commanded), (2, 3));
    let error = target.apply(&request(7, 22)).await.expect_err("its maximum is 60");
    assert!(error.fault == Fault::Refused && error.to_string().contains("minReplicas"), "{error}");
    let undo = ApplyRequest { undoes: Some(three.idempotency_key), ..request(1, 23) };
    target.apply(&undo).await.expect("undone");
    assert_eq!(server.get(HPA).await["spec"]["minReplicas"], 1, "what the API gives when nobody says anything");
}

/// Two actuators whose folders are not shared: no lock holds one off, only the version of the object does.
async fn actuators_that_share_nothing_are_told_apart(server: &Server) {
    let section = as_scaler(server, "apps/v1", "deployments");
    let folders = [tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder")];
    let [one, other] = &folders.each_ref().map(|folder| contract::opened(&section, Pace::Patient, folder.path()));
    for round in 0..10_u64 {
        let (older, newer) = (request(3, 100 + 2 * round), request(6, 101 + 2 * round));
        let outcomes = tokio::join!(one.apply(&older), other.apply(&newer));
        if let Err(error) = outcomes.0 {
            assert!(matches!(error.fault, Fault::Fenced | Fault::Away | Fault::HalfDone), "{error}");
        }
        if let Err(error) = outcomes.1 {
            assert!(error.fault.is_passing(), "{error}");
            other.apply(&newer).await.expect("asked again, it is done");
        }
        let again = one.apply(&older).await;
        assert!(again.is_ok() || again.is_err_and(|error| error.fault == Fault::Fenced));
        assert_eq!(server.get(DEPLOYMENT).await["spec"]["replicas"], 60, "round {round}: the newer stands");
    }
}

async fn the_ways_to_say_who_asks(server: &Server) {
    let https = format!("https://127.0.0.1:{}", server.port);
    let data = base64::engine::general_purpose::STANDARD.encode(std::fs::read(server.authority()).expect("reads"));
    let script = server.write("get-token", &format!(
        "#!/bin/sh\ncase \"$KUBERNETES_EXEC_INFO$1$MORE\" in *ExecCredential*onemore) ;; *) echo no $KUBERNETES_EXEC_INFO >&2; exit 3;; esac\n\
         echo '{{\"kind\": \"ExecCredential\", \"status\": {{\"token\": \"{SCALER}\"}}}}'\n"
    ));
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("may");
    server.write("token", SCALER);
    let by_file = kubeconfig(&https, &server.authority(), "{tokenFile: token}");
    let with_data = by_file
        .replace("certificate-authority:", "certificate-authority-data:")
        .replace(&server.authority().display().to_string(), &data);
    let by_program = kubeconfig(
        &https,
        &server.authority(),
        "\n    exec: {command: ./get-token, args: [one], env: [{name: MORE, value: more}]}",
    );
    let probe = async |text: &str, more: &str| {
        let path = server.write("kubeconfig", text);
        let cluster = format!("kubeconfig = \"{}\"{more}", path.display());
        let outcome = target(server, &section("apps/v1", "deployments", &cluster)).probe(WORKLOAD).await;
        outcome.map_err(|error| error.to_string())
    };
    for text in [&by_file, &with_data, &by_program] {
        assert_eq!(probe(text, "").await, Ok(()), "{text}");
    }
    assert_eq!(probe(&by_file, ", context = \"test\"").await, Ok(()));
    let elsewhere = server.write("other.crt", include_str!("other.crt"));
    let wrong_authority = kubeconfig(&https, &elsewhere, "{tokenFile: token}");
    for (text, more, said) in [
        (by_file.clone(), ", context = \"prod\"", "no context `prod`: test"),
        (by_file.replace("cluster: c,", "cluster: d,"), "", "no cluster `d`: c"),
        (by_file.replace("tokenFile: token", "tokenFile: nothing"), "", "No such file"),
        (by_file.replace("tokenFile: token", "token: a-wrong-word"), "", "does not know who asks"),
        (by_program.replace("value: more", "value: less"), "", "ends with exit status: 3; it says: no"),
        (by_file.replace("    server:", "    insecure-skip-tls-verify: true\n    server:"), "", "not followed"),
        (by_file.replace("https://127.0.0.1", "http://192.0.2.1"), "", "must be https"),
        ("clusters: none\n".to_owned(), "", "no kubeconfig"),
        (wrong_authority, "", "certificate"),
    ] {
        let told = probe(&text, more).await.expect_err(said);
        assert!(told.contains(said) && !told.contains("a-wrong-word") && !told.contains(SCALER), "{said}: {told}");
    }
}
