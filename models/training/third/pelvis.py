"""Sacrum and both iliac wings. Only the first sacral body with the alae beside it is labelled, as S1."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from .bones import JOINT, body_box, cortical_hu, paint_body
from .canvas import Canvas, empty
from .patient import Patient
from .shapes import Frame, Points, capsule, ellipsoid, smooth_max, smooth_min, smoothstep
from .spine import LEVELS, Segment, Spine

ILIUM_GAP = 1.6  # mm of the sacroiliac joint
FORAMINA = ((-2, 21), (-26, 18), (-47, 15))  # mm below the lower plate of S1, and beside the middle


def paint_sacrum(canvas: Canvas, patient: Patient) -> None:
    """Paint the sacrum below and beside S1, then its first body, and label S1."""
    spine, tissue = patient.spine, patient.tissue
    body, frame = spine.bodies["S1"], spine.frames["S1"]
    box = canvas.box(frame.origin + np.array([0, 20, -42.0]), (70.0, 80.0, 80.0))
    distance = canvas.smooth_distance(box, frame, lambda points: sacrum_distance(spine, points), 1.5)
    distance = np.maximum(distance, JOINT - canvas.bone[box].astype(np.float32))
    index, points = canvas.chosen(box, distance < 2, frame)
    hu = canvas.hu[box]
    bone = cortical_hu(canvas, tissue, distance[index], points, 1.0, tissue.marrow * 0.8 + 20)
    hu[index] += canvas.coverage(distance[index]) * (bone - hu[index])
    for n, segment in enumerate(spine.sacral[:3]):  # what is left of the sacral discs
        _, local = canvas.chosen(box, distance < 2, segment.frame)
        rest = np.exp(-(((local[2] - segment.height / 2 - 0.8) / (1.6 - 0.4 * n)) ** 2))
        rest *= np.hypot(local[0] / segment.width, local[1] / segment.depth) < 0.38
        hu[index] += 0.7 * rest * (90 - hu[index])
    near = body_box(canvas, body, frame)
    surface = paint_body(canvas, tissue, body, frame)
    # the alae grow out of the body: no wall between them
    index, points = canvas.chosen(box, distance < -2, frame)
    beside = (np.abs(points[0]) > 14) & (np.abs(points[0]) < 34) & (points[1] > -10)
    index, points = tuple(i[beside] for i in index), [p[beside] for p in points]
    hu[index] = np.minimum(hu[index], tissue.marrow * 0.9 + 60 + 30 * canvas.texture(points))
    number = 1 + LEVELS.index("S1")
    canvas.mark(near, surface, number, body=True)
    local = canvas.points(box, frame)
    lower = -body.size.height / 2 - 0.05 * np.abs(local[0]) - local[2]
    canvas.mark(box, np.maximum(distance, lower), number)
    canvas.bone[box] = np.minimum(canvas.bone[box], distance)
    canvas.bone[near] = np.minimum(canvas.bone[near], surface)


def sacrum_distance(spine: Spine, points: Points) -> np.ndarray:
    """Distance to the sacrum in the frame of S1, less canal and foramina."""
    scale, body, frame = spine.scale, spine.bodies["S1"], spine.frames["S1"]
    half, rear = body.size.height / 2, body.size.depth / 2
    rest = np.minimum(_ala(-1, scale, points), _ala(1, scale, points))
    placed = frame.to_patient(points)
    solid = None
    for segment in spine.sacral:
        local = segment.frame.to_local(placed)
        middle, rest = _segment(segment, scale, local, rest)
        solid = middle if solid is None else np.minimum(solid, middle)
    crest = capsule(points, (0, rear + 20, -4), (0, rear + 30, -10), 3, 3, (1, 1, 0.5))
    for side in (-1, 1):
        lamina = capsule(points, (side * 21, rear + 6, -3), (0, rear + 20, -8), 3.4, 3.2, (1, 1, 0.4))
        facet = capsule(points, (side * 20, rear + 6, -4), (side * 21, rear + 10, half + 6), 5, 4.2)
        rest = smooth_min(np.minimum(rest, lamina), facet, 2.5)
    whole = smooth_min(solid, np.minimum(rest, crest), 2)
    canal = (np.hypot(points[0] / 15, (points[1] - rear - 9 + 0.12 * (points[2] + 10)) / 8) - 1) * 8
    whole = smooth_max(whole, -np.maximum(canal, -points[2] - 85), 1.5)
    for down, across in FORAMINA:
        for side in (-1, 1):
            hole = np.hypot(points[0] - side * across * scale, (points[2] + half - down) * 1.1) - 4.6
            whole = smooth_max(whole, -hole, 2)
    return whole


def _ala(side: int, scale: float, points: Points) -> np.ndarray:
    """One wing of the sacrum, down to its tip."""
    k, s = scale, side * scale
    wing = ellipsoid(points, (32 * s, 3 * k, -3), (23 * k, 14 * k, 16 * k))
    wing = smooth_min(wing, capsule(points, (side * 14, 6, -6), (45 * s, 7, -8), 11 * k, 12 * k), 5)
    wing = smooth_min(wing, capsule(points, (40 * s, 8, -12), (30 * s, 12, -52), 11 * k, 9 * k), 6)
    return smooth_min(wing, capsule(points, (28 * s, 12, -50), (16 * s, 6, -80), 8 * k, 5 * k), 6)


def _segment(segment: Segment, scale: float, local: Points, rest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The body of a lower segment, and the rest of the sacrum with its lateral mass, lamina and crest."""
    width, depth, radius = segment.width, segment.depth, 7 * scale
    ring = (np.abs(local[0] / (width / 2)) ** 2.3 + np.abs(local[1] / (depth / 2)) ** 2.3) ** (1 / 2.3)
    middle = smooth_max((ring - 1) * depth / 2, np.abs(local[2]) - segment.height / 2, 1.5)
    lateral = capsule(local, (-width / 2, depth * 0.1, 0), (width / 2, depth * 0.1, 0), radius, radius, (1, 1, 0.8))
    back = depth / 2 + 13
    lamina = capsule(local, (-0.45 * width, back, 0), (0.45 * width, back, 0), 3, 3, (1, 1, 0.35))
    crest = capsule(local, (0, back + 2, 3), (0, back + 9, -3), 3, 3)
    return middle, np.minimum(smooth_min(rest, lateral, 3), np.minimum(lamina, crest))


