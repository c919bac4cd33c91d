//! The envelope of every object that is neither pack nor segment: who signed
//! it, what it holds, and a hash that anyone can check.
//!
//! `format-spec/04-objects.md`, rules `[OBJ-1]` to `[OBJ-10]`.
//!
//! | offset | size | |
//! |---|---|---|
//! | 0 | 4 | magic `ESKR` |
//! | 4 | 2 | format version |
//! | 6 | 1 | kind |
//! | 7 | 1 | suite |
//! | 8 | 4 | key epoch; 0 when the payload is in clear |
//! | 12 | 4 | payload length n |
//! | 16 | 4 | attachment length m |
//! | 20 | 16 | writer; zero when the admin key signed |
//! | 36 | n | payload, sealed under the index key or in clear |
//! | 36+n | m | attachment, sealed to the content public key |
//! | 36+n+m | 64 | signature |
//! | 100+n+m | 32 | BLAKE3 of all that precedes |

use super::reader::Reader;
use super::{FormatError, Kind, Place, Result, SUITE, VERSION};
use crate::crypto::{
    CryptoError, HybridPrivate, HybridPublic, SIGNATURE_LENGTH, SecretKey, Signature, SigningKey,
    VerifyKey, open, seal,
};
use crate::id::WriterId;

pub const MAGIC: [u8; 4] = *b"ESKR";
/// Longest object of this form, in bytes.
pub const MAX_OBJECT: usize = 64 << 20;
/// Longest config and longest slot: both are parsed before anybody has vouched
/// for them, so that a store must not be able to make that dear.
pub const MAX_CONFIG: usize = 64 << 10;
pub const MAX_SLOT: usize = 1 << 20;
const HEADER: usize = 36;
const TRAILER: usize = SIGNATURE_LENGTH + 32;
/// The signer of what only the admin key may sign.
pub const ADMIN: WriterId = WriterId([0; 16]);

const LABEL_SIGNATURE: &str = "esker signature";
const LABEL_OBJECT: &str = "esker object";
const LABEL_ATTACHMENT: &str = "esker attachment";

/// An object taken apart: hash and lengths are right, nothing else is believed.
pub struct Object<'a> {
    pub kind: Kind,
    pub epoch: u32,
    pub writer: WriterId,
    pub payload: &'a [u8],
    pub attachment: &'a [u8],
    signed: &'a [u8],
    signature: Signature,
}

/// What goes into an envelope.
pub struct Contents<'a> {
    pub place: Place<'a>,
    pub writer: WriterId,
    /// Sealed under this key; in clear (epoch 0) without one.
    pub index_key: Option<&'a SecretKey>,
    pub payload: &'a [u8],
    /// Sealed to this key.
    pub attachment: Option<(&'a HybridPublic, &'a [u8])>,
}

fn signature_message(place: &Place<'_>, signed: &[u8]) -> Vec<u8> {
    let mut message = place.bytes(LABEL_SIGNATURE);
    message.extend_from_slice(blake3::hash(signed).as_bytes());
    message
}

/// Signs `bytes` as belonging to `place`: context, then their BLAKE3.
pub fn sign(key: &SigningKey, place: &Place<'_>, bytes: &[u8]) -> Signature {
    key.sign(&signature_message(place, bytes))
}

pub fn verify(
    key: &VerifyKey,
    place: &Place<'_>,
    bytes: &[u8],
    signature: &Signature,
) -> std::result::Result<(), CryptoError> {
    key.verify(&signature_message(place, bytes), signature)
}

pub fn encode(contents: &Contents<'_>, signer: &SigningKey) -> Vec<u8> {
    let place = &contents.place;
    let payload = match contents.index_key {
        Some(key) => seal(key, &place.bytes(LABEL_OBJECT), contents.payload),
        None => contents.payload.to_vec(),
    };
    let attachment = contents
        .attachment
        .map(|(key, text)| key.seal(&place.bytes(LABEL_ATTACHMENT), text))
        .unwrap_or_default();
    let mut bytes = Vec::with_capacity(HEADER + payload.len() + attachment.len() + TRAILER);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&[place.kind as u8, SUITE]);
    bytes.extend_from_slice(&place.epoch.to_le_bytes());
    bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&(attachment.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&contents.writer.0);
    bytes.extend_from_slice(&payload);
    bytes.extend_from_slice(&attachment);
    let signature = sign(signer, place, &bytes);
    bytes.extend_from_slice(&signature);
    let hash = blake3::hash(&bytes);
    bytes.extend_from_slice(hash.as_bytes());
    bytes
}

/// The longest object of a kind, in bytes.
pub fn max_length(kind: Kind) -> usize {
    match kind {
        Kind::Config => MAX_CONFIG,
        Kind::Slot => MAX_SLOT,
        _ => MAX_OBJECT,
    }
}

