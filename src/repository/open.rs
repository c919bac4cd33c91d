//! Makes a repository, and opens one. What is read for that is in `opening`.

use std::sync::Arc;

use super::blocks::BlockCache;
use super::error::{Error, ErrorKind, Result};
use super::index::Index;
use super::keyring::Trust;
use super::local::{CacheRoot, LocalState, SeenUpdates};
use super::opening::{Opened, Opening};
use super::updates::Updates;
use super::{Repository, now_ms};
use crate::chunker::ChunkerParams;
use crate::crypto::keys::key_file_input;
use crate::crypto::{
    HybridPrivate, HybridPublic, SecretKey, SigningKey, Stretching, VerifyKey, keys, random,
};
use crate::format::config::{CONFIG_KEY, Config};
use crate::format::object::MAX_OBJECT;
use crate::format::slot::{Method, Role, Secrets, Slot, slot_key};
use crate::format::update::{self, ConfigUpdate, Features, Writer};
use crate::id::{RepositoryId, SlotId, WriterId};
use crate::store::Store;

/// What opens a slot.
pub enum Unlock {
    Password(zeroize::Zeroizing<Vec<u8>>),
    KeyFile(SecretKey),
    /// A recipient's private key with the admin key it was given: without the
    /// latter, a store could present a repository of its own making.
    Identity {
        key: HybridPrivate,
        admin: VerifyKey,
    },
}

/// What a new slot is opened with.
pub enum NewSlot {
    Password(zeroize::Zeroizing<Vec<u8>>),
    KeyFile(SecretKey),
    Recipient(HybridPublic),
}

pub struct InitOptions {
    pub slot: NewSlot,
    pub label: String,
    pub chunker: ChunkerParams,
    /// Cut like another repository, so that copies between the two share chunks.
    pub chunker_key: Option<SecretKey>,
    pub stretching: Stretching,
}

pub(super) fn no_repository(url: &str) -> Error {
    Error::new(
        ErrorKind::NoRepository,
        format!(
            "{url}: there is no repository here: make one with `esker -r {url} init`, or name another with -r"
        ),
    )
}

/// Makes a slot for `secrets` and wraps them.
pub(crate) fn make_slot(
    slot: &NewSlot,
    label: &str,
    secrets: &Secrets,
    created_by: WriterId,
    config: &Config,
) -> Result<Slot> {
    let mut new = Slot {
        id: SlotId::random(),
        method: match slot {
            NewSlot::Password(_) => Method::Password,
            NewSlot::KeyFile(_) => Method::KeyFile,
            NewSlot::Recipient(_) => Method::Recipient,
        },
        role: secrets.role,
        label: label.to_owned(),
        writer: secrets.writer,
        recipient: secrets.recipient.public(),
        created: now_ms(),
        created_by,
        sealed: Vec::new(),
        commitment: None,
        kept: Vec::new(),
    };
    match slot {
        NewSlot::Password(password) => {
            let input = config
                .stretching
                .stretch(password, &config.salt)
                .map_err(|error| Error::failed(error.to_string()))?;
            new.wrap(&input, secrets);
        }
        NewSlot::KeyFile(key) => new.wrap(&key_file_input(key), secrets),
        NewSlot::Recipient(recipient) => new.wrap_to(recipient, secrets),
    }
    Ok(new)
}

impl Repository {
    /// Makes a new repository in an empty store: slot, first update, config, in
    /// that order, read back at the end.
    pub fn init(store: &Arc<dyn Store>, options: &InitOptions) -> Result<RepositoryId> {
        if store_holds_repository(store)? {
            let message = format!("{}: there is a repository here already", store.url());
            return Err(Error::failed(message));
        }
        let root = SecretKey::random();
        let admin = keys::admin(&root);
        let config = Config {
            repository: RepositoryId::random(),
            admin: admin.verify_key(),
            salt: random(),
            stretching: options.stretching,
            created: now_ms(),
            kept: Vec::new(),
        };
        let secrets = Secrets {
            role: Role::Full,
            repository: config.repository,
            admin: admin.verify_key(),
            writer: WriterId::random(),
            signer: SigningKey::random(),
            recipient: HybridPrivate::random(),
            domain: "default".to_owned(),
            chunker: Some(options.chunker_key.clone().unwrap_or_else(|| keys::chunker(&root))),
            root: Some(root.clone()),
            epochs: Vec::new(),
            chunk_ids: Vec::new(),
        };
        let slot = make_slot(&options.slot, &options.label, &secrets, secrets.writer, &config)?;
        let first = first_update(&secrets, &root, &options.label, options.chunker);
        store.put(&slot_key(slot.id), slot.encode(config.repository, &admin).into())?;
        let key = update::new_key(1);
        store.put(&key, first.encode(config.repository, &key, &admin).into())?;
        store.put(CONFIG_KEY, config.encode(&admin).into())?;
        let read_back = store.get(CONFIG_KEY, MAX_OBJECT as u64)?;
        let (stored, _) =
            Config::parse(&read_back).map_err(|error| Error::in_object(CONFIG_KEY, error))?;
        if stored != config {
            return Err(Error::damage(format!(
                "{}: the store gave back another config",
                store.url()
            )));
        }
        Ok(config.repository)
    }

