"""Passages lose nothing and are read whole; the index is exact, with and without a filter."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anthology_hub import weights
from anthology_hub.errors import DataError, ModelError, OptionError
from anthology_hub.index import PASSAGE_TOKENS, Encoder, EncoderCard, Index, cut_passages

TEXTS = st.text(st.sampled_from("ab .!?\"')]\n\tü春"), max_size=120)
COUNTS = {"words": lambda piece: len(piece.split()), "letters": len}


def unit_rows(rng, rows, width):
    vectors = rng.normal(size=(rows, width)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


# -- passages


@given(TEXTS, st.sampled_from(sorted(COUNTS)), st.integers(1, 12))
def test_passages_are_in_order_cover_all_but_white_space_and_keep_the_limit(text, unit, room):
    spans = cut_passages(text, COUNTS[unit], room)
    covered = [False] * len(text)
    for start, end in spans:
        assert text[start:end].strip()
        assert COUNTS[unit](text[start:end]) <= room
        assert not any(covered[start:end])
        covered[start:end] = [True] * (end - start)
    assert spans == sorted(spans)
    assert all(done or letter.isspace() for done, letter in zip(covered, text, strict=True))


@given(TEXTS, st.integers(1, 12))
def test_neighbouring_passages_could_not_have_been_one(text, room):
    count = COUNTS["words"]
    spans = cut_passages(text, count, room)
    for (start, _), (_, end) in zip(spans, spans[1:], strict=False):
        assert count(text[start:end]) > room


@given(TEXTS)
def test_a_text_that_fits_is_one_passage(text):
    assert len(cut_passages(text, len, 120)) == (1 if text.strip() else 0)


def test_cuts_are_at_sentence_ends_where_possible_and_else_between_words_and_else_within():
    def pieces(text, count, room):
        return [text[a:b] for a, b in cut_passages(text, count, room)]

    words = COUNTS["words"]
    assert pieces('He said "no." I left. Why?', words, 4) == ['He said "no."', "I left. Why?"]
    assert pieces("one two three four five. six", words, 3) == ["one two three", "four five. six"]
    assert pieces("abcdefgh ij", len, 4) == ["abcd", "efgh", "ij"]


@pytest.mark.slow
def test_no_passage_of_a_real_story_is_cut_short_by_the_encoder(starter, encoder):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(weights.resolve("minilm").source)
    assert encoder.card.max_tokens == PASSAGE_TOKENS == 256
    for persona in starter:
        text = persona.backstory
        spans = encoder.passages(text)
        gaps = [text[a:b] for (_, a), (b, _) in zip([(0, 0), *spans], [*spans, (len(text), 0)], strict=True)]
        assert not "".join(gaps).strip()
        for a, b in spans:
            assert len(tokenizer(text[a:b])["input_ids"]) <= 256


@given(TEXTS.map(lambda text: text * 8))
def test_the_encoders_own_count_with_special_tokens_is_never_above_its_limit(encoder, text):
    for a, b in encoder.passages(text):
        assert len(encoder._tokenizer(text[a:b], verbose=False)["input_ids"]) <= encoder.card.max_tokens


def test_a_script_without_spaces_is_cut_too(encoder):
    text = "春が来た" * 300
    spans = encoder.passages(text)
    assert len(spans) > 1
    assert "".join(text[a:b] for a, b in spans) == text


# -- encoder


def test_an_encoder_gives_unit_vectors_that_do_not_depend_on_the_batch(encoder):
    texts = ["a farm in Iowa", "the docks at night", "a farm in Iowa, with pigs and a long road to school"]
    together = encoder.encode(texts)
    assert together.shape == (3, 384)
    assert together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    for row, text in enumerate(texts):
        np.testing.assert_allclose(encoder.encode([text])[0], together[row], atol=1e-5)
    assert together[0] @ together[2] > together[0] @ together[1]
    assert encoder.encode([]).shape == (0, 384)


def test_an_encoder_agrees_with_mean_pooling_by_hand(encoder):
    import torch
    from transformers import AutoModel, AutoTokenizer

    source = weights.resolve("minilm").source
    tokenizer, model = AutoTokenizer.from_pretrained(source), AutoModel.from_pretrained(source).eval()
    batch = tokenizer(["I grew up by the river."], return_tensors="pt")
    with torch.no_grad():
        mean = model(**batch).last_hidden_state[0].mean(dim=0).numpy()
    by_hand = mean / np.linalg.norm(mean)
    np.testing.assert_allclose(encoder.encode(["I grew up by the river."])[0], by_hand, atol=1e-5)


def test_the_card_tells_the_model_by_the_content_of_its_weights(encoder):
    assert encoder.card == EncoderCard(
        model="sentence-transformers/all-MiniLM-L6-v2",
        revision=weights.fingerprint(weights.resolve("minilm").source),
        dimension=384,
        max_tokens=256,
    )
    assert EncoderCard(**encoder.card.to_dict()) == encoder.card
    assert replace(encoder.card, revision="sha256:0") != encoder.card


def test_a_folder_that_is_no_sentence_encoder_is_refused_by_name(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError) as caught:
        Encoder(str(tmp_path))
    assert f"{str(tmp_path)!r} cannot be opened as a sentence-transformers model" in str(caught.value)


@pytest.mark.slow
def test_an_encoder_of_the_hub_has_the_revision_of_the_same_weights_in_a_package(tmp_path, encoder):
    commit, repo = "0123456789abcdef0123456789abcdef01234567", tmp_path / "models--lab--encoder"
    (repo / "snapshots").mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    (repo / "snapshots" / commit).symlink_to(weights.resolve("minilm").source, target_is_directory=True)
    code = "from anthology_hub import Encoder; print(Encoder('lab/encoder').card)"
    env = {**os.environ, "HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert f"model='lab/encoder', revision='{encoder.card.revision}'" in done.stdout, done.stderr


# -- index


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


def test_a_file_that_would_take_far_more_memory_than_its_vectors_is_refused_and_the_limit_put_back(tmp_path):
    before = faiss.get_deserialization_vector_byte_limit()
    Index(unit_rows(np.random.default_rng(4), 10_000, 64)).write(tmp_path / "flat.faiss")
    with pytest.raises(DataError, match="flat.faiss cannot be read: load the collection again"):
        Index(np.eye(3, dtype=np.float32), file=tmp_path / "flat.faiss")
    assert faiss.get_deserialization_vector_byte_limit() == before


def test_a_file_of_another_metric_is_refused(tmp_path):
    vectors = unit_rows(np.random.default_rng(5), 10, 8)
    other = faiss.IndexFlatL2(8)
    other.add(vectors)
    faiss.write_index(other, str(tmp_path / "flat.faiss"))
    with pytest.raises(DataError, match="flat.faiss ranks by another metric than the inner product"):
        Index(vectors, file=tmp_path / "flat.faiss")
