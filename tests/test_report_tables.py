"""Results as tables: what stands where, in Markdown, LaTeX, CSV and a notebook."""

import csv
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from anthology_hub.errors import EmptyError, OptionError, UnknownNameError
from anthology_hub.report_tables import as_html, csv_table, families, latex, markdown, number, percent, rows, short, way
from anthology_hub.schema import Metric, Result, Scale, Subgroup

HOSTILE = "a_b & 50% $x$ #1 {c} ~d ^e \\f <b>|*`\n[g]"


def metric(name, value, **company):
    return Metric(name=name, value=value, unit="u", **company)


def result(**given):
    """A result with the figures of the paper, WD 0.4, Fro 2.0, alpha 0.5 unless other values are given."""
    values = {"wd": 0.4, "fro": 2.0, "alpha": 0.5} | {k: given.pop(k) for k in ("wd", "fro", "alpha") if k in given}
    found = (
        metric("wd_normalised", values["wd"] and values["wd"] / 2, low=0.1, high=0.3, floor=0.05, uniform=0.45),
        metric("wd", values["wd"], floor=0.1, uniform=0.9),
        metric("fro", values["fro"], floor=0.5),
        metric("alpha", values["alpha"], human=0.7, floor=0.69),
    )
    judged = {"humans": "town", "humans_digest": given.pop("digest", "d1")}
    usual = dict(
        run_id="r1", created="2026-01-01", survey="tea", developer="meta", model="big", method="anthology/greedy", n=20,
        n_humans=100, questions=("a", "b"), weighting="weighted", metrics=found, coverage={"answered": 1.0},
        option_mass=None, items=(), provenance={"evaluation": judged},
    )  # fmt: skip
    return Result(**(usual | given))


def cells(table):
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines() if "|" in line]


def test_the_markdown_table_has_the_layout_of_the_paper():
    table = markdown([result(), result(run_id="r2", method="bio", wd=0.3, fro=2.5, alpha=0.9)])
    assert cells(table) == [
        ["Model", "Method", "Matching", "WD ↓", "Fro ↓", "α"],
        ["---", "---", "---", "---:", "---:", "---:"],
        ["meta/big", "anthology", "greedy", "0.400", "**2.000**", "**0.500**"],
        ["meta/big", "bio", "n/a", "**0.300**", "2.500", "0.900"],
        ["Human", "split halves", "n/a", "0.100", "0.500", "0.700"],
    ]
    assert table.endswith("\n\ntea, 2 questions, 100 people of town, weighting weighted.\n")


def test_surveys_stand_side_by_side_and_a_run_that_lacks_one_has_dashes():
    table = cells(markdown([result(), result(survey="milk", wd=1.5), result(method="bio")]))
    assert table[0][3:] == [f"{survey}: {name}" for survey in ("tea", "milk") for name in ("WD ↓", "Fro ↓", "α")]
    assert table[2][3:] == ["**0.400**", "**2.000**", "**0.500**", "1.500", "2.000", "0.500"]
    assert table[3][6:] == ["–", "–", "–"]


def test_one_survey_against_two_groups_of_humans_is_two_columns_that_say_so():
    table = cells(markdown([result(), result(digest="d2", n_humans=50)]))
    assert table[0][3] == "tea, 2 questions, 100 people of town, weighting weighted: WD ↓"
    assert table[0][6] == "tea, 2 questions, 50 people of town, weighting weighted: WD ↓"


def test_replicates_of_one_method_have_a_row_each():
    table = cells(markdown([result(), result(run_id="r2", wd=0.5), result(run_id="r3", wd=0.6)]))
    assert [row[3] for row in table[2:5]] == ["**0.400**", "0.500", "0.600"]


def test_other_figures_can_make_the_columns_and_the_best_is_the_highest_of_an_agreement():
    def one(run, accuracy):
        found = (metric("tv", 0.3, floor=0.1), metric("accuracy", accuracy, human=0.8))
        return result(run_id=run, metrics=found)

    held, names = [one("r1", 0.4), one("r2", 0.5)], ["tv", "accuracy", "explained"]
    table = cells(markdown(held, measures=names))
    assert table[0][3:] == ["Total variation ↓", "Accuracy ↑", "Explained variance"]
    assert [row[3:] for row in table[2:]] == [
        ["**0.300**", "0.400", "–"],
        ["**0.300**", "**0.500**", "–"],
        ["0.100", "0.800", "–"],
    ]
    text = latex(held, measures=names)
    assert r"& Matching & Total variation $\downarrow$ & Accuracy $\uparrow$ & Explained variance" in text
    assert r"\begin{tabular}{lllrrr}" in text
    with pytest.raises(UnknownNameError, match="unknown measure 'wdd': did you mean 'wd'"):
        markdown(held, measures=["wdd"])


def test_named_runs_have_their_names_in_the_first_column():
    table = cells(markdown([result(), result(run_id="r2")], names=["first", "second"]))
    assert [row[0] for row in table] == ["Run", "---", "first", "second", ""]


