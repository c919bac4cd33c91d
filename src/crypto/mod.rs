//! Ciphers, hashes and signatures, and the one screen with every key
//! derivation (`keys`). Nothing here knows the layout of an object.
//!
//! `format-spec/02-keys.md`

mod hybrid;
pub mod keys;
mod seal;
mod sign;

pub use hybrid::{
    HYBRID_ENCAPSULATED_LENGTH, HYBRID_OVERHEAD, HYBRID_PUBLIC_LENGTH, HybridPrivate, HybridPublic,
};
pub use keys::{MAX_ARGON2_MEMORY_KIB, MAX_ARGON2_PASSES, SecretKey, Stretching};
pub use seal::{NONCE_LENGTH, SEAL_OVERHEAD, TAG_LENGTH, open, open_in_place, seal, seal_in_place};
pub use sign::{SIGNATURE_LENGTH, Signature, SigningKey, VerifyKey};

/// What a cipher, signature or key derivation refuses.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CryptoError {
    /// The bytes were not sealed with this key for this place, or changed since.
    #[error("does not open with this key")]
    DoesNotOpen,
    #[error("signature does not verify")]
    BadSignature,
    #[error("not a valid public key")]
    BadPublicKey,
    #[error("password stretching asks for {0}, more than this program allows")]
    StretchingTooLarge(&'static str),
    #[error("password stretching parameters are not valid")]
    StretchingInvalid,
}

/// Random bytes from the operating system. A machine without a working random
/// source must not go on to write keys and nonces, hence the panic.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system has no random numbers to give");
    bytes
}
