#!/usr/bin/env python3
"""Independent reader of esker repositories, format 1, written from the chapters beside it alone.

    reader.py list REPO (--password-file F | --key-file F)
    reader.py restore REPO SNAPSHOT TARGET (--password-file F | --key-file F)
    reader.py public REPO --key-file F      what a write, maintain or watch key can open
    reader.py vectors DIR                   run the test vectors

Needs Python 3.11 and cryptography>=48, pynacl, zstandard, blake3, argon2-cffi. Exit code 20: damage, with [RULE]."""
import argparse, collections, contextlib, datetime, hashlib, itertools, json, os, re, stat, struct, sys
import argon2.low_level, nacl.bindings, nacl.exceptions, zstandard
from blake3 import blake3
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric import ed25519, mlkem, x25519

CONFIG, UPDATE, SLOT, PACK, SEGMENT, SESSION, MANIFEST, CONFIRMATION, MARK, SWEEP, RECORD = range(1, 12)  # objects
DATA, LIST, TREE, REFS = range(1, 5)                                                       # kinds of chunk
FULL, WRITE, READ, MAINTAIN, WATCH = range(1, 6)                                           # roles
MIB = 1 << 20
DAMAGE = []                                              # what was rejected on the way

class Bad(Exception):
    def __init__(self, rule, text):
        super().__init__(f"{text} [{rule}]")
        self.rule = rule

def need(ok, rule, text="is not as the format says"):
    if not ok:
        raise Bad(rule, text)

# ---- chapter 1: CBOR, fields, padding, places -------------------------------------------------------------------

def cbor(data):
    pos = 0

    def head():
        nonlocal pos
        need(pos < len(data), "CBOR-1", "CBOR ends too early")
        major, info = data[pos] >> 5, data[pos] & 31
        pos += 1
        need(info < 28, "CBOR-2", "indefinite or reserved length")
        if info < 24:
            return major, info
        need(major != 7, "CBOR-3", "a type that is not used")
        width = 1 << (info - 24)
        need(pos + width <= len(data), "CBOR-1", "CBOR ends too early")
        value = int.from_bytes(data[pos:pos + width], "big")
        pos += width
        need(value >= (24, 1 << 8, 1 << 16, 1 << 32)[info - 24], "CBOR-4", "a number that is not in its shortest form")
        return major, value

    def item(depth):
        nonlocal pos
        need(depth <= 8, "CBOR-3", "nested too deep")
        major, arg = head()
        if major == 0:
            return arg
        if major in (2, 3, 4, 5):
            need(arg <= len(data) - pos, "CBOR-1", "CBOR ends too early")
        if major in (2, 3):
            raw = data[pos:pos + arg]
            pos += arg
            try:
                return bytes(raw) if major == 2 else raw.decode("utf-8")
            except UnicodeDecodeError:
                raise Bad("CBOR-3", "a text that is not UTF-8")
        if major == 4:
            return [item(depth + 1) for _ in range(arg)]
        if major == 5:
            out, before = {}, -1
            for _ in range(arg):
                kind, key = head()
                need(kind == 0, "CBOR-3", "a map key that is not a number")
                need(key > before, "CBOR-5", "map keys that are not ascending")
                out[key], before = item(depth + 1), key
            return out
        need(major == 7 and arg in (20, 21), "CBOR-3", "a type that is not used")
        return arg == 21

    value = item(0)
    need(pos == len(data), "CBOR-6", "bytes after the item")
    return value

# Types of fields: a number of bytes, a Python type, or a function (value, rule) -> value.
def check(kind, v, rule):
    if type(kind) is int:
        need(type(v) is bytes and len(v) == kind, rule)
    elif type(kind) is type:
        need(type(v) is kind, rule)
    else:
        return kind(v, rule)
    return v

def number(limit):
    return lambda v, rule: check(int, v, rule) if type(v) is int and v < limit else need(False, rule)

def among(values, own_rule=None):
    def one(v, rule):
        need(U8(v, rule) in values, own_rule or rule, f"unknown value {v}")
        return v
    return one

class List:
    def __init__(self, kind, most):
        self.kind, self.most = kind, most

    def __call__(self, v, rule):
        need(type(v) is list and len(v) <= self.most, rule)
        return [check(self.kind, x, rule) for x in v]

class Tuple(List):                                       # values of given types; faults within break their `own` rule
    def __init__(self, *kinds, own=None):
        self.kinds, self.own = kinds, own

    def __call__(self, v, rule):
        need(type(v) is list and len(v) <= len(self.kinds), rule)
        need(len(v) == len(self.kinds), self.own or rule)
        return [check(kind, x, self.own or rule) for kind, x in zip(self.kinds, v)]

class Opt:
    def __init__(self, kind):
        self.kind = kind

class Map:                                               # fields by key 1, 2, 3, … in the order given
    def __init__(self, **fields):
        self.fields = dict(enumerate(fields.items(), 1))

    def __call__(self, v, rule):
        need(type(v) is dict and all(k in self.fields or k >= 32768 for k in v), rule, "not a map, or an unknown field")
        out = {}
        for key, (name, kind) in self.fields.items():
            optional = type(kind) is Opt
            if key in v:
                out[name] = check(kind.kind if optional else kind, v[key], rule)
            else:                                        # an absent list is empty
                need(optional or isinstance(kind, List), rule, f"field {key}, {name}, is missing")
                out[name] = None if optional else check(kind, [], rule)
        return out

UINT, U32, U8 = number(1 << 64), number(1 << 32), number(1 << 8)

def xwing_public(v, rule):
    check(1216, v, rule)
    bits = int.from_bytes(v[:1152], "little")            # FIPS 203 7.2: 768 numbers of 12 bits, each below 3329
    need(all((bits >> i & 4095) < 3329 for i in range(0, 9216, 12)), rule, "a public key that is not valid")
    return v

def ascending(values):
    return all(a < b for a, b in zip(values, values[1:]))

def padded(n):
    if n < 2:
        return n
    e = n.bit_length() - 1
    mask = (1 << (e - e.bit_length())) - 1
    return (n + mask) & ~mask

def place(label, repo, kind, epoch, key=""):
    return label.encode() + struct.pack("<BH16sBIH", 0, 1, repo, kind, epoch, len(key)) + key.encode()

# ---- chapter 2: keys --------------------------------------------------------------------------------------------

def derive(context, material, length=32):
    return blake3(material, derive_key_context=context).digest(length)

def gear_table(chunker_key):
    return struct.unpack("<256Q", derive("esker 1 gear table", chunker_key, 2048))

def le32(n):
    return struct.pack("<I", n)

P25519 = 2**255 - 19
SMALL_ORDER = {0, 1, P25519 - 1, P25519, P25519 + 1,
               2707385501144840649318225287225658788936804267575313519463743609750303402022,
               55188659117513257062467267217118295137698188065244968500265048394206261417927}

def verify(key, message, signature, rule):
    """Ed25519 as chapter 2 wants it: OpenSSL checks S < L and compares R; small orders are refused here."""
    small = any(int.from_bytes(x, "little") % 2**255 in SMALL_ORDER for x in (key, signature[:32]))
    need(not small and len(signature) == 64, rule, "the signature does not verify")
    try:
        ed25519.Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        raise Bad(rule, "the signature does not verify")

def signed(key, at, data, signature, rule):
    verify(key, at + blake3(data).digest(), signature, rule)

def unseal(key, at, sealed, rule):
    need(key is not None and len(sealed) >= 40, rule, "no key, or too short to be sealed")
    try:
        return nacl.bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(bytes(sealed[24:]), at, bytes(sealed[:24]), key)
    except nacl.exceptions.CryptoError:
        raise Bad(rule, "a seal that does not open")

SUITE = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305)

def xwing_halves(seed):
    x = hashlib.shake_256(seed).digest(96)
    return mlkem.MLKEM768PrivateKey.from_seed_bytes(x[:64]), x25519.X25519PrivateKey.from_private_bytes(x[64:])

def xwing_private(seed):
    return hpke.MLKEM768X25519PrivateKey(*xwing_halves(seed))

def hpke_open(private, info, sealed, rule):
    need(private is not None and len(sealed) >= 1136, rule, "no key, or too short to be sealed")
    try:
        return SUITE.decrypt(bytes(sealed), private, info)
    except (InvalidTag, ValueError):
        raise Bad(rule, "a seal that does not open")

def stretch_bounds(memory, passes, lanes):
    need(1 <= passes <= 16 and 1 <= lanes <= 64 and 8 * lanes <= memory <= 1048576, "KEY-1", "stretching out of bounds")

def read_key_file(data):
    lines = [line.strip() for line in data.split(b"\n") if line.strip() and not line.startswith(b"#")]
    if len(lines) != 1 or not re.fullmatch(rb"ESKER-KEY-1 [0-9a-f]{64}", lines[0]):
        sys.exit("the key file is not one line of `ESKER-KEY-1` and 64 hex digits")
    return bytes.fromhex(lines[0].split()[1].decode())

def slot_input(password, key_file, salt, stretching):
    if key_file is not None:
        return derive("esker 1 slot input key file", key_file)
    stretch_bounds(*stretching)
    raw = argon2.low_level.hash_secret_raw(password.removesuffix(b"\n"), salt, stretching[1], stretching[0], stretching[2],
                                           32, argon2.low_level.Type.ID, 0x13)
    return derive("esker 1 slot input password", raw)

# ---- chapters 4, 5, 6, 11, 12: envelopes and their maps ---------------------------------------------------------

