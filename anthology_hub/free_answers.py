"""Free-form answers into categories, by a model, with the words that decided as evidence.

A model gives the probability of each category, in both orders of the list (single orders favour the first letter,
arXiv 2306.07951); what it is not sure of stays uncoded. Equal replies are coded once. `agreement` says how far the
codes agree with those of a person, and nobody should use codes without it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from anthology_hub.errors import DataError, EmptyError, OptionError, RunError, UnknownNameError
from anthology_hub.models import LanguageModel, Sampling
from anthology_hub.prompts import LETTERS, Prompt, derive_seed, question_text
from anthology_hub.runs import ANEW, Progress, RunFolder, provenance
from anthology_hub.schema import (
    ANSWERED,
    DATA,
    MISSING,
    TEXT,
    UNPARSABLE,
    Answers,
    Question,
    Survey,
    digest,
    read_json,
)

if TYPE_CHECKING:
    import pandas as pd

WORDINGS = read_json(DATA / "free_answers" / "prompts.json")
NONE: str = WORDINGS["none"]
"""The category of answers that belong to no other; always there, never given."""
CODED, UNCODED, NO_REPLY = "coded", "uncoded", "no reply"
"""What became of an answer; no reply: there was nothing to code."""
PARTS = "codes"


@dataclass(frozen=True, kw_only=True)
class Category:
    """One category and what belongs to it."""

    name: str
    description: str = ""


@dataclass(frozen=True, kw_only=True)
class CodeOptions:
    """How to code."""

    several: bool = False
    """Whether an answer may belong to several categories: asked for each, with yes and no."""
    least: float = 0.5
    """Probability of the category, or of yes or no, below which an answer stays uncoded; so do ties. With `several`,
    one of two has 0.5 or more, and it takes a higher value to leave out what is doubtful."""
    least_mass: float = 0.1
    """Total probability of the letters below which it stays uncoded: the model was saying something else."""
    evidence: bool = True
    """Whether to ask for the words that decided."""
    sampling: Sampling = Sampling(temperature=0.0, max_tokens=60, stop=("\n\n", "\nQuestion:"))
    """Of the evidence."""
    batch_size: int = 16
    """Replies coded at once; changes no code."""

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            OptionError: If a value is not allowed.
        """
        if not (0 <= self.least <= 1 and 0 <= self.least_mass <= 1) or self.batch_size < 1:
            raise OptionError(
                "least and least_mass must be between 0 and 1 and batch_size at least 1, got "
                f"{self.least}, {self.least_mass}, {self.batch_size}"
            )


@dataclass(frozen=True, kw_only=True)
class Code:
    """One decision on one reply: its category, or whether a category is it."""

    category: str
    """The category, or NONE; with several, the category that was asked for."""
    holds: bool
    """Whether the reply belongs to it; with several, whether yes."""
    sure: bool
    """Whether probability and mass reach the least that was asked for, and no other is as probable."""
    probability: float
    """Of what was decided, 0 to 1: of the category, or of yes or no."""
    mass: float
    """Of all letters before normalising, 0 to 1."""
    probs: tuple[float, ...]
    """Of each category and NONE; with several, of yes and no."""
    evidence: str = ""
    """The passage as it stands in the reply; empty: none was asked for, or what was given is not in the reply."""
    said: str = ""
    """What the model gave as evidence."""

    @property
    def unproven(self) -> bool:
        """Whether evidence was asked for, and what came is not in the reply."""
        return bool(self.said) and not self.evidence


@dataclass(frozen=True, kw_only=True)
class Tally:
    """How many answers belong to a category."""

    category: str
    n: int
    weight: float
    """Sum of their weights."""
    share: float | None
    """Weighted, of the answers on which it was decided, 0 to 1; None if there is none."""


