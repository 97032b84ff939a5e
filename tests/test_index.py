"""The index is exact where it says so and finds what it says elsewhere, with and without a filter."""

from dataclasses import replace
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anthology_hub.errors import DataError, OptionError
from anthology_hub.index import CANDIDATES, FLAT_ROWS, Index, IndexFacts
from anthology_hub.inverted import Inverted, bits_for, lists_for

WIDTH = 24
ROWS = FLAT_ROWS + 4_000
SHARES = (0.5, 0.1, 0.01, 0.001)


def unit_rows(rng, rows, width):
    vectors = rng.normal(size=(rows, width)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def rows_of_a_world(seed, rows):
    """Overlapping clusters, and of each row a trait that goes with where it is."""
    world = np.random.default_rng(0)
    centres, direction = world.normal(size=(200, WIDTH)), world.normal(size=WIDTH) / WIDTH**0.5
    rng = np.random.default_rng(seed)
    drawn = centres[rng.integers(0, 200, rows)] + 0.6 * rng.normal(size=(rows, WIDTH))
    vectors = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)
    return vectors, drawn @ direction + 0.5 * rng.normal(size=rows)


def best(vectors, query, k, among=None):
    scores = vectors @ query
    if among is not None:
        scores[~among] = -2
    return np.argsort(-scores, kind="stable")[:k]


def recall(index, queries, k, among=None):
    pairs = [(index.search(query, k, among=among).rows, best(index._vectors, query, k, among)) for query in queries]
    assert all(len(found) == len(set(found)) == len(true) for found, true in pairs)
    return np.mean([np.isin(true, found).mean() for found, true in pairs])


@pytest.fixture(scope="module")
def world():
    return rows_of_a_world(1, ROWS)


@pytest.fixture(scope="module")
def built(world):
    return Index.build(world[0])


@pytest.fixture(scope="module")
def queries():
    return rows_of_a_world(2, 60)[0]


# -- exact


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 80), st.floats(0, 1))
def test_the_index_equals_brute_force_with_and_without_a_filter(seed, rows, k, kept):
    rng = np.random.default_rng(seed)
    vectors, query = unit_rows(rng, rows, 8), unit_rows(rng, 1, 8)[0]
    index, exact = Index(vectors), vectors @ query
    for among in (None, rng.random(rows) < kept):
        allowed = np.arange(rows) if among is None else np.flatnonzero(among)
        best = allowed[np.argsort(-exact[allowed], kind="stable")][:k]
        hits = index.search(query, k, among=among)
        assert hits.rows.tolist() == best.tolist()
        np.testing.assert_allclose(hits.scores, exact[best], atol=1e-6)
    assert len(index) == rows


def test_a_filter_that_leaves_only_the_farthest_row_still_finds_it():
    vectors = unit_rows(np.random.default_rng(0), 5_000, 16)
    worst = int(np.argmin(vectors @ vectors[0]))
    only = np.arange(5_000) == worst
    assert worst not in Index(vectors).search(vectors[0], 1_000).rows
    assert Index(vectors).search(vectors[0], 10, among=only).rows.tolist() == [worst]


def test_a_row_finds_itself_with_score_one():
    vectors = unit_rows(np.random.default_rng(1), 50, 8)
    for row in range(50):
        hits = Index(vectors).search(vectors[row], 1)
        assert hits.rows.tolist() == [row]
        assert hits.scores[0] == pytest.approx(1, abs=1e-6)


def test_a_search_for_no_row_or_with_another_width_is_refused():
    index = Index(np.eye(3, dtype=np.float32))
    with pytest.raises(OptionError, match="k must be at least 1, got 0"):
        index.search(np.eye(3, dtype=np.float32)[0], 0)
    with pytest.raises(OptionError, match=r"a query of shape \(2,\) does not fit vectors of 3 numbers"):
        index.search(np.array([1, 0], dtype=np.float32), 1)


def test_vectors_that_are_not_unit_vectors_are_refused():
    with pytest.raises(DataError, match="vectors must have length 1: normalise them before indexing"):
        Index(2 * np.eye(3, dtype=np.float32))


