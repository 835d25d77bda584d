"""One patient: sizes, poses, what is broken, healed or merely odd, drawn from a seed before anything is painted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import failure
from .shell import Outline, Shell, build

GRADED = ("T12", "L1", "L2", "L3", "L4", "L5")
KINDS = ("A", "B", "C", "D", "burst")
MIMICS = (
    "wedge", "short", "biconcave", "schmorl", "osteophytes", "scheuermann", "sclerosis", "limbus", "line", "cupid",
    "haemangioma", "island", "lesion", "cement", "screws",
)
_MIMIC_WEIGHT = (4, 2, 3, 4, 5, 1, 3, 1.5, 2, 1.5, 1.5, 1, 1, 0.5, 0.5)
_FRACTURE_WEIGHT = {"T12": 0.24, "L1": 0.32, "L2": 0.17, "L3": 0.12, "L4": 0.09, "L5": 0.06}
_KNOTS = np.array([0, 5, 8, 10, 11, 12, 13, 14, 15, 16])  # T1 T6 T9 T11 T12 L1 L2 L3 L4 L5
_SIZES = {
    "back": (15.6, 18.9, 21.1, 23.4, 25.2, 26.2, 26.7, 26.6, 26.2, 25.3),
    "front": (14.7, 17.4, 19.6, 21.8, 23.4, 25.0, 26.2, 26.9, 27.2, 28.6),
    "width": (27.0, 28.5, 32.5, 37.0, 40.5, 42.5, 44.0, 46.0, 48.0, 49.0),
    "depth": (17.5, 26.0, 30.0, 32.0, 33.0, 34.3, 35.0, 35.2, 35.2, 35.0),
    "disc": (4.0, 4.2, 4.8, 5.6, 6.6, 8.2, 9.3, 10.4, 11.0, 9.8),  # below this level
    "pedicle": (7.5, 6.2, 7.6, 9.0, 8.4, 8.6, 8.9, 10.4, 12.8, 15.6),
    "span": (74, 63, 60, 52, 48, 74, 84, 92, 91, 95),
    "spinous": (35, 37, 34, 28, 27, 29, 31, 33, 30, 23),
    "canal": (20.0, 17.2, 17.9, 19.6, 22.0, 23.4, 23.8, 24.4, 25.6, 28.0),
}
_TURN = {"T": -3.6, "T11": -3.0, "T12": -1.0, "L1": 1.5, "L2": 5.0, "L3": 8.0, "L4": 11.0, "L5": 17.0}


@dataclass(frozen=True)
class Vertebra:
    """One vertebra. `frame` rows are u (left), v (back), w (head); `centre` is the body's centroid, LPS mm."""

    level: str
    origin: np.ndarray
    frame: np.ndarray
    shell: Shell
    sizes: dict[str, float]
    ribs: float  # length of the rib in mm, 0 without
    denis: str | None
    signs: dict[str, bool]
    loss: float
    old: bool
    mimic: str | None
    extras: dict
    heights: dict[str, float]
    expected: dict[str, float]
    wing: float = 0.0  # sacralised transverse process, radius in mm

    @property
    def centre(self) -> np.ndarray:
        return self.origin + self.frame[2] * self.shell.middle_w()

    @property
    def sacral(self) -> bool:
        return self.level.startswith("S")


@dataclass(frozen=True)
class Patient:
    """Vertebrae from T1 to S5 (head to foot); `gaps[i]` is disc height in mm below vertebra i, `vacuum[i]` its gas."""

    seed: int
    sex: str
    age: float
    scale: float
    trabecular: float
    variant: str  # none | thirteenth_rib | six_lumbar | four_lumbar | sacralised | lumbarised
    vertebrae: tuple[Vertebra, ...]
    gaps: tuple[float, ...]
    vacuum: tuple[float, ...]
    fat: float  # mm under the skin

    def find(self, level: str) -> Vertebra | None:
        return next((v for v in self.vertebrae if v.level == level), None)


def size(level: float, name: str) -> float:
    """Mean of a size at a level counted from T1 = 0."""
    return float(np.interp(level, _KNOTS, _SIZES[name]))


