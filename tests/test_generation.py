"""Generation: what is asked, what is kept, that nothing is asked twice, and that the counts add up."""

import hashlib
import json
import random
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from datasets import load_dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from anthology_hub import Anthology, Codebook, Encoder, Sampling, open_model
from anthology_hub.budget import plan, priced
from anthology_hub.conditioning import transcript
from anthology_hub.errors import AnthologyError, DataError, EmptyError, ModelError, OptionError, RunError
from anthology_hub.generation import PREAMBLE_TRIES, append, generate
from anthology_hub.models.scripted import ScriptedModel
from anthology_hub.schema import digest
from anthology_hub.screening import Critic
from anthology_hub.styles import GenerateOptions, read_questions, style_of

BOOK = Codebook.load("anthology")
WORDS = ["barn", "river", "choir", "nurse", "winter", "bread", "violin", "mountain"]
WORDS += ["letter", "garden", "uncle", "harbor", "school", "truck", "prairie"]
LOOSE = ("words:least=10", "placeholders")
STRICT = GenerateOptions(checks=LOOSE)


def tale(prompt, seed):
    """Now and then no yes, too short, or with a slot: as real models do."""
    rng = random.Random(seed)
    if "citizen" in prompt.question:
        return rng.choice(["Yes, I am.", "No.", "yes", "I was born yesterday."])
    n = rng.choice([4, 9, 12, 15])
    slot = rng.choice(["", "", " I live in [city]."])
    return f"I am number {seed % 10**9}: {' '.join(rng.choices(WORDS, k=n))}.{slot}"


def writer(replies=tale):
    return ScriptedModel("uniform", replies=replies)


def style(options, n=1, quota=(), seed=0):
    return style_of(options, n, quota=quota, codebook=BOOK, seed=seed)


class Dying(ScriptedModel):
    """A model whose process is killed in one of its calls."""

    def __init__(self, calls):
        super().__init__("uniform", replies=tale)
        self.calls = calls

    def complete(self, prompts, sampling, *, seeds):
        if not self.calls:
            raise KeyboardInterrupt
        self.calls -= 1
        return super().complete(prompts, sampling, seeds=seeds)


# -- what is asked ---------------------------------------------------------------------------------------------------

STORY = (
    "Tell me about yourself. How old are you? Where did you grow up? What events made you who you are? What matters to "
    "you and what do you enjoy?"
)


def test_a_natural_story_is_asked_for_in_the_layout_of_the_paper():
    natural = style(GenerateOptions())
    assert natural.prompt(0, ()).as_text() == "Question: Are you a US citizen?\n\nAnswer:"
    turns = (("Are you a US citizen?", "Yes, born here."),)
    assert natural.prompt(0, turns).as_text() in {
        f"Question: Are you a US citizen?\n\nAnswer: Yes, born here.\n\nQuestion: {asked}\n\nAnswer:"
        for asked in (STORY, f"{STORY} Please describe in detail.")
    }
    assert natural.sampling(0) == Sampling(max_tokens=100, stop=("\n",))
    assert natural.sampling(1) == Sampling(max_tokens=1500, stop=("Question", "Q:", "Interview"))


def test_both_variants_are_drawn_and_told():
    natural = style(GenerateOptions(), n=60)
    drawn = [natural.variant(story) for story in range(60)]
    assert 15 < drawn.count("detailed") < 45 and set(drawn) == {"standard", "detailed"}
    made = generate(writer(), 12, options=STRICT)
    assert sorted(made.report.variants) == ["detailed", "standard"]
    assert sum(n for n, _ in made.report.variants.values()) == made.report.tried
    assert sum(accepted for _, accepted in made.report.variants.values()) == made.report.accepted == 12


