"""Whatever is sent, the hub answers with a refusal, shows nobody what is not theirs, and writes no secret anywhere."""

import http.client
import json
import logging
import re
import socket
import time
from contextlib import closing
from urllib.parse import quote, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anthology_hub.labhub import api, files, xet
from anthology_hub.labhub.server import running
from tests.labhub.conftest import Person, Reply
from tests.labhub.test_server import batch, digest, large, upload

ROUTES = [
    (method, pattern.pattern, handler.__name__)
    for routes in (api.ROUTES, files.ROUTES, xet.ROUTES)
    for method, pattern, handler in routes.entries
]
OF_A_REPOSITORY = [route for route in ROUTES if "?P<name>" in route[1]]
# A form that only asks; and what one who may only read may do too.
READING_POSTS, FOR_READERS = {"paths_info"}, {"ask_access"}


def filled(pattern, values, kind="datasets"):
    """An address that fits a route."""
    path = re.sub(r"\(\?:\(\?P<kinds>datasets\|spaces\)/\)\?", f"{kind}/", pattern)
    path = re.sub(r"\(\?P<kinds>[^)]*\)", kind, path)
    return re.sub(r"\(\?P<(\w+)>[^)]*\)", lambda match: values(match[1]), path).replace("\\", "")


def known(name):
    return {"namespace": "lab", "name": "people", "revision": "main", "num": "1"}.get(name, "a.txt")


# -- who may what, for every route there is or will be


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A hub with a public and a private dataset of the lab; both have a discussion and a pull request."""
    with running(tmp_path_factory.mktemp("hub")) as hub:
        lab = Person(hub.url, hub.store.accounts.add_token("lab"))
        for name, visibility in (("people", "public"), ("hidden", "private")):
            prepare(lab, name, visibility=visibility)
        yield hub, lab


def prepare(lab, name, **options):
    if lab.create(f"lab/{name}", **options).status == 200:
        lab.commit(f"lab/{name}", {"a.txt": b"hello", "f/b.txt": b"b"})
        lab.post(f"/api/datasets/lab/{name}/discussions", {"title": "Why?", "description": "d"})
        lab.commit(f"lab/{name}", {"n": b"1"}, create_pr=True)


@pytest.fixture(scope="module")
def people(place):
    """Those without rights to the lab's repositories: an account that writes elsewhere, one that reads, and nobody."""
    hub, _ = place
    accounts = hub.store.accounts
    return {
        "guest": Person(hub.url, accounts.add_token("guest")),
        "reader": Person(hub.url, accounts.add_token("reader", "read")),
        "nobody": Person(hub.url),
    }


def state(hub):
    """All that a request could change: every row of every table but the hub's own secrets."""
    with hub.store.database.reading() as db:
        tables = [row["name"] for row in db.execute("select name from sqlite_master where type='table'")]
        return {name: [tuple(row) for row in db.execute(f"select * from {name}")] for name in tables}


BODY = json.dumps({"title": "t", "comment": "c", "status": "closed", "tag": "v1", "private": True, "user": "guest",
                   "operation": "upload", "objects": [], "files": [], "paths": ["a.txt"], "content": "x"})  # fmt: skip


@pytest.mark.parametrize(("method", "pattern", "name"), OF_A_REPOSITORY)
@pytest.mark.parametrize("who", ["guest", "reader", "nobody"])
def test_every_route_hides_a_private_repository(place, people, method, pattern, name, who):
    hub, _ = place
    before = state(hub)
    path = filled(pattern, lambda part: "hidden" if part == "name" else known(part))
    reply = people[who](method, path, body=BODY.encode(), headers={"Content-Type": "application/json"})
    allowed = {"guest": {404}, "reader": {403, 404}, "nobody": {401}}[who]
    assert reply.status in allowed, (path, reply.body)
    assert b"hello" not in reply.body
    assert state(hub) == before


