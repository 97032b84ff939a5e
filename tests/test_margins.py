"""Shares of groups: read from files as the Hub gives them, counted from respondents, written and read back."""

import csv
import hashlib
import json
import tracemalloc
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anthology_hub import Respondents, Survey, evaluate, schema
from anthology_hub.errors import AnthologyError, DataError, OptionError, UnknownNameError
from anthology_hub.margins import EVERYONE, TOLERANCE, Margins, literal
from anthology_hub.metrics import ordinal_emd
from anthology_hub.schema import MISSING, Question
from tests.made_runs import QUICK, cast_of, people

ROW = {
    "qkey": "SPEND_W99",
    "attribute": "POLPARTY",
    "group": "Democrat",
    "responses": [0.5, 0.25, 0.25],
    "refusal_rate": 0.01,
    "ordinal": [1.0, 2.0, 3.0],
    "question": "Are we spending too little?",
    "options": ["Too little", "About right", "Too much", "Refused"],
}


def subpop(folder, *rows, name="subpop_train.jsonl"):
    """A file in the shape of SubPOP's, with some rows that differ from ROW."""
    file = folder / name
    file.write_text("".join(json.dumps({**ROW, **row}) + "\n" for row in rows), encoding="utf-8")
    return file


def global_opinions(folder, *rows, name="global_opinions.csv"):
    """A file in the shape of GlobalOpinionQA's: question, selections as Python prints them, options, source."""
    file = folder / name
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["question", "selections", "options", "source"])
        for question, selections, options, source in rows:
            shown = selections if isinstance(selections, str) else str(defaultdict(list, selections))
            writer.writerow([question, shown, str(options), source])
    return file


WAR = ("Is war  a danger?", {"Peru": [0.4, 0.6], "Japan": [0.7, 0.3]}, ["Yes", "No"], "GAS")
GOD = ("Is God important?", {"Peru": [0.2, 0.5, 0.3]}, ["Very", "Not at all", "DK/Refused"], "WVS")


def rows_of(margins, key):
    return dict(zip(margins.groups, margins.shares[key].tolist(), strict=True))


# -- SubPOP


def test_subpop_rows_become_questions_and_groups_without_the_refusal(tmp_path):
    file = subpop(
        tmp_path,
        {},
        {"attribute": "SEX", "group": "Female", "responses": [0.1, 0.2, 0.7]},
        {"qkey": "TRUST_W98", "question": "Trust?", "options": ["Yes", "No", "Refused"], "responses": [0.75, 0.25],
         "ordinal": [1.0, 2.0]},
    )  # fmt: skip
    margins = Margins.from_subpop(file)
    assert margins.survey.keys == ("SPEND_W99", "TRUST_W98")
    spend, trust = margins.survey.questions
    assert spend.text == "Are we spending too little?" and spend.options == ("Too little", "About right", "Too much")
    assert spend.codes == (1, 2, 3) and spend.ordinal and trust.options == ("Yes", "No")
    assert margins.groups == ("POLPARTY: Democrat", "SEX: Female")
    assert rows_of(margins, "SPEND_W99") == {"POLPARTY: Democrat": [0.5, 0.25, 0.25], "SEX: Female": [0.1, 0.2, 0.7]}
    np.testing.assert_array_equal(margins.shares["TRUST_W98"], [[0.75, 0.25], [np.nan, np.nan]])
    assert margins.n is None and margins.values == {}
    assert "CC BY-NC-SA 4.0" in margins.notes[-1] and "2502.16761" in margins.source
    assert repr(margins) == "<Margins subpop: 2 questions, 2 groups, 3 distributions>"


