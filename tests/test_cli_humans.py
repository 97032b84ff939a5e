"""`anthology-hub humans`: from a file of the user's to respondents that a run can stand in for."""

import json

import numpy as np
import pandas as pd
import pyreadstat
import pytest
import yaml
from click.testing import CliRunner

from anthology_hub import Respondents, load_run
from anthology_hub.cli import main
from tests import human_files

AGE = {1.0: "18-29", 2.0: "30-49", 3.0: "50-64", 4.0: "65+", 99.0: "Refused"}
AGREE = {1.0: "Agree", 2.0: "Neither", 3.0: "Disagree", 99.0: "Don't know"}


def town(n=120):
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "respid": np.arange(1001.0, 1001 + n),
            "weight": rng.lognormal(sigma=0.4, size=n),
            "stratum": np.repeat([1.0, 2.0, 3.0], n // 3),
            "F_AGECAT": rng.choice([1.0, 2, 3, 4, 99], n, p=[0.3, 0.3, 0.2, 0.15, 0.05]),
            "F_SEX": np.r_[np.full(5, 2.0), rng.choice([1.0, 2.0], n - 5)],
            "buses": rng.choice([1.0, 2, 3, 99], n),
            "parks": rng.choice([1.0, 2, 3], n),
            "mail": [f"person{at}@example.org" for at in range(n)],
            "minutes": rng.normal(20, 4, n),
        }
    )


