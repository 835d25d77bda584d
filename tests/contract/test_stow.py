"""STOW-RS where it goes wrong: every answer of a server becomes accepted, retry or rejected, and nothing is taken for a
receipt that is none."""

import ssl
import time
import tracemalloc

import pytest
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response

from dicom_peers import CT_IMAGE, instance, uid, write
from ovcf_node.config import Destination
from ovcf_node.deliver import Outcome, echo, send
from ovcf_node.errors import OvcfError, Permanent
from tls_files import authority
from web_server import StowServer, serving

DICOM_JSON = "application/dicom+json"


def destination(port: int, *, scheme: str = "http", **changes) -> Destination:
    values = {"name": "vna", "type": "stow", "url": f"{scheme}://127.0.0.1:{port}/dicom-web", "timeout_s": 3}
    return Destination(**(values | changes))


@pytest.fixture(scope="module")
def running():
    server = StowServer()
    with serving(server.application()) as port:
        yield server, port


@pytest.fixture
def stow(running):
    server, port = running
    server.__init__()
    return server, destination(port)


@pytest.fixture
def files(tmp_path):
    datasets = [instance(1), instance(2), instance(3)]
    return [(write(tmp_path / "encoded", d), str(d.SOPClassUID), str(d.SOPInstanceUID)) for d in datasets]


@pytest.mark.parametrize(
    ("reason", "state", "words"),
    [
        (0x0111, "accepted", "0x0111 duplicate SOP instance"),
        (0xB000, "accepted", "0xB000 coercion of data elements"),
        (0xA700, "retry", "0xA700 out of resources"),
        (0x0122, "rejected", "0x0122 SOP class not supported"),
        (0xC122, "rejected", "0xC122 cannot understand"),
    ],
)
def test_reasons_of_the_store_response(stow, files, reason, state, words):
    server, there = stow
    server.reasons[files[0][2]] = reason
    first, *others = send(there, files)
    cause = "form" if reason in (0x0122, 0xA900) else "instance"
    assert first == Outcome(files[0][2], state, reason, words, cause)
    assert {o.state for o in others} == {"accepted"}


@pytest.mark.parametrize(
    ("status", "state"),
    [(400, "rejected"), (409, "rejected"), (413, "rejected"), (415, "rejected"), (408, "retry"), (429, "retry"),
     (500, "retry"), (503, "retry"), (507, "retry"), (401, "retry"), (403, "retry"), (404, "retry"), (405, "retry")],
)
def test_status_without_a_store_response(stow, files, status, state):
    server, there = stow
    server.answer = PlainTextResponse("Planted^Name is not welcome", status)
    outcomes = send(there, files)
    assert {o.state for o in outcomes} == {state}
    assert all(f"HTTP {status}" in o.text and "Planted" not in o.text for o in outcomes)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_is_about_the_service_is_asked_once(stow, files, status):
    server, there = stow
    server.answer = Response(status_code=status)
    send(there, files)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        PlainTextResponse("<html>please sign in</html>"),
        Response(b""),
        Response(b"[" * 10_000, media_type=DICOM_JSON),
        Response(b" " * 3_000_000, media_type=DICOM_JSON),
        JSONResponse({}, media_type=DICOM_JSON),
        JSONResponse([1, 2], media_type=DICOM_JSON),
        JSONResponse({"00081199": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": ["1.2.3"]}}]}}),
        JSONResponse({"00081199": {"vr": "SQ", "Value": "text"}, "00081198": 5}),
        Response(status_code=202),
    ],
    ids=["page", "nothing", "nested", "endless", "empty", "list", "other instance", "garbage", "202"],
)
def test_success_that_does_not_name_the_instance_is_no_receipt(stow, files, answer):
    server, there = stow
    server.answer = answer
    outcomes = send(there, files)
    assert {o.state for o in outcomes} == {"retry"}
    assert "no store response that names the instance" in outcomes[0].text


def test_store_response_that_cannot_be_decoded_is_retry(stow, files):
    server, there = stow
    server.answer = Response(b"no gzip", media_type=DICOM_JSON, headers={"Content-Encoding": "gzip"})
    outcomes = send(there, files)
    assert {o.state for o in outcomes} == {"retry"}


@pytest.mark.parametrize(
    ("reason", "state"),
    [(0xB00F, "retry"), (0xB000, "retry"), (0xB007, "rejected"), (0x0107, "rejected"), (0x0116, "rejected"),
     (0xB00E, "accepted"), (0x0111, "accepted")],
)
def test_a_warning_code_among_the_failures_is_no_receipt(stow, files, reason, state):
    server, there = stow
    item = {"00081155": {"vr": "UI", "Value": [files[0][2]]}, "00081197": {"vr": "US", "Value": [reason]}}
    server.answer = JSONResponse({"00081198": {"vr": "SQ", "Value": [item]}}, 409, media_type=DICOM_JSON)
    (outcome,) = send(there, files[:1])
    assert (outcome.state, outcome.status) == (state, reason)


def test_failure_without_a_reason_is_rejected(stow, files):
    server, there = stow
    failed = {"00081198": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": [files[0][2]]}}]}}
    server.answer = JSONResponse(failed, 409, media_type=DICOM_JSON)
    (outcome,) = send(there, files[:1])
    assert (outcome.state, outcome.text) == ("rejected", "refused without a failure reason")


def test_other_failures_sequence(stow, files):
    server, there = stow
    other = {"0008119A": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [0xA701]}}]}}
    server.answer = JSONResponse([other], 409, media_type=DICOM_JSON)
    (outcome,) = send(there, files[:1])
    assert (outcome.state, outcome.status) == ("retry", 0xA701)


