"""Check a published run: recompute every figure from its pushed answers and from human answers that the verifier holds.

What the human file says is compared and then forgotten: a mark holds figures of the result, counts and checksums, and
nothing of a person or of a group of people.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from anthology_hub import __version__, hub
from anthology_hub.errors import AnthologyError, DataError, OptionError
from anthology_hub.evaluation import EvaluateOptions, evaluate
from anthology_hub.leaderboard import ANSWERS, MARKS, Entry, beside, now, pseudonym, read_answers, read_board, stem_of
from anthology_hub.margins import Margins
from anthology_hub.matching import unmatched
from anthology_hub.prompts import DIGEST, WHOLE_DIGEST, derive_seed, option_order, patterns_of, who
from anthology_hub.ranking import BELOW_PROTOCOL, CURRENT, DIFFERS, OTHER_HUMANS, VERIFIED
from anthology_hub.replies import parse_reply
from anthology_hub.schema import (
    ANSWERED,
    CHOICE,
    MISSING,
    SCHEMA_VERSION,
    SKIPPED,
    STATUSES,
    Answers,
    Codebook,
    Matching,
    Persona,
    Respondents,
    Result,
    Survey,
    digest,
    read_json,
    read_shipped,
    shipped,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOLERANCE = 1e-5
"""Published shares are rounded to 1e-6, and libraries differ in the last digits of a sum."""
MOST_DRAWS = 100_000
"""More bootstraps or splits than this are not recomputed: a run file must not keep a verifier busy for days."""
FILE, INPUTS, CONTENT, PEOPLE, REFERENCE, FIGURE, PROTOCOL = (
    "file",
    "inputs",
    "answers",
    "people",
    "humans",
    "figure",
    "protocol",
)
"""Kinds of differences."""
_DRAW_SLACK = 1e-6
_ADDED = ("wd_low", "wd_high", "wd_floor", "wd_floor_equal_n")
"""Figures of questions that older results lack: what was not published cannot be wrong. So it is with scales."""


class Release(Protocol):
    """What verification needs of a collection; `Anthology` has it."""

    @property
    def identity(self) -> str:
        """Name, release and digest."""
        ...

    @property
    def ids(self) -> Sequence[str]:
        """Persona ids."""
        ...

    @property
    def codebook(self) -> Codebook:
        """Traits of the personas."""
        ...


@dataclass(frozen=True, kw_only=True)
class SurveyProtocol:
    """What a survey demands of a run, so that nobody shines on a part of it. Kept in the survey's file."""

    minimum_respondents: int = 1
    minimum_bootstraps: int = 2
    all_questions: bool = False

    @classmethod
    def load(cls, survey: str) -> SurveyProtocol:
        """Load the protocol of a shipped survey by name, or of a survey file; demands nothing where there is none.

        Raises:
            DataError: If the protocol has a field that is unknown.
        """
        given = read_shipped("surveys", survey).get("protocol", {})
        try:
            return cls(**given)
        except TypeError as error:
            raise DataError(
                f"the protocol of {survey} cannot be {given!r}: allowed are {', '.join(asdict(cls()))}"
            ) from error


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One thing that was published and is otherwise."""

    kind: str
    what: str
    pushed: Any
    found: Any

    def __str__(self) -> str:
        return f"{self.kind}: {self.what} is {_short(self.found)}, published as {_short(self.pushed)}"


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What came of checking one run."""

    path: str
    run_id: str
    differences: tuple[Difference, ...]
    humans: str
    """Name of the human file."""
    humans_digest: str
    """Digest of whom the result was compared with, as found; empty if nothing could be recomputed."""
    run_sha256: str
    answers_sha256: str
    figures: int
    """How many values were recomputed and compared."""
    collection: str
    """Identity of the collection that the personas were looked up in; empty: they were not."""

    @property
    def verdict(self) -> str:
        """`verified`; `differs`; `below protocol`; or `other humans`, which says nothing of the run."""
        kinds = {difference.kind for difference in self.differences}
        if kinds & {FILE, INPUTS, CONTENT}:
            return DIFFERS
        if REFERENCE in kinds:
            return OTHER_HUMANS
        if kinds & {PEOPLE, FIGURE}:
            return DIFFERS
        return BELOW_PROTOCOL if kinds else VERIFIED