@pytest.mark.parametrize(("method", "pattern", "name"), [route for route in OF_A_REPOSITORY if route[0] != "GET"])
@pytest.mark.parametrize("who", ["reader", "nobody"])
def test_every_route_that_writes_needs_a_token_that_may(place, people, method, pattern, name, who):
    if name in READING_POSTS or (name in FOR_READERS and who == "reader"):
        return
    hub, _ = place
    before = state(hub)
    reply = people[who](method, filled(pattern, known), body=BODY.encode())
    assert reply.status == {"reader": 403, "nobody": 401}[who], reply.body
    assert state(hub) == before


def test_what_a_stranger_can_do_to_a_public_repository_is_known(place, people):
    hub, _ = place
    done = set()
    for method, pattern, name in OF_A_REPOSITORY:
        if method != "GET" and name not in READING_POSTS:
            reply = people["guest"](method, filled(pattern, known), body=BODY.encode())
            assert reply.status in (200, 400, 403, 404), (name, reply.body)
            done |= {name} if reply.status == 200 else set()
    assert done == {"open_discussion", "comment", "lfs_batch"}


# -- anything at all

NASTY = [
    "", ".", "..", "%2e%2e", "%2F", "..%2F..%2Fhub.db", "%00", "%0d%0aX-Evil:%201", "%ff", "%ed%a0%80", "%25",
    "a%5Cb", "~", "*", "'", "%22", "' or 1=1 --", "%3Cscript%3E", "refs%2Fpr%2F1", "refs%2Fpr%2F99999999999",
    "refs%2Fheads%2F", "HEAD", "-1", "9" * 400, "x" * 3000, "lab", "people", "main", "a.txt", "f", "1", "0" * 40,
    "0" * 64, "%F0%9F%98%80", "%C3%A9", "None", ".git", "%D9%A1", "%EF%BC%91", "con", "0000000", "main.lock",
]  # fmt: skip
KEYS = [
    "name", "organization", "type", "fromRepo", "toRepo", "private", "visibility", "gated", "content", "files",
    "paths", "expand", "operation", "objects", "title", "description", "comment", "status", "user", "requestId",
    "tag", "message", "startingPoint", "pullRequest", "gitIgnore", "path", "size", "oid", "key", "value", "summary",
    "parentCommit", "encoding", "sample",
]  # fmt: skip
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.sampled_from(
        ["lab", "people", "lab/people", "dataset", "upload", "main", "..", "\0", "\ud800", "x" * 300, "base64", "💥"]
    )
    | st.text(max_size=20)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)
JSON_BODIES = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=8).map(lambda value: json.dumps(value).encode())
LINES = st.lists(
    st.fixed_dictionaries(
        {"key": st.sampled_from(["header", "file", "lfsFile", "deletedFile", "deletedFolder", "x"]), "value": VALUES}
    ),
    max_size=4,
).map(lambda lines: b"\n".join(json.dumps(line).encode() for line in lines))
BODIES = (
    JSON_BODIES
    | LINES
    | st.binary(max_size=200)
    | st.sampled_from([b"[" * 50_000, b"null", b"{}", b"\xff", b"9" * 9000, b""])
)
PARAMETERS = [
    "cursor", "limit", "p", "create_pr", "expand", "recursive", "blobs", "full", "search", "filter", "sort",
    "diff", "type", "author", "base_model", "gated", "size", "account", "pass", "status",
]  # fmt: skip
QUERIES = st.dictionaries(
    st.sampled_from(PARAMETERS),
    st.sampled_from([*NASTY, "true", "1", "0", "main.5", "a.1", ".3", "1700000000.x", "²"]),
    max_size=3,
)
HEADER_VALUES = [
    "", "bytes=0-", "bytes=5-1", "bytes=x", "bytes=" + "0-1," * 200, "bytes=-0", "items=0-1", "application/json",
    "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "labhub_token=\xff", "=;=;", "\xff",
]  # fmt: skip
HEADERS = st.dictionaries(
    st.sampled_from(["Range", "Content-Type", "Cookie", "If-Range", "X-Forwarded-For", "Accept", "User-Agent"]),
    st.sampled_from(HEADER_VALUES),
    max_size=2,
)


def sane(reply: Reply):
    assert reply.status < 500, reply.body
    assert "X-Evil" not in reply.headers
    if reply.status >= 400 and reply.body and "json" in reply.headers["Content-Type"]:
        assert isinstance(reply.json["error"], str) and len(reply.json["error"]) > 10
        assert reply.headers["X-Error-Message"]


