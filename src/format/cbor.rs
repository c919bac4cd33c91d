//! Deterministic CBOR (RFC 8949 §4.2.1) as far as esker's maps need it:
//! unsigned integers, byte strings, texts, arrays, booleans, and maps with
//! unsigned integer keys.
//!
//! `format-spec/01-conventions.md`, rules `[CBOR-1]` to `[CBOR-6]`.

use zeroize::{Zeroize, Zeroizing};

use super::{FormatError, Result};

/// Nesting no object of format 1 reaches.
const MAX_DEPTH: usize = 8;
/// Unknown map keys from here up are kept, those below are refused.
pub const FIRST_OPTIONAL_KEY: u64 = 1 << 15;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Uint(u64),
    Bytes(Vec<u8>),
    Text(String),
    Array(Vec<Value>),
    Map(Vec<(u64, Value)>),
    Bool(bool),
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Value::Uint(number)
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Value::Bytes(bytes.to_vec())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Text(text.to_owned())
    }
}

fn head(major: u8, argument: u64, out: &mut Vec<u8>) {
    let major = major << 5;
    match argument {
        0..=23 => out.push(major | argument as u8),
        24..=0xff => out.extend_from_slice(&[major | 24, argument as u8]),
        0x100..=0xffff => {
            out.push(major | 25);
            out.extend_from_slice(&(argument as u16).to_be_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.push(major | 26);
            out.extend_from_slice(&(argument as u32).to_be_bytes());
        }
        _ => {
            out.push(major | 27);
            out.extend_from_slice(&argument.to_be_bytes());
        }
    }
}

impl Value {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode_into(&mut out);
        out
    }

    /// Encodes keys: leaves no copy of them behind.
    pub fn encode_secret(mut self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::with_capacity(self.most()));
        self.encode_into(&mut out);
        self.wipe();
        out
    }

    /// No more bytes than this encode it.
    fn most(&self) -> usize {
        9 + match self {
            Value::Bytes(bytes) => bytes.len(),
            Value::Text(text) => text.len(),
            Value::Array(items) => items.iter().map(Value::most).sum(),
            Value::Map(pairs) => pairs.iter().map(|(_, value)| 9 + value.most()).sum(),
            Value::Uint(_) | Value::Bool(_) => 0,
        }
    }

    fn wipe(&mut self) {
        match self {
            Value::Bytes(bytes) => bytes.zeroize(),
            Value::Array(items) => items.iter_mut().for_each(Value::wipe),
            Value::Map(pairs) => pairs.iter_mut().for_each(|(_, value)| value.wipe()),
            Value::Uint(_) | Value::Text(_) | Value::Bool(_) => {}
        }
    }

    fn encode_into(&self, out: &mut Vec<u8>) {
        match self {
            Value::Uint(number) => head(0, *number, out),
            Value::Bytes(bytes) => {
                head(2, bytes.len() as u64, out);
                out.extend_from_slice(bytes);
            }
            Value::Text(text) => {
                head(3, text.len() as u64, out);
                out.extend_from_slice(text.as_bytes());
            }
            Value::Array(items) => {
                head(4, items.len() as u64, out);
                items.iter().for_each(|item| item.encode_into(out));
            }
            Value::Map(pairs) => {
                debug_assert!(pairs.is_sorted_by(|a, b| a.0 < b.0), "map keys sorted and unique");
                head(5, pairs.len() as u64, out);
                for (key, value) in pairs {
                    head(0, *key, out);
                    value.encode_into(out);
                }
            }
            Value::Bool(value) => out.push(if *value { 0xf5 } else { 0xf4 }),
        }
    }

    /// Exactly one value, canonically encoded, and nothing behind it.
    pub fn parse(bytes: &[u8]) -> Result<Value> {
        let mut rest = bytes;
        let value = parse(&mut rest, 0)?;
        if !rest.is_empty() {
            return Err(FormatError::new("CBOR-6", "bytes left behind a CBOR value"));
        }
        Ok(value)
    }
}

fn short() -> FormatError {
    FormatError::new("CBOR-1", "CBOR ends too early")
}

fn parse_head(rest: &mut &[u8]) -> Result<(u8, u64)> {
    let (first, tail) = rest.split_first().ok_or_else(short)?;
    *rest = tail;
    let (major, info) = (first >> 5, first & 31);
    let width = match info {
        0..=23 => return Ok((major, u64::from(info))),
        24..=27 => 1usize << (info - 24),
        _ => return Err(FormatError::new("CBOR-2", "indefinite or reserved CBOR length")),
    };
    if major == 7 {
        return Err(FormatError::new("CBOR-3", "a CBOR type this format does not use"));
    }
    let (bytes, tail) = rest.split_at_checked(width).ok_or_else(short)?;
    *rest = tail;
    let argument = bytes.iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
    let least = match width {
        1 => 24,
        2 => 0x100,
        4 => 0x1_0000,
        _ => 0x1_0000_0000,
    };
    if argument < least {
        return Err(FormatError::new("CBOR-4", "a CBOR number is not in its shortest form"));
    }
    Ok((major, argument))
}

