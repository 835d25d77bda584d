"""Configuration: reference file, code and documentation agree; every problem is reported at once."""

import json
import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from ovcf_node.config import Archive, Destination, Settings, load, shown
from ovcf_node.errors import Permanent

REFERENCE = Path(__file__).resolve().parents[2] / "deploy" / "ovcf-node.toml"


def keys(model: type[BaseModel]) -> set[str]:
    return set(model.model_fields)


def test_reference_loads():
    settings = load(REFERENCE)
    assert [d.name for d in settings.destinations] == ["pacs"]
    assert settings.node.bundle == REFERENCE.parent.resolve() / "../models/reference"


def test_every_key_is_in_the_reference_and_documented():
    text = REFERENCE.read_text()
    for name, field in Settings.model_fields.items():
        section = {"destinations": Destination, "archives": Archive}.get(name, field.annotation)
        for key in keys(section):
            assert re.search(rf"^#? ?{key} = ", text, re.MULTILINE), f"{name}.{key} is missing in {REFERENCE.name}"
            assert section.model_fields[key].description, f"{name}.{key} has no docstring"


def test_defaults_in_the_reference_are_the_code_s():
    reference, default = load(REFERENCE), Settings()
    for section in ("infer", "engine", "log"):
        assert getattr(reference, section) == getattr(default, section)


