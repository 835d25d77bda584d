"""Which series of a study are asked for, and what our own configuration would break."""

import socket

import pytest
from pydicom.uid import EnhancedCTImageStorage, SecondaryCaptureImageStorage

from archive import archive, match
from ovcf_node.app import fetch
from ovcf_node.config import Archive, Settings

CERTIFICATES = {"certificate": "node.pem", "key": "node.key", "ca": "ca.pem"}

SERIES = {  # number of instances or None -> what the archive tells of each at IMAGE level; None: it refuses to
    "1.1": ("CT", 450, None),
    "1.2": ("CT", 2, {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}),
    "1.3": ("CT", 1, {"SOPClassUID": SecondaryCaptureImageStorage}),
    "1.4": ("CT", 1, {"SOPClassUID": EnhancedCTImageStorage}),
    "1.5": ("CT", 3, {}),
    "1.6": ("CT", 3, None),
    "1.7": ("CT", None, {"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"]}),
    "1.8": ("SR", 1, {}),
    "1.9": ("", 30, None),
}


def answer(event):
    wanted = event.identifier
    if wanted.QueryRetrieveLevel == "SERIES":
        for uid, (modality, count, _) in SERIES.items():
            yield match("SERIES", SeriesInstanceUID=uid, Modality=modality, NumberOfSeriesRelatedInstances=count)
        return
    _, count, known = SERIES[wanted.SeriesInstanceUID]
    assert count is None or count <= 5, "a long series is not looked into"
    if known is None:
        yield 0xA900, None
        return
    for number in range(count or 12):
        yield match("IMAGE", SOPInstanceUID=f"{wanted.SeriesInstanceUID}.{number}", **known)


def test_only_what_may_be_readable_is_asked_for():
    with archive(find=answer) as remote:
        settings = Archive(name="pacs", ae_title="ARCHIVE", host="127.0.0.1", port=remote.port, timeout_s=3)
        choice = fetch.choose(settings, "1")
        only = fetch.choose(settings, "1", "1.1")
    assert {one.series_instance_uid: one.instances for one in choice.asked} == {
        "1.1": 450, "1.4": 1, "1.5": 3, "1.6": 3, "1.7": 12, "1.9": 30,
    }
    left_out = {one.series_instance_uid: why for one, why in choice.left_out}
    assert left_out.keys() == {"1.2", "1.3", "1.8"}
    assert "scout" in left_out["1.2"] and "secondary capture" in left_out["1.3"] and left_out["1.8"] == "modality SR"
    assert [one.series_instance_uid for one in only.asked] == ["1.1"] and len(only.left_out) == 8


@pytest.mark.parametrize(
    ("retrieve", "titles", "sources", "words"),
    [("move", ("OVCF_NODE",), ("PACS",), []), ("move", ("OTHER",), ("PACS",), ["receive.ae_titles"]),
     ("move", ("OVCF_NODE",), (), ["receive.sources"]), ("get", ("OTHER",), (), [])],
)
def test_obstacles_in_our_own_configuration(retrieve, titles, sources, words):
    settings = Settings(receive={"ae_titles": titles, "sources": [{"ae_title": title} for title in sources]})
    archive = Archive(name="pacs", ae_title="PACS", host="127.0.0.1", port=104, retrieve=retrieve)
    found = fetch.obstacles(settings, archive)
    assert len(found) == len(words) and all(word in text for word, text in zip(words, found, strict=True))


def test_the_receiver_is_looked_for_at_the_ports_that_are_open():
    """With TLS alone the plain port is closed, and nothing is wrong."""
    with socket.create_server(("127.0.0.1", 0)) as open_, socket.create_server(("127.0.0.1", 0)) as other:
        closed = other.getsockname()[1]
        other.close()
        receive = {"host": "127.0.0.1", "port": closed, "tls_port": open_.getsockname()[1]}
        assert fetch.receiver_silent(Settings(receive=receive | {"plain": False}, tls=CERTIFICATES)) == ""
        assert fetch.receiver_silent(Settings(receive=receive, tls=CERTIFICATES)) == "Connection refused"
