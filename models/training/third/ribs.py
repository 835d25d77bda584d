"""The lowest ribs: chains of short flat rods from the costovertebral joints out, back, round and down."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from .bones import cortical_hu
from .canvas import Canvas, empty
from .patient import Patient
from .shapes import Frame, capsule, smoothstep

ROD = 6.0  # mm
HEAD_GAP = 0.9  # mm between the head of a rib and the vertebra
LENGTHS = {"T11": 175.0, "T10": 230.0, "T9": 240.0}  # mm; that of T12 is the patient's
FREE = ("T12", "T11")  # heads in the middle of the body, not at the disc above
RADIUS, FLAT = 3.6, (1.0, 1.0, 0.66)


def paint_ribs(canvas: Canvas, patient: Patient) -> None:
    """Paint the ribs of T9 to T12 on both sides."""
    patient_frame = Frame(np.zeros(3), np.eye(3))
    for level in ("T12", *LENGTHS):
        for side in (-1, 1):
            line = rib_line(patient, level, side)
            for n, (start, end) in enumerate(pairwise(line)):
                box = canvas.box((start + end) / 2, (8.0, 8.0, 9.5))
                if empty(box):
                    continue
                points = canvas.points(box, patient_frame)
                distance = capsule(points, start, end, RADIUS, RADIUS, FLAT)
                if n < 3:
                    distance = np.maximum(distance, HEAD_GAP - canvas.bone[box].astype(np.float32))
                bone = cortical_hu(canvas, patient.tissue, distance, points, 0.9)
                canvas.hu[box] += canvas.coverage(distance) * (bone - canvas.hu[box])


def rib_line(patient: Patient, level: str, side: int) -> np.ndarray:
    """The middle of a rib, LPS mm (n, 3), from its head."""
    body, frame = patient.spine.bodies[level], patient.spine.frames[level]
    length, bend = (patient.tissue.last_rib, 60) if level == "T12" else (LENGTHS[level], 142)
    up = (0.05 if level in FREE else 0.38) * body.size.height + 1
    line = [frame.at(side * (body.size.width / 2 + 1.5), 0.72 * body.size.depth / 2, up)]
    for n in range(int(length / ROD)):
        angle = np.radians(22 - bend * smoothstep((n * ROD - 10) / 150))
        step = np.array([side * np.cos(angle), np.sin(angle), -(0.12 + 0.42 * smoothstep(n / 12))])
        line.append(line[-1] + ROD * step / 1.1)
    return np.array(line)
