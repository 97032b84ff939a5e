"""Import of pools: faithful texts, levels told or counted, nothing lost in silence."""

import json
import re

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anthology_hub import pools
from anthology_hub.errors import DataError, EmptyError, MissingExtraError, OptionError, UnknownNameError
from anthology_hub.pools import FLAGS, import_pool, kinds, quality_flags
from anthology_hub.schema import Codebook, Persona, Trait
from tests.conftest import ROOT

SHARED = ROOT.parent / "shared" / "data"
STORY = "I was born in Ohio and my father kept bees. " * 8 + "That is my story."
SHORT = "I keep bees."
COLOUR = Trait(name="colour", label="C", question="Which?", levels=("red", "blue"), bio="I like {}.")
AGE = Trait(name="age", label="Age", question="?", levels=("18-29", "30-49", "50-64", "65+"), bio="I am {}.")
KIDS = Trait(name="kids", label="Kids", question="?", levels=("0", "1", "2 or more"), bio="I have {}.")
BOOK = Codebook(name="toy", traits=(COLOUR, AGE, KIDS))


def jsonl(folder, rows, name="pool.jsonl"):
    file = folder / name
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def plain(folder, rows, **options):
    return import_pool(jsonl(folder, rows), **{"name": "pool", "licence": "CC0-1.0", **options})


def keys_of(people):
    return people.to_dataset()["source_key"][:]


def flags_of(people):
    return people.to_dataset()["quality_flags"][:]


# -- the shapes of public pools


def test_stories_of_anthology_lose_the_question_and_keep_the_answer(tmp_path):
    file = tmp_path / "anthology_backstory_list.json"
    question = "Tell me about yourself. How old are you?"
    texts = [
        f"Question: {question}\n\nAnswer: {STORY}",
        f"Question: {question} Answer: {STORY} One line.",
        f"Question: {question}\n\nAnswer:  First.\r\n\r\n\r\n\r\nSecond \x00part. \n",
        "A story without any marks.",
    ]
    file.write_text(json.dumps(texts))
    people, report = import_pool(file, "anthology", name="stories")
    assert [p.backstory for p in people] == [
        STORY,
        f"{STORY} One line.",
        "First.\n\nSecond part.",
        "A story without any marks.",
    ]
    assert keys_of(people) == ["1", "2", "3", "4"]
    assert flags_of(people)[:2] == [[], []]
    assert people.codebook.traits == () and report.licence == "BSD-3-Clause"
    assert any("look at the data set's own card" in warning for warning in report.warnings)


def test_a_story_that_goes_on_with_questions_is_kept_whole_and_flagged(tmp_path):
    text = f"Question: Who are you?\n\nAnswer: {STORY}\n\nQuestion: And your wife?\n\nAnswer: {STORY}"
    people, report = import_pool(jsonl(tmp_path, [{"text": text}]), "anthology", name="x")
    assert (
        people[0].backstory == f"Question: Who are you?\nAnswer: {STORY}\n\nQuestion: And your wife?\nAnswer: {STORY}"
    )
    assert report.flags == {"interview_markers": 1}


def test_interviews_of_alterity_keep_questions_and_answers_in_order(tmp_path):
    turns = [(f"Question number {n}?", f"{STORY}\n\nThat was number {n}.") for n in range(10)]
    text = "\n\n".join(f"Question: {question}\n\nAnswer: {answer}" for question, answer in turns)
    file = tmp_path / "train.parquet"
    pq.write_table(pa.table({"text": [text, "Question: Nothing?\n\nAnswer:"]}), file)
    people, report = import_pool(file, "alterity", name="interviews")
    assert people[0].backstory == "\n\n".join(f"Question: {q}\nAnswer: {a}" for q, a in turns)
    assert (report.rows, report.kept, report.empty, report.flags) == (2, 1, 1, {})


def test_flags_of_an_interview_are_judged_by_the_answers(tmp_path):
    question = "Question: [city], my dear, as an AI: who am I, what is mine and where is my home?"
    text = f"{question}\nAnswer: She lives alone and"
    people, report = import_pool(jsonl(tmp_path, [{"text": text}]), "alterity", name="x")
    assert flags_of(people) == [["too_short", "not_first_person", "truncated_ending"]]
    assert sum(report.flags.values()) == 3


