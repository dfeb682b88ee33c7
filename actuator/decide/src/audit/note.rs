//! Signed checkpoints of a log, in the formats of C2SP: signed-note and tlog-checkpoint, with Ed25519.

use std::fmt;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::hex;
use super::merkle::Hash;

/// The signature type of Ed25519.
const ALGORITHM: u8 = 1;
const SECRET: &str = "PRIVATE+KEY+";

/// A key or a note that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Not a key of this format.
    #[error("it is no Ed25519 key in the format of C2SP signed notes")]
    Key,
    /// The name of a key.
    #[error("a key's name must not be empty nor hold white space or `+`")]
    Name,
    /// Not a note.
    #[error("it is no signed note: a text, an empty line, and signatures")]
    Form,
    /// Nobody signed it whom we know.
    #[error("it bears no signature of this key")]
    Unsigned,
    /// The signature is another text's, or changed.
    #[error("the signature does not hold over the text")]
    Signature,
    /// Signed, but not a checkpoint.
    #[error("its text is no checkpoint: an origin, a size, and a root")]
    Checkpoint,
}

/// Signs notes. Its key is never shown.
pub struct Signer {
    name: String,
    seed: [u8; 32],
    pair: Ed25519KeyPair,
}

/// Knows a signer's notes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verifier {
    name: String,
    public: [u8; 32],
}

impl Signer {
    /// A signer of that name; the seed is the secret.
    ///
    /// # Errors
    /// When the name cannot be a key's.
    pub fn new(name: &str, seed: [u8; 32]) -> Result<Self, NoteError> {
        check_name(name)?;
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| NoteError::Key)?;
        Ok(Self { name: name.to_owned(), seed, pair })
    }

    /// Reads `PRIVATE+KEY+<name>+<id>+<key>`.
    ///
    /// # Errors
    /// When it is no such key.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let (name, id, seed) = parts(text.trim().strip_prefix(SECRET).ok_or(NoteError::Key)?)?;
        let signer = Self::new(name, seed)?;
        if signer.verifier().id_text() == id { Ok(signer) } else { Err(NoteError::Key) }
    }

    /// The secret key as text, to be kept.
    #[must_use]
    pub fn secret(&self) -> String {
        format!("{SECRET}{}+{}+{}", self.name, self.verifier().id_text(), key_text(&self.seed))
    }

    /// Who knows its notes.
    #[must_use]
    pub fn verifier(&self) -> Verifier {
        let mut public = [0; 32];
        public.copy_from_slice(self.pair.public_key().as_ref());
        Verifier { name: self.name.clone(), public }
    }

    /// The note of a text, which ends with a line break.
    #[must_use]
    pub fn sign(&self, text: &str) -> String {
        let mut signature = self.verifier().id().to_vec();
        signature.extend_from_slice(self.pair.sign(text.as_bytes()).as_ref());
        format!("{text}\n— {} {}\n", self.name, STANDARD.encode(signature))
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Verifier {
    /// Reads `<name>+<id>+<key>`.
    ///
    /// # Errors
    /// When it is no such key.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let (name, id, public) = parts(text.trim())?;
        check_name(name)?;
        let verifier = Self { name: name.to_owned(), public };
        if verifier.id_text() == id { Ok(verifier) } else { Err(NoteError::Key) }
    }

    /// The signer's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text of a note, when the signer has signed it.
    ///
    /// # Errors
    /// When the note is malformed, not signed by this key, or changed.
    pub fn open<'a>(&self, note: &'a str) -> Result<&'a str, NoteError> {
        let (text, signatures) = note.rsplit_once("\n\n").ok_or(NoteError::Form)?;
        let text = note.get(..=text.len()).ok_or(NoteError::Form)?;
        if !signatures.ends_with('\n') {
            return Err(NoteError::Form);
        }
        let mut outcome = Err(NoteError::Unsigned);
        for line in signatures.lines() {
            let (name, signature) =
                line.strip_prefix("— ").and_then(|line| line.split_once(' ')).ok_or(NoteError::Form)?;
            let signature = STANDARD.decode(signature).map_err(|_| NoteError::Form)?;
            let Some((id, signature)) = signature.split_first_chunk::<4>() else { return Err(NoteError::Form) };
            if name == self.name && *id == self.id() {
                let holds = UnparsedPublicKey::new(&ED25519, self.public).verify(text.as_bytes(), signature).is_ok();
                outcome = if holds { Ok(text) } else { return Err(NoteError::Signature) };
            }
        }
        outcome
    }

    fn id(&self) -> [u8; 4] {
        let digest = Sha256::new().chain_update(&self.name).chain_update([b'\n', ALGORITHM]).chain_update(self.public);
        let [a, b, c, d, ..]: [u8; 32] = digest.finalize().into();
        [a, b, c, d]
    }

    fn id_text(&self) -> String {
        hex(&self.id())
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}+{}", self.name, self.id_text(), key_text(&self.public))
    }
}

