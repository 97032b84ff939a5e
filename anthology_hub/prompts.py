"""Questions to text, and what a model is asked: who answers, what was said before, and the open question. Pure.

Layout follows the Anthology repository (Moon et al., EMNLP 2024, section 3 and `atp_survey.py`): questions are asked
in series, each with the persona's own earlier answers before it. All wordings stand in `data/prompts/anthology.json`,
with their source. Who answers is written in `conditioning`, replies are read in `replies`.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from anthology_hub.schema import CHOICE, DATA, MULTI, NUMBER, PIPED, RANKING, Question, Survey, digest, read_json

WORDINGS = read_json(DATA / "prompts" / "anthology.json")
"""Everything that is said to a model."""
CONSISTENCY: str = WORDINGS["consistency"]
BIO_HEADER: str = WORDINGS["bio"]
APPEND_QUESTION = f"{WORDINGS['append_bio']}\nAnswer:"
CHAT_HEADER: str = WORDINGS["chat"]["context"]
CHAT_BARE: str = WORDINGS["chat"]["bare"]
NO_ANSWER: str = WORDINGS["no_answer"]
"""What stands in the history where nothing was said."""
DIGEST = digest([CONSISTENCY, BIO_HEADER, APPEND_QUESTION, CHAT_HEADER, CHAT_BARE, "layout 1"])
"""Changes with the wordings of `SimulateOptions()` and its like; bump the layout's number with the layout."""
WHOLE_DIGEST = digest([{name: value for name, value in WORDINGS.items() if name != "source"}, "layout 1"])
"""Changes with any wording; named by the runs that use more than `DIGEST` covers."""
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
LABELS = ("letters", "numbers")
"""What options may be told apart by."""
CONDITIONINGS = ("nothing", "bio", "anthology", "qa", "portray", "primed", "interview")
"""Ways to tell the model who answers; see `conditioning.introduce`."""


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """What a model is asked: who answers, what was asked and answered before, and the open question."""

    context: str
    """Who answers; may be empty."""
    turns: tuple[tuple[str, str], ...]
    """Earlier (question text, answer text) pairs."""
    question: str
    start: str = ""
    """First characters of the answer, given to the model so that an option letter comes next."""
    opening: str | None = None
    """What a chat model is told before the context; the usual words, if None. A base model is not told."""

    def as_text(self) -> str:
        """Return the prompt for a base model, in completion layout; it ends with `Answer:` and no space.

        Example:
            >>> turns = (("Question: Tea?", "No"),)
            >>> print(Prompt(context="I am a farmer.", turns=turns, question="Question: Milk?").as_text())
            I am a farmer.
            <BLANKLINE>
            Question: Tea?
            Answer: No
            <BLANKLINE>
            Question: Milk?
            Answer:
        """
        answered = [f"{question}\nAnswer: {answer}" for question, answer in self.turns]
        last = f"{self.question}\nAnswer:" + (f" {self.start}" if self.start else "")
        return "\n\n".join([*([self.context] if self.context else []), *answered, last])

    def as_messages(self) -> list[dict[str, str]]:
        """Return the prompt for a chat model: who answers as the system message, then turns; the last is the user's.

        Example:
            >>> [m["role"] for m in Prompt(context="", turns=(("Tea?", "No"),), question="Milk?").as_messages()]
            ['system', 'user', 'assistant', 'user']
        """
        usual = CHAT_HEADER if self.context else CHAT_BARE
        opening = usual if self.opening is None else self.opening
        messages = [{"role": "system", "content": "\n\n".join(filter(None, (opening, self.context)))}]
        for question, answer in self.turns:
            messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        return [*messages, {"role": "user", "content": self.question}]


