"""What the official Python clients do with a hub: one JSON line per operation, on the hub that HF_ENDPOINT names.

Runs as it is under both generations of huggingface_hub. Every operation works in repositories of its own, asserts what
came back, and fails alone. Four people take part: `lab` owns, `guest` and `reader` hold tokens of their own, `nobody`
has none.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import huggingface_hub as hf
import pandas as pd
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

OWNER, GUEST = "lab", "guest"
CARD = "---\nlicense: cc-by-4.0\nlanguage: en\ntags: [personas, survey]\n---\n# A card\n"
FRAME = pd.DataFrame({"id": range(100), "text": [f"person {number}" for number in range(100)]})


@dataclass(frozen=True, kw_only=True)
class Bench:
    """The hub as each of the four sees it, and a folder for the files of one operation."""

    name: str
    folder: Path
    starter: Path
    lab: hf.HfApi
    guest: hf.HfApi
    reader: hf.HfApi
    nobody: hf.HfApi

    def repo(self, suffix: str = "", *, files: dict[str, Any] | None = None, **options: Any) -> str:
        """A new dataset repository of the lab, with these files in one commit."""
        repo = f"{OWNER}/{self.name}{suffix}"
        self.lab.create_repo(repo, repo_type="dataset", **options)
        if files:
            self.commit(repo, files)
        return repo

    def commit(self, repo: str, files: dict[str, Any], *, by: hf.HfApi | None = None, **options: Any) -> hf.CommitInfo:
        """Commit these files; None deletes one."""
        changes = [
            hf.CommitOperationDelete(path) if content is None else hf.CommitOperationAdd(path, as_bytes(content))
            for path, content in files.items()
        ]
        options = {"commit_message": "Change", "repo_type": "dataset", **options}
        return (by or self.lab).create_commit(repo, changes, **options)

    def text(self, repo: str, path: str, *, by: hf.HfApi | None = None, revision: str | None = None) -> str:
        """A file of a dataset repository, through the cache."""
        file = (by or self.lab).hf_hub_download(repo, path, repo_type="dataset", revision=revision)
        return Path(file).read_text(encoding="utf-8")

    def head(self, repo: str, revision: str | None = None) -> str:
        return str(self.lab.dataset_info(repo, revision=revision).sha)

    def run(self, *command: object, **environment: str) -> str:
        """Run a program of this Python's and return what it prints."""
        known = {**os.environ, **environment}
        done = subprocess.run([str(part) for part in command], env=known, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-800:]
        return done.stdout


def as_bytes(content: Any) -> bytes:
    if isinstance(content, pd.DataFrame):
        buffer = io.BytesIO()
        content.to_parquet(buffer)
        return buffer.getvalue()
    return content if isinstance(content, bytes) else str(content).encode()


Operation = Callable[[Bench], None]
OPERATIONS: dict[str, tuple[Operation, tuple[str, ...]]] = {}


def operation(*needs: str) -> Callable[[Operation], Operation]:
    """Register an operation that needs these optional packages."""

    def register(function: Operation) -> Operation:
        OPERATIONS[function.__name__] = (function, needs)
        return function

    return register


@contextmanager
def refused(status: int, kind: type[Exception] = HfHubHTTPError, *, saying: str = "") -> Iterator[None]:
    """The hub answers with this status, the client makes this error of it, and it holds these words."""
    try:
        yield
    except kind as error:
        found = getattr(getattr(error, "response", None), "status_code", status)
        assert found == status, f"{found} instead of {status}: {error}"
        assert saying in str(error), str(error)
    else:
        raise AssertionError(f"no {kind.__name__} with status {status}")


# People and repositories


@operation()
def whoami_names_the_account_and_its_role(bench: Bench) -> None:
    told = bench.lab.whoami()
    assert (told["name"], told["type"], told["auth"]["accessToken"]["role"]) == (OWNER, "user", "write")
    assert bench.reader.whoami()["auth"]["accessToken"]["role"] == "read"
    with refused(401):
        hf.HfApi(token="hf_nobodyknowsthistoken").whoami()


@operation()
def auth_check_tells_readers_from_writers(bench: Bench) -> None:
    repo = bench.repo()
    assert bench.guest.auth_check(repo, repo_type="dataset") is None
    assert bench.lab.auth_check(repo, repo_type="dataset", write=True) is None
    with refused(403):
        bench.guest.auth_check(repo, repo_type="dataset", write=True)


@operation()
def create_repo_twice_is_a_conflict_unless_allowed(bench: Bench) -> None:
    url = bench.lab.create_repo(f"{OWNER}/{bench.name}", repo_type="dataset")
    assert (url.repo_id, url.repo_type) == (f"{OWNER}/{bench.name}", "dataset")
    assert str(url) == f"{bench.lab.endpoint}/datasets/{OWNER}/{bench.name}"
    with refused(409):
        bench.lab.create_repo(url.repo_id, repo_type="dataset")
    again = bench.lab.create_repo(url.repo_id, repo_type="dataset", exist_ok=True)
    assert (again.repo_id, str(again)) == (url.repo_id, str(url))


@operation()
def models_datasets_and_spaces_of_one_name_are_three_repos(bench: Bench) -> None:
    repo = f"{OWNER}/{bench.name}"
    for kind in ("model", "dataset", "space"):
        bench.lab.create_repo(repo, repo_type=kind, space_sdk="gradio" if kind == "space" else None)
        bench.lab.upload_file(path_or_fileobj=kind.encode(), path_in_repo="kind", repo_id=repo, repo_type=kind)
    for kind in ("model", "dataset", "space"):
        assert Path(bench.lab.hf_hub_download(repo, "kind", repo_type=kind)).read_text() == kind


