"""The whole way once, on real input: a hub, personas, respondents, a model, the humans, a leaderboard and a report."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from anthology_hub.collection import Anthology
from anthology_hub.diagnostics import diagnose
from anthology_hub.errors import AnthologyError, OptionError
from anthology_hub.evaluation import evaluate
from anthology_hub.humans import Respondents
from anthology_hub.leaderboard import compact, publish, read_board
from anthology_hub.matching import match, unmatched
from anthology_hub.models import open_model
from anthology_hub.ranking import HUMANS, MAJORITY, UNIFORM, Row, rank
from anthology_hub.report import check_extras, write_report
from anthology_hub.runs import Progress
from anthology_hub.schema import Matching, Result, Survey
from anthology_hub.simulation import SimulateOptions, simulate

HUMAN_SOURCE, SURVEY, MODEL = "gss-2018", "gss-national-spending", "local:smollm2"
ITEMS = ("natenvir", "natheal", "nateduc", "natcrime", "natarms", "nataid", "natfare", "natrace")
"""Eight spending items on which the parties differ most."""
OWNER, PERSONAS, RESULTS, RELEASE = "lab", "lab/anthology-starter", "lab/anthology-results", "v1.1.0"
LOAD = f"load_dataset({PERSONAS!r}, revision={RELEASE!r}, split='train')"
WARNING = (
    "These numbers prove the loop, not the method. The embedded model is a small instruct model (135 million "
    "parameters) with no persona signal: its answers follow the order of the options more than the person. For science "
    "use a large base model; the README says which."
)


@dataclass(frozen=True, kw_only=True)
class Walk:
    """What a quickstart leaves."""

    rows: tuple[Row, ...]
    verdict: str
    """What the leaderboard says, in words."""
    folder: Path
    """Holds the runs, the reports, and under `hub` the hub with the collection and the results."""
    reports: tuple[Path, ...]
    token: str
    """Lets one into the hub, as its owner; the one of an earlier walk does so no longer."""


def quickstart(
    folder: str | Path,
    *,
    respondents: int = 40,
    items: Sequence[str] = ITEMS,
    model: str = MODEL,
    seed: int = 0,
    say: Callable[[str], None] = lambda _line: None,
    progress: Callable[[str], Progress] | None = None,
) -> Walk:
    """Compare four ways to tell a model who answers, on real respondents, through a private hub on this machine.

    The starter collection is published there and loaded back at its release, by the official client too; the results
    are published there and read back as a leaderboard. Run it again and it goes on where it stopped.

    Args:
        folder: Where runs, reports and the hub go.
        respondents: How many people to stand in for, at least 2.
        items: Keys of the survey's questions.
        model: See `open_model`.
        seed: For the sample of people and all draws.
        say: Called with a line of text at each step.
        progress: From the name of a run to its progress callback.

    Raises:
        OptionError: If there are fewer than two respondents.
    """
    if respondents < 2:
        raise OptionError(f"the quickstart needs at least 2 respondents, got {respondents}")
    check_extras()
    root, humans, survey = Path(folder), Respondents.load(HUMAN_SOURCE), Survey.load(SURVEY).select(items)
    with _own_hub(root / "hub") as hub:
        people = _share(hub, say)
        _show_search(people, say)
        sample = humans.sample(respondents, seed=seed)
        say(f"3. Matching: {len(sample)} random people of {humans.source}")
        casts = _casts(people, sample, seed, say)
        asked = f"{len(survey.questions)} questions of '{survey.title}' asked in series"
        say(f"4. Simulation: {asked}, model {model} (its first use may convert it)")
        opened, runs = open_model(model), {}
        for name, (cast, conditioning) in casts.items():
            options, callback = SimulateOptions(conditioning=conditioning), progress(name) if progress else None
            run = root / "runs" / name
            answers = simulate(cast, survey, opened, seed=seed, options=options, folder=run, progress=callback)
            runs[name] = evaluate(answers, humans), answers
            with hub.in_use():
                publish(runs[name][0], f"hf://{RESULTS}", answers=answers)
            say(f"   {name}: {_in_words(runs[name][0])}")
        with hub.in_use():
            compact(f"hf://{RESULTS}")
            rows = tuple(rank(read_board(f"hf://{RESULTS}").entries))
    reports = (
        write_report(
            result,
            root / "reports" / name,
            answers=answers,
            humans=humans,
            diagnosis=diagnose(people, sample, casts[name][0]) if casts[name][0].traits else None,
            rows=rows,
            intro=WARNING,
        )
        for name, (result, answers) in runs.items()
    )
    return Walk(rows=rows, verdict=verdict(rows), folder=root, reports=tuple(reports), token=hub.token)


def verdict(rows: Sequence[Row]) -> str:
    """Say in words what a leaderboard of one survey shows.

    A method beats a baseline only if its whole interval lies below the baseline.
    """
    runs = [row for row in rows if row.rank is not None]
    if not runs:
        return "There is no run to judge."
    reference = {row.method: row.wd_normalised for row in rows if row.rank is None}
    beaten = []
    for name in (UNIFORM, MAJORITY):
        bar = reference.get(name)
        winners = [row.method for row in runs if bar is not None and row.high is not None and row.high < bar]
        beaten.append(f"{', '.join(winners) if winners else 'no method'} clearly beats the {name} baseline")
    best, told = runs[0], ""
    others = [row for row in runs[1:] if row.low is not None and best.high is not None and row.low <= best.high]
    if others:
        told = f" The lead is no finding: the intervals of {', '.join(row.method for row in others)} overlap it."
    floor = reference.get(HUMANS)
    noise = f" Real people would score {floor:.3f}." if floor is not None else ""
    lead = f"Nearest to the humans: {best.method} (normalised WD {best.wd_normalised:.3f})."
    return f"{lead}{noise} Against the baselines: {'; '.join(beaten)}.{told}"


@dataclass(frozen=True, kw_only=True)
class _Hub:
    """A private hub that runs in this process."""

    token: str
    environment: Mapping[str, str]
    """What makes a client of the hub, ours or another."""

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Let our own calls go to this hub, and then to the user's own again: a model may come from there."""
        kept = {name: os.environ.get(name) for name in self.environment}
        os.environ.update(self.environment)
        try:
            yield
        finally:
            for name, value in kept.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})


