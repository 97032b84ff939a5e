"""Ask a model what a backstory says and suggests about its persona, and keep the answers as distributions of levels.

Stage 1 looks for explicit statements: a quote that is in the text makes a trait certain. Stage 2 asks the persona
itself, 40 times, and counts what it says (Moon et al., EMNLP 2024, demographic survey; wordings in `data/annotation`).
All questions on one backstory are asked next to each other, so that an engine with a prefix cache reads it once. Seeds
derive from (run seed, persona, trait, sample): neither batch size nor an interruption changes an annotation.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from anthology_hub import prompts
from anthology_hub.calibration import settled
from anthology_hub.cluster import Cluster, spread
from anthology_hub.collection import Anthology
from anthology_hub.errors import EmptyError, OptionError, RunError
from anthology_hub.models import LanguageModel, ModelCard, Sampling
from anthology_hub.prompts import LETTERS, Prompt, derive_seed
from anthology_hub.runs import ANEW, Progress, RunFolder, provenance
from anthology_hub.schema import ANSWERED, REFUSED, Codebook, Persona, Trait, digest
from anthology_hub.trait_questions import OPENING, REPLACED, asking_text, locating_prompt, locating_text
from anthology_hub.trait_replies import (
    AMBIGUOUS,
    FINDINGS,
    LOCATED,
    NONCOMPLIANT,
    REPLY_STATUSES,
    declines,
    parse_finding,
    parse_trait_reply,
    patterns_digest,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

METHODS = ("paper", "sampled", "logprob", "located")
"""paper: look for a quote, then sample; the others: one of these, or the probabilities of the option letters."""
STOPS = ("", "top", "ranks")
SAMPLED, LOGPROB, SKIPPED, NONE = "sampled", "logprob", "skipped", "none"
"""How a trait was annotated, beside LOCATED; skipped: a follow-up that does not apply; none: not found, not asked."""
PARTS = "annotations"


@dataclass(frozen=True, kw_only=True)
class AnnotateOptions:
    """How to ask."""

    locate: tuple[str, ...] | None = None
    """Traits to look for in the text first; all, if None. The paper: age, income, education; its code: all but race,
    gender and religion."""
    stop: str = ""
    """Stop sampling a trait early: once its most probable level (`top`), or the order of its levels (`ranks`), is as
    sure as `epsilon` says. Empty: never (the paper)."""
    epsilon: float = 0.05
    """Largest posterior probability of being wrong at which sampling stops; above 0, below 1."""
    minimum: int = 10
    """Samples before that is asked at all."""
    step: int = 5
    """Samples between two looks."""
    batch_size: int = 16
    """Prompts in one call of the model; changes no annotation."""
    sampling: Sampling = Sampling(stop=("\n", "Question"))
    """Of stage 2."""
    locating: Sampling = Sampling(temperature=0.0, max_tokens=256, stop=("\nQuestion",))
    """Of stage 1."""

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            OptionError: If a value is not allowed.
        """
        if self.stop not in STOPS:
            raise OptionError(f"unknown stop {self.stop!r}: allowed are {', '.join(map(repr, STOPS))}")
        if not 0 < self.epsilon < 1 or min(self.minimum, self.step, self.batch_size) < 1:
            raise OptionError(
                "epsilon must be above 0 and below 1, minimum, step and batch_size at least 1, got "
                f"{self.epsilon}, {self.minimum}, {self.step}, {self.batch_size}"
            )


@dataclass(frozen=True, kw_only=True)
class Annotated:
    """A collection with new annotations, and what came of asking for them."""

    collection: Anthology
    counts: Mapping[str, Mapping[str, int]]
    """Trait -> personas by method (located, sampled, logprob, skipped, none), by what stage 1 found (unmentioned,
    unproven, unreadable), without any usable reply (uniform); replies by status (answered, refused ...)."""
    provenance: Mapping[str, Any]
    """All that is needed to repeat the run."""


