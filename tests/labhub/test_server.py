"""What the hub answers over plain HTTP: the statuses, headers and bodies that the official clients go by."""

import base64
import errno
import hashlib
import os
import re
import socket
import urllib.parse
from contextlib import closing

import pytest

from anthology_hub.errors import OptionError
from anthology_hub.labhub import database
from anthology_hub.labhub.server import Options, running
from anthology_hub.labhub.store import Store
from tests.labhub.conftest import Person

PEOPLE = "/api/datasets/lab/people"


def digest(data):
    return hashlib.sha256(data).hexdigest()


def batch(person, *files, repo="lab/people"):
    """Ask where to put large files."""
    objects = [{"oid": digest(data), "size": len(data)} for data in files]
    return person.post(f"/datasets/{repo}.git/info/lfs/objects/batch", {"operation": "upload", "objects": objects})


def upload(person, data, repo="lab/people"):
    """Put one large file where the hub says, without a token."""
    (item,) = batch(person, data, repo=repo).json["objects"]
    href = item["actions"]["upload"]["href"].removeprefix(person.url)
    return Person(person.url)("PUT", href, body=data)


def large(person, path, data, **value):
    """Commit a large file."""
    line = {"key": "lfsFile", "value": {"path": path, "algo": "sha256", "oid": digest(data), "size": len(data)} | value}
    return person.lines(f"{PEOPLE}/commit/main", [{"key": "header", "value": {"summary": "Add"}}, line])


@pytest.fixture
def people(lab):
    """A public dataset with a few files; returns its owner."""
    assert lab.create("lab/people").status == 200
    assert lab.commit("lab/people", {"a.txt": b"hello\n", "f/b.txt": b"b", "f/g/c.txt": b"c"}).status == 200
    return lab


# -- accounts


def test_a_token_is_told_its_name_its_namespaces_and_its_role(hub, lab, reader):
    hub.store.accounts.add_member("org", "lab")
    told = lab.get("/api/whoami-v2").json
    assert (told["name"], told["type"], told["auth"]["accessToken"]["role"]) == ("lab", "user", "write")
    assert [(org["name"], org["type"], org["roleInOrg"]) for org in told["orgs"]] == [("org", "org", "write")]
    assert reader.get("/api/whoami-v2").json["auth"]["accessToken"]["role"] == "read"
    assert lab.get("/api/users/reader/overview").json["user"] == "reader"
    assert lab.get("/api/users/nobody/overview").told == (404, "there is no account 'nobody'")


def test_a_wrong_token_is_refused_everywhere_in_the_words_that_clients_know(hub, people):
    stranger = Person(hub.url, "hf_wrong")
    for path in ("/api/whoami-v2", PEOPLE, "/datasets/lab/people/resolve/main/a.txt"):
        reply = stranger.get(path)
        assert reply.told == (401, "Invalid credentials in Authorization header")
        assert reply.headers["X-Error-Message"] == "Invalid credentials in Authorization header"


def test_a_revoked_token_is_refused_at_once(hub, lab):
    assert lab.get("/api/whoami-v2").status == 200
    hub.store.accounts.revoke(1)
    assert lab.get("/api/whoami-v2").status == 401


# -- repositories


def test_a_repository_is_made_once_and_the_second_time_tells_where_it_is(lab):
    first, second = lab.create("lab/people"), lab.create("lab/people")
    assert first.json["url"] == f"{lab.url}/datasets/lab/people"
    assert (second.status, second.json["url"]) == (409, f"{lab.url}/datasets/lab/people")
    assert lab.post("/api/repos/create", {"name": "m"}).json["url"] == f"{lab.url}/lab/m"


def test_one_makes_repositories_only_where_one_may_write(hub, lab, guest, reader, nobody):
    assert nobody.create("lab/people").status == 401
    assert reader.create("reader/people").told == (403, "this token may only read: use one with the role write")
    status, said = guest.create("lab/people").told
    assert (status, "ask for membership, or use 'guest'" in said) == (403, True)
    hub.store.accounts.add_member("lab", "guest")
    assert guest.create("lab/people").status == 200


def test_the_description_of_a_repository_names_every_file_with_size_and_digests(people, nobody):
    data = b"PAR1"
    upload(people, data)
    sha = large(people, "t.parquet", data).json["commitOid"]
    told = nobody.get(PEOPLE).json
    assert (told["id"], told["author"], told["sha"], told["private"], told["gated"]) == (
        "lab/people",
        "lab",
        sha,
        False,
        False,
    )
    assert [file["rfilename"] for file in told["siblings"]] == [
        ".gitattributes",
        "a.txt",
        "f/b.txt",
        "f/g/c.txt",
        "t.parquet",
    ]
    assert set(told["siblings"][0]) == {"rfilename"}
    full = {file["rfilename"]: file for file in nobody.get(f"{PEOPLE}/revision/main?blobs=true").json["siblings"]}
    assert (full["a.txt"]["size"], full["a.txt"]["blobId"]) == (6, "ce013625030ba8dba906f756967f9e9ca394464a")
    assert full["t.parquet"]["lfs"] == {"sha256": digest(data), "size": 4, "pointerSize": 126}
    assert nobody.get(f"{PEOPLE}?expand=sha,private").json.keys() == {"_id", "id", "sha", "private"}


def test_a_card_gives_the_tags_by_which_a_dataset_is_found(people, nobody):
    people.commit(
        "lab/people",
        {"README.md": b"---\nlicense: mit\ntags: [personas]\nlanguage: [en, de]\ndate: 2026-01-01\n---\n#"},
    )
    told = nobody.get(PEOPLE).json
    assert told["tags"] == ["personas", "license:mit", "language:en", "language:de"]
    assert told["cardData"]["date"] == "2026-01-01"
    assert [found["id"] for found in nobody.get("/api/datasets?filter=license:mit&filter=personas").json] == [
        "lab/people"
    ]
    assert nobody.get("/api/datasets?filter=license:gpl").json == []
    people.commit("lab/people", {"README.md": b"---\n[broken\n---\n"})
    assert nobody.get(PEOPLE).json["tags"] == []


def test_lists_show_what_one_may_see_and_what_was_asked_for(lab, guest, nobody):
    for name, options in (("one", {}), ("two", {"visibility": "private"}), ("Three", {})):
        lab.create(f"lab/{name}", **options)
    guest.create("guest/one")
    names = lambda person, query="": [found["id"] for found in person.get(f"/api/datasets{query}").json]  # noqa: E731
    assert names(nobody) == ["guest/one", "lab/Three", "lab/one"]
    assert names(lab) == ["guest/one", "lab/Three", "lab/two", "lab/one"]
    assert names(nobody, "?author=lab") == ["lab/Three", "lab/one"]
    assert names(nobody, "?search=THREE") == ["lab/Three"]
    assert names(nobody, "?gated=true") == []
    lab.commit("lab/one", {"a": b"1"})
    assert names(nobody, "?sort=lastModified&author=lab") == ["lab/one", "lab/Three"]
    assert nobody.get("/api/models").json == []
    assert nobody.get("/api/datasets?expand=private&expand=sha&author=guest").json[0].keys() == {
        "_id",
        "id",
        "private",
        "sha",
    }


