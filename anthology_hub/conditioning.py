"""Who answers: what a model is told of a person before the first question. Pure.

The ways are the paper's (Moon et al., EMNLP 2024, section 3 and appendix A; its released code): nothing, QA, Bio and
Portray tell traits; Anthology tells the backstory of a matched persona and then the respondent's own traits, since a
persona stands in for somebody whose traits are known. Traits that are not known are left out.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from anthology_hub.errors import OptionError
from anthology_hub.prompts import (
    APPEND_QUESTION,
    BIO_HEADER,
    CONDITIONINGS,
    LETTERS,
    WORDINGS,
    bio,
    labels_of,
    question_text,
)
from anthology_hub.schema import PIPED, Codebook, Question, Role, Trait

Turns = tuple[tuple[str, str], ...]
STORIED = ("anthology", "primed", "interview")
"""The conditionings that tell a backstory."""
APPENDS = ("bio", "qa", "free-form", "none")
"""How the respondent's own traits follow a backstory."""


@dataclass(frozen=True, kw_only=True)
class Introduction:
    """What comes before the first question, as the parts of a `Prompt`."""

    context: str = ""
    turns: Turns = ()
    opening: str | None = None
    """See `Prompt.opening`."""


def check_conditioning(conditioning: str, append: str = "bio") -> None:
    """Check names before anything is asked.

    Raises:
        OptionError: If one is unknown, or traits shall follow a backstory that is not told.
    """
    if conditioning not in CONDITIONINGS:
        raise OptionError(f"unknown conditioning {conditioning!r}: allowed are {', '.join(CONDITIONINGS)}")
    if append not in APPENDS:
        raise OptionError(f"unknown append {append!r}: allowed are {', '.join(APPENDS)}")
    if append != "bio" and conditioning not in STORIED:
        raise OptionError(
            f"append={append!r} says how traits follow a backstory, and conditioning {conditioning!r} tells none: "
            f"leave it out, or use {', '.join(STORIED)}"
        )


def needs_levels(conditioning: str, append: str = "bio") -> bool:
    """Say whether traits are told as questions or as a list, which needs their levels and wording.

    Example:
        >>> needs_levels("qa"), needs_levels("bio"), needs_levels("anthology", "free-form")
        (True, False, True)
    """
    return conditioning in ("qa", "portray") or (conditioning in STORIED and append in ("qa", "free-form"))


def introduce(
    role: Role, conditioning: str = "anthology", *, seed: int, append: str = "bio", codebook: Codebook | None = None
) -> Introduction:
    """Write who answers.

    `nothing`; `bio`: the respondent's traits in short sentences; `qa`: as multiple-choice questions with the
    respondent's own answers; `portray`: as a list; `anthology`: the persona's backstory, then the respondent's traits
    (`append`); `primed`: the same of a backstory that was written from these traits; `interview`: a backstory that is
    the transcript of an interview, turn by turn, then the traits. Traits come in an order drawn from the seed.

    Args:
        role: Who.
        conditioning: One of `CONDITIONINGS`.
        seed: For the order of the traits.
        append: How the traits follow a backstory; one of `APPENDS`.
        codebook: How the traits are asked and called; needed where `needs_levels` says so. See `Matching.codebook`.

    Raises:
        OptionError: If a name is unknown, or the role lacks a persona, a transcript, or the wording of its traits.

    Example:
        >>> role = Role(respondent_id="r1", weight=1.0, traits={"age": "My age is 65 or above."})
        >>> introduce(role, "bio", seed=0).context.splitlines()[-1]
        'Description: My age is 65 or above.'
    """
    check_conditioning(conditioning, append)
    if needs_levels(conditioning, append) and codebook is None:
        raise OptionError(
            f"{_named(conditioning, append)} needs the levels of the respondents' traits, and this cast has none: make "
            "it with match(...) or unmatched(...), or use the bio sentences"
        )
    if conditioning in STORIED:
        return _storied(role, conditioning, append, codebook, seed)
    return _traits_only(role, conditioning, codebook, seed)


