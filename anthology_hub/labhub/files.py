"""The routes that carry content: what to upload how, large files, commits, downloads."""

from __future__ import annotations

import base64
import binascii
import fnmatch
import itertools
import re
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import replace
from typing import Any
from urllib.parse import quote, urlencode

from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, JSONResponse, Response

from anthology_hub.labhub.blobs import CHUNK
from anthology_hub.labhub.store import LFS_SUFFIXES, Change, Commit, Refusal, Repo, lfs_pointer
from anthology_hub.labhub.trees import Leaf, checked
from anthology_hub.labhub.wire import Ask, Fields, Routes, parsed, viewer

ROUTES = Routes()
REPO = "/api/{kinds}/{namespace}/{name}"
LONG = 65_536
MOST_CHANGES, MOST_FILES = 100_000, 1000
_PULL = re.compile("refs/pr/([0-9]{1,9})")
# Files come from the address of the web page, so a browser must neither run nor guess at them.
_INERT = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox; default-src 'none'"}

# -- uploads


@ROUTES.on("POST", REPO + "/preupload/{revision}")
def preupload(ask: Ask) -> Response:
    """Say of each file whether it is large, ignored, or there already."""
    repo, told = right_to_commit(ask), ask.json()
    commit = ask.store.resolve(repo, ask.args["revision"])
    given = told.text("gitIgnore", longest=LONG) if "gitIgnore" in told else None
    ignored = _ignorer(given if given is not None else _gitignore(ask, commit))
    files = [Fields(value, "each file") for value in told.each("files", most=MOST_FILES)]
    asked = [(checked(file.text("path", longest=LONG)), file.number("size")) for file in files]
    shown = [{**_mode(ask, commit, path, size), "shouldIgnore": ignored(path)} for path, size in asked]
    return JSONResponse({"files": shown, "commitOid": commit.sha})


@ROUTES.on("POST", "/{prefix}{namespace}/{name}.git/info/lfs/objects/batch")
def lfs_batch(ask: Ask) -> Response:
    """Say where to put large files; those that the account has shown before need no upload."""
    user, told = ask.writer(), ask.json()
    ask.repo(files=True)
    if told.text("operation") != "upload":
        raise Refusal(400, "only the operation 'upload' is offered: download by /resolve/ addresses")
    objects = []
    for value in told.each("objects"):
        wanted = Fields(value, "each object")
        sha256, size = _sha256(wanted.text("oid")), wanted.number("size")
        item: dict[str, Any] = {"oid": sha256, "size": size}
        if not (ask.store.blobs.touch(sha256) == size and ask.store.holds(user, sha256)):
            signed = ask.hub.sign("lfs", f"{sha256} {size} {user.name}")
            query = urlencode({"size": size, "account": user.name, "pass": signed})
            item["actions"] = {"upload": {"href": f"{ask.url(f'-/lfs/{sha256}')}?{query}", "header": {}}}
        objects.append(item)
    return JSONResponse({"transfer": "basic", "objects": objects, "hash_algo": "sha256"})


@ROUTES.on("PUT", "/-/lfs/{sha256}")
async def put_lfs(ask: Ask) -> Response:
    """Take in a large file; the address itself is the permission."""
    query, sha256 = ask.request.query_params, _sha256(ask.args["sha256"])
    size, account = query.get("size", ""), query.get("account", "")
    ask.hub.check("lfs", f"{sha256} {size} {account}", query.get("pass", ""))
    if int(size) > ask.hub.options.file_limit:
        raise Refusal(413, f"files may have at most {ask.hub.options.file_limit} bytes: split the file")
    with ask.store.blobs.writing() as upload:
        await receive(ask, int(size), upload.write)
        await run_in_threadpool(upload.keep, sha256)
    await run_in_threadpool(ask.store.note_upload, account, sha256)
    return Response(headers={"ETag": f'"{sha256}"'})


