"""A published run is recomputed from its answers and the humans; what was changed on the way is found and named."""

import hashlib
import io
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from anthology_hub import EvaluateOptions, Respondents, SimulateOptions, Survey, evaluate, match, open_model, simulate
from anthology_hub import verification as verification_module
from anthology_hub.errors import DataError, OptionError, UnknownNameError
from anthology_hub.leaderboard import compact, publish, rank, read_board, stem_of, to_record, withdraw
from anthology_hub.margins import Margins
from anthology_hub.matching import as_themselves, unmatched
from anthology_hub.models.scripted import ScriptedModel
from anthology_hub.prompts import derive_seed
from anthology_hub.schema import Metric, Result, Scale, digest
from anthology_hub.verification import Difference, SurveyProtocol, mark
from tests.test_administration import MIXED, WAYS, talk
from tests.test_simulation import moody

QUICK = EvaluateOptions(bootstraps=40, splits=5)
BIO = SimulateOptions(conditioning="bio")
HASTY = replace(QUICK, bootstraps=2, splits=1)


UNBOUND = SurveyProtocol()


def verify(*given, protocol=UNBOUND, **named):
    """The runs here are small: the survey's protocol is left out but where it is the matter."""
    return verification_module.verify(*given, protocol=protocol, **named)


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """A published run, and what it was made of."""

    folder: Path
    result: Result
    answers: object

    @property
    def path(self):
        return f"runs/{stem_of(self.result)}.json"

    @property
    def sheet(self):
        return self.folder / f"answers/{stem_of(self.result)}.parquet"

    def table(self):
        return pq.read_table(self.sheet).to_pandas()

    def rewrite(self, frame):
        """Put other answers in the place of the published ones, and their checksum into the run file."""
        buffer = io.BytesIO()
        columns = {name: frame[name].tolist() for name in frame}
        pq.write_table(pa.table(columns), buffer)
        self.sheet.write_bytes(buffer.getvalue())
        self.edit(lambda record: record["answers"].update(sha256=digest_of(buffer.getvalue())))

    def edit(self, change):
        """Change the run file."""
        file = self.folder / self.path
        record = json.loads(file.read_bytes())
        change(record)
        file.write_text(json.dumps(record))

    def forge(self, **changes):
        """Publish another result in the place of this one, as who knows the format would."""
        forged = replace(self.result, **changes)
        (self.folder / self.path).unlink()
        record = to_record(forged)
        record["answers"] = {"path": "", "sha256": digest_of(self.sheet.read_bytes())}
        there = self.folder / f"runs/{stem_of(forged)}.json"
        there.write_text(json.dumps(record))
        sheet = self.folder / f"answers/{stem_of(forged)}.parquet"
        self.sheet.rename(sheet)
        return replace(self, result=forged)

    def verified(self, humans, **options):
        return verify(self.folder, self.path, humans, **options)


def digest_of(content):
    return hashlib.sha256(content).hexdigest()


def push(folder, cast, survey, humans, *, model="scripted:uniform", options=BIO, evaluated=QUICK):
    answers = simulate(cast, survey, open_model(model), options=options)
    result = evaluate(answers, humans, options=evaluated)
    publish(result, folder, answers=answers)
    return Pushed(folder=folder, result=result, answers=answers)


@pytest.fixture
def pushed(gss, spending, tmp_path):
    return push(tmp_path, unmatched(gss.sample(30)), spending, gss)


@pytest.fixture
def played(gss, spending, starter, tmp_path):
    """A run with personas."""
    options = SimulateOptions(conditioning="anthology")
    return push(tmp_path, match(starter, gss.sample(12), method="greedy"), spending, gss, options=options)


def found(verification):
    return {(difference.kind, difference.what) for difference in verification.differences}


# -- honest runs


