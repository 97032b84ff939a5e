"""Generate backstories: natural, primed with traits, or as an interview; screened, counted, resumable.

A story is a few steps: natural, the preamble question and the story (Anthology, Moon et al. 2024, appendix A); primed,
the story alone after the traits; interview, one answer after the other, each after the turns before it
(arXiv:2504.11673). A step is tried again until its text passes the checks and the critic; only that step. When all
stories are there, near duplicates are told in the order of the stories, and those begin another life, from the start.

Seeds derive from (run seed, story, life, step, attempt) and a verdict from nothing but the texts, so neither batch size
nor order of work nor an interruption changes a story. Every draft is kept with its verdict, and counted.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anthology_hub.cards import CardText
from anthology_hub.cluster import Cluster, spread
from anthology_hub.collection import GENERATION, Anthology
from anthology_hub.errors import ModelError, RunError
from anthology_hub.models import LanguageModel
from anthology_hub.pools import quality_flags
from anthology_hub.prompts import Prompt, derive_seed
from anthology_hub.runs import ANEW, Progress, RunFolder, as_json, as_parquet, provenance
from anthology_hub.schema import Codebook, Persona, digest
from anthology_hub.screening import (
    LEAST_MASS,
    NEAR,
    Check,
    Context,
    Critic,
    Neighbours,
    Rejection,
    Verdict,
    checks_of,
    screen,
)
from anthology_hub.styles import GenerateOptions, Style, Turns, style_of

if TYPE_CHECKING:
    from anthology_hub.encoding import Encoder

PARTS, REJECTED, REPORT = "drafts", "rejected.parquet", "report.json"
PREAMBLE_TRIES = 100
"""Most answers to the preamble question until one says yes."""
EMPTY, DUPLICATE, PREAMBLE = "empty", "duplicate", "preamble"
"""Under which names an empty text, an exact duplicate and a preamble answer without yes are counted."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What became of the drafts: tried = accepted + the sum of rejected."""

    asked: int
    """Stories that were wanted."""
    kept: int
    given_up: int
    """Stories without a draft that passes; kept + given_up = asked."""
    tried: int
    """Drafts of stories, or of answers of an interview."""
    accepted: int
    rejected: Mapping[str, int]
    """Check -> drafts, most first."""
    variants: Mapping[str, tuple[int, int]]
    """Variant of the prompt -> (drafts tried, accepted)."""
    preamble: tuple[int, int]
    """Answers to the preamble question: (tried, with a yes)."""
    unsure: int
    """Drafts of which the critic said neither yes nor no to a question, which then counts as no."""
    prompt_tokens: int
    reply_tokens: int
    critic_tokens: int
    """Prompt tokens of the critic."""
    seconds: float
    """Asking and screening, over all calls on the run folder."""

    @classmethod
    def of_all(cls, reports: Sequence[Report]) -> Report:
        """Return the sum of reports, at least one."""
        told = [asdict(report) for report in reports]
        sums = {name: sum(one[name] for one in told) for name in told[0] if isinstance(told[0][name], int | float)}
        variants = sorted({name for report in reports for name in report.variants})
        asked = {name: [report.variants.get(name, (0, 0)) for report in reports] for name in variants}
        return cls(
            **sums,
            rejected=_most_first(sum((Counter(report.rejected) for report in reports), Counter())),
            variants={name: (sum(n for n, _ in pairs), sum(a for _, a in pairs)) for name, pairs in asked.items()},
            preamble=(sum(report.preamble[0] for report in reports), sum(report.preamble[1] for report in reports)),
        )

    @property
    def acceptance(self) -> float:
        """Share of drafts that were accepted, 0 to 1; 0 if none was tried."""
        return self.accepted / self.tried if self.tried else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {**asdict(self), "acceptance": self.acceptance}

    def lines(self) -> list[str]:
        """Return the report as lines to read."""
        shown = [f"{self.kept} of {self.asked} stories kept, {self.given_up} given up"]
        shown.append(f"{self.tried} drafts: {self.accepted} accepted ({self.acceptance:.1%})")
        shown += [f"  rejected by {check:24} {n:6} {n / self.tried:6.1%}" for check, n in self.rejected.items()]
        if len(self.variants) > 1:
            shown += [f"  variant {name:28} {a:6} of {n}" for name, (n, a) in self.variants.items()]
        if self.preamble[0]:
            shown.append(f"  preamble said yes {'':18} {self.preamble[1]:6} of {self.preamble[0]}")
        if self.unsure:
            shown.append(f"  the critic said neither yes nor no of {self.unsure} drafts")
        told = f"{self.prompt_tokens:,} prompt and {self.reply_tokens:,} reply tokens"
        critic = f", {self.critic_tokens:,} prompt tokens of the critic" if self.critic_tokens else ""
        return [*shown, f"{told}{critic}, {self.seconds:.1f} s"]