@pytest.mark.parametrize("form", ["jsonl", "csv of texts", "parquet", "json"])
def test_subpop_reads_the_same_from_every_form_of_the_file(tmp_path, form):
    rows = [{**ROW, "group": group, "responses": shares} for group, shares in (("A", [1, 0, 0]), ("B", [0, 0.5, 0.5]))]
    if form == "jsonl":
        file = subpop(tmp_path, *rows)
    elif form == "json":
        file = tmp_path / "subpop.json"
        file.write_text(json.dumps(rows))
    elif form == "parquet":
        file = tmp_path / "subpop.parquet"
        pd.DataFrame(rows).to_parquet(file)
    else:
        file = tmp_path / "subpop.csv"
        pd.DataFrame([{name: str(value) for name, value in row.items()} for row in rows]).to_csv(file, index=False)
    margins = Margins.from_subpop(file)
    assert rows_of(margins, "SPEND_W99") == {"POLPARTY: A": [1, 0, 0], "POLPARTY: B": [0, 0.5, 0.5]}
    assert margins.survey.questions[0].options == ("Too little", "About right", "Too much")


def test_options_off_the_scale_stand_last_and_are_marked_and_the_refusal_is_left_out_and_counted(tmp_path):
    off = {"options": ["Good", "Depends", "Bad", "Refused"], "ordinal": [1.0, -1.0, 2.0], "responses": [0.3, 0.2, 0.5]}
    margins = Margins.from_subpop(subpop(tmp_path, off, {**off, "group": "Republican", "responses": [0, 1, 0]}))
    (question,) = margins.survey.questions
    assert question.options == ("Good", "Bad", "Depends") and question.off_scale == (3,) and question.ordinal
    assert rows_of(margins, "SPEND_W99") == {"POLPARTY: Democrat": [0.3, 0.5, 0.2], "POLPARTY: Republican": [0, 0, 1]}
    assert margins.notes[:2] == (
        "Questions whose refusal option is left out: it has no share: 1.",
        "Questions with options off the scale (ordinal -1), put last and marked `off_scale`: 1.",
    )
    assert Margins.from_dict(margins.to_dict()).survey == margins.survey


def test_the_distance_to_published_shares_is_that_of_their_authors_with_the_options_off_the_scale_left_out(tmp_path):
    row = {"options": ["Never", "Daily", "Not sure", "Weekly", "Refused"], "ordinal": [1.0, 3.0, -1.0, 2.0]}
    file = subpop(tmp_path, {**row, "responses": [0.1, 0.2, 0.4, 0.3]})
    margins = Margins.from_subpop(file).group("POLPARTY: Democrat")
    assert margins.survey.questions[0].options == ("Never", "Weekly", "Daily", "Not sure")
    picks = np.repeat([0, 1, 2, 3], [4, 3, 2, 1])[:, None]
    result = evaluate(cast_of(people(0, 10, weighted=False), picks, survey=margins.survey), margins, options=QUICK)
    expected = ordinal_emd([0.4, 0.2, 0.1, 0.3], [0.1, 0.2, 0.4, 0.3], [1, 3, np.nan, 2])
    assert result.metric("wd_normalised").value == pytest.approx(expected)
    (item,) = result.items
    assert (item["off_scale"], item["off_scale_human"]) == (["Not sure"], pytest.approx(0.4))
    assert item["off_scale_simulated"] == pytest.approx(0.1)


def test_uneven_places_are_those_of_the_steps_alone(tmp_path):
    off = {"options": ["Good", "Not sure", "Fair", "Bad", "Refused"], "ordinal": [1.0, -1.0, 2.0, 4.0]}
    margins = Margins.from_subpop(subpop(tmp_path, {**off, "responses": [0.25] * 4}))
    assert margins.values == {"SPEND_W99": (1.0, 2.0, 4.0)} and margins.survey.questions[0].on_scale == (0, 1, 2)
    assert Margins.from_dict(margins.to_dict()).values == margins.values
    with pytest.raises(DataError, match="'SPEND_W99' needs a value for each of 3 steps of its scale"):
        replace(margins, values={"SPEND_W99": (1.0, 2.0, 4.0, 5.0)})