def column(variant: str) -> list[tuple[str, float, bool]]:
    """Names from T1 to L5 or L6, the level whose sizes they take, and whether they bear ribs."""
    rows = [(f"T{i + 1}", float(i), True) for i in range(12)]
    if variant == "thirteenth_rib":
        rows.append(("T13", 11.6, True))
    count = {"six_lumbar": 6, "four_lumbar": 4}.get(variant, 5)
    where = np.linspace(12, 16, count)
    rows += [(f"L{i + 1}", float(x), False) for i, x in enumerate(where)]
    return rows


def sample_patient(
    seed: int, *, kind: str | None = None, count: int | None = None, variant: str | None = None,
    mimics: tuple[str, ...] = (), plain: bool = False,
) -> Patient:
    """Draw a patient.

    kind     Denis type (or burst) of every recent fracture; `none` for no fracture; drawn when left out.
    count    number of fractures (default: mostly one); mimics: put these on some unfractured levels T12-L5.
    plain    no mimics and no healed deformities beyond those asked for.
    """
    rng, harm = np.random.default_rng([seed, 20]), np.random.default_rng([seed, 21])
    if kind is None:
        kind = str(harm.choice([*KINDS, "none"], p=[0.14, 0.2, 0.13, 0.17, 0.06, 0.3]))
    if variant is None:
        names = ["none", "thirteenth_rib", "six_lumbar", "four_lumbar", "sacralised", "lumbarised"]
        variant = str(rng.choice(names, p=[0.88, 0.02, 0.03, 0.02, 0.03, 0.02]))
    rows = column(variant)
    breaks = _breaks(harm, kind, count, [name for name, *_ in rows])
    free = [name for name, *_ in rows if name in GRADED and name not in breaks]
    harm.shuffle(free)
    odd = dict(zip(free, mimics, strict=False))
    rate = 0.0 if plain else harm.uniform(0.0, 0.45)
    weights = np.array(_MIMIC_WEIGHT) / sum(_MIMIC_WEIGHT)
    for name, *_ in rows:
        if name not in breaks and name not in odd and harm.random() < rate:
            odd[name] = str(harm.choice(MIMICS, p=weights))
    old = set()
    if not plain and harm.random() < 0.25:
        old = {name for name in free[:2] if name not in odd}
    sex = "F" if rng.random() < 0.62 else "M"
    scale = (0.955 if sex == "F" else 1.05) * float(np.clip(rng.normal(1, 0.045), 0.88, 1.12))
    age = float(rng.uniform(52, 93) if breaks or rng.random() < 0.7 else rng.uniform(25, 80))
    trabecular = float(np.clip(222 - 2.4 * (age - 30) + rng.normal(0, 36), 25, 290))
    lean = rng.normal(0, 0.3, 2)
    made = []
    for name, level, ribbed in rows:
        made.append(_vertebra(rng, harm, name, level, scale, lean, breaks.get(name), name in old, odd.get(name), ribbed))
    made += _sacrum(rng, scale)
    gaps, vacuum = _gaps(rng, made, rows, scale, variant)
    placed = _stack(rng, made, gaps, variant)
    return Patient(
        seed, sex, age, scale, trabecular, variant, tuple(placed), tuple(gaps), tuple(vacuum), float(rng.uniform(8, 42)),
    )


def _breaks(rng, kind: str, count: int | None, names: list[str]) -> dict[str, tuple[str, float]]:
    if kind == "none":
        return {}
    levels = [n for n in GRADED if n in names]
    weights = np.array([_FRACTURE_WEIGHT[n] for n in levels])
    count = count or int(rng.choice([1, 2], p=[0.84, 0.16]))
    chosen = rng.choice(levels, size=count, replace=False, p=weights / weights.sum())
    out = {}
    for name in chosen:
        low, high = [(0.11, 0.2), (0.2, 0.33), (0.33, 0.5)][int(rng.choice(3, p=[0.5, 0.36, 0.14]))]
        out[str(name)] = (kind, float(rng.uniform(low, high)))
    return out


