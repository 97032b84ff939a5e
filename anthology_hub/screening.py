"""Screening of generated texts: named checks, near duplicates, and a critic that is itself a language model.

A check is a pure function of a text and of what it answers; it returns the reason to reject, or None. Checks are named
with their options as `words:least=250`, or come in presets. What a check rejects is counted under its name by whoever
screens, see `generation`.
"""

from __future__ import annotations

import inspect
import math
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from anthology_hub import pools
from anthology_hub.conditioning import transcript
from anthology_hub.errors import MissingExtraError, OptionError, UnknownNameError
from anthology_hub.models import LanguageModel, Sampling
from anthology_hub.prompts import Prompt
from anthology_hub.schema import DATA, digest, read_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from anthology_hub.collection import Anthology
    from anthology_hub.encoding import Encoder

NEAR = "near"
"""Name of the check for near duplicates, which compares texts with each other."""
LEAST_MASS = 0.1
"""Probability of Yes and No together below which the critic was saying something else: then it rejects nothing."""
_FIRST = re.compile(r"\b(?:I|me|my|mine|myself)\b", re.IGNORECASE)
_SPEAKER = re.compile(
    r"\b(?:Question|Answer|Interviewer|Interviewee|QUESTION|ANSWER|INTERVIEWER|INTERVIEWEE)[ \t]*\d*:"
    r"|^[ \t*]*[QA][ \t]*\d*:",
    re.MULTILINE,
)
_SLOT = re.compile(
    r"\[[^\]\n]{1,40}\]|\{[^}\n]{1,40}\}|<[A-Za-z/][^>\n]{0,40}>|_{3,}|\(see above\)|\(paraphrased\)"
    r"|\b(?:lorem ipsum|TODO|TBD|as an AI|AI (?:language )?model|language model|word count"
    r"|this (?:persona|backstory|fictional character)|I(?: a|['’])m (?:just |only )?an AI (?:assistant|chatbot|program)"
    r"|here(?: i|['’])s (?:an?|the|your) (?:[\w-]+ ){0,3}(?:backstory|persona))\b",
    re.IGNORECASE,
)
_ENDING = re.compile(r"[.!?…。！？][\"'”’»)\]*]*\s*\Z")
_WORD = re.compile(r"\w+")
_SHARES = {("first_person", "share"), ("repetition", "repeated"), ("repetition", "packed"), ("language", "sure")}
"""Check and option that must be between 0 and 1; those of `near` have ranges of their own."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a text answers."""

    question: str = ""
    turns: tuple[tuple[str, str], ...] = ()
    """Earlier (question, answer) pairs of an interview."""


@dataclass(frozen=True, kw_only=True)
class Rejection:
    """Why a text is rejected."""

    check: str
    """Under which name it is counted."""
    reason: str


# -- checks ----------------------------------------------------------------------------------------------------------


def words(text: str, context: Context, *, least: float = 250, most: float = 100_000) -> str | None:
    """Reject texts with fewer or more words (the released code of Anthology keeps 250 or more)."""
    n = len(text.split())
    return None if least <= n <= most else f"{n} words, allowed are {least:g} to {most:g}"


def interview(text: str, context: Context, *, most: float = 1) -> str | None:
    """Reject texts that say `interview` more often than this (the released code of Anthology: once at most)."""
    n = text.casefold().count("interview")
    return None if n <= most else f"says 'interview' {n} times, allowed are {most:g}"


def first_person(text: str, context: Context, *, share: float = 0.02) -> str | None:
    """Reject texts in which fewer words than this share (0 to 1) are I, me, my, mine or myself."""
    n, said = len(text.split()), len(_FIRST.findall(text))
    return None if said >= share * n else f"{said} of {n} words are in the first person, wanted are {share:.1%}"


def markers(text: str, context: Context) -> str | None:
    """Reject texts with marks of other speakers: `Question:`, `Interviewer:` and their like."""
    found = _SPEAKER.search(text)
    return f"another speaker is marked by {found.group().strip()!r}" if found else None


def placeholders(text: str, context: Context) -> str | None:
    """Reject slots that nobody filled, as `[city]`, and comments on the text itself, as `as an AI`."""
    found = _SLOT.search(text)
    return f"a slot or comment is left in it: {found.group()!r}" if found else None


def ending(text: str, context: Context) -> str | None:
    """Reject texts that do not end as a sentence does."""
    return None if _ENDING.search(text) else f"ends in mid-sentence: ...{text[-30:]!r}"


