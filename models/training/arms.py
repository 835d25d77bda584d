"""Ablations of the stages that read: equal short schedules that differ in one thing, scored on the same cases.

``python models/training/arms.py --work DIR --minutes M [--only ARM ...] [--second FOLDER] [--cache FOLDER --cases N]``

Every arm starts from the committed weights and takes ``M`` minutes of processor time (so that a busy machine is fair to all
of them) with the same seed over the samples that ``DIR/fields``, ``DIR/spines`` and ``DIR/crops`` hold at the start.
``DIR/arms`` keeps each arm's network (trained again when it is deleted, or when the committed weights are others) and its
figures; ``DIR/arms.json`` and what is printed hold all arms that have any (its markdown goes into the model card).
Figures: ``evaluate.py``'s, stages apart, on own evaluation seeds (``--cache``) and on samples of the second generator
(``--second``); for the vertebra stage at the committed temperatures and operating points.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import bundle
import cases
import devices
import evaluate
import export
from blocks import GuidedAttention, resize
from fields import second_spine
from networks import NETWORKS
from pool import CropSampler, Pool
from schedule import Ema, Schedule
from scores import show
from train import CAPACITY, RATE, REFERENCE, SAMPLES, SPACING, batch_of, optimiser_of, stepper
from warm import warm_weights

PEAK = 0.3  # of a full schedule's rate: a short one from trained weights must not unlearn them first
GENERATORS = ("own generator", "second generator")
ABOUT = (
    "Equal short schedules that differ in one thing: every arm goes on from {version}'s weights for {minutes} minutes of "
    f"processor time with the same seed, at {PEAK} of the full rate. Scored stages apart (the segment stage as the label "
    f"stage, on spines at 3 mm) on own cases from seed {cases.EVALUATION} and on the second generator's selection seeds. "
    "Bypassed: the plain fused scales stand where the attended map goes. Without randomised appearance: no sample of the "
    "random family, no varied intensities."
)


class FusedOnly(GuidedAttention):
    """The attended map bypassed: the scales brought together and fused, nothing refined or attended to."""

    def forward(self, scales):
        fused = self.fuse(torch.cat([resize(b(s), scales[1]) for b, s in zip(self.bring, scales, strict=True)], 1))
        return fused, fused.new_zeros(())


@dataclass(frozen=True)
class Arm:
    """``schedule``: False scores the committed weights; ``attention``: False bypasses it; ``fresh``: modules that start from
    random weights; ``varied``: False takes neither the random appearance family nor `augment.intensity`; ``painted``: takes
    crops with painted damage too.
    """

    stage: str
    about: str
    schedule: bool = True
    attention: bool = True
    fresh: tuple[str, ...] = ()
    varied: bool = True
    painted: bool = False


ARMS = {
    "label-committed": Arm("label", "committed weights, no schedule", schedule=False),
    "label": Arm("label", "as it is"),
    "label-bypassed": Arm("label", "attention bypassed", attention=False),
    "label-fresh": Arm("label", "attention from random weights", fresh=("attend",)),
    "label-fresh-bypassed": Arm("label", "bypassed, fusion from random weights", attention=False, fresh=("attend",)),
    "label-physical": Arm("label", "without randomised appearance", varied=False),
    "segment-committed": Arm("segment", "committed weights, no schedule", schedule=False),
    "segment": Arm("segment", "as it is"),
    "segment-bypassed": Arm("segment", "attention bypassed", attention=False),
    "segment-physical": Arm("segment", "without randomised appearance", varied=False),
    "vertebra-committed": Arm("vertebra", "committed weights, no schedule", schedule=False),
    "vertebra": Arm("vertebra", "as it is"),
    "vertebra-physical": Arm("vertebra", "without randomised appearance", varied=False),
    "vertebra-painted": Arm("vertebra", "with painted damage", painted=True),
}


def network(arm: Arm) -> torch.nn.Module:
    """The arm's network with the committed weights, less what starts afresh."""
    net = NETWORKS[arm.stage]()
    if not arm.attention:
        net.attend = FusedOnly(tuple(b[0].in_channels for b in net.attend.bring), net.attend.width)
    found = warm_weights(REFERENCE / f"{arm.stage}.onnx", net.state_dict())
    net.load_state_dict({k: v for k, v in found.items() if k.split(".")[0] not in arm.fresh}, strict=False)
    return net.train()


def samples(arm: Arm, work: Path) -> Pool | CropSampler:
    """What the arm may see, all in memory."""
    if arm.stage != "vertebra":
        pool = Pool(work / SAMPLES[arm.stage], CAPACITY[arm.stage])
        if not arm.varied:
            pool.names = [n for n in pool.names if not pool.samples[n]["random"]]
        return pool
    pool = Pool(work / "crops", devices.CPU.crop_files)
    painted = Pool(work / "painted", devices.CPU.crop_files) if arm.painted else None
    return CropSampler(pool, physical=not arm.varied, painted=painted)


def trained(arm: Arm, work: Path, minutes: float, seed: int) -> Ema:
    """One schedule of the arm; the mean of its weights and its steps."""
    torch.manual_seed(seed)
    net, device = network(arm), devices.CPU
    ema, optimiser, source = Ema(net), optimiser_of(net), samples(arm, work)
    files = len((source.pool if arm.stage == "vertebra" else source).names)
    if not files:
        raise SystemExit(f"{work} holds no samples ({arm.about}): python models/training/cases.py --work {work} --count 200")
    batches = device.batches(batch_of(arm.stage, source, device, arm.varied), seed, 0)
    one = stepper(arm.stage, net, ema, optimiser, batches, device, PEAK * RATE[arm.stage])
    Schedule(arm.about, minutes if arm.schedule else 0, time.process_time).run(one, lambda: None, lambda: files)
    return ema