def test_the_wordings_are_those_that_were_agreed_on():
    interview, primed = (
        style(GenerateOptions(style="interview")),
        style(GenerateOptions(style="primed"), quota=[{"region": "South"}]),
    )
    assert interview.steps == 10
    assert interview.question(0, 4) == "Tell me about any recent changes to your daily routine."
    assert interview.question(0, 8).startswith("Some people are excited about medical vaccination, and others")
    assert digest([interview.question(0, step) for step in range(10)])[:12] == "95bca270d1e7"
    assert primed.sampling(0) == Sampling(temperature=1.1, max_tokens=1500, stop=("Question", "Q:", "Interview"))


TRAITS = {"age": "30-49", "gender": "Female", "region": "South"}


@pytest.mark.parametrize(
    ("primer", "within"),
    [
        ("bio", ["Description:", "My age is 30-49.", "I consider my gender as Female."]),
        (
            "qa",
            ["What is your age?\n(A) 18-29\n(B) 30-49", "Answer: (B)\n\n", "questions about your demographic"],
        ),
        ("portray", ["as if you are a person with", "age: 30-49", "gender: Female", "region: "]),
    ],
)
def test_a_primed_story_comes_after_its_traits(primer, within):
    text = style(GenerateOptions(style="primed", primer=primer), quota=[TRAITS]).prompt(0, ()).as_text()
    assert all(part in text for part in within), text
    assert text.endswith("\n\nQuestion: Tell me about yourself.\n\nAnswer:")


def test_traits_come_in_another_order_from_story_to_story():
    primed = style(GenerateOptions(style="primed"), n=20, quota=[TRAITS] * 20)
    assert len({primed.prompt(story, ()).context for story in range(20)}) > 3
    assert primed.prompt(3, ()).as_messages()[0]["content"] == primed.prompt(3, ()).context


def test_each_answer_of_an_interview_comes_after_all_before_it():
    seen = []

    def answer(prompt, seed):
        seen.append(prompt.as_text())
        return f"Answer {len(prompt.turns)} of {seed}, as I said."

    options = GenerateOptions(style="interview", questions=("Who are you?", "Since when?", "And now?"), checks=())
    text = generate(writer(answer), 1, options=options).records[0]["backstory"]
    turns = transcript(text)
    assert [question for question, _ in turns] == [
        "Question: Who are you?",
        "Question: Since when?",
        "Question: And now?",
    ]
    assert text.startswith("Question: Who are you?\n\nAnswer: Answer 0 of ")
    assert seen[-1] == text.rpartition("\n\nAnswer: ")[0] + "\n\nAnswer:"


# -- what is kept ----------------------------------------------------------------------------------------------------


def test_every_draft_is_accepted_or_rejected_for_a_reason_and_kept(tmp_path):
    made = generate(writer(), 15, options=STRICT, folder=tmp_path / "run")
    report = made.report
    assert (report.kept, report.given_up, report.asked) == (15, 0, 15)
    assert report.tried == report.accepted + sum(report.rejected.values()) == 15 + len(made.rejected)
    assert set(report.rejected) == {"words", "placeholders"}
    assert report.preamble[1] == 15 < report.preamble[0]
    rows = pq.read_table(tmp_path / "run" / "rejected.parquet").to_pylist()
    assert rows == list(made.rejected)
    assert all(row["sha256"] == hashlib.sha256(row["text"].encode()).hexdigest() for row in rows)
    assert {row["reason"] for row in rows if row["check"] == "placeholders"} == {
        "a slot or comment is left in it: '[city]'"
    }
    told = json.loads((tmp_path / "run" / "report.json").read_text())
    assert told["acceptance"] == report.acceptance == 15 / report.tried
    drafts = [row for _, rows in _parts(tmp_path / "run") for row in rows]
    assert len(drafts) == report.tried + report.preamble[0]


def _parts(folder):
    return [(file, pq.read_table(file).to_pylist()) for file in sorted((folder / "drafts").glob("*.parquet"))]


def test_only_what_says_yes_opens_a_story_and_yesterday_is_no_yes():
    made = generate(writer(), 10, options=STRICT)
    preambles = {json.loads(record["generation"])["preamble"] for record in made.records}
    assert preambles == {"Yes, I am.", "yes"}