def following(person, path):
    """All pages of a list, by the links that the hub gives."""
    pages = []
    while path:
        reply = person.get(path)
        assert reply.status == 200, reply.body
        pages.append(reply.json)
        link = re.fullmatch('<(.*)>; rel="next"', reply.headers.get("Link", ""))
        path = link[1].removeprefix(person.url) if link else None
    return pages


def test_a_list_of_repositories_comes_in_pages(lab):
    for number in range(5):
        lab.create(f"lab/r{number}")
    pages = following(lab, "/api/datasets?limit=2&author=lab")
    assert [[found["id"] for found in page] for page in pages] == [
        ["lab/r4", "lab/r3"],
        ["lab/r2", "lab/r1"],
        ["lab/r0"],
    ]


@pytest.mark.parametrize("told", ["internal", "protected", "Private", ""])
def test_a_visibility_that_is_not_known_opens_nothing(people, nobody, told):
    said = f"the visibility {told!r} is not offered here: choose 'public' or 'private'"
    assert people.create("lab/new", visibility=told).told == (400, said)
    people("PUT", f"{PEOPLE}/settings", json={"visibility": "private"})
    assert people("PUT", f"{PEOPLE}/settings", json={"visibility": told}).told == (400, said)
    assert [nobody.get(f"/api/datasets/lab/{name}").status for name in ("new", "people")] == [401, 401]
    assert people.create("lab/both", visibility="public", private=True).status == 200
    assert nobody.get("/api/datasets/lab/both").status == 401


def test_a_missing_and_a_hidden_repository_look_the_same(lab, guest, nobody):
    lab.create("lab/hidden", visibility="private")
    for person, status in ((nobody, 401), (guest, 404)):
        for path in ("", "/tree/main", "/refs", "/commits/main", "/discussions", "/leaderboard"):
            hidden, missing = (
                person.get(f"/api/datasets/lab/hidden{path}"),
                person.get(f"/api/datasets/lab/absent{path}"),
            )
            assert hidden.status == missing.status == status
            assert hidden.headers["X-Error-Code"] == missing.headers["X-Error-Code"] == "RepoNotFound"
            assert hidden.json["error"].replace("hidden", "absent") == missing.json["error"]
        assert person.get("/datasets/lab/hidden/resolve/main/.gitattributes").headers["X-Error-Code"] == "RepoNotFound"
    assert lab.get("/api/datasets/lab/hidden").json["private"] is True


def test_settings_moves_and_deletions_are_for_those_who_may_write_there(hub, people, guest, nobody):
    move = {"fromRepo": "lab/people", "toRepo": "guest/people", "type": "dataset"}
    target = {"organization": "lab", "name": "people", "type": "dataset"}
    for person, status in ((nobody, 401), (guest, 403)):
        assert person("PUT", f"{PEOPLE}/settings", json={"visibility": "private"}).status == status
        assert person("DELETE", "/api/repos/delete", json=target).status == status
        assert person.post("/api/repos/move", move).status == status
    assert people.post("/api/repos/move", move).told == (
        403,
        "you may not write to the namespace 'guest': ask for membership",
    )
    assert people("PUT", f"{PEOPLE}/settings", json={"private": True, "gated": "auto"}).status == 200
    assert (people.get(PEOPLE).json["private"], people.get(PEOPLE).json["gated"]) == (True, "auto")
    assert people("PUT", f"{PEOPLE}/settings", json={"visibility": "public", "gated": False}).status == 200
    assert (people.get(PEOPLE).json["private"], people.get(PEOPLE).json["gated"]) == (False, False)
    hub.store.accounts.add_member("guest", "lab")
    assert people.post("/api/repos/move", move).status == 200
    assert nobody.get("/datasets/guest/people/resolve/main/a.txt").body == b"hello\n"
    assert people("DELETE", "/api/repos/delete", json=target | {"organization": "guest"}).status == 200
    assert people.get("/api/datasets/guest/people").headers["X-Error-Code"] == "RepoNotFound"


@pytest.mark.parametrize(
    ("method", "path", "body", "said"),
    [
        (
            "POST",
            "/api/repos/move",
            {"fromRepo": "people", "toRepo": "lab/x", "type": "dataset"},
            "'people' is no repository name",
        ),
        (
            "POST",
            "/api/repos/create",
            {"name": "x", "type": "bucket"},
            "no repositories of type 'bucket': choose one of model",
        ),
        ("POST", "/api/repos/create", {"name": 5}, "'name' in the body must be a text of at most 200 characters"),
        (
            "POST",
            "/api/repos/create",
            {"name": "\ud800"},
            "'name' in the body must be a text of at most 200 characters",
        ),
        ("POST", "/api/repos/create", [], "the body is no JSON object: send one"),
        (
            "PUT",
            f"{PEOPLE}/settings",
            {"gated": "maybe"},
            "gated='maybe' is not allowed: choose 'auto', 'manual' or false",
        ),
        ("PUT", f"{PEOPLE}/settings", {"private": "yes"}, "'private' in the body must be true or false"),
        (
            "GET",
            f"{PEOPLE}/tree/main?cursor=x",
            None,
            "the query parameter cursor is none of ours: begin with the first page",
        ),
        (
            "GET",
            f"{PEOPLE}/tree/main?limit=-1",
            None,
            "the query parameter limit='-1' must be a whole number, not negative",
        ),
        ("POST", f"{PEOPLE}/tag/main", {"tag": "a b"}, "the name 'a b' is not allowed for a branch or tag"),
        (
            "POST",
            f"{PEOPLE}/preupload/main",
            {"files": {}},
            "'files' in the body must be a list of at most 1000 entries",
        ),
        (
            "POST",
            f"{PEOPLE}/preupload/main",
            {"files": [{"path": "a", "size": -1}]},
            "'size' in each file must be a whole number",
        ),
        (
            "POST",
            f"{PEOPLE}/discussions",
            {"title": "t", "description": "x" * 70_000},
            "'description' in the body must be a text",
        ),
    ],
)
def test_a_part_of_a_request_that_cannot_be_is_named_with_what_can(people, method, path, body, said):
    reply = people(method, path, json=body)
    assert (reply.status, said in reply.json["error"]) == (400, True), reply.body


# -- revisions


