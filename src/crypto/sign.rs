//! Ed25519 signatures (RFC 8032), verified strictly: no malleable signature,
//! no key of small order.

use ed25519_dalek::Signer;
use zeroize::Zeroizing;

use super::{CryptoError, random};

pub const SIGNATURE_LENGTH: usize = 64;
pub type Signature = [u8; SIGNATURE_LENGTH];

/// The secret half; its 32-byte seed is what slots keep.
#[derive(Clone)]
pub struct SigningKey(ed25519_dalek::SigningKey);

#[derive(Clone, Copy, PartialEq, Eq)]
pub struct VerifyKey(pub [u8; 32]);

impl SigningKey {
    pub fn random() -> Self {
        Self::from_seed(&Zeroizing::new(random()))
    }

    pub fn from_seed(seed: &[u8; 32]) -> Self {
        SigningKey(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    pub fn verify_key(&self) -> VerifyKey {
        VerifyKey(self.0.verifying_key().to_bytes())
    }

    pub fn sign(&self, message: &[u8]) -> Signature {
        self.0.sign(message).to_bytes()
    }
}

impl VerifyKey {
    pub fn verify(&self, message: &[u8], signature: &Signature) -> Result<(), CryptoError> {
        let key = ed25519_dalek::VerifyingKey::from_bytes(&self.0)
            .map_err(|_| CryptoError::BadPublicKey)?;
        key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(signature))
            .map_err(|_| CryptoError::BadSignature)
    }
}

impl std::fmt::Debug for VerifyKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "VerifyKey({})", crate::id::hex(&self.0))
    }
}