@dataclass(frozen=True, kw_only=True)
class AnnotationPlan:
    """What annotating would ask, at most: as if nothing were located, skipped or stopped early."""

    personas: int
    traits: tuple[str, ...]
    calls: int
    """Prompts."""
    prompt_tokens: int
    """Sent to the model."""
    computed_tokens: int
    """Of these, what an engine with a prefix cache computes."""
    reply_tokens: int
    """Most tokens that replies can have."""


@dataclass(frozen=True, kw_only=True)
class _Record:
    """What is known of one trait of one persona."""

    persona_id: str
    trait: str
    method: str = NONE
    finding: str = ""
    """One of `trait_replies.FINDINGS`; empty: not looked for."""
    evidence: str = ""
    found: str = ""
    """The reply of stage 1 as the model gave it."""
    probs: tuple[float, ...] = ()
    mass: float | None = None
    counts: tuple[int, ...] = ()
    """Replies of stage 2 by level."""
    statuses: tuple[str, ...] = ()
    """Of each reply of stage 2, one of REPLY_STATUSES."""
    replies: tuple[str, ...] = ()
    """As the model gave them."""


Key = tuple[str, str]
"""Persona id and trait."""


def annotate(
    people: Anthology,
    model: LanguageModel,
    *,
    traits: Sequence[str] | None = None,
    method: str = "paper",
    codebook: Codebook | None = None,
    samples: int = 40,
    seed: int = 0,
    options: AnnotateOptions | None = None,
    locator: LanguageModel | None = None,
    folder: str | Path | None = None,
    progress: Progress | None = None,
    ray: Cluster | str | None = None,
) -> Annotated:
    """Annotate traits of personas by what their backstories say and suggest.

    A follow-up (`Trait.asked_of`) is asked of those only who may have one of the levels it is for: its probabilities
    are conditional on having one, the share of whom is in the other trait's annotation. Where nobody could answer, the
    distribution is uniform and n_samples tells how often it was tried.

    Args:
        people: Whose traits.
        model: Who is asked.
        traits: Names; all of the codebook, if not given.
        method: One of METHODS.
        codebook: Whose traits; the collection's own, if not given. `Codebook.load("anthology")` is the paper's.
        samples: Replies per trait and persona, at most, in stage 2.
        seed: Run seed.
        options: How to ask.
        locator: Who is asked in stage 1, if not the model.
        folder: Run folder, a path or a URI: written persona by persona, and continued if it is there already.
        progress: Called with annotations done and in all.
        ray: Spread the personas over this cluster; in process, if not given. Changes no annotation.

    Returns:
        The same personas with these annotations in place of those of the same traits.

    Raises:
        EmptyError: If there is nobody, or no trait.
        OptionError: If an option is outside its range, or a follow-up lacks the trait that it follows.
        UnknownNameError: If a trait does not exist.
        RunError: If the folder belongs to another run, or a part of it is broken.

    Example:
        >>> from anthology_hub import open_model
        >>> people = Anthology.load("starter").sample(2)
        >>> done = annotate(people, open_model("scripted:uniform"), traits=["region"], method="sampled", samples=20)
        >>> done.counts["region"]["answered"] + done.counts["region"]["refused"]
        40
        >>> done.collection.annotations_of(people.ids[0])[-1]["n_samples"]
        20
    """
    job = _Job(
        people=people,
        model=model,
        locator=locator or model,
        codebook=codebook or people.codebook,
        names=None if traits is None else tuple(traits),
        method=method,
        samples=samples,
        seed=seed,
        options=options or AnnotateOptions(),
    )
    told = _provenance(job)
    store = RunFolder.open(folder, told) if folder is not None else None
    records = _read(store, job) if store else {}
    progress = progress or (lambda _done, _total: None)
    total = len(people) * len(job.traits)
    progress(len(records), total)
    for fresh in spread(_groups(job, frozenset(records)), _Annotator(job=job, store=store), cluster=ray):
        records |= fresh
        progress(len(records), total)
    if store:
        store.log("finished", annotations=len(records))
    done = [records[persona_id, trait.name] for persona_id in people.ids for trait in job.traits]
    rows = [row for record in done if (row := _row(record, job))]
    collection = people.with_annotations(rows, job.traits)
    return Annotated(collection=collection, counts=_counts(done), provenance=store.provenance if store else told)


