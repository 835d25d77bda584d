"""Which machine a process runs on, and what follows where a sandbox hides that."""

from ovcf_node.app import executor


def test_a_restarted_process_is_known_by_its_machine():
    assert executor._machine() == executor._machine() != ""


def test_where_the_machine_is_hidden_nobody_is_taken_for_its_predecessor(monkeypatch, tmp_path):
    monkeypatch.setattr(executor, "_BOOT_ID", tmp_path / "hidden")
    assert executor._machine() != executor._machine()
