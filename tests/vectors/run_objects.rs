//! Runs vectors of envelopes, config, updates, slots, manifests and notes.

use esker::format::config::Config;
use esker::format::content::Root;
use esker::format::manifest::{Failure, Manifest, PrivatePart};
use esker::format::notes::{Confirmation, Mark, MarkKind, Record, Session, Sweep};
use esker::format::object;
use esker::format::slot::{EpochKeys, Secrets, Slot};
use esker::format::update::{self, ConfigUpdate};
use esker::format::{Kind, Place};
use esker::id::{RepositoryId, SlotId, hex};
use serde_json::{Value, json};

use crate::Outcome;
use crate::values::*;

pub fn run(kind: &str, inputs: &Value, keys: &Value) -> Option<Outcome> {
    Some(match kind {
        "object" => envelope(inputs, keys),
        "config" => config(inputs, keys),
        "update" => config_update(inputs, keys),
        "grant" => grant(inputs, keys),
        "slot" => slot(inputs, keys),
        "manifest" => Manifest::parse(&bytes(inputs, "bytes")).map(|m| manifest(&m)).map_err(rule),
        "private_part" => {
            PrivatePart::parse(&bytes(inputs, "bytes")).map(|p| private_part(&p)).map_err(rule)
        }
        "session" => Session::parse(&bytes(inputs, "bytes")).map(|s| session(&s)).map_err(rule),
        "confirmation" => Confirmation::parse(&bytes(inputs, "bytes"))
            .map(|c| json!({ "manifest": hex(&c.manifest.0), "time": c.time }))
            .map_err(rule),
        "mark" => Mark::parse(&bytes(inputs, "bytes")).map(|m| mark(&m)).map_err(rule),
        "sweep" => Sweep::parse(&bytes(inputs, "bytes")).map(|s| sweep(&s)).map_err(rule),
        "record" => Record::parse(&bytes(inputs, "bytes")).map(|r| record(&r)).map_err(rule),
        _ => return None,
    })
}

fn repository(inputs: &Value) -> RepositoryId {
    RepositoryId(fixed(inputs, "repository"))
}

fn envelope(inputs: &Value, keys: &Value) -> Outcome {
    let bytes = bytes(inputs, "bytes");
    let kind = Kind::from_byte(number(inputs, "object_kind") as u8).unwrap();
    let object = object::parse(&bytes, kind).map_err(rule)?;
    let place = Place {
        repository: repository(inputs),
        kind,
        epoch: object.epoch,
        key: text(inputs, "key"),
    };
    object.verify(&verify(keys, "verify"), &place).map_err(rule)?;
    let payload = match object.epoch {
        0 => object.payload.to_vec(),
        _ => object.open(&secret(keys, "index"), &place).map_err(rule)?,
    };
    let attachment = match object.attachment {
        [] => Value::Null,
        _ => hex(&object.open_attachment(&hybrid(keys, "content"), &place).map_err(rule)?).into(),
    };
    Ok(json!({ "epoch": object.epoch, "writer": hex(&object.writer.0), "payload": hex(&payload),
        "attachment": attachment }))
}

fn config(inputs: &Value, keys: &Value) -> Outcome {
    let bytes = bytes(inputs, "bytes");
    let (config, object) = Config::parse(&bytes).map_err(rule)?;
    config.verify(&object, &verify(keys, "admin")).map_err(rule)?;
    Ok(json!({
        "repository": hex(&config.repository.0),
        "admin": hex(&config.admin.0),
        "salt": hex(&config.salt),
        "memory_kib": config.stretching.memory_kib,
        "passes": config.stretching.passes,
        "lanes": config.stretching.lanes,
        "created": config.created,
    }))
}

fn config_update(inputs: &Value, keys: &Value) -> Outcome {
    let update = ConfigUpdate::parse(
        &bytes(inputs, "bytes"),
        repository(inputs),
        text(inputs, "key"),
        &verify(keys, "admin"),
    )
    .map_err(rule)?;
    let f = &update.features;
    Ok(json!({
        "number": update.number,
        "previous": list(&update.previous, |hash| hex(&hash.0).into()),
        "epoch": update.epoch,
        "content": hex(&update.content.bytes()[..]),
        "grants": list(&update.grants, |(slot, sealed)| json!([hex(&slot.0), hex(sealed)])),
        "writers": list(&update.writers, |w| json!({
            "id": hex(&w.id.0), "verify": hex(&w.verify.0), "role": w.role as u8,
            "label": w.label, "domain": w.domain, "created": w.created,
            "created_by": hex(&w.created_by.0),
        })),
        "revoked": list(&update.revoked, |r| json!({
            "writer": hex(&r.writer.0), "at": r.at,
            "standing": list(&r.standing, |(id, hash)| json!([hex(&id.0), hex(&hash.0)])),
        })),
        "features": [f.incompatible, f.read_compatible, f.compatible],
        "average": update.chunker.average(),
        "listing_lag": update.listing_lag,
        "written": update.written,
        "program": update.program,
    }))
}

fn epoch_keys(keys: &EpochKeys) -> Value {
    json!({ "epoch": keys.epoch, "index": hex(keys.index.bytes()),
        "content": keys.content.as_ref().map(|key| hex(key.seed())) })
}

fn grant(inputs: &Value, keys: &Value) -> Outcome {
    update::open_grant(
        repository(inputs),
        SlotId(fixed(inputs, "slot")),
        &hybrid(keys, "recipient"),
        number(inputs, "epoch") as u32,
        &bytes(inputs, "sealed"),
    )
    .map(|keys| epoch_keys(&keys))
    .map_err(rule)
}

