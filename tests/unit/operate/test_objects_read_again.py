"""What the pages read from stored objects: a failure of the moment is not remembered."""

import errno

from dicom_peers import instance, write
from ovcf_node.operate import objects


def test_a_file_that_could_not_be_opened_once_is_read_the_next_time(tmp_path, monkeypatch):
    path = write(tmp_path, instance(1))

    def short(*_, **__):
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as machine:
        machine.setattr(objects, "dcmread", short)
        assert objects.identity_of(path) is None
    assert objects.identity_of(path) is not None


def test_what_is_no_report_has_no_words(tmp_path):
    assert objects.words_of(write(tmp_path, instance(2))) is None
