"""A collection becomes a release of a repository: whole, checked, once, and it is what comes back.

On a private hub that really serves, with the official client.
"""

import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import HfApi, hf_hub_download

from anthology_hub import Anthology, Codebook, hub
from anthology_hub.errors import AnthologyError, DataError, IntegrityError, OptionError


@pytest.fixture(scope="module")
def few(starter):
    return starter.sample(12, seed=1)


@pytest.fixture
def api(lab):
    return HfApi(endpoint=lab.url, token=os.environ["HF_TOKEN"])


@pytest.fixture
def repo(api, request):
    """The name of a repository of this test's own, which is not there yet."""
    return "lab/" + re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[-60:].strip("-")


def tags(api, repo):
    return {tag.name: tag.target_commit for tag in api.list_repo_refs(repo, repo_type="dataset").tags}


def titles(api, repo):
    return [commit.title for commit in api.list_repo_commits(repo, repo_type="dataset")]


@pytest.fixture
def asked(lab, caplog):
    """A function that counts the requests that a call makes."""
    caplog.set_level("INFO", logger="anthology_hub.labhub")

    def count(call):
        caplog.clear()
        call()
        told, seen = -1, 0
        while told != seen:
            # The server writes its line after the answer: on a busy machine it may come late.
            time.sleep(0.2)
            told, seen = seen, sum(record.name == "anthology_hub.labhub" for record in caplog.records)
        return seen

    return count


# -- there and back


def test_a_release_comes_back_as_it_was_at_the_commit_of_its_tag(few, api, repo):
    made = few.push(repo, release="v1.0.0")
    loaded = Anthology.load(repo, revision="v1.0.0")
    assert tags(api, repo) == {"v1.0.0": made.revision}
    assert loaded.origin == f"hf://{repo}@{made.revision}"
    assert loaded.ids == few.ids
    assert [persona.backstory for persona in loaded] == [persona.backstory for persona in few]
    np.testing.assert_array_equal(loaded.distribution("age"), few.distribution("age"))
    assert loaded.identity.startswith("anthology-starter@1.0.0#")
    assert api.dataset_info(repo).private
    assert titles(api, repo) == ["Release v1.0.0: 12 personas", "initial commit"]


def test_a_search_on_the_hub_finds_what_a_search_on_the_disk_finds(few, repo, encoder):
    few.push(repo, release="v1.0.0")
    there = Anthology.load(repo, revision="v1.0.0").search("church and family", k=3, encoder=encoder)
    here = few.search("church and family", k=3, encoder=encoder)
    assert there.ids == here.ids
    np.testing.assert_allclose(there.scores, here.scores, atol=1e-6)


def test_only_what_is_needed_is_fetched_and_nothing_twice(few, repo, asked, encoder):
    few.push(repo, release="v1.0.0")
    people = Anthology.load(repo, revision="v1.0.0")
    folder = Path(people._store.personas._paths()[0]).parents[1]
    kinds = {path.relative_to(folder).parts[0] for path in folder.rglob("*") if path.is_file()}
    assert kinds == {"manifest.json", "codebook.json", "personas"}
    assert asked(lambda: people.search("farm", k=1, encoder=encoder)) > 0
    assert asked(lambda: Anthology.load(repo, revision="v1.0.0").search("farm", k=1, encoder=encoder)) == 0
    assert asked(lambda: Anthology.load(repo, revision=people.origin.rpartition("@")[2])) == 0
    assert asked(lambda: Anthology.load(repo)) == 1


def test_the_same_release_again_is_a_no_op(few, api, repo):
    first = few.push(repo, release="v1.0.0")
    assert few.push(repo, release="v1.0.0") == first
    assert few.push(repo, release="1.0.0") == first
    assert len(titles(api, repo)) == 2


def test_a_release_never_changes(few, starter, api, repo):
    few.push(repo, release="v1.0.0")
    before = tags(api, repo)
    with pytest.raises(DataError) as caught:
        starter.sample(5).push(repo, release="v1.0.0")
    assert str(caught.value) == (
        f"{repo} has a release v1.0.0 with other content, and a release never changes: choose a version above v1.0.0"
    )
    assert tags(api, repo) == before and len(titles(api, repo)) == 2


