"""Made answers of people, for the tests of what is computed from answers."""

import numpy as np
import pandas as pd
from hypothesis import strategies as st

from anthology_hub.schema import MISSING

SEEDS = st.integers(0, 2**32 - 1)


def draw_codes(rng, n, n_options, *, missing=0.0):
    """Answers of n people that lean on a common taste, so that items correlate."""
    taste = rng.normal(size=(n, 1))
    scores = taste + rng.normal(size=(n, len(n_options)))
    ranks = scores.argsort(axis=0).argsort(axis=0) / n
    codes = np.floor(ranks * n_options).astype(np.int16)
    codes[rng.random(codes.shape) < missing] = MISSING
    return codes


def frame(codes):
    """The answers as pandas wants them."""
    return pd.DataFrame(np.where(codes == MISSING, np.nan, codes))


def ones(n):
    """One row in which everybody counts once."""
    return np.ones((1, n))


@st.composite
def shares(draw, sides=2):
    """Shares of the same options, of so many sides; some options may be empty."""
    k = draw(st.integers(2, 7))
    rows = [draw(st.lists(st.integers(0, 20), min_size=k, max_size=k).filter(any)) for _ in range(sides)]
    return [np.array(row) / sum(row) for row in rows]
