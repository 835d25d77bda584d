"""How long what is done stays here. A destination keeps its copies: this is about the node's own disk."""

from typing import Self

from pydantic import Field, model_validator

from ovcf_node.config.base import Section


class Retention(Section):
    images_h: float = Field(default=72.0, ge=0)
    """Received images of a study stay this long after everything about it is final, hours."""
    results_days: float = Field(default=30.0, ge=0)
    """Findings, masks, pictures and objects stay this long, days; until then queries and pages show them."""
    ledger_days: float = Field(default=90.0, ge=0)
    """History stays this long, days; after that a tombstone of each series remains."""
    engine_days: float = Field(default=7.0, gt=0)
    """Records of the scheduler stay this long after the work ended, days."""
    vacuum_hour: int = Field(default=3, ge=0, le=23)
    """Quiet hour, local time, in which SQLite files of earlier versions are rewritten once so that they can shrink."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.images_h / 24 <= self.results_days <= self.ledger_days:
            raise ValueError("images, results and ledger must go in this order: images_h <= results_days <= ledger_days")
        return self