@pytest.mark.parametrize("column", ["persona", "input persona"])
def test_personahub_is_read_by_either_name_of_its_column(tmp_path, column):
    rows = [
        {column: "A nurse who keeps bees.", "synthesized text": "2 + 2 = 4", "description": "math problem"},
        {column: "一位热爱养蜂和修理旧钟表的护士。", "synthesized text": "x", "description": "math problem"},
        {column: "A nurse who keeps bees. ", "synthesized text": "y", "description": "math problem"},
    ]
    people, report = import_pool(jsonl(tmp_path, rows), "personahub", name="hub")
    assert [p.backstory for p in people] == [rows[0][column], rows[1][column]]
    assert report.duplicates == (("1", "3"),)
    assert flags_of(people) == [["too_short", "not_first_person"], ["other_script"]]
    assert report.unused == ("synthesized text", "description")
    assert report.licence == "CC-BY-NC-SA-4.0"
    assert [w.split(" binds")[0] for w in report.warnings] == [
        "CC-BY-NC-SA-4.0 forbids commercial use.",
        "CC-BY-NC-SA-4.0",
    ]


TEXTS = ("professional_persona", "sports_persona", "arts_persona", "travel_persona", "culinary_persona", "persona")
FIELDS = {
    "cultural_background": "Grew up by a lake.",
    "skills_and_expertise": "Clocks.",
    "skills_and_expertise_list": "['clocks']",
    "hobbies_and_interests": "Bees.",
    "hobbies_and_interests_list": "['bees']",
    "career_goals_and_ambitions": "A shop.",
    "sex": "Female",
    "age": 34,
    "marital_status": "married_present",
    "education_level": "some_college",
    "bachelors_field": "no_degree",
    "occupation": "nurse",
    "city": "Toledo",
    "state": "OH",
    "zipcode": "00123",
    "country": "USA",
}