@pytest.mark.parametrize(
    ("ordinal", "order", "values", "is_ordinal"),
    [
        ([1.0, 2.0, 3.0], [0, 1, 2], None, True),
        ([2.0, 1.5, 1.0], [0, 1, 2], None, True),
        ([2.0, 3.0, 1.0], [2, 0, 1], None, True),
        ([1.0, 2.0, 4.0], [0, 1, 2], (1.0, 2.0, 4.0), True),
        ([1.0, 3.0, 1.5], [0, 2, 1], (1.0, 1.5, 3.0), True),
        ([1.0, 1.0, 2.0], [0, 1, 2], (1.0, 1.0, 2.0), True),
        ([1.0, 1.0, 1.0], [0, 1, 2], None, False),
        ([-1.0, -1.0, -1.0], [0, 1, 2], None, False),
        ([1.0, -1.0, -1.0], [0, 1, 2], None, False),
    ],
)
def test_options_stand_in_the_order_of_their_ordinals_and_uneven_ones_keep_their_values(
    tmp_path, ordinal, order, values, is_ordinal
):
    margins = Margins.from_subpop(subpop(tmp_path, {"ordinal": ordinal, "responses": [0.5, 0.3, 0.2]}))
    question = margins.survey.questions[0]
    assert question.options == tuple(np.array(ROW["options"])[order]) and question.ordinal is is_ordinal
    np.testing.assert_allclose(margins.shares["SPEND_W99"][0], np.array([0.5, 0.3, 0.2])[order])
    assert margins.values.get("SPEND_W99") == values
    assert any("not equally far apart" in note for note in margins.notes) == (values is not None)
    assert any("without an order" in note for note in margins.notes) == (not is_ordinal)
    assert any("into the order" in note for note in margins.notes) == (sorted(order) != order)


def test_groups_given_by_several_attributes_carry_both_names(tmp_path):
    joint = {"attribute": "['SEX', 'RACE']", "group": "['Female', 'Asian']"}
    assert Margins.from_subpop(subpop(tmp_path, joint)).groups == ("SEX: Female & RACE: Asian",)
    with pytest.raises(DataError, match=r"row 1: 1 groups for 2 attributes: mend or remove the row"):
        Margins.from_subpop(subpop(tmp_path, {**joint, "group": "Female"}))


def test_wordings_and_scales_that_share_a_key_get_keys_of_their_own_and_are_told(tmp_path):
    file = subpop(
        tmp_path,
        {},
        {"question": "Or too much?"},
        {"qkey": "SPEND_W99-2", "question": "Of itself"},
        {"options": ["Less", "Same", "More", "Refused"]},
        {"group": "Republican"},
    )
    margins = Margins.from_subpop(file)
    texts = {question.key: (question.text, question.options[0]) for question in margins.survey.questions}
    assert texts == {
        "SPEND_W99": ("Are we spending too little?", "Too little"),
        "SPEND_W99-3": ("Or too much?", "Too little"),
        "SPEND_W99-2": ("Of itself", "Too little"),
        "SPEND_W99-4": ("Are we spending too little?", "Less"),
    }
    assert margins.shares["SPEND_W99"].tolist() == [[0.5, 0.25, 0.25]] * 2
    assert "Questions that shared the key of another and got one of their own (KEY-2): 2." in margins.notes


def test_a_row_given_twice_counts_once_and_one_that_contradicts_is_refused_by_place(tmp_path):
    margins = Margins.from_subpop(subpop(tmp_path, {}, {}))
    assert margins.shares["SPEND_W99"].shape == (1, 3)
    assert margins.notes[0] == "Distributions given twice, counted once: 1."
    with pytest.raises(DataError) as caught:
        Margins.from_subpop(subpop(tmp_path, {}, {"responses": [0.2, 0.4, 0.4]}))
    assert str(caught.value).endswith(
        "subpop_train.jsonl, row 2: 'POLPARTY: Democrat' answers 'SPEND_W99' again, with other shares: "
        "keep one of the rows"
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"responses": [0.5, 0.25]}, r"row 1, 'POLPARTY: Democrat': 2 shares for 3 options: mend or remove the row"),
        ({"responses": [0.5, 0.25, "x"]}, r"shares must be numbers, got \[0.5, 0.25, 'x'\]"),
        ({"responses": [0.5, 0.7, -0.2]}, r"shares must be >= 0 and sum to 1 within 0.05, got a sum of 1:"),
        ({"responses": [0.5, 0.25, 0.1]}, r"within 0.05, got a sum of 0.85: mend or .* allow more with tolerance="),
        ({"responses": "os.system('ls')"}, r"row 1, responses: \"os.system\('ls'\)\" is no list .* not allowed"),
        ({"responses": 3}, r"row 1, responses: a list is needed, got '3'"),
        ({"ordinal": [1, 2]}, r"an ordinal for each but the refusal, got 4 options and the ordinals \[1, 2\]"),
        ({"ordinal": [1, 2, "high"]}, r"row 1: ordinals must be numbers, got \[1, 2, 'high'\]"),
        ({"options": ["Yes", "Yes", "No", "Refused"]}, r"two options or more, all different"),
        ({"attribute": None}, r"row 1: a list is needed, got 'None'"),
    ],
)  # fmt: skip
def test_a_subpop_row_that_does_not_fit_is_refused_with_its_place(tmp_path, change, said):
    with pytest.raises(DataError, match=said):
        Margins.from_subpop(subpop(tmp_path, change))


