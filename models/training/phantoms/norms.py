"""Mean adult morphometry per level (mm) and level names.

Sources: T11-S1 rows are the project's phantom means (clinical reference 3.2, Panjabi-type values, CT-like heights);
T1-T10 continue them upwards with Panjabi 1991 values scaled to the same posterior height at T11, S2-S5 are engineering
choices that make a tapering sacrum. C3-C7 are Panjabi-type values recalled, unverified, bodies widened by their uncinate
processes. Female x 0.95, male x 1.05, SD about 7 %.
"""

from dataclasses import dataclass

LEVELS = tuple(f"T{i}" for i in range(1, 13)) + tuple(f"L{i}" for i in range(1, 6)) + tuple(f"S{i}" for i in range(1, 6))

#: Cervical levels above them, cranial first: only patients that have a neck (`neck.py`) have these.
NECK = tuple(f"C{i}" for i in range(3, 8))

#: Classes of the label stage, in order (models/README.md).
LABELS = ("background", "above", "T11", "T12", "L1", "L2", "L3", "L4", "L5", "S1", "below")


@dataclass(frozen=True)
class LevelNorm:
    """Means of one level in mm; `lordosis` in degrees is the angle of this frame against the next caudal one (extension
    > 0).
    """

    ha: float
    hm: float
    hp: float
    sup_w: float
    sup_d: float
    inf_w: float
    inf_d: float
    ped_w: float
    ped_h: float
    canal_w: float
    canal_d: float
    tp_span: float
    sp_len: float
    sp_slope: float
    disc_a: float
    disc_p: float
    lordosis: float


_ROWS = {
    #      Ha    Hm    Hp    supW  supD  infW  infD  pedW  pedH  canW  canD  TP   SP  slope discA discP lordosis
    "C3": (13.0, 12.6, 12.8, 17.5, 15.0, 18.5, 15.6, 5.6, 7.4, 22.9, 16.2, 50, 13, 0.35, 5.0, 3.5, 4.0),
    "C4": (12.8, 12.3, 12.6, 18.5, 15.3, 19.0, 15.9, 5.4, 7.4, 24.7, 16.8, 49, 13, 0.35, 5.0, 3.5, 4.0),
    "C5": (12.6, 12.1, 12.5, 19.5, 15.2, 21.0, 16.8, 5.6, 7.0, 24.9, 16.6, 48, 15, 0.35, 5.2, 3.6, 3.5),
    "C6": (12.8, 12.3, 12.6, 21.0, 16.2, 23.5, 17.6, 6.0, 7.3, 25.8, 16.6, 54, 22, 0.35, 5.4, 3.8, 3.0),
    "C7": (13.6, 13.3, 14.2, 23.5, 17.0, 25.5, 17.2, 7.0, 7.8, 24.5, 15.8, 65, 31, 0.35, 5.2, 3.8, 1.0),
    "T1": (14.6, 14.6, 15.5, 25.0, 17.5, 28.0, 18.0, 8.5, 9.6, 21.8, 16.4, 75, 36, 0.45, 4.0, 3.8, -3.0),
    "T2": (15.8, 15.8, 16.8, 25.5, 18.5, 28.5, 19.5, 8.0, 11.0, 19.5, 15.5, 70, 36, 0.55, 4.0, 3.8, -4.0),
    "T3": (16.0, 16.0, 17.0, 25.5, 20.0, 28.5, 21.0, 6.8, 11.5, 18.3, 15.9, 64, 36, 0.70, 3.8, 3.6, -4.5),
    "T4": (16.4, 16.4, 17.4, 25.8, 22.0, 29.0, 23.0, 6.3, 11.8, 17.2, 16.2, 62, 37, 0.85, 3.8, 3.6, -4.5),
    "T5": (16.8, 16.7, 17.8, 26.5, 23.5, 29.5, 24.5, 6.0, 11.9, 17.2, 16.2, 62, 38, 1.00, 3.8, 3.6, -5.0),
    "T6": (17.6, 17.5, 18.8, 27.5, 25.0, 30.5, 26.0, 6.0, 12.2, 17.2, 16.2, 62, 38, 1.10, 4.0, 3.7, -5.0),
    "T7": (18.3, 18.2, 19.6, 28.5, 26.5, 31.5, 27.5, 6.2, 12.3, 17.3, 16.2, 62, 38, 1.10, 4.2, 3.9, -4.5),
    "T8": (18.9, 18.8, 20.2, 30.0, 28.0, 33.0, 29.0, 6.8, 12.7, 17.7, 15.9, 62, 37, 1.00, 4.4, 4.0, -4.0),
    "T9": (19.5, 19.4, 20.9, 31.5, 29.5, 35.0, 30.5, 7.6, 14.0, 17.9, 15.7, 61, 34, 0.80, 4.8, 4.2, -3.5),
    "T10": (20.5, 20.3, 22.0, 33.0, 31.0, 37.0, 31.8, 8.6, 15.0, 18.2, 15.6, 57, 31, 0.60, 5.2, 4.5, -3.0),
    "T11": (21.5, 21.3, 23.0, 35.0, 32.0, 39.0, 32.5, 9.0, 16.5, 19.4, 16.1, 52, 28, 0.40, 6.0, 5.0, -3.0),
    "T12": (23.5, 23.2, 25.0, 39.0, 32.8, 42.0, 33.5, 8.3, 16.5, 22.2, 18.1, 47, 27, 0.25, 7.5, 5.5, -1.0),
    "L1": (25.0, 24.5, 26.3, 41.2, 34.1, 43.3, 35.3, 8.6, 15.9, 23.7, 19.0, 73, 29, 0.18, 9.5, 7.0, 1.0),
    "L2": (26.2, 25.4, 26.8, 42.6, 34.6, 45.5, 34.9, 8.6, 15.0, 23.8, 18.2, 83, 32, 0.18, 11.0, 7.5, 5.0),
    "L3": (27.0, 25.9, 26.9, 44.1, 35.2, 48.0, 34.8, 10.2, 14.4, 24.3, 17.5, 92, 33, 0.18, 12.5, 8.0, 8.0),
    "L4": (27.3, 25.9, 26.3, 46.6, 35.5, 49.5, 33.9, 13.0, 15.0, 25.4, 18.0, 90, 30, 0.18, 14.0, 8.5, 11.0),
    "L5": (29.5, 26.2, 25.8, 47.3, 35.5, 49.4, 35.0, 16.1, 15.0, 28.2, 17.0, 94, 24, 0.25, 14.0, 6.5, 18.0),
    "S1": (30.0, 29.0, 25.0, 50.0, 34.0, 38.0, 23.0, 20.0, 18.0, 31.0, 15.0, 110, 10, 0.30, 2.5, 2.0, -12.0),
    "S2": (24.5, 24.0, 22.0, 38.0, 23.0, 30.0, 17.5, 18.0, 15.0, 27.0, 13.0, 92, 9, 0.30, 1.6, 1.4, -16.0),
    "S3": (20.5, 20.0, 19.0, 30.0, 17.5, 25.0, 14.0, 14.0, 12.0, 22.0, 11.0, 74, 8, 0.30, 1.2, 1.2, -20.0),
    "S4": (17.5, 17.0, 16.5, 25.0, 14.0, 21.0, 11.5, 11.0, 10.0, 18.0, 9.0, 54, 6, 0.30, 1.0, 1.0, -16.0),
    "S5": (14.0, 13.5, 13.5, 21.0, 11.5, 15.0, 8.0, 7.0, 7.0, 14.0, 7.0, 36, 4, 0.30, 4.0, 4.0, -14.0),
}

