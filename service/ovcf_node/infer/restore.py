"""The vertebra before its damage, as the bundle's optional `restore` stage paints it; the difference is explanation.

The network never sees the vertebra itself: a region of the height that the neighbours predict is blanked, in training
(which uses `region_of`) as here, so that neither pixels nor the crop's position tell how tall the broken body is. What
it paints is a hypothesis: it is compared with the picture and forgotten, never stored as an image.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ovcf_node.domain.findings import Heights
from ovcf_node.domain.volume import Volume
from ovcf_node.infer.bundle import Bundle
from ovcf_node.infer.expected import Expectation, height_loss
from ovcf_node.infer.morphometry import measure
from ovcf_node.infer.resample import Crop, context_grid, sample_crop, window
from ovcf_node.infer.vertebra import VertebraReading

MARGIN_MM = (5.0, 2.5, 3.0)
"""What the blanked region adds around the expected body: at each end of its height (w), in front and behind (v), aside
(u). A broken body's centre lies up to 4 mm off the whole one's."""

_GRAIN_MM = 1.5  # SD of the smoothing that takes noise out of the comparison


@dataclass(frozen=True)
class Restoration:
    """One vertebra restored, on its crop's grid (w, v, u).

    hu, body  the hypothesis: CT numbers, and probability of the undamaged body.
    damage    HU by which the picture differs from it, without noise and without what is brighter or darker all over (age,
              scanner, the network's guess); 0 outside the undamaged body.
    heights   of the undamaged body.
    loss      largest fraction of them that the seen body lost; None where nothing can be measured.
    score     mean of `damage` over the undamaged body, HU; None where there is none.
    """

    hu: np.ndarray
    body: np.ndarray
    damage: np.ndarray
    heights: Heights
    loss: float | None
    score: float | None


def restorations(
    volume: Volume, bundle: Bundle, readings: list[VertebraReading], seen: Mapping[str, Heights],
    expected: Mapping[str, Expectation],
) -> dict[str, Restoration]:
    """Restore the vertebrae that `expected` names; `seen` holds their measured heights. Empty without the stage."""
    wanted = [r for r in readings if r.level in expected] if bundle.restore else []
    out = {}
    for reading in wanted:
        context = sample_crop(volume, context_grid(reading.crop.grid))
        region = region_of(reading.body, expected[reading.level].heights, reading.crop.grid.spacing)
        answer = bundle.run("restore", tensors(reading.crop, context, region, bundle.restore.window_hu))
        out[reading.level] = compared(
            reading.crop, seen[reading.level], answer["restored"][0, 0], answer["body"][0, 0], bundle.restore.window_hu
        )
    return out


def tensors(crop: Crop, context: Crop, region: np.ndarray, limits: tuple[float, float]) -> dict[str, np.ndarray]:
    """Return the stage's input of one vertebra, float32."""
    return {
        "crop": window(crop.hu, limits)[None, None], "context": window(context.hu, limits)[None, None],
        "region": region[None, None].astype(np.float32),
    }


def compared(
    crop: Crop, seen: Heights, restored: np.ndarray, logits: np.ndarray, limits: tuple[float, float]
) -> Restoration:
    """Compare a crop with what the network painted: `restored` in the window's units, `logits` of the body."""
    low, high = limits
    hu = (restored + 1.0) * ((high - low) / 2.0) + low
    body = (1.0 / (1.0 + np.exp(-np.clip(logits, -30, 30)))).astype(np.float32)
    inner = body > 0.5
    if not inner.any():
        return Restoration(hu, body, np.zeros_like(hu), Heights(), None, None)
    sigma = [_GRAIN_MM / s for s in crop.grid.spacing]
    apart = ndimage.gaussian_filter(np.clip(crop.hu, low, high) - hu, sigma)
    damage = np.abs(apart - np.median(apart[inner])) * inner
    heights = measure(crop, body, body).heights
    return Restoration(
        hu, body, damage, heights, height_loss(seen, heights), round(float(damage[inner].mean()), 1)
    )


def region_of(
    body: np.ndarray, expected: Heights, spacing: np.ndarray, off_centre_mm: float = 0.0,
) -> np.ndarray:
    """Blanked region, bool (w, v, u): the body's footprint over the whole height that is expected of it.

    body           probability of the body as it is seen (w, v, u), not empty.
    expected       mm; the ends slope from the anterior to the posterior height.
    off_centre_mm  moves the region up: training varies what a reader's mask leaves uncertain.
    """
    inner = body > 0.5
    reach = [max(1, round(m / s)) for m, s in zip(MARGIN_MM[1:], spacing[1:], strict=True)]
    footprint = ndimage.binary_dilation(inner.any(axis=0), structure=np.ones([2 * r + 1 for r in reach], dtype=bool))
    centre = float(np.argwhere(inner)[:, 0].mean()) + off_centre_mm / spacing[0]
    rows = np.flatnonzero(inner.any(axis=(0, 2)))
    depth = np.clip((np.arange(body.shape[1]) - rows[0]) / max(1, rows[-1] - rows[0]), 0.0, 1.0)
    height = expected.anterior + (expected.posterior - expected.anterior) * depth
    half = (height / 2 + MARGIN_MM[0]) / spacing[0]
    level = np.abs(np.arange(body.shape[0]) - centre)
    return (level[:, None] <= half[None])[:, :, None] & footprint[None]
