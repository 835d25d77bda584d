import threading
import time

import pytest

from archive import archive, match
from dicom_peers import uid
from ovcf_node.errors import Permanent, Transient
from ovcf_node.network import find


def images(size: int, *, counts: bool = True, asked: list | None = None):
    """Answer for one series of `size` images; `counts` says whether Number of Series Related Instances is known."""
    def handler(event):
        level = event.identifier.QueryRetrieveLevel
        if asked is not None:
            asked.append(level)
        if event.identifier.SeriesInstanceUID != uid("series"):
            return
        for number in range(1 if level == "SERIES" else size):
            extra = {"SOPInstanceUID": uid("series", number)} if level == "IMAGE" else {}
            if counts and level == "SERIES":
                extra = {"NumberOfSeriesRelatedInstances": size}
            yield match(level, SeriesInstanceUID=uid("series"), **extra)
    return handler


@pytest.mark.parametrize(("counts", "levels"), [(True, ["SERIES"]), (False, ["SERIES", "IMAGE"])])
def test_find_count(counts, levels):
    asked = []
    with archive(find=images(7, counts=counts, asked=asked)) as remote:
        assert find.find_count(remote, uid("study"), uid("series")) == 7
        assert asked == levels
        assert find.find_count(remote, uid("study"), uid("unknown")) is None


@pytest.mark.parametrize(("status", "kind"), [(0xA700, Transient), (0xC001, Permanent)])
def test_failure(status, kind):
    def refuse(event):
        yield status, None

    with archive(find=refuse) as remote, pytest.raises(kind, match="find_failed"):
        find.find_count(remote, uid("study"), uid("series"))


def test_not_supported():
    with archive() as remote, pytest.raises(Permanent, match="context_refused"):
        find.find_count(remote, uid("study"), uid("series"))


def test_studies_by_accession_number():
    def two(event):
        assert event.identifier.AccessionNumber == "A1"
        yield match("STUDY", StudyInstanceUID="1.2.3", AccessionNumber="A1 ", StudyDate="20261125",
                    ModalitiesInStudy=["CT", "SR"], NumberOfStudyRelatedInstances="451")
        yield match("STUDY", StudyInstanceUID="1.2.4", AccessionNumber="a1", ModalitiesInStudy="CT")
        yield match("STUDY", StudyInstanceUID="1.2.5", AccessionNumber="A12")  # not what was asked for
        yield match("STUDY", StudyInstanceUID="", AccessionNumber="A1")

    with archive(find=two) as remote, find.querying(remote) as query:
        first, second = query.studies(accession_number="A1")
    assert (first.study_instance_uid, first.date, first.modalities, first.instances) == (
        "1.2.3", "20261125", ("CT", "SR"), 451)
    assert (second.study_instance_uid, second.date, second.modalities, second.instances) == ("1.2.4", "", ("CT",), None)
    assert "A1" not in repr(first)


def test_an_archive_that_ignores_the_key_is_cancelled():
    cancelled = threading.Event()

    def everything(event):
        for number in range(100_000):
            if number > 20 and event.is_cancelled:
                cancelled.set()
                yield 0xFE00, None
                return
            if number > 200:
                time.sleep(0.01)  # or it had sent all before our C-CANCEL could be read on a busy machine
            yield match("STUDY", StudyInstanceUID=f"1.2.{number}", AccessionNumber=str(number))

    with (archive(find=everything) as remote, find.querying(remote) as query,
          pytest.raises(Permanent, match="too_many_matches")):
        query.studies(accession_number="A1", limit=20)
    assert cancelled.is_set()


def test_an_archive_that_ignores_the_cancel_too_is_left(monkeypatch):
    monkeypatch.setattr(find, "_AFTER_CANCEL", 50)
    over = threading.Event()

    def everything(event):
        try:
            for number in range(1_000_000):
                if not event.assoc.is_established:
                    return
                yield match("STUDY", StudyInstanceUID=f"1.2.{number}", AccessionNumber=str(number))
        finally:
            over.set()

    with archive(find=everything) as remote, find.querying(remote) as query:
        with pytest.raises(Permanent, match="too_many_matches"):
            query.studies(accession_number="A1", limit=20)
        assert over.wait(60)


def test_series_of_a_study_with_unknown_and_odd_values():
    def some(event):
        yield match("SERIES", SeriesInstanceUID="1.2.1", Modality="CT", SeriesNumber="2", SeriesDescription=" TL spine ",
                    NumberOfSeriesRelatedInstances="450")
        yield match("SERIES", SeriesInstanceUID="1.2.2", Modality="", SeriesNumber="", NumberOfSeriesRelatedInstances="")

    with archive(find=some) as remote, find.querying(remote) as query:
        known, unknown = query.series("1.2")
        assert query.series("1.2", "1.2.2") == [unknown]
    assert known == find.SeriesMatch("1.2", "1.2.1", "CT", 2, "TL spine", 450)
    assert unknown == find.SeriesMatch("1.2", "1.2.2", "", None, "", None)