def transcript(backstory: str) -> Turns:
    r"""Return the turns of a backstory in the form of an interview; none, if it has another form.

    Example:
        >>> transcript("Question: Who are you?\n\nAnswer: A baker.\n\nQuestion: Since when?\n\nAnswer: Ever.")
        (('Question: Who are you?', 'A baker.'), ('Question: Since when?', 'Ever.'))
    """
    before, *blocks = re.split(r"(?:\A|\n[ \t]*\n)[ \t]*Question:", backstory.strip())
    turns = [re.split(r"\n\s*Answer:", block, maxsplit=1) for block in blocks]
    if before or not turns or any(len(turn) < 2 or not turn[0].strip() for turn in turns):
        return ()
    return tuple((f"Question: {question.strip()}", answer.strip()) for question, answer in turns)


def _named(conditioning: str, append: str) -> str:
    return f"append {append!r}" if conditioning in STORIED else f"conditioning {conditioning!r}"


def _traits_only(role: Role, conditioning: str, codebook: Codebook | None, seed: int) -> Introduction:
    if conditioning == "bio" and role.traits:
        return Introduction(context=f"{BIO_HEADER} {bio(role.traits, seed=seed)}")
    if conditioning == "qa" and (turns := _asked(role, codebook, seed)):
        return Introduction(turns=turns, opening=WORDINGS["chat"]["turns"])
    if conditioning == "portray" and (known := _known(role, codebook, seed)):
        lines = [f"{trait.name.replace('_', ' ')}: {_spoken(trait, level)}" for trait, level in known]
        return Introduction(context="\n".join([WORDINGS["portray"], *lines]), opening="")
    return Introduction()


def _storied(role: Role, conditioning: str, append: str, codebook: Codebook | None, seed: int) -> Introduction:
    if role.persona is None:
        raise OptionError(
            f"conditioning {conditioning!r} needs a persona for respondent {role.respondent_id!r}: "
            "cast the respondents with match(...), or use conditioning 'bio' or 'nothing'"
        )
    story, turns = role.persona.backstory, _appended(role, append, codebook, seed)
    if conditioning == "interview":
        if not (told := transcript(story)):
            raise OptionError(
                f"conditioning 'interview' needs a backstory of the form 'Question: ... Answer: ...', and that of "
                f"persona {role.persona.persona_id!r} is {story[:40]!r}...: use conditioning 'anthology'"
            )
        return Introduction(turns=(*told, *turns), opening=WORDINGS["chat"]["turns"])
    if append == "bio" and turns:
        # A question to the person itself: it belongs to what the person says, also in a chat.
        return Introduction(context=f"{story}\n\n{APPEND_QUESTION} {turns[0][1]}")
    return Introduction(context=story, turns=turns)


def _appended(role: Role, append: str, codebook: Codebook | None, seed: int) -> Turns:
    if append == "bio":
        return ((WORDINGS["append_bio"], bio(role.traits, seed=seed)),) if role.traits else ()
    known = _known(role, codebook, seed)
    if append == "free-form":
        return tuple((f"Question: {_wording(trait, known)}", _spoken(trait, level)) for trait, level in known)
    return _asked(role, codebook, seed) if append == "qa" else ()


def _asked(role: Role, codebook: Codebook | None, seed: int) -> Turns:
    known = _known(role, codebook, seed)
    return tuple(_as_question(trait, level, _wording(trait, known)) for trait, level in known)


def _as_question(trait: Trait, level: str, wording: str) -> tuple[str, str]:
    codes = tuple(range(len(trait.levels)))
    labels = "letters" if len(codes) <= len(LETTERS) else "numbers"
    question = Question(key=trait.name, text=wording, options=trait.options, codes=codes)
    label = labels_of(len(codes), labels)[trait.code(level)]
    return question_text(question, codes, consistency=False, labels=labels), f"({label})"


def _wording(trait: Trait, known: Sequence[tuple[Trait, str]]) -> str:
    """The question of a trait; a follow-up names the level of another trait."""
    levels = {other.name: _spoken(other, level) for other, level in known}
    return PIPED.sub(lambda match: levels.get(match[1], match[0]), trait.question)


def _spoken(trait: Trait, level: str) -> str:
    return trait.options[trait.code(level)]


def _known(role: Role, codebook: Codebook | None, seed: int) -> Sequence[tuple[Trait, str]]:
    """The respondent's traits with their levels, in the order drawn; the same order as of the Bio sentences."""
    traits: Mapping[str, Trait] = {trait.name: trait for trait in (codebook.traits if codebook else ())}
    names = sorted(name for name in role.levels if name in traits)
    random.Random(seed).shuffle(names)
    return [(traits[name], role.levels[name]) for name in names]