@pytest.mark.parametrize("mode", ["letters", "text"])
@pytest.mark.parametrize("weighting", ["weighted", "paper"])
def test_an_honest_run_is_verified_figure_by_figure(gss, spending, tmp_path, mode, weighting):
    options = replace(BIO, mode=mode)
    evaluated = replace(QUICK, weighting=weighting, level=0.9, seed=5)
    run = push(tmp_path, unmatched(gss.sample(30)), spending, gss, options=options, evaluated=evaluated)
    verification = run.verified(gss)
    assert (verification.verdict, verification.differences) == ("verified", ())
    assert verification.humans == "gss-2018" and verification.path == run.path
    assert verification.humans_digest == run.result.provenance["evaluation"]["humans_digest"]
    assert verification.run_sha256 == digest_of((tmp_path / run.path).read_bytes())
    assert verification.answers_sha256 == digest_of(run.sheet.read_bytes())
    # 4 metrics with 9 numbers each, and 4 questions with 3 options, three lists and 4 more values each, and the head.
    assert verification.figures > 4 * 9 + 4 * (3 * 3 + 4)


class Wavering(ScriptedModel):
    """Says something else than an option to every fourth question, or in text."""

    def choose(self, prompts, options, sampling):
        choices = super().choose(prompts, options, sampling)
        return [
            replace(choice, mass=0.01 if derive_seed(p.context, p.question) % 4 == 0 else 1.0)
            for p, choice in zip(prompts, choices, strict=True)
        ]


def wavering_reply(prompt, seed):
    return ["(A)", "(B)", "I would rather not say.", "Blue."][seed % 4]


@pytest.mark.parametrize("mode", ["letters", "text"])
def test_a_run_with_questions_left_unanswered_is_verified_too(gss, spending, tmp_path, mode):
    model = Wavering("uniform", replies=wavering_reply)
    answers = simulate(unmatched(gss.sample(40)), spending, model, options=replace(BIO, mode=mode, tries=1))
    assert 0.4 < answers.coverage["answered"] < 0.9
    path = publish(evaluate(answers, gss, options=QUICK), tmp_path, answers=answers).path
    assert verify(tmp_path, path, gss).verdict == "verified"


def test_a_run_with_personas_is_verified_against_its_collection(played, gss, starter):
    verification = played.verified(gss, people=starter)
    assert (verification.verdict, verification.collection) == ("verified", starter.identity)
    assert played.verified(gss).collection == ""


def test_a_weighted_human_file_gives_its_weights_back_to_the_roles(gss, spending, tmp_path):
    weighted = replace(gss, weights=np.random.default_rng(1).lognormal(sigma=0.7, size=len(gss)))
    run = push(tmp_path, unmatched(weighted.sample(30)), spending, weighted)
    assert run.verified(weighted).verdict == "verified"
    assert "weight" not in " ".join(run.table().columns)


def test_a_run_compared_with_those_who_were_stood_in_for_is_verified_with_the_whole_file(gss, spending, tmp_path):
    sample = gss.sample(150)
    run = push(tmp_path, unmatched(sample), spending, sample)
    assert (run.result.n_humans, run.verified(gss).verdict) == (150, "verified")


def test_a_run_is_named_by_its_path_or_its_id(pushed, gss):
    assert verify(pushed.folder, pushed.result.run_id, gss).path == pushed.path
    assert verify(pushed.folder, pushed.result.run_id[:8], gss).path == pushed.path
    with pytest.raises(UnknownNameError, match=f"unknown run '{pushed.result.run_id[:7]}'.*{pushed.path}"):
        verify(pushed.folder, pushed.result.run_id[:7], gss)
    publish(evaluate(pushed.answers, gss, options=replace(QUICK, weighting="paper")), pushed.folder)
    with pytest.raises(DataError, match=f"run {pushed.result.run_id} was evaluated in several ways: name one file of "):
        verify(pushed.folder, pushed.result.run_id, gss)


def test_a_run_without_answers_cannot_be_verified(pushed, gss):
    pushed.sheet.unlink()
    with pytest.raises(DataError, match=f"{pushed.path} was published without answers.*publish the run with them"):
        pushed.verified(gss)


# -- changed figures and answers


def test_a_better_figure_is_found_with_what_was_pushed_and_what_it_is(pushed, gss):
    metrics = tuple(replace(m, value=0.01) if m.name == "wd_normalised" else m for m in pushed.result.metrics)
    verification = pushed.forge(metrics=metrics).verified(gss)
    value = pushed.result.metric("wd_normalised").value
    (difference,) = verification.differences
    assert difference == Difference(
        kind="figure", what="metrics.wd_normalised.value", pushed=0.01, found=pytest.approx(value)
    )
    assert verification.verdict == "differs"
    assert str(difference) == f"figure: metrics.wd_normalised.value is {value:.6g}, published as 0.01"