def test_a_model_that_never_says_yes_is_told_of():
    with pytest.raises(
        ModelError, match=r"did not say yes to 'Are you a US citizen\?' in 100 tries, the last answer"
    ) as e:
        generate(writer(lambda _prompt, _seed: "No."), 1, options=STRICT)
    assert "use another model, or generate without the preamble" in str(e.value)


def test_a_run_that_failed_at_the_preamble_asks_nothing_more_when_it_goes_on(tmp_path):
    model = writer(lambda _prompt, _seed: "No.")
    for _ in range(2):
        with pytest.raises(ModelError, match="did not say yes"):
            generate(model, 1, options=STRICT, folder=tmp_path / "run")
    assert model.asked == PREAMBLE_TRIES


def test_without_the_preamble_the_story_is_asked_for_at_once():
    model = writer(lambda prompt, seed: f"I am {seed}, {prompt.question.count('citizen')} times asked.")
    made = generate(model, 3, options=GenerateOptions(preamble=False, checks=()))
    assert model.asked == 3 and all("0 times" in record["backstory"] for record in made.records)
    assert made.report.preamble == (0, 0)


def test_only_the_rejected_answer_of_an_interview_is_asked_again():
    def answer(prompt, seed):
        bad = len(prompt.turns) == 1 and random.Random(seed).random() < 0.7
        return f"Turn {len(prompt.turns)} of {seed}." + (" [name]" if bad else " Good.")

    options = GenerateOptions(style="interview", questions=("a?", "b?", "c?"), checks=("placeholders",))
    made = generate(writer(answer), 5, options=options)
    assert {row["question"] for row in made.rejected} == {"b?"} and len(made.rejected) > 2
    assert made.report.tried == 15 + len(made.rejected) and made.report.accepted == 15


def test_what_is_tried_too_often_is_given_up_and_counted():
    made = generate(
        writer(lambda prompt, _seed: "Yes." if "citizen" in prompt.question else ""),
        3,
        options=replace(STRICT, tries=4),
    )
    assert (made.report.kept, made.report.given_up) == (0, 3)
    assert made.report.rejected == {"empty": 12} and made.report.acceptance == 0
    with pytest.raises(EmptyError):
        made.collection(name="none", licence="CC0-1.0")


def test_the_same_text_twice_is_a_duplicate_even_with_no_check():
    made = generate(writer(lambda *_: "Yes, I am."), 3, options=GenerateOptions(checks=(), tries=2))
    assert (made.report.kept, made.report.given_up) == (1, 2)
    assert made.report.rejected == {"duplicate": 4} and made.report.tried == 5
    assert made.rejected[0]["reason"].startswith("the same text as ")


def test_what_cannot_be_encoded_is_replaced_and_breaks_nothing(tmp_path):
    model = writer(lambda _prompt, seed: f"I am \ud83d number {seed}.")
    options = GenerateOptions(preamble=False, checks=("words:least=2",))
    made = generate(model, 2, options=options, folder=tmp_path / "run")
    assert all(record["backstory"].startswith("I am ? number ") for record in made.records)
    assert generate(model, 2, options=options, folder=tmp_path / "run").records == made.records and model.asked == 2


def test_a_near_duplicate_begins_another_life(starter):
    stories = [starter[0].backstory, f"{starter[0].backstory} Truly.", starter[1].backstory]

    def retell(prompt, seed):
        return stories[seed % 3]

    options = GenerateOptions(preamble=False, checks=("near:alike=0",), tries=30)
    made = generate(writer(retell), 2, options=options)
    first, second = (record["backstory"] for record in made.records)
    assert (first in stories[:2]) != (second in stories[:2]), "of the two that are near, one is kept"
    near = generate(writer(retell), 1, options=replace(options, tries=3), collection=starter)
    assert near.records == () and set(near.report.rejected) <= {"near", "duplicate"} and near.report.tried == 3


