"""What SIGHUP cannot take over is said, so that nobody believes a port closed that is open."""

import pytest

from ovcf_node.cli import _usable
from ovcf_node.config import load


@pytest.mark.parametrize(("before", "after", "said"), [
    ("query", "", "still_running=['query']"), ("", "query", "to_start=['query']"), ("query", "query", None),
])
def test_a_process_that_is_switched_on_or_off_needs_a_restart(tmp_path, capsys, before, after, said):
    path = tmp_path / "node.toml"
    path.write_text("[query]\nenabled = true\n" if before else "")
    running = load(path)
    path.write_text("[query]\nenabled = true\n" if after else "")
    assert _usable(running)
    out = capsys.readouterr().out
    assert ("restart_needed=True" in out and said in out) if said else out == ""
