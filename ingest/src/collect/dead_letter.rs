//! Dead letters: what could not be read, with its bytes, why, and where it came from.

use bytes::Bytes;
use headroom_ingest_broker::Record;
use headroom_proto::topics::Topic;
use headroom_proto::{EventTime, headers};

/// A record for the dead-letter topic; `origin` names the entry point or the place in a file.
pub(crate) fn record(bytes: Bytes, reason: &str, origin: &str, now: EventTime) -> Record {
    let letter = Record::new(Topic::DeadLetter, bytes)
        .header(headers::DEAD_REASON, reason.to_owned())
        .header(headers::DEAD_ORIGIN, origin.to_owned());
    if now > EventTime::MIN { letter.time(now) } else { letter }
}