def test_the_critic_is_asked_of_what_passes_the_checks_and_its_probabilities_are_kept():
    judge = ScriptedModel(lambda prompt, _o: [0.9, 0.1] if "violin" in prompt.question else [0.25, 0.75])
    critic = Critic(model=judge, checks=("code", "inconsistent"))
    made = generate(writer(), 6, options=STRICT, critic=critic)
    assert made.report.rejected["critic:code"] > 0
    assert all("violin" not in record["backstory"] for record in made.records)
    assert {str(json.loads(record["generation"])["critic"]) for record in made.records} == {"[{'code': 0.25}]"}
    passed = made.report.tried - made.report.rejected["words"] - made.report.rejected["placeholders"]
    assert judge.asked == passed and made.report.critic_tokens > 0


def test_consistency_is_judged_against_the_earlier_turns_of_an_interview():
    def contradicted(prompt, _options):
        return [1.0, 0.0] if "contradict" in prompt.question and "Answer: I am" in prompt.question else [0.0, 1.0]

    options = GenerateOptions(style="interview", questions=("a?", "b?"), checks=(), tries=2)
    critic = Critic(model=ScriptedModel(contradicted))
    made = generate(writer(lambda _p, seed: f"I am {seed}."), 1, options=options, critic=critic)
    assert made.report.rejected == {"critic:inconsistent": 2} and made.report.accepted == 1


def test_a_critic_that_says_nothing_is_counted_as_unsure():
    class Mute(ScriptedModel):
        def choose(self, prompts, options, sampling):
            return [replace(choice, mass=0.0) for choice in super().choose(prompts, options, sampling)]

    made = generate(writer(), 3, options=STRICT, critic=Critic(model=Mute("first")))
    assert made.report.unsure == 3
    assert "  the critic said neither yes nor no of 3 drafts" in made.report.lines()


# -- seeds, batches, interruption ------------------------------------------------------------------------------------


@settings(max_examples=12)
@given(st.integers(1, 9), st.integers(0, 3), st.sampled_from(["natural", "interview", "primed"]))
def test_the_size_of_a_batch_changes_nothing(size, seed, name):
    quota = [{"region": "South"}] * 5 if name == "primed" else ()
    questions = ("a?", "b?") if name == "interview" else ()
    options = GenerateOptions(style=name, questions=questions, checks=(*LOOSE, "near:alike=0,share=0.5"), tries=60)
    one, many = (
        generate(writer(), 5, seed=seed, quota=quota, options=replace(options, batch_size=size)) for size in (1, size)
    )
    assert one.records == many.records and one.rejected == many.rejected
    assert replace(one.report, seconds=0) == replace(many.report, seconds=0)


def test_another_seed_gives_other_stories():
    first, second = (generate(writer(), 3, seed=seed, options=STRICT) for seed in (0, 1))
    assert not {r["backstory"] for r in first.records} & {r["backstory"] for r in second.records}


@pytest.mark.parametrize("calls", [1, 2, 5])
def test_a_killed_run_goes_on_with_the_same_records_and_asks_nothing_twice(tmp_path, calls):
    whole = writer()
    expected = generate(whole, 9, options=STRICT)
    with pytest.raises(KeyboardInterrupt):
        generate(Dying(calls), 9, options=STRICT, folder=tmp_path / "run")
    done = sum(len(rows) for _, rows in _parts(tmp_path / "run"))
    model = writer()
    # A batch of another size cuts the rest of the work another way.
    made = generate(model, 9, options=replace(STRICT, batch_size=4), folder=tmp_path / "run")
    assert made.records == _of_run(expected.records, made) and made.rejected == expected.rejected
    assert done > 0 and done + model.asked == whole.asked
    again = writer()
    assert generate(again, 9, options=STRICT, folder=tmp_path / "run").records == made.records and again.asked == 0