fn slot(inputs: &Value, keys: &Value) -> Outcome {
    let bytes = bytes(inputs, "bytes");
    let (slot, object) = Slot::parse(&bytes).map_err(rule)?;
    let secrets = match keys.get("recipient") {
        Some(_) => slot.unwrap_with(&hybrid(keys, "recipient"), repository(inputs)),
        None => slot.unwrap(&secret(keys, "input"), repository(inputs)).map_err(rule)?,
    };
    if let Some(secrets) = &secrets {
        slot.verify(&object, repository(inputs), &secrets.admin).map_err(rule)?;
    }
    Ok(json!({
        "id": hex(&slot.id.0),
        "method": slot.method as u8,
        "role": slot.role as u8,
        "label": slot.label,
        "writer": hex(&slot.writer.0),
        "recipient": hex(&slot.recipient.bytes()[..]),
        "created": slot.created,
        "created_by": hex(&slot.created_by.0),
        "commitment": slot.commitment.map(|bytes| hex(&bytes)),
        "secrets": secrets.as_ref().map(show_secrets),
    }))
}

fn show_secrets(secrets: &Secrets) -> Value {
    json!({
        "role": secrets.role as u8,
        "repository": hex(&secrets.repository.0),
        "admin": hex(&secrets.admin.0),
        "writer": hex(&secrets.writer.0),
        "signer": hex(&*secrets.signer.seed()),
        "recipient": hex(secrets.recipient.seed()),
        "domain": secrets.domain,
        "root": secrets.root.as_ref().map(|key| hex(key.bytes())),
        "epochs": list(&secrets.epochs, epoch_keys),
        "chunk_ids": list(&secrets.chunk_ids, |(kind, key)| json!([*kind as u8, hex(key.bytes())])),
        "chunker": secrets.chunker.as_ref().map(|key| hex(key.bytes())),
    })
}

fn root(root: Root) -> Value {
    json!({ "id": hex(&root.id.0), "level": root.level })
}

fn manifest(m: &Manifest) -> Value {
    let c = &m.counts;
    json!({
        "id": hex(&m.id.0),
        "outcome": m.outcome as u8,
        "started": m.started,
        "ended": m.ended,
        "zone": m.zone,
        "host": m.host,
        "profile": m.profile,
        "sources": list(&m.sources, |s| json!([s.label, s.outcome as u8, s.required])),
        "writer": hex(&m.writer.0),
        "set": m.set.as_ref().map(|set| json!({ "name": set.name, "parts": set.parts,
            "part": set.part, "system": set.system,
            "writers": list(&set.writers, |id| hex(&id.0).into()) })),
        "tags": m.tags,
        "expires": m.expires,
        "promises": [m.promises.maximum_age, m.promises.drill_interval, m.promises.check_interval],
        "counts": [c.files, c.directories, c.others, c.bytes, c.files_new, c.files_changed,
            c.files_unchanged, c.bytes_added, c.bytes_stored, c.failures, c.notes],
        "parent": m.parent.map(|id| hex(&id.0)),
        "replaces": m.replaces.map(|id| hex(&id.0)),
        "copied_from": m.copied_from.as_ref().map(|from| json!([hex(&from.repository.0),
            hex(&from.snapshot.0), hex(&from.writer.0)])),
        "references": root(m.references),
        "program": m.program,
    })
}

fn private_part(p: &PrivatePart) -> Value {
    let failures =
        |list_of: &[Failure]| list(list_of, |failure| json!([hex(&failure.path), failure.reason]));
    json!({
        "tree": root(p.tree),
        "paths": hexes(&p.paths),
        "exclusions": p.exclusions,
        "failures": failures(&p.failures),
        "notes": failures(&p.notes),
        "filesystems": hexes(&p.filesystems),
        "profile": p.profile,
        "restore_commands": p.restore_commands,
    })
}

fn session(s: &Session) -> Value {
    json!({ "state": s.state as u8, "time": s.time, "host": s.host, "boot": s.boot,
        "process": s.process, "profile": s.profile, "packs": s.packs, "bytes": s.bytes,
        "code": s.code, "machine": s.machine })
}

fn mark(m: &Mark) -> Value {
    let mut fields = match &m.kind {
        MarkKind::Forget => json!({ "mark": 1 }),
        MarkKind::Undo => json!({ "mark": 2 }),
        MarkKind::Name(name) => json!({ "mark": 3, "text": name }),
        MarkKind::Description(text) => json!({ "mark": 4, "text": text }),
        MarkKind::Tags { add, remove } => json!({ "mark": 5, "add": add, "remove": remove }),
        MarkKind::Pin(pinned) => json!({ "mark": 6, "pinned": pinned }),
        MarkKind::Damaged(packs) => {
            json!({ "mark": 7, "packs": list(packs, |id| hex(&id.0).into()) })
        }
    };
    fields["time"] = m.time.into();
    fields
}

fn sweep(s: &Sweep) -> Value {
    json!({ "manifests": list(&s.manifests, |id| hex(&id.0).into()),
        "packs": list(&s.packs, |id| hex(&id.0).into()), "time": s.time })
}

fn record(r: &Record) -> Value {
    json!({ "kind": r.kind, "started": r.started, "ended": r.ended, "host": r.host,
        "code": r.code, "extent": r.extent,
        "snapshots": list(&r.snapshots, |id| hex(&id.0).into()), "counts": r.counts })
}