def repetition(
    text: str, context: Context, *, repeated: float = 0.1, packed: float = 0.35, least: float = 50
) -> str | None:
    """Reject loops.

    Args:
        text: The text.
        context: What it answers.
        repeated: Share (0 to 1) of its five-word sequences that may have stood in it before.
        packed: Size to which zlib must not pack it, as a part of its own (0 to 1); plain prose has 0.45 to 0.65.
        least: Texts of fewer words are not judged.
    """
    said = _WORD.findall(text.casefold())
    if len(said) < max(least, 5):
        return None
    runs = [tuple(said[at : at + 5]) for at in range(len(said) - 4)]
    again, size = 1 - len(set(runs)) / len(runs), len(zlib.compress(text.encode())) / len(text.encode())
    if again > repeated:
        return f"{again:.0%} of its five-word sequences are repeated, allowed are {repeated:.0%}"
    return None if size >= packed else f"can be packed to {size:.0%} of its size, prose cannot below {packed:.0%}"


def language(text: str, context: Context, *, wanted: str = "en", sure: float = 0.9, least: float = 20) -> str | None:
    """Reject texts that are in another language, as py3langid (Lui and Baldwin 2012) tells.

    Args:
        text: The text.
        context: What it answers.
        wanted: ISO 639-1 code.
        sure: Probability of another language from which on a text is rejected.
        least: Texts of fewer words are not judged: too little to tell.

    Raises:
        MissingExtraError: Without the extra.
    """
    if len(text.split()) < least:
        return None
    found, prob = _identifier().classify(text)
    return None if found == wanted or prob < sure else f"its language is {found!r} ({prob:.0%}), wanted is {wanted!r}"


@lru_cache(maxsize=1)
def _identifier() -> Any:  # noqa: ANN401 - py3langid has no types
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError as error:
        raise MissingExtraError("py3langid", "generate", "checks of the language") from error
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def near(text: str, context: Context, *, share: float = 0.7, alike: float = 0.95) -> str | None:
    """Reject near duplicates of a collection's texts and of earlier ones: by comparing, see `Neighbours`.

    Args:
        text: Not looked at here.
        context: Not looked at here.
        share: Share (0 to 1) of five-word sequences in common from which on a text is a duplicate; 0: not compared.
        alike: Cosine similarity (0 to 1) of its passages to another text's from which on it is one; 0: not compared.
    """
    return None


