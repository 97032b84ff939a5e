"""The routes under `/api`: who one is, repositories, their revisions and files as lists, discussions."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator
from typing import Any

from starlette.responses import JSONResponse, Response

from anthology_hub.errors import DataError
from anthology_hub.labhub import metadata
from anthology_hub.labhub.discussions import Discussion, Event
from anthology_hub.labhub.store import Commit, Refusal, Repo, lfs_pointer
from anthology_hub.labhub.trees import Leaf, Node
from anthology_hub.labhub.wire import Ask, Fields, Routes, paged, position

ROUTES = Routes()
REPO = "/api/{kinds}/{namespace}/{name}"
LONG = 65_536

# -- accounts


@ROUTES.on("GET", "/api/whoami-v2")
def whoami(ask: Ask) -> Response:
    """Name, organisations and role of a token."""
    user = ask.user()
    orgs = [{**_owner(ask, name), "roleInOrg": role} for name, role in ask.store.accounts.namespaces(user.name).items()]
    token = {"displayName": user.name, "role": "read" if user.role == "read" else "write"}
    auth = {"type": "access_token", "accessToken": token}
    return JSONResponse({**_owner(ask, user.name), "type": "user", "isPro": False, "orgs": orgs, "auth": auth})


@ROUTES.on("GET", "/api/users/{account}/overview")
def user_overview(ask: Ask) -> Response:
    """An account."""
    if not ask.store.accounts.exists(ask.args["account"]):
        raise Refusal(404, f"there is no account {ask.args['account']!r}")
    return JSONResponse({**_owner(ask, ask.args["account"]), "user": ask.args["account"]})


@ROUTES.on("POST", "/api/validate-yaml")
def validate_yaml(ask: Ask) -> Response:
    """Check the metadata of a card, as clients do before they commit one."""
    try:
        found = metadata.front_matter(ask.json().text("content", longest=ask.hub.options.body_limit))
    except DataError as problem:
        return JSONResponse({"errors": [{"message": str(problem)}], "warnings": []}, 400)
    warnings = [] if found else [{"message": "empty or missing yaml metadata in repo card"}]
    return JSONResponse({"errors": [], "warnings": warnings})


# -- repositories


@ROUTES.on("POST", "/api/repos/create")
def create_repo(ask: Ask) -> Response:
    """Make a repository; 409 with its address if it exists."""
    user, told = ask.writer(), ask.json()
    kind, name = told.text("type", "model"), told.text("name")
    namespace = told.text("organization", user.name)
    if not ask.store.accounts.may_write(user, namespace):
        raise Refusal(403, f"You don't have the rights to create a {kind} under the namespace {namespace!r}: "
                           f"ask for membership, or use {user.name!r}")  # fmt: skip
    try:
        repo = ask.store.create_repo(kind, namespace, name, author=user.name, private=_private(told))
    except Refusal as refusal:
        existing = ask.store.find(kind, namespace, name) if refusal.status == 409 else None
        if existing is None:
            raise
        return JSONResponse({"error": str(refusal), "url": ask.url(existing.path)}, 409)
    return JSONResponse({"url": ask.url(repo.path), "name": repo.full_name, "id": _id(repo)})


@ROUTES.on("DELETE", "/api/repos/delete")
def delete_repo(ask: Ask) -> Response:
    """Delete a repository."""
    told = ask.json()
    ask.store.delete_repo(_named(ask, told.text("type", "model"), told.text("organization", ""), told.text("name")))
    return JSONResponse({})


@ROUTES.on("POST", "/api/repos/move")
def move_repo(ask: Ask) -> Response:
    """Rename a repository, or move it to another namespace where one may write too."""
    told = ask.json()
    (namespace, name), (to, new_name) = (_halves(told.text(key)) for key in ("fromRepo", "toRepo"))
    repo = _named(ask, told.text("type", "model"), namespace, name)
    if not ask.store.accounts.may_write(ask.user(), to):
        raise Refusal(403, f"you may not write to the namespace {to!r}: ask for membership")
    ask.store.move_repo(repo, to, new_name)
    return JSONResponse({})


@ROUTES.on("PUT", REPO + "/settings")
def change_settings(ask: Ask) -> Response:
    """Change visibility and gating."""
    repo, told = ask.repo(write=True), ask.json()
    if "gated" in told:
        ask.store.set_gated(repo, told.text("gated") if told.raw("gated") else "")
    if "visibility" in told or "private" in told:
        ask.store.set_private(repo, _private(told))
    return JSONResponse({})


@ROUTES.on("GET", "/api/{kinds}")
def list_repos(ask: Ask) -> Response:
    """Repositories that the viewer may see."""
    query, wanted = ask.request.query_params, set(ask.request.query_params.getlist("filter"))
    repos = [repo for repo in ask.store.repos(ask.kind) if ask.store.may_see(ask.viewer, repo) and _asked(ask, repo)]
    found = ask.store.heads(repos)
    if query.get("sort") == "lastModified":
        found.sort(key=lambda pair: pair[1].created, reverse=True)
    if wanted:
        found = [(repo, commit) for repo, commit in found if wanted <= set(metadata.tags(ask.store, commit))]

    def shown(page: list[tuple[Repo, Commit]]) -> Iterator[dict[str, Any]]:
        return (_info(ask, repo, commit, files=ask.flag("full"), blobs=False) for repo, commit in page)

    return paged(ask, found, shown, size=ask.hub.options.page_size)


@ROUTES.on("GET", REPO, REPO + "/revision/{revision}")
def repo_info(ask: Ask) -> Response:
    """All about a repository at a revision."""
    repo = ask.repo()
    commit = ask.store.resolve(repo, ask.args.get("revision", "main"))
    return JSONResponse(_info(ask, repo, commit, files=True, blobs=ask.flag("blobs")))


@ROUTES.on("GET", REPO + "/auth-check", REPO + "/auth-check/{right}")
def auth_check(ask: Ask) -> Response:
    """May one read the files, or write?"""
    ask.repo(files=True, write=ask.args.get("right") == "write")
    return JSONResponse({})


@ROUTES.on("GET", REPO + "/leaderboard")
def leaderboard(ask: Ask) -> Response:
    """Models ranked on a dataset."""
    only = ask.request.query_params.get("base_model", "true").lower() not in ("0", "false")
    entries = metadata.leaderboard(ask.store, ask.repo(), ask.viewer, base_models_only=only)
    if entries is None:
        raise Refusal(404, "this dataset has no leaderboard: add an eval.yaml to it, or results on it to a model")
    return JSONResponse([_entry(ask, entry) for entry in entries])


# -- access to gated repositories


@ROUTES.on("POST", "/{prefix}{namespace}/{name}/ask-access")
def ask_access(ask: Ask) -> Response:
    """Ask for access to a gated repository; `auto` ones give it at once."""
    repo, user = ask.repo(), ask.user()
    if not repo.gated:
        raise Refusal(400, f"{repo.full_name} is not gated: its files are open to you")
    if user.name not in ask.store.access(repo):
        ask.store.set_access(repo, user.name, "accepted" if repo.gated == "auto" else "pending")
    return JSONResponse({})


@ROUTES.on("GET", REPO + "/user-access-request/{status}")
def list_access(ask: Ask) -> Response:
    """Who has access, waits for it, or was refused."""
    repo = _gated(ask)
    rows = ask.store.access(repo).items()
    return JSONResponse(
        [
            {"user": _owner(ask, account) | {"user": account}, "requestId": account, "status": status, "timestamp": at}
            for account, (status, at) in rows
            if status == ask.args["status"]
        ]
    )


@ROUTES.on("POST", REPO + "/user-access-request/grant", REPO + "/user-access-request/handle")
def handle_access(ask: Ask) -> Response:
    """Grant, refuse or take back access."""
    repo, told = _gated(ask), ask.json()
    account, status = told.text("user" if "user" in told else "requestId"), told.text("status", "accepted")
    if status not in ("accepted", "rejected", "pending"):
        raise Refusal(400, f"the status {status!r} is not allowed: choose accepted, rejected or pending")
    if not ask.store.accounts.exists(account):
        raise Refusal(404, f"there is no account {account!r}: make one with a token first")
    if ask.store.access(repo).get(account, ("",))[0] == status:
        raise Refusal(400, f"the access of {account} is {status} already")
    ask.store.set_access(repo, account, status)
    return JSONResponse({})


# -- revisions


@ROUTES.on("GET", REPO + "/refs")
def list_refs(ask: Ask) -> Response:
    """Branches, tags and, if asked for, pull requests."""
    repo = ask.repo()

    def named(prefix: str) -> list[dict[str, str]]:
        refs = ask.store.refs(repo, prefix)
        return [{"name": ref.short, "ref": ref.name, "targetCommit": ref.sha} for ref in refs]

    found = {"branches": named("refs/heads/"), "tags": named("refs/tags/"), "converts": []}
    return JSONResponse(found | ({"pullRequests": named("refs/pr/")} if ask.flag("include_prs") else {}))


@ROUTES.on("GET", REPO + "/commits/{revision}")
def list_commits(ask: Ask) -> Response:
    """The history of a revision."""
    repo, pin = ask.repo(), position(ask)[0]
    commit = ask.store.resolve(repo, pin or ask.args["revision"])
    commits = list(ask.store.history(commit))
    size = min(50, ask.hub.options.page_size)
    page = paged(ask, commits, lambda page: map(_commit, page), size=size, pin=commit.sha)
    # The JavaScript client counts by this.
    page.headers["X-Total-Count"] = str(len(commits))
    return page


@ROUTES.on("POST", REPO + "/branch/{branch}")
def create_branch(ask: Ask) -> Response:
    """Make a branch."""
    repo = ask.repo(write=True)
    ask.store.create_ref(repo, f"refs/heads/{ask.args['branch']}", ask.json().text("startingPoint", "main"))
    return JSONResponse({})


@ROUTES.on("POST", REPO + "/tag/{revision}")
def create_tag(ask: Ask) -> Response:
    """Make a tag; tags are never moved: delete one to make it anew."""
    repo, told = ask.repo(write=True), ask.json()
    message = told.text("message", "", longest=LONG)
    ask.store.create_ref(repo, f"refs/tags/{told.text('tag')}", ask.args["revision"], message=message)
    return JSONResponse({})


@ROUTES.on("DELETE", REPO + "/branch/{branch}")
def delete_branch(ask: Ask) -> Response:
    """Delete a branch."""
    ask.store.delete_ref(ask.repo(write=True), f"refs/heads/{ask.args['branch']}")
    return JSONResponse({})


@ROUTES.on("DELETE", REPO + "/tag/{tag}")
def delete_tag(ask: Ask) -> Response:
    """Delete a tag."""
    ask.store.delete_ref(ask.repo(write=True), f"refs/tags/{ask.args['tag']}")
    return JSONResponse({})


@ROUTES.on("POST", REPO + "/super-squash/{branch}")
def super_squash(ask: Ask) -> Response:
    """Make one commit of a branch's history."""
    repo, branch = ask.repo(write=True), ask.args["branch"]
    title = ask.json().text("message", f"Super-squash branch {branch!r}", longest=LONG)
    ask.store.squash(repo, branch, title=title, author=ask.user().name)
    return JSONResponse({})


