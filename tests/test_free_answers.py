"""Free-form answers into categories: what is asked, what is counted, and how far it agrees with a person."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, cohen_kappa_score

from anthology_hub import Respondents, Survey, evaluate, open_model
from anthology_hub.errors import DataError, EmptyError, OptionError, RunError, UnknownNameError
from anthology_hub.free_answers import (
    NONE,
    Category,
    CodeOptions,
    agreement,
    code_answers,
    kappa,
    passage,
    read_categories,
)
from anthology_hub.interviews import interview
from anthology_hub.models import Choice, Sampling
from anthology_hub.models.scripted import ScriptedModel
from anthology_hub.schema import Matching, Persona, Role
from anthology_hub.tabulation import answers_table

REPLIES = ["The bus never comes.", "I pay too much rent.", "My rent, and the bus.", "I like cats.", "Who knows", ""]
TOPICS = (Category(name="Transport", description="buses, trains, roads"), Category(name="Housing"))
WORDS = {"Transport": "bus", "Housing": "rent"}
WEIGHTS = (1.0, 2.0, 3.0, 4.0, 0.5, 1.5)


def said(replies=REPLIES, weights=WEIGHTS):
    """Answers to one open question, as a cast gave them."""
    stories = [f"Story {at}." for at in range(len(replies))]
    roles = tuple(
        Role(respondent_id=f"r{at}", weight=weights[at], traits={}, persona=Persona(persona_id=story, backstory=story))
        for at, story in enumerate(stories)
    )
    by_story = dict(zip(stories, replies, strict=True))
    speaker = ScriptedModel("first", replies=lambda prompt, _: by_story[prompt.context])
    return interview(Matching(roles=roles, method="greedy"), ["What troubles you?"], speaker)


def reply_in(prompt):
    return prompt.context.rpartition("Somebody answered: ")[2]


def judge(prompt, letters):
    """Sees the word of each category; is not sure of what says "knows"."""
    shown = [line[4:] for line in prompt.question.splitlines() if line[:1] == "(" and line[2:4] == ") "]
    reply = reply_in(prompt)
    if "knows" in reply:
        return [1.0] * len(letters)
    if "Yes" in shown:
        (name,) = [name for name in WORDS if f'"{name}' in prompt.question]
        return [8.0 if (text == "Yes") == (WORDS[name] in reply) else 2.0 for text in shown]
    named = [text.partition(":")[0] for text in shown]
    fits = {name: 9.5 - at / 2 for at, (name, word) in enumerate(WORDS.items()) if word in reply}
    return [fits.get(name, 1.0) for name in named] if fits else [9.0 if name == NONE else 1.0 for name in named]


def quote(prompt, seed):
    return f'The words are "{reply_in(prompt)[:9].upper()}".'


class Coder(ScriptedModel):
    """Keeps the prompts, and may stop after some calls."""

    def __init__(self, rule=judge, replies=quote, left=10**9):
        super().__init__(rule, replies=replies)
        self.prompts, self.left = [], left

    def choose(self, prompts, options, sampling):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        self.prompts += prompts
        return super().choose(prompts, options, sampling)

    def complete(self, prompts, sampling, *, seeds):
        self.prompts += prompts
        return super().complete(prompts, sampling, seeds=seeds)


def coded(several=False, coder=None, **options):
    return code_answers(
        said(), "q1", TOPICS, coder or Coder(), options=CodeOptions(several=several, **{"least": 0.5, **options})
    )


# -- one category


def test_each_reply_gets_its_category_its_probability_and_its_evidence():
    found = coded(least=0.4)
    assert found.labels == (("Transport",), ("Housing",), ("Transport",), (NONE,), None, None)
    assert [codes[0].probability for codes in found.codes[:4]] == pytest.approx(
        [9.5 / 11.5, 9 / 11, 9.5 / 19.5, 9 / 11], abs=1e-6
    )
    assert [codes[0].evidence for codes in found.codes[:4]] == ["", "I pay too", "My rent", ""]
    assert found.codes[0][0].said == 'The words are "THE BUS N".' and found.codes[0][0].unproven
    assert found.counts == {"coded": 4, "uncoded": 1, "no reply": 1, "unsure": 1, "unproven": 1}


def test_what_the_model_is_not_sure_of_stays_uncoded_and_is_counted():
    found = coded(least=0.6)
    assert found.labels == (("Transport",), ("Housing",), None, (NONE,), None, None)
    assert found.counts["uncoded"] == 2 and found.counts["unsure"] == 2
    # Weights 3 and 0.5 of the five replies, 10.5 in all.
    assert found.uncoded == pytest.approx(3.5 / 10.5)


def test_the_tally_is_weighted_and_its_shares_are_of_what_was_coded():
    rows = {row.category: (row.n, row.weight, row.share) for row in coded(least=0.4).tally()}
    assert rows == {
        "Transport": (2, 4.0, pytest.approx(0.4)),
        "Housing": (1, 2.0, pytest.approx(0.2)),
        NONE: (1, 4.0, pytest.approx(0.4)),
    }


def test_both_orders_are_asked_so_that_a_model_that_likes_the_first_letter_decides_nothing():
    found = coded(coder=Coder(rule=lambda _, letters: [1.0] + [0.0] * (len(letters) - 1)))
    assert found.codes[0][0].probs == (0.5, 0.0, 0.5)
    assert found.counts["coded"] == 0 and found.counts["uncoded"] == 5
    coder = Coder()
    coded(coder=coder)
    texts = [prompt.question for prompt in coder.prompts[:2]]
    assert texts[0].splitlines()[1:4] == ["(A) Transport: buses, trains, roads", "(B) Housing", f"(C) {NONE}"]
    assert texts[1].splitlines()[1:4] == [f"(A) {NONE}", "(B) Housing", "(C) Transport: buses, trains, roads"]
    assert coder.prompts[0].context == "A survey asked: What troubles you?\nSomebody answered: I like cats."


def test_letters_that_the_model_would_hardly_say_decide_nothing():
    class Shy(Coder):
        def choose(self, prompts, options, sampling):
            return [Choice(probs=choice.probs, mass=0.05) for choice in super().choose(prompts, options, sampling)]

    assert coded(coder=Shy()).counts["uncoded"] == 5
    assert coded(coder=Shy(), least_mass=0.05).counts["coded"] == 3


def test_equal_replies_are_asked_once():
    coder = Coder()
    found = code_answers(said(["The bus."] * 5, [1.0] * 5), "q1", TOPICS, coder)
    assert len(coder.prompts) == 3 and found.tally()[0].n == 5


def test_evidence_is_asked_for_only_where_something_was_decided_and_only_if_wished():
    coder = Coder()
    coded(coder=coder)
    asked = [prompt for prompt in coder.prompts if prompt.turns]
    assert sorted(map(reply_in, asked)) == sorted(REPLIES[:2])
    assert asked[0].turns[0][1] in ("(A) Transport: buses, trains, roads", "(B) Housing")
    coder = Coder()
    assert coded(coder=coder, evidence=False).counts["unproven"] == 0
    assert not any(prompt.turns for prompt in coder.prompts)
    silent = coded(coder=Coder(replies=lambda *_: " "))
    assert silent.counts["unproven"] == 2 and silent.codes[0][0].said == "(nothing)"


def test_the_frame_has_a_row_for_each_role():
    frame = coded().to_frame()
    assert frame["status"].tolist() == ["coded", "coded", "uncoded", "coded", "uncoded", "no reply"]
    assert frame["category"].fillna("").tolist() == ["Transport", "Housing", "", NONE, "", ""]
    row = frame.loc[1, ["respondent_id", "weight", "reply", "evidence"]].tolist()
    assert row == ["r1", 2.0, REPLIES[1], "I pay too"]
    assert np.isnan(frame.loc[5, "probability"]) and frame.loc[2, "probability"] == pytest.approx(9.5 / 19.5, abs=1e-6)


# -- several categories


def test_with_several_each_category_is_a_question_of_its_own():
    found = coded(several=True)
    assert found.labels[:4] == (("Transport",), ("Housing",), ("Transport", "Housing"), (NONE,))
    assert [code.holds for code in found.codes[2]] == [True, True] and found.labels[5] is None
    shares = {row.category: row.share for row in found.tally()}
    # Even chances decide nothing, however low the least: the reply with weight 0.5 is in no share.
    assert found.labels[4] is None and coded(several=True, least=0.0).labels[4] is None
    assert shares["Transport"] == pytest.approx(0.4) and shares["Housing"] == pytest.approx(0.5)
    frame = found.to_frame()
    assert frame.loc[2, "category"] == "Transport; Housing" and frame.loc[0, ["p_1", "p_2"]].tolist() == [0.8, 0.2]


def test_with_several_an_unsure_category_is_left_out_and_none_needs_all_to_be_sure():
    found = coded(several=True, least=0.7)
    assert found.labels[4] is None and found.counts["unsure"] == 2
    frame = found.to_frame()
    assert frame.loc[4, "status"] == "uncoded" and np.isnan(frame.loc[5, "p_1"])
    rows = {row.category: (row.n, row.share) for row in found.tally()}
    assert rows == {
        "Transport": (2, pytest.approx(0.4)),
        "Housing": (2, pytest.approx(0.5)),
        NONE: (1, pytest.approx(0.4)),
    }


# -- as answers


def humans(codes):
    answers = {"q1": np.array(codes, dtype=np.int16)}
    return Respondents(
        name="people", ids=tuple(map(str, range(len(codes)))), levels={}, codes={}, answers=answers, weights=None
    )


def test_codes_become_answers_that_evaluate_and_tables_take():
    found = coded(least=0.4)
    closed = found.to_answers()
    assert closed.survey.keys == ("q1",) and closed.survey.questions[0].options == ("Transport", "Housing", NONE)
    assert not closed.survey.questions[0].ordinal and closed.survey.questions[0].codes == (1, 2, 3)
    assert closed.picks[:, 0].tolist() == [0, 1, 0, 2, -1, -1]
    assert closed.statuses[:, 0].tolist() == ["answered"] * 4 + ["unparsable", "failed"]
    assert closed.coverage["answered"] == pytest.approx(4 / 6) and closed.raw[1, 0] == REPLIES[1]
    table = answers_table(closed)
    assert table.frame["q1"].tolist() == [1, 2, 1, 3, -2, -3] and table.frame["weight"].tolist() == list(WEIGHTS)
    result = evaluate(closed, humans([0, 1, 1, 2, 2, 0, 1]))
    assert result.n == 6
    assert result.metric("wd").value is None and 0 < result.metric("jsd").value < 1
    inputs = closed.provenance["inputs"]
    assert inputs["coding"]["model"]["model"] == "judge" and inputs["model"]["developer"] == "scripted"
    assert closed.provenance["run_id"] != found.answers.provenance["run_id"]


def test_several_categories_become_questions_of_yes_and_no():
    closed = coded(several=True, least=0.7).to_answers()
    assert closed.survey.keys == ("q1_1", "q1_2") and closed.survey.questions[1].options == ("Yes", "No")
    assert closed.picks.tolist() == [[0, 1], [1, 0], [0, 0], [1, 1], [-1, -1], [-1, -1]]
    assert closed.statuses[4:].tolist() == [["unparsable"] * 2, ["failed"] * 2]
    assert answers_table(closed).frame["q1_2"].tolist() == [0, 1, 1, 0, -2, -3]
    assert Survey.from_dict(closed.survey.to_dict()) == closed.survey


# -- agreement


def test_agreement_is_accuracy_and_kappa_and_says_what_was_left_out():
    by_hand = {"r0": "Transport", "r1": "Housing", "r2": "Housing", "r3": NONE, "r4": NONE}
    found = agreement(coded(least=0.4), by_hand)
    ours, theirs = ["Transport", "Housing", "Transport", NONE], ["Transport", "Housing", "Housing", NONE]
    assert (found.n, found.left_out, found.accuracy) == (4, 1, 0.75)
    assert found.kappa == pytest.approx(cohen_kappa_score(ours, theirs))
    assert found.by_category[NONE] == 1.0 and found.by_category["Housing"] == pytest.approx(0.5)


def test_agreement_on_several_is_over_all_decisions():
    found = agreement(coded(several=True, least=0.7), {"r0": ["Transport"], "r2": {"Housing"}, "r3": (), "r4": NONE})
    ours, theirs = [1, 1, 0, 0, 1, 0], [1, 0, 0, 0, 1, 0]
    assert (found.n, found.left_out) == (6, 2) and found.accuracy == pytest.approx(5 / 6)
    assert found.kappa == pytest.approx(cohen_kappa_score(ours, theirs))


def test_agreement_over_nothing_is_not_defined():
    found = agreement(coded(), {"r5": NONE})
    assert (found.n, found.left_out, found.accuracy, found.kappa) == (0, 1, None, None)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=1, max_size=30))
def test_kappa_is_that_of_scikit_learn(pairs):
    ours, theirs = [a for a, _ in pairs], [b for _, b in pairs]
    if len({*ours, *theirs}) == 1:
        assert kappa(ours, theirs) is None
    else:
        assert kappa(ours, theirs) == pytest.approx(cohen_kappa_score(ours, theirs))
        assert (kappa(ours, theirs) == 1) == (accuracy_score(ours, theirs) == 1)


def test_codes_by_hand_of_unknown_people_or_categories_are_told():
    with pytest.raises(UnknownNameError, match="unknown respondent coded by hand 'r9': did you mean"):
        agreement(coded(), {"r9": NONE})
    with pytest.raises(UnknownNameError, match="unknown category 'Transprt': did you mean 'Transport'"):
        agreement(coded(), {"r1": "Transprt"})
    with pytest.raises(OptionError, match="respondent 'r1' has 2 codes by hand: give one, 'None of these' if none"):
        agreement(coded(), {"r1": ["Transport", "Housing"]})


# -- evidence


@pytest.mark.parametrize(
    ("said", "reply", "found"),
    [
        ("the bus", "The bus never comes.", "The bus"),
        ('It says "never\n comes", and "bus".', "The bus never, ever? never comes.", "never comes"),
        ("I like cats. The bus never comes.", "Well: the bus - never comes", "the bus - never comes"),
        ("\u201cdon't\u201d", "I don\u2019t care", "don\u2019t"),
        ("us", "The bus never comes.", ""),
        ("The train.", "The bus.", ""),
        ("...", "The bus...", ""),
        ("", "The bus.", ""),
        ("a.b(", "it is a.b( there", "a.b"),
    ],
)
def test_a_quote_counts_as_it_stands_in_the_reply(said, reply, found):
    assert passage(said, reply) == found


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60), st.text(max_size=60))
def test_evidence_is_always_a_passage_of_the_reply(said, reply):
    assert passage(said, reply) in reply
    assert not reply.strip() or passage(reply, reply) in reply


# -- run folder, seeds, errors


def test_an_interrupted_coding_goes_on_and_the_batch_size_changes_nothing(tmp_path):
    whole = coded(several=True)
    place, options = tmp_path / "run", CodeOptions(several=True, batch_size=2)
    with pytest.raises(KeyboardInterrupt):
        code_answers(said(), "q1", TOPICS, Coder(left=2), options=options, folder=place)
    coder, seen = Coder(), []
    again = code_answers(
        said(),
        "q1",
        TOPICS,
        coder,
        options=replace(options, batch_size=1),
        folder=place,
        progress=lambda *at: seen.append(at),
    )
    assert again.codes == whole.codes and seen == [(4, 5), (5, 5)]
    assert {reply_in(prompt) for prompt in coder.prompts} == {"Who knows"}
    with pytest.raises(RunError, match=r"belongs to another run; what differs: options.several"):
        code_answers(said(), "q1", TOPICS, Coder(), folder=place)
    part = next((place / "codes").glob("*.parquet"))
    part.write_bytes(b"no parquet")
    with pytest.raises(RunError, match="is broken"):
        code_answers(said(), "q1", TOPICS, Coder(), options=options, folder=place)


def test_a_part_with_other_columns_is_broken(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    code_answers(said(), "q1", TOPICS, Coder(), folder=tmp_path / "run")
    pq.write_table(pa.table({"reply": ["x"], "codes": ["[1]"]}), tmp_path / "run" / "codes" / "part-0.parquet")
    with pytest.raises(RunError, match="part-0.parquet is broken .*delete it and run again"):
        code_answers(said(), "q1", TOPICS, Coder(), folder=tmp_path / "run")


@pytest.mark.parametrize(
    ("categories", "told"),
    [
        ([], r"categories must be one or more with distinct names, got \[\]"),
        (["A", "a"], r"distinct names, got \['A', 'a'\]"),
        (["A", " "], "distinct names"),
        ("Transport", "categories must be a list, got the text 'Transport'"),
        (["None of These"], "the category 'None of these' is always there: leave it out"),
        (list(map(str, range(26))), "26 categories are too many for one question: at most 25, or several=True"),
    ],
)
def test_categories_that_cannot_be_told_apart_are_refused(categories, told):
    coder = Coder()
    with pytest.raises(OptionError, match=told):
        code_answers(said(), "q1", categories, coder)
    assert coder.asked == 0


def test_what_cannot_be_coded_is_told(spending):
    with pytest.raises(UnknownNameError, match="unknown question of interview 'q2': did you mean 'q1'"):
        code_answers(said(), "q2", TOPICS, Coder())
    closed = coded().to_answers()
    with pytest.raises(OptionError, match="question 'q1' is of the kind choice: only those of the kind text are coded"):
        code_answers(closed, "q1", TOPICS, Coder())
    with pytest.raises(EmptyError, match="nobody answered 'q1' in words: there is nothing to code"):
        code_answers(said([""], [1.0]), "q1", TOPICS, Coder())
    with pytest.raises(EmptyError, match="nobody answered 'q1'"):
        code_answers(replace(said(), values=None), "q1", TOPICS, Coder())
    with pytest.raises(OptionError, match="between 0 and 1 and batch_size at least 1, got 1.5, 0.1, 16"):
        CodeOptions(least=1.5)


def test_categories_are_read_from_a_file(tmp_path):
    file = tmp_path / "topics.json"
    file.write_text(json.dumps({"categories": ["Housing", {"name": "Transport", "description": "buses"}]}))
    assert read_categories(file) == (Category(name="Housing"), Category(name="Transport", description="buses"))
    file.write_text('["Housing"]')
    assert read_categories(file) == (Category(name="Housing"),)
    for wrong in ('{"names": []}', "[{}]", "no json", "[1]"):
        file.write_text(wrong)
        with pytest.raises(DataError, match="topics.json cannot be read .*: give a JSON list of names, or of objects"):
            read_categories(file)


@pytest.mark.slow
def test_the_real_model_codes_and_its_evidence_is_in_the_reply():
    few = said(REPLIES[:2], WEIGHTS[:2])
    options = CodeOptions(least=0.0, sampling=Sampling(temperature=0.0, max_tokens=8))
    found = code_answers(few, "q1", TOPICS, open_model("local:smollm2"), options=options)
    assert found.counts["coded"] == 2
    for reply, (code,) in zip(REPLIES[:2], found.codes, strict=True):
        assert sum(code.probs) == pytest.approx(1) and code.evidence in reply
        assert code.said or code.category == NONE
