"""A folder stands in for a repository: pulled as it is, added to all or nothing, never overwritten.

The repository is one of a private hub that really serves, asked by the official client.
"""

import os
import re
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from huggingface_hub import HfApi

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
    made = hub.add_files(tmp_path / "new", files, message="add")
    assert made == hub.Commit(url=str(tmp_path / "new"), revision="folder")
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


# -- a repository, on a real hub with the official client


@pytest.fixture
def api(lab) -> HfApi:
    return HfApi(endpoint=lab.url, token=os.environ["HF_TOKEN"])


@pytest.fixture
def repo(api, request) -> str:
    """The name of a repository of this test's own, which is not there yet."""
    return "lab/" + re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[-60:].strip("-")


def stored(api, repo, revision="main"):
    names = api.list_repo_files(repo, repo_type="dataset", revision=revision)
    return {
        name: Path(api.hf_hub_download(repo, name, repo_type="dataset", revision=revision)).read_bytes()
        for name in names
        if name != ".gitattributes"
    }


def titles(api, repo):
    return [commit.title for commit in api.list_repo_commits(repo, repo_type="dataset")]


FILES = {"runs/a.json": b"{}", "answers/a.parquet": b"PAR1"}


def test_a_repository_is_pulled_at_the_commit_that_its_revision_is(api, repo):
    first = hub.add_files(f"hf://{repo}", FILES, message="one")
    api.create_tag(repo, tag="v1", repo_type="dataset")
    second = hub.add_files(f"hf://{repo}", {"runs/b.json": b"[]"}, message="two")
    old, new = hub.pull(repo, revision="v1", patterns=["runs/**"]), hub.pull(f"hf://{repo}")
    assert (old.revision, new.revision) == (first.revision, second.revision)
    assert contents(old.folder) == {"runs/a.json": b"{}"}
    assert {"runs/b.json", *FILES} <= set(contents(new.folder))
    assert old.source == f"hf://{repo}@{first.revision}"


def test_a_revision_or_repository_that_does_not_exist_is_told(api, repo):
    with pytest.raises(
        DataError, match=f"the dataset '{repo}' cannot be had from the hub: (?s:.*)Repository Not Found"
    ):
        hub.pull(repo)
    hub.add_files(f"hf://{repo}", FILES, message="one")
    with pytest.raises(DataError, match="at revision 'v9' cannot be had from the hub: (?s:.*)Revision Not Found"):
        hub.pull(repo, revision="v9")


def test_only_new_files_are_committed_in_one_commit_and_the_same_again_is_none(api, repo):
    made = hub.add_files(f"hf://{repo}", FILES, message="one")
    assert api.dataset_info(repo).private
    assert made.url.endswith(f"/datasets/{repo}/commit/{made.revision}")
    assert hub.add_files(f"hf://{repo}", FILES, message="again").revision == made.revision
    hub.add_files(f"hf://{repo}", {**FILES, "runs/b.json": b"[]"}, message="two")
    assert stored(api, repo) == {**FILES, "runs/b.json": b"[]"}
    assert titles(api, repo) == ["two", "one", "initial commit"]


@pytest.mark.parametrize("path", list(FILES))
def test_a_file_of_a_repository_is_never_changed(api, repo, path):
    hub.add_files(f"hf://{repo}", FILES, message="one")
    with pytest.raises(DataError, match=f"{repo}/{path} exists with other content: published files are never changed"):
        hub.add_files(f"hf://{repo}", {path: b"other", "new": b"1"}, message="two")
    assert stored(api, repo) == FILES


def test_a_card_that_the_hub_does_not_take_is_told_with_the_hubs_reason(api, repo):
    with pytest.raises(DataError, match=f"{repo} does not take these files: (?s:.*)metadata in README(?s:.*)again"):
        hub.add_files(f"hf://{repo}", {"README.md": b"---\nlicense: [mit\n---\n"}, message="one")
    assert stored(api, repo) == {}


@pytest.mark.parametrize("endpoint", ["nonsense", "http://["])
def test_an_address_that_is_none_is_told_and_not_tried_again(monkeypatch, endpoint, caplog):
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    monkeypatch.setenv("HF_TOKEN", "hf_any")
    with pytest.raises(DataError, match="hf://lab/results cannot be written: "):
        hub.add_files("hf://lab/results", FILES, message="one", pull_request=False)
    assert not [record for record in caplog.records if "trying again" in record.message]


