//! `headroom.v1.SignalService`.

use bytes::Bytes;
use headroom_proto::v1::signal_service_server::SignalService;
use headroom_proto::v1::{ListSignalsRequest, ListSignalsResponse, PublishSignalRequest, PublishSignalResponse};
use tonic::{Request, Response, Status, async_trait};

use super::{EntryError, Incoming, SignalEntry, parse_structured};

const ORIGIN: &str = "grpc:SignalService/Publish";

#[async_trait]
impl SignalService for SignalEntry {
    async fn publish(&self, request: Request<PublishSignalRequest>) -> Result<Response<PublishSignalResponse>, Status> {
        let bytes = Bytes::from(request.into_inner().cloud_event_json);
        let signal = parse_structured(&bytes, self.now());
        let accepted = self.accept(vec![Incoming { signal, bytes, origin: ORIGIN }]).await.map_err(status_of)?;
        let accepted = accepted.into_iter().next().ok_or_else(|| Status::internal("nothing was published"))?;
        Ok(Response::new(PublishSignalResponse { signal_id: accepted.signal_id, revision: accepted.revision }))
    }

    async fn list(&self, _request: Request<ListSignalsRequest>) -> Result<Response<ListSignalsResponse>, Status> {
        let listed = self.inner.listing.signals().await;
        let signals = listed.map_err(|error| status_of(EntryError::from(error)))?;
        Ok(Response::new(ListSignalsResponse { signals }))
    }
}

fn status_of(error: EntryError) -> Status {
    match error {
        EntryError::Invalid(error) => Status::invalid_argument(error.to_string()),
        EntryError::TooMany { .. } => Status::resource_exhausted(error.to_string()),
        EntryError::Away(reason) => {
            tracing::warn!(reason, "a signal was not taken");
            Status::unavailable("the broker is away: send the signal again")
        }
        EntryError::Unwritable(reason) => {
            tracing::error!(reason, "a signal could not be written");
            Status::internal("the signal could not be written")
        }
    }
}
