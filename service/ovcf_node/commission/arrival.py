"""What each destination says it has of the test study, and what our own query port finds."""

import time
from collections.abc import Callable, Mapping

from ovcf_node import deliver
from ovcf_node.commission.check import Check, Outcome, tried
from ovcf_node.commission.own_side import local, querying_as
from ovcf_node.commission.phantom_study import Answered
from ovcf_node.config import Destination, Settings
from ovcf_node.domain.states import DeliveryState
from ovcf_node.errors import OvcfError, Permanent
from ovcf_node.ledger import Ledger, Result
from ovcf_node.network.associate import Remote
from ovcf_node.network.find import querying

GROUP = "Arrival"
_SETTLE_S = 20.0  # some archives answer C-STORE before their own queries know the object
_LOOK_S = 1.0
_HOW = {"dicom": "C-FIND", "folder": "files", "stow": "QIDO-RS"}


def check(
    settings: Settings, ledger: Ledger, answered: Answered, say: Callable[[str], None], own_name: str = "",
) -> list[Check]:
    """Ask every destination, and our own query port, for exactly the objects of the test study."""
    made = {r.sop_instance_uid: r for r in ledger.deliveries.results_of(answered.revision.id)}
    found = []
    for destination in settings.destinations:
        say(f"asking {destination.name}")
        found += _at(destination, answered, made)
    return [*found, _own_query(settings, answered, made, own_name)]


def _at(destination: Destination, answered: Answered, made: Mapping[str, Result]) -> list[Check]:
    accepted, there = f"{destination.name} takes the results", f"{destination.name} has them ({_HOW[destination.type]})"
    mine = [d for d in answered.deliveries if d.destination == destination.name]
    if not mine:
        why = "shadow mode" if answered.revision.shadow else "no object is for it"
        return [Check(GROUP, accepted, Outcome.NOT_TRIED, why, "Nothing was sent there.")]
    taken = [d for d in mine if d.state not in (DeliveryState.PENDING, DeliveryState.REJECTED, DeliveryState.CANCELLED)]
    if len(taken) < len(mine):
        other = next(d for d in mine if d not in taken)
        words = f"{other.state}: " + (f"0x{other.status:04X} " if other.status is not None else "") + (other.text or "")
        return [Check(GROUP, accepted, Outcome.FAIL, f"{len(taken)} of {len(mine)}; {other.role} {words.strip()}",
                      "The words are the destination's. Does it take SEG, this SR class and secondary capture? See its "
                      "sr_class and objects.")]
    states = ", ".join(sorted({str(d.state) for d in mine}))
    checks = [Check(GROUP, accepted, Outcome.PASS, f"{len(taken)} objects, final state {states}")]
    wanted = {d.sop_instance_uid: made[d.sop_instance_uid].series_instance_uid for d in mine}
    checks.append(_there(destination, there, answered.revision.study_instance_uid, wanted))
    return [*checks, confirmed(destination, {d.state for d in mine})] if destination.type == "dicom" else checks


def _there(destination: Destination, name: str, study: str, wanted: Mapping[str, str]) -> Check:
    begin = time.monotonic()
    try:
        while True:
            here = deliver.found(destination, study, wanted)
            if len(here) == len(wanted) or time.monotonic() - begin > _SETTLE_S:
                break
            time.sleep(_LOOK_S)
    except Permanent as error:
        if error.code == "not_searchable":
            return Check(GROUP, name, Outcome.NOT_CONFIGURED, f"it answers no queries ({error.text})",
                         "Look for the test patient there by hand and note it on this report.")
        return Check(GROUP, name, Outcome.FAIL, str(error), "May our calling AE title query there?")
    except OvcfError as error:
        return Check(GROUP, name, Outcome.FAIL, str(error), "It answered before: is it busy?")
    seconds = time.monotonic() - begin
    if len(here) < len(wanted):
        missing = sorted(set(wanted) - here)
        return Check(GROUP, name, Outcome.FAIL, f"{len(here)} of {len(wanted)}; missing …{missing[0][-12:]}",
                     "It accepted them and does not show them: are unknown patients quarantined, or UIDs changed?", seconds)
    return Check(GROUP, name, Outcome.PASS, f"all {len(wanted)} SOP Instance UIDs", seconds=seconds)


def confirmed(destination: Destination, states: set[DeliveryState]) -> Check:
    """Say whether the objects reached the state that their destination declares as final."""
    name = f"{destination.name} says that it keeps them"
    found = f"final = {destination.final}; the objects are {', '.join(sorted(map(str, states)))}"
    if destination.final == "accepted":
        return Check(GROUP, name, Outcome.NOT_CONFIGURED, found,
                     "A receipt is enough here. Set final to committed (storage commitment) or found where the PACS can.")
    enough = {DeliveryState.COMMITTED} | ({DeliveryState.FOUND} if destination.final == "found" else set())
    if states <= enough:
        return Check(GROUP, name, Outcome.PASS, found)
    return Check(GROUP, name, Outcome.FAIL, found,
                 "Is storage commitment on there, and may it open an association to our open port for its report?")


def _own_query(settings: Settings, answered: Answered, made: Mapping[str, Result], own_name: str) -> Check:
    name = "Our own query port finds the results (C-FIND)"
    if not settings.query.enabled:
        return Check(GROUP, name, Outcome.NOT_CONFIGURED, "query.enabled is false", "PACS and viewers cannot ask the node.")
    calling = querying_as(settings)
    if not calling:
        return Check(GROUP, name, Outcome.NOT_TRIED, "no query.peers entry may come from this machine",
                     'Add { ae_title = "OVCF_COMMISSION", address = "127.0.0.1", retrieve = false } to try it.')
    query = settings.query
    remote = Remote(
        local(query.host), query.port if query.plain else query.tls_port, query.ae_titles[0], calling,
        encrypted=not query.plain, expected_name=own_name or None,
    )

    def ask() -> str:
        study, here = answered.revision.study_instance_uid, set()
        with querying(remote) as query:
            for series in query.series(study):
                here |= {str(m.SOPInstanceUID) for m in query.instances(study, series.series_instance_uid)}
        images = {uid for uid, result in made.items() if result.role != "sr"}
        reports = {uid for uid, result in made.items() if result.role == "sr"}
        if not images <= here or (reports and not reports & here):
            raise Permanent("not_found", f"{len(here & set(made))} of {len(made)} objects")
        return f"{len(here & set(made))} objects, as {calling}"

    return tried(GROUP, name, ask, "Is the query process alive, and its port open?")
