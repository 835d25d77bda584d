"""Who knocks is written down while a commissioning listens, and only then."""

from pathlib import Path

from dicom_peers import wait_until
from ovcf_node.config import Source
from ovcf_node.errors import Permanent
from ovcf_node.network.application_entity import Acceptor, Listener
from ovcf_node.network.associate import Remote, echo
from ovcf_node.network.messages import Peer
from ovcf_node.network.policy import AssociationPolicy
from ovcf_node.receive.listening import Listening

PEER = Peer("a", "PACS", "OVCF_NODE", "192.0.2.7")


def test_nothing_is_kept_while_nobody_listens(tmp_path: Path):
    Listening(tmp_path).heard(PEER, "")
    with Listening(tmp_path).during(60):
        pass
    Listening(tmp_path).heard(PEER, "")
    assert [p for p in tmp_path.iterdir() if p.is_file()] == []


def test_a_listener_that_was_killed_hears_nothing_after_its_time(tmp_path: Path):
    with Listening(tmp_path).during(-1):
        Listening(tmp_path).heard(PEER, "")
        assert Listening(tmp_path).so_far() == []


def test_echoes_and_rejections_of_a_real_association_are_heard(tmp_path: Path):
    listening = Listening(tmp_path)
    policy = AssociationPolicy(["OVCF_NODE"], [Source(ae_title="PACS")])
    acceptor = Acceptor(Listener("127.0.0.1", 0), policy, witness=listening.heard)
    acceptor.start()
    try:
        with listening.during(60):
            for calling in ("TYPO", "PACS"):
                try:
                    echo(Remote("127.0.0.1", acceptor.port, "OVCF_NODE", calling))
                except Permanent as error:
                    assert (calling, error.code) == ("TYPO", "association_rejected")
            wait_until(lambda: len(listening.so_far()) == 2)
            found = [(k.calling_ae_title, k.address, k.rejected) for k in listening.so_far()]
    finally:
        acceptor.stop(0)
    assert found == [("TYPO", "127.0.0.1", "calling AE title not recognised"), ("PACS", "127.0.0.1", "")]


def test_a_receiver_answers_although_its_notes_are_damaged(tmp_path: Path):
    (tmp_path / "listening.jsonl").write_text("not a time\n")
    Listening(tmp_path).heard(PEER, "")
    assert (tmp_path / "listening.jsonl").read_text() == "not a time\n"