def test_equal_best_figures_are_both_bold_and_undefined_ones_never():
    table = cells(markdown([result(), result(run_id="r2"), result(run_id="r3", wd=None)]))
    assert [row[3] for row in table[2:5]] == ["**0.400**", "**0.400**", "–"]
    table = cells(markdown([result(wd=float("nan")), result(run_id="r2")]))
    assert [row[3] for row in table[2:4]] == ["–", "**0.400**"]
    unknown = [replace(one, metrics=(*one.metrics[:3], metric("alpha", 0.5))) for one in (result(), result(n=3))]
    assert [row[5] for row in cells(markdown(unknown))[2:]] == ["0.500", "0.500", "–"]


def test_a_result_without_a_figure_of_the_paper_has_a_dash():
    assert cells(markdown([replace(result(), metrics=())]))[2][3:] == ["–", "–", "–"]


def test_the_latex_table_is_that_of_booktabs():
    assert latex([result(), result(survey="milk", wd=-0.01)]).splitlines() == [
        r"% needs \usepackage{booktabs}",
        "% tea, 2 questions, 100 people of town, weighting weighted",
        "% milk, 2 questions, 100 people of town, weighting weighted",
        r"\begin{tabular}{lllrrrrrr}",
        r"\toprule",
        r"&  &  & \multicolumn{3}{c}{tea} & \multicolumn{3}{c}{milk} \\",
        r"\cmidrule(lr){4-6} \cmidrule(lr){7-9}",
        r"Model & Method & Matching & WD $\downarrow$ & Fro $\downarrow$ & $\alpha$ & WD $\downarrow$ & "
        r"Fro $\downarrow$ & $\alpha$ \\",
        r"\midrule",
        r"meta/big & anthology & greedy & 0.400 & 2.000 & 0.500 & $-$0.010 & 2.000 & 0.500 \\",
        r"\midrule",
        r"Human & split halves & n/a & 0.100 & 0.500 & 0.700 & 0.100 & 0.500 & 0.700 \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_the_best_of_a_latex_column_is_bold_and_a_missing_cell_two_dashes():
    line = latex([result(), result(run_id="r2", wd=0.5, fro=None)]).splitlines()[8]
    assert line == r"meta/big & anthology & greedy & \textbf{0.400} & \textbf{2.000} & \textbf{0.500} \\"
    assert r"& 0.500 & -- & \textbf{0.500} \\" in latex([result(), result(run_id="r2", wd=0.5, fro=None)])


def test_shares_off_the_scale_are_a_row_of_the_csv_and_a_table_of_the_notebook_where_there_are_any():
    item = {"question": "a<b>", "n_simulated": 20, "n_human": 90, "off_scale": ["Not <sure>", "No idea"]}
    held = result(items=({**item, "off_scale_human": 0.25, "off_scale_simulated": 0.125}, {**item, "off_scale": []}))
    (row,) = (row for row in rows([held]) if row["measure"] == "off_scale")
    assert (row["question"], row["value"], row["human"], row["unit"]) == ("a<b>", 0.125, 0.25, "share of the answers")
    assert (row["n"], row["n_humans"]) == (20, 90)
    line = "<td>Not &lt;sure&gt;, No idea</td><td>25.0%</td><td>12.5%</td>"
    assert "options off the scale" in as_html(held) and as_html(held).count(line) == 1 and "<sure>" not in as_html(held)
    assert "off the scale" not in as_html(result()) and not any(
        row["measure"] == "off_scale" for row in rows([result()])
    )


def test_names_of_others_cannot_break_a_table():
    strange = result(model=HOSTILE, survey=HOSTILE)
    table = latex([strange])
    (row,) = [line for line in table.splitlines() if line.startswith("meta/")]
    assert row.startswith(
        r"meta/a\_b \& 50\% \$x\$ \#1 \{c\} \textasciitilde{}d \textasciicircum{}e \textbackslash{}f "
        r"\textless{}b\textgreater{}|*` [g] & anthology"
    )
    assert len(re.findall(r"(?<!\\)&", row)) == 5 and table.count("\n") == len(latex([result()]).splitlines())
    lines = markdown([strange]).splitlines()
    assert r"a\_b & 50% $x$ #1 {c} ~d ^e \\f \<b\>\|\*\` \[g\]" in lines[2]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines[:4]} == {7}


def test_csv_has_a_row_for_each_figure_with_all_its_company():
    parts = (
        Subgroup(trait="age", level="65+", n=9, n_human=40, metrics=(metric("wd", 0.2, floor=0.1, uniform=0.3),)),
        Subgroup(trait="age", level="18-29", n=1, n_human=5, note="too few"),
    )
    table = list(csv.DictReader(io.StringIO(csv_table([result(subgroups=parts), result(run_id="r2")]))))
    assert [(row["run_id"], row["level"], row["measure"]) for row in table] == [
        *(("r1", "", name) for name in ("wd_normalised", "wd", "fro", "alpha")),
        ("r1", "65+", "wd"),
        *(("r2", "", name) for name in ("wd_normalised", "wd", "fro", "alpha")),
    ]
    first, alpha, part = table[0], table[3], table[4]
    assert (first["value"], first["low"], first["high"], first["floor"]) == ("0.2", "0.1", "0.3", "0.05")
    assert float(first["attained"]) == pytest.approx((0.45 - 0.2) / (0.45 - 0.05))
    assert first["majority"] == first["previous"] == "" and alpha["human"] == "0.7"
    assert (part["trait"], part["n"], part["n_humans"], part["attained"]) == ("age", "9", "40", "0.5")
    assert (first["model"], first["method"], first["matching"]) == ("meta/big", "anthology", "greedy")


