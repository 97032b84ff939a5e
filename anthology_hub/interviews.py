"""Interviews of personas: a conversation with one, or a guide of open questions put to many.

Both put questions as a survey with text questions does (`simulate`): each with what was asked and said before. So the
same persona, questions, model and seed give the same answers in both.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from anthology_hub.conditioning import Introduction, introduce
from anthology_hub.errors import DataError, EmptyError, OptionError, RunError
from anthology_hub.hub import write_file
from anthology_hub.models import LanguageModel, Sampling
from anthology_hub.prompts import CONSISTENCY, NO_ANSWER, WHOLE_DIGEST, Prompt, derive_seed, question_text, who
from anthology_hub.replies import read_answer
from anthology_hub.runs import Progress, as_json
from anthology_hub.schema import (
    ANSWERED,
    FAILED,
    SCHEMA_VERSION,
    TEXT,
    Answers,
    Matching,
    Persona,
    Question,
    Role,
    Survey,
    read_json,
)
from anthology_hub.simulation import SimulateOptions, simulate

FORMS = ("text", "markdown", "json")
"""How a transcript may be written."""
SAMPLING = Sampling(
    max_tokens=256, stop=("\n\nQuestion:", "\nQuestion:", "Question:", "\nQ:", "\n\nInterviewer:", "\nInterviewer:")
)
"""How answers are drawn, if not told otherwise: up to where a base model would go on with the next question."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One question and what was said to it."""

    question: str
    answer: str
    """As the model gave it; empty if it said nothing."""
    status: str
    """ANSWERED, REFUSED, UNPARSABLE (a reply of white space), or FAILED (no reply)."""
    tries: int = 1


