"""Annotating: quotes make a trait certain, replies are counted, runs go on where they stopped."""

import json
import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from anthology_hub import Anthology, Codebook, Sampling, open_model
from anthology_hub.annotation import AnnotateOptions, annotate, plan_annotation
from anthology_hub.calibration import check
from anthology_hub.errors import DataError, EmptyError, OptionError, RunError, UnknownNameError
from anthology_hub.models.local import LocalModel
from anthology_hub.models.scripted import ScriptedModel
from anthology_hub.prompts import derive_seed
from anthology_hub.schema import Trait
from tests.test_local_model import save_tiny

PAPER = Codebook.load("anthology")


@pytest.fixture(scope="module")
def people(starter):
    return starter.sample(6, seed=4)


def speaker(replies):
    """A model that says what a function of the prompt and the seed says, and remembers its prompts."""

    def said(prompt, seed):
        model.prompts.append(prompt)
        return replies(prompt, seed)

    model = ScriptedModel("uniform", replies=said)
    model.prompts = []
    return model


def letter_of(prompt, text):
    """The letter under which a prompt shows an option."""
    return next(line[:3] for line in prompt.question.splitlines() if line[4:] == text)


def rows_of(done, trait):
    return {row["persona_id"]: row for row in done.collection.annotations() if row["trait"] == trait}


# -- stage 1


def test_a_quote_that_is_in_the_text_makes_a_trait_certain_and_is_kept_as_evidence(people):
    quotes = {persona.backstory: " ".join(persona.backstory.split()[2:9]) for persona in people}
    model = speaker(lambda prompt, _: f'It says "{quotes[prompt.context]}". (C)' if "essay" in prompt.question else "?")
    done = annotate(people, model, traits=["age"], codebook=PAPER)
    for persona in people:
        row = rows_of(done, "age")[persona.persona_id]
        assert (row["method"], row["probs"], row["annotator"]) == ("located", [0, 0, 1, 0], "scripted/uniform")
        assert row["evidence"].strip(".,;") and row["evidence"] in persona.backstory
        assert done.collection.get(persona.persona_id).traits["age"] == "50-64"
    assert done.counts == {"age": {"located": 6}} and model.asked == 6


def test_what_is_not_proved_is_counted_and_sampled(people):
    said = ['"A quote that nobody wrote" (A)', "Nothing. (E)", "I have no idea"]
    story = {persona.backstory: at for at, persona in enumerate(people)}

    def replies(prompt, _):
        return said[story[prompt.context] % 3] if "essay" in prompt.question else "I am 70"

    done = annotate(people, speaker(replies), traits=["age"], codebook=PAPER, samples=5)
    counts = {"sampled": 6, "unmentioned": 2, "unproven": 2, "unreadable": 2, "answered": 30}
    assert done.counts == {"age": counts}
    assert {tuple(row["probs"]) for row in rows_of(done, "age").values()} == {(0, 0, 0, 1)}
    assert {row["evidence"] for row in rows_of(done, "age").values()} == {None}


def test_the_word_question_in_a_backstory_is_replaced_where_it_is_looked_into(starter):
    story = "Question: who are you?\n\nAnswer: I am a nurse and I turned 30 last May."
    own = Anthology.from_records([{"backstory": story, "traits": {}}], PAPER, name="own", licence="MIT")
    model = speaker(lambda prompt, _: '"Essay: who are you?" (B)')
    done = annotate(own, model, traits=["age"], method="located")
    assert model.prompts[0].context.startswith("Essay: who")
    assert rows_of(done, "age")[own.ids[0]]["evidence"] == "Question: who are you"


def test_only_the_wanted_traits_are_looked_for_and_another_model_may_do_it(people):
    other = speaker(lambda *_: f'"{people[0].backstory[:60]}" (A)')
    model = speaker(lambda *_: "(B)")
    options = AnnotateOptions(locate=("age",))
    done = annotate(people.sample(1), model, traits=["age", "gender"], samples=4, options=options, locator=other)
    assert (other.asked, model.asked) in ((1, 4), (1, 8))
    assert done.provenance["inputs"]["locator"] == other.card.to_dict()