def test_a_file_without_the_columns_or_without_any_shares_is_refused_with_what_it_has(tmp_path):
    file = tmp_path / "people.jsonl"
    file.write_text('{"qkey": "a", "backstory": "I grew up"}\n')
    with pytest.raises(DataError, match=r"lacks the columns attribute, group, responses, .*; it has qkey, backstory"):
        Margins.from_subpop(file)
    with pytest.raises(DataError, match=r"has no question with shares: Distributions that are blank .* not asked: 1\."):
        Margins.from_subpop(subpop(tmp_path, {"responses": [None, None, None]}))
    with pytest.raises(DataError, match="none.jsonl"):
        Margins.from_subpop(tmp_path / "none.jsonl")
    with pytest.raises(OptionError, match="tolerance must be 0 or more and below 1, got 2"):
        Margins.from_subpop(file, tolerance=2)


def test_memory_grows_with_the_questions_and_not_with_the_rows(tmp_path):
    rows = [
        {"qkey": f"Q{at}", "question": f"{at} " + "Is it so? " * 300, "group": f"g{group}"}
        for at in range(20)
        for group in range(120)
    ]
    file = subpop(tmp_path, *rows)
    Margins.from_subpop(subpop(tmp_path, {}, name="warm.jsonl"))
    tracemalloc.start()
    margins = Margins.from_subpop(file)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert margins.shares["Q7"].shape == (120, 3)
    assert peak < file.stat().st_size / 5


# -- GlobalOpinionQA


def test_countries_come_from_a_printed_defaultdict_with_stable_keys_and_no_order(tmp_path):
    margins = Margins.from_global_opinion_qa(global_opinions(tmp_path, WAR, GOD))
    war, god = margins.survey.questions
    content = json.dumps(["Is war a danger?", ["Yes", "No"]], separators=(",", ":"))
    assert war.key == f"gas-{hashlib.sha256(content.encode()).hexdigest()[:10]}"
    assert war.text == "Is war a danger?" and not war.ordinal and god.key.startswith("wvs-")
    assert margins.groups == ("Peru", "Japan")
    assert rows_of(margins, war.key) == {"Peru": [0.4, 0.6], "Japan": [0.7, 0.3]}
    assert god.options == ("Very", "Not at all", "DK/Refused")
    assert "CC BY-NC-SA 4.0" in margins.notes[-1] and "2306.16388" in margins.source
    turned = Margins.from_global_opinion_qa(global_opinions(tmp_path, GOD, WAR))
    assert set(turned.survey.keys) == set(margins.survey.keys)


def test_named_questions_become_ordinal_without_their_options_for_no_answer(tmp_path):
    file = global_opinions(tmp_path, WAR, GOD)
    key = Margins.from_global_opinion_qa(file).survey.keys[1]
    margins = Margins.from_global_opinion_qa(file, ordinal=[key])
    war, god = margins.survey.questions
    assert god.ordinal and god.options == ("Very", "Not at all") and not war.ordinal and not god.off_scale
    told = "Questions with options for no answer, which nobody is shown: left out and the rest renormalised: 1."
    assert told in margins.notes
    np.testing.assert_allclose(margins.group("Peru").shares[key], [[2 / 7, 5 / 7]])
    with pytest.raises(OptionError, match=r"ordinal= names 'wvs-0', but .* no such question: its keys are like 'gas-"):
        Margins.from_global_opinion_qa(file, ordinal=["wvs-0"])


