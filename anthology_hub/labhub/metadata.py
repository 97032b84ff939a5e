"""What repositories say of themselves: the YAML of cards, and evaluation results, which make leaderboards."""

from __future__ import annotations

import functools
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import yaml

from anthology_hub.errors import DataError
from anthology_hub.labhub.accounts import Viewer
from anthology_hub.labhub.discussions import OPEN, Discussions
from anthology_hub.labhub.store import Commit, Repo, Store
from anthology_hub.labhub.trees import Leaf

LARGEST = 1 << 20
RESULTS, BENCHMARK = ".eval_results", "eval.yaml"
DEEPEST = 50
_LONG_NUMBER = re.compile(r"[-+\d_:.]{100,}")
# What PyYAML lets through of values that are not what their tag says, as in `!!bool perhaps`.
_OF_CONSTRUCTORS = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
_FRONT = re.compile(r"\s*---[ \t]*\r?\n(.*?)(?<=\n)---[ \t]*(?:\r?\n|$)", re.S)
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml(text: str) -> Any:  # noqa: ANN401 - whatever YAML holds
    """Read YAML as values that JSON can hold; dates become text.

    Raises:
        DataError: If it is no YAML, or holds what JSON cannot.

    Example:
        >>> read_yaml("license: mit")
        {'license': 'mit'}
    """
    try:
        _check_yaml(text)
        return json.loads(json.dumps(yaml.load(text, _Loader), default=str, allow_nan=False))
    except (yaml.YAMLError, *_OF_CONSTRUCTORS) as problem:
        told = " ".join(str(problem).split())[:300] or type(problem).__name__
        raise DataError(f"this is no valid YAML: {told}. Mend it and try again") from problem


def _check_yaml(text: str) -> None:
    """Refuse what takes long or grows large when it is read: a few references can stand for gigabytes."""
    if len(text) > LARGEST:
        raise DataError(f"this YAML is longer than {LARGEST} characters: shorten it")
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.AliasEvent):
            raise DataError("YAML references (*name) are not allowed here: write the value out")
        # YAML counts in sixties too: 1:1:1:... takes time that grows with the square of its length.
        if isinstance(event, yaml.ScalarEvent) and not event.implicit[1] and _LONG_NUMBER.fullmatch(event.value):
            raise DataError("numbers of more than 100 digits are not allowed here: put quotes around text")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise DataError(f"this YAML is nested deeper than {DEEPEST} levels: flatten it")


def front_matter(text: str) -> dict[str, Any] | None:
    r"""The YAML between `---` lines at the beginning of a card; None if there is none.

    Raises:
        DataError: If it is no mapping.

    Example:
        >>> front_matter("---\nlicense: mit\n---\n# People")
        {'license': 'mit'}
    """
    found = _FRONT.match(text)
    data = read_yaml(found[1]) if found else None
    if data is not None and not isinstance(data, dict):
        raise DataError(
            f"the metadata of a card must be a mapping, not {type(data).__name__}: write 'key: value' lines"
        )
    return data


def card(store: Store, commit: Commit) -> dict[str, Any]:
    """The metadata of a repository's README.md; empty if there is none that can be read."""
    leaf = store.entry(commit, "README.md")
    if not isinstance(leaf, Leaf) or leaf.size > LARGEST:
        return {}
    return dict(_card(store, leaf.sha256))


def tags(store: Store, commit: Commit) -> list[str]:
    """The tags by which a repository is found: those of its card, and `license:mit`, `language:en` and their like."""
    found = card(store, commit)
    listed = [str(tag) for tag in _several(found.get("tags"))]
    for key in ("license", "language", "task_categories", "size_categories", "library_name", "pipeline_tag"):
        listed += [f"{key}:{value}" for value in _several(found.get(key))]
    if isinstance(store.entry(commit, BENCHMARK), Leaf):
        listed.append("benchmark:official")
    return listed


def eval_results(store: Store, commit: Commit) -> list[dict[str, Any]]:
    """The entries of all `.eval_results/*.yaml`: filename and data, or filename and error."""
    return [
        {"filename": path, **result} for path, leaf in _result_files(store, commit) for result in _results(store, leaf)
    ]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of a dataset's leaderboard."""

    rank: int
    model: Repo
    task: str
    value: float
    filename: str
    pull_request: int | None
    data: dict[str, Any]