@dataclass(frozen=True, kw_only=True)
class Generation:
    """Backstories with their provenance, and what was rejected."""

    records: tuple[dict[str, Any], ...]
    """As `Anthology.from_records` takes them; no trait is annotated: what was asked for is not what a text says."""
    report: Report
    rejected: tuple[dict[str, Any], ...]
    """story, question, attempt, sha256 of the text, check, reason, text."""
    provenance: Mapping[str, Any]
    """As in `run.json`."""
    codebook: Codebook

    @property
    def card(self) -> CardText:
        """What a dataset card should say of backstories that were made so: give it to `Anthology.save`."""
        inputs, report = self.provenance["inputs"], self.report
        asked = f" A critic ({inputs['critic']['model']['model']}) was asked about each." if inputs["critic"] else ""
        made = (
            f"Written by the language model `{inputs['model']['model']}` in style `{inputs['options']['style']}`, "
            f"{report.tried} drafts, {report.accepted} accepted. Checks: "
            f"{', '.join(check['name'] for check in inputs['checks']) or 'none'}.{asked} Seed {inputs['seed']}."
        )
        return CardText(about="Backstories of people who do not exist, written by a language model.", made=made)

    def collection(self, *, name: str, licence: str) -> Anthology:
        """Return the backstories as a collection, their traits not annotated yet.

        Raises:
            EmptyError: If no story was kept.
        """
        inputs = self.provenance["inputs"]
        return Anthology.from_records(
            self.records,
            self.codebook,
            name=name,
            licence=licence,
            provenance={
                "source": f"generated with anthology_hub, run {self.provenance['run_id']}",
                "generator": f"{inputs['model']['developer']}/{inputs['model']['model']}",
                "generator_revision": inputs["model"]["revision"],
                "prompt_id": f"{inputs['options']['style']}-{inputs['wording'][:12]}",
            },
        )


def append(
    generation: Generation, collection: Anthology, *, release: str | None = None, encoder: Encoder | None = None
) -> Anthology:
    """Return a collection with generated backstories after its own, as a minor release; see `Anthology.extended`.

    Raises:
        EmptyError: If no story was kept.
        OptionError: If the version does not follow.
    """
    added = generation.collection(name="generated", licence="other")
    return collection.extended(added, release=release, encoder=encoder)