Envelope = collections.namedtuple("Envelope", "epoch writer payload attachment body signature hash")

def envelope(data, kind):
    most = {1: 65536, 3: MIB}.get(kind, 64 * MIB)
    need(132 <= len(data) <= most, "OBJ-4", "too long or too short")
    magic, version, own_kind, suite, epoch, n, m, writer = struct.unpack_from("<4sHBBIII16s", data)
    need(magic == b"ESKR", "OBJ-1", "not an object of esker")
    need(blake3(data[:-32]).digest() == data[-32:], "OBJ-5", "the hash is not that of the bytes")
    need(version == 1, "OBJ-2", "this program is too old for the object's version: upgrade")
    need(suite == 1, "OBJ-3", "this program is too old for the object's suite: upgrade")
    need(own_kind == kind, "OBJ-6", "another kind than its key says")
    need(n + m + 132 == len(data), "OBJ-4", "the lengths do not add up")
    by_admin = epoch == 0 and writer == bytes(16) and m == 0
    need(by_admin if kind in (1, 2, 3) else epoch != 0, "OBJ-10", "epoch, writer or attachment does not fit the kind")
    return Envelope(epoch, writer, data[36:36 + n], data[36 + n:36 + n + m], data[:-96], data[-96:-32],
                    blake3(data).digest())

def check_by_admin(env, admin, repo, kind, key):
    signed(admin, place("esker signature", repo, kind, env.epoch, key), env.body, env.signature, "OBJ-7")

ROLE = {1, 2, 3, 4, 5}
CONFIG_MAP = Map(repository=16, admin=32, salt=16, stretching=Tuple(U32, U32, U32, own="CONF-2"), created=UINT)
EPOCH_KEYS = Map(epoch=U32, index=32, content=Opt(32))
WRITER = Map(id=16, verify=32, role=among(ROLE, "UPD-2"), label=str, domain=str, created=UINT, created_by=16)
FEATURES = List(str, 256)

def average(v, rule):
    out = Map(algorithm=U8, average=U32)(v, rule)
    need(out["algorithm"] == 1, "UPD-7", "an unknown chunker: upgrade")
    need(out["average"] in [1 << i for i in range(12, 21)], rule)
    return out["average"]

UPDATE_MAP = Map(number=UINT, previous=List(32, 64), epoch=U32, content=xwing_public,
                 grants=List(Map(slot=16, sealed=bytes), 65536), writers=List(WRITER, 65536),
                 revoked=List(Map(writer=16, at=UINT, standing=List(48, MIB)), 65536),
                 features=Tuple(FEATURES, FEATURES, FEATURES), average=average, listing_lag=Opt(UINT), written=UINT, program=str)

def update_number(key):
    found = re.fullmatch(r"config-updates/(\d{8})-[0-9a-f]{16}", key, re.ASCII)
    need(found and int(found[1]), "UPD-3", "the key is not of the form")
    return int(found[1])

def update_map(payload, key):
    out = UPDATE_MAP(cbor(payload), "UPD-1")
    need(out["epoch"] >= 1, "UPD-1")
    need(out["number"] >= 1 and (out["number"] == 1) == (not out["previous"]), "UPD-4", "previous updates are not as the number says")
    for name, by in (("writers", "id"), ("grants", "slot"), ("revoked", "writer")):
        need(ascending([x[by] for x in out[name]]), "UPD-5", f"{name} repeat or are not sorted")
    need(out["number"] == update_number(key), "UPD-3", "the number is not the one in the key")
    need(not out["features"][0], "UPD-7", f"unknown features {out['features'][0]}: upgrade")
    return out

SLOT_MAP = Map(id=16, method=among({1, 2, 3}, "SLOT-2"), role=among(ROLE, "SLOT-2"), label=str, writer=16,
               recipient=xwing_public, created=UINT, created_by=16, sealed=bytes, commitment=Opt(32))

def slot_map(payload):
    out = SLOT_MAP(cbor(payload), "SLOT-1")
    need((out["method"] < 3) == (out["commitment"] is not None), "SLOT-6", "a commitment out of place")
    return out

SECRETS = Map(role=among(ROLE), repository=16, admin=32, writer=16, signer=32, recipient=32, domain=str, root=Opt(32),
              epochs=List(EPOCH_KEYS, 4096), chunk_ids=Map(data=Opt(32), list=Opt(32), tree=Opt(32), refs=Opt(32)),
              chunker=Opt(32))

def secrets_map(raw):
    out = SECRETS(cbor(raw), "SLOT-1")
    need(ascending([0] + [e["epoch"] for e in out["epochs"]]), "SLOT-1", "epochs that are not ascending")
    out["chunk_ids"] = {kind: key for kind, key in enumerate(out["chunk_ids"].values(), 1) if key}
    return out

ROOT = Tuple(32, number(17), own="MAN-2")
COUNTS = "files directories others bytes files_new files_changed files_unchanged bytes_new bytes_stored failures notes".split()
MANIFEST_MAP = Map(
    id=16, outcome=among({1, 2}, "MAN-3"), started=UINT, ended=UINT, zone=str, host=str, profile=str,
    sources=List(Map(label=str, outcome=among({1, 2, 3}, "MAN-3"), required=bool), 65536), writer=16,
    set=Opt(Map(name=str, parts=List(str, 65536), part=str, system=Opt(UINT), writers=List(16, 65536))), tags=List(str, 1024), expires=Opt(UINT),
    promises=Opt(Map(age=Opt(UINT), drill=Opt(UINT), check=Opt(UINT))), counts=Map(**dict.fromkeys(COUNTS, UINT)),
    parent=Opt(16), replaces=Opt(16), copied_from=Opt(Map(repository=16, snapshot=16, writer=16)), references=ROOT, program=str)
REASONS = List(Map(path=bytes, reason=str), 10000)
PRIVATE_MAP = Map(tree=ROOT, paths=List(bytes, MIB), exclusions=List(str, MIB), failures=REASONS, notes=REASONS,
                  filesystems=List(bytes, MIB), profile=Opt(str), restore_commands=List(str, 1024))

def manifest_map(raw):
    out = MANIFEST_MAP(cbor(raw), "MAN-1")
    need(out["started"] <= out["ended"], "MAN-4", "ended before it started")
    return out

def record_kind(v, rule):
    need(v in ("prune", "check", "copy", "drill", "run"), rule, "an unknown kind of record")
    return v

SESSION_MAP = Map(state=among({1, 2, 3, 4}), time=UINT, host=str, boot=str, process=UINT, profile=str, packs=UINT, bytes=UINT,
                  code=Opt(UINT), machine=Opt(str))
CONFIRMATION_MAP = Map(manifest=32, time=UINT)
SWEEP_MAP = Map(manifests=List(16, MIB), packs=List(32, MIB), time=UINT)
RECORD_MAP = Map(kind=record_kind, started=UINT, ended=UINT, host=str, code=UINT, extent=str, snapshots=List(16, MIB),
                 counts=List(Tuple(str, UINT), 1024))
MARK_FIELDS = {1: {}, 2: {}, 3: {3: ("text", str)}, 4: {3: ("text", str)}, 6: {6: ("pinned", bool)},
               5: {4: ("add", List(str, 1024)), 5: ("remove", List(str, 1024))}, 7: {7: ("packs", List(32, MIB))}}

def mark_map(raw):
    value = cbor(raw)
    need(type(value) is dict, "MARK-1")
    need(U8(value.get(1), "MARK-1") in MARK_FIELDS, "MARK-2", f"an unknown mark {value[1]}")
    parse = Map(mark=U8, time=UINT)
    parse.fields.update(MARK_FIELDS[value[1]])
    return parse(value, "MARK-1")

# ---- chapters 7, 8: packs and segments --------------------------------------------------------------------------

Block = collections.namedtuple("Block", "kind codec entry stored raw chunks hash offset")
Toc = collections.namedtuple("Toc", "kind birth run signer entries blocks chunks foreign")

class Cursor:
    def __init__(self, data, rule):
        self.data, self.pos, self.rule = data, 0, rule

    def take(self, n):
        need(self.pos + n <= len(self.data), self.rule, "ends too early")
        self.pos += n
        return self.data[self.pos - n:self.pos]

    def get(self, layout):
        layout = struct.Struct("<" + layout)
        need(self.pos + layout.size <= len(self.data), self.rule, "ends too early")
        self.pos += layout.size
        return layout.unpack_from(self.data, self.pos - layout.size)

    def one(self, layout):
        return self.get(layout)[0]

    def padding(self, rule):
        need(len(self.data) == padded(self.pos) and not any(self.data[self.pos:]), rule, "wrong padding")

def pack_header(data):
    need(len(data) >= 16 and data[:4] == b"ESKP", "PACK-1", "not a pack")
    version, kind, suite, birth = struct.unpack_from("<HBBQ", data, 4)
    need((version, suite) == (1, 1), "PACK-2", "an unknown version or suite: upgrade")
    need(kind in (1, 2, 3), "PACK-3", "an unknown kind of pack")
    return kind, birth

def frame_parts(frame, exact=True):
    """Footer fields of a TOC frame; `exact` when `frame` must be nothing else, not a whole pack."""
    need(len(frame) >= 96 and frame[-4:] == b"PKSE", "PACK-4", "no footer")
    epoch, t, signer, signature, version, kind, suite = struct.unpack_from("<II16s64sHBB", frame, len(frame) - 96)
    need((version, suite) == (1, 1), "PACK-2", "an unknown version or suite: upgrade")
    need(kind in (1, 2, 3), "PACK-3", "an unknown kind of pack")
    need(40 <= t <= 32 * MIB and (len(frame) == t + 96 if exact else len(frame) >= t + 96 + 16), "PACK-5",
         "the length of the table is wrong")
    return epoch, signer, signature, kind, frame[len(frame) - 96 - t:-96]