def verify(
    target: str | Path,
    run: str,
    humans: Respondents | Margins,
    *,
    survey: Survey | None = None,
    protocol: SurveyProtocol | None = None,
    people: Release | None = None,
    tolerance: float = TOLERANCE,
) -> Verification:
    """Recompute a published run and say what differs.

    Checked are: the files' checksums and places; that the run's inputs make its id; that the answers are whole, of the
    cast that was promised, and drawn with the seeds that were promised; every figure; the survey's protocol.

    Args:
        target: Results folder, or `hf://namespace/name`.
        run: Path of a run file or id of a run.
        humans: The respondents that the run was compared with (all of them), or the one group of margins.
        survey: What was asked, whole; the shipped survey of that name or that of the humans, if not given.
        protocol: What the survey demands; what the shipped survey says, if not given.
        people: The collection that the run names; if given, its identity and the personas are checked against it.
        tolerance: Largest difference between two figures that are taken as equal.

    Raises:
        DataError: If the run came without answers, or cannot be recomputed at bearable cost.
        UnknownNameError: If there is no such run or survey.
    """
    entry, folder = _entry(target, run)
    result, file = entry.result, folder / beside(entry.path, ANSWERS, ".parquet")
    if not file.is_file():
        raise DataError(
            f"{entry.path} was published without answers, so nothing can be recomputed: publish the run with them"
        )
    whole = survey or _survey_of(result, humans)
    known = survey is None and result.survey in shipped("surveys")
    demands = protocol or (SurveyProtocol.load(result.survey) if known else SurveyProtocol())
    content = file.read_bytes()
    sheet = _Sheet.read(content, whole, result, humans)
    found = [*_files(entry, folder, content), *_inputs(result, whole), *sheet.problems]
    recomputed, figures = None, 0
    if sheet.answers is not None:
        found += [*_cast(sheet.answers, humans, people), *_draws(sheet.answers), *_skips(sheet.answers)]
        found += [*_personas(sheet.answers, people)]
        recomputed = _recomputed(sheet.answers, result, humans)
    if isinstance(recomputed, Result):
        compared = list(_compared(_tree(result), _tree(recomputed), tolerance))
        figures, found = len(compared), [*found, *filter(None, compared)]
    elif recomputed is not None:
        found.append(Difference(kind=CONTENT, what="the figures", pushed="defined", found=recomputed))
    found += _demands(result, whole, demands)
    evaluation = recomputed.provenance["evaluation"] if isinstance(recomputed, Result) else {}
    return Verification(
        path=entry.path,
        run_id=result.run_id,
        differences=tuple(found),
        humans=humans.name,
        humans_digest=evaluation.get("humans_digest", ""),
        run_sha256=entry.sha256,
        answers_sha256=hashlib.sha256(content).hexdigest(),
        figures=figures,
        collection=people.identity if people else "",
    )


def _survey_of(result: Result, humans: Respondents | Margins) -> Survey:
    if result.survey in shipped("surveys") or humans.survey is None or humans.survey.name != result.survey:
        return Survey.load(result.survey)
    return humans.survey


def mark(target: str | Path, verification: Verification, *, who: str, pull_request: bool | None = None) -> hub.Commit:
    """Publish a verification beside its run; it counts as long as the run and its answers are the files that it saw.

    Args:
        target: Where the run is.
        verification: From `verify`.
        who: Name to stand by it.
        pull_request: See `leaderboard.publish`.

    Raises:
        OptionError: If the name is empty.
        DataError: If the verification says nothing of the run, because the humans were others.
    """
    if not who.strip():
        raise OptionError(f"a mark needs a name to stand by it, got {who!r}")
    if verification.verdict == OTHER_HUMANS:
        raise DataError(
            f"{verification.path} was compared with other people than {verification.humans}, so this check says "
            "nothing of it: verify it with the human file that it names"
        )
    content = {
        "schema_version": SCHEMA_VERSION,
        "run": verification.path,
        "run_id": verification.run_id,
        "run_sha256": verification.run_sha256,
        "answers_sha256": verification.answers_sha256,
        "verdict": verification.verdict,
        "figures": verification.figures,
        "differences": [_told(difference) for difference in verification.differences],
        "humans": verification.humans,
        "humans_digest": verification.humans_digest,
        "collection": verification.collection,
        "who": who,
        "when": now(),
        "software": {"anthology_hub": __version__},
    }
    path = beside(verification.path, MARKS, f"-{digest(content)[:8]}.json")
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    message = f"Verification of run {verification.run_id}: {verification.verdict}"
    return hub.add_files(target, {path: text.encode()}, message=message, pull_request=pull_request)


