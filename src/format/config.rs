//! `config`: what a repository is, in clear, signed by its admin key.
//!
//! `format-spec/05-config.md`, rules `[CONF-1]` to `[CONF-3]`.

use super::cbor::{Fields, MapBuilder, Value};
use super::object::{self, Contents, Object};
use super::{FormatError, Kind, Place, Result};
use crate::crypto::{SigningKey, Stretching, VerifyKey};
use crate::id::RepositoryId;

pub const CONFIG_KEY: &str = "config";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub repository: RepositoryId,
    pub admin: VerifyKey,
    pub salt: [u8; 16],
    pub stretching: Stretching,
    /// Milliseconds since 1970-01-01 UTC.
    pub created: u64,
    /// Fields of a later version, kept.
    pub kept: Vec<(u64, Value)>,
}

impl Config {
    fn place(&self) -> Place<'static> {
        Place { repository: self.repository, kind: Kind::Config, epoch: 0, key: CONFIG_KEY }
    }

    pub fn encode(&self, admin: &SigningKey) -> Vec<u8> {
        let Stretching { memory_kib, passes, lanes } = self.stretching;
        let stretching: Vec<Value> =
            [memory_kib, passes, lanes].map(|number| u64::from(number).into()).into();
        let payload = MapBuilder::default()
            .put(1, &self.repository.0[..])
            .put(2, &self.admin.0[..])
            .put(3, &self.salt[..])
            .put(4, stretching)
            .put(5, self.created)
            .extend(&self.kept)
            .encode();
        let contents = Contents {
            place: self.place(),
            writer: object::ADMIN,
            index_key: None,
            payload: &payload,
            attachment: None,
        };
        object::encode(&contents, admin)
    }

    /// Parses without believing: only version, salt and stretching may be used
    /// before [`verify`](Self::verify) was called with a key from a slot.
    pub fn parse(bytes: &[u8]) -> Result<(Config, Object<'_>)> {
        let object = object::parse(bytes, Kind::Config)?;
        let mut fields = Fields::parse(object.payload, "CONF-1")?;
        let repository = RepositoryId(fields.fixed(1)?);
        let admin = VerifyKey(fields.fixed(2)?);
        let salt = fields.fixed(3)?;
        let numbers = fields
            .array(4, 3)?
            .into_iter()
            .map(|value| match value {
                Value::Uint(number) => u32::try_from(number).ok(),
                _ => None,
            })
            .collect::<Option<Vec<u32>>>();
        let Some([memory_kib, passes, lanes]) = numbers.as_deref() else {
            return Err(FormatError::new("CONF-2", "password stretching is not three numbers"));
        };
        let stretching = Stretching { memory_kib: *memory_kib, passes: *passes, lanes: *lanes };
        let created = fields.uint(5)?;
        let kept = fields.end()?;
        Ok((Config { repository, admin, salt, stretching, created, kept }, object))
    }

    /// Whether the admin key that a slot vouches for signed this config.
    pub fn verify(&self, object: &Object<'_>, admin: &VerifyKey) -> Result<()> {
        if self.admin != *admin {
            return Err(FormatError::new("CONF-3", "names another admin key than the slot"));
        }
        object.verify(admin, &self.place())
    }
}
