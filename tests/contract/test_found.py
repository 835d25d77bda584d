"""What a destination says it has, by type: exactly the instances that were asked for, or that it cannot be asked."""

from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from archive import archive, match
from ovcf_node import deliver
from ovcf_node.config import Destination
from ovcf_node.errors import Permanent
from web_server import StowServer, serving

WANTED = {"1.2.1": "1.1.1", "1.2.2": "1.1.1", "1.2.3": "1.1.2"}


def pacs(remote) -> Destination:
    return Destination(name="pacs", type="dicom", ae_title="ARCHIVE", host=remote.host, port=remote.port, timeout_s=5)


def test_dicom_asks_every_series_and_believes_nothing_else():
    asked = []

    def find(event):
        asked.append(str(event.identifier.SeriesInstanceUID))
        found = "1.2.1" if asked[-1] == "1.1.1" else "9.9.9"  # one it was not asked for
        yield match("IMAGE", SOPInstanceUID=found, SeriesInstanceUID=asked[-1])

    with archive(find=find) as remote:
        assert deliver.found(pacs(remote), "1.1", WANTED) == {"1.2.1"}
    assert asked == ["1.1.1", "1.1.2"]


def test_dicom_that_takes_no_queries_says_so():
    with archive() as remote, pytest.raises(Permanent) as caught:
        deliver.found(pacs(remote), "1.1", WANTED)
    assert caught.value.code == "not_searchable"


def test_folder_is_looked_into(tmp_path: Path):
    (tmp_path / "1.2.3.dcm").write_bytes(b"")
    assert deliver.found(Destination(name="f", type="folder", path=tmp_path), "1.1", WANTED) == {"1.2.3"}


def answers(answer) -> Starlette:
    return Starlette(routes=[Route("/dicom-web/studies/1.1/instances", lambda request: answer)])


@pytest.mark.parametrize(("answer", "there"), [
    (JSONResponse([{"00080018": {"vr": "UI", "Value": ["1.2.2"]}}, {"00080018": {"vr": "UI", "Value": ["9"]}}]), {"1.2.2"}),
    (Response(status_code=204), set()),
])
def test_stow_is_asked_by_qido(answer, there):
    with serving(answers(answer)) as port:
        vna = Destination(name="vna", type="stow", url=f"http://127.0.0.1:{port}/dicom-web")
        assert deliver.found(vna, "1.1", WANTED) == there


@pytest.mark.parametrize("application", [StowServer().application(), answers(Response("<html>", media_type="text/html"))])
def test_stow_without_a_search_says_so(application):
    with serving(application) as port, pytest.raises(Permanent) as caught:
        deliver.found(Destination(name="vna", type="stow", url=f"http://127.0.0.1:{port}/dicom-web"), "1.1", WANTED)
    assert caught.value.code == "not_searchable"
