"""The frozen description of one synthetic patient and of its vertebrae: what is true, independent of any scan."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from .shape import BodyShape, Damage, heights
from .soft import Additions, Scene, Torso


@dataclass(frozen=True)
class Arch:
    """Sizes of the posterior elements in mm; `asym` scales left against right."""

    ped_w: float
    ped_h: float
    canal_w: float
    canal_d: float
    tp_span: float
    tp_back: float
    sp_len: float
    sp_slope: float
    asym: float
    ala: bool
    height: float
    wing: float = 0.0  # radius of a sacralised transverse process in mm
    warp: float = 0.0  # amplitude (mm) and phase of an organic distortion
    warp_phase: float = 0.0


@dataclass(frozen=True)
class VertebraTruth:
    """Truth of one vertebra.  Positions LPS mm; frame rows u (left), v (back), w (up); heights by clinical reference 2.1."""

    level: str
    centre_mm: tuple[float, float, float]
    frame: tuple[tuple[float, float, float], ...]
    fracture: bool
    evidence: dict[str, bool]
    denis: str | None
    old_deformity: bool
    height_loss: float
    heights_mm: dict[str, float]
    expected_mm: dict[str, float]
    mimic: str | None
    origin_mm: tuple[float, float, float]
    body: BodyShape
    arch: Arch

    def to_json(self) -> dict:
        """Plain data without the shape parameters."""
        return {
            "level": self.level,
            "centre_mm": [round(x, 3) for x in self.centre_mm],
            "frame": [[round(x, 6) for x in row] for row in self.frame],
            "fracture": self.fracture,
            "evidence": dict(self.evidence),
            "denis": self.denis,
            "old_deformity": self.old_deformity,
            "height_loss": round(self.height_loss, 4),
            "heights_mm": {k: round(x, 3) for k, x in self.heights_mm.items()},
            "expected_mm": {k: round(x, 3) for k, x in self.expected_mm.items()},
            "mimic": self.mimic,
        }


@dataclass(frozen=True)
class Case:
    """One patient.  `vertebrae` run from T1 to S5, `neck` from C3 to C7 where the patient has one; `scene` and `additions`
    hold everything else that is painted.
    """

    seed: int
    profile: str
    sex: str
    age: float
    stature_cm: float
    trabecular_hu: float
    vertebrae: tuple[VertebraTruth, ...]
    discs: tuple[tuple[float, float], ...]  # per gap below vertebra i: (relative HU key: 0 normal .. 1 vacuum, height mm)
    torso: Torso
    scene: Scene
    variant: str = "none"  # transitional anatomy: none | sacralised | lumbarised | T13 | L6 | four_lumbar
    neck: tuple[VertebraTruth, ...] = ()
    neck_discs: tuple[tuple[float, float], ...] = ()  # as `discs`, below each vertebra of the neck
    additions: Additions = field(default_factory=Additions)

    @property
    def shown(self) -> tuple[VertebraTruth, ...]:
        """All vertebrae in the order of the instance map (row + 1): the neck comes last and renumbers nobody."""
        return (*self.vertebrae, *self.neck)

    @property
    def column(self) -> tuple[VertebraTruth, ...]:
        """All vertebrae, cranial first."""
        return (*self.neck, *self.vertebrae)

    def find(self, level: str) -> VertebraTruth:
        """The vertebra of a level."""
        return next(v for v in self.vertebrae if v.level == level)

    def to_json(self) -> dict:
        """Truth as plain data."""
        return {
            "seed": self.seed,
            "profile": self.profile,
            "sex": self.sex,
            "age": round(self.age, 1),
            "trabecular_hu": round(self.trabecular_hu, 1),
            "variant": self.variant,
            "vertebrae": [v.to_json() for v in self.vertebrae],
        }


def healthy_twin(case: Case, index: int) -> Case:
    """The same patient with one vertebra undamaged, everything else (poses included) fixed: pairs for restoration
    networks.
    """
    v = case.vertebrae[index]
    body = replace(v.body, damage=Damage())
    names = ("anterior", "middle", "posterior")
    restored = replace(
        v,
        body=body,
        fracture=False,
        denis=None,
        old_deformity=False,
        height_loss=0.0,
        evidence={k: False for k in v.evidence},
        heights_mm=dict(zip(names, heights(body), strict=False)),
        expected_mm=dict(zip(names, heights(body), strict=False)),
    )
    return replace(case, vertebrae=case.vertebrae[:index] + (restored,) + case.vertebrae[index + 1 :])