@pytest.mark.parametrize("part", ["low", "high", "floor", "floor_equal_n", "uniform", "majority"])
def test_every_companion_of_a_figure_is_recomputed(pushed, gss, part):
    metrics = tuple(replace(m, **{part: 0.5}) for m in pushed.result.metrics)
    assert ("figure", f"metrics.wd.{part}") in found(pushed.forge(metrics=metrics).verified(gss))


def test_figures_of_questions_and_scales_are_recomputed_where_they_were_published(pushed, gss):
    added = ("wd_low", "wd_high", "wd_floor", "wd_floor_equal_n")
    older = [{name: value for name, value in item.items() if name not in added} for item in pushed.result.items]
    run = pushed.forge(items=tuple(older), scales=())
    assert run.verified(gss).verdict == "verified"
    key = pushed.result.items[0]["question"]
    better = [{**older[0], "wd_high": 0.01}, *older[1:]]
    run = run.forge(items=tuple(better))
    assert found(run.verified(gss)) == {("figure", f"items.{key}.wd_high")}
    made_up = Scale(name="spending", questions=(key,), metrics=(Metric(name="alpha", value=0.9, unit=""),))
    assert ("figure", "scales.spending") in found(run.forge(scales=(made_up,)).verified(gss))


def test_a_figure_in_the_every_eval_ever_part_alone_is_found(pushed, gss):
    def better(record):
        record["evaluation_results"][0]["score_details"]["score"] = 0.01

    pushed.edit(better)
    verification = pushed.verified(gss)
    assert found(verification) == {("file", "the scores of the Every Eval Ever part")}
    assert verification.verdict == "differs"
    pushed.edit(lambda record: record.update(evaluation_results=3))
    assert found(pushed.verified(gss)) == {("file", "the scores of the Every Eval Ever part")}


def test_smaller_than_the_tolerance_is_equal(pushed, gss):
    value = pushed.result.metric("wd_normalised").value
    metrics = tuple(replace(m, value=value + 1e-4) if m.name == "wd_normalised" else m for m in pushed.result.metrics)
    forged = pushed.forge(metrics=metrics)
    assert forged.verified(gss).verdict == "differs"
    assert forged.verified(gss, tolerance=1e-3).verdict == "verified"


def test_other_answers_than_the_run_file_names_are_found_by_their_checksum(pushed, gss):
    sha = digest_of(pushed.sheet.read_bytes())
    pushed.rewrite(pushed.table())
    pushed.edit(lambda record: record["answers"].update(sha256=sha))
    assert found(pushed.verified(gss)) == {("file", "the checksum of the answers")}


def test_changed_answers_change_the_figures_and_no_longer_follow_from_the_seed(pushed, gss):
    table = pushed.table()
    table["option"] = 0
    pushed.rewrite(table)
    verification = pushed.verified(gss)
    kinds = found(verification)
    assert verification.verdict == "differs"
    assert ("figure", "metrics.wd_normalised.value") in kinds and ("figure", "items.nataid.simulated.0") in kinds
    assert ("answers", "answers that do not follow from their probabilities or replies and the seed") in kinds


def test_changed_answers_are_found_even_if_the_figures_were_made_to_fit(pushed, gss):
    forged = replace(pushed.answers, picks=np.zeros_like(pushed.answers.picks))
    (pushed.folder / pushed.path).unlink()
    pushed.sheet.unlink()
    result = evaluate(forged, gss, options=QUICK)
    publish(result, pushed.folder, answers=forged)
    (difference,) = verify(pushed.folder, result.run_id, gss).differences
    assert difference.what == "answers that do not follow from their probabilities or replies and the seed"
    assert difference.found == int((pushed.answers.picks != 0).sum())


def test_changed_replies_are_found_in_text_mode_too(gss, spending, tmp_path):
    run = push(tmp_path, unmatched(gss.sample(12)), spending, gss, options=replace(BIO, mode="text"))
    table = run.table()
    table["raw"] = table["raw"].map({"(A)": "(C)", "(B)": "(B)", "(C)": "(A)"})
    assert table["raw"].notna().all()
    run.rewrite(table)
    (difference,) = run.verified(gss).differences
    assert difference.what == "answers that do not follow from their probabilities or replies and the seed"
    assert difference.found == int((table["raw"] != "(B)").sum())