def toc_of_frame(frame, repo, verify_key, index_key, exact=True):
    epoch, signer, signature, kind, sealed = frame_parts(frame, exact)
    signed(verify_key(signer), place("esker signature", repo, PACK, epoch), sealed, signature, "TOC-1")
    return parse_toc(unseal(index_key(epoch), place("esker toc", repo, PACK, epoch), sealed, "TOC-2"), kind, signer)

def parse_toc(data, kind, signer=bytes(16)):
    c = Cursor(data, "TOC-4")
    own_kind, birth, run, s, b, n, f = c.get("BQ16sIIII")
    need(own_kind in (1, 2, 3) and own_kind == kind, "TOC-3", "the kind of the table is unknown or not the footer's")
    for count, limit, size in ((s, 4096, 23), (b, 65536, 32), (n, 65536, 36), (f, 65536, 48)):
        need(count <= limit and count * size <= len(data), "TOC-5", "a count over its limit")
    entries, blocks, offset = [], [], 16
    for _ in range(s):
        type_, epoch, writer, k = c.get("BI16sH")
        need(k == {1: 1168, 2: 0}.get(type_), "TOC-7", "a session entry of unknown type or wrong length")
        entries.append((type_, epoch, writer, c.take(k)))
    for _ in range(b):
        x = Block(*c.get("BBHIII16s"), offset)
        offset += x.stored
        need(x.codec in (0, 1) and x.kind in {1: (1,), 2: (2, 3), 3: (4,)}[kind], "TOC-3", "an unknown kind or codec")
        need(x.entry < s, "TOC-7", "a block without its session entry")
        need((entries[x.entry][0] == 2) == (x.kind == REFS), "TOC-3", "an index key where none belongs, or none")
        need(41 <= x.stored <= 8 * MIB + 40 and 1 <= x.raw <= 8 * MIB and x.chunks, "TOC-8", "a length out of its limits")
        blocks.append(x)
    chunks = list(struct.iter_unpack("<32sI", c.take(36 * n)))
    need(all(length for _, length in chunks), "TOC-8", "an empty chunk")
    foreign = [c.get("HIQ32sH") for _ in range(f)]
    c.padding("TOC-6")
    at = 0
    for x in blocks:
        need(at + x.chunks <= n and sum(l for _, l in chunks[at:at + x.chunks]) == x.raw, "TOC-8", "chunks do not fit blocks")
        at += x.chunks
    need(at == n, "TOC-8", "more chunks than the blocks hold")
    end = 0
    for start, count, _, _, ordinal in foreign:
        need(count and start >= end and start + count <= n and ordinal + count <= 65536, "TOC-9", "a wrong foreign run")
        end = start + count
    return Toc(kind, birth, run, signer, entries, blocks, chunks, foreign)

def block_place(repo, kind, codec, raw):
    return b"esker block\0" + struct.pack("<H16sBBI", 1, repo, kind, codec, raw)

def open_block(stored, block, repo, key):
    need(blake3(stored).digest(16) == block.hash and len(stored) == block.stored, "BLOCK-1", "a block's stored hash is wrong")
    data = unseal(key, block_place(repo, block.kind, block.codec, block.raw), stored, "BLOCK-1")
    if block.codec == 1:
        try:
            known = zstandard.get_frame_parameters(data).content_size
            need(known in (block.raw, zstandard.CONTENTSIZE_UNKNOWN), "BLOCK-1", "a block of another length")
            data = zstandard.ZstdDecompressor().decompress(data, max_output_size=block.raw, allow_extra_data=False)
        except zstandard.ZstdError:
            raise Bad("BLOCK-1", "a block that does not decompress")
    need(len(data) == block.raw, "BLOCK-1", "a block of another length")
    return data

def segment_header(data):
    need(len(data) >= 96 and data[:4] == b"ESKI" and data[6] == SEGMENT, "SEG-1", "not a segment")
    version, _, suite, epoch, d, signer, signature = struct.unpack_from("<HBBII16s64s", data, 4)
    need((version, suite) == (1, 1), "SEG-2", "an unknown version or suite: upgrade")
    need(len(data) <= 64 * MIB and d <= 64 * MIB and 96 + d <= len(data), "SEG-3", "lengths overrun")
    return epoch, signer, signature, data[96:96 + d]

def parse_directory(data):
    c = Cursor(data, "SEG-7")
    s, r, p, q = c.get("IIII")
    need(max(s, r, p, q) <= 1048576 and 16 + 32 * s + 32 * r + 60 * p + 42 * q <= len(data), "SEG-7", "a count over its limit")
    supersedes, removes = [c.take(32) for _ in range(s)], [c.take(32) for _ in range(r)]
    packs, pieces = [c.get("32sQI16s") for _ in range(p)], [c.get("6sI32s") for _ in range(q)]
    c.padding("SEG-7")
    for ids in (supersedes, removes, [x[0] for x in packs]):
        need(ascending(ids), "SEG-8", "a list that repeats or is not sorted")
    need(all(a[0] <= b[0] for a, b in zip(pieces, pieces[1:])), "SEG-8", "pieces that are not sorted")
    need(all(1 <= rows <= 6553 for _, rows, _ in pieces), "SEG-8", "a piece of no rows or too many")
    need(all(length <= 192 * MIB for _, length, _, _ in packs), "SEG-8", "a pack that is too long")
    return supersedes, removes, packs, pieces

def parse_piece(rows, first, count):
    need(len(rows) == 10 * count, "SEG-6", "a piece of another length")
    keys = [(rows[i:i + 6], *struct.unpack_from("<I", rows, i + 6)) for i in range(0, len(rows), 10)]
    need(all(a <= b for a, b in zip(keys, keys[1:])) and keys[0][0] == first, "SEG-6", "rows that are not sorted")
    return keys

def open_segment(data, repo, verify_key, index_key):
    epoch, signer, signature, sealed = segment_header(data)
    signed(verify_key(signer), place("esker signature", repo, SEGMENT, epoch), sealed, signature, "SEG-4")
    directory = parse_directory(unseal(index_key(epoch), place("esker segment directory", repo, SEGMENT, epoch), sealed, "SEG-5"))
    c = Cursor(data, "SEG-3")
    c.pos = 96 + len(sealed)
    pieces = [(c.take(10 * rows + 40), first, rows, digest) for first, rows, digest in directory[3]]
    frames = [c.take(length) for _, _, length, _ in directory[2]]
    need(c.pos == len(data), "SEG-3", "bytes behind the last frame")
    need(all(blake3(frame).digest()[:16] == digest for frame, (*_, digest) in zip(frames, directory[2])), "SEG-10",
         "a table that is not the one the directory names")
    table = []
    for piece, first, rows, digest in pieces:
        need(blake3(piece).digest() == digest, "SEG-6", "a piece that does not match its hash")
        text = unseal(index_key(epoch), place("esker segment piece", repo, SEGMENT, epoch), piece, "SEG-5")
        table += parse_piece(text, first, rows)
    need(all(n < len(frames) for _, n in table), "SEG-6", "a row of a pack that is not there")
    return signer, directory, frames, table

# ---- chapters 9, 10: contents, entries, pages -------------------------------------------------------------------

class Entry:
    __slots__ = ("key kind flags mode uid gid mtime ctime inode user group size link system device target xattrs long content"
                 ).split()

def parse_item(c):
    type_ = c.one("B")
    need(type_ in (1, 2), "CONT-2", "an unknown item")
    if type_ == 1:
        length, chunk = c.get("I32s")
        need(1 <= length <= 4 * MIB, "CONT-1", "a chunk of no bytes or too many")
        return length, chunk
    length = c.one("Q")
    need(length, "CONT-1", "an empty hole")
    return length, None

def parse_content(c):
    """(type, value): 0, None; 1, bytes; 2, [(length, chunk id or None for a hole)]; 3, (level, page id)."""
    type_ = c.one("B")
    need(type_ <= 3, "CONT-2", "an unknown content")
    if type_ == 1:
        n = c.one("H")
        need(1 <= n <= 4096, "CONT-3", "inline of no bytes or too many")
        return 1, c.take(n)
    if type_ == 2:
        n = c.one("B")
        need(1 <= n <= 16, "CONT-3", "no items or too many")
        return 2, [parse_item(c) for _ in range(n)]
    if type_ == 3:
        level, page = c.get("B32s")
        need(level <= 16, "CONT-3", "a list too high")
        return 3, (level, page)
    return 0, None

def check_key(key):
    need(key and b"/" not in key, "ENT-1", "a key that is empty or has a /")
    need(not any(part in (b"", b".", b"..") for part in key.split(b"\0")), "ENT-1", "an empty, . or .. component")
    return key

