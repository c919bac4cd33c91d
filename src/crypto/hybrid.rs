//! Sealing to a public key: HPKE (RFC 9180) base mode, single shot, with the
//! X-Wing hybrid of X25519 and ML-KEM-768, HKDF-SHA256 and ChaCha20-Poly1305.
//! The place a message belongs to goes into `info`; the AEAD's associated data
//! is empty.

use hpke::{
    Deserializable, Kem, OpModeR, OpModeS, Serializable, aead::ChaCha20Poly1305, kdf::HkdfSha256,
    kem::XWing,
};
use zeroize::Zeroizing;

use super::{CryptoError, random};

pub const HYBRID_PUBLIC_LENGTH: usize = 1216;
pub const HYBRID_ENCAPSULATED_LENGTH: usize = 1120;
/// Bytes that sealing to a public key adds.
pub const HYBRID_OVERHEAD: usize = HYBRID_ENCAPSULATED_LENGTH + 16;

/// The 32-byte seed of an X-Wing key pair.
#[derive(Clone)]
pub struct HybridPrivate(Zeroizing<[u8; 32]>);

#[derive(Clone, PartialEq, Eq)]
pub struct HybridPublic(Box<[u8; HYBRID_PUBLIC_LENGTH]>);

impl HybridPrivate {
    pub fn random() -> Self {
        HybridPrivate(Zeroizing::new(random()))
    }

    pub fn from_seed(seed: [u8; 32]) -> Self {
        HybridPrivate(Zeroizing::new(seed))
    }

    pub fn seed(&self) -> &[u8; 32] {
        &self.0
    }

    fn key(&self) -> <XWing as Kem>::PrivateKey {
        <XWing as Kem>::PrivateKey::from_bytes(&*self.0).expect("any 32 bytes are a seed")
    }

    pub fn public(&self) -> HybridPublic {
        let bytes = XWing::sk_to_pk(&self.key()).to_bytes();
        HybridPublic(Box::new(bytes.as_slice().try_into().expect("an X-Wing public key")))
    }

    /// Opens `encapsulated key 1120 | ciphertext | tag 16`.
    pub fn open(&self, place: &[u8], message: &[u8]) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
        let (encapsulated, sealed) =
            message.split_at_checked(HYBRID_ENCAPSULATED_LENGTH).ok_or(CryptoError::DoesNotOpen)?;
        let encapsulated = <XWing as Kem>::EncappedKey::from_bytes(encapsulated)
            .map_err(|_| CryptoError::DoesNotOpen)?;
        hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, XWing>(
            &OpModeR::Base,
            &self.key(),
            &encapsulated,
            place,
            sealed,
            b"",
        )
        .map(Zeroizing::new)
        .map_err(|_| CryptoError::DoesNotOpen)
    }
}

impl HybridPublic {
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CryptoError> {
        let bytes: [u8; HYBRID_PUBLIC_LENGTH] =
            bytes.try_into().map_err(|_| CryptoError::BadPublicKey)?;
        <XWing as Kem>::PublicKey::from_bytes(&bytes).map_err(|_| CryptoError::BadPublicKey)?;
        Ok(HybridPublic(Box::new(bytes)))
    }

    pub fn bytes(&self) -> &[u8; HYBRID_PUBLIC_LENGTH] {
        &self.0
    }

    pub fn seal(&self, place: &[u8], text: &[u8]) -> Vec<u8> {
        let key =
            <XWing as Kem>::PublicKey::from_bytes(&*self.0).expect("checked when it was made");
        let (encapsulated, sealed) = hpke::single_shot_seal::<ChaCha20Poly1305, HkdfSha256, XWing>(
            &OpModeS::Base,
            &key,
            place,
            text,
            b"",
        )
        .expect("sealing to a checked key does not fail");
        let mut message = encapsulated.to_bytes().to_vec();
        message.extend_from_slice(&sealed);
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_only_with_its_key_and_place() {
        let key = HybridPrivate::from_seed([9; 32]);
        let message = key.public().seal(b"here", b"text");
        assert_eq!(message.len(), 4 + HYBRID_OVERHEAD);
        assert_eq!(key.open(b"here", &message).unwrap().as_slice(), b"text");
        assert!(key.open(b"there", &message).is_err());
        assert!(HybridPrivate::from_seed([8; 32]).open(b"here", &message).is_err());
        assert!(key.open(b"here", &message[..message.len() - 1]).is_err());
        assert!(key.open(b"here", &[]).is_err());
    }
}