@contextmanager
def _own_hub(folder: Path) -> Iterator[_Hub]:
    """Run a hub on a free loopback port, with a fresh token in place of those of earlier walks."""
    # The client reads its settings once, when it is imported: these shall be the user's own.
    import huggingface_hub.constants  # noqa: F401

    from anthology_hub.labhub.server import SILENCE, running

    with running(folder) as server:
        for old in server.store.accounts.tokens():
            if old.label == "quickstart":
                server.store.accounts.revoke(old.id)
        token = server.store.accounts.add_token(OWNER, label="quickstart")
        yield _Hub(token=token, environment={"HF_ENDPOINT": server.url, "HF_TOKEN": token, **SILENCE})


def _share(hub: _Hub, say: Callable[[str], None]) -> Anthology:
    """Publish the starter and load it back, by the official client and by ours."""
    with hub.in_use():
        where = Anthology.load().push(PERSONAS, release=RELEASE)
        people = Anthology.load(PERSONAS, revision=RELEASE).download()
        rows = _load_dataset()
    say(f"1. Personas: {people!r}, published to a private hub on this machine")
    say(f"   {where.url}\n   datasets.{LOAD} gives {rows} rows")
    return people


def _load_dataset() -> str:
    """Load the release with the official client, in a process that knows no other hub; return the number of rows."""
    code = f"from datasets import load_dataset; print(len({LOAD}))"
    env = {**os.environ, "HF_HUB_OFFLINE": "0"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    if done.returncode:
        raise AnthologyError(f"load_dataset could not read what was published: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout.strip()


def _show_search(people: Anthology, say: Callable[[str], None]) -> None:
    query = "sings in the church choir"
    say(f"2. Search: people of the Midwest, '{query}'")
    for persona in people.where(region="Midwest").search(query, k=3):
        excerpt = " ".join((persona.passage or "").split())[:90]
        say(f"   {persona.score:.2f}  {persona.persona_id[:8]}  {excerpt}...")


def _casts(
    people: Anthology, sample: Respondents, seed: int, say: Callable[[str], None]
) -> dict[str, tuple[Matching, str]]:
    bare = unmatched(sample)
    casts = {"nothing": (bare, "nothing"), "bio": (bare, "bio")}
    # One-to-one needs as many personas as people; a larger sample is still served by greedy.
    for method in ("greedy", "optimal") if len(people) >= len(sample) else ("greedy",):
        cast = match(people, sample, method=method, seed=seed)
        figures = cast.diagnostics
        say(
            f"   {method}: mean weight {figures['mean_weight']:.3f}, {figures['zero_weight_share']:.0%} of pairs differ"
            f" outright in some trait, {figures['distinct_personas']:.0f} personas, one used at most "
            f"{figures['maximum_reuse']:.0f} times"
        )
        casts[f"anthology-{method}"] = (cast, "anthology")
    return casts


def _in_words(result: Result) -> str:
    wd = result.metric("wd_normalised")
    return f"normalised WD {wd.value:.3f} [{wd.low:.3f}, {wd.high:.3f}], coverage {result.coverage['answered']:.0%}"