def test_branches_and_tags_are_made_once_listed_and_deleted(people, nobody):
    head = people.get(PEOPLE).json["sha"]
    assert people.post(f"{PEOPLE}/branch/dev%2Fone", {"startingPoint": head}).status == 200
    assert people.post(f"{PEOPLE}/tag/dev%2Fone", {"tag": "v1.0.0", "message": "First"}).status == 200
    assert people.post(f"{PEOPLE}/tag/main", {"tag": "v1.0.0"}).status == 409
    assert people.post(f"{PEOPLE}/branch/dev%2Fone").status == 409
    refs = nobody.get(f"{PEOPLE}/refs").json
    assert [(ref["name"], ref["ref"], ref["targetCommit"]) for ref in refs["branches"]] == [
        ("dev/one", "refs/heads/dev/one", head), ("main", "refs/heads/main", head)
    ]  # fmt: skip
    assert [ref["name"] for ref in refs["tags"]] == ["v1.0.0"]
    assert "pullRequests" not in refs and nobody.get(f"{PEOPLE}/refs?include_prs=1").json["pullRequests"] == []
    assert people("DELETE", f"{PEOPLE}/branch/dev%2Fone").status == 200
    assert people("DELETE", f"{PEOPLE}/tag/v1.0.0").status == 200
    assert people("DELETE", f"{PEOPLE}/tag/v1.0.0").headers["X-Error-Code"] == "RevisionNotFound"
    assert people.get(f"{PEOPLE}/revision/v1.0.0").headers["X-Error-Code"] == "RevisionNotFound"
    assert people("DELETE", f"{PEOPLE}/branch/main").status == 403


def test_the_history_comes_in_pages_and_is_squashed_to_one_commit(people):
    for number in range(3):
        people.commit("lab/people", {"a.txt": b"%d" % number}, summary=f"Number {number}", description="<why>")
    pages = following(people, f"{PEOPLE}/commits/main?limit=2")
    assert [[commit["title"] for commit in page] for page in pages] == [
        ["Number 2", "Number 1"], ["Number 0", "Change"], ["initial commit"]
    ]  # fmt: skip
    assert people.get(f"{PEOPLE}/commits/main?limit=1").headers["X-Total-Count"] == "5"
    first = pages[0][0]
    assert (first["message"], first["authors"][0]["user"], first["formatted"]["message"]) == (
        "<why>",
        "lab",
        "&lt;why&gt;",
    )
    assert people.post(f"{PEOPLE}/super-squash/main", {"message": "All"}).status == 200
    assert [commit["title"] for commit in people.get(f"{PEOPLE}/commits/main").json] == ["All"]
    assert people.get("/datasets/lab/people/resolve/main/a.txt").body == b"2"


def test_a_tree_is_listed_by_folder_or_whole(people, nobody):
    top = nobody.get(f"{PEOPLE}/tree/main").json
    assert [(item["type"], item["path"]) for item in top] == [
        ("file", ".gitattributes"),
        ("file", "a.txt"),
        ("directory", "f"),
    ]
    assert [item["path"] for item in nobody.get(f"{PEOPLE}/tree/main/f").json] == ["f/b.txt", "f/g"]
    assert [item["path"] for item in nobody.get(f"{PEOPLE}/tree/main/f%2Fg").json] == ["f/g/c.txt"]
    whole = [item["path"] for item in nobody.get(f"{PEOPLE}/tree/main?recursive=true").json]
    assert whole == [".gitattributes", "a.txt", "f", "f/b.txt", "f/g", "f/g/c.txt"]
    missing = nobody.get(f"{PEOPLE}/tree/main/absent")
    assert (missing.status, missing.headers["X-Error-Code"]) == (404, "EntryNotFound")
    assert missing.headers["X-Repo-Commit"] == people.get(PEOPLE).json["sha"]


def test_a_tree_with_details_tells_each_files_own_last_commit(people):
    later = people.commit("lab/people", {"f/g/c.txt": b"new"}, summary="Only c").json["commitOid"]
    items = {item["path"]: item["lastCommit"] for item in people.get(f"{PEOPLE}/tree/main?recursive=1&expand=1").json}
    assert {path for path, commit in items.items() if commit["id"] == later} == {"f", "f/g", "f/g/c.txt"}
    assert items["a.txt"]["title"] == "Change"
    assert items[".gitattributes"]["title"] == "initial commit"


def test_all_pages_of_a_tree_show_one_commit_even_if_the_branch_moves_meanwhile(people):
    people.commit("lab/people", {f"n/{number}": b"%d" % number for number in range(7)})
    first = people.get(f"{PEOPLE}/tree/main/n?limit=3")
    people.commit("lab/people", {f"n/{number}": None for number in range(6)})
    rest = following(people, re.match("<(.*)>", first.headers["Link"])[1].removeprefix(people.url))
    paths = [item["path"] for page in [first.json, *rest] for item in page]
    assert paths == [f"n/{number}" for number in range(7)]
    assert [item["path"] for item in people.get(f"{PEOPLE}/tree/main/n").json] == ["n/6"]


@pytest.mark.parametrize("revision", ["refs%2Fpr%2F1", "exp%2Flonger", "main"])
@pytest.mark.parametrize("list_", ["tree/{}", "tree/{}/%F0%9F%92%A5%20x", "commits/{}"])
def test_the_next_page_is_found_whatever_the_revision_and_the_folder_are_called(people, nobody, list_, revision):
    people.commit("lab/people", {"💥 x/1": b"1", "💥 x/2": b"2"})
    people.post(f"{PEOPLE}/branch/exp%2Flonger")
    people.commit("lab/people", {"3": b"3"}, create_pr=True)
    address = f"{PEOPLE}/{list_.format(revision)}"
    whole, pages, following = nobody.get(address).json, [], f"{address}?limit=1"
    while following:
        reply = nobody.get(following)
        pages += reply.json
        link = reply.headers["Link"]
        following = link and re.match(r'<(.*)>; rel="next"$', link)[1].removeprefix(nobody.url)
    assert pages == whole and len(pages) > 1


def test_a_page_beyond_the_end_is_empty_without_counting_to_it(people, nobody):
    for list_ in (f"{PEOPLE}/tree/main", f"{PEOPLE}/commits/main", "/api/datasets"):
        reply = nobody.get(f"{list_}?cursor=.999999999")
        assert (reply.status, reply.json, reply.headers["Link"]) == (200, [], None)


def test_paths_are_described_for_forms_and_for_json_and_missing_ones_left_out(people, nobody):
    form = urllib.parse.urlencode(
        [("paths", "a.txt"), ("paths", "f"), ("paths", "absent"), ("expand", "True")]
    ).encode()
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    items = nobody("POST", f"{PEOPLE}/paths-info/main", body=form, headers=kind).json
    assert [(item["type"], item["path"], "lastCommit" in item) for item in items] == [
        ("file", "a.txt", True),
        ("directory", "f", True),
    ]
    items = nobody.post(f"{PEOPLE}/paths-info/main", {"paths": ["f/b.txt", "", "../x"]}).json
    assert [(item["path"], item["size"], "lastCommit" in item) for item in items] == [("f/b.txt", 1, False)]
    assert nobody("POST", f"{PEOPLE}/paths-info/main", body=b"paths=%ff\xff", headers=kind).status == 400


# -- uploads