def test_answers_left_out_though_the_options_had_enough_probability_are_found(pushed, gss):
    table = pushed.table()
    worst = table.index[:25]
    table.loc[worst, "option"], table.loc[worst, "status"] = -1, "unparsable"
    pushed.rewrite(table)
    assert (
        "answers",
        "answers that do not follow from their probabilities or replies and the seed",
    ) in found(pushed.verified(gss))


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_runs_asked_in_any_way_are_verified_and_changes_of_them_found(way, gss, spending, tmp_path):
    if way.get("conditioning") not in ("nothing", "qa", "portray"):
        way = {name: value for name, value in way.items() if name != "append"} | {"conditioning": "bio"}
    number = next(question for question in MIXED.questions if question.kind == "number")
    survey = replace(spending, questions=(*spending.questions[:2], number, *spending.questions[2:]))
    model = ScriptedModel(moody, replies=talk)
    answers = simulate(unmatched(gss.sample(30)), survey, model, options=SimulateOptions(**way), wave="2")
    result = evaluate(answers, gss, options=QUICK)
    publish(result, tmp_path, answers=answers)
    pushed = Pushed(folder=tmp_path, result=result, answers=answers)
    told = pushed.verified(gss, survey=survey)
    assert told.verdict == "verified", told.differences
    table = pushed.table()
    table.loc[3, "option"] = (table.loc[3, "option"] + 1) % 3
    pushed.rewrite(table)
    told = pushed.verified(gss, survey=survey)
    assert told.verdict == "differs" and any("do not follow" in str(one) for one in told.differences)


@pytest.mark.parametrize("name", ["options_order", "labels", "least_mass"])
def test_a_run_file_with_options_of_another_type_is_no_result(pushed, gss, name):
    pushed.edit(lambda r: r["anthology_hub"]["provenance"]["inputs"]["options"].update({name: ["both"]}))
    (why,) = read_board(pushed.folder).broken.values()
    assert name in why


def test_draws_are_checked_only_with_the_prompts_that_they_were_made_with(pushed, gss):
    table = pushed.table()
    table["option"] = 0
    pushed.rewrite(table)
    pushed.edit(lambda record: record["anthology_hub"]["provenance"]["inputs"].update(prompts="older"))
    kinds = {kind for kind, _ in found(pushed.verified(gss))}
    assert kinds == {"inputs", "figure"}


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda t: t[:-1], "answers missing"),
        (lambda t: pd.concat([t, t[:1]]), "answers given twice"),
        (lambda t: t.assign(question="age"), "answers to questions that were not asked"),
        (lambda t: t.assign(option=7), "answers that are no option or status"),
        (lambda t: t.assign(status="refused"), "answers that are no option or status"),
        (lambda t: t.assign(status="maybe"), "answers that are no option or status"),
        (lambda t: t.assign(probs=[[0.9, 0.9, 0.9]] * len(t)), "answers that are no option or status"),
        (lambda t: t.assign(probs=[[0.2] * 5] * len(t)), "answers that are no option or status"),
        (lambda t: t.assign(probs=[[2.0, -1.0, 0.0]] * len(t)), "answers that are no option or status"),
        (lambda t: t.assign(persona_id=[str(at) for at in range(len(t))]), "people with two personas"),
        (lambda t: t[:0], "answers"),
        (lambda t: t.drop(columns="raw"), "the file"),
        (lambda t: t.assign(option="first"), "the file"),
        (lambda t: t.assign(raw=None), "the file"),
    ],
)
def test_answers_that_are_not_whole_are_named(pushed, gss, change, what):
    pushed.rewrite(change(pushed.table()))
    verification = pushed.verified(gss)
    assert ("answers", what) in found(verification)
    assert (verification.verdict, verification.figures, verification.humans_digest) == ("differs", 0, "")


def test_answers_that_are_no_parquet_are_named(pushed, gss):
    pushed.sheet.write_bytes(b"PAR1 nonsense")
    kinds = found(pushed.verified(gss))
    assert kinds == {("answers", "the file"), ("file", "the checksum of the answers")}


# -- people left out, swapped or invented