@dataclass(frozen=True, kw_only=True)
class CodedAnswers:
    """The answers to one open question with their categories."""

    answers: Answers
    """Those that were coded, as they were."""
    question: Question
    categories: tuple[Category, ...]
    options: CodeOptions
    codes: tuple[tuple[Code, ...], ...]
    """Of each role; one, with several one for each category; none where there was no reply."""
    provenance: Mapping[str, Any]
    """Model card, prompt digest and all else that is needed to repeat it."""

    def __len__(self) -> int:
        return len(self.answers)

    @property
    def names(self) -> tuple[str, ...]:
        """The categories and, last, NONE."""
        return (*(category.name for category in self.categories), NONE)

    @cached_property
    def labels(self) -> tuple[tuple[str, ...] | None, ...]:
        """Of each role the categories that it was coded into; None where nothing was decided.

        With several, a category that is not sure is not among them; NONE only where all are surely no.
        """
        return tuple(_labels(codes, several=self.options.several) for codes in self.codes)

    @property
    def counts(self) -> dict[str, int]:
        """Answers by what became of them, and among their codes the unsure ones and those without proof."""
        every = [code for codes in self.codes for code in codes]
        found = {
            CODED: sum(labels is not None for labels in self.labels),
            UNCODED: sum(labels is None and bool(codes) for labels, codes in zip(self.labels, self.codes, strict=True)),
            NO_REPLY: sum(not codes for codes in self.codes),
        }
        return {**found, "unsure": sum(not c.sure for c in every), "unproven": sum(c.unproven for c in every)}

    @property
    def uncoded(self) -> float | None:
        """Weighted share of the replies that stayed uncoded, 0 to 1; None if there is no reply."""
        weights, replied = self.answers.weights, np.array([bool(codes) for codes in self.codes])
        left = np.array([labels is None for labels in self.labels]) & replied
        total = float(weights[replied].sum())
        return float(weights[left].sum()) / total if total else None

    def tally(self) -> tuple[Tally, ...]:
        """Count the answers of each category with their weights, NONE last."""
        return tuple(self._tally(name) for name in self.names)

    def to_frame(self) -> pd.DataFrame:
        """Return one row for each role: who, weight, reply, status, category, probability, mass and evidence.

        With several, category and evidence are joined by `; `, and the columns `p_1`, `p_2` ... hold the probability
        of each category; the probability is the least of those that were decided.
        """
        import pandas as pd

        return pd.DataFrame([self._row(row) for row in range(len(self))])

    def to_answers(self) -> Answers:
        """Return the codes as answers to a closed nominal question, for `evaluate` and the tables.

        The question keeps its key; its options are the categories and NONE, with codes from 1. With several, each
        category is a question `KEY_1`, `KEY_2` ... with the options Yes (1) and No (0). What stayed uncoded counts as
        unparsable, and what was no reply keeps its status.
        """
        survey = Survey(
            name=f"{self.answers.survey.name}-coded",
            title=f"{self.question.text} (coded)",
            source=self.answers.survey.source,
            questions=self._closed(),
        )
        decided = [self._decided(row) for row in range(len(self))]
        shape = (len(self), len(survey.questions))
        inputs = {**self.answers.provenance.get("inputs", {}), "coding": dict(self.provenance["inputs"])}
        return replace(
            self.answers,
            survey=survey,
            picks=np.array([[pick for pick, _, _ in row] for row in decided], dtype=np.int16).reshape(shape),
            probs=np.array([[probs for _, _, probs in row] for row in decided], dtype=np.float32),
            mass=np.array([[code.mass if code else np.nan for _, code, _ in row] for row in decided], np.float32),
            statuses=np.array([self._statuses(at, row) for at, row in enumerate(decided)], dtype="U12"),
            raw=np.repeat(self._raw[:, None], shape[1], axis=1),
            provenance={**self.answers.provenance, "run_id": digest(inputs)[:16], "inputs": inputs},
            values=None,
            tries=None,
            order_gap=None,
        )

    @property
    def _raw(self) -> Any:  # noqa: ANN401 - an array of texts
        return self.answers.raw[:, self.answers.survey.keys.index(self.question.key)]

    def _tally(self, name: str) -> Tally:
        weights, decided, has = self.answers.weights, 0.0, 0.0
        n = 0
        for weight, holds in zip(weights.tolist(), self._held(name), strict=True):
            decided += weight * (holds is not None)
            has, n = has + weight * bool(holds), n + bool(holds)
        return Tally(category=name, n=n, weight=has, share=has / decided if decided else None)

    def _held(self, name: str) -> list[bool | None]:
        """Whether each answer belongs to a category; None where that was not decided."""
        if not self.options.several or name == NONE:
            return [None if labels is None else name in labels for labels in self.labels]
        at = self.names.index(name)
        return [codes[at].holds if codes and codes[at].sure else None for codes in self.codes]

    def _row(self, row: int) -> dict[str, Any]:
        labels, codes = self.labels[row], self.codes[row]
        used = [code for code in codes if code.sure] or list(codes)
        told = {
            "respondent_id": self.answers.respondent_ids[row],
            "persona_id": self.answers.persona_ids[row],
            "weight": float(self.answers.weights[row]),
            "reply": str(self._raw[row]).strip(),
            "status": CODED if labels is not None else UNCODED if codes else NO_REPLY,
            "category": None if labels is None else "; ".join(labels),
            "probability": min((code.probability for code in used), default=float("nan")),
            "mass": min((code.mass for code in codes), default=float("nan")),
            "evidence": "; ".join(code.evidence for code in codes if code.evidence),
        }
        yes = [code.probs[0] for code in codes] if codes else [float("nan")] * len(self.categories)
        return {**told, **({f"p_{at + 1}": p for at, p in enumerate(yes)} if self.options.several else {})}

    def _closed(self) -> tuple[Question, ...]:
        key, text = self.question.key, self.question.text
        if not self.options.several:
            codes = tuple(range(1, len(self.names) + 1))
            return (Question(key=key, text=text, options=self.names, codes=codes, ordinal=False),)
        yes = (WORDINGS["yes"], WORDINGS["no"])
        return tuple(
            Question(key=f"{key}_{at}", text=f"{text} [{category.name}]", options=yes, codes=(1, 0), ordinal=False)
            for at, category in enumerate(self.categories, start=1)
        )

    def _decided(self, row: int) -> list[tuple[int, Code | None, Sequence[float]]]:
        """Pick, code and probabilities for each question of `_closed`."""
        width = 2 if self.options.several else len(self.names)
        if not self.codes[row]:
            return [(MISSING, None, [np.nan] * width)] * (len(self.categories) if self.options.several else 1)
        places = [
            (0 if code.holds else 1) if self.options.several else self.names.index(code.category)
            for code in self.codes[row]
        ]
        coded = zip(places, self.codes[row], strict=True)
        return [(place if code.sure else MISSING, code, code.probs) for place, code in coded]

    def _statuses(self, row: int, decided: Sequence[tuple[int, Code | None, Sequence[float]]]) -> list[str]:
        asked = str(self.answers.statuses[row, self.answers.survey.keys.index(self.question.key)])
        return [asked if code is None else ANSWERED if code.sure else UNPARSABLE for _, code, _ in decided]


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far codes agree with those that a person gave."""

    n: int
    """Decisions compared: replies, with several replies times categories."""
    left_out: int
    """Replies or decisions with a code by hand that stayed uncoded."""
    accuracy: float | None
    """Share of equal codes, 0 to 1; None if nothing could be compared."""
    kappa: float | None
    """Cohen's kappa, -1 to 1, 0 as by chance (Cohen 1960); None where chance alone would agree wholly."""
    by_category: Mapping[str, float | None]
    """Kappa of each category against all others."""