# -- files as lists


@ROUTES.on("GET", REPO + "/tree/{revision}", REPO + "/tree/{revision}/{path}")
def list_tree(ask: Ask) -> Response:
    """The files and folders of a folder."""
    repo, pin = ask.repo(), position(ask)[0]
    commit = ask.store.resolve(repo, pin or ask.args["revision"])
    folder = ask.args.get("path", "").strip("/")
    nodes = ask.store.listing(commit, folder, recursive=ask.flag("recursive"))
    size = min(ask.hub.options.page_size, 50) if ask.flag("expand") else ask.hub.options.page_size
    return paged(ask, nodes, lambda page: _items(ask, commit, page), size=size, pin=commit.sha)


@ROUTES.on("POST", REPO + "/paths-info/{revision}")
def paths_info(ask: Ask) -> Response:
    """The files and folders of some paths; those that are not there are left out."""
    repo = ask.repo()
    commit = ask.store.resolve(repo, ask.args["revision"])
    if ask.request.headers.get("content-type", "").startswith("application/json"):
        told = ask.json()
        paths, expand = [str(path) for path in told.each("paths")], told.flag("expand")
    else:
        form = ask.form()
        paths, expand = form.get("paths", []), form.get("expand", ["false"])[0].lower() in ("1", "true")
    asked = [(path.strip("/"), ask.store.entry(commit, path.strip("/"))) for path in paths]
    return JSONResponse(list(_items(ask, commit, [(p, node) for p, node in asked if node and p], expand=expand)))