def test_people_left_out_afterwards_are_missed_by_the_promised_cast(pushed, gss):
    table = pushed.table()
    worst = table["respondent_sha256"].unique()[:10]
    pushed.rewrite(table[~table["respondent_sha256"].isin(worst)])
    verification = pushed.verified(gss)
    assert Difference(kind="people", what="people who answered", pushed=30, found=20) in verification.differences
    assert ("figure", "n") in found(verification) and verification.verdict == "differs"


def test_a_run_of_fewer_people_that_says_so_in_its_inputs_has_another_id(pushed, gss):
    rows = list(range(20))
    fewer = replace(
        pushed.answers,
        **{name: getattr(pushed.answers, name)[:20] for name in ("respondent_ids", "persona_ids")},
        **{
            name: getattr(pushed.answers, name)[rows]
            for name in ("weights", "picks", "probs", "mass", "statuses", "raw")
        },
    )
    inputs = pushed.answers.provenance["inputs"]
    told = {**inputs, "cast": {**inputs["cast"], "n": 20}}
    fewer = replace(fewer, provenance={**fewer.provenance, "inputs": told})
    result = evaluate(fewer, gss, options=QUICK)
    path = publish(result, pushed.folder / "fewer", answers=fewer).path
    kinds = found(verify(pushed.folder / "fewer", path, gss))
    assert kinds == {("inputs", "the run id that the inputs make"), ("people", "the digest of the cast")}


def test_the_same_people_in_another_order_are_another_cast(pushed, gss):
    table = pushed.table()
    pushed.rewrite(table.iloc[::-1].reset_index(drop=True))
    assert ("people", "the digest of the cast") in found(pushed.verified(gss))


def test_other_personas_than_the_promised_ones_are_found(played, gss, starter):
    table = played.table()
    strange = "0" * 20
    table.loc[table["persona_id"] == table["persona_id"][0], "persona_id"] = strange
    played.rewrite(table)
    kinds = found(played.verified(gss, people=starter))
    assert {
        ("people", "the digest of the cast"),
        ("inputs", f"personas that {starter.identity} does not have"),
    } <= kinds


def test_a_swapped_collection_is_found(played, gss, starter):
    def swap(record):
        record["anthology_hub"]["provenance"]["inputs"]["collection"] = "anthology-starter@2.0.0#feedfeedfeed"

    played.edit(swap)
    verification = played.verified(gss, people=starter)
    assert found(verification) == {("inputs", "the run id that the inputs make"), ("inputs", "the collection")}
    collection = verification.differences[1]
    assert (collection.pushed, collection.found) == ("anthology-starter@2.0.0#feedfeedfeed", starter.identity)


def test_a_part_of_the_collection_does_not_have_all_its_personas(played, gss, starter):
    class Part:
        identity, codebook = starter.identity, starter.codebook
        ids = tuple(name for name in starter.ids if name not in played.answers.persona_ids[:1])

    (difference,) = played.verified(gss, people=Part()).differences
    gone = played.answers.persona_ids.count(played.answers.persona_ids[0])
    assert difference == Difference(
        kind="inputs", what=f"personas that {starter.identity} does not have", pushed=0, found=gone
    )


@pytest.mark.parametrize("part", ["model", "options", "seed"])
def test_inputs_that_were_changed_do_not_make_the_run_id(pushed, gss, part):
    inputs = pushed.result.provenance["inputs"]
    told = {**inputs, part: 1 if part == "seed" else {**inputs[part], "surprise": 1}}
    forged = pushed.forge(provenance={**pushed.result.provenance, "inputs": told})
    assert ("inputs", "the run id that the inputs make") in found(forged.verified(gss))


def test_a_model_of_another_name_is_found(pushed, gss):
    forged = pushed.result.metric("wd").value
    assert forged is not None
    (pushed.folder / "runs/openai/big/gss-national-spending").mkdir(parents=True)
    (pushed.folder / "answers/openai/big/gss-national-spending").mkdir(parents=True)
    kinds = found(pushed.forge(developer="openai", model="big").verified(gss))
    assert kinds == {("figure", "developer"), ("figure", "model")}


def test_a_run_file_in_a_place_that_is_not_its_own_is_found(pushed, gss):
    for kind, suffix in (("runs", "json"), ("answers", "parquet")):
        (pushed.folder / f"{kind}/elsewhere").mkdir()
        (pushed.folder / f"{kind}/{stem_of(pushed.result)}.{suffix}").rename(
            pushed.folder / f"{kind}/elsewhere/a.{suffix}"
        )
    (difference,) = verify(pushed.folder, "runs/elsewhere/a.json", gss).differences
    assert (difference.kind, difference.pushed, difference.found) == ("file", "runs/elsewhere/a.json", pushed.path)


