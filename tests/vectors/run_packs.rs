//! Runs vectors of packs, segments, contents, entries, references and pages.

use esker::format::content::{Content, Item};
use esker::format::entry::{Entry, EntryKind, Metadata};
use esker::format::pack::{self, Birth, Footer, SessionKey, Toc, TocFrame};
use esker::format::page::{FinishedPage, Page, PageBuilder, PageKind};
use esker::format::reader::Reader;
use esker::format::reference::{Reference, parse_reference};
use esker::format::segment::{Directory, Segment};
use esker::id::{ChunkId, PackId, RepositoryId, hex};
use serde_json::{Value, json};

use crate::Outcome;
use crate::values::*;

pub fn run(kind: &str, inputs: &Value, keys: &Value) -> Option<Outcome> {
    Some(match kind {
        "pack_header" => pack::parse_header(&bytes(inputs, "bytes"))
            .map(|(kind, birth)| json!({ "pack_kind": kind as u8, "birth": birth.0 }))
            .map_err(rule),
        "toc_frame" => toc_frame(inputs, keys),
        "toc" => Toc::parse(&bytes(inputs, "bytes"))
            .map(|table| toc(&table, PackId(fixed(inputs, "pack"))))
            .map_err(rule),
        "segment" => segment(inputs, keys),
        "directory" => {
            Directory::parse(&bytes(inputs, "bytes")).map(|d| directory(&d)).map_err(rule)
        }
        "content" => alone(inputs, Content::parse, content),
        "entry" => alone(inputs, Entry::parse, entry),
        "reference" => alone(inputs, parse_reference, reference),
        "page" => page(inputs),
        "page_cut" => Ok(page_cut(inputs, keys)),
        _ => return None,
    })
}

