//! Where the lake and the checkpoints are kept: a folder, or S3-compatible object storage.
//!
//! Commits and checkpoints are objects that are created once; so a storage must refuse to create an object that is
//! there (`If-None-Match: *`), which [`Storage::probe`] finds out.

use std::path::Path as Folder;
use std::sync::{Arc, Once};

use deltalake::DeltaResult;
use deltalake::logstore::{
    LogStore, LogStoreFactory, ObjectStoreRef, StorageConfig as DeltaConfig, default_logstore, logstore_factories,
};
use futures::TryStreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, PutMode, PutOptions, PutPayload};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::LakeError;

const LAKE: &str = "lake";
const CHECKPOINTS: &str = "checkpoints";
const PROBE: &str = "probe";

/// Where the lake and the checkpoints are kept. Credentials come from the environment: `AWS_ACCESS_KEY_ID`,
/// `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN` and the others of the AWS clients; so do the settings that are empty
/// here: `AWS_ENDPOINT_URL`, `AWS_REGION`, `AWS_ALLOW_HTTP`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StorageConfig {
    /// `s3://bucket/prefix`; empty is the data folder.
    pub url: String,
    /// Of another S3-compatible server than Amazon's, such as `https://s3.example.org`.
    pub endpoint: String,
    /// The region, such as `eu-central-1`.
    pub region: String,
    /// May the endpoint be plain HTTP?
    pub allow_http: bool,
}

/// An opened storage; cheap to clone.
#[derive(Clone, Debug)]
pub struct Storage {
    root: Arc<dyn ObjectStore>,
    /// Ends with a slash.
    url: Url,
}

impl StorageConfig {
    /// Everything that is wrong with these settings, each with its key.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !self.url.is_empty() && parsed(&self.url).is_none() {
            problems.push(format!(
                "url: `{}` is no s3://BUCKET or s3://BUCKET/PREFIX; leave it empty for the data folder",
                self.url
            ));
        }
        let is_http = |endpoint: &str| endpoint.starts_with("http://") || endpoint.starts_with("https://");
        if !self.endpoint.is_empty() && !is_http(&self.endpoint) {
            problems
                .push(format!("endpoint: `{}` is no address: write https://HOST or http://HOST:PORT", self.endpoint));
        }
        if self.endpoint.starts_with("http://") && !self.allow_http {
            problems.push(
                "allow_http: the endpoint is plain HTTP: set allow_http = true if that is what you want".to_owned(),
            );
        }
        problems
    }

    /// Is it the data folder?
    #[must_use]
    pub fn is_folder(&self) -> bool {
        self.url.is_empty()
    }
}

impl Storage {
    /// Opens the storage, or else the folder, whose sub-folders are created as they are needed.
    ///
    /// # Errors
    /// When the settings or the folder cannot be used. Nothing is read yet.
    pub fn open(config: &StorageConfig, folder: &Folder) -> Result<Self, LakeError> {
        if config.is_folder() {
            return Self::in_folder(folder);
        }
        Self::in_bucket(config, AmazonS3Builder::from_env())
    }

    fn in_bucket(config: &StorageConfig, keys: AmazonS3Builder) -> Result<Self, LakeError> {
        let failed = |problem: String| LakeError::Storage { url: config.url.clone(), problem };
        let url = parsed(&config.url).ok_or_else(|| failed("write s3://BUCKET or s3://BUCKET/PREFIX".to_owned()))?;
        let mut builder = keys.with_url(config.url.clone());
        if !config.endpoint.is_empty() {
            builder = builder.with_endpoint(config.endpoint.clone());
        }
        if !config.region.is_empty() {
            builder = builder.with_region(config.region.clone());
        }
        if config.allow_http {
            builder = builder.with_allow_http(true);
        }
        let root = builder.build().map_err(|error| failed(error.to_string()))?;
        register();
        Ok(Self { root: Arc::new(root), url })
    }