@settings(max_examples=800, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_no_request_makes_the_hub_fail(place, people, data):
    _, lab = place
    prepare(lab, "people")
    method, pattern, _ = data.draw(st.sampled_from(ROUTES))
    good = data.draw(st.integers(0, 3))
    path = filled(
        pattern,
        lambda part: known(part) if data.draw(st.integers(0, 3)) < good else data.draw(st.sampled_from(NASTY)),
        kind=data.draw(st.sampled_from(["datasets"] * 5 + ["models", "spaces", "x"])),
    )
    query = "&".join(f"{key}={value}" for key, value in data.draw(QUERIES).items())
    asker = data.draw(st.sampled_from([lab, lab, lab, people["guest"], people["nobody"]]))
    body = data.draw(BODIES) if method != "GET" else None
    target = quote(f"{path}?{query}" if query else path, safe="/?&=%:+.-_~*'()@!$,;")
    sane(asker(method, target, body=body, headers=data.draw(HEADERS)))


@pytest.mark.parametrize(("method", "pattern", "name"), ROUTES)
def test_no_odd_name_in_any_place_of_any_address_makes_the_hub_fail(place, method, pattern, name):
    _, lab = place
    prepare(lab, "people")
    for nasty in NASTY:
        odd = quote(nasty, safe="%")
        for spot in re.findall(r"\?P<(\w+)>", pattern):
            path = filled(pattern, lambda part: odd if part == spot else known(part))  # noqa: B023
            sane(lab(method, path, body=b"{}"))


@pytest.mark.parametrize(("method", "pattern", "name"), ROUTES)
def test_no_odd_parameter_of_any_address_makes_the_hub_fail(place, method, pattern, name):
    _, lab = place
    prepare(lab, "people")
    for parameter in PARAMETERS:
        for odd in ("", "-1", "1", "x" * 3000, "%ff%00"):
            sane(lab(method, f"{filled(pattern, known)}?{parameter}={odd}", body=b"{}"))


@pytest.mark.parametrize(
    "sent",
    [
        b"\0\0\0\0\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /api/datasets HTTP/1.1\r\nHost: [\r\n\r\n",
        b"GET /api/datasets HTTP/1.1\r\nHost: a b\r\n\r\n",
        b"GET /api/datasets HTTP/1.1\r\n\r\n",
        b"GET //api//datasets HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET http://[::1/ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET * HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /api/repos/create HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /api/repos/create HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"POST /api/repos/create HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"GET /api/datasets HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \xff\xfe\r\n\r\n",
        b"GET /api/datasets HTTP/1.1\r\nHost: x\r\nAuthorization: Basic eDp5\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /api/datasets HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: eA==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    ],
)
def test_what_is_hardly_http_is_refused_and_the_hub_goes_on(place, sent, caplog):
    hub, lab = place
    with closing(socket.create_connection((urlsplit(hub.url).hostname, urlsplit(hub.url).port), timeout=20)) as line:
        line.sendall(sent)
        line.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: line.recv(65536), b""))
    assert b" 500 " not in answer.partition(b"\r\n")[0]
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert lab.get("/api/whoami-v2").status == 200


def test_a_client_that_goes_away_in_the_middle_leaves_nothing(hub, lab, caplog):
    lab.create("lab/people")
    before = hub.store.resolve(hub.store.repos()[0])
    (item,) = batch(lab, b"x" * 1000).json["objects"]
    href = item["actions"]["upload"]["href"].removeprefix(hub.url)
    for method, path in (
        ("POST", "/api/datasets/lab/people/commit/main"),
        ("PUT", href),
        ("POST", "/api/repos/create"),
    ):
        connection = http.client.HTTPConnection(urlsplit(hub.url).netloc)
        connection.putrequest(method, path)
        connection.putheader("Authorization", f"Bearer {lab.token}")
        connection.putheader("Content-Length", "1000")
        connection.endheaders(b'{"key": "header", "value": {"summary": "s"}}\n')
        connection.close()
    assert lab.get("/api/whoami-v2").status == 200
    hub.stop()
    assert hub.store.resolve(hub.store.repos()[0]) == before
    assert list(hub.store.blobs.incoming.iterdir()) == []
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_a_large_body_without_the_right_to_send_it_still_gets_its_answer(hub, lab, nobody):
    lab.create("lab/people")
    reply = nobody("POST", "/api/datasets/lab/people/commit/main", body=b"x" * (20 << 20))
    assert reply.status == 401


