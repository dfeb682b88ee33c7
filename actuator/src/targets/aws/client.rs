//! How AWS is reached: the SDK over our own HTTP client, so that there is one TLS in the program, and its errors in our
//! words.

use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::{ConnectorError, SdkError};
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use reqwest::redirect::Policy;
use reqwest::{Client, Method};

use super::AwsSettings;
use crate::Fault;
use crate::targets::governed::Failure;
use crate::targets::webhook::body;

/// An answer of AWS is no longer.
const MAX_ANSWER: usize = 8 * 1024 * 1024;
/// Tries of one call, the first included; what fails beyond is asked again with a later window.
const TRIES: u32 = 2;
/// Codes that say "later": the resource is busy with another change, or too much was asked.
const LATER: [&str; 8] = [
    "InvalidDBClusterStateFault",
    "InvalidDBInstanceState",
    "ConcurrentUpdateException",
    "InternalServiceException",
    "RequestLimitExceeded",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
];

#[derive(Debug)]
struct Connector {
    client: Client,
}

impl AwsSettings {
    /// What a client of a service is made from; who asks is found when something is asked.
    pub(super) async fn load(&self) -> Result<SdkConfig, Failure> {
        let client = Client::builder().redirect(Policy::none()).build();
        let client = client.map_err(|error| Failure::away(&error.without_url()))?;
        let http = over(client);
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new(self.region.clone()))
            .http_client(http.clone())
            .retry_config(RetryConfig::standard().with_max_attempts(TRIES));
        if let Some(endpoint) = &self.endpoint {
            loader = loader.endpoint_url(endpoint);
        }
        if let Some(profile) = &self.profile {
            let region = Some(Region::new(self.region.clone()));
            let config = ProviderConfig::without_region().with_region(region).with_http_client(http);
            let mut provider = ProfileFileCredentialsProvider::builder().configure(&config).profile_name(profile);
            if let Some(file) = &self.credentials_file {
                let files = EnvConfigFiles::builder().with_file(EnvConfigFileKind::Credentials, file).build();
                provider = provider.profile_files(files);
            }
            loader = loader.profile_name(profile).credentials_provider(provider.build());
        }
        Ok(loader.load().await)
    }
}

fn over(client: Client) -> SharedHttpClient {
    http_client_fn(move |_settings, _components| SharedHttpConnector::new(Connector { client: client.clone() }))
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let client = self.client.clone();
        HttpConnectorFuture::new(async move { send(client, request).await })
    }
}

async fn send(client: Client, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
    let user = |problem: String| ConnectorError::user(problem.into());
    let method = Method::from_bytes(request.method().as_bytes()).map_err(|error| user(error.to_string()))?;
    let mut builder = client.request(method, request.uri());
    for (name, value) in request.headers() {
        builder = builder.header(name, value);
    }
    let bytes = request.body().bytes().ok_or_else(|| user("the body is a stream".to_owned()))?;
    let sent = builder.body(bytes.to_vec()).send().await.map_err(|error| error.without_url());
    let answer = sent.map_err(|error| ConnectorError::io(error.into()))?;
    let status = answer.status().as_u16();
    let headers = answer.headers().clone();
    let bytes = body(answer, MAX_ANSWER).await.map_err(|failure| ConnectorError::io(failure.problem.into()))?;
    let status = status.try_into().map_err(|_| user(format!("it answers {status}")))?;
    let mut response = HttpResponse::new(status, SdkBody::from(bytes));
    for (name, value) in &headers {
        if let Ok(value) = value.to_str() {
            response.headers_mut().append(name.as_str().to_owned(), value.to_owned());
        }
    }
    Ok(response)
}

/// Why a call did not do what it should.
pub(super) fn failure<E>(error: SdkError<E, HttpResponse>) -> Failure
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let Some(told) = error.as_service_error() else {
        let failure = Failure::away(&error);
        // It could not even be asked: what is said here is ours to mend.
        let is_ours = matches!(error, SdkError::ConstructionFailure(_));
        return if is_ours { Failure::refused(failure.problem) } else { failure };
    };
    let status = error.raw_response().map_or(0, |response| response.status().as_u16());
    let code = told.code().unwrap_or_default();
    let problem = match told.message() {
        Some(message) => format!("it says {code}: {message}"),
        None => format!("it answers {status} {code}"),
    };
    let is_later = status >= 500 || status == 429 || LATER.contains(&code);
    Failure::new(if is_later { Fault::Away } else { Fault::Refused }, problem)
}