def code_answers(
    answers: Answers,
    question_key: str,
    categories: Sequence[Category | str],
    model: LanguageModel,
    *,
    options: CodeOptions | None = None,
    seed: int = 0,
    folder: str | Path | None = None,
    progress: Progress | None = None,
) -> CodedAnswers:
    """Code the replies to an open question into categories.

    Args:
        answers: From `simulate` or `interview`.
        question_key: A text question of theirs.
        categories: Names, or `Category` with a description; NONE is added. See `read_categories`.
        model: Who codes.
        options: How.
        seed: Of the evidence, where its sampling draws.
        folder: Run folder: written as codes come in, and continued if it is there already.
        progress: Called with (different replies so far, in all).

    Raises:
        EmptyError: If there is no reply to code.
        OptionError: If the question is no open one, or the categories cannot be told apart.
        RunError: If the folder belongs to another run, or a file in it is broken.
        UnknownNameError: If there is no such question.

    Example:
        >>> from anthology_hub import Anthology
        >>> from anthology_hub.interviews import interview
        >>> from anthology_hub.models.scripted import ScriptedModel
        >>> people, farmer = Anthology.load("starter").sample(3), ScriptedModel("first", replies=lambda *_: "I farm.")
        >>> said = interview(people, ["What do you do?"], farmer)
        >>> coder = ScriptedModel(lambda p, o: ["Farm" in l for l in p.question.splitlines() if l[:1] == "("],
        ...                       replies=lambda *_: '"farm"')
        >>> coded = code_answers(said, "q1", ["Farming", "Industry"], coder)
        >>> [(row.category, row.n) for row in coded.tally()], coded.codes[0][0].evidence
        ([('Farming', 3), ('Industry', 0), ('None of these', 0)], 'farm')
    """
    options, question = options or CodeOptions(), _open_question(answers, question_key)
    known = _checked(categories, several=options.several)
    column = answers.survey.keys.index(question_key)
    replies = [_reply(answers, row, column) for row in range(len(answers))]
    if not (different := sorted({reply for reply in replies if reply})):
        raise EmptyError(f"nobody answered {question_key!r} in words: there is nothing to code")
    told = _provenance(question, known, model, options, seed, different)
    store = RunFolder.open(folder, told) if folder is not None else None
    codes = _read(store) if store else {}
    progress = progress or (lambda _done, _total: None)
    progress(len(codes), len(different))
    coder = _Coder(question=question, categories=known, model=model, options=options, seed=seed)
    left = [reply for reply in different if reply not in codes]
    for start in range(0, len(left), options.batch_size):
        fresh = coder.codes(left[start : start + options.batch_size])
        codes |= fresh
        if store:
            rows = [{"reply": reply, "codes": json.dumps([asdict(c) for c in found])} for reply, found in fresh.items()]
            store.write(PARTS, rows, _schema(), key=sorted(fresh))
        progress(len(codes), len(different))
    return CodedAnswers(
        answers=answers,
        question=question,
        categories=known,
        options=options,
        codes=tuple(codes[reply] if reply else () for reply in replies),
        provenance=store.provenance if store else told,
    )


