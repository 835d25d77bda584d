"""`ovcf-node users`: who may sign in to the pages."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ovcf_node.cli.configuration import UNUSABLE, ConfigFile, settings_or_exit
from ovcf_node.errors import OvcfError
from ovcf_node.operate import users as people
from ovcf_node.operate.users import Role, User

users = typer.Typer(help="Add, list and remove people who may sign in to the pages.", no_args_is_help=True)

Account = Annotated[str, typer.Argument(help="What the person signs in with.")]
FromInput = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input instead of asking for it."),
]


def _file(config: Path | None) -> tuple[Path, dict[str, User]]:
    path = settings_or_exit(config).web.users
    if path is None:
        _fail("web.users is not set in the configuration: it names the file to write", UNUSABLE)
    try:
        return path, people.load(path)
    except OvcfError as error:
        _fail(error.text, UNUSABLE)


def _fail(text: str, status: int = 1) -> None:
    typer.echo(text, err=True)
    raise typer.Exit(status)


def _password(from_input: bool) -> str:
    if from_input:
        return sys.stdin.readline().rstrip("\n")
    return typer.prompt(f"Password (at least {people.MIN_PASSWORD} characters)", hide_input=True, confirmation_prompt=True)


def _save(path: Path, known: dict[str, User], account: str, name: str, roles: frozenset[Role], password: str) -> None:
    try:
        people.save(path, known | {account: people.make(account, name, roles, password)})
    except OvcfError as error:
        _fail(error.text)


@users.command()
def add(
    account: Account,
    name: Annotated[str, typer.Option(help="As DICOM writes names: Bergmann^Anna. It stands in the reports of a reader.")],
    role: Annotated[list[Role], typer.Option(help="viewer, operator or reader; may be given more than once.")],
    config: ConfigFile = None, password_stdin: FromInput = False,
) -> None:
    """Add a person; there is no default password."""
    path, known = _file(config)
    if account in known:
        _fail(f"{account} exists already: `users remove` or `users password`")
    _save(path, known, account, name, frozenset(role), _password(password_stdin))
    typer.echo(f"{account} may sign in")


@users.command()
def password(account: Account, config: ConfigFile = None, password_stdin: FromInput = False) -> None:
    """Give a person a new password; their sessions end at once."""
    path, known = _file(config)
    if account not in known:
        _fail("no such user")
    old = known[account]
    _save(path, known, account, old.name, old.roles, _password(password_stdin))
    typer.echo("changed")


@users.command("list")
def list_(config: ConfigFile = None) -> None:
    """List who may sign in."""
    _, known = _file(config)
    for user in known.values():
        typer.echo(f"{user.account:20} {', '.join(sorted(user.roles)):28} {user.name}")


@users.command()
def remove(account: Account, config: ConfigFile = None) -> None:
    """Remove a person; their sessions end at once."""
    path, known = _file(config)
    if known.pop(account, None) is None:
        _fail("no such user")
    try:
        people.save(path, known)
    except OvcfError as error:
        _fail(error.text)
    typer.echo("removed")
