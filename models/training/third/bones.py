"""Discs, bodies and arches, painted from the lowest level up; an arch keeps clear of bone that is there already."""

from __future__ import annotations

import numpy as np

from .bodies import Body, Distances, at_cells, at_plate
from .canvas import Box, Canvas, empty, inside, union
from .patient import Patient, Tissue
from .shapes import Frame, Points, capsule, smooth_max, smooth_min, smoothstep
from .spine import LEVELS, TYPICAL, Spine, Typical, below

JOINT = 1.1  # mm of gap between bones of different levels
OVERLAP = 1.5  # mm that a disc reaches into the plates, which are painted over it
CARTILAGE = 60.0  # HU of a facet joint


def paint_discs(canvas: Canvas, spine: Spine) -> None:
    """Fill the room between the plates of two levels, down to the floor of a depressed one."""
    for level, disc in spine.discs.items():
        upper, lower, frame = spine.bodies[level], spine.bodies[below(level)], spine.disc_frames[level]
        width = (upper.size.lower_width + lower.size.upper_width) / 2
        depth = (upper.size.lower_depth + lower.size.upper_depth) / 2
        pocket = max(float(upper.inferior.sunk.max()), float(lower.superior.sunk.max()))
        box = canvas.box(frame.origin, (width / 2 + 10, depth / 2 + 14, disc.height / 2 + pocket + 16))
        if empty(box):
            continue
        points = canvas.points(box, frame)
        ring = np.abs(points[0] / (width / 2)) ** 2.4 + np.abs(points[1] / (depth / 2)) ** 2.4
        index, near = canvas.chosen(box, (ring < 1.3) & (np.abs(points[2]) < disc.height / 2 + pocket + 9), frame)
        ring = ring[index]
        room = np.maximum(
            _above(lower, spine.frames[below(level)], frame, near), _under(upper, spine.frames[level], frame, near)
        )
        distance = np.maximum((ring ** (1 / 2.4) - 1.02) * depth / 2, room - OVERLAP)
        hu = 92 - 22 * np.exp(-1.3 * ring) + 5 * canvas.texture(near)
        if disc.vacuum:
            gas = (near[0] / (0.3 * width)) ** 2 + ((near[1] - 2) / (0.28 * depth)) ** 2
            gas = np.sqrt(gas + ((near[2] + 0.4 * np.sin(0.4 * near[0])) / 1.3) ** 2)
            hu -= 650 * smoothstep(1.5 - gas)
        canvas.hu[box][index] += canvas.coverage(distance) * (hu - canvas.hu[box][index])


def _above(body: Body, frame: Frame, of: Frame, points: Points) -> np.ndarray:
    """Distance to the room above a body's superior plate; negative in it."""
    local = frame.to_local(of.to_patient(points))
    return at_plate(body.surfaces()[0], local) - local[2]


def _under(body: Body, frame: Frame, of: Frame, points: Points) -> np.ndarray:
    """Distance to the room under a body's inferior plate; negative in it."""
    local = frame.to_local(of.to_patient(points))
    return local[2] - at_plate(body.surfaces()[1], local)


def paint_vertebrae(canvas: Canvas, patient: Patient) -> None:
    """Paint and label the bodies and arches of all levels above the sacrum."""
    for level in reversed(LEVELS[:-1]):
        paint_vertebra(canvas, patient, level)


def paint_vertebra(canvas: Canvas, patient: Patient, level: str) -> None:
    """One body with its arch."""
    spine, tissue = patient.spine, patient.tissue
    body, frame = spine.bodies[level], spine.frames[level]
    near = body_box(canvas, body, frame)
    reach = (max(30.0, TYPICAL[level].transverse / 2 * spine.scale + 5), 56.0, 44.0)
    box = union(canvas.box(frame.at(back=34), reach), near)
    if empty(box) or empty(near):
        return
    others = canvas.bone[box].astype(np.float32)
    arch = canvas.smooth_distance(box, frame, lambda points: arch_distance(body, level, spine.scale, points))
    arch = np.maximum(arch, JOINT - others)
    canvas.hu[box][(others > 0) & (others < JOINT) & (arch > -0.2) & (arch < 1.6)] = CARTILAGE
    surface = paint_body(canvas, tissue, body, frame)
    own = np.full(arch.shape, 20.0, np.float32)
    own[inside(box, near)] = surface
    index, points = canvas.chosen(box, (arch < 2) & (own > -4), frame)
    _paint_arch(canvas.hu[box], canvas, tissue, index, points, arch[index], own[index])
    number = 1 + LEVELS.index(level)
    canvas.mark(near, surface, number, body=True)
    canvas.mark(box, arch, number)
    canvas.bone[box] = np.minimum(others, np.minimum(arch, own))