def leaderboard(
    store: Store, dataset: Repo, viewer: Viewer | None, *, base_models_only: bool = True
) -> list[Entry] | None:
    """The results that models declare on a dataset, ranked within each task, the highest first.

    Those in open pull requests count too and bear their number.

    Returns:
        None if the dataset is no benchmark: it has no `eval.yaml`, and no model has a result on it.
    """
    models = store.heads(model for model in store.repos("model") if store.may_open(viewer, model))
    found = [entry for model, head in models
             for entry in _declared(store, (model, head), dataset.full_name, base_models_only)]  # fmt: skip
    if not found and store.entry(store.resolve(dataset), BENCHMARK) is None:
        return None
    found.sort(key=lambda entry: (entry.task, -entry.value, entry.model.full_name))
    return [entry for _, task in itertools.groupby(found, lambda entry: entry.task) for entry in _ranked(task)]


def _ranked(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Number entries that are sorted by value; equal values share the better rank."""
    last: Entry | None = None
    for place, entry in enumerate(entries, 1):
        last = replace(entry, rank=last.rank if last and last.value == entry.value else place)
        yield last


def _declared(store: Store, at: tuple[Repo, Commit], dataset: str, base_models_only: bool) -> Iterator[Entry]:
    model, head = at
    if base_models_only and card(store, head).get("base_model"):
        return
    known = set[str]()
    for pull, commit in [(None, head), *_proposals(store, model)]:
        for result in eval_results(store, commit):
            data = result.get("data", {})
            told, value = data.get("dataset", {}), data.get("value")
            if told.get("id") == dataset and not (pull and _text(result) in known):
                known |= set() if pull else {_text(result)}
                task = str(told.get("task_id"))
                yield Entry(rank=0, model=model, task=task, value=float(value), filename=result["filename"],
                            pull_request=pull, data=data)  # fmt: skip


def _proposals(store: Store, model: Repo) -> list[tuple[int | None, Commit]]:
    talks = Discussions(store)
    pulls = [talk for talk in talks.all(model) if talk.is_pull_request and talk.status in OPEN]
    return [(pull.num, store.resolve(model, pull.ref)) for pull in pulls]


def _result_files(store: Store, commit: Commit) -> list[tuple[str, Leaf]]:
    folder = store.entry(commit, RESULTS)
    nodes = store.tree(folder).items() if isinstance(folder, str) else ()
    return [(f"{RESULTS}/{name}", node) for name, node in sorted(nodes)
            if isinstance(node, Leaf) and name.endswith((".yaml", ".yml"))]  # fmt: skip


def _results(store: Store, leaf: Leaf) -> Sequence[dict[str, Any]]:
    return _result(store, leaf.sha256) if leaf.size <= LARGEST else [{"error": f"larger than {LARGEST} bytes"}]


@functools.lru_cache(maxsize=256)
def _result(store: Store, sha256: str) -> Sequence[dict[str, Any]]:
    try:
        found = read_yaml(store.blobs.read(sha256).decode("utf-8", "replace"))
    except DataError as problem:
        return [{"error": str(problem)}]
    if not isinstance(found, list):
        return [{"error": "an evaluation result file must hold a list of entries"}]
    return [{"data": entry} if _is_result(entry) else {"error": _RESULT} for entry in found]


_RESULT = "an entry needs dataset.id, dataset.task_id and a finite number as value"


def _is_result(entry: object) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("dataset"), dict):
        return False
    value, dataset = entry.get("value"), entry["dataset"]
    number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
    return number and isinstance(dataset.get("id"), str) and "task_id" in dataset


@functools.lru_cache(maxsize=256)
def _card(store: Store, sha256: str) -> dict[str, Any]:
    try:
        return front_matter(store.blobs.read(sha256).decode("utf-8", "replace")) or {}
    except DataError:
        return {}


def _text(result: dict[str, Any]) -> str:
    return json.dumps(result, sort_keys=True)


def _several(value: object) -> list[object]:
    return value if isinstance(value, list) else [] if value is None else [value]