# -- what is looked at -----------------------------------------------------------------------------------------------


def _entry(target: str | Path, run: str) -> tuple[Entry, Path]:
    found = read_board(target).find(run)
    current = [entry for entry in found if entry.status == CURRENT] or list(found)
    if len(current) > 1:
        listed = ", ".join(entry.path for entry in current)
        raise DataError(f"the run {run} was evaluated in several ways: name one file of {listed}")
    source = hub.locate(target)
    return current[0], source.fetch(current[0].path, beside(current[0].path, ANSWERS, ".parquet"))


@dataclass(frozen=True, kw_only=True)
class _Sheet:
    """The pushed answers, put together again as far as they can be."""

    problems: tuple[Difference, ...]
    answers: Answers | None = None

    @classmethod
    def read(cls, content: bytes, whole: Survey, result: Result, humans: Respondents | Margins) -> _Sheet:
        try:
            rows, survey = read_answers(content), _asked(whole, result)
        except AnthologyError as error:
            return cls(problems=(_wrong("the file", "readable", str(error)),))
        if problems := tuple(_gaps(rows, survey)):
            return cls(problems=problems)
        return cls._put_together(rows, survey, result, humans)

    @classmethod
    def _put_together(
        cls, rows: Sequence[Mapping[str, Any]], survey: Survey, result: Result, humans: Respondents | Margins
    ) -> _Sheet:
        cast = str(_promised(result).get("humans", ""))
        place, weights = _people_of(rows, humans)
        known = {pseudonym(cast, respondent): respondent for respondent in place}
        seats = list(dict.fromkeys((row["respondent_sha256"], row["persona_id"]) for row in rows))
        strangers = sum(name not in known for name, _ in seats)
        if strangers:
            kind = REFERENCE if strangers == len(seats) else PEOPLE
            what = f"respondents that {humans.name} does not have"
            return cls(problems=(Difference(kind=kind, what=what, pushed=0, found=strangers),))
        ids = tuple(known[name] for name, _ in seats)
        cells = {(row["respondent_sha256"], row["question"]): row for row in rows}
        grid = [[cells[name, key] for key in survey.keys] for name, _ in seats]
        most = max(len(question.options) for question in survey.questions)
        answers = Answers(
            survey=survey,
            respondent_ids=ids,
            persona_ids=tuple(persona for _, persona in seats),
            weights=weights[[place[respondent] for respondent in ids]],
            picks=np.array([[cell["option"] for cell in line] for line in grid], dtype=np.int16),
            probs=np.array([[_padded(cell["probs"], most) for cell in line] for line in grid], dtype=np.float32),
            mass=np.array([[cell["mass"] for cell in line] for line in grid], dtype=np.float32),
            statuses=np.array([[cell["status"] for cell in line] for line in grid], dtype="U12"),
            raw=np.array([[cell["raw"] for cell in line] for line in grid], dtype=object),
            provenance={name: value for name, value in result.provenance.items() if name != "evaluation"},
        )
        return cls(problems=(), answers=answers)


def _people_of(
    rows: Sequence[Mapping[str, Any]], humans: Respondents | Margins
) -> tuple[dict[str, int], NDArray[np.float64]]:
    """Return who may be stood in for, with places and weights: where only shares are known, the personas themselves."""
    if isinstance(humans, Margins):
        personas = dict.fromkeys(row["persona_id"] for row in rows)
        return {persona: at for at, persona in enumerate(personas)}, np.ones(len(personas))
    weights = np.ones(len(humans)) if humans.weights is None else humans.weights
    return {respondent: at for at, respondent in enumerate(humans.ids)}, weights


def _gaps(rows: Sequence[Mapping[str, Any]], survey: Survey) -> Iterator[Difference]:
    """Say what keeps the rows from being one answer of every role to every question."""
    options = {question.key: len(question.options) for question in survey.questions}
    cells = Counter((row["respondent_sha256"], row["question"]) for row in rows)
    roles = {row["respondent_sha256"] for row in rows}
    counts = {
        "answers to questions that were not asked": sum(row["question"] not in options for row in rows),
        "answers given twice": sum(count - 1 for count in cells.values()),
        "answers missing": sum((role, key) not in cells for role in roles for key in options),
        "people with two personas": len({(row["respondent_sha256"], row["persona_id"]) for row in rows}) - len(roles),
        "answers that are no option or status": sum(not _legal(row, options) for row in rows),
    }
    if not rows:
        yield _wrong("answers", "some", 0)
    yield from (_wrong(what, 0, count) for what, count in counts.items() if count)