def read_categories(path: str | Path) -> tuple[Category, ...]:
    """Read categories: a JSON list (or an object with `categories`) of names or of `{"name", "description"}`.

    Raises:
        DataError: If the file cannot be read so.
    """
    path = Path(path)
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
        listed = value["categories"] if isinstance(value, dict) else value
        return tuple(Category(name=one) if isinstance(one, str) else Category(**one) for one in listed)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"the categories of {path} cannot be read ({error!r}): give a JSON list of names, or of objects with name "
            "and description"
        ) from error


def agreement(coded: CodedAnswers, by_hand: Mapping[str, str | Collection[str]]) -> Agreement:
    """Compare codes with those that a person gave to the same answers.

    Args:
        coded: By a model.
        by_hand: Respondent -> category (or NONE); with several, respondent -> all categories, empty for none.

    Returns:
        Every answer counts the same: agreement is about codes, not about the population. With several, each category
        of each reply is a decision of yes or no, and accuracy and kappa are over all of them.

    Raises:
        OptionError: If a respondent has several codes by hand where one is coded.
        UnknownNameError: If a respondent or a category is unknown.

    Example:
        >>> kappa(["a", "a", "b", "b"], ["a", "b", "b", "b"])
        0.5
    """
    rows = {name: row for row, name in enumerate(coded.answers.respondent_ids)}
    for respondent in by_hand:
        if respondent not in rows:
            raise UnknownNameError("respondent coded by hand", respondent, rows)
    truth = {rows[respondent]: _by_hand(coded, respondent, given) for respondent, given in by_hand.items()}
    judged = {name: _judged(coded._held(name), name, truth) for name in coded.names}
    if coded.options.several:
        compared = [pair for name in coded.names if name != NONE for pair in judged[name]]
        whole = len(by_hand) * len(coded.categories)
        ours, theirs = [str(is_) for is_, _ in compared], [str(was) for _, was in compared]
    else:
        whole, decided = len(by_hand), range(len(judged[NONE]))
        ours, theirs = ([_one(judged, at, side) for at in decided] for side in (0, 1))
    return Agreement(
        n=len(ours),
        left_out=whole - len(ours),
        accuracy=sum(a == b for a, b in zip(ours, theirs, strict=True)) / len(ours) if ours else None,
        kappa=kappa(ours, theirs),
        by_category={name: kappa([str(a) for a, _ in p], [str(b) for _, b in p]) for name, p in judged.items()},
    )