def body_box(canvas: Canvas, body: Body, frame: Frame) -> Box:
    """The box around a body with its rims."""
    return canvas.box(frame.origin, (body.size.width / 2 + 10, body.size.depth / 2 + 10, 27.0))


def paint_body(canvas: Canvas, tissue: Tissue, body: Body, frame: Frame) -> np.ndarray:
    """Paint a body; its distance (mm) over its box."""
    box = body_box(canvas, body, frame)
    surface = body.distances(canvas.points(box, frame)).surface
    index, points = canvas.chosen(box, surface < 1.5, frame)
    distances = body.distances(points)
    hu = body_hu(canvas, tissue, body, points, distances)
    canvas.hu[box][index] += canvas.coverage(distances.surface) * (hu - canvas.hu[box][index])
    return surface


def body_hu(canvas: Canvas, tissue: Tissue, body: Body, points: Points, distances: Distances) -> np.ndarray:
    """HU inside a body: trabeculae with the basivertebral vein, what a fracture has impacted, and the shell around them."""
    grain, marrow = canvas.texture(points), tissue.marrow + body.marrow
    _, wall, below_superior, above_inferior, on_wall = distances
    nearest = np.minimum(below_superior, above_inferior)
    hu = marrow + (14 + 0.16 * marrow) * grain + 45 * np.exp(-nearest / 2.5)
    half = body.size.depth / 2
    vein = np.exp(-((points[0] / 7) ** 2) - ((points[1] - 0.75 * half) / 8) ** 2 - (points[2] / 3.2) ** 2)
    hu -= 0.6 * (marrow + 40) * vein
    sides = ((body.superior, below_superior), (body.inferior, above_inferior))
    if body.band:
        for plate, away in sides:
            if plate.dense.any():
                impacted = np.exp(-(((away - body.band.distance) / body.band.width) ** 2)) * (1 + 0.22 * grain)
                hu += body.band.hu * at_plate(plate.dense, points) * impacted
    if body.oblique:
        line, front = body.oblique, points[1] + half
        away = points[2] - line.step * sum(body.edges()) / 4 - line.slope * front
        forward = smoothstep((line.depth - front / (2 * half)) / 0.2 + 0.5)
        hu += line.hu * np.exp(-((away / line.width) ** 2)) * forward * (1 + 0.25 * grain)
    if body.healed:
        hu += 70 * np.exp(-nearest / 5)
    shell = _layer(canvas, -wall, tissue.shell) * at_cells(body.whole, on_wall)
    for plate, away in sides:
        bone = _layer(canvas, away, 1.15 * tissue.shell * at_plate(plate.thick, points))
        shell = np.maximum(shell, bone * at_plate(plate.whole, points))
    return hu + shell * (tissue.cortex - hu)


def _layer(canvas: Canvas, depth: np.ndarray, thickness: np.ndarray | float) -> np.ndarray:
    """How much of a voxel is the layer down to `thickness` mm below a surface, 0..1."""
    edge = canvas.soft_edge
    return smoothstep((depth + edge * 0.6) / edge) * smoothstep((thickness - depth) / edge + 0.6)


def cortical_hu(
    canvas: Canvas, tissue: Tissue, distance: np.ndarray, points: Points, shell: float = 1.3, core: float | None = None
) -> np.ndarray:
    """HU of other bones: a cortex of `shell` mm around a core."""
    core = tissue.marrow * 1.1 + 60 if core is None else core
    hu = core + 30 * canvas.texture(points)
    return hu + smoothstep((shell + distance) / canvas.soft_edge + 0.6) * (0.95 * tissue.cortex - hu)