def test_a_written_index_answers_like_the_one_in_memory_and_faiss_reads_it(tmp_path):
    rng = np.random.default_rng(2)
    vectors, query = unit_rows(rng, 40, 8), unit_rows(rng, 1, 8)[0]
    Index(vectors).write(tmp_path / "flat.faiss")
    opened = Index(vectors, file=tmp_path / "flat.faiss")
    assert opened.search(query, 5).rows.tolist() == Index(vectors).search(query, 5).rows.tolist()
    foreign = faiss.read_index(str(tmp_path / "flat.faiss"))
    assert isinstance(foreign, faiss.IndexFlatIP)
    assert np.array_equal(foreign.reconstruct_n(0, 40), vectors)
    Index(vectors).write(tmp_path / "again.faiss")
    assert (tmp_path / "again.faiss").read_bytes() == (tmp_path / "flat.faiss").read_bytes()


def test_an_index_file_of_other_vectors_is_refused(tmp_path):
    vectors = unit_rows(np.random.default_rng(3), 10, 8)
    Index(vectors).write(tmp_path / "flat.faiss")
    with pytest.raises(DataError, match=r"flat.faiss holds 10 x 8 vectors, not \(9, 8\)"):
        Index(vectors[:9], file=tmp_path / "flat.faiss")
    with pytest.raises(
        DataError, match="flat.faiss holds other vectors than the collection: load the collection again"
    ):
        Index(vectors[::-1], file=tmp_path / "flat.faiss")


def test_a_file_that_is_no_index_is_refused(tmp_path):
    (tmp_path / "flat.faiss").write_bytes(b"nothing of the kind")
    with pytest.raises(DataError, match="flat.faiss cannot be read: load the collection again"):
        Index(np.eye(3, dtype=np.float32), file=Path(tmp_path / "flat.faiss"))


def test_a_file_that_claims_or_takes_far_more_than_its_vectors_is_refused_and_the_limit_put_back(tmp_path):
    before, file = faiss.get_deserialization_vector_byte_limit(), tmp_path / "big.faiss"
    Index(unit_rows(np.random.default_rng(4), 50, 8)).write(file)
    whole = file.read_bytes()
    size = whole.index((50 * 8).to_bytes(8, "little"))
    file.write_bytes(whole[:size] + (2**50).to_bytes(8, "little") + whole[size + 8 :])
    with pytest.raises(DataError, match="big.faiss cannot be read: load the collection again"):
        Index(np.eye(3, dtype=np.float32), file=file)
    numbered = faiss.IndexIDMap(faiss.IndexFlatIP(1))
    numbered.add_with_ids(np.ones((400_000, 1), dtype=np.float32), np.arange(400_000))
    faiss.write_index(numbered, str(file))
    with pytest.raises(DataError, match="big.faiss cannot be read: load the collection again"):
        Index(np.eye(3, dtype=np.float32), file=file)
    assert faiss.get_deserialization_vector_byte_limit() == before


def test_a_file_of_another_metric_is_refused(tmp_path):
    vectors = unit_rows(np.random.default_rng(5), 10, 8)
    other = faiss.IndexFlatL2(8)
    other.add(vectors)
    faiss.write_index(other, str(tmp_path / "flat.faiss"))
    with pytest.raises(DataError, match="flat.faiss ranks by another metric than the inner product"):
        Index(vectors, file=tmp_path / "flat.faiss")


def test_equal_vectors_score_equally_and_come_in_the_order_of_their_rows_however_many_are_asked_for():
    vectors = np.tile(unit_rows(np.random.default_rng(6), 50, 24), (40, 1))
    queries = unit_rows(np.random.default_rng(7), 30, 24)
    together = Index(vectors).search_many(queries, 100)
    for query, hits in zip(queries, together, strict=True):
        alone = Index(vectors).search(query, 100)
        assert alone.rows.tolist() == hits.rows.tolist()
        assert alone.scores.tolist() == hits.scores.tolist()
        for start in (0, 40):
            tied = hits.rows[start : start + 40]
            assert len(set(hits.scores[start : start + 40])) == 1
            assert tied.tolist() == list(range(tied[0], 2_000, 50))


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.floats(0.05, 1))
def test_the_best_rows_of_the_best_owners_equal_brute_force(seed, k, kept):
    rng = np.random.default_rng(seed)
    owners = np.sort(rng.integers(0, 20, 60))
    vectors, query, among = unit_rows(rng, 60, 6), unit_rows(rng, 1, 6)[0], rng.random(60) < kept
    scores = np.where(among, vectors @ query, -np.inf)
    of_each = {owner: scores[owners == owner].max() for owner in set(owners[among].tolist())}
    hits = Index(vectors).best_of(query, k, owners=owners, among=among)
    assert owners[hits.rows].tolist() == sorted(of_each, key=lambda owner: -of_each[owner])[:k]
    np.testing.assert_allclose(hits.scores, sorted(of_each.values(), reverse=True)[:k], atol=1e-6)