def parse_entry(c):
    e = Entry()
    e.key = check_key(c.take(c.one("H")))
    e.kind, bits, e.mode, e.uid, e.gid, s1, n1, s2, n2, e.inode = c.get("BHHIIqIqIQ")
    need(1 <= e.kind <= 6, "ENT-2", "an unknown kind")
    need(bits < 4096 and e.mode <= 0o7777, "ENT-3", "unknown bits")
    need(n1 < 10**9 and n2 < 10**9, "ENT-8", "nanoseconds over a second")
    e.flags, e.mtime, e.ctime, has = bits, s1 * 10**9 + n1, s2 * 10**9 + n2, lambda bit: bits >> bit & 1
    def full(value):
        need(value, "ENT-4", "a field that is present and empty")
        return value
    e.user = full(c.take(c.one("B"))) if has(0) else b""
    e.group = full(c.take(c.one("B"))) if has(1) else b""
    e.size = full(c.one("Q")) if has(2) else 0
    e.link = full(c.one("Q")) if has(3) else 0
    e.system = c.one("I") if has(4) else None
    e.device = c.get("II") if has(5) else None
    e.target = full(c.take(c.one("H"))) if has(6) else None
    def attributes(value):
        count, out = full(c.one("H")), []
        need(count <= 8192, "ENT-6", "too many attributes")
        for _ in range(count):
            name = c.take(c.one("B"))
            need(name and b"\0" not in name and (not out or out[-1][0] < name), "ENT-6", "a wrong name of an attribute")
            out.append((name, value()))
        return out

    def short():
        n = c.one("H")
        need(n <= 4096, "ENT-6", "an attribute too long")
        return c.take(n)
    e.xattrs = attributes(short) if has(7) else []
    e.long = attributes(lambda: parse_content(c)) if has(8) else []
    need(not {n for n, _ in e.xattrs} & {n for n, _ in e.long}, "ENT-6", "an attribute in both lists")
    e.content = parse_content(c) if has(9) else (0, None)
    sums = [sum(x[0] for x in v) for kind, v in (value for _, value in e.long) if kind == 2]
    need(all(n < 1 << 64 for n in sums), "ENT-7", "an attribute's items add up to more than 64 bits")
    need(not has(9) or e.content[0], "ENT-4", "a content that is present and empty")
    need(e.kind == 1 or not bits & (1 << 2 | 1 << 9 | 1 << 11), "ENT-5", "size, content or sparse on what is no file")
    need(has(5) == (e.kind in (4, 5)) and has(6) == (e.kind == 3), "ENT-5", "device or target missing or out of place")
    need(not e.target or len(e.target) <= 4096 and b"\0" not in e.target, "ENT-5", "a target too long or with a zero byte")
    if e.content[0] < 3:
        have = {0: lambda v: 0, 1: len, 2: lambda v: sum(x[0] for x in v)}[e.content[0]](e.content[1])
        need(have == e.size, "ENT-7", "a content that does not add up to the size")
    return e

def parse_reference(c):
    birth, pack, n = c.get("Q32sH")
    need(n, "REF-1", "a reference without a run")
    runs = [c.get("HH") for _ in range(n)]
    need(all(a <= b for a, b in runs) and all(x[1] + 2 <= y[0] for x, y in zip(runs, runs[1:])), "REF-2", "wrong runs")
    return birth, pack, runs

def parse_page(data, kind, level):
    """Items: entries, (length, id) of items, references; above a leaf (first key, id, entries, bytes)."""
    need(8 <= len(data) <= 2 * MIB, "PAGE-2", "a page too short or too long")
    c = Cursor(data, "PAGE-2")
    own_kind, own_level, zero, count = c.get("BBHI")
    need((own_kind, own_level, zero) == (kind, level, 0), "PAGE-1", "a page of another kind or level")
    need(count <= len(data), "PAGE-2", "a count that is too great")
    need(count or not level, "PAGE-4", "a page above a leaf without children")
    if level:
        parse = {1: lambda: (check_key(c.take(c.one("H"))), *c.get("32sQQ")), 2: lambda: (None, *c.get("32s"), None, c.one("Q")),
                 3: lambda: (c.get("Q32s"), c.take(32), None, None)}[kind]
    else:
        parse = {1: lambda: parse_entry(c), 2: lambda: parse_item(c), 3: lambda: parse_reference(c)}[kind]
    items = [parse() for _ in range(count)]
    need(c.pos == len(data), "PAGE-2", "bytes behind the last item")
    keys = [first_key(x, kind, level) for x in items] if kind != 2 else []
    need(ascending(keys), "PAGE-3", "items that repeat or are not sorted")
    return items

def first_key(item, kind, level):
    return item[0] if level else item.key if kind == 1 else item[:2]

# ---- chapter 0: opening a repository ----------------------------------------------------------------------------

HEX = "[0-9a-f]{%d}"
FORMS = {UPDATE: r"config-updates/\d{8}-" + HEX % 16, SLOT: "keys/" + HEX % 32, SEGMENT: "index/" + HEX % 64,
         SESSION: "sessions/" + HEX % 32 + r"/\d{8}", MANIFEST: "snapshots/" + HEX % 32, CONFIRMATION: "confirmed/" + HEX % 32,
         MARK: "marks/" + HEX % 32 + r"/\d{8}-" + HEX % 16, SWEEP: "sweeps/" + HEX % 32,
         RECORD: "records/(prune|check|copy|drill|run)/" + HEX % 32}

class Folder:
    """A store that is a directory: objects by key, listings sorted."""
    def __init__(self, path):
        self.path = path

    def get(self, key):
        try:
            with open(os.path.join(self.path, key), "rb") as f:
                return f.read()
        except FileNotFoundError:
            raise Bad("MISSING", f"{key} is not there")

    def part(self, key, offset, length):
        try:
            with open(os.path.join(self.path, key), "rb") as f:
                return os.pread(f.fileno(), length, offset)
        except FileNotFoundError:
            raise Bad("MISSING", f"{key} is not there")

    def keys(self, kind):
        form, top = re.compile(FORMS[kind], re.ASCII), FORMS[kind].split("/")[0]
        names = (os.path.relpath(os.path.join(d, f), self.path) for d, _, files in os.walk(os.path.join(self.path, top))
                 for f in files)
        return sorted(n for n in names if form.fullmatch(n))

