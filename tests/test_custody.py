"""Respondents in a folder: what is saved is what is loaded, and nobody outside can tell who is who."""

import json
import subprocess

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anthology_hub import Respondents, Survey, custody, hub
from anthology_hub.crosswalks import Crosswalk
from anthology_hub.errors import DataError, IntegrityError, OptionError
from anthology_hub.schema import MISSING

MINI = Survey.load("bfi").select(["C1", "C2"])


def people(n=5, *, seed=0, **changes):
    rng = np.random.default_rng(seed)
    fields = {
        "name": "town",
        "ids": tuple(f"panel-{at}" for at in range(n)),
        "levels": {"age": ("young", "old")},
        "codes": {"age": rng.integers(-1, 2, n).astype(np.int16)},
        "answers": {key: rng.integers(-1, 6, n).astype(np.int16) for key in MINI.keys},
        "weights": rng.lognormal(size=n),
        "strata": rng.integers(0, 3, n),
        "psu": rng.integers(0, 3, n),
        "retest": {"C1": rng.integers(-1, 6, n).astype(np.int16)},
        "crosswalk": "starter--gss-2018",
        "survey": MINI,
        "source": "Town survey 2020",
        "notes": ("3 rows are left out.",),
    }
    return Respondents(**(fields | changes))


def assert_same(a, b):
    for name in ("name", "ids", "levels", "crosswalk", "survey", "source", "notes"):
        assert getattr(a, name) == getattr(b, name), name
    for name in ("codes", "answers", "retest"):
        assert list(getattr(a, name)) == list(getattr(b, name))
        for key, column in getattr(a, name).items():
            np.testing.assert_array_equal(column, getattr(b, name)[key])
            assert column.dtype == getattr(b, name)[key].dtype
    for name in ("weights", "strata", "psu"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 30), st.integers(0, 2**32 - 1), st.booleans(), st.text(max_size=20))
def test_what_is_saved_is_what_is_loaded(tmp_path_factory, n, seed, designed, word):
    bare = {} if designed else {"weights": None, "strata": None, "psu": None, "retest": {}}
    humans = people(n, seed=seed, notes=(word,), **bare)
    folder = custody.save(humans, tmp_path_factory.mktemp("kept") / "town")
    assert_same(humans, Respondents.load(folder))


def test_a_crosswalk_of_the_users_comes_along(tmp_path):
    value = {"targets": {"age": ["young", "old"]}, "traits": {"age": {"18-29": "young", "65+": "old"}}}
    (tmp_path / "mine.json").write_text(json.dumps(value))
    folder = custody.save(people(crosswalk=str(tmp_path / "mine.json")), tmp_path / "kept")
    (tmp_path / "mine.json").unlink()
    assert Crosswalk.load(Respondents.load(folder).crosswalk).targets == {"age": ("young", "old")}


def test_nothing_in_the_folder_is_taken_by_git(tmp_path):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    custody.save(people(), tmp_path / "kept")
    seen = subprocess.run(["git", "-C", tmp_path, "status", "--porcelain"], capture_output=True, text=True, check=True)
    assert seen.stdout == ""


def test_a_folder_that_is_there_is_not_overwritten_and_an_empty_one_is_used(tmp_path):
    (tmp_path / "empty").mkdir()
    custody.save(people(), tmp_path / "empty")
    with pytest.raises(OptionError, match="empty is there already: give a new folder"):
        custody.save(people(), tmp_path / "empty")
    with pytest.raises(OptionError, match="town has no survey"):
        custody.save(people(survey=None), tmp_path / "new")
    assert not (tmp_path / "new").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_a_changed_or_missing_table_is_refused(tmp_path):
    folder = custody.save(people(), tmp_path / "kept")
    content = (folder / custody.TABLE).read_bytes()
    (folder / custody.TABLE).write_bytes(content[:-1])
    with pytest.raises(
        IntegrityError, match="respondents.parquet is not the table that was saved: import the file anew"
    ):
        Respondents.load(folder)
    (folder / custody.TABLE).unlink()
    with pytest.raises(DataError, match="kept cannot be read .*: import the file anew"):
        Respondents.load(folder)
    (folder / custody.DESCRIPTION).write_text("{}")
    with pytest.raises(DataError, match="cannot be read"):
        Respondents.load(folder)


def test_pseudonyms_are_distinct_repeatable_and_depend_on_the_file(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"1")
    (tmp_path / "b.csv").write_bytes(b"2")
    humans = people(200)
    first = custody.pseudonymised(humans, custody.key_of(tmp_path / "a.csv"))
    again = custody.pseudonymised(humans, custody.key_of(tmp_path / "a.csv"))
    other = custody.pseudonymised(humans, custody.key_of(tmp_path / "b.csv"))
    assert first.ids == again.ids and len(set(first.ids)) == 200
    assert not set(first.ids) & (set(other.ids) | set(humans.ids))
    assert custody.key_of(tmp_path) not in (custody.key_of(tmp_path / "a.csv"), custody.key_of(tmp_path / "b.csv"))
    assert first.answers is humans.answers


def test_unknown_codes_stay_unknown(tmp_path):
    humans = people(3, codes={"age": np.array([MISSING, 0, 1], dtype=np.int16)})
    assert Respondents.load(custody.save(humans, tmp_path / "k")).codes["age"].tolist() == [MISSING, 0, 1]


@pytest.mark.parametrize("name", ["personas/train-0.parquet", "notes.bin", custody.TABLE, custody.DESCRIPTION])
def test_no_commit_takes_a_table_of_people_under_whatever_name(tmp_path, lab, name):
    folder = custody.save(people(3000), tmp_path / "kept")
    source = custody.DESCRIPTION if name == custody.DESCRIPTION else custody.TABLE
    with pytest.raises(DataError, match="holds answers of real people, which stay on this machine: publish results"):
        hub.add_files("hf://lab/results", {name: (folder / source).read_bytes(), "a.txt": b"a"}, message="m")
    there = (
        hub.client().list_repo_files("lab/results", repo_type="dataset")
        if hub.client().repo_exists("lab/results", repo_type="dataset")
        else []
    )
    assert name not in there and "a.txt" not in there