def _of_run(records, made):
    assert all(json.loads(record["generation"])["run"] == made.provenance["run_id"] for record in records)
    return records


def test_a_deleted_part_is_made_anew_as_it_was(tmp_path):
    made = generate(writer(), 9, options=STRICT, folder=tmp_path / "run")
    file, rows = _parts(tmp_path / "run")[1]
    file.unlink()
    model = writer()
    assert generate(model, 9, options=STRICT, folder=tmp_path / "run").records == made.records
    assert model.asked == len(rows)


def test_seconds_add_up_over_calls_and_half_a_line_does_no_harm(tmp_path):
    made = generate(writer(), 3, options=STRICT, folder=tmp_path / "run")
    with (tmp_path / "run" / "events.jsonl").open("a") as stream:
        stream.write('{"event": "asked", "seconds": 5.0}\n{"event": "ask')
    again = generate(writer(), 3, options=STRICT, folder=tmp_path / "run")
    assert again.report.seconds == pytest.approx(made.report.seconds + 5.0)


def test_progress_tells_finished_stories():
    told = []
    generate(
        writer(), 5, options=replace(STRICT, batch_size=2), progress=lambda done, total: told.append((done, total))
    )
    assert told[0] == (0, 5) and told[-1] == (5, 5) and sorted(told) == told


def test_another_run_is_not_continued(tmp_path):
    generate(writer(), 2, options=STRICT, folder=tmp_path / "run")
    with pytest.raises(RunError, match=r"belongs to another run; what differs: .*seed \(0 there, 1 now\)"):
        generate(writer(), 2, seed=1, options=STRICT, folder=tmp_path / "run")


def test_a_part_with_other_columns_is_refused(tmp_path):
    generate(writer(), 2, options=STRICT, folder=tmp_path / "run")
    file, _ = _parts(tmp_path / "run")[0]
    pq.write_table(pq.read_table(file).drop_columns(["text"]), file)
    with pytest.raises(RunError, match="is broken .*delete it and run again"):
        generate(writer(), 2, options=STRICT, folder=tmp_path / "run")


# -- collections -----------------------------------------------------------------------------------------------------


@pytest.fixture
def made():
    quota = [{"region": "South", "gender": "Female"}, {"region": "West"}]
    return generate(writer(), 2, options=GenerateOptions(style="primed", checks=LOOSE), quota=quota, seed=3)


def test_generated_backstories_become_a_collection_with_their_provenance(made, tmp_path):
    people = made.collection(name="bakers", licence="CC0-1.0").save(tmp_path / "people", card=made.card)
    rows = people.to_dataset().to_list()
    assert [row["generator"] for row in rows] == ["scripted/uniform"] * 2
    assert rows[0]["source"] == f"generated with anthology_hub, run {made.provenance['run_id']}"
    assert rows[0]["prompt_id"].startswith("primed-")
    how = json.loads(rows[0]["generation"])
    assert how["primed"] == {"region": "South", "gender": "Female"} and how["seed"] == 3 and how["story"] == 0
    assert how["sampling"]["temperature"] == 1.1 and how["checks"] == ["words", "placeholders"]
    assert how["tokens"]["backstory"] == len(rows[0]["backstory"].split())
    assert how["tokens"]["reply"] >= how["tokens"]["backstory"] and how["tokens"]["prompt"] > 0
    assert people[0].traits["region"] is None, "what was asked for is not what the text says"
    card = (tmp_path / "people" / "README.md").read_text()
    assert "Written by the language model `uniform` in style `primed`" in card
    shown = load_dataset(str(tmp_path / "people"), "personas", split="train")
    assert "generation" in shown.column_names


def test_collections_that_were_not_generated_have_no_column_for_it(starter):
    assert "generation" not in starter.to_dataset().column_names