def test_redirects_are_not_followed(stow, files):
    server, there = stow
    server.answer = RedirectResponse("http://127.0.0.1:9/elsewhere?PatientName=Planted", 308)
    outcomes = send(there, files)
    assert {o.state for o in outcomes} == {"retry"}
    assert "redirects are not followed" in outcomes[0].text
    assert "Planted" not in outcomes[0].text


def test_silence_is_retry(stow, files):
    server, there = stow
    server.hang_s = 2.0
    begin = time.monotonic()
    outcomes = send(there.model_copy(update={"timeout_s": 0.2}), files)
    assert {o.state for o in outcomes} == {"retry"}
    assert "nothing within 0.2 s" in outcomes[0].text
    assert time.monotonic() - begin < 1.5, "one time-out, not one an instance"


def test_what_is_no_dicom_file_is_not_sent(stow, files, tmp_path):
    server, there = stow
    text = tmp_path / "text.dcm"
    text.write_bytes(b"no DICOM")
    outcomes = send(there, [(text, CT_IMAGE, uid("text")), files[1]])
    assert [o.state for o in outcomes] == ["rejected", "accepted"]
    assert list(server.received) == [files[1][2]]


def test_memory_holds_a_piece_of_the_file(tmp_path):
    big = write(tmp_path, instance(1, size=4096))  # 32 MB
    name = uid("series", 1)
    sizes = []

    async def counting(scope, receive, respond):
        more, size = True, 0
        while more:
            message = await receive()
            size, more = size + len(message.get("body", b"")), message.get("more_body")
        sizes.append(size)
        response = JSONResponse({"00081199": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": [name]}}]}})
        await response(scope, receive, respond)

    with serving(counting) as port:
        tracemalloc.start()
        outcomes = send(destination(port), [(big, CT_IMAGE, name)])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert outcomes[0].state == "accepted"
    assert sizes[0] > big.stat().st_size > 30e6
    assert peak < 8e6


def test_bearer_token_is_read_for_every_delivery(stow, files, tmp_path):
    server, there = stow
    server.tokens = ("good",)
    token = tmp_path / "token"
    there = there.model_copy(update={"token": token})
    (outcome,) = send(there, files[:1])
    assert outcome.state == "retry" and "token" in outcome.text
    token.write_text("bad\n")
    (outcome,) = send(there, files[:1])
    assert outcome.state == "retry" and "HTTP 401" in outcome.text
    token.write_text("good\n")
    (outcome,) = send(there, files[:1])
    assert outcome.state == "accepted"


def test_token_that_would_break_the_header(stow, files, tmp_path):
    token = tmp_path / "token"
    token.write_text("one\nX-Injected: two")
    (outcome,) = send(stow[1].model_copy(update={"token": token}), files[:1])
    assert outcome.state == "retry" and "holds no token" in outcome.text


def test_tls_is_verified_and_mutual(files, tmp_path):
    ours, theirs = authority(tmp_path / "ours"), authority(tmp_path / "theirs")
    certificate, key = ours.issue("server")
    client, client_key = ours.issue("client")
    server = StowServer()
    options = {"ssl_certfile": certificate, "ssl_keyfile": key, "ssl_ca_certs": ours.certificate,
               "ssl_cert_reqs": ssl.CERT_REQUIRED}
    with serving(server.application(), **options) as port:
        mutual = destination(port, scheme="https", ca=ours.certificate, certificate=client, key=client_key)
        assert {o.state for o in send(mutual, files)} == {"accepted"}
        assert "QIDO-RS" in echo(mutual)
        (outcome,) = send(mutual.model_copy(update={"ca": theirs.certificate}), files[:1])
        assert outcome.state == "retry" and "certificate verify failed" in outcome.text
        (outcome,) = send(mutual.model_copy(update={"certificate": None, "key": None}), files[:1])
        assert outcome.state == "retry" and "certificate" in outcome.text
        (outcome,) = send(mutual.model_copy(update={"key": tmp_path / "none"}), files[:1])
        assert outcome.state == "retry" and "certificate or key" in outcome.text


def test_echo(stow):
    server, there = stow
    assert "QIDO-RS" in echo(there)
    server.tokens = ("good",)
    with pytest.raises(Permanent, match="HTTP 401 Unauthorized"):
        echo(there)


def test_echo_where_nothing_can_be_searched(stow):
    server, there = stow
    server.answer = Response(status_code=501)
    with pytest.raises(OvcfError, match="HTTP 501"):
        echo(there)
    assert [r.method for r in server.requests] == ["GET", "OPTIONS"]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"url": None}, "needs url"),
        ({"url": "ftp://pacs/x"}, "http"),
        ({"url": "https://user:secret@pacs/x"}, "without user"),
        ({"url": "https://pacs/x?a=b"}, "query"),
        ({"url": "http://pacs/x", "token": "token"}, "needs https"),
        ({"url": "https://pacs/x", "certificate": "a.pem"}, "belong together"),
    ],
)
def test_settings(changes, problem):
    with pytest.raises(ValueError, match=problem):
        destination(1, **changes)


def test_trailing_slash_of_the_url_does_not_matter():
    assert destination(1, url="https://pacs/dicom-web/").url == "https://pacs/dicom-web"


def test_too_large_is_said_before_all_of_it_is_sent(tmp_path):
    big = write(tmp_path, instance(1, size=4096))

    async def refusing(scope, _receive, respond):
        await Response(status_code=413, headers={"Connection": "close"})(scope, _receive, respond)

    with serving(refusing) as port:
        (outcome,) = send(destination(port), [(big, CT_IMAGE, uid("series", 1))])
    assert outcome.state == "rejected" and outcome.text.startswith("HTTP 413")