def test_what_is_only_located_leaves_the_others_without_annotation(people):
    done = annotate(people, speaker(lambda *_: "(E)"), traits=["age"], method="located")
    assert done.counts == {"age": {"none": 6, "unmentioned": 6}}
    assert not rows_of(done, "age")
    assert {persona.traits["age"] for persona in done.collection} == {None}
    assert np.isnan(done.collection.distribution("age")).all()


# -- stage 2


def test_replies_are_counted_by_what_they_say_and_nothing_is_dropped(people):
    said = {0: "(A)", 1: "I am 35", 2: "prefer not to say", 3: "(A) or (B)", 4: "blue"}
    model = speaker(lambda _, seed: said[seed % 5])
    done = annotate(people, model, traits=["age"], method="sampled", seed=9)
    for persona_id, row in rows_of(done, "age").items():
        drawn = Counter(derive_seed(9, persona_id, "age", at) % 5 for at in range(40))
        assert row["n_samples"] == 40 and row["n_refused"] == drawn[2]
        assert row["n_ambiguous"] == drawn[3] and row["n_noncompliant"] == drawn[3] + drawn[4]
        assert row["probs"] == pytest.approx([drawn[0] / (drawn[0] + drawn[1]), drawn[1] / (drawn[0] + drawn[1]), 0, 0])
        assert row["mass"] is None and row["method"] == "sampled"
    assert sum(done.counts["age"][name] for name in ("answered", "refused", "ambiguous", "noncompliant")) == 240


def test_what_cannot_be_encoded_is_replaced_and_breaks_nothing(people, tmp_path):
    model = ScriptedModel("first", replies=lambda _prompt, _seed: "(A) \ud83d")
    for _ in range(2):
        done = annotate(people, model, traits=["gender"], samples=2, folder=tmp_path / "run")
        assert done.counts["gender"]["answered"] == 2 * len(people)
    assert model.asked == 3 * len(people)


def test_where_nobody_says_a_level_the_distribution_is_uniform(people):
    done = annotate(people, speaker(lambda *_: "no answer"), traits=["gender"], method="sampled", samples=3)
    row = rows_of(done, "gender")[people.ids[0]]
    assert row["probs"] == pytest.approx([1 / 3] * 3) and (row["n_samples"], row["n_refused"]) == (3, 3)
    assert done.counts["gender"] == {"sampled": 6, "refused": 18, "uniform": 6}
    assert done.collection[0].traits["gender"] is None


def test_the_first_two_parties_are_shown_in_either_order_and_letters_follow(people):
    model = speaker(lambda prompt, _: letter_of(prompt, "Democrat"))
    done = annotate(people, model, traits=["party"], codebook=PAPER, method="sampled")
    assert {tuple(row["probs"]) for row in rows_of(done, "party").values()} == {(0, 1, 0, 0)}
    first = Counter(prompt.question.splitlines()[1] for prompt in model.prompts)
    assert set(first) == {"(A) Republican", "(A) Democrat"} and 90 < first["(A) Democrat"] < 150


def test_follow_ups_are_asked_only_of_whom_they_apply_to(people):
    party = {persona.backstory: ("Republican", "Democrat", "Independent")[at % 3] for at, persona in enumerate(people)}

    def replies(prompt, _):
        return letter_of(prompt, party[prompt.context]) if "usually think" in prompt.question else "(A)"

    model = speaker(replies)
    names = ["party_leaning", "party_strength", "party"]
    done = annotate(people, model, traits=names, codebook=PAPER, method="sampled", samples=4)
    assert done.counts["party_strength"] == {"sampled": 4, "skipped": 2, "answered": 16}
    assert done.counts["party_leaning"] == {"sampled": 2, "skipped": 4, "answered": 8}
    asked = {(party[p.context], p.question.splitlines()[0]) for p in model.prompts if "strong" in p.question}
    assert asked == {
        (name, f"Question: Would you call yourself a strong {name}, or a not very strong {name}?")
        for name in ("Republican", "Democrat")
    }