@operation()
def delete_repo_removes_it_for_everyone(bench: Bench) -> None:
    repo = bench.repo(files={"a": "1"})
    with refused(403):
        bench.guest.delete_repo(repo, repo_type="dataset")
    bench.lab.delete_repo(repo, repo_type="dataset")
    assert not bench.lab.repo_exists(repo, repo_type="dataset")
    with refused(404, RepositoryNotFoundError):
        bench.lab.delete_repo(repo, repo_type="dataset")
    bench.lab.delete_repo(repo, repo_type="dataset", missing_ok=True)


@operation()
def move_repo_takes_history_and_tags_along(bench: Bench) -> None:
    repo = bench.repo(files={"a": "1"})
    bench.lab.create_tag(repo, tag="v1", repo_type="dataset")
    head = bench.head(repo)
    bench.lab.move_repo(repo, f"{repo}-moved", repo_type="dataset")
    assert bench.head(f"{repo}-moved", "v1") == head
    assert bench.text(f"{repo}-moved", "a") == "1"


@operation()
def private_repos_do_not_exist_for_others(bench: Bench) -> None:
    repo = bench.repo(private=True, files={"a": "secret"})
    assert bench.lab.dataset_info(repo).private is True
    assert bench.text(repo, "a") == "secret"
    for stranger in (bench.guest, bench.nobody):
        assert not stranger.repo_exists(repo, repo_type="dataset")
        assert repo not in {found.id for found in stranger.list_datasets(author=OWNER)}
    with refused(404, RepositoryNotFoundError):
        bench.guest.hf_hub_download(repo, "a", repo_type="dataset", local_dir=bench.folder)
    with refused(401, RepositoryNotFoundError):
        bench.nobody.hf_hub_download(repo, "a", repo_type="dataset", local_dir=bench.folder)


@operation()
def visibility_is_a_setting(bench: Bench) -> None:
    repo = bench.repo(private=True)
    bench.lab.update_repo_settings(repo, repo_type="dataset", visibility="public")
    assert bench.nobody.dataset_info(repo).private is False
    bench.lab.update_repo_settings(repo, repo_type="dataset", visibility="private")
    assert not bench.nobody.repo_exists(repo, repo_type="dataset")


@operation()
def gated_repos_open_to_those_who_were_granted_access(bench: Bench) -> None:
    repo = bench.repo(files={"a": "1"})
    bench.lab.update_repo_settings(repo, repo_type="dataset", gated="manual")
    assert bench.guest.dataset_info(repo).gated == "manual"
    with refused(403, GatedRepoError):
        bench.text(repo, "a", by=bench.guest)
    bench.lab.grant_access(repo, GUEST, repo_type="dataset")
    assert bench.text(repo, "a", by=bench.guest) == "1"
    with refused(401, GatedRepoError):
        bench.nobody.hf_hub_download(repo, "a", repo_type="dataset", local_dir=bench.folder)


@operation()
def only_members_write_to_a_namespace(bench: Bench) -> None:
    repo = bench.repo()
    with refused(403):
        bench.guest.create_repo(f"{OWNER}/{bench.name}-by-guest")
    with refused(403):
        bench.reader.create_repo("reader/own")
    with refused(401):
        bench.nobody.create_repo(f"{OWNER}/{bench.name}-by-nobody")
    for stranger, status in ((bench.guest, 403), (bench.reader, 403), (bench.nobody, 401)):
        with refused(status):
            bench.commit(repo, {"a": "1"}, by=stranger)
    assert bench.lab.list_repo_files(repo, repo_type="dataset") == [".gitattributes"]


@operation()
def lists_search_by_author_name_and_tag(bench: Bench) -> None:
    one = bench.repo("-one", files={"README.md": CARD})
    two = bench.repo("-two")
    found = {info.id: info for info in bench.nobody.list_datasets(author=OWNER, search=bench.name, full=True)}
    assert set(found) == {one, two}
    assert {"personas", "survey", "license:cc-by-4.0", "language:en"} <= set(found[one].tags)
    assert [info.id for info in bench.lab.list_datasets(filter="survey", search=bench.name)] == [one]
    assert [info.id for info in bench.lab.list_datasets(author=GUEST, search=bench.name)] == []
    assert len(list(bench.lab.list_datasets(search=bench.name, limit=1))) == 1
    bench.lab.create_repo(f"{OWNER}/{bench.name}-model")
    assert [info.id for info in bench.lab.list_models(search=bench.name)] == [f"{OWNER}/{bench.name}-model"]


@operation()
def existence_checks_answer_yes_and_no(bench: Bench) -> None:
    repo = bench.repo(files={"a/b.txt": "1"})
    assert bench.lab.repo_exists(repo, repo_type="dataset")
    assert not bench.lab.repo_exists(repo, repo_type="model")
    assert bench.lab.file_exists(repo, "a/b.txt", repo_type="dataset")
    assert not bench.lab.file_exists(repo, "a/c.txt", repo_type="dataset")
    assert bench.lab.revision_exists(repo, "main", repo_type="dataset")
    assert not bench.lab.revision_exists(repo, "v9", repo_type="dataset")