def test_what_changed_decides_how_far_the_version_must_rise(few, starter, api, repo):
    few.push(repo, release="v5.0.0")
    more = starter.where(region="South")
    both = starter._view(np.unique(np.concatenate([few._rows, more._rows])), None)
    with pytest.raises(
        OptionError, match=r"release 5.0.1 is a patch release .* personas added demands a minor release"
    ):
        both.push(repo, release="v5.0.1")
    both.push(repo, release="v5.1.0")
    with pytest.raises(OptionError, match=r"personas removed demands a major release: give 6.0.0 or higher"):
        few.push(repo, release="v5.2.0")
    few.push(repo, release="v6.0.0")
    with pytest.raises(OptionError, match=f"{repo} has v6.0.0 already: a release below it cannot be added"):
        both.push(repo, release="v5.5.0")
    assert list(tags(api, repo)) == ["v5.0.0", "v5.1.0", "v6.0.0"]
    assert len(Anthology.load(repo, revision="v5.1.0")) == len(both)
    changelog = Path(hf_hub_download(repo, "CHANGELOG.md", repo_type="dataset", endpoint=api.endpoint, token=api.token))
    headings = [line for line in changelog.read_text().splitlines() if line.startswith("## ")]
    assert headings[:2] == ["## 6.0.0", "## 5.1.0"]
    assert f"- {len(both) - 12} personas added" in changelog.read_text()


def test_files_of_the_release_before_go_and_files_of_others_stay(few, api, repo, encoder):
    few.push(repo, release="v1.0.0")
    api.upload_file(path_or_fileobj=b"mine", path_in_repo="NOTES.txt", repo_id=repo, repo_type="dataset")
    bare = Anthology.from_records(
        [{"backstory": persona.backstory, "traits": {}} for persona in few], few.codebook, name="people", licence="MIT"
    )
    bare.push(repo, release="v2.0.0")
    names = set(api.list_repo_files(repo, repo_type="dataset"))
    assert "NOTES.txt" in names and "manifest.json" in names
    assert not [name for name in names if name.startswith(("embeddings/", "index/"))]
    assert [name for name in api.list_repo_files(repo, repo_type="dataset", revision="v1.0.0") if "embeddings" in name]


def test_a_repository_that_holds_something_else_is_left_as_it_is(few, api, repo):
    api.create_repo(repo, repo_type="dataset", private=True)
    api.upload_file(
        path_or_fileobj=b"---\nlicense: mit\n---\n# My thesis",
        path_in_repo="README.md",
        repo_id=repo,
        repo_type="dataset",
    )
    with pytest.raises(DataError) as caught:
        few.push(repo, release="v1.0.0")
    said = "holds what is no release, and README.md would be lost: choose another repository, or delete it there first"
    assert str(caught.value) == f"{repo} {said}"
    assert tags(api, repo) == {} and len(titles(api, repo)) == 2


# -- what can go wrong on the way


@pytest.mark.parametrize("status", [409, 412, 429, 502, 503])
@pytest.mark.parametrize("lost", [False, True], ids=["refused", "answer-lost"])
@pytest.mark.parametrize("path", ["commit/main", "tag/"])
def test_a_release_is_published_once_whatever_the_hub_answers(few, lab, api, repo, status, lost, path):
    lab.faults.add("POST", f"{repo}/{path}", status, after=lost)
    made = few.push(repo, release="v1.0.0")
    assert tags(api, repo) == {"v1.0.0": made.revision}
    assert titles(api, repo) == ["Release v1.0.0: 12 personas", "initial commit"]


def test_a_lost_answer_is_found_below_a_later_commit(few, lab, api, repo):
    first = few.push(repo, release="v1.0.0")
    api.delete_tag(repo, tag="v1.0.0", repo_type="dataset")
    api.upload_file(path_or_fileobj=b"mine", path_in_repo="NOTES.txt", repo_id=repo, repo_type="dataset")
    api.upload_file(path_or_fileobj=b"{}", path_in_repo="manifest.json", repo_id=repo, repo_type="dataset")
    assert few.push(repo, release="v1.0.0").revision == first.revision
    assert len(titles(api, repo)) == 4


def test_nothing_is_under_a_tag_when_the_tag_cannot_be_set_and_the_next_try_sets_it(few, lab, api, repo):
    lab.faults.add("POST", f"{repo}/tag/", 400, message="no tags today")
    with pytest.raises(DataError, match="(?s:.*)no tags today"):
        few.push(repo, release="v1.0.0")
    assert tags(api, repo) == {}
    few.push(repo, release="v1.0.0")
    assert list(tags(api, repo)) == ["v1.0.0"] and len(titles(api, repo)) == 2


