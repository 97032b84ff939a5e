"""Fixtures shared by all tests: real small things, made once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# No test may reach a model hub: everything comes from packages on this disk.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

from hypothesis import settings

from anthology_hub import Anthology, Encoder, Respondents, Survey

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