@operation()
def missing_things_raise_the_error_of_their_kind(bench: Bench) -> None:
    repo = bench.repo(files={"a": "1"})
    with refused(404, RepositoryNotFoundError):
        bench.text(f"{repo}-none", "a")
    with refused(404, RevisionNotFoundError):
        bench.text(repo, "a", revision="v9")
    with refused(404, EntryNotFoundError):
        bench.text(repo, "b")
    with refused(404, EntryNotFoundError):
        list(bench.lab.list_repo_tree(repo, "no/such/folder", repo_type="dataset"))


# Files in and out


@operation()
def upload_file_comes_back_the_same(bench: Bench) -> None:
    repo = bench.repo()
    content = "Grüße, 世界\r\n\0 end".encode()
    done = bench.lab.upload_file(
        path_or_fileobj=content, path_in_repo="dir/ü b.txt", repo_id=repo, repo_type="dataset", commit_message="Hello"
    )
    assert done.oid == bench.head(repo)
    file = bench.nobody.hf_hub_download(repo, "dir/ü b.txt", repo_type="dataset")
    assert Path(file).read_bytes() == content


@operation()
def upload_folder_takes_and_leaves_by_pattern(bench: Bench) -> None:
    repo = bench.repo(files={"old/gone.txt": "1", "kept.bin": "2"})
    for path in ("a.txt", "deep/er/b.txt", "deep/c.log", "d.parquet"):
        (bench.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (bench.folder / path).write_text(path)
    bench.lab.upload_folder(
        repo_id=repo, folder_path=bench.folder, repo_type="dataset", ignore_patterns="*.log", delete_patterns="old/*"
    )
    expected = {".gitattributes", "a.txt", "deep/er/b.txt", "d.parquet", "kept.bin"}
    assert set(bench.lab.list_repo_files(repo, repo_type="dataset")) == expected


@operation()
def a_folder_of_many_files_arrives_whole(bench: Bench) -> None:
    for number in range(300):
        (bench.folder / f"part-{number:03}.bin").write_bytes(number.to_bytes(4, "big"))
    repo = bench.repo()
    bench.guest.upload_folder(repo_id=repo, folder_path=bench.folder, repo_type="dataset", create_pr=True)
    bench.lab.merge_pull_request(repo, 1, repo_type="dataset")
    folder = Path(bench.nobody.snapshot_download(repo, repo_type="dataset"))
    found = {file.name: int.from_bytes(file.read_bytes(), "big") for file in folder.glob("*.bin")}
    assert found == {f"part-{number:03}.bin": number for number in range(300)}


@operation()
def twenty_megabytes_come_back_the_same(bench: Bench) -> None:
    file = bench.folder / "index.faiss"
    file.write_bytes(os.urandom(20 * 2**20))
    repo = bench.repo()
    bench.lab.upload_file(path_or_fileobj=file, path_in_repo="index.faiss", repo_id=repo, repo_type="dataset")
    back = bench.nobody.hf_hub_download(repo, "index.faiss", repo_type="dataset")
    assert Path(back).read_bytes() == file.read_bytes()
    (stored,) = bench.lab.get_paths_info(repo, ["index.faiss"], repo_type="dataset")
    assert stored.size == stored.lfs.size == 20 * 2**20


@operation()
def the_same_content_again_is_no_commit(bench: Bench) -> None:
    repo = bench.repo(files={"a.txt": "1", "b.parquet": FRAME})
    head = bench.head(repo)
    assert bench.commit(repo, {"a.txt": "1", "b.parquet": FRAME}).oid == head
    assert bench.commit(repo, {"a.txt": "2", "b.parquet": FRAME}).oid != head


@operation()
def a_stale_parent_commit_is_refused(bench: Bench) -> None:
    repo = bench.repo()
    first = bench.head(repo)
    second = bench.commit(repo, {"a": "1"}, parent_commit=first).oid
    with refused(412, saying="A commit has happened since"):
        bench.commit(repo, {"b": "2"}, parent_commit=first)
    assert bench.head(repo) == second
    assert set(bench.lab.list_repo_files(repo, repo_type="dataset")) == {".gitattributes", "a"}


@operation()
def one_commit_adds_copies_and_deletes(bench: Bench) -> None:
    repo = bench.repo(files={"a.txt": "1", "b.parquet": FRAME, "dir/c.txt": "3", "dir/d.txt": "4"})
    changes = [
        hf.CommitOperationCopy("b.parquet", "copies/b.parquet"),
        hf.CommitOperationAdd("new.txt", b"5"),
        hf.CommitOperationDelete("a.txt"),
        hf.CommitOperationDelete("dir/"),
    ]
    bench.lab.create_commit(repo, changes, commit_message="All at once", repo_type="dataset")
    expected = {".gitattributes", "b.parquet", "copies/b.parquet", "new.txt"}
    assert set(bench.lab.list_repo_files(repo, repo_type="dataset")) == expected
    copy = bench.lab.hf_hub_download(repo, "copies/b.parquet", repo_type="dataset")
    assert pd.read_parquet(copy).equals(FRAME)


@operation()
def deleting_what_is_not_there_is_an_error(bench: Bench) -> None:
    repo = bench.repo(files={"a": "1"})
    bench.lab.delete_file("a", repo, repo_type="dataset")
    with refused(404, EntryNotFoundError):
        bench.lab.delete_file("a", repo, repo_type="dataset")


@operation()
def long_lists_come_in_pages(bench: Bench) -> None:
    repo = bench.repo(files={f"many/{number:03}.txt": "same" for number in range(300)})
    listed = list(bench.lab.list_repo_tree(repo, recursive=True, repo_type="dataset"))
    files = [entry.path for entry in listed if isinstance(entry, hf.hf_api.RepoFile)]
    assert files == [".gitattributes", *(f"many/{number:03}.txt" for number in range(300))]
    assert [entry.path for entry in bench.lab.list_repo_tree(repo, repo_type="dataset")] == [".gitattributes", "many"]


@operation()
def trees_and_paths_tell_size_hash_and_last_commit(bench: Bench) -> None:
    data = as_bytes(FRAME)
    repo = bench.repo(files={"dir/b.parquet": data})
    head = bench.commit(repo, {"a.txt": "hello\n"}, commit_message="Say hello").oid
    text, lfs = bench.lab.get_paths_info(repo, ["a.txt", "dir/b.parquet", "none"], expand=True, repo_type="dataset")
    assert (text.path, text.size, text.blob_id) == ("a.txt", 6, "ce013625030ba8dba906f756967f9e9ca394464a")
    assert (text.last_commit.oid, text.last_commit.title) == (head, "Say hello")
    assert (lfs.path, lfs.size, lfs.lfs.size, lfs.lfs.pointer_size) == ("dir/b.parquet", len(data), len(data), 129)
    (folder,) = bench.lab.get_paths_info(repo, "dir", repo_type="dataset")
    assert isinstance(folder, hf.hf_api.RepoFolder)
    (below,) = bench.lab.list_repo_tree(repo, "dir", repo_type="dataset")
    assert (below.path, below.blob_id) == ("dir/b.parquet", lfs.blob_id)


@operation()
def repo_info_holds_card_files_and_dates(bench: Bench) -> None:
    repo = bench.repo(files={"README.md": CARD, "b.parquet": FRAME})
    told = bench.nobody.dataset_info(repo, files_metadata=True)
    assert (told.id, told.author, told.sha, told.disabled) == (repo, OWNER, bench.head(repo), False)
    assert told.card_data.to_dict() == {"license": "cc-by-4.0", "language": "en", "tags": ["personas", "survey"]}
    sizes = {file.rfilename: (file.size, file.lfs and file.lfs.size) for file in told.siblings}
    assert sizes["README.md"] == (len(CARD), None)
    assert sizes["b.parquet"] == (len(as_bytes(FRAME)), len(as_bytes(FRAME)))
    assert told.created_at <= told.last_modified


@operation()
def file_metadata_names_commit_size_and_etag(bench: Bench) -> None:
    repo = bench.repo(files={"a.txt": "hello\n", "b.parquet": FRAME})
    for path, size in (("a.txt", 6), ("b.parquet", len(as_bytes(FRAME)))):
        url = hf.hf_hub_url(repo, path, repo_type="dataset")
        told = hf.get_hf_file_metadata(url)
        (stored,) = bench.lab.get_paths_info(repo, path, repo_type="dataset")
        assert (told.commit_hash, told.size) == (bench.head(repo), size)
        assert told.etag == (stored.lfs.sha256 if stored.lfs else stored.blob_id)


@operation()
def checksums_verify_and_damage_is_seen(bench: Bench) -> None:
    repo = bench.repo(files={"a.txt": "1", "b.parquet": FRAME})
    bench.lab.snapshot_download(repo, repo_type="dataset", local_dir=bench.folder)
    sound = bench.lab.verify_repo_checksums(repo, repo_type="dataset", local_dir=bench.folder)
    assert (sound.checked_count, sound.mismatches, sound.missing_paths) == (3, [], [])
    (bench.folder / "a.txt").write_text("2")
    damaged = bench.lab.verify_repo_checksums(repo, repo_type="dataset", local_dir=bench.folder)
    assert [mismatch["path"] for mismatch in damaged.mismatches] == ["a.txt"]


# Revisions


@operation()
def tags_stay_and_a_second_of_the_same_name_conflicts(bench: Bench) -> None:
    repo = bench.repo(files={"a": "1"})
    first = bench.head(repo)
    bench.lab.create_tag(repo, tag="v1.0.0", tag_message="First", repo_type="dataset")
    bench.commit(repo, {"a": "2"})
    with refused(409):
        bench.lab.create_tag(repo, tag="v1.0.0", repo_type="dataset")
    bench.lab.create_tag(repo, tag="v1.0.0", repo_type="dataset", exist_ok=True)
    assert bench.head(repo, "v1.0.0") == first
    assert (bench.text(repo, "a", revision="v1.0.0"), bench.text(repo, "a")) == ("1", "2")
    bench.lab.create_tag(repo, tag="older", revision=first, repo_type="dataset")
    bench.lab.delete_tag(repo, tag="v1.0.0", repo_type="dataset")
    assert [tag.name for tag in bench.lab.list_repo_refs(repo, repo_type="dataset").tags] == ["older"]
    with refused(404, RevisionNotFoundError):
        bench.lab.delete_tag(repo, tag="v1.0.0", repo_type="dataset")


@operation()
def branches_grow_apart(bench: Bench) -> None:
    repo = bench.repo(files={"a": "1"})
    bench.lab.create_branch(repo, branch="exp/one", repo_type="dataset")
    with refused(409):
        bench.lab.create_branch(repo, branch="exp/one", repo_type="dataset")
    bench.commit(repo, {"a": "2"}, revision="exp/one")
    assert (bench.text(repo, "a"), bench.text(repo, "a", revision="exp/one")) == ("1", "2")
    bench.lab.create_branch(repo, branch="two", revision="exp/one", repo_type="dataset")
    assert bench.head(repo, "two") == bench.head(repo, "exp/one")
    bench.lab.delete_branch(repo, branch="exp/one", repo_type="dataset")
    refs = bench.lab.list_repo_refs(repo, repo_type="dataset")
    assert {branch.name: branch.target_commit for branch in refs.branches} == {
        "main": bench.head(repo),
        "two": bench.head(repo, "two"),
    }
    with refused(403):
        bench.lab.delete_branch(repo, branch="main", repo_type="dataset")


@operation()
def commits_are_listed_newest_first_over_pages(bench: Bench) -> None:
    repo = bench.repo()
    made = [bench.commit(repo, {"a": str(n)}, commit_message=f"Commit {n}").oid for n in range(25)]
    listed = bench.lab.list_repo_commits(repo, repo_type="dataset")
    assert [commit.commit_id for commit in listed[:-1]] == made[::-1]
    assert (listed[0].title, listed[0].authors) == ("Commit 24", [OWNER])
    early = bench.lab.list_repo_commits(repo, revision=made[0], repo_type="dataset")
    assert [commit.commit_id for commit in early] == [made[0], listed[-1].commit_id]


@operation()
def super_squash_leaves_one_commit_and_all_files(bench: Bench) -> None:
    repo = bench.repo(files={"a": "1"})
    bench.commit(repo, {"b": "2"})
    bench.lab.super_squash_history(repo, repo_type="dataset", commit_message="Fresh start")
    (commit,) = bench.lab.list_repo_commits(repo, repo_type="dataset")
    assert commit.title == "Fresh start"
    assert set(bench.lab.list_repo_files(repo, repo_type="dataset")) == {".gitattributes", "a", "b"}


@operation()
def a_snapshot_at_a_tag_is_what_was_tagged(bench: Bench) -> None:
    repo = bench.repo(files={"a.txt": "1", "data/b.parquet": FRAME, "data/c.txt": "3"})
    bench.lab.create_tag(repo, tag="v1", repo_type="dataset")
    bench.commit(repo, {"a.txt": "2", "data/c.txt": None})
    folder = Path(bench.nobody.snapshot_download(repo, revision="v1", repo_type="dataset"))
    assert folder.name == bench.head(repo, "v1")
    found = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    assert found == {".gitattributes", "a.txt", "data/b.parquet", "data/c.txt"}
    assert (folder / "a.txt").read_text() == "1"
    part = Path(bench.lab.snapshot_download(repo, repo_type="dataset", allow_patterns="*.txt", local_dir=bench.folder))
    assert {str(file.relative_to(part)) for file in part.rglob("*.*t") if ".cache" not in file.parts} == {"a.txt"}


# Pull requests and discussions


@operation()
def a_guest_may_only_open_a_pull_request(bench: Bench) -> None:
    repo = bench.repo(files={"a": "1"})
    opened = bench.commit(repo, {"b": "2"}, by=bench.guest, create_pr=True, commit_message="Add b")
    assert (opened.pr_num, opened.pr_revision) == (1, "refs/pr/1")
    more = bench.commit(repo, {"c": "3"}, by=bench.guest, revision="refs/pr/1", commit_message="Add c")
    assert bench.head(repo, "refs/pr/1") == more.oid
    for attempt in (
        lambda: bench.commit(repo, {"d": "4"}, by=bench.guest),
        lambda: bench.guest.merge_pull_request(repo, 1, repo_type="dataset"),
    ):
        with refused(403):
            attempt()
    assert set(bench.lab.list_repo_files(repo, repo_type="dataset")) == {".gitattributes", "a"}


@operation()
def a_pull_request_is_talked_about_and_merged(bench: Bench) -> None:
    repo = bench.repo(files={"a": "1"})
    bench.commit(repo, {"b": "2"}, by=bench.guest, create_pr=True, commit_message="Add b")
    comment = bench.lab.comment_discussion(repo, 1, comment="Thank you", repo_type="dataset")
    assert (comment.content, comment.author) == ("Thank you", OWNER)
    told = bench.nobody.get_discussion_details(repo, 1, repo_type="dataset")
    assert (told.title, told.author, told.status, told.is_pull_request) == ("Add b", GUEST, "open", True)
    assert told.target_branch == "refs/heads/main"
    assert "Thank you" in [event.content for event in told.events if event.type == "comment"]
    bench.lab.merge_pull_request(repo, 1, repo_type="dataset")
    merged = bench.lab.get_discussion_details(repo, 1, repo_type="dataset")
    assert (merged.status, merged.merge_commit_oid) == ("merged", bench.head(repo))
    assert bench.text(repo, "b") == "2"


@operation()
def conflicting_pull_requests_do_not_merge(bench: Bench) -> None:
    repo = bench.repo(files={"a": "1"})
    bench.commit(repo, {"a": "theirs"}, by=bench.guest, create_pr=True)
    bench.commit(repo, {"a": "ours"})
    with refused(409):
        bench.lab.merge_pull_request(repo, 1, repo_type="dataset")
    assert bench.text(repo, "a") == "ours"
    closed = bench.lab.change_discussion_status(repo, 1, new_status="closed", repo_type="dataset")
    assert closed.new_status == "closed"
    assert bench.lab.get_discussion_details(repo, 1, repo_type="dataset").status == "closed"


@operation()
def discussions_and_drafts_are_listed(bench: Bench) -> None:
    repo = bench.repo()
    bench.guest.create_discussion(repo, "A question", description="Why?", repo_type="dataset")
    draft = bench.lab.create_pull_request(repo, "A draft", repo_type="dataset")
    assert (draft.num, draft.status, draft.git_reference) == (2, "draft", "refs/pr/2")
    bench.commit(repo, {"a": "1"}, revision="refs/pr/2")
    listed = list(bench.nobody.get_repo_discussions(repo, repo_type="dataset"))
    told = {(one.num, one.title, one.is_pull_request) for one in listed}
    assert told == {(1, "A question", False), (2, "A draft", True)}
    refs = bench.lab.list_repo_refs(repo, repo_type="dataset", include_pull_requests=True)
    assert [(ref.ref, ref.target_commit) for ref in refs.pull_requests] == [
        ("refs/pr/2", bench.head(repo, "refs/pr/2"))
    ]


# Cards


@operation()
def dataset_cards_are_pushed_and_loaded(bench: Bench) -> None:
    repo = bench.repo()
    hf.DatasetCard(CARD).push_to_hub(repo)
    loaded = hf.DatasetCard.load(repo)
    assert (loaded.data.license, loaded.data.tags, loaded.text.strip()) == (
        "cc-by-4.0",
        ["personas", "survey"],
        "# A card",
    )


@operation()
def card_metadata_is_updated_in_place(bench: Bench) -> None:
    repo = bench.repo(files={"README.md": CARD})
    hf.metadata_update(repo, {"pretty_name": "Persons"}, repo_type="dataset")
    told = bench.lab.dataset_info(repo).card_data
    assert (told.pretty_name, told.license) == ("Persons", "cc-by-4.0")


@operation()
def a_card_that_is_no_yaml_is_refused_before_the_upload(bench: Bench) -> None:
    repo = bench.repo()
    with refused(400, ValueError, saying="Invalid metadata in README.md"):
        bench.commit(repo, {"README.md": "---\ntags: [unclosed\n---\n"})
    assert bench.lab.list_repo_files(repo, repo_type="dataset") == [".gitattributes"]


# datasets, HfFileSystem and what reads through it


@operation()
def load_dataset_reads_the_tag_it_is_told(bench: Bench) -> None:
    import datasets

    configs = ["{config_name: a, data_files: a/*.parquet, default: true}", "{config_name: b, data_files: b/*.parquet}"]
    card = "\n".join(["---", "configs:", *(f"- {config}" for config in configs), "---", ""])
    repo = bench.repo(files={"README.md": card, "a/train-0.parquet": FRAME, "b/train-0.parquet": FRAME[:7]})
    bench.lab.create_tag(repo, tag="v1", repo_type="dataset")
    bench.commit(repo, {"a/train-0.parquet": FRAME[:5]})
    assert datasets.get_dataset_config_names(repo) == ["a", "b"]
    assert datasets.load_dataset(repo, revision="v1", split="train").to_pandas().equals(FRAME)
    assert datasets.load_dataset(repo, split="train").num_rows == 5
    assert datasets.load_dataset(repo, "b", split="train[:3]")["id"][:] == [0, 1, 2]
    stream = datasets.load_dataset(repo, "a", revision="v1", split="train", streaming=True)
    assert [row["text"] for row in stream.take(2)] == ["person 0", "person 1"]
    few = datasets.load_dataset(repo, "a", revision="v1", split="train", filters=[("id", ">=", 98)])
    assert few["id"][:] == [98, 99]


@operation()
def private_datasets_load_with_a_token_only(bench: Bench) -> None:
    import datasets

    repo = bench.repo(private=True, files={"train.jsonl": '{"a": 1}\n{"a": 2}\n'})
    assert datasets.load_dataset(repo, split="train")["a"][:] == [1, 2]
    with refused(401, datasets.exceptions.DatasetNotFoundError):
        datasets.load_dataset(repo, split="train", token=False, cache_dir=bench.folder)


@operation()
def push_to_hub_adds_configs_and_opens_pull_requests(bench: Bench) -> None:
    import datasets

    repo = f"{OWNER}/{bench.name}"
    data = datasets.Dataset.from_pandas(FRAME)
    data.push_to_hub(repo, "first")
    datasets.DatasetDict({"train": data.select(range(9)), "test": data.select(range(4))}).push_to_hub(repo, "second")
    assert datasets.get_dataset_config_names(repo) == ["first", "second"]
    assert datasets.load_dataset(repo, "first", split="train").to_pandas().equals(FRAME)
    assert datasets.load_dataset(repo, "second").num_rows == {"train": 9, "test": 4}
    asked = data.select(range(2)).push_to_hub(repo, "third", create_pr=True)
    assert asked.pr_num == 1
    assert datasets.load_dataset(repo, "third", revision="refs/pr/1", split="train").num_rows == 2
    assert datasets.get_dataset_config_names(repo) == ["first", "second"]


@operation()
def the_file_system_lists_globs_and_reads_ranges(bench: Bench) -> None:
    data = os.urandom(300_000)
    repo = bench.repo(files={"a.bin": data, "dir/b.txt": "0123456789", "dir/c.txt": "1"})
    bench.lab.create_tag(repo, tag="v1", repo_type="dataset")
    fs = hf.HfFileSystem()
    base = f"datasets/{repo}"
    assert sorted(fs.ls(base, detail=False)) == [f"{base}/{name}" for name in (".gitattributes", "a.bin", "dir")]
    assert sorted(fs.glob(f"{base}/**/*.txt")) == [f"{base}/dir/b.txt", f"{base}/dir/c.txt"]
    assert fs.info(f"{base}/a.bin")["size"] == 300_000
    assert fs.cat_file(f"{base}/dir/b.txt", start=2, end=5) == b"234"
    with fs.open(f"hf://{base}@v1/a.bin", block_size=2**16) as file:
        file.seek(200_000)
        assert file.read(1000) == data[200_000:201_000]
        file.seek(-10, 2)
        assert file.read() == data[-10:]
    assert fs.exists(f"{base}/dir") and not fs.exists(f"{base}/none")


@operation()
def the_file_system_writes_copies_and_removes(bench: Bench) -> None:
    repo = bench.repo()
    fs, base = hf.HfFileSystem(), f"datasets/{repo}"
    with fs.open(f"{base}/dir/a.txt", "w") as file:
        file.write("written")
    assert fs.read_text(f"{base}/dir/a.txt") == "written"
    fs.cp_file(f"{base}/dir/a.txt", f"{base}/b.txt")
    assert fs.read_text(f"{base}/b.txt") == "written"
    fs.rm(f"{base}/dir", recursive=True)
    assert bench.lab.list_repo_files(repo, repo_type="dataset") == [".gitattributes", "b.txt"]


@operation()
def pandas_reads_and_writes_hf_paths(bench: Bench) -> None:
    repo = bench.repo()
    FRAME.to_parquet(f"hf://datasets/{repo}/a.parquet")
    FRAME.to_csv(f"hf://datasets/{repo}/a.csv", index=False)
    assert pd.read_parquet(f"hf://datasets/{repo}/a.parquet").equals(FRAME)
    assert pd.read_csv(f"hf://datasets/{repo}/a.csv").equals(FRAME)


@operation()
def pyarrow_reads_a_dataset_through_the_file_system(bench: Bench) -> None:
    import pyarrow.dataset as ds

    repo = bench.repo(files={"p/0.parquet": FRAME[:60], "p/1.parquet": FRAME[60:]})
    table = ds.dataset(f"datasets/{repo}/p", filesystem=hf.HfFileSystem(), format="parquet")
    assert table.to_table(filter=ds.field("id") > 57).to_pydict()["id"] == list(range(58, 100))


@operation("duckdb")
def duckdb_queries_through_the_registered_file_system(bench: Bench) -> None:
    import duckdb

    repo = bench.repo(files={"p/0.parquet": FRAME[:60], "p/1.parquet": FRAME[60:]})
    with duckdb.connect() as database:
        database.register_filesystem(hf.HfFileSystem())
        query = f"select count(*), max(id) from 'hf://datasets/{repo}/p/*.parquet' where id >= 50"
        assert database.execute(query).fetchall() == [(50, 99)]


@operation("polars")
def polars_scans_hf_paths(bench: Bench) -> None:
    import polars

    repo = bench.repo(files={"a.parquet": FRAME})
    assert polars.scan_parquet(f"hf://datasets/{repo}/a.parquet").collect().height == 100


@operation("polars")
def polars_reads_files_that_the_file_system_opened(bench: Bench) -> None:
    import polars

    repo = bench.repo(files={"a.parquet": FRAME})
    with hf.HfFileSystem().open(f"datasets/{repo}/a.parquet") as file:
        assert polars.read_parquet(file)["id"].to_list() == list(range(100))


@operation("duckdb", "polars")
def the_starter_release_is_read_by_datasets_duckdb_polars_and_pandas(bench: Bench) -> None:
    import datasets
    import duckdb
    import polars

    repo = bench.repo()
    bench.lab.upload_folder(repo_id=repo, folder_path=bench.starter, repo_type="dataset")
    bench.lab.create_tag(repo, tag="v1.0.0", repo_type="dataset")
    rows = json.loads((bench.starter / "manifest.json").read_text(encoding="utf-8"))["rows"]
    configs = datasets.get_dataset_config_names(repo, revision="v1.0.0")
    assert configs[:2] == ["personas", "annotations"] and len(configs) > 2
    for config in configs:
        loaded = datasets.load_dataset(repo, config, revision="v1.0.0", split="train")
        stream = datasets.load_dataset(repo, config, revision="v1.0.0", split="train", streaming=True)
        assert next(iter(stream)) == loaded[0]
    people = datasets.load_dataset(repo, revision="v1.0.0", split="train")
    ids = people["persona_id"][:]
    assert len(ids) == len(set(ids)) == rows["personas"]
    folder = bench.lab.snapshot_download(repo, revision="v1.0.0", repo_type="dataset")
    files = f"{folder}/personas/*.parquet"
    with duckdb.connect() as database:
        assert [row[0] for row in database.execute(f"select persona_id from '{files}'").fetchall()] == ids
        embedded = f"select distinct array_length(vector) from '{folder}/embeddings/*/*.parquet'"
        assert database.execute(embedded).fetchall() == [(384,)]
    assert polars.read_parquet(files)["persona_id"].to_list() == ids
    assert pd.read_parquet(f"{folder}/personas")["persona_id"].to_list() == ids


# Leaderboard


@operation()
def results_in_model_repos_fill_the_leaderboard_of_a_dataset(bench: Bench) -> None:
    import yaml
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    task = {"name": "Survey", "evaluation_framework": "inspect-ai", "tasks": [{"id": "wd"}]}
    benchmark = bench.repo(files={"eval.yaml": yaml.safe_dump(task)})
    for model, value in (("-low", 0.25), ("-high", 0.75)):
        entries = [EvalResultEntry(dataset_id=benchmark, task_id="wd", value=value, notes="by test")]
        written = yaml.safe_dump(eval_result_entries_to_yaml(entries)).encode()
        bench.lab.create_repo(f"{OWNER}/{bench.name}{model}")
        bench.lab.upload_file(
            path_or_fileobj=written, path_in_repo=".eval_results/survey.yaml", repo_id=f"{OWNER}/{bench.name}{model}"
        )
    rows = bench.nobody.get_dataset_leaderboard(benchmark)
    assert [(row.rank, row.model_id, row.value) for row in rows] == [
        (1, f"{OWNER}/{bench.name}-high", 0.75),
        (2, f"{OWNER}/{bench.name}-low", 0.25),
    ]
    assert (rows[0].filename, rows[0].verified, rows[0].notes) == (".eval_results/survey.yaml", False, "by test")


# Programs and background work


@operation()
def the_command_line_creates_uploads_tags_and_downloads(bench: Bench) -> None:
    hf_command, repo = Path(sys.executable).parent / "hf", f"{OWNER}/{bench.name}"
    source, target = bench.folder / "source", bench.folder / "target"
    source.mkdir()
    (source / "a.txt").write_text("by command")
    kind = ("--repo-type", "dataset")
    bench.run(hf_command, "repos", "create", repo, *kind, "--private")
    bench.run(hf_command, "upload", repo, source, ".", *kind, "--commit-message", "From the shell")
    bench.run(hf_command, "repos", "tag", "create", repo, "v1", *kind)
    bench.run(hf_command, "download", repo, *kind, "--revision", "v1", "--local-dir", target)
    assert (target / "a.txt").read_text() == "by command"
    assert OWNER in bench.run(hf_command, "auth", "whoami")


@operation()
def what_was_downloaded_is_there_offline(bench: Bench) -> None:
    repo = bench.repo(files={"a.txt": "kept"})
    bench.lab.create_tag(repo, tag="v1", repo_type="dataset")
    folder = bench.lab.snapshot_download(repo, revision="v1", repo_type="dataset")
    code = f"import huggingface_hub as h; print(h.snapshot_download({repo!r}, revision='v1', repo_type='dataset'))"
    assert bench.run(sys.executable, "-c", code, HF_HUB_OFFLINE="1").strip() == folder


@operation()
def the_commit_scheduler_uploads_a_folder_by_itself(bench: Bench) -> None:
    (bench.folder / "log.jsonl").write_text('{"a": 1}\n')
    repo = f"{OWNER}/{bench.name}"
    scheduler = hf.CommitScheduler(repo_id=repo, repo_type="dataset", folder_path=bench.folder, every=60)
    scheduler.trigger().result()
    scheduler.stop()
    assert bench.text(repo, "log.jsonl") == '{"a": 1}\n'


# Model libraries


@operation("transformers", "torch")
def transformers_models_and_tokenizers_come_back(bench: Bench) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    repo = f"{OWNER}/{bench.name}"
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=32, **size))
    model.push_to_hub(repo)
    word_tokenizer().push_to_hub(repo)
    back = AutoModelForCausalLM.from_pretrained(repo, revision=bench.lab.model_info(repo).sha)
    assert torch.equal(back.lm_head.weight, model.lm_head.weight)
    assert AutoTokenizer.from_pretrained(repo)("the farm")["input_ids"] == [1, 2]
    told = hf.get_safetensors_metadata(repo)
    assert sum(told.parameter_count.values()) == sum(weight.numel() for weight in model.state_dict().values())