def _vertebra(rng, harm, name, level, scale, lean, broken, old, odd, ribbed) -> dict:
    own = scale * float(np.clip(rng.normal(1, 0.025), 0.93, 1.07))
    front, back = (size(level, k) * own * float(rng.normal(1, 0.015)) for k in ("front", "back"))
    front *= 1 + 0.02 * lean[0]
    if odd == "wedge":
        front *= harm.uniform(0.86, 0.93)
    elif odd == "short":
        shrink = harm.uniform(0.83, 0.92)
        front, back = front * shrink, back * shrink
    elif odd == "scheuermann":
        front *= harm.uniform(0.82, 0.92)
    thoracic = level < 11.5
    outline = Outline(
        size(level, "width") * own * float(rng.normal(1, 0.025)), size(level, "depth") * own * float(rng.normal(1, 0.02)),
        hollow=float(rng.uniform(0.06, 0.17) * (0.6 if level > 15.5 else 1)), corner=float(rng.uniform(0.02, 0.07)),
        heart=float(rng.uniform(0.0, 0.08)) if thoracic else 0.0, ripple=tuple(rng.uniform(-0.012, 0.012, 2)),
    )
    dish = (float(rng.uniform(0.8, 2.0) * own), float(rng.uniform(1.4, 3.0) * own))
    shell = build(rng, outline, front, back, dish=dish)
    expected = shell.heights()
    extras: dict = {}
    if odd == "cupid":
        failure.cupid(harm, shell)
    elif odd:
        extras = failure.mimic(harm, shell, odd)
    denis, signs, loss = None, dict.fromkeys(failure.SIGNS, False), 0.0
    if broken:
        denis = broken[0]
        expected = shell.heights()
        signs, loss = failure.fracture(harm, shell, *broken)
    elif old:
        loss = failure.healed(harm, shell)
    else:
        expected = shell.heights()
    sizes = {k: size(level, k) * own * float(rng.normal(1, 0.06)) for k in ("pedicle", "span", "spinous", "canal")}
    sizes |= {"height": (front + back) / 2, "level": level, "asymmetry": float(rng.normal(0, 0.05))}
    ribs = 0.0
    if ribbed:
        ribs = {"T12": rng.uniform(55, 130), "T13": rng.uniform(25, 60), "T11": rng.uniform(130, 190)}.get(
            name, rng.uniform(230, 300)
        )
        if name == "T12" and rng.random() < 0.1:
            ribs = rng.uniform(15, 35)  # hypoplastic
    return {
        "level": name, "shell": shell, "sizes": sizes, "ribs": float(ribs), "denis": denis, "signs": signs, "loss": loss,
        "old": old, "mimic": odd, "extras": extras, "heights": shell.heights(), "expected": expected,
    }


def _sacrum(rng, scale) -> list[dict]:
    rows = []
    for k, (front, back, width, depth) in enumerate(
        [(30, 25, 50, 33), (24, 22, 37, 22), (20, 19, 29, 16), (17, 16, 24, 13), (14, 13, 18, 10)]
    ):
        outline = Outline(width * scale, depth * scale, 0.1, 0.02, 0.0)
        shell = build(rng, outline, front * scale, back * scale, dish=(1.0 * scale if k == 0 else 0.2, 0.2))
        if k == 0:  # the promontory tapers into S2
            shell.wall -= (np.linspace(1, -1, shell.wall.shape[1])[None, :] * 2.6 * scale).astype(np.float32)
        heights = shell.heights()
        sizes = {"pedicle": 16.0, "span": (108, 96, 78, 58, 36)[k] * scale, "spinous": (11, 10, 8, 6, 3)[k] * scale,
                 "canal": (30, 25, 19, 14, 9)[k] * scale, "height": (front + back) / 2 * scale, "level": 17.0 + k,
                 "asymmetry": float(rng.normal(0, 0.02))}
        rows.append({
            "level": f"S{k + 1}", "shell": shell, "sizes": sizes, "ribs": 0.0, "denis": None,
            "signs": dict.fromkeys(failure.SIGNS, False), "loss": 0.0, "old": False, "mimic": None, "extras": {},
            "heights": heights, "expected": heights,
        })
    return rows


def _gaps(rng, made, rows, scale, variant) -> tuple[list[float], list[float]]:
    worn = rng.uniform(0, 0.5)
    gaps, vacuum = [], []
    last = len(rows) - 1
    for i, _ in enumerate(made):
        if i > last:
            free = variant == "lumbarised" and i == last + 1
            gaps.append(scale * float(rng.uniform(4.5, 8) if free else rng.uniform(0.6, 2.2)))
            vacuum.append(0.0)
            continue
        height = size(rows[i][1], "disc") * scale * float(np.clip(rng.normal(1, 0.1), 0.75, 1.3))
        thin = rng.random() < worn
        if thin:
            height *= rng.uniform(0.3, 0.75)
        if variant in ("sacralised", "four_lumbar") and i == last:
            height *= rng.uniform(0.3, 0.7)
        gaps.append(float(max(1.5, height)))
        vacuum.append(float(rng.uniform(0.3, 1)) if thin and rng.random() < 0.35 else 0.0)
    return gaps, vacuum