# -- what is committed is data, whatever it says


def test_a_card_that_is_a_trap_is_only_a_file(lab, nobody):
    lab.create("lab/people")
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{','.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(12)
    )
    deep, python = "x: " + "[" * 5000, "x: !!python/object/apply:os.system ['true']"
    for text in (
        bomb,
        deep,
        python,
        "tags: {a: 1}",
        "tags: [[1], {b: 2}, null]",
        "license: [1.5, 2026-01-01]",
        "? [1, 2]\n: 3",
        "a: 1\na: 2",
        "1: 2",
        "x: .inf",
        "x: " + "9" * 5000,
        "x: 0x" + "f" * 5000,
        "<<: 5",
        "x: \x85y",
        "x: 99999-99-99",
    ):
        lab.commit(
            "lab/people", {"README.md": f"---\n{text}\n---\n".encode("utf-8", "surrogatepass"), "x": text.encode()}
        )
        for path in ("/api/datasets/lab/people", "/api/datasets?full=1", "/api/datasets/lab/people/leaderboard"):
            reply = nobody.get(path)
            assert reply.status in (200, 404), reply.body
        lab.create("lab/trap", type="model")
        lines = [
            {"key": "header", "value": {"summary": "s"}},
            {"key": "file", "value": {"path": ".eval_results/a.yaml", "content": text}},
        ]
        assert lab.lines("/api/models/lab/trap/commit/main", lines).status == 200
        assert nobody.get("/api/models/lab/trap?expand=evalResults").status == 200
    assert nobody.get("/datasets/lab/people/resolve/main/x").body == b"x: 99999-99-99"


def test_a_path_never_leads_out_of_the_repository(hub, lab, nobody):
    lab.create("lab/people")
    for path in (
        "../hub.db",
        "..%2F..%2Fhub.db",
        "%2Fetc%2Fpasswd",
        "....//hub.db",
        ".%00./hub.db",
        "a\\..\\hub.db",
        "..;/hub.db",
    ):
        assert nobody.get(f"/datasets/lab/people/resolve/main/{path}").status in (400, 404)
        assert nobody.get(f"/api/datasets/lab/people/tree/main/{path}").status in (400, 404)
    outside = sorted(path.name for path in hub.store.root.parent.iterdir())
    for path in ("../x", "/x", "a/../../x", "a//x", "\\x", "a\0", ".git/hooks/x", "x" * 300):
        assert lab.commit("lab/people", {path: b"x"}).status == 400
        assert lab.commit("lab/people", {path: None}).status == 400
    assert sorted(path.name for path in hub.store.root.parent.iterdir()) == outside
    assert sorted(path.name for path in hub.store.root.iterdir() if "-" not in path.name) == [
        "blobs",
        "hub.db",
        "incoming",
        "xorbs",
    ]


@pytest.mark.parametrize(
    "take_back",
    [
        lambda hub: hub.store.accounts.revoke(1),
        lambda hub: hub.store.accounts.remove_member("org", "lab"),
        lambda hub: hub.store.delete_repo(hub.store.repos()[0]),
    ],
)
def test_a_right_that_is_taken_back_while_a_commit_comes_in_does_not_make_it(hub, take_back):
    token = hub.store.accounts.add_token("lab")
    hub.store.accounts.add_member("org", "lab")
    repo = hub.store.create_repo("dataset", "org", "people", author="lab")
    before = hub.store.resolve(repo)

    stored = len(list(hub.store.blobs.all()))

    def body():
        yield b'{"key": "header", "value": {"summary": "s"}}\n'
        yield b'{"key": "file", "value": {"path": "a.txt", "content": "x"}}\n'
        while len(list(hub.store.blobs.all())) == stored:
            time.sleep(0.01)
        take_back(hub)
        yield b'{"key": "file", "value": {"path": "b.txt", "content": "y"}}\n'

    reply = Person(hub.url, token)("POST", "/api/datasets/org/people/commit/main", body=body())
    assert reply.status in (401, 403, 404)
    assert hub.store.repos() == [] or hub.store.resolve(repo) == before