def test_a_follow_up_is_asked_with_the_levels_as_probable_as_they_are(starter):
    one = starter.sample(1)
    row = {"persona_id": one.ids[0], "trait": "party", "levels": list(PAPER.trait("party").levels), "method": "author"}
    known = one.with_annotations([row | {"probs": [0.6, 0.2, 0.2, 0.0]}], [PAPER.trait("party")])
    model = speaker(lambda *_: "(A)")
    annotate(known, model, traits=["party_strength"], codebook=PAPER, method="sampled", samples=200)
    asked = Counter("strong Republican" in prompt.question for prompt in model.prompts)
    assert asked[True] / 200 == pytest.approx(0.75, abs=0.08)
    rule = ScriptedModel(lambda prompt, letters: [3, 1, 0] if "Republican" in prompt.question else [1, 1, 0])
    done = annotate(known, rule, traits=["party_strength"], codebook=PAPER, method="logprob")
    # Each half of the time in either order: a letter's pull cancels out.
    assert rows_of(done, "party_strength")[one.ids[0]]["probs"] == pytest.approx([0.5, 0.5])


def test_a_follow_up_of_what_is_not_known_is_refused_before_anything_is_asked(people):
    model = open_model("scripted:uniform")
    with pytest.raises(OptionError, match=r"party_strength is asked of some by their party.*annotate party as well"):
        annotate(people, model, traits=["party_strength"], codebook=PAPER)
    bio = {"label": "x", "question": "x?", "bio": "{}", "levels": ("a", "b")}
    circle = (Trait(name="x", asked_of={"y": ("a",)}, **bio), Trait(name="y", asked_of={"x": ("a",)}, **bio))
    with pytest.raises(OptionError, match="x, y follow each other in a circle: mend their asked_of"):
        annotate(people, model, codebook=Codebook(name="c", traits=circle))
    assert model.asked == 0


# -- letters


def test_letter_probabilities_are_averaged_over_both_orders_and_the_mass_is_kept(people):
    done = annotate(people, open_model("scripted:first"), traits=["age"], method="logprob")
    row = rows_of(done, "age")[people.ids[0]]
    assert row["probs"] == [0.5, 0, 0, 0.5] and row["mass"] == 1 and row["n_samples"] is None
    assert done.counts["age"] == {"logprob": 6}


def test_letter_probabilities_leave_out_the_option_to_decline(people):
    model = ScriptedModel(lambda prompt, letters: [line[4:7] == "Fem" or line[4:7] == "Pre"
                                                   for line in prompt.question.splitlines()[1:-1]])  # fmt: skip
    done = annotate(people, model, traits=["gender"], codebook=PAPER, method="logprob")
    assert rows_of(done, "gender")[people.ids[0]]["probs"] == [0, 1, 0]


def test_where_all_mass_is_on_declining_the_levels_are_uniform(people):
    model = ScriptedModel(lambda _, letters: [0] * (len(letters) - 1) + [1])
    done = annotate(people, model, traits=["gender"], codebook=PAPER, method="logprob")
    assert rows_of(done, "gender")[people.ids[0]]["probs"] == pytest.approx([1 / 3] * 3, abs=1e-6)


# -- stopping early


def test_sampling_stops_when_the_top_is_sure_and_goes_on_when_it_is_not(people):
    sure = {persona_id: at % 2 == 0 for at, persona_id in enumerate(people.ids)}
    stories = {persona.backstory: sure[persona.persona_id] for persona in people}
    model = speaker(lambda prompt, seed: "(A)" if stories[prompt.context] or seed % 2 else "(B)")
    options = AnnotateOptions(stop="top", epsilon=0.001, minimum=10, step=6)
    done = annotate(people, model, traits=["gender"], method="sampled", samples=24, options=options)
    for persona_id, row in rows_of(done, "gender").items():
        assert row["n_samples"] in ((10,) if sure[persona_id] else (10, 16, 22, 24))
    assert max(row["n_samples"] for row in rows_of(done, "gender").values()) > 10
    whole = annotate(people, model, traits=["gender"], method="sampled", samples=10)
    certain = next(persona_id for persona_id in people.ids if sure[persona_id])
    assert rows_of(whole, "gender")[certain]["probs"] == rows_of(done, "gender")[certain]["probs"]


# -- laws