def test_files_are_large_by_ending_or_size_and_unchanged_ones_are_told(people):
    files = [
        ("t.parquet", 5),
        ("i.FAISS", 5),
        ("big.txt", 10 << 20),
        ("small.txt", 5),
        ("empty.bin", 0),
        ("a.txt", 6),
        ("x.pyc", 1),
    ]
    body = {
        "files": [{"path": path, "size": size, "sample": ""} for path, size in files],
        "gitIgnore": "*.pyc\n# no\n!x",
    }
    told = people.post(f"{PEOPLE}/preupload/main", body).json["files"]
    assert [file["uploadMode"] for file in told] == ["lfs", "lfs", "lfs", "regular", "regular", "regular", "regular"]
    assert [file["path"] for file in told if file["shouldIgnore"]] == ["x.pyc"]
    assert {file["path"]: file["oid"] for file in told if file["oid"]} == {
        "a.txt": "ce013625030ba8dba906f756967f9e9ca394464a"
    }


def test_the_repositorys_own_gitignore_holds_where_none_is_sent(people):
    people.commit("lab/people", {".gitignore": b"build/\n/top.txt\ndocs/*.md\n"})
    paths = ["build/x", "a/build/y", "top.txt", "a/top.txt", "docs/a.md", "docs/a.txt"]
    body = {"files": [{"path": path, "size": 1} for path in paths]}
    told = people.post(f"{PEOPLE}/preupload/main", body).json["files"]
    assert [file["path"] for file in told if file["shouldIgnore"]] == [
        "build/x",
        "a/build/y",
        "top.txt",
        "docs/a.md",
    ]


def test_a_large_file_is_uploaded_committed_and_read_back(people, nobody):
    data = bytes(range(256)) * 5000
    assert upload(people, data).status == 200
    assert large(people, "x.bin", data).status == 200
    got = nobody.get("/datasets/lab/people/resolve/main/x.bin")
    assert got.body == data
    assert got.headers["ETag"] == got.headers["X-Linked-Etag"] == f'"{digest(data)}"'
    assert got.headers["X-Linked-Size"] == got.headers["Content-Length"] == str(len(data))
    raw = nobody.get("/datasets/lab/people/raw/main/x.bin").body.decode()
    assert raw == f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest(data)}\nsize {len(data)}\n"
    assert "actions" not in batch(people, data).json["objects"][0]


def test_a_large_file_that_is_not_what_it_was_said_to_be_is_not_kept(hub, people, nobody):
    (item,) = batch(people, b"right").json["objects"]
    href = item["actions"]["upload"]["href"].removeprefix(hub.url)
    reply = nobody("PUT", href, body=b"wrong")
    assert (reply.status, "upload the file again" in reply.json["error"]) == (400, True)
    assert nobody("PUT", href, body=b"longer than said").status == 413
    assert nobody("PUT", href.replace("size=5", "size=9"), body=b"right").status == 403
    assert nobody("PUT", href.replace("account=lab", "account=guest"), body=b"right").status == 403
    assert nobody("PUT", href.replace("pass=", "pass=1"), body=b"right").status == 403
    assert nobody("PUT", href.replace("pass=", "pass=x"), body=b"right").status == 403
    assert nobody("PUT", href.replace(digest(b"right"), digest(b"other")), body=b"other").status == 403
    status, said = large(people, "x.bin", b"right").told
    assert (status, said) == (
        400,
        f"the LFS object {digest(b'right')} was not uploaded by lab: upload it before the commit",
    )
    assert nobody("PUT", href, body=b"right").status == 200


def test_who_only_knows_the_digest_of_a_private_file_cannot_commit_it(people, guest, lab):
    data = b"private rows"
    lab.create("lab/hidden", visibility="private")
    upload(lab, data, repo="lab/hidden")
    guest.create("guest/mine")
    line = {"key": "lfsFile", "value": {"path": "x", "oid": digest(data)}}
    lines = [{"key": "header", "value": {"summary": "Take"}}, line]
    assert guest.lines("/api/datasets/guest/mine/commit/main", lines).status == 400
    assert "actions" in batch(guest, data, repo="guest/mine").json["objects"][0]
    upload(guest, data, repo="guest/mine")
    assert guest.lines("/api/datasets/guest/mine/commit/main", lines).status == 200
    assert guest.get("/datasets/guest/mine/resolve/main/x").body == data


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"operation": "download", "objects": []}, 400, "only the operation 'upload' is offered"),
        ({"operation": "upload", "objects": [{"oid": "../x", "size": 1}]}, 422, "'../x' is no sha256: give 64 digits"),
        (
            {"operation": "upload", "objects": [{"oid": "0" * 64, "size": "1"}]},
            400,
            "'size' in each object must be a whole number",
        ),
    ],
)
def test_a_batch_that_cannot_be_is_refused(people, body, status, said):
    reply = people.post("/datasets/lab/people.git/info/lfs/objects/batch", body)
    assert (reply.status, said in reply.json["error"]) == (status, True)


def test_the_size_of_a_large_file_may_be_left_out_but_not_be_wrong(people):
    upload(people, b"12345")
    assert large(people, "x.bin", b"12345", size=6).told == (
        400, f"the LFS object {digest(b'12345')} has 5 bytes, not 6: upload the file again"
    )  # fmt: skip
    assert large(people, "x.bin", b"12345", size=None).status == 200


# -- commits


def test_a_commit_tells_its_id_and_address_and_is_the_new_head(people):
    told = people.commit("lab/people", {"new": b"1", "a.txt": None}, summary="Title", description="Text").json
    assert (told["success"], told["commitUrl"]) == (
        True,
        f"{people.url}/datasets/lab/people/commit/{told['commitOid']}",
    )
    assert people.get(PEOPLE).json["sha"] == told["commitOid"]
    assert people.get("/datasets/lab/people/resolve/main/a.txt").headers["X-Error-Code"] == "EntryNotFound"


def test_a_parent_is_named_by_at_least_seven_digits(people):
    head = people.get(PEOPLE).json["sha"]
    reply = people.commit("lab/people", {"x": b"1"}, parentCommit=head[:6])
    assert reply.told == (
        412, f"A commit has happened since {head[:6]}. Please refresh and try again: refs/heads/main is at {head}"
    )  # fmt: skip
    assert people.commit("lab/people", {"x": b"1"}, parentCommit=head[:7]).status == 200


def test_a_stale_parent_is_412_and_a_missing_file_404(people):
    old = people.get(PEOPLE).json["sha"]
    assert people.commit("lab/people", {"n": b"1"}, parentCommit=old).status == 200
    status, said = people.commit("lab/people", {"n": b"2"}, parentCommit=old).told
    assert (status, said.startswith("A commit has happened since")) == (412, True)
    missing = people.commit("lab/people", {"absent": None})
    assert missing.headers["X-Error-Code"] == "EntryNotFound"
    assert "A file with this name doesn't exist" in missing.headers["X-Error-Message"]


