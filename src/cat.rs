//! One object of the repository, verified, opened as far as the key at hand
//! allows, and told as a plain value.

use serde_json::{Map, Value, json};

use crate::format::config::{CONFIG_KEY, Config};
use crate::format::manifest::{self, Failure, Manifest, PrivatePart};
use crate::format::notes::{self, Confirmation, Mark, Record, Session, Sweep};
use crate::format::object::{self, MAX_OBJECT};
use crate::format::pack::{self, MAX_PACK, SessionKey, Toc, TocFrame};
use crate::format::segment::{self, MAX_SEGMENT, Segment};
use crate::format::slot::Slot;
use crate::format::update::{self, ConfigUpdate};
use crate::format::{FormatError, Kind, Place};
use crate::id::{WriterId, hex};
use crate::repository::{Error, ErrorKind, Repository, Result};

/// The object's stored bytes, as they are.
pub fn raw(repository: &Repository, key: &str) -> Result<Vec<u8>> {
    let max_length = match key {
        _ if key.starts_with(pack::PREFIX) => MAX_PACK,
        _ if key.starts_with(segment::PREFIX) => MAX_SEGMENT as u64,
        _ => MAX_OBJECT as u64,
    };
    let get = repository.store().get(key, max_length);
    get.map(|bytes| bytes.to_vec()).map_err(|error| match error.kind() {
        crate::store::ErrorKind::NotFound => {
            Error::failed(format!("{key}: there is no such object in {}", repository.url()))
        }
        _ => error.into(),
    })
}

/// What the object says. Fails when its signature or seal is not right.
pub fn cat(repository: &Repository, key: &str) -> Result<Value> {
    let kind = kind_of(key).ok_or_else(|| {
        Error::new(ErrorKind::Usage, format!("{key:?} is no key of an object of this format"))
    })?;
    let bytes = raw(repository, key)?;
    let told = match kind {
        Kind::Config => config(repository, &bytes),
        Kind::Update => config_update(repository, key, &bytes),
        Kind::Slot => slot(repository, &bytes),
        Kind::Pack => table_of_contents(repository, &bytes),
        Kind::Segment => index_segment(repository, &bytes),
        _ => note(repository, kind, key, &bytes),
    };
    told.map_err(|error| Error::in_object(key, error))
}

fn kind_of(key: &str) -> Option<Kind> {
    let prefixes = [
        (update::PREFIX, Kind::Update),
        ("keys/", Kind::Slot),
        (pack::PREFIX, Kind::Pack),
        (segment::PREFIX, Kind::Segment),
        (notes::SESSIONS, Kind::Session),
        (manifest::PREFIX, Kind::Manifest),
        (notes::CONFIRMED, Kind::Confirmation),
        (notes::MARKS, Kind::Mark),
        (notes::SWEEPS, Kind::Sweep),
        (notes::RECORDS, Kind::Record),
    ];
    if key == CONFIG_KEY {
        return Some(Kind::Config);
    }
    prefixes.into_iter().find(|(prefix, _)| key.starts_with(prefix)).map(|(_, kind)| kind)
}

type Told = std::result::Result<Value, FormatError>;

fn config(repository: &Repository, bytes: &[u8]) -> Told {
    let (config, object) = Config::parse(bytes)?;
    config.verify(&object, &repository.keyring().admin)?;
    Ok(json!({
        "repository_id": config.repository.to_hex(),
        "admin_key": hex(&config.admin.0),
        "salt": hex(&config.salt),
        "argon2id": {
            "memory_kib": config.stretching.memory_kib,
            "passes": config.stretching.passes,
            "lanes": config.stretching.lanes,
        },
        "created_ms": config.created,
    }))
}

fn config_update(repository: &Repository, key: &str, bytes: &[u8]) -> Told {
    let update = ConfigUpdate::parse(bytes, repository.id(), key, &repository.keyring().admin)?;
    let writers: Vec<Value> = update
        .writers
        .iter()
        .map(|writer| {
            json!({
                "id": writer.id.to_hex(),
                "verify_key": hex(&writer.verify.0),
                "role": writer.role.name(),
                "label": writer.label,
                "domain": writer.domain,
                "created_ms": writer.created,
                "created_by": writer.created_by.to_hex(),
            })
        })
        .collect();
    let revoked: Vec<Value> = update
        .revoked
        .iter()
        .map(|revocation| {
            let standing: Vec<_> = revocation.standing.iter().map(|(id, _)| id.to_hex()).collect();
            json!({
                "writer": revocation.writer.to_hex(),
                "at_ms": revocation.at,
                "standing": standing,
            })
        })
        .collect();
    Ok(json!({
        "number": update.number,
        "epoch": update.epoch,
        "content_key": hex(&blake3::hash(update.content.bytes()).as_bytes()[..16]),
        "grants": update.grants.iter().map(|(slot, _)| slot.to_hex()).collect::<Vec<_>>(),
        "writers": writers,
        "revoked": revoked,
        "features": {
            "incompatible": update.features.incompatible,
            "read_compatible": update.features.read_compatible,
            "compatible": update.features.compatible,
        },
        "chunk_size": update.chunker.average(),
        "listing_lag_seconds": update.listing_lag,
        "written_ms": update.written,
        "program": update.program,
    }))
}

