//! A real kube-apiserver over a real etcd, without nodes and without controllers: what would serve is said by the tests.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use reqwest::{Certificate, Client, Method};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::process::{self, Process};

/// The token of who may do everything, and of who may see and change Deployments.
pub(crate) const ADMIN: &str = "a-token-that-nobody-may-see";
pub(crate) const SCALER: &str = "another-token-that-nobody-may-see";

/// The server, and a way to it without TLS, which can be listened to.
pub(crate) struct Server {
    pub(crate) folder: TempDir,
    pub(crate) port: u16,
    /// Without TLS.
    pub(crate) plain_port: u16,
    client: Client,
    apiserver: Mutex<Process>,
    _etcd: Process,
    plain: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let binaries = process::prepared("HEADROOM_TEST_KUBERNETES", "kubernetes-1.36.3/bin");
        let folder = tempfile::tempdir().expect("a temp folder");
        let path = folder.path();
        let (etcd_port, peer_port, port) =
            (process::free_port().await, process::free_port().await, process::free_port().await);
        let mut etcd = Command::new(binaries.join("etcd"));
        etcd.arg("--data-dir").arg(path.join("etcd")).arg("--unsafe-no-fsync");
        for (flag, port) in [("client", etcd_port), ("peer", peer_port)] {
            etcd.arg(format!("--listen-{flag}-urls=http://127.0.0.1:{port}"));
        }
        etcd.arg(format!("--advertise-client-urls=http://127.0.0.1:{etcd_port}"));
        etcd.arg(format!("--initial-advertise-peer-urls=http://127.0.0.1:{peer_port}"));
        etcd.arg(format!("--initial-cluster=default=http://127.0.0.1:{peer_port}"));
        let etcd = Process::start(etcd, "TERM");
        process::listens(etcd_port).await;