def test_vectors_are_not_copied_and_half_precision_is_searched_as_it_is(tmp_path):
    vectors = unit_rows(np.random.default_rng(8), 300, 16).astype(np.float16)
    np.save(tmp_path / "v.npy", vectors)
    mapped = np.load(tmp_path / "v.npy", mmap_mode="r")
    index, wide = Index(mapped), vectors.astype(np.float32)
    assert np.shares_memory(index._vectors, mapped)
    queries, among = unit_rows(np.random.default_rng(9), 5, 16), np.arange(300) % 3 == 0
    for query, hits in zip(queries, index.search_many(queries, 7, among=among), strict=True):
        assert hits.rows.tolist() == best(wide, query, 7, among).tolist()
        assert index.search(query, 7).rows.tolist() == best(wide, query, 7).tolist()
        np.testing.assert_allclose(hits.scores, wide[hits.rows] @ query, atol=1e-6)


def test_owners_and_filters_that_do_not_fit_and_a_recall_that_cannot_be_are_refused():
    index, query = Index(np.eye(3, dtype=np.float32)), np.eye(3, dtype=np.float32)[0]
    with pytest.raises(OptionError, match=r"a filter of shape \(2,\) does not fit 3 rows: give one for each"):
        index.search(query, 1, among=np.ones(2, dtype=bool))
    with pytest.raises(OptionError, match=r"owners of shape \(4,\) do not fit 3 rows: give one for each"):
        index.best_of(query, 1, owners=np.arange(4))
    with pytest.raises(OptionError, match=r"recall must be above 0 and at most 1, got 1.5"):
        Index.build(np.eye(3, dtype=np.float32), recall=1.5)


def test_few_vectors_are_searched_exactly_and_the_facts_say_so():
    facts = Index.build(np.eye(3, dtype=np.float32)).facts
    assert facts == IndexFacts(factory="Flat", rows=3, dimension=3, recall=1.0, faiss=faiss.__version__)
    assert IndexFacts.from_dict({**facts.to_dict(), "file": "index/x.faiss"}) == facts
    with pytest.raises(DataError, match=r"facts of an index lack \['dimension', 'rows'\].*build the index again"):
        IndexFacts.from_dict({"factory": "Flat"})


# -- lists


def test_lists_keep_the_recall_they_promise_and_read_few_of_themselves(built, queries):
    facts = built.facts
    assert (facts.factory, facts.rows, facts.dimension) == (f"IVF{lists_for(ROWS)},RaBitQ3", ROWS, WIDTH)
    assert 0.98 <= facts.recall <= 1
    assert facts.nprobe < facts.lists / 8
    assert recall(built, queries, 10) >= 0.96
    assert recall(built, queries[:20], 100) >= 0.96


def test_a_lower_recall_reads_fewer_lists_and_every_list_finds_everything(world, built, queries):
    few = Index.build(world[0], recall=0.6)
    assert few.facts.nprobe < built.facts.nprobe
    assert few.facts.recall >= 0.6
    assert recall(Index.build(world[0], recall=1), queries[:20], 10) >= 0.99


def test_where_codes_tell_rows_badly_apart_more_of_them_are_scored():
    # Of 96 numbers eight differ, so that 16 bits of a code say something.
    rng, rows, width = np.random.default_rng(0), FLAT_ROWS + 2_000, 96
    vectors = np.zeros((rows, width), dtype=np.float32)
    vectors[:, :8] = unit_rows(rng, rows, 8)
    index = Index.build(vectors)
    assert index.facts.factory.endswith("RaBitQ2")
    assert index.facts.candidates > CANDIDATES
    assert index.facts.recall >= 0.98
    assert recall(index, vectors[:100], 10) >= 0.96
    assert recall(index, vectors[:20], 10, rng.random(rows) < 0.4) >= 0.99


@given(st.integers(1, 4096))
def test_a_code_has_a_bit_for_each_number_of_a_long_vector_and_more_for_a_short_one(dimension):
    bits = bits_for(dimension)
    assert bits == 1 if dimension >= 384 else bits > 1
    assert bits <= 9


