"""The accept side of the Xet protocol: clients upload xorbs (packed chunks) and shards (what files are made of).

Files are rebuilt from them chunk by chunk, verified against their sha256 and stored as plain blobs. Then a xorb is no
longer needed: what its chunks were is remembered as places in blobs, because clients refer to chunks of earlier uploads
for weeks. Formats: https://huggingface.co/docs/xet (shard, xorb, api).
"""

from __future__ import annotations

import array
import functools
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response

from anthology_hub.errors import DataError
from anthology_hub.labhub.files import receive
from anthology_hub.labhub.store import Refusal, Store
from anthology_hub.labhub.wire import MB, Ask, Routes

ROUTES = Routes()
CAS = "/-/cas"
XORB_LIMIT, SHARD_LIMIT = 72 * MB, 72 * MB
MOST_CHUNKS = 1 << 16
"""Of a xorb; clients make at most an eighth of it."""
_HEADER, _ENTRY, _CHUNK = 48, 48, 8
_VERIFIED, _WITH_SHA256 = 1 << 31, 1 << 30
_END = b"\xff" * 32
_XORB = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Term:
    """A run of chunks of one xorb."""

    xorb: str
    first: int
    last: int
    """One past the end."""
    size: int


@dataclass(frozen=True, kw_only=True)
class File:
    """A file of a shard."""

    terms: tuple[Term, ...]
    sha256: str | None


@dataclass(frozen=True, slots=True)
class Place:
    """Where the content of a chunk is: packed in a xorb, or plain (scheme 0) in a blob."""

    file: Path
    start: int
    stored: int
    size: int
    scheme: int = 0


# -- routes


@ROUTES.on("GET", "/api/{kinds}/{namespace}/{name}/xet-write-token/{revision}")
def write_token(ask: Ask) -> Response:
    """A pass for uploads, and where to bring them."""
    user = ask.writer()
    ask.repo(files=True)
    given = f"{ask.hub.sign('xet', user.name)}.{user.name}"
    expires, url = given.partition(".")[0], ask.url(CAS.strip("/"))
    headers = {"X-Xet-Cas-Url": url, "X-Xet-Access-Token": given, "X-Xet-Token-Expiration": expires}
    return JSONResponse({"accessToken": given, "exp": int(expires), "casUrl": url}, headers=headers)


@ROUTES.on("POST", CAS + "/v1/xorbs/default/{xorb}")
async def put_xorb(ask: Ask) -> Response:
    """Keep a xorb until the shard that names it comes."""
    await run_in_threadpool(_account, ask)
    target = _xorb_path(ask.store, ask.args["xorb"])
    with ask.store.blobs.writing() as upload:
        await receive(ask, XORB_LIMIT, upload.write)
        await run_in_threadpool(upload.move, target)
    return JSONResponse({"was_inserted": True})


@ROUTES.on("POST", CAS + "/v1/shards")
async def put_shard(ask: Ask) -> Response:
    """Rebuild and store the files of a shard."""
    account = await run_in_threadpool(_account, ask)
    pieces: list[bytes] = []
    await receive(ask, SHARD_LIMIT, pieces.append)
    # One shard at a time: what one is done with, another may be about to read. Waiting here takes no thread.
    async with ask.hub.ingesting:
        await run_in_threadpool(_ingest, ask.store, b"".join(pieces), account, ask.hub.options.file_limit)
    return JSONResponse({"result": 1})


@ROUTES.on("POST", CAS + "/v1/telemetry")
def telemetry(ask: Ask) -> Response:
    """Nothing is kept of it."""
    return JSONResponse({})


def _account(ask: Ask) -> str:
    given = ask.request.headers.get("authorization", "").partition(" ")[2]
    expires, mac, account = [*given.split(".", 2), "", ""][:3]
    ask.hub.check("xet", account, f"{expires}.{mac}")
    return account


# -- formats


def read_shard(data: bytes) -> list[File]:
    """The files of a shard.

    Raises:
        DataError: If it is none.
    """
    try:
        return list(_files(data))
    except struct.error as problem:
        raise DataError(f"this is no whole shard: {problem}. Upload the files again") from problem


def read_xorb(path: Path) -> list[Place]:
    """Where the chunks of a serialised xorb are; what follows the last chunk is left alone.

    Raises:
        DataError: If a chunk is cut off or in an unknown form, or there is more in it than clients ever pack.
    """
    end, places, unpacked = path.stat().st_size, list[Place](), 0
    with path.open("rb") as stream:
        at = 0
        while len(head := stream.read(_CHUNK)) == _CHUNK and head[0] == 0:
            stored, size = int.from_bytes(head[1:4], "little"), int.from_bytes(head[5:8], "little")
            places.append(Place(path, at + _CHUNK, stored, size, head[4]))
            at = stream.seek(stored, 1)
            if at > end:
                raise DataError(f"the xorb {path.name} is cut off: upload the files again")
            unpacked += size
            if unpacked > XORB_LIMIT or len(places) > MOST_CHUNKS:
                raise DataError(
                    f"the xorb {path.name} has more than {MOST_CHUNKS} chunks or {XORB_LIMIT} bytes in them"
                )
    return places


def _files(data: bytes) -> Iterator[File]:
    at = _HEADER
    while (name := data[at : at + 32]) != _END:
        if len(name) < 32:
            raise DataError("this is no whole shard: it has no end. Upload the files again")
        flags, count = struct.unpack_from("<II", data, at + 32)
        at += _ENTRY
        terms = tuple(_term(data, at + i * _ENTRY) for i in range(count))
        at += count * _ENTRY * (2 if flags & _VERIFIED else 1)
        sha256 = None
        if flags & _WITH_SHA256:
            sha256 = _words(data, at)
            at += _ENTRY
        yield File(terms=terms, sha256=sha256)


