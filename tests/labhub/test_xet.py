"""Files that arrive as Xet chunks become plain files: whole, verified, and without keeping the chunks."""

import hashlib
import random
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anthology_hub.errors import DataError
from anthology_hub.labhub import xet
from anthology_hub.labhub.server import running
from anthology_hub.labhub.store import Store
from anthology_hub.labhub.upkeep import gc
from anthology_hub.labhub.wire import Options
from tests.labhub.conftest import Person

CAS = "/-/cas/v1"


def digest(data):
    return hashlib.sha256(data).hexdigest()


def in_words(name):
    """64 digits as Xet stores them."""
    return struct.pack("<4Q", *(int(name[i : i + 16], 16) for i in range(0, 64, 16)))


def pack_chunk(data, scheme=0):
    body = data if scheme < 2 else b"".join(data[lane::4] for lane in range(4))
    if scheme:
        body = pa.Codec("lz4").compress(body, asbytes=True)
    return b"\0" + len(body).to_bytes(3, "little") + bytes([scheme]) + len(data).to_bytes(3, "little") + body


def pack_xorb(chunks, scheme=0):
    return b"".join(pack_chunk(chunk, scheme) for chunk in chunks) + b"XETBLOB footer"


def pack_shard(*files, verified=False):
    """Files are lists of (xorb, first, last, size), with the sha256 of the whole or None."""
    out = b"\x01" * 32 + struct.pack("<QQ", 2, 0)
    for terms, sha256 in files:
        flags = (1 << 31 if verified else 0) | (1 << 30 if sha256 else 0)
        out += bytes(32) + struct.pack("<IIQ", flags, len(terms), 0)
        for name, first, last, size in terms:
            out += in_words(name) + struct.pack("<IIII", 0, size, first, last)
        out += b"\x02" * (48 * len(terms) if verified else 0)
        out += in_words(sha256) + bytes(16) if sha256 else b""
    return out + b"\xff" * 32 + bytes(16)


class Client:
    """The upload half of a Xet client."""

    def __init__(self, lab):
        told = lab.get("/api/datasets/lab/people/xet-write-token/main")
        assert told.json["casUrl"] == told.headers["X-Xet-Cas-Url"] == f"{lab.url}/-/cas"
        self.ask = Person(lab.url, told.json["accessToken"])

    def xorb(self, name, data):
        return self.ask("POST", f"{CAS}/xorbs/default/{name}", body=data)

    def shard(self, data):
        return self.ask("POST", f"{CAS}/shards", body=data)


@pytest.fixture
def client(lab):
    lab.create("lab/people")
    return Client(lab)


ONE, TWO = "1" * 64, "2" * 64
CHUNKS = [random.Random(seed).randbytes(1000 + seed) for seed in range(4)]
WHOLE = b"".join(CHUNKS)


def commit(lab, data):
    value = {"path": "x.bin", "algo": "sha256", "oid": digest(data), "size": len(data)}
    lines = [{"key": "header", "value": {"summary": "Add"}}, {"key": "lfsFile", "value": value}]
    return lab.lines("/api/datasets/lab/people/commit/main", lines)


@pytest.mark.parametrize("scheme", [0, 1, 2])
@pytest.mark.parametrize("verified", [False, True])
def test_a_file_is_rebuilt_from_its_chunks_and_the_chunks_are_let_go(hub, lab, client, scheme, verified):
    assert client.xorb(ONE, pack_xorb(CHUNKS, scheme)).json == {"was_inserted": True}
    shard = pack_shard(([(ONE, 0, 4, len(WHOLE))], digest(WHOLE)), verified=verified)
    assert client.shard(shard).json == {"result": 1}
    assert list(hub.store.xorbs.iterdir()) == []
    assert client.shard(shard).json == {"result": 1}
    assert commit(lab, WHOLE).status == 200
    assert lab.get("/datasets/lab/people/resolve/main/x.bin").body == WHOLE


def test_chunks_of_an_earlier_upload_are_still_known_when_a_later_one_refers_to_them(hub, lab, client):
    client.xorb(ONE, pack_xorb(CHUNKS))
    client.shard(pack_shard(([(ONE, 0, 4, len(WHOLE))], digest(WHOLE))))
    client.xorb(TWO, pack_xorb([b"new"]))
    parts = [CHUNKS[2], b"new", CHUNKS[0], CHUNKS[1]]
    terms = [(ONE, 2, 3, 1002), (TWO, 0, 1, 3), (ONE, 0, 2, 2001)]
    assert client.shard(pack_shard((terms, digest(b"".join(parts))))).status == 200
    assert commit(lab, b"".join(parts)).status == 200
    assert lab.get("/datasets/lab/people/resolve/main/x.bin").body == b"".join(parts)


