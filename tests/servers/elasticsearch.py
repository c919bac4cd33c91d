#!/usr/bin/env python3
"""A stand-in for Elasticsearch: elasticsearch.py DIR PORT

Follows the public documentation of version 8.17 as far as backups need it: documents, indices that are open or closed,
health, and snapshots in a repository of type fs. Errors have the documented form. What a snapshot holds lies in the
repository's directory only, and a repository is read when it is registered; so a directory that was put back counts
once it is registered anew. Of several lists of snapshots in it the highest index-N is the one that counts. The files have the documented places, and contents of their own.

https://www.elastic.co/guide/en/elasticsearch/reference/8.17/snapshot-restore-apis.html
"""

import base64
import fnmatch
import hashlib
import json
import os
import sys
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

DIRECTORY = sys.argv[1]
LOCK = threading.RLock()
# name of an index -> {"uuid", "open", "shards", "documents": {id: document}}
INDICES = {}
# name of a repository -> {"type", "settings"}
DEFINITIONS = {}
# name of a repository -> {"generation", "snapshots": [...]}, as it was read or written last
CONTENTS = {}


class Refused(Exception):
    def __init__(self, status, kind, reason):
        super().__init__(reason)
        self.status, self.kind, self.reason = status, kind, reason


def write(path, data):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".new", "wb") as file:
        file.write(data)
    os.replace(path + ".new", path)


def read(path):
    with open(path, "rb") as file:
        return json.load(file)


def save_state():
    write(os.path.join(DIRECTORY, "data", "state"), json.dumps([INDICES, DEFINITIONS]).encode())


def load_state():
    path = os.path.join(DIRECTORY, "data", "state")
    if os.path.exists(path):
        indices, definitions = read(path)
        INDICES.update(indices)
        for name, definition in definitions.items():
            register(name, definition)


def told(name, otherwise):
    """What whoever runs the test has left in a file of this name."""
    try:
        with open(os.path.join(DIRECTORY, name)) as file:
            return file.read().strip()
    except FileNotFoundError:
        return otherwise


def chosen(expression):
    """The indices of a list of names and patterns. A name that is not there is an error, a pattern is not."""
    names = []
    for part in expression.split(","):
        found = sorted(fnmatch.filter(INDICES, "*" if part == "_all" else part))
        if not found and "*" not in part:
            raise Refused(404, "index_not_found_exception", f"no such index [{part}]")
        names += [name for name in found if name not in names]
    return names


def shards_of(index):
    """The documents of each shard."""
    shards = [{} for _ in range(index["shards"])]
    for name, document in sorted(index["documents"].items()):
        shards[hashlib.sha256(name.encode()).digest()[0] % len(shards)][name] = document
    return shards


# Repositories


def location(name):
    if name not in DEFINITIONS:
        raise Refused(404, "repository_missing_exception", f"[{name}] missing")
    return place_of(name, DEFINITIONS[name])


def place_of(name, definition):
    allowed = os.path.join(DIRECTORY, "snapshots")
    if definition.get("type") != "fs":
        raise Refused(400, "repository_exception", f"[{name}] repository type [{definition.get('type')}] does not exist")
    place = os.path.normpath(os.path.join(allowed, definition["settings"]["location"]))
    if os.path.commonpath([allowed, place]) != allowed:
        reason = f"[{name}] location [{place}] doesn't match any of the locations specified by path.repo"
        raise Refused(400, "repository_exception", reason)
    return place


def register(name, definition):
    place = place_of(name, definition)
    os.makedirs(place, exist_ok=True)
    generations = [int(name[6:]) for name in os.listdir(place) if name.startswith("index-") and name[6:].isdigit()]
    content = {"generation": -1, "snapshots": []}
    if generations:
        # not what index.latest names: that is for readers that cannot list
        generation = max(generations)
        content = {"generation": generation, "snapshots": read(os.path.join(place, f"index-{generation}"))["snapshots"]}
    DEFINITIONS[name] = {"type": definition["type"], "settings": definition["settings"]}
    CONTENTS[name] = content


