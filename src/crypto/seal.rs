//! Symmetric sealing: `nonce 24 | ciphertext | tag 16`, XChaCha20-Poly1305
//! with a random nonce.

use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{KeyInit, Tag, XChaCha20Poly1305, XNonce};

use super::{CryptoError, SecretKey, random};

pub const NONCE_LENGTH: usize = 24;
pub const TAG_LENGTH: usize = 16;
/// Bytes that sealing adds.
pub const SEAL_OVERHEAD: usize = NONCE_LENGTH + TAG_LENGTH;

/// Seals `message` whose first [`NONCE_LENGTH`] bytes are room for the nonce,
/// and appends the tag. No other copy of the text is made.
pub fn seal_in_place(key: &SecretKey, associated: &[u8], message: &mut Vec<u8>) {
    let nonce = XNonce::from(random::<NONCE_LENGTH>());
    let (room, text) = message.split_at_mut(NONCE_LENGTH);
    room.copy_from_slice(&nonce);
    let tag = XChaCha20Poly1305::new(key.bytes().into())
        .encrypt_inout_detached(&nonce, associated, text.into())
        .expect("a message below 256 GiB");
    message.extend_from_slice(&tag);
}

pub fn seal(key: &SecretKey, associated: &[u8], text: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(text.len() + SEAL_OVERHEAD);
    message.resize(NONCE_LENGTH, 0);
    message.extend_from_slice(text);
    seal_in_place(key, associated, &mut message);
    message
}

/// Opens `message` where it lies and returns the text inside it.
pub fn open_in_place<'a>(
    key: &SecretKey,
    associated: &[u8],
    message: &'a mut [u8],
) -> Result<&'a mut [u8], CryptoError> {
    let (nonce, rest) =
        message.split_at_mut_checked(NONCE_LENGTH).ok_or(CryptoError::DoesNotOpen)?;
    let text_length = rest.len().checked_sub(TAG_LENGTH).ok_or(CryptoError::DoesNotOpen)?;
    let (text, tag) = rest.split_at_mut(text_length);
    let nonce: [u8; NONCE_LENGTH] = (&*nonce).try_into().expect("split at its length");
    let tag: [u8; TAG_LENGTH] = (&*tag).try_into().expect("split at its length");
    XChaCha20Poly1305::new(key.bytes().into())
        .decrypt_inout_detached(
            &XNonce::from(nonce),
            associated,
            (&mut *text).into(),
            &Tag::from(tag),
        )
        .map_err(|_| CryptoError::DoesNotOpen)?;
    Ok(text)
}

pub fn open(key: &SecretKey, associated: &[u8], message: &[u8]) -> Result<Vec<u8>, CryptoError> {
    let mut copy = message.to_vec();
    let length = open_in_place(key, associated, &mut copy)?.len();
    copy.copy_within(NONCE_LENGTH..NONCE_LENGTH + length, 0);
    copy.truncate(length);
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_only_whole_with_its_key_and_place() {
        let key = SecretKey::from_bytes([1; 32]);
        let message = seal(&key, b"here", b"text");
        assert_eq!(open(&key, b"here", &message).as_deref(), Ok(&b"text"[..]));
        assert!(open(&key, b"there", &message).is_err());
        assert!(open(&SecretKey::from_bytes([2; 32]), b"here", &message).is_err());
        for length in 0..message.len() {
            assert!(open(&key, b"here", &message[..length]).is_err());
        }
    }
}
