"""A folder stands in for a repository: pulled as it is, added to all or nothing, never overwritten.

The repository itself is played by a server of a few routes, asked by the real client in a process of its own, since
the client reads HF_ENDPOINT and HF_HUB_OFFLINE once, when it is imported.
"""

import base64
import hashlib
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs

import pytest

from anthology_hub import hub
from anthology_hub.errors import DataError, OptionError

# -- pull


def test_a_folder_is_its_own_snapshot(tmp_path):
    assert hub.pull(tmp_path) == hub.pull(str(tmp_path)) == hub.Snapshot(folder=tmp_path, revision="folder")


def test_a_revision_of_a_folder_is_refused(tmp_path):
    with pytest.raises(OptionError) as caught:
        hub.pull(tmp_path, revision="v1.0.0")
    assert str(caught.value) == f"the folder {tmp_path} has no revisions: leave out revision='v1.0.0'"


@pytest.mark.parametrize("source", ["nonsense", "a/b/c", "/nowhere/at/all", "", "name with/blanks"])
def test_what_is_neither_folder_nor_repository_is_refused(source):
    with pytest.raises(DataError) as caught:
        hub.pull(source if source else "no such folder")
    assert "is neither a folder nor a repository name like 'namespace/name'" in str(caught.value)
    assert source in str(caught.value)


@pytest.mark.parametrize("source", ["lab/-x", "lab/a..b", "lab/a--b", "lab/x.git"])
def test_a_name_that_the_hub_does_not_allow_is_refused_with_the_hubs_rule(source):
    with pytest.raises(DataError, match="cannot be had from the hub: .*(Repo|repo)_?[ i]"):
        hub.pull(source)


def test_a_repository_that_cannot_be_reached_is_told_with_its_revision():
    with pytest.raises(DataError, match="the dataset 'lab/people' at revision 'v9' cannot be had from the hub: "):
        hub.pull("lab/people", revision="v9")


# -- add to a folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_files_are_added_below_a_folder_that_is_made(tmp_path):
    files = {"runs/a/one.json": b"1", "answers/a/one.parquet": b"2"}
    assert hub.add_files(tmp_path / "new", files, message="add") == str(tmp_path / "new")
    assert contents(tmp_path / "new") == files


def test_adding_the_same_again_changes_nothing(tmp_path):
    for _ in range(2):
        hub.add_files(tmp_path, {"a": b"1", "b/c": b"2"}, message="add")
        assert contents(tmp_path) == {"a": b"1", "b/c": b"2"}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"new": b"1", "old": b"other"}, "old exists with other content: published files are never changed"),
        ({"new": b"1", "folder": b"2"}, "folder exists with other content"),
        ({"new": b"1", "old/below": b"2"}, "old is a file, so .*old/below cannot be: give another folder"),
        ({"new": b"1", "../escaped": b"2"}, "the path '../escaped' leads out of .*: give one inside"),
        ({"new": b"1", "/escaped-from-tests": b"2"}, "the path '/escaped-from-tests' leads out of"),
    ],
)
def test_either_all_files_are_added_or_none(tmp_path, files, said):
    target = tmp_path / "results"
    hub.add_files(target, {"old": b"1", "folder/file": b"2"}, message="add")
    with pytest.raises(DataError, match=said):
        hub.add_files(target, files, message="add")
    assert contents(tmp_path) == {"results/old": b"1", "results/folder/file": b"2"}


def test_a_file_as_target_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(DataError, match="file is a file, so .*file/a cannot be"):
        hub.add_files(str(tmp_path / "file"), {"a": b"1"}, message="add")


def test_a_name_without_a_slash_a_dotted_path_and_a_tilde_are_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for target in ("results", "./more/results", "~/results"):
        hub.add_files(target, {"a": b"1"}, message="add")
    Path("lab/results").mkdir(parents=True)
    hub.add_files("lab/results", {"a": b"1"}, message="add")
    assert sorted(contents(tmp_path)) == ["home/results/a", "lab/results/a", "more/results/a", "results/a"]


