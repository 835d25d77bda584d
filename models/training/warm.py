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
    """The tensors of ``like`` (a state dict) that the file holds in the same shape, by name."""
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
    return {name: value for name, value in found.items() if name in like and like[name].shape == value.shape}


def warm_weights(path: Path, like: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What ``like`` can take over from a checkpoint (``.pt``, EMA weights) or an exported file (``.onnx``).

    Tensors that are new or have changed shape are left out: they start afresh.
    """
    if path.suffix == ".onnx":
        return onnx_weights(path, like)
    stored = torch.load(path, map_location="cpu", weights_only=True)["ema"]
    return {name: value for name, value in stored.items() if name in like and like[name].shape == value.shape}
