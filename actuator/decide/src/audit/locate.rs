//! Where a record was changed.

use headroom_proto::FILE_DESCRIPTOR_SET;
use prost::Message;
use prost_types::FileDescriptorSet;
use sha2::{Digest, Sha256};

use super::log::Entry;
use super::merkle::Hash;

/// Longer records are not searched for the byte that was changed.
const SEARCHED_BYTES: usize = 16_384;

/// One byte of a record that is not what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedByte {
    /// Its place among the message's bytes, from 0.
    pub offset: usize,
    /// What is there.
    pub found: u8,
    /// What was there.
    pub was: u8,
    /// The field that it belongs to.
    pub field: String,
}

/// Finds the one byte whose change explains why a record does not have its leaf, and gives the record as it was.
#[must_use]
pub fn changed_byte(entry: &Entry, leaf: &Hash) -> Option<(ChangedByte, Entry)> {
    let bytes = &entry.value;
    if bytes.len() > SEARCHED_BYTES {
        return None;
    }
    let mut before = Sha256::new().chain_update([0]).chain_update(entry.head());
    for (offset, found) in bytes.iter().enumerate() {
        let behind = bytes.get(offset + 1..).unwrap_or_default();
        for was in (0..=u8::MAX).filter(|was| was != found) {
            let hash: Hash = before.clone().chain_update([was]).chain_update(behind).finalize().into();
            if hash == *leaf {
                let mut value = bytes.clone();
                value.splice(offset..=offset, [was]);
                let field = field_at(&entry.message, &value, offset);
                return Some((ChangedByte { offset, found: *found, was, field }, Entry { value, ..entry.clone() }));
            }
        }
        before.update([*found]);
    }
    None
}

/// The name of the field that a byte of a message belongs to.
#[must_use]
pub fn field_at(message: &str, bytes: &[u8], offset: usize) -> String {
    let number = fields(bytes).into_iter().find(|(_, end)| offset < *end).map(|(number, _)| number);
    let Some(number) = number else { return "no field".to_owned() };
    let files = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap_or_default().file;
    let types = files.into_iter().flat_map(|file| file.message_type);
    let fields = types.filter(|known| known.name() == message).flat_map(|known| known.field);
    let mut names = fields.filter(|field| i64::from(field.number()) == i64::try_from(number).unwrap_or(0));
    names.next().map_or_else(|| format!("field {number}"), |field| field.name().to_owned())
}

/// The number of each field of a message, and where it ends.
fn fields(bytes: &[u8]) -> Vec<(u64, usize)> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some((tag, after)) = varint(bytes, at) {
        let end = match tag & 7 {
            0 => varint(bytes, after).map(|(_, end)| end),
            1 => Some(after + 8),
            2 => varint(bytes, after).and_then(|(length, start)| start.checked_add(usize::try_from(length).ok()?)),
            5 => Some(after + 4),
            _ => None,
        };
        let Some(end) = end else { break };
        found.push((tag >> 3, end));
        at = end;
    }
    found
}

fn varint(bytes: &[u8], at: usize) -> Option<(u64, usize)> {
    let mut value = 0_u64;
    for (count, byte) in bytes.get(at..)?.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f).checked_shl(u32::try_from(7 * count).ok()?)?;
        if byte & 0x80 == 0 {
            return Some((value, at + count + 1));
        }
    }
    None
}

/// The first place where a line is not as it should be, and the part of the JSON document that it belongs to.
#[must_use]
pub fn difference(found: &str, expected: &str) -> Option<(usize, String)> {
    let same = found.bytes().zip(expected.bytes()).take_while(|(a, b)| a == b).count();
    if same == found.len() && same == expected.len() {
        return None;
    }
    Some((same, part_at(expected, same)))
}

/// The path of keys to a byte of a JSON document: `fields.reason`.
fn part_at(text: &str, offset: usize) -> String {
    let mut path: Vec<String> = Vec::new();
    let (mut is_inside, mut is_escaped, mut word, mut last) = (false, false, String::new(), String::new());
    for (at, symbol) in text.char_indices() {
        if at > offset {
            break;
        }
        if is_inside {
            let ends = symbol == '"' && !is_escaped;
            is_escaped = symbol == '\\' && !is_escaped;
            if ends {
                is_inside = false;
                last = std::mem::take(&mut word);
            } else {
                word.push(symbol);
            }
            continue;
        }
        match symbol {
            '"' => is_inside = true,
            ':' => {
                if let Some(key) = path.last_mut() {
                    key.clone_from(&last);
                }
            }
            '{' => path.push(String::new()),
            '}' => drop(path.pop()),
            _ => {}
        }
    }
    let keys: Vec<String> = path.into_iter().filter(|key| !key.is_empty()).collect();
    if keys.is_empty() { "the line".to_owned() } else { format!("`{}`", keys.join(".")) }
}