    fn in_folder(folder: &Folder) -> Result<Self, LakeError> {
        let failed = |problem: String| LakeError::Storage { url: folder.display().to_string(), problem };
        let absolute = folder.canonicalize().map_err(|error| failed(error.to_string()))?;
        let url = Url::from_directory_path(&absolute).map_err(|()| failed("not a folder".to_owned()))?;
        Ok(Self { root: Arc::new(LocalFileSystem::new()), url })
    }

    /// Where the lake is; ends with a slash.
    #[must_use]
    pub fn lake_url(&self) -> Url {
        let mut url = self.url.clone();
        url.set_path(&format!("{}{LAKE}/", self.url.path()));
        url
    }

    /// The store of the processor's checkpoints.
    #[must_use]
    pub fn checkpoints(&self) -> Arc<dyn ObjectStore> {
        Arc::new(PrefixStore::new(Arc::clone(&self.root), self.path(CHECKPOINTS)))
    }

    /// The store, unless it is a folder, which Delta opens by itself.
    pub(crate) fn remote(&self) -> Option<Arc<dyn ObjectStore>> {
        (self.url.scheme() != "file").then(|| Arc::clone(&self.root))
    }

    /// Finds out whether the storage can be reached, written, and refuses to create an object twice.
    ///
    /// # Errors
    /// Says which of these does not hold, and what to look at.
    pub async fn probe(&self) -> Result<(), LakeError> {
        let path = self.path(PROBE);
        let put = || {
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            self.root.put_opts(&path, PutPayload::from_static(b"headroom"), options)
        };
        match put().await {
            Ok(_) | Err(object_store::Error::AlreadyExists { .. }) => {}
            Err(error) => return Err(self.unusable(&error)),
        }
        match put().await {
            Err(object_store::Error::AlreadyExists { .. }) => Ok(()),
            Err(error) => Err(self.unusable(&error)),
            Ok(_) => Err(LakeError::Storage {
                url: self.url.to_string(),
                problem:
                    "it creates an object that is there already, so two writers would overwrite each other: use a \
                          server that obeys `If-None-Match: *`"
                        .to_owned(),
            }),
        }
    }

    /// Finds out whether the storage can be read and holds a lake.
    ///
    /// # Errors
    /// When it cannot be reached or has no lake.
    pub async fn find_lake(&self) -> Result<(), LakeError> {
        let mut listed = self.root.list(Some(&self.path(LAKE)));
        match listed.try_next().await {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(LakeError::Missing {
                location: self.lake_url().to_string(),
                reason: "nothing is stored there".to_owned(),
            }),
            Err(error) => Err(self.unusable(&error)),
        }
    }

    fn path(&self, below: &str) -> Path {
        let root = Path::from_url_path(self.url.path()).unwrap_or_default();
        root.join(below)
    }

    fn unusable(&self, error: &object_store::Error) -> LakeError {
        let problem = format!(
            "{error}: are the bucket, storage.endpoint, storage.region and the credentials (AWS_ACCESS_KEY_ID, \
             AWS_SECRET_ACCESS_KEY) right?"
        );
        LakeError::Storage { url: self.url.to_string(), problem }
    }
}

/// `s3://bucket/prefix` with a slash at the end.
fn parsed(text: &str) -> Option<Url> {
    let url = Url::parse(&format!("{}/", text.trim_end_matches('/'))).ok()?;
    let is_bucket = url.scheme() == "s3" && url.host_str().is_some_and(|host| !host.is_empty());
    (is_bucket && url.query().is_none() && url.fragment().is_none()).then_some(url)
}

/// Delta's log on S3 is the one of any store that creates an object only once.
#[derive(Debug)]
struct S3Log;

impl LogStoreFactory for S3Log {
    fn with_options(
        &self,
        prefixed_store: ObjectStoreRef,
        root_store: ObjectStoreRef,
        location: &Url,
        options: &DeltaConfig,
    ) -> DeltaResult<Arc<dyn LogStore>> {
        Ok(default_logstore(prefixed_store, root_store, location, options))
    }
}

fn register() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if let Ok(scheme) = Url::parse("s3://") {
            logstore_factories().insert(scheme, Arc::new(S3Log));
        }
    });
}

#[cfg(test)]
mod server_tests;
#[cfg(test)]
mod tests;