/// One item as a page of just it would be read: bytes left over are PAGE-2.
fn alone<T>(
    inputs: &Value,
    parse: impl Fn(&mut Reader<'_>) -> esker::format::Result<T>,
    show: impl Fn(&T) -> Value,
) -> Outcome {
    let bytes = bytes(inputs, "bytes");
    let mut reader = Reader::new(&bytes, "PAGE-2");
    let value = parse(&mut reader).map_err(rule)?;
    reader.end().map_err(rule)?;
    Ok(show(&value))
}

fn toc_frame(inputs: &Value, keys: &Value) -> Outcome {
    let bytes = bytes(inputs, "bytes");
    let repository = RepositoryId(fixed(inputs, "repository"));
    let frame = match inputs["whole_pack"].as_bool().unwrap() {
        true => TocFrame::of_pack(&bytes),
        false => TocFrame::parse(&bytes),
    };
    let frame = frame.map_err(rule)?;
    frame.verify(repository, &verify(keys, "verify")).map_err(rule)?;
    let table = frame.open(repository, &secret(keys, "index")).map_err(rule)?;
    let Footer { epoch, toc_length, signer, .. } = frame.footer;
    Ok(json!({ "epoch": epoch, "sealed_length": toc_length, "signer": hex(&signer.0),
        "toc": toc(&table, PackId(*blake3::hash(&bytes).as_bytes())) }))
}

/// The table; `pack` is what chunks without a foreign origin are born in.
fn toc(table: &Toc, pack: PackId) -> Value {
    let offsets = table.offsets();
    let blocks: Vec<Value> = table
        .blocks
        .iter()
        .zip(offsets)
        .map(|(block, offset)| {
            json!({ "kind": block.kind as u8, "codec": block.codec as u8,
                "session": block.session, "offset": offset,
                "stored_length": block.stored_length, "raw_length": block.raw_length,
                "chunks": block.chunks, "stored_hash": hex(&block.stored_hash) })
        })
        .collect();
    let chunks: Vec<Value> = (0u16..)
        .zip(&table.chunks)
        .map(|(ordinal, chunk)| {
            let born = table.coordinate(pack, ordinal);
            json!({ "id": hex(&chunk.id.0), "length": chunk.length, "birth": born.birth.0,
                "origin": hex(&born.pack.0), "ordinal": born.ordinal })
        })
        .collect();
    let sessions = list(&table.sessions, |session| {
        let sealed = match &session.key {
            SessionKey::Sealed(sealed) => Some(hex(sealed)),
            SessionKey::Index => None,
        };
        json!({ "epoch": session.epoch, "writer": hex(&session.writer.0), "sealed": sealed })
    });
    json!({ "pack_kind": table.kind as u8, "birth": table.birth.0, "run": hex(&table.run.0),
        "sessions": sessions, "blocks": blocks, "chunks": chunks })
}

fn directory(directory: &Directory) -> Value {
    json!({
        "supersedes": list(&directory.supersedes, |id| hex(&id.0).into()),
        "removes": list(&directory.removes, |id| hex(&id.0).into()),
        "packs": list(&directory.packs, |p| json!([hex(&p.id.0), p.length, p.frame_length, hex(&p.frame_hash)])),
        "pieces": list(&directory.pieces, |p| json!([hex(&p.first), p.rows, hex(&p.hash.0)])),
    })
}

fn segment(inputs: &Value, keys: &Value) -> Outcome {
    let bytes = bytes(inputs, "bytes");
    let repository = RepositoryId(fixed(inputs, "repository"));
    let key = secret(keys, "index");
    let segment = Segment::parse(&bytes).map_err(rule)?;
    segment.verify(repository, &verify(keys, "verify")).map_err(rule)?;
    let listed = segment.directory(repository, &key).map_err(rule)?;
    let frames = segment.frames(&listed).map_err(rule)?;
    let header = &segment.header;
    let mut at = esker::format::segment::HEADER_LENGTH + header.directory_length as usize;
    let mut rows = Vec::new();
    for piece in &listed.pieces {
        let sealed = &bytes[at..at + piece.sealed_length()];
        rows.extend(piece.open(repository, header.epoch, &key, sealed).map_err(rule)?);
        at += piece.sealed_length();
    }
    Ok(json!({
        "epoch": header.epoch,
        "signer": hex(&header.signer.0),
        "directory": directory(&listed),
        "rows": list(&rows, |(prefix, number)| json!([hex(prefix), number])),
        "frames": list(&frames, |frame| hex(frame).into()),
    }))
}

fn item(item: &Item) -> Value {
    match item {
        Item::Chunk { id, length } => json!({ "chunk": hex(&id.0), "length": length }),
        Item::Hole { length } => json!({ "hole": length }),
    }
}

fn content(content: &Content) -> Value {
    match content {
        Content::Empty => Value::Null,
        Content::Inline(bytes) => json!({ "inline": hex(bytes) }),
        Content::Items(items) => json!({ "items": list(items, item) }),
        Content::List(root) => json!({ "list": hex(&root.id.0), "level": root.level }),
    }
}

fn entry(entry: &Entry) -> Value {
    let m = &entry.metadata;
    json!({
        "key": hex(&entry.key),
        "kind": entry.kind as u8,
        "mode": m.mode,
        "uid": m.uid,
        "gid": m.gid,
        "user": hex(&m.user),
        "group": hex(&m.group),
        "size": m.size,
        "mtime": [json!(m.mtime.seconds), json!(m.mtime.nanoseconds)],
        "ctime": [json!(m.ctime.seconds), json!(m.ctime.nanoseconds)],
        "inode": m.inode,
        "device": m.device.map(|(major, minor)| [major, minor]),
        "target": hex(&m.target),
        "xattrs": list(&m.xattrs, |(name, value)| json!([hex(name), hex(value)])),
        "long_xattrs": list(&entry.long_xattrs, |(name, of)| json!([hex(name), content(of)])),
        "content": content(&entry.content),
        "link_group": entry.link_group,
        "filesystem": entry.filesystem,
        "changed_while_read": entry.changed_while_read,
        "sparse": entry.sparse,
    })
}

fn reference(reference: &Reference) -> Value {
    json!({ "birth": reference.birth.0, "pack": hex(&reference.pack.0), "runs": reference.runs })
}

fn page_kind(inputs: &Value) -> PageKind {
    match number(inputs, "page_kind") {
        1 => PageKind::Tree,
        2 => PageKind::List,
        _ => PageKind::Refs,
    }
}

fn page(inputs: &Value) -> Outcome {
    let level = number(inputs, "level") as u8;
    let page = Page::parse(&bytes(inputs, "bytes"), page_kind(inputs), level).map_err(rule)?;
    let items = match &page {
        Page::Entries(entries) => list(entries, entry),
        Page::TreeChildren(children) => list(children, |child| {
            json!({ "first": hex(&child.first), "id": hex(&child.id.0),
                "entries": child.entries, "bytes": child.bytes })
        }),
        Page::Items(items) => list(items, item),
        Page::ListChildren(children) => {
            list(children, |child| json!({ "id": hex(&child.id.0), "bytes": child.bytes }))
        }
        Page::References(references) => list(references, reference),
        Page::RefsChildren(children) => list(
            children,
            |child| json!({ "birth": child.birth.0, "pack": hex(&child.pack.0), "id": hex(&child.id.0) }),
        ),
    };
    Ok(json!({ "items": items }))
}

/// Builds `count` items made by rule and says every page stored, in order.
fn page_cut(inputs: &Value, keys: &Value) -> Value {
    let kind = page_kind(inputs);
    let id_key: [u8; 32] = fixed(keys, "id");
    let mut pages = Vec::new();
    let mut builder = PageBuilder::new(kind, secret(keys, "cut"), |page: FinishedPage| {
        let id = ChunkId(*blake3::keyed_hash(&id_key, &page.bytes).as_bytes());
        pages.push(json!([page.level, page.bytes.len(), hex(&id.0)]));
        Ok::<_, std::convert::Infallible>(id)
    });
    for n in 0..number(inputs, "count") {
        let hash = *blake3::hash(&(n as u32).to_le_bytes()).as_bytes();
        let Ok(()) = match kind {
            PageKind::Tree => builder.push_entry(&numbered_file(n)),
            PageKind::List => {
                builder.push_item(&Item::Chunk { id: ChunkId(hash), length: 1000 + n as u32 })
            }
            PageKind::Refs => builder.push_reference(&Reference {
                birth: Birth(n << 20),
                pack: PackId(hash),
                runs: vec![(0, (n % 100) as u16)],
            }),
        };
    }
    let Ok((root, totals)) = builder.finish();
    json!({ "root": hex(&root.id.0), "level": root.level, "entries": totals.entries,
        "bytes": totals.bytes, "pages": pages })
}

fn numbered_file(n: u64) -> Entry {
    let id = ChunkId(*blake3::hash(&(n as u32).to_le_bytes()).as_bytes());
    let metadata = Metadata { mode: 0o644, size: 1000 + n, ..Metadata::default() };
    let content = Content::Items(vec![Item::Chunk { id, length: 1000 + n as u32 }]);
    let key = format!("files\0{n:07}").into_bytes();
    Entry { content, ..Entry::new(key, EntryKind::File, metadata) }
}