def next_generation(name):
    """The list of snapshots goes into a new file; index.latest names it last."""
    place, content = location(name), CONTENTS[name]
    before = content["generation"]
    content["generation"] += 1
    ended = [snapshot for snapshot in content["snapshots"] if snapshot["state"] != "IN_PROGRESS"]
    write(os.path.join(place, f"index-{content['generation']}"), json.dumps({"snapshots": ended}).encode())
    write(os.path.join(place, "index.latest"), content["generation"].to_bytes(8, "big"))
    if before >= 0:
        os.remove(os.path.join(place, f"index-{before}"))


def snapshot_of(repository, name):
    location(repository)
    for snapshot in CONTENTS[repository]["snapshots"]:
        if snapshot["snapshot"] == name:
            return snapshot
    raise Refused(404, "snapshot_missing_exception", f"[{repository}:{name}] is missing")


def writable(repository):
    location(repository)
    if DEFINITIONS[repository]["settings"].get("readonly") in (True, "true"):
        raise Refused(500, "repository_exception", f"[{repository}] cannot be changed: repository is readonly")


def begin_snapshot(repository, name, wanted):
    writable(repository)
    snapshots = CONTENTS[repository]["snapshots"]
    if any(snapshot["snapshot"] == name for snapshot in snapshots):
        reason = f"[{repository}:{name}] Invalid snapshot name [{name}], snapshot with the same name already exists"
        raise Refused(400, "invalid_snapshot_name_exception", reason)
    if any(snapshot["state"] == "IN_PROGRESS" for snapshot in snapshots):
        raise Refused(503, "concurrent_snapshot_execution_exception", f"[{repository}:{name}] a snapshot is already running")
    names = chosen(wanted.get("indices", "*"))
    snapshot = {
        "snapshot": name, "uuid": uuid.uuid4().hex[:22], "repository": repository, "version": "8.17.0", "indices": names,
        "data_streams": [], "include_global_state": wanted.get("include_global_state", True), "state": "IN_PROGRESS",
        "start_time_in_millis": int(time.time() * 1000), "failures": [], "shards": {"total": 0, "failed": 0, "successful": 0},
    }
    snapshots.append(snapshot)
    # what is saved is of now, however long the saving takes
    frozen = {name: (INDICES[name]["uuid"], shards_of(INDICES[name])) for name in names}
    threading.Thread(target=take_snapshot, args=(repository, snapshot, frozen), daemon=True).start()


def take_snapshot(repository, snapshot, frozen):
    time.sleep(float(told("seconds", "0")))
    outcome = told("outcome", "SUCCESS")
    with LOCK:
        if snapshot not in CONTENTS[repository]["snapshots"]:
            return
        place, mark = location(repository), f"snap-{snapshot['uuid']}.dat"
        shards = snapshot["shards"]
        for name, (identity, parts) in frozen.items():
            for number, documents in enumerate(parts):
                shards["total"] += 1
                # a partial snapshot lacks the first shard of all
                if outcome == "FAILED" or (outcome == "PARTIAL" and shards["total"] == 1):
                    shards["failed"] += 1
                    snapshot["failures"].append({
                        "index": name, "index_uuid": identity, "shard_id": number, "node_id": "node", "status": "INTERNAL_SERVER_ERROR",
                        "reason": "IndexShardSnapshotFailedException[node shutting down]",
                    })
                    continue
                shards["successful"] += 1
                data = json.dumps(documents).encode()
                blob = f"__{hashlib.sha256(data).hexdigest()[:22]}"
                at = os.path.join(place, "indices", identity, str(number))
                if not os.path.exists(os.path.join(at, blob)):
                    write(os.path.join(at, blob), data)
                write(os.path.join(at, mark), json.dumps({"files": [blob]}).encode())
        metadata = {name: {"uuid": identity, "shards": len(parts)} for name, (identity, parts) in frozen.items()}
        write(os.path.join(place, f"meta-{snapshot['uuid']}.dat"), json.dumps(metadata).encode())
        snapshot["state"] = outcome
        snapshot["end_time_in_millis"] = int(time.time() * 1000)
        if outcome == "FAILED":
            snapshot["reason"] = "Indices don't have primary shards"
        write(os.path.join(place, mark), json.dumps(snapshot).encode())
        next_generation(repository)


