"""Leaderboard of virtual personas: how near simulated survey answers come to people's.

Shows the table that `anthology-hub leaderboard TARGET --compact` writes into a results repository. Run it here with

    RESULTS_REPO=namespace/name python app.py

RESULTS_REPO may also be a results folder. HF_ENDPOINT names another hub, HF_TOKEN opens a private repository.
"""

import html
import json
import os
from pathlib import Path
from typing import Any

import gradio as gr
import pandas as pd

TABLE = "leaderboard/latest.parquet"
ALL = "all"
HERE = Path(__file__).parent
SETTINGS = json.loads((HERE / "results.json").read_text()) if (HERE / "results.json").is_file() else {}
RESULTS = os.environ.get("RESULTS_REPO") or SETTINGS.get("results", "")
TITLE = SETTINGS.get("title", "Leaderboard of virtual personas")
COLUMNS = {
    "#": "str",
    "in class": "str",
    "method": "str",
    "class": "str",
    "model": "str",
    "WD normalised": "number",
    "interval": "str",
    "closed": "str",
    "verified": "str",
    "WD steps": "number",
    "alpha (humans)": "str",
    "coverage": "str",
    "people": "number",
    "revision": "str",
    "personas": "str",
    "date": "str",
}

READ = """
**WD** is the Wasserstein distance between the answers of the simulated and the real people, mean over the questions;
lower is better. *Normalised* is the share of the scale, *steps* counts options: the two are never mixed.

**#** is the place among all runs that can be compared (same survey, questions, weighting, reference people and number
of simulated people); `=` marks a shared place: the interval overlaps that of the best run there, so their order may be
chance. **in class** is the place among runs that were told the same of the people and answered in the same way.

**closed** is the share of the way from the uniform baseline (0 %) to the human floor (100 %); higher is better, below 0
is worse than knowing nothing. The **floor** is what a random sample of real people of the same size reaches. **alpha**
(Cronbach) is best at the humans' own value, in brackets. Lines with `-` are references, not runs.

**verified**: somebody who holds the human file recomputed every figure from the published answers. `differs` and
`below protocol` say what came of it otherwise; empty: nobody has looked.
"""
SUBMIT = f"""
```bash
pip install anthology-hub
anthology-hub evaluate RUN-FOLDER --publish hf://{RESULTS or "NAMESPACE/NAME"}
```

opens a pull request with the run and its simulated answers, or commits where you may write. No row of a human
respondent leaves your machine. To check a run: `anthology-hub verify hf://{RESULTS or "NAMESPACE/NAME"} RUN`.
"""


def load() -> pd.DataFrame:
    """Read the newest table; what has not changed is not downloaded again."""
    if not RESULTS:
        raise gr.Error("RESULTS_REPO is not set: give the results repository, namespace/name, or a results folder")
    if Path(RESULTS).is_dir():
        return pd.read_parquet(Path(RESULTS) / TABLE)
    from huggingface_hub import hf_hub_download

    return pd.read_parquet(hf_hub_download(RESULTS.removeprefix("hf://"), TABLE, repo_type="dataset"))


def groups() -> list[str]:
    """The comparisons there are, those with most runs first."""
    table = load()
    counts = (
        table["rank"].notna().groupby(table["group"]).sum().sort_index().sort_values(ascending=False, kind="stable")
    )
    return list(counts.index)


def classes(group: str) -> list[str]:
    """The method classes of a comparison."""
    table = load()
    return [ALL, *sorted(set(table.loc[table["group"] == group, "method_class"]) - {""})]


def board(group: str, method_class: str = ALL, verified: bool = False) -> tuple[pd.DataFrame, str]:
    """The lines of a comparison, and their picture; references always stay."""
    table = load()
    rows = table[table["group"] == group]
    runs = rows["rank"].notna()
    if method_class != ALL:
        rows = rows[~runs | (rows["method_class"] == method_class)]
    if verified:
        rows = rows[rows["rank"].isna() | (rows["verdict"] == "verified")]
    shown = pd.DataFrame([line(row) for row in rows.to_dict("records")], columns=list(COLUMNS))
    return shown, picture(rows)


def line(row: dict[str, Any]) -> dict[str, Any]:
    """One line as it is shown."""
    return {
        "#": place(row["rank"], row["tied"]),
        "in class": place(row["class_rank"], row["class_tied"]),
        "method": row["method"],
        "class": row["method_class"],
        "model": row["model"],
        "WD normalised": number(row["wd_normalised"]),
        "interval": "" if pd.isna(row["low"]) else f"{row['low']:.3f} to {row['high']:.3f}",
        "closed": percent(row["closed"]),
        "verified": row["verdict"],
        "WD steps": number(row["wd"]),
        "alpha (humans)": "" if pd.isna(row["alpha"]) else f"{row['alpha']:.2f} ({row['human_alpha']:.2f})",
        "coverage": percent(row["coverage"]),
        "people": number(row["n"]),
        "revision": row["model_revision"][:12],
        "personas": row["collection"],
        "date": row["date"],
    }


