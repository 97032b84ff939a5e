"""Official clients, unmodified and with only HF_ENDPOINT set, cannot tell the private hub from the public one.

The matrix: two generations of the Python client, each with Xet on and off, and the JavaScript client. Each runs a probe
(`clients/probe.py`, `clients/probe.mjs`) in a process of its own against a server of its own; what it does and expects
is written there. Requests to any other host end at a witness who counts them.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import socketserver
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from pathlib import Path

import pytest
from filelock import FileLock

from anthology_hub.labhub.server import SILENCE, running
from anthology_hub.labhub.wire import Options

PROBES = Path(__file__).parent / "clients"
STARTER = Path(__file__).parents[2] / "anthology_hub" / "data" / "starter"
FORMER = ("huggingface_hub==1.33.0", "datasets==4.8.5", "duckdb>=1.4", "polars>=1.35")
JAVASCRIPT = "@huggingface/hub@2.17.5"

PYTHON_OPERATIONS = tuple(
    node.name
    for node in ast.parse((PROBES / "probe.py").read_text(encoding="utf-8")).body
    if isinstance(node, ast.FunctionDef) and any("operation" in ast.dump(mark) for mark in node.decorator_list)
)
JAVASCRIPT_OPERATIONS = tuple(
    re.findall(r"^  async (npm_\w+)\(\)", (PROBES / "probe.mjs").read_text(encoding="utf-8"), re.M)
)

# What no server can mend: these go to huggingface.co, whatever HF_ENDPOINT says.
POLARS = {"polars_scans_hf_paths": "polars has the address huggingface.co built in"}
CARDS = {
    "dataset_cards_are_pushed_and_loaded": "huggingface_hub 1.x validates cards at huggingface.co; mended in 2.0",
    "card_metadata_is_updated_in_place": "huggingface_hub 1.x validates cards at huggingface.co; mended in 2.0",
}


SHORT_PAGES = Options(page_size=20)


@dataclass(frozen=True, kw_only=True)
class Client:
    """One column of the matrix."""

    operations: tuple[str, ...]
    requirements: tuple[str, ...] = ()
    xet: bool = True
    astray: tuple[str, ...] = ()
    """Operations that leave for another host and fail there."""
    left_out: tuple[str, ...] = ()
    """Operations whose libraries this client's environment does not hold."""


MODELS = ("transformers_models_and_tokenizers_come_back", "sentence_transformers_come_back")
CURRENT_PYTHON = Client(operations=PYTHON_OPERATIONS, astray=(*POLARS,))
FORMER_PYTHON = replace(CURRENT_PYTHON, requirements=FORMER, astray=(*POLARS, *CARDS), left_out=MODELS)
CLIENTS = {
    "current, Xet": CURRENT_PYTHON,
    "current, LFS": replace(CURRENT_PYTHON, xet=False),
    "former, Xet": FORMER_PYTHON,
    "former, LFS": replace(FORMER_PYTHON, xet=False),
    "JavaScript": Client(operations=JAVASCRIPT_OPERATIONS, xet=False),
}
PYTHON_CLIENTS = [name for name in CLIENTS if name != "JavaScript"]
CASES = [(name, operation) for name, client in CLIENTS.items() for operation in client.operations]


@dataclass(frozen=True, kw_only=True)
class Report:
    """What one client's probe told, and whom it called beside the hub."""

    outcomes: dict[str, dict[str, str]]
    called: list[str]
    """Other hosts asked for by the operations that are not known to go astray."""
    called_astray: list[str]
    used_xet: bool


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Report]:
    """The report of a client by name; each probe runs once."""
    return cache(lambda name: run(CLIENTS[name], tmp_path_factory.mktemp("client")))


def run(client: Client, folder: Path, *, quiet: dict[str, str] = SILENCE) -> Report:
    with running(folder / "hub", options=SHORT_PAGES) as hub, witness() as (proxy, called):
        tokens = {
            "HUB_LAB_TOKEN": hub.store.accounts.add_token("lab", "write"),
            "HUB_GUEST_TOKEN": hub.store.accounts.add_token("guest", "write"),
            "HUB_READER_TOKEN": hub.store.accounts.add_token("reader", "read"),
        }
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")} | tokens | quiet
        environment |= {"HF_ENDPOINT": hub.url, "HF_TOKEN": tokens["HUB_LAB_TOKEN"], "HF_HOME": str(folder / "home")}
        environment |= {"HTTPS_PROXY": proxy, "NO_PROXY": "127.0.0.1,localhost"}
        environment |= {} if client.xet else {"HF_HUB_DISABLE_XET": "1"}
        expected = [operation for operation in client.operations if operation not in client.astray]
        told = probe(client, expected, folder=folder / "work", environment=environment)
        at_home = called.copy()
        if client.astray:
            told |= probe(client, client.astray, folder=folder / "astray", environment=environment)
        xet = (folder / "home" / "xet").exists()
        return Report(outcomes=told, called=at_home, called_astray=called[len(at_home) :], used_xet=xet)


