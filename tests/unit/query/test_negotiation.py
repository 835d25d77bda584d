"""Accept headers: what real clients send, and what anybody may send."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from ovcf_node.query.dicomweb.answers import Problem
from ovcf_node.query.dicomweb.negotiation import EXPLICIT_LITTLE_ENDIAN, Offer, choose

MANY = Offer("multipart/related", "application/dicom", EXPLICIT_LITTLE_ENDIAN)
ONE = Offer("application/dicom", transfer_syntax=EXPLICIT_LITTLE_ENDIAN)
JSON = Offer("application/dicom+json")


def asking(*accept: str) -> Request:
    headers = [(b"accept", text.encode("utf-8", "surrogatepass")) for text in accept]
    return Request({"type": "http", "headers": headers, "query_string": b""})


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ((), MANY),
        (("*/*",), MANY),
        (('multipart/related; type="application/dicom"; transfer-syntax=*',), MANY),
        (("multipart/related; type=application/dicom; boundary=x",), MANY),
        (('Multipart/Related; Type="application/dicom"',), MANY),
        (('multipart/related; type="image/jpeg", application/dicom',), ONE),
        (("application/dicom;q=0.5, application/dicom+json",), JSON),
        (("application/json",), JSON),
        (("application/*",), ONE),
        (("image/png", "application/dicom+json"), JSON),
        (('multipart/related; type="application/octet-stream, nonsense", */*;q=0.1',), MANY),
        (('multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.4.80, '
          'multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.1;q=0.2',), MANY),
    ],
)
def test_the_best_offer(accept, chosen):
    assert choose(asking(*accept), [MANY, ONE, JSON]) == chosen


@pytest.mark.parametrize("accept", ["text/html", "*/*;q=0", "application/dicom;q=zero", "", ",", ";;;", "image/*"])
def test_nothing_suitable(accept):
    if not accept:
        assert choose(asking(accept), [JSON]) == JSON
        return
    with pytest.raises(Problem) as caught:
        choose(asking(accept), [MANY, ONE, JSON])
    assert caught.value.status == 406


@given(st.lists(st.text(st.characters(codec="latin-1"), max_size=80), max_size=3))
def test_anything_is_an_offer_or_406(accept):
    try:
        assert choose(asking(*accept), [MANY, JSON]) in (MANY, JSON)
    except Problem as problem:
        assert problem.status == 406