@ROUTES.on("POST", REPO + "/commit/{revision}")
async def commit(ask: Ask) -> Response:
    """Take in a commit line by line, and then write it at once."""
    await run_in_threadpool(right_to_commit, ask)
    header: Fields | None = None
    changes: list[Change] = []
    async for line in _lines(ask):
        told = Fields(await run_in_threadpool(parsed, line), "each line")
        if told.text("key") == "header":
            header = told.part("value")
        elif len(changes) == MOST_CHANGES:
            raise Refusal(413, f"a commit may hold at most {MOST_CHANGES} changes: make several")
        else:
            changes.append(await run_in_threadpool(_change, ask, told.text("key"), told.part("value")))
    if header is None:
        raise Refusal(400, "the commit has no header: send a line with the key 'header' and a summary")
    return await run_in_threadpool(_write, ask, header, changes)


def right_to_commit(ask: Ask) -> Repo:
    """The repository, if the viewer may commit to this revision of it, or open or extend a pull request of theirs."""
    user, repo = ask.writer(), ask.repo(files=True)
    own = _PULL.fullmatch(ask.args["revision"])
    if ask.flag("create_pr") or (own and ask.hub.discussions.get(repo, int(own[1])).author == user.name):
        return repo
    return ask.right(repo, write=True)


async def receive(ask: Ask, limit: int, sink: Callable[[bytes], None]) -> None:
    """Hand the body to a function in pieces of a megabyte, away from the event loop."""
    pieces: list[bytes] = []
    async for piece in ask.stream(limit):
        pieces.append(piece)
        if sum(map(len, pieces)) >= CHUNK:
            await run_in_threadpool(sink, b"".join(pieces))
            pieces = []
    await run_in_threadpool(sink, b"".join(pieces))


async def _lines(ask: Ask) -> AsyncIterator[bytes]:
    options, line = ask.hub.options, bytearray()
    async for piece in ask.stream(options.commit_limit):
        *ended, rest = piece.split(b"\n")
        for end in ended:
            line += end
            if line.strip():
                yield bytes(line)
            line.clear()
        line += rest
        if len(line) > options.line_limit:
            raise Refusal(413, f"a line of a commit may have at most {options.line_limit} bytes: send the file by LFS")
    if line.strip():
        yield bytes(line)


def _change(ask: Ask, key: str, value: Fields) -> Change:
    path = checked(value.text("path", longest=LONG).removesuffix("/" if key.startswith("deleted") else ""))
    if key == "file":
        content = value.text("content", longest=ask.hub.options.line_limit)
        return ask.store.file(path, _content(content, value.text("encoding", "utf-8")))
    if key == "lfsFile":
        sha256, user = _sha256(value.text("oid")), ask.user()
        stored = ask.store.blobs.touch(sha256)
        if stored is None or not ask.store.holds(user, sha256):
            raise Refusal(400, f"the LFS object {sha256} was not uploaded by {user.name}: upload it before the commit")
        return ask.store.large_file(path, sha256, value.number("size") if "size" in value else stored)
    if key in ("deletedFile", "deletedFolder", "deletedEntry"):
        return Change(path=path, leaf=None)
    raise Refusal(400, f"the key {key!r} is unknown: use header, file, lfsFile, deletedFile or deletedFolder")


def _content(text: str, encoding: str) -> bytes:
    if encoding != "base64":
        return text.encode()
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as problem:
        raise Refusal(400, f"the content of a file is no valid base64: {problem}") from problem


def _write(ask: Ask, header: Fields, changes: list[Change]) -> Response:
    # A body may take hours to come in: what allowed it may have been taken back meanwhile.
    repo = right_to_commit(replace(ask, viewer=viewer(ask.store, ask.request)))
    revision, user, pulls = ask.args["revision"], ask.user(), ask.hub.discussions
    title, message = header.text("summary", longest=LONG), header.text("description", "", longest=LONG)
    words = {"title": title, "message": message, "author": user.name}
    parent, num = header.text("parentCommit", "") or None, None
    if ask.flag("create_pr"):
        if revision not in ("main", "HEAD", "refs/heads/main"):
            raise Refusal(400, f"a pull request is made from main, not from {revision[:100]!r}: leave out the revision")
        num, made = pulls.propose(repo, changes, parent=parent, **words)
    elif own := _PULL.fullmatch(revision):
        made = pulls.push(repo, int(own[1]), changes, parent=parent, **words)
    else:
        made = ask.store.commit(repo, revision, changes, parent=parent, **words)
    url = ask.url(f"{repo.path}/commit/{made.sha}")
    answer = {"success": True, "commitOid": made.sha, "commitUrl": url, "hookOutput": ""}
    return JSONResponse(answer | ({"pullRequestUrl": ask.url(f"{repo.path}/discussions/{num}")} if num else {}))


