"""Load a model bundle, refuse a wrong one, and run its stages (contract: models/README.md).

A bundle is trusted only after four checks, in this order: the manifest is complete, the SHA-256 of every ONNX file is
the manifest's, tensor names, types, ranks and fixed dimensions are the contract's, and each stage answers the
self-test's picture, preprocessed as a patient's, with the manifest's numbers. Only then does a tensor of a patient enter it.
"""

import hashlib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as _runtime

from ovcf_node.domain.findings import BundleIdentity
from ovcf_node.errors import Permanent
from ovcf_node.infer import self_test
from ovcf_node.infer.resample import context_shape
from ovcf_node.infer.stages import (
    LabelStage,
    RestoreStage,
    SegmentStage,
    VertebraStage,
    label_stage,
    numbers,
    positive,
    restore_stage,
    section,
    segment_stage,
    text,
    vertebra_stage,
)

_FIELD = ((("image", 5),), (("classes", 5), ("body", 5), ("offset", 5)))
_TENSORS: dict[str, tuple[tuple[tuple[str, int], ...], tuple[tuple[str, int], ...]]] = {
    # stage: ((input, rank), ...), ((output, rank), ...)
    "label": _FIELD,
    "segment": _FIELD,
    "vertebra": (
        (("crop", 5),),
        (("vertebra", 5), ("body", 5), ("fracture", 5), ("evidence", 2), ("type", 2), ("old", 2)),
    ),
    "restore": ((("crop", 5), ("context", 5), ("region", 5)), (("restored", 5), ("body", 5))),
}
_RUNTIME_ERRORS = (  # onnxruntime's own errors have no common base below Exception
    RuntimeError, ValueError, _runtime.Fail, _runtime.InvalidArgument, _runtime.InvalidGraph, _runtime.InvalidProtobuf,
    _runtime.NotImplemented, _runtime.RuntimeException)


