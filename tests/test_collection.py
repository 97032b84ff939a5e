"""Collections: filters and probabilities, exact search with evidence, folders that come back whole or not at all."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pytest

from anthology_hub import collection, release, weights
from anthology_hub.collection import Anthology
from anthology_hub.encoding import Encoder
from anthology_hub.errors import AnthologyError, DataError, EmptyError, IntegrityError, OptionError, UnknownNameError
from anthology_hub.schema import DATA, Codebook, Persona

PASSAGES = "embeddings/all-MiniLM-L6-v2/train-00000-of-00001.parquet"
PERSONAS = "personas/train-00000-of-00001.parquet"
ANNOTATIONS = "annotations/train-00000-of-00001.parquet"
INDEX = "index/all-MiniLM-L6-v2/flat.faiss"

# Four people: sure, unsure on both sides of the bar, spread out, and not annotated at all.
RECORDS = [
    {
        "backstory": "I keep bees in Vermont and sell the honey at a stand by the road.",
        "traits": {"age": "65+", "region": "Northeast"},
        "evidence": {"region": "in Vermont"},
        "key": "bees",
    },
    {
        "backstory": "I drive a truck along the coast and sleep in the cab.",
        "traits": {"age": {"30-49": 0.5, "50-64": 0.3, "65+": 0.2}, "region": {"South": 0.4, "West": 0.6}},
    },
    {
        "backstory": "I teach children to swim in a lake.",
        "traits": {"age": {"18-29": 0.4, "30-49": 0.3, "50-64": 0.3}, "region": "South"},
        "quality_flags": ["short"],
    },
    {"backstory": "I write code at night, alone, with the radio on."},
]
IDS = [Persona.id_of(record["backstory"]) for record in RECORDS]
PROVENANCE = {"source": "tests", "generator": "hand", "method": "sampled", "annotator": "somebody"}


def make(records=RECORDS, codebook="starter", **changes):
    given = {"name": "few", "licence": "CC0-1.0", "provenance": PROVENANCE, **changes}
    return Anthology.from_records(records, Codebook.load(codebook), **given)


@pytest.fixture(scope="module")
def bare():
    return make()


@pytest.fixture(scope="module")
def few(bare, encoder):
    return bare.embed(encoder)


@pytest.fixture
def saved(few, tmp_path):
    few.save(tmp_path / "people", release="1.2.3", changelog="# Changes\n")
    return tmp_path / "people"


@pytest.fixture(scope="module")
def renamed(tmp_path_factory):
    """The same weights under another name: another encoder as far as anyone can know."""
    link = tmp_path_factory.mktemp("models") / "mine"
    shutil.copytree(weights.resolve("minilm").source, link, copy_function=os.symlink)
    return Encoder(str(link))


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


def brute_force(people, encoder, text):
    """Best passage of every persona by pandas and numpy alone, from the files as shipped."""
    table = pd.read_parquet(DATA / "starter" / PASSAGES)
    texts = pd.read_parquet(DATA / "starter" / PERSONAS).set_index("persona_id")["backstory"]
    table["score"] = np.stack(table["vector"]) @ encoder.encode([text])[0]
    best = table[table["persona_id"].isin(people.ids)].sort_values("score", ascending=False, kind="stable")
    best = best.drop_duplicates("persona_id")
    best["text"] = [texts[p][a:b] for p, a, b in zip(best["persona_id"], best["start"], best["end"], strict=True)]
    return best


# -- made of records


def test_records_become_personas_with_content_ids_top_levels_and_provenance(bare):
    assert bare.ids == IDS
    assert [p.traits["age"] for p in bare] == ["65+", "30-49", None, None]
    assert [p.traits["region"] for p in bare] == ["Northeast", "West", "South", None]
    row = bare.to_dataset()[0]
    assert {name: row[name] for name in ("source", "generator", "prompt_id", "source_key", "n_words")} == {
        "source": "tests",
        "generator": "hand",
        "prompt_id": None,
        "source_key": "bees",
        "n_words": 15,
    }
    assert bare.to_dataset()["quality_flags"][:3] == [[], [], ["short"]]
    assert bare.identity == "few@0.0.0#unsaved"
    assert repr(bare) == "<Anthology few@0.0.0#unsaved: 4 of 4 personas>"


def test_a_trait_is_null_below_the_confidence_bar_and_only_there(starter):
    levels = ["18-29", "30-49"]
    for p, top in ((0.499, "30-49"), (0.5, "18-29"), (0.51, "18-29")):
        people = make([{"backstory": "I am.", "traits": {"age": dict(zip(levels, (p, 1 - p), strict=True))}}])
        assert people[0].traits["age"] == top
    thirds = {"18-29": 0.34, "30-49": 0.33, "50-64": 0.33}
    assert make([{"backstory": "I am.", "traits": {"age": thirds}}])[0].traits["age"] is None
    assert collection.CONFIDENCE == 0.5


def test_annotations_keep_the_whole_distribution_the_quote_and_who_said_so(bare):
    age, region = bare.annotations_of(IDS[0])
    assert (age["trait"], age["levels"], age["probs"]) == ("age", ["18-29", "30-49", "50-64", "65+"], [0, 0, 0, 1])
    assert (region["evidence"], age["evidence"]) == ("in Vermont", None)
    assert {a["method"] for a in (age, region)} == {"sampled"}
    np.testing.assert_allclose(bare.distribution("age")[1], [0, 0.5, 0.3, 0.2], atol=1e-7)
    assert np.isnan(bare.distribution("age")[3]).all()
    assert bare.annotations_of("nobody") == []


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({}, "record 1 has no backstory, but None: give a text or leave the record out"),
        ({"backstory": " \n"}, "record 1 has no backstory, but ' \\n'"),
        ({"backstory": float("nan")}, "record 1 has no backstory, but nan"),
        ({"backstory": "I am first. "}, "records 0 and 1 have the same backstory: keep one of them"),
        (
            {"traits": {"age": {"65+": 0.9}}},
            "the probabilities of age must be 0 or more and sum to 1, got {'65+': 0.9}",
        ),
        ({"traits": {"age": {"65+": 1.5, "18-29": -0.5}}}, "must be 0 or more and sum to 1"),
        ({"traits": {"age": {"65+": float("nan")}}}, "must be 0 or more and sum to 1, got {'65+': nan}"),
        ({"traits": {"age": {"65+": "1"}}}, "must be 0 or more and sum to 1, got {'65+': '1'}"),
        ({"traits": {"age": {}}}, "must be 0 or more and sum to 1, got {}"),
        ({"traits": {"age": None}}, "age must be a level or {level: probability}, got None: leave it out"),
        (
            {"traits": {"age": "65+"}, "evidence": {"age": "I am old"}},
            "evidence for age is not in the backstory: 'I am",
        ),
    ],
)
def test_a_bad_record_is_refused_with_its_place(record, said):
    records = [{"backstory": "I am first."}, {"backstory": "I am second.", **record}]
    if not record:
        del records[1]["backstory"]
    with pytest.raises(DataError) as caught:
        make(records)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("record", "changes", "said"),
    [
        ({"traits": {"aeg": "65+"}}, {}, "unknown trait 'aeg': did you mean 'age'? Allowed: 'age', 'gender'"),
        ({"traits": {"age": "65"}}, {}, "unknown level of age '65': did you mean '65+'? Allowed: '18-29'"),
        (
            {"traits": {"age": "65+"}, "evidence": {"region": "I"}},
            {},
            "unknown trait with evidence in record 0 'region': Allowed: 'age'",
        ),
        ({}, {"provenance": {"sauce": "x"}}, "unknown column of provenance 'sauce': did you mean 'source'?"),
    ],
)
def test_an_unknown_name_in_a_record_is_told_with_the_nearest(record, changes, said):
    with pytest.raises(UnknownNameError) as caught:
        make([{"backstory": "I am.", **record}], **changes)
    assert said in str(caught.value)


def test_no_records_are_refused():
    with pytest.raises(EmptyError, match="a collection needs at least one backstory"):
        make([])


def test_a_trait_named_like_a_column_is_refused(tmp_path):
    trait = {"name": "backstory", "label": "B", "question": "B?", "levels": ["x"], "bio": "I am {}."}
    (tmp_path / "c.json").write_text(json.dumps({"name": "c", "traits": [trait]}))
    with pytest.raises(DataError, match="traits cannot be named like columns of the personas: rename backstory"):
        make(RECORDS[3:], codebook=str(tmp_path / "c.json"))


# -- where, score, sample, margins


def test_where_takes_the_top_level_and_min_prob_the_summed_probability(bare):
    assert bare.where(age="30-49").ids == [IDS[1]]
    assert bare.where(age=["30-49", "65+"]).ids == [IDS[0], IDS[1]]
    assert bare.where(min_prob=0.3, age="30-49").ids == [IDS[1], IDS[2]]
    assert bare.where(min_prob=0.6, age=["30-49", "50-64"]).ids == [IDS[1], IDS[2]]
    assert bare.where(min_prob=0.7, age=["30-49", "50-64"]).ids == [IDS[1]]
    assert bare.where(min_prob=0.4, age="30-49", region="South").ids == [IDS[1]]
    assert bare.where(min_prob=1.0, region="South").ids == [IDS[2]]
    assert bare.where().ids == IDS


def test_a_level_named_twice_counts_once(bare):
    assert bare.where(min_prob=0.3, age=["65+", "65+"]).ids == [IDS[0]]
    assert bare.score(age=["65+", "65+"]).scores.max() == 1


def test_where_agrees_with_pandas_on_the_starter_and_chains(starter):
    table = pd.read_parquet(DATA / "starter" / PERSONAS)
    keep = table["region"].eq("South") & table["age"].isin(["50-64", "65+"])
    assert starter.where(region="South", age=["50-64", "65+"]).ids == table["persona_id"][keep].tolist()
    assert starter.where(age=["50-64", "65+"]).where(region="South").ids == table["persona_id"][keep].tolist()
    assert starter.where(min_prob=0.7, region="South").ids == starter.where(region="South").ids


def test_nobody_left_is_an_error_that_counts_each_condition_alone(starter):
    table = pd.read_parquet(DATA / "starter" / PERSONAS)
    alone = int(table["age"].eq("18-29").sum()), int(table["work"].eq("Retired").sum())
    assert not (table["age"].eq("18-29") & table["work"].eq("Retired")).any()
    with pytest.raises(EmptyError) as caught:
        starter.where(age="18-29", work="Retired")
    said = f"none of 320 personas fits all conditions; alone fit age='18-29': {alone[0]}, work='Retired': {alone[1]}"
    assert str(caught.value) == f"{said}: drop or widen one"


def test_conditions_that_cannot_be_are_refused(bare):
    with pytest.raises(UnknownNameError, match=r"unknown trait 'aeg': did you mean 'age'\? Allowed: "):
        bare.where(aeg="65+")
    with pytest.raises(UnknownNameError, match=r"unknown level of region 'Suoth': did you mean 'South'\?"):
        bare.score(region=["West", "Suoth"])
    for bad in (0, -0.5, 1.01):
        with pytest.raises(OptionError, match=f"min_prob must be above 0 and at most 1, got {bad}"):
            bare.where(min_prob=bad, age="65+")


def test_score_is_the_product_of_probabilities_and_uniform_where_not_annotated(bare):
    found = bare.score(age=["30-49", "50-64"], region="South")
    expected = {IDS[0]: 0, IDS[1]: 0.8 * 0.4, IDS[2]: 0.6 * 1, IDS[3]: (2 / 4) * (1 / 4)}
    assert found.ids == sorted(expected, key=expected.get, reverse=True)
    np.testing.assert_allclose(found.scores, sorted(expected.values(), reverse=True), atol=1e-6)
    assert [p.score for p in found] == found.scores.tolist()


def test_score_keeps_the_order_of_equals(starter):
    found = starter.score(gender="Female")
    women = starter.where(gender="Female").ids
    assert found.ids == women + [i for i in starter.ids if i not in set(women)]


def test_a_sample_is_distinct_in_order_and_the_same_for_the_same_seed(starter):
    part = starter.sample(40, seed=1)
    assert part.ids == starter.sample(40, seed=1).ids
    assert part.ids != starter.sample(40, seed=2).ids
    assert part.ids == [i for i in starter.ids if i in set(part.ids)]
    assert len(set(part.ids)) == 40
    assert starter.sample(320).ids == starter.ids


def test_every_persona_is_as_likely_to_be_sampled(bare):
    counts = pd.Series([i for seed in range(2_000) for i in bare.sample(2, seed=seed).ids]).value_counts()
    # 1,000 each is expected, with a standard deviation of 22.
    assert counts.reindex(IDS).between(890, 1_110).all()


@pytest.mark.parametrize("n", [0, 5])
def test_a_sample_that_cannot_be_drawn_is_refused(bare, n):
    with pytest.raises(OptionError, match=f"cannot sample {n} personas of 4: allowed are 1 to 4"):
        bare.sample(n)


def test_scores_stay_with_their_personas_through_filter_and_sample(starter):
    found = starter.score(age="65+", region="South")
    by_id = dict(zip(found.ids, found.scores, strict=True))
    for view in (found.where(gender="Female"), found.sample(20, seed=5)):
        assert view.scores.tolist() == [by_id[i] for i in view.ids]
    assert starter.scores is None
    assert starter[0].score is None


def test_margins_are_mean_probabilities_of_the_annotated(bare, starter):
    expected = np.mean([[0, 0, 0, 1], [0, 0.5, 0.3, 0.2], [0.4, 0.3, 0.3, 0]], axis=0)
    np.testing.assert_allclose(list(bare.margins("age").values()), expected, atol=1e-6)
    table = pd.read_parquet(DATA / "starter" / PERSONAS)
    for trait in starter.codebook.traits:
        shares = table[trait.name].value_counts(normalize=True).reindex(trait.levels, fill_value=0)
        assert starter.margins(trait.name) == pytest.approx(shares.to_dict(), abs=1e-9)


def test_margins_of_nobody_annotated_are_an_error_not_nan(bare):
    with pytest.raises(EmptyError, match="no persona of this view is annotated for gender"):
        bare.margins("gender")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"persona_id": "nobody"}, "of the persona nobody, who is not in this view: leave out"),
        ({"levels": ["A", "B", "C", "D"]}, "give the trait as well, with these levels"),
        ({"levels": None}, "an annotation has no levels, got .*: give each"),
        ({"probs": [0.5, 0.2, 0.1, 0.1]}, "must be 4 numbers, 0 or more, that sum to 1, got .*0.5, 0.2"),
        ({"probs": [2.0, -1.0, 0.0, 0.0]}, "must be 4 numbers, 0 or more"),
        ({"probs": [1.0, 0.0]}, "must be 4 numbers, 0 or more"),
        ({"probs": [float("nan")] * 4}, "must be 4 numbers, 0 or more"),
        ({"probs": ["1", 0, 0, 0]}, "must be 4 numbers, 0 or more"),
        ({"evidence": "in Ohio"}, "the evidence for region is not in the backstory of .*: 'in Ohio'"),
    ],
)
def test_an_annotation_that_cannot_be_is_refused(bare, change, message):
    region = bare.codebook.trait("region")
    row = {"persona_id": IDS[0], "trait": "region", "levels": list(region.levels), "probs": [1, 0, 0, 0]}
    with pytest.raises(DataError, match=message):
        bare.with_annotations([row | change], [region])
    with pytest.raises(DataError, match=f"{IDS[0]} has two annotations of region: keep one of them"):
        bare.with_annotations([row, row | {"probs": [0, 1, 0, 0]}], [region])
    kept = bare.with_annotations([row | {"probs": np.float32([0.25] * 4), "evidence": "in Vermont"}], [region])
    assert kept.annotations_of(IDS[0])[-1]["evidence"] == "in Vermont"


# -- one persona


def test_a_persona_is_got_by_the_beginning_of_its_id(bare):
    assert bare.get(IDS[2][:8]).backstory == RECORDS[2]["backstory"]
    with pytest.raises(DataError, match="4 personas have an id that begins with '': give more digits"):
        bare.get("")
    with pytest.raises(DataError, match="0 personas have an id that begins with 'zz': ids of this view are in `ids`"):
        bare.get("zz")
    with pytest.raises(DataError, match="0 personas"):
        bare.where(region="South").get(IDS[0])


def test_a_view_is_a_sequence(bare):
    assert [p.persona_id for p in bare] == IDS
    assert bare[-1].persona_id == IDS[-1]
    with pytest.raises(IndexError):
        bare[4]


# -- search

QUERIES = ["grew up on a farm", "lost a husband", "night shifts in a hospital", "music", "the union and the strike"]


@pytest.mark.parametrize("text", QUERIES)
@pytest.mark.parametrize("conditions", [{}, {"region": "South"}, {"age": "65+", "gender": "Female"}])
def test_search_equals_brute_force_over_all_passages(starter, encoder, text, conditions):
    view = starter.where(**conditions)
    best = brute_force(view, encoder, text)
    for k in (1, 7, len(view)):
        found, exact = view.search(text, k, encoder=encoder), best.head(k)
        assert found.ids == exact["persona_id"].tolist()
        np.testing.assert_allclose(found.scores, exact["score"], atol=1e-5)
        assert [p.passage for p in found] == exact["text"].tolist()
        assert [p.score for p in found] == found.scores.tolist()
        assert all(p.passage in p.backstory for p in found)


def test_a_filter_that_a_search_afterwards_would_miss_still_finds_its_people(starter, encoder):
    for text in QUERIES:
        last = starter.search(text, 320, encoder=encoder).ids[-1]
        # A view of this one persona, by its own traits; nobody of it is among the plain top ten.
        traits = {name: level for name, level in starter.get(last).traits.items() if level}
        rare = starter.where(**traits)
        assert last in rare.ids
        found = rare.search(text, 10, encoder=encoder)
        assert set(found.ids) == set(rare.ids)
        assert last not in starter.search(text, 10, encoder=encoder).ids


def test_every_passage_finds_its_own_persona_with_score_one(starter, encoder):
    for persona in starter.sample(12, seed=8):
        for a, b in encoder.passages(persona.backstory):
            best = starter.search(persona.backstory[a:b], 1, encoder=encoder)[0]
            assert best.persona_id == persona.persona_id
            assert best.passage == persona.backstory[a:b]
            assert best.score == pytest.approx(1, abs=1e-5)


def test_k_counts_distinct_personas(starter, encoder):
    table = pd.read_parquet(DATA / "starter" / PASSAGES)
    assert len(table) > len(starter)
    for k in (2, 10, 319):
        found = starter.search("my mother's kitchen", k, encoder=encoder)
        assert len(set(found.ids)) == len(found) == k
        assert found.shortfall == 0
        assert (np.diff(found.scores) <= 0).all()


def test_more_than_there_are_gives_all_and_says_how_many_are_missing(starter, encoder):
    west = starter.where(region="West")
    found = west.search("the sea", 10_000, encoder=encoder)
    assert sorted(found.ids) == sorted(west.ids)
    assert found.shortfall == 10_000 - len(west)
    assert repr(found).endswith(f"{len(west)} of 320 personas, {found.shortfall} fewer than asked>")


def test_searching_what_was_found_searches_nothing_else(starter, encoder):
    farm = starter.search("grew up on a farm", 20, encoder=encoder)
    both = farm.search("served in the army", 20, encoder=encoder)
    assert sorted(both.ids) == sorted(farm.ids)
    assert both.ids == brute_force(farm, encoder, "served in the army")["persona_id"].tolist()


def test_a_filter_after_a_search_keeps_scores_and_evidence(starter, encoder):
    found = starter.search("grew up on a farm", 50, encoder=encoder)
    known = {p.persona_id: (p.score, p.passage) for p in found}
    for persona in found.where(region="South"):
        assert (persona.score, persona.passage) == known[persona.persona_id]


def test_a_search_opens_the_encoder_of_the_vectors_by_itself(starter, encoder):
    assert starter.search("a dog", 5).ids == starter.search("a dog", 5, encoder=encoder).ids


def test_a_search_that_cannot_be_is_refused(starter, bare, encoder):
    with pytest.raises(OptionError, match="the search text is empty: say what the backstory should be about"):
        starter.search(" \n", encoder=encoder)
    with pytest.raises(OptionError, match="k must be at least 1, got 0"):
        starter.search("farm", 0, encoder=encoder)
    with pytest.raises(DataError, match=r"the collection 'few' has no embeddings: call embed\(\) first"):
        bare.search("farm", encoder=encoder)


def test_the_vectors_of_one_encoder_are_not_searched_with_another(starter, renamed):
    assert renamed.card.model == "local/mine"
    with pytest.raises(OptionError) as caught:
        starter.search("farm", encoder=renamed)
    said = str(caught.value)
    assert "sentence-transformers/all-MiniLM-L6-v2" in said
    assert "local/mine" in said
    assert said.endswith("embed the collection again")


def test_vectors_of_a_local_encoder_are_searched_only_with_it_in_hand(bare, renamed, encoder, few, tmp_path):
    people = bare.embed(renamed).save(tmp_path / "people")
    with pytest.raises(OptionError, match=r"made by local/mine, a folder: give it as encoder=Encoder\(...\)"):
        people.search("swimming")
    found = people.search("swimming", 1, encoder=renamed)
    assert found.ids == few.search("swimming", 1, encoder=encoder).ids == [IDS[2]]


def test_embedding_again_with_the_same_encoder_computes_nothing(few, starter, encoder, renamed):
    assert few.embed(encoder) is few
    assert starter.embed(encoder) is starter
    assert few.embed(renamed) is not few


class Counting(Encoder):
    """The real encoder, which writes down the texts that it reads."""

    def __init__(self):
        super().__init__()
        self.read = []

    def encode(self, texts, **options):
        self.read += texts
        return super().encode(texts, **options)


@pytest.fixture(scope="module")
def counting():
    return Counting()


def vectors_of(people, encoder):
    """Persona -> the texts and vectors of their passages."""
    vectors, owners = people.passage_vectors(encoder.card)
    return {people._store.ids[owner]: vectors[owners == owner] for owner in np.unique(owners)}


def test_vectors_known_of_a_text_in_other_collections_are_not_computed_again(few, counting):
    counting.read.clear()
    more = make([*reversed(RECORDS), {"backstory": "I mend clocks in a small shop."}])
    done = more.embed(counting, known=[few.where(region="South"), few])
    assert counting.read == ["I mend clocks in a small shop."]
    mine, theirs = vectors_of(done, counting), vectors_of(few, counting)
    assert list(mine) == more.ids
    assert all(np.array_equal(mine[persona_id], theirs[persona_id]) for persona_id in IDS)
    texts = [done.search(record["backstory"], 1, encoder=counting)[0] for record in RECORDS]
    assert [found.passage for found in texts] == [record["backstory"] for record in RECORDS]


def test_vectors_of_another_encoder_are_not_taken_for_known(few, bare, counting, renamed):
    counting.read.clear()
    bare.embed(counting, known=[bare.embed(renamed)])
    assert counting.read == [record["backstory"] for record in RECORDS]


def test_extending_reads_new_texts_only_wherever_they_come_from(few, encoder, counting):
    counting.read.clear()
    added = make([RECORDS[2], {"backstory": "I mend clocks in a small shop."}, RECORDS[0]])
    longer = few.extended(added, encoder=counting)
    assert counting.read == ["I mend clocks in a small shop."]
    assert longer.ids == [*IDS, added.ids[1]]
    # Who comes with vectors of the same encoder needs none.
    again = few.extended(added.embed(encoder), encoder=counting)
    assert counting.read == ["I mend clocks in a small shop."]
    assert vectors_of(again, counting).keys() == vectors_of(longer, counting).keys()


def test_removing_and_reordering_computes_nothing(few, counting):
    counting.read.clear()
    view = few.score(region="South").where(region=["South", "West"])
    again = view.extended(few, encoder=counting)
    assert again.embed(counting) is again and view.embed(counting) is view and counting.read == []
    mine, theirs = vectors_of(again, counting), vectors_of(few, counting)
    assert all(np.array_equal(mine[persona_id], theirs[persona_id]) for persona_id in IDS)


# -- folder


def test_a_saved_collection_comes_back_equal(few, saved, encoder):
    back = Anthology.load(saved)
    assert back.identity == f"few@1.2.3#{hashlib.sha256((saved / 'manifest.json').read_bytes()).hexdigest()[:12]}"
    assert back.codebook == few.codebook
    assert back.ids == few.ids
    assert list(back) == list(few)
    assert back.to_dataset().to_list() == few.to_dataset().to_list()
    assert [back.annotations_of(i) for i in IDS] == [few.annotations_of(i) for i in IDS]
    one, other = few.search("honey", 4, encoder=encoder), back.search("honey", 4, encoder=encoder)
    assert list(one) == list(other)
    assert set(contents(saved)) == {
        *("README.md", "CHANGELOG.md", "manifest.json", "codebook.json"),
        *(PERSONAS, ANNOTATIONS, PASSAGES, INDEX),
    }


def test_the_same_content_gives_the_same_bytes(few, saved, tmp_path):
    few.save(tmp_path / "again", release="1.2.3", changelog="# Changes\n")
    Anthology.load(saved).save(tmp_path / "third", changelog="# Changes\n")
    assert contents(saved) == contents(tmp_path / "again") == contents(tmp_path / "third")


def test_the_manifest_tells_every_file_by_size_and_sha256(saved):
    manifest = json.loads((saved / "manifest.json").read_text())
    assert manifest["files"] == {
        name: {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
        for name, content in contents(saved).items()
        if name != "manifest.json"
    }
    assert manifest["rows"] == {"personas": 4, "annotations": 6, "embeddings-all-MiniLM-L6-v2": 4}


def test_a_view_is_saved_in_its_order_with_only_what_belongs_to_it(starter, encoder, tmp_path):
    view = starter.where(region="South").score(age="65+").sample(30, seed=2).score(gender="Female")
    assert view.ids != [i for i in starter.ids if i in set(view.ids)]
    back = view.save(tmp_path / "south", release="2.0.0")
    assert back.ids == view.ids
    assert [p.traits for p in back] == [p.traits for p in view]
    tables = {name: pd.read_parquet(tmp_path / "south" / name) for name in (ANNOTATIONS, PASSAGES)}
    for table in tables.values():
        assert table["persona_id"].drop_duplicates().tolist() == view.ids
    assert (tables[PASSAGES].groupby("persona_id")["passage"].apply(list).map(lambda n: n == list(range(len(n))))).all()
    for text in QUERIES:
        mine, theirs = view.search(text, 8, encoder=encoder), back.search(text, 8, encoder=encoder)
        assert mine.ids == theirs.ids
        np.testing.assert_allclose(mine.scores, theirs.scores, atol=1e-6)
    card = (tmp_path / "south" / "README.md").read_text()
    assert f"A selection:** 30 of the 320 personas of {starter.identity}." in card
    assert "\n30 personas, release 2.0.0, licence CC-BY-4.0" in card and "**Who wrote them.**" in card


def test_size_of_the_collection_is_told_in_the_hubs_classes(tmp_path):
    many = make([{"backstory": f"I am number {n}."} for n in range(1_200)])
    many.save(tmp_path / "many")
    assert "- 1K<n<10K\n" in (tmp_path / "many" / "README.md").read_text()


def test_a_collection_without_embeddings_can_be_saved_and_embedded_later(bare, few, encoder, tmp_path):
    back = bare.save(tmp_path / "bare").embed(encoder)
    assert back.search("honey", 2, encoder=encoder).ids == few.search("honey", 2, encoder=encoder).ids


@pytest.mark.parametrize("streaming", [False, True])
def test_load_dataset_reads_every_config(few, saved, tmp_path, streaming):
    from datasets import get_dataset_config_names, load_dataset

    configs = get_dataset_config_names(str(saved))
    assert configs == ["personas", "annotations", "embeddings-all-MiniLM-L6-v2"]
    options = {"split": "train", "streaming": streaming, "cache_dir": str(tmp_path / "cache")}
    rows = {name: list(load_dataset(str(saved), name, **options)) for name in configs}
    assert {name: len(found) for name, found in rows.items()} == dict(zip(configs, (4, 6, 4), strict=True))
    assert rows["personas"] == few.to_dataset().to_list()
    assert [row["persona_id"] for row in load_dataset(str(saved), **options)] == IDS
    assert rows["annotations"][:2] == few.annotations_of(IDS[0])
    vectors = np.array([row["vector"] for row in rows["embeddings-all-MiniLM-L6-v2"]], dtype=np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_duckdb_polars_and_pandas_read_the_same_tables(few, saved):
    records = few.to_dataset().to_list()
    assert pl.read_parquet(saved / PERSONAS).to_dicts() == records
    query = duckdb.sql(f"SELECT persona_id, region FROM '{saved}/personas/train-*.parquet' WHERE age = '65+'")
    assert query.fetchall() == [(IDS[0], "Northeast")]
    frame = pd.read_parquet(saved / PERSONAS)
    assert frame["persona_id"].tolist() == IDS
    assert frame["age"].isna().tolist() == [False, False, True, True]
    numbers = [
        np.stack(pd.read_parquet(saved / PASSAGES)["vector"]),
        pl.read_parquet(saved / PASSAGES)["vector"].to_numpy(),
    ]
    numbers.append(np.array(duckdb.sql(f"SELECT vector FROM '{saved / PASSAGES}'").fetchall(), dtype=np.float32)[:, 0])
    for vectors in numbers:
        assert vectors.shape == (4, 384)
        assert np.array_equal(vectors, numbers[0])
    both = f"'{saved / ANNOTATIONS}' JOIN '{saved / PERSONAS}' USING (persona_id)"
    assert duckdb.sql(f"SELECT count(*) FROM {both} WHERE len(probs) = 4").fetchall() == [(6,)]


# -- what is not loaded


@pytest.mark.parametrize("name", [PERSONAS, ANNOTATIONS, PASSAGES, INDEX, "codebook.json"])
@pytest.mark.parametrize("at", [0, 0.5, 1])
def test_one_changed_byte_in_any_file_is_found(saved, name, at):
    content = bytearray((saved / name).read_bytes())
    content[int(at * (len(content) - 1))] ^= 1
    (saved / name).write_bytes(content)
    with pytest.raises(IntegrityError) as caught:
        Anthology.load(saved)
    assert str(caught.value) == f"{saved / name} is not the file of the manifest (sha256 differs): get a fresh copy"


@pytest.mark.parametrize("name", [PERSONAS, ANNOTATIONS, PASSAGES, INDEX, "codebook.json"])
def test_a_missing_or_cut_file_is_found(saved, name):
    content = (saved / name).read_bytes()
    (saved / name).write_bytes(content[:-1])
    with pytest.raises(IntegrityError, match="sha256 differs"):
        Anthology.load(saved)
    (saved / name).unlink()
    with pytest.raises(IntegrityError) as caught:
        Anthology.load(saved)
    assert str(caught.value) == f"{saved / name} is missing: the manifest lists it, get a fresh copy"


def rewrite(folder, change):
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        (lambda m: m["files"][PERSONAS].update(size=1), IntegrityError, "sha256 differs"),
        (
            lambda m: m["files"].pop("codebook.json"),
            IntegrityError,
            "does not list codebook.json: the collection is",
        ),
        (lambda m: m["files"].pop(INDEX), IntegrityError, f"does not list {INDEX}"),
        (lambda m: m.update(persona_ids_sha256="0" * 64), IntegrityError, "persona ids of .* are not those of its man"),
        (lambda m: m.pop("persona_ids_sha256"), IntegrityError, "are not those of its manifest: get a fresh copy"),
        (lambda m: m["rows"].update(personas=3), IntegrityError, "are not those of its manifest: get a fresh copy"),
        (lambda m: m["rows"].update(personas="x"), DataError, "as a collection: ValueError: .*'x'; get a fresh copy"),
        (lambda m: m.update(embeddings=[1]), DataError, "cannot be read as a collection: IndexError"),
        (lambda m: m.update(release=1), DataError, "as a collection: TypeError: release must be a text, got 1; get a"),
        (lambda m: m.update(licence=None), DataError, "licence must be a text, got None; get a fresh copy"),
        (lambda m: m["files"].pop(PERSONAS), IntegrityError, "lists no personas: get a fresh copy"),
        (lambda m: m.pop("files"), DataError, "cannot be read as a collection: KeyError: 'files'"),
        (lambda m: m.update(files=[]), DataError, "cannot be read as a collection: TypeError"),
        (lambda m: m.pop("licence"), DataError, "cannot be read as a collection: KeyError: 'licence'"),
        (lambda m: m.update(embeddings=None), DataError, "cannot be read as a collection: TypeError"),
        (lambda m: m["embeddings"]["all-MiniLM-L6-v2"].update(colour=1), DataError, "unexpected keyword .*'colour'"),
        (
            lambda m: m.update(schema_version="2.0"),
            DataError,
            "schema version '2.0', this package reads 1.0: update one",
        ),
        (lambda m: m.pop("schema_version"), DataError, "schema version None, this package reads 1.0"),
    ],
)
def test_an_altered_manifest_is_refused(saved, change, kind, said):
    rewrite(saved, change)
    with pytest.raises(kind, match=said) as caught:
        Anthology.load(saved)
    assert type(caught.value) is kind
    assert str(saved) in str(caught.value)


def test_a_later_minor_schema_version_is_read(saved):
    rewrite(saved, lambda m: m.update(schema_version="1.7"))
    assert Anthology.load(saved).ids == IDS


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe"])
def test_a_manifest_that_is_no_json_object_is_refused(saved, content):
    (saved / "manifest.json").write_bytes(content)
    with pytest.raises(DataError, match=r"manifest.json (cannot be read as JSON|holds a JSON list)"):
        Anthology.load(saved)


def test_a_codebook_that_the_manifest_vouches_for_but_is_none_is_refused(saved):
    (saved / "codebook.json").write_bytes(b"{")
    record = {"sha256": hashlib.sha256(b"{").hexdigest(), "size": 1}
    rewrite(saved, lambda m: m["files"].update({"codebook.json": record}))
    with pytest.raises(DataError, match="codebook.json cannot be read as JSON"):
        Anthology.load(saved)


def test_a_folder_without_a_manifest_is_no_collection(tmp_path):
    with pytest.raises(DataError) as caught:
        Anthology.load(tmp_path)
    said = "is no collection: it has no manifest.json; give what Anthology.save wrote"
    assert str(caught.value) == f"{tmp_path} {said}"


def test_a_source_or_revision_that_cannot_be_is_refused(saved):
    with pytest.raises(DataError, match="neither a folder nor a repository name like 'namespace/name'"):
        Anthology.load("nonsense")
    with pytest.raises(OptionError, match="has no revisions: leave out revision='v1'"):
        Anthology.load(saved, revision="v1")


def test_the_starter_is_the_shipped_one_unless_a_collection_of_that_name_is_here(starter, saved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("starter").mkdir()
    assert Anthology.load("starter").identity == starter.identity
    shutil.copytree(saved, "starter", dirs_exist_ok=True)
    assert Anthology.load("starter").ids == IDS


def test_a_collection_replaced_after_loading_is_never_searched_with_the_wrong_vectors(few, saved, encoder):
    loaded = Anthology.load(saved)
    few.score(region="South").save(saved)
    with pytest.raises(DataError, match="is not the file of the manifest .sha256 differs.: get a fresh copy"):
        loaded.search("honey", encoder=encoder)
    shutil.rmtree(saved)
    with pytest.raises(DataError, match="is missing: the manifest lists it, get a fresh copy"):
        loaded.search("honey", encoder=encoder)


def test_the_folder_of_an_encoder_of_any_name_makes_a_collection_that_everything_reads(bare, tmp_path):
    from datasets import load_dataset

    link = tmp_path / "my model [v2]"
    shutil.copytree(weights.resolve("minilm").source, link, copy_function=os.symlink)
    encoder = Encoder(str(link))
    embedded = bare.embed(encoder)
    saved = embedded.save(tmp_path / "people", release="1.0.0")
    rows = load_dataset(str(tmp_path / "people"), "embeddings-my-model-v2-", cache_dir=str(tmp_path / "cache"))
    assert rows["train"]["persona_id"] == IDS
    assert (
        saved.search("honey", k=4, encoder=encoder).ids == bare.embed(encoder).search("honey", k=4, encoder=encoder).ids
    )


# -- whole or not at all


def test_a_folder_that_holds_something_else_is_refused_and_left_alone(few, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("ten years of work")
    with pytest.raises(OptionError) as caught:
        few.save(tmp_path / "mine")
    assert str(caught.value) == (
        f"{tmp_path / 'mine'} holds what is no part of a collection, such as thesis.txt: give a new folder"
    )
    with pytest.raises(OptionError, match=r"thesis.txt is a file: give a new folder"):
        few.save(tmp_path / "mine" / "thesis.txt")
    assert contents(tmp_path) == {"mine/thesis.txt": b"ten years of work"}
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("release", ["1", "1.0", "v1.0.0", "1.0.0-rc1", "", "latest"])
def test_a_release_that_is_no_version_is_refused_before_anything_is_written(few, tmp_path, release):
    with pytest.raises(OptionError, match="must be 'major.minor.patch' as '1.0.0', got ") as caught:
        few.save(tmp_path / "people", release=release)
    assert repr(release) in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_an_empty_folder_a_new_one_below_and_the_current_one_are_filled(bare, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for folder in (".", tmp_path / "empty", tmp_path / "deep" / "er"):
        if folder == tmp_path / "empty":
            folder.mkdir()
        assert bare.save(folder).ids == IDS
    assert Anthology.load(tmp_path / "here").ids == IDS
    assert sorted(p.name for p in tmp_path.iterdir()) == ["deep", "empty", "here"]


def test_a_new_release_replaces_the_old_one_whole(few, saved):
    few.embed()
    part = Anthology.load(saved).where(region="South").save(saved, release="2.0.0")
    assert part.ids == Anthology.load(saved).ids == [IDS[2]]
    assert part.identity.startswith("few@2.0.0#")
    assert "1 personas, release 2.0.0" in (saved / "README.md").read_text()
    assert [p.name for p in saved.parent.iterdir()] == ["people"]


def test_a_save_that_fails_halfway_leaves_the_old_collection_and_nothing_else(few, saved):
    before = contents(saved.parent)
    # A lone surrogate cannot be written: the card fails after tables, vectors and index are on the disk.
    with pytest.raises(UnicodeEncodeError):
        few.where(region="South").save(saved, release="9.9.9", card="\ud800")
    assert contents(saved.parent) == before
    assert [p.name for p in saved.parent.iterdir()] == ["people"]


def test_a_swap_that_fails_puts_the_old_collection_back(saved):
    before = contents(saved.parent)
    with pytest.raises(FileNotFoundError):
        release._swap(saved.parent / "gone", saved)
    assert contents(saved.parent) == before


KILLED = """
import os, signal, sys
from anthology_hub import Anthology

