"""Stacking of vertebral bodies into a spine: sacral slope, lordosis, kyphosis, scoliosis and the patient's pose (LPS mm)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from .norms import LEVELS, LevelNorm
from .shape import BodyShape, endplates


@dataclass(frozen=True)
class Pose:
    """Angles in degrees: sacral slope, lordosis and kyphosis factors, coronal curve, axial rotation, whole-body tilt,
    mean tilt of the spine.
    """

    sacral_slope: float
    lordosis: float
    kyphosis: float
    curve_amplitude: float
    curve_centre: float
    curve_length: float
    twist: float
    body_yaw: float
    body_roll: float
    body_pitch: float
    lean: float
    origin: tuple[float, float, float]
    jitter: tuple[tuple[float, float, float], ...]

    @staticmethod
    def demo() -> Pose:
        """Straight spine, supine, S1 at z = 0."""
        return Pose(38, 1, 0.8, 0, 0, 10, 0, 0, 0, 0, 5.0, (0.0, 0.0, 0.0), ((0.0, 0.0, 0.0),) * (len(LEVELS) + 1))

    @staticmethod
    def sample(rng: np.random.Generator) -> Pose:
        """Supine CT: sacral slope 38 +- 8 (24-55), lordosis about 43, mostly mild coronal curves, some real scoliosis."""
        amplitude = abs(rng.normal(0, 2.5)) if rng.random() < 0.8 else rng.uniform(5, 22)
        jitter = tuple(tuple(float(x) for x in rng.normal(0, (1.6, 1.0, 0.8))) for _ in range(len(LEVELS) + 1))
        slope = float(np.clip(rng.normal(38, 8), 24, 55))
        lordosis = float(np.clip((slope + rng.normal(5, 6)) / 43, 0.4, 1.5))  # lordosis goes with sacral slope
        return Pose(
            slope,
            lordosis,
            float(np.clip(rng.normal(0.85, 0.28), 0.2, 1.7)),
            float(amplitude * rng.choice([-1, 1])),
            float(rng.uniform(8, 18)),
            float(rng.uniform(7, 14)),
            float(rng.uniform(0.1, 0.7)),
            float(rng.normal(0, 4)),
            float(rng.normal(0, 3)),
            float(rng.normal(0, 3)),
            float(rng.normal(5, 3)),
            (float(rng.normal(0, 15)), float(rng.normal(0, 25)), float(rng.uniform(-700, 100))),
            jitter,
        )


def rotation(pitch: float, roll: float, yaw: float) -> np.ndarray:
    """Frame rows (u, v, w) in LPS.  pitch tips w forward (towards -y), roll tips it to the left (+x), yaw turns about w
    (degrees).
    """
    p, r, t = np.deg2rad([pitch, roll, yaw])
    tip = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    lean = np.array([[np.cos(r), 0, np.sin(r)], [0, 1, 0], [-np.sin(r), 0, np.cos(r)]])
    turn = np.array([[np.cos(t), -np.sin(t), 0], [np.sin(t), np.cos(t), 0], [0, 0, 1]])
    return (tip @ lean @ turn).T


def _plates_at_centre(body: BodyShape) -> tuple[float, float]:
    """Rim heights above and below the origin along the spine, with half of the mean drop of a damaged plate (discs fill
    the rest).
    """
    if body.damage.superior is None and body.damage.inferior is None:
        return body.r0, body.r0
    s = torch.linspace(-0.9, 0.9, 13, dtype=torch.float64)
    plates = endplates(body, torch.zeros_like(s), s)
    up = down = body.r0
    if plates["drop_sup"] is not None:
        up -= 0.6 * float(plates["drop_sup"].mean())
    if plates["drop_inf"] is not None:
        down -= 0.6 * float(plates["drop_inf"].mean())
    return up, down


def wedge_degrees(body: BodyShape) -> float:
    """Kyphosis (degrees) that damage adds: the spine above follows most of the tilt of the damaged plates."""
    if body.damage.superior is None and body.damage.inferior is None:
        return 0.0
    tilt = 0.0
    s = torch.tensor([-0.9, 0.9], dtype=torch.float64)
    plates = endplates(body, torch.zeros_like(s), s)
    for key in ("drop_sup", "drop_inf"):
        if plates[key] is not None:
            front, back = (float(x) for x in plates[key])
            tilt += np.rad2deg(np.arctan((front - back) / (1.8 * body.half_depth)))
    return 0.6 * tilt


def stack(
    bodies: list[BodyShape], norms: list[LevelNorm], disc_mm: list[float], scale: float, pose: Pose, sacrum: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Frames (rows u, v, w) and origins (LPS mm) of all levels, cranial first, built outwards from S1 (index `sacrum`)."""
    count = len(bodies)
    bends = [wedge_degrees(body) for body in bodies]
    pitch = np.zeros(count)
    s1_half_wedge = np.rad2deg(np.arctan(-bodies[sacrum].r1 / bodies[sacrum].half_depth))
    pitch[sacrum] = pose.sacral_slope + s1_half_wedge * 0.5
    for i in range(sacrum - 1, -1, -1):
        angle = norms[i].lordosis * (pose.lordosis if norms[i].lordosis > 0 else pose.kyphosis)
        pitch[i] = pitch[i + 1] - angle + 0.5 * (bends[i] + bends[i + 1]) + pose.jitter[i][0] * 0.6
    for i in range(sacrum, count - 1):
        pitch[i + 1] = pitch[i] + norms[i].lordosis + 0.3 * pose.jitter[i][0]
    index = np.arange(count)
    # A supine spine lies along the table: bring its mean tilt to `lean`, more at the top than at the sacrum.
    excess = float(np.mean(pitch[:sacrum])) - pose.lean
    pitch -= excess * 2 * np.clip(1 - index / sacrum, 0, 1)
    curve = (
        pose.curve_amplitude
        * np.sin((index - pose.curve_centre) * np.pi / pose.curve_length)
        * np.exp(-(((index - pose.curve_centre) / 9.0) ** 2))
    )
    curve = np.where(index >= sacrum, curve[sacrum] * 0.3, curve)
    whole = rotation(pose.body_pitch, pose.body_roll, pose.body_yaw)
    frames = []
    for i in range(count):
        sacral = 0.0 if i >= sacrum else 1.0
        local = rotation(pitch[i], curve[i] + sacral * pose.jitter[i][1], pose.twist * curve[i] + sacral * pose.jitter[i][2])
        frames.append(local @ whole)
    origins = [np.zeros(3) for _ in range(count)]
    origins[sacrum] = np.asarray(pose.origin, dtype=float)
    spans = [_plates_at_centre(body) for body in bodies]
    for i in range(sacrum - 1, -1, -1):
        gap = disc_mm[i] * scale / 2
        joint = origins[i + 1] + frames[i + 1][2] * (spans[i + 1][0] + gap)
        origins[i] = joint + frames[i][2] * (spans[i][1] + gap)
    for i in range(sacrum, count - 1):
        gap = disc_mm[i] * scale / 2
        joint = origins[i] - frames[i][2] * (spans[i][1] + gap)
        origins[i + 1] = joint - frames[i + 1][2] * (spans[i + 1][0] + gap)
    return frames, origins