def test_a_cache_that_cannot_be_written_keeps_nobody_from_loading(api, repo, tmp_path, monkeypatch):
    made = hub.add_files(f"hf://{repo}", FILES, message="one")
    api.create_tag(repo, tag="v1.0.0", repo_type="dataset")
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("ANTHOLOGY_HUB_CACHE", str(tmp_path / "file"))
    assert hub.locate(repo, revision="v1.0.0").revision == made.revision


def test_a_path_without_the_scheme_is_a_folder_even_if_it_looks_like_a_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert hub.add_files("out/results", {"runs/a.json": b"{}"}, message="add").url == "out/results"
    assert contents(tmp_path) == {"out/results/runs/a.json": b"{}"}


def test_a_repository_name_that_is_none_is_refused():
    with pytest.raises(DataError, match="hf://a/b/c is neither a folder nor a repository name like 'namespace/name'"):
        hub.add_files("hf://a/b/c", {"a": b"1"}, message="add")


@pytest.mark.parametrize("status", [409, 412, 429, 500, 502, 503])
@pytest.mark.parametrize("lost", [False, True], ids=["refused", "answer-lost"])
def test_what_may_pass_is_tried_again_and_never_done_twice(lab, api, repo, status, lost):
    hub.add_files(f"hf://{repo}", {"runs/0.json": b"0"}, message="zero")
    lab.faults.add("POST", f"{repo}/commit/main", status, times=2 if not lost else 1, after=lost)
    hub.add_files(f"hf://{repo}", FILES, message="one")
    assert stored(api, repo) == {**FILES, "runs/0.json": b"0"}
    assert titles(api, repo) == ["one", "zero", "initial commit"]


def test_what_will_not_pass_is_told_at_once(lab, api, repo):
    lab.faults.add("POST", f"{repo}/commit/main", 400, message="no good")
    with pytest.raises(DataError, match="cannot be written: (?s:.*)no good"):
        hub.add_files(f"hf://{repo}", FILES, message="one")


