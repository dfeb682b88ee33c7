//! The record of what was done: a workload's action records form a chain, each holding the hash of the one before, and all
//! records are leaves of Merkle logs with signed checkpoints.

pub mod locate;
pub mod log;
pub mod merkle;
pub mod note;
pub mod succession;
pub mod verify;

use headroom_proto::v1::{ActionRecord, Plan};
use prost::Message;
use sha2::{Digest, Sha256};

/// Where a chain does not hold.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("record {sequence} of {workload}: {problem}")]
pub struct BrokenChain {
    /// The workload.
    pub workload: String,
    /// The record's number.
    pub sequence: u64,
    /// What does not hold.
    pub problem: &'static str,
}

/// The record with its hash: SHA-256 over its protobuf bytes with the hash empty, in hexadecimal.
#[must_use]
pub fn sealed(mut record: ActionRecord, previous_hash: &str) -> ActionRecord {
    previous_hash.clone_into(&mut record.previous_hash);
    record.hash = hash_of(&record);
    record
}

/// Checks one record against the sequence number and the hash of the one before it (0 and empty for the first).
///
/// # Errors
/// Says what does not hold.
pub fn verify(record: &ActionRecord, sequence: u64, previous_hash: &str) -> Result<(), BrokenChain> {
    let broken = |problem| Err(BrokenChain { workload: record.workload.clone(), sequence: record.sequence, problem });
    if record.sequence != sequence + 1 {
        return broken("its number does not follow the one before");
    }
    if record.previous_hash != previous_hash {
        return broken("it does not hold the hash of the one before");
    }
    if record.hash != hash_of(record) {
        return broken("its own hash does not match its content");
    }
    Ok(())
}

/// What an approval binds to: SHA-256 over the plan with the hash empty, in hexadecimal.
#[must_use]
pub fn plan_hash(plan: &Plan) -> String {
    hex(&Sha256::digest(Plan { plan_hash: String::new(), ..plan.clone() }.encode_to_vec()))
}

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hash_of(record: &ActionRecord) -> String {
    hex(&Sha256::digest(ActionRecord { hash: String::new(), ..record.clone() }.encode_to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_record_is_found() {
        let record =
            |sequence| ActionRecord { workload: "w".to_owned(), sequence, units_after: 3, ..ActionRecord::default() };
        let first = sealed(record(1), "");
        let second = sealed(record(2), &first.hash);
        verify(&first, 0, "").expect("holds");
        verify(&second, 1, &first.hash).expect("holds");
        let changed = ActionRecord { units_after: 4, ..second.clone() };
        assert_eq!(verify(&changed, 1, &first.hash).expect_err("changed").sequence, 2);
        assert!(verify(&second, 0, "").is_err() && verify(&second, 1, "other").is_err());
    }
}
