//! Symmetric sealing: `nonce 24 | ciphertext | tag 16`, XChaCha20-Poly1305
//! with a random nonce.
//!
//! Blocks are long, and most of a restore is opening them: ring's assembly does
//! that in half the time of `chacha20poly1305`, which seals and opens all else.
//! Ring knows no 24-byte nonces; HChaCha20 makes a key and a nonce of 12 bytes
//! of one, and that is all XChaCha20 is (draft-irtf-cfrg-xchacha-03).

use chacha20::{R20, hchacha};
use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{KeyInit, Tag, XChaCha20Poly1305, XNonce};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

use super::{CryptoError, SecretKey, random};

pub const NONCE_LENGTH: usize = 24;
pub const TAG_LENGTH: usize = 16;
/// Bytes that sealing adds.
pub const SEAL_OVERHEAD: usize = NONCE_LENGTH + TAG_LENGTH;

/// Texts from this length on go through ring.
const LONG: usize = 16 << 10;

/// The key and nonce with which ring's cipher does what XChaCha20-Poly1305 does.
fn ring_cipher(key: &SecretKey, nonce: &[u8; NONCE_LENGTH]) -> (LessSafeKey, Nonce) {
    let (input, rest) = nonce.split_first_chunk::<16>().expect("24 bytes are more than 16");
    let subkey = Zeroizing::new(<[u8; 32]>::from(hchacha::<R20>(key.bytes().into(), input.into())));
    let unbound = UnboundKey::new(&CHACHA20_POLY1305, &*subkey).expect("a key of 32 bytes");
    let mut short = [0; 12];
    short[4..].copy_from_slice(rest);
    (LessSafeKey::new(unbound), Nonce::assume_unique_for_key(short))
}

/// Encrypts `text` and returns its tag.
fn encrypt(
    key: &SecretKey,
    nonce: &[u8; NONCE_LENGTH],
    associated: &[u8],
    text: &mut [u8],
) -> [u8; TAG_LENGTH] {
    if text.len() < LONG {
        return XChaCha20Poly1305::new(key.bytes().into())
            .encrypt_inout_detached(&XNonce::from(*nonce), associated, text.into())
            .expect("a message below 256 GiB")
            .into();
    }
    let (cipher, nonce) = ring_cipher(key, nonce);
    let tag = cipher
        .seal_in_place_separate_tag(nonce, Aad::from(associated), text)
        .expect("a message below 64 GiB");
    tag.as_ref().try_into().expect("the tag's length")
}

/// Decrypts `text` if the tag is its own; otherwise what is in it has no meaning.
fn decrypt(
    key: &SecretKey,
    nonce: &[u8; NONCE_LENGTH],
    associated: &[u8],
    text: &mut [u8],
    tag: [u8; TAG_LENGTH],
) -> Result<(), CryptoError> {
    if text.len() < LONG {
        return XChaCha20Poly1305::new(key.bytes().into())
            .decrypt_inout_detached(&XNonce::from(*nonce), associated, text.into(), &Tag::from(tag))
            .map_err(|_| CryptoError::DoesNotOpen);
    }
    let (cipher, nonce) = ring_cipher(key, nonce);
    cipher
        .open_in_place_separate_tag(nonce, Aad::from(associated), tag.into(), text, 0..)
        .map(|_| ())
        .map_err(|_| CryptoError::DoesNotOpen)
}

/// Seals `message` whose first [`NONCE_LENGTH`] bytes are room for the nonce,
/// and appends the tag. No other copy of the text is made.
pub fn seal_in_place(key: &SecretKey, associated: &[u8], message: &mut Vec<u8>) {
    let nonce = random::<NONCE_LENGTH>();
    let (room, text) = message.split_at_mut(NONCE_LENGTH);
    room.copy_from_slice(&nonce);
    let tag = encrypt(key, &nonce, associated, text);
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
    decrypt(key, &nonce, associated, text, tag)?;
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

    /// What ring does with long texts is what the other crate does with them.
    #[test]
    fn both_implementations_agree() {
        let (key, nonce) = (SecretKey::from_bytes([7; 32]), [9; NONCE_LENGTH]);
        let other = XChaCha20Poly1305::new(key.bytes().into());
        for length in [0, 1, LONG - 1, LONG, LONG + 1, LONG + 63, (1 << 20) + 17] {
            let text: Vec<u8> = (0..length).map(|at| (at * 31 % 251) as u8).collect();
            for associated in [&b""[..], b"place", &[5; 200]] {
                let (mut ours, mut theirs) = (text.clone(), text.clone());
                let tag = encrypt(&key, &nonce, associated, &mut ours);
                let expected = other
                    .encrypt_inout_detached(&nonce.into(), associated, theirs.as_mut_slice().into())
                    .unwrap();
                assert_eq!((&ours, &tag[..]), (&theirs, &expected[..]), "{length} bytes");
                decrypt(&key, &nonce, associated, &mut theirs, tag).unwrap();
                assert_eq!(theirs, text, "{length} bytes");
            }
        }
    }

    #[test]
    fn a_bit_anywhere_does_not_open() {
        let key = SecretKey::from_bytes([7; 32]);
        for length in [5, LONG + 5] {
            let good = seal(&key, b"place", &vec![1; length]);
            assert_eq!(open(&key, b"place", &good).unwrap(), vec![1; length]);
            assert!(open(&key, b"other", &good).is_err());
            for at in [0, 15, 16, 23, 24, good.len() / 2, good.len() - 17, good.len() - 1] {
                let mut bad = good.clone();
                bad[at] ^= 4;
                assert!(open(&key, b"place", &bad).is_err(), "byte {at} of {length}");
            }
        }
    }
}
