"""The side store: the same answers from the disk as from memory, made once, whole or not at all, never in the way."""

import json
import os
import resource
import subprocess
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anthology_hub import AnthologyError, sidestore
from anthology_hub.bitmaps import TOLERANCE, Selection, pack, reaching, rounded, unpack
from anthology_hub.collection import Anthology
from anthology_hub.errors import AnthologyWarning, DataError, IntegrityError
from anthology_hub.release import save_release
from anthology_hub.schema import DATA

CONDITIONS = [{"region": "South"}, {"age": ["50-64", "65+"], "gender": "Female"}, {"work": "Retired", "min_prob": 0.5}]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of its own, in which everything is large."""
    monkeypatch.setenv("ANTHOLOGY_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sidestore, "LARGE", 1)
    return tmp_path / "cache" / "side"


@pytest.fixture(scope="module")
def spread(starter):
    """Annotations that are no whole numbers: a third of the mass of each person is on the level before theirs."""
    rows = starter.annotations()
    for row in rows:
        probs = np.float32(row["probs"])
        row["probs"] = (np.roll(probs, -1) / 3 + probs * 2 / 3).tolist()
    return starter.with_annotations(rows, starter.codebook.traits)


@pytest.fixture(scope="module")
def saved(spread, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "people"
    spread.save(folder)
    return folder


def answers(people, encoder):
    """What the public doors say."""
    found = [people.where(**conditions) for conditions in CONDITIONS]
    scored = people.score(age="65+", region=["South", "West"])
    near = found[0].search("grew up on a farm", 7, encoder=encoder)
    return {
        "ids": people.ids,
        "where": [view.ids for view in found],
        "again": scored.where(region="South").where(min_prob=0.6, age="65+").ids,
        "score": (scored.ids, scored.scores.tolist()),
        "near": list(near),
        "annotations": found[2].score(age="65+").annotations(),
        "one": people.annotations_of(people.ids[5]),
        "distribution": [people.distribution(trait.name).tolist() for trait in people.codebook.traits],
        "personas": list(people),
        "table": found[1].to_dataset().to_list(),
        "sample": people.sample(9, seed=3).ids,
    }


def same(one, other):
    np.testing.assert_equal(one, other)


def test_every_answer_is_the_same_from_the_disk_as_from_memory(saved, cache, encoder, monkeypatch):
    kept = answers(Anthology.load(saved), encoder)
    monkeypatch.setattr(sidestore, "LARGE", 2**40)
    same(kept, answers(Anthology.load(saved), encoder))
    assert {path.name.split("-")[0] for path in cache.iterdir()} == {
        *("rows", "levels", "probs", "annotations", "embeddings", "vectors")
    }


def test_a_second_opening_reads_what_the_first_one_kept(saved, cache, encoder):
    first = answers(Anthology.load(saved), encoder)
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*")}
    people = Anthology.load(saved)
    same(first, answers(people, encoder))
    assert before == {path: path.stat().st_mtime_ns for path in cache.rglob("*")}
    vectors = people._store.embeddings["all-MiniLM-L6-v2"].vectors
    assert not vectors.flags.owndata and not vectors.flags.writeable


def test_a_small_release_leaves_nothing_in_the_cache(saved, tmp_path, encoder, monkeypatch):
    monkeypatch.setenv("ANTHOLOGY_HUB_CACHE", str(tmp_path))
    answers(Anthology.load(saved), encoder)
    assert list(tmp_path.iterdir()) == []


def test_releases_that_differ_in_their_card_alone_share_what_is_kept(saved, cache, tmp_path):
    people = Anthology.load(saved)
    people.where(region="South", min_prob=0.5)
    before = sorted(path.name for path in cache.iterdir())
    other = people.save(tmp_path / "other", card="# Another card\n")
    other.where(region="South", min_prob=0.5)
    assert sorted(path.name for path in cache.iterdir()) == before
    assert other.identity != people.identity


def test_new_annotations_of_a_kept_release_are_never_answered_with_the_old_ones(saved, cache):
    people = Anthology.load(saved)
    before = people.where(min_prob=0.5, region="South").ids
    region = people.codebook.trait("region")
    rows = [
        {"persona_id": i, "trait": "region", "levels": list(region.levels), "probs": [0, 0, 1, 0]} for i in people.ids
    ]
    changed = people.with_annotations(rows, [region])
    assert changed.where(min_prob=0.5, region="South").ids == changed.where(region="South").ids == people.ids
    assert people.where(min_prob=0.5, region="South").ids == before


DAMAGE = {
    "a file is cut": lambda part: next(part.glob("*.[na]*")).write_bytes(b"x"),
    "a file is gone": lambda part: next(part.glob("*.[na]*")).unlink(),
    "the facts are no JSON": lambda part: (part / "facts.json").write_text("{"),
    "the facts are a list": lambda part: (part / "facts.json").write_text("[]"),
    "the facts are gone": lambda part: (part / "facts.json").unlink(),
    "the version is another": lambda part: (part / "facts.json").write_text(json.dumps({"version": 0, "files": {}})),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_broken_part_is_made_again(saved, cache, damage):
    first = Anthology.load(saved)
    expected = first.where(region="South").ids, first.where(min_prob=0.5, age="65+").ids, list(first)[:3]
    for part in cache.iterdir():
        damage(part)
    again = Anthology.load(saved)
    assert (again.where(region="South").ids, again.where(min_prob=0.5, age="65+").ids, list(again)[:3]) == expected
    parts = sorted(path.name for path in cache.iterdir())
    assert all((cache / name / "facts.json").is_file() for name in parts)
    assert not [name for name in parts if name.startswith(".")]


def test_a_file_that_has_the_right_size_and_no_array_in_it_is_made_again(saved, cache):
    expected = Anthology.load(saved).where(region="South").ids
    for file in cache.rglob("*.npy"):
        file.write_bytes(bytes(file.stat().st_size))
    assert Anthology.load(saved).where(region="South").ids == expected


def test_a_cache_that_cannot_be_written_costs_a_warning_and_nothing_else(saved, tmp_path, encoder, monkeypatch):
    expected = answers(Anthology.load(saved), encoder)
    monkeypatch.setattr(sidestore, "LARGE", 1)
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("ANTHOLOGY_HUB_CACHE", str(tmp_path / "file"))
    with pytest.warns(AnthologyWarning) as caught:
        same(answers(Anthology.load(saved), encoder), expected)
    said = str(caught[0].message)
    assert said.startswith(f"the side store cannot be kept in {tmp_path / 'file' / 'side'} ([Errno 20] Not a directory")
    assert said.endswith("free some space, or set ANTHOLOGY_HUB_CACHE to a folder that can be written")


def test_a_disk_that_is_full_halfway_costs_a_warning_and_leaves_nothing(saved, cache, encoder):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.warns(AnthologyWarning, match="the side store cannot be kept in .*: queries work in memory"):
            people = Anthology.load(saved)
            found = people.search("grew up on a farm", 3, encoder=encoder).ids, people.where(region="South").ids
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not [path for path in cache.iterdir() if path.name.startswith((".", "vectors"))]
    again = Anthology.load(saved)
    assert found == (again.search("grew up on a farm", 3, encoder=encoder).ids, again.where(region="South").ids)


ASKED = """
import sys
from anthology_hub import Anthology, sidestore