@pytest.fixture
def cli(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    labels = {"F_AGECAT": AGE, "F_SEX": {1.0: "Male", 2.0: "Female"}, "buses": AGREE, "parks": AGREE}
    wordings = {"buses": "buses. The town needs more buses.", "parks": "The town needs more parks.", "mail": "Contact"}
    frame = town()
    pyreadstat.write_sav(
        frame, "town.sav", variable_value_labels=labels, column_labels=[wordings.get(name, "") for name in frame]
    )

    def call(*arguments, code=0):
        done = CliRunner().invoke(main, list(arguments))
        assert done.exit_code == code, done.output
        return done.output

    return call


def test_look_lists_names_labels_and_codes_and_no_value(cli):
    shown = cli("humans", "look", "town.sav")
    assert "town.sav: 120 rows, 9 columns, no known layout" in shown
    assert "buses                    buses. The town needs more buses." in shown
    assert "1 Agree, 2 Neither, 3 Disagree, 99 Don't know" in shown
    assert "example.org" not in shown and "1001" not in shown
    told = json.loads(cli("humans", "look", "town.sav", "--json"))
    assert (told["rows"], told["kind"], len(told["columns"])) == (120, None, 9)
    assert told["columns"][5]["codes"] == {"1": "Agree", "2": "Neither", "3": "Disagree", "99": "Don't know"}


def test_a_draft_finds_people_traits_and_questions_by_their_names_and_says_what_it_leaves_out(cli, tmp_path):
    shown = cli("humans", "draft", "town.sav", "--out", "town.yaml")
    assert "town.yaml: 2 questions, 2 traits, 2 columns left out" in shown
    source = yaml.safe_load((tmp_path / "town.yaml").read_text())
    assert (source["id"], source["weight"], source["strata"]) == ("respid", "weight", "stratum")
    assert source["traits"] == {"age": {"column": "F_AGECAT"}, "gender": {"column": "F_SEX"}}
    assert source["survey"]["questions"][0] == {"key": "buses", "text": "The town needs more buses."}
    assert "#   mail: no value labels" in (tmp_path / "town.yaml").read_text()
    assert "town.yaml is there already: give a new file" in cli(
        "humans", "draft", "town.sav", "--out", "town.yaml", code=1
    )


def test_a_drafted_source_imports_and_the_folder_holds_no_id_of_the_file(cli, tmp_path):
    cli("humans", "draft", "town.sav", "--out", "town.yaml")
    shown = cli("humans", "import", "town.sav", "--source", "town.yaml", "--out", "kept")
    frame = town()
    effective = frame.weight.sum() ** 2 / (frame.weight**2).sum()
    assert f"town: 120 people, {effective:.0f} effective after weighting (Kish)" in shown
    assert "design: 3 strata, 120 sampling units" in shown and "Kept in kept, on this machine." in shown
    humans = Respondents.load(tmp_path / "kept")
    assert humans.answers["parks"].tolist() == (frame.parks - 1).astype(int).tolist()
    assert not set(humans.ids) & {str(int(known)) for known in frame.respid}
    again = Respondents.from_file("town.sav", source="town.yaml")
    assert set(again.ids) == {str(int(known)) for known in frame.respid}
    for file in (tmp_path / "kept").iterdir():
        assert b"person7@" not in file.read_bytes() and b"1001" not in file.read_bytes()
    cli("humans", "import", "town.sav", "--source", "town.yaml", "--out", "named", "--keep-ids")
    assert Respondents.load(tmp_path / "named").ids == again.ids


def test_shares_of_few_people_are_not_shown(cli):
    cli("humans", "draft", "town.sav", "--out", "town.yaml")
    cli("humans", "import", "town.sav", "--source", "town.yaml", "--out", "kept")
    told = json.loads(cli("humans", "show", "kept", "--json"))
    assert (told["people"], told["strata"], told["questions"]) == (120, 3, ["buses", "parks"])
    age, frame = told["traits"]["age"], town()
    cells = frame.groupby(["F_AGECAT", "F_SEX"]).size()
    assert told["recognisable"] == cells[cells < 10].sum() > 0
    known = frame[frame.F_AGECAT < 99]
    assert age["18-29"] == pytest.approx(known.weight[known.F_AGECAT == 1].sum() / known.weight.sum(), abs=1e-4)
    assert Respondents.load("kept").codes["age"].tolist().count(-1) == int((frame.F_AGECAT == 99).sum())


def test_columns_that_look_like_identifiers_are_left_out_unless_wanted(cli, tmp_path):
    source = {
        "survey": {"questions": [{"key": "parks"}, {"key": "mail", "text": "?", "options": []}]},
        "traits": {"gender": {"column": "F_SEX"}},
        "id": "respid",
    }
    source["survey"]["questions"][1]["options"] = [{"code": at, "text": f"person{at}@example.org"} for at in range(120)]
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(source))
    shown = cli("humans", "import", "town.sav", "--source", "s.yaml", "--out", "a")
    assert "note: Left out as direct identifiers: mail (e-mail, by " in shown
    assert list(Respondents.load("a").answers) == ["parks"]
    cli("humans", "import", "town.sav", "--source", "s.yaml", "--out", "b", "--keep-identifiers")
    assert list(Respondents.load("b").answers) == ["parks", "mail"]


def test_a_suggested_crosswalk_is_refused_until_it_is_reviewed_and_then_matches(cli, tmp_path):
    cli("humans", "draft", "town.sav", "--out", "town.yaml")
    cli("humans", "import", "town.sav", "--source", "town.yaml", "--out", "kept")
    assert "(`anthology-hub humans map --suggest FILE` drafts one)" in cli("humans", "map", "kept", code=1)
    assert "review each row" in cli("humans", "map", "kept", "--suggest", "cross.json")
    draft = json.loads((tmp_path / "cross.json").read_text())
    assert "has no row yet for gender 'Other'" in cli("humans", "map", "kept", "--crosswalk", "cross.json", code=1)
    draft["traits"]["gender"]["Other"] = {"Male": 0.5, "Female": 0.5}
    (tmp_path / "cross.json").write_text(json.dumps(draft))
    assert "suggested" in cli("match", "--humans", "kept", "--crosswalk", "cross.json", "--sample", "5", code=1)
    for rows in draft["traits"].values():
        rows |= {level: row["to"] for level, row in rows.items() if "suggested" in row}
    (tmp_path / "mine.json").write_text(json.dumps(draft))
    shown = cli("humans", "map", "kept", "--crosswalk", "mine.json")
    assert "18-29" in shown and "100.0%" in shown
    assert "10 respondents of town, method greedy, on age, gender" in cli(
        "match", "--humans", "kept", "--crosswalk", "mine.json", "--sample", "10", "--method", "greedy"
    )  # fmt: skip


