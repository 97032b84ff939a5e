"""A real hub on a free loopback port, and people who ask it over plain HTTP, without any client library."""

from __future__ import annotations

import base64
import http.client
import json as json_
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from anthology_hub.labhub.server import Running, running
from anthology_hub.labhub.store import Store


@dataclass(frozen=True)
class Reply:
    """What came back."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json_.loads(self.body)

    @property
    def told(self) -> tuple[int, str]:
        """Status and message of an error."""
        return self.status, self.json["error"]


@dataclass(frozen=True)
class Person:
    """Someone with a token, or without one, who sends requests as they are given, unnormalised."""

    url: str
    token: str | None = None

    def __call__(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        body: bytes | Iterator[bytes] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Reply:
        sent = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        if json is not None:
            body, sent["Content-Type"] = json_.dumps(json).encode(), "application/json"
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=30)
        try:
            connection.request(method, path, body=body, headers=sent | (headers or {}))
            response = connection.getresponse()
            return Reply(response.status, response.headers, response.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Reply:
        return self("GET", path, headers=headers)

    def post(self, path: str, json: Any = None) -> Reply:
        return self("POST", path, json={} if json is None else json)

    def create(self, name: str, **options: Any) -> Reply:
        namespace, _, short = name.partition("/")
        return self.post("/api/repos/create", {"name": short, "organization": namespace, "type": "dataset"} | options)

    def commit(self, repo: str, files: dict[str, bytes | None], *, rev: str = "main", **header: Any) -> Reply:
        """Commit small files to a dataset; None deletes one."""
        query = "?create_pr=1" if header.pop("create_pr", False) else ""
        lines = [{"key": "header", "value": {"summary": "Change", **header}}]
        for path, data in files.items():
            value = {"path": path}
            if data is not None:
                value |= {"content": base64.b64encode(data).decode(), "encoding": "base64"}
            lines.append({"key": "deletedFile" if data is None else "file", "value": value})
        return self.lines(f"/api/datasets/{repo}/commit/{rev}{query}", lines)

    def lines(self, path: str, lines: list[Any]) -> Reply:
        return self("POST", path, body=b"\n".join(json_.dumps(line).encode() for line in lines))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty store, closed at the end."""
    made = Store(tmp_path / "store")
    yield made
    made.close()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Running]:
    """A running hub."""
    with running(tmp_path / "hub") as made:
        yield made


@pytest.fixture
def lab(hub: Running) -> Person:
    """The account `lab`, which may write in its namespace."""
    return Person(hub.url, hub.store.accounts.add_token("lab", "write"))


@pytest.fixture
def guest(hub: Running) -> Person:
    """Another account that may write, elsewhere."""
    return Person(hub.url, hub.store.accounts.add_token("guest", "write"))


@pytest.fixture
def reader(hub: Running) -> Person:
    """An account whose token may only read."""
    return Person(hub.url, hub.store.accounts.add_token("reader", "read"))


@pytest.fixture
def nobody(hub: Running) -> Person:
    """Someone without a token."""
    return Person(hub.url)