# -- discussions and pull requests

_TALKS = REPO + "/discussions"
_TALK = _TALKS + "/{num}"


@ROUTES.on("GET", _TALKS)
def list_discussions(ask: Ask) -> Response:
    """Discussions and pull requests, newest first."""
    repo, query = ask.repo(), ask.request.query_params
    kinds = {"pull_request": (True,), "discussion": (False,)}.get(query.get("type", "all"), (True, False))
    states = {"open": ("open", "draft"), "closed": ("closed", "merged")}.get(query.get("status", "all"))
    found = [
        talk
        for talk in ask.hub.discussions.all(repo)
        if talk.is_pull_request in kinds
        and (states is None or talk.status in states)
        and query.get("author", talk.author) == talk.author
    ]
    size = ask.hub.options.page_size
    start = ask.number("p", 0, most=1 << 20) * size
    shown = [_talk(repo, talk) for talk in found[start : start + size]]
    return JSONResponse({"discussions": shown, "count": len(found), "start": start})


@ROUTES.on("POST", _TALKS)
def open_discussion(ask: Ask) -> Response:
    """Open a discussion, or an empty pull request."""
    repo, user, told = ask.repo(files=True), ask.writer(), ask.json()
    num = ask.hub.discussions.open(
        repo,
        title=told.text("title").strip() or "Untitled",
        description=told.text("description", "", longest=LONG),
        author=user.name,
        pull_request=told.flag("pullRequest"),
    )
    return JSONResponse({"num": num})