fn parse(rest: &mut &[u8], depth: usize) -> Result<Value> {
    if depth > MAX_DEPTH {
        return Err(FormatError::new("CBOR-3", "CBOR nested too deep"));
    }
    let (major, argument) = parse_head(rest)?;
    let string = |rest: &mut &[u8]| {
        let length = usize::try_from(argument).map_err(|_| short())?;
        let (string, tail) = rest.split_at_checked(length).ok_or_else(short)?;
        *rest = tail;
        Ok::<_, FormatError>(string.to_vec())
    };
    // every item takes a byte at least, so no count can ask for more than is there
    let fits = |rest: &&[u8]| if argument > rest.len() as u64 { Err(short()) } else { Ok(()) };
    match (major, argument) {
        (0, number) => Ok(Value::Uint(number)),
        (2, _) => Ok(Value::Bytes(string(rest)?)),
        (3, _) => String::from_utf8(string(rest)?)
            .map(Value::Text)
            .map_err(|_| FormatError::new("CBOR-3", "a CBOR text is not UTF-8")),
        (4, count) => {
            fits(rest)?;
            (0..count).map(|_| parse(rest, depth + 1)).collect::<Result<_>>().map(Value::Array)
        }
        (5, count) => {
            fits(rest)?;
            parse_map(rest, count, depth)
        }
        (7, 20) => Ok(Value::Bool(false)),
        (7, 21) => Ok(Value::Bool(true)),
        _ => Err(FormatError::new("CBOR-3", "a CBOR type this format does not use")),
    }
}

fn parse_map(rest: &mut &[u8], count: u64, depth: usize) -> Result<Value> {
    let mut pairs: Vec<(u64, Value)> = Vec::new();
    for _ in 0..count {
        let (major, key) = parse_head(rest)?;
        if major != 0 {
            return Err(FormatError::new("CBOR-3", "a CBOR map key is not an unsigned number"));
        }
        if pairs.last().is_some_and(|(last, _)| *last >= key) {
            return Err(FormatError::new("CBOR-5", "CBOR map keys repeat or are not sorted"));
        }
        pairs.push((key, parse(rest, depth + 1)?));
    }
    Ok(Value::Map(pairs))
}

/// Builds a map; absent optional fields are simply not put.
#[derive(Default)]
pub struct MapBuilder(Vec<(u64, Value)>);

impl MapBuilder {
    pub fn put(&mut self, key: u64, value: impl Into<Value>) -> &mut Self {
        self.0.push((key, value.into()));
        self
    }

    pub fn put_some<T: Into<Value>>(&mut self, key: u64, value: Option<T>) -> &mut Self {
        if let Some(value) = value {
            self.put(key, value);
        }
        self
    }

    pub fn extend(&mut self, kept: &[(u64, Value)]) -> &mut Self {
        self.0.extend_from_slice(kept);
        self
    }

    pub fn finish(&mut self) -> Value {
        self.0.sort_by_key(|(key, _)| *key);
        Value::Map(std::mem::take(&mut self.0))
    }

    pub fn encode(&mut self) -> Vec<u8> {
        self.finish().encode()
    }
}

impl From<Vec<Value>> for Value {
    fn from(items: Vec<Value>) -> Self {
        Value::Array(items)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Value::Bool(value)
    }
}

/// Takes the fields of a parsed map one by one; `end` refuses unknown keys
/// below 2¹⁵ and returns the others to be kept.
pub struct Fields {
    pairs: Vec<(u64, Value)>,
    rule: &'static str,
}

impl Fields {
    pub fn parse(bytes: &[u8], rule: &'static str) -> Result<Fields> {
        Fields::of(Value::parse(bytes)?, rule)
    }

    pub fn of(value: Value, rule: &'static str) -> Result<Fields> {
        match value {
            Value::Map(pairs) => Ok(Fields { pairs, rule }),
            _ => Err(FormatError::new(rule, "is not a map")),
        }
    }

    fn wrong(&self, key: u64) -> FormatError {
        FormatError::new(self.rule, format!("field {key} is missing or has the wrong type"))
    }

    fn take(&mut self, key: u64) -> Option<Value> {
        let at = self.pairs.binary_search_by_key(&key, |(key, _)| *key).ok()?;
        Some(self.pairs.remove(at).1)
    }

