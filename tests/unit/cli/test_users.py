"""`ovcf-node users`: people are added with a password of their own, listed without it, and removed."""

import pytest
from typer.testing import CliRunner

from ovcf_node.cli import app
from ovcf_node.operate import users

PASSWORD = "spine reader 2026"


@pytest.fixture
def run(tmp_path):
    configuration = tmp_path / "node.toml"
    configuration.write_text('[node]\ndata = "data"\n[web]\nusers = "users.toml"\n')

    def run_(*arguments: str, given: str = ""):
        return CliRunner().invoke(app, ["users", *arguments, "--config", str(configuration)], input=given)

    run_.file = tmp_path / "users.toml"
    return run_


def add(run, account="anna", *, password=PASSWORD, name="Bergmann^Anna"):
    return run("add", account, "--name", name, "--role", "reader", "--role", "operator", "--password-stdin", given=password)


def test_add_list_password_remove(run):
    assert add(run).exit_code == 0
    listed = run("list").output
    assert "anna" in listed and "operator, reader" in listed and "argon2" not in listed and PASSWORD not in listed
    before = users.load(run.file)["anna"]
    assert users.password_is(before, PASSWORD)
    assert run("password", "anna", "--password-stdin", given="another one 2027\n").exit_code == 0
    after = users.load(run.file)["anna"]
    assert (after.name, after.roles) == (before.name, before.roles) and not users.password_is(after, PASSWORD)
    assert run("remove", "anna").exit_code == 0 and users.load(run.file) == {}


def test_password_is_asked_for_twice_and_never_shown(run):
    done = run("add", "anna", "--name", "B^A", "--role", "viewer", given=f"{PASSWORD}\n{PASSWORD}\n")
    assert done.exit_code == 0 and PASSWORD not in done.output
    done = run("add", "bert", "--name", "B^A", "--role", "viewer", given=f"{PASSWORD}\nother words 1\n")
    assert done.exit_code != 0 and "bert" not in users.load(run.file)


@pytest.mark.parametrize(("arguments", "words"), [
    ({"password": "short"}, "at least 12 characters"), ({"account": "An na"}, "an account is"), ({"name": "^"}, "a name is"),
])
def test_what_cannot_be_added_is_said(run, arguments, words):
    done = add(run, **arguments)
    assert done.exit_code == 1 and words in done.output and not run.file.exists()


def test_nobody_is_replaced_or_removed_by_mistake(run):
    add(run)
    assert add(run).exit_code == 1
    assert run("remove", "bert").exit_code == 1 and run("password", "bert", "--password-stdin").exit_code == 1
    assert list(users.load(run.file)) == ["anna"]


def test_configuration_without_a_users_file(tmp_path):
    configuration = tmp_path / "node.toml"
    configuration.write_text('[node]\ndata = "data"\n')
    done = CliRunner().invoke(app, ["users", "list", "--config", str(configuration)])
    assert done.exit_code == 2 and "web.users is not set" in done.output