def probe(
    client: Client, operations: Sequence[str], *, folder: Path, environment: dict[str, str]
) -> dict[str, dict[str, str]]:
    folder.mkdir()
    if client.operations == JAVASCRIPT_OPERATIONS:
        command: list[object] = ["node", PROBES / "probe.mjs", node_with(JAVASCRIPT)]
    else:
        python = python_with(client.requirements) if client.requirements else sys.executable
        command = [python, PROBES / "probe.py", "--work", folder, "--starter", STARTER, "--only", *operations]
    done = subprocess.run([str(part) for part in command], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    # The libraries write to the same stream: only the probe's own lines are objects.
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {told["operation"]: told for told in lines}


@contextmanager
def witness() -> Iterator[tuple[str, list[str]]]:
    """A proxy that lets nobody out and notes the hosts that were asked for."""
    called: list[str] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            called.append(self.rfile.readline().decode("latin-1").split()[1])
            self.wfile.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", called
        server.shutdown()


def python_with(requirements: tuple[str, ...]) -> Path:
    """The Python of a virtual environment that holds these, made once and kept."""
    python = kept(f"python-{sys.version_info.major}.{sys.version_info.minor}", requirements, make=make_venv)
    return python / "bin" / "python"


def make_venv(folder: Path, requirements: tuple[str, ...]) -> None:
    call([sys.executable, "-m", "venv", folder])
    call([folder / "bin" / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check", *requirements])


def node_with(package: str) -> Path:
    """A folder whose node_modules hold this package, made once and kept."""
    if not shutil.which("npm"):
        pytest.skip("npm is not on this machine: install Node.js 20 to run the JavaScript client")
    return kept("node", (package,), make=make_node_modules)


def make_node_modules(folder: Path, requirements: tuple[str, ...]) -> None:
    call(["npm", "install", "--no-audit", "--no-fund", "--prefix", folder, *requirements])


def kept(kind: str, requirements: tuple[str, ...], *, make: Callable[[Path, tuple[str, ...]], None]) -> Path:
    root = Path(os.environ.get("ANTHOLOGY_HUB_TEST_CACHE") or Path.home() / ".cache" / "anthology-hub-tests")
    folder = root / f"{kind}-{sha256(' '.join(requirements).encode()).hexdigest()[:12]}"
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder, requirements)
            (folder / "complete").touch()
    return folder


def call(command: list[object]) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stderr[-2000:]}"


@pytest.mark.slow
@pytest.mark.parametrize(("client", "operation"), CASES, ids=lambda value: value.replace(" ", ""))
def test_the_client_can(client: str, operation: str, report: Callable[[str], Report]) -> None:
    told, of = report(client).outcomes[operation], CLIENTS[client]
    expected = "failed" if operation in of.astray else "left out" if operation in of.left_out else "worked"
    assert told["outcome"] == expected, f"{told['detail']}\nat {told.get('line')}"


@pytest.mark.slow
@pytest.mark.parametrize("client", CLIENTS)
def test_the_client_calls_nobody_but_the_hub(client: str, report: Callable[[str], Report]) -> None:
    assert report(client).called == []


@pytest.mark.slow
def test_without_being_told_to_keep_quiet_datasets_names_what_it_loads_to_amazon(tmp_path: Path) -> None:
    loading = replace(CURRENT_PYTHON, operations=("load_dataset_reads_the_tag_it_is_told",), astray=())
    assert set(run(loading, tmp_path, quiet={}).called) == {"s3.amazonaws.com:443"}


@pytest.mark.slow
@pytest.mark.parametrize("client", PYTHON_CLIENTS)
def test_what_goes_astray_goes_to_the_public_hub(client: str, report: Callable[[str], Report]) -> None:
    assert set(report(client).called_astray) == {"huggingface.co:443"}
    for operation in CLIENTS[client].astray:
        detail = report(client).outcomes[operation]["detail"]
        assert "huggingface.co" in detail or "403 Forbidden" in detail, detail


@pytest.mark.slow
@pytest.mark.parametrize("client", PYTHON_CLIENTS)
def test_large_files_travel_by_xet_unless_it_is_switched_off(client: str, report: Callable[[str], Report]) -> None:
    assert report(client).used_xet == CLIENTS[client].xet