HEADER = b'{"key": "header", "value": {"summary": "s"}}'


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "the commit has no header: send a line with the key 'header' and a summary"),
        (b"{", "the body is no valid JSON"),
        (b"[]", "each line is no JSON object"),
        (b'{"key": "header", "value": {}}', "'summary' in 'value' in each line must be a text"),
        (HEADER + b'\n{"key": "rename", "value": {"path": "a"}}', "the key 'rename' is unknown: use header, file"),
        (HEADER + b'\n{"key": "file", "value": {"path": "a"}}', "'content' in 'value' in each line must be a text"),
        (HEADER + b'\n{"key": "file", "value": {"path": "../a", "content": ""}}', "the path '../a' is not allowed"),
        (
            HEADER + b'\n{"key": "file", "value": {"path": "a", "content": "%", "encoding": "base64"}}',
            "no valid base64",
        ),
        (
            HEADER + b'\n{"key": "lfsFile", "value": {"path": "a", "oid": "' + b"0" * 64 + b'"}}',
            "was not uploaded by lab",
        ),
        (HEADER + b"\n" + b"[" * 100_000, "the body is no valid JSON"),
        (HEADER + b'\n{"key": "deletedFile", "value": {"path": 7}}', "'path' in 'value' in each line must be a text"),
        (HEADER + b'\n{"key": ' + b"9" * 5000 + b"}", "the body is no valid JSON"),
        (HEADER + b"\n\xff", "the body is no valid JSON"),
    ],
)
def test_a_commit_that_cannot_be_read_is_refused_and_does_nothing(people, body, said):
    before = people.get(PEOPLE).json["sha"]
    reply = people("POST", f"{PEOPLE}/commit/main", body=body)
    assert reply.status == 400 and said in reply.json["error"], reply.body
    assert people.get(PEOPLE).json["sha"] == before


def test_plain_text_and_a_last_line_without_an_end_are_taken(people):
    body = HEADER + '\n\n{"key": "file", "value": {"path": "ü", "content": "für"}}'.encode()
    assert people("POST", f"{PEOPLE}/commit/main", body=body).status == 200
    assert people.get("/datasets/lab/people/resolve/main/%C3%BC").body == "für".encode()


def test_the_body_limits_hold_and_are_told(tmp_path):
    options = Options(body_limit=2000, line_limit=3000, commit_limit=8000, file_limit=10)
    with running(tmp_path / "small", options=options) as hub:
        lab = Person(hub.url, hub.store.accounts.add_token("lab"))
        lab.create("lab/people")
        assert lab.post("/api/repos/create", {"name": "x" * 3000}).told == (
            413, "the body is larger than the 2000 bytes that are allowed here: send less at once"
        )  # fmt: skip
        pieces = iter([b" " * 1500] * 2)
        assert lab("POST", "/api/repos/create", body=pieces).status == 413
        assert lab.commit("lab/people", {"a": b"x" * 2500}).told == (
            413, "a line of a commit may have at most 3000 bytes: send the file by LFS"
        )  # fmt: skip
        assert lab.commit("lab/people", {str(n): b"x" * 2000 for n in range(5)}).status == 413
        assert upload(lab, b"x" * 11).told == (413, "files may have at most 10 bytes: split the file")
        assert lab.commit("lab/people", {"a": b"x" * 1000}).status == 200


# -- pull requests


def test_a_stranger_may_propose_and_only_a_member_may_merge(hub, people, guest, reader, nobody):
    assert guest.commit("lab/people", {"n": b"1"}).told == (
        403, "you are no writer in lab: pass `create_pr=1` as a query parameter for a pull request"
    )  # fmt: skip
    assert nobody.commit("lab/people", {"n": b"1"}, create_pr=True).status == 401
    assert reader.commit("lab/people", {"n": b"1"}, create_pr=True).status == 403
    told = guest.commit("lab/people", {"n": b"1"}, create_pr=True, summary="Add n").json
    assert told["pullRequestUrl"] == f"{hub.url}/datasets/lab/people/discussions/1"
    assert guest.commit("lab/people", {"m": b"2"}, rev="refs%2Fpr%2F1").status == 200
    other = Person(hub.url, hub.store.accounts.add_token("other"))
    assert other.commit("lab/people", {"m": b"3"}, rev="refs%2Fpr%2F1").status == 403
    assert people.commit("lab/people", {"l": b"4"}, rev="refs%2Fpr%2F1").status == 200
    assert guest.post(f"{PEOPLE}/discussions/1/merge").status == 403
    assert guest.commit("lab/people", {"m": b"2"}, rev="v1", create_pr=True).status == 400
    people.post(f"{PEOPLE}/branch/dev")
    assert guest.commit("lab/people", {"m": b"2"}, rev="dev", create_pr=True).status == 400
    assert people.get("/datasets/lab/people/resolve/main/n").status == 404
    assert people.post(f"{PEOPLE}/discussions/1/merge", {"comment": "Thanks"}).status == 200
    assert [people.get(f"/datasets/lab/people/resolve/main/{path}").body for path in "nml"] == [b"1", b"2", b"4"]
    assert [ref["name"] for ref in people.get(f"{PEOPLE}/refs?include_prs=1").json["pullRequests"]] == ["1"]


def test_a_pull_request_from_an_older_commit_is_told_its_conflicts(people, guest):
    old = people.get(PEOPLE).json["sha"]
    people.commit("lab/people", {"a.txt": b"ours"})
    guest.commit(
        "lab/people", {"a.txt": b"theirs"}, create_pr=True, parentCommit=old, summary="Mine", description="Why"
    )
    told = people.get(f"{PEOPLE}/discussions/1?diff=1").json
    assert (told["isPullRequest"], told["status"], told["filesWithConflicts"]) == (True, "open", ["a.txt"])
    assert told["changes"] == {"base": "refs/heads/main"}
    assert "-hello\n+theirs\n" in told["diff"]
    assert [event["type"] for event in told["events"]] == ["comment", "commit"]
    assert told["events"][0]["data"]["latest"]["raw"] == "Why"
    assert people.post(f"{PEOPLE}/discussions/1/merge").status == 409


def test_a_comment_on_a_merge_is_made_only_if_the_merge_is(people, guest):
    guest.commit("lab/people", {"a.txt": b"theirs"}, create_pr=True)
    people.commit("lab/people", {"a.txt": b"ours"})
    assert people.post(f"{PEOPLE}/discussions/1/merge", {"comment": "Thanks"}).status == 409
    guest.commit("lab/people", {"new.txt": b"theirs"}, create_pr=True)
    assert people.post(f"{PEOPLE}/discussions/2/merge", {"comment": "Thanks"}).status == 200
    types = [[event["type"] for event in people.get(f"{PEOPLE}/discussions/{num}").json["events"]] for num in (1, 2)]
    assert types == [["comment", "commit"], ["comment", "commit", "status-change", "comment"]]