def kappa(ours: Sequence[str], theirs: Sequence[str]) -> float | None:
    """Return Cohen's kappa (Cohen 1960), -1 to 1; None without pairs, or where both always say the same one thing.

    Example:
        >>> kappa(["a", "b"], ["a", "b"]), kappa(["a", "a"], ["a", "a"])
        (1.0, None)
    """
    n = len(ours)
    same = sum(a == b for a, b in zip(ours, theirs, strict=True))
    by_chance = sum(ours.count(name) * theirs.count(name) for name in set(ours))
    # In whole numbers up to here: what is 1 by chance is told exactly.
    return (same * n - by_chance) / (n * n - by_chance) if by_chance < n * n else None


# -- asking ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Coder:
    question: Question
    categories: tuple[Category, ...]
    model: LanguageModel
    options: CodeOptions
    seed: int

    def codes(self, replies: Sequence[str]) -> dict[str, tuple[Code, ...]]:
        """Code replies; the prompts on one reply are neighbours, so that it is read once."""
        asked = [(reply, closed) for reply in replies for closed in self._closed]
        found = [self._code(closed, *each) for (_, closed), each in zip(asked, self._probs(asked), strict=True)]
        if self.options.evidence:
            found = self._proven(asked, found)
        size = len(self._closed)
        return {reply: tuple(found[at * size : (at + 1) * size]) for at, reply in enumerate(replies)}

    @cached_property
    def _closed(self) -> tuple[Question, ...]:
        """What is asked on each reply."""
        shown = [
            WORDINGS["described"].format(name=one.name, description=one.description) if one.description else one.name
            for one in self.categories
        ]
        if not self.options.several:
            return (Question(key="", text=WORDINGS["one"], options=(*shown, NONE)),)
        yes = (WORDINGS["yes"], WORDINGS["no"])
        return tuple(
            # The category's name may hold braces of its own.
            Question(key=one.name, text=WORDINGS["several"].replace("{category}", f'"{text}"'), options=yes)
            for one, text in zip(self.categories, shown, strict=True)
        )

    def _prompt(self, reply: str, closed: Question, shown: Sequence[int]) -> Prompt:
        context = WORDINGS["context"].replace("{question}", self.question.text).replace("{answer}", reply)
        text = question_text(closed, shown, consistency=False)
        return Prompt(context=context, turns=(), question=text, start="(", opening=WORDINGS["opening"])

    def _probs(self, asked: Sequence[tuple[str, Question]]) -> Iterator[tuple[tuple[float, ...], float]]:
        """Yield probabilities in canonical order and mass: the mean of both orders."""
        orders = [(reply, closed, tuple(range(len(closed.options)))) for reply, closed in asked]
        both = [(reply, closed, way) for reply, closed, order in orders for way in (order, order[::-1])]
        letters = [LETTERS[: len(shown)] for _, _, shown in both]
        chosen = self.model.choose([self._prompt(*each) for each in both], letters, Sampling())
        for one, other in zip(chosen[::2], chosen[1::2], strict=True):
            probs = (np.array(one.probs) + np.array(other.probs)[::-1]) / 2
            # Rounding keeps float noise of the batch out of the record.
            rounded = probs.round(6) / probs.round(6).sum()
            yield tuple(rounded.tolist()), round((one.mass + other.mass) / 2, 6)

    def _code(self, closed: Question, probs: tuple[float, ...], mass: float) -> Code:
        top = int(np.argmax(probs))
        names = [*(category.name for category in self.categories), NONE]
        several = self.options.several
        return Code(
            category=closed.key if several else names[top],
            holds=top == 0 if several else True,
            # Of two that are as probable, neither was decided on.
            sure=probs.count(probs[top]) == 1 and probs[top] >= self.options.least and mass >= self.options.least_mass,
            probability=probs[top],
            mass=mass,
            probs=probs,
        )

    def _proven(self, asked: Sequence[tuple[str, Question]], codes: Sequence[Code]) -> list[Code]:
        """Ask for the words behind what was decided; there are none behind no and NONE."""
        due = [at for at, code in enumerate(codes) if code.sure and code.holds and code.category != NONE]
        prompts = [self._asking(*asked[at], codes[at]) for at in due]
        seeds = [derive_seed(self.seed, self.question.key, asked[at][0], codes[at].category, "evidence") for at in due]
        said = self.model.complete(prompts, self.options.sampling, seeds=seeds) if due else []
        found = list(codes)
        for at, text in zip(due, said, strict=True):
            # A model that says nothing gives no proof either, and is counted with them.
            given = text.strip() or "(nothing)"
            found[at] = replace(codes[at], said=given, evidence=passage(text, asked[at][0]))
        return found

    def _asking(self, reply: str, closed: Question, code: Code) -> Prompt:
        place = int(np.argmax(code.probs))
        first = self._prompt(reply, closed, tuple(range(len(closed.options))))
        answer = f"({LETTERS[place]}) {closed.options[place]}"
        return replace(first, turns=((first.question, answer),), question=WORDINGS["evidence"], start="")


