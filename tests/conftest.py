"""Fixtures shared by all tests: real small things, made once."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import Request, urlopen

import pytest

# No test may reach a public hub: models come from packages on this disk, repositories from a hub that the test starts.
# The client reads these once, when it is imported.
os.environ["HF_HUB_OFFLINE"] = "0"
os.environ["HF_ENDPOINT"] = "http://127.0.0.1:9"
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="anthology-hub-tests-")
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ.pop("HF_TOKEN", None)
# Several workers with a thread for each core would wait for one another most of the time.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"

from hypothesis import settings

from anthology_hub import Anthology, Encoder, Respondents, Survey
from anthology_hub.places import place_of

if TYPE_CHECKING:
    from anthology_hub.labhub.server import Running

atexit.register(shutil.rmtree, os.environ["HF_HOME"], ignore_errors=True)
settings.register_profile("ci", derandomize=True, deadline=None, max_examples=60)
settings.load_profile("ci")

ROOT = Path(__file__).parents[1]
GSS_PANEL = ROOT.parent / "shared" / "data" / "gss_2016_2018_2020.parquet"


@pytest.fixture(scope="session")
def starter() -> Anthology:
    """The starter collection, as shipped."""
    return Anthology.load("starter")


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    """The real embedding model."""
    return Encoder()


@pytest.fixture(scope="session")
def gss() -> Respondents:
    """The respondents of the General Social Survey 2018."""
    return Respondents.load("gss-2018")


@pytest.fixture(scope="session")
def spending() -> Survey:
    """Four of the national spending items."""
    return Survey.load("gss-national-spending").select(["natenvir", "nateduc", "natarms", "nataid"])


@pytest.fixture(scope="session")
def gss_panel_file() -> Iterator[Path]:
    """A GSS panel file of the user's; tests that need it are skipped where it is absent."""
    if not GSS_PANEL.is_file():
        pytest.skip("the GSS panel file is not on this machine")
    yield GSS_PANEL


@pytest.fixture(scope="session")
def labhub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A private hub, really serving."""
    from anthology_hub.labhub.server import running

    with running(tmp_path_factory.mktemp("labhub")) as server:
        yield server


@pytest.fixture
def lab(labhub: Running, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    """The private hub as the one that this process talks to, with the token of its account `lab`."""
    monkeypatch.setenv("HF_ENDPOINT", labhub.url)
    monkeypatch.setenv("HF_TOKEN", labhub.store.accounts.add_token("lab"))
    yield labhub
    assert not labhub.faults.waiting


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """A server that speaks S3, with an empty bucket; gives the URI of a folder in it."""
    moto = pytest.importorskip("moto.server")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    # What it stores outlives the server: another test's buckets would still be there.
    urlopen(Request(f"http://{host}:{port}/moto-api/reset", method="POST")).close()
    query = f"?endpoint_override={host}:{port}&scheme=http&region=us-east-1&allow_bucket_creation=true"
    place_of(f"s3://bucket/first{query}")._opened[0].create_dir("bucket")
    yield lambda folder: f"s3://bucket/{folder}{query}"
    server.stop()