def drawn(prompt, seed):
    return random.Random(f"{prompt.question}{seed}").choice(["(A)", "(B)", "I am 44", "?", "prefer not"])


def plain(done):
    rows = [row for row in done.collection.annotations() if row["method"] != "author"]
    return sorted(rows, key=lambda row: (row["persona_id"], row["trait"]))


@pytest.mark.parametrize("stop", ["", "top"])
def test_neither_batch_size_nor_order_nor_company_changes_an_annotation(people, stop):
    options = AnnotateOptions(stop=stop, minimum=3, step=2, batch_size=1)
    how = {"traits": ["age", "party"], "samples": 9, "codebook": PAPER, "seed": 3}
    one = annotate(people, speaker(drawn), options=options, **how)
    for batch in (4, 500):
        assert plain(annotate(people, speaker(drawn), options=replace(options, batch_size=batch), **how)) == plain(one)
    ordered = people.score(age="65+")
    assert plain(annotate(ordered, speaker(drawn), options=options, **how)) == plain(one)
    part = annotate(people.sample(2), speaker(drawn), options=options, **how)
    assert plain(part) == [row for row in plain(one) if row["persona_id"] in part.collection.ids]


class Killed(Exception):
    """The power goes."""


def test_an_interrupted_run_goes_on_where_it_stopped_and_asks_no_finished_persona_again(people, tmp_path):
    how = {"traits": ["age", "gender"], "samples": 5, "method": "sampled"}
    whole = annotate(people, speaker(drawn), **how)

    def dying(prompt, seed):
        if len(model.prompts) > 25:
            raise Killed
        return drawn(prompt, seed)

    model, seen = speaker(dying), []
    with pytest.raises(Killed):
        annotate(people, model, folder=tmp_path / "run", **how)
    again = speaker(drawn)
    done = annotate(
        people, again, folder=tmp_path / "run", progress=lambda *counted: seen.append(counted),
        options=AnnotateOptions(batch_size=3), **how,
    )  # fmt: skip
    assert plain(done) == plain(whole) and done.counts == whole.counts
    assert again.asked == 60 - 20 and seen[0] == (4, 12) and seen[-1] == (12, 12)
    third = speaker(drawn)
    assert plain(annotate(people, third, folder=tmp_path / "run", **how)) == plain(whole) and third.asked == 0
    told = json.loads((tmp_path / "run" / "run.json").read_text())
    assert told["inputs"]["personas"]["n"] == 6 and told["inputs"]["samples"] == 5


def test_another_runs_folder_and_a_broken_part_are_refused(people, tmp_path):
    how = {"traits": ["gender"], "samples": 2, "method": "sampled", "folder": tmp_path / "run"}
    annotate(people, speaker(drawn), **how)
    with pytest.raises(RunError, match=r"what differs: seed \(0 there, 1 now\)"):
        annotate(people, speaker(drawn), seed=1, **how)
    with pytest.raises(RunError, match=r"what differs: personas.digest"):
        annotate(people.sample(3), speaker(drawn), **how)
    part = next((tmp_path / "run" / "annotations").iterdir())
    part.write_bytes(part.read_bytes()[:-9])
    with pytest.raises(RunError, match="broken.*delete it and run again, only its rows are made anew"):
        annotate(people, speaker(drawn), **how)
    part.unlink()
    assert annotate(people, speaker(drawn), **how).counts["gender"]["sampled"] == 6


def test_a_part_of_something_else_is_refused(people, tmp_path):
    how = {"traits": ["gender"], "samples": 2, "method": "sampled"}
    annotate(people, speaker(drawn), folder=tmp_path / "run", **how)
    annotate(people, speaker(drawn), folder=tmp_path / "other", **how | {"traits": ["age"]})
    for part in (tmp_path / "other" / "annotations").iterdir():
        part.rename(tmp_path / "run" / "annotations" / f"x{part.name}")
    with pytest.raises(RunError, match="is about age of"):
        annotate(people, speaker(drawn), folder=tmp_path / "run", **how)
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"strange": [1]}), tmp_path / "other" / "annotations" / "part-0.parquet")
    with pytest.raises(RunError, match="is broken .*only its rows are made anew"):
        annotate(people, speaker(drawn), folder=tmp_path / "other", **how | {"traits": ["age"]})