def _legal(row: Mapping[str, Any], options: Mapping[str, int]) -> bool:
    option, probs = row["option"], _padded(row["probs"], len(row["probs"]))
    chosen = row["status"] == ANSWERED
    inside = chosen and 0 <= option < options.get(row["question"], 0)
    sums = all(map(math.isnan, probs)) or (min(probs) >= 0 and math.isclose(sum(probs), 1, abs_tol=1e-3))
    fits = sums and len(probs) == options.get(row["question"])
    return row["status"] in STATUSES and (inside or (not chosen and option == MISSING)) and fits


def _padded(probs: Sequence[float | None], most: int) -> list[float]:
    return [*(math.nan if p is None else p for p in probs), *[math.nan] * most][:most]


def _recomputed(answers: Answers, result: Result, humans: Respondents | Margins) -> Result | str:
    """Evaluate again in the same way; say why, if what was pushed cannot be evaluated."""
    said = result.provenance.get("evaluation", {})
    names = [option.name for option in fields(EvaluateOptions)]
    try:
        given: dict[str, Any] = {
            name: tuple(said[name]) if name == "by" else said[name] for name in names if name in said
        }
        options = EvaluateOptions(**given)
        if max(options.splits, options.bootstraps) > MOST_DRAWS:
            asked = f"{options.bootstraps} bootstraps and {options.splits} splits"
            return f"not recomputed: {asked} are more than {MOST_DRAWS}"
        return evaluate(answers, _reference(answers, result, humans), options=options)
    except (AnthologyError, KeyError, TypeError, ValueError) as error:
        return f"undefined: {error}"


def _reference(answers: Answers, result: Result, humans: Respondents | Margins) -> Respondents | Margins:
    """All the humans, or those who were stood in for, where the result was compared with these."""
    if isinstance(humans, Margins) or result.n_humans == len(humans) or result.n_humans != len(answers):
        return humans
    place = {respondent: at for at, respondent in enumerate(humans.ids)}
    return humans.take([place[respondent] for respondent in answers.respondent_ids])


# -- what may differ -------------------------------------------------------------------------------------------------


def _files(entry: Entry, folder: Path, content: bytes) -> Iterator[Difference]:
    place = f"runs/{stem_of(entry.result)}.json"
    if place != entry.path:
        yield Difference(kind=FILE, what="the place of the run file", pushed=entry.path, found=place)
    sha = hashlib.sha256(content).hexdigest()
    if sha != entry.answers_sha256:
        yield Difference(kind=FILE, what="the checksum of the answers", pushed=entry.answers_sha256, found=sha)
    record = read_json(folder / entry.path)
    try:
        told = {r["evaluation_name"]: r["score_details"]["score"] for r in record["evaluation_results"]}
    except (KeyError, TypeError):
        told = {}
    ours = {f"{entry.result.survey}: {m.name}": m.value for m in entry.result.metrics if m.value is not None}
    if told != ours:
        yield Difference(kind=FILE, what="the scores of the Every Eval Ever part", pushed=told, found=ours)


def _inputs(result: Result, whole: Survey) -> Iterator[Difference]:
    inputs = _promised(result)
    if (made := digest(inputs)[:16]) != result.run_id:
        yield Difference(kind=INPUTS, what="the run id that the inputs make", pushed=result.run_id, found=made)
    said = inputs.get("survey", {})
    kinds = {question.key: question.kind for question in whole.questions}
    # Choices are compared; what else was asked is named in the inputs alone.
    compared = [key for key in said.get("questions", ()) if kinds.get(key, CHOICE) == CHOICE]
    if compared != list(result.questions):
        yield Difference(kind=INPUTS, what="the questions", pushed=list(result.questions), found=compared)
    elif (found := _digest(whole, result)) and said.get("digest") != found:
        yield Difference(kind=INPUTS, what=f"the digest of {whole.name}", pushed=said.get("digest"), found=found)


