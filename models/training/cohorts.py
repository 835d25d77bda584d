"""The cohorts of the evaluation: which patients, and how each becomes a DICOM series with its truth.

- ``study``      the reference study's case mix (A 40, B 45, C 39, D 55, none 41 of 220), scaled to N patients
- ``natural``    25 % fractured, types as in Denis 1983 (16 / 62 / 6 / 15 %)
- ``negatives``  no fracture, every mimic in turn, healed deformities, transitional anatomy, what lies around (`kinds.py`)
- ``second``     the study's mix and some burst fractures, made by the second generator
- ``third``      the study's mix, made by the third generator; read only when asked for by name, once a bundle is chosen

Patients are seeds, searched in order until each quota is full; a list depends on N and nothing else. Seeds here were
never trained, calibrated or selected on, nor looked at (`SEEN`).
``python models/training/cohorts.py --out COHORT --n 6`` writes all but ``third`` to disk.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

import kinds
import phantoms
import second
import third
from casefolder import REPORTED, axial, whole_bodies, write_case
from ovcf_node.domain.levels import GRADED
from ovcf_node.evaluate.study import CASE_MIX, NATURAL_MIX

COHORTS = ("study", "natural", "negatives", "second", "third")
USUAL = COHORTS[:-1]  # those of one number for all; the third is asked for by name
FIRST_SEED = {  # moved on with each bundle whose builders have looked at the failures of the one before; then extend `SEEN`
    "study": 10_900_000, "natural": 10_930_000, "negatives": 10_960_000, "second": second.EVALUATION + 3_000_000,
    "third": 11_100_000,
}
SPAN = 30_000  # seeds that a cohort may search: 200 negatives take 900
SEEN = {  # by generator: first seed, first one beyond, who has looked at those between; never evaluated again
    "first": (
        (0, 5_000_000, "training"),
        (5_000_000, 6_000_000, "checkpoints, calibration, numbering, choice between trainings"),
        (6_000_000, 6_500_000, "evaluate.py, test pairs"),
        (6_500_000, 6_600_000, "study, to 0.7.0 (last from 6_595_000)"),
        (6_600_000, 6_700_000, "natural, to 0.7.0 (last from 6_695_000)"),
        (6_700_000, 6_800_000, "negatives, to 0.7.0 (last from 6_795_000)"),
        (6_800_000, 6_900_000, "study, natural and negatives of 0.8.0 and of weights that were not taken"),
        (6_900_000, 7_000_000, "study, natural and negatives of 0.8.0, all of them"),
        (9_100_000, 9_200_000, "study, natural and negatives of 0.9.0, 194 of them"),
        (9_200_000, 9_300_000, "study, natural and negatives of 0.10.0, 415 of them"),
        (9_300_000, 9_400_000, "study, natural and negatives of 0.11.0, all of them"),
        (9_400_000, 9_500_000, "study, natural and negatives of 0.12.0, all of them"),
        (9_600_000, 9_700_000, "study, natural and negatives of 0.12.0, the second time, all of them"),
        (9_800_000, 9_890_000, "study, natural and negatives of 0.13.0, all that were read"),
        (10_000_000, 10_090_000, "study, natural and negatives of 0.13.0, the second time, all of them"),
        (10_300_000, 10_390_000, "study, natural and negatives of 0.14.0, all that were read"),
        (10_600_000, 10_690_000, "study, natural and negatives of 0.15.0, all that were read"),
    ),
    "second": (
        (second.SELECTION, second.EVALUATION, "checkpoints, calibration, numbering, choice between trainings"),
        (second.EVALUATION, second.EVALUATION + 400_000, "evaluate.py; second, to 0.7.0 (last from 8_395_000)"),
        (second.EVALUATION + 400_000, second.EVALUATION + 500_000, "second of 0.8.0 and of weights that were not taken"),
        (second.EVALUATION + 500_000, second.EVALUATION + 600_000, "second of 0.8.0, all of them"),
        (second.EVALUATION + 600_000, second.EVALUATION + 700_000, "second of 0.9.0, all of them"),
        (second.EVALUATION + 700_000, second.EVALUATION + 800_000, "second of 0.10.0, all of them"),
        (second.EVALUATION + 800_000, second.EVALUATION + 900_000, "second of 0.11.0 and 0.10.0, all of them"),
        (second.EVALUATION + 900_000, second.EVALUATION + 1_000_000, "second of 0.12.0, all of them"),
        (second.EVALUATION + 1_700_000, second.EVALUATION + 1_800_000, "second of 0.12.0, the second time, all of them"),
        (second.EVALUATION + 1_900_000, second.EVALUATION + 1_930_000, "second of 0.13.0, all that were read"),
        (second.EVALUATION + 2_100_000, second.EVALUATION + 2_130_000, "second of 0.13.0, the second time, all of them"),
        (second.EVALUATION + 2_400_000, second.EVALUATION + 2_430_000, "second of 0.14.0, all that were read"),
        (second.EVALUATION + 2_700_000, second.EVALUATION + 2_730_000, "second of 0.15.0, all that were read"),
    ),
    "third": (
        (9_000_000, 9_030_000, "third of 0.8.0 and 0.9.0"), (9_030_000, 9_060_000, "third of 0.11.0 and 0.10.0"),
        (9_060_000, 9_090_000, "third of 0.12.0"),
        (9_500_000, 9_530_000, "tests"), (9_530_000, 9_560_000, "third of 0.12.0, the second time"),
        (9_560_000, 9_590_000, "third of 0.13.0"), (10_200_000, 10_230_000, "third of 0.13.0, the second time"),
        (10_500_000, 10_530_000, "third of 0.14.0"),
        (10_800_000, 10_830_000, "third of 0.15.0, all that were read"),
    ),
}
OF_BODIES = (  # from the most frequent to the rarest
    "wedge", "biconcave", "short", "schmorl", "limbus", "osteophytes", "sclerosis", "lines", "haemangioma",
    "cupid", "lesion", "scheuermann", "cement", "screws", "old", "sacralised", "lumbarised", "T13", "L6", "four_lumbar",
)
NEGATIVES = (*OF_BODIES, *kinds.AROUND)
OTHERS = {"second": second, "third": third}
SIGNS = ("superior", "inferior", "anterior", "posterior")  # only `calibrate.py` reads them
LIMIT = 7_000_000  # voxels of one series
TRANSITIONAL = ("T13", "L6", "four_lumbar")


@dataclass(frozen=True)
class Patient:
    """One case to make: `kind` is its type, or what a negative shows."""

    cohort: str
    kind: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.seed}"


def quotas(shares: dict[str, float], n: int) -> dict[str, int]:
    """Whole numbers that sum to n, by largest remainder."""
    total = sum(shares.values())
    exact = {k: n * v / total for k, v in shares.items()}
    out = {k: int(v) for k, v in exact.items()}
    for k in sorted(exact, key=lambda k: out[k] - exact[k])[: n - sum(out.values())]:
        out[k] += 1
    return out


def sizes(text: str) -> dict[str, int]:
    """Patients of each cohort: ``60`` of every `USUAL` one, or ``study=220,third=60`` of those alone. Raises ValueError."""
    if "=" not in text:
        return dict.fromkeys(USUAL, _size(text))
    pairs = [part.split("=", 1) for part in text.split(",")]
    wrong = [pair[0] for pair in pairs if len(pair) != 2 or pair[0] not in COHORTS]
    if wrong or len(dict(pairs)) < len(pairs):
        raise ValueError(f"not each one of {', '.join(COHORTS)} and a number, once: {text}")
    return {name: _size(number) for name, number in pairs}


def _size(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise ValueError(f"not a number of patients: {text!r}")
    return int(text)


def patients(
    cohort: str, n: int, first: int | None = None, negatives: tuple[str, ...] = NEGATIVES
) -> list[Patient]:
    """The patients of a cohort, mixed so that any first part has about the same mix; `first` replaces its first seed."""
    first = FIRST_SEED[cohort] if first is None else first
    if cohort == "study":
        found = list(_search(cohort, quotas(CASE_MIX, n), "study", _study_kind, first))
    elif cohort == "natural":
        broken = quotas(NATURAL_MIX, round(n / 4))
        found = list(_search(cohort, {**broken, "none": n - sum(broken.values())}, "study", _study_kind, first))
    elif cohort == "negatives":
        wanted = {k: n // len(negatives) + (i < n % len(negatives)) for i, k in enumerate(negatives)}
        found = list(_search(cohort, wanted, "training", _negative_kind, first))
    else:
        mix = quotas({**CASE_MIX, "burst": 9} if cohort == "second" else CASE_MIX, n)
        each = [k for k, m in mix.items() for _ in range(m)]
        found = [Patient(cohort, k, first + i) for i, k in enumerate(each)]
    order = np.random.default_rng(n).permutation(len(found))
    return [found[i] for i in order]


def _search(cohort: str, wanted: dict[str, int], profile: str, kind_of, first: int) -> Iterator[Patient]:
    left = {k: v for k, v in wanted.items() if v > 0}
    for seed in count(first):
        if not left:
            return
        kind = kind_of(phantoms.sample_case(seed, profile=profile), left)
        if kind is not None:
            yield Patient(cohort, kind, seed)
            left[kind] -= 1
            left = {k: v for k, v in left.items() if v}


def _study_kind(case, left: dict[str, int]) -> str | None:
    """The Denis type of a patient whose recent fractures all lie in T12-L5 and are compressions of one type."""
    broken = [v for v in case.vertebrae if v.fracture]
    if any(v.level not in GRADED or v.evidence["posterior"] for v in broken):
        return None
    types = {v.denis for v in broken} or {"none"}
    kind = types.pop()
    return kind if not types and kind in left else None


def _negative_kind(case, left: dict[str, int]) -> str | None:
    """The rarest thing still wanted that a patient without a fracture shows."""
    if any(v.fracture for v in case.vertebrae):
        return None
    scan = graded_scan(case.seed)
    shown = kinds.of_bodies(case) | kinds.around(case, scan, *_window(case, scan)[:2])
    return next((k for k in (*reversed(OF_BODIES), *kinds.AROUND) if k in left and k in shown), None)


def make(patient: Patient, folder: Path) -> Path:
    """Render one patient into a case folder."""
    return _other(patient, folder, OTHERS[patient.cohort]) if patient.cohort in OTHERS else _first(patient, folder)


def field_around(rng: np.random.Generator, centres: np.ndarray, slice_mm: float) -> tuple[np.ndarray, np.ndarray, float]:
    """Low corner and size (x, y, z mm) and pixel of a series that holds the bodies T12..S1 at `centres` (head to foot)."""
    field = float(rng.uniform(85, 200) if rng.random() < 0.5 else rng.uniform(200, 340))
    top, bottom = centres[0, 2] + rng.uniform(28, 70), centres[-1, 2] - rng.uniform(30, 70)
    span = np.ptp(centres[:, :2], axis=0)
    wide, tall = max(field, span[0] + 78), max(min(field, 290), span[1] + 84)
    middle = (centres[:, :2].max(0) + centres[:, :2].min(0)) / 2
    free_x, free_y = (wide - span[0] - 78) / 2, (tall - span[1] - 84) / 2
    middle += (rng.uniform(-1, 1) * min(20, free_x), min(8, free_y) if tall < 200 else -min(45, free_y))
    pixel = max(0.45, wide / 512)
    pixel *= max(1.0, np.sqrt((top - bottom) / slice_mm * wide * tall / pixel**2 / LIMIT))
    return np.array([*(middle - np.array([wide, tall]) / 2), bottom]), np.array([wide, tall, top - bottom]), float(pixel)


def _shown(case) -> list:
    """The vertebrae that the field is laid around, head to foot."""
    return [v for v in case.vertebrae if v.level in (*REPORTED, *TRANSITIONAL)]


def _window(case, acquisition) -> tuple[np.ndarray, np.ndarray, float]:
    rng = np.random.default_rng([case.seed, 7])
    return field_around(rng, np.array([v.centre_mm for v in _shown(case)]), acquisition.slice_mm)


def _first(patient: Patient, folder: Path) -> Path:
    profile = "training" if patient.cohort == "negatives" else "study"
    case = kinds.grown(patient.kind, phantoms.sample_case(patient.seed, profile=profile))
    acquisition = kinds.scanned(patient.kind, graded_scan(patient.seed))
    shown = _shown(case)
    low, size, pixel = _window(case, acquisition)
    if patient.kind == "cut":
        low, size = kinds.cut_window(patient.seed, np.array([v.centre_mm for v in shown]), low, size)
    spacing = (acquisition.slice_mm, pixel, pixel)
    grid = axial(low, spacing, [round(float(a) / b) for a, b in zip(size[::-1], spacing, strict=True)])
    made = phantoms.render(case, grid, acquisition)
    instance, body = made.instance.cpu().numpy(), made.body.cpu().numpy() > 0
    labels, whole = _labels(((i + 1, v.level) for i, v in enumerate(case.vertebrae)), instance, body)
    truth = {
        "cohort": patient.cohort, "variant": case.variant, "named": True, "complete": len(whole) == len(REPORTED),
        "facts": {"kind": patient.kind, "generator": "first", "seed": patient.seed},
        "vertebrae": [
            {"level": v.level, "centre_mm": [round(float(x), 3) for x in v.centre_mm]}
            if patient.kind == "cut" and v.level not in whole else {
                "level": v.level, "centre_mm": [round(float(x), 3) for x in v.centre_mm], "fracture": bool(v.fracture),
                "denis": "burst" if v.fracture and v.evidence["posterior"] else v.denis if v.fracture else None,
                "evidence": [int(v.evidence[k]) for k in SIGNS],
                "old_deformity": bool(v.old_deformity), "height_loss": round(float(v.height_loss), 4),
                "heights_mm": {k: round(float(x), 3) for k, x in v.heights_mm.items()}, "mimic": v.mimic,
            } for v in shown
        ],
    }
    kernel = "BONE" if acquisition.edge > kinds.SHARP else "STANDARD"
    return write_case(
        folder, made.hu.cpu().numpy(), grid, labels, truth, seed=patient.seed, thickness=acquisition.slice_mm,
        contrast=acquisition.contrast, kernel=kernel, patient={"PatientSex": case.sex, "PatientAge": f"{case.age:03.0f}Y"},
    )


def graded_scan(seed: int, profile: str = "study"):
    """An acquisition that is graded: half as thin as the study's protocol (0.625-1.25 mm, noisier), half up to 3 mm."""
    acquisition = phantoms.sample_acquisition(seed, profile=profile)
    rng = np.random.default_rng([seed, 8])
    thickness = min(acquisition.slice_mm, 3.0)
    if rng.random() < 0.5:
        thickness = float(rng.uniform(0.625, 1.25))
    noise = acquisition.noise_sd * np.sqrt(acquisition.slice_mm / thickness)
    return replace(acquisition, slice_mm=thickness, noise_sd=float(min(noise, 60.0)))