def test_imported_humans_are_simulated_and_evaluated_with_their_design(cli):
    cli("humans", "draft", "town.sav", "--out", "town.yaml")
    cli("humans", "import", "town.sav", "--source", "town.yaml", "--out", "kept")
    cli("simulate", "run", "--humans", "kept", "--conditioning", "bio", "--model", "scripted:uniform", "--sample", "60")
    assert load_run("run").survey.keys == ("buses", "parks")
    shown = cli("evaluate", "run", "--humans", "kept")
    assert "against 120 humans (effective " in shown and "The intervals allow for the sample design" in shown


def test_a_folder_that_is_there_and_a_file_of_no_layout_are_refused(cli):
    assert "is of no known layout" in cli("humans", "import", "town.sav", "--out", "x", code=1)
    cli("humans", "draft", "town.sav", "--out", "town.yaml")
    cli("humans", "import", "town.sav", "--source", "town.yaml", "--out", "kept")
    assert "kept is there already" in cli(
        "humans", "import", "town.sav", "--source", "town.yaml", "--out", "kept", code=1
    )


def test_respondents_and_answers_go_to_files_that_statistics_programs_read(cli):
    cli("humans", "draft", "town.sav", "--out", "town.yaml")
    cli("humans", "import", "town.sav", "--source", "town.yaml", "--out", "kept", "--keep-ids")
    assert "own.sav: 120 rows, 7 columns" in cli("humans", "export", "kept", "own.sav")
    frame, meta = pyreadstat.read_sav("own.sav")
    assert frame.buses.fillna(99).tolist() == town().buses.tolist()
    assert meta.variable_value_labels["buses"] == {1.0: "Agree", 2.0: "Neither", 3.0: "Disagree"}
    assert meta.column_names_to_labels["buses"] == "The town needs more buses."
    assert frame.id.tolist() == [str(int(known)) for known in town().respid]
    cli("simulate", "run", "--humans", "kept", "--conditioning", "bio", "--model", "scripted:uniform", "--sample", "30")
    assert "answers.dta: 30 rows, 4 columns" in cli("export", "run", "answers.dta", "--to", "dta")
    assert "answers.sav: 30 rows, 11 columns" in cli("export", "run", "answers.sav", "--to", "sav", "--probs", "--ids")
    frame, meta = pyreadstat.read_sav("answers.sav", user_missing=True)
    run = load_run("run")
    assert frame.parks.tolist() == [run.survey.questions[1].codes[pick] for pick in run.picks[:, 1]]
    assert set(frame.respondent_id) <= {str(int(known)) for known in town().respid}
    assert frame.parks_p2.tolist() == pytest.approx(run.probs[:, 1, 1].tolist())
    assert meta.missing_ranges["parks"] != [] and meta.variable_value_labels["parks"][-1.0].startswith("Refused")
    cli("evaluate", "run", "--humans", "kept", "--publish", "results", "--smallest-cell", "1")
    assert "figures.csv: 18 rows" in cli("export", "results", "figures.csv", "--to", "csv")
    assert {"wd", "wd_normalised", "jsd", "fro", "alpha", "accuracy"} < set(pd.read_csv("figures.csv").metric)