def plan_annotation(
    people: Anthology,
    model: LanguageModel,
    *,
    traits: Sequence[str] | None = None,
    method: str = "paper",
    codebook: Codebook | None = None,
    samples: int = 40,
    options: AnnotateOptions | None = None,
) -> AnnotationPlan:
    """Count what `annotate` would ask, at most; nothing is asked.

    Example:
        >>> from anthology_hub import open_model
        >>> people = Anthology.load("starter").sample(10)
        >>> plan = plan_annotation(people, open_model("scripted:uniform"), traits=["age", "region"])
        >>> plan.calls, plan.calls == 10 * 2 * (1 + 40)
        (820, True)
    """
    job = _Job(
        people=people,
        model=model,
        locator=model,
        codebook=codebook or people.codebook,
        names=None if traits is None else tuple(traits),
        method=method,
        samples=samples,
        options=options or AnnotateOptions(),
    )
    stories = np.array(model.count_tokens([persona.backstory for persona in people]))
    questions = {name: np.array(model.count_tokens(texts)) for name, texts in job.asked().items()}
    times = {name: job.times(name) for name in questions}
    limits = {"locate": job.options.locating.max_tokens, "sample": job.options.sampling.max_tokens, "logprob": 0}
    calls = {name: int(times[name].sum()) * len(people) for name in questions}
    asked = sum(int(tokens @ times[name]) * len(people) for name, tokens in questions.items())
    read = sum(int(times[name].sum()) for name in questions) * int(stories.sum())
    return AnnotationPlan(
        personas=len(people),
        traits=tuple(trait.name for trait in job.traits),
        calls=sum(calls.values()),
        prompt_tokens=asked + read,
        computed_tokens=asked + len(questions) * int(stories.sum()),
        reply_tokens=sum(count * limits[name] for name, count in calls.items()),
    )


