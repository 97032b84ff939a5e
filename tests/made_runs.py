"""Made respondents and runs with given answers, for the tests of what compares them."""

from dataclasses import replace

import numpy as np

from anthology_hub import EvaluateOptions, Respondents, SimulateOptions, Survey, open_model, simulate, unmatched
from anthology_hub.schema import ANSWERED, MISSING, UNPARSABLE

QUICK = EvaluateOptions(bootstraps=20, splits=5)
BIO = SimulateOptions(conditioning="bio")
COLUMNS = ("probs", "mass", "raw")
MINI = Survey.load("bfi").select(["C1", "C2", "C3", "C4", "C5"])


def run(humans, survey, model="scripted:uniform", **changes):
    model = open_model(model) if isinstance(model, str) else model
    return simulate(unmatched(humans), survey, model, options=replace(BIO, **changes))


def with_picks(answers, picks):
    """The same run with other answers."""
    picks = np.asarray(picks, dtype=np.int16)
    return replace(answers, picks=picks, statuses=np.where(picks == MISSING, UNPARSABLE, ANSWERED))


def replay(humans, survey):
    """A run in which everybody answers as the human did."""
    return cast_of(humans, survey=survey)


def codes_of(humans, survey):
    return np.stack([humans.answers[key] for key in survey.keys], axis=1)


def people(seed, n, *, survey=MINI, missing=0.0, weighted=True, traits=()):
    """Respondents with answers that lean on a common taste; `traits`: name -> number of levels, which move it."""
    rng = np.random.default_rng(seed)
    taste, codes = rng.normal(size=n), {}
    held = {name: rng.integers(0, count, n).astype(np.int16) for name, count in dict(traits).items()}
    for column in held.values():
        taste = taste + column
    for question in survey.questions:
        k = len(question.options)
        score = (-1 if question.reverse else 1) * taste + rng.normal(size=n)
        code = np.floor(score.argsort().argsort() / n * k).astype(np.int16)
        codes[question.key] = np.where(rng.random(n) < missing, MISSING, code).astype(np.int16)
    return Respondents(
        name="toy-humans",
        ids=tuple(f"r{at}" for at in range(n)),
        levels={name: tuple(f"{name} {at}" for at in range(count)) for name, count in dict(traits).items()},
        codes=held,
        answers=codes,
        weights=rng.lognormal(sigma=0.7, size=n) if weighted else None,
        survey=survey,
    )


def cast_of(humans, picks=None, *, survey=MINI, personas=()):
    """A run of roles for these people with given answers (None: their own), as if simulated."""
    picks = codes_of(humans, survey) if picks is None else np.asarray(picks, dtype=np.int16)
    one, n = _one_role(humans, survey), len(humans)
    found = replace(
        with_picks(replace(one, **{name: np.repeat(getattr(one, name), n, axis=0) for name in COLUMNS}), picks),
        respondent_ids=humans.ids,
        persona_ids=tuple(personas) or ("",) * n,
        weights=np.ones(n) if humans.weights is None else humans.weights,
    )
    return replace(found, tries=None, order_gap=None, values=None)


def _one_role(humans, survey, made={}):  # noqa: B006 - the same for all tests, and slow to make
    if survey.digest not in made:
        made[survey.digest] = run(humans.take([0]), survey)
    return replace(made[survey.digest], survey=survey)
