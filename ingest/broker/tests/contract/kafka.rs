//! Brokers as processes of their own, started on free ports and killed at the end.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use headroom_ingest_broker::Broker;
use tokio::time::Instant;

const READY_WITHIN: Duration = Duration::from_secs(90);

/// A broker process.
pub(crate) struct Child(std::process::Child);

/// A folder that Apache Kafka has formatted.
pub(crate) struct Formatted {
    libraries: String,
    folder: tempfile::TempDir,
}

/// A running Apache Kafka.
pub(crate) struct Kafka {
    servers: String,
    child: Child,
    _folder: Formatted,
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

/// The embedded broker in a process: this test binary, told to run only that.
#[cfg(feature = "embedded-broker")]
pub(crate) fn embedded_child(port: u16, folder: &Path) -> Child {
    let child = Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", "broker_process", "--nocapture"])
        .env("HEADROOM_BROKER_LISTEN", format!("127.0.0.1:{port}"))
        .env("HEADROOM_BROKER_FOLDER", folder)
        .stdout(Stdio::null())
        .spawn();
    Child(child.expect("starts"))
}

/// A running Apache Kafka, when its libraries are there.
pub(crate) fn start_if_installed() -> Option<Kafka> {
    let folder = formatted_if_installed()?;
    let port = free_port();
    let child = folder.child(port);
    Some(Kafka { servers: format!("127.0.0.1:{port}"), child, _folder: folder })
}

/// A formatted folder, when Apache Kafka's libraries are there.
pub(crate) fn formatted_if_installed() -> Option<Formatted> {
    let libraries: PathBuf = std::env::var_os("HEADROOM_TEST_KAFKA")?.into();
    assert!(libraries.is_dir(), "HEADROOM_TEST_KAFKA: {} is no folder", libraries.display());
    let formatted =
        Formatted { libraries: format!("{}/*", libraries.display()), folder: tempfile::tempdir().expect("a folder") };
    formatted.write_settings(free_port(), free_port());
    let settings = formatted.settings();
    let arguments = ["kafka.tools.StorageTool", "format", "--standalone", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c"];
    let status = formatted.java().args(arguments).arg(&settings).status().expect("java starts");
    assert!(status.success(), "formatting {}", settings.display());
    Some(formatted)
}

impl Formatted {
    /// Apache Kafka on this port, over this folder.
    pub(crate) fn child(&self, port: u16) -> Child {
        self.write_settings(port, free_port());
        Child(self.java().arg("kafka.Kafka").arg(self.settings()).spawn().expect("java starts"))
    }

    fn java(&self) -> Command {
        let mut java = Command::new("java");
        java.args(["-Xmx512m", "-cp", &self.libraries]).stdout(Stdio::null()).stderr(Stdio::null());
        java
    }

    fn settings(&self) -> PathBuf {
        self.folder.path().join("server.properties")
    }

    fn write_settings(&self, port: u16, controller: u16) {
        let text = format!(
            "process.roles=broker,controller\nnode.id=1\n\
             listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
             controller.listener.names=CONTROLLER\n\
             controller.quorum.bootstrap.servers=127.0.0.1:{controller}\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
             offsets.topic.replication.factor=1\ntransaction.state.log.replication.factor=1\n\
             transaction.state.log.min.isr=1\n\
             group.min.session.timeout.ms=1000\ngroup.initial.rebalance.delay.ms=0\nmessage.max.bytes=8388608\nlog.dirs={}\n",
            self.folder.path().join("log").display()
        );
        std::fs::write(self.settings(), text).expect("writes the settings");
    }
}

impl Kafka {
    pub(crate) fn child(&self) -> &Child {
        &self.child
    }

    pub(crate) fn servers(&self) -> &str {
        &self.servers
    }
}

impl Child {
    /// Waits until it answers.
    pub(crate) async fn ready(&self, broker: &Broker) {
        let deadline = Instant::now() + READY_WITHIN;
        while let Err(error) = broker.ensure_topics().await {
            assert!(Instant::now() < deadline, "not ready after {READY_WITHIN:?}: {error}");
        }
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.0.kill().expect("kills");
        self.0.wait().expect("reaps");
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