def test_a_xorb_stays_until_every_chunk_of_it_is_in_a_file(hub, client):
    client.xorb(ONE, pack_xorb(CHUNKS))
    client.shard(pack_shard(([(ONE, 0, 3, 3003)], digest(b"".join(CHUNKS[:3])))))
    assert [path.name for path in hub.store.xorbs.iterdir()] == [ONE]
    client.shard(pack_shard(([(ONE, 3, 4, 1003)], None)))
    assert list(hub.store.xorbs.iterdir()) == []
    assert hub.store.blobs.read(digest(CHUNKS[3])) == CHUNKS[3]


def test_chunks_whose_files_were_freed_are_told_with_the_remedy(hub, client):
    client.xorb(ONE, pack_xorb(CHUNKS))
    shard = pack_shard(([(ONE, 0, 4, len(WHOLE))], digest(WHOLE)))
    client.shard(shard)
    assert gc(hub.store, grace=0).blobs == 1
    status, said = client.shard(shard).told
    assert status == 400
    assert said == (
        f"the xorb {ONE} is not stored here (any more): delete the client's Xet cache (HF_HOME/xet) and try again"
    )
    client.xorb(ONE, pack_xorb(CHUNKS))
    assert client.shard(shard).status == 200


MORE = "has more than 65536 chunks or 75497472 bytes in them"
GOOD = pack_shard(([(ONE, 0, 4, len(WHOLE))], digest(WHOLE)))


@pytest.mark.parametrize(
    ("xorb", "shard", "said"),
    [
        (pack_xorb(CHUNKS), pack_shard(([(ONE, 0, 4, len(WHOLE))], digest(b"other"))), "upload the file again"),
        (pack_xorb(CHUNKS), pack_shard(([(ONE, 0, 4, 5)], digest(WHOLE))), "a part of a file has 4006 bytes, not 5"),
        (pack_xorb(CHUNKS), pack_shard(([(ONE, 0, 5, 9)], digest(WHOLE))), "is not stored here"),
        (pack_xorb(CHUNKS), pack_shard(([(ONE, 0, 1 << 31, 9)], digest(WHOLE))), "is not stored here"),
        (pack_xorb(CHUNKS), GOOD[:-60], "this is no whole shard"),
        (pack_xorb(CHUNKS), GOOD[:100], "this is no whole shard"),
        (pack_xorb(CHUNKS), b"", "this is no whole shard"),
        (pack_xorb(CHUNKS), bytes(48) + bytes(32) + b"\xff" * 16, "this is no whole shard"),
        (pack_xorb(CHUNKS)[:2500], GOOD, "is cut off: upload the files again"),
        (
            pack_chunk(b"x")[:4] + b"\x07" + pack_chunk(b"x")[5:],
            pack_shard(([(ONE, 0, 1, 1)], digest(b"x"))),
            "compressed by the unknown scheme 7: allowed are 0, 1",
        ),
        (
            pack_chunk(CHUNKS[0], 1)[:20] + b"\xff" * 2000,
            pack_shard(([(ONE, 0, 1, 1000)], digest(CHUNKS[0]))),
            "a chunk cannot be decompressed",
        ),
        (
            pack_chunk(b"abc")[:5] + b"\x09\0\0abc",
            pack_shard(([(ONE, 0, 1, 9)], digest(b"abc"))),
            "a chunk has 3 bytes, not 9: upload the files again",
        ),
        (pack_chunk(bytes((1 << 24) - 1), 1) * 5, pack_shard(([(ONE, 0, 5, 5 * ((1 << 24) - 1))], None)), MORE),
        (bytes(8 * 70_000), pack_shard(([(ONE, 0, 1, 0)], None)), MORE),
    ],
)
def test_what_is_damaged_is_refused_and_nothing_of_it_is_kept(hub, client, xorb, shard, said):
    before = [name for name, _ in hub.store.blobs.all()]
    client.xorb(ONE, xorb)
    reply = client.shard(shard)
    assert (reply.status, said in reply.json["error"]) == (400, True), reply.body
    assert [name for name, _ in hub.store.blobs.all()] == before
    assert list(hub.store.blobs.incoming.iterdir()) == []


