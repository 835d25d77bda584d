"""The third generator of phantoms, written by somebody who had seen neither of the other two.

Nothing trains, selects or calibrates on it: its figures say how the reader does on pictures made by a different hand.
So nothing here may import the other generators or be tuned by what the reader makes of it.

Reading order, a module imports only those above it: shapes, bodies, mimics, damage, spine, patient, canvas, tissue,
bones, pelvis, ribs, scanner. Frame everywhere: LPS mm, arrays (z, y, x) with z towards the head.
"""

from .patient import KINDS, Patient, Vertebra, sample_patient
from .scanner import Picture, Scan, choose_scan, scan

__all__ = ["KINDS", "Patient", "Picture", "Scan", "Vertebra", "choose_scan", "sample_patient", "scan"]
