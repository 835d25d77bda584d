"""How a scanner saw the patient: tissue HU (physical or randomised), blur, noise, streaks, bias, contrast."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from .grids import Grid

Tensor = torch.Tensor

#: HU at 120 kVp without contrast (clinical reference 3.3); spongy bone of vertebrae comes from the patient.
TISSUES = {
    "air": -1000.0,
    "gas": -950.0,
    "lung": -850.0,
    "fat": -100.0,
    "skin": 20.0,
    "muscle": 52.0,
    "blood": 42.0,
    "artery": 42.0,
    "vein": 42.0,
    "liver": 58.0,
    "spleen": 50.0,
    "kidney": 34.0,
    "sinus": 0.0,
    "organ": 42.0,
    "stomach": 25.0,
    "water": 8.0,
    "stool": 30.0,
    "disc": 80.0,
    "vacuum": -500.0,
    "sac": 22.0,
    "swelling": 55.0,
    "spongy": 150.0,
    "cortex": 1050.0,
    "arch": 780.0,
    "calcium": 600.0,
    "metal": 3000.0,
    "cement": 2000.0,
    "table": -150.0,
    "table_shell": 40.0,
    "cleft": -400.0,
    "gap": 20.0,
}
#: Gain of late-arterial and portal-venous contrast in HU.
_CONTRAST = {
    "none": {},
    "arterial": {
        "artery": 230,
        "blood": 180,
        "vein": 45,
        "kidney": 110,
        "liver": 15,
        "spleen": 70,
        "organ": 40,
        "muscle": 4,
        "trabecular": 14,
    },
    "portal": {
        "artery": 115,
        "blood": 110,
        "vein": 110,
        "kidney": 140,
        "liver": 55,
        "spleen": 70,
        "organ": 45,
        "muscle": 6,
        "trabecular": 25,
    },
}


@dataclass(frozen=True)
class Acquisition:
    """One scan.  Lengths in mm; noise SD in HU of a native voxel (in-plane about 0.8 mm, slice `slice_mm`)."""

    seed: int
    family: str
    kvp: int
    contrast: str
    psf_mm: float
    edge: float
    slice_mm: float
    noise_sd: float
    noise_grain: float
    streak_sd: float
    bias_hu: float
    bias_gain: float
    texture_sd: float
    texture_mm: float
    shell: float
    tissues: tuple[tuple[str, float], ...]
    trabecular_shift: float
    trabecular_gain: float
    porosity: float = 0.0  # how much of the shell is lost in its thinnest patches (1: it is open there)
    gradient_hu: float = 0.0  # marrow under both endplates above the middle of the body
    circle: float = 0.0  # reconstruction circle's radius as a share of the longer side's half (0: the field has no circle)
    padding_hu: float = -1024.0  # what stands outside it
    cord: float = 0.0  # HU of the spinal cord above the dural sac around it (0: not told apart)
    metal: float = 0.0  # strength of the streaks of metal, about 1 (0: none, or corrected)

    def hu(self, tissue: str) -> float:
        """HU of a tissue in this scan."""
        return dict(self.tissues)[tissue]


def clean_acquisition() -> Acquisition:
    """Noise-free physical scan: standard kernel, 1 mm."""
    return Acquisition(
        0, "physical", 120, "none", 0.9, 0.0, 1.0, 0.0, 0.5, 0.0, 0.0, 0.0, 14.0, 1.6, 1.0, tuple(TISSUES.items()), 0.0, 1.0
    )


def sample_acquisition(seed: int, *, profile: str = "training") -> Acquisition:
    """Draw a scan.  `training`: 60 % physical, 40 % randomised appearance; `study`: physical, 1-3 mm; `demo`:
    clean_acquisition.
    """
    if profile == "demo":
        return clean_acquisition()
    rng = np.random.default_rng([seed, 77])
    family = "random" if profile == "training" and rng.random() < 0.4 else "physical"
    kvp = int(rng.choice([100, 120, 140], p=[0.2, 0.65, 0.15]))
    contrast = str(rng.choice(["none", "arterial", "portal"], p=[0.5, 0.15, 0.35]))
    sharp = rng.random() < 0.35
    slice_mm = (
        float(rng.uniform(0.6, 1.5) if rng.random() < 0.55 else rng.uniform(1.5, 5.0))
        if profile == "training"
        else float(rng.uniform(1.0, 3.0))
    )
    psf = float(rng.uniform(0.5, 0.9) if sharp else rng.uniform(0.9, 1.7))
    noise = float(rng.uniform(25, 80) if sharp else rng.uniform(6, 38))
    if slice_mm > 2.5:
        noise *= 0.5
    bone_gain = {100: 1.15, 120: 1.0, 140: 0.93}[kvp]
    tissues = {name: hu + (rng.normal(0, 6) if hu > -300 else 0) for name, hu in TISSUES.items()}
    for name in ("cortex", "arch", "calcium"):
        tissues[name] = TISSUES[name] * bone_gain * rng.uniform(0.75, 1.25)
    strength = rng.uniform(0.5, 1.35)
    for name, gain in _CONTRAST[contrast].items():
        if name in tissues:
            tissues[name] += gain * strength
    if rng.random() < 0.1:
        tissues["water"] += rng.uniform(100, 400)  # excreted or oral contrast
    if rng.random() < 0.12:
        tissues["stool"] += rng.uniform(80, 450)
    shift = _CONTRAST[contrast].get("trabecular", 0) * strength
    shell, texture, trab_gain = float(rng.uniform(0.7, 1.4)), float(rng.uniform(6, 40)), bone_gain
    if family == "random":
        tissues, shift, trab_gain, shell = _randomised(rng, tissues)
        texture = float(rng.uniform(0, 70))
    acq = Acquisition(
        seed,
        family,
        kvp,
        contrast,
        psf,
        edge=float(rng.uniform(0.3, 1.2)) if sharp else float(rng.uniform(0, 0.15)),
        slice_mm=slice_mm,
        noise_sd=noise,
        noise_grain=float(rng.uniform(0, 0.9)),
        streak_sd=float(rng.uniform(3, 25)) if rng.random() < 0.2 else 0.0,
        bias_hu=float(rng.uniform(0, 40)) if family == "random" else float(rng.uniform(0, 8)),
        bias_gain=float(rng.uniform(0, 0.2)) if family == "random" else 0.0,
        texture_sd=texture,
        texture_mm=float(rng.uniform(0.9, 4.0)),
        shell=shell,
        tissues=tuple((k, float(x)) for k, x in tissues.items()),
        trabecular_shift=float(shift),
        trabecular_gain=float(trab_gain),
        porosity=float(rng.uniform(0.3, 1.3)) if rng.random() < 0.5 else 0.0,
        gradient_hu=float(rng.uniform(-20, 150)) if rng.random() < 0.5 else 0.0,
    )
    if profile == "training":  # own streams: the rest of the scan stays as it was
        padding = np.random.default_rng([seed, 78])
        if padding.random() <= 1 / 6:
            acq = padded(padding, acq)
        canal = np.random.default_rng([seed, 80])
        acq = replace(acq, cord=float(canal.normal(14, 4) if family == "physical" else canal.uniform(-40, 60)))
        if canal.random() < 0.35:  # a cleft is filled with fluid, not gas, once the patient has lain
            held = {**dict(acq.tissues), "cleft": TISSUES["water"] + float(canal.uniform(-8, 20))}
            acq = replace(acq, tissues=tuple(held.items()))
        streaks = np.random.default_rng([seed, 79])
        acq = replace(acq, metal=float(streaks.uniform(0.25, 1.2)) if streaks.random() < 0.75 else 0.0)
    return acq


def padded(rng: np.random.Generator, acq: Acquisition) -> Acquisition:
    """The scan with a reconstruction circle, padded with air or, as scanners with signed values do, with -2000."""
    return replace(acq, circle=float(rng.uniform(0.85, 1.02)), padding_hu=float(rng.choice([-1024, -2000], p=[0.6, 0.4])))


def _randomised(rng: np.random.Generator, tissues: dict[str, float]) -> tuple[dict[str, float], float, float, float]:
    """SynthSeg-style HU: every tissue anywhere, bone above its surroundings only most of the time, shells thick, thin or
    absent.
    """
    out = dict(tissues)
    for name in (
        "muscle",
        "blood",
        "artery",
        "vein",
        "liver",
        "spleen",
        "kidney",
        "sinus",
        "organ",
        "stomach",
        "water",
        "stool",
        "skin",
    ):
        out[name] = rng.uniform(-120, 260)
    out["fat"] = rng.uniform(-250, 60)
    out["gas"], out["lung"] = rng.uniform(-1000, -200), rng.uniform(-1000, -200)
    out["disc"], out["sac"], out["swelling"] = rng.uniform(-60, 230), rng.uniform(-60, 130), rng.uniform(-30, 140)
    out["cortex"] = rng.uniform(250, 1600)
    out["arch"] = rng.uniform(250, 1400)
    out["spongy"] = rng.uniform(-20, 450)
    shell = 0.0 if rng.random() < 0.1 else rng.uniform(0.3, 2.5)
    return out, rng.uniform(-120, 260), rng.uniform(0.6, 1.4), float(shell)


def blur(volume: Tensor, sigma_voxels: tuple[float, float, float]) -> Tensor:
    """Separable Gaussian blur with edge replication; axes below 0.15 voxels are left alone."""
    for axis, sigma in enumerate(sigma_voxels):
        if sigma < 0.15 or volume.shape[axis] < 2:
            continue
        radius = min(max(1, int(np.ceil(2.5 * sigma))), volume.shape[axis] - 1)
        taps = np.exp(-0.5 * (np.arange(radius + 1) / sigma) ** 2)
        taps /= taps[0] + 2 * taps[1:].sum()
        n = volume.shape[axis]
        out = volume * float(taps[0])
        for k in range(1, radius + 1):
            weight = float(taps[k])
            out.narrow(axis, 0, n - k).add_(volume.narrow(axis, k, n - k), alpha=weight)
            out.narrow(axis, n - k, k).add_(volume.narrow(axis, n - 1, 1), alpha=weight)
            out.narrow(axis, k, n - k).add_(volume.narrow(axis, 0, n - k), alpha=weight)
            out.narrow(axis, 0, k).add_(volume.narrow(axis, 0, 1), alpha=weight)
        volume = out
    return volume


def patient_sigmas(grid: Grid, in_plane: float, along_z: float, already: float = 0.0) -> tuple[float, float, float]:
    """Blur of the scanner (SD mm in the axial plane and along patient z) along the grid's axes, in voxels; `already` mm
    is subtracted.
    """
    axes = grid.affine[:3, :3] / grid.spacing
    variance = in_plane**2 * (axes[0] ** 2 + axes[1] ** 2) + along_z**2 * axes[2] ** 2
    return tuple(np.sqrt(np.clip(variance - already**2, 0, None)) / grid.spacing)


def degrade(hu: Tensor, grid: Grid, acq: Acquisition, *, generator: torch.Generator, antialias_mm: float) -> Tensor:
    """Blur, edge enhancement, bias, noise and streaks on the grid's axes."""
    in_plane, along_z = acq.psf_mm / 2.355, acq.slice_mm / np.sqrt(12.0)
    hu = blur(hu, patient_sigmas(grid, in_plane, along_z, antialias_mm / np.sqrt(12.0)))
    if acq.edge > 0 and grid.spacing.min() < 1.6:
        soft = blur(hu, patient_sigmas(grid, 0.8, 0.2))
        hu = hu + (hu - soft) * acq.edge
    if acq.noise_sd > 0 or acq.streak_sd > 0:
        hu = hu + noise(tuple(hu.shape), grid, acq, generator).to(hu.device)
    if acq.bias_gain > 0 or acq.bias_hu > 4:
        coarse = torch.randn((1, 1, 4, 4, 4), generator=generator)
        field = torch.nn.functional.interpolate(coarse, size=tuple(hu.shape), mode="trilinear", align_corners=True)[0, 0].to(
            hu.device
        )
        hu = hu * (1 + acq.bias_gain * 0.5 * field.clamp(-2, 2)) + acq.bias_hu * 0.5 * field
    return hu