def test_discussions_are_opened_answered_renamed_and_closed(people, guest, reader):
    assert guest.post(f"{PEOPLE}/discussions", {"title": " Why? ", "description": "So few"}).json == {"num": 1}
    assert reader.post(f"{PEOPLE}/discussions", {"title": "Why?"}).status == 403
    event = people.post(f"{PEOPLE}/discussions/1/comment", {"comment": "Cost"}).json["newMessage"]
    assert (event["author"]["name"], event["data"]["latest"]["raw"]) == ("lab", "Cost")
    comment = f"{PEOPLE}/discussions/1/comment/{event['id']}"
    assert people.post(f"{comment}/edit", {"content": "Money"}).json["updatedComment"]["data"]["edited"] is True
    assert guest.post(f"{comment}/hide").status == 403
    assert people.post(f"{comment}/hide").json["updatedComment"]["data"]["hidden"] is True
    assert people.post(f"{comment}/burn").status == 404
    assert (
        guest.post(f"{PEOPLE}/discussions/1/title", {"title": "Why so few?"}).json["newTitle"]["data"]["from"] == "Why?"
    )
    assert (
        people.post(f"{PEOPLE}/discussions/1/status", {"status": "closed"}).json["newStatus"]["data"]["status"]
        == "closed"
    )
    people.post(f"{PEOPLE}/discussions", {"title": "Mine", "pullRequest": True})
    assert guest.post(f"{PEOPLE}/discussions/2/status", {"status": "closed"}).status == 403
    listed = lambda query: [talk["num"] for talk in people.get(f"{PEOPLE}/discussions?{query}").json["discussions"]]  # noqa: E731
    assert (listed(""), listed("type=pull_request"), listed("type=discussion")) == ([2, 1], [2], [1])
    assert (listed("status=open"), listed("status=closed"), listed("author=guest"), listed("p=1")) == (
        [2],
        [1],
        [1],
        [],
    )
    assert people.get(f"{PEOPLE}/discussions/3").status == people.get(f"{PEOPLE}/discussions/x").status == 404
    assert people.get(f"{PEOPLE}/discussions/1").json["title"] == "Why so few?"


# -- gated repositories


def test_a_gated_repository_shows_its_list_but_opens_files_only_to_the_granted(hub, people, guest, nobody):
    people("PUT", f"{PEOPLE}/settings", json={"gated": "manual"})
    path = "/datasets/lab/people/resolve/main/a.txt"
    for person, status in ((nobody, 401), (guest, 403)):
        assert [item["path"] for item in person.get(f"{PEOPLE}/tree/main").json] == [".gitattributes", "a.txt", "f"]
        reply = person.get(path)
        assert (reply.status, reply.headers["X-Error-Code"]) == (status, "GatedRepo")
        assert person.get(f"{PEOPLE}/auth-check").headers["X-Error-Code"] == "GatedRepo"
    assert guest.commit("lab/people", {"n": b"1"}, create_pr=True).headers["X-Error-Code"] == "GatedRepo"
    assert guest.post("/datasets/lab/people/ask-access").status == 200
    assert [ask["user"]["user"] for ask in people.get(f"{PEOPLE}/user-access-request/pending").json] == ["guest"]
    assert guest.get(f"{PEOPLE}/user-access-request/pending").status == 403
    grant = f"{PEOPLE}/user-access-request/grant"
    assert people.post(grant, {"user": "guest"}).status == 200
    assert people.post(grant, {"user": "guest"}).told == (400, "the access of guest is accepted already")
    assert people.post(grant, {"user": "absent"}).status == 404
    assert guest.get(path).body == b"hello\n"
    handle = f"{PEOPLE}/user-access-request/handle"
    assert people.post(handle, {"requestId": "guest", "status": "burnt"}).status == 400
    assert people.post(handle, {"requestId": "guest", "status": "rejected"}).status == 200
    assert guest.get(path).status == 403
    assert people.get(path).status == 200


def test_automatic_access_is_given_to_whoever_asks_with_a_token(people, guest, nobody):
    path = "/datasets/lab/people/resolve/main/a.txt"
    assert guest.post("/datasets/lab/people/ask-access").told == (
        400,
        "lab/people is not gated: its files are open to you",
    )
    assert people.get(f"{PEOPLE}/user-access-request/pending").status == 400
    people("PUT", f"{PEOPLE}/settings", json={"gated": "auto"})
    assert guest.get(path).status == 403
    assert nobody.post("/datasets/lab/people/ask-access").status == 401
    assert guest.post("/datasets/lab/people/ask-access").status == 200
    assert guest.get(path).status == 200


def test_rights_can_be_asked_for_before_work_is_done(people, guest, nobody):
    assert [person.get(f"{PEOPLE}/auth-check").status for person in (people, guest, nobody)] == [200, 200, 200]
    assert [person.get(f"{PEOPLE}/auth-check/write").status for person in (people, guest, nobody)] == [200, 403, 401]


# -- downloads


def test_a_file_is_read_whole_in_part_and_by_its_head(people, nobody):
    path, sha = "/datasets/lab/people/resolve/main/a.txt", people.get(PEOPLE).json["sha"]
    whole, part, end = nobody.get(path), nobody.get(path, Range="bytes=1-3"), nobody.get(path, Range="bytes=-2")
    assert (whole.body, part.status, part.body, end.body) == (b"hello\n", 206, b"ell", b"o\n")
    assert part.headers["Content-Range"] == "bytes 1-3/6"
    assert nobody.get(path, Range="bytes=9-").status == 416
    head = nobody("HEAD", path)
    assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", "6")
    assert (head.headers["ETag"], head.headers["X-Repo-Commit"]) == ('"ce013625030ba8dba906f756967f9e9ca394464a"', sha)
    assert head.headers["Accept-Ranges"] == "bytes"
    assert nobody.get(f"/datasets/lab/people/resolve/{sha}/a.txt").body == b"hello\n"
    assert nobody.get("/datasets/lab/people/raw/main/a.txt").body == b"hello\n"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("main/absent", "EntryNotFound"),
        ("main/f", "EntryNotFound"),
        ("v9/a.txt", "RevisionNotFound"),
        ("main/a.txt/x", "EntryNotFound"),
    ],
)
def test_what_is_missing_is_told_with_the_code_that_clients_look_for(people, nobody, path, code):
    reply = nobody("HEAD", f"/datasets/lab/people/resolve/{path}")
    assert (reply.status, reply.headers["X-Error-Code"]) == (404, code)
    assert (reply.headers["X-Repo-Commit"] is not None) == (code == "EntryNotFound")


def test_a_browser_is_told_not_to_run_what_it_downloads(people, nobody):
    people.commit("lab/people", {"p\u00e4ge.html": b"<script>alert(1)</script>"})
    reply = nobody.get("/datasets/lab/people/resolve/main/p%C3%A4ge.html")
    assert reply.headers["Content-Type"] == "application/octet-stream"
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert reply.headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
    assert reply.headers["Content-Disposition"] == "inline; filename*=UTF-8''p%C3%A4ge.html"