class Interview:
    """A conversation with one persona; each question is put with all that was said before.

    Example:
        >>> from anthology_hub.models.scripted import ScriptedModel
        >>> story = "I bake bread in Maine."
        >>> baker = Persona(persona_id=Persona.id_of(story), backstory=story)
        >>> model = ScriptedModel("first", replies=lambda prompt, seed: f"Answer {len(prompt.turns) + 1}.")
        >>> talk = Interview(baker, model)
        >>> talk.ask("What do you do?"), talk.ask("Since when?")
        ('Answer 1.', 'Answer 2.')
        >>> print(talk.transcript())
        Question: What do you do?
        Answer: Answer 1.
        <BLANKLINE>
        Question: Since when?
        Answer: Answer 2.
    """

    def __init__(
        self,
        persona: Persona,
        model: LanguageModel,
        *,
        seed: int = 0,
        sampling: Sampling = SAMPLING,
        grounding: str = "",
        conditioning: str = "anthology",
        tries: int = 1,
        window: int | None = None,
    ) -> None:
        """Begin.

        Args:
            persona: Who is asked.
            model: Who speaks.
            seed: Seed of every reply.
            sampling: How replies are drawn.
            grounding: A line before the first question that says when it is, as `It is July 2021.`
            conditioning: `anthology`: the backstory as text; `interview`: as the turns of an earlier interview.
            tries: Most replies to a question until one is neither empty nor a refusal; the last one stands.
            window: Most tokens of a prompt and its reply together; the model's own `window`, if it tells one; else
                not limited.

        Raises:
            OptionError: If a value is not allowed, or the backstory is no transcript and shall be told as one.
        """
        # Checks its values, and says how the same is asked of many.
        _options(sampling, grounding, conditioning, tries, batch_size=1)
        self.persona, self.model, self.seed, self.sampling = persona, model, seed, sampling
        self.grounding, self.conditioning, self.tries = grounding, conditioning, tries
        self.turns: tuple[Turn, ...] = ()
        """What was asked and said so far."""
        self._window = _window(model, window)
        self._told = _introduced(persona, conditioning)

    @property
    def settings(self) -> dict[str, Any]:
        """All that the answers depend on, but the questions."""
        return {
            "persona": {"persona_id": self.persona.persona_id, "backstory": self.persona.backstory},
            "model": self.model.card.to_dict(),
            "prompts": WHOLE_DIGEST,
            "seed": self.seed,
            "sampling": {**asdict(self.sampling), "stop": list(self.sampling.stop)},
            "grounding": self.grounding,
            "conditioning": self.conditioning,
            "tries": self.tries,
        }

    def ask(self, text: str) -> str:
        """Ask a question and return the answer, without white space around it; empty if nothing was said.

        `{q1}` in the question stands for the answer to the first one, `{q2}` for that to the second, and so on.

        Raises:
            OptionError: If the question is empty, or there is no room left for it.
        """
        question = _question(len(self.turns), text)
        prompt = self._prompt(question)
        self._check_room(prompt)
        seat = who(self.persona.persona_id, self.persona.persona_id)
        for attempt in range(self.tries):
            seed = derive_seed(self.seed, seat, question.key, attempt)
            said = self.model.complete([prompt], self.sampling, seeds=[seed])[0]
            status = read_answer(question, (), said).status if said else FAILED
            turn = Turn(question=question.text, answer=said, status=status, tries=attempt + 1)
            if status == ANSWERED:
                break
        self.turns = (*self.turns, turn)
        return turn.answer.strip()

    def transcript(self, form: str = "text") -> str:
        """Write what was said so far; `form` is one of FORMS. JSON holds all that `load` needs.

        Raises:
            OptionError: If the form is unknown.
        """
        if form == "json":
            return as_json(self._to_dict()).decode()
        return written([(turn.question, turn.answer) for turn in self.turns], form)

    def save(self, path: str | Path) -> Path:
        """Write the interview as JSON, whole or not at all, over what is there."""
        write_file(Path(path), as_json(self._to_dict()))
        return Path(path)

    @classmethod
    def load(cls, path: str | Path, model: LanguageModel, *, window: int | None = None) -> Interview:
        """Go on with a saved interview.

        Raises:
            DataError: If the file cannot be read.
            RunError: If it was held with another model, or other wordings of the package.
        """
        value = read_json(Path(path))
        try:
            talk, turns = _read(cls, value, model, window), tuple(Turn(**turn) for turn in value["turns"])
        except (KeyError, TypeError) as error:
            raise DataError(f"{path} is no interview ({error!r}): give a file of Interview.save") from error
        for name in ("model", "prompts"):
            if value[name] != talk.settings[name]:
                raise RunError(
                    f"{path} was held with {name} {value[name]!r}, and {talk.settings[name]!r} would go on: open the "
                    "same, or begin a new interview"
                )
        talk.turns = turns
        return talk

    def _to_dict(self) -> dict[str, Any]:
        return {"schema_version": SCHEMA_VERSION, **self.settings, "turns": [asdict(turn) for turn in self.turns]}

    def _prompt(self, question: Question) -> Prompt:
        asked = [self._text(_question(at, turn.question), at) for at, turn in enumerate(self.turns)]
        said = [turn.answer or NO_ANSWER for turn in self.turns]
        return Prompt(
            context=self._told.context,
            turns=(*self._told.turns, *zip(asked, said, strict=True)),
            question=self._text(question, len(self.turns)),
            opening=self._told.opening,
        )

    def _text(self, question: Question, at: int) -> str:
        earlier = {
            f"q{place + 1}": turn.answer.strip() if turn.status == ANSWERED else NO_ANSWER
            for place, turn in enumerate(self.turns[:at])
        }
        consistency = at > 0 or bool(self._told.context or self._told.turns)
        preamble = "" if at else self.grounding
        return question_text(question, (), consistency=consistency, preamble=preamble, earlier=earlier)

    def _check_room(self, prompt: Prompt) -> None:
        if self._window is None:
            return
        (needed,) = self.model.count_tokens([prompt.as_text()])
        if needed + self.sampling.max_tokens > self._window:
            raise OptionError(
                f"the interview so far and the question have {needed} tokens, which with a reply of up to "
                f"{self.sampling.max_tokens} is more than the model's {self._window}: allow shorter replies, or begin "
                "a new interview"
            )