fn slot(repository: &Repository, bytes: &[u8]) -> Told {
    let (slot, object) = Slot::parse(bytes)?;
    slot.verify(&object, repository.id(), &repository.keyring().admin)?;
    Ok(json!({
        "id": slot.id.to_hex(),
        "method": format!("{:?}", slot.method).to_lowercase(),
        "role": slot.role.name(),
        "label": slot.label,
        "writer": slot.writer.to_hex(),
        "created_ms": slot.created,
        "created_by": slot.created_by.to_hex(),
    }))
}

fn verify_key(
    repository: &Repository,
    writer: WriterId,
) -> std::result::Result<&crate::crypto::VerifyKey, FormatError> {
    let unlisted = || FormatError::new("OBJ-7", "is signed by nobody this repository lists");
    repository.trust().verify_key(writer).ok_or_else(unlisted)
}

fn table_of_contents(repository: &Repository, bytes: &[u8]) -> Told {
    let frame = TocFrame::of_pack(bytes)?;
    frame.verify(repository.id(), verify_key(repository, frame.footer.signer)?)?;
    let index_key = repository.keyring().index_key(frame.footer.epoch)?;
    let toc = frame.open(repository.id(), index_key)?;
    let mut told = toc_value(&toc);
    told.insert("signer".to_owned(), frame.footer.signer.to_hex().into());
    told.insert("epoch".to_owned(), frame.footer.epoch.into());
    told.insert("bytes".to_owned(), bytes.len().into());
    Ok(Value::Object(told))
}

fn toc_value(toc: &Toc) -> Map<String, Value> {
    let sessions: Vec<Value> = toc
        .sessions
        .iter()
        .map(|session| {
            let key = match session.key {
                SessionKey::Sealed(_) => "sealed to the content key",
                SessionKey::Index => "index key",
            };
            json!({ "epoch": session.epoch, "writer": session.writer.to_hex(), "key": key })
        })
        .collect();
    let mut chunks = toc.chunks.iter();
    let blocks: Vec<Value> = toc
        .blocks
        .iter()
        .zip(toc.offsets())
        .map(|(block, offset)| {
            let chunks: Vec<Value> = chunks
                .by_ref()
                .take(block.chunks as usize)
                .map(|chunk| json!({ "id": chunk.id.to_hex(), "bytes": chunk.length }))
                .collect();
            json!({
                "offset": offset,
                "stored_bytes": block.stored_length,
                "bytes": block.raw_length,
                "kind": format!("{:?}", block.kind).to_lowercase(),
                "codec": format!("{:?}", block.codec).to_lowercase(),
                "session": block.session,
                "stored_hash": hex(&block.stored_hash),
                "chunks": chunks,
            })
        })
        .collect();
    let foreign: Vec<Value> = toc
        .foreign
        .iter()
        .map(|run| {
            json!({
                "start": run.start,
                "count": run.count,
                "birth": run.birth.0,
                "pack": run.pack.to_hex(),
                "ordinal": run.ordinal,
            })
        })
        .collect();
    let mut told = Map::new();
    told.insert("kind".to_owned(), format!("{:?}", toc.kind).to_lowercase().into());
    told.insert("birth".to_owned(), toc.birth.0.into());
    told.insert("run".to_owned(), toc.run.to_hex().into());
    told.insert("sessions".to_owned(), sessions.into());
    told.insert("blocks".to_owned(), blocks.into());
    told.insert("foreign".to_owned(), foreign.into());
    told
}

fn index_segment(repository: &Repository, bytes: &[u8]) -> Told {
    let segment = Segment::parse(bytes)?;
    segment.verify(repository.id(), verify_key(repository, segment.header.signer)?)?;
    let index_key = repository.keyring().index_key(segment.header.epoch)?;
    let directory = segment.directory(repository.id(), index_key)?;
    let packs: Vec<Value> = directory
        .packs
        .iter()
        .map(|pack| json!({ "id": pack.id.to_hex(), "bytes": pack.length }))
        .collect();
    Ok(json!({
        "signer": segment.header.signer.to_hex(),
        "epoch": segment.header.epoch,
        "supersedes": directory.supersedes.iter().map(|id| id.to_hex()).collect::<Vec<_>>(),
        "removes": directory.removes.iter().map(|id| id.to_hex()).collect::<Vec<_>>(),
        "packs": packs,
    }))
}