def test_records_with_and_without_their_generation_cannot_be_mixed():
    records = [{"backstory": "I bake.", "traits": {}}, {"backstory": "I sew.", "traits": {}, "generation": "{}"}]
    with pytest.raises(DataError, match="record 1 differs from the first in having 'generation'"):
        Anthology.from_records(records, BOOK, name="x", licence="CC0-1.0")


class Counting(Encoder):
    """Counts the texts that it encodes."""

    def encode(self, texts):
        self.encoded = getattr(self, "encoded", 0) + len(texts)
        return super().encode(texts)


def test_generated_backstories_are_appended_as_a_minor_release(starter, tmp_path):
    encoder = Counting()
    old = starter.sample(30).save(tmp_path / "old", release="1.2.0")
    made = generate(writer(), 3, options=STRICT, collection=old)
    new = append(made, old, encoder=encoder).save(tmp_path / "new")
    assert new.identity.startswith("anthology-starter@1.3.0#") and len(new) == 33
    assert new.ids[:30] == old.ids and encoder.encoded == 3
    rows = new.to_dataset().to_list()
    assert [row["generation"] is None for row in rows] == [True] * 30 + [False] * 3
    assert [row["generator"] for row in rows[:30]] == [row["generator"] for row in old.to_dataset().to_list()]
    assert {row["generator"] for row in rows[30:]} == {"scripted/uniform"}
    changes = new.diff(old)
    assert (len(changes.added), changes.demands, changes.changed) == (3, "minor", ())
    log = (tmp_path / "new" / "CHANGELOG.md").read_text()
    assert "## 1.3.0\n\n### Added\n\n- 3 personas added" in log
    assert new.search(made.records[1]["backstory"], k=1)[0].backstory == made.records[1]["backstory"]
    assert new.annotations_of(old.ids[4]) == old.annotations_of(old.ids[4])


def test_a_release_that_does_not_follow_is_refused(starter):
    made = generate(writer(), 1, options=STRICT, collection=starter)
    with pytest.raises(OptionError, match=r"is a patch release .* demands a minor release: give 1\.2\.0 or higher"):
        append(made, starter, release="1.1.1")


def test_only_collections_of_the_same_traits_are_joined(starter):
    other = generate(writer(), 1, options=STRICT, codebook=BOOK)
    with pytest.raises(DataError, match="make the new personas with the codebook of the collection"):
        append(other, starter)


def test_who_is_here_already_is_not_added_again(starter):
    with pytest.raises(EmptyError, match="nothing to add"):
        starter.extended(starter.sample(3))


def test_vectors_are_of_one_encoder(starter, encoder):
    vectors, owners = starter.sample(5).passage_vectors(encoder.card)
    assert len(vectors) == len(owners) and len(set(owners.tolist())) == 5
    with pytest.raises(DataError, match="has no vectors of other"):
        starter.passage_vectors(replace(encoder.card, model="other"))


# -- known before ----------------------------------------------------------------------------------------------------


def test_a_plan_counts_what_is_asked_at_most_and_asks_nothing():
    model, options = (
        writer(),
        GenerateOptions(style="interview", questions=("a b c?", "d?"), sampling=Sampling(max_tokens=50)),
    )
    planned = plan(model, 4, options=options, acceptance=0.5)
    # Question: a b c? Answer: -> 5 words; then Question: a b c? Answer: Question: d? Answer: -> 8 words and a reply.
    assert (planned.calls, planned.prompt_tokens) == (16, 8 * 5 + 8 * (8 + 50))
    assert planned.reply_tokens == 16 * 50 and model.asked == 0
    assert planned.cost(10, 100) == pytest.approx((504 * 10 + 800 * 100) / 1e6)
    assert planned.lines() == [
        "4 stories, if 50% of the drafts are accepted: 16 calls",
        "at most 504 prompt and 800 reply tokens",
    ]