def passage(said: str, reply: str) -> str:
    """Return the longest passage of a reply that a model quotes, as it stands in the reply; empty if there is none.

    What is in quotation marks counts, else each line and each sentence of what was said; case, white space and
    punctuation between words do not matter.

    Example:
        >>> passage('They say "the  BUS, never comes".', "Well, the bus never comes on time.")
        'the bus never comes'
        >>> passage("They do not like the bus.", "The bus never comes.")
        ''
    """
    said = said.translate(_STRAIGHT)
    parts = _QUOTED.findall(said) or [said, *_PARTS.split(said)]
    words = [_WORD.findall(part) for part in parts]
    spelled = [r"(?<!\w)" + r"\W+".join(map(re.escape, each)) + r"(?!\w)" for each in words if each]
    # An apostrophe may be straight in one and bent in the other: both are searched as straight, at the same places.
    found = (re.search(pattern, reply.translate(_STRAIGHT), re.IGNORECASE) for pattern in spelled)
    return max((reply[match.start() : match.end()] for match in found if match), key=len, default="")


_STRAIGHT = str.maketrans("\u2018\u2019\u201c\u201d", "''\"\"")
_QUOTED = re.compile(r'"([^"]+)"')
_PARTS = re.compile(r"\n|(?<=[.!?])\s")
_WORD = re.compile(r"\w+")


# -- what goes in and out --------------------------------------------------------------------------------------------