# -- one file


def test_a_written_file_is_whole_readable_by_others_and_alone(tmp_path):
    before = os.umask(0o077)
    try:
        hub.write_file(tmp_path / "deep" / "file", b"one")
        hub.write_file(tmp_path / "deep" / "file", b"two")
    finally:
        os.umask(before)
    assert contents(tmp_path) == {"deep/file": b"two"}
    assert stat.S_IMODE((tmp_path / "deep" / "file").stat().st_mode) == 0o644


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    hub.write_file(tmp_path / "file", b"old")
    with pytest.raises(TypeError):
        hub.write_file(tmp_path / "file", "not bytes")
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        hub.write_file(tmp_path / "taken", b"new")
    assert contents(tmp_path) == {"file": b"old"}


def test_a_process_killed_while_writing_never_leaves_half_a_file(tmp_path):
    hub.write_file(tmp_path / "file", b"0" * 3_000_000)
    code = (
        "import itertools, pathlib, sys; from anthology_hub.hub import write_file; print('go', flush=True)\n"
        "for n in itertools.count(1): write_file(pathlib.Path(sys.argv[1]), str(n % 10).encode() * 3_000_000)"
    )
    for lines in range(3):
        child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "file")], stdout=subprocess.PIPE)
        child.stdout.readline()
        # Read while it is written, then kill it wherever it is.
        for _ in range(20 * (lines + 1)):
            seen = (tmp_path / "file").read_bytes()
            assert len(seen) == 3_000_000
            assert len(set(seen)) == 1
        child.kill()
        child.wait()
        child.stdout.close()
        assert set((tmp_path / "file").read_bytes()) <= set(b"0123456789")
        assert (tmp_path / "file").stat().st_size == 3_000_000


# -- a repository

SHA = "0123456789abcdef0123456789abcdef01234567"


class Repository(BaseHTTPRequestHandler):
    """As much of a hub as pull and add_files ask for; `server.files` is the one repository, `server.asked` the log."""

    def answer(self, value, status=200, head=(), body=None):
        body = json.dumps(value).encode() if body is None else body
        self.send_response(status)
        for name, text in (*head, ("Content-Length", str(len(body)))):
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def items(self, paths):
        for path in paths:
            content = self.server.files[path]
            item = {"type": "file", "path": path, "size": len(content), "oid": blob(content)}
            if path.endswith(".parquet"):
                large = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
                item |= {"oid": blob(b"pointer"), "lfs": large}
            yield item

    def do_GET(self):
        self.server.asked.append((self.command, self.path))
        path, files = self.path.partition("?")[0], self.server.files
        if "/resolve/" in path:
            content = files[path.partition(f"/resolve/{SHA}/")[2]]
            head = [("ETag", f'"{blob(content)}"'), ("X-Repo-Commit", SHA)]
            self.answer(None, head=head, body=content)
        elif "/tree/" in path:
            self.answer(list(self.items(files)))
        elif path.endswith(("/revision/v1", f"/revision/{SHA}", "/api/datasets/lab/results")):
            siblings = [{"rfilename": name} for name in files]
            self.answer({"id": "lab/results", "sha": SHA, "siblings": siblings, "private": False})
        else:
            code = "RevisionNotFound" if "/revision/" in path else "RepoNotFound"
            self.answer({"error": code}, 404, [("X-Error-Code", code)])

    do_HEAD = do_GET

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.asked.append((self.command, self.path))
        if self.path.endswith("/repos/create"):
            self.server.created = json.loads(body)
            self.answer({"url": f"http://{self.headers['Host']}/datasets/lab/results"}, 409)
        elif "/paths-info/" in self.path:
            self.answer(list(self.items(p for p in parse_qs(body)["paths"] if p in self.server.files)))
        elif "/preupload/" in self.path:
            asked = [entry["path"] for entry in json.loads(body)["files"]]
            self.answer({"files": [{"path": p, "uploadMode": "regular", "shouldIgnore": False} for p in asked]})
        else:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.server.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self.answer(
                {
                    "success": True,
                    "commitOid": SHA,
                    "commitUrl": f"http://{self.headers['Host']}/datasets/lab/results/commit/{SHA}",
                }
            )

    def log_message(self, *_):
        pass


def blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@pytest.fixture
def repository() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Repository)
    server.files, server.asked, server.created = {"runs/a.json": b"{}", "big.parquet": b"PAR1"}, [], None
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def asks(repository, home, code):
    env = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    env |= {"HF_ENDPOINT": f"http://127.0.0.1:{repository.server_port}", "HF_HOME": str(home), "HF_TOKEN": "t"}
    env |= {
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_XET": "1",
        "NO_PROXY": "*",
    }
    code = "from anthology_hub import hub\nfrom anthology_hub.errors import DataError\n" + code
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, cwd=home)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_repository_is_pulled_at_the_commit_that_its_revision_is(repository, tmp_path):
    code = "found = hub.pull('lab/results', revision='v1', patterns=['runs/**']); print(found.revision, found.folder)"
    revision, folder = asks(repository, tmp_path, code)[0].split(" ", 1)
    assert revision == SHA
    assert contents(Path(folder)) == {"runs/a.json": b"{}"}
    assert {path for _, path in repository.asked if "/resolve/" in path} == {
        f"/datasets/lab/results/resolve/{SHA}/runs/a.json"
    }


def test_a_revision_or_repository_that_does_not_exist_is_told(repository, tmp_path):
    code = (
        "for name, revision in (('lab/results', 'v7'), ('lab/nothing', None)):\n"
        "    try: hub.pull(name, revision=revision)\n"
        "    except DataError as error: print(str(error).splitlines()[0])"
    )
    said = asks(repository, tmp_path, code)
    assert said[0].startswith("the dataset 'lab/results' at revision 'v7' cannot be had from the hub: 404")
    assert said[1].startswith("the dataset 'lab/nothing' cannot be had from the hub: 404")


def test_only_new_files_are_committed_to_a_repository_in_one_commit(repository, tmp_path):
    files = {"runs/a.json": b"{}", "big.parquet": b"PAR1", "runs/b.json": b"[1]"}
    code = f"for _ in range(2): print(hub.add_files('hf://lab/results', {files!r}, message='add'))"
    assert asks(repository, tmp_path, code) == [
        f"http://127.0.0.1:{repository.server_port}/datasets/lab/results/commit/{SHA}",
        "hf://lab/results",
    ]
    assert repository.files == files
    assert sum("/commit/" in path for _, path in repository.asked) == 1
    assert repository.created["visibility" if "visibility" in repository.created else "private"] in ("private", True)


@pytest.mark.parametrize("changed", ["runs/a.json", "big.parquet"])
def test_a_file_of_a_repository_is_never_changed(repository, tmp_path, changed):
    code = (
        f"try: hub.add_files('hf://lab/results', {{'new': b'1', {changed!r}: b'other'}}, message='add')\n"
        "except DataError as error: print(error)"
    )
    assert asks(repository, tmp_path, code) == [
        f"lab/results/{changed} exists with other content: published files are never changed, use a new run"
    ]
    assert repository.files == {"runs/a.json": b"{}", "big.parquet": b"PAR1"}


def test_a_path_without_the_scheme_is_a_folder_even_if_it_looks_like_a_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert hub.add_files("out/results", {"runs/a.json": b"{}"}, message="add") == "out/results"
    assert (tmp_path / "out/results/runs/a.json").read_bytes() == b"{}"


def test_a_repository_that_cannot_be_written_is_told_in_our_own_words(repository, tmp_path):
    code = (
        "try: hub.add_files('hf://a/b/c', {'a': b'1'}, message='add')\n"
        "except DataError as error: print(str(error).splitlines()[0])"
    )
    (said,) = asks(repository, tmp_path, code)
    assert said.startswith("hf://a/b/c cannot be written: Repo id must be")