def generate(
    model: LanguageModel,
    n: int,
    *,
    seed: int = 0,
    options: GenerateOptions | None = None,
    quota: Sequence[Mapping[str, str]] = (),
    codebook: Codebook | None = None,
    critic: Critic | None = None,
    collection: Anthology | None = None,
    encoder: Encoder | None = None,
    folder: str | Path | None = None,
    progress: Progress | None = None,
    ray: Cluster | str | None = None,
) -> Generation:
    """Generate backstories.

    Args:
        model: Who writes.
        n: Number of backstories, at least 1.
        seed: Run seed.
        options: How.
        quota: Traits of each story, trait -> level, as long as `n`; of primed stories. See `steering`.
        codebook: Of the quota, and of the collection to come; the collection's, else `anthology`, if not given.
        critic: Asked about each text that passes the checks.
        collection: What is near to its texts is rejected, too.
        encoder: For near duplicates in meaning, if it is open already.
        folder: Run folder, a path or a URI: written as drafts come in, and continued if it is there already.
        progress: Called with (finished stories, n).
        ray: Spread the stories over this cluster; in process, if not given. Changes no story.

    Raises:
        MissingExtraError: If a check needs a package that is not installed.
        ModelError: If the model never says yes to the preamble question.
        OptionError: If options and quota do not fit each other.
        RunError: If the folder belongs to another run, or a file in it is broken.

    Example:
        >>> from anthology_hub.models.scripted import ScriptedModel
        >>> writer = ScriptedModel("first", replies=lambda prompt, seed: f"Yes, I am a baker, one of {seed}.")
        >>> made = generate(writer, 2, options=GenerateOptions(checks=("words:least=5",)))
        >>> made.report.kept, made.records[0]["backstory"][:15]
        (2, 'Yes, I am a bak')
    """
    options = options or GenerateOptions()
    codebook = codebook or (collection.codebook if collection is not None else Codebook.load("anthology"))
    style = style_of(options, n, quota=quota, codebook=codebook, seed=seed)
    checks = _checks(options)
    finder = _Duplicates(checks, collection, encoder)
    told = provenance(
        {
            "task": "generate",
            "n": n,
            "model": model.card.to_dict(),
            "options": _told(options, style),
            "wording": digest(style.to_dict()),
            "checks": [check.to_dict() for check in checks],
            "encoder": finder.encoder,
            "critic": critic.to_dict() if critic else None,
            "collection": collection.identity if collection is not None else "",
            "codebook": digest(codebook.to_dict()),
            "seed": seed,
        },
        {"batch_size": options.batch_size},
    )
    store = RunFolder.open(folder, told) if folder is not None else None
    told = store.provenance if store else told
    run = _Run(
        model=model,
        style=style,
        options=options,
        checks=tuple(check for check in checks if check.name != NEAR),
        critic=critic,
        seed=seed,
        store=store,
        progress=progress or _silent,
        n=n,
        drafts=_read_drafts(store) if store else {},
        ray=ray,
    )
    generation = _assembled(run, run.stories(finder), told, codebook)
    if store:
        store.place.write(REJECTED, as_parquet(generation.rejected, _rejected_schema()))
        store.place.write(REPORT, as_json(generation.report.to_dict()))
        store.log("finished", kept=generation.report.kept)
    return generation


# -- drafts ----------------------------------------------------------------------------------------------------------

_Key = tuple[int, int, int, int]


@dataclass(frozen=True, kw_only=True)
class _Draft:
    """One reply of the model and what became of it."""

    story: int
    life: int
    step: int
    attempt: int
    text: str
    check: str
    """Which check rejected it; empty: accepted."""
    reason: str
    prompt_tokens: int
    reply_tokens: int
    critic: str
    """Probabilities and masses of the critic's questions, as JSON; empty: not asked."""
    critic_tokens: int

    @property
    def key(self) -> _Key:
        return self.story, self.life, self.step, self.attempt


class _Life:
    """One story on its way: its steps so far."""

    def __init__(self, style: Style, story: int, life: int, tries: int) -> None:
        self.style, self.story, self.life, self.tries = style, story, life, tries
        self.turns: Turns = ()
        self.drafts: list[_Draft] = []
        self.attempt = 0

    @property
    def step(self) -> int:
        return len(self.turns)

    @property
    def written(self) -> bool:
        return self.step == self.style.steps

    @property
    def given_up(self) -> bool:
        return not self.written and self.style.screened(self.step) and self.attempt >= self.tries

    @property
    def over(self) -> bool:
        return self.written or self.given_up

    @property
    def key(self) -> _Key:
        return self.story, self.life, self.step, self.attempt

    @property
    def question(self) -> str:
        return self.style.question(self.story, self.step)

    def take(self, draft: _Draft) -> None:
        self.drafts.append(draft)
        if draft.check:
            self.attempt += 1
            return
        self.turns, self.attempt = (*self.turns, (self.question, draft.text)), 0