/// Objects that a writer signed: the public part, and the private one for those
/// who may read it.
fn note(repository: &Repository, kind: Kind, key: &str, bytes: &[u8]) -> Told {
    let object = object::parse(bytes, kind)?;
    let place = Place { repository: repository.id(), kind, epoch: object.epoch, key };
    object.verify(verify_key(repository, object.writer)?, &place)?;
    let text = object.open(repository.keyring().index_key(object.epoch)?, &place)?;
    let mut told = match kind {
        Kind::Manifest => manifest_value(&Manifest::parse(&text)?),
        Kind::Confirmation => {
            let confirmation = Confirmation::parse(&text)?;
            json!({ "manifest": hex(&confirmation.manifest.0), "time_ms": confirmation.time })
        }
        Kind::Mark => {
            let mark = Mark::parse(&text)?;
            json!({ "mark": format!("{:?}", mark.kind), "time_ms": mark.time })
        }
        Kind::Sweep => sweep_value(&Sweep::parse(&text)?),
        Kind::Record => record_value(&Record::parse(&text)?),
        _ => session_value(&Session::parse(&text)?),
    };
    told["signer"] = object.writer.to_hex().into();
    told["epoch"] = object.epoch.into();
    let private = repository.keyring().content_private(object.epoch).ok();
    if let Some(private) = private.filter(|_| !object.attachment.is_empty()) {
        let text = object.open_attachment(private, &place)?;
        told["private"] = match kind {
            Kind::Manifest => private_value(&PrivatePart::parse(&text)?),
            _ => String::from_utf8_lossy(&text).into(),
        };
    }
    Ok(told)
}

fn session_value(session: &Session) -> Value {
    json!({
        "state": format!("{:?}", session.state).to_lowercase(),
        "time_ms": session.time,
        "host": session.host,
        "boot": session.boot,
        "process": session.process,
        "profile": session.profile,
        "packs": session.packs,
        "bytes": session.bytes,
        "exit_code": session.code,
        "machine": session.machine,
    })
}

fn sweep_value(sweep: &Sweep) -> Value {
    json!({
        "manifests": sweep.manifests.iter().map(|id| id.to_hex()).collect::<Vec<_>>(),
        "packs": sweep.packs.iter().map(|id| id.to_hex()).collect::<Vec<_>>(),
        "time_ms": sweep.time,
    })
}

fn record_value(record: &Record) -> Value {
    let counts: Map<String, Value> =
        record.counts.iter().map(|(name, number)| (name.clone(), (*number).into())).collect();
    json!({
        "kind": record.kind,
        "started_ms": record.started,
        "ended_ms": record.ended,
        "host": record.host,
        "exit_code": record.code,
        "extent": record.extent,
        "snapshots": record.snapshots.iter().map(|id| id.to_hex()).collect::<Vec<_>>(),
        "counts": counts,
    })
}

fn manifest_value(manifest: &Manifest) -> Value {
    let sources: Vec<Value> = manifest
        .sources
        .iter()
        .map(|source| {
            let outcome = format!("{:?}", source.outcome).to_lowercase();
            json!({ "label": source.label, "outcome": outcome, "required": source.required })
        })
        .collect();
    let counts = &manifest.counts;
    json!({
        "id": manifest.id.to_hex(),
        "outcome": format!("{:?}", manifest.outcome).to_lowercase(),
        "started_ms": manifest.started,
        "ended_ms": manifest.ended,
        "zone": manifest.zone,
        "host": manifest.host,
        "profile": manifest.profile,
        "sources": sources,
        "writer": manifest.writer.to_hex(),
        "set": manifest.set.as_ref().map(|set| json!({
            "name": set.name,
            "parts": set.parts,
            "part": set.part,
            "system": set.system,
        })),
        "tags": manifest.tags,
        "expires_ms": manifest.expires,
        "counts": {
            "files": counts.files,
            "directories": counts.directories,
            "others": counts.others,
            "bytes": counts.bytes,
            "files_new": counts.files_new,
            "files_changed": counts.files_changed,
            "files_unchanged": counts.files_unchanged,
            "bytes_added": counts.bytes_added,
            "bytes_stored": counts.bytes_stored,
            "failures": counts.failures,
            "notes": counts.notes,
        },
        "parent": manifest.parent.map(|id| id.to_hex()),
        "replaces": manifest.replaces.map(|id| id.to_hex()),
        "copied_from": manifest.copied_from.as_ref().map(|from| json!({
            "repository": from.repository.to_hex(),
            "snapshot": from.snapshot.to_hex(),
            "writer": from.writer.to_hex(),
        })),
        "references": { "id": manifest.references.id.to_hex(), "level": manifest.references.level },
        "program": manifest.program,
    })
}

fn private_value(part: &PrivatePart) -> Value {
    let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
    let remarks = |list: &[Failure]| -> Vec<Value> {
        list.iter().map(|r| json!({ "path": text(&r.path), "reason": r.reason })).collect()
    };
    json!({
        "tree": { "id": part.tree.id.to_hex(), "level": part.tree.level },
        "paths": part.paths.iter().map(text).collect::<Vec<_>>(),
        "exclusions": part.exclusions,
        "failures": remarks(&part.failures),
        "notes": remarks(&part.notes),
        "filesystems": part.filesystems.iter().map(text).collect::<Vec<_>>(),
        "profile": part.profile,
        "restore_commands": part.restore_commands,
    })
}