def figures(stage: str, path: Path, given: list[dict]) -> dict:
    """`evaluate.py`'s figures of one exported stage on samples, at the committed bundle's operating points."""
    session, settings = bundle.session(path), bundle.read(REFERENCE)["stages"]["vertebra"]
    if stage in SPACING:
        return evaluate.label_scores([evaluate.label_case(session, s, SPACING[stage]) for s in given])
    found = evaluate.gather(session, given)
    return evaluate.vertebra_scores(found, settings["operating_points"], settings["temperature"], settings.get("height"))


def row(stage: str, f: dict) -> list[str]:
    if stage == "vertebra":
        return [f"{f['auc']:.3f}", show(f["sensitivity"]), show(f["specificity"]), show(f["denis_by_mean_of_detected"]),
                f"{f['body_dice']}"]
    cells = [show(f["vertebrae"]), show(f["cases_all_right"]), f"{f['centre_error_mm']} mm", f"{f['body_dice']}"]
    levels = [v["dice"] for v in f["levels"].values() if v["dice"] is not None]
    return [*cells, f"{np.mean(levels):.3f}"] if stage == "segment" else cells


NAMED = ("vertebra named right", "all of a case right", "centre error", "body dice")
HEADS = {
    "label": NAMED,
    "segment": (*NAMED, "dice of a level"),
    "vertebra": ("fracture AUC", "sensitivity", "specificity", "type of detected", "body dice"),
}


def origin(stage: str) -> str:
    """Digest of the weights that a stage's arms start from."""
    return bundle.digest(REFERENCE / f"{stage}.onnx")


def recorded(folder: Path) -> dict[str, dict]:
    """What is known of every arm that started from the present weights, by its name."""
    found = {n: json.loads((folder / f"{n}.json").read_text()) for n in ARMS if (folder / f"{n}.json").exists()}
    return {n: d for n, d in found.items() if d.get("weights") == origin(ARMS[n].stage)}


def table(done: dict[str, dict]) -> str:
    """Markdown of the arms, one table a stage and generator."""
    lines = []
    for stage, heads in HEADS.items():
        for where in GENERATORS:
            mine = {n: d for n, d in done.items() if ARMS[n].stage == stage and where in d["figures"]}
            if not mine:
                continue
            lines += ["", f"| {stage} stage, {where} | steps | " + " | ".join(heads) + " |", "|---" * (len(heads) + 2) + "|"]
            for d in mine.values():
                cells = " | ".join(row(stage, d["figures"][where]))
                lines.append(f"| {d['about']} | {d['steps']} | {cells} |")
    return "\n".join(lines).strip()


def report(folder: Path) -> dict:
    """``arms.json``: the figures of all arms and what the model card says of them."""
    done = recorded(folder)
    minutes = " or ".join(f"{m:g}" for m in sorted({d["minutes"] for d in done.values()}))
    about = ABOUT.format(version=bundle.read(REFERENCE)["bundle"]["version"], minutes=minutes)
    return {"arms": done, "markdown": f"{about}\n\n{table(done)}"}


def scored_on(stage: str, cache: Path | None, count: int, second: Path | None) -> dict[str, list[dict]]:
    """The samples of each generator that a stage's arms are scored on."""
    kind, groups = SAMPLES[stage], {}
    if cache:
        seeds = range(cases.EVALUATION, cases.EVALUATION + count)
        groups[GENERATORS[0]] = [cases.rendered(cache, "study", seed, kind) for seed in seeds]
    if second:
        fields = (path.stem for path in (second / "fields").glob("*.npz"))
        for seed in fields if kind == "spines" else ():  # second/samples.py writes none
            if not (second / kind / f"{seed}.npz").exists():
                cases.save(second / kind, seed, second_spine(int(seed)))
        groups[GENERATORS[1]] = list(Pool(second / kind, 10_000).samples.values())
    return groups


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--only", nargs="+", choices=ARMS, default=list(ARMS), metavar="ARM", help=", ".join(ARMS))
    parser.add_argument("--second", type=Path, help="samples of the second generator (second/samples.py)")
    parser.add_argument("--cache", type=Path, help="rendered evaluation cases (evaluate.py --cache)")
    parser.add_argument("--cases", type=int, default=24, help="of our own generator")
    parser.add_argument("--seed", type=int, default=1)
    a = parser.parse_args()
    torch.set_num_threads(1)
    folder = a.work / "arms"
    folder.mkdir(parents=True, exist_ok=True)
    for name in a.only:
        arm, path = ARMS[name], folder / f"{name}.onnx"
        found = recorded(folder).get(name, {}) if path.exists() else {}
        if not found:
            ema = trained(arm, a.work, a.minutes, a.seed)
            export.to_onnx(ema.net, arm.stage, path)
            found = {"about": arm.about, "steps": ema.steps, "minutes": a.minutes, "weights": origin(arm.stage)}
        groups = scored_on(arm.stage, a.cache, a.cases, a.second)
        found["figures"] = found.get("figures", {}) | {w: figures(arm.stage, path, given) for w, given in groups.items()}
        (folder / f"{name}.json").write_text(json.dumps(found, indent=1))
    result = report(folder)
    (a.work / "arms.json").write_text(json.dumps(result, indent=1))
    print(result["markdown"])


if __name__ == "__main__":
    main()