def _asked(whole: Survey, result: Result) -> Survey:
    """Return the survey with the questions of the result, as `Answers.choices` has it."""
    kept = whole.select(_promised(result).get("survey", {}).get("questions", result.questions)).choices
    return kept if kept.keys == tuple(result.questions) else whole.select(result.questions)


def _digest(whole: Survey, result: Result) -> str:
    """Of the survey with the questions of the result; empty if there are no such, which reading the answers tells."""
    try:
        return whole.select(_promised(result)["survey"]["questions"]).digest
    except AnthologyError:
        return ""


def _cast(answers: Answers, humans: Respondents | Margins, people: Release | None) -> Iterator[Difference]:
    """The roles must be the promised ones: the same people in the same order, with their weights, traits, personas."""
    said = answers.provenance.get("inputs", {}).get("cast", {})
    if said.get("n") != len(answers):
        yield Difference(kind=PEOPLE, what="people who answered", pushed=said.get("n"), found=len(answers))
        return
    if isinstance(humans, Margins):
        # Each persona stands for itself; its traits, which the digest covers too, are the collection's to vouch for.
        return
    place = {respondent: at for at, respondent in enumerate(humans.ids)}
    played = humans.take([place[respondent] for respondent in answers.respondent_ids])
    roles = unmatched(played, people.codebook if people else None).roles
    cast = Matching(
        method=str(said.get("method")),
        roles=tuple(
            replace(role, persona=Persona(persona_id=persona, backstory="") if persona else None)
            for role, persona in zip(roles, answers.persona_ids, strict=True)
        ),
    )
    if cast.digest != said.get("digest"):
        yield Difference(kind=PEOPLE, what="the digest of the cast", pushed=said.get("digest"), found=cast.digest)


def _draws(answers: Answers) -> Iterator[Difference]:
    """Every pick must be what its probabilities (or its reply) and the run's seed make of it."""
    inputs = answers.provenance.get("inputs", {})
    if inputs.get("prompts") not in (DIGEST, WHOLE_DIGEST):
        return
    options, wave = inputs.get("options", {}), inputs.get("wave", "")
    patterns = patterns_of(options.get("options_order", "survey"), answers.survey)
    labels = options.get("labels", "letters")
    wrong = 0
    for at, (respondent, persona) in enumerate(zip(answers.respondent_ids, answers.persona_ids, strict=True)):
        for column, question in enumerate(answers.survey.questions):
            seed = (inputs.get("seed"), who(respondent, persona, wave), question.key)
            order = option_order(question, patterns, derive_seed(*seed, "order"))
            pick, probs = int(answers.picks[at, column]), answers.probs[at, column, : len(order)]
            if options.get("mode") == "text":
                texts = [question.options[place] for place in order]
                reply = parse_reply(str(answers.raw[at, column]), texts, labels=labels)
                wrong += pick != (order[reply.option] if reply.status == ANSWERED else MISSING)
                continue
            mass = float(answers.mass[at, column])
            if not math.isnan(mass) and options.get("mode") == "letters":
                # Nobody leaves out an answer that the options had enough probability for, nor keeps one without.
                least = options.get("least_mass", 0.0)
                wrong += mass > least + _DRAW_SLACK if pick == MISSING else mass < least - _DRAW_SLACK
            if pick != MISSING:
                ends = np.concatenate([[0.0], np.cumsum(probs[list(order)], dtype=np.float64)])
                place, draw = order.index(pick), np.random.default_rng(derive_seed(*seed, 0)).random()
                wrong += not ends[place] - _DRAW_SLACK <= draw <= ends[place + 1] + _DRAW_SLACK
    if wrong:
        yield _wrong("answers that do not follow from their probabilities or replies and the seed", 0, wrong)


def _skips(answers: Answers) -> Iterator[Difference]:
    """Skipped must be what the survey's skip logic does not ask, and nothing else."""
    wrong, keys = 0, answers.survey.keys
    for picks, statuses in zip(answers.picks.tolist(), answers.statuses, strict=True):
        picked = dict(zip(keys, picks, strict=True))
        for question, status in zip(answers.survey.questions, statuses, strict=True):
            wrong += answers.survey.asks(question, picked) != (status != SKIPPED)
    if wrong:
        yield _wrong("questions asked or skipped against the survey's own logic", 0, wrong)


