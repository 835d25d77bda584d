"""Puts the restoring stage into a bundle folder that has the other stages: ``restore.onnx``, its tables, its card section.

``python models/training/export_restore.py --bundle models/reference --work DIR``: from ``DIR/restore.pt`` (EMA weights) and,
where it exists, ``DIR/ablation.json`` (``ablate.py``).
``python models/training/export_restore.py --bundle models/reference --before OTHER``: the stage of another bundle folder.

``export.py`` calls `add` after the other stages: with new weights where ``DIR`` has them, otherwise with the stage that the
bundle had, or the committed one has.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import warnings
from pathlib import Path

import numpy as np
import torch

import bundle
from ovcf_node.infer import self_test
from restorer import RestoreNet, example

INPUTS = ("crop", "context", "region")
OUTPUTS = ("restored", "body")
TOLERANCE = 2e-3  # largest |torch - onnxruntime| on random input, in SDs of an output (at least 1)
CARD_BEGINS, CARD_ENDS = "<!-- restore: begins -->", "<!-- restore: ends -->"


def to_onnx(net: torch.nn.Module, path: Path) -> float:
    """Export with a dynamic crop count and return the largest torch-onnxruntime difference (see TOLERANCE)."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the TorchScript exporter is deprecated; opset 17 with dynamic sizes needs it
        torch.onnx.export(
            net, example(2), str(path), opset_version=17, input_names=list(INPUTS), output_names=list(OUTPUTS),
            dynamic_axes={name: {0: "n"} for name in (*INPUTS, *OUTPUTS)}, dynamo=False,
        )
        worst, session = 0.0, bundle.session(path)
        for count in (1, 3):
            given = example(count)
            theirs = session.run(list(OUTPUTS), dict(zip(INPUTS, (x.numpy() for x in given), strict=True)))
            for a, b in zip(net(*given), theirs, strict=True):
                worst = max(worst, float(np.abs(a.numpy() - b).max()) / max(1.0, float(b.std())))
    return worst


def tables(path: Path) -> str:
    """The stage's part of ``bundle.toml``; self-test numbers come from onnxruntime."""
    stage = {"file": path.name, "sha256": bundle.digest(path), "window_hu": bundle.VERTEBRA_WINDOW}
    given = self_test.crop_tensors(bundle.VERTEBRA, bundle.RESTORE)
    return bundle.table("stages.restore", stage) + bundle.promised("stages.restore", bundle.session(path), given)


def add(folder: Path, work: Path | None, before: Path | None = None) -> dict | None:
    """Add the stage to the bundle in ``folder``: from ``work/restore.pt``, else from the bundle ``before``, else not at all.

    Returns the exported stage's facts, None where no new weights were exported.
    """
    checkpoint = work / "restore.pt" if work else None
    path, facts, section = folder / "restore.onnx", None, None
    if checkpoint and checkpoint.exists():
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        net = RestoreNet()
        net.load_state_dict(state["ema"])
        facts = {"difference": to_onnx(net.eval(), path), "training": state["about"]}
        if facts["difference"] > TOLERANCE:
            raise SystemExit(f"restore: torch and onnxruntime differ by {facts['difference']:.2g}")
        section = card(facts, work / "ablation.json")
    elif before and (before / path.name).exists():
        shutil.copyfile(before / path.name, path)
        section = _section(before / "MODEL_CARD.md")
    else:
        return None
    manifest = folder / "bundle.toml"
    text = re.sub(r"\[stages\.restore[\s\S]*?(?=\n\[(?!stages\.restore)|\Z)", "", manifest.read_text()).rstrip()
    manifest.write_text(f"{text}\n\n{tables(path)}")
    bundle.read(folder)
    place = folder / "MODEL_CARD.md"
    if section and place.exists():
        text = place.read_text()
        old = _section(place)
        text = text.replace(old, section) if old else f"{text.rstrip()}\n\n{section}\n"
        place.write_text(text)
    return facts


def _section(card_file: Path) -> str | None:
    """The stage's section of a model card, with its marks."""
    if not card_file.exists():
        return None
    found = re.search(f"{CARD_BEGINS}.*?{CARD_ENDS}", card_file.read_text(), re.DOTALL)
    return found.group(0) if found else None


def card(facts: dict, ablation: Path) -> str:
    """The stage's section of the model card."""
    lines = [
        CARD_BEGINS, "## Restoring stage (vertebral-damage GAN)", "",
        "Paints each graded vertebra as it may have been undamaged, from its crop without the vertebra and from its "
        "neighbours. Its relative height loss and damage explain a reading, and weigh in the probability of a fracture as "
        "`[stages.vertebra.restored]` says (what that adds: above, and below on crops near the truth). The painted picture "
        "is a hypothesis and is never stored as an image.", "",
        f"- Training: {facts['training']}; synthetic pairs of the same seed with and without the damage.",
        f"- torch - onnxruntime: {facts['difference']:.1e}", "",
    ]
    if ablation.exists():
        lines += [json.loads(ablation.read_text())["markdown"], ""]
    return "\n".join([*lines, CARD_ENDS])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True, help="bundle folder that gets the stage")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--work", type=Path, help="folder with restore.pt")
    source.add_argument("--before", type=Path, help="bundle folder that has the stage")
    a = parser.parse_args()
    torch.set_num_threads(1)
    facts = add(a.bundle, a.work, a.before)
    if "file" not in bundle.read(a.bundle)["stages"].get("restore", {}):
        raise SystemExit(f"no restoring stage in {a.work or a.before}")
    print(json.dumps(facts or {"from": str(a.before)}))


if __name__ == "__main__":
    main()