def paint_ilium(canvas: Canvas, patient: Patient) -> None:
    """Both iliac wings: thick bent sheets, as the distance to points sampled on them."""
    scale, origin = patient.spine.scale, patient.spine.frames["S1"].origin
    frame = Frame(origin, np.eye(3))
    for side in (-1, 1):
        box = canvas.box(origin + np.array([side * 92.0, 0, -15]), (62.0, 85.0, 80.0))
        if empty(box):
            continue
        sheet, half = _iliac_sheet(side, scale)
        tree = cKDTree(sheet)

        def distance(points: Points, tree: cKDTree = tree, half: np.ndarray = half) -> np.ndarray:
            grid = np.stack(np.broadcast_arrays(*points), -1)
            away, which = tree.query(grid.reshape(-1, 3), distance_upper_bound=25)
            found = np.isfinite(away)
            out = np.full(len(away), 20.0)
            out[found] = away[found] - half[which[found]]
            return out.reshape(grid.shape[:-1])

        wing = canvas.smooth_distance(box, frame, distance, 2.6)
        wing = np.maximum(wing, ILIUM_GAP - canvas.bone[box].astype(np.float32))
        index, points = canvas.chosen(box, wing < 2, frame)
        bone = cortical_hu(canvas, patient.tissue, wing[index], points, 1.2, patient.tissue.marrow * 0.7)
        hu = canvas.hu[box]
        hu[index] += canvas.coverage(wing[index]) * (bone - hu[index])
        canvas.bone[box] = np.minimum(canvas.bone[box], wing)


def _iliac_sheet(side: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Points (n, 3) mm from S1 on the middle of a wing, back to front and bottom to crest, and its half thickness (n,)."""
    along, up = np.meshgrid(np.linspace(0, 1, 70), np.linspace(0, 1, 60), indexing="ij")
    crest = 8 + 44 * np.sin(np.pi * along**0.8) - 10 * along
    bottom = -78 + 25 * along
    x = 56 + 72 * along**0.9 - 10 * (1 - along) ** 2 + 14 * (up - 0.5) * smoothstep(2 * along) - 3 * np.cos(3 * along)
    y = 58 - 118 * along + 10 * (1 - up) * along
    half = 6 - 2.6 * np.sin(np.pi * np.clip(along, 0.2, 0.9)) + 1.5 * (up > 0.93)
    sheet = np.stack([side * x * scale, y * scale, bottom + (crest - bottom) * up], -1)
    return sheet.reshape(-1, 3), half.ravel()
