"""Checkpoints -> a bundle folder: the ONNX files and ``bundle.toml``.

``python models/training/export.py --work DIR --out DIR/bundle [--version 1.2.3]``

Reads ``DIR/label.pt``, ``DIR/vertebra.pt`` and, where it is there, ``DIR/segment.pt`` (EMA weights), exports opset 17
with dynamic field size and crop count, compares torch with onnxruntime and refuses to write where they differ.
Temperatures and operating points are taken from ``DIR/calibration.json`` (written by ``calibrate.py``) where it exists; the
figures of ``DIR/evaluation.json`` and the ablations of ``DIR/arms.json`` (``arms.py``) go into ``MODEL_CARD.md``, and the
observations of ``notes.md`` beside this file where these are of the version that is asked for.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch

import bundle
import export_restore
from networks import CROP_SHAPE, NETWORKS, gmac, parameters
from ovcf_node.evaluate import CARD_BEGINS, CARD_ENDS

NOTES = Path(__file__).with_name("notes.md")
TRAINED_ON = (
    "synthetic CT painted by this project (models/training) on analytic and plain shapes, on the label map of one CT "
    "(TotalSegmentator data set s0327, CC BY 4.0) and on two open mesh models (remus BSD-3, clouthier MIT); no patient image"
)
LIMITS = (
    "- Figures on our own generator (other seeds than training) flatter. The second never trained, but chose among weights "
    "and has half the say in the calibration; the third did neither, but its first 60 patients had a say in taking 0.9.0, "
    "the next in keeping 0.11.0 and, with other retired evaluations, in what height says since 0.12.0.",
    "- The real label maps rendered to CT (s0328, healthivert_0007, malekosh) never trained anything, but each training "
    "since 0.8.0 was tried on them, and what crops teach of age follows what was called there: no independent test.",
    "- Names come from counting in the fields at 6 and 3 mm; T13, L6 and four lumbar vertebrae are not decided here. With "
    'an extra vertebra the true T12 may bear the name T11: then it is not graded, the patient may be answered "no '
    'fracture" all the same, and the numbering is not always called uncertain.',
    "- A vertebra upside down, back to front, at a tenth of its CT number or windowed to 8 bits passes as a usual picture.",
)
TOLERANCE = 2e-3  # largest |torch - onnxruntime| on random input, in SDs of an output (at least 1)


def network(stage: str, checkpoint: Path | None) -> torch.nn.Module:
    """The stage's network in eval mode, with a checkpoint's EMA weights or, without one, as initialised by seed 0."""
    torch.manual_seed(0)
    net = NETWORKS[stage]()
    if checkpoint is not None:
        net.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True)["ema"])
    return net.eval()


def example(stage: str, size: int = 0) -> torch.Tensor:
    """A random input; ``size`` 1 gives another shape than 0, to prove the dynamic axes."""
    generator = torch.Generator().manual_seed(size)
    shape = (2 + size, 1, *CROP_SHAPE) if stage == "vertebra" else ((1, 1, 32, 24, 24), (1, 1, 56, 40, 48))[size]
    return torch.rand(shape, generator=generator) * 2 - 1


def to_onnx(net: torch.nn.Module, stage: str, path: Path) -> float:
    """Export one network and return the largest torch-onnxruntime difference over two input shapes (see TOLERANCE)."""
    outputs = list(bundle.OUTPUTS[stage])
    source = "crop" if stage == "vertebra" else "image"
    axes = {name: {0: "n"} if stage == "vertebra" else {2: "z", 3: "y", 4: "x"} for name in (source, *outputs)}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the TorchScript exporter is deprecated; opset 17 with dynamic sizes needs it
        torch.onnx.export(
            net,
            (example(stage),),
            str(path),
            opset_version=17,
            input_names=[source],
            output_names=outputs,
            dynamic_axes=axes,
            dynamo=False,
        )
        sess = bundle.session(path)
        worst = 0.0
        for size in (0, 1):
            x = example(stage, size)
            for ours, theirs in zip(net(x), bundle.run(sess, stage, x.numpy()).values(), strict=True):
                worst = max(worst, float(np.abs(ours.numpy() - theirs).max()) / max(1.0, float(theirs.std())))
    return worst


def card(
    out: Path, version: str, facts: dict, evaluation: dict | None, second: dict | None, added: str | None,
    arms: dict | None, notes: str,
) -> None:
    """``MODEL_CARD.md``: what the bundle is, how well it reads, its limits; then how it was made and what was measured."""
    about = {
        "label": "3D U-Net, multi-scale self-guided attention (after arXiv 1906.02849), whole field at 6 mm",
        "segment": "the same network on the spine at 3 mm; its classes are cut into masks and share in the names",
        "vertebra": "3D U-Net with evidence, type and age heads, one crop per vertebra at 1.0 x 1.25 x 3.0 mm",
    }
    lines = [
        f"# Model card: ovcf-reference {version}",
        "",
        "Research use only, not for diagnosis (`deploy/INTENDED_USE.md`). No clinical image was used in training or for the "
        "figures below: all of them come from synthetic CT and say nothing certain about patients.",
        "",
        CARD_BEGINS,
        "## Whole pipeline, from DICOM",
        "",
        "Not evaluated: `make evaluate BUNDLE=DIR`.",
        CARD_ENDS,
        "",
        "## Limits",
        "",
        *LIMITS,
        "- Probabilities are calibrated on phantoms only. CT signs suggest a recent fracture; MRI decides where it matters.",
        "",
        "## Networks and training",
        "",
        "| stage | network | parameters | cost | torch - onnxruntime |",
        "|---|---|---|---|---|",
    ]
    for stage, f in facts.items():
        difference = "as before" if f["difference"] is None else f"{f['difference']:.1e}"
        lines.append(f"| {stage} | {about[stage]} | {f['parameters'] / 1e6:.2f} M | {f['gmac']:.1f} GMAC | {difference} |")
    lines.append("")
    for stage, f in facts.items():
        lines.append(f"- `{stage}`: {f['training']}")
    lines += ["- Data: " + TRAINED_ON + ". Generators and networks: `models/training/README.md`."]
    lines += ["", notes] if notes else []
    lines += ["", "## Stages apart", ""]
    if evaluation is None:
        lines.append("Nothing was measured for these weights.")
    else:
        lines += ["### Own generator", "", evaluation["markdown"]]
    if second is not None:
        lines += [
            "",
            "### Second generator (frozen; never trained on, other shapes, fractures and rendering)",
            "",
            second["markdown"],
        ]
    if added:
        lines += [
            "",
            "### What speaks beside the picture",
            "",
            "Calibration patients as the node reads them, each scored by weights that were fitted without it:",
            "",
            added,
        ]
    if arms is not None:
        lines += ["", "### Ablations", "", arms["markdown"]]
    (out / "MODEL_CARD.md").write_text("\n".join([*lines, ""]))


def known(work: Path | None, name: str) -> dict | None:
    """``DIR/NAME.json``, None where it was not written."""
    path = work / f"{name}.json" if work else None
    return json.loads(path.read_text()) if path and path.exists() else None


def local(folder: Path) -> str:
    """The version of a bundle that nobody has given one: its networks' digest, so that no two share it."""
    files = b"".join(path.read_bytes() for path in sorted(folder.glob("*.onnx")))
    return f"local-{hashlib.sha256(files).hexdigest()[:8]}"