def test_every_problem_at_once(tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text('[receive]\nport = 99999\ntypo = 1\n[[destinations]]\nname = "a"\ntype = "dicom"\n')
    with pytest.raises(Permanent) as caught:
        load(path)
    assert all(word in caught.value.text for word in ("receive.port", "receive.typo", "ae_title, host, port"))


def test_two_destinations_of_one_name(tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text('[[destinations]]\nname = "a"\ntype = "folder"\npath = "x"\n' * 2)
    with pytest.raises(Permanent, match="names must differ"):
        load(path)


def test_address_that_is_no_ip_address(tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text('[receive]\nsources = [{ ae_title = "CT", address = "ct1.local" }]\n')
    with pytest.raises(Permanent, match=r"receive\.sources"):
        load(path)


def test_unusable_environment_is_a_problem_not_a_crash(monkeypatch):
    monkeypatch.setenv("OVCF_NODE__DESTINATIONS", "garbage")
    with pytest.raises(Permanent, match="environment"):
        load(None)


def test_environment_overrides_the_file(tmp_path, monkeypatch):
    path = tmp_path / "node.toml"
    path.write_text("[receive]\nport = 104\n")
    monkeypatch.setenv("OVCF_NODE__RECEIVE__PORT", "11113")
    assert load(path).receive.port == 11113


@pytest.mark.parametrize("text", [b"[receive", "[node]\ninstitution = \"Universität\"".encode("latin-1"), None])
def test_unreadable_file(tmp_path, text):
    path = tmp_path / "node.toml"
    if text is not None:
        path.write_bytes(text)
    with pytest.raises(Permanent):
        load(path)


def test_a_web_server_off_loopback_needs_a_certificate(tmp_path):
    path = tmp_path / "node.toml"
    path.write_text('[web]\nenabled = true\nhost = "0.0.0.0"\n')
    with pytest.raises(Permanent, match="certificate and key are needed"):
        load(path)


def test_open_pages_stay_on_loopback(tmp_path):
    path = tmp_path / "node.toml"
    path.write_text('[web]\nopen = true\nhost = "0.0.0.0"\n')
    with pytest.raises(Permanent, match="only for loopback"):
        load(path)


def test_a_secret_file_holds_a_value(tmp_path, monkeypatch):
    secret = tmp_path / "ledger-url"
    secret.write_text("postgresql+psycopg://ovcf:pass word@db/ledger\n")
    monkeypatch.setenv("OVCF_NODE__ENGINE__LEDGER_URL_FILE", str(secret))
    settings = load(None)
    assert settings.ledger_url == "postgresql+psycopg://ovcf:pass word@db/ledger"
    assert settings.engine.engine_url is None and "pass word" not in repr(settings)


def test_a_secret_file_that_cannot_be_read_is_a_problem(tmp_path, monkeypatch):
    monkeypatch.setenv("OVCF_NODE__ENGINE__LEDGER_URL_FILE", str(tmp_path / "none"))
    with pytest.raises(Permanent, match="LEDGER_URL_FILE: cannot read"):
        load(None)


def test_a_value_and_a_file_for_one_key_contradict(tmp_path, monkeypatch):
    monkeypatch.setenv("OVCF_NODE__ENGINE__LEDGER_URL", "sqlite://")
    monkeypatch.setenv("OVCF_NODE__ENGINE__LEDGER_URL_FILE", str(tmp_path))
    with pytest.raises(Permanent, match="both set"):
        load(None)


@pytest.mark.parametrize("name", ["OVCF_NODE__ENGIN__LEDGER_URL", "OVCF_NODE__LEDGER_URL"])
def test_a_section_that_does_not_exist_is_refused(monkeypatch, name):
    monkeypatch.setenv(name, "sqlite://")
    with pytest.raises(Permanent, match=f"{name}: there is no section"):
        load(None)


def test_no_key_looks_like_a_secret_file():
    for name, field in Settings.model_fields.items():
        section = {"destinations": Destination, "archives": Archive}.get(name, field.annotation)
        assert not [key for key in keys(section) if key.endswith("_file")]


@pytest.mark.parametrize(("url", "left"), [
    ("postgresql+psycopg://ovcf:hidden@db:5432/ledger", "postgresql+psycopg://***@db:5432/ledger"),
    ("postgresql+psycopg://ovcf:h@id/den@db/ledger", "***"),
    ("postgresql+psycopg:///ledger?user=a&password=hidden", "postgresql+psycopg:///ledger?***"),
    ("sqlite:////srv/ledger.sqlite", "sqlite:////srv/ledger.sqlite"),
])
def test_settings_in_force_are_shown_without_secrets(tmp_path, url, left):
    path = tmp_path / "node.toml"
    path.write_text(f"[engine]\nledger_url = '{url}'\n[receive]\nport = 104\nsources = [{{ ae_title = 'CT' }}]\n")
    text = shown(load(path))
    document = json.loads(text)
    assert document["engine"]["ledger_url"] == left and "hidden" not in text
    assert document["receive"]["port"] == 104 and document["receive"]["sources"][0]["ae_title"] == "CT"
    assert set(document) == set(Settings.model_fields)


def test_reread_sees_the_file_as_it_is_now(tmp_path):
    path = tmp_path / "node.toml"
    path.write_text("[receive]\nport = 104\n")
    settings = load(path)
    path.write_text("[receive]\nport = 105\n")
    assert (settings.receive.port, settings.reread().receive.port) == (104, 105)


TLS = '[tls]\ncertificate = "a.pem"\nkey = "a.key"\nca = "ca.pem"\n'


def test_the_password_of_a_key_is_not_shown(tmp_path, monkeypatch):
    monkeypatch.setenv("OVCF_NODE__TLS__KEY_PASSWORD", "correct horse")
    path = tmp_path / "node.toml"
    path.write_text(TLS)
    text = shown(load(path))
    assert "correct horse" not in text and json.loads(text)["tls"]["key_password"] == "***"
    assert json.loads(text)["tls"]["certificate"] == str(tmp_path / "a.pem")


@pytest.mark.parametrize(("text", "words"), [
    ("[receive]\nplain = false\n", "receive.plain = false needs receive.tls_port"),
    ("[receive]\ntls_port = 2762\n", "needs certificate, key and ca"),
    ('[[destinations]]\nname = "a"\ntype = "dicom"\nhost = "a"\nport = 1\nae_title = "A"\ntls = true\n',
     "needs certificate"),
    ('[tls]\ncertificate = "a.pem"\n', "belong together"), ('[tls]\ncrl = "a.crl"\n', "need certificate"),
    ("[query]\nplain = false\n" + TLS, "query.plain = false needs query.tls_port"),
])
def test_tls_without_what_it_needs(tmp_path, text, words):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(Permanent, match=words):
        load(path)