def delete_snapshot(repository, name):
    writable(repository)
    snapshot = snapshot_of(repository, name)
    place, mark = location(repository), f"snap-{snapshot['uuid']}.dat"
    CONTENTS[repository]["snapshots"].remove(snapshot)
    if snapshot["state"] == "IN_PROGRESS":
        return
    next_generation(repository)
    for file in [mark, f"meta-{snapshot['uuid']}.dat"]:
        os.remove(os.path.join(place, file))
    for at, _, files in os.walk(os.path.join(place, "indices")):
        if mark in files:
            os.remove(os.path.join(at, mark))
            used = {blob for file in files if file.startswith("snap-") and file != mark for blob in read(os.path.join(at, file))["files"]}
            for file in files:
                if file.startswith("__") and file not in used:
                    os.remove(os.path.join(at, file))


def restore(repository, name, wanted):
    snapshot, place = snapshot_of(repository, name), location(repository)
    mark, metadata = f"snap-{snapshot['uuid']}.dat", read(os.path.join(place, f"meta-{snapshot['uuid']}.dat"))
    names = [index for index in metadata if any(fnmatch.fnmatch(index, part) for part in wanted.get("indices", "*").split(","))]
    returned = {}
    for index in names:
        if index in INDICES and INDICES[index]["open"]:
            raise Refused(
                500, "snapshot_restore_exception",
                f"[{repository}:{name}/{snapshot['uuid']}] cannot restore index [{index}] because an open index with same name "
                "already exists in the cluster. Either close or delete the existing index or restore the index under a different "
                "name by providing a rename pattern and replacement name",
            )
        documents, about = {}, metadata[index]
        for number in range(about["shards"]):
            at = os.path.join(place, "indices", about["uuid"], str(number))
            try:
                for blob in read(os.path.join(at, mark))["files"]:
                    documents.update(read(os.path.join(at, blob)))
            except (OSError, ValueError) as error:
                raise Refused(500, "snapshot_restore_exception", f"[{repository}:{name}] shard [{index}][{number}]: {error}")
        returned[index] = {**about, "open": True, "documents": documents}
    INDICES.update(returned)
    return names


# Requests