def test_one_wording_with_other_shares_is_another_question_and_the_same_row_again_is_not(tmp_path):
    later = (WAR[0], {"Peru": [0.9, 0.1]}, WAR[2], "GAS")
    margins = Margins.from_global_opinion_qa(global_opinions(tmp_path, WAR, later, WAR))
    first, second = margins.survey.keys
    assert second == f"{first}-2"
    assert rows_of(margins, first)["Peru"] == [0.4, 0.6] and rows_of(margins, second)["Peru"] == [0.9, 0.1]
    assert "Distributions given twice, counted once: 2." in margins.notes


def test_what_published_tables_hold_is_taken_as_it_is_meant_and_counted(tmp_path):
    file = global_opinions(
        tmp_path,
        ("Rounded?", {"Peru": [0.33, 0.33, 0.33], "Chad": []}, ["a", "b", "c"], "WVS"),
        ("Twice the same?", {"Peru": [0.2, 0.3, 0.5]}, ["Other", "Yes", "Other"], "WVS"),
        ("Numbers?", {"Peru": [0.5, 0.5], "Japan": [0.0, 0.0]}, [1.0, 2], "WVS"),
        ("Missing?", "{'Peru': [nan, 0.5]}", ["x", "y"], "WVS"),
        ("", {"Peru": [0.5, 0.5]}, ["x", "y"], "WVS"),
        ("One option?", {"Peru": [1.0]}, ["x"], "WVS"),
        ("NumPy 2?", "defaultdict(<class 'list'>, {'Peru': [np.float64(0.25), 0.75]})", ["x", "y"], ""),
    )
    margins = Margins.from_global_opinion_qa(file)
    by_text = {q.text: (q.options, margins.shares[q.key][0].tolist(), q.key) for q in margins.survey.questions}
    assert margins.groups == ("Peru",)
    assert by_text["Rounded?"][1] == pytest.approx([1 / 3] * 3)
    assert by_text["Twice the same?"][:2] == (("Other", "Yes"), [0.7, 0.3])
    assert by_text["Numbers?"][:2] == (("1.0", "2"), [0.5, 0.5])
    assert by_text["NumPy 2?"][1] == [0.25, 0.75] and by_text["NumPy 2?"][2].startswith("q-")
    assert set(by_text) == {"Rounded?", "Twice the same?", "Numbers?", "NumPy 2?"}
    assert margins.notes[:5] == (
        "Distributions that are blank or all zero, taken as not asked: 3.",
        f"Distributions with a sum off 1 by up to {TOLERANCE}, renormalised: 1.",
        "Questions with two options of the same text, whose shares are added: 1.",
        "Questions without any shares, left out: 1.",
        "Rows without a wording or without two different options, left out: 2.",
    )


def test_shares_far_from_a_sum_of_1_are_refused_with_row_and_country_unless_allowed(tmp_path):
    file = global_opinions(tmp_path, WAR, ("Half?", {"Peru": [0.2, 0.2]}, ["a", "b"], "WVS"))
    with pytest.raises(DataError, match=r"global_opinions.csv, row 2, 'Peru': .* got a sum of 0.4: mend or remove"):
        Margins.from_global_opinion_qa(file)
    margins = Margins.from_global_opinion_qa(file, tolerance=0.6)
    assert margins.shares[margins.survey.keys[1]][0].tolist() == [0.5, 0.5]