@pytest.mark.parametrize("name", ["natural", "interview"])
def test_a_run_takes_no_more_than_planned(name):
    def brief(prompt, seed):
        return f"Yes, I am {seed}."

    options = GenerateOptions(style=name, checks=(), sampling=Sampling(max_tokens=40))
    model, judge = writer(brief), ScriptedModel(lambda *_: [0, 1])
    critic = Critic(model=judge)
    planned = plan(model, 3, options=options, critic=critic)
    report = generate(model, 3, options=options, critic=critic).report
    assert planned.calls == model.asked
    # What is never asked of a first answer is planned for nobody.
    assert planned.critic_calls == judge.asked
    assert report.prompt_tokens <= planned.prompt_tokens and report.reply_tokens <= planned.reply_tokens
    assert report.critic_tokens <= planned.critic_tokens
    assert "critic: " in planned.lines()[-1]


@pytest.mark.parametrize("acceptance", [0, 1.5])
def test_an_acceptance_is_a_share(acceptance):
    with pytest.raises(OptionError, match=f"above 0 and at most 1, got {acceptance}"):
        plan(writer(), 1, acceptance=acceptance)


def test_prices_are_not_negative():
    with pytest.raises(OptionError, match="must be 0 or more, got -1 and 0"):
        priced(1, 1, -1, 0)


# -- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"style": "natrual"}, "unknown style 'natrual'"),
        ({"primer": "poem"}, "allowed are natural, primed, interview, and bio, qa, portray"),
        ({"tries": 0}, "tries and batch_size must be at least 1, got 0 and 8"),
        ({"questions": ("a?",)}, "belong to style 'interview', got 'natural'"),
        ({"style": "interview", "questions": (" ",)}, "questions must be texts"),
    ],
)
def test_options_are_checked(options, said):
    with pytest.raises(OptionError) as caught:
        GenerateOptions(**options)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("n", "options", "quota", "said"),
    [
        (0, {}, [], "n must be at least 1, got 0"),
        (2, {"style": "primed"}, [], "2 stories of style 'primed' and a quota of 0 do not fit"),
        (2, {"style": "primed"}, [TRAITS], "2 stories of style 'primed' and a quota of 1 do not fit"),
        (1, {}, [TRAITS], "no other takes any"),
    ],
)
def test_a_quota_fits_its_stories(n, options, quota, said):
    with pytest.raises(AnthologyError) as caught:
        generate(writer(), n, options=GenerateOptions(**options), quota=quota)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("q.txt", "Who are you?\n\nWhat now?\n"),
        ("q.json", '["Who are you?", "What now?"]'),
        ("r.json", '{"questions": ["Who are you?", " What now? "]}'),
    ],
)
def test_questions_are_read_from_text_and_json(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    assert read_questions(tmp_path / name) == ("Who are you?", "What now?")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("q.txt", "\n \n", "holds no question: write one in each line"),
        ("q.json", "[1]", "must hold a list of questions, got '[1]'"),
        ("q.json", "{", "cannot be read"),
        ("none.txt", None, "cannot be read"),
    ],
)
def test_a_file_without_questions_is_refused(tmp_path, name, content, said):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(DataError) as caught:
        read_questions(tmp_path / name)
    assert said in str(caught.value)


# -- the real thing --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_embedded_model_really_writes_and_is_really_rejected(tmp_path):
    model = open_model("local:smollm2")
    options = GenerateOptions(
        preamble=False, checks=("words:least=6", "placeholders"), sampling=Sampling(max_tokens=14), tries=3
    )
    judge = Critic(model=model, checks=("code",), threshold=0.999)
    made = generate(model, 2, options=options, critic=judge, folder=tmp_path / "run")
    strict = generate(model, 1, options=replace(options, checks=("words:least=500",), tries=1))
    assert made.report.tried == made.report.accepted + sum(made.report.rejected.values())
    assert made.report.kept >= 1 and made.report.reply_tokens > 10
    assert strict.report.rejected == {"words": 1} and strict.report.given_up == 1
    assert all(0 <= p <= 1 for r in made.records for p in json.loads(r["generation"])["critic"][0].values())
