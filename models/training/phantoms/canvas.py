"""Windows of a grid and soft painting of distances onto it."""

from __future__ import annotations

import numpy as np
import torch

from .grids import Grid
from .soft import Capsule, Ellipsoid, Triangle

Tensor = torch.Tensor
Window = tuple[slice, slice, slice]
IDENTITY = np.eye(3)


class Canvas:
    """HU volume on a grid.  `ramp` is the width in mm over which an edge goes from outside to inside (one voxel: anti-
    aliasing).
    """

    def __init__(self, grid: Grid, device: str, background: float) -> None:
        self.grid = grid
        self.device = device
        self.ramp = float(max(0.3, np.prod(grid.spacing) ** (1 / 3)))
        self.hu = torch.full(grid.shape, background, dtype=torch.float32, device=device)
        self.clip = torch.ones((1, 1, 1), device=device).expand(grid.shape)  # organs stay inside: set by the torso
        self._inverse = np.linalg.inv(grid.affine[:3, :3])

    def window(self, centre: np.ndarray, half: np.ndarray, frame: np.ndarray = IDENTITY) -> Window | None:
        """Index box around an oriented box (half sizes in mm along the frame's rows), or None where the grid does not
        reach it.
        """
        middle = self._inverse @ (np.asarray(centre) - self.grid.affine[:3, 3])
        extent = np.abs(self._inverse @ np.asarray(frame).T) @ np.asarray(half, dtype=float) + 1
        low = np.maximum(np.ceil(middle - extent), 0).astype(int)
        high = np.minimum(np.floor(middle + extent) + 1, self.grid.shape).astype(int)
        return None if (high <= low).any() else tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=False))

    def local(self, win: Window, origin: np.ndarray, frame: np.ndarray = IDENTITY) -> tuple[Tensor, Tensor, Tensor]:
        """Coordinates (mm) in a frame, broadcastable over the window: an axis that does not contribute keeps length 1."""
        matrix = np.asarray(frame) @ self.grid.affine[:3, :3]
        offset = np.asarray(frame) @ (self.grid.affine[:3, 3] - np.asarray(origin))
        ramps = [torch.arange(s.start, s.stop, dtype=torch.float32, device=self.device) for s in win]
        shapes = ((-1, 1, 1), (1, -1, 1), (1, 1, -1))
        out = []
        for row in range(3):
            terms = [
                (ramps[axis] * float(matrix[row, axis])).view(shapes[axis])
                for axis in range(3)
                if abs(matrix[row, axis]) > 1e-6
            ]
            total = terms[0] + float(offset[row])
            for term in terms[1:]:
                total = total + term
            out.append(total)
        return tuple(out)

    def full(self) -> Window:
        """The whole grid."""
        return tuple(slice(0, n) for n in self.grid.shape)

    def cover(self, distance: Tensor) -> Tensor:
        """Occupancy 0-1 of a signed distance (negative inside)."""
        return (0.5 - distance / self.ramp).clamp_(0, 1)

    def paint(self, win: Window, cover: Tensor, value: Tensor | float) -> None:
        """Blend a value into the window."""
        view = self.hu[win]
        view += (value - view) * cover

    def bounds(self, part: Ellipsoid | Capsule | Triangle) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Centre, half sizes and frame of a box around a primitive."""
        pad = self.ramp
        if isinstance(part, Ellipsoid):
            return np.asarray(part.centre), np.asarray(part.radii) + pad, np.asarray(part.frame)
        points = np.asarray((part.a, part.b) if isinstance(part, Capsule) else part.p)
        radius = max(part.ra, part.rb) if isinstance(part, Capsule) else part.radius
        return (points.max(0) + points.min(0)) / 2, (points.max(0) - points.min(0)) / 2 + radius + pad, IDENTITY

    def distance(self, win: Window, part: Ellipsoid | Capsule | Triangle) -> Tensor:
        """Signed distance (mm) of a primitive in a window."""
        if isinstance(part, Ellipsoid):
            x, y, z = self.local(win, np.asarray(part.centre), np.asarray(part.frame))
            r = torch.sqrt((x / part.radii[0]) ** 2 + (y / part.radii[1]) ** 2 + (z / part.radii[2]) ** 2)
            return (r - 1) * min(part.radii)
        if isinstance(part, Capsule):
            x, y, z = self.local(win, np.asarray(part.a))
            d = np.asarray(part.b) - np.asarray(part.a)
            h = ((x * float(d[0]) + y * float(d[1]) + z * float(d[2])) / float(d @ d + 1e-9)).clamp_(0, 1)
            return torch.sqrt((x - h * float(d[0])) ** 2 + (y - h * float(d[1])) ** 2 + (z - h * float(d[2])) ** 2) - (
                part.ra + h * (part.rb - part.ra)
            )
        return self._triangle(win, part)

    def _triangle(self, win: Window, part: Triangle) -> Tensor:
        """Distance to a thick triangle: plane distance inside its edges, edge distance outside."""
        p = [np.asarray(x, dtype=float) for x in part.p]
        normal = np.cross(p[1] - p[0], p[2] - p[0])
        normal /= np.linalg.norm(normal)
        x, y, z = self.local(win, p[0])
        plane = x * float(normal[0]) + y * float(normal[1]) + z * float(normal[2])
        inside, edge = None, None
        for i in range(3):
            a, e = p[i] - p[0], p[(i + 1) % 3] - p[i]
            across = np.cross(e, normal)
            px, py, pz = x - float(a[0]), y - float(a[1]), z - float(a[2])
            within = (px * float(across[0]) + py * float(across[1]) + pz * float(across[2])) <= 0
            h = ((px * float(e[0]) + py * float(e[1]) + pz * float(e[2])) / float(e @ e)).clamp_(0, 1)
            d2 = (px - h * float(e[0])) ** 2 + (py - h * float(e[1])) ** 2 + (pz - h * float(e[2])) ** 2
            inside = within if inside is None else inside & within
            edge = d2 if edge is None else torch.minimum(edge, d2)
        return torch.where(inside, plane.abs(), torch.sqrt(edge)) - part.radius