def test_recall_can_be_measured_by_queries_that_lie_apart_from_all_rows_and_need_more_lists(world, built):
    noise = unit_rows(np.random.default_rng(5), 400, WIDTH)
    apart = rows_of_a_world(6, 400)[0] + 1.5 * noise
    apart /= np.linalg.norm(apart, axis=1, keepdims=True)
    index = Index.build(world[0], queries=apart[:300])
    assert index.facts.nprobe > built.facts.nprobe
    assert index.facts.recall == pytest.approx(recall(index, apart[:300], 10), abs=1e-9)
    assert recall(index, apart[300:], 10) >= 0.96 > recall(built, apart[300:], 10)
    with pytest.raises(OptionError, match=r"a query of shape \(3,\) does not fit vectors of 24 numbers"):
        Index.build(world[0], queries=apart[:, :3])


def test_scores_of_lists_are_those_of_exact_search(world, built, queries):
    for query in queries[:20]:
        hits = built.search(query, 5)
        everywhere = Index(world[0]).search(query, ROWS)
        assert hits.scores.tolist() == [everywhere.scores[everywhere.rows.tolist().index(row)] for row in hits.rows]


@pytest.mark.parametrize("share", SHARES)
def test_a_filter_finds_its_rows_whether_or_not_it_goes_with_the_text(world, built, share):
    queries, trait = rows_of_a_world(3, 2_000)
    by_chance = np.random.default_rng(4).random(ROWS) < share
    by_text = world[1] > np.quantile(world[1], 1 - share)
    against = queries[np.argsort(trait)[:40]]
    assert recall(built, queries[:40], 10, by_chance) >= 0.99
    assert recall(built, against, 10, by_text) >= 0.99


@pytest.mark.parametrize("share", [None, 0.3, 0.001])
def test_many_queries_get_the_hits_of_each_alone_with_one_thread_or_two(world, built, queries, share):
    among = None if share is None else world[1] > np.quantile(world[1], 1 - share)
    alone = [built.search(query, 10, among=among) for query in queries]
    for threads in (1, 2):
        faiss.omp_set_num_threads(threads)
        for one, hits in zip(alone, built.search_many(queries, 10, among=among), strict=True):
            assert hits.rows.tolist() == one.rows.tolist()
            assert hits.scores.tolist() == one.scores.tolist()
    faiss.omp_set_num_threads(1)


def test_where_rounding_could_decide_which_list_is_read_it_decides_alike_for_one_query_and_many():
    lists = Inverted.trained(np.eye(24, dtype=np.float32), lists=24, seed=0)
    queries = np.full((7, 24), 24**-0.5, dtype=np.float32)
    alone = [lists.nearest(query[None], 5)[0].tolist() for query in queries]
    assert lists.nearest(queries, 5).tolist() == alone
    assert lists.nearest(queries, 30).tolist() == [list(range(24))] * 7


def test_more_hits_than_the_calibrated_lists_hold_are_found_too(built, queries):
    for k in (500, 5_000, ROWS + 1):
        assert len(built.search(queries[0], k).rows) == min(k, ROWS)
    assert recall(built, queries[:5], 500) >= 0.95


def test_the_best_personas_of_four_passages_each_are_found(world, built, queries):
    owners = np.arange(ROWS) // 4
    for query in queries:
        order = best(world[0], query, ROWS)
        _, first = np.unique(owners[order], return_index=True)
        true = order[np.sort(first)[:10]]
        hits = built.best_of(query, 10, owners=owners)
        assert len(set(owners[hits.rows])) == 10
        assert np.isin(true, hits.rows).mean() >= 0.8
    one = built.best_of(query, 3, owners=np.zeros(ROWS, dtype=np.int64))
    assert one.rows.tolist() == order[:1].tolist()


def test_written_lists_open_mapped_with_the_same_hits_and_a_part_of_the_bytes(world, built, queries, tmp_path):
    file = tmp_path / "lists.faiss"
    built.write(file)
    assert file.stat().st_size < 0.5 * world[0].nbytes  # 8 bytes of row number beside some 30 of code
    for facts in (built.facts, None):
        opened = Index(world[0], file=file, facts=facts)
        assert opened.facts == (facts or replace(built.facts, recall=None, candidates=0))
        for query in queries[:10]:
            assert opened.search(query, 10).rows.tolist() == built.search(query, 10).rows.tolist()
    opened.write(tmp_path / "copy.faiss")
    assert (tmp_path / "copy.faiss").read_bytes() == file.read_bytes()
    Index.build(world[0]).write(tmp_path / "again.faiss")
    assert (tmp_path / "again.faiss").read_bytes() == file.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.faiss", "copy.faiss", "lists.faiss"]
    assert faiss.read_index(str(file)).ntotal == ROWS