def nemotron(folder, *changes, shards=1):
    rows = [
        {"uuid": f"u{n}", **{name: f"{name} of number {n}." for name in TEXTS}, **FIELDS, **change}
        for n, change in enumerate(changes)
    ]
    (folder / "data").mkdir(exist_ok=True)
    size = -(-len(rows) // shards)
    for at in range(shards):
        table = pa.Table.from_pylist(rows[at * size : (at + 1) * size])
        pq.write_table(table, folder / "data" / f"train-{at:05}-of-{shards:05}.parquet")
    return folder / "data"


def test_nemotron_fields_become_levels_and_what_has_none_is_counted(tmp_path):
    folder = nemotron(
        tmp_path,
        {},
        {"sex": "Male", "age": 65, "education_level": "graduate", "marital_status": "widowed", "state": "CA"},
        {"age": 12, "state": "PR", "education_level": None},
        shards=2,
    )
    people, report = import_pool(folder, "nemotron", name="people")
    assert keys_of(people) == ["u0", "u1", "u2"]
    assert people[0].backstory == "persona of number 0."
    first = {"age": "30-49", "gender": "Female", "education": "High school", "marital": "Married", "region": "Midwest"}
    second = {"age": "65+", "gender": "Male", "education": "Graduate", "marital": "Widowed", "region": "West"}
    third = {"age": None, "gender": "Female", "education": None, "marital": "Married", "region": None}
    assert [p.traits for p in people] == [first, second, third]
    assert report.unmapped == {"age": {"12": 1}, "region": {"PR": 1}} and report.missing == {"education": 1}
    assert "occupation" in report.unused and "age" not in report.unused
    assert set(report.unused) == {*TEXTS, *FIELDS} - {
        "persona", "age", "sex", "education_level", "marital_status", "state"
    }  # fmt: skip
    assert (report.licence, report.warnings) == ("CC-BY-4.0", ())
    assert people.annotations_of(people[0].persona_id)[0]["method"] == "author"


def test_which_text_of_nemotron_is_the_backstory_is_an_option(tmp_path):
    folder = nemotron(tmp_path, {})
    one, _ = import_pool(folder, "nemotron", name="x", columns={"backstory": "sports_persona"})
    both, report = import_pool(folder, "nemotron", name="x", columns={"backstory": "persona+cultural_background"})
    assert one[0].backstory == "sports_persona of number 0."
    assert both[0].backstory == "persona of number 0.\n\nGrew up by a lake."
    assert "cultural_background" not in report.unused and "sports_persona" in report.unused


def test_a_kind_whose_file_lacks_a_field_goes_without_and_says_so(tmp_path):
    rows = [{"uuid": "u", "persona": SHORT, "sex": "Male"}]
    people, report = import_pool(jsonl(tmp_path, rows), "nemotron", name="x")
    assert people[0].traits == {"gender": "Male"}
    assert "The file has no column for trait:region (state), which other files of this kind have." in report.warnings


def test_the_real_goalpref_personas_are_read():
    file = SHARED / "goalpref_personas_first_person.json"
    if not file.is_file():
        pytest.skip("the GoalPref personas are not on this machine")
    people, report = import_pool(file, "goalpref", name="goalpref")
    assert (report.rows, report.kept, report.flags) == (499, 499, {})
    assert report.unmapped == {"work": {"Employed": 134}}
    source = json.loads(file.read_text())
    assert [p.backstory for p in people] == [entry["persona"].strip() for entry in source]
    told = [entry["profile"]["profile"]["demographics"] for entry in source]
    assert [p.traits["gender"] for p in people] == [profile["gender"] for profile in told]
    # Of the 25-34, half of the years are below 30.
    straddling = [row for row, profile in enumerate(told) if profile["age"] == "25-34"]
    assert people.distribution("age")[straddling].tolist() == [[0.5, 0.5, 0, 0]] * 84


def test_the_real_tinytroupe_personas_are_read():
    file = SHARED / "tinytroupe_personas.parquet"
    if not file.is_file():
        pytest.skip("the TinyTroupe personas are not on this machine")
    people, report = import_pool(file, "tinytroupe", name="tiny")
    source = pd.read_parquet(file)
    assert (report.rows, report.kept, report.empty) == (788, 788, 0)
    assert report.unmapped["education"] == {"Some college/associate": 278}
    assert sum(report.unmapped["age"].values()) == (source["age"] < 18).sum() and "gender" not in report.unmapped
    assert report.missing["region"] == source["us_state"].isna().sum()
    elderly = people.where(age="65+")
    assert len(elderly) == (source["age"] >= 65).sum()
    assert {p.traits["region"] for p in people.where(region="West")} == {"West"}
    assert report.flags["not_first_person"] > 700  # they are addressed as "you"


# -- any file


def test_any_file_is_read_with_a_map_of_columns_and_levels(tmp_path):
    file = tmp_path / "pool.csv"
    pd.DataFrame({"Story": [SHORT, STORY], "id": ["a", "b"], "c": ["R", "blau"], "years": [34, 70]}).to_csv(
        file, index=False
    )
    people, report = import_pool(
        file,
        name="mine",
        licence="MIT",
        source="lab/mine",
        columns={"backstory": "Story", "key": "id", "trait:colour": "c", "trait:age": "years"},
        levels={"colour": {"red": ["r"], "blue": ["blau", "bleu"]}},
        codebook=BOOK,
    )
    assert [p.traits for p in people] == [
        {"colour": "red", "age": "30-49", "kids": None},
        {"colour": "blue", "age": "65+", "kids": None},
    ]
    assert keys_of(people) == ["a", "b"] and people.codebook == BOOK
    assert people.to_dataset()["source"][:] == ["lab/mine"] * 2
    assert (report.source, report.licence, report.unmapped) == ("lab/mine", "MIT", {})


def test_levels_that_are_given_are_added_to_those_of_the_kind_and_go_before_them(tmp_path):
    folder = nemotron(tmp_path, {}, {"state": "PR"}, {"marital_status": "widowed"})
    levels = {"region": {"South": ["PR"]}, "marital": {"Never married": ["Widowed"]}}
    people, report = import_pool(folder, "nemotron", name="x", levels=levels)
    assert [p.traits["region"] for p in people] == ["Midwest", "South", "Midwest"]
    assert [p.traits["marital"] for p in people] == ["Married", "Married", "Never married"] and not report.unmapped


def test_a_kind_of_ones_own_is_a_json_file(tmp_path):
    kind = tmp_path / "mine.json"
    value = {"title": "mine", "columns": {"backstory": ["bio"], "key": ["who.id"]}, "licence": "MIT"}
    kind.write_text(json.dumps(value))
    people, report = import_pool(jsonl(tmp_path, [{"bio": SHORT, "who": {"id": 7.0}}]), str(kind), name="x")
    assert keys_of(people) == ["7"] and report.licence == "MIT" and report.source == "pool.jsonl"


@pytest.mark.parametrize(
    ("value", "level"),
    [
        (34, "30-49"),
        (34.0, "30-49"),
        (34.9, "30-49"),
        ("34", "30-49"),
        ("30 to 49", "30-49"),
        ("30–49", "30-49"),
        ("50-64", "50-64"),
        ("65 and over", "65+"),
        ("70+", "65+"),
        (120, "65+"),
        (17, None),
        ("60+", None),
        ("10-20", None),
        ("64-50", None),
        ("old", None),
    ],
)
def test_numbers_and_ranges_find_the_level_they_lie_in(tmp_path, value, level):
    options = {"columns": {"backstory": "t", "trait:age": "a"}, "codebook": BOOK}
    people, report = plain(tmp_path, [{"t": SHORT, "a": value}], **options)
    assert people[0].traits["age"] == level
    assert (sum(map(len, report.unmapped.values())) == 0) == (level is not None)


def test_a_range_that_straddles_levels_is_spread_by_years(tmp_path):
    options = {"columns": {"backstory": "t", "trait:age": "a"}, "codebook": BOOK}
    people, _ = plain(tmp_path, [{"t": SHORT, "a": "25-34"}, {"t": STORY, "a": "60-69"}], **options)
    assert people.distribution("age").tolist() == [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]]


