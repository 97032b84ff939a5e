"""The leaderboard as a Space: a small Gradio app over a results repository, published or run on this machine."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping

from anthology_hub import hub
from anthology_hub.errors import DataError, MissingExtraError, OptionError
from anthology_hub.leaderboard import TABLE
from anthology_hub.schema import DATA

APP = DATA / "cards" / "space"
PORT = 7860
_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def space_files(results: str, *, title: str = "") -> dict[str, bytes]:
    """Return the files of a Space that shows a results repository.

    Args:
        results: The repository, `namespace/name`.
        title: Of the Space; the template's, if empty.

    Raises:
        OptionError: If the repository's name is none.

    Example:
        >>> sorted(space_files("lab/results"))
        ['README.md', 'app.py', 'requirements.txt', 'results.json']
    """
    import yaml

    repo = _checked("results repository", results)
    head, body = (APP / "README.md").read_text(encoding="utf-8").removeprefix("---\n").split("---\n", 1)
    metadata = yaml.safe_load(head)
    metadata |= {"title": title or metadata["title"], "datasets": [repo]}
    settings = {"results": repo, "title": metadata["title"]}
    readme = f"---\n{yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True)}---\n{body}"
    return {
        "README.md": readme.encode(),
        "results.json": (json.dumps(settings, indent=1, ensure_ascii=False) + "\n").encode(),
        **{name: (APP / name).read_bytes() for name in ("app.py", "requirements.txt")},
    }


def push_space(repo: str, *, results: str, title: str = "", public: bool = False) -> str:
    """Publish the leaderboard of a results repository as a Space, in one commit; the same again is a no-op.

    A Space over a private results repository needs a secret `HF_TOKEN` that may read it, set in the Space's settings.

    Args:
        repo: The Space, `namespace/name`; made if it is not there.
        results: The results repository, `namespace/name`.
        title: Of the Space.
        public: Whether a Space that is made now is for all to see.

    Returns:
        Address of the Space.

    Raises:
        OptionError: If a name is none.
        DataError: If the results have no table yet, or the hub cannot be written.
    """
    space, files = _checked("Space", repo), space_files(results, title=title)
    _check_table(f"{hub.SCHEME}{_checked('results repository', results)}")
    return _commit(space, files, public=public)


def run_space(results: str, *, port: int = PORT) -> int:
    """Show the leaderboard of a results folder or repository on this machine until it is interrupted.

    Args:
        results: A folder, or `namespace/name`.
        port: Of 127.0.0.1.

    Returns:
        Exit code of the app.

    Raises:
        MissingExtraError: If gradio is not installed.
        DataError: If the results have no table yet.
    """
    if importlib.util.find_spec("gradio") is None:
        raise MissingExtraError("gradio", "space", "the leaderboard app")
    _check_table(results)
    environment = {"RESULTS_REPO": results, "GRADIO_SERVER_PORT": str(port), "GRADIO_SERVER_NAME": "127.0.0.1"}
    return subprocess.run([sys.executable, str(APP / "app.py")], env={**os.environ, **environment}).returncode


def _checked(what: str, name: str) -> str:
    repo = name.removeprefix(hub.SCHEME)
    if not _NAME.fullmatch(repo):
        raise OptionError(f"{name!r} is no name of a {what}: give namespace/name, as lab/leaderboard")
    return repo


def _check_table(results: str) -> None:
    if not (hub.pull(results, patterns=[TABLE]).folder / TABLE).is_file():
        raise DataError(
            f"{results} has no table to show yet: make it with `anthology-hub leaderboard {results} --compact`"
        )


def _commit(space: str, files: Mapping[str, bytes], *, public: bool) -> str:
    from huggingface_hub import CommitOperationAdd
    from huggingface_hub.utils import httpx  # type: ignore[attr-defined]  # httpx or httpx2, whichever it uses

    api = hub.client()
    operations = [CommitOperationAdd(path, content) for path, content in files.items()]

    def attempt() -> None:
        api.create_repo(space, repo_type="space", space_sdk="gradio", private=not public, exist_ok=True)
        # What is there already is not sent twice, nor committed.
        api.create_commit(space, operations, commit_message="Leaderboard of virtual personas", repo_type="space")

    try:
        hub.until_done(attempt)
    except (httpx.HTTPError, OSError, ValueError) as error:
        raise DataError(
            f"the Space {space} cannot be written: {error}. Check the name, the token and the connection, then push "
            "again"
        ) from error
    return f"{api.endpoint}/spaces/{space}"