def test_two_writers_of_one_release_cannot_both_have_it_and_nothing_is_lost(few, starter, api, repo):
    others = starter.sample(12, seed=2)
    outcomes = {}

    def push(name, people, release):
        try:
            outcomes[name] = people.push(repo, release=release).revision
        except AnthologyError as error:
            outcomes[name] = error

    few.push(repo, release="v1.0.0")
    union = {name: starter._view(np.unique(np.concatenate([few._rows, extra])), None)
             for name, extra in (("a", others._rows[:6]), ("b", others._rows[6:]))}  # fmt: skip
    threads = [threading.Thread(target=push, args=(name, union[name], "v1.1.0")) for name in union]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    won = [name for name, outcome in outcomes.items() if isinstance(outcome, str)]
    assert len(won) == 1
    (lost,) = set(outcomes) - set(won)
    assert isinstance(outcomes[lost], DataError) and "has a release v1.1.0 with other content" in str(outcomes[lost])
    assert Anthology.load(repo, revision="v1.1.0").ids == union[won[0]].ids
    # The other one lacks the winner's personas: to publish over them needs a major release, said so.
    with pytest.raises(OptionError, match="removed demands a major release"):
        union[lost].push(repo, release="v1.2.0")


def test_a_release_made_while_another_is_built_is_seen_before_the_other_is_published(few, api, repo, tmp_path):
    few.push(repo, release="v1.0.0")
    seen = []

    def build(tags):
        seen.append(list(tags))
        if len(seen) == 1:
            few.push(repo, release="v1.1.0")
        few.save(tmp_path / "people", release="1.2.0", changelog=f"# After {', '.join(tags)}\n")
        return tmp_path / "people"

    hub.publish(repo, build, tag="v1.2.0", manifest="manifest.json", message="Release v1.2.0", public=False)
    assert seen == [["v1.0.0"], ["v1.0.0", "v1.1.0"]]
    assert Anthology.load(repo, revision="v1.2.0")._store.changelog() == "# After v1.0.0, v1.1.0\n"
    assert titles(api, repo)[:2] == ["Release v1.2.0", "Release v1.1.0: 12 personas"]


def test_a_release_whose_tag_is_yet_to_come_is_followed_like_one_with_a_tag(few, starter, lab, api, repo):
    few.push(repo, release="v1.0.0")
    both = starter._view(np.unique(np.concatenate([few._rows, starter.sample(12, seed=2)._rows])), None)
    lab.faults.add("POST", f"{repo}/tag/", 400, message="no tags today")
    with pytest.raises(DataError, match="(?s:.*)no tags today"):
        both.push(repo, release="v1.1.0")
    with pytest.raises(OptionError, match="personas removed demands a major release: give 2.0.0 or higher"):
        few.push(repo, release="v1.2.0")
    with pytest.raises(OptionError, match=f"{repo} has v1.1.0 already: a release below it cannot be added"):
        few.push(repo, release="v1.0.1")
    made = both.push(repo, release="v1.1.0")
    assert tags(api, repo)["v1.1.0"] == made.revision and len(titles(api, repo)) == 3


@pytest.mark.parametrize("content", [b"[]", b"{nope", b'{"files": [1]}', b'{"release": 3, "files": {"gone": {}}}'])
def test_a_manifest_of_somebody_else_is_in_nobodys_way(few, api, repo, content):
    api.create_repo(repo, repo_type="dataset", private=True)
    api.upload_file(path_or_fileobj=content, path_in_repo="manifest.json", repo_id=repo, repo_type="dataset")
    few.push(repo, release="v1.0.0")
    assert Anthology.load(repo, revision="v1.0.0").ids == few.ids


def test_rights_and_visibility_are_checked_before_any_work(few, lab, api, repo, monkeypatch):
    few.push(repo, release="v1.0.0")
    with pytest.raises(OptionError, match=f"{repo} is private and public was asked .public=True.: say public=False"):
        few.push(repo, release="v1.0.0", public=True)
    few.push(f"{repo}-open", release="v1.0.0", public=True)
    assert not api.dataset_info(f"{repo}-open").private
    with pytest.raises(OptionError, match=f"{repo}-open is public and private was asked .public=False.: say public=Tr"):
        few.push(f"{repo}-open", release="v1.1.0")
    monkeypatch.setenv("HF_TOKEN", lab.store.accounts.add_token("other"))
    with pytest.raises(DataError, match=f"this token may not write {repo}-open: take the owner's"):
        few.push(f"{repo}-open", release="v1.1.0", public=True)
    with pytest.raises(DataError, match="this token may not write lab/new: take the owner's"):
        few.push("lab/new", release="v1.0.0")


