//! An S3-compatible server, which `tests/run` names.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use object_store::aws::AmazonS3Builder;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};

use crate::kafka::free_port;

const KEYS: [&str; 2] = ["test-key", "test-secret"];

/// A server, stopped when it is dropped.
pub(crate) struct Server {
    child: Child,
    endpoint: String,
    _folder: tempfile::TempDir,
}

impl Server {
    /// Starts what `HEADROOM_TEST_S3` names; none without it.
    pub(crate) fn start() -> Option<Self> {
        let program = std::env::var_os("HEADROOM_TEST_S3")?;
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = Command::new(program);
        command.arg(folder.path()).args([free_port().to_string(), free_port().to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the server starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("its output")).read_line(&mut line).expect("a line");
        let endpoint = line.trim().strip_prefix("ready ").expect("the server is ready").to_owned();
        Some(Self { child, endpoint, _folder: folder })
    }

    /// What a program needs to use a bucket of this server, which is there from then on.
    pub(crate) async fn environment(&self) -> Vec<(&'static str, String)> {
        let bucket = AmazonS3Builder::new()
            .with_url("s3://headroom")
            .with_endpoint(&self.endpoint)
            .with_region("us-east-1")
            .with_allow_http(true)
            .with_access_key_id(KEYS[0])
            .with_secret_access_key(KEYS[1])
            .build()
            .expect("a client");
        // To put an object without a name makes the bucket. The client misses an ETag in the answer, and that is all.
        bucket.put(&Path::default(), PutPayload::default()).await.ok();
        vec![
            ("HEADROOM_PROCESSOR_BUCKET", "s3://headroom/exactly-once".to_owned()),
            ("AWS_ENDPOINT_URL", self.endpoint.clone()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
            ("AWS_ACCESS_KEY_ID", KEYS[0].to_owned()),
            ("AWS_SECRET_ACCESS_KEY", KEYS[1].to_owned()),
        ]
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().ok();
    }
}