@pytest.mark.parametrize(
    ("selections", "said"),
    [
        ("__import__('os').system('touch hacked')", "Call is not allowed"),
        ("{'Peru': [x for x in (1, 2)]}", "ListComp is not allowed"),
        ("{**{}}", "Dict is not allowed"),
        ("{(1, 2): [1]}", "the names in a mapping must be texts or numbers"),
        ("{'Peru': [0.1, 0.9]", "is no list or mapping as Python writes them"),
        ("[" * 5_000 + "]" * 5_000, "is no list or mapping as Python writes them"),
        ("-" * 50_000 + "1", "is no list or mapping as Python writes them"),
        ("{'Peru': [b'0.4', 0.6]}", "Constant is not allowed"),
        ("['Peru']", r"row 1: selections must be a mapping of groups to shares, got \['Peru'\]"),
        ("{'Peru': 0.5}", "row 1, Peru: a list is needed, got '0.5'"),
        ("{'Peru': [0.5, 1" + "0" * 400 + "]}", "shares must be numbers"),
    ],
)
def test_a_hostile_or_broken_mapping_is_refused_and_nothing_in_it_runs(tmp_path, monkeypatch, selections, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=said):
        Margins.from_global_opinion_qa(global_opinions(tmp_path, ("Why?", selections, ["a", "b"], "WVS")))
    assert [file.name for file in tmp_path.iterdir()] == ["global_opinions.csv"]


def test_a_literal_of_a_million_characters_is_refused_before_it_is_parsed():
    with pytest.raises(DataError, match=r"row 1: '\[1,1,1,.* it has 2,000,002 characters; 1,000,000 are allowed"):
        literal("[" + "1," * 1_000_000 + "]", "row 1")


@given(st.text(max_size=60) | st.from_regex(r"[\[\]{}():',0-9a-z.<> -]{0,40}"))
def test_any_text_is_a_plain_value_or_a_data_error(text):
    def plain(value):
        inside = value if isinstance(value, list) else value.values() if isinstance(value, dict) else ()
        return isinstance(value, list | dict | str | int | float | None) and all(map(plain, inside))

    try:
        assert plain(literal(text, "here"))
    except DataError as error:
        assert str(error).startswith("here: ")


NESTED = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(NESTED)
def test_what_python_prints_is_read_as_it_was(value):
    assert literal(repr(value), "here") == value


def test_parquet_as_the_hub_converts_it_reads_as_the_csv_does(tmp_path):
    file = global_opinions(tmp_path, WAR, GOD)
    pd.read_csv(file).to_parquet(tmp_path / "0000.parquet")
    one, other = Margins.from_global_opinion_qa(file), Margins.from_global_opinion_qa(tmp_path / "0000.parquet")
    assert one.survey.questions == other.survey.questions and one.groups == other.groups
    for key in one.survey.keys:
        np.testing.assert_array_equal(one.shares[key], other.shares[key])


# -- counted


def made_humans(n=200, seed=0, *, weighted=True):
    """Respondents with two traits and two questions, some of each not known."""
    rng = np.random.default_rng(seed)
    questions = tuple(Question(key=k, text=k, options=("a", "b", "c"), codes=(1, 2, 3)) for k in ("one", "two"))
    return schema.Respondents(
        name="made",
        ids=tuple(f"p{at}" for at in range(n)),
        levels={"sex": ("M", "F"), "region": ("N", "S", "W")},
        codes={"sex": rng.integers(-1, 2, n).astype(np.int16), "region": rng.integers(0, 3, n).astype(np.int16)},
        answers={key: rng.integers(-1, 3, n).astype(np.int16) for key in ("one", "two")},
        weights=rng.lognormal(size=n) if weighted else None,
        survey=Survey(name="s", title="", source="", questions=questions),
        source="Made up",
        notes=("Made up.",),
    )


@given(st.integers(0, 10_000), st.integers(20, 300), st.booleans(), st.sampled_from([None, "sex", "region"]))
@settings(max_examples=40)
def test_counted_shares_equal_pandas_and_small_groups_are_blank(seed, n, weighted, by):
    humans = made_humans(n, seed, weighted=weighted)
    margins = Margins.of(humans, by=by, smallest_cell=10)
    for key, answers in humans.answers.items():
        frame = pd.DataFrame(
            {
                "group": 0 if by is None else humans.codes[by],
                "answer": answers,
                "weight": 1.0 if humans.weights is None else humans.weights,
            }
        )
        known = frame[(frame["answer"] != MISSING) & (frame["group"] != MISSING)]
        for at, _ in enumerate(margins.groups):
            rows = known[known["group"] == at]
            if len(rows) < 10:
                assert np.isnan(margins.shares[key][at]).all() and margins.n[key][at] == 0
                continue
            expected = rows.groupby("answer")["weight"].sum().reindex(range(3), fill_value=0) / rows["weight"].sum()
            np.testing.assert_allclose(margins.shares[key][at], expected)
            assert margins.n[key][at] == len(rows)