@pytest.mark.parametrize("release", ["1.0", "v1", "latest", "v1.0.0-rc1", "", "v01.0.0", "v1.0.٣"])
def test_a_release_without_a_version_is_refused_before_the_hub_is_asked(few, release):
    with pytest.raises(OptionError) as caught:
        few.push("lab/people", release=release)
    assert str(caught.value) == f"the release must be 'vmajor.minor.patch' as 'v1.0.0', got {release!r}"


# -- what is not fit to be published


def test_population_shares_of_few_people_are_refused(few, lab, repo):
    value = Codebook.load("starter").to_dict()
    study = Codebook.from_dict({**value, "population_sample": 500})
    people = Anthology.from_records([{"backstory": "I am.", "traits": {}}], study, name="p", licence="MIT")
    with pytest.raises(DataError, match=r"the population shares of \w+ stand for fewer than 10 people .*\(\d\).*merge"):
        people.push(repo, release="v1.0.0")
    people.push(repo, release="v1.0.0", smallest_cell=0)


def test_a_text_that_its_id_does_not_fit_is_refused(few, tmp_path, lab, repo):
    few.save(tmp_path / "people", release="1.0.0")
    people = Anthology.load(tmp_path / "people")
    table = people._store.personas.table
    forged = table["backstory"].to_pylist()
    forged[3] += " And I lie."
    import pyarrow as pa

    from anthology_hub.release import Rows

    altered = table.set_column(table.column_names.index("backstory"), "backstory", pa.array(forged))
    object.__setattr__(people._store, "personas", Rows(altered))
    with pytest.raises(DataError, match=f"the persona {people.ids[3]} has another text than its id says"):
        people.push(repo, release="v1.0.0")


# -- what comes back is checked


def test_a_file_that_is_not_the_manifests_is_refused_whoever_put_it_there(few, api, repo):
    few.push(repo, release="v1.0.0")
    api.upload_file(path_or_fileobj=b"{}", path_in_repo="codebook.json", repo_id=repo, repo_type="dataset")
    with pytest.raises(IntegrityError, match="codebook.json is not the file of the manifest .sha256 differs."):
        Anthology.load(repo)
    assert len(Anthology.load(repo, revision="v1.0.0")) == 12


OFFLINE = """
import json, sys
from anthology_hub import Anthology
from anthology_hub.errors import AnthologyError
repo, *revisions = sys.argv[1:]
for revision in revisions:
    try:
        people = Anthology.load(repo, revision=revision)
        print(json.dumps([len(people), people[0].persona_id]))
    except AnthologyError as error:
        print(json.dumps(str(error)))
"""


def test_offline_gives_the_pinned_data_or_a_clear_error(few, starter, lab, repo, tmp_path):
    few.push(repo, release="v1.0.0")
    starter.sample(5, seed=3).push(repo, release="v2.0.0")
    starter.sample(4, seed=3).push(repo, release="v3.0.0")
    env = {**os.environ, "HF_HOME": str(tmp_path / "hf"), "ANTHOLOGY_HUB_CACHE": str(tmp_path / "ours")}

    def load(*revisions, **more):
        command = [sys.executable, "-c", OFFLINE, repo, *revisions]
        done = subprocess.run(command, env={**env, **more}, capture_output=True, text=True, check=True)
        return [json.loads(line) for line in done.stdout.splitlines()]

    online = load("v1.0.0", "v2.0.0")
    assert online[0] == [12, few.ids[0]] and online[1][0] == 5
    for offline in ({"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}):
        first, second, third, never = load("v1.0.0", "v2.0.0", "v3.0.0", "v9.9.9", **offline)
        assert [first, second] == online
        assert f"the dataset '{repo}' at revision 'v3.0.0' cannot be had from the hub" in third
        assert f"the dataset '{repo}' at revision 'v9.9.9' cannot be had from the hub" in never