@dataclass
class _Story:
    """One story to the end: its lives, the last of which holds the backstory unless it is given up."""

    lives: list[_Life] = field(default_factory=list)
    near: dict[int, Rejection] = field(default_factory=dict)
    """Life -> why what was written is a duplicate."""

    @property
    def kept(self) -> bool:
        return self.lives[-1].written and len(self.lives) - 1 not in self.near


@dataclass(kw_only=True)
class _Run:
    """A run of `generate`: asks what is not known yet."""

    model: LanguageModel
    style: Style
    options: GenerateOptions
    checks: Sequence[Check]
    critic: Critic | None
    seed: int
    store: RunFolder | None
    progress: Progress
    n: int
    drafts: dict[_Key, _Draft]
    ray: Cluster | str | None = None
    seconds: float = 0.0

    def stories(self, finder: _Duplicates) -> list[_Story]:
        """Write all stories; those that turn out as duplicates begin anew, until none does or their tries are over."""
        stories = [_Story() for _ in range(self.n)]
        due = list(range(self.n))
        for life in range(self.options.tries):
            lives = [self._life(story, life) for story in due]
            (self._write if self.ray is None else self._spread)(lives, self.n - len(due))
            for one in lives:
                stories[one.story].lives.append(one)
            written = [one for one in lives if one.written]
            found = finder.reasons([self.style.backstory(one.turns) for one in written], written)
            near = {one.story: reason for one, reason in zip(written, found, strict=True) if reason}
            for story, reason in near.items():
                stories[story].near[life] = reason
            if not (due := sorted(near)):
                break
        return stories

    def _life(self, story: int, number: int) -> _Life:
        return _Life(self.style, story, number, self.options.tries)

    def _spread(self, lives: Sequence[_Life], done: int) -> None:
        """Have lives written by the workers of a cluster, as many at once on each as in process."""
        for one in lives:
            self._replay(one)
        due, size = [one for one in lives if not one.over], self.options.batch_size
        done += len(lives) - len(due)
        self.progress(done, self.n)
        groups = [due[start : start + size] for start in range(0, len(due), size)]
        jobs = [
            ([(one.story, one.life) for one in group], [d for one in group for d in one.drafts]) for group in groups
        ]
        alone = replace(self, drafts={}, progress=_silent, ray=None, seconds=0.0)
        for drafts, seconds in spread(jobs, alone.written, cluster=self.ray):
            self.drafts |= {draft.key: draft for draft in drafts}
            self.seconds += seconds
            if self.store:
                self.store.log("asked", drafts=len(drafts), seconds=round(seconds, 3))
            done += len({draft.story for draft in drafts})
            self.progress(done, self.n)
        for one in due:
            self._replay(one)

    def written(self, job: tuple[Sequence[tuple[int, int]], Sequence[_Draft]]) -> tuple[list[_Draft], float]:
        """Write some lives as a worker; return their new drafts and the seconds that it took.

        Args:
            job: Story and life of each, and the drafts of them that are known.
        """
        known = {draft.key: draft for draft in job[1]}
        run = replace(self, drafts=dict(known))
        run._write([run._life(*one) for one in job[0]], 0)
        return [draft for key, draft in run.drafts.items() if key not in known], run.seconds

    def _write(self, lives: Sequence[_Life], done: int) -> None:
        """Write lives, some at once; as one ends the next takes its place, so that batches stay full."""
        waiting, active = deque(lives), list[_Life]()
        self.progress(done, self.n)
        while waiting or active:
            while waiting and len(active) < self.options.batch_size:
                active.append(waiting.popleft())
                self._replay(active[-1])
                active = [one for one in active if not one.over]
            if active:
                self._ask(self._next_group(active))
            active = [one for one in active if not one.over]
            self.progress(done + len(lives) - len(waiting) - len(active), self.n)

    def _replay(self, life: _Life) -> None:
        while not life.over and life.key in self.drafts:
            life.take(self.drafts[life.key])

    def _next_group(self, active: Sequence[_Life]) -> Sequence[_Life]:
        """Those at the preamble, which is short: once all are past it, the stories are asked as a full batch."""
        return [one for one in active if not self.style.screened(one.step)] or active

    def _ask(self, group: Sequence[_Life]) -> None:
        self._check_preamble(group)
        began = time.perf_counter()
        prompts = [self.style.prompt(one.story, one.turns) for one in group]
        seeds = [derive_seed(self.seed, *one.key) for one in group]
        texts = self.model.complete(prompts, self.style.sampling(group[0].step), seeds=seeds)
        # A lone surrogate, which a server's JSON may hold, can neither be hashed nor stored.
        drafts = self._screened(group, prompts, [text.encode(errors="replace").decode().strip() for text in texts])
        for one, draft in zip(group, drafts, strict=True):
            self.drafts[draft.key] = draft
            # What comes after a draft that was lost may be known.
            self._replay(one)
        seconds = time.perf_counter() - began
        self.seconds += seconds
        if self.store:
            self.store.write(PARTS, [asdict(d) for d in drafts], _draft_schema(), key=[d.key for d in drafts])
            self.store.log("asked", drafts=len(drafts), seconds=round(seconds, 3))

    def _screened(self, group: Sequence[_Life], prompts: Sequence[Prompt], texts: Sequence[str]) -> list[_Draft]:
        found = [self._rejection(one, text) for one, text in zip(group, texts, strict=True)]
        verdicts = self._verdicts(group, texts, found)
        asked = self.model.count_tokens([prompt.as_text() for prompt in prompts])
        replied = self.model.count_tokens(texts)
        drafts = []
        for at, (one, text) in enumerate(zip(group, texts, strict=True)):
            verdict = verdicts.get(at)
            rejection = found[at] or (verdict.rejection if verdict else None)
            drafts.append(
                _Draft(
                    story=one.story,
                    life=one.life,
                    step=one.step,
                    attempt=one.attempt,
                    text=text,
                    check=rejection.check if rejection else "",
                    reason=rejection.reason if rejection else "",
                    prompt_tokens=asked[at],
                    reply_tokens=replied[at],
                    critic=json.dumps({"probs": verdict.probs, "masses": verdict.masses}) if verdict else "",
                    critic_tokens=verdict.tokens if verdict else 0,
                )
            )
        return drafts

    def _verdicts(
        self, group: Sequence[_Life], texts: Sequence[str], found: Sequence[Rejection | None]
    ) -> dict[int, Verdict]:
        if self.critic is None:
            return {}
        passed = [at for at, one in enumerate(group) if self.style.screened(one.step) and found[at] is None]
        verdicts = self.critic.verdicts([(texts[at], self._context(group[at])) for at in passed])
        return dict(zip(passed, verdicts, strict=True))

    def _rejection(self, one: _Life, text: str) -> Rejection | None:
        if not self.style.screened(one.step):
            return None if _says_yes(text) else Rejection(check=PREAMBLE, reason="does not say yes")
        if not text:
            return Rejection(check=EMPTY, reason="nothing was said")
        return screen(text, self.checks, self._context(one))

    def _context(self, one: _Life) -> Context:
        # What a preamble was answered is nothing that a story could contradict.
        turns = one.turns if self.style.screened(0) else ()
        return Context(question=one.question, turns=turns)

    def _check_preamble(self, group: Sequence[_Life]) -> None:
        for one in group:
            if not self.style.screened(one.step) and one.attempt >= PREAMBLE_TRIES:
                last = one.drafts[-1].text[:80]
                raise ModelError(
                    f"{self.model.card.model} did not say yes to {one.question!r} in {PREAMBLE_TRIES} tries, the last "
                    f"answer was {last!r}: use another model, or generate without the preamble (preamble=False)"
                )