def test_a_browsers_cookie_reads_but_never_writes(lab, nobody):
    lab.create("lab/hidden", visibility="private")
    lab.commit("lab/hidden", {"a": b"1"})
    cookie = {"Cookie": f"labhub_token={lab.token}"}
    assert nobody("GET", "/datasets/lab/hidden/resolve/main/a", headers=cookie).body == b"1"
    assert nobody("GET", "/datasets/lab/hidden/resolve/main/a", headers={"Cookie": "labhub_token=x"}).status == 401
    assert nobody("POST", "/api/repos/create", json={"name": "x"}, headers=cookie).status == 401


# -- cards and leaderboards


@pytest.mark.parametrize(
    "value", ["!!bool perhaps", "!!int ''", "!!int -", "!!timestamp soon", "!!float x", "1" + ":1" * 400_000]
)
def test_a_value_that_is_not_what_its_tag_says_is_told_and_spoils_no_list(people, nobody, value):
    card = f"---\nx: {value}\n---\n"
    reply = nobody.post("/api/validate-yaml", {"content": card, "repoType": "dataset"})
    (problem,) = reply.json["errors"]
    assert reply.status == 400
    assert re.match(
        "this is no valid YAML: .*Mend it|numbers of more than 100 digits are not allowed", problem["message"]
    )
    assert people.commit("lab/people", {"README.md": card.encode()}).status == 200
    assert [found["id"] for found in nobody.get("/api/datasets").json] == ["lab/people"]
    assert nobody.get("/datasets/lab/people").status == 200


def test_a_long_number_in_quotes_is_text(nobody):
    card = f"---\nx: '{'7' * 200}'\ny: {'7' * 99}\n---\n"
    assert nobody.post("/api/validate-yaml", {"content": card}).json == {"errors": [], "warnings": []}


@pytest.mark.parametrize(
    ("content", "status", "errors", "warnings"),
    [
        ("---\nlicense: mit\n---\n# A", 200, 0, 0),
        ("---\r\nlicense: mit\r\n---\r\n# A", 200, 0, 0),
        ("# no metadata", 200, 0, 1),
        ("---\n---\n# empty", 200, 0, 1),
        ("---\na: [b\n---\n", 400, 1, 0),
        ("---\njust text\n---\n", 400, 1, 0),
        ("---\na: &x [1]\nb: *x\n---\n", 400, 1, 0),
        ("---\na: &x [*x]\n---\n", 400, 1, 0),
        ("---\na: .nan\n---\n", 400, 1, 0),
        ("---\na: !!python/object/apply:os.system [ls]\n---\n", 400, 1, 0),
        ("---\n" + "[" * 2000 + "\n---\n", 400, 1, 0),
        ("---\na: 2026-99-99\n---\n", 400, 1, 0),
        ("---\na: " + "x" * (1 << 20) + "\n---\n", 400, 1, 0),
        ("---\na: b---\nc: d---\n---\n", 200, 0, 0),
    ],
)
def test_the_metadata_of_a_card_is_checked_before_it_is_committed(nobody, content, status, errors, warnings):
    reply = nobody.post("/api/validate-yaml", {"content": content, "repoType": "dataset"})
    assert (reply.status, len(reply.json["errors"]), len(reply.json["warnings"])) == (status, errors, warnings)


def results(*entries):
    return "".join(
        f"- dataset: {{id: {dataset}, task_id: {task}}}\n  value: {value}\n  notes: n\n"
        for dataset, task, value in entries
    ).encode()


def model(person, name, files, **options):
    """Make a model repository, commit to it, and return the reply."""
    person.create(name, type="model")
    lines = [{"key": "header", "value": {"summary": "Results"}}]
    lines += [{"key": "file", "value": {"path": path, "content": data.decode()}} for path, data in files.items()]
    return person.lines(f"/api/models/{name}/commit/main{options.get('query', '')}", lines)


def test_a_dataset_ranks_the_results_that_models_declare_on_it(people, guest, nobody):
    assert nobody.get(f"{PEOPLE}/leaderboard").told == (
        404, "this dataset has no leaderboard: add an eval.yaml to it, or results on it to a model"
    )  # fmt: skip
    model(people, "lab/good", {".eval_results/a.yaml": results(("lab/people", "t", 0.9), ("lab/other", "t", 1.0))})
    model(people, "lab/tied", {".eval_results/a.yaml": results(("lab/people", "t", 0.9), ("lab/people", "u", 0.1))})
    model(
        people,
        "lab/poor",
        {".eval_results/b.yaml": results(("lab/people", "t", 0.5)), "README.md": b"---\nbase_model: x\n---\n"},
    )
    model(
        people,
        "lab/odd",
        {
            ".eval_results/c.yaml": b"- value: 3\n- dataset: {id: lab/people, task_id: t}\n  value: high\n",
            ".eval_results/d.yaml": b"a: 1",
            ".eval_results/e.txt": b"- no",
            ".eval_results/f.yaml": b"[[",
        },
    )
    model(guest, "guest/hidden", {".eval_results/a.yaml": results(("lab/people", "t", 1.0))})
    guest("PUT", "/api/models/guest/hidden/settings", json={"private": True})
    assert (
        model(
            guest, "lab/good", {".eval_results/c.yaml": results(("lab/people", "t", 0.7))}, query="?create_pr=1"
        ).status
        == 200
    )
    told = nobody.get(f"{PEOPLE}/leaderboard").json
    assert [
        (line["taskId"], line["rank"], line["modelId"], line["value"], line.get("pullRequest")) for line in told
    ] == [
        ("t", 1, "lab/good", 0.9, None),
        ("t", 1, "lab/tied", 0.9, None),
        ("t", 3, "lab/good", 0.7, 1),
        ("u", 1, "lab/tied", 0.1, None),
    ]
    assert (told[0]["filename"], told[0]["verified"], told[0]["author"]["name"], told[0]["notes"]) == (
        ".eval_results/a.yaml",
        False,
        "lab",
        "n",
    )
    everything = nobody.get(f"{PEOPLE}/leaderboard?base_model=false").json
    assert [line["modelId"] for line in everything if line["taskId"] == "t"] == [
        "lab/good",
        "lab/tied",
        "lab/good",
        "lab/poor",
    ]
    assert guest.get(f"{PEOPLE}/leaderboard").json[0]["modelId"] == "guest/hidden"
    declared = nobody.get("/api/models/lab/odd?expand=evalResults").json["evalResults"]
    assert [("data" in line, line["filename"]) for line in declared] == [
        (False, ".eval_results/c.yaml"),
        (False, ".eval_results/c.yaml"),
        (False, ".eval_results/d.yaml"),
        (False, ".eval_results/f.yaml"),
    ]