@ROUTES.on("GET", _TALK)
def discussion(ask: Ask) -> Response:
    """A discussion with its events, and for a pull request its conflicts and changes."""
    repo = ask.repo()
    talks, talk = ask.hub.discussions, ask.hub.discussions.get(repo, _num(ask))
    shown = {**_talk(repo, talk), "events": [_event(event) for event in talks.events(repo, talk.num)]}
    if talk.is_pull_request:
        shown["changes"] = {"base": "refs/heads/main", **({"mergeCommitId": talk.merged} if talk.merged else {})}
        shown["filesWithConflicts"] = talks.conflicts(repo, talk)
        wanted = ask.flag("diff") and ask.store.may_open(ask.viewer, repo)
        shown["diff"] = talks.diff(repo, talk) if wanted else None
    return JSONResponse(shown)


@ROUTES.on("POST", _TALK + "/comment")
def comment(ask: Ask) -> Response:
    """Add a comment."""
    repo, user = ask.repo(files=True), ask.writer()
    event = ask.hub.discussions.comment(repo, _num(ask), ask.json().text("comment", longest=LONG), author=user.name)
    return JSONResponse({"newMessage": _event(event)})


@ROUTES.on("POST", _TALK + "/comment/{comment}/{change}")
def edit_comment(ask: Ask) -> Response:
    """Change or hide one's own comment."""
    repo, user, told = ask.repo(files=True), ask.writer(), ask.json()
    if ask.args["change"] not in ("edit", "hide"):
        raise Refusal(404, "a comment can be changed by /edit and /hide only")
    text = told.text("content", longest=LONG) if ask.args["change"] == "edit" else None
    event = ask.hub.discussions.edit_comment(repo, _num(ask), ask.args["comment"], author=user.name, text=text)
    return JSONResponse({"updatedComment": _event(event)})