def _silent(_done: int, _total: int) -> None:
    """Tell nobody."""


def _says_yes(text: str) -> bool:
    return "yes" in (word.strip(".,;:!?\"'()-") for word in text.casefold().split())


class _Duplicates:
    """Finds exact duplicates, and near ones if that is asked for."""

    def __init__(self, checks: Sequence[Check], collection: Anthology | None, encoder: Encoder | None) -> None:
        named = [check for check in checks if check.name == NEAR]
        self._near = Neighbours(named[0], collection=collection, encoder=encoder) if named else None
        self._ids = set(collection.ids) if collection is not None else set[str]()
        self.encoder = self._near.encoder_card if self._near else None
        """What tells meanings apart; None where they are not compared."""

    def reasons(self, texts: Sequence[str], lives: Sequence[_Life]) -> list[Rejection | None]:
        said = ["\n\n".join(answer for _, answer in one.turns if one.style.screened(0)) or text
                for one, text in zip(lives, texts, strict=True)]  # fmt: skip
        near = list(self._near.reasons(said)) if self._near else [None] * len(texts)
        found: list[Rejection | None] = []
        for text, reason in zip(texts, near, strict=True):
            persona_id = Persona.id_of(text)
            same = (
                Rejection(check=DUPLICATE, reason=f"the same text as {persona_id}") if persona_id in self._ids else None
            )
            found.append(same or (Rejection(check=NEAR, reason=reason) if reason else None))
            self._ids.add(persona_id)
        return found