# -- what is to be asked ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Job:
    """A run of annotating: whom, what, how."""

    people: Anthology
    model: LanguageModel
    locator: LanguageModel
    codebook: Codebook
    names: tuple[str, ...] | None
    """Traits to annotate; all of the codebook, if None."""
    method: str
    samples: int
    options: AnnotateOptions
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise OptionError(f"unknown method {self.method!r}: allowed are {', '.join(METHODS)}")
        if self.samples < 1:
            raise OptionError(f"samples must be at least 1, got {self.samples}")
        for name in self.options.locate or ():
            self.codebook.trait(name)
        if not len(self.people) or not self.traits:
            counts = f"{len(self.people)} personas, {len(self.traits)} traits"
            raise EmptyError(f"nothing to annotate: {counts}; give one of each or more")
        for trait in self.traits:
            # Stage 1 has one option more than levels, too.
            if not 2 <= len(trait.levels) < len(LETTERS):
                allowed = f"2 to {len(LETTERS) - 1} can be asked for with letters"
                raise OptionError(f"{trait.name} has {len(trait.levels)} levels: {allowed}")
        _ = self.waves, self.parents

    def __getstate__(self) -> dict[str, Any]:
        # To a worker goes what is asked: each group brings its personas, and what was known of them is in `parents`.
        return {**self.__dict__, "people": None}

    @cached_property
    def traits(self) -> tuple[Trait, ...]:
        """What is annotated."""
        names = [trait.name for trait in self.codebook.traits] if self.names is None else dict.fromkeys(self.names)
        return tuple(map(self.codebook.trait, names))

    @property
    def located(self) -> tuple[Trait, ...]:
        """The traits of stage 1."""
        if self.method not in ("paper", "located"):
            return ()
        wanted = self.options.locate
        return tuple(trait for trait in self.traits if wanted is None or trait.name in wanted)

    @cached_property
    def waves(self) -> list[list[Trait]]:
        """The traits of stage 2; a follow-up comes after what it follows."""
        waves: list[list[Trait]] = []
        left = [] if self.method == "located" else list(self.traits)
        while left:
            names = {trait.name for trait in left}
            due = [trait for trait in left if not names & set(trait.asked_of)]
            if not due:
                raise OptionError(f"{', '.join(sorted(names))} follow each other in a circle: mend their asked_of")
            waves.append(due)
            left = [trait for trait in left if trait not in due]
        return waves

    @cached_property
    def parents(self) -> dict[str, dict[str, tuple[float, ...]]]:
        """Trait that is followed up but not asked now -> persona -> its probabilities as they are known."""
        found = {}
        for trait in self.traits:
            for name, levels in trait.asked_of.items():
                parent = self.codebook.trait(name)
                for level in levels:
                    parent.code(level)
                if parent not in self.traits:
                    found[name] = self._known(trait, parent)
        return found

    def _known(self, trait: Trait, parent: Trait) -> dict[str, tuple[float, ...]]:
        if not any((t.name, t.levels) == (parent.name, parent.levels) for t in self.people.codebook.traits):
            raise OptionError(
                f"{trait.name} is asked of some by their {parent.name}, which this collection does not know with these "
                f"levels: annotate {parent.name} as well"
            )
        rows = self.people.distribution(parent.name).tolist()
        return {at: tuple(row) for at, row in zip(self.people.ids, rows, strict=True) if row[0] == row[0]}

    def asked(self) -> dict[str, list[str]]:
        """The wording of every question by stage, options in their own order."""
        found = {"locate": [locating_text(trait) for trait in self.located]}
        name = "logprob" if self.method == "logprob" else "sample"
        found[name] = [asking_text(trait) for wave in self.waves for trait in wave]
        return {stage: texts for stage, texts in found.items() if texts}

    def times(self, stage: str) -> NDArray[np.int64]:
        """How often each question of `asked` is put to a persona, at most."""
        if stage == "locate":
            return np.ones(len(self.located), dtype=np.int64)
        traits = [trait for wave in self.waves for trait in wave]
        # Letters: both orders, for each level that the question may name.
        ways = [2 * max(1, len(_named(trait))) for trait in traits]
        return np.array(ways if stage == "logprob" else [self.samples] * len(traits))


def _named(trait: Trait) -> tuple[str, ...]:
    """The levels of the trait that is followed up which the question may name."""
    return next((levels for name, levels in trait.asked_of.items() if f"{{{name}}}" in trait.question), ())