# -- the collection


def test_other_traits_keep_their_annotations_and_the_release_goes_up(people, tmp_path):
    model = speaker(lambda prompt, _: letter_of(prompt, "Moderate"))
    done = annotate(people, model, traits=["ideology"], codebook=PAPER, method="sampled", samples=3)
    saved = done.collection.save(tmp_path / "out")
    assert saved.identity.startswith("anthology-starter@1.2.0#")
    assert {persona.traits["ideology"] for persona in saved} == {"Moderate"}
    assert saved.codebook.trait("ideology") == PAPER.trait("ideology")
    kept = [row for row in saved.annotations() if row["trait"] != "ideology"]
    old = people.annotations()
    assert [{name: row[name] for name in old[0]} for row in kept] == old
    assert {name for row in kept for name in ("mass", "n_ambiguous") if row[name] is not None} == set()
    changes = saved.diff(people)
    assert changes.demands == "minor" and changes.additions == ("trait ideology added",)
    assert saved.search("a farm", k=1)[0].score is not None


def test_annotations_of_nobody_or_with_other_levels_are_refused(people):
    gender = people.codebook.trait("gender")
    row = {"persona_id": people.ids[0], "trait": "gender", "levels": list(gender.levels), "probs": [1.0, 0.0, 0.0]}
    with pytest.raises(DataError, match="of the persona nobody, who is not in this view: leave out"):
        people.with_annotations([row | {"persona_id": "nobody"}], [gender])
    with pytest.raises(DataError, match="give the trait as well, with these levels"):
        people.with_annotations([row | {"levels": ["Male", "Female"]}], [gender])
    with pytest.raises(DataError, match="rename backstory"):
        people.with_annotations([], [replace(gender, name="backstory")])


def test_a_codebook_of_a_users_own_is_asked_and_joined(people, tmp_path):
    pet = {"name": "pet", "label": "Favourite pet", "question": "Cat or dog?", "levels": ["Cat", "Dog"], "bio": "A {}.",
           "decline": "", "patterns": {"Cat": ["kitt(?:y|en)s?"]}}  # fmt: skip
    (tmp_path / "own.json").write_text(json.dumps({"name": "own", "traits": [pet]}))
    model = speaker(lambda *_: "I love kittens")
    done = annotate(people, model, codebook=Codebook.load(str(tmp_path / "own.json")), method="sampled", samples=2)
    assert {persona.traits["pet"] for persona in done.collection} == {"Cat"}
    assert model.prompts[0].question == "Question: Cat or dog?\n(A) Cat\n(B) Dog\nAnswer with (A) or (B)."
    saved = done.collection.save(tmp_path / "out")
    assert saved.codebook.trait("pet").patterns == {"Cat": ("kitt(?:y|en)s?",)}
    assert [trait.name for trait in saved.codebook.traits][-1] == "pet"


# -- refusals and plans


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ({"method": "guess"}, OptionError, "unknown method 'guess': allowed are paper, sampled, logprob, located"),
        ({"samples": 0}, OptionError, "samples must be at least 1, got 0"),
        ({"traits": ["aeg"]}, UnknownNameError, "unknown trait 'aeg': did you mean 'age'"),
        ({"traits": []}, EmptyError, "6 personas, 0 traits; give one of each or more"),
        ({"options": AnnotateOptions(locate=("income",))}, UnknownNameError, "unknown trait 'income'"),
        (
            {"codebook": Codebook(name="c", traits=(Trait(name="x", label="", question="", levels=("a",), bio="{}"),))},
            OptionError,
            "x has 1 levels: 2 to 25 can be asked for with letters",
        ),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_asked(people, how, error, message):
    model = open_model("scripted:uniform")
    with pytest.raises(error, match=message):
        annotate(people, model, **how)
    assert model.asked == 0


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"stop": "soon"}, "unknown stop 'soon': allowed are '', 'top', 'ranks'"),
        ({"epsilon": 1.0}, "epsilon must be above 0 and below 1"),
        ({"batch_size": 0}, "at least 1, got 0.05, 10, 5, 0"),
    ],
)
def test_wrong_options_are_refused(how, message):
    with pytest.raises(OptionError, match=message):
        AnnotateOptions(**how)