NORMS: dict[str, LevelNorm] = {level: LevelNorm(*row) for level, row in _ROWS.items()}
NORMS["L6"] = NORMS["L5"]
NORMS["T13"] = NORMS["T12"]

#: Supernumerary levels bear the name of the neighbour they resemble: the label stage has no name of their own for them.
_ALIKE = {"L6": "L5", "T13": "T12"}


def sequence(variant: str) -> tuple[str, ...]:
    """Levels of a spine, cranial first: regular, or with T13, L6 or only four lumbar vertebrae."""
    k = {"T13": LEVELS.index("L1"), "L6": LEVELS.index("S1")}.get(variant)
    if k is not None:
        return (*LEVELS[:k], variant, *LEVELS[k:])
    return tuple(level for level in LEVELS if variant != "four_lumbar" or level != "L5")


def label_index(level: str) -> int:
    """Index of a level in LABELS: everything above T11 is `above`, the sacrum below S1 is `below`."""
    level = _ALIKE.get(level, level)
    if level in LABELS:
        return LABELS.index(level)
    return LABELS.index("below") if level.startswith("S") else LABELS.index("above")


def spine_index(level: str) -> int:
    """Place of a level in LEVELS, negative above T1; an extra one shares its neighbour's."""
    if level in NECK:
        return NECK.index(level) - len(NECK)
    return LEVELS.index(_ALIKE.get(level, level))


def count_of(level: str) -> int:
    """The count that names a vertebra: its index in LABELS, continued beyond both ends (T10 = 1, S2 = 10)."""
    return spine_index(level) - LEVELS.index("T11") + LABELS.index("T11")
