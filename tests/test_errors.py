"""Errors say what was given, what is allowed and what to do next, and can be caught as what a caller expects."""

import inspect

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from anthology_hub import errors

EXPECTED = {
    "UnknownNameError": LookupError,
    "OptionError": ValueError,
    "DataError": ValueError,
    "IntegrityError": ValueError,
    "EmptyError": ValueError,
    "ModelError": RuntimeError,
    "RunError": RuntimeError,
    "MissingExtraError": ImportError,
}


def test_the_tree_is_the_one_that_the_docstring_draws():
    leaves = {
        name: kind
        for name, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, errors.AnthologyError) and kind is not errors.AnthologyError
    }
    assert set(leaves) == set(EXPECTED)
    for name, builtin in EXPECTED.items():
        assert issubclass(leaves[name], builtin), name
        assert f"─ {name}" in errors.__doc__
    assert issubclass(errors.IntegrityError, errors.DataError)


def test_an_unknown_name_is_told_with_the_nearest_and_all_allowed():
    error = errors.UnknownNameError("trait", "Regoin", ["age", "region"])
    assert str(error) == "unknown trait 'Regoin': did you mean 'region'? Allowed: 'age', 'region'"
    assert (error.kind, error.value, error.allowed) == ("trait", "Regoin", ("age", "region"))


def test_no_guess_is_made_when_nothing_is_near_and_none_is_said_when_nothing_exists():
    assert str(errors.UnknownNameError("trait", "zzz", ["age"])) == "unknown trait 'zzz': Allowed: 'age'"
    assert str(errors.UnknownNameError("trait", "age", [])) == "unknown trait 'age': Allowed: none"


@given(st.lists(st.text(min_size=1), min_size=1, unique_by=str.casefold), st.data())
def test_a_name_in_the_wrong_case_is_always_recognised(names, data):
    name = data.draw(st.sampled_from(names))
    # A few letters have no way back from capitals.
    assume(name.upper().casefold() == name.casefold())
    assert f"did you mean {name!r}?" in str(errors.UnknownNameError("level", name.upper(), names))


def test_a_missing_extra_gives_the_pip_line():
    with pytest.raises(ImportError) as caught:
        raise errors.MissingExtraError("matplotlib", "plots", "plots")
    assert str(caught.value) == "plots need the package 'matplotlib': pip install \"anthology-hub[plots]\""