def outside_circle(grid: Grid, acq: Acquisition, device: str = "cpu") -> Tensor | None:
    """Voxels (1, y, x) outside the reconstruction circle of an axial series; None without one, and for any other grid."""
    axes = grid.affine[:3, :3]
    if acq.circle <= 0 or np.abs(axes[:2, 0]).max() > 1e-6 or np.abs(axes[2, 1:]).max() > 1e-6:
        return None
    (dy, dx), (ny, nx) = grid.spacing[1:], grid.shape[1:]
    y, x = (torch.arange(n, dtype=torch.float32, device=device) - (n - 1) / 2 for n in (ny, nx))
    radius = acq.circle * max(ny * dy, nx * dx) / 2
    return ((y[:, None] * float(dy)) ** 2 + (x[None, :] * float(dx)) ** 2 > radius**2)[None]


def noise(shape: tuple[int, int, int], grid: Grid, acq: Acquisition, generator: torch.Generator) -> Tensor:
    """Correlated noise: white noise blended with its blur, scaled to the SD that averaging into these voxels leaves."""
    white = torch.randn(shape, generator=generator)
    grain_mm = 0.5 + 1.3 * acq.noise_grain
    soft = blur(white, patient_sigmas(grid, grain_mm / 1.5, max(acq.slice_mm / 2.5, 0.3)))
    mixed = white * (1 - acq.noise_grain) * 0.7 + soft * (acq.noise_grain + 0.3)
    native = 0.8 * 0.8 * acq.slice_mm
    fall = min(1.0, (native / float(np.prod(grid.spacing))) ** 0.4)
    out = mixed * (acq.noise_sd * fall / max(float(mixed.std()), 1e-6))
    if acq.streak_sd > 0:
        rows = blur(torch.randn((shape[0], shape[1], 8), generator=generator), (0.6, 0.8, 0.0))
        lines = torch.nn.functional.interpolate(rows[None, None], size=shape, mode="trilinear", align_corners=True)[0, 0]
        out = out + lines * (acq.streak_sd / max(float(lines.std()), 1e-6))
    return out