# -- the survey and its protocol


def test_a_survey_of_other_words_is_found_by_its_digest(pushed, gss):
    survey = Survey.load("gss-national-spending")
    softer = replace(survey, preamble="Money is no object.")
    (difference,) = pushed.verified(gss, survey=softer).differences
    assert (difference.kind, difference.what) == ("inputs", "the digest of gss-national-spending")
    assert difference.pushed == survey.select(pushed.result.questions).digest


def test_questions_that_the_inputs_do_not_name_are_found(pushed, gss):
    forged = pushed.forge(questions=pushed.result.questions[:2])
    kinds = found(forged.verified(gss))
    assert {("inputs", "the questions"), ("answers", "answers to questions that were not asked")} <= kinds


def test_a_question_that_the_survey_does_not_have_is_named(pushed, gss):
    kinds = found(pushed.forge(questions=("age", *pushed.result.questions)).verified(gss))
    assert ("answers", "the file") in kinds and ("inputs", "the questions") in kinds


def test_a_run_below_the_protocol_is_right_but_not_enough(pushed, gss):
    verification = pushed.verified(gss, protocol=None)
    assert verification.verdict == "below protocol"
    assert [str(difference) for difference in verification.differences] == [
        "protocol: simulated people, of which the survey asks is at least 100, published as 30",
        "protocol: bootstraps, of which the survey asks is at least 1000, published as 40",
        "protocol: questions, of which the survey asks is all 18, published as 4",
    ]
    enough = SurveyProtocol(minimum_respondents=30, minimum_bootstraps=40)
    assert pushed.verified(gss, protocol=enough).verdict == "verified"


def test_a_protocol_is_read_from_the_survey_file(tmp_path):
    file = tmp_path / "survey.json"
    text = Survey.load("bfi").to_dict()
    file.write_text(json.dumps(text))
    assert SurveyProtocol.load(str(file)) == SurveyProtocol()
    file.write_text(json.dumps({**text, "protocol": {"minimum_respondents": 50, "all_questions": True}}))
    assert SurveyProtocol.load(str(file)) == SurveyProtocol(minimum_respondents=50, all_questions=True)
    assert Survey.load(str(file)).digest == Survey.load("bfi").digest
    file.write_text(json.dumps({**text, "protocol": {"people": 50}}))
    with pytest.raises(DataError, match=r"cannot be {'people': 50}: allowed are minimum_respondents, minimum_boots"):
        SurveyProtocol.load(str(file))


# -- the human file


def test_other_humans_say_nothing_of_a_run(pushed, gss):
    without = gss.take([row for row in range(len(gss)) if gss.ids[row] not in pushed.answers.respondent_ids[:3]])
    shifted = replace(gss, answers={key: np.roll(column, 1) for key, column in gss.answers.items()})
    strangers = replace(gss, ids=tuple(f"x{name}" for name in gss.ids))
    for humans, verdict in ((shifted, "other humans"), (strangers, "other humans"), (without, "differs")):
        assert pushed.verified(humans).verdict == verdict
    (difference,) = pushed.verified(without).differences
    assert difference == Difference(kind="people", what="respondents that gss-2018 does not have", pushed=0, found=3)


def test_a_part_of_the_humans_is_no_reference(gss, spending, tmp_path):
    """A reference population that was picked so that the figures look better cannot be recomputed from all humans."""
    run = push(tmp_path, unmatched(gss.sample(30)), spending, gss.take(range(1000)))
    verification = run.verified(gss)
    assert verification.verdict == "other humans"
    assert ("humans", "provenance.evaluation.humans_digest") in found(verification)
    with pytest.raises(DataError, match=f"{run.path} was compared with other people than gss-2018.*says nothing of it"):
        mark(tmp_path, verification, who="ada")


# -- what a run file may ask for