def folded(messages: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    r"""Return messages without a system message, for templates that know none: the first user says its words.

    Example:
        >>> folded([{"role": "system", "content": "You farm."}, {"role": "user", "content": "Tea?"}])
        [{'role': 'user', 'content': 'You farm.\n\nTea?'}]
    """
    system, first, *rest = map(dict, messages)
    return [{"role": "user", "content": f"{system['content']}\n\n{first['content']}"}, *rest]


def derive_seed(*parts: object) -> int:
    """Return a 63-bit seed that depends on all parts and on nothing else.

    Example:
        >>> derive_seed(0, "r1", "natenvir", 0) == derive_seed(0, "r1", "natenvir", 0)
        True
        >>> derive_seed(0, "r1", "natenvir", 0) == derive_seed(0, "r1", "natenvir", 1)
        False
    """
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def labels_of(n: int, kind: str = "letters") -> tuple[str, ...]:
    """Return what the first n options are called; `kind` is one of `LABELS`.

    Example:
        >>> labels_of(3), labels_of(2, "numbers")
        (('A', 'B', 'C'), ('1', '2'))
    """
    return tuple(LETTERS[:n]) if kind == "letters" else tuple(map(str, range(1, n + 1)))


def question_text(
    question: Question,
    shown: Sequence[int],
    *,
    consistency: bool,
    preamble: str = "",
    earlier: Mapping[str, str] | None = None,
    labels: str = "letters",
) -> str:
    """Write one item with its options in the order `shown`, up to but without the `Answer:` line.

    Args:
        question: The item.
        shown: Canonical positions of the options, in the order in which they are shown; empty where there are none.
        consistency: Whether to open with the paper's consistency sentence.
        preamble: Said before everything else.
        earlier: Question key -> answer, for what the text pipes in.
        labels: One of `LABELS`.

    Example:
        >>> tea = Question(key="tea", text="Do you like tea?", options=("Yes", "No"), codes=(1, 2))
        >>> print(question_text(tea, (1, 0), consistency=False))
        Question: Do you like tea?
        (A) No
        (B) Yes
        Answer with (A) or (B).
        >>> print(question_text(Question(key="n", text="How many?", kind="number", low=0), (), consistency=False))
        Question: How many?
        Answer with a number, 0 or more.
    """
    names = labels_of(len(shown), labels)
    options = [f"({name}) {question.options[at]}" for name, at in zip(names, shown, strict=True)]
    head = [*([preamble] if preamble else []), *([CONSISTENCY] if consistency else [])]
    return "\n".join([*head, f"Question: {_filled(question, earlier or {})}", *options, _instruction(question, names)])


def _filled(question: Question, earlier: Mapping[str, str]) -> str:
    # In one pass: an answer that is itself in braces is no reference.
    return PIPED.sub(lambda match: earlier.get(match[1], match[0]), question.text)


def _instruction(question: Question, names: Sequence[str]) -> str:
    words: str = WORDINGS["instructions"][question.kind]
    unit = WORDINGS["parts"]["unit"].format(unit=question.unit) if question.unit else ""
    options = _joined(names, "or" if question.kind == CHOICE else "and") if names else ""
    return words.format(options=options, unit=unit, range=_range(question), count=_count(question))


def _joined(names: Sequence[str], word: str) -> str:
    named = [f"({name})" for name in names]
    return f" {word} ".join(named) if len(named) <= 2 else f"{', '.join(named[:-1])}, {word} {named[-1]}"


def _range(question: Question) -> str:
    low, high = question.low, question.high
    name = "above" if high is None else "below" if low is None else "between"
    said = {"low": "" if low is None else f"{low:.15g}", "high": "" if high is None else f"{high:.15g}"}
    return "" if low is None and high is None else str(WORDINGS["parts"][name].format(**said))


def _count(question: Question) -> str:
    least, most = question.least, question.most
    if least is None and most is None:
        return ""
    name = "exactly" if least == most else "least" if most is None else "most" if least is None else "least_most"
    return str(WORDINGS["parts"][name].format(least=least, most=most))


def answer_text(question: Question, answer: object, *, labels: str | None = None) -> str:
    """Write an answer as it is told later: in the text of another question, or as what was said before.

    Args:
        question: What was answered.
        answer: Canonical position of an option, number, positions, or text, by the question's kind.
        labels: One of `LABELS`, to put an option's label in canonical order before it; None: its text alone.

    Example:
        >>> tea = Question(key="tea", text="Tea?", options=("Yes", "No"), codes=(1, 2))
        >>> answer_text(tea, 1), answer_text(tea, 1, labels="letters")
        ('No', '(B) No')
    """
    if question.kind in (CHOICE, MULTI, RANKING):
        names = labels_of(len(question.options), labels or "letters")
        texts = [f"({name}) {text}" if labels else text for name, text in zip(names, question.options, strict=True)]
        places = answer if isinstance(answer, tuple | list) else (answer,)
        return ", ".join(texts[at] for at in places)
    return f"{answer:.15g}" if question.kind == NUMBER else str(answer)


def who(respondent_id: str, persona_id: str, wave: str = "") -> str:
    """Return what stands for a role in the seeds of its draws; a wave draws anew.

    Example:
        >>> who("r1", "p1"), who("r1", "", "2018")
        ('r1/p1', 'r1//2018')
    """
    return f"{respondent_id}/{persona_id}" + (f"/{wave}" if wave else "")


def patterns_of(options_order: str, survey: Survey) -> tuple[str, ...]:
    """Return the orders from which that of a question's options is drawn; see `SimulateOptions.options_order`.

    Example:
        >>> patterns_of("both", Survey.load("bfi")), patterns_of("shuffled", Survey.load("bfi"))
        (('original', 'reversed'), ('shuffled',))
    """
    orders = {"fixed": ("original",), "both": ("original", "reversed"), "survey": survey.order_patterns}
    return orders.get(options_order, (options_order,))


def option_order(question: Question, patterns: Sequence[str], seed: int) -> tuple[int, ...]:
    """Draw the order in which a question's options are shown; those off the scale ("don't know") hold their place.

    Surveys turn the steps of a scale and leave "don't know" where people look for it, mostly last.

    Example:
        >>> tea = Question(key="tea", text="Tea?", options=("Yes", "No", "Not sure"), codes=(1, 2, 9), off_scale=(9,))
        >>> option_order(tea, ["reversed"], 7)
        (1, 0, 2)
    """
    written, rng = tuple(range(len(question.options))), random.Random(seed)
    pattern = rng.choice(list(patterns))
    if pattern == "shuffled":
        steps = list(question.on_scale)
        rng.shuffle(steps)
        return _with_steps(question, written, steps)
    return turned(question, written) if pattern == "reversed" else written


def turned(question: Question, shown: Sequence[int]) -> tuple[int, ...]:
    """Return an order of the options the other way round, in which those off the scale hold their place.

    Example:
        >>> tea = Question(key="tea", text="Tea?", options=("Yes", "No", "Not sure"), codes=(1, 2, 9), off_scale=(9,))
        >>> turned(tea, (0, 1, 2)), turned(tea, (1, 0, 2))
        ((1, 0, 2), (0, 1, 2))
    """
    on_scale = question.on_scale
    return _with_steps(question, shown, [at for at in reversed(shown) if at in on_scale])


def _with_steps(question: Question, shown: Sequence[int], steps: Sequence[int]) -> tuple[int, ...]:
    """Put the steps of the scale, in an order, where steps stand."""
    left, on_scale = iter(steps), question.on_scale
    return tuple(next(left) if at in on_scale else at for at in shown)


def bio(sentences: Mapping[str, str], *, seed: int) -> str:
    """Join Bio sentences in an order drawn from the seed.

    Example:
        >>> bio({"age": "My age is 18 to 29."}, seed=0)
        'My age is 18 to 29.'
    """
    shuffled = [sentences[name] for name in sorted(sentences)]
    random.Random(seed).shuffle(shuffled)
    return " ".join(shuffled)
