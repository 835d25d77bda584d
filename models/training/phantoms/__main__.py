"""Command line: `python -m phantoms pictures OUT` and `python -m phantoms series OUT --seed N ...`."""

import argparse
import json
from pathlib import Path

import torch

from . import axial_grid, render, sample_acquisition, sample_case, write_series


def main() -> None:
    """Parse the command line and run one command."""
    parser = argparse.ArgumentParser(prog="phantoms", description="Synthetic CT of the spine")
    commands = parser.add_subparsers(dest="command", required=True)
    pictures = commands.add_parser("pictures", help="contact sheets of every type and variant")
    pictures.add_argument("out", type=Path)
    pictures.add_argument("--count", type=int, default=6)
    sheets = commands.add_parser("sheets", help="the small sheets of the README (SHAPES=folder adds the meshes)")
    sheets.add_argument("out", type=Path)
    series = commands.add_parser("series", help="one DICOM CT series and truth.json")
    series.add_argument("out", type=Path)
    series.add_argument("--seed", type=int, default=1)
    series.add_argument("--profile", default="study", choices=["training", "study", "demo"])
    series.add_argument("--spacing", type=float, default=0.8, help="in-plane, mm")
    series.add_argument("--slice-spacing", type=float, default=2.0, help="mm")
    series.add_argument("--field", type=float, nargs=2, default=(360.0, 300.0), help="x and y extent, mm")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.command == "pictures":
        from .pictures import write_all

        for path in write_all(arguments.out, count=arguments.count):
            print(path)
        return
    if arguments.command == "sheets":
        from .atlas import shapes_folder
        from .sheets import write_sheets
        from .solids import load_solids

        folder = shapes_folder()
        for path in write_sheets(arguments.out, load_solids(folder) if folder else ()):
            print(path)
        return
    case = sample_case(arguments.seed, profile=arguments.profile)
    acq = sample_acquisition(arguments.seed, profile=arguments.profile)
    low, high = case.find("S2").centre_mm[2] - 20, case.find("T10").centre_mm[2] + 20
    grid = axial_grid(
        case,
        spacing=arguments.spacing,
        slice_spacing=arguments.slice_spacing,
        field_mm=tuple(arguments.field),
        z_range=(low, high),
        centre=None if min(arguments.field) < 250 else case.torso.centre_xy,
    )
    made = render(case, grid, acq, truth=False)
    paths = write_series(arguments.out, made.hu, grid, patient={"PatientSex": case.sex}, seed=arguments.seed)
    (arguments.out / "truth.json").write_text(json.dumps(case.to_json(), indent=1))
    print(f"{len(paths)} slices in {arguments.out}")


if __name__ == "__main__":
    main()