def interview(
    people: Iterable[Persona] | Matching,
    questions: Sequence[str],
    model: LanguageModel,
    *,
    seed: int = 0,
    sampling: Sampling = SAMPLING,
    grounding: str = "",
    conditioning: str = "anthology",
    tries: int = 1,
    batch_size: int = 8,
    window: int | None = None,
    folder: str | Path | None = None,
    progress: Progress | None = None,
) -> Answers:
    """Put a guide of open questions to several personas, each in turn with its own earlier answers.

    Args:
        people: Personas, as an `Anthology` or a list; or a cast, whose personas are told the respondents' traits too.
        questions: The guide; see `styles.read_questions` for one from a file.
        model: Who speaks.
        seed: Run seed.
        sampling: How replies are drawn.
        grounding: As of `Interview`, like the next two.
        conditioning: See there.
        tries: See there.
        batch_size: Personas asked at once; changes no answer.
        window: As of `Interview`; checked for the longest that an interview may become, before anything is asked.
        folder: Run folder: written as answers come in, and continued if it is there already; see `load_run`.
        progress: Called with (answers so far, in all).

    Returns:
        One text question `q1`, `q2` ... for each of the guide; `transcripts` writes them as conversations and
        `code_answers` puts them into categories.

    Raises:
        EmptyError: If there is nobody to ask.
        OptionError: If a value is not allowed, a question is empty, or an interview may become too long.
        RunError: If the folder belongs to another run, or a file in it is broken.

    Example:
        >>> from anthology_hub import Anthology, open_model
        >>> people = Anthology.load("starter").sample(2)
        >>> answers = interview(people, ["Where do you live?", "Since when?"], open_model("scripted:uniform"))
        >>> answers.survey.keys, answers.values.shape
        (('q1', 'q2'), (2, 2))
    """
    options = _options(sampling, grounding, conditioning, tries, batch_size=batch_size)
    cast = people if isinstance(people, Matching) else _cast(people)
    survey = guide(questions)
    if not cast.roles:
        raise EmptyError("there is nobody to interview: give one persona or more")
    if limit := _window(model, window):
        _check_length(cast, survey, model, options, limit)
    return simulate(cast, survey, model, seed=seed, options=options, folder=folder, progress=progress)


def guide(questions: Sequence[str], *, name: str = "interview") -> Survey:
    """Return open questions as a survey; `{q1}` in a later one stands for the answer to the first.

    Raises:
        OptionError: If there is none, or one is empty.

    Example:
        >>> guide(["Where do you live?", "Why in {q1}?"]).keys
        ('q1', 'q2')
    """
    if isinstance(questions, str) or not len(questions):
        raise OptionError(f"an interview needs a list of questions, got {questions!r}: give one or more")
    asked = [{"key": f"q{at + 1}", "text": _question(at, text).text, "kind": TEXT} for at, text in enumerate(questions)]
    return Survey.from_dict({"name": name, "title": "Interview", "questions": asked})


def transcripts(answers: Answers, form: str = "text") -> dict[str, str]:
    """Write what was said to the open questions as conversations.

    Args:
        answers: From `interview`, or of a survey with text questions.
        form: One of FORMS.

    Returns:
        `respondent/persona` -> what was said; the respondent alone where it is the persona itself.

    Raises:
        EmptyError: If no question is open.
        OptionError: If the form is unknown.
    """
    open_ones = [(at, q.text) for at, q in enumerate(answers.survey.questions) if q.kind == TEXT]
    if not open_ones:
        kinds = ", ".join(f"{question.key} ({question.kind})" for question in answers.survey.questions)
        raise EmptyError(f"no question of {answers.survey.name} is of the kind text, it has {kinds}")
    seats = zip(answers.respondent_ids, answers.persona_ids, strict=True)
    names = [respondent if persona in (respondent, "") else f"{respondent}/{persona}" for respondent, persona in seats]
    return {
        name: written([(text, str(answers.raw[row, at])) for at, text in open_ones], form)
        for row, name in enumerate(names)
    }