@given(st.integers(0, 130), st.integers(0, 60))
def test_shares_of_a_range_are_those_of_its_years(low, width):
    coder = pools._Coder(AGE)
    one_by_one = [coder.level(str(year)) for year in range(low, low + width + 1)]
    found = coder.level(f"{low}-{low + width}")
    if None in one_by_one:
        assert found is None
    else:
        shares = {level: one_by_one.count(level) / len(one_by_one) for level in set(one_by_one)}
        assert ({found: 1.0} if isinstance(found, str) else found) == pytest.approx(shares)


def test_levels_are_known_in_any_case_and_counts_by_their_range(tmp_path):
    options = {"columns": {"backstory": "t", "trait:colour": "c", "trait:kids": "k"}, "codebook": BOOK}
    rows = [{"t": SHORT, "c": "RED", "k": 0}, {"t": STORY, "c": " blue ", "k": 5}, {"t": "I am I.", "c": "", "k": None}]
    people, report = plain(tmp_path, rows, **options)
    assert [(p.traits["colour"], p.traits["kids"]) for p in people] == [
        ("red", "0"),
        ("blue", "2 or more"),
        (None, None),
    ]
    assert report.missing == {"colour": 1, "kids": 1} and report.unmapped == {}


# -- nothing is lost in silence


def test_empty_texts_and_duplicates_are_counted_with_both_keys(tmp_path):
    texts = [SHORT, " ", None, 7, f"\n{SHORT}\n", STORY, SHORT]
    rows = [{"t": text, "id": f"k{at}"} for at, text in enumerate(texts)] + [{"id": "none"}]
    people, report = plain(tmp_path, rows, columns={"backstory": "t", "key": "id"})
    assert keys_of(people) == ["k0", "k5"]
    assert (report.rows, report.kept, report.empty) == (8, 2, 4)
    assert report.duplicates == (("k0", "k4"), ("k0", "k6"))


@pytest.mark.parametrize("key", ["1", 1, "a", "", "long enough"])
def test_a_row_that_is_there_twice_is_a_duplicate_whatever_its_key(tmp_path, key):
    people, report = plain(tmp_path, [{"text": SHORT, "id": key}] * 3, columns={"key": "id"})
    assert len(people) == 1
    shown = str(key)
    assert report.duplicates == ((shown or "1", shown or "2"), (shown or "1", shown or "3"))