fn check_name(name: &str) -> Result<(), NoteError> {
    let fits = !name.is_empty() && !name.contains('+') && !name.contains(char::is_whitespace);
    if fits { Ok(()) } else { Err(NoteError::Name) }
}

fn key_text(key: &[u8; 32]) -> String {
    let mut bytes = vec![ALGORITHM];
    bytes.extend_from_slice(key);
    STANDARD.encode(bytes)
}

/// Name, id and key; the key's text may hold `+`.
fn parts(text: &str) -> Result<(&str, &str, [u8; 32]), NoteError> {
    let mut parts = text.splitn(3, '+');
    let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(NoteError::Key);
    };
    let bytes = STANDARD.decode(key).map_err(|_| NoteError::Key)?;
    let Some((&ALGORITHM, key)) = bytes.split_first() else { return Err(NoteError::Key) };
    Ok((name, id, key.try_into().map_err(|_| NoteError::Key)?))
}

/// What a log's signer says: so many leaves, with this root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name.
    pub origin: String,
    /// How many leaves.
    pub size: usize,
    /// The root over them.
    pub root: Hash,
}

impl Checkpoint {
    /// The text that is signed.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root))
    }

    /// Reads the text of a note; lines beyond the third are extensions, which are not read.
    ///
    /// # Errors
    /// When it is no checkpoint.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let mut lines = text.lines();
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(NoteError::Checkpoint);
        };
        let root = STANDARD.decode(root).ok().and_then(|root| root.try_into().ok());
        let is_canonical = size == "0" || !size.starts_with(['0', '+']);
        match (size.parse(), root) {
            (Ok(size), Some(root)) if is_canonical && !origin.is_empty() => {
                Ok(Self { origin: origin.to_owned(), size, root })
            }
            _ => Err(NoteError::Checkpoint),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Key and note of the reference implementation's own test (golang.org/x/mod/sumdb/note, `note_test.go`).
    const SECRET_KEY: &str = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
    const PUBLIC_KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const TEXT: &str =
        "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
    const SIGNATURE: &str =
        "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

    #[test]
    fn the_note_of_the_reference_implementation_to_the_byte() {
        let signer = Signer::parse(SECRET_KEY).expect("a key");
        assert_eq!(signer.secret(), SECRET_KEY);
        assert_eq!(signer.verifier().to_string(), PUBLIC_KEY);
        let note = format!("{TEXT}\n{SIGNATURE}");
        assert_eq!(signer.sign(TEXT), note);
        assert_eq!(Verifier::parse(PUBLIC_KEY).expect("a key").open(&note), Ok(TEXT));
        assert!(!format!("{signer:?}").contains("AYEK"));
    }

    #[test]
    fn every_changed_byte_of_a_note_or_key_is_noticed() {
        let verifier = Verifier::parse(PUBLIC_KEY).expect("a key");
        let note = format!("{TEXT}\n{SIGNATURE}");
        for at in 0..note.len() {
            let mut bytes = note.clone().into_bytes();
            bytes[at] ^= 1;
            if let Ok(changed) = String::from_utf8(bytes) {
                assert_ne!(verifier.open(&changed).ok(), Some(TEXT), "byte {at}");
            }
        }
        for at in 0..PUBLIC_KEY.len() {
            let mut bytes = PUBLIC_KEY.as_bytes().to_vec();
            bytes[at] ^= 1;
            let changed = String::from_utf8(bytes).expect("ASCII");
            let known = Verifier::parse(&changed);
            assert!(known.is_err() || known.is_ok_and(|other| other.open(&note).is_err()), "byte {at}");
        }
        for (text, error) in [("", NoteError::Form), ("a\n\nb\n", NoteError::Form), ("a\n\n", NoteError::Form)] {
            assert_eq!(verifier.open(text), Err(error), "{text:?}");
        }
        assert_eq!(Signer::new("two words", [1; 32]).err(), Some(NoteError::Name));
        let other = Signer::new("PeterNeumann", [1; 32]).expect("a key").sign(TEXT);
        assert_eq!(verifier.open(&other), Err(NoteError::Unsigned));
    }

    #[test]
    fn a_checkpoint_is_read_as_it_was_written() {
        let checkpoint = Checkpoint { origin: "headroom/actions/0".to_owned(), size: 17, root: [7; 32] };
        assert_eq!(Checkpoint::parse(&checkpoint.text()), Ok(checkpoint.clone()));
        assert_eq!(Checkpoint::parse(&format!("{}extension\n", checkpoint.text())), Ok(checkpoint));
        for text in ["", "o\n1\n", "o\n01\nAAAA\n", "o\n-1\nAAAA\n", "\n1\nAAAA\n", "o\n1\nAAAA\n"] {
            assert_eq!(Checkpoint::parse(text), Err(NoteError::Checkpoint), "{text:?}");
        }
    }
}