def answer(method, path, query, body):
    """The answer to a request whose path is a list of segments."""
    match method, path:
        case "GET", []:
            return {"name": "stand-in", "cluster_name": "stand-in", "version": {"number": "8.17.0"}, "tagline": "Not Elasticsearch"}
        case "GET", ["_cluster", "health"]:
            return {
                "cluster_name": "stand-in", "status": "green", "timed_out": False, "number_of_nodes": 1, "number_of_data_nodes": 1,
                "initializing_shards": 0, "unassigned_shards": 0,
            }
        case "GET", ["_cat", "indices", *rest]:
            names = chosen(rest[0] if rest else "*")
            state = {name: INDICES[name] for name in names}
            return [
                {"index": name, "status": "open", "docs.count": str(len(index["documents"]))} if index["open"]
                # of a closed one nobody knows how many
                else {"index": name, "status": "close"}
                for name, index in state.items()
            ]
        case "GET", ["_snapshot", repository]:
            location(repository)
            return {repository: DEFINITIONS[repository]}
        case "PUT" | "POST", ["_snapshot", repository]:
            register(repository, body)
            return {"acknowledged": True}
        case "DELETE", ["_snapshot", repository]:
            location(repository)
            del DEFINITIONS[repository], CONTENTS[repository]
            return {"acknowledged": True}
        case "GET", ["_snapshot", repository, names]:
            if "*" in names or names == "_all":
                location(repository)
                pattern = "*" if names == "_all" else names
                found = [snapshot for snapshot in CONTENTS[repository]["snapshots"] if fnmatch.fnmatch(snapshot["snapshot"], pattern)]
            else:
                found = [snapshot_of(repository, name) for name in names.split(",")]
            return {"snapshots": found, "total": len(found), "remaining": 0}
        case "PUT" | "POST", ["_snapshot", repository, name]:
            begin_snapshot(repository, name, body or {})
            return {"accepted": True}
        case "DELETE", ["_snapshot", repository, name]:
            delete_snapshot(repository, name)
            return {"acknowledged": True}
        case "POST", ["_snapshot", repository, name, "_restore"]:
            restore(repository, name, body or {})
            return {"accepted": True}
        case "PUT", [name]:
            if name in INDICES:
                raise Refused(400, "resource_already_exists_exception", f"index [{name}] already exists")
            shards = int(((body or {}).get("settings") or {}).get("number_of_shards", 1))
            INDICES[name] = {"uuid": uuid.uuid4().hex[:22], "open": True, "shards": shards, "documents": {}}
            return {"acknowledged": True, "shards_acknowledged": True, "index": name}
        case "DELETE", [names]:
            for name in chosen(names):
                del INDICES[name]
            return {"acknowledged": True}
        case "POST" | "GET", [names, "_refresh"]:
            total = sum(INDICES[name]["shards"] for name in chosen(names))
            return {"_shards": {"total": total, "successful": total, "failed": 0}}
        case "POST", [names, "_close" | "_open" as verb]:
            for name in chosen(names):
                INDICES[name]["open"] = verb == "_open"
            return {"acknowledged": True, "shards_acknowledged": True}
        case "PUT" | "POST", [index, "_doc", name]:
            opened(index)["documents"][name] = body
            return {"_index": index, "_id": name, "result": "created"}
        case "DELETE", [index, "_doc", name]:
            if opened(index)["documents"].pop(name, None) is None:
                raise Refused(404, "not_found", f"[{name}]: document missing")
            return {"_index": index, "_id": name, "result": "deleted"}
        case "GET", [index, "_search"]:
            documents = sorted(opened(index)["documents"].items())
            hits = [{"_index": index, "_id": name, "_source": document} for name, document in documents]
            return {"timed_out": False, "hits": {"total": {"value": len(hits), "relation": "eq"}, "hits": hits}}
        case "POST", [index, "_bulk"]:
            lines = iter(body)
            for action in lines:
                opened(index)["documents"][action["index"]["_id"]] = next(lines)
            return {"errors": False}
    raise Refused(400, "illegal_argument_exception", f"no handler found for uri [/{'/'.join(path)}] and method [{method}]")


def opened(name):
    if name not in INDICES:
        raise Refused(404, "index_not_found_exception", f"no such index [{name}]")
    if not INDICES[name]["open"]:
        raise Refused(400, "index_closed_exception", "closed")
    return INDICES[name]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_one(self):
        address = urlsplit(self.path)
        path = [unquote(segment) for segment in address.path.split("/") if segment]
        data = self.rfile.read(int(self.headers.get("content-length") or 0))
        try:
            if self.headers.get("authorization") != AUTHORIZATION:
                raise Refused(401, "security_exception", "missing authentication credentials for REST request")
            body = json.loads(data) if data and path[-1:] != ["_bulk"] else [json.loads(line) for line in data.splitlines()]
            with LOCK:
                value = answer(self.command, path, address.query, body)
                if self.command != "GET":
                    save_state()
            status = 200
        except ValueError as error:
            status, value = 400, failure(400, "parse_exception", str(error))
        except Refused as error:
            status, value = error.status, failure(error.status, error.kind, error.reason)
        text = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_PUT = do_POST = do_DELETE = handle_one


def failure(status, kind, reason):
    cause = {"type": kind, "reason": reason}
    return {"error": {"root_cause": [cause], **cause}, "status": status}


with open(os.path.join(DIRECTORY, "password")) as secret:
    AUTHORIZATION = "Basic " + base64.b64encode(f"elastic:{secret.read()}".encode()).decode()
load_state()
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()
