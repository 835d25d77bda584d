"""The mean of several trainings' weights, as a checkpoint that ``export.py`` takes.

``python models/training/mean.py vertebra --of models/reference/vertebra.onnx A.pt B.pt --out DIR/vertebra.pt``

Schedules that went on from the same weights often lie in one valley: their mean may read pictures made otherwise better than
any of them (Wortsman et al., "Model soups", arXiv 2203.05482). Whether it does is for calibration patients to say.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from networks import NETWORKS
from schedule import save
from warm import warm_weights


def mean(stage: str, files: list[Path]) -> dict[str, torch.Tensor]:
    """The mean of the weights of these .pt or .onnx files.

    An exported file lacks what only training uses: such a tensor is the mean of the files that have it, or its
    initial value. A checkpoint that lacks a tensor, or has it in another shape, and an exported file that has less
    than half of them are of another network: `ValueError`.
    """
    fresh = NETWORKS[stage]().state_dict()
    each = [(file, warm_weights(file, fresh)) for file in files]
    for file, weights in each:
        lacking = fresh.keys() - weights.keys()
        if len(lacking) > (len(fresh) // 2 if file.suffix == ".onnx" else 0):
            raise ValueError(f"{file} is not of this {stage} network: no {', '.join(sorted(lacking))}")
    having = {name: [weights[name] for _, weights in each if name in weights] for name in fresh}
    return {name: sum(found) / len(found) if found else fresh[name] for name, found in having.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=NETWORKS)
    parser.add_argument("--of", type=Path, nargs="+", required=True, help=".pt or .onnx files; one named twice counts twice")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--about", help="how they were trained, for the model card")
    a = parser.parse_args()
    names = ", ".join(f"{file.parent.name}/{file.name}" for file in a.of)
    a.out.parent.mkdir(parents=True, exist_ok=True)
    save(a.out, {"ema": mean(a.stage, a.of), "about": a.about or f"the mean of {names}"})


if __name__ == "__main__":
    main()
