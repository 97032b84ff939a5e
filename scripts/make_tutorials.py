"""Run the tutorial notebooks and keep their outputs: `python scripts/make_tutorials.py`, after any change to one.

A notebook is its own source: edit it in Jupyter, then run this. It runs each in a kernel of its own, in an empty
folder, and keeps outputs and nothing that differs from one run to the next: no counts, times, paths or progress bars.
The tests run them the same way and compare.
"""

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from traitlets.config import Config

TUTORIALS = sorted((Path(__file__).parents[1] / "docs" / "tutorials").glob("*.ipynb"))
QUIET = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TQDM_DISABLE": "1",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    "PYTHONWARNINGS": "ignore:IProgress not found",
}
KERNEL = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
LANGUAGE = {"language_info": {"name": "python"}}


def run(path: Path, *, look: str = "") -> tuple[nbformat.NotebookNode, str]:
    """Run a notebook in an empty folder.

    Args:
        path: The notebook; it is not changed.
        look: Code for the same kernel after the last cell; what it prints is returned.

    Returns:
        The notebook with its outputs, cleaned; and what `look` printed.

    Raises:
        nbclient.exceptions.CellExecutionError: If a cell raises.
    """
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(look))
    with tempfile.TemporaryDirectory() as work:
        env = {**os.environ, **QUIET, "IPYTHONDIR": work, "JUPYTER_RUNTIME_DIR": work}
        folder = Path(work) / "notebook"
        folder.mkdir()
        # Sockets of files, not of the network: what runs here is nobody else's business.
        local = Config({"KernelManager": {"transport": "ipc", "ip": f"{work}/kernel"}})
        client = NotebookClient(notebook, timeout=600, kernel_name="python3", record_timing=False, config=local)
        client.execute(cwd=str(folder), env=env)
    seen = notebook.cells.pop()
    return cleaned(notebook), "".join(output.get("text", "") for output in seen.outputs)


def cleaned(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return the notebook without what differs between runs, and with cells numbered by their place."""
    notebook.metadata = nbformat.from_dict({**KERNEL, **LANGUAGE})
    for at, cell in enumerate(notebook.cells, 1):
        tags = cell.metadata.get("tags", [])
        cell.metadata, cell.id = nbformat.from_dict({"tags": tags} if tags else {}), f"cell-{at}"
        if cell.cell_type == "code":
            cell.execution_count, cell.outputs = None, _outputs(cell.outputs)
    return notebook


def _outputs(outputs: list[dict[str, Any]]) -> list[nbformat.NotebookNode]:
    """Outputs without numbers, and what was printed as one: it comes in pieces as the clock has it."""
    found: list[nbformat.NotebookNode] = []
    for output in outputs:
        kept = nbformat.from_dict({**output, "execution_count": None} if "execution_count" in output else output)
        if found and kept.get("name") and kept.get("name") == found[-1].get("name"):
            found[-1]["text"] += kept["text"]
        else:
            found.append(kept)
    return found


def main() -> int:
    """Run all, or those whose file names are given."""
    wanted = [path for path in TUTORIALS if not sys.argv[1:] or path.name in sys.argv[1:]]
    for path in wanted:
        notebook, _ = run(path)
        nbformat.write(notebook, path)
        print(f"{path.name}: {len(notebook.cells)} cells")
    return 0 if wanted else 2


if __name__ == "__main__":
    sys.exit(main())
