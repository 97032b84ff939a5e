"""The questions of the demographic survey on personas, word by word. Pure; wordings in `data/annotation/prompts.json`.

Source: Moon et al., EMNLP 2024, demographic survey, and the questionnaire files of the official repository.
"""

from __future__ import annotations

from collections.abc import Sequence

from anthology_hub.prompts import Prompt, question_text
from anthology_hub.schema import DATA, Question, Trait, read_json
from anthology_hub.trait_replies import declines

_SAID = read_json(DATA / "annotation" / "prompts.json")
OPENING: str = _SAID["system"]
"""What a chat model is told before it looks for a trait in a text."""
REPLACED: tuple[str, str] = (_SAID["word"], _SAID["in_its_place"])
"""The word of a backstory that would read like the next question, and what stands in its place."""


def asking_text(trait: Trait, shown: Sequence[int] | None = None, *, followed: str = "") -> str:
    """Write the question that a persona is asked about itself.

    Args:
        trait: What it is about.
        shown: Positions of the levels in the order in which they are lettered; as in the trait, if not given. The
            option for those who would rather not say comes last.
        followed: Level of the trait that this one follows; stands in the question for its name in braces.

    Example:
        >>> from anthology_hub.schema import Codebook
        >>> print(asking_text(Codebook.load("anthology").trait("party_strength"), followed="Democrat"))
        Question: Would you call yourself a strong Democrat, or a not very strong Democrat?
        (A) Strong
        (B) Not very strong
        (C) Prefer not to answer
        Answer with (A), (B), or (C).
    """
    order = range(len(trait.levels)) if shown is None else shown
    options = [trait.options[at] for at in order] + ([trait.decline] if declines(trait) else [])
    return _written(trait.question, options, earlier=dict.fromkeys(trait.asked_of, followed) if followed else {})


def locating_text(trait: Trait) -> str:
    """Write the question what a text mentions about a trait of its person.

    Example:
        >>> from anthology_hub.schema import Codebook
        >>> print(locating_text(Codebook.load("anthology").trait("region")).splitlines()[0])
        Question: What does the person's essay above mention about the region of the United States the person lives in?
    """
    topic = trait.topic or _SAID["topic"].format(label=trait.label.lower())
    text = _written(_SAID["locate"].format(topic=topic), [*trait.options, _SAID["unmentioned"]])
    head, _, last = text.rpartition("\n")
    return f"{head}\n{_SAID['evidence'].format(answer_with=last[0].lower() + last[1:])}"


def locating_prompt(trait: Trait, backstory: str) -> Prompt:
    """Return the prompt that looks for a trait in a backstory."""
    return Prompt(context=backstory.replace(*REPLACED), turns=(), question=locating_text(trait), opening=OPENING)


def _written(text: str, options: Sequence[str], *, earlier: dict[str, str] | None = None) -> str:
    question = Question(key="trait", text=text, options=tuple(options), codes=tuple(range(len(options))))
    return question_text(question, range(len(options)), consistency=False, earlier=earlier)