CHECKS: dict[str, Callable[..., str | None]] = {
    check.__name__: check
    for check in (words, interview, first_person, markers, placeholders, ending, repetition, language, near)
}
"""Checks by name; add your own to use it by name."""
PRESETS: Mapping[str, tuple[str, ...]] = {
    "paper": ("words", "interview"),
    "default": (
        "words:least=100",
        "interview",
        "first_person",
        "markers",
        "placeholders",
        "ending",
        "repetition",
        "language",
        "near",
    ),
    "answers": ("words:least=15", "markers", "placeholders", "ending", "repetition", "language", "near"),
    "none": (),
}
"""`paper`: the automatic filter of Anthology's released code; `answers`: for the single answers of an interview."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """A check with its options."""

    name: str
    options: Mapping[str, float | str] = field(default_factory=dict)

    @classmethod
    def of(cls, spec: str) -> Check:
        """Read `NAME` or `NAME:OPTION=VALUE,OPTION=VALUE`.

        Raises:
            OptionError: If an option is not one of the check's, or its value is none.
            UnknownNameError: If there is no such check.

        Example:
            >>> Check.of("words:least=50").reason("One two three.", Context())
            '3 words, allowed are 50 to 100000'
        """
        name, _, told = spec.partition(":")
        if name not in CHECKS:
            raise UnknownNameError("check", name, (*PRESETS, *CHECKS))
        defaults = _defaults(CHECKS[name])
        pairs = [part.partition("=") for part in told.split(",") if part]
        return cls(name=name, options=defaults | {key: _value(name, key, value, defaults) for key, _, value in pairs})

    def reason(self, text: str, context: Context) -> str | None:
        """Return why a text is rejected, or None."""
        return CHECKS[self.name](text, context, **self.options)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"name": self.name, "options": dict(self.options)}


def _defaults(function: Callable[..., object]) -> dict[str, float | str]:
    parameters = inspect.signature(function).parameters.values()
    return {one.name: one.default for one in parameters if one.kind is inspect.Parameter.KEYWORD_ONLY}


def _value(check: str, key: str, value: str, defaults: Mapping[str, float | str]) -> float | str:
    if key not in defaults:
        raise UnknownNameError(f"option of the check {check!r}", key, defaults)
    if isinstance(defaults[key], str):
        return value
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if math.isnan(number):
        raise OptionError(f"{key} of the check {check!r} must be a number, got {value!r}: write {key}=0.5")
    if (check, key) in _SHARES and not 0 <= number <= 1:
        raise OptionError(f"{key} of the check {check!r} must be between 0 and 1, got {value}: write {key}=0.5")
    return number


def checks_of(specs: Sequence[str]) -> tuple[Check, ...]:
    """Return the checks that specifications name; a preset stands for its checks, a later one replaces its like.

    What a check needs is tried here, so that nothing is missing when texts are there.

    Raises:
        MissingExtraError: If a check needs a package that is not installed.
        OptionError: If an option's value is none, or out of its range.
        UnknownNameError: If there is no such check, option or language.

    Example:
        >>> [check.name for check in checks_of(["paper", "words:least=50"])]
        ['words', 'interview']
    """
    named = [one for spec in specs for one in PRESETS.get(spec, (spec,))]
    found = {check.name: check for check in map(Check.of, named)}
    if "language" in found:
        _check_language(str(found["language"].options["wanted"]))
    return tuple(found.values())


def _check_language(wanted: str) -> None:
    known = sorted(map(str, _identifier().nb_classes))
    if wanted not in known:
        raise UnknownNameError("language", wanted, known)


def screen(text: str, checks: Sequence[Check], context: Context) -> Rejection | None:
    """Return the first rejection of a text, or None.

    Example:
        >>> screen("She lives in [city].", checks_of(["placeholders"]), Context())
        Rejection(check='placeholders', reason="a slot or comment is left in it: '[city]'")
    """
    for check in checks:
        if reason := check.reason(text, context):
            return Rejection(check=check.name, reason=reason)
    return None


# -- near duplicates -------------------------------------------------------------------------------------------------


class Neighbours:
    """Finds texts that are nearly the same as one of a collection or as an earlier one: by words, and by meaning.

    Every text that is looked at counts as earlier for the next, whether or not it was near to another.
    """

    def __init__(self, check: Check, *, collection: Anthology | None = None, encoder: Encoder | None = None) -> None:
        """Read the collection that texts are compared with.

        Args:
            check: `near` with its options.
            collection: Its texts count as earlier.
            encoder: For the meaning; the usual one, if not given.

        Raises:
            MissingExtraError: If words are compared without the extra.
            OptionError: If a threshold is out of its range.
        """
        share, alike = float(check.options["share"]), float(check.options["alike"])
        if not 0 <= alike <= 1:
            raise OptionError(f"alike of the check 'near' must be between 0 and 1, got {alike:g}: 0.95 is usual")
        self._finder = pools.NearFinder(share) if share else None
        self._meanings = _Meanings(encoder) if alike else None
        self._share, self._alike = share, alike
        self.encoder_card = self._meanings.card if self._meanings else None
        """What tells meanings apart, as JSON; None where they are not compared."""
        for text in [persona.backstory for persona in collection] if collection is not None else []:
            if self._finder:
                # Of an interview only the answers: shared questions are no sign, and would thin out shared answers.
                self._finder.seen_before("\n\n".join(answer for _, answer in transcript(text)) or text)
        if self._meanings and collection is not None:
            self._meanings.read(collection)

    def reasons(self, texts: Sequence[str]) -> Iterator[str | None]:
        """Yield for each text why it is a near duplicate, or None."""
        for text in texts:
            same_words = self._finder is not None and self._finder.seen_before(text)
            alike = self._meanings.look(text) if self._meanings else 0.0
            if same_words:
                yield f"shares {self._share:.0%} or more of its five-word sequences with another text"
            elif self._meanings and alike >= self._alike:
                yield f"its passages are alike to another text's ({alike:.2f}), allowed is below {self._alike:g}"
            else:
                yield None


class _Meanings:
    """Passage vectors of texts, and the mean over a text's passages of the best similarity within one other text."""

    def __init__(self, encoder: Encoder | None) -> None:
        from anthology_hub.encoding import Encoder

        self._encoder = encoder or Encoder()
        self.card = self._encoder.card.to_dict()
        self._vectors = np.zeros((1_024, self._encoder.card.dimension), dtype=np.float32)
        self._n = 0
        self._starts: list[int] = []
        """Where the passages of each text begin."""

    def read(self, collection: Anthology) -> None:
        vectors, owners = collection.embed(self._encoder).passage_vectors(self._encoder.card)
        for at in np.split(np.arange(len(owners)), np.flatnonzero(np.diff(owners)) + 1):
            self._add(vectors[at])

    def look(self, text: str) -> float:
        mine = self._encoder.encode([text[start:end] for start, end in self._encoder.passages(text)])
        best = 0.0
        if self._starts and len(mine):
            each = np.maximum.reduceat(self._vectors[: self._n] @ mine.T, self._starts, axis=0)
            best = float(each.mean(axis=1).max())
        self._add(mine)
        return best

    def _add(self, vectors: NDArray[np.float32]) -> None:
        if not len(vectors):
            return
        while self._n + len(vectors) > len(self._vectors):
            self._vectors = np.concatenate([self._vectors, np.zeros_like(self._vectors)])
        self._starts.append(self._n)
        self._vectors[self._n : self._n + len(vectors)] = vectors
        self._n += len(vectors)