def _term(data: bytes, at: int) -> Term:
    size, first, last = struct.unpack_from("<III", data, at + 36)
    return Term(xorb=_words(data, at), first=first, last=last, size=size)


def _words(data: bytes, at: int) -> str:
    # Xet writes a hash as four little-endian words of 64 bits.
    return "".join(f"{word:016x}" for word in struct.unpack_from("<4Q", data, at))


def _unpacked(stored: bytes, place: Place) -> bytes:
    if place.scheme == 0:
        data = stored
    elif place.scheme in (1, 2):
        data = _decompressed(stored, place.size)
    else:
        raise DataError(f"a chunk is compressed by the unknown scheme {place.scheme}: allowed are 0, 1 and 2")
    if len(data) != place.size:
        raise DataError(f"a chunk has {len(data)} bytes, not {place.size}: upload the files again")
    return _ungrouped(data) if place.scheme == 2 else data


def _decompressed(stored: bytes, size: int) -> bytes:
    import pyarrow as pa

    try:
        return bytes(pa.Codec("lz4").decompress(stored, decompressed_size=size))
    except (OSError, ValueError) as problem:
        raise DataError(f"a chunk cannot be decompressed: {problem}. Upload the files again") from problem


def _ungrouped(data: bytes) -> bytes:
    """Undo the grouping of bytes by their position modulo 4."""
    out, at = bytearray(len(data)), 0
    for lane in range(4):
        count = len(range(lane, len(data), 4))
        out[lane::4] = data[at : at + count]
        at += count
    return bytes(out)


# -- rebuilding


def _xorb_path(store: Store, xorb: str) -> Path:
    if not _XORB.fullmatch(xorb):
        raise Refusal(400, f"{xorb[:100]!r} is no xorb: give 64 digits 0-9 and a-f")
    return store.xorbs / xorb


def _ingest(store: Store, shard: bytes, account: str, limit: int) -> None:
    files = [file for file in read_shard(shard) if file.terms]
    places = functools.lru_cache(maxsize=64)(functools.partial(_places, store))
    for file in files:
        if sum(term.size for term in file.terms) > limit:
            raise Refusal(413, f"files may have at most {limit} bytes: split the file")
        if not (file.sha256 and _stored(store, file, account)):
            _rebuild(store, file, places, account)
    for xorb in {term.xorb for file in files for term in file.terms}:
        path = _xorb_path(store, xorb)
        # Another shard may still need chunks of it that no stored file has.
        if path.exists() and len(_remembered(store, xorb)) >= len(read_xorb(path)):
            path.unlink()


def _stored(store: Store, file: File, account: str) -> bool:
    """Is the file there, and its chunks remembered, from an earlier try of the same upload?"""
    with store.database.reading() as db:
        query = "select 1 from uploads where account=? and sha256=?"
        known = db.execute(query, (account, file.sha256)).fetchone()
    return known is not None and store.blobs.touch(str(file.sha256)) == sum(term.size for term in file.terms)


def _places(store: Store, xorb: str) -> dict[int, Place]:
    """Where each chunk of a xorb is."""
    path = _xorb_path(store, xorb)
    try:
        return dict(enumerate(read_xorb(path)))
    except FileNotFoundError:
        return _remembered(store, xorb)


def _remembered(store: Store, xorb: str) -> dict[int, Place]:
    with store.database.reading() as db:
        rows = db.execute("select * from chunks where xorb=?", (xorb,)).fetchall()
    found: dict[int, Place] = {}
    for row in rows:
        at, path = row["start"], store.blobs.path(row["sha256"])
        for chunk, size in enumerate(array.array("I", row["lengths"]), row["first"]):
            found[chunk] = Place(path, at, size, size)
            at += size
    return found


def _rebuild(store: Store, file: File, places: Callable[[str], dict[int, Place]], account: str) -> None:
    with store.blobs.writing() as upload:
        rows = []
        for term in file.terms:
            found = list(_found(places(term.xorb), term))
            # Known before any of it is unpacked: small xorbs can stand for much.
            if (size := sum(place.size for place in found)) != term.size:
                raise DataError(f"a part of a file has {size} bytes, not {term.size}: upload it again")
            lengths = array.array("I", [place.size for place in found])
            rows.append((term.xorb, term.first, term.last, upload.size, lengths.tobytes()))
            for place in found:
                upload.write(_read(place, term.xorb))
        sha256 = upload.keep(file.sha256)
    with store.database.writing() as db:
        query = "insert or replace into chunks(xorb, first, last, start, lengths, sha256) values(?,?,?,?,?,?)"
        db.executemany(query, [(*row, sha256) for row in rows])
        db.execute("insert or ignore into uploads values(?,?)", (account, sha256))


def _found(places: dict[int, Place], term: Term) -> Iterator[Place]:
    for chunk in range(term.first, term.last):
        if chunk not in places:
            raise _lost(term.xorb)
        yield places[chunk]


def _read(place: Place, xorb: str) -> bytes:
    try:
        with place.file.open("rb") as stream:
            stream.seek(place.start)
            return _unpacked(stream.read(place.stored), place)
    except FileNotFoundError as problem:
        raise _lost(xorb) from problem


def _lost(xorb: str) -> Refusal:
    return Refusal(
        400, f"the xorb {xorb} is not stored here (any more): delete the client's Xet cache (HF_HOME/xet) and try again"
    )
