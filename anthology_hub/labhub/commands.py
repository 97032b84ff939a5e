"""The commands of a private hub: `serve`, and `hub` with its upkeep; each opens the store only when it runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from anthology_hub.errors import OptionError

if TYPE_CHECKING:
    from anthology_hub.labhub.store import Store

_folder = click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
_T = TypeVar("_T")
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.command("serve")
@_folder
@click.option("--host", default="127.0.0.1", show_default=True, help="Others reach the hub only at another address.")
@click.option("--port", default=8465, show_default=True, help="0 for a free one.")
@click.option("--owner", default="lab", show_default=True, help="Account of the first token of a new hub.")
@click.option("--name", "names", multiple=True, help="Answer to this host name, and to no unknown one.")
@click.option("--log", is_flag=True, help="Print a line for every request.")
def serve_command(folder: Path, host: str, port: int, owner: str, names: tuple[str, ...], log: bool) -> None:
    """Run a private hub that keeps everything in FOLDER, until Ctrl-C.

    Prints the lines that make the official Hugging Face clients use it.

    Example: anthology-hub serve labhub
    """
    import logging

    from anthology_hub.labhub.server import serve

    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO if log else logging.ERROR)
    serve(folder, host=host, port=port, owner=owner, names=names, say=click.echo)


@click.group("hub")
def hub_group() -> None:
    """Look after a private hub: tokens, members, checks, garbage, backup.

    Example: anthology-hub hub token add labhub ada
    """


@hub_group.command("fsck")
@_folder
@click.option("--quick", is_flag=True, help="Compare sizes only, not contents.")
@_json
@click.pass_context
def fsck_command(ctx: click.Context, folder: Path, quick: bool, as_json: bool) -> None:
    """Check that every branch, tag and pull request is there whole; exit code 1 if not.

    Example: anthology-hub hub fsck labhub
    """
    from anthology_hub.labhub.upkeep import fsck

    found = _with(folder, lambda store: fsck(store, quick=quick))
    _print(as_json, vars(found), f"{found.refs} refs, {found.commits} commits, {found.blobs} blobs checked")
    for problem in () if as_json else found.problems:
        click.echo(problem, err=True)
    if found.problems:
        ctx.exit(1)


@hub_group.command("gc")
@_folder
@click.option("--grace-hours", default=24.0, show_default=True, help="Leave alone what is younger.")
@_json
def gc_command(folder: Path, grace_hours: float, as_json: bool) -> None:
    """Free what no branch, tag or pull request reaches; the hub may be running.

    Example: anthology-hub hub gc labhub
    """
    from anthology_hub.labhub.upkeep import gc

    freed = _with(folder, lambda store: gc(store, grace=3600 * grace_hours))
    _print(as_json, vars(freed), f"freed {freed.bytes} bytes: {freed.blobs} blobs, {freed.commits} commits")


@hub_group.command("backup")
@_folder
@click.argument("target", type=click.Path(path_type=Path, file_okay=False))
@_json
def backup_command(folder: Path, target: Path, as_json: bool) -> None:
    """Copy the hub to TARGET while it may be running; again to the same TARGET copies news only.

    Example: anthology-hub hub backup labhub /backup/labhub
    """
    from anthology_hub.labhub.upkeep import backup

    copied = _with(folder, lambda store: backup(store, target))
    _print(as_json, {"copied": copied, "target": str(target)}, f"copied {copied} blobs and the database to {target}")


@hub_group.group("repo")
def repo_group() -> None:
    """What is in the hub."""


@repo_group.command("list")
@_folder
@_json
def repo_list_command(folder: Path, as_json: bool) -> None:
    """List all repositories.

    Example: anthology-hub hub repo list labhub
    """
    repos = _with(folder, lambda store: store.repos())
    rows = [{"path": r.path, "private": r.private, "gated": r.gated, "created": r.created} for r in repos]
    marks = ["".join((", private" if r.private else "", f", gated {r.gated}" if r.gated else "")) for r in repos]
    _print(
        as_json, rows, "\n".join(f"{r.path}{mark}" for r, mark in zip(repos, marks, strict=True)) or "no repositories"
    )


@hub_group.group("token")
def token_group() -> None:
    """Make, list and revoke tokens."""


@token_group.command("add")
@_folder
@click.argument("account")
@click.option("--role", default="write", show_default=True, type=click.Choice(["read", "write", "admin"]))
@click.option("--label", default="", help="What it is for.")
def token_add_command(folder: Path, account: str, role: str, label: str) -> None:
    """Make a token for ACCOUNT, and the account if it is new, and print it: only its hash is kept.

    Example: anthology-hub hub token add labhub ada --role read
    """
    click.echo(_with(folder, lambda store: store.accounts.add_token(account, role, label=label), new=True))


@token_group.command("list")
@_folder
@_json
def token_list_command(folder: Path, as_json: bool) -> None:
    """List tokens by number, without their secrets.

    Example: anthology-hub hub token list labhub
    """
    tokens = _with(folder, lambda store: store.accounts.tokens())
    lines = [f"{t.id}  {t.account}  {t.role}  {t.created}  {t.label}{'  revoked' if t.revoked else ''}" for t in tokens]
    _print(as_json, [vars(token) for token in tokens], "\n".join(lines) or "no tokens")


@token_group.command("revoke")
@_folder
@click.argument("token", type=int)
def token_revoke_command(folder: Path, token: int) -> None:
    """Make the token with this number useless.

    Example: anthology-hub hub token revoke labhub 2
    """
    _with(folder, lambda store: store.accounts.revoke(token))
    click.echo(f"token {token} is revoked")


@hub_group.group("member")
def member_group() -> None:
    """Who may read and write the repositories of a namespace."""


@member_group.command("add")
@_folder
@click.argument("namespace")
@click.argument("account")
@click.option("--role", default="write", show_default=True, type=click.Choice(["read", "write"]))
def member_add_command(folder: Path, namespace: str, account: str, role: str) -> None:
    """Let ACCOUNT into NAMESPACE, or change its role there.

    Example: anthology-hub hub member add labhub lab ada --role read
    """
    _with(folder, lambda store: store.accounts.add_member(namespace, account, role=role), new=True)
    click.echo(f"{account} may {role} in {namespace}")


@member_group.command("remove")
@_folder
@click.argument("namespace")
@click.argument("account")
def member_remove_command(folder: Path, namespace: str, account: str) -> None:
    """Take ACCOUNT out of NAMESPACE.

    Example: anthology-hub hub member remove labhub lab ada
    """
    _with(folder, lambda store: store.accounts.remove_member(namespace, account))
    click.echo(f"{account} is no longer a member of {namespace}")


def _with(folder: Path, act: Callable[[Store], _T], *, new: bool = False) -> _T:
    from contextlib import closing

    from anthology_hub.labhub.store import Store

    if not new and not (folder / "hub.db").is_file():
        raise OptionError(f"there is no hub in {folder}: give the folder that `anthology-hub serve` was given")
    with closing(Store(folder)) as store:
        return act(store)


def _print(as_json: bool, data: Any, text: str) -> None:  # noqa: ANN401 - whatever JSON holds
    click.echo(json.dumps(data, indent=1) if as_json else text)