# -- results ---------------------------------------------------------------------------------------------------------


def _assembled(run: _Run, stories: Sequence[_Story], told: Mapping[str, Any], codebook: Codebook) -> Generation:
    tried = list(_tried(stories, run.style))
    kept = [(at, story.lives[-1]) for at, story in enumerate(stories) if story.kept]
    seconds = _seconds(run.store) if run.store else run.seconds
    return Generation(
        records=tuple(_record(at, life, stories[at], run, told) for at, life in kept),
        report=_report(run.style, stories, tried, seconds),
        rejected=tuple(_rejected_row(run.style, draft, reason) for draft, reason in tried if reason),
        provenance=told,
        codebook=codebook,
    )


def _tried(stories: Sequence[_Story], style: Style) -> Iterator[tuple[_Draft, Rejection | None]]:
    """Every draft that was screened, with why it was rejected; what is near another loses its last draft."""
    for story in stories:
        for number, life in enumerate(story.lives):
            for draft in life.drafts:
                last = draft is life.drafts[-1]
                own = Rejection(check=draft.check, reason=draft.reason) if draft.check else None
                if style.screened(draft.step):
                    yield draft, own or (story.near.get(number) if last else None)


def _report(
    style: Style, stories: Sequence[_Story], tried: Sequence[tuple[_Draft, Rejection | None]], seconds: float
) -> Report:
    every = [draft for story in stories for life in story.lives for draft in life.drafts]
    asked = [draft for draft in every if not style.screened(draft.step)]
    counts = Counter(reason.check for _, reason in tried if reason)
    variants: dict[str, tuple[int, int]] = {}
    for draft, reason in tried:
        n, accepted = variants.get(name := style.variant(draft.story), (0, 0))
        variants[name] = n + 1, accepted + (reason is None)
    return Report(
        asked=len(stories),
        kept=sum(story.kept for story in stories),
        given_up=sum(not story.kept for story in stories),
        tried=len(tried),
        accepted=sum(reason is None for _, reason in tried),
        rejected=_most_first(counts),
        variants=dict(sorted(variants.items())),
        preamble=(len(asked), sum(not draft.check for draft in asked)),
        unsure=sum(_is_unsure(draft) for draft in every),
        prompt_tokens=sum(draft.prompt_tokens for draft in every),
        reply_tokens=sum(draft.reply_tokens for draft in every),
        critic_tokens=sum(draft.critic_tokens for draft in every),
        seconds=seconds,
    )


