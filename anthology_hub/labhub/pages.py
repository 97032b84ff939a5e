"""The web page of a private hub: repositories, files, history, pull requests and leaderboards, for reading only.

Plain HTML from templates: no script, nothing from elsewhere, and a policy that forbids both. A browser shows who it is
by a cookie that holds a token; it is taken for reading only.
"""

from __future__ import annotations

import functools
import logging
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

from anthology_hub.errors import AnthologyError
from anthology_hub.labhub import markup, metadata, trees
from anthology_hub.labhub.accounts import RESERVED, Viewer
from anthology_hub.labhub.discussions import Discussions
from anthology_hub.labhub.store import KINDS, MAIN, Commit, Refusal, Repo, Store
from anthology_hub.labhub.trees import Leaf
from anthology_hub.labhub.wire import COOKIE, Routes, raw_path, viewer

TEMPLATES = Path(__file__).parent / "templates"
REPOS_A_PAGE, FILES_A_PAGE, COMMITS_A_PAGE = 50, 500, 50
LARGEST_VIEW = 1 << 19
"""Bytes of a file that is still shown as text."""
SIGN_IN_LIMIT, MOST_BROKEN = 4096, 20
PICTURES = {"png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "gif": "image/gif", "webp": "image/webp"}
"""What a card may show. No SVG: it is a program."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "private, no-cache",
    "Vary": "Cookie",
}
DECLARED = "Higher is better. Models declare these values in their own repositories; nobody has checked them here."
RELEASE = re.compile(r"v\d+\.\d+\.\d+")

Line = Mapping[str, object]
_log = logging.getLogger("anthology_hub.labhub")


@dataclass(frozen=True, kw_only=True)
class Leaderboard:
    """Tables to show, each under its title: one line a mapping from column to value."""

    tables: Mapping[str, Sequence[Line]]
    notes: Sequence[str] = ()


def results_board(folder: Path) -> Leaderboard:
    """Rank the runs of a results folder."""
    from anthology_hub import leaderboard, ranking

    found = leaderboard.read_board(folder)
    broken = [f"Left out: `{path}` is no result ({why})." for path, why in list(found.broken.items())[:MOST_BROKEN]]
    return Leaderboard(tables=ranking.board_lines(leaderboard.rank(found.entries)), notes=[*ranking.NOTES, *broken])


def routes(store: Store, *, board: Callable[[Path], Leaderboard] = results_board) -> list[BaseRoute]:
    """The routes of the web page; they leave to others every address under `/api` and all that is not theirs.

    Args:
        store: What to show.
        board: Ranks the results in a folder.

    Example:
        >>> import tempfile
        >>> from starlette.applications import Starlette
        >>> app = Starlette(routes=routes(Store(tempfile.mkdtemp())))
    """
    return [_Pages(Site(store=store, discussions=Discussions(store), leaderboard=_ranker(store, board)))]


def _ranker(store: Store, board: Callable[[Path], Leaderboard]) -> Callable[[Commit], Leaderboard]:
    @functools.lru_cache(maxsize=16)
    def leaderboard(commit: Commit) -> Leaderboard:
        # A results folder is the unit that the leaderboard reads, so it gets one, made of links to the blobs.
        with tempfile.TemporaryDirectory() as folder:
            for path, leaf in store.files(commit):
                place = Path(folder, path)
                place.parent.mkdir(parents=True, exist_ok=True)
                place.symlink_to(store.blobs.path(leaf.sha256).absolute())
            return board(Path(folder))

    return leaderboard


@dataclass(frozen=True, kw_only=True)
class Site:
    """What all pages share."""

    store: Store
    discussions: Discussions
    leaderboard: Callable[[Commit], Leaderboard]
    """Of a results repository at a commit."""


@dataclass(frozen=True, kw_only=True)
class Visit:
    """One request of a browser."""

    site: Site
    request: Request
    args: Mapping[str, str]
    viewer: Viewer | None

    @property
    def store(self) -> Store:
        """The store of the hub."""
        return self.site.store

    @functools.cached_property
    def repo(self) -> Repo:
        """The repository of the address; the same refusal (404) for none and for one that the viewer may not see."""
        kind = (self.args.get("kinds") or "models").removesuffix("s")
        found = self.store.find(kind, self.args["namespace"], self.args["name"])
        if found is None or not self.store.may_see(self.viewer, found):
            raise Refusal(404, "There is no such repository here, or it is private.")
        return found

    @functools.cached_property
    def revision(self) -> str:
        """Branch, tag, `refs/pr/N` or commit of the address."""
        return self.args.get("revision") or "main"

    @functools.cached_property
    def commit(self) -> Commit:
        """What the revision stands for."""
        return self.store.resolve(self.repo, self.revision)

    @functools.cached_property
    def head(self) -> Commit:
        """The newest commit of the main branch."""
        return self.store.resolve(self.repo, MAIN)

    def check_open(self) -> None:
        """Refuse (403) if the viewer may not read the files."""
        if not self.store.may_open(self.viewer, self.repo):
            raise Refusal(403, f"The files of this repository are open to those whom {self.repo.namespace} lets in.")

    @property
    def address(self) -> str:
        """The hub's own, as the browser knows it."""
        return str(self.request.base_url).rstrip("/")

    @property
    def path(self) -> str:
        """The path of the address."""
        return self.args.get("path", "").strip("/")

    def start(self) -> int:
        """The place in a long list."""
        found = self.request.query_params.get("from", "0")
        return int(found) if re.fullmatch("[0-9]{1,9}", found) else 0

    def show(self, template: str, values: Mapping[str, object], *, status: int = 200) -> Response:
        """Lay out a page."""
        # One slash only: two would make a link to another host.
        here = "/" + raw_path(self.request.scope).strip("/")
        shared = {"viewer": self.viewer, "here": here, "hub": self.address}
        return HTMLResponse(_templates().get_template(template).render(**shared, **values), status, HEADERS)

    def show_repo(self, template: str, tab: str, **values: object) -> Response:
        """Lay out a page of a repository."""
        talks = self.site.discussions.all(self.repo)
        ranked = "leaderboard" if _has_board(self) else ""
        shared = {"repo": self.repo, "tab": tab, "talks": talks, "ranked": ranked, "revision": self.revision}
        return self.show(template, {**shared, **values})


_PAGES = Routes()
_REPO = "{prefix}{namespace}/{name}"


@_PAGES.on("GET", "")
def _home(visit: Visit) -> Response:
    query = visit.request.query_params
    kind, search, start = query.get("type", ""), query.get("search", "").strip(), visit.start()
    seen = [repo for repo in visit.store.repos() if visit.store.may_see(visit.viewer, repo)]
    counts = Counter(repo.kind for repo in seen)
    found = [r for r in seen if kind in ("", r.kind) and search.casefold() in r.full_name.casefold()]
    page = visit.store.heads(found[start : start + REPOS_A_PAGE])
    following = start + REPOS_A_PAGE if len(found) > start + REPOS_A_PAGE else None
    shown = {"page": page, "total": len(found), "counts": counts, "kinds": KINDS, "kind": kind, "search": search}
    return visit.show("home.html.j2", {**shown, "following": following})


# These come before the pages of repositories: `-` is no namespace, but it would match as one.


@_PAGES.on("GET", "-/sign-in")
def _sign_in_form(visit: Visit) -> Response:
    return visit.show("sign-in.html.j2", {"then": _inside(visit.request.query_params.get("then", "/")), "wrong": False})


@_PAGES.on("POST", "-/sign-in")
def _sign_in(visit: Visit) -> Response:
    form = visit.request.state.form
    secret, then = form.get("token", "").strip(), _inside(form.get("then", "/"))
    if visit.store.accounts.who(secret) is None:
        return visit.show("sign-in.html.j2", {"then": then, "wrong": True}, status=401)
    response = RedirectResponse(then, 303, HEADERS)
    secure = visit.request.url.scheme == "https"
    response.set_cookie(COOKIE, secret, httponly=True, samesite="strict", secure=secure)
    return response


@_PAGES.on("POST", "-/sign-out")
def _sign_out(visit: Visit) -> Response:
    response = RedirectResponse("/", 303, HEADERS)
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return response


@_PAGES.on("GET", "-/static/{file}")
def _static(visit: Visit) -> Response:
    kinds = {"style.css": "text/css", "icon.svg": "image/svg+xml"}
    if visit.args["file"] not in kinds:
        raise Refusal(404, "There is no such page here.")
    headers = {**HEADERS, "Cache-Control": "public, max-age=3600"}
    return FileResponse(TEMPLATES / visit.args["file"], media_type=kinds[visit.args["file"]], headers=headers)


@_PAGES.on("GET", _REPO)
def _overview(visit: Visit) -> Response:
    repo, head = visit.repo, visit.head
    sizes = [leaf.size for _, leaf in visit.store.files(head)]
    readme = visit.store.entry(head, "README.md")
    small = isinstance(readme, Leaf) and readme.size <= 2 * LARGEST_VIEW
    text = _text(visit.store, readme) if isinstance(readme, Leaf) and small else None
    return visit.show_repo(
        "overview.html.j2",
        "card",
        card=_card(repo, "main", "README.md", text) if text is not None else None,
        head=head,
        files=len(sizes),
        size=sum(sizes),
        open=visit.store.may_open(visit.viewer, repo),
        snippets=_snippets(visit),
    )


@_PAGES.on("GET", f"{_REPO}/tree/{{revision}}", f"{_REPO}/tree/{{revision}}/{{path}}")
def _tree(visit: Visit) -> Response:
    start = visit.start()
    listed = sorted(visit.store.listing(visit.commit, visit.path), key=lambda entry: isinstance(entry[1], Leaf))
    page = listed[start : start + FILES_A_PAGE]
    return visit.show_repo(
        "tree.html.j2",
        "files",
        commit=visit.commit,
        path=visit.path,
        refs=_refs(visit),
        entries=[(path, path.rpartition("/")[2], node if isinstance(node, Leaf) else None) for path, node in page],
        total=len(listed),
        following=start + FILES_A_PAGE if len(listed) > start + FILES_A_PAGE else None,
    )


@_PAGES.on("GET", f"{_REPO}/blob/{{revision}}/{{path}}")
def _blob(visit: Visit) -> Response:
    visit.check_open()
    leaf = _leaf(visit)
    text = _text(visit.store, leaf) if leaf.size <= LARGEST_VIEW else None
    ending = visit.path.rpartition(".")[2].lower()
    shown: dict[str, Any] = {"text": None, "card": None, "table": None}
    if text is not None and ending in ("md", "markdown"):
        shown["card"] = _card(visit.repo, visit.revision, visit.path, text)
    elif text is not None and ending in ("csv", "tsv"):
        shown["table"] = markup.table(text, delimiter="\t" if ending == "tsv" else ",")
    elif text is not None:
        shown["text"] = markup.pretty_json(text) if ending == "json" else text
    return visit.show_repo(
        "blob.html.j2", "files", commit=visit.commit, path=visit.path, leaf=leaf, refs=_refs(visit), **shown
    )


@_PAGES.on("GET", f"{_REPO}/download/{{revision}}/{{path}}")
def _download(visit: Visit) -> Response:
    visit.check_open()
    leaf = _leaf(visit)
    name = visit.path.rpartition("/")[2]
    kind = PICTURES.get(name.rpartition(".")[2].lower(), "application/octet-stream")
    headers = {**HEADERS, "Content-Security-Policy": "default-src 'none'; sandbox"}
    return FileResponse(visit.store.blobs.path(leaf.sha256), media_type=kind, filename=name, headers=headers)


@_PAGES.on("GET", f"{_REPO}/commits/{{revision}}")
def _commits(visit: Visit) -> Response:
    start = visit.start()
    page = list(islice(visit.store.history(visit.commit), start, start + COMMITS_A_PAGE + 1))
    following = start + COMMITS_A_PAGE if len(page) > COMMITS_A_PAGE else None
    tags = {ref.sha: ref.short for ref in visit.store.refs(visit.repo, "refs/tags/")}
    return visit.show_repo(
        "commits.html.j2",
        "history",
        commits=page[:COMMITS_A_PAGE],
        refs=_refs(visit),
        following=following,
        tags=tags,
    )


@_PAGES.on("GET", f"{_REPO}/commit/{{revision}}")
def _commit(visit: Visit) -> Response:
    commit = visit.commit
    before = visit.store.resolve(visit.repo, commit.parent).tree if commit.parent else None
    changed = list(islice(trees.compare(visit.store.tree, before, commit.tree), FILES_A_PAGE))
    return visit.show_repo("commit.html.j2", "history", commit=commit, changed=changed)


@_PAGES.on("GET", f"{_REPO}/discussions")
def _discussions(visit: Visit) -> Response:
    return visit.show_repo("discussions.html.j2", "discussions")


@_PAGES.on("GET", f"{_REPO}/discussions/{{num}}")
def _discussion(visit: Visit) -> Response:
    if not re.fullmatch("[0-9]{1,9}", visit.args["num"]):
        raise Refusal(404, "There is no such discussion.")
    talk = visit.site.discussions.get(visit.repo, int(visit.args["num"]))
    changed = visit.site.discussions.changed(visit.repo, talk)[:FILES_A_PAGE] if talk.is_pull_request else []
    diff = ""
    if talk.is_pull_request and visit.store.may_open(visit.viewer, visit.repo):
        diff = visit.site.discussions.diff(visit.repo, talk)[:LARGEST_VIEW]
    events = visit.site.discussions.events(visit.repo, talk.num)
    return visit.show_repo(
        "discussion.html.j2", "discussions", talk=talk, events=events, changed=changed, diff=diff.splitlines()
    )


@_PAGES.on("GET", f"{_REPO}/leaderboard")
def _leaderboard(visit: Visit) -> Response:
    if not _has_board(visit):
        raise Refusal(404, "This repository holds no results.")
    problem, found = "", _benchmark(visit)
    if _has_runs(visit.store, visit.head):
        visit.check_open()
        try:
            found = visit.site.leaderboard(visit.head)
        except AnthologyError as error:
            problem = str(error)
    return visit.show_repo("leaderboard.html.j2", "leaderboard", board=found, problem=problem)


class _Pages(BaseRoute):
    """All pages as one route, so that addresses are matched before `%2F` is decoded."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] != "http":
            return Match.NONE, {}
        try:
            found = _PAGES.find(scope["method"], raw_path(scope).strip("/"))
        except Refusal:
            return Match.NONE, {}
        if found is None or found[1].get("namespace") in RESERVED:
            return Match.NONE, {}
        return Match.FULL, {"page": found}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        page, args = scope["page"]
        visit = Visit(site=self._site, request=request, args=args, viewer=_viewer(self._site.store, request))
        try:
            if request.method == "POST":
                request.state.form = await _form(request)
            response = await run_in_threadpool(page, visit)
        except AnthologyError as error:
            status = error.status if isinstance(error, Refusal) else 400
            response = visit.show("error.html.j2", {"message": str(error), "code": status}, status=status)
        except Exception:
            _log.exception("a page failed: %s", raw_path(scope))
            told = {"message": "Something went wrong in the hub: its log tells what.", "code": 500}
            response = visit.show("error.html.j2", told, status=500)
        await response(scope, receive, send)


def _viewer(store: Store, request: Request) -> Viewer | None:
    try:
        return viewer(store, request)
    except Refusal:
        return None


async def _form(request: Request) -> dict[str, str]:
    # Browsers say where a form came from; what another site sent is not the user's wish.
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise Refusal(403, "This form was sent by another site: open the page here and send it again.")
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > SIGN_IN_LIMIT:
            raise Refusal(413, f"This form takes {SIGN_IN_LIMIT} bytes: send the token alone.")
    try:
        fields = parse_qs(body.decode("utf-8", "replace"), max_num_fields=10)
    except ValueError as error:
        raise Refusal(400, "This is not the form of this page: open the page and send its own.") from error
    return {name: values[-1] for name, values in fields.items()}


def _inside(address: str) -> str:
    """An address on this hub; the front page for any other."""
    return address if re.fullmatch(r"/(?![/\\])[\x21-\x5b\x5d-\x7e]*", address) else "/"


def _leaf(visit: Visit) -> Leaf:
    node = visit.store.entry(visit.commit, visit.path)
    if not isinstance(node, Leaf):
        raise Refusal(404, f"There is no file {visit.path!r} at this revision.")
    return node


def _text(store: Store, leaf: Leaf) -> str | None:
    try:
        text = store.blobs.read(leaf.sha256).decode()
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


@functools.lru_cache(maxsize=64)
def _card(repo: Repo, revision: str, path: str, text: str) -> markup.Card:
    return markup.card(
        text,
        link=lambda target: _url(repo, "blob", revision, target),
        picture=lambda target: _url(repo, "download", revision, target),
        folder=path.rpartition("/")[0],
    )


def _refs(visit: Visit) -> dict[str, list[tuple[str, str]]]:
    """The revisions to choose from: group -> (what to show, what to ask for)."""
    groups = (("Branches", "refs/heads/"), ("Tags", "refs/tags/"), ("Pull requests", "refs/pr/"))
    found = {}
    for title, prefix in groups:
        refs = visit.store.refs(visit.repo, prefix)
        found[title] = [(ref.short, ref.name if prefix == "refs/pr/" else ref.short) for ref in refs]
    return {title: refs for title, refs in found.items() if refs}


def _has_board(visit: Visit) -> bool:
    benchmark = visit.store.entry(visit.head, metadata.BENCHMARK) is not None
    return visit.repo.kind == "dataset" and (benchmark or _has_runs(visit.store, visit.head))


def _benchmark(visit: Visit) -> Leaderboard:
    """What models declare in their own repositories of their results on a dataset."""
    tables: dict[str, list[Line]] = {}
    for entry in metadata.leaderboard(visit.store, visit.repo, visit.viewer) or ():
        line = {"#": entry.rank, "model": entry.model.full_name, "value": entry.value, "file": entry.filename}
        line |= {"pull request": entry.pull_request, "notes": str(entry.data.get("notes") or "")}
        tables.setdefault(f"Task {entry.task}", []).append(line)
    return Leaderboard(tables=tables, notes=[DECLARED] if tables else [])


def _has_runs(store: Store, commit: Commit) -> bool:
    """Are there results, one file each or folded into tables?"""
    if store.entry(commit, "runs-parquet"):
        return True
    runs = store.entry(commit, "runs")
    found = trees.walk(store.tree, runs) if isinstance(runs, str) else ()
    return any(path.endswith(".json") for path, _ in found)


def _snippets(visit: Visit) -> list[tuple[str, str]]:
    """What to type to load the repository: title and code."""
    repo, name = visit.repo, visit.repo.full_name
    hub = f"export HF_ENDPOINT={visit.address}"
    if repo.private or repo.gated:
        hub += "\nexport HF_TOKEN=YOUR-TOKEN"
    if repo.kind == "space":
        return [("Shell", f"{hub}\nhf download {name} --repo-type space")]
    if repo.kind == "model":
        sentences = visit.store.entry(visit.head, "modules.json")
        library = "sentence_transformers" if sentences else "huggingface_hub"
        function = "SentenceTransformer" if sentences else "snapshot_download"
        return [("Shell", hub), (library, _code(library, function, name, _release(visit)))]
    if _has_board(visit):
        hub += f"\nanthology-hub leaderboard hf://{name}"
    found = [("Shell", hub), ("datasets", _code("datasets", "load_dataset", name, _release(visit)))]
    if visit.store.entry(visit.head, "manifest.json"):
        code = _code("anthology_hub", "Anthology", f"hf://{name}", _release(visit), method=".load")
        found.append(("anthology_hub", code))
    return found


def _code(library: str, name: str, repo: str, revision: str, *, method: str = "") -> str:
    return f'from {library} import {name}\n\n{name}{method}(\n    "{repo}",\n    revision="{revision}",\n)'


def _release(visit: Visit) -> str:
    """The newest release, else the newest commit: what a reader can cite."""
    tags = [ref.short for ref in visit.store.refs(visit.repo, "refs/tags/") if RELEASE.fullmatch(ref.short)]
    return max(tags, key=lambda tag: [int(part) for part in tag[1:].split(".")], default=visit.head.sha)


def _url(repo: Repo, section: str = "", *parts: str) -> str:
    """Address of a page of a repository; a revision is one segment, a path many."""
    revision, path = (*parts, "", "")[:2]
    address = f"/{repo.path}"
    for piece in (section, quote(revision, safe=""), quote(path)):
        address += f"/{piece}" if piece else ""
    return address


def _size(count: int) -> str:
    """A number of bytes for people.

    Example:
        >>> _size(999), _size(20_971_520), _size(3 * 10**12)
        ('999 B', '21.0 MB', '3.0 TB')
    """
    number = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} B" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def _figure(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    return "" if value is None else str(value)


@functools.cache
def _templates() -> Environment:
    found = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.globals["url"] = _url
    found.filters |= {"size": _size, "figure": _figure, "markdown": _inline}
    return found


def _inline(text: str) -> Markup:
    return Markup(markup.card(text, link=str, picture=str).html)