def _mode(ask: Ask, commit: Commit, path: str, size: int) -> dict[str, Any]:
    there = ask.store.entry(commit, path)
    large = size >= ask.hub.options.lfs_threshold or path.rpartition(".")[2].lower() in LFS_SUFFIXES
    oid = (there.sha256 if there.lfs else there.oid) if isinstance(there, Leaf) else None
    return {"path": path, "uploadMode": "lfs" if large and size else "regular", "oid": oid}


def _gitignore(ask: Ask, commit: Commit) -> str:
    leaf = ask.store.entry(commit, ".gitignore")
    if not isinstance(leaf, Leaf) or leaf.size > LONG:
        return ""
    return ask.store.blobs.read(leaf.sha256).decode("utf-8", "replace")


def _ignorer(text: str) -> Callable[[str], bool]:
    """The common part of git's rules, for a path: names, globs, and folders with all below them."""
    lines = (line.strip() for line in text.splitlines())
    kept = [line for line in lines if line and not line.startswith(("#", "!"))][:1000]
    names = _any_of(line for line in kept if "/" not in line.rstrip("/"))
    paths = _any_of(line for line in kept if "/" in line.rstrip("/"))

    def ignored(path: str) -> bool:
        parts = path.split("/")
        return any(map(names.match, parts)) or any(map(paths.match, itertools.accumulate(parts, "{}/{}".format)))

    return ignored


def _any_of(globs: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(fnmatch.translate(glob.strip("/")) for glob in globs) or "(?!)")


def _sha256(text: str) -> str:
    if not re.fullmatch("[0-9a-f]{64}", text):
        raise Refusal(422, f"{text[:100]!r} is no sha256: give 64 digits 0-9 and a-f")
    return text


# -- downloads


@ROUTES.on("GET", "/{prefix}{namespace}/{name}/resolve/{revision}/{path}")
def resolve(ask: Ask) -> Response:
    """A file, whole or in ranges."""
    # Large files too are answered at once: a redirect would need a second host name for this hub.
    leaf, headers = _leaf(ask)
    if leaf.lfs:
        headers |= {"X-Linked-Etag": f'"{leaf.sha256}"', "X-Linked-Size": str(leaf.size)}
    headers["ETag"] = f'"{leaf.sha256 if leaf.lfs else leaf.oid}"'
    return FileResponse(ask.store.blobs.path(leaf.sha256), headers=headers, media_type="application/octet-stream")


@ROUTES.on("GET", "/{prefix}{namespace}/{name}/raw/{revision}/{path}")
def raw(ask: Ask) -> Response:
    """A file as git has it: of a large one the pointer."""
    leaf, headers = _leaf(ask)
    headers["ETag"] = f'"{leaf.oid}"'
    if leaf.lfs:
        return Response(lfs_pointer(leaf.sha256, leaf.size), headers=headers, media_type="text/plain")
    return FileResponse(ask.store.blobs.path(leaf.sha256), headers=headers, media_type="text/plain")


def _leaf(ask: Ask) -> tuple[Leaf, dict[str, str]]:
    repo = ask.repo(files=True)
    commit, path = ask.store.resolve(repo, ask.args["revision"]), ask.args["path"]
    leaf = ask.store.entry(commit, path)
    if not isinstance(leaf, Leaf):
        message = f"Entry not found: there is no file {path[:200]!r} at {ask.args['revision'][:100]}"
        raise Refusal(404, message, code="EntryNotFound", commit=commit.sha)
    name = quote(path.rpartition("/")[2])
    headers = {"X-Repo-Commit": commit.sha, "Content-Disposition": f"inline; filename*=UTF-8''{name}"}
    return leaf, headers | _INERT | {"Cache-Control": "no-cache"}