def test_half_precision_goes_into_lists_as_well(world, queries):
    index = Index.build(world[0].astype(np.float16), recall=0.9)
    wide = index._vectors.astype(np.float32)
    hits = index.search_many(queries[:20], 10)
    found = zip(queries, hits, strict=False)
    assert np.mean([np.isin(best(wide, query, 10), each.rows).mean() for query, each in found]) > 0.85


def test_a_graph_finds_the_nearest_lists_and_says_so(world, queries):
    vectors = world[0][:5_000]
    lists = Inverted.trained(vectors, lists=100, seed=0, graph=True)
    lists.add(vectors, first=0)
    assert lists.factory == "IVF100_HNSW32,RaBitQ3"
    assert np.array_equal(np.sort(np.concatenate([lists.rows_of(at) for at in range(100)])), np.arange(5_000))
    exact = np.argsort(-(queries @ lists.centroids.T), axis=1)[:, :10]
    found = lists.nearest(queries, 10)
    assert np.mean([np.isin(a, b).mean() for a, b in zip(exact, found, strict=True)]) > 0.95
    assert lists.covering(queries[0], lists.sizes, 1).tolist() == [exact[0, 0]]


def test_centroids_without_rows_move_to_the_rows_that_are_worst_served():
    rows = np.repeat(np.eye(4, dtype=np.float32), 5, axis=0)
    lists = Inverted.trained(rows, lists=4, seed=1)
    assert np.array_equal(np.unique(lists.centroids.argmax(axis=1)), np.arange(4))


def test_a_damaged_or_foreign_file_of_lists_is_refused(world, built, tmp_path):
    vectors, file = world[0], tmp_path / "lists.faiss"
    built.write(file)
    whole = file.read_bytes()
    with pytest.raises(DataError, match="lists.faiss holds other vectors than the collection"):
        Index(vectors[::-1], file=file)
    with pytest.raises(DataError, match=f"lists.faiss holds {ROWS + 1} x 24 vectors, not"):
        Index(vectors, file=file, facts=replace(built.facts, rows=ROWS + 1))
    for length in (20, 5_000, len(whole) // 2, len(whole) - 9):
        file.write_bytes(whole[:length])
        with pytest.raises(DataError, match="lists.faiss cannot be read: load the collection again"):
            Index(vectors, file=file)
    coarse = faiss.IndexFlatIP(WIDTH)
    for other in (
        faiss.IndexIVFFlat(coarse, WIDTH, 8, faiss.METRIC_INNER_PRODUCT),
        faiss.IndexIVFScalarQuantizer(coarse, WIDTH, 8, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT),
        faiss.IndexIVFRaBitQ(coarse, WIDTH, 8, faiss.METRIC_INNER_PRODUCT, True, bits_for(WIDTH) + 1),
    ):
        other.train(vectors[:500])
        other.add(vectors)
        faiss.write_index(other, str(file))
        with pytest.raises(DataError, match="lists.faiss .* build the index again"):
            Index(vectors, file=file)


def test_a_file_that_names_rows_that_are_not_there_is_refused_before_they_are_read(world, tmp_path):
    vectors = world[0][:2_000]
    lists = Inverted.trained(vectors, lists=4, seed=0)
    lists.add(vectors, first=0)
    ids = faiss.rev_swig_ptr(lists.ivf.invlists.get_ids(2), int(lists.sizes[2]))
    ids[5:] += 10**9
    faiss.write_index(lists.ivf, str(tmp_path / "bad.faiss"))
    index = Index(vectors, file=tmp_path / "bad.faiss")
    with pytest.raises(DataError, match=r"the index names row 1000\d+ of 2000: it is damaged"):
        index.search(lists.centroids[2], 10)
    with pytest.raises(DataError, match=r"the index names row 1000\d+ of 2000: it is damaged"):
        index.search(lists.centroids[2], 1, among=np.arange(2_000) < 1_500)