def test_a_fresh_upload_of_a_xorb_mends_a_wrong_one(hub, lab, client):
    client.xorb(ONE, pack_xorb([b"wrong"] * 4))
    assert client.shard(GOOD).status == 400
    client.xorb(ONE, pack_xorb(CHUNKS))
    assert client.shard(GOOD).status == 200


def test_uploads_need_a_pass_and_a_pass_needs_a_token_that_may_write(lab, client, reader, nobody, guest):
    path = "/api/datasets/lab/people/xet-write-token/None?create_pr=1"
    assert [person.get(path).status for person in (guest, reader, nobody)] == [200, 403, 401]
    for token in (None, "", "x", lab.token, client.ask.token + "x", client.ask.token.replace("lab", "guest"), "é.é.é"):
        forger = Person(lab.url)
        headers = {"Authorization": f"Bearer {token}".encode().decode("latin-1")} if token is not None else {}
        assert forger("POST", f"{CAS}/xorbs/default/{ONE}", body=b"x", headers=headers).status == 403
        assert forger("POST", f"{CAS}/shards", body=GOOD, headers=headers).status == 403
    assert client.xorb("..%2Fescaped", b"x").told == (400, "'../escaped' is no xorb: give 64 digits 0-9 and a-f")
    assert client.ask("POST", f"{CAS}/telemetry", body=b"x").json == {}


def test_newer_routes_answer_404_so_that_clients_fall_back(client):
    for method, path in (
        ("GET", f"{CAS}/chunks/default/{ONE}"),
        ("POST", "/-/cas/v2/shards"),
        ("POST", f"{CAS}/xorb-grants/x"),
    ):
        assert client.ask(method, path).status == 404


@given(st.binary(max_size=300))
def test_any_bytes_are_a_shard_or_are_refused_as_none(data):
    try:
        files = xet.read_shard(data)
    except DataError as problem:
        assert "Upload the files again" in str(problem)
    else:
        assert all(isinstance(file, xet.File) for file in files)


@given(st.lists(st.binary(min_size=1, max_size=200), min_size=1, max_size=5), st.sampled_from([0, 1, 2]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_chunks_come_back_as_they_were(tmp_path: Path, chunks, scheme):
    path = tmp_path / "xorb"
    path.write_bytes(pack_xorb(chunks, scheme))
    places = xet.read_xorb(path)
    found = [xet._unpacked(path.read_bytes()[place.start : place.start + place.stored], place) for place in places]
    assert found == chunks


def test_a_store_remembers_chunks_over_a_restart(hub, lab, client):
    client.xorb(ONE, pack_xorb(CHUNKS))
    client.shard(GOOD)
    again = Store(hub.store.root)
    found = xet._places(again, ONE)
    again.close()
    assert [(place.start, place.size) for _, place in sorted(found.items())] == [
        (0, 1000),
        (1000, 1001),
        (2001, 1002),
        (3003, 1003),
    ]


def test_a_file_that_is_made_too_large_by_repetition_is_refused_before_it_is_written(tmp_path):
    with running(tmp_path / "hub", options=Options(file_limit=10_000)) as hub:
        lab = Person(hub.url, hub.store.accounts.add_token("lab"))
        lab.create("lab/people")
        client = Client(lab)
        client.xorb(ONE, pack_xorb(CHUNKS))
        reply = client.shard(pack_shard(([(ONE, 0, 4, len(WHOLE))] * 3, None)))
        assert reply.told == (413, "files may have at most 10000 bytes: split the file")
        assert client.shard(pack_shard(([(ONE, 0, 4, len(WHOLE))] * 2, None))).status == 200


def test_many_shards_at_once_leave_the_hub_free_to_answer_others(hub, lab, client, nobody, monkeypatch):
    running_, release = threading.Semaphore(0), threading.Event()
    ingest = xet._ingest

    def slow(*args):
        running_.release()
        assert release.wait(30)
        return ingest(*args)

    monkeypatch.setattr(xet, "_ingest", slow)
    client.xorb(ONE, pack_xorb(CHUNKS))
    with ThreadPoolExecutor(60) as pool:
        waiting = [pool.submit(client.shard, GOOD) for _ in range(60)]
        try:
            assert running_.acquire(timeout=30)
            assert nobody.get("/api/datasets/lab/people").status == 200
        finally:
            release.set()
        assert {each.result().status for each in waiting} == {200}
