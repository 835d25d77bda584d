"""A bundle whose readings are answered with a segmentation too, and take a second longer than `label_bundle`'s."""

import hashlib
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from node_harness import BUNDLE
from quick_study import ROLES, label_bundle

PAINTED_ROLES = ("seg_vertebrae", *ROLES)
"""What such a reading is answered with: at slices of 4 mm nothing is graded."""

_SPACING_MM, _SHAPE, _ORIGIN = [2.0, 2.5, 6.0], [28, 36, 16], [13.5, 12.0, 7.5]


def painted_bundle(folder: Path) -> Path:
    """Write the reference bundle with a vertebra stage that sees the same vertebra in every crop."""
    label_bundle(folder)
    reference = tomllib.loads((BUNDLE / "bundle.toml").read_text())["stages"]["vertebra"]
    network = _network()
    (folder / "vertebra.onnx").write_bytes(network)
    stage = "\n".join([
        "[stages.vertebra]", 'file = "vertebra.onnx"', f'sha256 = "{hashlib.sha256(network).hexdigest()}"',
        f"spacing_mm = {_SPACING_MM}", f"shape = {_SHAPE}", f"origin_index = {_ORIGIN}",
        f"window_hu = {reference['window_hu']}",
        *(f"{table}.{name} = {value}" for table in ("operating_points", "temperature")
          for name, value in reference[table].items()),
        "self_test.tolerance = 0.02", "self_test.expected.old = [-8.0, 0.0, -8.0]",
        "",
    ])
    manifest = (folder / "bundle.toml").read_text()
    (folder / "bundle.toml").write_text(re.sub(r'\[stages\.vertebra\]\nabsent = ".*"\n', stage, manifest))
    return folder


def _network() -> bytes:
    """Return a network (ONNX) that answers without looking: a body with an arch behind it, no sign of any fracture."""
    onnx = pytest.importorskip("onnx")  # of the training environment
    body, vertebra, nothing = (np.full(_SHAPE, -8.0, np.float32) for _ in range(3))
    body[8:19, 6:18, 5:11] = vertebra[8:19, 6:30, 5:11] = 8.0
    values = {"vertebra": vertebra, "body": body, "fracture": nothing, "evidence": np.full(4, -8.0, np.float32),
              "type": np.zeros(5, np.float32), "old": np.full(1, -8.0, np.float32)}
    make, described = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    nodes = [make("Mul", ["crop", "zero"], ["blank"]), make("ReduceMax", ["blank"], ["flat"], axes=[2, 3, 4], keepdims=0)]
    nodes += [make("Add", ["blank" if value.ndim == 3 else "flat", f"{name} value"], [name])
              for name, value in values.items()]
    constants = {"zero": np.zeros(1, np.float32)} | {f"{name} value": value for name, value in values.items()}
    crops = ["n", 1, *_SHAPE]
    shapes = {"crop": crops} | {name: crops if value.ndim == 3 else ["n", *value.shape] for name, value in values.items()}
    tensors = [described(name, onnx.TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    graph = onnx.helper.make_graph(
        nodes, "painter", tensors[:1], tensors[1:], [onnx.numpy_helper.from_array(v, n) for n, v in constants.items()]
    )
    opset = onnx.helper.make_opsetid("", 17)
    return onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString()