def place(rank: float, tied: bool) -> str:
    """A rank as it is written."""
    return "-" if pd.isna(rank) else f"{int(rank)}{'=' if tied else ''}"


def number(value: float) -> float | None:
    """A figure with three digits; None where there is none."""
    return None if pd.isna(value) else round(float(value), 3)


def percent(value: float) -> str:
    """A share in percent."""
    return "" if pd.isna(value) else f"{value:.0%}"


def picture(rows: pd.DataFrame) -> str:
    """The intervals of all runs on one scale, with floor and baselines as upright lines."""
    rows = rows[rows["wd_normalised"].notna()]
    runs = rows[rows["rank"].notna()]
    most = max([0.01, *rows["wd_normalised"], *rows["high"].dropna()]) * 1.05
    left, width, step = 340, 520, 22
    bottom = 42 + step * len(runs)

    def x(value: float) -> float:
        return round(left + width * float(value) / float(most), 1)

    parts = []
    for turn, row in enumerate(rows[rows["rank"].isna()].to_dict("records")):
        at, name = x(row["wd_normalised"]), html.escape(row["method"].partition(" (")[0])
        parts.append(f'<line x1="{at}" x2="{at}" y1="34" y2="{bottom}" stroke="#8A9099" stroke-dasharray="3 3"/>')
        parts.append(f'<text x="{at}" y="{14 + turn % 2 * 14}" text-anchor="middle" font-size="11">{name}</text>')
    for at, row in enumerate(runs.to_dict("records")):
        y, value = 48 + step * at, row["wd_normalised"]
        low, high = (value if pd.isna(row[end]) else row[end] for end in ("low", "high"))
        name = html.escape(f"{row['method']}, {row['model']}"[:52])
        parts.append(f'<text x="{left - 10}" y="{y + 4}" text-anchor="end" font-size="12">{name}</text>')
        parts.append(f'<line x1="{x(low)}" x2="{x(high)}" y1="{y}" y2="{y}" stroke="#0072B2" stroke-width="2"/>')
        parts.append(f'<circle cx="{x(value)}" cy="{y}" r="4" fill="#0072B2"/>')
    told = f"Normalised WD with intervals of {len(runs)} runs"
    return (
        f'<svg role="img" aria-label="{told}" viewBox="0 0 {left + width + 20} {bottom + 10}" '
        f'fill="currentColor" style="max-width: 960px">{"".join(parts)}</svg>'
    )


def first() -> tuple[gr.Dropdown, gr.Dropdown, pd.DataFrame, str]:
    """What is shown when the page is opened or loaded anew."""
    found = groups()
    chosen = found[0] if found else ""
    shown, drawn = board(chosen)
    return gr.Dropdown(choices=found, value=chosen), gr.Dropdown(choices=classes(chosen), value=ALL), shown, drawn


def of_group(group: str, verified: bool) -> tuple[gr.Dropdown, pd.DataFrame, str]:
    """What is shown when another comparison is chosen."""
    return gr.Dropdown(choices=classes(group), value=ALL), *board(group, ALL, verified)


with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True) as demo:
    gr.Markdown(f"# {html.escape(TITLE)}\nHow near simulated survey answers come to people's. Results: `{RESULTS}`")
    with gr.Row():
        group = gr.Dropdown(label="Survey and what is compared", choices=[], scale=4, allow_custom_value=True)
        method_class = gr.Dropdown(label="Method class", choices=[ALL], value=ALL, allow_custom_value=True)
        verified = gr.Checkbox(label="verified runs only")
        again = gr.Button("Reload", size="sm")
    table = gr.Dataframe(
        headers=list(COLUMNS), datatype=list(COLUMNS.values()), interactive=False, show_label=False, max_height=700
    )
    drawn = gr.HTML()
    with gr.Accordion("How to read this", open=False):
        gr.Markdown(READ)
    with gr.Accordion("How to submit", open=False):
        gr.Markdown(SUBMIT)
    demo.load(first, None, [group, method_class, table, drawn], api_name="first")
    again.click(first, None, [group, method_class, table, drawn], api_name=False)
    group.input(of_group, [group, verified], [method_class, table, drawn], api_name=False)
    method_class.input(board, [group, method_class, verified], [table, drawn], api_name="board")
    verified.input(board, [group, method_class, verified], [table, drawn], api_name=False)
    gr.api(groups, api_name="groups")

if __name__ == "__main__":
    demo.launch()