def test_a_run_that_would_take_days_to_recompute_is_not(pushed, gss):
    told = {**pushed.result.provenance["evaluation"], "bootstraps": 10**9}
    forged = pushed.forge(provenance={**pushed.result.provenance, "evaluation": told})
    (difference,) = forged.verified(gss).differences
    assert (difference.kind, difference.what) == ("answers", "the figures")
    assert difference.found == ("not recomputed: 1000000000 bootstraps and 5 splits are more than 100000")


@pytest.mark.parametrize("change", [{"weighting": "mine"}, {"seed": "x"}, {"bootstraps": "many"}])
def test_a_run_that_cannot_be_evaluated_is_told_so(pushed, gss, change):
    told = {**pushed.result.provenance["evaluation"], **change}
    verification = pushed.forge(provenance={**pushed.result.provenance, "evaluation": told}).verified(gss)
    assert verification.verdict == "differs"
    assert any(difference.found.startswith("undefined: ") for difference in verification.differences)


# -- marks


def test_a_mark_shows_on_the_board_while_its_files_are_the_ones_it_saw(pushed, gss):
    mark(pushed.folder, pushed.verified(gss), who="ada")
    (entry,) = read_board(pushed.folder).entries
    assert (entry.verdict, entry.verified_by) == ("verified", ("ada",))
    assert [row.verdict for row in rank([entry]) if row.rank] == ["verified"]
    compact(pushed.folder)
    assert "verified" in pq.read_table(pushed.folder / "leaderboard/latest.parquet")["verdict"].to_pylist()
    content = pushed.sheet.read_bytes()
    pushed.sheet.write_bytes(content + b" ")
    assert read_board(pushed.folder).entries[0].verdict == ""
    pushed.sheet.write_bytes(content)
    assert read_board(pushed.folder).entries[0].verdict == "verified"
    pushed.edit(lambda record: record.update(retrieved_timestamp="0"))
    assert read_board(pushed.folder).entries[0].verdict == ""
    pushed.sheet.unlink()
    assert read_board(pushed.folder).entries[0].verdict == ""


def test_of_several_marks_the_most_cautious_counts(pushed, gss):
    verification = pushed.verified(gss)
    mark(pushed.folder, verification, who="ada")
    mark(pushed.folder, verification, who="bob")
    assert read_board(pushed.folder).entries[0].verified_by == ("ada", "bob") or read_board(pushed.folder).entries[
        0
    ].verified_by == ("bob", "ada")
    mark(pushed.folder, pushed.verified(gss, protocol=SurveyProtocol(minimum_respondents=100)), who="eve")
    (entry,) = read_board(pushed.folder).entries
    assert (entry.verdict, entry.verified_by) == ("below protocol", ("eve",))
    mark(pushed.folder, pushed.verified(gss, survey=replace(Survey.load("bfi"), name="bfi")), who="joe")
    (entry,) = read_board(pushed.folder).entries
    assert (entry.verdict, entry.verified_by) == ("differs", ("joe",))


def test_a_mark_says_what_was_compared_and_nothing_of_the_humans(pushed, gss):
    table = pushed.table()
    table["option"] = 0
    pushed.rewrite(table)
    verification = pushed.verified(gss)
    mark(pushed.folder, verification, who="ada")
    (file,) = (pushed.folder / "verified").rglob("*.json")
    assert str(file.relative_to(pushed.folder / "verified")).startswith(f"{stem_of(pushed.result)}-")
    told = json.loads(file.read_bytes())
    assert (told["run"], told["verdict"], told["who"], told["humans"]) == (pushed.path, "differs", "ada", "gss-2018")
    assert told["run_sha256"] == verification.run_sha256 and told["answers_sha256"] == verification.answers_sha256
    assert len(told["differences"]) == len(verification.differences) > 10
    by_name = {difference["what"]: difference for difference in told["differences"]}
    assert by_name["metrics.wd.value"] == asdict(
        next(difference for difference in verification.differences if difference.what == "metrics.wd.value")
    )
    assert all("found" not in told for what, told in by_name.items() if what.startswith("items."))
    text = file.read_text()
    assert not any(f'"{respondent}"' in text for respondent in gss.ids)


def test_a_mark_needs_a_name(pushed, gss):
    with pytest.raises(OptionError, match="a mark needs a name to stand by it, got ' '"):
        mark(pushed.folder, pushed.verified(gss), who=" ")