def _groups(job: _Job, records: Collection[Key]) -> Iterator[list[Persona]]:
    """Personas that are not done yet, as many as fit into one call; one at least."""
    each = {"logprob": 2, "located": 1}.get(job.method, job.samples) * len(job.traits)
    size = max(1, job.options.batch_size // each)
    left = [at for at, known in enumerate(job.people.ids) if any((known, t.name) not in records for t in job.traits)]
    for start in range(0, len(left), size):
        yield [job.people[at] for at in left[start : start + size]]


def _provenance(job: _Job) -> dict[str, Any]:
    options = {name: value for name, value in asdict(job.options).items() if name != "batch_size"}
    traits = Codebook(name="", traits=job.traits).to_dict()["traits"]
    inputs = {
        "personas": {"n": len(job.people), "digest": digest(sorted(job.people.ids))},
        "traits": {"names": [trait.name for trait in job.traits], "digest": digest(traits)},
        "followed": digest({name: sorted(known.items()) for name, known in job.parents.items()}),
        "model": job.model.card.to_dict(),
        "locator": job.locator.card.to_dict() if job.located else None,
        "prompts": digest([prompts.DIGEST, patterns_digest(), OPENING, REPLACED, job.asked()]),
        "method": job.method,
        "samples": job.samples,
        "options": options,
        "seed": job.seed,
    }
    execution = {"batch_size": job.options.batch_size, "collection": job.people.identity, "origin": job.people.origin}
    return provenance(inputs, execution)


# -- asking ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Annotator:
    """Annotates groups of personas and keeps the records, in process or as a worker."""

    job: _Job
    store: RunFolder | None

    def __call__(self, group: Sequence[Persona]) -> dict[Key, _Record]:
        """Return the records of a group."""
        found = _Group(self.job, group).records()
        if self.store:
            ids = [persona.persona_id for persona in group]
            self.store.write(PARTS, [asdict(record) for record in found.values()], _schema(), key=ids)
        return found


class _Group:
    """The questions on the personas of one group, persona by persona within each call."""

    def __init__(self, job: _Job, personas: Sequence[Persona]) -> None:
        self.job, self.personas = job, {persona.persona_id: persona for persona in personas}
        self.done = {
            (persona_id, trait.name): _Record(persona_id=persona_id, trait=trait.name)
            for persona_id in self.personas
            for trait in job.traits
        }
        self.trait = {trait.name: trait for trait in job.traits}

    def records(self) -> dict[Key, _Record]:
        """Ask everything and return what came of it."""
        self._locate([(persona_id, trait.name) for persona_id in self.personas for trait in self.job.located])
        for wave in self.job.waves:
            keys = [(persona_id, trait.name) for persona_id in self.personas for trait in wave]
            for key in (key for key in keys if not self._applies(key)):
                self.done[key] = replace(self.done[key], method=SKIPPED, evidence="", probs=())
            due = [key for key in keys if self.done[key].method == NONE]
            (self._choose if self.job.method == "logprob" else self._sample)(due)
        return self.done

    def _locate(self, keys: Sequence[Key]) -> None:
        asked = [locating_prompt(self.trait[name], self.personas[persona_id].backstory) for persona_id, name in keys]
        seeds = [self._seed(key, "locate") for key in keys]
        texts = self._complete(self.job.locator, asked, self.job.options.locating, seeds)
        for key, text in zip(keys, texts, strict=True):
            self.done[key] = self._found(key, text)

    def _found(self, key: Key, text: str) -> _Record:
        levels = len(self.trait[key[1]].levels)
        finding = parse_finding(text, levels, self.personas[key[0]].backstory, replaced=REPLACED)
        record = replace(self.done[key], finding=finding.status, found=text)
        if finding.status != LOCATED:
            return record
        probs = tuple(float(at == finding.level) for at in range(levels))
        return replace(record, method=LOCATED, probs=probs, evidence=finding.evidence)

    def _sample(self, keys: Sequence[Key]) -> None:
        replies: dict[Key, list[str]] = {key: [] for key in keys}
        waiting = list(keys)
        while waiting:
            asked = [(key, at) for key in waiting for at in range(len(replies[key]), self._until(len(replies[key])))]
            drawn = [self._prompt(key, at) for key, at in asked]
            seeds = [self._seed(key, at) for key, at in asked]
            texts = self._complete(self.job.model, drawn, self.job.options.sampling, seeds)
            for (key, _), text in zip(asked, texts, strict=True):
                replies[key].append(text)
            for key in waiting:
                self.done[key] = self._counted(key, replies[key])
            waiting = [key for key in waiting if not self._enough(key)]

    def _until(self, done: int) -> int:
        """How many samples there are after the next round."""
        options = self.job.options
        if not options.stop:
            return self.job.samples
        return min(self.job.samples, done + options.step if done else options.minimum)

    def _enough(self, key: Key) -> bool:
        record, options = self.done[key], self.job.options
        return len(record.replies) >= self.job.samples or settled(record.counts, options.stop, options.epsilon)

    def _counted(self, key: Key, texts: Sequence[str]) -> _Record:
        trait = self.trait[key[1]]
        parsed = [parse_trait_reply(text, trait, self._shown(key, at)) for at, text in enumerate(texts)]
        counts = np.bincount([reply.level for reply in parsed if reply.status == ANSWERED], minlength=len(trait.levels))
        shares = counts / counts.sum() if counts.sum() else np.full(len(trait.levels), 1 / len(trait.levels))
        return replace(
            self.done[key],
            method=SAMPLED,
            probs=tuple(shares.tolist()),
            counts=tuple(counts.tolist()),
            statuses=tuple(reply.status for reply in parsed),
            replies=tuple(texts),
        )

    def _choose(self, keys: Sequence[Key]) -> None:
        asked = [(key, way) for key in keys for way in self._ways(key)]
        drawn = [self._lettered(key, shown, followed) for key, (_, shown, followed) in asked]
        size = self.job.options.batch_size
        chosen = []
        for start in range(0, len(asked), size):
            letters = [
                LETTERS[: len(self.trait[key[1]].levels) + declines(self.trait[key[1]])]
                for key, _ in asked[start : start + size]
            ]
            chosen += self.job.model.choose(drawn[start : start + size], letters, self.job.options.sampling)
        shares = {key: np.zeros(len(self.trait[key[1]].levels)) for key in keys}
        mass = dict.fromkeys(keys, 0.0)
        for (key, (weight, shown, _)), choice in zip(asked, chosen, strict=True):
            inside = np.array(choice.probs[: len(shown)])
            shares[key][list(shown)] += weight * (inside / inside.sum() if inside.sum() else 1 / len(shown))
            mass[key] += weight * choice.mass
        for key in keys:
            probs = shares[key].round(6) / shares[key].round(6).sum()
            self.done[key] = replace(
                self.done[key], method=LOGPROB, probs=tuple(probs.tolist()), mass=round(mass[key], 6)
            )

    def _ways(self, key: Key) -> Iterator[tuple[float, tuple[int, ...], str]]:
        """Weight, order of the levels and level followed up of each prompt: both orders, each level that applies."""
        order = tuple(range(len(self.trait[key[1]].levels)))
        for followed, share in self._followed(key).items():
            yield share / 2, order, followed
            yield share / 2, order[::-1], followed

    def _lettered(self, key: Key, shown: Sequence[int], followed: str) -> Prompt:
        text = asking_text(self.trait[key[1]], shown, followed=followed)
        return Prompt(context=self.personas[key[0]].backstory, turns=(), question=text, start="(")

    def _prompt(self, key: Key, sample: int) -> Prompt:
        followed = self._followed(key)
        drawn = random.Random(self._seed(key, sample, "followed"))
        level = drawn.choices(list(followed), list(followed.values()))[0]
        text = asking_text(self.trait[key[1]], self._shown(key, sample), followed=level)
        return Prompt(context=self.personas[key[0]].backstory, turns=(), question=text)

    def _shown(self, key: Key, sample: int) -> tuple[int, ...]:
        """The order of the levels: the first ones of some traits are shuffled anew for each sample."""
        trait = self.trait[key[1]]
        first = list(range(trait.shuffled))
        random.Random(self._seed(key, sample, "order")).shuffle(first)
        return (*first, *range(trait.shuffled, len(trait.levels)))

    def _parent(self, key: Key) -> tuple[Trait, tuple[str, ...], tuple[float, ...]] | None:
        """The trait that is followed up, the levels of whom, and how probable the persona's levels are."""
        for name, levels in self.trait[key[1]].asked_of.items():
            parent = self.job.codebook.trait(name)
            known = self.done[key[0], name].probs if name in self.trait else self.job.parents[name].get(key[0], ())
            return parent, levels, known or (1 / len(parent.levels),) * len(parent.levels)
        return None

    def _applies(self, key: Key) -> bool:
        found = self._parent(key)
        return found is None or sum(found[2][found[0].code(level)] for level in found[1]) > 0

    def _followed(self, key: Key) -> dict[str, float]:
        """Level that the question names -> its share among those that apply; {"": 1} where it names none."""
        found = self._parent(key)
        if found is None or not _named(self.trait[key[1]]):
            return {"": 1.0}
        shares = {level: found[2][found[0].code(level)] for level in found[1]}
        return {level: share / sum(shares.values()) for level, share in shares.items() if share}

    def _complete(
        self, model: LanguageModel, asked: Sequence[Prompt], sampling: Sampling, seeds: Sequence[int]
    ) -> list[str]:
        size, texts = self.job.options.batch_size, list[str]()
        for start in range(0, len(asked), size):
            texts += model.complete(asked[start : start + size], sampling, seeds=seeds[start : start + size])
        # A lone surrogate, which a server's JSON may hold, can be stored in no table.
        return [text.encode(errors="replace").decode() for text in texts]

    def _seed(self, key: Key, *what: object) -> int:
        return derive_seed(self.job.seed, *key, *what)


# -- what came of it -------------------------------------------------------------------------------------------------


def _row(record: _Record, job: _Job) -> dict[str, Any] | None:
    """The annotation of a record; none where nothing was found, or nothing asked."""
    if record.method in (SKIPPED, NONE):
        return None
    card = (job.locator if record.method == LOCATED else job.model).card
    trait = next(trait for trait in job.traits if trait.name == record.trait)
    row = {
        "persona_id": record.persona_id,
        "trait": record.trait,
        "levels": list(trait.levels),
        "probs": list(record.probs),
        "method": record.method,
        "annotator": _name(card),
        "annotator_revision": card.revision,
        "evidence": record.evidence or None,
        "mass": record.mass,
    }
    if record.method != SAMPLED:
        return row
    counts = Counter(record.statuses)
    # In the table what is ambiguous counts as non-compliant (the paper); beside it stands how much of it that is.
    told = {"n_refused": counts[REFUSED], "n_noncompliant": counts[NONCOMPLIANT] + counts[AMBIGUOUS]}
    return {**row, "n_samples": len(record.statuses), **told, "n_ambiguous": counts[AMBIGUOUS]}


def _name(card: ModelCard) -> str:
    return f"{card.developer}/{card.model}"


_COUNTED = (*dict.fromkeys((LOCATED, SAMPLED, LOGPROB, SKIPPED, NONE, *FINDINGS, *REPLY_STATUSES)), "uniform")


def _counts(records: Sequence[_Record]) -> dict[str, dict[str, int]]:
    found: dict[str, Counter[str]] = {}
    for record in records:
        counts = found.setdefault(record.trait, Counter())
        counts[record.method] += 1
        counts[record.finding] += bool(record.finding) and record.finding != LOCATED
        counts.update(record.statuses)
        counts["uniform"] += record.method == SAMPLED and ANSWERED not in record.statuses
    return {trait: {name: counts[name] for name in _COUNTED if counts[name]} for trait, counts in found.items()}


def _read(store: RunFolder, job: _Job) -> dict[Key, _Record]:
    known, names = set(job.people.ids), {trait.name for trait in job.traits}
    records = {}
    for file, rows in store.read(PARTS):
        try:
            part = [_record(row) for row in rows]
        except (TypeError, KeyError) as error:
            raise RunError(f"{file} is broken ({error}): {ANEW}") from error
        if strange := [r for r in part if r.persona_id not in known or r.trait not in names]:
            raise RunError(f"{file} is about {strange[0].trait} of {strange[0].persona_id}, not of this run: {ANEW}")
        records.update({(record.persona_id, record.trait): record for record in part})
    return records


def _record(row: Mapping[str, Any]) -> _Record:
    fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in row.items()}
    return _Record(**fields)


def _schema() -> Any:  # noqa: ANN401 - pyarrow has no types
    import pyarrow as pa

    text, number = pa.string(), pa.float64()
    names = dict.fromkeys(("persona_id", "trait", "method", "finding", "evidence", "found"), text)
    lists = {"statuses": pa.list_(text), "replies": pa.list_(text)}
    return pa.schema(
        [
            *names.items(),
            ("probs", pa.list_(number)),
            ("mass", number),
            ("counts", pa.list_(pa.int32())),
            *lists.items(),
        ]
    )