class Repository:
    def __init__(self, store, password=None, key_file=None):
        self.store, self.damage, self.cached_private = store, DAMAGE, {}
        DAMAGE.clear()
        env = envelope(store.get("config"), CONFIG)                                    # step 1
        config = CONFIG_MAP(cbor(env.payload), "CONF-1")
        self.id = config["repository"]
        given = slot_input(password, key_file, config["salt"], config["stretching"])   # step 2
        self.secrets = None
        for key in store.keys(SLOT):                                                   # step 3
            with self.reporting(key):
                if self.secrets is None:
                    self.open_slot(key, given)
        if self.secrets is None:
            if self.damage:
                raise self.damage[0]
            sys.exit("wrong password or key file")
        need(config["admin"] == self.secrets["admin"], "CONF-3", "config has another admin key than the slot")   # step 4
        need(config["repository"] == self.secrets["repository"], "SLOT-4", "the slot is of another repository")
        check_by_admin(env, config["admin"], self.id, CONFIG, "config")
        self.root, self.role = self.secrets["root"], self.secrets["role"]
        self.epochs = {e["epoch"]: e for e in self.secrets["epochs"]}
        self.load_updates()                                                            # steps 5, 7
        own = self.writers.get(self.secrets["writer"])
        if own is None or own["role"] != self.role or own["id"] in self.revoked:       # step 6
            print("note: this key is not listed, is listed with another role, or is revoked", file=sys.stderr)
        kinds = ["data", "list", "tree", "refs"]
        self.id_keys = ({i: derive(f"esker 1 chunk id {k}", self.root) for i, k in enumerate(kinds, 1)} if self.root
                        else self.secrets["chunk_ids"])

    @contextlib.contextmanager
    def reporting(self, key, *harmless):                 # a bad object is named and earns nothing
        try:
            yield
        except Bad as bad:
            if bad.rule not in ("STANDING", "MARK-3", *harmless):
                self.damage.append(bad)
            print(f"{key}: {bad}", file=sys.stderr)

    def open_slot(self, key, given):
        env = envelope(self.store.get(key), SLOT)
        slot = slot_map(env.payload)
        need(key == "keys/" + slot["id"].hex(), "SLOT-4", "a slot under another key")
        raw = unwrap(slot, self.id, given, None)
        if raw:
            self.secrets, self.slot = open_secrets(raw, slot, env, self.id), slot["id"]

    def load_updates(self):
        keys, good = self.store.keys(UPDATE), {}
        for key in keys:
            with self.reporting(key, "OBJ-7"):                                         # what admin did not sign is not there
                env = envelope(self.store.get(key), UPDATE)
                check_by_admin(env, self.secrets["admin"], self.id, UPDATE, key)
                good[key] = update_map(env.payload, key), env.hash
        levels = [[good[k] for k in sorted(good) if update_number(k) == n]
                  for n in range(1, 1 + max(map(update_number, good), default=0))]
        named = [{h for update, _ in level for h in update["previous"]} for level in levels]
        need(levels and all(levels), "UPD-8", "an update is missing")
        need(all(named[n] <= {h for _, h in levels[n - 1]} for n in range(1, len(levels))), "UPD-8", "a named update is missing")
        self.writers, self.revoked, self.newest_epoch = {}, {}, 0
        for update, _ in itertools.chain(*reversed(levels)):                           # the first that says a thing counts
            self.newest_epoch = max(self.newest_epoch, update["epoch"])
            for w in update["writers"]:
                self.writers.setdefault(w["id"], w)
            for r in update["revoked"]:
                self.revoked.setdefault(r["writer"], set(r["standing"]))
            for grant in update["grants"]:
                if grant["slot"] == self.slot and not self.root:
                    keys = open_grant(self.private(self.secrets["recipient"]), self.id, update["epoch"], **grant)
                    self.epochs[keys["epoch"]] = keys

    def private(self, seed):
        if seed and seed not in self.cached_private:
            self.cached_private[seed] = xwing_private(seed)
        return self.cached_private.get(seed)

    def index_key(self, epoch):
        if self.root and epoch:
            return derive("esker 1 index key", self.root + le32(epoch))
        return self.epochs[epoch]["index"] if epoch in self.epochs else None

    def content_key(self, epoch):
        seed = derive("esker 1 content key pair", self.root + le32(epoch)) if self.root else \
            self.epochs.get(epoch, {}).get("content")
        return self.private(seed)

    def verify_key(self, writer, rule="STANDING"):
        need(writer in self.writers, rule, "signed by a writer who is not listed")
        return self.writers[writer]["verify"]

    def open_object(self, key, kind, parse):
        env = envelope(self.store.get(key), kind)
        signed(self.verify_key(env.writer), place("esker signature", self.id, kind, env.epoch, key), env.body, env.signature,
               "OBJ-7")
        return env, parse(unseal(self.index_key(env.epoch), place("esker object", self.id, kind, env.epoch, key), env.payload,
                                 "OBJ-8"))

    def in_force(self, writer, roles):
        return writer in self.writers and writer not in self.revoked and self.writers[writer]["role"] in roles

    # ---- snapshots (steps 10, 11)

    def snapshots(self):
        """All believable manifests, with what confirmations and marks say of them; replaced ones left out."""
        found, confirmed, marks = [], set(self.store.keys(CONFIRMATION)), self.store.keys(MARK)
        for key in self.store.keys(MANIFEST):
            with self.reporting(key):
                env, m = self.open_object(key, MANIFEST, manifest_map)
                need(key == "snapshots/" + m["id"].hex(), "MAN-5", "another id than its key's")
                need(m["writer"] == env.writer and self.writers[env.writer]["role"] in (FULL, WRITE), "MAN-6",
                     "another writer or role")
                need(m["id"] + env.hash in self.revoked.get(env.writer, {m["id"] + env.hash}), "STANDING", "its writer is revoked")
                m["env"], m["confirmed"], other = env, False, "confirmed/" + m["id"].hex()
                if other in confirmed:
                    with self.reporting(other):
                        by, c = self.open_object(other, CONFIRMATION, lambda raw: CONFIRMATION_MAP(cbor(raw), "CFM-1"))
                        need(by.writer == env.writer and c["manifest"] == env.hash, "CFM-2", "it confirms something else")
                        m["confirmed"] = True
                self.apply_marks(m, [k for k in marks if k.startswith(f"marks/{m['id'].hex()}/")])
                found.append(m)
        replaced = {(m["writer"], m["replaces"]) for m in found if m["confirmed"]}
        return [m for m in found if (m["writer"], m["id"]) not in replaced]

    def apply_marks(self, m, keys):
        last, unread, undo = {}, {}, ""                  # last: what is marked: (number, undo, key), mark
        for key in keys:
            try:
                env, mark = self.open_object(key, MARK, mark_map)
                kind, role, number = mark["mark"], self.writers[env.writer]["role"], key.split("/")[2][:8]
                may = kind == 7 and env.writer not in self.revoked or kind in (2, 6) and role == MAINTAIN or self.in_force(env.writer, (FULL, MAINTAIN)) or \
                    kind in (3, 4, 5, 6) and env.writer == m["writer"] and self.in_force(env.writer, (WRITE,))
                need(int(number) and may, "MARK-3", "its signer may not sign it, or its key is not of the form")
                if kind == 5:
                    m["tags"] = [t for t in m["tags"] if t not in mark["remove"] + mark["add"]] + mark["add"]
                undo = max(undo, number) if kind == 2 else undo
                about = 1 if kind == 2 else kind
                last[about] = max(last.get(about, ()), ((number, kind == 2, key), mark), key=lambda x: x and x[0] or ())
            except Bad as bad:
                unread[key] = bad
        for key, bad in unread.items():                  # a later undo settles what cannot be read
            with self.reporting(key, bad.rule if key.split("/")[2][:8] < undo else ""):
                raise bad
        m["forgotten"], m["pinned"] = 1 in last and last[1][1]["mark"] == 1, 6 in last and last[6][1]["pinned"]
        m["name"], m["description"] = (last[k][1]["text"] or None if k in last else None for k in (3, 4))

    def private_part(self, m):
        env, key = m["env"], "snapshots/" + m["id"].hex()
        raw = hpke_open(self.content_key(env.epoch), place("esker attachment", self.id, MANIFEST, env.epoch, key),
                        env.attachment, "OBJ-9")
        return PRIVATE_MAP(cbor(raw), "MAN-1")

    # ---- index and chunks (steps 8, 9, 12)

    def load_index(self):
        packs, removed, unread, superseded = {}, set(), {}, set()
        for key in self.store.keys(SEGMENT):
            try:
                data = self.store.get(key)
                need(blake3(data).hexdigest() == key[6:], "SEG-9", "the bytes are not those its key names")
                signer, (supersedes, removes, listed, _), frames, _ = open_segment(data, self.id, lambda w: self.verify_key(w, "SEG-4"), self.index_key)
                for (pack, length, _, _), frame in zip(listed, frames):
                    packs.setdefault(pack, []).append((length, frame))
                if self.in_force(signer, (MAINTAIN, FULL)):
                    removed.update(removes)
                    superseded.update(supersedes)
            except Bad as bad:
                unread[key] = bad
        for key, bad in unread.items():                  # no damage where others stand in its stead
            with self.reporting(key, bad.rule if bytes.fromhex(key[6:]) in superseded else ""):
                raise bad
        self.tocs, self.places, self.keys_of, self.blocks, self.cached = {}, {}, {}, collections.OrderedDict(), 0
        for pack in packs.keys() - removed:
            for length, frame in packs[pack] + [(packs[pack][0][0], None)]:
                with self.reporting("pack " + pack.hex()):
                    if frame is None:
                        frame = self.store.part(pack_key(pack), length - len(packs[pack][0][1]), len(packs[pack][0][1]))
                    toc = toc_of_frame(frame, self.id, lambda w: self.verify_key(w, "TOC-1"), self.index_key)
                    if toc.blocks:
                        end = toc.blocks[-1].offset + toc.blocks[-1].stored
                        need(end + len(frame) <= length, "PACK-6", "blocks do not fit into the pack")
                    self.tocs[pack] = toc
                    self.add_places(pack, toc)
                    break

    def add_places(self, pack, toc):
        at = 0
        for number, block in enumerate(toc.blocks):
            offset = 0
            for chunk, length in toc.chunks[at:at + block.chunks]:
                self.places.setdefault((block.kind, chunk), []).append((pack, number, offset, length))
                offset += length
            at += block.chunks
        self.tocs[pack] = toc._replace(chunks=None)      # `places` holds them now

    def chunk(self, kind, chunk):
        error = Bad("MISSING", f"chunk {chunk.hex()} is in no pack of the index")
        for pack, number, offset, length in self.places.get((kind, chunk), ()):
            try:
                data = self.block(pack, number)[offset:offset + length]
                need(blake3(data, key=self.id_keys[kind]).digest() == chunk, "CHUNK", f"chunk {chunk.hex()} is not its id")
                return data
            except Bad as bad:
                error = bad
        raise error

    def block(self, pack, number):
        if (pack, number) in self.blocks:
            self.blocks.move_to_end((pack, number))
            return self.blocks[pack, number]
        toc = self.tocs[pack]
        block, key = toc.blocks[number], pack_key(pack)
        need(pack_header(self.store.part(key, 0, 16)) == (toc.kind, toc.birth), "PACK-1", f"{key}: its header is not its table's")
        stored = self.store.part(key, block.offset, block.stored)
        data = open_block(stored, block, self.id, self.block_key(toc.entries[block.entry]))
        self.blocks[pack, number] = data
        self.cached += len(data)
        while self.cached > 128 * MIB:
            self.cached -= len(self.blocks.popitem(last=False)[1])
        return data

    def block_key(self, entry):
        type_, epoch, _, sealed = entry
        if type_ == 2:
            return self.index_key(epoch)
        if sealed not in self.keys_of:
            self.keys_of[sealed] = hpke_open(self.content_key(epoch), place("esker session key", self.id, PACK, epoch), sealed,
                                             "BLOCK-1")
        need(len(self.keys_of[sealed]) == 32, "BLOCK-1", "a session key of another length")
        return self.keys_of[sealed]

    # ---- tree and contents (steps 13, 14)

    def leaves(self, kind, chunk, level, first=None, totals=None):
        """Items of all leaves below a page, the totals and first keys of every child verified."""
        page_kind = {TREE: 1, LIST: 2, REFS: 3}[kind]
        items, count, size = parse_page(self.chunk(kind, chunk), page_kind, level), 0, 0
        need(first is None or items and first_key(items[0], page_kind, level) == first, "PAGE-5", "another first key")
        for item in items:
            if level:
                sums = yield from self.leaves(kind, item[1], level - 1, item[0], item[2:])
                count, size = count + sums[0], size + sums[1]
            else:
                yield item
                count, size = count + 1, size + (item.size if kind == TREE else item[0] if kind == LIST else 0)
        need(size < 1 << 64, "CONT-4", "a sum over 64 bits")
        if totals and totals[1] is not None:
            need(totals[0] in (None, count) and totals[1] == size, "PAGE-6" if kind == TREE else "CONT-4", "totals are wrong")
        return count, size

    def entries(self, root):
        before = b""
        for entry in self.leaves(TREE, *root):
            need(before < entry.key, "PAGE-7", "keys that are not ascending")
            before = entry.key
            yield entry

    def pieces(self, content, size=None):
        """(length, bytes or None for a hole) of a content."""
        kind, value = content
        items = {0: lambda: [], 1: lambda: [(len(value), value)], 2: lambda: value,
                 3: lambda: self.leaves(LIST, value[1], value[0])}[kind]()
        total = 0
        for length, chunk in items:
            data = value if kind == 1 else chunk and self.chunk(DATA, chunk)
            need(data is None or len(data) == length, "CONT-4", "a chunk of another length than its item says")
            total += length
            yield length, data
        need(size in (None, total), "CONT-4", "lengths that do not add up to the size")

