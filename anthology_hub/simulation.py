"""Put a survey to a cast and keep the answers: in series, batched, seeded, resumable.

Every role is asked the questions one after the other, each with its own earlier answers before it (Anthology, Moon et
al. 2024, section 3). A role is a chain of prompts (`models.chains`): a model in this process is asked batches of roles
in lock step, one on a server as many roles at once as it takes, and nobody waits for the slowest. Seeds derive from
(run seed, respondent, persona, question, try), so neither batch size, nor order, nor an interruption changes an answer.
A run folder gets its answers in parts, whole or not at all; the same call goes on where it stopped.
"""

from __future__ import annotations

import json
import random
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from anthology_hub.cells import GAP, Cell, CellParts, assemble, read_cells, value_of
from anthology_hub.cluster import Cluster, spread
from anthology_hub.conditioning import Introduction, Turns, check_conditioning, introduce, needs_levels
from anthology_hub.errors import DataError, EmptyError, ModelError, OptionError, RunError
from anthology_hub.models import Choice, LanguageModel, Sampling
from anthology_hub.models.chains import Ask, Asks, Chain, Conversing, Lost, Reply, lock_step
from anthology_hub.prompts import (
    DIGEST,
    LABELS,
    LETTERS,
    NO_ANSWER,
    WHOLE_DIGEST,
    Prompt,
    answer_text,
    derive_seed,
    labels_of,
    option_order,
    patterns_of,
    question_text,
    turned,
    who,
)
from anthology_hub.replies import read_answer
from anthology_hub.runs import Progress, RunFolder, as_json, as_parquet, provenance
from anthology_hub.schema import (
    ANSWERED,
    CHOICE,
    FAILED,
    MISSING,
    RANKING,
    SKIPPED,
    UNPARSABLE,
    Answers,
    Matching,
    Question,
    Role,
    Survey,
    digest,
    needs,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

MODES = ("letters", "text", "choice")
HISTORIES = ("series", "independent")
OPTION_ORDERS = ("survey", "fixed", "reversed", "shuffled", "both")
SURVEY_FILE, CAST_FILE = "survey.json", "cast.parquet"
MOST_DIGITS = 9
"""Numbers up to this are one character, so that one token says them."""


@dataclass(frozen=True, kw_only=True)
class SimulateOptions:
    """How to ask."""

    conditioning: str = "anthology"
    """One of `prompts.CONDITIONINGS`; see `conditioning.introduce`."""
    mode: str = "letters"
    """`letters`: draw from the probabilities of the option labels. `text`: sample a reply and parse it (the paper).
    `choice`: as letters, but an answer is forced, however little of the model's probability is on the labels.
    Questions that are no choice are always asked for text."""
    shuffle_questions: bool = True
    """Shuffle the questions anew for every role (the paper). In series only: alone, a question has no place."""
    tries: int = 100
    """Most samples per question in text mode until one can be parsed (the paper's 100)."""
    least_mass: float = 0.1
    """Option mass below which a question counts as unparsable in letters mode: the model was saying something else."""
    batch_size: int = 8
    """Roles asked at once of a model in this process; more needs more memory for keys and values. A model on a server
    has as many under way as it takes."""
    sampling: Sampling = Sampling()
    append: str = "bio"
    """How the respondent's own traits follow a backstory; one of `conditioning.APPENDS`."""
    grounding: str = ""
    """A line before the first question that says when it is, as `It is July 2021.`"""
    history: str = "series"
    """`series`: with the role's own earlier answers (the paper). `independent`: every question as if it were the
    first; what was answered before counts in skip logic and piping alone."""
    options_order: str = "survey"
    """`survey`: one of the survey's `order_patterns`, drawn for every role and question. `fixed`, `reversed`,
    `shuffled`: this one. `both`: asked in the original and the reversed order, and the probabilities averaged
    (arXiv 2306.07951: single orders favour the first letter); one of the two, drawn, stands in the history. Options
    off the scale hold their place in all of them."""
    labels: str = "letters"
    """What the options are told apart by; `letters` or `numbers`."""

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            OptionError: If a value is not allowed.
        """
        check_conditioning(self.conditioning, self.append)
        allowed = {"mode": MODES, "history": HISTORIES, "options_order": OPTION_ORDERS, "labels": LABELS}
        for name, values in allowed.items():
            if getattr(self, name) not in values:
                raise OptionError(f"unknown {name} {getattr(self, name)!r}: allowed are {', '.join(values)}")
        if self.tries < 1 or self.batch_size < 1 or not 0 <= self.least_mass <= 1:
            raise OptionError(
                f"tries and batch_size must be at least 1 and least_mass between 0 and 1, got {self.tries}, "
                f"{self.batch_size}, {self.least_mass}"
            )
        if self.options_order == "both" and self.mode == "text":
            raise OptionError(
                "options_order 'both' averages the probabilities of options, and mode 'text' has none: use mode "
                "'letters' or 'choice', or another order"
            )

    @classmethod
    def paper(cls) -> SimulateOptions:
        r"""Return the settings of the paper's own runs (method section and `run_atp_survey.py`), written out.

        In series with history, questions shuffled, options in original or reversed order for each persona and question
        (the usual `order_patterns` of a survey), replies sampled at T = 1, top_p = 1 with 128 tokens up to a line
        break or "Question:", and up to 100 tries for one that can be parsed.

        Example:
            >>> SimulateOptions.paper().mode, SimulateOptions.paper().sampling.stop
            ('text', ('\n', 'Question:'))
        """
        sampling = Sampling(temperature=1.0, top_p=1.0, max_tokens=128, stop=("\n", "Question:"))
        return cls(mode="text", shuffle_questions=True, tries=100, sampling=sampling)


def simulate(
    cast: Matching,
    survey: Survey,
    model: LanguageModel,
    *,
    seed: int = 0,
    options: SimulateOptions | None = None,
    folder: str | Path | None = None,
    progress: Progress | None = None,
    earlier: Sequence[Answers] = (),
    wave: str = "",
    ray: Cluster | str | None = None,
) -> Answers:
    """Ask a cast a survey.

    Args:
        cast: Who answers; see `match` and `unmatched`.
        survey: What is asked.
        model: Who speaks.
        seed: Run seed.
        options: How to ask.
        folder: Run folder, a path or a URI: written as answers come in, and continued if it is there already. What a
            server did not answer in time is a gap: counted as failed, told in the events, and asked again by the next
            call.
        progress: Called at the start, with what the folder holds already, and after each batch of answers.
        earlier: What the cast answered in earlier waves: each role remembers its own (of the same respondent and
            persona), in canonical option order, before the new questions.
        wave: Which time the cast is asked; part of the seeds, so that a wave draws anew.
        ray: Spread the batches over this cluster; in process, if not given. Changes no answer.

    Raises:
        EmptyError: If nobody is cast.
        OptionError: If the conditioning needs personas and there are none, a question has too many options, or the
            wave has the name of an earlier one.
        RunError: If the folder belongs to another run, or a file in it is broken.
        ModelError: If the longest prompt is sure to be longer than what the model reads, or a server answers nothing
            at all, or refuses the key.

    Example:
        >>> from anthology_hub import Respondents, open_model, unmatched
        >>> cast = unmatched(Respondents.load("gss-2018").sample(3))
        >>> survey = Survey.load("gss-national-spending").select(["natenvir", "natsci"])
        >>> options = SimulateOptions(conditioning="bio")
        >>> answers = simulate(cast, survey, open_model("scripted:uniform"), options=options)
        >>> answers.picks.shape, answers.coverage["answered"]
        ((3, 2), 1.0)
    """
    options = options or SimulateOptions()
    plan = _planned(cast, survey, options, seed=seed, earlier=earlier, wave=wave)
    # All of it before the folder is made: a role that cannot be introduced stops the run here.
    plan.introductions  # noqa: B018
    _check_window(plan, model)
    told = provenance(*_provenance(plan, model))
    seats = _seats(cast)
    files = {SURVEY_FILE: as_json(survey.to_dict()), CAST_FILE: as_parquet(seats, _seat_schema())}
    store = RunFolder.open(folder, told, files=files) if folder is not None else None
    told = store.provenance if store else told
    cells = read_cells(store, survey, len(cast)) if store else {}
    progress = progress or (lambda _done, _total: None)
    total = len(cast) * len(survey.questions)
    progress(len(cells), total)
    for part in _parts(plan, _Asker(plan=plan, model=model, store=store), cells, ray):
        cells |= {(cell.role, cell.question): cell for cell in part}
        progress(len(cells), total)
    if store:
        traffic = model.take_traffic() if isinstance(model, Conversing) else {}
        store.log("finished", answers=len(cells), **({"gaps": total - len(cells)} if len(cells) < total else {}))
        if traffic:
            store.log("traffic", **traffic)
    if store and (take_tokens := getattr(model, "take_tokens", None)):
        store.log("tokens", **take_tokens())
    return assemble(seats, survey, cells, told)


def _parts(
    plan: _Plan, asker: _Asker, known: Mapping[tuple[int, str], Cell], ray: Cluster | str | None
) -> Iterator[list[Cell]]:
    """Yield what is answered, part by part, and kept already."""
    if ray is None:
        yield from asker.answered(plan, plan.order, known)
        return
    due = [at for at in plan.order if any((at, key) not in known for key in plan.survey.keys)]
    size = plan.options.batch_size
    batches = (due[start : start + size] for start in range(0, len(due), size))
    alone = replace(asker, plan=replace(plan, cast=replace(plan.cast, roles=()), earlier=()))
    for part in spread([_Job.of(plan, batch, known) for batch in batches], alone, cluster=ray):
        if asker.store:
            asker.store.log("batch", answers=len(part))
        yield part


@dataclass(frozen=True, kw_only=True)
class _Job:
    """A batch on its way to a worker, with all that is its own."""

    places: tuple[int, ...]
    """Of its roles in the cast."""
    roles: tuple[Role, ...]
    introductions: list[Introduction]
    known: Mapping[tuple[int, str], Cell]

    @classmethod
    def of(cls, plan: _Plan, batch: Sequence[int], known: Mapping[tuple[int, str], Cell]) -> _Job:
        keys = [(at, key) for at in batch for key in plan.survey.keys]
        return cls(
            places=tuple(batch),
            roles=tuple(plan.cast.roles[at] for at in batch),
            introductions=[plan.introductions[at] for at in batch],
            known={key: known[key] for key in keys if key in known},
        )


@dataclass(frozen=True, kw_only=True)
class _Asker:
    """Asks batches and keeps the answers, in process or as a worker."""

    plan: _Plan
    model: LanguageModel
    store: RunFolder | None

    def answered(
        self, plan: _Plan, roles: Sequence[int], known: Mapping[tuple[int, str], Cell], places: Sequence[int] = ()
    ) -> Iterator[list[Cell]]:
        """Yield answers on their way to the folder; `places`: where the roles are in the whole cast, if not here."""
        with CellParts(self.store) as parts:
            for part in asked(plan, self.model, roles, known):
                yield parts.add([replace(cell, role=places[cell.role]) for cell in part] if places else part)

    def __call__(self, job: _Job) -> list[Cell]:
        """Ask a batch that came alone."""
        plan = replace(self.plan, cast=replace(self.plan.cast, roles=job.roles))
        # What earlier waves add to them stayed where the batch came from.
        plan.__dict__["introductions"] = job.introductions
        known = {(job.places.index(at), key): cell for (at, key), cell in job.known.items()}
        parts = self.answered(plan, range(len(job.roles)), known, job.places)
        return [cell for part in parts for cell in part]


@dataclass(frozen=True, kw_only=True)
class SimulationPlan:
    """What a simulation will take; nothing is asked for it."""

    roles: int
    answers: int
    """Questions put to roles, all of them: skip logic can only leave some out."""
    prompt_tokens: int
    """Of all prompts, each counted whole: what a server without a prefix cache computes. With one try for each."""
    unique_tokens: int
    """With everything that prompts share counted once, as the in-process engine computes them."""
    longest: int
    """Tokens of the longest prompt."""
    reply_tokens: int
    """At most, with one try for each question; 0 where probabilities are read off the prompt."""

    def to_dict(self) -> dict[str, int]:
        """Return the JSON form."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Return the plan as lines to read."""
        return [
            f"{self.roles:,} roles, {self.answers:,} answers",
            f"{self.prompt_tokens:,} prompt tokens, {self.unique_tokens:,} if what prompts share is computed once; the "
            f"longest prompt has {self.longest:,}",
            f"at most {self.reply_tokens:,} reply tokens, with one try for each question",
        ]


def plan_simulation(
    cast: Matching,
    survey: Survey,
    model: LanguageModel,
    *,
    seed: int = 0,
    options: SimulateOptions | None = None,
    earlier: Sequence[Answers] = (),
    wave: str = "",
) -> SimulationPlan:
    """Count what `simulate` with the same arguments would ask; only the model's tokenizer is used.

    Raises:
        EmptyError: If nobody is cast.
        OptionError: As `simulate`.

    Example:
        >>> from anthology_hub import Respondents, open_model, unmatched
        >>> cast = unmatched(Respondents.load("gss-2018").sample(3))
        >>> options = SimulateOptions(conditioning="bio")
        >>> plan_simulation(cast, Survey.load("bfi"), open_model("scripted:uniform"), options=options).answers
        75
    """
    options = options or SimulateOptions()
    plan = _planned(cast, survey, options, seed=seed, earlier=earlier, wave=wave)
    texts = [
        question_text(q, range(len(q.options)), consistency=True, labels=_labels_for(q, options))
        for q in survey.questions
    ]
    # What opens the first question stands in every prompt.
    opening = f"\n{plan.opening}" if plan.opening else ""
    before = np.array(model.count_tokens([_whole(told) + opening for told in plan.introductions]))
    asked = np.array(model.count_tokens([f"\n\n{text}\nAnswer: {NO_ANSWER}" for text in texts]))
    free = np.array([question.kind != CHOICE or options.mode == "text" for question in survey.questions])
    times = np.where(free | (options.options_order != "both"), 1, 2)
    # A prompt holds what was asked before it; questions come in every order, so the others are in half of the prompts.
    history = (asked.sum() - asked) / 2 if options.history == "series" else np.zeros(len(asked))
    longest = asked.sum() if options.history == "series" else asked.max()
    return SimulationPlan(
        roles=len(cast),
        answers=len(cast) * len(asked),
        prompt_tokens=int(before.sum() * times.sum() + (times * (history + asked)).sum() * len(cast)),
        unique_tokens=int(before.sum() + (times * asked).sum() * len(cast)),
        longest=int(before.max() + longest),
        reply_tokens=int(free.sum()) * options.sampling.max_tokens * len(cast),
    )


def _whole(told: Introduction) -> str:
    return Prompt(context=told.context, turns=told.turns, question="").as_text()


def load_run(folder: str | Path) -> Answers:
    """Read the answers of a finished run folder.

    Raises:
        RunError: If the folder is no run, is incomplete, or a file in it is broken.
    """
    store = RunFolder(folder)
    survey, seats = _read_survey(store), store.rows(CAST_FILE)
    cells = read_cells(store, survey, len(seats))
    if missing := len(seats) * len(survey.questions) - len(cells):
        raise RunError(f"{store} is not finished, {missing} answers are missing: run the same simulation on it again")
    return assemble(seats, survey, cells, store.provenance)


def gaps_of(answers: Answers) -> int:
    """Return how many answers a run still lacks, because a server did not give them in time.

    Example:
        >>> from anthology_hub import Respondents, open_model, unmatched
        >>> cast, survey = unmatched(Respondents.load("gss-2018").sample(3)), Survey.load("bfi")
        >>> gaps_of(simulate(cast, survey, open_model("scripted:uniform"), options=SimulateOptions(conditioning="bio")))
        0
    """
    # What was asked counts its tries; what is in no part has none.
    return 0 if answers.tries is None else int(((answers.statuses == FAILED) & (answers.tries == MISSING)).sum())


def _planned(
    cast: Matching, survey: Survey, options: SimulateOptions, *, seed: int, earlier: Sequence[Answers], wave: str
) -> _Plan:
    if not cast.roles:
        raise EmptyError("the cast is empty: match at least one respondent")
    for question in survey.questions:
        _check_labels(question, survey, options)
    if wave in (known := [answers.wave for answers in earlier]):
        raise OptionError(f"wave {wave!r} was asked before: give another name than {', '.join(map(repr, known))}")
    plan = _Plan(cast=cast, survey=survey, options=options, seed=seed, earlier=tuple(earlier), wave=wave)
    if earlier and not any(plan.rows_of(role) for role in cast.roles):
        raise OptionError(
            f"nobody of this cast, respondent and persona, answered in wave {', '.join(map(repr, known))}: give a run "
            "of the same cast, with the same seed and matching"
        )
    return plan


def _check_window(plan: _Plan, model: LanguageModel) -> None:
    window = getattr(model, "window", None)
    if window is None:
        return
    always = (question for question in plan.survey.questions if question.ask_if is None)
    asked = model.count_tokens([question_text(q, range(len(q.options)), consistency=False) for q in always]) or [0]
    (before,) = model.count_tokens([max(map(_whole, plan.introductions), key=len)])
    need = before + (sum(asked) if plan.options.history == "series" else max(asked))
    if need > window:
        raise ModelError(
            f"the longest prompt has at least {need:,} tokens and {model.card.model} reads {window:,} at most: shorten "
            "the backstories, select fewer questions, ask with history 'independent', or use a model that reads more"
        )


def _check_labels(question: Question, survey: Survey, options: SimulateOptions) -> None:
    read, labels = question.kind != CHOICE or options.mode == "text", _labels_for(question, options)
    most = MOST_DIGITS if labels == "numbers" and not read else len(LETTERS)
    if (n := len(question.options)) > most:
        how = "lettered" if labels == "letters" else "numbered with one digit" if most < 10 else "numbered"
        raise OptionError(f"question {question.key!r} has {n} options: at most {most} can be {how}")
    kept = patterns_of(options.options_order, survey) == ("original",)
    for text, label in zip(question.options, labels_of(n, labels), strict=True):
        if read and text in labels_of(n, labels) and not (kept and text == label):
            # A ranking is always told by letters.
            other = "letters" if labels == "numbers" else "numbers"
            mend = "" if question.kind == RANKING else f", or use labels {other!r}"
            raise OptionError(
                f"question {question.key!r} has the option {text!r}, which is a label as well, so that a reply could "
                f"mean two options: word it otherwise{mend}"
            )


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What is asked of whom and how: all that an answer depends on but the model."""

    cast: Matching
    survey: Survey
    options: SimulateOptions
    seed: int
    earlier: tuple[Answers, ...] = ()
    wave: str = ""

    @cached_property
    def introductions(self) -> list[Introduction]:
        """What comes before the first question, for each role."""
        return [replace(told, turns=(*told.turns, *self._memory(role))) for role, told in self._told()]

    def _told(self) -> Iterator[tuple[Role, Introduction]]:
        how, append, codebook = self.options.conditioning, self.options.append, self.cast.codebook
        for role in self.cast.roles:
            seed = derive_seed(self.seed, role.respondent_id, "bio")
            yield role, introduce(role, how, append=append, codebook=codebook, seed=seed)

    def _memory(self, role: Role) -> Turns:
        return tuple(turn for answers, row in self.rows_of(role) for turn in _remembered(answers, row))

    def rows_of(self, role: Role) -> list[tuple[Answers, int]]:
        """Return the earlier waves in which a role answered, each with its row."""
        seat = (role.respondent_id, role.persona.persona_id if role.persona else "")
        found = zip(self.earlier, self._rows, strict=True)
        return [(answers, rows[seat]) for answers, rows in found if seat in rows]

    @property
    def opening(self) -> str:
        """What is said once, before the first question."""
        return "\n".join(filter(None, (self.options.grounding, self.survey.preamble)))

    @cached_property
    def _rows(self) -> list[dict[tuple[str, str], int]]:
        seats = (zip(answers.respondent_ids, answers.persona_ids, strict=True) for answers in self.earlier)
        return [{seat: row for row, seat in enumerate(each)} for each in seats]

    @cached_property
    def by_key(self) -> dict[str, Question]:
        """The questions by key."""
        return {question.key: question for question in self.survey.questions}

    @cached_property
    def needs(self) -> dict[str, set[str]]:
        """Of each question the keys of those that it depends on."""
        return {question.key: needs(question, self.survey.keys) for question in self.survey.questions}

    @property
    def order(self) -> list[int]:
        """Positions of roles, neighbours alike: equal backstories share a batch (and its cache), lengths pad little."""

        def key(at: int) -> tuple[int, str, str]:
            role = self.cast.roles[at]
            story = role.persona.backstory if role.persona else ""
            return len(story) or len(self.introductions[at].context), story, role.respondent_id

        return sorted(range(len(self.cast)), key=key)

    def seed_of(self, at: int, *what: int | str) -> int:
        """Return the seed of a draw for a role."""
        role = self.cast.roles[at]
        persona = role.persona.persona_id if role.persona else ""
        return derive_seed(self.seed, who(role.respondent_id, persona, self.wave), *what)

    def order_of(self, at: int) -> list[str]:
        """Return the keys of the questions in the order in which a role is asked."""
        keys = list(self.survey.keys)
        if self.options.shuffle_questions and self.options.history == "series":
            random.Random(self.seed_of(at, "questions")).shuffle(keys)
        order: list[str] = []
        while keys:
            # The first that waits for nothing: a question stays behind those that it depends on.
            order.append(keys.pop(next(i for i, key in enumerate(keys) if self.needs[key] <= set(order))))
        return order

    def shown(self, at: int, question: Question) -> tuple[int, ...]:
        """Return the options of a question in the order in which they stand in a role's history."""
        patterns = patterns_of(self.options.options_order, self.survey)
        return option_order(question, patterns, self.seed_of(at, question.key, "order"))


def _remembered(answers: Answers, row: int) -> Iterator[tuple[str, str]]:
    """Yield what a role was asked in an earlier wave and what it answered, in canonical option order."""
    grounding = answers.provenance.get("inputs", {}).get("options", {}).get("grounding", "")
    preamble, told = "\n".join(filter(None, (grounding, answers.survey.preamble))), dict[str, str]()
    for column, question in enumerate(answers.survey.questions):
        if answers.statuses[row, column] == SKIPPED:
            continue
        answer = _answer_at(answers, row, column)
        text = question_text(
            question, tuple(range(len(question.options))), consistency=False, preamble=preamble, earlier=told
        )
        yield text, NO_ANSWER if answer is None else answer_text(question, answer, labels="letters")
        told[question.key] = NO_ANSWER if answer is None else answer_text(question, answer)
        preamble = ""


def _answer_at(answers: Answers, row: int, column: int) -> object:
    if answers.statuses[row, column] != ANSWERED:
        return None
    if answers.survey.questions[column].kind == CHOICE:
        return int(answers.picks[row, column])
    return None if answers.values is None else answers.values[row, column]


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """One question as it is put to one role."""

    at: int
    question: Question
    shown: tuple[int, ...]
    prompt: Prompt


def asked(
    plan: _Plan, model: LanguageModel, roles: Sequence[int], known: Mapping[tuple[int, str], Cell]
) -> Iterator[list[Cell]]:
    """Ask roles what is not known yet, and yield finished cells as they come.

    Args:
        plan: What is asked of whom.
        model: Who speaks. One that is `Conversing` has all the roles under way as it likes, others get batches.
        roles: Positions of roles in the cast.
        known: (role, question) -> cell.

    Yields:
        Cells, in no order, GAP ones (see `cells.GAP`) among them; empty lists while none come.
    """
    keys = plan.survey.keys
    due = [at for at in roles if not all((at, key) in known for key in keys)]
    if isinstance(model, Conversing):
        yield from model.converse((_Seat(plan, at).chain(known) for at in due), plan.options.sampling)
        return
    size = plan.options.batch_size
    for batch in (due[start : start + size] for start in range(0, len(due), size)):
        yield from lock_step(model, [_Seat(plan, at).chain(known) for at in batch], plan.options.sampling)


class _Seat:
    """One role as it is asked its questions: a chain of prompts, each with the answers before it."""

    def __init__(self, plan: _Plan, at: int) -> None:
        self.plan, self.options, self.at = plan, plan.options, at
        self.told = plan.introductions[at]
        self.turns: list[tuple[str, str]] = []
        self.cells: dict[str, Cell] = {}

    def chain(self, known: Mapping[tuple[int, str], Cell]) -> Chain[Cell]:
        """Ask what is not known yet, question by question."""
        series = self.options.history == "series"
        for step, key in enumerate(self.plan.order_of(self.at)):
            question, cell = self.plan.by_key[key], known.get((self.at, key))
            shown = self.plan.shown(self.at, question)
            text = self._text(question, step, shown)
            if cell is None:
                cell = yield from self._answer(question, step, shown, text)
                yield cell
            self.cells[key] = cell
            if cell.status == GAP and series:
                # What comes after would have another history than in a run without the gap.
                return
            if cell.status != SKIPPED and series:
                self.turns.append((text, cell.answer))

    def _answer(
        self, question: Question, step: int, shown: tuple[int, ...], text: str
    ) -> Generator[Asks, tuple[Reply, ...], Cell]:
        if any(key in self.cells and self.cells[key].status == GAP for key in self.plan.needs[question.key]):
            return Cell.lost(self.at, question.key, "it depends on a question without a reply", final=False)
        if not self.plan.survey.asks(question, {key: cell.pick for key, cell in self.cells.items()}):
            return Cell.skipped(self.at, question.key)
        one = _Asked(at=self.at, question=question, shown=shown, prompt=self._prompt(question, text))
        return (yield from (self._by_probs(one, step) if one.prompt.start else self._by_text(one)))

    def _prompt(self, question: Question, text: str) -> Prompt:
        return Prompt(
            context=self.told.context,
            turns=(*self.told.turns, *self.turns),
            question=text,
            start="(" if question.kind == CHOICE and self.options.mode != "text" else "",
            opening=self.told.opening,
        )

    def _text(self, question: Question, step: int, shown: tuple[int, ...]) -> str:
        first = step == 0 or self.options.history == "independent"
        return question_text(
            question,
            shown,
            # The sentence asks for consistency with earlier answers: it needs something to refer to.
            consistency=not first or bool(self.told.context or self.told.turns),
            preamble=self.plan.opening if first else "",
            earlier=self._earlier(question),
            labels=_labels_for(question, self.options),
        )

    def _earlier(self, question: Question) -> dict[str, str]:
        """What this role answered to the questions that the text refers to."""
        keys = (key for key in question.piped if key in self.plan.needs[question.key])
        return {key: _told_of(self.plan.by_key[key], self.cells[key]) for key in keys}

    def _by_probs(self, one: _Asked, step: int) -> Generator[Asks, tuple[Reply, ...], Cell]:
        both = self.options.options_order == "both"
        # The two orders of a question are neighbours: all that stands before the options is computed once.
        ways = [one.shown, turned(one.question, one.shown)] if both else [one.shown]
        texts = [self._text(one.question, step, way) for way in ways[1:]]
        prompts = [one.prompt, *(replace(one.prompt, question=text) for text in texts)]
        labels = labels_of(len(one.shown), self.options.labels)
        replies = yield tuple(Ask(prompt=prompt, options=labels) for prompt in prompts)
        if lost := next((reply for reply in replies if isinstance(reply, Lost)), None):
            return Cell.lost(self.at, one.question.key, lost.reason, final=lost.final)
        found = [_canonical(choice, way) for choice, way in zip(replies, ways, strict=True)]
        if not both:
            return self._drawn(one, *found[0])
        (p, m), (q, k) = found
        return self._drawn(one, (p + q) / 2, (m + k) / 2, abs(p - q).sum() / 2)

    def _drawn(self, one: _Asked, probs: NDArray[np.float64], mass: float, gap: float = float("nan")) -> Cell:
        # Rounding keeps float noise of the batch out of the record and of all but one in a million draws.
        rounded = probs.round(6)
        probs = rounded / rounded.sum()
        uniform = np.random.default_rng(self.plan.seed_of(one.at, one.question.key, 0)).random()
        place = int(np.searchsorted(np.cumsum(probs[list(one.shown)]), uniform, side="right"))
        place = min(place, len(one.shown) - 1)
        sure = self.options.mode == "choice" or mass >= self.options.least_mass
        label, pick = labels_of(len(one.shown), self.options.labels)[place], one.shown[place]
        return Cell(
            role=one.at,
            question=one.question.key,
            pick=pick if sure else MISSING,
            status=ANSWERED if sure else UNPARSABLE,
            raw=label if sure else "",
            mass=round(mass, 6),
            probs=tuple(probs.tolist()),
            answer=f"({label}) {one.question.options[pick]}" if sure else NO_ANSWER,
            tries=1,
            gap=round(gap, 6),
        )

    def _by_text(self, one: _Asked) -> Generator[Asks, tuple[Reply, ...], Cell]:
        for attempt in range(self.options.tries):
            seed = self.plan.seed_of(self.at, one.question.key, attempt)
            (said,) = yield (Ask(prompt=one.prompt, seed=seed),)
            if isinstance(said, Lost):
                return Cell.lost(self.at, one.question.key, said.reason, final=said.final)
            # A server may send half of a character, which no file can hold.
            cell = _text_cell(one, str(said).encode("utf-8", "replace").decode(), attempt + 1, self.options)
            if cell.status == ANSWERED:
                break
        return cell


def _canonical(choice: Reply, shown: tuple[int, ...]) -> tuple[NDArray[np.float64], float]:
    """Return the probabilities in canonical order, and the option mass."""
    assert isinstance(choice, Choice)
    probs = np.empty(len(shown))
    probs[list(shown)] = choice.probs
    return probs, choice.mass


def _labels_for(question: Question, options: SimulateOptions) -> str:
    # In a ranking, 1. 2. 3. are ranks.
    return "letters" if question.kind == RANKING else options.labels


def _told_of(question: Question, cell: Cell) -> str:
    if cell.status != ANSWERED:
        return NO_ANSWER
    return answer_text(question, cell.pick if question.kind == CHOICE else value_of(question, cell))


def _text_cell(one: _Asked, text: str, tries: int, options: SimulateOptions) -> Cell:
    reply = read_answer(one.question, one.shown, text, labels=_labels_for(one.question, options))
    return Cell(
        role=one.at,
        question=one.question.key,
        pick=reply.option,
        status=reply.status if text else FAILED,
        raw=text,
        mass=float("nan"),
        probs=(),
        answer=text or NO_ANSWER,
        tries=tries,
        value="" if reply.value is None else json.dumps(reply.value, ensure_ascii=False),
    )


def _seats(cast: Matching) -> list[dict[str, Any]]:
    """What the answers keep of each role: no traits, which are the respondent's own."""
    return [
        {
            "respondent_id": role.respondent_id,
            "persona_id": role.persona.persona_id if role.persona else "",
            "weight": role.weight,
            "log_weight": role.log_weight,
        }
        for role in cast.roles
    ]


def _read_survey(store: RunFolder) -> Survey:
    try:
        return Survey.from_dict(store.json(SURVEY_FILE))
    except DataError as error:
        raise RunError(f"{store}/{SURVEY_FILE}: {error}; run the same again to mend it") from error


def _seat_schema() -> Any:  # noqa: ANN401 - pyarrow has no types
    import pyarrow as pa

    text, number = pa.string(), pa.float64()
    return pa.schema([("respondent_id", text), ("persona_id", text), ("weight", number), ("log_weight", number)])


_LATER = ("append", "grounding", "history", "options_order", "labels")
"""Options that came later: left out where they are as usual, so that the ids of older runs stand."""


def _provenance(plan: _Plan, model: LanguageModel) -> tuple[dict[str, Any], dict[str, Any]]:
    cast, survey, options = plan.cast, plan.survey, plan.options
    usual = {field.name: field.default for field in fields(options) if field.name in _LATER}
    asked = {name: value for name, value in asdict(options).items() if name != "batch_size"}
    asked = {name: value for name, value in asked.items() if name not in usual or value != usual[name]}
    inputs = {
        "collection": cast.collection,
        "humans": cast.humans,
        "cast": {"digest": cast.digest, "method": cast.method, "traits": list(cast.traits), "n": len(cast)},
        "matching": {name: float(f"{value:.6g}") for name, value in cast.diagnostics.items()},
        "survey": {"name": survey.name, "digest": survey.digest, "questions": list(survey.keys)},
        "model": model.card.to_dict(),
        "prompts": DIGEST,
        "options": asked,
        "seed": plan.seed,
    }
    inputs |= {"wave": plan.wave} if plan.wave else {}
    inputs |= {"earlier": [_run_of(answers) for answers in plan.earlier]} if plan.earlier else {}
    if needs_levels(options.conditioning, options.append) and cast.codebook is not None:
        levels = [sorted(role.levels.items()) for role in cast.roles]
        inputs["traits"] = digest([cast.codebook.to_dict(), levels])
    closed = all(question.kind == CHOICE for question in survey.questions)
    told = options.conditioning in ("nothing", "bio", "anthology") and options.mode != "choice"
    if not (closed and told and set(asked).isdisjoint(_LATER) and not plan.wave and not plan.earlier):
        inputs["prompts"] = WHOLE_DIGEST
    # Neither the batch size nor the place of the collection changes an answer, so they are no inputs.
    return inputs, {"batch_size": options.batch_size, "collection": cast.origin}


def _run_of(answers: Answers) -> dict[str, Any]:
    return {"run_id": answers.provenance.get("run_id", ""), "wave": answers.wave}
