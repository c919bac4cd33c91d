//! Between JSON and values: hex in, fields out.

use esker::crypto::{CryptoError, HybridPrivate, SecretKey, VerifyKey};
use esker::format::FormatError;
use esker::id::{from_hex, hex};
use serde_json::Value;

pub fn bytes(of: &Value, name: &str) -> Vec<u8> {
    let text = of[name].as_str().unwrap_or_else(|| panic!("{name} is missing in {of}"));
    from_hex(text).unwrap_or_else(|| panic!("{name} is not hex"))
}

pub fn fixed<const N: usize>(of: &Value, name: &str) -> [u8; N] {
    bytes(of, name).try_into().unwrap_or_else(|_| panic!("{name} is not {N} bytes"))
}

pub fn number(of: &Value, name: &str) -> u64 {
    of[name].as_u64().unwrap_or_else(|| panic!("{name} is no number"))
}

pub fn text<'a>(of: &'a Value, name: &str) -> &'a str {
    of[name].as_str().unwrap_or_else(|| panic!("{name} is no text"))
}

pub fn secret(of: &Value, name: &str) -> SecretKey {
    SecretKey::from_bytes(fixed(of, name))
}

pub fn hybrid(of: &Value, name: &str) -> HybridPrivate {
    HybridPrivate::from_seed(fixed(of, name))
}

pub fn verify(of: &Value, name: &str) -> VerifyKey {
    VerifyKey(fixed(of, name))
}

pub fn rule(error: FormatError) -> String {
    error.rule.to_owned()
}

pub fn crypto_rule(error: CryptoError) -> String {
    match error {
        CryptoError::StretchingTooLarge(_) | CryptoError::StretchingInvalid => "KEY-1",
        CryptoError::DoesNotOpen => "KEY-2",
        CryptoError::BadSignature | CryptoError::BadPublicKey => "KEY-3",
    }
    .to_owned()
}

pub fn list<T>(items: &[T], show: impl Fn(&T) -> Value) -> Value {
    items.iter().map(show).collect()
}

pub fn hexes<T: AsRef<[u8]>>(items: &[T]) -> Value {
    list(items, |item| hex(item.as_ref()).into())
}