def pack_key(pack):
    return f"packs/{pack.hex()[:2]}/{pack.hex()}"

def unwrap(slot, repo, given, private):
    """A slot's secrets by slot input or recipient key; None: it belongs to another."""
    at = place("esker slot secrets", repo, SLOT, 0, "keys/" + slot["id"].hex())
    if private and slot["method"] == 3:
        try:
            return hpke_open(private, at, slot["sealed"], "SLOT-3")
        except Bad:
            return None
    if given and slot["commitment"] == derive("esker 1 slot commitment", given + slot["id"]):
        return unseal(derive("esker 1 slot wrap", given + slot["id"]), at, slot["sealed"], "SLOT-3")

def open_secrets(raw, slot, env, repo):
    out = secrets_map(raw)
    need(out["repository"] == repo, "SLOT-4", "the slot is of another repository")
    need((out["role"], out["writer"]) == (slot["role"], slot["writer"]), "SLOT-5", "role or writer within is not as outside")
    need((out["root"] is not None) == (out["role"] == FULL), "SLOT-5", "a root where none belongs, or none")
    check_by_admin(env, out["admin"], out["repository"], SLOT, "keys/" + slot["id"].hex())
    return out

def open_grant(private, repo, epoch, slot, sealed):
    out = EPOCH_KEYS(cbor(hpke_open(private, place("esker grant", repo, UPDATE, epoch, "keys/" + slot.hex()), sealed, "UPD-6")),
                     "UPD-6")
    need(out["epoch"] == epoch, "UPD-6", "a grant of another epoch")
    return out

# ---- commands ---------------------------------------------------------------------------------------------------

def believable(repo, wanted=None):
    found = [m for m in repo.snapshots() if wanted in (None, "latest") or m["id"].hex().startswith(wanted)]
    if wanted:
        found = [m for m in found if m["confirmed"]]
        found = [max(found, key=lambda m: m["started"])] if found and wanted == "latest" else found
        if len(found) != 1:
            if repo.damage:
                raise repo.damage[0]
            sys.exit(f"{len(found)} confirmed snapshots fit {wanted}")
    return found

def list_command(repo):
    for m in believable(repo):
        line = {"id": m["id"].hex(), "time": datetime.datetime.fromtimestamp(m["started"] / 1000, datetime.UTC).isoformat(),
                "host": m["host"], "profile": m["profile"], "outcome": {1: "complete", 2: "partial"}[m["outcome"]],
                **{k: m[k] for k in ("confirmed", "forgotten", "name", "tags", "pinned", "counts")}}
        if repo.role in (FULL, READ):
            with repo.reporting(line["id"]):
                line["paths"] = [os.fsdecode(p) for p in repo.private_part(m)["paths"]]
        print(json.dumps(line))
    return 20 if repo.damage else 0

def restore_command(repo, wanted, target):
    m, = believable(repo, wanted)
    root = repo.private_part(m)["tree"]
    repo.load_index()
    os.makedirs(target, exist_ok=True)
    if os.listdir(target):
        sys.exit(f"{target} is not empty")
    top, above, links, stack, counts = os.open(target, os.O_RDONLY | os.O_DIRECTORY), None, {}, [], collections.Counter()

    def leave():                                         # times of a directory, when all in it is done
        key, fd, entry = stack.pop()
        metadata(repo, b"/proc/self/fd/%d/." % fd, entry)
        os.close(fd)

    for e in repo.entries(root):
        *parent, name = e.key.split(b"\0")
        while stack and stack[-1][0] != parent:
            leave()
        if not parent and name == b"files":              # the root directory
            need(e.kind == 2, "ENT-2", "files is no directory")
            above = e
            stack.append(([name], os.dup(top), e))
            continue
        need(stack or not parent, "ENT-1", f"{e.key} lies in no directory")
        fd = stack[-1][1] if stack else top
        path = b"/proc/self/fd/%d/%s" % (fd, name)       # every directory on the way was made here: no link is followed
        counts[e.kind] += 1
        if e.kind == 2:
            os.mkdir(name, 0o700, dir_fd=fd)
            stack.append((parent + [name], os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=fd), e))
            continue
        if e.link in links:
            os.link(links[e.link], path, follow_symlinks=False, dst_dir_fd=fd, src_dir_fd=top)
            continue
        if e.link:
            links[e.link] = b"/".join(e.key.split(b"\0")[1 if e.key.startswith(b"files\0") else 0:])
        if e.kind == 1:
            write_file(repo, name, fd, e)
        elif e.kind == 3:
            os.symlink(e.target, name, dir_fd=fd)
        elif e.kind == 6 or os.geteuid() == 0:
            os.mknod(name, 0o600 | {4: stat.S_IFCHR, 5: stat.S_IFBLK, 6: stat.S_IFIFO}[e.kind],
                     os.makedev(*e.device) if e.device else 0, dir_fd=fd)
        else:
            print(f"not root, so left out: {e.key}", file=sys.stderr)
            continue
        metadata(repo, path, e)
    while stack:
        leave()
    if above:
        metadata(repo, b"/proc/self/fd/%d/." % top, above)
    print(f"restored {counts[1]} files, {counts[2]} directories, {sum(counts.values()) - counts[1] - counts[2]} others")
    if repo.damage:
        print("this snapshot is whole, but other objects are damaged:", repo.damage[-1], file=sys.stderr)
    return 20 if repo.damage else 0

def write_file(repo, name, fd, e):
    with open(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=fd), "wb", 0) as f:
        for length, data in repo.pieces(e.content, e.size):
            if data is not None:
                view = memoryview(data)
                while view:
                    view = view[f.write(view):]
            elif e.flags >> 11 & 1:
                f.seek(length, os.SEEK_CUR)
            else:
                for at in range(0, length, MIB):
                    f.write(bytes(min(MIB, length - at)))
        f.truncate(e.size)

def metadata(repo, path, e):
    if os.geteuid() == 0:
        os.chown(path, e.uid, e.gid, follow_symlinks=False)
    if e.kind != 3:
        os.chmod(path, e.mode)
    for name, value in e.xattrs + [(n, b"".join(d or bytes(l) for l, d in repo.pieces(c))) for n, c in e.long]:
        os.setxattr(path, name, value, follow_symlinks=False)
    os.utime(path, ns=(e.mtime, e.mtime), follow_symlinks=False)

def public_command(repo):
    """Try every secret of the key on everything that is not public."""
    seeds = {v for v in repo.secrets.values() if type(v) is bytes and len(v) == 32} | set(repo.id_keys.values())
    seeds |= {v for e in repo.epochs.values() for v in (e["index"], e["content"]) if v}
    if repo.root:                                        # a full key derives the rest
        seeds |= {derive("esker 1 content key pair", repo.root + le32(e)) for e in range(1, 1 + repo.newest_epoch)}
    opened, tried = [], collections.Counter()

    def attempt(what, call):
        tried[what.split()[0]] += 1
        try:
            call()
            opened.append(what)
        except Bad:
            pass
    for m in believable(repo):
        print("public:", m["id"].hex(), m["host"], m["outcome"], m["confirmed"], m["counts"])
    for kind in (SESSION, MANIFEST, RECORD, SLOT, UPDATE):
        for key in repo.store.keys(kind):
            env = envelope(repo.store.get(key), kind)
            for seed in seeds:
                if env.attachment:
                    at = place("esker attachment", repo.id, kind, env.epoch, key)
                    attempt(f"attachment of {key}", lambda: hpke_open(repo.private(seed), at, env.attachment, "X"))
                if kind == SLOT and key != "keys/" + repo.slot.hex():
                    sealed, at = SLOT_MAP(cbor(env.payload), "X")["sealed"], place("esker slot secrets", repo.id, SLOT, 0, key)
                    attempt(f"secrets of {key}", lambda: unseal(seed, at, sealed, "X"))
                    attempt(f"secrets of {key}", lambda: hpke_open(repo.private(seed), at, sealed, "X"))
                update = update_map(env.payload, key) if kind == UPDATE else {"grants": ()}
                for grant in update["grants"]:
                    if grant["slot"] != repo.slot:
                        attempt(f"grant in {key}", lambda: open_grant(repo.private(seed), repo.id, update["epoch"], **grant))
    repo.load_index()
    for pack, toc in repo.tocs.items():
        keys = set(seeds)
        for _, epoch, _, sealed in toc.entries:
            for seed in seeds if sealed else ():
                at = place("esker session key", repo.id, PACK, epoch)
                attempt(f"session-key in {pack.hex()}", lambda: keys.add(hpke_open(repo.private(seed), at, sealed, "X")))
        for block in toc.blocks:
            stored = repo.store.part(pack_key(pack), block.offset, block.stored)
            for key in keys if block.kind != REFS else ():
                attempt(f"block of kind {block.kind} in {pack.hex()}", lambda: open_block(stored, block, repo.id, key))
    print(f"tried with {len(seeds)} secrets: {dict(tried)}")
    print("\n".join(f"OPENED: {x}" for x in opened) or "opened nothing but public parts")
    return 1 if opened else 20 if repo.damage else 0