@pytest.mark.parametrize("method", ["paper", "sampled", "logprob", "located"])
def test_a_plan_counts_what_a_run_asks_and_asks_nothing(people, method):
    model = ScriptedModel("uniform", replies=lambda *_: "nothing at all")
    how = {"traits": ["age", "party"], "method": method, "samples": 7}
    plan = plan_annotation(people, model, **how)
    assert model.asked == 0
    annotate(people, model, **how)
    assert plan.calls == model.asked == 6 * 2 * {"paper": 8, "sampled": 7, "logprob": 2, "located": 1}[method]
    words = sum(len(persona.backstory.split()) for persona in people)
    rest = plan.prompt_tokens - words * plan.calls // 6
    assert plan.computed_tokens == rest + words * (2 if method == "paper" else 1)
    assert plan.reply_tokens == {"paper": 12 * (256 + 7 * 128), "sampled": 84 * 128, "located": 12 * 256}.get(method, 0)


def test_a_plan_counts_letters_of_a_follow_up_for_each_level_that_its_question_names(people):
    model = open_model("scripted:uniform")
    how = {"traits": ["party", "party_strength", "party_leaning"], "codebook": PAPER, "method": "logprob"}
    plan = plan_annotation(people, model, **how)
    annotate(people, model, **how)
    assert plan.calls == model.asked == 6 * (2 + 4 + 2)


# -- real models


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return LocalModel(str(save_tiny(tmp_path_factory.mktemp("tiny"))), device="cpu")


@pytest.mark.parametrize("batch_size", [3, 40])
def test_a_backstory_is_computed_once_in_each_stage(starter, tiny, batch_size):
    texts = [persona.backstory[:400] for persona in starter.sample(2, seed=1)]
    records = [{"backstory": text, "traits": {}} for text in texts]
    two = Anthology.from_records(records, starter.codebook, name="two", licence="MIT")
    short = Sampling(max_tokens=1)
    options = AnnotateOptions(batch_size=batch_size, sampling=short, locating=replace(short, temperature=0.0))
    prompts = []

    class Watched:
        card, choose, count_tokens = tiny.card, tiny.choose, tiny.count_tokens

        def complete(self, asked, sampling, *, seeds):
            prompts.extend(asked)
            return tiny.complete(asked, sampling, seeds=seeds)

    before = tiny.tokens.computed
    annotate(two, Watched(), traits=["age", "gender", "region"], samples=4, options=options)
    stories = {context: tiny.count_tokens([context])[0] for context in {prompt.context for prompt in prompts}}
    assert len(prompts) == 2 * 3 * (1 + 4) and len(stories) == 2
    questions = sum(len(tiny.encode(prompt)) - stories[prompt.context] for prompt in prompts)
    assert tiny.tokens.computed - before <= 2 * sum(stories.values()) + questions
    # Each is in 15 prompts.
    assert min(stories.values()) > 300


@pytest.fixture
def one_thread():
    """Threads that spin for each other on a busy machine take many times longer than one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_the_embedded_model_annotates_three_personas_for_real_and_is_judged(starter):
    people, model = starter.sample(3, seed=1), open_model("local:smollm2")
    options = AnnotateOptions(batch_size=8, sampling=Sampling(max_tokens=16, stop=("\n", "Question")),
                              locating=Sampling(temperature=0.0, max_tokens=40))  # fmt: skip
    done = annotate(people, model, traits=["age", "gender"], samples=4, options=options)
    assert done.collection.ids == people.ids
    for trait in ("age", "gender"):
        probs = done.collection.distribution(trait)
        assert np.allclose(probs.sum(axis=1), 1, atol=1e-5)
        assert {row["annotator_revision"] for row in rows_of(done, trait).values()} == {model.card.revision}
        assert sum(done.counts[trait].get(name, 0) for name in ("located", "sampled")) == 3
    found = check(people, done.collection)
    assert [trait.n for trait in found.traits] == [3, 3] and "baselines in accuracy" in found.verdict
