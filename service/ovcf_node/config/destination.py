"""Where results go."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from ovcf_node.config.base import AETitle, Name, Port, Section


class Destination(Section):
    name: Name
    """Name in logs, commands and metrics."""
    type: Literal["dicom", "folder"]
    """dicom: C-STORE; folder: one file per instance."""
    ae_title: AETitle | None = None
    """dicom: called AE title."""
    host: str | None = None
    """dicom: address."""
    port: Port | None = None
    """dicom: port."""
    calling_ae_title: AETitle = "OVCF_NODE"
    """dicom: calling AE title we use."""
    path: Path | None = None
    """folder: where instances are written."""
    objects: tuple[Literal["seg_vertebrae", "seg_fractures", "summary", "sr"], ...] = (
        "seg_vertebrae", "seg_fractures", "summary", "sr",
    )
    """Which objects this destination gets."""
    sr_class: Literal["88.34", "88.33", "88.22"] = "88.34"
    """SOP class of the structured report: Comprehensive 3D, Comprehensive or Enhanced SR."""
    sr_profile: Literal["air", "ohif-text"] = "air"
    """air: TID 1500 as IHE AIR wants it; ohif-text: a root title that makes OHIF show the report as text."""
    retry_first_s: float = Field(default=10.0, gt=0)
    """Delay before the second attempt, seconds; doubles with every attempt."""
    retry_cap_s: float = Field(default=900.0, gt=0)
    """Longest delay between attempts, seconds."""
    timeout_s: float = Field(default=30.0, gt=0)
    """Time for each step of an association, seconds."""

    @model_validator(mode="after")
    def _complete(self) -> "Destination":
        needed = ("ae_title", "host", "port") if self.type == "dicom" else ("path",)
        missing = [field for field in needed if getattr(self, field) is None]
        if missing:
            raise ValueError(f"a destination of type {self.type} needs {', '.join(missing)}")
        return self
