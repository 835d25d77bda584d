"""Configuration: reference file, code and documentation agree; every problem is reported at once."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from ovcf_node.config import Archive, Destination, Settings, load
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