def test_a_key_that_cannot_be_stored_is_mended(tmp_path):
    people, _ = plain(tmp_path, [{"text": SHORT, "id": "a\ud800b"}], columns={"key": "id"})
    assert keys_of(people) == ["a\ufffd\ufffd\ufffdb"]


WORDS = st.sampled_from(["", " ", "I am.", "I was.", "She is\n", None])


@given(st.lists(WORDS, min_size=1, max_size=12))
def test_every_row_is_kept_empty_or_a_duplicate(tmp_path_factory, texts):
    file = jsonl(tmp_path_factory.mktemp("rows"), [{"text": text} for text in texts])
    wanted = list(dict.fromkeys(text.strip() for text in texts if text and text.strip()))
    if not wanted:
        with pytest.raises(EmptyError):
            import_pool(file, name="x", licence="MIT")
        return
    people, report = import_pool(file, name="x", licence="MIT")
    assert [p.backstory for p in people] == wanted
    assert report.rows == len(texts) == report.kept + report.empty + len(report.duplicates)
    assert people.ids == [Persona.id_of(text) for text in wanted]


def test_the_limit_is_the_number_of_rows_read(tmp_path):
    rows = [{"text": f"I am {n}."} for n in range(50)]
    people, report = plain(tmp_path, rows, limit=20)
    assert (len(people), report.rows) == (20, 20)


def test_texts_that_cannot_be_stored_are_mended_and_flagged(tmp_path):
    (tmp_path / "bad.jsonl").write_text('{"text": "I am \\ud800 broken, my friend."}\n')
    people, _ = import_pool(tmp_path / "bad.jsonl", name="x", licence="MIT")
    assert people[0].backstory.startswith("I am \ufffd") and "broken_characters" in flags_of(people)[0]


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        (STORY, []),
        ("I am me. " * 10, ["too_short"]),
        ("She was born in Ohio and her father kept bees there. " * 8, ["not_first_person"]),
        (f"{STORY} I live in [city].", ["placeholder"]),
        (f"{STORY} I am {{name}}.", ["placeholder"]),
        (f"{STORY} As an AI, I have no age.", ["placeholder"]),
        (f"{STORY} (see above).", ["placeholder"]),
        (f"{STORY}\nInterviewer: And then?", ["interview_markers"]),
        (f"{STORY}\nQ: And then?", ["interview_markers"]),
        (f"{STORY} And then I", ["truncated_ending"]),
        (f'{STORY} She said: "Go!"', []),
        (f"{STORY} I donâ€™t.", ["broken_characters"]),
        (f"{STORY} Ich mag Käse, wie schön.", []),
        ("Я родился в Огайо, и мой отец держал пчёл.", ["other_script"]),
    ],
)
def test_each_flag_follows_its_rule(text, flags):
    assert quality_flags(text.strip()) == flags
    assert set(flags) <= set(FLAGS)


def test_near_duplicates_are_flagged_on_the_later_text_and_kept(tmp_path):
    pytest.importorskip("datasketch")
    story = f"I was born by the lake. {' '.join(f'Then {number} came to us.' for number in range(40))}"
    rows = [{"text": story}, {"text": f"{story} The end."}, {"text": " ".join(reversed(story.split()))}]
    people, report = plain(tmp_path, rows, near=0.8)
    assert [("near_duplicate" in flags) for flags in flags_of(people)] == [False, True, False]
    assert report.flags["near_duplicate"] == 1 and report.kept == 3
    assert "near_duplicate" not in plain(tmp_path, rows)[1].flags


def test_without_the_extra_near_duplicates_name_the_pip_line(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "datasketch", None)
    with pytest.raises(MissingExtraError, match=re.escape('pip install "anthology-hub[pools]"')):
        plain(tmp_path, [{"text": SHORT}], near=0.8)


# -- licence, report and card


def test_a_licence_that_is_not_known_is_demanded(tmp_path):
    with pytest.raises(OptionError, match=r"licence of .*pool\.jsonl is not known, got '': .*SPDX name, as 'CC-BY"):
        plain(tmp_path, [{"text": SHORT}], licence="")