def test_a_table_is_named_by_its_form_and_overwrites_nothing(cli):
    assert "own.xyz does not end in .sav" in cli("humans", "export", "gss-2018", "own.xyz", "--to", "sav", code=1)
    cli("humans", "export", "gss-2018", "own.csv")
    assert "is there already" in cli("humans", "export", "gss-2018", "own.csv", code=1)
    cli("humans", "export", "gss-2018", "own.xml", "--to", "ddi")
    assert "own.xml is there already" in cli("humans", "export", "gss-2018", "own.xml", "--to", "ddi", code=1)


def test_one_suppressed_share_takes_the_smallest_other_with_it(cli, tmp_path):
    source = {"survey": {"questions": [{"key": "parks"}]}, "id": "respid"}
    codes = {"codes": {code: text for code, text in AGE.items() if code < 99}, "column": "F_AGECAT"}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump({**source, "keep": {"stratum": 1}, "traits": {"age": codes}}))
    cli("humans", "import", "town.sav", "--source", "s.yaml", "--out", "kept")
    shares = json.loads(cli("humans", "show", "kept", "--json"))["traits"]["age"]
    counts = town().query("stratum == 1").F_AGECAT.value_counts()
    few = [AGE[code] for code, count in counts.items() if code < 99 and count < 10]
    hidden = [level for level, share in shares.items() if share is None]
    assert set(few) <= set(hidden) and len(hidden) != 1 and len(few) >= 1


def test_qualtrics_responses_are_read_with_the_questionnaire_they_answer(cli, tmp_path):
    drawn = human_files.write_qualtrics(tmp_path / "answers.csv")
    (tmp_path / "asked.yaml").write_text(yaml.safe_dump(human_files.QUALTRICS_SURVEY))
    shown = cli("humans", "import", "answers.csv", "--survey", "asked.yaml", "--out", "kept")
    humans = Respondents.load("kept")
    assert len(humans) == len(drawn) - 3 and f"{len(humans)} people" in shown
    key = human_files.QUALTRICS_SURVEY["questions"][0]["key"]
    codes = humans.survey.questions[0].codes
    assert [codes[at] for at in humans.answers[key] if at >= 0] == drawn[key].iloc[3:].dropna().astype(int).tolist()
    assert b"private" not in b"".join(file.read_bytes() for file in (tmp_path / "kept").iterdir())


def test_traits_of_a_qualtrics_export_come_from_a_file(cli, tmp_path):
    drawn = human_files.write_qualtrics(tmp_path / "answers.csv")
    (tmp_path / "asked.yaml").write_text(yaml.safe_dump(human_files.QUALTRICS_SURVEY))
    levels = ["18-29", "30+"]
    (tmp_path / "traits.yaml").write_text(yaml.safe_dump({"age": {"column": "Age", "levels": levels}}))
    shown = cli(
        "humans", "import", "answers.csv", "--survey", "asked.yaml", "--traits", "traits.yaml", "--out", "kept"
    )  # fmt: skip
    codes = [levels.index(age) if age in levels else -1 for age in drawn.Age.iloc[3:]]
    assert Respondents.load("kept").codes["age"].tolist() == codes and set(codes) >= {0, 1}
    assert "--conditioning bio; for backstories, first anthology-hub humans map kept --suggest" in shown


def test_a_draft_of_a_file_without_labels_says_what_is_left_to_do(cli, tmp_path):
    pd.DataFrame({"id": [1, 2], "q1": [1, 2]}).to_csv(tmp_path / "plain.csv", index=False)
    assert "No column has value labels: write the questions" in cli("humans", "draft", "plain.csv", "--out", "p.yaml")
    assert "must be a name, a file, or questions" in cli(
        "humans", "import", "plain.csv", "--source", "p.yaml", "--out", "kept", code=1
    )  # fmt: skip


def test_labels_that_would_steer_the_terminal_do_not(cli, tmp_path):
    frame = pd.DataFrame({"q": [1.0, 2.0]})
    pyreadstat.write_sav(frame, tmp_path / "e.sav", column_labels=["\x1b[31mred\x1b[0m"])
    assert "\x1b" not in cli("humans", "look", "e.sav")
