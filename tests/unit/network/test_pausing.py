"""Threads of one association: a message leaves whole."""

import threading
import time
from types import SimpleNamespace

from ovcf_node.network.pausing import one_message_at_a_time


def test_no_message_leaves_between_the_fragments_of_another():
    fragments = []

    def send(primitive, context_id):
        for part in ("command", "data set"):
            fragments.append((primitive, part))
            time.sleep(0.01)  # to the next thread, if there is one that may

    association = SimpleNamespace(dimse=SimpleNamespace(send_msg=send))
    one_message_at_a_time(association)
    threads = [threading.Thread(target=association.dimse.send_msg, args=(name, 1)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(first[0] == second[0] for first, second in zip(fragments[::2], fragments[1::2], strict=True))
    assert len(fragments) == 8