def test_a_licence_other_than_the_known_one_is_taken_and_told(tmp_path):
    _, report = import_pool(jsonl(tmp_path, [{"persona": SHORT}]), "personahub", name="x", licence="Our terms")
    assert report.warnings == (
        "The Hub has no name for the licence 'Our terms': put its text into the release as LICENSE.",
        "The licence given is Our terms; the one known of proj-persona/PersonaHub is CC-BY-NC-SA-4.0.",
    )


def test_the_report_reads_as_lines_and_goes_to_json(tmp_path):
    options = {"columns": {"backstory": "t", "trait:colour": "c"}, "codebook": BOOK, "licence": "CC-BY-NC-4.0"}
    rows = [{"t": SHORT, "c": "green", "x": 1}, {"t": SHORT, "c": "red"}, {"t": STORY}]
    _, report = plain(tmp_path, rows, **options)
    assert report.lines() == [
        "3 rows of pool.jsonl: 2 kept, 0 without a text, 1 exact duplicates dropped",
        "  duplicates: 2 = 1",
        "  flag too_short: 1 (fewer than 50 words)",
        "  colour: 1 rows whose value is no level: 'green' 1",
        "  colour: 1 rows do not tell it",
        "  not used: x",
        "warning: CC-BY-NC-4.0 forbids commercial use.",
    ]
    value = json.loads(json.dumps(report.to_dict()))
    assert (value["kept"], value["duplicates"], value["card"]["sources"][0]["licence"]) == (
        2,
        [["1", "2"]],
        "CC-BY-NC-4.0",
    )


def test_source_and_licence_go_with_the_collection_and_onto_its_card(tmp_path):
    people, report = import_pool(nemotron(tmp_path, {}, {"age": 70}), "nemotron", name="people")
    people.save(tmp_path / "release", release="1.0.0", card=report.card)
    card = (tmp_path / "release" / "README.md").read_text()
    assert "license: cc-by-4.0\n" in card and "- nvidia/Nemotron-Personas-USA\n" in card
    assert "| nvidia/Nemotron-Personas-USA | CC-BY-4.0 | https://huggingface.co/datasets/nvidia/" in card
    assert f"SHA-256 `{report.sha256}`" in card and "2 rows, 2 kept" in card
    assert "Fields follow the census only where" in card


def test_a_pool_without_traits_is_saved_and_loaded(tmp_path):
    people, report = import_pool(jsonl(tmp_path, [{"persona": SHORT}]), "personahub", name="x")
    back = people.save(tmp_path / "release", release="1.0.0", card=report.card)
    assert back.ids == people.ids and back.codebook.traits == ()


def test_the_same_file_gives_the_same_release_bytes(tmp_path):
    folder = nemotron(tmp_path, {}, {"age": 70}, {"age": 12})
    for name in ("one", "two"):
        people, report = import_pool(folder, "nemotron", name="people")
        people.save(tmp_path / name, release="1.0.0", card=report.card)
    one, two = ({p.name: p.read_bytes() for p in (tmp_path / n).rglob("*") if p.is_file()} for n in ("one", "two"))
    assert one == two


# -- what cannot be


def test_a_wrong_column_is_named_with_the_nearest_and_those_there_are(tmp_path):
    for columns, said in [
        ({"backstory": "tex"}, r"unknown column in pool\.jsonl 'tex': did you mean 'text'\? Allowed: 'text', 'sexe'"),
        ({"key": "uuid"}, r"unknown column in pool\.jsonl 'uuid': .*Allowed: 'text', 'sexe'"),
        ({"trait:gender": "sex"}, r"unknown column in pool\.jsonl 'sex': did you mean 'sexe'\?"),
        ({"backstory": "text+more"}, r"unknown column in pool\.jsonl 'more'"),
    ]:
        with pytest.raises(UnknownNameError, match=said):
            plain(tmp_path, [{"text": SHORT, "sexe": "f"}], columns=columns)


def test_a_file_of_another_kind_names_the_columns_it_has(tmp_path):
    with pytest.raises(UnknownNameError, match=r"unknown column in pool\.jsonl 'persona': .*Allowed: 'bio'"):
        import_pool(jsonl(tmp_path, [{"bio": SHORT}]), "personahub", name="x")