def _rotation(pitch: float, roll: float, yaw: float) -> np.ndarray:
    """Rows u, v, w. Positive pitch leans the head end of w to the front."""
    p, r, y = np.radians([pitch, roll, yaw])
    rx = np.array([[1, 0, 0], [0, np.cos(p), np.sin(p)], [0, -np.sin(p), np.cos(p)]])
    ry = np.array([[np.cos(r), 0, -np.sin(r)], [0, 1, 0], [np.sin(r), 0, np.cos(r)]])
    rz = np.array([[np.cos(y), np.sin(y), 0], [-np.sin(y), np.cos(y), 0], [0, 0, 1]])
    return rx @ ry @ rz


def _stack(rng, made: list[dict], gaps: list[float], variant: str) -> list[Vertebra]:
    """Place the chain: S1 at the origin with the patient's sacral slope, upwards by lordosis, downwards by sacral bend."""
    first_sacral = next(i for i, m in enumerate(made) if m["level"] == "S1")
    slope = float(np.clip(rng.normal(38, 8), 22, 56))
    strength = float(np.clip(rng.normal(1, 0.17), 0.6, 1.4)) * (0.6 + 0.4 * slope / 38)
    kyphosis = float(rng.uniform(0.7, 1.5))
    bow, phase = rng.normal(0, 2.5) if rng.random() < 0.75 else rng.uniform(-16, 16), rng.uniform(0, 6.28)
    twist = bow * rng.uniform(-0.4, 0.9)
    pitch = [0.0] * len(made)
    pitch[first_sacral] = slope
    for i in range(first_sacral - 1, -1, -1):
        name = made[i]["level"]
        turn = _TURN.get(name, 14.0 if name == "L6" else 0.0 if name == "T13" else _TURN["T"])
        turn *= strength if turn > 0 else kyphosis
        hurt = made[i]["loss"] if made[i]["denis"] else 0.0
        pitch[i] = pitch[i + 1] - turn + rng.normal(0, 1.2) + 14 * hurt
    bend = rng.uniform(0.7, 1.3)
    for i, step in zip(range(first_sacral + 1, len(made)), (8, 16, 22, 20), strict=True):
        pitch[i] = pitch[i - 1] - step * bend
    frames = []
    for i in range(len(made)):
        up = max(0, first_sacral - i)
        frames.append(_rotation(pitch[i], bow * np.sin(phase + 0.55 * up), twist * np.sin(phase + 0.55 * up)))
    origins = [np.zeros(3)] * len(made)
    for i in range(first_sacral - 1, -1, -1):
        origins[i] = origins[i + 1] + _step(made[i + 1], frames[i + 1], "superior")
        origins[i] = origins[i] + gaps[i] * _mean(frames[i], frames[i + 1]) - _step(made[i], frames[i], "inferior")
    for i in range(first_sacral + 1, len(made)):
        origins[i] = origins[i - 1] + _step(made[i - 1], frames[i - 1], "inferior")
        origins[i] = origins[i] - gaps[i - 1] * _mean(frames[i - 1], frames[i]) - _step(made[i], frames[i], "superior")
    wing = rng.uniform(6, 10) if variant in ("sacralised", "four_lumbar") else 0.0
    return [
        Vertebra(origin=o, frame=f, wing=float(wing) if i == first_sacral - 1 else 0.0, **m)
        for i, (m, o, f) in enumerate(zip(made, origins, frames, strict=True))
    ]


def _step(made: dict, frame: np.ndarray, plate: str) -> np.ndarray:
    """From the origin to the middle of a plate; a crushed plate keeps its neighbours at its rim's height."""
    grid = getattr(made["shell"], plate)
    held = made["shell"].polar() < 0.9
    return frame[2] * float(np.mean(grid[held]))


def _mean(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    w = a[2] + b[2]
    return w / np.linalg.norm(w)