def _other(patient: Patient, folder: Path, generator: ModuleType) -> Path:
    """Render a patient of a generator that never trains; `second` and `third` are used alike."""
    made_of = generator.sample_patient(patient.seed, kind=patient.kind)
    how = generator.choose_scan(made_of, patient.seed)
    picture = generator.scan(made_of, how, patient.seed)
    labels, whole = _labels(((i + 1, v.level) for i, v in enumerate(made_of.vertebrae)), picture.instance, picture.body)
    shown = [v for v in made_of.vertebrae if v.level in (*REPORTED, "T13", "L6")]
    truth = {
        "cohort": patient.cohort, "variant": made_of.variant, "named": True, "complete": len(whole) == len(REPORTED),
        "facts": {"kind": patient.kind, "generator": patient.cohort, "seed": patient.seed},
        "vertebrae": [
            {
                "level": v.level, "centre_mm": [round(float(x), 3) for x in v.centre], "fracture": v.denis is not None,
                "denis": v.denis, "evidence": [int(v.signs[k]) for k in SIGNS], "old_deformity": v.old,
                "height_loss": round(v.loss, 4),
                "heights_mm": {k: round(x, 3) for k, x in v.heights.items()}, "mimic": v.mimic,
            } for v in shown
        ],
    }
    return write_case(
        folder, picture.hu, axial(picture.low, picture.spacing, picture.hu.shape), labels, truth, seed=patient.seed,
        thickness=how.thickness, contrast=how.contrast, kernel=how.kernel,
        patient={"PatientSex": made_of.sex, "PatientAge": f"{made_of.age:03.0f}Y"},
    )


def _labels(numbers, instance: np.ndarray, body: np.ndarray) -> tuple[np.ndarray, set[str]]:
    """The label map of T12..S1, and which of the seven bodies are wholly in the field."""
    labels, whole = np.zeros(instance.shape, np.uint8), set()
    for number, level in numbers:
        if level in REPORTED:
            labels[instance == number] = 1 + REPORTED.index(level)
            whole |= {level} if whole_bodies(instance, body, number) else set()
    return labels, whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--n", type=int, default=6, help="patients of each cohort")
    parser.add_argument("--cohort", choices=COHORTS, action="append", help="all but `third` when left out")
    a = parser.parse_args()
    torch.set_num_threads(1)
    for cohort in a.cohort or USUAL:
        for patient in patients(cohort, a.n):
            folder = a.out / cohort / patient.name
            if not folder.exists():
                folder.parent.mkdir(parents=True, exist_ok=True)
                print(make(patient, folder), flush=True)


if __name__ == "__main__":
    main()
