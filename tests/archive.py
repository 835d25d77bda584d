"""A Query/Retrieve SCP whose every answer a test decides, for what real archives do only on bad days."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, evt

from ovcf_node.network import contexts
from ovcf_node.network.associate import Remote

Handler = Callable[[evt.Event], Iterator]


def match(level: str, **keys: object) -> tuple[int, Dataset]:
    """Return a pending C-FIND response."""
    dataset = Dataset()
    dataset.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(dataset, keyword, value)
    return 0xFF00, dataset


@contextmanager
def archive(
    *, find: Handler | None = None, move: Handler | None = None, get: Handler | None = None, storage: Sequence[str] = ()
) -> Iterator[Remote]:
    """Run an archive that offers what it has a handler for (pynetdicom's EVT_C_FIND, EVT_C_MOVE, EVT_C_GET)."""
    ae = AE("ARCHIVE")
    offered = [(evt.EVT_C_FIND, contexts.STUDY_ROOT_FIND, find), (evt.EVT_C_MOVE, contexts.STUDY_ROOT_MOVE, move),
               (evt.EVT_C_GET, contexts.STUDY_ROOT_GET, get)]
    ae.add_supported_context(contexts.VERIFICATION)
    for _, sop_class, handler in offered:
        if handler:
            ae.add_supported_context(sop_class)
    for sop_class in storage:
        ae.add_supported_context(sop_class, ExplicitVRLittleEndian, scu_role=False, scp_role=True)
    handlers = [(event, handler) for event, _, handler in offered if handler]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    try:
        yield Remote("127.0.0.1", server.server_address[1], "ARCHIVE", "OVCF_NODE", timeout_s=3)
    finally:
        ae.shutdown()