class Deadly(str):
    def __radd__(self, other):
        os.kill(os.getpid(), signal.SIGKILL)

Anthology.load(sys.argv[1]).where(region="South").save(sys.argv[1], release="9.9.9", card=Deadly("x"))
"""


def test_a_process_killed_while_saving_leaves_the_old_collection_and_no_other(saved):
    before = contents(saved)
    done = subprocess.run([sys.executable, "-c", KILLED, str(saved)], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert contents(saved) == before
    assert Anthology.load(saved).ids == IDS
    left = [p for p in saved.parent.iterdir() if p != saved]
    assert all(p.name.startswith(".people-") for p in left)
    assert [p for p in saved.parent.glob("*") if not p.name.startswith(".")] == [saved]
    for stray in left:
        with pytest.raises(AnthologyError, match="is no collection: it has no manifest.json"):
            Anthology.load(stray)
    # The next save is not hindered by what was left.
    assert Anthology.load(saved).where(region="South").save(saved).ids == [IDS[2]]


def test_card_and_changelog_go_along_when_a_loaded_collection_is_saved(starter, tmp_path):
    saved = tmp_path / "copy"
    starter.save(saved)
    for name in ("README.md", "CHANGELOG.md"):
        assert (saved / name).read_text() == (DATA / "starter" / name).read_text()
    starter.save(saved, card="# Another card\n")
    assert (saved / "README.md").read_text().endswith("---\n\n# Another card\n")


def test_saving_never_removes_what_is_no_part_of_the_collection(starter, tmp_path):
    folder = tmp_path / "mine"
    starter.save(folder)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(OptionError, match=r"notes\.txt"):
        starter.sample(3).save(folder)
    assert (folder / "notes.txt").read_text() == "mine" and len(Anthology.load(folder)) == len(starter)
