"""A hub killed at any point comes back sound: each commit is there whole or not at all, and no answer was a lie."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from anthology_hub.labhub.store import Store
from anthology_hub.labhub.upkeep import fsck, gc

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")

# Dies before its n-th step, a step being each SQL statement, each flush to disk and each renaming of a file.
COMMITTER = """
import os, signal, sys
from anthology_hub.labhub import database, store

folder, number, left = sys.argv[1], sys.argv[2], int(sys.argv[3])

def step(*_):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

def stepping(function):
    def stepped(*args, **options):
        step()
        return function(*args, **options)
    return stepped

def traced(self, opened=database.Database._open):
    connection = opened(self)
    connection.set_trace_callback(step)
    return connection

os.fsync, os.replace, database.Database._open = stepping(os.fsync), stepping(os.replace), traced
hub = store.Store(folder)
repo = hub.find("dataset", "lab", "people")
changes = [hub.file(f"n{number}/{part}", f"{number} {part}".encode()) for part in "abc"]
print(hub.commit(repo, "main", changes, title=number, author="lab").sha)
"""


def landed(store: Store) -> dict[str, str]:
    """The commits on main by their title, after a check that each has all its files with their right contents."""
    found = {}
    for commit in store.history(store.resolve(store.find("dataset", "lab", "people"))):
        if commit.title.isdigit():
            for part in "abc":
                assert store.read(commit, f"n{commit.title}/{part}") == f"{commit.title} {part}".encode()
            found[commit.title] = commit.sha
    return found


def test_a_commit_that_dies_at_any_step_is_there_whole_or_not_at_all(tmp_path):
    with closing(Store(tmp_path / "hub")) as store:
        store.create_repo("dataset", "lab", "people", author="lab")
    died, outcomes = True, []
    while died:
        number = len(outcomes) + 1
        command = [sys.executable, "-c", COMMITTER, str(tmp_path / "hub"), str(number), str(number)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        died = done.returncode != 0
        with closing(Store(tmp_path / "hub")) as store:
            assert fsck(store).problems == ()
            outcomes.append(str(number) in landed(store))
            assert not done.stdout or landed(store)[str(number)] == done.stdout.strip()
    # Dying early leaves nothing, dying after the transaction leaves it all; there is one turning point.
    assert outcomes == sorted(outcomes)
    assert len(outcomes) > 20 and outcomes[-1]
    assert outcomes.count(False) > 15
    with closing(Store(tmp_path / "hub")) as store:
        gc(store, grace=0)
        assert fsck(store).problems == ()
        assert len(landed(store)) == outcomes.count(True)


# Uploads for ever, each time small files and a large one, and notes every commit of which it was told.
UPLOADER = """
import random, sys
from huggingface_hub import CommitOperationAdd, HfApi

told, api, number = open(sys.argv[1], "a"), HfApi(), int(sys.argv[2])
while True:
    number += 1
    files = {f"n{number}/{part}": f"{number} {part}".encode() for part in "abc"}
    files[f"n{number}/large.bin"] = random.Random(number).randbytes(300_000)
    adds = [CommitOperationAdd(path, data) for path, data in files.items()]
    try:
        done = api.create_commit("lab/people", adds, commit_message=str(number), repo_type="dataset")
    except Exception as problem:
        print(number, type(problem).__name__, problem, file=sys.stderr)
    else:
        print(number, done.oid, file=told, flush=True)
"""
SERVER = (
    "import sys; from anthology_hub.labhub.server import serve; serve(sys.argv[1], port=int(sys.argv[2]), say=print)"
)


@contextmanager
def process(*arguments: object, **environment: str):
    """A Python process that is killed at the end."""
    known = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    child = subprocess.Popen(
        [sys.executable, "-c", *map(str, arguments)],
        env=known | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def wait_for(ready):
    for _ in range(6000):
        if ready():
            return
        time.sleep(0.01)
    raise AssertionError("it never came")


def answers(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        return taken.getsockname()[1]


def lines(file: Path) -> list[list[str]]:
    return [line.split() for line in file.read_text().splitlines()] if file.exists() else []


@pytest.mark.slow
@pytest.mark.parametrize("xet", [True, False], ids=["Xet", "LFS"])
def test_a_hub_killed_again_and_again_under_the_official_client_loses_no_commit_it_told_of(tmp_path, xet):
    folder, told, port, chance = tmp_path / "hub", tmp_path / "told", free_port(), random.Random(5)
    with closing(Store(folder)) as store:
        store.create_repo("dataset", "lab", "people", author="lab")
        token = store.accounts.add_token("lab")
    for kill in range(7):
        with process(SERVER, folder, port) as server:
            wait_for(lambda: answers(port))
            environment = {
                "HF_ENDPOINT": f"http://127.0.0.1:{port}",
                "HF_TOKEN": token,
                "HF_HOME": str(tmp_path / "home"),
            }
            environment |= {"HF_HUB_DISABLE_TELEMETRY": "1", **({} if xet else {"HF_HUB_DISABLE_XET": "1"})}
            before = len(lines(told))
            with process(UPLOADER, told, 1000 * kill, **environment):
                wait_for(lambda: len(lines(told)) > before)  # noqa: B023
                time.sleep(chance.uniform(0, 0.2))
                server.kill()
                server.wait()
        with closing(Store(folder)) as store:
            assert fsck(store).problems == ()
            commits = landed(store)
            assert all(commits[number] == sha for number, sha in lines(told))
            head = store.resolve(store.find("dataset", "lab", "people"))
            for number in commits:
                data = random.Random(int(number)).randbytes(300_000)
                assert store.read(head, f"n{number}/large.bin") == data
    with closing(Store(folder)) as store:
        gc(store, grace=0)
        assert fsck(store).problems == ()
        assert len(commits) >= 7