# ---- test vectors -----------------------------------------------------------------------------------------------

def cut(data, average, gear):
    """Chapter 3: length of the first chunk."""
    if len(data) <= average // 4:
        return len(data)
    masks = (0xd90003530000, 0xd90103530000, 0xd90303530000, 0xd90313530000, 0xd90f03530000, 0xd90303537000, 0xd90703537000,
             0xd90707537000, 0xd91707537000, 0xd91747537000, 0xd91767537000)          # MASKS[11] to MASKS[21]
    bits = average.bit_length() - 1
    end = min(len(data), 4 * average)
    center, value = min(end, average) & ~1, 0
    for i in range(average // 4, end & ~1):
        value = (value << 1) + gear[data[i]] & 0xffffffffffffffff
        if not value & masks[bits + (1 if i < center else -1) - 11]:
            return i
    return end

def cut_pages(items, kind, cut_key, id_key):
    """Chapter 9: builds pages of (key, bytes, entries, size); the root and [level, length, id] of all pages in order."""
    levels, stored = [], []                              # a level: [bytes, count, first key, entries, size]

    def store(level):
        body, count, first, entries, size = levels[level]
        data = struct.pack("<BBHI", kind, level, 0, count) + body
        stored.append([level, len(data), blake3(data, key=id_key).digest()])
        return stored[-1][2], first, entries, size

    def finish(level):
        chunk, first, entries, size = store(level)
        levels[level] = [b"", 0, None, 0, 0]
        child = {1: lambda: struct.pack("<H", len(first)) + first + chunk + struct.pack("<QQ", entries, size),
                 2: lambda: chunk + struct.pack("<Q", size), 3: lambda: first + chunk}[kind]()
        push(level + 1, chunk if kind == 2 else first, child, entries, size)

    def push(level, key, item, entries, size):
        if level == len(levels):
            levels.append([b"", 0, None, 0, 0])
        length = 8 + len(levels[level][0])
        if levels[level][1] and (length + len(item) > 262144 or length >= 16384 and
                                 blake3(bytes([level]) + key, key=cut_key).digest()[0] == 0):
            finish(level)
        page = levels[level]
        levels[level] = [page[0] + item, page[1] + 1, page[2] if page[1] else key, page[3] + entries, page[4] + size]
    levels.append([b"", 0, None, 0, 0])
    for item in items:
        push(0, *item)
    level = 0
    while level < len(levels) - 1:
        if levels[level][1]:
            finish(level)
        level += 1
    root, _, entries, size = store(level)
    return {"root": root, "level": level, "entries": entries, "bytes": size, "pages": stored}

def numbered(kind, n):
    h, size = blake3(le32(n)).digest(), 1000 + n
    if kind == 2:
        item = struct.pack("<BI", 1, size) + h
        return item, item, 1, size
    if kind == 3:
        return struct.pack("<Q", n << 20) + h, struct.pack("<Q32sHHH", n << 20, h, 1, 0, n % 100), 1, 0
    key = b"files\0%07d" % n
    return key, struct.pack("<H13sBHHIIqIqIQQBBBI", 13, key, 1, 1 << 2 | 1 << 9, 0o644, 0, 0, 0, 0, 0, 0, 0, size, 2, 1, 1,
                            size) + h, 1, size

def whole(parse, data):
    c = Cursor(data, "PAGE-2")
    out = parse(c)
    need(c.pos == len(data), "PAGE-2", "bytes are left over")
    return out

def show_content(content):
    kind, value = content
    return {0: lambda: None, 1: lambda: {"inline": value}, 3: lambda: {"list": value[1], "level": value[0]},
            2: lambda: {"items": [show_item(x) for x in value]}}[kind]()

def show_item(x):
    return {"chunk": x[1], "length": x[0]} if x[1] else {"hole": x[0]}

def show_entry(e):
    return {**{k: getattr(e, k) for k in "key kind mode uid gid user group size inode device xattrs".split()},
            "mtime": divmod(e.mtime, 10**9), "ctime": divmod(e.ctime, 10**9), "target": e.target or b"", "link_group": e.link,
            "long_xattrs": [(n, show_content(v)) for n, v in e.long], "content": show_content(e.content),
            "filesystem": e.system, "changed_while_read": bool(e.flags >> 10 & 1), "sparse": bool(e.flags >> 11 & 1)}

def show_page(items, kind, level):
    if level:
        names = {1: ("first", "id", "entries", "bytes"), 2: ("", "id", "", "bytes"), 3: ("first", "id", "", "")}[kind]
        items = [{k: v for k, v in zip(names, x) if k} for x in items]
        return items if kind < 3 else [{"birth": x["first"][0], "pack": x["first"][1], "id": x["id"]} for x in items]
    return [{1: show_entry, 2: show_item, 3: lambda r: named("birth pack runs", r)}[kind](x) for x in items]

def show_toc(toc, pack):
    chunks = []
    for n, (chunk, length) in enumerate(toc.chunks):
        birth, origin, ordinal = next(((b, p, o + n - s) for s, c, b, p, o in toc.foreign if s <= n < s + c), (toc.birth, pack, n))
        chunks.append({"id": chunk, "length": length, "birth": birth, "origin": origin, "ordinal": ordinal})
    return {"pack_kind": toc.kind, "birth": toc.birth, "run": toc.run, "chunks": chunks,
            "sessions": [{"epoch": e, "writer": w, "sealed": k if t == 1 else None} for t, e, w, k in toc.entries],
            "blocks": [{"kind": x.kind, "codec": x.codec, "session": x.entry, "offset": x.offset, "stored_length": x.stored,
                        "raw_length": x.raw, "chunks": x.chunks, "stored_hash": x.hash} for x in toc.blocks]}

def show_slot(i, k, repo):
    env = envelope(i["bytes"], SLOT)
    slot = slot_map(env.payload)
    raw = unwrap(slot, repo, k.get("input"), xwing_private(k["recipient"]) if "recipient" in k else None)
    secrets = raw and open_secrets(raw, slot, env, repo)
    if secrets:
        secrets["chunk_ids"] = list(secrets["chunk_ids"].items())
    return {**{n: v for n, v in slot.items() if n != "sealed"}, "secrets": secrets}

def show_object(i, k, repo):
    env = envelope(i["bytes"], i["object_kind"])
    at = repo, i["object_kind"], env.epoch, i["key"]
    signed(k["verify"], place("esker signature", *at), env.body, env.signature, "OBJ-7")
    payload = unseal(k["index"], place("esker object", *at), env.payload, "OBJ-8") if env.epoch else env.payload
    return {"epoch": env.epoch, "writer": env.writer, "payload": payload, "attachment": hpke_open(
        xwing_private(k["content"]), place("esker attachment", *at), env.attachment, "OBJ-9") if env.attachment else None}

def show_config(i, k, repo):
    env = envelope(i["bytes"], CONFIG)
    out = CONFIG_MAP(cbor(env.payload), "CONF-1")
    need(out["admin"] == k["admin"], "CONF-3", "another admin key")
    check_by_admin(env, k["admin"], out["repository"], CONFIG, "config")
    out.update(zip(("memory_kib", "passes", "lanes"), out.pop("stretching")))
    return out

def show_update(i, k, repo):
    env = envelope(i["bytes"], UPDATE)
    check_by_admin(env, k["admin"], repo, UPDATE, i["key"])
    out = update_map(env.payload, i["key"])
    out["grants"] = [list(g.values()) for g in out["grants"]]
    for r in out["revoked"]:
        r["standing"] = [(s[:16], s[16:]) for s in r["standing"]]
    return out

def show_manifest(raw):
    out = manifest_map(raw)
    out["promises"] = out["promises"] or dict.fromkeys(("age", "drill", "check"))
    out.update({k: out[k] and list(out[k].values()) for k in ("promises", "counts", "copied_from")})
    return {**out, "sources": [list(s.values()) for s in out["sources"]], "references": named("id level", out["references"])}

def show_private(raw):
    out = PRIVATE_MAP(cbor(raw), "MAN-1")
    return {**out, "tree": named("id level", out["tree"]), **{n: [list(x.values()) for x in out[n]] for n in ("failures", "notes")}}

def show_schedule(root, epoch):
    out = {f"id_{n}": derive(f"esker 1 chunk id {n}", root) for n in ("data", "list", "tree", "refs")}
    out["admin_seed"], out["chunker"] = (derive(f"esker 1 {n} key", root) for n in ("admin signing", "chunker"))
    out["content_seed"], out["index"] = (derive(f"esker 1 {n}", root + le32(epoch)) for n in ("content key pair", "index key"))
    out["page_cut"], out["reference_cut"] = (derive("esker 1 page cut", out[n]) for n in ("chunker", "id_refs"))
    return {**out, "gear_first": gear_table(out["chunker"])[0], "gear_last": gear_table(out["chunker"])[-1],
            "source_label": derive("esker 1 source label", out["id_data"]),
            "admin_verify": ed25519.Ed25519PrivateKey.from_private_bytes(out["admin_seed"]).public_key().public_bytes_raw()}

def show_block(i, k, repo):
    block = Block(i["chunk_kind"], i["codec"], 0, len(i["stored"]), i["raw_length"], 1, i["stored_hash"], 0)
    text, ends = open_block(i["stored"], block, repo, k["key"]), list(itertools.accumulate(i["chunk_lengths"], initial=0))
    return {"text": text, "chunk_ids": [blake3(text[a:b], key=k["id"]).digest() for a, b in zip(ends, ends[1:])]}

def show_chunks(average, label, length, key):
    data, at, out = blake3(label.encode()).digest(length) if label else bytes(length), 0, []
    while at < length:
        out.append(cut(data[at:at + 4 * average], average, gear_table(key)))
        at += out[-1]
    return {"lengths": out}

def show_frame(i, k, repo):
    toc = toc_of_frame(i["bytes"], repo, lambda _: k["verify"], lambda _: k["index"], not i["whole_pack"])
    epoch, signer, _, _, sealed = frame_parts(i["bytes"], not i["whole_pack"])
    return {"epoch": epoch, "sealed_length": len(sealed), "signer": signer, "toc": show_toc(toc, blake3(i["bytes"]).digest())}

def show_segment(i, k, repo):
    signer, directory, frames, rows = open_segment(i["bytes"], repo, lambda _: k["verify"], lambda _: k["index"])
    return {"epoch": segment_header(i["bytes"])[0], "signer": signer, "directory": named(DIRECTORY, directory), "rows": rows,
            "frames": frames}

def signing(key, message):
    return {"verify": key.public_key().public_bytes_raw(), "signature": key.sign(message)}

DIRECTORY = "supersedes removes packs pieces"
VECTORS = {                                              # inputs, keys, repository id
    "cbor": lambda i, k, r: tagged(cbor(i["bytes"])),
    "padding": lambda i, k, r: {"padded": padded(i["length"])},
    "place": lambda i, k, r: {"bytes": place(i["label"], r, i["object_kind"], i["epoch"], i["key"])},
    "block_place": lambda i, k, r: {"bytes": block_place(r, i["chunk_kind"], i["codec"], i["raw_length"])},
    "key_schedule": lambda i, k, r: show_schedule(k["root"], i["epoch"]),
    "stretching": lambda i, k, r: {"input": slot_input(i["password"], None, i["salt"], (i["memory_kib"], i["passes"], i["lanes"]))},
    "key_file": lambda i, k, r: {"input": slot_input(None, k["file"], None, None)},
    "slot_keys": lambda i, k, r: {n: derive(f"esker 1 slot {n}", k["input"] + i["slot"]) for n in ("wrap", "commitment")},
    "signing_key": lambda i, k, r: signing(ed25519.Ed25519PrivateKey.from_private_bytes(k["seed"]), i["message"]),
    "signature": lambda i, k, r: verify(k["verify"], i["message"], i["signature"], "KEY-3") or {},
    "seal": lambda i, k, r: {"text": unseal(k["key"], i["associated"], i["message"], "KEY-2")},
    "hybrid_public": lambda i, k, r: {"public": b"".join(x.public_key().public_bytes_raw() for x in xwing_halves(k["seed"]))},
    "hybrid_public_bytes": lambda i, k, r: xwing_public(i["public"], "KEY-3") and {},
    "hybrid_seal": lambda i, k, r: {"text": hpke_open(xwing_private(k["seed"]), i["info"], i["message"], "KEY-2")},
    "block": show_block, "object": show_object, "config": show_config, "update": show_update, "slot": show_slot,
    "chunker": lambda i, k, r: show_chunks(i["average"], i["label"], i["length"], k["chunker"]),
    "grant": lambda i, k, r: open_grant(xwing_private(k["recipient"]), r, i["epoch"], i["slot"], i["sealed"]),
    "pack_header": lambda i, k, r: named("pack_kind birth", pack_header(i["bytes"])),
    "toc_frame": show_frame, "segment": show_segment,
    "toc": lambda i, k, r: show_toc(parse_toc(i["bytes"], i["bytes"][0] if i["bytes"] else 1), i["pack"]),
    "directory": lambda i, k, r: named(DIRECTORY, parse_directory(i["bytes"])),
    "content": lambda i, k, r: show_content(whole(parse_content, i["bytes"])),
    "entry": lambda i, k, r: show_entry(whole(parse_entry, i["bytes"])),
    "reference": lambda i, k, r: named("birth pack runs", whole(parse_reference, i["bytes"])),
    "page": lambda i, k, r: {"items": show_page(parse_page(i["bytes"], i["page_kind"], i["level"]), i["page_kind"], i["level"])},
    "page_cut": lambda i, k, r: cut_pages([numbered(i["page_kind"], n) for n in range(i["count"])], i["page_kind"], k["cut"], k["id"]),
    "manifest": lambda i, k, r: show_manifest(i["bytes"]), "private_part": lambda i, k, r: show_private(i["bytes"]),
    "session": lambda i, k, r: SESSION_MAP(cbor(i["bytes"]), "SES-1"),
    "confirmation": lambda i, k, r: CONFIRMATION_MAP(cbor(i["bytes"]), "CFM-1"), "mark": lambda i, k, r: mark_map(i["bytes"]),
    "sweep": lambda i, k, r: SWEEP_MAP(cbor(i["bytes"]), "SWP-1"), "record": lambda i, k, r: RECORD_MAP(cbor(i["bytes"]), "REC-1")}

def named(names, values):
    return dict(zip(names.split(), values))

def tagged(v):
    name = {int: "uint", bytes: "bytes", str: "text", list: "array", dict: "map", bool: "bool"}[type(v)]
    return {name: [tagged(x) for x in v] if name == "array" else [(a, tagged(b)) for a, b in v.items()] if name == "map" else v}

def plain(x):
    if isinstance(x, dict):
        return {key: plain(v) for key, v in x.items()}
    return x.hex() if isinstance(x, bytes) else [plain(v) for v in x] if isinstance(x, (list, tuple)) else x

class Objects(Folder):                                   # the store of repository.json
    def __init__(self, objects):
        self.objects = {key: bytes.fromhex(v) for key, v in objects.items()}

    def get(self, key):
        need(key in self.objects, "MISSING", f"{key} is not there")
        return self.objects[key]

    def part(self, key, offset, length):
        return self.get(key)[offset:offset + length]

    def keys(self, kind):
        return sorted(k for k in self.objects if re.fullmatch(FORMS[kind], k, re.ASCII))

def check_repository(v):
    for password in v["passwords"].values():
        repo = Repository(Objects(v["objects"]), password.encode())
        m, = believable(repo)
        repo.load_index()
        files = []
        for e in repo.entries(repo.private_part(m)["tree"]):
            hasher = blake3()
            for length, data in repo.pieces(e.content, e.size):
                hasher.update(data if data is not None else bytes(length))
            long = [(n, blake3(b"".join(d or bytes(l) for l, d in repo.pieces(c))).digest()) for n, c in e.long]
            files.append({"key": e.key, "kind": e.kind, "size": e.size, "blake3": hasher.digest(), "link_group": e.link,
                          "target": e.target or b"", "long_xattrs": long})
        if (m["id"].hex(), m["name"], plain(files), repo.damage) != (v["snapshot"], v["name"], v["files"], []):
            return False
    return True

def vectors_command(folder):
    counts, wrong = collections.Counter(), 0
    for name in sorted(n for n in os.listdir(folder) if n.endswith(".json")):
        with open(os.path.join(folder, name)) as f:
            content = json.load(f)
        for v in content.get("vectors", []):
            texts = ("label", "key") if v["kind"] != "chunker" else ("label",)
            inputs = {n: bytes.fromhex(x) if isinstance(x, str) and n not in texts else x for n, x in v["inputs"].items()}
            try:
                got = "ok", plain(VECTORS[v["kind"]](inputs, {n: bytes.fromhex(x) for n, x in v["keys"].items()},
                                                                inputs.get("repository")))
            except Bad as bad:
                got = "reject", bad.rule
            counts[name, v["expect"]] += 1
            if got != (v["expect"], v["fields"] if v["expect"] == "ok" else v["rule"]):
                wrong += 1
                print(f"WRONG: {name}, {v['kind']}, {v['name']}: wanted {v['expect']} {v.get('rule')}, got {str(got)[:300]}")
        if "objects" in content:
            counts[name, "ok"] += 1
            if not check_repository(content):
                wrong += 1
                print(f"WRONG: {name}")
    for (name, expect), n in sorted(counts.items()):
        print(f"{name}: {n} {expect}")
    print(f"{sum(counts.values())} vectors, {wrong} wrong")
    return 1 if wrong else 0

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, more in (("list", []), ("restore", ["snapshot", "target"]), ("public", [])):
        command = commands.add_parser(name)
        for argument in ["repo"] + more:
            command.add_argument(argument)
        group = command.add_mutually_exclusive_group(required=True)
        group.add_argument("--password-file")
        group.add_argument("--key-file")
    commands.add_parser("vectors").add_argument("dir")
    a = parser.parse_args()
    if a.command == "vectors":
        return vectors_command(a.dir)
    secret = {name: open(path, "rb").read() for name, path in (("password", a.password_file), ("key_file", a.key_file)) if path}
    if a.key_file:
        secret["key_file"] = read_key_file(secret["key_file"])
    try:
        repo = Repository(Folder(a.repo), **secret)
        return {"list": lambda: list_command(repo), "public": lambda: public_command(repo),
                "restore": lambda: restore_command(repo, a.snapshot, a.target)}[a.command]()
    except Bad as bad:
        because = [x for x in DAMAGE if x is not bad]
        print(f"{bad}, after: {because[0]}" if because else bad, file=sys.stderr)
        return 20

if __name__ == "__main__":
    sys.exit(main())
