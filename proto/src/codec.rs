//! Arrow batches as record values.
//!
//! Telemetry travels bare: one encapsulated IPC `RecordBatch` message with LZ4 bodies, its schema named by headers
//! (layout: message length as u32 little endian, four zero bytes, the message, zeros to a multiple of 64, the body).
//! Windows travel as an IPC stream, since their feature columns are the user's.

use std::collections::HashMap;

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::reader::{RecordBatchDecoder, StreamDecoder};
use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteOptions, StreamWriter};
use arrow::ipc::{CompressionType, root_as_message};
use bytes::Bytes;

const PREFIX: usize = 8;
const ALIGNMENT: usize = 64;

/// A value that cannot be written or read as Arrow.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The bytes are not what the headers say.
    #[error("not an Arrow record batch: {0}")]
    Malformed(String),
    /// Arrow refused.
    #[error("arrow: {0}")]
    Arrow(#[from] ArrowError),
}

fn write_options() -> Result<IpcWriteOptions, ArrowError> {
    IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME))
}

/// Writes a batch without its schema.
///
/// # Errors
/// When Arrow cannot encode the batch, or a message exceeds 4 GiB.
pub fn encode_bare(batch: &RecordBatch) -> Result<Bytes, CodecError> {
    let mut dictionaries = DictionaryTracker::new(false);
    let (_, encoded) =
        IpcDataGenerator::default().encode(batch, &mut dictionaries, &write_options()?, &mut Default::default())?;
    let length = u32::try_from(encoded.ipc_message.len())
        .map_err(|_| CodecError::Malformed("message above 4 GiB".to_owned()))?;
    let body_at = (PREFIX + encoded.ipc_message.len()).next_multiple_of(ALIGNMENT);
    let mut out = Vec::with_capacity(body_at + encoded.arrow_data.len());
    out.extend_from_slice(&length.to_le_bytes());
    out.resize(PREFIX, 0);
    out.extend_from_slice(&encoded.ipc_message);
    out.resize(body_at, 0);
    out.extend_from_slice(&encoded.arrow_data);
    Ok(out.into())
}

/// Reads a batch that was written by [`encode_bare`] with this schema.
///
/// # Errors
/// When the bytes are cut short, are no IPC message, or do not fit the schema.
pub fn decode_bare(bytes: &[u8], schema: SchemaRef) -> Result<RecordBatch, CodecError> {
    let malformed = |what: &str| CodecError::Malformed(what.to_owned());
    let prefix = bytes.first_chunk::<4>().ok_or_else(|| malformed("shorter than its prefix"))?;
    let length = usize::try_from(u32::from_le_bytes(*prefix)).map_err(|_| malformed("length out of range"))?;
    let message = bytes.get(PREFIX..PREFIX.saturating_add(length)).ok_or_else(|| malformed("message cut short"))?;
    let message = root_as_message(message).map_err(|error| CodecError::Malformed(error.to_string()))?;
    let header = message.header_as_record_batch().ok_or_else(|| malformed("no record batch in the message"))?;
    let body = bytes.get((PREFIX + length).next_multiple_of(ALIGNMENT)..).ok_or_else(|| malformed("body cut short"))?;
    // Arrow's decoder trusts the buffers' places and would panic on a body that was cut short.
    let has = |start: i64, length: i64| {
        let end = start.checked_add(length).and_then(|end| usize::try_from(end).ok());
        start >= 0 && length >= 0 && end.is_some_and(|end| end <= body.len())
    };
    let is_whole = usize::try_from(message.bodyLength()) == Ok(body.len());
    if !is_whole
        || header.buffers().is_some_and(|buffers| buffers.iter().any(|place| !has(place.offset(), place.length())))
    {
        return Err(malformed("body cut short"));
    }
    let batch = RecordBatchDecoder::try_new(&Buffer::from(body), header, schema, &HashMap::new(), &message.version())?
        .with_require_alignment(false)
        .read_record_batch()?;
    Ok(batch)
}

/// Writes batches of one schema as an IPC stream.
///
/// # Errors
/// When Arrow cannot encode a batch.
pub fn encode_stream(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Bytes, CodecError> {
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), schema, write_options()?)?;
    for batch in batches {
        writer.write(batch)?;
    }
    writer.finish()?;
    Ok(writer.into_inner()?.into())
}

/// Reads an IPC stream.
///
/// # Errors
/// When the bytes are not an IPC stream.
pub fn decode_stream(bytes: &[u8]) -> Result<Vec<RecordBatch>, CodecError> {
    // Not a `StreamReader`: that one believes the lengths in the bytes and reserves memory for them.
    let (mut decoder, mut left) = (StreamDecoder::new(), Buffer::from(bytes));
    let mut batches = Vec::new();
    while !left.is_empty() {
        batches.extend(decoder.decode(&mut left)?);
    }
    decoder.finish()?;
    if decoder.schema().is_none() {
        return Err(CodecError::Malformed("no schema".to_owned()));
    }
    Ok(batches)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float64Array, StringArray, TimestampMicrosecondArray};

    use super::*;
    use crate::schema;

    fn sample() -> RecordBatch {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(TimestampMicrosecondArray::from(vec![1, 2, 3]).with_timezone("UTC")),
            Arc::new(StringArray::from(vec!["a", "b", "a"])),
            Arc::new(StringArray::from(vec!["requests"; 3])),
            Arc::new(Float64Array::from(vec![1.0, 2.5, -3.0])),
        ];
        RecordBatch::try_new(schema::metrics(), columns).expect("columns fit the schema")
    }

    #[test]
    fn bare_and_stream_come_back_equal() {
        let batch = sample();
        let bare = encode_bare(&batch).expect("encodes");
        assert_eq!(decode_bare(&bare, schema::metrics()).expect("decodes"), batch);
        let stream = encode_stream(&batch.schema(), std::slice::from_ref(&batch)).expect("encodes");
        assert_eq!(decode_stream(&stream).expect("decodes"), vec![batch]);
    }

    #[test]
    fn cut_or_foreign_bytes_are_an_error() {
        let bare = encode_bare(&sample()).expect("encodes");
        for end in 0..bare.len() {
            let cut = bare.get(..end).expect("end is within");
            assert!(decode_bare(cut, schema::metrics()).is_err(), "cut at {end}");
        }
        assert!(decode_bare(b"{\"ts\": 1}, not arrow at all", schema::metrics()).is_err());
        for foreign in [&b""[..], b"no", b"nonsense", b"{\"json\": true}"] {
            assert!(decode_stream(foreign).is_err());
        }
    }
}