@ROUTES.on("POST", _TALK + "/title")
def rename_discussion(ask: Ask) -> Response:
    """Change the title."""
    repo = _own_talk(ask)
    event = ask.hub.discussions.rename(repo, _num(ask), ask.json().text("title"), author=ask.user().name)
    return JSONResponse({"newTitle": _event(event)})


@ROUTES.on("POST", _TALK + "/status")
def change_status(ask: Ask) -> Response:
    """Open or close."""
    repo = _own_talk(ask)
    event = ask.hub.discussions.set_status(repo, _num(ask), ask.json().text("status"), author=ask.user().name)
    return JSONResponse({"newStatus": _event(event)})


@ROUTES.on("POST", _TALK + "/merge")
def merge(ask: Ask) -> Response:
    """Merge a pull request."""
    repo, user, talks = ask.repo(write=True), ask.user(), ask.hub.discussions
    text = ask.json().text("comment", "", longest=LONG)
    made = talks.merge(repo, _num(ask), author=user.name)
    if text:
        talks.comment(repo, _num(ask), text, author=user.name)
    return JSONResponse({"mergeCommitId": made.sha})


# -- rights


def _named(ask: Ask, kind: str, namespace: str, name: str) -> Repo:
    return ask.right(ask.find(kind, namespace or ask.user().name, name), write=True)


def _private(told: Fields) -> bool:
    """Shall a repository be hidden? A word that is not known must not open one to all."""
    visibility = told.text("visibility", "public")
    if visibility not in ("public", "private"):
        raise Refusal(400, f"the visibility {visibility!r} is not offered here: choose 'public' or 'private'")
    return visibility == "private" or told.flag("private")


def _halves(full_name: str) -> tuple[str, str]:
    namespace, slash, name = full_name.partition("/")
    if not slash:
        raise Refusal(400, f"{full_name!r} is no repository name: give 'namespace/name'")
    return namespace, name


def _gated(ask: Ask) -> Repo:
    repo = ask.repo(write=True)
    if not repo.gated:
        raise Refusal(400, f"{repo.full_name} is not gated: set gated to 'manual' or 'auto' first")
    return repo


def _own_talk(ask: Ask) -> Repo:
    """The repository, for the author of the discussion and for writers."""
    repo, user = ask.repo(files=True), ask.writer()
    author = ask.hub.discussions.get(repo, _num(ask)).author
    return repo if author == user.name else ask.right(repo, write=True)


def _num(ask: Ask) -> int:
    if not ask.args["num"].isascii() or not ask.args["num"].isdigit() or len(ask.args["num"]) > 9:
        raise Refusal(404, f"there is no discussion {ask.args['num'][:50]!r}: discussions have numbers")
    return int(ask.args["num"])


# -- JSON


def _id(repo: Repo) -> str:
    return f"{repo.id:024x}"


def _owner(ask: Ask, name: str) -> dict[str, Any]:
    kind = "user" if ask.store.accounts.exists(name) else "org"
    return {"type": kind, "id": name, "name": name, "fullname": name, "avatarUrl": ""}


def _asked(ask: Ask, repo: Repo) -> bool:
    query = ask.request.query_params
    gated = query.get("gated")
    return (
        query.get("author", repo.namespace) == repo.namespace
        and all(part.casefold() in repo.full_name.casefold() for part in query.getlist("search"))
        and (gated is None or (gated.lower() == "true") == bool(repo.gated))
    )