def test_a_count_says_what_it_blanked_whom_it_left_out_and_which_shares_are_rare():
    humans = made_humans(60, 3, weighted=False)
    margins = Margins.of(humans, by="sex", smallest_cell=20)
    tell = " ".join(margins.notes)
    people = {
        key: [((humans.codes["sex"] == at) & (a != MISSING)).sum() for at in (0, 1)]
        for key, a in humans.answers.items()
    }
    blank = sum(0 < n < 20 for counts in people.values() for n in counts)
    assert blank > 0 and f"{blank} distributions of fewer than 20 people are blank." in tell
    unknown = int((humans.codes["sex"] == MISSING).sum())
    assert f"{unknown} people whose sex is not known are in no group." in tell
    assert margins.notes[:2] == ("Made up.", "Shares are not weighted.") and "1 to 19 people" not in tell
    everyone = Margins.of(humans, smallest_cell=20)
    assert everyone.groups == (EVERYONE,) and everyone.name == "made" and margins.name == "made-by-sex"
    assert "shares stand for 1 to 19 people: merge levels before you publish them." in everyone.notes[-1]


def test_counting_needs_a_survey_a_known_trait_and_a_cell_of_one():
    humans = made_humans()
    with pytest.raises(UnknownNameError, match=r"unknown trait of made 'regio': did you mean 'region'\?"):
        Margins.of(humans, by="regio")
    with pytest.raises(OptionError, match="smallest_cell must be 1 or more, got 0"):
        Margins.of(humans, smallest_cell=0)
    with pytest.raises(DataError, match="made has no survey: without its questions there is nothing to count"):
        Margins.of(schema.Respondents(name="made", ids=(), levels={}, codes={}, answers={}))


def test_the_general_social_survey_comes_out_as_pandas_counts_it(gss):
    margins = Margins.of(Respondents.load("gss-2018"), by="party")
    key = "nateduc"
    democrats = gss.answers[key][gss.codes["party"] == gss.levels["party"].index("Democrat")]
    known = democrats[democrats != MISSING]
    expected = np.bincount(known, minlength=3) / len(known)
    np.testing.assert_allclose(margins.group("Democrat").shares[key], [expected])


# -- parts and JSON


def test_a_group_alone_has_the_questions_it_was_asked_and_a_wrong_name_gets_a_suggestion(tmp_path):
    margins = Margins.from_global_opinion_qa(global_opinions(tmp_path, WAR, GOD))
    japan = margins.group("Japan")
    assert japan.survey.keys == margins.survey.keys[:1] and japan.groups == ("Japan",)
    assert japan.shares[japan.survey.keys[0]].tolist() == [[0.7, 0.3]]
    with pytest.raises(UnknownNameError, match=r"unknown group of global-opinion-qa 'Jappan': did you mean 'Japan'\?"):
        margins.group("Jappan")


def test_selected_questions_come_in_the_order_given_with_their_people_and_values(tmp_path):
    counted = Margins.of(made_humans(), by="region")
    two = counted.select(["two"])
    assert two.survey.keys == ("two",) and list(two.shares) == ["two"] == list(two.n)
    uneven = Margins.from_subpop(
        subpop(tmp_path, {"ordinal": [1, 2, 4]}, {"qkey": "B", "ordinal": [1, 2, 5], "question": "B?"})
    )
    assert uneven.select(["B", "SPEND_W99"]).survey.keys == ("B", "SPEND_W99")
    assert uneven.select(["B"]).values == {"B": (1.0, 2.0, 5.0)}
    with pytest.raises(UnknownNameError, match="unknown question of subpop 'A'"):
        uneven.select(["A"])
    group = counted.group("S")
    assert group.n["one"].tolist() == [counted.n["one"][1]]


