"""Failures on demand, for tests of clients: reached only in the process that runs the hub, never over HTTP."""

from __future__ import annotations

import re
from dataclasses import dataclass, field


@dataclass
class Fault:
    """An answer that a request gets in place of the right one."""

    method: str
    path: str
    """Regular expression that is searched in the path."""
    status: int
    times: int = 1
    after: bool = False
    """Do the work first: the answer is lost, what it tells of has happened."""
    message: str = "injected fault"


@dataclass
class Faults:
    """The failures that are still to come.

    Example:
        >>> faults = Faults()
        >>> faults.add("POST", "/commit/", 503, after=True)
        >>> faults.take("POST", "/api/models/lab/x/commit/main").status, faults.take("POST", "/commit/")
        (503, None)
    """

    waiting: list[Fault] = field(default_factory=list)

    def add(
        self,
        method: str,
        path: str,
        status: int,
        *,
        times: int = 1,
        after: bool = False,
        message: str = "injected fault",
    ) -> None:
        """Let the next requests to a path fail."""
        self.waiting.append(Fault(method, path, status, times, after, message))

    def take(self, method: str, path: str) -> Fault | None:
        """The failure that a request is to meet."""
        for fault in self.waiting:
            if fault.method == method and re.search(fault.path, path):
                fault.times -= 1
                if fault.times <= 0:
                    self.waiting.remove(fault)
                return fault
        return None