# -- the critic ------------------------------------------------------------------------------------------------------

_CRITIC = read_json(DATA / "generation" / "critic.json")
CRITIC_CHECKS: tuple[str, ...] = tuple(_CRITIC["checks"])
"""What a critic can be asked."""
_YES_NO = ("Yes", "No")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a critic says of a text."""

    probs: Mapping[str, float]
    """Check -> probability of Yes among Yes and No, 0 to 1; high: the fault is there."""
    masses: Mapping[str, float]
    """Check -> probability of Yes and No together, 0 to 1."""
    tokens: int
    """Prompt tokens that it took."""
    rejection: Rejection | None


@dataclass(frozen=True, kw_only=True)
class Critic:
    """A language model that is asked yes-or-no questions about each text, at temperature 0 (arXiv:2504.11673).

    Example:
        >>> from anthology_hub import open_model
        >>> critic = Critic(model=open_model("scripted:first"), checks=("code",))
        >>> critic.verdicts([("print(1)", Context(question="Who are you?"))])[0].rejection.check
        'critic:code'
    """

    model: LanguageModel
    checks: tuple[str, ...] = tuple(_CRITIC["default"])
    threshold: float = 0.5
    """Probability of Yes from which on a text is rejected."""

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            OptionError: If the threshold is out of its range, or nothing is asked.
            UnknownNameError: If there is no such question.
        """
        for name in self.checks:
            if name not in CRITIC_CHECKS:
                raise UnknownNameError("question for a critic", name, CRITIC_CHECKS)
        if not 0 < self.threshold <= 1 or not self.checks:
            raise OptionError(
                f"a critic needs a threshold above 0 and at most 1 and something to ask, got {self.threshold} and "
                f"{list(self.checks)}: ask some of {', '.join(CRITIC_CHECKS)}"
            )

    def prompts(self, text: str, context: Context) -> dict[str, Prompt]:
        """Return what is asked about a text, by check; consistency only where something was said before."""
        turns = "\n\n".join(f"Question: {question}\nAnswer: {answer}" for question, answer in context.turns)
        asked = _CRITIC["asked_with_turns" if turns else "asked"]
        wordings = {name: _CRITIC["checks"][name] for name in self.checks if turns or name != "inconsistent"}
        return {
            name: Prompt(
                context="",
                turns=(),
                opening=_CRITIC["opening"],
                question=asked.format(turns=turns, question=context.question, text=text, check=wording),
            )
            for name, wording in wordings.items()
        }

    def verdicts(self, texts: Sequence[tuple[str, Context]]) -> list[Verdict]:
        """Judge texts, in one call of the model."""
        asked = [self.prompts(text, context) for text, context in texts]
        flat = [prompt for prompts in asked for prompt in prompts.values()]
        if not flat:
            return [Verdict(probs={}, masses={}, tokens=0, rejection=None) for _ in texts]
        choices = iter(self.model.choose(flat, [_YES_NO] * len(flat), Sampling(max_tokens=1)))
        tokens = iter(self.model.count_tokens([prompt.as_text() for prompt in flat]))
        return [
            self._verdict({name: next(choices) for name in prompts}, sum(next(tokens) for _ in prompts))
            for prompts in asked
        ]

    def _verdict(self, choices: Mapping[str, Any], tokens: int) -> Verdict:
        # Rounding keeps float noise of the batch out of the verdict.
        probs = {name: round(choice.probs[0], 6) for name, choice in choices.items()}
        masses = {name: round(choice.mass, 6) for name, choice in choices.items()}
        faults = [name for name in probs if masses[name] >= LEAST_MASS and probs[name] >= self.threshold]
        worst = max(faults, key=lambda name: probs[name], default="")
        said = f"the critic says yes ({probs[worst]:.2f})" if worst else ""
        rejection = Rejection(check=f"critic:{worst}", reason=said) if worst else None
        return Verdict(probs=probs, masses=masses, tokens=tokens, rejection=rejection)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form: what a verdict depends on."""
        card = self.model.card.to_dict()
        return {
            "model": card,
            "checks": list(self.checks),
            "threshold": self.threshold,
            "wording": digest(_CRITIC)[:16],
        }