def same(one, other):
    assert (one.name, one.survey, one.groups, dict(one.values), one.source, one.notes) == (
        other.name, other.survey, other.groups, dict(other.values), other.source, other.notes,
    )  # fmt: skip
    for key in one.survey.keys:
        np.testing.assert_array_equal(one.shares[key], other.shares[key])
        if one.n is not None:
            np.testing.assert_array_equal(one.n[key], other.n[key])
    assert (one.n is None) == (other.n is None)


@given(st.integers(0, 1000), st.integers(1, 40), st.sampled_from([None, "sex", "region"]))
@settings(max_examples=20)
def test_counted_margins_come_back_from_json_as_they_were(seed, n, by):
    margins = Margins.of(made_humans(n, seed), by=by, smallest_cell=5)
    same(Margins.from_dict(json.loads(json.dumps(margins.to_dict(), allow_nan=False))), margins)


def test_saved_margins_load_as_they_were(tmp_path):
    read = Margins.from_subpop(subpop(tmp_path, {"ordinal": [1, 2, 4]}, {"qkey": "B", "group": "x", "question": "B?"}))
    file = read.save(tmp_path / "deep" / "margins.json")
    same(Margins.load(file), read)
    assert json.loads(file.read_text())["shares"]["B"][0] is None


@given(st.data())
@settings(max_examples=150)
def test_damaged_json_is_margins_or_a_plain_error(data):
    whole = Margins.of(made_humans(40), by="sex", smallest_cell=1).to_dict()
    field = data.draw(st.sampled_from(sorted(whole)))
    junk = st.none() | st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=3)
    damage = data.draw(st.sampled_from(["drop", "junk", "inner"]))
    broken = {name: value for name, value in whole.items() if name != field}
    if damage == "junk":
        broken[field] = data.draw(junk | st.dictionaries(st.text(max_size=3), junk, max_size=2))
    elif damage == "inner" and isinstance(whole[field], dict) and whole[field]:
        broken[field] = {**whole[field], data.draw(st.sampled_from(sorted(whole[field]))): data.draw(junk)}
    try:
        assert isinstance(Margins.from_dict(broken), Margins)
    except AnthologyError as error:
        assert str(error)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"groups": ("a", "a")}, r"margins 'm': groups must be distinct and not none, got 'a', 'a'"),
        ({"groups": ()}, r"groups must be distinct and not none, got none"),
        ({"shares": {}}, r"shares and survey must have the same questions, not so 'q'"),
        ({"shares": {"q": np.array([[0.5, 0.5]])}}, r"'q' needs shares of shape \(2, 2\), got \(1, 2\)"),
        ({"shares": {"q": np.array([[0.5, 0.4], [1, 0]])}}, r"the shares of 'q' must be >= 0 and sum to 1"),
        ({"shares": {"q": np.array([[1.5, -0.5], [1, 0]])}}, r"the shares of 'q' must be >= 0 and sum to 1"),
        ({"shares": {"q": np.array([[np.nan, 1], [1, 0]])}}, r"the shares of 'q' must be >= 0 and sum to 1"),
        ({"n": {}}, r"'q' needs n for each of 2 groups"),
        ({"values": {"q": (1.0,)}}, r"'q' needs a value for each of 2 steps of its scale"),
    ],
)
def test_margins_that_do_not_hold_together_cannot_be_made(change, said):
    question = Question(key="q", text="?", options=("y", "n"), codes=(1, 2))
    fields = {
        "name": "m",
        "survey": Survey(name="s", title="", source="", questions=(question,)),
        "groups": ("a", "b"),
        "shares": {"q": np.array([[0.5, 0.5], [np.nan, np.nan]])},
    }
    assert Margins(**fields).group("a").shares["q"].tolist() == [[0.5, 0.5]]
    with pytest.raises(DataError, match=said):
        Margins(**{**fields, **change})
