"""Tables of the conformance statement that the code holds as tables: services, syntaxes, keys, defaults, codes."""

from collections.abc import Callable, Iterable, Sequence

from pydicom.charset import python_encoding
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.sr.coding import Code
from pydicom.tag import Tag
from pydicom.uid import UID

from ovcf_node import __version__
from ovcf_node.config import Destination, Query, Receive
from ovcf_node.config.archive import Archive
from ovcf_node.deliver import outcome
from ovcf_node.ledger.catalogue import COMPUTED, KEYS, Level
from ovcf_node.network import associate, contexts, identity, policy, retrieve
from ovcf_node.query.dicomweb import routes
from ovcf_node.query.responses import RESULT_KEYS
from ovcf_node.report import codes, measurements


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def _uid(text: str) -> str:
    return f"`{text}`"


def _class_name(uid: str) -> str:
    name = UID(uid).name
    return f"{contexts.name(uid)} Storage" if name == uid else name  # newer than pydicom's dictionary


def _identity() -> str:
    return table(["", ""], [
        ["Implementation Class UID", _uid(identity.IMPLEMENTATION_CLASS_UID)],
        ["Implementation Version Name", f"`{identity.IMPLEMENTATION_VERSION_NAME}`"],
        ["Software version", __version__],
        ["Application Context Name", "`1.2.840.10008.3.1.1.1`"],
    ])


def _syntax_groups() -> dict[tuple[str, ...], str]:
    return {contexts.IMAGE: "I", contexts.UNCOMPRESSED: "U", contexts.QUERIED: "Q", contexts.RETRIEVED: "R"}


def _storage_scp() -> str:
    groups = _syntax_groups()
    rows = [[_class_name(contexts.VERIFICATION), _uid(contexts.VERIFICATION), groups[contexts.UNCOMPRESSED], "answered"]]
    for uid, syntaxes in contexts.STORAGE.items():
        use = "read" if uid in contexts.CT else "stored, recorded, not read"
        rows.append([_class_name(uid), _uid(uid), groups[syntaxes], use])
    return table(["SOP class", "UID", "transfer syntaxes", "use"], rows)


def _syntaxes() -> str:
    rows = []
    for group, letter in _syntax_groups().items():
        rows += [[letter, number, UID(uid).name, _uid(uid)] for number, uid in enumerate(group, 1)]
    return table(["group", "preference", "transfer syntax", "UID"], rows)


def _query_scp() -> str:
    rows = []
    for uid in (contexts.VERIFICATION, *contexts.FIND, *contexts.MOVE, *contexts.GET):
        letter = "U" if uid == contexts.VERIFICATION else "Q"
        rows.append([_class_name(uid), _uid(uid), letter, "SCP"])
    rows += [[_class_name(uid), _uid(uid), "R", "SCU of C-STORE; the requestor takes the SCP role (C-GET)"]
             for uid in contexts.RESULTS]
    return table(["SOP class", "UID", "transfer syntaxes", "role"], rows)


def _rejections() -> str:
    known = [value for value in vars(policy).values() if isinstance(value, policy.Rejection)]
    return table(["result", "source", "reason", "when"],
                 [[r.result, r.source, r.diagnostic, r.reason] for r in known])


def _limits() -> str:
    rows = []
    for name, section, fields in (
        ("receive", Receive, ("port", "ae_titles", "max_associations", "max_pdu", "network_timeout_s", "min_free_mb")),
        ("query", Query, ("port", "ae_titles", "max_associations", "max_matches", "network_timeout_s")),
        ("destinations", Destination, ("calling_ae_title", "timeout_s", "retry_first_s", "retry_cap_s")),
        ("archives", Archive, ("calling_ae_title", "retrieve", "timeout_s")),
    ):
        for field in fields:
            default = section.model_fields[field].default
            shown = ", ".join(map(str, default)) if isinstance(default, tuple) else default
            rows.append([f"`{name}.{field}`", shown])
    return table(["key of the configuration", "default"], rows)


def _status(status: int) -> str:
    return f"0x{status:04X}"