def test_csv_has_the_figures_of_each_question_and_how_much_the_order_of_options_moves():
    item = {
        "question": "a",
        "wd": 0.4,
        "wd_low": 0.3,
        "wd_high": 0.5,
        "wd_normalised": 0.2,
        "jsd": 0.1,
        "order_gap": 0.05,
        "n_human": 90,
    }
    other = {"question": "b", "wd": None, "wd_normalised": None, "jsd": 0.3, "n_human": None, "n_simulated": 20}
    table = rows([result(items=({**item, "n_simulated": 19}, other))])[4:]
    assert [(row["question"], row["measure"], row["value"], row["n"], row["n_humans"]) for row in table] == [
        ("a", "wd_normalised", 0.2, 19, 90),
        ("a", "wd", 0.4, 19, 90),
        ("a", "jsd", 0.1, 19, 90),
        ("a", "order_gap", 0.05, 19, 90),
        ("b", "jsd", 0.3, 20, None),
    ]
    assert table[3]["unit"] == "share of the probability" and (table[1]["low"], table[1]["high"]) == (0.3, 0.5)


def test_csv_has_a_row_for_each_figure_of_each_scale():
    scale = Scale(name="openness", questions=("O1", "O2"), metrics=(metric("alpha", 0.5, human=0.6),))
    *whole, last = csv.DictReader(io.StringIO(csv_table([result(scales=(scale,))])))
    assert {row["scale"] for row in whole} == {""}
    assert (last["scale"], last["measure"], last["value"], last["human"]) == ("openness", "alpha", "0.5", "0.6")


def test_what_is_not_a_number_is_an_empty_cell():
    strange = result(metrics=(metric("wd", float("nan"), low=float("inf")),))
    (row,) = rows([strange])
    assert row["value"] is None and row["low"] is None


@pytest.mark.parametrize("table", [markdown, latex, csv_table])
def test_no_result_is_an_error_that_says_what_to_do(table):
    with pytest.raises(EmptyError, match="no result to tabulate: evaluate a run first"):
        table([])


@pytest.mark.parametrize("table", [markdown, latex])
def test_there_is_one_name_for_each_run(table):
    with pytest.raises(OptionError, match="2 names do not fit 1 results: give one for each"):
        table([result()], names=["a", "b"])


def test_figures_come_in_families_and_unknown_ones_last():
    found = families([metric("odd", 1.0), metric("alpha", 0.5), metric("tv", 0.1), metric("wd", 0.2)])
    assert {family: [one.name for one in members] for family, members in found.items()} == {
        "Answer distributions": ["wd", "tv"],
        "Correlations and consistency": ["alpha"],
        "Other figures": ["odd"],
    }
    assert short("odd") == "odd" and short("wd_normalised") == "WD normalised"


def test_the_way_is_computed_where_a_result_does_not_have_it():
    assert way(metric("wd", 0.2, floor=0.1, uniform=0.3)) == 0.5
    assert way(metric("wd", 0.2, floor=0.1, uniform=0.3, attained=0.75)) == 0.75


def test_numbers_are_written_with_true_signs_and_dashes():
    assert [number(-0.5, 1), number(float("nan")), percent(-0.126, 0), percent(None), percent(0.5)] == [
        "−0.5", "–", "−13%", "–", "50.0%"
    ]  # fmt: skip


class Shown(HTMLParser):
    """Tags and words of what a notebook shows."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.texts.append(data)


def test_a_notebook_shows_the_headline_and_every_figure():
    shown = Shown(as_html(result(notes=("Mind the gap.",))))
    words = " ".join(" ".join(shown.texts).split())
    assert "20 simulated against 100 people of town" in words and "Mind the gap." in words
    assert "WD normalised 0.200 , interval 0.100 to 0.300; humans by chance 0.050, options at random 0.450." in words
    assert "WD normalised 0.200 0.100 to 0.300 0.050 0.450 – 62%" in words
    assert "Alpha 0.500 – 0.690 – 0.700 –" in words
    assert shown.tags.count("tr") == 1 + 4


def test_a_notebook_shows_results_of_shares_and_without_a_headline():
    shown = as_html(result(n_humans=0, metrics=(metric("odd", 1.0),), provenance={}))
    assert "20 simulated against the shares of unknown humans" in shown and "WD normalised" not in shown
    assert 'title="u"' in shown


def test_a_notebook_shows_names_as_text():
    shown = as_html(result(survey="<script>x</script>", model='"><img>', notes=("<b>",)))
    assert not {"script", "img"} & set(Shown(shown).tags)
