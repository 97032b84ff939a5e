"""Cards: metadata that the Hub takes, figures that are the data's, words of users that stay words."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from anthology_hub import cards
from anthology_hub.cards import CardText, Source, collection_card, collection_facts, licence_id, results_card
from anthology_hub.encoding import EncoderCard
from anthology_hub.errors import DataError, OptionError
from anthology_hub.schema import DATA, Codebook, Trait

STARTER = DATA / "starter"
NASTY = 'Pat "the | pipe": #1 {0} {{ x }} <script>alert(1)</script>\n---\nlicense: mit\n* `a` \\'
COLOUR = Trait(
    name="colour",
    label="Colour",
    question="Which colour?",
    levels=("red", "green", "blue"),
    bio="I like {}.",
    population=(0.5, 0.25, 0.25),
)
TOWN = Trait(name="town", label="Town", question="Which town?", levels=("a|b", "c"), bio="I live in {}.")
CODEBOOK = Codebook(name="toy", traits=(COLOUR, TOWN), population_source="a made-up census")


def front(card):
    """The YAML of a card, read as the Hub reads it."""
    return yaml.safe_load(re.match(r"---\n(.*?)\n---\n", card, re.DOTALL)[1])


def table_under(card, heading):
    """The cells of the first table that has this heading in its first row."""
    rows = re.search(rf"^\| {heading} \|.*(?:\n\|.*)*", card, re.MULTILINE)[0].splitlines()
    return [re.split(r"(?<!\\)\|", row)[1:-1] for row in rows[2:]]


def stripped(rows):
    return [[cell.strip() for cell in row] for row in rows]


@pytest.fixture(scope="module")
def starter_facts():
    manifest = json.loads((STARTER / "manifest.json").read_text())
    return collection_facts(
        pq.read_table(STARTER / "personas"),
        pq.read_table(STARTER / "annotations"),
        name=manifest["name"],
        release=manifest["release"],
        licence=manifest["licence"],
        codebook=Codebook.from_dict(json.loads((STARTER / "codebook.json").read_text())),
        encoders={slug: EncoderCard(**card) for slug, card in manifest["embeddings"].items()},
    )


def personas(n=4, **columns):
    given = {
        "n_words": [10, 20, 40, 50][:n],
        "quality_flags": [["too_short"], ["too_short", "placeholder"], [], []][:n],
        "source": ["one", "two", "one", "one"][:n],
        "generator": [None] * n,
    }
    return pa.table({**given, **columns}, schema=PERSONAS)


PERSONAS = pa.schema(
    {"n_words": pa.int32(), "quality_flags": pa.list_(pa.string()), "source": pa.string(), "generator": pa.string()}
)
ANNOTATIONS = pa.schema(
    {
        "persona_id": pa.string(),
        "trait": pa.string(),
        "levels": pa.list_(pa.string()),
        "probs": pa.list_(pa.float32()),
        "method": pa.string(),
        "annotator": pa.string(),
        "evidence": pa.string(),
    }
)


def annotation(persona_id, probs, *, method="sampled", trait=COLOUR, evidence=None, annotator="reader"):
    return {
        "persona_id": persona_id,
        "trait": trait.name,
        "levels": list(trait.levels),
        "probs": probs,
        "method": method,
        "annotator": annotator,
        "evidence": evidence,
    }


ROWS = [
    annotation("a", [1.0, 0.0, 0.0], evidence="my red car"),
    annotation("b", [0.5, 0.5, 0.0]),
    annotation("c", [0.0, 0.75, 0.25], method="author", annotator=None),
]


def facts_of(rows=ROWS, **given):
    options = {"name": "toy", "release": "1.2.3", "licence": "CC-BY-4.0", "codebook": CODEBOOK, **given}
    return collection_facts(personas(), pa.Table.from_pylist(rows, ANNOTATIONS), **options)


# -- figures


def test_facts_are_counted_from_the_tables():
    facts = facts_of()
    assert facts.personas == 4
    assert facts.words == {"shortest": 10, "median": 30, "mean": 30, "longest": 50, "total": 120}
    assert facts.flags == {"too_short": 2, "placeholder": 1} and facts.flagged == 2
    assert facts.origins == {"one": 3, "two": 1} and facts.generators == {}
    assert facts.margins == {"colour": pytest.approx({"red": 0.5, "green": 1.25 / 3, "blue": 0.25 / 3})}
    assert facts.annotated == {"colour": 3} and facts.quoted == {"colour": 1}
    assert facts.confidence == {"colour": pytest.approx(2.25 / 3)}
    assert facts.methods == {("sampled", "reader"): 2, ("author", ""): 1}


def test_levels_may_be_named_in_any_order_and_some_left_out():
    rows = [{**annotation("a", [0.25, 0.75]), "levels": ["blue", "red"]}, annotation("b", [0.0, 1.0, 0.0])]
    assert facts_of(rows).margins["colour"] == pytest.approx({"red": 0.375, "green": 0.5, "blue": 0.125})


def test_the_margins_of_the_starter_are_those_that_a_query_gives(starter, starter_facts):
    for trait in starter.codebook.traits:
        assert starter_facts.margins[trait.name] == pytest.approx(starter.margins(trait.name))


def test_the_card_shows_margins_beside_the_population_with_kl():
    rows = stripped(table_under(collection_card(facts_of()), "trait \\| level"))
    p, q = np.array([0.5, 1.25 / 3, 0.25 / 3]), np.array([0.5, 0.25, 0.25])
    kl = f"{(p * np.log(p / q)).sum():.3f}"
    assert rows == [
        ["colour", "red", "0.500", "0.500", kl],
        ["", "green", "0.417", "0.250", ""],
        ["", "blue", "0.083", "0.250", ""],
    ]


def test_levels_far_from_the_population_are_named_among_the_biases_farthest_first():
    biases = collection_card(facts_of()).split("## Known biases")[1]
    assert "Farthest from the population: colour green (0.417, population 0.250); colour blue (0.083" in biases
    assert "colour red" not in biases


def test_a_trait_without_a_population_shows_a_dash_and_no_kl():
    rows = [*ROWS, annotation("a", [1.0, 0.0], trait=TOWN)]
    assert stripped(table_under(collection_card(facts_of(rows)), "trait \\| level"))[3:] == [
        ["town", r"a\|b", "1.000", "–", ""],
        ["", "c", "0.000", "–", ""],
    ]


def test_annotation_quality_is_told_for_each_trait_also_for_those_without_any():
    card = collection_card(facts_of())
    assert stripped(table_under(card, "trait \\| annotated")) == [
        ["colour", "3", "0.750", "0.750", "1"],
        ["town", "0", "0.000", "–", "0"],
    ]
    assert stripped(table_under(card, "method")) == [["sampled", "reader", "2"], ["author", "–", "1"]]
    assert "true by construction, not measured" in card and "a model's reading of the text" in card


def test_quality_flags_and_sources_are_counted_on_the_card():
    card = collection_card(facts_of())
    assert "2 of 4 personas bear a quality flag" in card
    assert stripped(table_under(card, "flag")) == [["too_short", "2"], ["placeholder", "1"]]
    assert stripped(table_under(card, "source \\| personas")) == [["one", "3"], ["two", "1"]]


def test_a_collection_without_annotations_says_so_and_shows_no_margins():
    card = collection_card(facts_of([], codebook=Codebook(name="none", traits=())))
    assert "No trait is annotated yet" in card and "## Margins" not in card
    assert front(card)["annotations_creators"] == ["no-annotation"]
    assert ", with demographic traits" not in card


def test_a_level_outside_the_population_gives_an_infinite_kl():
    none = replace(COLOUR, population=(1.0, 0.0, 0.0))
    card = collection_card(facts_of(codebook=Codebook(name="toy", traits=(none,))))
    assert stripped(table_under(card, "trait \\| level"))[0] == ["colour", "red", "0.500", "1.000", "inf"]


# -- metadata


def test_the_metadata_is_what_the_hub_defines(starter_facts):
    huggingface_hub = pytest.importorskip("huggingface_hub")
    card = collection_card(starter_facts)
    data = huggingface_hub.DatasetCard(card).data
    assert data.license == "cc-by-4.0" and data.language == ["en"] and data.size_categories == ["n<1K"]
    assert data.task_categories == ["text-generation"] and data.pretty_name == "anthology-starter"
    assert data.annotations_creators == ["found"] and data.source_datasets == ["original"]
    assert data.get("tags") == ["personas", "backstories", "survey-simulation", "synthetic", "anthology-hub"]
    assert data.get("dataset_info") is None
    configs = {config["config_name"]: config for config in data.get("configs")}
    assert list(configs) == ["personas", "annotations", "embeddings-all-MiniLM-L6-v2"]
    assert [name for name, config in configs.items() if config.get("default")] == ["personas"]


@pytest.mark.parametrize("rows", [0, 999, 1_000, 10_000, 10**6, 10**8])
def test_the_size_is_one_of_the_hubs_classes(rows):
    allowed = ["n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M"]
    size = front(collection_card(replace(facts_of(), personas=max(rows, 1))))["size_categories"]
    assert size == [allowed[{0: 0, 999: 0, 1_000: 1, 10_000: 2, 10**6: 4, 10**8: 5}[rows]]]


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("Apache-2.0", {"license": "apache-2.0"}),
        ("CC-BY-NC-SA-4.0", {"license": "cc-by-nc-sa-4.0"}),
        ("BSD-3-Clause", {"license": "bsd-3-clause"}),
        ("AGPL-3.0-only", {"license": "agpl-3.0"}),
        ("ODC-By-1.0", {"license": "odc-by"}),
        ("Our own terms!", {"license": "other", "license_name": "our-own-terms"}),
        ("???", {"license": "other", "license_name": "other"}),
    ],
)
def test_a_licence_is_called_as_the_hub_calls_it(licence, expected):
    told = front(collection_card(facts_of(licence=licence)))
    assert {name: told[name] for name in ("license", "license_name") if name in told} == expected
    assert licence_id(licence) == expected["license"]


def test_all_licences_that_pools_bring_have_a_name_on_the_hub():
    for file in (DATA / "pools").glob("*.json"):
        assert licence_id(json.loads(file.read_text()).get("licence", "MIT")) != "other", file


@pytest.mark.parametrize(
    ("licence", "terms"),
    [
        ("MIT", []),
        ("CC-BY-4.0", []),
        ("CC-BY-NC-SA-4.0", ["forbids commercial use", "binds what is made from it"]),
        ("CC-BY-ND-4.0", ["forbids passing on changed versions"]),
        ("GPL-3.0-or-later", ["binds what is made from it"]),
    ],
)
def test_what_a_licence_forbids_is_said(licence, terms):
    said = cards.licence_terms(licence)
    assert len(said) == len(terms)
    assert all(sentence.startswith(f"{licence} {term}") for sentence, term in zip(said, terms, strict=True))
    for sentence in said:
        assert sentence in collection_card(facts_of(licence=licence)).split("## Licence")[1]


def test_every_source_stands_on_the_card_with_its_licence():
    sources = (
        Source(name="ns/pool", licence="CC-BY-NC-4.0", url="https://example.org", note="as | told"),
        Source(name="a study of ours", licence="MIT"),
    )
    card = collection_card(facts_of(text=CardText(sources=sources)))
    assert stripped(table_under(card, "source \\| licence")) == [
        ["ns/pool", "CC-BY-NC-4.0", "https://example.org", r"as \| told"],
        ["a study of ours", "MIT", "–", "–"],
    ]
    assert front(card)["source_datasets"] == ["ns/pool"]
    assert "CC-BY-NC-4.0 forbids commercial use." in card


# -- the author's words


TEXT = CardText(
    title="The toys",
    repository="lab/toys",
    about="ABOUT them.",
    made="MADE so.",
    biases="BIASES are many.",
    misuse="MISUSE is easy.",
    languages=("en", "de"),
    authors="Doe, Jo and Roe, Jane",
    year="2026",
    sources=(Source(name="ns/pool", licence="MIT"),),
)


def test_what_the_author_says_stands_in_its_place():
    card = collection_card(facts_of(text=TEXT))
    assert "# The toys\n" in card and front(card)["pretty_name"] == "The toys"
    assert "ABOUT them." in card.split("**What they are for.**")[0]
    assert "MADE so." in card.split("## How it was made")[1].split("##")[0]
    assert "BIASES are many." in card.split("## Known biases")[1].split("##")[0]
    assert "The author has named none" not in card
    assert "MISUSE is easy." in card.split("must not be used for")[1].split("##")[0]
    assert front(card)["language"] == ["en", "de"]
    assert 'load_dataset("lab/toys", "personas", split="train", revision="v1.2.3")' in card
    assert 'Anthology.load("lab/toys", revision="v1.2.3")' in card


def test_the_citation_is_bibtex_with_the_release():
    block = re.search(r"```bibtex\n(.*?)```", collection_card(facts_of(text=TEXT)), re.DOTALL)[1]
    assert block.count("{") == block.count("}")
    assert "@misc{toy-1.2.3,\n  title = {{The toys}},\n  author = {Doe, Jo and Roe, Jane},\n  year = {2026}," in block
    assert "version = {1.2.3}" in block and r"\url{https://huggingface.co/datasets/lab/toys}" in block
    assert "eprint = {2407.06576}" in block


def test_a_body_of_the_authors_own_replaces_the_template():
    card = collection_card(facts_of(text=CardText(body="# Mine\n\nAll of it.\n")))
    assert card.endswith("---\n\n# Mine\n\nAll of it.\n") and front(card)["license"] == "cc-by-4.0"


@pytest.mark.parametrize("body", ["", "# Mine\n"])
def test_a_selection_says_of_what(body):
    card = collection_card(facts_of(text=CardText(selections=("3 of the 9 personas of x", "9 of y"), body=body)))
    notes = [line for line in card.splitlines() if line.startswith("> **A selection:**")]
    assert [note.split(".")[0] for note in notes] == [
        "> **A selection:** 3 of the 9 personas of x",
        "> **A selection:** 9 of y",
    ]


def test_names_with_quotes_pipes_and_newlines_stay_words():
    given = replace(TEXT, title=NASTY, authors=NASTY, sources=(Source(name=NASTY, licence=NASTY, note=NASTY),))
    trait = replace(TOWN, levels=(NASTY, "c"))
    rows = [annotation("a", [1.0, 0.0], trait=trait, annotator=NASTY)]
    book = Codebook(name="x", traits=(trait,), population_source=NASTY)
    card = collection_card(facts_of(rows, name=NASTY, licence=NASTY, text=given, codebook=book))
    told = front(card)
    assert told["license"] == "other" and " ".join(NASTY.split()).startswith(told["pretty_name"][:20])
    assert "<script" not in card
    assert len(card.split("\n---\n")) == 2
    for heading, width in (("trait \\| level", 5), ("method", 3), ("source \\| licence", 4)):
        assert all(len(row) == width for row in table_under(card, heading)), heading
    block = re.search(r"```bibtex\n(.*?)```", card, re.DOTALL)[1]
    assert block.count("{") == block.count("}")


TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=60)


@given(st.builds(Source, name=TEXTS, licence=TEXTS.filter(str.strip), note=TEXTS), TEXTS, TEXTS.filter(str.strip))
def test_any_words_give_valid_metadata_and_whole_tables(source, title, licence):
    card = collection_card(facts_of(name="x", licence=licence, text=CardText(title=title, sources=(source,))))
    told = front(card)
    assert told["configs"][0]["default"] is True and isinstance(told["pretty_name"], str)
    assert told["license"] in cards.LICENCES | {"other"}
    assert [len(row) for row in table_under(card, "source \\| licence")] == [4]


def test_the_same_facts_give_the_same_bytes(starter_facts):
    shuffled = replace(starter_facts, flags=dict(reversed(starter_facts.flags.items())))
    assert collection_card(starter_facts) == collection_card(shuffled)
    again = pq.read_table(STARTER / "annotations")
    assert collection_card(starter_facts) == collection_card(
        replace(starter_facts, margins=facts_like(starter_facts, again).margins)
    )


def facts_like(facts, annotations):
    return collection_facts(
        pq.read_table(STARTER / "personas"),
        annotations,
        name=facts.name,
        release=facts.release,
        licence=facts.licence,
        codebook=facts.codebook,
    )


@pytest.mark.parametrize("given", [{"name": " "}, {"licence": ""}])
def test_a_card_without_name_or_licence_is_refused(given):
    with pytest.raises(OptionError, match=r"needs a name and a licence, got .*say 'unknown' where it is"):
        collection_card(facts_of(**given))


def test_what_the_author_says_comes_back_from_json():
    value = json.loads(json.dumps(TEXT.to_dict()))
    assert CardText.from_dict(value) == TEXT
    assert CardText().to_dict() == {} and CardText.from_dict({}) == CardText()


SOURCES = st.builds(Source, name=TEXTS, licence=TEXTS, url=TEXTS, note=TEXTS)


@given(
    st.builds(
        CardText,
        title=TEXTS,
        about=TEXTS,
        body=TEXTS,
        languages=st.lists(TEXTS).map(tuple),
        sources=st.lists(SOURCES, max_size=2).map(tuple),
        selections=st.lists(TEXTS, max_size=2).map(tuple),
    )
)
def test_any_card_text_comes_back(text):
    assert CardText.from_dict(json.loads(json.dumps(text.to_dict()))) == text


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"tilte": "x"}, "a card has no field 'tilte': allowed are title, repository, about"),
        ({"title": 3}, "the card's field 'title' must be a text, got 3"),
        ({"languages": "en"}, "the card's field 'languages' must be a list, got 'en'"),
        ({"sources": [{"name": "x"}]}, "a source on a card has the fields name, licence, url, note, the first two"),
        ({"sources": ["x"]}, "a source on a card has the fields name, licence, url, note"),
    ],
)
def test_a_card_text_that_is_none_is_refused_with_what_is_allowed(value, said):
    with pytest.raises(DataError, match=re.escape(said)):
        CardText.from_dict(value)


# -- with the official client


def test_load_dataset_reads_every_config_that_the_card_names(starter_facts, tmp_path):
    datasets = pytest.importorskip("datasets")
    folder = tmp_path / "release"
    shutil.copytree(STARTER, folder)
    (folder / "README.md").write_text(collection_card(starter_facts), encoding="utf-8")
    load = {"split": "train", "cache_dir": str(tmp_path / "cache")}
    assert datasets.load_dataset(str(folder), **load).num_rows == 320
    assert datasets.load_dataset(str(folder), "annotations", **load).num_rows == 320 * 11
    assert "vector" in datasets.load_dataset(str(folder), "embeddings-all-MiniLM-L6-v2", **load).column_names


def test_load_dataset_reads_both_configs_of_a_results_repository(tmp_path):
    datasets = pytest.importorskip("datasets")
    for path, table in {
        "leaderboard/latest.parquet": {"rank": [1, 2]},
        "runs-parquet/2026-11.parquet": {"run_id": ["a", "b", "c"]},
        "runs-parquet/deep/er/2026-12.parquet": {"run_id": ["d"]},
    }.items():
        (tmp_path / "board" / path).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(table), tmp_path / "board" / path)
    (tmp_path / "board" / "README.md").write_text(results_card("board"), encoding="utf-8")
    load = {"split": "train", "cache_dir": str(tmp_path / "cache")}
    assert datasets.load_dataset(str(tmp_path / "board"), **load)["rank"][:] == [1, 2]
    assert sorted(datasets.load_dataset(str(tmp_path / "board"), "runs", **load)["run_id"]) == ["a", "b", "c", "d"]


# -- results


def test_the_card_of_results_tells_how_to_read_submit_verify_and_withdraw():
    card = results_card("Our board", repository="lab/board", licence="CC0-1.0", notes=["WD: lower is better."])
    assert front(card)["license"] == "cc0-1.0" and front(card)["pretty_name"] == "Our board"
    configs = front(card)["configs"]
    assert [(c["config_name"], c.get("default")) for c in configs] == [("leaderboard", True), ("runs", None)]
    for line in (
        'load_dataset("lab/board", split="train")',
        "anthology-hub evaluate RUN-FOLDER --publish hf://lab/board",
        "anthology-hub verify hf://lab/board RUN",
        "anthology-hub withdraw hf://lab/board RUN --who NAME --reason",
        "WD: lower is better.",
        "No table yet",
    ):
        assert line in card


def test_tables_of_results_are_written_with_their_columns_and_escaped():
    boards = {"gss | all": [{"rank": "1=", "model": "a|b\nc", "wd": 0.12345, "n": 40, "fro": None}], "empty": []}
    card = results_card("board", boards=boards)
    assert "## gss | all\n" in card and "## empty" not in card and "No table yet" not in card
    assert stripped(table_under(card, "rank")) == [["1=", r"a\|b c", "0.123", "40", "–"]]


def test_markdown_cells_cannot_open_html_or_break_out():
    shown = cards.markdown_table([{"<b>x": "<img src=x onerror=y>", "y": "<25k", "z": "a\\|b"}])
    assert shown.splitlines()[2] == r"| &lt;img src=x onerror=y> | <25k | a\\\|b |"
    assert shown.splitlines()[0] == "| &lt;b>x | y | z |"
