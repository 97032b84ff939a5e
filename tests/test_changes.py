"""Two releases are compared row by row, and the version has to be high enough for what changed."""

import numpy as np
import pytest

from anthology_hub import Anthology, Codebook
from anthology_hub.changes import entry_of, with_entry
from anthology_hub.errors import OptionError

CODEBOOK = Codebook.load("starter")


def made(*people, codebook=CODEBOOK, licence="CC0-1.0", **provenance):
    """A collection at 1.4.2 of (text, traits) pairs."""
    records = [{"backstory": text, "traits": traits} for text, traits in people]
    loaded = Anthology.from_records(records, codebook, name="people", licence=licence, provenance=provenance)
    return Anthology(loaded._edition("1.4.2"), np.arange(len(people)))


ANN = ("I am Ann, and I farm.", {"age": "65+", "region": "South"})
BOB = ("I am Bob, and I fish.", {"age": "18-29"})
CAY = ("I am Cay, and I teach.", {"region": "West"})
BASE = made(ANN, BOB)


def test_the_same_content_demands_nothing_and_no_version():
    changes = made(ANN, BOB).diff(BASE)
    assert (changes.demands, changes.next_version, changes.reasons()) == ("nothing", "1.4.2", ["no change"])
    assert changes.entry("1.4.3") == "## 1.4.3\n\nNo change of the data.\n"


def test_added_personas_demand_a_minor_release_and_move_margins():
    changes = made(ANN, BOB, CAY).diff(BASE)
    assert (len(changes.added), changes.removed, changes.changed) == (1, (), ())
    assert (changes.demands, changes.next_version) == ("minor", "1.5.0")
    moved = {(move.trait, move.level): (move.before, move.after) for move in changes.margins}
    assert moved == {("region", "South"): (1.0, 0.5), ("region", "West"): (0.0, 0.5)}
    assert changes.entry("1.5.0") == (
        "## 1.5.0\n\n### Added\n\n- 1 persona added\n\n### Margins that moved\n\n"
        "- region, South: 1.000 to 0.500\n- region, West: 0.000 to 0.500\n"
    )


def test_a_removed_persona_or_another_text_demands_a_major_release():
    assert made(ANN).diff(BASE).next_version == "2.0.0"
    rewritten = made(ANN, ("I am Bob, and I hunt.", BOB[1])).diff(BASE)
    assert (len(rewritten.added), len(rewritten.removed), rewritten.next_version) == (1, 1, "2.0.0")


def test_another_annotation_of_the_same_text_is_a_correction_and_a_first_one_an_addition():
    corrected = made(ANN, (BOB[0], {"age": "30-49"})).diff(BASE)
    assert (corrected.changed, corrected.demands) == ((made(BOB).ids[0],), "patch")
    assert corrected.next_version == "1.4.3"
    annotated = made(ANN, (BOB[0], {**BOB[1], "region": "West"})).diff(BASE)
    assert (annotated.annotated, annotated.changed, annotated.demands) == ({"region": 1}, (), "minor")
    shares = made(ANN, (BOB[0], {"age": {"18-29": 0.9, "30-49": 0.1}})).diff(BASE)
    assert (len(shares.changed), shares.demands) == (1, "patch")


def test_a_withdrawn_annotation_is_a_correction():
    changes = made(ANN, (BOB[0], {})).diff(BASE)
    assert (len(changes.changed), changes.demands) == (1, "patch")
    assert changes.corrections == ("annotation details (method, annotator, evidence) changed",)


def test_another_order_annotator_or_provenance_is_a_correction():
    assert made(BOB, ANN).diff(BASE).corrections == ("order of the personas changed",)
    other = made(ANN, BOB, annotator="somebody").diff(BASE)
    assert other.corrections == ("annotation details (method, annotator, evidence) changed",)
    sourced = made(ANN, BOB, source="a village").diff(BASE)
    assert (len(sourced.changed), sourced.demands) == (2, "patch")


def codebook(change):
    value = CODEBOOK.to_dict()
    change(value)
    return Codebook.from_dict(value)


