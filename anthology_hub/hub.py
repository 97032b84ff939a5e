"""A folder to and from a repository at a revision. The only door to huggingface_hub.

A local folder stands in for a repository everywhere: what is published is a set of new files, what is loaded is a
folder.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from anthology_hub.errors import DataError, OptionError

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoFile, RepoFolder

SCHEME = "hf://"
_REPO = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A folder and the revision it is."""

    folder: Path
    revision: str
    """Commit id on a hub; `folder` for a local folder."""


def pull(source: str | Path, *, revision: str | None = None, patterns: list[str] | None = None) -> Snapshot:
    """Bring a dataset repository to this disk, or point at a local folder.

    The revision is resolved to a commit first and that commit is what is downloaded.

    Args:
        source: A folder, or a dataset repository `namespace/name`, with `hf://` in front or not.
        revision: Branch, tag or commit of a repository.
        patterns: Globs of the files needed; all, if not given.

    Raises:
        DataError: If there is no such folder and the name is no repository, or the hub cannot give it.
        OptionError: If a revision is asked of a local folder, which has none.
    """
    if Path(source).is_dir():
        if revision is not None:
            raise OptionError(f"the folder {source} has no revisions: leave out revision={revision!r}")
        return Snapshot(folder=Path(source), revision="folder")
    repo = str(source).removeprefix(SCHEME)
    if not _REPO.fullmatch(repo):
        raise DataError(f"{source} is neither a folder nor a repository name like 'namespace/name'")
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        sha = HfApi().dataset_info(repo, revision=revision).sha or str(revision)
        folder = snapshot_download(repo, repo_type="dataset", revision=sha, allow_patterns=patterns)
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        at = f" at revision {revision!r}" if revision else ""
        raise DataError(f"the dataset {source!r}{at} cannot be had from the hub: {error}") from error
    return Snapshot(folder=Path(folder), revision=sha)


def add_files(target: str | Path, files: Mapping[str, bytes], *, message: str) -> str:
    """Add new files to a results folder or repository, all or none of them; existing files are never changed.

    Adding the same content again is a no-op.

    Args:
        target: A folder (made if missing), or `hf://namespace/name` for a dataset repository.
        files: Path inside the target -> content.
        message: Commit message for a repository.

    Returns:
        Where they are now.

    Raises:
        DataError: If a path exists with other content, or leads out of the target.
    """
    for path in files:
        if Path(path).is_absolute() or ".." in Path(path).parts:
            raise DataError(f"the path {path!r} leads out of {target}: give one inside")
    # A path like `out/results` must never become an upload: a repository is named with its scheme.
    if not str(target).startswith(SCHEME):
        return _add_to_folder(Path(target), files)
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return _add_to_repository(str(target).removeprefix(SCHEME), files, message)
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise DataError(f"{target} cannot be written: {error}. Check the name, the token and the connection") from error


def write_file(path: Path, content: bytes) -> None:
    """Write a file so that it is either there whole or not at all, also after a crash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        # mkstemp makes it readable by its owner only; what is published is for others to read.
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _add_to_repository(repo: str, files: Mapping[str, bytes], message: str) -> str:
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi()
    api.create_repo(repo, repo_type="dataset", private=True, exist_ok=True)
    present = {info.path: info for info in api.get_paths_info(repo, list(files), repo_type="dataset")}
    for path, info in present.items():
        if not _same(info, files[path]):
            raise _changed(f"{repo}/{path}")
    new = [CommitOperationAdd(path, content) for path, content in files.items() if path not in present]
    if not new:
        return f"{SCHEME}{repo}"
    return str(api.create_commit(repo, new, commit_message=message, repo_type="dataset").commit_url)


def _add_to_folder(folder: Path, files: Mapping[str, bytes]) -> str:
    root = folder.expanduser()
    for path, content in files.items():
        there = root / path
        if there.exists() and not (there.is_file() and there.read_bytes() == content):
            raise _changed(there)
        if blocked := next((above for above in there.parents if above.is_file()), None):
            raise DataError(f"{blocked} is a file, so {there} cannot be: give another folder")
    for path, content in files.items():
        write_file(root / path, content)
    return str(folder)


def _same(info: RepoFile | RepoFolder, content: bytes) -> bool:
    """Compare a file of a repository with bytes by its git or LFS digest."""
    if large := getattr(info, "lfs", None):
        return bool(large.sha256 == hashlib.sha256(content).hexdigest())
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
    return getattr(info, "blob_id", None) == blob.hexdigest()


def _changed(there: object) -> DataError:
    return DataError(f"{there} exists with other content: published files are never changed, use a new run")
