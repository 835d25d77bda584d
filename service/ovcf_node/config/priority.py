"""Which series are urgent (STAT), and how far ahead of routine work that brings them."""

from pydantic import Field, field_validator
from pydicom.datadict import dictionary_VR, tag_for_keyword

from ovcf_node.config.base import AETitle, Section

_LAST = 0x00401003  # a receipt is given without reading further than Requested Procedure Priority
_TEXTS = {"AE", "CS", "LO", "LT", "SH", "ST", "UC", "UT"}


class Rule(Section):
    attribute: str
    """Keyword of an attribute of the images: text, at the root, up to Requested Procedure Priority (0040,1003)."""
    contains: str = Field(min_length=1)
    """What its value must contain; ASCII, upper or lower case does not matter."""

    @field_validator("attribute")
    @classmethod
    def _readable(cls, keyword: str) -> str:
        tag = tag_for_keyword(keyword)
        if tag is None or dictionary_VR(tag) not in _TEXTS or not 0x00080000 <= tag <= _LAST:
            raise ValueError(f"{keyword} is not the keyword of a text attribute up to (0040,1003)")
        return keyword

    @field_validator("contains")
    @classmethod
    def _ascii(cls, text: str) -> str:
        if not text.isascii():
            raise ValueError("contains must be ASCII: other characters look different in every character set")
        return text

    @property
    def tag(self) -> int:
        """Group << 16 | element."""
        return tag_for_keyword(self.attribute)


class Priority(Section):
    head_start_min: int = Field(default=240, ge=0, le=10080)
    """A STAT series goes before routine ones that came up to this much earlier, minutes; who waited longer goes first."""
    calling_ae_titles: tuple[AETitle, ...] = ()
    """Senders whose series are always STAT, such as the scanner of the emergency department."""
    called_ae_titles: tuple[AETitle, ...] = ()
    """Titles of ours that stand for STAT: a sender that cannot ask for priority sends to such a one."""
    rules: tuple[Rule, ...] = ()
    """Texts in the images that mean STAT; one that fits is enough."""