def _most_first(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


def _is_unsure(draft: _Draft) -> bool:
    return bool(draft.critic) and min(json.loads(draft.critic)["masses"].values(), default=1.0) < LEAST_MASS


def _record(at: int, life: _Life, story: _Story, run: _Run, told: Mapping[str, Any]) -> dict[str, Any]:
    text = run.style.backstory(life.turns)
    said = [draft for draft in life.drafts if not draft.check and run.style.screened(draft.step)]
    flags = quality_flags(text, answers="\n\n".join(draft.text for draft in said))
    return {
        "backstory": text,
        "traits": {},
        "key": str(at),
        "quality_flags": flags,
        GENERATION: _how(at, story, said, run, told),
    }


def _how(at: int, story: _Story, said: Sequence[_Draft], run: _Run, told: Mapping[str, Any]) -> str:
    """All that is known of how a story came about, as JSON."""
    inputs, life = told["inputs"], story.lives[-1]
    drafts = [draft for one in story.lives for draft in one.drafts]
    how = {
        "run": told["run_id"],
        "style": inputs["options"]["style"],
        **run.style.facts(at, life.turns),
        "sampling": inputs["options"]["sampling"],
        "seed": run.seed,
        "story": at,
        "lives": len(story.lives),
        "drafts": len(drafts),
        "checks": [check["name"] for check in inputs["checks"]],
        "critic": [json.loads(draft.critic)["probs"] for draft in said if draft.critic],
        "tokens": {
            "backstory": sum(draft.reply_tokens for draft in said),
            "prompt": sum(draft.prompt_tokens for draft in drafts),
            "reply": sum(draft.reply_tokens for draft in drafts),
        },
    }
    return json.dumps(how, ensure_ascii=False)


def _rejected_row(style: Style, draft: _Draft, reason: Rejection) -> dict[str, Any]:
    return {
        "story": draft.story,
        "question": style.question(draft.story, draft.step),
        "attempt": draft.attempt,
        "sha256": hashlib.sha256(draft.text.encode()).hexdigest(),
        "check": reason.check,
        "reason": reason.reason,
        "text": draft.text,
    }


def _checks(options: GenerateOptions) -> tuple[Check, ...]:
    usual = "answers" if options.style == "interview" else "default"
    return checks_of([usual if name == "default" else name for name in options.checks])


def _told(options: GenerateOptions, style: Style) -> dict[str, Any]:
    named = ("style", "primer", "preamble", "tries")
    sampling = asdict(style.sampling(style.steps - 1))
    return {**{name: getattr(options, name) for name in named}, "sampling": sampling}


def _read_drafts(store: RunFolder) -> dict[_Key, _Draft]:
    found: dict[_Key, _Draft] = {}
    for file, rows in store.read(PARTS):
        try:
            drafts = [_Draft(**row) for row in rows]
        except TypeError as error:
            raise RunError(f"{file} is broken ({error}): {ANEW}") from error
        found |= {draft.key: draft for draft in drafts}
    return found


def _seconds(store: RunFolder) -> float:
    """Seconds of asking over all calls."""
    return round(sum(float(event.get("seconds", 0.0)) for event in store.events()), 3)


def _draft_schema() -> Any:  # noqa: ANN401 - pyarrow has no types
    import pyarrow as pa

    whole, text = pa.int32(), pa.string()
    names = {"story": whole, "life": whole, "step": whole, "attempt": whole, "text": text, "check": text}
    names |= {"reason": text, "prompt_tokens": whole, "reply_tokens": whole, "critic": text, "critic_tokens": whole}
    return pa.schema([*names.items()])


def _rejected_schema() -> Any:  # noqa: ANN401
    import pyarrow as pa

    whole, text = pa.int32(), pa.string()
    names = {"story": whole, "question": text, "attempt": whole}
    return pa.schema([*names.items(), *((name, text) for name in ("sha256", "check", "reason", "text"))])