def test_broken_marks_and_marks_of_other_runs_count_for_nothing(pushed, gss):
    mark(pushed.folder, pushed.verified(gss), who="ada")
    (file,) = (pushed.folder / "verified").rglob("*.json")
    told = json.loads(file.read_bytes())
    for content in ("{", "[]", "{}", json.dumps({**told, "run": "runs/other.json"}), json.dumps({**told, "run": 3})):
        file.write_text(content)
        assert read_board(pushed.folder).entries[0].verdict == ""
    file.write_text(json.dumps({**told, "verdict": "excellent"}))
    assert read_board(pushed.folder).entries[0].verdict == ""
    file.write_text(json.dumps(told))
    assert read_board(pushed.folder).entries[0].verdict == "verified"


def test_a_withdrawn_run_can_still_be_checked(pushed, gss):
    withdraw(pushed.folder, pushed.path, reason="wrong", who="ada")
    assert pushed.verified(gss).verdict == "verified"


def test_the_panel_wave_of_a_users_file_verifies_too(gss_panel_file, tmp_path):
    humans = Respondents.from_gss(gss_panel_file, wave=2016)
    survey = humans.survey
    run = push(tmp_path, unmatched(humans.sample(25)), survey, humans, evaluated=HASTY)
    assert run.verified(Respondents.from_gss(gss_panel_file, wave=2016)).verdict == "verified"
    assert "weight" not in run.table().columns and humans.weights is not None


def test_a_run_id_is_the_digest_of_its_inputs(pushed):
    assert pushed.result.run_id == digest(pushed.result.provenance["inputs"])[:16]


# -- skip logic, and surveys of the user's own


def branching_humans(n=200):
    rng = np.random.default_rng(3)
    yes_no = [{"code": 1, "text": "Yes"}, {"code": 2, "text": "No"}]
    asked = {"key": "why", "text": "A duty?", "ask_if": {"question": "vote", "in": [1]}}
    survey = Survey.from_dict(
        {"name": "own", "options": yes_no, "questions": [{"key": "vote", "text": "Voted?"}, asked]}
    )
    vote = rng.integers(0, 2, n).astype(np.int16)
    why = np.where(vote == 0, rng.integers(0, 2, n), -1).astype(np.int16)
    ids = tuple(f"p{at}" for at in range(n))
    return Respondents(
        name="town", ids=ids, levels={}, codes={}, answers={"vote": vote, "why": why}, survey=survey, source="Town"
    )


@pytest.mark.parametrize("mode", ["letters", "text"])
def test_a_run_with_skipped_questions_of_the_humans_own_survey_is_verified(tmp_path, mode):
    humans = branching_humans()
    run = push(tmp_path, unmatched(humans.sample(40)), humans.survey, humans, options=replace(BIO, mode=mode))
    assert 0 < run.result.items[1]["n_simulated"] < 40
    assert run.verified(humans).verdict == "verified"


def test_answers_that_go_against_the_skip_logic_are_found(tmp_path):
    humans = branching_humans()
    run = push(tmp_path, unmatched(humans.sample(40)), humans.survey, humans)
    table = run.table()
    table.loc[table.question == "why", ["status", "option"]] = ["skipped", -1]
    table.loc[table.question == "why", "probs"] = pd.Series(
        [[float("nan")] * 2] * 40, index=table.index[table.question == "why"]
    )
    run.rewrite(table)
    assert ("answers", "questions asked or skipped against the survey's own logic") in found(run.verified(humans))


def test_a_run_against_shares_is_verified_with_the_same_shares_and_with_no_others(tmp_path, starter, spending, gss):
    margins = Margins.of(gss, "gender")
    group, other = (
        margins.select(spending.keys).group("Female"),
        margins.select(spending.keys).group("Male"),
    )
    options = SimulateOptions(conditioning="anthology")
    answers = simulate(as_themselves(starter.sample(20)), spending, open_model("scripted:uniform"), options=options)
    result = evaluate(answers, group, options=QUICK)
    publish(result, tmp_path, answers=answers)
    run = Pushed(folder=tmp_path, result=result, answers=answers)
    honest = run.verified(group, survey=spending)
    assert honest.verdict == "verified" and honest.figures > 20
    assert run.verified(other, survey=spending).verdict == "other humans"
    table = run.table()
    table["option"] = 0
    run.rewrite(table)
    assert run.verified(group, survey=spending).verdict == "differs"