/// Checks hash, magic, version, suite, kind and lengths, and that what the admin
/// key signs is in clear and all else is not.
pub fn parse(bytes: &[u8], expected: Kind) -> Result<Object<'_>> {
    let most = max_length(expected);
    if bytes.len() > most {
        let what = format!("object is longer than {} KiB", most >> 10);
        return Err(FormatError::new("OBJ-4", what));
    }
    if bytes.len() < HEADER + TRAILER {
        return Err(FormatError::new("OBJ-4", "object is too short"));
    }
    let (magic, _) = bytes.split_at(4);
    if magic != MAGIC {
        return Err(FormatError::new("OBJ-1", "is not an esker object"));
    }
    if !hash_is_right(bytes) {
        return Err(FormatError::new("OBJ-5", "its hash does not match its bytes"));
    }
    let mut reader = Reader::new(bytes, "OBJ-4");
    reader.take(4)?;
    let version = reader.u16()?;
    if version != VERSION {
        return Err(FormatError::new(
            "OBJ-2",
            format!("format version {version} is newer than this program: upgrade esker"),
        ));
    }
    let kind = reader.u8()?;
    let suite = reader.u8()?;
    if suite != SUITE {
        return Err(FormatError::new(
            "OBJ-3",
            format!("crypto suite {suite} is unknown to this program: upgrade esker"),
        ));
    }
    if kind != expected as u8 {
        return Err(FormatError::new(
            "OBJ-6",
            format!("is of kind {kind}, not {}", expected as u8),
        ));
    }
    let epoch = reader.u32()?;
    let (payload_length, attachment_length) = (reader.u32()? as usize, reader.u32()? as usize);
    let writer = WriterId(reader.array()?);
    if payload_length.saturating_add(attachment_length) != bytes.len() - HEADER - TRAILER {
        return Err(FormatError::new("OBJ-4", "its lengths do not add up"));
    }
    let fits = match expected {
        Kind::Config | Kind::Update | Kind::Slot => {
            epoch == 0 && writer == ADMIN && attachment_length == 0
        }
        _ => epoch != 0,
    };
    if !fits {
        let what = "its epoch, writer or attachment does not fit its kind";
        return Err(FormatError::new("OBJ-10", what));
    }
    let payload = reader.take(payload_length)?;
    let attachment = reader.take(attachment_length)?;
    let signature = reader.array()?;
    let signed = bytes.get(..bytes.len() - TRAILER).unwrap_or_default();
    Ok(Object { kind: expected, epoch, writer, payload, attachment, signed, signature })
}

/// Whether the last 32 bytes are the BLAKE3 of the others: all a scrub needs.
pub fn hash_is_right(bytes: &[u8]) -> bool {
    bytes
        .split_last_chunk::<32>()
        .is_some_and(|(before, hash)| blake3::hash(before).as_bytes() == hash)
}

impl Object<'_> {
    pub fn verify(&self, key: &VerifyKey, place: &Place<'_>) -> Result<()> {
        verify(key, place, self.signed, &self.signature)
            .map_err(|_| FormatError::new("OBJ-7", "its signature does not verify"))
    }

    pub fn open(&self, key: &SecretKey, place: &Place<'_>) -> Result<Vec<u8>> {
        open(key, &place.bytes(LABEL_OBJECT), self.payload)
            .map_err(|_| FormatError::new("OBJ-8", "does not open with the index key"))
    }

    pub fn open_attachment(
        &self,
        key: &HybridPrivate,
        place: &Place<'_>,
    ) -> Result<zeroize::Zeroizing<Vec<u8>>> {
        key.open(&place.bytes(LABEL_ATTACHMENT), self.attachment)
            .map_err(|_| FormatError::new("OBJ-9", "its private part does not open"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::RepositoryId;

    #[test]
    fn opens_only_as_it_was_signed() {
        let signer = SigningKey::from_seed(&[1; 32]);
        let index = SecretKey::from_bytes([2; 32]);
        let content = HybridPrivate::from_seed([3; 32]);
        let place = Place {
            repository: RepositoryId([4; 16]),
            kind: Kind::Mark,
            epoch: 1,
            key: "marks/x/1-y",
        };
        let bytes = encode(
            &Contents {
                place,
                writer: WriterId([5; 16]),
                index_key: Some(&index),
                payload: b"public",
                attachment: Some((&content.public(), b"private")),
            },
            &signer,
        );
        let object = parse(&bytes, Kind::Mark).unwrap();
        object.verify(&signer.verify_key(), &place).unwrap();
        assert_eq!(object.open(&index, &place).unwrap(), b"public");
        assert_eq!(object.open_attachment(&content, &place).unwrap().as_slice(), b"private");
        let elsewhere = Place { key: "marks/x/2-y", ..place };
        assert!(object.verify(&signer.verify_key(), &elsewhere).is_err());
        assert!(object.open(&index, &elsewhere).is_err());
        assert_eq!(parse(&bytes, Kind::Sweep).err().unwrap().rule, "OBJ-6");
        for at in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[at] ^= 1;
            assert!(parse(&altered, Kind::Mark).is_err(), "byte {at}");
            assert!(parse(&bytes[..at], Kind::Mark).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn what_is_parsed_before_it_is_believed_is_short() {
        for (kind, most) in
            [(Kind::Config, 64 << 10), (Kind::Slot, 1 << 20), (Kind::Update, 64 << 20)]
        {
            let rule = |length| parse(&vec![0; length], kind).err().unwrap().rule;
            assert_eq!((rule(most), rule(most + 1)), ("OBJ-1", "OBJ-4"), "{kind:?}");
        }
    }
}