    /// Opens the repository in `store`.
    ///
    /// What it is opened with never changes: a machine that did so lately asks only which updates there are now.
    pub fn open(store: Arc<dyn Store>, unlock: &Unlock, cache: &CacheRoot) -> Result<Repository> {
        let known = cache.known_repository(store.url());
        if let Some(known) = known {
            let local = cache.repository(known, store.url())?;
            let index = open_index(&local)?;
            let remembered = Opening::remembered(&*store, &index, &local)?;
            // whatever is wrong with what is remembered, the store tells
            let opened = remembered.and_then(|opening| opening.open(&*store, unlock, &local).ok());
            if let Some(opened) = opened {
                return Repository::of(store, opened, local, index);
            }
        }
        let opening = Opening::get(&*store, known.is_some())?;
        let unlocked = opening.unlock(store.url(), unlock)?;
        if known.is_some_and(|known| known != unlocked.secrets.repository) {
            return Err(other_repository(store.url()));
        }
        let local = cache.repository(unlocked.secrets.repository, store.url())?;
        let opened = opening.judge(unlocked, &local)?;
        let index = open_index(&local)?;
        let repository = Repository::of(store, opened, local, index)?;
        repository.local.note_opened();
        Ok(repository)
    }

    fn of(
        store: Arc<dyn Store>,
        opened: Opened,
        local: LocalState,
        index: Index,
    ) -> Result<Repository> {
        local.remember_updates(&opened.updates.seen())?;
        opened.remember(&index);
        Ok(Repository {
            store,
            keyring: opened.keyring,
            trust: opened.trust,
            newest_updates: opened.updates.newest,
            index,
            ranged: Default::default(),
            blocks: BlockCache::default(),
            local,
            config: opened.config,
            proofs: Default::default(),
            may_use_reserve: false.into(),
        })
    }

    /// The updates as they are now.
    pub(crate) fn load_updates(&self) -> Result<Updates> {
        let seen =
            SeenUpdates { number: self.trust.update().number, hashes: self.newest_updates.clone() };
        Updates::load(&*self.store, &self.index, self.id(), &self.keyring.admin, &seen)
    }

    /// Loads the updates again: somebody may have been revoked meanwhile.
    pub fn reload_trust(&self) -> Result<Trust> {
        Ok(Trust::new(self.load_updates()?.merged))
    }
}

fn store_holds_repository(store: &Arc<dyn Store>) -> Result<bool> {
    Ok(store.exists(CONFIG_KEY)?)
}

fn open_index(local: &LocalState) -> Result<Index> {
    match local.directory() {
        Some(directory) => Index::open(directory),
        None => Index::in_memory(),
    }
}

pub(super) fn other_repository(url: &str) -> Error {
    Error::new(
        ErrorKind::NoRepository,
        format!(
            "{url}: this is not the repository this machine used: if that is meant to be, \
             say --accept-other-repository once"
        ),
    )
}

fn first_update(
    secrets: &Secrets,
    root: &SecretKey,
    label: &str,
    chunker: ChunkerParams,
) -> ConfigUpdate {
    let created = now_ms();
    ConfigUpdate {
        number: 1,
        previous: Vec::new(),
        epoch: 1,
        content: keys::content(root, 1).public(),
        grants: Vec::new(),
        writers: vec![Writer {
            id: secrets.writer,
            verify: secrets.signer.verify_key(),
            role: Role::Full,
            label: label.to_owned(),
            domain: secrets.domain.clone(),
            created,
            created_by: secrets.writer,
        }],
        revoked: Vec::new(),
        features: Features::default(),
        chunker,
        listing_lag: None,
        written: created,
        program: program(),
        kept: Vec::new(),
    }
}

/// Name and version of this program, as objects record it.
pub fn program() -> String {
    concat!("esker ", env!("CARGO_PKG_VERSION")).to_owned()
}
