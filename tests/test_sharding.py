"""An index built in shards and merged on disk finds what comparing all vectors finds."""

import numpy as np
import pytest

from anthology_hub.errors import DataError, OptionError
from anthology_hub.sharding import build_sharded, exact_rows, open_sharded


def vectors(rows=4000, d=24, seed=0):
    centres, rng = np.random.default_rng(9).normal(size=(40, d)), np.random.default_rng(seed)
    found = centres[rng.integers(40, size=rows)] + 0.6 * rng.normal(size=(rows, d))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sharded")
    np.save(folder / "vectors.npy", vectors().astype(np.float16))
    return folder, build_sharded(folder / "vectors.npy", folder / "index", shards=3, lists=32, recall=0.99)


def test_search_finds_the_best_with_their_exact_scores(built):
    folder, index = built
    stored, queries = np.load(folder / "vectors.npy", mmap_mode="r"), vectors(50, seed=1)
    truth = exact_rows(stored, queries, 10)
    np.testing.assert_array_equal(truth, np.argsort(-(queries @ stored.astype(np.float32).T), kind="stable")[:, :10])
    found = index.search_many(queries, 10)
    recall = np.mean([len(set(hits.rows) & set(best)) / 10 for hits, best in zip(found, truth, strict=True)])
    assert recall >= 0.97 and index.facts.recall >= 0.99
    for hits, query in zip(found, queries, strict=True):
        np.testing.assert_allclose(hits.scores, stored[hits.rows].astype(np.float32) @ query, rtol=1e-6)
        assert (np.diff(hits.scores) <= 0).all()


def test_the_number_of_shards_changes_no_result(built, tmp_path):
    folder, index = built
    other = build_sharded(folder / "vectors.npy", tmp_path / "index", shards=1, lists=32, recall=0.99)
    queries = vectors(20, seed=2)
    assert other.facts == index.facts
    for a, b in zip(index.search_many(queries, 5), other.search_many(queries, 5), strict=True):
        np.testing.assert_array_equal(a.rows, b.rows)


def test_an_index_can_be_moved_and_opened_again(built, tmp_path):
    folder, index = built
    moved = (folder / "index").rename(tmp_path / "moved")
    query = vectors(1, seed=3)[0]
    rows = open_sharded(moved, folder / "vectors.npy").search(query, 5).rows
    moved.rename(folder / "index")
    np.testing.assert_array_equal(rows, index.search(query, 5).rows)


def test_equal_vectors_come_in_the_order_of_their_rows(tmp_path):
    np.save(tmp_path / "vectors.npy", np.repeat(vectors(100), 3, axis=0))
    index = build_sharded(tmp_path / "vectors.npy", tmp_path / "index", shards=2, lists=2)
    assert index.search(vectors(100)[7], 3).rows.tolist() == [21, 22, 23]


def test_vectors_that_do_not_fit_are_refused(built, tmp_path):
    folder = built[0]
    np.save(tmp_path / "fewer.npy", vectors(10))
    with pytest.raises(DataError, match=r"holds 4000 x 24 vectors, not \(10, 24\)"):
        open_sharded(folder / "index", tmp_path / "fewer.npy")
    np.save(tmp_path / "long.npy", 2 * vectors(100))
    with pytest.raises(DataError, match="must have length 1: normalise"):
        build_sharded(tmp_path / "long.npy", tmp_path / "index", lists=2)
    np.save(tmp_path / "codes.npy", np.zeros((3, 4), dtype=np.int8))
    with pytest.raises(DataError, match=r"codes\.npy holds int8 of shape \(3, 4\): give float16 or float32"):
        build_sharded(tmp_path / "codes.npy", tmp_path / "index")
    (tmp_path / "text.npy").write_text("no vectors")
    with pytest.raises(DataError, match=r"text\.npy holds no vectors .*: give a \.npy file"):
        build_sharded(tmp_path / "text.npy", tmp_path / "index")


def test_half_an_index_is_none(built, tmp_path):
    with pytest.raises(DataError, match="holds no whole index .*: build it"):
        open_sharded(tmp_path, built[0] / "vectors.npy")
    (tmp_path / "index.json").write_bytes((built[0] / "index" / "index.json").read_bytes())
    with pytest.raises(DataError, match=r"index\.faiss cannot be read"):
        open_sharded(tmp_path, built[0] / "vectors.npy")


@pytest.mark.parametrize("wrong", [{"shards": 0}, {"recall": 0.0}, {"recall": 1.1}, {"lists": 5000}])
def test_options_outside_their_range_are_refused(built, tmp_path, wrong):
    with pytest.raises(OptionError, match="shards must be at least 1, recall above 0 and at most 1, and lists between"):
        build_sharded(built[0] / "vectors.npy", tmp_path / "index", **wrong)


def test_a_filter_is_applied_before_the_search(built):
    folder, index = built
    stored, query = np.load(folder / "vectors.npy").astype(np.float32), vectors(1, seed=4)[0]
    among = np.arange(len(stored)) % 7 == 3
    best = np.argsort(np.where(among, -(stored @ query), np.inf), kind="stable")[:5]
    assert index.search(query, 5, among=among).rows.tolist() == best.tolist()