@operation("sentence_transformers", "torch")
def sentence_transformers_come_back(bench: Bench) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertConfig, BertModel

    repo, local = f"{OWNER}/{bench.name}", bench.folder / "bert"
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    BertModel(BertConfig(vocab_size=32, **size)).save_pretrained(local)
    word_tokenizer().save_pretrained(local)
    parts = Transformer(str(local))
    model = SentenceTransformer(modules=[parts, Pooling(16)], device="cpu")
    model.push_to_hub(repo)
    back = SentenceTransformer(repo, revision=bench.lab.model_info(repo).sha, device="cpu")
    assert (back.encode(["the farm"]) == model.encode(["the farm"])).all()


def word_tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"[UNK]": 0, "the": 1, "farm": 2, "[PAD]": 3}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]", pad_token="[PAD]")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="an empty folder")
    parser.add_argument("--starter", type=Path, required=True, help="folder of the starter release")
    parser.add_argument("--only", nargs="*", default=list(OPERATIONS))
    options = parser.parse_args()
    for name in options.only:
        began = time.monotonic()
        outcome = attempt(name, work=options.work, starter=options.starter)
        line = json.dumps({"operation": name, "seconds": round(time.monotonic() - began, 2), **outcome})
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


def attempt(name: str, *, work: Path, starter: Path) -> dict[str, str]:
    function, needs = OPERATIONS[name]
    if missing := [package for package in needs if not find_spec(package)]:
        return {"outcome": "left out", "detail": f"{', '.join(missing)} not installed"}
    tokens = {who: os.environ[f"HUB_{who.upper()}_TOKEN"] for who in ("lab", "guest", "reader")}
    people = {who: hf.HfApi(token=token) for who, token in tokens.items()}
    folder = work / name
    folder.mkdir()
    bench = Bench(name=name[:60].rstrip("_"), folder=folder, starter=starter, nobody=hf.HfApi(token=False), **people)
    try:
        function(bench)
    except Exception as error:  # the outcome is the report
        place = traceback.extract_tb(error.__traceback__)
        line = next((frame.line for frame in reversed(place) if frame.filename == __file__), "")
        return {"outcome": "failed", "detail": f"{type(error).__name__}: {error}"[:1500], "line": line or ""}
    return {"outcome": "worked", "detail": ""}


if __name__ == "__main__":
    main()