def export(work: Path | None, out: Path, version: str = "") -> dict:
    """Write the whole bundle into ``out`` (replaced only when every check has passed) and return the facts.

    Segment and restoring stage stay as they are in ``out``, or else in the committed bundle, where ``work`` has none.
    """
    facts = {}
    with_segment, with_restore = (
        next((place for place in (out, bundle.REFERENCE) if (place / name).exists() and (work or place == out)), out)
        for name in ("segment.onnx", "restore.onnx")
    )
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for stage in NETWORKS:
            checkpoint = work / f"{stage}.pt" if work and (work / f"{stage}.pt").exists() else None
            if work and checkpoint is None and stage != "segment":
                raise SystemExit(f"{work / stage}.pt is missing: a bundle is not made half of random weights")
            net = network(stage, checkpoint)
            if stage == "segment" and checkpoint is None:
                if not (with_segment / "segment.onnx").exists():
                    continue
                shutil.copyfile(with_segment / "segment.onnx", folder / "segment.onnx")
                difference, training = None, "as in the bundle before, byte for byte (`models/training/LOG.md`)"
            else:
                difference, training = to_onnx(net, stage, folder / f"{stage}.onnx"), "untrained (random weights)"
                if difference > TOLERANCE:
                    raise SystemExit(f"{stage}: torch and onnxruntime differ by {difference:.2g}")
            if checkpoint:
                training = torch.load(checkpoint, map_location="cpu", weights_only=True).get("about", "trained")
            shape = {"label": (1, 1, 64, 48, 48), "segment": (1, 1, 120, 48, 48)}.get(stage, (1, 1, *CROP_SHAPE))
            facts[stage] = {
                "parameters": parameters(net),
                "gmac": gmac(net, shape),
                "difference": difference,
                "training": training,
            }
        extra = known(work, "calibration") or {}
        evaluation, second, arms = (known(work, name) for name in ("evaluation", "evaluation_second", "arms"))
        identity = {
            "name": "ovcf-reference",
            "version": version or local(folder),
            "licence": "Apache-2.0",
            "status": "research",
            "trained_on": TRAINED_ON if work else "nothing: random weights, for wiring tests only",
        }
        bundle.write(
            folder,
            identity,
            {**bundle.DEFAULT_POINTS, **extra.get("operating_points", {})},
            {**bundle.DEFAULT_TEMPERATURE, **extra.get("temperature", {})},
            extra.get("usual"),
            extra.get("height"),
            extra.get("restored"),
        )
        bundle.read(folder)
        notes = NOTES.read_text()
        written = notes.strip() if notes.startswith(f"## {version} ") else ""  # those of another bundle are not this one's
        card(folder, identity["version"], facts, evaluation, second, extra.get("added"), arms, written)
        out.mkdir(parents=True, exist_ok=True)
        export_restore.add(folder, work, with_restore)
        # figures of another bundle go
        if not (out / "bundle.toml").exists() or (out / "bundle.toml").read_bytes() != (folder / "bundle.toml").read_bytes():
            for stale in (*out.glob("errors-*.jpg"), *out.glob("EVALUATION*.md"), out / "evaluation.json"):
                stale.unlink(missing_ok=True)
        for name in (*(f"{stage}.onnx" for stage in NETWORKS), "restore.onnx", "bundle.toml", "MODEL_CARD.md"):
            if (folder / name).exists():
                shutil.copyfile(folder / name, out / name)
    return facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="folder with label.pt and vertebra.pt; without it: random weights")
    parser.add_argument("--out", type=Path, required=True, help="bundle folder")
    parser.add_argument("--version", default="", help="of the bundle, for a release; else `local-` and a digest")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for stage, facts in export(args.work, args.out, args.version).items():
        print(stage, json.dumps(facts))


if __name__ == "__main__":
    main()