@dataclass(frozen=True)
class Bundle:
    """A checked bundle. `absent` holds the stages it lacks with their reason; optional stages are None then."""

    identity: BundleIdentity
    label: LabelStage
    segment: SegmentStage | None
    vertebra: VertebraStage | None
    restore: RestoreStage | None
    absent: Mapping[str, str]
    sessions: Mapping[str, onnxruntime.InferenceSession]

    def has(self, stage: str) -> bool:
        """Say whether the bundle brings `stage`."""
        return stage in self.sessions

    def run(self, stage: str, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run one stage on float32 tensors by name; return its outputs by name.

        Raises Permanent("bundle_run"), also where a network answers what is no number: that would read as "nothing found".
        """
        session = self.sessions[stage]
        names = [output.name for output in session.get_outputs()]
        try:
            said = dict(zip(names, session.run(names, dict(tensors)), strict=True))
        except _RUNTIME_ERRORS as error:
            raise Permanent("bundle_run", f"stage {stage} of {self.identity.name}: {error}") from error
        if wrong := [name for name, values in said.items() if not np.isfinite(values).all()]:
            raise Permanent("bundle_run", f"stage {stage} of {self.identity.name}: {', '.join(wrong)} not finite")
        return said


def load(folder: Path, *, providers: Sequence[str] = ("CPUExecutionProvider",), threads: int = 2) -> Bundle:
    """Read, verify and open the bundle in `folder`.

    Raises Permanent("bundle_manifest" | "bundle_digest" | "bundle_shape" | "bundle_self_test") naming file and numbers.
    """
    identity, document = _manifest(folder)
    stages = section(document, "stages")
    absent = {name: str(stages[name]["absent"]) for name in stages if "absent" in section(stages, name)}
    if not _present(stages, "label"):
        raise Permanent("bundle_manifest", "stage label is required")
    label = label_stage(section(stages, "label"))
    segment = segment_stage(section(stages, "segment"), label) if _present(stages, "segment") else None
    vertebra = vertebra_stage(section(stages, "vertebra")) if _present(stages, "vertebra") else None
    restore = restore_stage(section(stages, "restore"), vertebra) if _present(stages, "restore") else None
    absent |= {name: "not named by the bundle" for name in _TENSORS if name not in stages}
    sessions = {}
    for name in _TENSORS:
        if name in absent:
            continue
        table = stages[name]
        sessions[name] = _open(folder, name, table, providers, threads)
        _check_shapes(name, table, sessions[name], segment if name == "segment" else label, vertebra)
        fields = {"label": label, "segment": segment}
        given = self_test.field_tensors(fields[name]) if name in fields else self_test.crop_tensors(
            vertebra, restore if name == "restore" else None)
        _self_test(name, table, sessions[name], given)
    return Bundle(identity, label, segment, vertebra, restore, absent, sessions)


def load_identity(folder: Path) -> BundleIdentity:
    """Read only who the bundle is; nothing else is checked. Raises Permanent("bundle_manifest")."""
    return _manifest(folder)[0]


def _manifest(folder: Path) -> tuple[BundleIdentity, dict[str, Any]]:
    path = folder / "bundle.toml"
    try:
        content = path.read_bytes()
        document = tomllib.loads(content.decode("utf-8"))
    except OSError as error:
        raise Permanent("bundle_manifest", f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Permanent("bundle_manifest", f"{path} is not TOML: {error}") from error
    head = section(document, "bundle")
    name, version, status = (text(head, key) for key in ("name", "version", "status"))
    if status not in ("research", "cleared"):
        raise Permanent("bundle_manifest", f"bundle.status is {status!r}, must be research or cleared")
    return BundleIdentity(name, version, hashlib.sha256(content).hexdigest(), status), document


def _present(stages: dict[str, Any], name: str) -> bool:
    return name in stages and "absent" not in section(stages, name)


def _open(
    folder: Path, stage: str, table: dict[str, Any], providers: Sequence[str], threads: int
) -> onnxruntime.InferenceSession:
    path = folder / text(table, "file")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Permanent("bundle_manifest", f"cannot read {path}: {error.strerror}") from error
    found, expected = hashlib.sha256(content).hexdigest(), text(table, "sha256")
    if found != expected:
        raise Permanent("bundle_digest", f"{path.name}: SHA-256 is {found}, bundle.toml says {expected}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # An arena is 5 % faster and keeps the largest activations for the life of the process: 60 to 100 MB.
    options.enable_cpu_mem_arena = False
    try:
        return onnxruntime.InferenceSession(content, options, providers=list(providers))
    except _RUNTIME_ERRORS as error:
        raise Permanent("bundle_shape", f"{path.name} of stage {stage} cannot be opened: {error}") from error


def _check_shapes(
    stage: str, table: dict[str, Any], session: onnxruntime.InferenceSession,
    field: LabelStage, vertebra: VertebraStage | None,
) -> None:
    sources, outputs = _TENSORS[stage]
    fixed: dict[str, tuple[int | None, ...]] = {}
    if stage in ("label", "segment"):
        free = (None, None, None)
        fixed = {"image": (1, 1, *free), "classes": (1, len(field.labels), *free), "body": (1, 1, *free),
                 "offset": (1, 3, *free)}
    else:
        grid = (None, 1, *vertebra.shape)
        fixed = {"crop": grid, "vertebra": grid, "body": grid, "fracture": grid, "evidence": (None, 4),
                 "type": (None, 5), "old": (None, 1), "context": (None, 1, *context_shape(vertebra.shape)),
                 "region": grid, "restored": grid}
    file = table["file"]
    inputs = {tensor.name: tensor for tensor in session.get_inputs()}
    results = {tensor.name: tensor for tensor in session.get_outputs()}
    names = sorted(name for name, _ in sources)
    if sorted(inputs) != names:
        raise Permanent("bundle_shape", f"{file}: inputs are {sorted(inputs)}, must be {names}")
    missing = [name for name, _ in outputs if name not in results]
    if missing:
        raise Permanent("bundle_shape", f"{file}: outputs {', '.join(missing)} are missing, it has {sorted(results)}")
    ranks = (*((inputs[name], r) for name, r in sources), *((results[name], r) for name, r in outputs))
    for tensor, wanted_rank in ranks:
        wanted = fixed[tensor.name]
        given = tensor.name in inputs  # a patient's field has any size, and crops come in any number
        clash = len(tensor.shape) != wanted_rank or any(
            isinstance(have, int) and (have != want if want is not None else given)
            for have, want in zip(tensor.shape, wanted, strict=True)
        )
        if clash or tensor.type != "tensor(float)":
            sizes = [n or "any" for n in wanted]
            wrong = f"{file}: {tensor.name} is {tensor.type} {tensor.shape}, must be tensor(float) {sizes}"
            raise Permanent("bundle_shape", wrong)


def _self_test(
    stage: str, table: dict[str, Any], session: onnxruntime.InferenceSession, given: dict[str, np.ndarray]
) -> None:
    test, provider = section(table, "self_test"), session.get_providers()[0]
    of = section(test, "tolerance_of") if "tolerance_of" in test else {}  # other arithmetic: a GPU rounds its products
    tolerance = positive(of, provider) if provider in of else positive(test, "tolerance")
    expected = section(test, "expected")
    if "shape" in test:
        wrong = f"the self-test of stage {stage} is of the old ramp: it needs the numbers of the picture (models/README.md)"
        raise Permanent("bundle_manifest", wrong)
    try:
        outputs = dict(zip((o.name for o in session.get_outputs()), session.run(None, given), strict=True))
    except _RUNTIME_ERRORS as error:
        raise Permanent("bundle_self_test", f"{table['file']} cannot run its self-test: {error}") from error
    if not expected:
        raise Permanent("bundle_manifest", f"the self-test of stage {stage} expects nothing")
    for name, promised in expected.items():
        if name not in outputs:
            raise Permanent("bundle_manifest", f"the self-test of stage {stage} names the unknown tensor {name}")
        found = self_test.numbers(outputs[name])
        if not isinstance(promised, list) or not 2 <= len(promised) <= len(found):
            wrong = f"the self-test of stage {stage} must list 2 to {len(found)} numbers of {name}, has {promised!r}"
            raise Permanent("bundle_manifest", wrong)
        promised = numbers(expected, name, len(promised))
        right = self_test.misses(found, promised) <= tolerance
        if not right.all():
            old = right[:2].all() and outputs[name].ndim == 5  # the map as a whole is the promised one
            hint = ": mean and SD agree, values from other places? Write the numbers anew (models/README.md)" if old else ""
            raise Permanent(
                "bundle_self_test",
                f"{table['file']}: {name} gives {np.round(found[: len(promised)], 4).tolist()}, "
                f"expected {list(promised)} +- {tolerance} of its SD on {provider}{hint}",
            )
