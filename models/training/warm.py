"""An exported ONNX file -> weights of its network, so that training goes on from the committed bundle.

The exporter keeps the names of convolutions and linear layers but folds GroupNorm's scale and shift (and the attention's
gains) into nameless initializers; the node that uses one still carries the module's path, which names it again.
Parameters that only training uses (deep supervision, the guide) are not in the file: they keep their initial values.
"""

from __future__ import annotations

from pathlib import Path

import onnx
import torch
from onnx import numpy_helper


def module_path(node_name: str) -> str:
    """``/attend/bring.0/bring.0.1/Mul`` -> ``attend.bring.0.1``: a part that repeats its parent replaces it."""
    parts: list[str] = []
    for part in node_name.strip("/").split("/")[:-1]:
        if parts and part.startswith(parts[-1] + "."):
            parts[-1] = part
        else:
            parts.append(part)
    return ".".join(parts)


def onnx_weights(path: Path, like: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of ``like`` (a state dict) that the file holds, by name."""
    graph = onnx.load(path).graph
    stored = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    found = {name: torch.from_numpy(stored[name].copy()) for name in like if name in stored}
    gains: dict[str, list[float]] = {}
    for node in graph.node:
        nameless = [name for name in node.input if name in stored and name not in like]
        if node.op_type not in ("Mul", "Add") or not nameless:
            continue
        value, owner = torch.from_numpy(stored[nameless[0]].copy()), module_path(node.name)
        if value.dim() == 0:  # the attention's gains, position and channel by turns
            kind = (
                "position_gain"
                if len(gains.get(f"{owner}.channel_gain", ())) == len(gains.get(f"{owner}.position_gain", ()))
                else "channel_gain"
            )
            gains.setdefault(f"{owner}.{kind}", []).append(float(value))
        elif not owner:  # gain and shift of the back wall's map, in this order
            gains.setdefault("wall_gain", []).append(float(value))
        else:
            found[f"{owner}.{'weight' if node.op_type == 'Mul' else 'bias'}"] = value.reshape(-1)
    found |= {name: torch.tensor(values) for name, values in gains.items()}
    return {name: value for name, value in found.items() if name in like}


def doubled(stored: dict[str, torch.Tensor], like: dict[str, torch.Tensor], seed: int = 1) -> dict[str, torch.Tensor]:
    """Weights of a `VertebraNet` for one with twice the channels that says the same (Net2Net, arXiv 1511.05641).

    Every channel is there twice, the copies after the originals, so that the groups of the norms stay what they were. What
    a weight gave is shared by the two, unevenly and at random, or both would learn the same for ever.
    """
    generator = torch.Generator().manual_seed(seed)
    fine, deep = stored["read.mix.0.weight"].shape[0], stored["enc4.0.0.weight"].shape[0]
    half = stored["enc2.0.0.weight"].shape[0]
    parts = {"wall.0.0.weight": [half] * 2, "plates.0.0.weight": [half] * 2, "read.dense.0.weight": [fine] * 8 + [deep] * 2}
    out = {}
    for name, value in stored.items():
        wanted = like[name].shape
        if wanted[0] == 2 * len(value):
            value = torch.cat([value, value])
        if value.dim() > 1 and wanted[1] > value.shape[1]:
            blocks = parts.get(name, [wanted[1] - value.shape[1]])
            *channels, others = value.split([*blocks, value.shape[1] - sum(blocks)], 1)
            shares = [0.25 + 0.5 * torch.rand(x.shape, generator=generator) for x in channels]
            twice = [y for x, share in zip(channels, shares, strict=True) for y in (x * share, x * (1 - share))]
            value = torch.cat([*twice, others], 1)
        out[name] = value
    return out


def warm_weights(path: Path, like: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What ``like`` can take over from a checkpoint (``.pt``, EMA weights) or an exported file (``.onnx``).

    Tensors that are new or have changed shape are left out: they start afresh. A `VertebraNet` of half the channels is
    `doubled` first.
    """
    if path.suffix == ".onnx":
        stored = onnx_weights(path, like)
    else:
        stored = torch.load(path, map_location="cpu", weights_only=True)["ema"]
        stored = {name: value for name, value in stored.items() if name in like}
    first = "enc1.0.0.weight"
    if "read.mix.0.weight" in stored and len(like[first]) == 2 * len(stored[first]):
        stored = doubled(stored, like)
    return {name: value for name, value in stored.items() if like[name].shape == value.shape}