def _info(ask: Ask, repo: Repo, commit: Commit, *, files: bool, blobs: bool) -> dict[str, Any]:
    card = metadata.card(ask.store, commit)
    info: dict[str, Any] = {
        "_id": _id(repo), "id": repo.full_name, "author": repo.namespace, "sha": commit.sha,
        "lastModified": commit.created, "createdAt": repo.created, "private": repo.private,
        "gated": repo.gated or False, "disabled": False, "downloads": 0, "likes": 0,
        "tags": metadata.tags(ask.store, commit),
    }  # fmt: skip
    info |= {key: card[key] for key in ("pipeline_tag", "library_name", "sdk") if isinstance(card.get(key), str)}
    if repo.kind == "model":
        info["modelId"] = repo.full_name
    if files:
        leaves = list(ask.store.files(commit))
        info["cardData"] = card
        info["usedStorage"] = sum(leaf.size for _, leaf in leaves)
        info["siblings"] = [{"rfilename": path} | (_sibling(leaf) if blobs else {}) for path, leaf in leaves]
    wanted = {name for value in ask.request.query_params.getlist("expand") for name in value.split(",")}
    if not wanted:
        return info
    if repo.kind == "model" and "evalResults" in wanted and ask.store.may_open(ask.viewer, repo):
        info["evalResults"] = metadata.eval_results(ask.store, commit)
    return {key: value for key, value in (info | {"cardData": card}).items() if key in wanted | {"_id", "id"}}


def _sibling(leaf: Leaf) -> dict[str, Any]:
    lfs = {"sha256": leaf.sha256, "size": leaf.size, "pointerSize": len(lfs_pointer(leaf.sha256, leaf.size))}
    return {"size": leaf.size, "blobId": leaf.oid} | ({"lfs": lfs} if leaf.lfs else {})


def _items(
    ask: Ask, commit: Commit, nodes: Iterable[tuple[str, Node]], *, expand: bool | None = None
) -> Iterator[dict[str, Any]]:
    nodes = list(nodes)
    wanted = ask.flag("expand") if expand is None else expand
    changes = ask.store.last_changes(commit, [path for path, _ in nodes]) if wanted else {}
    for path, node in nodes:
        item = {"path": path, **_node(node)}
        if path in changes:
            last = changes[path]
            item["lastCommit"] = {"id": last.sha, "title": last.title, "date": last.created}
        yield item


def _node(node: Node) -> dict[str, Any]:
    if isinstance(node, str):
        return {"type": "directory", "oid": node, "size": 0}
    item: dict[str, Any] = {"type": "file", "oid": node.oid, "size": node.size}
    if node.lfs:
        pointer_size = len(lfs_pointer(node.sha256, node.size))
        item["lfs"] = {"oid": node.sha256, "size": node.size, "pointerSize": pointer_size}
    return item


def _commit(commit: Commit) -> dict[str, Any]:
    formatted = {"title": html.escape(commit.title), "message": html.escape(commit.message)}
    return {"id": commit.sha, "title": commit.title, "message": commit.message, "date": commit.created,
            "authors": [{"user": commit.author, "avatar": ""}], "formatted": formatted}  # fmt: skip


def _talk(repo: Repo, talk: Discussion) -> dict[str, Any]:
    return {"num": talk.num, "title": talk.title, "author": {"name": talk.author, "type": "user"},
            "createdAt": talk.created, "status": talk.status, "isPullRequest": talk.is_pull_request,
            "repo": {"name": repo.full_name, "type": repo.kind}}  # fmt: skip


def _event(event: Event) -> dict[str, Any]:
    return {"id": event.id, "type": event.type, "createdAt": event.created, "author": {"name": event.author},
            "data": dict(event.data)}  # fmt: skip


def _entry(ask: Ask, entry: metadata.Entry) -> dict[str, Any]:
    shown = {"rank": entry.rank, "modelId": entry.model.full_name, "value": entry.value, "filename": entry.filename,
             "verified": False, "taskId": entry.task, "source": entry.data.get("source"),
             "notes": entry.data.get("notes"), "author": _owner(ask, entry.model.namespace)}  # fmt: skip
    return shown | ({"pullRequest": entry.pull_request} if entry.pull_request else {})