def _personas(answers: Answers, people: Release | None) -> Iterator[Difference]:
    if people is None:
        return
    said = answers.provenance.get("inputs", {}).get("collection", "")
    if said and said != people.identity:
        yield Difference(kind=INPUTS, what="the collection", pushed=said, found=people.identity)
    known = {"", *people.ids}
    if strange := sum(persona not in known for persona in answers.persona_ids):
        yield Difference(kind=INPUTS, what=f"personas that {people.identity} does not have", pushed=0, found=strange)


def _demands(result: Result, whole: Survey, protocol: SurveyProtocol) -> Iterator[Difference]:
    if result.n < protocol.minimum_respondents:
        asked = f"at least {protocol.minimum_respondents}"
        yield Difference(kind=PROTOCOL, what="simulated people, of which the survey asks", pushed=result.n, found=asked)
    bootstraps = result.provenance.get("evaluation", {}).get("bootstraps", 0)
    if not isinstance(bootstraps, int) or bootstraps < protocol.minimum_bootstraps:
        asked = f"at least {protocol.minimum_bootstraps}"
        yield Difference(kind=PROTOCOL, what="bootstraps, of which the survey asks", pushed=bootstraps, found=asked)
    left = len(whole.keys) - len(set(whole.keys) & set(result.questions))
    if protocol.all_questions and left:
        pushed, found = len(result.questions), f"all {len(whole.keys)}"
        yield Difference(kind=PROTOCOL, what="questions, of which the survey asks", pushed=pushed, found=found)


def _tree(result: Result) -> dict[str, Any]:
    """A result as nested objects, without its words: they may change between versions, and no figure is in them."""
    tree = json.loads(json.dumps(result.to_dict()))
    for name in ("notes", "schema_version"):
        del tree[name]
    # What the run itself says is taken from the run file, so there is nothing to compare but how it was evaluated.
    tree["provenance"] = {"evaluation": tree["provenance"].get("evaluation", {})}
    tree["metrics"] = {m["name"]: {k: v for k, v in m.items() if k not in ("note", "name")} for m in tree["metrics"]}
    # How much the order of options moves is told of each question, and the published answers do not hold it.
    items = [{name: value for name, value in item.items() if name != "order_gap"} for item in tree["items"]]
    tree["items"] = {item.get("question", str(at)): item for at, item in enumerate(items)}
    tree["scales"] = {one["name"]: one for one in tree["scales"]}
    return dict(tree)


def _compared(pushed: Any, found: Any, tolerance: float, path: str = "") -> Iterator[Difference | None]:  # noqa: ANN401
    """Compare two trees leaf by leaf: None where they agree."""
    if isinstance(pushed, Mapping) and isinstance(found, Mapping):
        for name in dict.fromkeys([*pushed, *found]):
            if name not in pushed and (name in _ADDED or path == "scales"):
                continue
            yield from _compared(pushed.get(name), found.get(name), tolerance, f"{path}.{name}".lstrip("."))
    elif isinstance(pushed, list) and isinstance(found, list) and len(pushed) == len(found):
        for at, (one, other) in enumerate(zip(pushed, found, strict=True)):
            yield from _compared(one, other, tolerance, f"{path}.{at}")
    elif _equal(pushed, found, tolerance):
        yield None
    else:
        kind = REFERENCE if path.startswith("provenance.evaluation.humans") else FIGURE
        yield Difference(kind=kind, what=path, pushed=pushed, found=found)


def _equal(one: Any, other: Any, tolerance: float) -> bool:  # noqa: ANN401 - any JSON leaf
    if isinstance(one, float) or isinstance(other, float):
        numbers = isinstance(one, int | float) and isinstance(other, int | float)
        return numbers and math.isclose(one, other, rel_tol=tolerance, abs_tol=tolerance)
    return bool(one == other)


def _promised(result: Result) -> Mapping[str, Any]:
    inputs: Mapping[str, Any] = result.provenance.get("inputs", {})
    return inputs


def _wrong(what: str, pushed: object, found: object) -> Difference:
    return Difference(kind=CONTENT, what=what, pushed=pushed, found=found)


def _told(difference: Difference) -> dict[str, Any]:
    """A difference as it is published: what the verifier's humans said to a question stays with the verifier."""
    told = asdict(difference)
    return {name: value for name, value in told.items() if name != "found" or not difference.what.startswith("items.")}


def _short(value: object) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
