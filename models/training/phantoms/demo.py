"""`python -m phantoms.demo OUT.npz`: the demonstration patient as one small noise-free volume.

The runtime package makes a CT series from it with numpy alone, adding seeded noise. Contents of the file: `hu` int16
[z, y, x] in steps of 2 HU, `affine` float64 4x4 (index z, y, x -> LPS mm), `truth` (JSON text of the case).
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from . import axial_grid, render, sample_acquisition, sample_case

SEED = 11


def volume(*, spacing: float = 1.0, slice_spacing: float = 1.0, field_mm: float = 200.0):
    """HU (int16, even), grid and case of the demonstration patient: T11 to S2 and some of their surroundings."""
    case = sample_case(SEED, profile="demo")
    low, high = case.find("S2").centre_mm[2] - 25, case.find("T10").centre_mm[2] - 5
    middle = case.find("L3").centre_mm
    grid = axial_grid(
        case,
        spacing=spacing,
        slice_spacing=slice_spacing,
        field_mm=(field_mm, field_mm),
        z_range=(low, high),
        centre=(middle[0], middle[1] + 22),
    )
    acq = sample_acquisition(SEED, profile="demo")
    hu = render(case, grid, acq, truth=False).hu.numpy()
    return (np.rint(hu / 2) * 2).astype(np.int16), grid, case


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(prog="phantoms.demo", description="Demonstration volume")
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    hu, grid, case = volume()
    np.savez_compressed(arguments.out, hu=hu, affine=grid.affine, truth=np.array(json.dumps(case.to_json())))
    print(f"{arguments.out}: {hu.shape}, {arguments.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
