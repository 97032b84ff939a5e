"""A diagnosis tells who plays whom and how well, trait by trait, and gives away no person unasked."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anthology_hub import as_themselves, match, unmatched
from anthology_hub.diagnostics import diagnose
from anthology_hub.errors import EmptyError, OptionError, UnknownNameError
from tests.test_matching import PARTIES, humans_of, people_of, random_world

R, D = PARTIES.index("Republican"), PARTIES.index("Democrat")


@pytest.fixture(scope="module")
def small():
    """Three pairs by hand: weights 1, 2, 1; one level of a respondent and one annotation are not known."""
    people = people_of(
        [
            {"region": {"South": 0.75, "West": 0.25}, "party": {"Republican": 0.5, "Democrat": 0.5}},
            {"region": "West", "party": "Democrat"},
            {"party": "Republican"},
            {"region": "Midwest"},
        ]
    )
    humans = humans_of(
        ["South", "West", "South"], ["Republican", "Republican", None], weights=np.array([1.0, 2.0, 1.0])
    )
    cast = match(people.where(party=["Democrat", "Republican"]), humans, traits=["region", "party"])
    by_story = {persona.backstory: persona for persona in people}
    wanted = [by_story[f"Story number {at}."] for at in range(3)]
    roles = tuple(replace(role, persona=persona) for role, persona in zip(cast.roles, wanted, strict=True))
    return people, humans, replace(cast, roles=roles)


def test_every_pair_has_the_probability_of_the_respondent_s_level(small):
    people, _, cast = small
    found = diagnose(*small)
    np.testing.assert_allclose(found.fit["region"], [0.75, 1, np.nan])
    np.testing.assert_allclose(found.fit["party"], [0.5, 0, np.nan])
    assert found.respondent_ids == ("r0", "r1", "r2") and found.persona_ids == tuple(people.ids[:3])
    assert found.weights.tolist() == [1, 2, 1] and len(found) == 3
    assert found.log_weights.tolist() == [role.log_weight for role in cast.roles]


def test_agreement_is_weighted_and_a_tie_of_two_levels_counts_half(small):
    region, party = diagnose(*small).agreement
    assert (region.trait, region.pairs, region.unknown_respondents, region.unannotated_personas) == ("region", 2, 0, 1)
    assert region.mean_probability == pytest.approx((0.75 + 2 * 1) / 3) and region.top_share == 1 and region.zero == 0
    assert (party.pairs, party.unknown_respondents, party.unannotated_personas, party.zero) == (2, 1, 0, 1)
    assert party.mean_probability == pytest.approx(0.5 / 3) and party.top_share == pytest.approx(0.5 / 3)


def test_margins_of_cast_and_humans_are_weighted_and_compared(small):
    region, party = diagnose(*small).margins
    assert region.levels == ("Northeast", "Midwest", "South", "West")
    assert region.humans == pytest.approx((0, 0, 0.5, 0.5)) and region.cast == pytest.approx((0, 0, 0.25, 0.75))
    assert region.kl == pytest.approx(0.25 * np.log(0.25 / 0.5) + 0.75 * np.log(0.75 / 0.5))
    assert party.humans[R] == 1 and party.cast[D] == pytest.approx((0.5 + 2) / 4) and party.kl == np.inf


def test_respondents_without_a_role_are_named_and_count_among_the_humans(small):
    people, humans, _ = small
    more = humans_of(["West"] * 6, ["Democrat"] * 6)
    cast = match(people, more, partial=True)
    found = diagnose(people, more, cast)
    assert len(found.unmatched) == 2 and set(found.unmatched) | set(found.respondent_ids) == set(more.ids)
    assert found.figures["unmatched_respondents"] == 2 and "2 respondents unmatched" in str(found)


@given(st.integers(0, 2**32 - 1), st.sampled_from(["greedy", "optimal", "random"]))
def test_its_figures_are_those_of_the_matching_and_its_weights_products_of_its_probabilities(seed, method):
    records, humans = random_world(seed, 6, 5)
    people = people_of(records)
    cast = match(people, humans, method=method, seed=seed, floor=1e-9)
    found = diagnose(people, humans, cast)
    assert found.figures == cast.diagnostics
    np.testing.assert_allclose(np.exp(found.log_weights), found.fit["region"] * found.fit["party"], rtol=1e-4)
    assert sum(found.reuse.values()) == cast.diagnostics["distinct_personas"]
    assert sum(uses * personas for uses, personas in found.reuse.items()) == 5
    assert max(found.reuse) == cast.diagnostics["maximum_reuse"]


def test_a_cast_of_a_filtered_collection_is_diagnosed_with_the_whole_one_and_its_crosswalk(starter, gss):
    few = gss.sample(40, seed=1)
    south = starter.where(region="South")
    cast = match(south, few, method="greedy")
    assert diagnose(starter, few, cast).figures == diagnose(south, few, cast).figures == cast.diagnostics
    assert [a.trait for a in diagnose(south, few, cast).agreement] == list(cast.traits)


def test_the_table_has_a_row_for_each_trait_and_the_dict_no_person(small):
    found = diagnose(*small)
    lines = str(found).splitlines()
    assert lines[0] == "toy-humans played by toy@0.0.0#unsaved, optimal: 3 pairs, 0 respondents unmatched"
    assert lines[1].endswith("33.3% of the pairs with an impossible trait")
    assert lines[2] == "3 personas, 3.0 effective: 3 used 1 times"
    assert lines[4].split() == ["region", "0.917", "1.000", "2", "0", "0.1308"]
    assert lines[5].split() == ["party", "0.167", "0.167", "2", "1", "inf"]
    assert repr(found) == "<Diagnosis optimal: 3 pairs, 0 unmatched>"
    text = json.dumps(found.to_dict(), allow_nan=False)
    assert "r1" not in text and not any(persona_id in text for persona_id in found.persona_ids)
    assert found.to_dict()["margins"][1]["kl"] is None and found.to_dict()["reuse"] == {"1": 3}


def test_the_html_is_the_same_table_and_escapes_names(small):
    people, humans, cast = small
    page = diagnose(people, humans, replace(cast, humans="<b>me</b>"))._repr_html_()
    assert "&lt;b&gt;me&lt;/b&gt; played by" in page and "<th>region</th><td>0.917</td>" in page
    assert page.count("<tr>") == 3


def test_the_frame_has_one_row_for_each_pair(small):
    frame = diagnose(*small).to_frame()
    assert list(frame) == ["respondent_id", "persona_id", "weight", "log_weight", "p_region", "p_party"]
    assert frame["respondent_id"].tolist() == ["r0", "r1", "r2"] and frame["p_region"].tolist()[:2] == [0.75, 1]


def test_panels_hold_the_arrays_to_draw(small):
    found = diagnose(*small)
    panels = found.panels()
    assert panels.log_weights.tolist() == sorted(found.log_weights.tolist())
    assert panels.traits == ("region", "party") and panels.zero.tolist() == [0, 1]
    assert panels.mean_probability.tolist() == pytest.approx([2.75 / 3, 0.5 / 3])
    assert panels.top_share.tolist() == pytest.approx([1, 0.5 / 3])
    assert (panels.uses.tolist(), panels.personas.tolist()) == ([1], [3]) and panels.margins == found.margins


def test_a_trait_that_is_known_of_nobody_has_no_figures():
    people, humans = people_of([{"party": "Democrat"}]), humans_of([None], ["Democrat"])
    found = diagnose(people, humans, match(people, humans, traits=["region", "party"]))
    region, margin = found.agreement[0], found.margins[0]
    assert (region.mean_probability, region.top_share, region.pairs) == (None, None, 0) and margin.kl is None
    assert str(found).splitlines()[4].split() == ["region", "-", "-", "0", "0", "-"]
    assert np.isnan(found.panels().mean_probability[0])
    assert found.to_dict()["margins"][0]["cast"] == [None] * 4


def test_casts_without_personas_or_roles_and_strangers_are_refused(small):
    people, humans, cast = small
    with pytest.raises(OptionError, match=r"a cast by method 'none' matches nobody by traits: give one from match\(\)"):
        diagnose(people, humans, unmatched(humans))
    with pytest.raises(OptionError, match="a cast by method 'itself' matches nobody"):
        diagnose(people, humans, as_themselves(people))
    with pytest.raises(EmptyError, match="the cast has no roles: match somebody first"):
        diagnose(people, humans, replace(cast, roles=()))
    with pytest.raises(UnknownNameError, match="unknown respondent of the cast in toy-humans 'r2'"):
        diagnose(people, humans.take([0, 1]), cast)
    with pytest.raises(UnknownNameError, match="unknown persona of the cast in toy@0.0.0#unsaved"):
        diagnose(people.where(party="Republican"), humans, cast)