        let key = path.join("account.key");
        let made = Command::new("openssl").args(["genrsa", "-out"]).arg(&key).arg("2048").output();
        assert!(made.expect("openssl starts").status.success());
        let tokens = format!("{ADMIN},ann,1,\"system:masters\"\n{SCALER},headroom,2\n");
        std::fs::write(path.join("tokens.csv"), tokens).expect("writes");
        let mut apiserver = Command::new(binaries.join("kube-apiserver"));
        apiserver
            .arg(format!("--etcd-servers=http://127.0.0.1:{etcd_port}"))
            .args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none"])
            .arg(format!("--secure-port={port}"))
            .arg(format!("--cert-dir={}", path.join("certificates").display()))
            .arg(format!("--token-auth-file={}", path.join("tokens.csv").display()))
            .args(["--authorization-mode=RBAC", "--service-cluster-ip-range=10.0.0.0/24"])
            .args(["--disable-admission-plugins=ServiceAccount", "--service-account-issuer=https://headroom.test"])
            .arg(format!("--service-account-key-file={}", key.display()))
            .arg(format!("--service-account-signing-key-file={}", key.display()));
        let apiserver = Mutex::new(Process::start(apiserver, "TERM"));
        let authority = path.join("certificates/apiserver.crt");
        process::until("it has its certificate", async || authority.exists()).await;
        process::listens(port).await;
        let pem = std::fs::read(&authority).expect("reads");
        let authorities = Certificate::from_pem_bundle(&pem).expect("a certificate");
        let client = Client::builder().tls_certs_only(authorities).no_proxy().build().expect("a client");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let plain_port = listener.local_addr().expect("an address").port();
        let router = Router::new().fallback(pass).with_state((client.clone(), port));
        let plain = tokio::spawn(async { axum::serve(listener, router).await.expect("serves") });
        let server = Self { folder, port, plain_port, client, apiserver, _etcd: etcd, plain };
        process::until("it is ready", async || server.ask(Method::GET, "/readyz", None).await.0 == 200).await;
        server
    }

    /// `STOP` freezes it, `CONT` lets it go on.
    pub(crate) fn signal(&self, signal: &str) {
        self.apiserver.lock().expect("no panic").signal(signal);
    }

    pub(crate) fn authority(&self) -> PathBuf {
        self.folder.path().join("certificates/apiserver.crt")
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).expect("writes");
        path
    }

    /// Asks as who may do everything.
    async fn ask(&self, method: Method, path: &str, body: Option<(&str, &Value)>) -> (u16, Value) {
        let url = format!("https://127.0.0.1:{}{path}", self.port);
        let mut request = self.client.request(method, url).bearer_auth(ADMIN).timeout(Duration::from_secs(30));
        if let Some((kind, body)) = body {
            request = request.header("content-type", kind).body(body.to_string());
        }
        let Ok(response) = request.send().await else { return (0, Value::Null) };
        let status = response.status().as_u16();
        let bytes = response.bytes().await.expect("an answer");
        (status, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, object) = self.ask(Method::GET, path, None).await;
        assert_eq!(status, 200, "{path}: {object}");
        object
    }

    /// Makes an object in a list.
    pub(crate) async fn create(&self, path: &str, object: &Value) {
        let (status, told) = self.ask(Method::POST, path, Some(("application/json", object))).await;
        assert_eq!(status, 201, "{path}: {told}");
    }

    pub(crate) async fn delete(&self, path: &str) {
        let (status, told) = self.ask(Method::DELETE, path, None).await;
        assert_eq!(status, 200, "{path}: {told}");
    }

    /// Changes an object, as whoever `path` says; what it is then.
    pub(crate) async fn merge(&self, path: &str, change: &Value) -> Value {
        let (status, object) = self.ask(Method::PATCH, path, Some(("application/merge-patch+json", change))).await;
        assert_eq!(status, 200, "{path}: {object}");
        object
    }

    /// Could it be asked for now?
    pub(crate) async fn exists(&self, path: &str) -> bool {
        self.ask(Method::GET, path, None).await.0 == 200
    }

    /// Lets who has the lesser token do what is said to a resource.
    pub(crate) async fn allow(&self, name: &str, group: &str, resources: &[&str], verbs: &[&str]) {
        let root = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
        let rules = json!([{"apiGroups": [group], "resources": resources, "verbs": verbs}]);
        self.create(&format!("{root}/roles"), &json!({"metadata": {"name": name}, "rules": rules})).await;
        let binding = json!({
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "headroom"}],
        });
        self.create(&format!("{root}/rolebindings"), &binding).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.signal("CONT");
        self.plain.abort();
    }
}

/// Passes a request on, with TLS.
async fn pass(State((client, port)): State<(Client, u16)>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let url = format!("https://127.0.0.1:{port}{}", parts.uri);
    let body = axum::body::to_bytes(body, usize::MAX).await.expect("a body");
    let mut headers = parts.headers;
    headers.remove("host");
    headers.remove("content-length");
    let answer = |status: StatusCode, body: Body| {
        let mut response = Response::new(body);
        *response.status_mut() = status;
        response
    };
    match client.request(parts.method, url).headers(headers).body(body).send().await {
        Ok(told) => {
            let status = told.status();
            match told.bytes().await {
                Ok(bytes) => answer(status, Body::from(bytes)),
                Err(error) => answer(StatusCode::BAD_GATEWAY, Body::from(error.to_string())),
            }
        }
        Err(error) => answer(StatusCode::BAD_GATEWAY, Body::from(error.to_string())),
    }
}

/// A kubeconfig with one context.
pub(crate) fn kubeconfig(server: &str, authority: &Path, user: &str) -> String {
    let authority = authority.display();
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
         clusters:\n- name: c\n  cluster:\n    server: {server}\n    certificate-authority: {authority}\n\
         users:\n- name: u\n  user: {user}\n\
         contexts:\n- name: test\n  context: {{cluster: c, user: u}}\n"
    )
}