def _store_scu_statuses() -> str:
    rows = []
    done = {"accepted": "done", "retry": "sent again later", "rejected": "stopped and shown"}
    for status, words in {0x0000: "success", **outcome.MEANINGS, 0xC000: "cannot understand (0xCxxx)"}.items():
        judged = outcome.judge("1.2.3", status)
        # A report in another SOP class may be welcome: destinations have a list of them.
        before = "a report goes in the next class of `sr_fallback`; else " if judged.cause == "form" else ""
        rows.append([_status(status), words, before + done[judged.state]])
    return table(["status", "meaning", "what the node does"], rows)


def _retrieve_scu_statuses() -> str:
    return table(["status", "meaning"], [[_status(s), words] for s, words in retrieve.MEANINGS.items()])


def _association_rejected() -> str:
    return table(["source", "diagnostic", "meaning"], [[*key, words] for key, words in associate.REJECTED.items()])


_MATCHING = {
    "text": "single value, list, wild card, universal", "name": "wild card without case, every component group, universal",
    "uid": "list of UIDs, universal", "date": "single value, range, universal", "time": "single value, range, universal",
    "integer": "single value, list, universal",
}


def _tag(keyword: str) -> str:
    return str(Tag(tag_for_keyword(keyword)))


def _keys(level: Level) -> list[list[str]]:
    rows = []
    for path, key in KEYS.items():
        if key.level is level and path not in COMPUTED:
            keyword = path.split(".")[-1]
            rows.append([path.replace(".", " > "), _tag(keyword), dictionary_VR(keyword), _MATCHING[key.kind]])
    for keyword, (at, vr) in COMPUTED.items():
        if at is level:
            matched = _MATCHING[KEYS[keyword].kind] if keyword in KEYS else "return only (counted)"
            rows.append([keyword, _tag(keyword), vr, matched])
    return rows


def _query_keys() -> str:
    parts = []
    for level in Level:
        name = "IMAGE" if level is Level.INSTANCE else level.name
        rows = [[name if not number else "", *row] for number, row in enumerate(_keys(level))]
        parts += rows
    return table(["level", "attribute", "tag", "VR", "matching"], parts)


def _return_keys() -> str:
    return table(["attribute", "tag"], [[keyword, _tag(keyword)] for keyword in sorted(RESULT_KEYS)])


def _dicomweb() -> str:
    rows = [["GET", f"`{routes.PATH}{path}`", "QIDO-RS"] for path in routes.SEARCHES]
    rows += [["GET", f"`{routes.PATH}{path}`", "WADO-RS"] for path in routes.RETRIEVALS]
    return table(["method", "resource", "service"], rows)


def _character_sets() -> str:
    stated = [name for name in python_encoding if name]
    return ", ".join(f"`{name}`" for name in sorted(stated)) + "."


def _all_codes() -> list[Code]:
    found: list[Code] = []
    for module in (codes, measurements):
        for value in vars(module).values():
            if isinstance(value, Code):
                found.append(value)
            elif isinstance(value, dict):
                found += [item for item in value.values() if isinstance(item, Code)]
            elif isinstance(value, tuple):
                found += [item.concept for item in value if isinstance(item, measurements.Measurement)]
    return list(dict.fromkeys(found))


def _codes_of(private: bool) -> str:
    chosen = [c for c in _all_codes() if (c.scheme_designator == codes.SCHEME) == private]
    ordered = sorted(chosen, key=lambda c: (c.scheme_designator, c.value))
    return table(["code", "scheme", "meaning"], [[f"`{c.value}`", c.scheme_designator, c.meaning] for c in ordered])


TABLES: dict[str, Callable[[], str]] = {
    "IDENTITY": _identity,
    "STORAGE_SCP": _storage_scp,
    "TRANSFER_SYNTAXES": _syntaxes,
    "QUERY_SCP": _query_scp,
    "REJECTIONS": _rejections,
    "LIMITS": _limits,
    "STORE_SCU_STATUSES": _store_scu_statuses,
    "RETRIEVE_SCU_STATUSES": _retrieve_scu_statuses,
    "ASSOCIATION_REJECTED": _association_rejected,
    "QUERY_KEYS": _query_keys,
    "RETURN_KEYS": _return_keys,
    "DICOMWEB": _dicomweb,
    "CHARACTER_SETS": _character_sets,
    "PRIVATE_CODES": lambda: _codes_of(True),
    "STANDARD_CODES": lambda: _codes_of(False),
}
"""Marker in the text -> what writes the table."""