def written(turns: Sequence[tuple[str, str]], form: str = "text") -> str:
    """Write questions and answers; `form` is one of FORMS.

    Raises:
        OptionError: If the form is unknown.

    Example:
        >>> print(written([("Who are you?", "A baker.")], "markdown"))
        **Who are you?**
        <BLANKLINE>
        A baker.
    """
    if form not in FORMS:
        raise OptionError(f"unknown form {form!r}: allowed are {', '.join(FORMS)}")
    told = [(question, answer.strip() or NO_ANSWER) for question, answer in turns]
    if form == "json":
        pairs = [{"question": question, "answer": answer.strip()} for question, answer in turns]
        return json.dumps(pairs, indent=1, ensure_ascii=False)
    if form == "markdown":
        return "\n\n".join(f"**{question}**\n\n{answer}" for question, answer in told)
    return "\n\n".join(f"Question: {question}\nAnswer: {answer}" for question, answer in told)


def _window(model: LanguageModel, given: int | None) -> int | None:
    if given is not None and given < 1:
        raise OptionError(f"window must be at least 1 token, got {given}: leave it out for no limit")
    own: int | None = getattr(model, "window", None)
    return own if given is None else given


def _question(at: int, text: str) -> Question:
    if not isinstance(text, str) or not text.strip():
        raise OptionError(f"question {at + 1} is empty, {text!r}: ask something")
    return Question(key=f"q{at + 1}", text=text.strip(), kind=TEXT)


def _options(sampling: Sampling, grounding: str, conditioning: str, tries: int, *, batch_size: int) -> SimulateOptions:
    if conditioning not in ("anthology", "interview"):
        raise OptionError(f"unknown conditioning {conditioning!r} of an interview: allowed are anthology, interview")
    return SimulateOptions(
        conditioning=conditioning,
        mode="text",
        shuffle_questions=False,
        tries=tries,
        sampling=sampling,
        grounding=grounding,
        batch_size=batch_size,
    )


def _role(persona: Persona) -> Role:
    # No traits: who a persona is, its backstory says.
    return Role(respondent_id=persona.persona_id, weight=1.0, traits={}, persona=persona)


def _introduced(persona: Persona, conditioning: str) -> Introduction:
    return introduce(_role(persona), conditioning, seed=0)


def _cast(people: Iterable[Persona]) -> Matching:
    roles, seen = tuple(map(_role, people)), set[str]()
    for role in roles:
        if role.respondent_id in seen:
            raise OptionError(f"persona {role.respondent_id!r} is there twice: name everyone once")
        seen.add(role.respondent_id)
    known = {name: str(getattr(people, name, "")) for name in ("identity", "origin")}
    return Matching(roles=roles, method="itself", collection=known["identity"], origin=known["origin"])


def _check_length(cast: Matching, survey: Survey, model: LanguageModel, options: SimulateOptions, limit: int) -> None:
    """Refuse what may outgrow the model: who answers, all questions, and replies as long as allowed."""
    asked = [f"{CONSISTENCY}\n{question_text(question, (), consistency=False)}" for question in survey.questions]
    fixed = sum(model.count_tokens([options.grounding, *asked])) + len(asked) * options.sampling.max_tokens
    told = [introduce(role, options.conditioning, seed=0) for role in cast.roles]
    texts = [Prompt(context=one.context, turns=one.turns, question="").as_text() for one in told]
    lengths = model.count_tokens(texts)
    longest = max(range(len(lengths)), key=lengths.__getitem__)
    if lengths[longest] + fixed > limit:
        raise OptionError(
            f"an interview of {len(asked)} questions with {cast.roles[longest].respondent_id!r} may become "
            f"{lengths[longest] + fixed} tokens long, and the model reads {limit}: ask fewer questions, or allow "
            f"shorter replies than {options.sampling.max_tokens} tokens"
        )


def _read(cls: type[Interview], value: Mapping[str, Any], model: LanguageModel, window: int | None) -> Interview:
    return cls(
        Persona(**value["persona"]),
        model,
        seed=value["seed"],
        sampling=Sampling(**{**value["sampling"], "stop": tuple(value["sampling"]["stop"])}),
        grounding=value["grounding"],
        conditioning=value["conditioning"],
        tries=value["tries"],
        window=window,
    )
