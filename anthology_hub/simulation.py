"""Put a survey to a cast and keep the answers: in series, batched, seeded, resumable.

Every role is asked the questions one after the other, each with its own earlier answers before it (Anthology, Moon et
al. 2024, section 3). Roles go in batches, in lock step: one call of the model asks one question of every role of a
batch. Seeds derive from (run seed, respondent, persona, question, try), so neither batch size nor an interruption
changes an answer. A run folder gets one file per batch and question, whole or not at all; the same call goes on where
it stopped.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anthology_hub.errors import DataError, EmptyError, OptionError, RunError
from anthology_hub.models import LanguageModel, Sampling
from anthology_hub.prompts import (
    CONDITIONINGS,
    DIGEST,
    LETTERS,
    Prompt,
    context_of,
    derive_seed,
    option_order,
    parse_reply,
    question_text,
)
from anthology_hub.runs import ANEW, Progress, RunFolder, as_json, as_parquet, provenance, read_rows, run_again
from anthology_hub.schema import (
    ANSWERED,
    FAILED,
    MISSING,
    SKIPPED,
    UNPARSABLE,
    Answers,
    Matching,
    Question,
    Role,
    Survey,
    needs,
    read_json,
)

MODES = ("letters", "text")
SURVEY_FILE, CAST_FILE, PARTS = "survey.json", "cast.parquet", "answers"
NO_ANSWER = "(no answer)"


@dataclass(frozen=True, kw_only=True)
class SimulateOptions:
    """How to ask."""

    conditioning: str = "anthology"
    """One of `prompts.CONDITIONINGS`."""
    mode: str = "letters"
    """`letters`: draw from the probabilities of the option letters. `text`: sample a reply and parse it (the paper)."""
    shuffle_questions: bool = True
    """Shuffle the questions anew for every role (the paper)."""
    tries: int = 100
    """Most samples per question in text mode until one can be parsed (the paper's 100)."""
    least_mass: float = 0.1
    """Option mass below which a question counts as unparsable in letters mode: the model was saying something else."""
    batch_size: int = 8
    """Roles asked at once; more needs more memory for keys and values."""
    sampling: Sampling = Sampling()

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            OptionError: If a value is not allowed.
        """
        if self.conditioning not in CONDITIONINGS:
            raise OptionError(f"unknown conditioning {self.conditioning!r}: allowed are {', '.join(CONDITIONINGS)}")
        if self.mode not in MODES:
            raise OptionError(f"unknown mode {self.mode!r}: allowed are {', '.join(MODES)}")
        if self.tries < 1 or self.batch_size < 1 or not 0 <= self.least_mass <= 1:
            raise OptionError(
                f"tries and batch_size must be at least 1 and least_mass between 0 and 1, got {self.tries}, "
                f"{self.batch_size}, {self.least_mass}"
            )


@dataclass(frozen=True, kw_only=True)
class _Cell:
    """One answered question of one role."""

    role: int
    question: str
    pick: int
    status: str
    raw: str
    mass: float
    probs: tuple[float, ...]
    """In canonical option order; empty in text mode."""
    answer: str
    """The answer as it stands in the history of the questions after it."""


def simulate(
    cast: Matching,
    survey: Survey,
    model: LanguageModel,
    *,
    seed: int = 0,
    options: SimulateOptions | None = None,
    folder: str | Path | None = None,
    progress: Progress | None = None,
) -> Answers:
    """Ask a cast a survey.

    Args:
        cast: Who answers; see `match` and `unmatched`.
        survey: What is asked.
        model: Who speaks.
        seed: Run seed.
        options: How to ask.
        folder: Run folder: written as answers come in, and continued if it is there already.
        progress: Called at the start, with what the folder holds already, and after each batch of answers.

    Raises:
        EmptyError: If nobody is cast.
        OptionError: If the conditioning needs personas and there are none, or a question has too many options.
        RunError: If the folder belongs to another run, or a file in it is broken.

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
    if not cast.roles:
        raise EmptyError("the cast is empty: match at least one respondent")
    for question in survey.questions:
        if len(question.options) > len(LETTERS):
            raise OptionError(
                f"question {question.key!r} has {len(question.options)} options: at most {len(LETTERS)} can be lettered"
            )
    contexts = [_context(role, options, seed) for role in cast.roles]
    told = _provenance(cast, survey, model, options, seed)
    seats = _seats(cast)
    files = {SURVEY_FILE: as_json(survey.to_dict()), CAST_FILE: as_parquet(seats, _seat_schema())}
    store = RunFolder.open(folder, told, files=files) if folder is not None else None
    told = store.provenance if store else told
    cells = _read_cells(store, survey, len(cast)) if store else {}
    progress = progress or (lambda _done, _total: None)
    total = len(cast) * len(survey.questions)
    progress(len(cells), total)
    for batch in _batches(cast, contexts, options.batch_size):
        runner = _Batch(cast, contexts, survey, model, options, seed, batch)
        for asked in runner.rounds(cells):
            cells |= {(cell.role, cell.question): cell for cell in asked}
            if store:
                asked_for = [(cell.role, cell.question) for cell in asked]
                store.write(PARTS, [asdict(cell) for cell in asked], _cell_schema(), key=asked_for)
            progress(len(cells), total)
    if store:
        store.log("finished", answers=len(cells))
    return _assemble(seats, survey, cells, told)


def load_run(folder: str | Path) -> Answers:
    """Read the answers of a finished run folder.

    Raises:
        RunError: If the folder is no run, is incomplete, or a file in it is broken.
    """
    store = RunFolder(folder)
    survey, seats = _read_survey(store), read_rows(store.folder / CAST_FILE)
    cells = _read_cells(store, survey, len(seats))
    if missing := len(seats) * len(survey.questions) - len(cells):
        raise RunError(f"{folder} is not finished, {missing} answers are missing: run the same simulation on it again")
    return _assemble(seats, survey, cells, store.provenance)


def _context(role: Role, options: SimulateOptions, seed: int) -> str:
    return context_of(role, options.conditioning, seed=derive_seed(seed, role.respondent_id, "bio"))


def _batches(cast: Matching, contexts: Sequence[str], size: int) -> Iterator[list[int]]:
    """Positions of roles, neighbours alike: equal backstories share a batch (and its cache), lengths pad little."""

    def key(at: int) -> tuple[int, str, str]:
        role = cast.roles[at]
        story = role.persona.backstory if role.persona else ""
        return len(story) or len(contexts[at]), story, role.respondent_id

    order = sorted(range(len(cast)), key=key)
    return (order[start : start + size] for start in range(0, len(order), size))


class _Batch:
    """The questions of one batch of roles, round by round."""

    def __init__(
        self,
        cast: Matching,
        contexts: Sequence[str],
        survey: Survey,
        model: LanguageModel,
        options: SimulateOptions,
        seed: int,
        roles: list[int],
    ) -> None:
        self.cast, self.contexts, self.survey, self.model = cast, contexts, survey, model
        self.options, self.seed, self.roles = options, seed, roles
        self.by_key = {question.key: question for question in survey.questions}
        self.needs = {question.key: needs(question, survey.keys) for question in survey.questions}
        self.orders = {at: self._question_order(at) for at in roles}
        self.turns: dict[int, list[tuple[str, str]]] = {at: [] for at in roles}
        self.cells: dict[int, dict[str, _Cell]] = {at: {} for at in roles}

    def rounds(self, known: Mapping[tuple[int, str], _Cell]) -> Iterator[list[_Cell]]:
        """Ask what is not known yet, question by question."""
        for step in range(len(self.survey.questions)):
            todo = [at for at in self.roles if (at, self.orders[at][step]) not in known]
            due = [at for at in todo if self.survey.asks(self.by_key[self.orders[at][step]], self._picked(at))]
            asked = [_skipped(at, self.orders[at][step]) for at in todo if at not in due]
            asked += self._ask(due, step) if due else []
            fresh = {cell.role: cell for cell in asked}
            for at in self.roles:
                question = self.by_key[self.orders[at][step]]
                cell = fresh.get(at) or known[at, question.key]
                if cell.status != SKIPPED:
                    self.turns[at].append((self._text(at, question, step), cell.answer))
                self.cells[at][question.key] = cell
            if asked:
                yield asked

    def _picked(self, at: int) -> dict[str, int]:
        return {key: cell.pick for key, cell in self.cells[at].items()}

    def _earlier(self, at: int, question: Question) -> dict[str, str]:
        """What this role answered to the questions that the text refers to."""
        cells = {key: self.cells[at][key] for key in question.piped if key in self.needs[question.key]}
        options = {key: self.by_key[key].options[cell.pick] for key, cell in cells.items() if cell.pick != MISSING}
        return {key: options.get(key, NO_ANSWER) for key in cells}

    def _ask(self, todo: list[int], step: int) -> list[_Cell]:
        questions = [self.by_key[self.orders[at][step]] for at in todo]
        start = "(" if self.options.mode == "letters" else ""
        prompts = [self._prompt(at, q, step, start) for at, q in zip(todo, questions, strict=True)]
        shown = [self._shown(at, q) for at, q in zip(todo, questions, strict=True)]
        if self.options.mode == "letters":
            return self._by_letters(todo, questions, prompts, shown)
        return self._by_text(todo, questions, prompts, shown)

    def _by_letters(
        self, todo: list[int], questions: list[Question], prompts: list[Prompt], shown: list[tuple[int, ...]]
    ) -> list[_Cell]:
        letters = [LETTERS[: len(order)] for order in shown]
        choices = self.model.choose(prompts, letters, self.options.sampling)
        cells = []
        for at, question, order, choice in zip(todo, questions, shown, choices, strict=True):
            probs = np.empty(len(order))
            probs[list(order)] = choice.probs
            # Rounding keeps float noise of the batch out of the record and of all but one in a million draws.
            probs = probs.round(6) / probs.round(6).sum()
            uniform = np.random.default_rng(self._seed(at, question, 0)).random()
            place = min(int(np.searchsorted(np.cumsum(probs[list(order)]), uniform, side="right")), len(order) - 1)
            sure = choice.mass >= self.options.least_mass
            cells.append(
                _Cell(
                    role=at,
                    question=question.key,
                    pick=order[place] if sure else MISSING,
                    status=ANSWERED if sure else UNPARSABLE,
                    raw=LETTERS[place] if sure else "",
                    mass=round(choice.mass, 6),
                    probs=tuple(probs.tolist()),
                    answer=f"({LETTERS[place]}) {question.options[order[place]]}" if sure else NO_ANSWER,
                )
            )
        return cells

    def _by_text(
        self, todo: list[int], questions: list[Question], prompts: list[Prompt], shown: list[tuple[int, ...]]
    ) -> list[_Cell]:
        cells: dict[int, _Cell] = {}
        waiting = list(range(len(todo)))
        for attempt in range(self.options.tries):
            seeds = [self._seed(todo[i], questions[i], attempt) for i in waiting]
            texts = self.model.complete([prompts[i] for i in waiting], self.options.sampling, seeds=seeds)
            for i, text in zip(waiting, texts, strict=True):
                cells[i] = _text_cell(todo[i], questions[i], shown[i], text)
            if not (waiting := [i for i in waiting if cells[i].status != ANSWERED]):
                break
        return [cells[i] for i in range(len(todo))]

    def _prompt(self, at: int, question: Question, step: int, start: str) -> Prompt:
        text = self._text(at, question, step)
        return Prompt(context=self.contexts[at], turns=tuple(self.turns[at]), question=text, start=start)

    def _text(self, at: int, question: Question, step: int) -> str:
        # The sentence asks for consistency with earlier answers: with no context it has nothing to refer to at first.
        consistency = step > 0 or bool(self.contexts[at])
        preamble = self.survey.preamble if step == 0 else ""
        earlier = self._earlier(at, question)
        shown = self._shown(at, question)
        return question_text(question, shown, consistency=consistency, preamble=preamble, earlier=earlier)

    def _shown(self, at: int, question: Question) -> tuple[int, ...]:
        return option_order(question, self.survey.order_patterns, self._seed(at, question, "order"))

    def _question_order(self, at: int) -> list[str]:
        keys = list(self.survey.keys)
        if self.options.shuffle_questions:
            random.Random(derive_seed(self.seed, self._who(at), "questions")).shuffle(keys)
        order: list[str] = []
        while keys:
            # The first that waits for nothing: a question stays behind those that it depends on.
            order.append(keys.pop(next(at for at, key in enumerate(keys) if self.needs[key] <= set(order))))
        return order

    def _seed(self, at: int, question: Question, attempt: int | str) -> int:
        return derive_seed(self.seed, self._who(at), question.key, attempt)

    def _who(self, at: int) -> str:
        role = self.cast.roles[at]
        return f"{role.respondent_id}/{role.persona.persona_id if role.persona else ''}"


def _skipped(at: int, key: str) -> _Cell:
    return _Cell(role=at, question=key, pick=MISSING, status=SKIPPED, raw="", mass=float("nan"), probs=(), answer="")


def _text_cell(at: int, question: Question, order: tuple[int, ...], text: str) -> _Cell:
    reply = parse_reply(text, [question.options[place] for place in order])
    return _Cell(
        role=at,
        question=question.key,
        pick=order[reply.option] if reply.status == ANSWERED else MISSING,
        status=reply.status if text else FAILED,
        raw=text,
        mass=float("nan"),
        probs=(),
        answer=text or NO_ANSWER,
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


def _assemble(
    seats: Sequence[Mapping[str, Any]],
    survey: Survey,
    cells: Mapping[tuple[int, str], _Cell],
    told: Mapping[str, Any],
) -> Answers:
    shape = (len(seats), len(survey.questions))
    most = max(len(question.options) for question in survey.questions)
    picks = np.full(shape, MISSING, dtype=np.int16)
    probs, mass = np.full((*shape, most), np.nan, dtype=np.float32), np.full(shape, np.nan, dtype=np.float32)
    statuses, raw = np.full(shape, FAILED, dtype="U12"), np.full(shape, "", dtype=object)
    column = {key: at for at, key in enumerate(survey.keys)}
    for (row, key), cell in cells.items():
        at = row, column[key]
        picks[at], mass[at], statuses[at], raw[at] = cell.pick, cell.mass, cell.status, cell.raw
        probs[at][: len(cell.probs)] = cell.probs
    return Answers(
        survey=survey,
        respondent_ids=tuple(seat["respondent_id"] for seat in seats),
        persona_ids=tuple(seat["persona_id"] for seat in seats),
        weights=np.array([seat["weight"] for seat in seats]),
        picks=picks,
        probs=probs,
        mass=mass,
        statuses=statuses,
        raw=raw,
        provenance=told,
    )


def _read_survey(store: RunFolder) -> Survey:
    try:
        return Survey.from_dict(read_json(store.folder / SURVEY_FILE))
    except DataError as error:
        raise RunError(f"{error}: {run_again(store.folder)}") from error


def _read_cells(store: RunFolder, survey: Survey, n: int) -> dict[tuple[int, str], _Cell]:
    cells = {}
    for file, rows in store.read(PARTS):
        try:
            part = [_Cell(**{**row, "probs": tuple(row["probs"])}) for row in rows]
        except (TypeError, KeyError) as error:
            raise RunError(f"{file} is broken ({error}): {ANEW}") from error
        if strange := [c for c in part if c.question not in survey.keys or not 0 <= c.role < n]:
            raise RunError(f"{file} holds an answer to {strange[0].question!r} that this run does not ask")
        cells.update({(cell.role, cell.question): cell for cell in part})
    return cells


def _cell_schema() -> Any:  # noqa: ANN401 - pyarrow has no types
    import pyarrow as pa

    return pa.schema(
        [
            ("role", pa.int32()),
            ("question", pa.string()),
            ("pick", pa.int16()),
            ("status", pa.string()),
            ("raw", pa.string()),
            ("mass", pa.float64()),
            ("probs", pa.list_(pa.float64())),
            ("answer", pa.string()),
        ]
    )


def _seat_schema() -> Any:  # noqa: ANN401
    import pyarrow as pa

    text, number = pa.string(), pa.float64()
    return pa.schema([("respondent_id", text), ("persona_id", text), ("weight", number), ("log_weight", number)])


def _provenance(
    cast: Matching, survey: Survey, model: LanguageModel, options: SimulateOptions, seed: int
) -> dict[str, Any]:
    asked = {name: value for name, value in asdict(options).items() if name != "batch_size"}
    inputs = {
        "collection": cast.collection,
        "humans": cast.humans,
        "cast": {"digest": cast.digest, "method": cast.method, "traits": list(cast.traits), "n": len(cast)},
        "matching": {name: float(f"{value:.6g}") for name, value in cast.diagnostics.items()},
        "survey": {"name": survey.name, "digest": survey.digest, "questions": list(survey.keys)},
        "model": model.card.to_dict(),
        "prompts": DIGEST,
        "options": asked,
        "seed": seed,
    }
    # Neither the batch size nor the place of the collection changes an answer, so they are no inputs.
    execution = {"batch_size": options.batch_size, "collection": cast.origin}
    return provenance(inputs, execution)
