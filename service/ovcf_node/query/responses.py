"""One match of the catalogue as a C-FIND response: exactly the keys that were asked for, as far as they are supported.

A key that is not supported is left out and the response says so with status 0xFF01 (PS3.4 C.2.2.1.3).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pydicom.charset import default_encoding, python_encoding
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence

from ovcf_node.ledger.catalogue import COMPUTED, Level, Match, is_listed, level_of
from ovcf_node.network.messages import FindMatch
from ovcf_node.query.identifiers import level_name, unique_key

_NO_KEYS = frozenset({"SpecificCharacterSet", "QueryRetrieveLevel", "RetrieveAETitle", "InstanceAvailability"})
RESULT_KEYS = frozenset({
    "CompletionFlag", "VerificationFlag", "VerifyingObserverSequence", "ConceptNameCodeSequence", "ContentTemplateSequence",
    "ReferencedRequestSequence", "CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence",
    "ContributingEquipmentSequence", "PredecessorDocumentsSequence", "IdenticalDocumentsSequence", "SegmentSequence",
    "SegmentationType", "ContentLabel", "ContentDescription", "ContentCreatorName", "ObservationDateTime", "ImageLaterality",
    "PrimaryAnatomicStructureSequence", "QuantityDefinitionSequence", "ReferencedSeriesSequence", "NumberOfFrames", "Rows",
    "Columns", "BitsAllocated", "ImageType", "DerivationDescription", "SourceImageSequence", "InstanceCreationDate",
    "InstanceCreationTime", "InstanceCreatorUID", "AcquisitionDate", "AcquisitionTime", "PreliminaryFlag",
})
"""Keys of an instance that only some kinds of results have (IHE RAD-137): empty in the others, not unsupported."""


@dataclass(frozen=True)
class Responder:
    """Build the responses to one request; `header` reads the complete header of an instance.

    retrieve_ae_title  whom to ask by C-GET or C-MOVE for what was found; None where this peer may not
    all_matched        see `identifiers.Asked`
    """

    request: Dataset
    header: Callable[[int], dict[str, Any]]
    retrieve_ae_title: str | None
    all_matched: bool = True

    def computed(self) -> set[str]:
        """Return which attributes must be counted."""
        return {keyword for keyword in COMPUTED if keyword in self.request}

    def response(self, match: Match) -> FindMatch:
        """Return the response for one match."""
        response, complete = Dataset(), self.all_matched
        for key in self.request:
            if key.keyword in _NO_KEYS or key.tag.element == 0:
                continue
            found = self._element(key, match)
            if found is None:
                complete = False
            else:
                response.add(_as_asked(found, key))
        unique = f"{tag_for_keyword(unique_key(match.level)):08X}"
        response.add(_from_json(unique, match.attributes[unique]))
        response.QueryRetrieveLevel = level_name(match.level)
        if self.retrieve_ae_title is not None:
            response.RetrieveAETitle = self.retrieve_ae_title
        if "InstanceAvailability" in self.request:
            response.InstanceAvailability = "ONLINE"
        _state_character_set(response, self.request.get("SpecificCharacterSet"), match.character_set)
        return FindMatch(response, complete)

    def _element(self, key: DataElement, match: Match) -> DataElement | None:
        tag = f"{key.tag:08X}"
        if key.tag.is_private or not key.keyword or level_of(key.keyword) > match.level:
            return None
        if tag in match.attributes:
            return _from_json(tag, match.attributes[tag])
        if tag in match.left_out:
            return _from_json(tag, self.header(match.result_id)[tag])
        if is_listed(key.keyword) or (match.level is Level.INSTANCE and key.keyword in RESULT_KEYS):
            return _empty(key)
        return None


def _state_character_set(response: Dataset, of_request: str | MultiValue | None, of_object: str) -> None:
    """State none for the default repertoire, the request's character set if it has every character, else the object's own.

    The attributes of a response are those of one stored object, so its own has them. But a client that states another can
    seldom read code extensions (Orthanc then drops the whole answer): it is answered in UTF-8 instead.
    """
    text = "".join(_texts(response))
    if text.isascii():
        return
    stated = of_request if isinstance(of_request, str) else "\\".join(of_request or ())
    if _encodes(stated, text):
        response.SpecificCharacterSet = stated
    elif of_object and ("\\" not in of_object or stated in ("", of_object)):
        response.SpecificCharacterSet = of_object.split("\\")
    else:
        response.SpecificCharacterSet = "ISO_IR 192"


def _encodes(character_set: str, text: str) -> bool:
    codec = python_encoding.get(character_set, default_encoding)
    try:
        # pydicom's default is Latin-1, which is more than the default repertoire.
        return codec != default_encoding and bool(text.encode(codec))
    except UnicodeEncodeError:
        return False


def _texts(dataset: Dataset) -> Iterator[str]:
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                yield from _texts(item)
        elif element.VR in ("PN", "LO", "SH", "ST", "LT", "UT", "UC"):
            yield str(element.value)


def _from_json(tag: str, element: dict[str, Any]) -> DataElement:
    return Dataset.from_json({tag: element})[int(tag, 16)]


def _empty(key: DataElement) -> DataElement:
    vr = dictionary_VR(key.tag).split(" or ")[0]
    return DataElement(key.tag, vr, Sequence() if vr == "SQ" else None)


def _as_asked(found: DataElement, key: DataElement) -> DataElement:
    """Return a sequence with the attributes that the item of the key names; everything where it names none (C.2.2.2.6)."""
    if found.VR != "SQ" or key.VR != "SQ" or not key.value or not len(key.value[0]):
        return found
    wanted = key.value[0]
    items = []
    for item in found.value:
        kept = Dataset()
        for inner in wanted:
            if inner.tag in item:
                kept.add(_as_asked(item[inner.tag], inner))
            elif inner.keyword and not inner.tag.is_private:
                kept.add(_empty(inner))
        items.append(kept)
    return DataElement(found.tag, "SQ", Sequence(items))