def _paint_arch(
    hu: np.ndarray, canvas: Canvas, tissue: Tissue, index: tuple[np.ndarray, ...], points: Points, arch: np.ndarray,
    own: np.ndarray,
) -> None:
    """Paint an arch into the HU of its box; where a pedicle enters the body (`own` distance) its cortex gives way."""
    bone = cortical_hu(canvas, tissue, arch, points)
    pedicle = smoothstep(-arch / 1.6) * smoothstep((5 - np.abs(own)) / 2) * (points[1] > 0)
    bone += pedicle * (tissue.marrow + 70 - bone)
    share = canvas.coverage(arch) * np.where(own < 0, smoothstep(-arch / 1.5) * smoothstep((4 + own) / 2), 1)
    hu[index] += share * (bone - hu[index])


def arch_distance(body: Body, level: str, scale: float, points: Points) -> np.ndarray:
    """Distance to pedicles, laminae, processes and facets in the body's frame, less the canal."""
    typical, thoracic = TYPICAL[level], level.startswith("T")  # thoracic facets lie in the coronal plane
    half, rear = scale * typical.canal_width / 2, body.size.depth / 2 * 0.93
    canal = scale * typical.canal_depth
    height, middle = body.size.height, rear + canal / 2
    sides = [_half_arch(side, half, rear, canal, height, thoracic, typical, scale, points) for side in (-1, 1)]
    tip = -(0.75 if thoracic else 0.5) * height
    root = (0, middle + canal / 2 + 3, -0.25 * height)
    spinous = capsule(
        points, root, (0, middle + canal / 2 + scale * typical.spinous, tip), 2.6, 3.2, (1, 1, 0.5 if thoracic else 0.28)
    )
    arch = smooth_min(np.minimum(*sides), spinous, 3)
    hollow = np.sqrt((points[0] / half) ** 2 + ((points[1] - middle) / (canal / 2 + 0.6)) ** 2)
    return smooth_max(arch, (1 - hollow) * canal / 2, 1.2)


def _half_arch(
    side: int, half: float, rear: float, canal: float, height: float, thoracic: bool, typical: Typical, scale: float,
    points: Points,
) -> np.ndarray:
    """One side: pedicle, lamina, transverse process, superior and inferior articular process."""
    middle, width, tall = rear + canal / 2, scale * typical.pedicle_width, scale * typical.pedicle_height
    tip, x = scale * typical.transverse / 2, side * half
    axis = x + side * (width / 2 - 0.5)
    pedicle = capsule(
        points, (axis * 0.97, rear - 4, 0.17 * height), (axis, middle + 1, 0.14 * height),
        width / 2, width / 2, (1, 1, width / tall),
    )
    lamina = capsule(
        points, (x + side * 2.5, middle + 2, -0.02 * height), (side * 3, middle + canal / 2 + 4, -0.3 * height),
        3.3, 3.3, (1, 1, 0.36),
    )
    if thoracic:
        transverse = capsule(
            points, (x + side * 4, middle + 2, 0.15 * height), (side * tip, middle + 12, 0.25 * height), 4.6, 4.2
        )
    else:
        transverse = capsule(
            points, (x + side * width * 0.6, rear + 6, 0.12 * height), (side * tip, rear + 12, 0.18 * height),
            4.2, 2.6, (1, 1, 0.75),
        )
    facet_x, facet_y, flat = (2, 5, 1.5) if thoracic else (5, 4.5, 1.15)
    superior = capsule(
        points, (x + side * 3.5, middle + 3, 0.12 * height), (x + side * facet_x, middle + facet_y, 0.5 * height + 7),
        4.6, 3.8, (1, flat, 1),
    )
    back = middle + canal / 2
    inferior = capsule(
        points, (x - side, back + 1, -0.25 * height), (x - side * (3 if thoracic else 1), back + 3, -0.5 * height - 13),
        4.6, 3.9, (1, 1.1, 1),
    )
    arch = smooth_min(smooth_min(pedicle, lamina, 3), transverse, 3)
    return smooth_min(smooth_min(arch, superior, 2.5), inferior, 2.5)