    pub fn optional_uint(&mut self, key: u64) -> Result<Option<u64>> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Uint(number)) => Ok(Some(number)),
            Some(_) => Err(self.wrong(key)),
        }
    }

    pub fn uint(&mut self, key: u64) -> Result<u64> {
        self.optional_uint(key)?.ok_or_else(|| self.wrong(key))
    }

    pub fn uint32(&mut self, key: u64) -> Result<u32> {
        u32::try_from(self.uint(key)?).map_err(|_| self.wrong(key))
    }

    pub fn byte(&mut self, key: u64) -> Result<u8> {
        u8::try_from(self.uint(key)?).map_err(|_| self.wrong(key))
    }

    pub fn boolean(&mut self, key: u64) -> Result<bool> {
        match self.take(key) {
            Some(Value::Bool(value)) => Ok(value),
            _ => Err(self.wrong(key)),
        }
    }

    pub fn optional_bytes(&mut self, key: u64) -> Result<Option<Vec<u8>>> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Bytes(bytes)) => Ok(Some(bytes)),
            Some(_) => Err(self.wrong(key)),
        }
    }

    pub fn bytes(&mut self, key: u64) -> Result<Vec<u8>> {
        self.optional_bytes(key)?.ok_or_else(|| self.wrong(key))
    }

    pub fn optional_fixed<const N: usize>(&mut self, key: u64) -> Result<Option<[u8; N]>> {
        let Some(mut bytes) = self.optional_bytes(key)? else { return Ok(None) };
        let fixed = bytes.as_slice().try_into().map_err(|_| self.wrong(key));
        bytes.zeroize(); // it may have been a key
        fixed.map(Some)
    }

    pub fn fixed<const N: usize>(&mut self, key: u64) -> Result<[u8; N]> {
        self.optional_fixed(key)?.ok_or_else(|| self.wrong(key))
    }

    pub fn optional_text(&mut self, key: u64) -> Result<Option<String>> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(key)),
        }
    }

    pub fn text(&mut self, key: u64) -> Result<String> {
        self.optional_text(key)?.ok_or_else(|| self.wrong(key))
    }

    /// An array, empty when absent, of at most `max` items.
    pub fn array(&mut self, key: u64, max: usize) -> Result<Vec<Value>> {
        match self.take(key) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) if items.len() <= max => Ok(items),
            Some(_) => Err(self.wrong(key)),
        }
    }

    /// An array of maps.
    pub fn maps(&mut self, key: u64, max: usize) -> Result<Vec<Fields>> {
        let rule = self.rule;
        self.array(key, max)?.into_iter().map(|item| Fields::of(item, rule)).collect()
    }

    pub fn map(&mut self, key: u64) -> Result<Option<Fields>> {
        let rule = self.rule;
        self.take(key).map(|value| Fields::of(value, rule)).transpose()
    }

    pub fn texts(&mut self, key: u64, max: usize) -> Result<Vec<String>> {
        let items = self.array(key, max)?;
        items
            .into_iter()
            .map(|item| match item {
                Value::Text(text) => Ok(text),
                _ => Err(self.wrong(key)),
            })
            .collect()
    }

    pub fn byte_strings(&mut self, key: u64, max: usize) -> Result<Vec<Vec<u8>>> {
        let items = self.array(key, max)?;
        items
            .into_iter()
            .map(|item| match item {
                Value::Bytes(bytes) => Ok(bytes),
                _ => Err(self.wrong(key)),
            })
            .collect()
    }

    pub fn fixed_strings<const N: usize>(&mut self, key: u64, max: usize) -> Result<Vec<[u8; N]>> {
        let items = self.byte_strings(key, max)?;
        items.into_iter().map(|item| item.try_into().map_err(|_| self.wrong(key))).collect()
    }

    pub fn end(self) -> Result<Vec<(u64, Value)>> {
        match self.pairs.first() {
            Some((key, _)) if *key < FIRST_OPTIONAL_KEY => {
                Err(FormatError::new(self.rule, format!("unknown field {key}")))
            }
            _ => Ok(self.pairs),
        }
    }
}

pub fn texts(items: &[String]) -> Value {
    Value::Array(items.iter().map(|item| Value::from(item.as_str())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips() {
        let value = MapBuilder::default()
            .put(1, 1u64 << 40)
            .put(3, "text")
            .put(2, &b"bytes"[..])
            .put(70_000, Value::Array(vec![true.into(), 24u64.into()]))
            .finish();
        assert_eq!(Value::parse(&value.encode()).as_ref(), Ok(&value));
        assert!(value.most() >= value.encode().len(), "else a key is left where it lay before");
        assert_eq!(*value.encode(), **value.clone().encode_secret());
    }

    #[test]
    fn refuses_what_is_not_canonical() {
        for (bytes, rule) in [
            (&[][..], "CBOR-1"),
            (&[0x18, 0x05], "CBOR-4"),
            (&[0x5f], "CBOR-2"),
            (&[0xf6], "CBOR-3"),
            (&[0x20], "CBOR-3"),
            (&[0xa2, 0x02, 0x00, 0x01, 0x00], "CBOR-5"),
            (&[0xa2, 0x01, 0x00, 0x01, 0x00], "CBOR-5"),
            (&[0x9b, 0xff, 0, 0, 0, 0, 0, 0, 0], "CBOR-1"),
            (&[0x00, 0x00], "CBOR-6"),
            (&[0x81; 20], "CBOR-3"),
        ] {
            assert_eq!(Value::parse(bytes).map_err(|error| error.rule), Err(rule), "{bytes:x?}");
        }
    }
}
