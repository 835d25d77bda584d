"""Painting of everything around the vertebrae: torso layers, organs, discs, canal, swelling, ribs, pelvis, table."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch

from .acquisition import Acquisition
from .canvas import Canvas, Window
from .soft import Capsule
from .thighs import floor_z, with_legs

Tensor = torch.Tensor


class Textures:
    """Two noise cubes in patient space: fine (trabeculae) and coarse (fat streaks, parenchyma), tiled by reflection."""

    def __init__(self, fine: Tensor, coarse: Tensor, fine_mm: float) -> None:
        self._cubes = (fine, coarse)
        self._mm = (fine_mm, 9.0)

    def sample(self, canvas: Canvas) -> Grains:
        """Textures of one canvas, read lazily."""
        return Grains(canvas, self._cubes, self._mm)


class Grains:
    """Reads texture values (mean 0, SD about 1) for windows of a canvas."""

    def __init__(self, canvas: Canvas, cubes, millimetres) -> None:
        self._canvas, self._cubes, self._mm = canvas, cubes, millimetres

    def fine(self, win: Window) -> Tensor:
        """Trabecular texture."""
        return self._read(win, 0)

    def coarse(self, win: Window) -> Tensor:
        """Low-frequency texture."""
        return self._read(win, 1)

    def _read(self, win: Window, which: int) -> Tensor:
        cube, step = self._cubes[which], self._mm[which]
        x, y, z = self._canvas.local(win, np.zeros(3))
        size = torch.broadcast_shapes(x.shape, y.shape, z.shape)
        half = (cube.shape[-1] - 1) / 2 * step
        # Voxels coarser than the grain average it out.
        calm = min(1.0, 1.5 * step / self._canvas.ramp)
        if (x.shape, y.shape, z.shape) == ((1, 1, size[2]), (1, size[1], 1), (size[0], 1, 1)):
            # The grid's axes are the patient's, so one after the other does: a tenth of the time.
            rows, columns, slices = (_reflected(c.flatten() / step, cube.shape[-1]) for c in (y, x, z))
            plane = rows @ (cube[0, 0] @ columns.T)  # depth of the cube, Y, X
            return (slices @ plane.flatten(1)).view(size) * calm
        points = torch.stack([(c / half).expand(size) for c in (x, y, z)], dim=-1)[None]
        return torch.nn.functional.grid_sample(cube, points, padding_mode="reflection", align_corners=True)[0, 0] * calm


def _reflected(steps: Tensor, n: int) -> Tensor:
    """Weights ``[len(steps), n]`` of linear interpolation between n samples about 0, which go on reflected at both ends."""
    index = (steps + (n - 1) / 2).remainder(2 * (n - 1))
    index = torch.minimum(index, 2 * (n - 1) - index)
    return (1 - (index[:, None] - torch.arange(n, device=steps.device)).abs()).clamp(min=0)


def textures(seed: int, acq: Acquisition, device: str) -> Textures:
    """Noise cubes of a case and scan."""
    generator = torch.Generator().manual_seed(seed * 31 + 17)
    fine, coarse = (torch.randn((1, 1, n, n, n), generator=generator).to(device) for n in (48, 32))
    return Textures(fine, coarse, acq.texture_mm)


def _interpolate(z: Tensor, table: tuple[float, ...], z0: float, step: float) -> Tensor:
    values = torch.tensor(table, dtype=torch.float32, device=z.device)
    k = ((z - z0) / step).clamp(0, len(table) - 1.001)
    low = k.floor()
    i = low.long()
    return values[i] + (values[i + 1] - values[i]) * (k - low)


def paint_torso(canvas: Canvas, case, acq: Acquisition, grains: Grains) -> None:
    """Skin, fat, muscle wall, cavity fat, lungs and the table."""
    torso, neck_z, legs = case.torso, case.additions.neck_z, case.additions.legs
    win = canvas.full()
    x, y, z = canvas.local(win, np.zeros(3))
    shape = case.additions.torso or torso
    a, b, cx, cy = (
        _interpolate(z, t, torso.z0, torso.step)
        for t in (shape.half_width, shape.half_depth, shape.centre_x, shape.centre_y)
    )
    fat = torso.fat_mm if neck_z is None else torso.fat_mm * (1 - 0.7 * ((z - neck_z) / 60).clamp(0, 1))
    if torso.table_gap is not None:
        back = float(max(np.add(torso.centre_y, torso.half_depth))) + torso.table_gap
        px, py = x - float(np.mean(torso.centre_x)), y - back
        slab = torch.maximum((py - 17).abs() - 15, px.abs() - 215)
        canvas.paint(win, canvas.cover(slab), acq.hu("table_shell"))
        canvas.paint(win, canvas.cover(slab + 2.5), acq.hu("table"))
    px, py = x - cx, y - cy

    def outline(shrink: Tensor | float, shift: float = 0.0, squash: float = 1.0) -> Tensor:
        qx2 = (px / (a - shrink)) ** 2
        qy2 = ((py + shift) / (b * squash - shrink)) ** 2
        r = torch.sqrt(qx2 + qy2 - torso.square * 0.5 * qx2.clamp(max=1) * qy2.clamp(max=1))
        return (r - 1) * (b - shrink)

    point = x, y, z
    skin = with_legs(outline(0.0), legs, point, 0.0)
    if float(skin.max()) > -torso.fat_mm - torso.wall_mm - 40:
        canvas.paint(win, canvas.cover(skin), acq.hu("skin"))
        canvas.paint(win, canvas.cover(skin + 2), acq.hu("fat"))
    wall = with_legs(outline(fat), legs, point, fat)
    canvas.clip = canvas.cover(wall - 1.5)
    streak = (grains.coarse(win) * 0.5 + torso.streaks - 0.45).clamp_(0, 1) * (0.25 + 0.75 * (py > 0.2 * b))
    muscle = acq.hu("muscle") + (acq.hu("fat") - acq.hu("muscle")) * streak
    canvas.paint(win, canvas.cover(wall), muscle)
    shift = torso.cavity_shift
    cavity = outline(fat + torso.wall_mm, shift * 0.5, 1.0 - shift * 0.5 / max(torso.half_depth_max, 1))
    if legs is not None:  # the pelvic floor
        cavity = torch.maximum(cavity, floor_z(legs, y) + torso.fat_mm + torso.wall_mm - z)
    canvas.paint(win, canvas.cover(cavity), acq.hu("fat"))
    spine = case.find("T10").origin_mm
    dome = torso.lung_z + 55 - ((x - cx).abs() / 75 - 0.9) ** 2 * 35 - ((y - float(spine[1]) + 60) / 60) ** 2 * 32 - z
    lungs = torch.maximum(outline(fat + torso.wall_mm + 6), dome)
    if neck_z is not None:  # apices, a little above T1
        lungs = torch.maximum(lungs, z - neck_z - 12 + ((x - cx).abs() / 45 - 1) ** 2 * 20)
    if float(lungs.min()) < canvas.ramp:
        mediastinum = (
            38
            - torch.sqrt((x - float(spine[0])) ** 2 + ((y - float(spine[1]) + 55).clamp(max=0) * 0.25) ** 2)
            + (y - float(spine[1])).clamp(-40, 0) * 0.2
        )
        lungs = torch.maximum(lungs, mediastinum)
        canvas.paint(win, canvas.cover(lungs), acq.hu("lung"))


def paint_organs(canvas: Canvas, case, acq: Acquisition) -> None:
    """Organs, muscles and vessels in order."""
    for part in (*case.scene.soft, *case.additions.soft):
        win = canvas.window(*canvas.bounds(part))
        if win is None:
            continue
        d = canvas.distance(win, part)
        value = acq.hu(part.tissue)
        if part.rim is not None:
            value = acq.hu(part.rim) + (value - acq.hu(part.rim)) * canvas.cover(d + part.rim_mm)
        canvas.paint(win, canvas.cover(d) * canvas.clip[win], value)


def paint_joints(canvas: Canvas, case, acq: Acquisition) -> None:
    """Swelling, discs and the thecal sac: the soft tissue that belongs to the spine."""
    for vertebra in case.vertebrae:
        if vertebra.body.damage.swelling > 0:
            _swelling(canvas, vertebra, acq)
    discs = (*case.neck_discs, *case.discs)
    for (vacuum, height), upper, lower in zip(discs, case.column, case.column[1:], strict=False):
        _disc(canvas, upper, lower, vacuum, height, acq)
    for upper, lower in pairwise(case.column):
        ends = [
            np.asarray(v.origin_mm) + np.asarray(v.frame[1]) * (v.body.half_depth + v.arch.canal_d / 2)
            for v in (upper, lower)
        ]
        epidural, sac = (
            Capsule(t, tuple(ends[0]), tuple(ends[1]), upper.arch.canal_d * k, lower.arch.canal_d * k)
            for t, k in (("fat", 0.62), ("sac", 0.43))
        )
        for tube in (epidural, sac):
            win = canvas.window(*canvas.bounds(tube))
            if win is not None:
                canvas.paint(win, canvas.cover(canvas.distance(win, tube)), acq.hu(tube.tissue))
        if acq.cord and not upper.level.startswith(("L", "S")):  # its cone ends at the next vertebra below T12
            end = 0.1 if not lower.level.startswith(("C", "T")) else 0.24
            cord = Capsule("sac", sac.a, sac.b, upper.arch.canal_d * 0.24, lower.arch.canal_d * end)
            win = canvas.window(*canvas.bounds(cord))
            if win is not None:
                canvas.paint(win, canvas.cover(canvas.distance(win, cord)), acq.hu("sac") + acq.cord)


def _swelling(canvas: Canvas, vertebra, acq: Acquisition) -> None:
    body, thick = vertebra.body, vertebra.body.damage.swelling
    frame, origin = np.asarray(vertebra.frame), np.asarray(vertebra.origin_mm)
    win = canvas.window(origin, np.array([body.half_width + thick + 3, body.half_depth + thick + 3, body.r0 + 6]), frame)
    if win is None:
        return
    u, v, w = canvas.local(win, origin, frame)
    r = torch.sqrt((u / (body.half_width + thick)) ** 2 + (v / (body.half_depth + thick)) ** 2 + 0.35 * (w / body.r0) ** 4)
    canvas.paint(win, canvas.cover((r - 1) * body.half_depth), acq.hu("swelling"))


def _disc(canvas: Canvas, upper, lower, vacuum: float, height: float, acq: Acquisition) -> None:
    """A lens reaching into both bodies, which are painted over it; gas for a vacuum phenomenon."""
    low_top = np.asarray(lower.origin_mm) + np.asarray(lower.frame[2]) * lower.body.r0
    high_bottom = np.asarray(upper.origin_mm) - np.asarray(upper.frame[2]) * upper.body.r0
    origin = (low_top + high_bottom) / 2
    w = np.asarray(upper.frame[2]) + np.asarray(lower.frame[2])
    w /= np.linalg.norm(w)
    u = np.asarray(upper.frame[0])
    u = u - w * (u @ w)
    u /= np.linalg.norm(u)
    frame = np.stack([u, np.cross(w, u), w])
    a = (upper.body.half_width * (1 - upper.body.taper_w) + lower.body.half_width * (1 + lower.body.taper_w)) / 2 * 1.02
    b = (upper.body.half_depth * (1 - upper.body.taper_d) + lower.body.half_depth * (1 + lower.body.taper_d)) / 2 * 1.03
    drops = [p for p in (upper.body.damage.inferior, lower.body.damage.superior) if p is not None]
    deepest = max((p.amount for p in drops), default=0.0)
    reach = height / 2 + 3.5 + max(upper.body.r0, lower.body.r0) * 0.3 + deepest
    if upper.level.startswith("S"):
        reach = height / 2 + 1.5
    win = canvas.window(origin, np.array([a, b, reach]) + 2, frame)
    if win is None:
        return
    x, y, z = canvas.local(win, origin, frame)
    r = torch.sqrt((x / a) ** 2 + (y / b) ** 2 + 0.0 * z)
    foot = (r - 1) * b + (z.abs() - height / 2 - 1).clamp(
        min=0
    ) * 0.45  # narrower where it reaches into the waist of the bodies
    flat = z.abs() - min(reach, height * 0.9 + 4 + deepest)
    canvas.paint(win, canvas.cover(torch.maximum(foot, flat)), acq.hu("disc"))
    if vacuum > 0:
        gas = torch.sqrt((x / (0.6 * a)) ** 2 + ((y + 0.1 * b) / (0.55 * b)) ** 2 + (z / max(1.0, height * 0.3)) ** 2) - 1
        canvas.paint(win, canvas.cover(gas * max(1.0, height * 0.3)), acq.hu("vacuum") * (0.4 + vacuum))


def paint_bones(canvas: Canvas, case, acq: Acquisition, grains: Grains) -> None:
    """Ribs, pelvis and femora: unions of parts with one cortical shell."""
    for group in (*case.scene.bones, *case.additions.bones):
        boxes = [canvas.window(*canvas.bounds(part)) for part in group.parts]
        kept = [(part, box) for part, box in zip(group.parts, boxes, strict=False) if box is not None]
        if not kept:
            continue
        union = tuple(slice(min(b[k].start for _, b in kept), max(b[k].stop for _, b in kept)) for k in range(3))
        field = torch.full(tuple(s.stop - s.start for s in union), 50.0, dtype=torch.float32, device=canvas.device)
        for part, box in kept:
            inner = tuple(slice(s.start - t.start, s.stop - t.start) for s, t in zip(box, union, strict=False))
            field[inner] = torch.minimum(field[inner], canvas.distance(box, part))
        hard = acq.hu("arch")
        value = hard + (acq.hu("spongy") - hard) * canvas.cover(field + group.rim_mm * max(acq.shell, 0.3))
        canvas.paint(union, canvas.cover(field), value)