def test_a_hub_that_is_not_there_is_told_soon(repo, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    waits = []
    monkeypatch.setattr(hub.time, "sleep", waits.append)
    with pytest.raises(DataError, match=f"hf://{repo} cannot be written: .*refused. Check the name"):
        hub.add_files(f"hf://{repo}", FILES, message="one")
    assert len(waits) == hub.UNREACHED - 1 and sum(waits) < 1


def test_sixteen_writers_at_once_lose_nothing(lab, api, repo):
    hub.add_files(f"hf://{repo}", {"runs/first.json": b"{}"}, message="first")
    lab.faults.add("POST", f"{repo}/commit/main", 409, times=3)
    lab.faults.add("POST", f"{repo}/commit/main", 503, times=2, after=True)
    with ThreadPoolExecutor(16) as pool:
        wanted = {f"runs/{n}.json": str(n).encode() for n in range(16)}
        done = list(pool.map(lambda f: hub.add_files(f"hf://{repo}", dict([f]), message=f[0]), wanted.items()))
    assert stored(api, repo) == {**wanted, "runs/first.json": b"{}"}
    assert sorted(titles(api, repo)) == sorted(["initial commit", "first", *wanted])
    for path, one in zip(wanted, done, strict=True):
        assert api.get_paths_info(repo, [path], revision=one.revision, repo_type="dataset")


# -- rights


def as_account(lab, monkeypatch, name, role="write"):
    monkeypatch.setenv("HF_TOKEN", lab.store.accounts.add_token(name, role))


def test_without_a_token_or_with_one_that_may_only_read_nothing_is_begun(lab, repo, monkeypatch):
    as_account(lab, monkeypatch, "lab", "read")
    with pytest.raises(DataError, match="this token may only read: take one with the role 'write'"):
        hub.add_files(f"hf://{repo}", FILES, message="one", pull_request=False)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(DataError, match="the hub does not know this token: make a new one"):
        hub.add_files(f"hf://{repo}", FILES, message="one", pull_request=False)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(DataError, match="needs a token: `hf auth login`, or set HF_TOKEN"):
        hub.add_files(f"hf://{repo}", FILES, message="one", pull_request=False)


def test_a_stranger_opens_one_pull_request_and_adds_to_it(lab, api, repo, monkeypatch):
    hub.add_files(f"hf://{repo}", {"runs/0.json": b"0"}, message="zero")
    api.update_repo_settings(repo, repo_type="dataset", visibility="public")
    as_account(lab, monkeypatch, "stranger")
    first = hub.add_files(f"hf://{repo}", FILES, message="mine")
    second = hub.add_files(f"hf://{repo}", {"runs/more.json": b"1"}, message="more")
    assert hub.add_files(f"hf://{repo}", FILES, message="again").revision == second.revision
    assert first.pull_request == second.pull_request == 1
    assert stored(api, repo) == {"runs/0.json": b"0"}
    assert stored(api, repo, "refs/pr/1") == {**FILES, "runs/0.json": b"0", "runs/more.json": b"1"}
    with pytest.raises(DataError, match="this token may not write"):
        hub.add_files(f"hf://{repo}", FILES, message="mine", pull_request=False)
    api.merge_pull_request(repo, 1, repo_type="dataset")
    assert len(stored(api, repo)) == 4
    assert hub.add_files(f"hf://{repo}", FILES, message="after").pull_request is None


def test_an_owner_may_ask_for_a_pull_request(api, repo):
    hub.add_files(f"hf://{repo}", {"runs/0.json": b"0"}, message="zero")
    asked = hub.add_files(f"hf://{repo}", FILES, message="mine", pull_request=True)
    assert asked.pull_request == 1 and asked.url.endswith("/discussions/1")
    assert stored(api, repo) == {"runs/0.json": b"0"}


def test_a_pull_request_never_changes_a_file_and_brings_only_new_ones(api, repo):
    hub.add_files(f"hf://{repo}", FILES, message="one")
    with pytest.raises(DataError, match=f"{repo}/runs/a.json exists with other content: published files are never"):
        hub.add_files(f"hf://{repo}", {"runs/a.json": b"[]", "new": b"1"}, message="two", pull_request=True)
    assert not list(api.get_repo_discussions(repo, repo_type="dataset"))
    hub.add_files(f"hf://{repo}", {**FILES, "new": b"1"}, message="two", pull_request=True)
    assert stored(api, repo, "refs/pr/1") == {**FILES, "new": b"1"}
    there = hub.add_files(f"hf://{repo}-2", FILES, message="one")
    assert hub.add_files(f"hf://{repo}-2", FILES, message="two", pull_request=True).revision == there.revision


def test_a_pull_request_whose_answer_was_lost_is_found_again(lab, api, repo):
    hub.add_files(f"hf://{repo}", {"runs/0.json": b"0"}, message="zero")
    lab.faults.add("POST", f"{repo}/commit/main", 503, after=True)
    assert hub.add_files(f"hf://{repo}", FILES, message="mine", pull_request=True).pull_request == 1
    assert len(list(api.get_repo_discussions(repo, repo_type="dataset"))) == 1


# -- compare and swap


def counted(folder):
    runs = sorted(path.name for path in (folder / "runs").glob("*.json"))
    return {"table.txt": "\n".join(runs).encode(), "old.txt": None}


def test_a_change_is_computed_anew_when_somebody_else_was_faster(api, repo):
    target = f"hf://{repo}"
    hub.add_files(target, {"runs/0.json": b"0", "old.txt": b"x"}, message="zero")
    seen = []

    def change(folder):
        if not seen:
            hub.add_files(target, {"runs/1.json": b"1"}, message="in between")
        seen.append(counted(folder))
        return seen[-1]

    hub.change_files(target, change, message="table", patterns=["runs/**"])
    assert [one["table.txt"] for one in seen] == [b"0.json", b"0.json\n1.json"]
    assert stored(api, repo) == {"runs/0.json": b"0", "runs/1.json": b"1", "table.txt": b"0.json\n1.json"}
    assert titles(api, repo)[:2] == ["table", "in between"]
    hub.change_files(target, counted, message="again")
    assert titles(api, repo)[:2] == ["table", "in between"]


def test_a_folder_is_changed_in_the_same_way(tmp_path):
    hub.add_files(tmp_path, {"runs/0.json": b"0", "old.txt": b"x"}, message="zero")
    hub.change_files(tmp_path, counted, message="table")
    assert contents(tmp_path) == {"runs/0.json": b"0", "table.txt": b"0.json"}