def test_paths_that_could_never_be_committed_are_refused_before_any_pattern_is_tried_on_them(lab):
    lab.create("lab/people")
    ask = {"files": [{"path": "a/" * 3000 + "x", "size": 1}], "gitIgnore": "x*/*a*a*b"}
    status, said = lab.post("/api/datasets/lab/people/preupload/main", ask).told
    assert status == 400 and "is not allowed: allowed are relative paths" in said
    ask["files"] = [{"path": "a/" * 38 + "x" * 200, "size": 1}] * 50
    ask["gitIgnore"] = "\n".join(f"{'*a' * 20}{n}\n*x/{'*a' * 20}{n}" for n in range(500))
    reply = lab.post("/api/datasets/lab/people/preupload/main", ask)
    assert {file["shouldIgnore"] for file in reply.json["files"]} == {False}
    ask["files"] *= 21
    assert lab.post("/api/datasets/lab/people/preupload/main", ask).told == (
        400, "'files' in the body must be a list of at most 1000 entries"
    )  # fmt: skip


def test_strangers_may_send_less_json_than_those_who_are_known(hub, lab, nobody):
    body = b'{"content": "' + b"x" * (5 << 20) + b'"}'
    assert nobody("POST", "/api/validate-yaml", body=body).told[0] == 413
    assert lab("POST", "/api/validate-yaml", body=body).status == 200


def test_one_repository_cannot_read_anothers_commits(lab, guest):
    lab.create("lab/hidden", visibility="private")
    lab.commit("lab/hidden", {"a": b"secret"})
    sha = lab.get("/api/datasets/lab/hidden").json["sha"]
    guest.create("guest/mine")
    assert guest.get(f"/datasets/guest/mine/resolve/{sha}/a").headers["X-Error-Code"] == "RevisionNotFound"
    assert guest.post("/api/datasets/guest/mine/branch/x", {"startingPoint": sha}).status == 404
    assert guest.commit("guest/mine", {"b": b"1"}, create_pr=True, parentCommit=sha).status == 404


# -- secrets


def test_no_secret_is_logged_at_any_level(hub, lab, reader, caplog):
    caplog.set_level(logging.DEBUG)
    lab.create("lab/people")
    data = b"a large file"
    (item,) = batch(lab, data).json["objects"]
    passes = re.search("pass=([^&]*)", item["actions"]["upload"]["href"])[1]
    assert upload(lab, data).status == 200
    assert large(lab, "x.bin", data, repo="lab/people").status in (200, 400)
    granted = lab.get("/api/datasets/lab/people/xet-write-token/main").json["accessToken"]
    Person(hub.url, granted)("POST", f"/-/cas/v1/xorbs/default/{'1' * 64}", body=b"x")
    Person(hub.url, "hf_wrong-but-a-secret-elsewhere").get("/api/whoami-v2")
    reader.get("/api/whoami-v2?token=" + reader.token)
    lab("GET", "/datasets/lab/people/resolve/main/x.bin", headers={"Cookie": f"labhub_token={reader.token}"})
    assert f"PUT /-/lfs/{digest(data)} 200" in caplog.text
    for secret in (
        lab.token,
        reader.token,
        passes.partition(".")[2],
        granted,
        "hf_wrong",
        hub.store.setting("signing key"),
    ):
        assert secret not in caplog.text


def test_an_unexpected_failure_is_logged_and_tells_the_client_nothing(hub, lab, caplog):
    lab.create("lab/people")
    with hub.store.database.writing() as db:
        db.execute("update commits set tree='gone'")
        db.execute("insert into trees values('gone', x'00')")
    reply = lab.get("/api/datasets/lab/people/tree/main")
    assert reply.told == (500, "something went wrong in the hub: its log tells what")
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.message == "a request failed" and record.exc_info
    assert lab.token not in caplog.text
