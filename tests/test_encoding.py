"""Passages lose nothing and are read whole; vectors do not depend on what is encoded together."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anthology_hub import weights
from anthology_hub.encoding import CPU_TOKENS, PASSAGE_TOKENS, Encoder, EncoderCard, batches, cut_passages
from anthology_hub.errors import ModelError

TEXTS = st.text(st.sampled_from("ab .!?\"')]\n\tü春"), max_size=120)
COUNTS = {"words": lambda piece: len(piece.split()), "letters": len}


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


@given(st.lists(st.integers(1, 4), max_size=30), st.integers(4, 12))
def test_a_passage_takes_as_many_sentences_as_fit_and_each_is_counted_about_three_times(sizes, room):
    sentences = [" ".join(["word"] * size) + "." for size in sizes]
    asked = []
    spans = cut_passages(" ".join(sentences), lambda piece: asked.append(piece) or len(piece.split()), room)
    expected = []
    for size in sizes:
        if expected and expected[-1] + size <= room:
            expected[-1] += size
        else:
            expected.append(size)
    assert [len(" ".join(sentences)[a:b].split()) for a, b in spans] == expected
    assert sum(len(piece.split()) for piece in asked) <= 3 * sum(sizes) + 4 * len(expected)


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


@given(st.lists(st.integers(1, 40), max_size=30), st.integers(1, 100))
def test_every_row_is_in_one_batch_that_keeps_to_its_tokens_once_padded_unless_it_is_alone(lengths, tokens):
    lengths = np.array(lengths, dtype=np.int64)
    found = batches(lengths, tokens)
    assert sorted(row for rows in found for row in rows) == list(range(len(lengths)))
    assert all(len(rows) == 1 or lengths[rows].max() * len(rows) <= tokens for rows in found)
    assert [row for rows in found for row in rows] == sorted(range(len(lengths)), key=lambda row: -lengths[row])


def test_texts_of_mixed_length_get_the_vectors_that_sentence_transformers_gives(encoder):
    texts = [" ".join(["The river ran past our farm."] * n) for n in (40, 1, 12, 3, 25, 7, 40, 2)]
    lengths = encoder._lengths(texts)
    assert lengths.tolist()[1:4] == [9, 86, 23]
    assert len(batches(np.minimum(lengths, PASSAGE_TOKENS), CPU_TOKENS)) == 2
    theirs = encoder._model.encode(texts, normalize_embeddings=True, show_progress_bar=False)
    assert (encoder.encode(texts) * theirs).sum(axis=1).min() > 0.99999