def _open_question(answers: Answers, key: str) -> Question:
    if key not in answers.survey.keys:
        raise UnknownNameError(f"question of {answers.survey.name}", key, answers.survey.keys)
    question = answers.survey.questions[answers.survey.keys.index(key)]
    if question.kind != TEXT:
        raise OptionError(f"question {key!r} is of the kind {question.kind}: only those of the kind {TEXT} are coded")
    return question


def _checked(categories: Sequence[Category | str], *, several: bool) -> tuple[Category, ...]:
    if isinstance(categories, str):
        raise OptionError(f"categories must be a list, got the text {categories!r}")
    known = tuple(Category(name=one) if isinstance(one, str) else one for one in categories)
    names = [one.name for one in known]
    if not names or len({name.casefold() for name in names}) != len(names) or not all(map(str.strip, names)):
        raise OptionError(f"categories must be one or more with distinct names, got {names}")
    if NONE.casefold() in map(str.casefold, names):
        raise OptionError(f"the category {NONE!r} is always there: leave it out of {names}")
    if not several and len(names) > (most := len(LETTERS) - 1):
        raise OptionError(f"{len(names)} categories are too many for one question: at most {most}, or several=True")
    return known


def _reply(answers: Answers, row: int, column: int) -> str:
    if answers.values is None or answers.statuses[row, column] != ANSWERED:
        return ""
    return str(answers.values[row, column] or "").strip()


def _provenance(
    question: Question,
    categories: Sequence[Category],
    model: LanguageModel,
    options: CodeOptions,
    seed: int,
    replies: Sequence[str],
) -> dict[str, Any]:
    told = {name: value for name, value in asdict(options).items() if name != "batch_size"}
    inputs = {
        "task": "code",
        "question": {"key": question.key, "text": question.text},
        "categories": [asdict(category) for category in categories],
        "replies": {"n": len(replies), "digest": digest(list(replies))},
        "model": model.card.to_dict(),
        "prompts": digest([WORDINGS, "layout 1"]),
        "options": told,
        "seed": seed,
    }
    return provenance(inputs, {"batch_size": options.batch_size})


def _read(store: RunFolder) -> dict[str, tuple[Code, ...]]:
    found: dict[str, tuple[Code, ...]] = {}
    for file, rows in store.read(PARTS):
        try:
            part = {row["reply"]: tuple(map(_as_code, json.loads(row["codes"]))) for row in rows}
        except (TypeError, KeyError, ValueError) as error:
            raise RunError(f"{file} is broken ({error}): {ANEW}") from error
        found |= part
    return found


def _as_code(value: Mapping[str, Any]) -> Code:
    return Code(**{**value, "probs": tuple(value["probs"])})


def _schema() -> Any:  # noqa: ANN401 - pyarrow has no types
    import pyarrow as pa

    return pa.schema([("reply", pa.string()), ("codes", pa.string())])


def _labels(codes: Sequence[Code], *, several: bool) -> tuple[str, ...] | None:
    sure = [code for code in codes if code.sure]
    held = tuple(code.category for code in sure if code.holds)
    if not several or held:
        return held or None
    return (NONE,) if codes and len(sure) == len(codes) else None


def _by_hand(coded: CodedAnswers, respondent: str, given: str | Collection[str]) -> set[str]:
    names = {given} if isinstance(given, str) else set(given)
    for name in names:
        if name not in coded.names:
            raise UnknownNameError("category", name, coded.names)
    if not coded.options.several and len(names) != 1:
        raise OptionError(f"respondent {respondent!r} has {len(names)} codes by hand: give one, {NONE!r} if none fits")
    return names or {NONE}


def _judged(held: Sequence[bool | None], name: str, truth: Mapping[int, set[str]]) -> list[tuple[bool, bool]]:
    """Whether each reply belongs to a category by the model and by hand, where the model decided."""
    both = ((held[row], name in names) for row, names in truth.items())
    return [(ours, theirs) for ours, theirs in both if ours is not None]


def _one(judged: Mapping[str, Sequence[tuple[bool, bool]]], at: int, side: int) -> str:
    return next(name for name, pairs in judged.items() if pairs[at][side])