sidestore.LARGE = 1
people = Anthology.load(sys.argv[1])
view = people.where(min_prob=0.5, region="South")
print(len(people.where(region="South")), view.ids[-1], people[7].persona_id)
"""


def test_processes_that_make_it_at_once_agree_and_keep_it_once(saved, cache):
    run = [sys.executable, "-c", ASKED, str(saved)]
    both = [subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate() for process in both]
    people = Anthology.load(saved)
    view = people.where(min_prob=0.5, region="South")
    expected = f"{len(people.where(region='South'))} {view.ids[-1]} {people[7].persona_id}\n"
    assert said == [(expected, "")] * 2
    assert not [path for path in cache.iterdir() if path.name.startswith(".")]


def test_a_part_that_another_process_made_meanwhile_is_taken_as_it_is(cache):
    def make():
        if not (cache / "key").exists():
            sidestore.part("key", lambda: {"numbers": np.arange(3)})
        return {"numbers": np.arange(5)}

    assert sidestore.part("key", make)["numbers"].tolist() == [0, 1, 2]
    assert [path.name for path in cache.iterdir()] == ["key"]


def test_what_a_killed_process_left_is_removed_when_it_is_old(cache):
    (cache / ".key-old").mkdir(parents=True)
    (cache / ".key-new").mkdir()
    os.utime(cache / ".key-old", (0, 0))
    assert sidestore.part("key", lambda: {"numbers": np.zeros((0, 3))})["numbers"].shape == (0, 3)
    assert sorted(path.name for path in cache.iterdir()) == [".key-new", "key"]


def test_an_annotation_of_nobody_is_refused_when_probabilities_are_asked_for(saved, cache):
    people = Anthology.load(saved)
    table = people._store.annotations.table
    changed = table.set_column(0, "persona_id", [["nobody"] * table.num_rows])
    object.__setattr__(people._store, "annotations", type(people._store.annotations)(changed))
    with pytest.raises(
        DataError, match="annotations has a row of the persona nobody, which the collection does not hold"
    ):
        people.where(min_prob=0.5, region="South")


# -- rows by number


@pytest.mark.parametrize("large", [False, True])
def test_any_rows_in_any_order_are_those_of_pandas(large, cache, monkeypatch, tmp_path):
    many = Anthology.from_records(
        [{"backstory": f"I am number {n}. " + "word " * 500} for n in range(2_500)],
        Anthology.load("starter").codebook,
        name="many",
        licence="CC0-1.0",
    )
    folder = many.save(tmp_path / "many")._store.source
    monkeypatch.setattr(sidestore, "LARGE", 1 if large else 2**40)
    rows = Anthology.load(folder)._store.personas
    frame = pd.read_parquet(Path(folder) / "personas" / "train-00000-of-00001.parquet")
    rng = np.random.default_rng(0)
    for at in ([], [2_499], rng.permutation(2_500)[:100], rng.integers(0, 2_500, 300), np.arange(2_500)[::-1]):
        taken = rows.take(at, ["backstory", "n_words"])
        assert taken.column_names == ["backstory", "n_words"]
        assert taken["backstory"].to_pylist() == frame["backstory"].iloc[at].tolist()
    assert [row.backstory for row in islice(Anthology.load(folder), 3)] == frame["backstory"][:3].tolist()


def test_large_files_without_a_copy_are_read_by_row_groups(saved, cache, monkeypatch):
    rows = Anthology.load(saved)._store.annotations
    frame = pd.read_parquet(saved / "annotations" / "train-00000-of-00001.parquet")
    at = np.array([3_000, 5, 6, 1_200, 2_999])
    assert rows.large and rows.take(at)["trait"].to_pylist() == frame["trait"].iloc[at].tolist()
    assert rows.row(7)["persona_id"] == frame["persona_id"][7]


def test_rows_that_are_not_as_many_as_the_manifest_says_are_refused(tmp_path, starter):
    starter.save(tmp_path / "people")
    manifest = json.loads((tmp_path / "people" / "manifest.json").read_text())
    manifest["rows"]["annotations"] += 1
    (tmp_path / "people" / "manifest.json").write_text(json.dumps(manifest))
    people = Anthology.load(tmp_path / "people")
    with pytest.raises(IntegrityError, match="which are not those of its manifest: get a fresh copy, of "):
        people.distribution("age")


# -- laws of the bits

masks = st.lists(st.booleans(), min_size=0, max_size=300).map(lambda bits: np.array(bits, dtype=bool))


@given(masks)
def test_what_is_packed_comes_back(mask):
    words = pack(mask)
    assert len(words) == -(-len(mask) // 64)
    assert unpack(words, len(mask)).tolist() == mask.tolist()
    assert len(Selection(len(mask), words=words)) == mask.sum()
    assert pack(np.array([mask, ~mask]))[0].tolist() == words.tolist()


@given(masks, st.randoms(use_true_random=False))
def test_a_selection_keeps_its_order_through_every_filter(mask, random):
    rows = random.sample(range(len(mask)), len(mask) // 2)
    listed = Selection(len(mask), rows=np.array(rows, dtype=np.int64))
    assert listed.keep(pack(mask)).rows.tolist() == [row for row in rows if mask[row]]
    ascending = Selection(len(mask)).keep(pack(mask))
    assert ascending.rows.tolist() == np.flatnonzero(mask).tolist()
    assert ascending.mask.tolist() == mask.tolist()
    assert [ascending.ranks[row] for row in ascending.rows] == list(range(len(ascending)))
    assert ascending.is_all == mask.all() and (listed.is_all == (rows == list(range(len(mask)))))


shares = st.floats(0, 1, width=32)
tables = st.lists(st.tuples(shares, shares, shares) | st.just((np.nan,) * 3), min_size=1, max_size=60)


@given(tables, st.floats(1e-6, 1), st.integers(1, 3), st.booleans())
def test_no_rounding_ever_moves_anybody_over_a_threshold(rows, threshold, levels, exactly):
    probs = np.float32(rows)
    probs /= np.maximum(1, np.nan_to_num(probs.sum(axis=1, keepdims=True)))
    sums = np.array([probs[:, :levels].sum(axis=1), probs[:, 2]])
    if exactly and np.nan_to_num(sums[0, 0]) > 1e-3:
        threshold = min(1.0, float(sums[0, 0]))  # somebody is exactly at it
    steps, expected = rounded(probs), np.nan_to_num(sums) >= threshold - TOLERANCE
    first = reaching([steps[:levels]], lambda at: sums[:1, at], threshold)
    assert unpack(first, len(probs)).tolist() == expected[0].tolist()
    both = reaching([steps[:levels], steps[2:]], lambda at: sums[:, at], threshold)
    assert unpack(both, len(probs)).tolist() == expected.all(axis=0).tolist()


@pytest.mark.parametrize("n", [16, 20, 40, 50, 100])
def test_shares_of_draws_meet_every_threshold_that_is_such_a_share(n):
    probs = (np.arange(n + 1) / n).astype(np.float32)[:, None]
    for k in range(1, n + 1):
        found = unpack(reaching([rounded(probs)], lambda at: probs[at].T, k / n), n + 1)
        assert found.tolist() == [count >= k for count in range(n + 1)]


@pytest.mark.parametrize("large", [False, True])
def test_a_column_that_is_not_there_is_named(saved, cache, monkeypatch, large):
    monkeypatch.setattr(sidestore, "LARGE", 1 if large else 2**40)
    people = Anthology.load(saved)
    with pytest.raises(DataError, match="have no column 'colour': get a fresh copy"):
        people._store.personas.column("colour")


def test_a_level_that_the_codebook_does_not_have_is_named(spread):
    people = spread.sample(3)._edition()
    table = people.annotations.table
    levels = [["nowhere" if level == "South" else level for level in row] for row in table["levels"].to_pylist()]
    object.__setattr__(people, "annotations", type(people.annotations)(table.set_column(2, "levels", [levels])))
    with pytest.raises(DataError, match="an annotation has the level nowhere of region, which the codebook does not"):
        people.probs("region")


def test_half_precision_vectors_are_kept_as_they_are(starter, cache, tmp_path, encoder):
    import pyarrow as pa

    embedding = starter._store.embeddings["all-MiniLM-L6-v2"]
    table = embedding.rows.table
    half = pa.array(embedding.vectors.astype(np.float16).ravel())
    rows = type(embedding.rows)(table.set_column(4, "vector", pa.FixedSizeListArray.from_arrays(half, 384)))
    folder = tmp_path / "half"
    save_release(replace(starter._store, embeddings={"all-MiniLM-L6-v2": replace(embedding, rows=rows,
                 index_file=lambda: None, index_facts={})}), folder)  # fmt: skip
    people = Anthology.load(folder)
    vectors = people._store.embeddings["all-MiniLM-L6-v2"].vectors
    assert vectors.dtype == np.float16 and not vectors.flags.writeable
    found = people.search("grew up on a farm", 10, encoder=encoder)
    expected = starter.search("grew up on a farm", 10, encoder=encoder)
    assert found.ids[:3] == expected.ids[:3]
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-3)


def test_a_damaged_release_is_found_at_loading_whatever_is_kept(saved, cache, tmp_path):
    Anthology.load(saved).save(tmp_path / "copy")
    Anthology.load(tmp_path / "copy").where(region="South")
    file = tmp_path / "copy" / "personas" / "train-00000-of-00001.parquet"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(AnthologyError, match="sha256 differs"):
        Anthology.load(tmp_path / "copy")


def test_the_starter_as_shipped_answers_from_the_side_store_as_pandas_does(cache):
    frame = pd.read_parquet(DATA / "starter" / "personas" / "train-00000-of-00001.parquet")
    keep = frame["region"].eq("South") & frame["age"].isin(["50-64", "65+"])
    assert (
        Anthology.load("starter").where(region="South", age=["50-64", "65+"]).ids == frame["persona_id"][keep].tolist()
    )
