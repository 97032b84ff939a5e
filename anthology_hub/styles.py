"""Styles of backstories: what is asked of a model, step by step. Pure.

Natural: the preamble question and the story (Anthology, Moon et al. 2024, appendix A); primed: the story alone, after
the traits; interview: one answer after the other, each after the turns before it (arXiv:2504.11673). The wordings stand
in `data/generation`, with their sources.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from anthology_hub.conditioning import introduce
from anthology_hub.errors import DataError, OptionError
from anthology_hub.models import Sampling
from anthology_hub.prompts import Prompt, derive_seed
from anthology_hub.schema import Codebook, Role, digest, read_shipped

Turns = tuple[tuple[str, str], ...]
STYLES = ("natural", "primed", "interview")
PRIMERS = ("bio", "qa", "portray")
"""How traits are told before a primed story."""


@dataclass(frozen=True, kw_only=True)
class GenerateOptions:
    """How to generate."""

    style: str = "natural"
    """One of `STYLES`."""
    primer: str = "bio"
    """One of `PRIMERS`; of primed stories."""
    questions: tuple[str, ...] = ()
    """Of an interview; the ten of arXiv:2504.11673, if none."""
    preamble: bool = True
    """Whether a natural story comes after the question for citizenship (the paper)."""
    sampling: Sampling | None = None
    """The style's own, as in the papers, if not given; the preamble always has its own."""
    checks: tuple[str, ...] = ("default",)
    """See `screening.checks_of`. An interview's are put to each answer: `answers` takes the place of `default`."""
    tries: int = 50
    """Most drafts of a step until one passes, and most lives of a story; then the story is given up."""
    batch_size: int = 8
    """Stories written at once."""

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            OptionError: If a value is not allowed.
        """
        if self.style not in STYLES or self.primer not in PRIMERS:
            raise OptionError(
                f"unknown style {self.style!r} or primer {self.primer!r}: allowed are {', '.join(STYLES)}, and "
                f"{', '.join(PRIMERS)}"
            )
        if self.tries < 1 or self.batch_size < 1:
            raise OptionError(f"tries and batch_size must be at least 1, got {self.tries} and {self.batch_size}")
        if self.questions and (self.style != "interview" or not all(one.strip() for one in self.questions)):
            raise OptionError(f"questions must be texts and belong to style 'interview', got {self.style!r}")


class Style(Protocol):
    """What the stories of a style consist of.

    Story and step are numbered from 0; turns are plain questions and answers.
    """

    @property
    def steps(self) -> int:
        """How many replies make a story."""
        ...

    def variant(self, story: int) -> str:
        """Which wording a story gets; acceptance is told by it."""
        ...

    def question(self, story: int, step: int) -> str:
        """What is asked at a step, plainly."""
        ...

    def prompt(self, story: int, turns: Turns) -> Prompt:
        """What the model is told after some turns of the story."""
        ...

    def sampling(self, step: int) -> Sampling:
        """How a step is drawn; one way for all that are screened, and one for all others."""
        ...

    def screened(self, step: int) -> bool:
        """Whether a step is part of the backstory, and so is put to the checks; the preamble is not."""
        ...

    def backstory(self, turns: Turns) -> str:
        """The backstory that all turns make."""
        ...

    def facts(self, story: int, turns: Turns) -> dict[str, Any]:
        """What is kept of how the story was asked for."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """All wordings, for a digest."""
        ...


def _asked(question: str) -> str:
    # The line end makes the papers' layout of it: the question, an empty line, `Answer:`.
    return f"Question: {question}\n"


def _sampling(value: Mapping[str, Any]) -> Sampling:
    return Sampling(**{**value, "stop": tuple(value["stop"])})


@dataclass(frozen=True, kw_only=True)
class _Natural:
    seed: int
    given: Sampling | None
    preamble: bool
    wording: Mapping[str, Any] = field(default_factory=lambda: read_shipped("generation", "natural"))

    @property
    def steps(self) -> int:
        return 2 if self.preamble else 1

    def screened(self, step: int) -> bool:
        return step == self.steps - 1

    def variant(self, story: int) -> str:
        names = list(self.wording["variants"])
        return str(names[derive_seed(self.seed, story, "variant") % len(names)])

    def question(self, story: int, step: int) -> str:
        story_asked = self.wording["variants"][self.variant(story)]
        return str(story_asked if self.screened(step) else self.wording["preamble"]["question"])

    def prompt(self, story: int, turns: Turns) -> Prompt:
        earlier = tuple((_asked(question), answer) for question, answer in turns)
        question = _asked(self.question(story, len(turns)))
        return Prompt(context="", turns=earlier, question=question, opening=self.wording["chat"])

    def sampling(self, step: int) -> Sampling:
        if not self.screened(step):
            return _sampling(self.wording["preamble"]["sampling"])
        return self.given or _sampling(self.wording["sampling"])

    def backstory(self, turns: Turns) -> str:
        return turns[-1][1].strip()

    def facts(self, story: int, turns: Turns) -> dict[str, Any]:
        return {"variant": self.variant(story), **({"preamble": turns[0][1]} if self.preamble else {})}

    def to_dict(self) -> dict[str, Any]:
        return {"wording": self.wording, "preamble": self.preamble}


@dataclass(frozen=True, kw_only=True)
class _Primed:
    seed: int
    given: Sampling | None
    primer: str
    quota: Sequence[Mapping[str, str]]
    codebook: Codebook
    steps: int = 1
    wording: Mapping[str, Any] = field(default_factory=lambda: read_shipped("generation", "primed"))

    def screened(self, step: int) -> bool:
        return True

    def variant(self, story: int) -> str:
        return self.primer

    def question(self, story: int, step: int) -> str:
        return str(self.wording["question"])

    def prompt(self, story: int, turns: Turns) -> Prompt:
        levels = dict(self.quota[story])
        sentences = {name: self.codebook.trait(name).sentence(level) for name, level in levels.items()}
        role = Role(respondent_id=str(story), weight=1.0, traits=sentences, levels=levels)
        seed = derive_seed(self.seed, story, "traits")
        who = introduce(role, self.primer, seed=seed, codebook=self.codebook)
        context = self.wording["qa"] if self.primer == "qa" and who.turns else who.context
        asked = _asked(self.question(story, 0))
        return Prompt(context=context, turns=who.turns, question=asked, opening=self.wording["chat"])

    def sampling(self, step: int) -> Sampling:
        return self.given or _sampling(self.wording["sampling"])

    def backstory(self, turns: Turns) -> str:
        return turns[-1][1].strip()

    def facts(self, story: int, turns: Turns) -> dict[str, Any]:
        return {"primer": self.primer, "primed": dict(self.quota[story])}

    def to_dict(self) -> dict[str, Any]:
        prompts = [asdict(self.prompt(story, ())) for story in range(len(self.quota))]
        return {"wording": self.wording, "primer": self.primer, "prompts": digest(prompts)}


@dataclass(frozen=True, kw_only=True)
class _Interview:
    given: Sampling | None
    asked: tuple[str, ...]
    wording: Mapping[str, Any] = field(default_factory=lambda: read_shipped("generation", "interview"))

    @cached_property
    def _questions(self) -> tuple[str, ...]:
        return self.asked or tuple(self.wording["questions"])

    @property
    def steps(self) -> int:
        return len(self._questions)

    def screened(self, step: int) -> bool:
        return True

    def variant(self, story: int) -> str:
        return "interview"

    def question(self, story: int, step: int) -> str:
        return self._questions[step]

    def prompt(self, story: int, turns: Turns) -> Prompt:
        earlier = tuple((_asked(question), answer) for question, answer in turns)
        question = _asked(self.question(story, len(turns)))
        return Prompt(context="", turns=earlier, question=question, opening=self.wording["chat"])

    def sampling(self, step: int) -> Sampling:
        return self.given or _sampling(self.wording["sampling"])

    def backstory(self, turns: Turns) -> str:
        return "\n\n".join(f"Question: {question}\n\nAnswer: {answer.strip()}" for question, answer in turns)

    def facts(self, story: int, turns: Turns) -> dict[str, Any]:
        return {"questions": len(turns)}

    def to_dict(self) -> dict[str, Any]:
        shared = {name: self.wording[name] for name in ("sampling", "chat")}
        return {"wording": shared, "questions": list(self._questions)}


def style_of(
    options: GenerateOptions, n: int, *, quota: Sequence[Mapping[str, str]], codebook: Codebook, seed: int
) -> Style:
    """Return the style of a run.

    Raises:
        OptionError: If there is nothing to write, or quota and style do not fit.
    """
    if n < 1:
        raise OptionError(f"n must be at least 1, got {n}: say how many backstories to generate")
    if (options.style == "primed") != bool(quota) or (quota and len(quota) != n):
        raise OptionError(
            f"{n} stories of style {options.style!r} and a quota of {len(quota)} do not fit: style 'primed' needs the "
            "traits of each story, and no other takes any"
        )
    if options.style == "natural":
        return _Natural(seed=seed, given=options.sampling, preamble=options.preamble)
    if options.style == "interview":
        return _Interview(given=options.sampling, asked=options.questions)
    return _Primed(seed=seed, given=options.sampling, primer=options.primer, quota=quota, codebook=codebook)


def read_questions(path: str | Path) -> tuple[str, ...]:
    """Read the questions of an interview: a JSON list, an object with `questions`, or a text with one in each line.

    Raises:
        DataError: If it cannot be read, or holds no question.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
        found = json.loads(text) if path.suffix.lower() == ".json" else text.splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"the questions of {path} cannot be read: {error}; give one in each line, or JSON") from error
    found = found.get("questions") if isinstance(found, dict) else found
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise DataError(f"{path} must hold a list of questions, got {str(found)[:60]!r}: write one in each line")
    if not (questions := tuple(one.strip() for one in found if one.strip())):
        raise DataError(f"{path} holds no question: write one in each line")
    return questions
