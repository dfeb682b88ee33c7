//! The token that a client sends.

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

/// A connection that sends the token with each call.
pub(crate) type Server = InterceptedService<Channel, Bearer>;

/// A bearer token, or none. It is never printed.
#[derive(Clone, Default)]
pub(crate) struct Bearer(Option<MetadataValue<Ascii>>);

impl Bearer {
    /// A token; none when it cannot stand in a header.
    pub(crate) fn of(token: &str) -> Option<Self> {
        Self::of_header(&format!("Bearer {token}"))
    }

    /// A whole header, passed on.
    pub(crate) fn of_header(header: &str) -> Option<Self> {
        let mut value: MetadataValue<Ascii> = header.parse().ok()?;
        value.set_sensitive(true);
        Some(Self(Some(value)))
    }

    /// Sends it with each call.
    pub(crate) fn over(self, channel: Channel) -> Server {
        InterceptedService::new(channel, self)
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

impl std::fmt::Debug for Bearer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Bearer(..)" } else { "no token" })
    }
}