def test_wrong_names_of_kind_role_trait_and_level_are_refused(tmp_path):
    rows = [{"text": SHORT, "c": "red"}]
    told = {"columns": {"trait:colour": "c"}, "codebook": BOOK}
    for options, said in [
        ({"kind": "nemotrom"}, r"unknown pool 'nemotrom': did you mean 'nemotron'\?"),
        ({"columns": {"story": "text"}}, r"unknown role of a column 'story': .*'backstory', 'key', 'trait:NAME'"),
        ({"columns": {"trait:colur": "c"}, "codebook": BOOK}, r"unknown trait 'colur': did you mean 'colour'\?"),
        ({**told, "levels": {"colour": {"rde": ["r"]}}}, r"unknown level of colour 'rde': did you mean 'red'\?"),
        ({**told, "levels": {"age": {"65+": ["old"]}}}, r"unknown trait with levels 'age': Allowed: 'colour'"),
    ]:
        with pytest.raises(UnknownNameError, match=said):
            plain(tmp_path, rows, **options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"limit": 0}, "limit must be at least 1, got 0: leave it out"),
        ({"near": 0.0}, "near must be above 0 and below 1, got 0.0: 0.8 finds"),
        ({"near": 1.0}, "near must be above 0 and below 1, got 1.0"),
    ],
)
def test_numbers_out_of_range_are_refused(tmp_path, options, said):
    with pytest.raises(OptionError, match=said):
        plain(tmp_path, [{"text": SHORT}], **options)


def test_a_file_without_any_text_says_how_many_rows_and_which_columns(tmp_path):
    said = r"gives no persona: 2 rows, 2 without a text in 'text'; the columns are text, bio: name another by columns"
    with pytest.raises(EmptyError, match=said):
        plain(tmp_path, [{"text": "", "bio": SHORT}, {"text": None}])


def test_a_file_of_no_rows_says_so(tmp_path):
    (tmp_path / "none.csv").write_text("text\n")
    with pytest.raises((EmptyError, UnknownNameError), match=r"none\.csv"):
        import_pool(tmp_path / "none.csv", name="x", licence="MIT")


def test_a_file_that_breaks_off_gives_the_line_and_no_collection(tmp_path):
    (tmp_path / "cut.jsonl").write_text(f'{{"text": "{SHORT}"}}\n{{"text": "I')
    with pytest.raises(DataError, match=r"cut\.jsonl, line 2, is no JSON"):
        import_pool(tmp_path / "cut.jsonl", name="x", licence="MIT")


def test_a_kind_that_cannot_be_is_refused(tmp_path):
    for value, said in [
        ({"title": "x", "columns": {}, "licnse": "MIT"}, r"kind of pool .* cannot be read: .*licnse.*its fields are"),
        ({"title": "x", "columns": {"backstory": "text"}}, r"'backstory' in the columns .* list of names, got 'text'"),
        ({"title": "x", "columns": ["text"]}, r"the columns of the kind of pool .* must be an object, got \['text'\]"),
        ({"title": "x", "columns": {}, "levels": {"age": {"65+": 1}}}, r"'65\+' in the levels of age .* got 1: write"),
        ({"title": "x", "columns": {}, "layout": "poem"}, r"unknown layout 'poem': .*'plain', 'story', 'interview'"),
    ]:
        (tmp_path / "kind.json").write_text(json.dumps(value))
        with pytest.raises((DataError, UnknownNameError), match=said):
            plain(tmp_path, [{"text": SHORT}], kind=str(tmp_path / "kind.json"))


def test_every_shipped_kind_maps_to_levels_that_exist():
    for name in kinds():
        pool = pools.Pool.load(name)
        book = Codebook.load(pool.codebook) if pool.codebook else None
        for trait, levels in pool.levels.items():
            assert f"trait:{trait}" in pool.columns
            for level in levels:
                book.trait(trait).code(level)
        assert pool.licence or name == "plain"


def test_all_states_and_the_district_have_a_region():
    for kind in ("nemotron", "tinytroupe"):
        named = [state for states in pools.Pool.load(kind).levels["region"].values() for state in states]
        assert len(named) == len(set(named)) == 51