@pytest.mark.parametrize(
    ("new", "why"),
    [
        (codebook(lambda v: v["traits"].pop()), f"trait {CODEBOOK.traits[-1].name} removed"),
        (codebook(lambda v: v["traits"][1].update(levels=["Male", "Female", "More"])), "levels of gender changed"),
    ],
)
def test_a_changed_schema_demands_a_major_release_and_says_why(new, why):
    changes = made(ANN, BOB, codebook=new).diff(BASE)
    assert (changes.demands, changes.breaking) == ("major", (why,))


def test_an_added_trait_is_an_addition_another_wording_a_correction_and_another_licence_breaks():
    extra = {"name": "pets", "label": "Pets", "question": "Do you have pets?", "levels": ["Yes", "No"], "bio": "{}"}
    assert made(ANN, BOB, codebook=codebook(lambda v: v["traits"].append(extra))).diff(BASE).additions == (
        "trait pets added",
    )
    worded = made(ANN, BOB, codebook=codebook(lambda v: v["traits"][0].update(question="How old are you?")))
    assert (worded.diff(BASE).corrections, worded.diff(BASE).demands) == (("codebook changed",), "patch")
    assert made(ANN, BOB, licence="MIT").diff(BASE).breaking == ("licence changed from CC0-1.0 to MIT",)


def test_embeddings_added_are_an_addition_and_taken_away_break(encoder):
    embedded = BASE.embed(encoder)
    slug = "all-MiniLM-L6-v2"
    assert embedded.diff(BASE).additions == (f"embeddings of {slug} added",)
    assert BASE.diff(embedded).breaking == (f"embeddings of {slug} removed",)


@pytest.mark.parametrize("version", ["1.4.2", "1.4.1", "0.9.9"])
def test_a_version_that_is_not_above_the_older_one_is_refused(version):
    with pytest.raises(OptionError) as caught:
        made(ANN, BOB, CAY).diff(BASE).check(version)
    assert str(caught.value) == f"release {version} is not above 1.4.2: give 1.5.0 or higher"


def test_where_nothing_changed_the_next_version_is_a_patch():
    with pytest.raises(OptionError) as caught:
        made(ANN, BOB).diff(BASE).check("1.4.2")
    assert str(caught.value) == "release 1.4.2 is not above 1.4.2: give 1.4.3 or higher"
    made(ANN, BOB).diff(BASE).check("1.4.3")


def test_a_version_that_is_too_low_for_what_changed_is_refused_with_the_reasons():
    with pytest.raises(OptionError) as caught:
        made(ANN, CAY).diff(BASE).check("1.5.0")
    assert str(caught.value) == (
        "release 1.5.0 is a minor release after 1.4.2, but 1 persona removed demands a major release: give 2.0.0 or "
        "higher"
    )
    for version in ("1.5.0", "1.9.3", "2.0.0", "10.0.0"):
        made(ANN, BOB, CAY).diff(BASE).check(version)
    with pytest.raises(OptionError, match="must be 'major.minor.patch' as '1.0.0', got 'v2'"):
        made(ANN).diff(BASE).check("v2")


def test_an_entry_goes_on_top_in_place_of_one_of_the_same_version():
    first = with_entry("", "## 1.0.0\n\nFirst.\n")
    assert first == "# Changelog\n\n## 1.0.0\n\nFirst.\n"
    second = with_entry(first, "## 1.1.0\n\nMore.\n")
    assert second == "# Changelog\n\n## 1.1.0\n\nMore.\n\n## 1.0.0\n\nFirst.\n"
    assert with_entry(second, "## 1.1.0\n\nOther words.\n") == second.replace("More.", "Other words.")
    assert entry_of(second, "1.1.0") == "## 1.1.0\n\nMore.\n\n" and entry_of(second, "9.9.9") == ""


def test_a_diff_can_be_written_as_json_values():
    told = made(ANN, BOB, CAY).diff(BASE).to_dict()
    assert told["before"] == "1.4.2"
    assert told["margins"][0] == {"trait": "region", "level": "South", "before": 1.0, "after": 0.5}
    assert (told["demands"], told["next_version"]) == ("minor", "1.5.0")