def test_results_that_a_pull_request_repeats_count_once_and_those_of_a_gated_model_are_for_the_granted(
    people, guest, nobody
):
    declared = results(("lab/people", "t", 0.9), ("lab/people", "t", 0.8))
    model(people, "lab/good", {".eval_results/a.yaml": declared})
    again = {".eval_results/a.yaml": declared + results(("lab/people", "t", 0.7), ("lab/people", "t", 0.7))}
    assert model(guest, "lab/good", again, query="?create_pr=1").status == 200
    told = nobody.get(f"{PEOPLE}/leaderboard").json
    found = [(line["value"], line.get("pullRequest")) for line in told]
    assert found == [(0.9, None), (0.8, None), (0.7, 1), (0.7, 1)]
    people("PUT", "/api/models/lab/good/settings", json={"gated": "manual"})
    address = "/api/models/lab/good?expand=evalResults"
    assert "evalResults" not in nobody.get(address).json
    assert len(people.get(address).json["evalResults"]) == 2


def test_a_benchmark_without_results_has_an_empty_leaderboard(people, nobody):
    people.commit("lab/people", {"eval.yaml": b"name: people"})
    assert nobody.get(f"{PEOPLE}/leaderboard").json == []
    assert [found["id"] for found in nobody.get("/api/datasets?filter=benchmark:official").json] == ["lab/people"]


# -- faults, limits, names


def test_faults_come_before_or_after_the_work_and_only_as_often_as_asked(hub, people):
    hub.faults.add("POST", "/commit/", 409, message="Another commit operation is in progress")
    assert people.commit("lab/people", {"n": b"1"}).told == (409, "Another commit operation is in progress")
    assert people.get("/datasets/lab/people/resolve/main/n").status == 404
    hub.faults.add("POST", "/commit/", 503, after=True)
    assert people.commit("lab/people", {"n": b"1"}).status == 503
    assert people.get("/datasets/lab/people/resolve/main/n").body == b"1"
    hub.faults.add("GET", "/api/", 500, times=2)
    assert [people.get(PEOPLE).status for _ in range(3)] == [500, 500, 200]
    assert people.commit("lab/people", {"n": b"2"}).status == 200


def test_one_request_too_many_is_told_how_long_to_wait_in_the_clients_terms(tmp_path):
    from huggingface_hub.utils import parse_ratelimit_headers

    with running(tmp_path / "slow", options=Options(requests=5, window=500)) as hub:
        lab = Person(hub.url, hub.store.accounts.add_token("lab"))
        nobody = Person(hub.url)
        assert [lab.get("/api/datasets").status for _ in range(6)] == [200] * 5 + [429]
        assert nobody.get("/api/datasets").status == 200
        reply = lab.get("/api/datasets")
        told = parse_ratelimit_headers(reply.headers)
        assert (told.remaining, told.limit, told.window_seconds) == (0, 5, 500)
        assert told.reset_in_seconds == int(reply.headers["Retry-After"]) == 100
        assert reply.json["error"] == "too many requests: wait 100 seconds"


def test_a_full_disk_is_told_and_changes_nothing(hub, people, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    before = people.get(PEOPLE).json["sha"]
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        reply = people.commit("lab/people", {"n": b"1"})
    assert reply.told == (507, "the disk of the hub is full: nothing was changed; free space and try again")
    assert people.get(PEOPLE).json["sha"] == before
    assert list(hub.store.blobs.incoming.iterdir()) == []
    assert people.commit("lab/people", {"n": b"1"}).status == 200


def test_who_meets_long_upkeep_is_told_to_come_again(tmp_path, monkeypatch):
    monkeypatch.setattr(database, "PATIENCE", 0.05)
    with running(tmp_path / "hub") as hub:
        lab = Person(hub.url, hub.store.accounts.add_token("lab"))
        with closing(Store(tmp_path / "hub")) as upkeep, upkeep.database.writing():
            reply = lab.create("lab/people")
            assert reply.told == (503, "the hub is busy with upkeep: try again soon")
            assert reply.headers["Retry-After"] == "5"
            assert lab.get("/api/datasets").json == []
        assert lab.create("lab/people").status == 200


def test_a_page_that_points_its_own_name_at_the_hub_learns_nothing(tmp_path):
    with running(tmp_path / "named", options=Options(host_names=frozenset({"127.0.0.1", "localhost"}))) as hub:
        nobody = Person(hub.url)
        assert nobody.get("/api/datasets").json == []
        assert nobody.get("/api/datasets", Host="evil.example").told == (
            421, "this hub is not called 'evil.example': ask it as one of 127.0.0.1, localhost"
        )  # fmt: skip


def test_what_the_hub_does_not_offer_is_told(people, nobody):
    assert nobody.get("/api/agent-harnesses").status == 404
    assert nobody("PATCH", PEOPLE).told == (405, "PATCH is not allowed here: use GET")
    assert nobody("POST", "/datasets/lab/people/resolve/main/a.txt").status == 405
    assert nobody.get("/api/datasets/lab/%ff").told == (400, "the address is no valid UTF-8: encode it so")
    assert nobody.get("/-/cas/v1/chunks/default/0").status == 404
    assert nobody.get("/api/datasets").headers["Server"] is None


def test_what_was_stored_is_there_after_a_restart_with_the_same_pass_for_uploads(tmp_path):
    with running(tmp_path / "hub") as hub:
        lab = Person(hub.url, hub.store.accounts.add_token("lab"))
        lab.create("lab/people")
        lab.commit("lab/people", {"a": b"1"})
        href = batch(lab, b"large").json["objects"][0]["actions"]["upload"]["href"].removeprefix(hub.url)
        hub.stop()
    with running(tmp_path / "hub") as hub:
        again = Person(hub.url, lab.token)
        assert again("PUT", href, body=b"large").status == 200
        assert again.get("/datasets/lab/people/resolve/main/a").body == b"1"


def test_only_an_owned_hub_may_be_reached_by_others(tmp_path):
    with pytest.raises(OptionError) as caught, running(tmp_path / "hub", host="0.0.0.0"):
        pass
    said = str(caught.value)
    assert said.startswith("refusing to bind 0.0.0.0: others could reach this hub, and it has no token yet")
    assert f"anthology-hub hub token add {tmp_path / 'hub'} NAME --role admin; or bind 127.0.0.1" in said


def test_a_port_that_is_taken_or_none_is_refused(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for port in (taken.getsockname()[1], 70_000):
            said = f"cannot bind 127.0.0.1 port {port}: .*Give another, or port 0"
            with pytest.raises(OptionError, match=said), running(tmp_path / "hub", port=port):
                pass
    with pytest.raises(OptionError, match="refusing to bind lab.example"), running(tmp_path, host="lab.example"):
        pass


def test_the_hub_is_also_there_under_its_ipv6_address(tmp_path):
    with running(tmp_path / "hub", host="::1") as hub:
        assert re.fullmatch(r"http://\[::1\]:\d+", hub.url)
        assert Person(hub.url).get("/api/datasets").json == []


def test_base64_is_what_small_files_travel_in(people):
    data = bytes(range(256))
    people.commit("lab/people", {"bytes": data})
    assert base64.b64encode(people.get("/datasets/lab/people/resolve/main/bytes").body) == base64.b64encode(data)
