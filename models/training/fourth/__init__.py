"""A fourth painter of single vertebrae, for training only: crops in the format of `cases.py`, numpy and scipy alone.

Written from published anatomy and radiology by an author who had read none of the other generators, so that what the
vertebra stage learns is not one painter's bone. It dwells on what is mistaken for a fracture: front walls that look buckled
at full height, evenly hollow plates, healed deformities without a proof of age, and cement in whole, healed and broken
bodies alike. `crops(seed, count)` paints; `kinds(seed, count)` names what each crop shows without painting it.
"""

from .anatomy import LEVELS
from .crop import crops, kinds
from .plan import MIMICS

__all__ = ["LEVELS", "MIMICS", "crops", "kinds"]
