"""A second, frozen CT generator of the thoracolumbar spine. It never trains: it selects checkpoints and is scored on.

It shares no shape, fracture or rendering code with `phantoms` and imports nothing from it: a body here is a polar
Fourier outline between two *height maps*, a fracture is a crush of those maps (or a fold of the wall map), arches are
chains of tapered capsules, soft tissue is painted on a coarse grid, bone texture and noise are filtered random fields.
numpy and scipy only; deterministic by seed; arrays `[z, y, x]`, points LPS mm (x left, y back, z head).

Seeds: 7_000_000+ calibration and choice of checkpoints, 8_000_000+ evaluation.
"""

from .anatomy import Patient, Vertebra, sample_patient
from .paint import Painted, paint
from .scanner import Scan, choose_scan, scan

SELECTION = 7_000_000
EVALUATION = 8_000_000

__all__ = [
    "EVALUATION", "SELECTION", "Painted", "Patient", "Scan", "Vertebra", "choose_scan", "paint", "sample_patient", "scan",
]
