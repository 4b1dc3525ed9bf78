"""What both distillations change, measured: small networks, synthetic pairs, several seeds, the same budget each.

    python -m tools.distillation_evidence --out out/evidence

For every seed one sdstrack_s128 learns from pairs with two working cameras (its stem is ImageNet's, the rest random).
From these weights go on, for the same number of pairs each:

- SDSTrack: without distillation; with the masked path but no distillation term; with both. Held-out pairs are then
  shown whole, and without either camera, in both ways: "masked" blanks all its patch tokens as the masked path of
  training blanks some, "black" is a black image. Both in template and search region.
- CKD: style loss off, as published, ten times as strong. The style gap between the students is measured on held-out
  pairs, unmasked, with the formula of the loss.

Every run is resumed where it stopped, and every finished measurement is kept in OUT, so the tool can be stopped and
started again at any time. It ends with two Markdown tables.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ckd_core.boxes import cxcywh_to_xyxy, iou, xywh_to_xyxy
from ckd_core.data.pairs import TrainingBatch, collate
from ckd_core.files import write_json
from ckd_core.models.layers.head import decode_boxes
from ckd_core.models.normalisation import IMAGE_MEAN, IMAGE_STD
from ckd_core.models.sdstrack import TokenMasks
from ckd_core.objectives.ckd import style_per_block
from ckd_core.settings import build
from ckd_core.training.build import build_trainer
from ckd_core.training.config import TrainSettings
from ckd_core.training.loop import TrainingInterruptedError

if TYPE_CHECKING:
    from ckd_core.models.ckd_small import CKDSmall
    from ckd_core.models.config import NetworkConfig

ALIVE = {"drop_rgb": 0.0, "drop_aux": 0.0, "lose_rgb": 0.0, "lose_aux": 0.0, "hard": 0.35}
BOTH_CAMERAS = {"kind": "synthetic", "options": ALIVE}
HELD_OUT_WORLD, HELD_OUT_SEED = 977, 55
SDSTRACK: dict[str, dict[str, Any]] = {
    "not distilled": {"fine_weight": 1.0, "masked_weight": 0.0, "mse_weight": 0.0},
    "masked path, no distillation term": {"mse_weight": 0.0},
    "distilled": {},
}
CKD = {"off": 0.0, "0.01 (published)": 0.01, "0.1": 0.1}  # style weights
CAMERAS = {"colour": slice(0, 3), "auxiliary camera": slice(3, 6)}  # channels
SHOWN = ("both cameras", *(f"{camera} {how}" for how in ("masked", "black") for camera in CAMERAS))


def settings(out: Path, model: str, objective: dict[str, Any], init: dict[str, Any], seed: int, pairs: int,
             lr: float) -> TrainSettings:  # fmt: skip
    """Settings of one run of `pairs` pairs."""
    ckd = model.startswith("ckd")
    trained = ["branch", "teacher", "box_head"] if ckd else ["encoder", "cross", "weigh.", "trunk", "box_head"]
    return build(
        TrainSettings,
        {
            "model": {
                "name": model,
                "modalities": ["depth", "thermal", "event"],
                "init": init,
                "overrides": {"teachers": True} if ckd else {},
            },
            "objective": objective,
            "data": {"train": [BOTH_CAMERAS]},
            "optim": {
                "groups": [{"contains": trained, "lr": lr}],
                "clip_norm": 5.0,
                "schedule": {"kind": "cosine", "warmup_steps": 20, "final": 0.02},
                "precision": "bf16",
            },
            "run": {
                "out": str(out),
                "epochs": 1,
                "batch_size": 16,
                "samples_per_epoch": pairs,
                "val_every": 0,
                "checkpoint_every": 0,
                "checkpoint_minutes": 2.0,
                "images_every": 0,
                "seed": seed,
                "workers": 0,
                "threads": 1,
            },
        },
        "evidence",
    )


def trained(chosen: TrainSettings) -> Any:
    """The network after its run; done, resumed or started."""
    trainer = build_trainer(chosen)
    if trainer.last.exists():
        trainer.resume()
    if trainer.step < chosen.total_steps:
        trainer.run()
    return trainer.network.eval()


def held_out(count: int) -> list[TrainingBatch]:
    """Pairs of another world and seed, both cameras working."""
    from ckd_core.data.synthetic import PairSettings, SyntheticPairs, World

    pairs = SyntheticPairs(World(HELD_OUT_WORLD), build(PairSettings, ALIVE, "held-out pairs"), HELD_OUT_SEED)
    return [collate([(i, pairs[i]) for i in range(start, start + 32)]) for start in range(0, count, 32)]


@torch.no_grad()
def pair_ious(network: Any, batches: list[TrainingBatch], shown: str = "both cameras") -> float:
    """Mean IoU of the box at the peak on pairs that are shown as one of `SHOWN` says."""
    camera, how = shown.rsplit(" ", 1)
    dark = -(torch.tensor(IMAGE_MEAN) / torch.tensor(IMAGE_STD))[:, None, None]  # black, normalised
    ious = []
    for batch in batches:
        images = [batch.template.clone(), batch.search.clone()]
        if how == "masked":
            head = network.forward_train(*images, masks=all_of(camera, len(batch), network.config)).masked.head
        else:
            if how == "black":
                for image in images:
                    image[:, CAMERAS[camera]] = dark
            head = network(*images)
        ious.append(iou(cxcywh_to_xyxy(decode_boxes(head).box_cxcywh), xywh_to_xyxy(batch.search_box).clamp(0, 1)))
    return float(torch.cat(ious).mean())


def all_of(camera: str, count: int, config: NetworkConfig) -> TokenMasks:
    """Masks that blank every token of one camera, and none of the other."""
    return TokenMasks(
        *(
            torch.full((count, tokens), camera == masked)
            for tokens in (config.template_tokens, config.search_tokens)
            for masked in CAMERAS
        )
    )


@torch.no_grad()
def style_gap(network: CKDSmall, batches: list[TrainingBatch]) -> float:
    """Sum over blocks of the gap between the students' style, mean over batches."""
    keep = torch.ones(32, network.config.search_tokens, dtype=torch.bool)
    gaps = []
    for batch in batches:
        output = network.forward_train(batch.template, batch.search, masks=keep[: len(batch)])
        gaps.append(float(style_per_block(output.student_rgb, output.student_aux).sum()))
    return statistics.fmean(gaps)


def measure(
    out: Path, seed: int, first_pairs: int, pairs: int, batches: list[TrainingBatch], variants: list[str]
) -> dict[str, Any]:
    """Run and measure everything of one seed; what is on disk is not run again."""
    file = out / f"seed_{seed}.json"
    asked = {"first_pairs": first_pairs, "pairs": pairs, "held_out": 32 * len(batches)}
    done: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {"asked": asked}
    if done.get("asked", asked) != asked:
        sys.exit(f"{file} was measured with {done['asked']}, not {asked}; give another --out")
    stem = {"kind": "imagenet_stem"}
    start = out / f"seed_{seed}" / "start"
    trained(settings(start, "sdstrack_s128", {"kind": "dense"}, stem, seed, first_pairs, 1e-3))
    begin = str(start / "final.safetensors")
    for name, objective in SDSTRACK.items():
        missing = [shown for shown in SHOWN if shown not in done.get(name, {})]
        if not missing or name not in variants:
            continue
        folder = out / f"seed_{seed}" / name.replace(" ", "_").replace(",", "")
        chosen = settings(
            folder, "sdstrack_s128", {"kind": "sdstrack", **objective}, {"kind": "weights", "file": begin}, seed, pairs,
            5e-4,
        )  # fmt: skip
        network = trained(chosen)
        done[name] = done.get(name, {}) | {shown: pair_ious(network, batches, shown) for shown in missing}
        write_json(file, done)
    for name, weight in CKD.items():
        key = f"style {name}"
        if key in done or name not in variants:
            continue
        folder = out / f"seed_{seed}" / f"style_{weight:g}"
        init = {"kind": "shared_encoder", "file": begin}
        chosen = settings(folder, "ckd_s128", {"kind": "ckd", "style_weight": weight}, init, seed, pairs, 5e-4)
        network = trained(chosen)
        done[key] = {"gap": style_gap(network, batches), "iou": pair_ious(network, batches)}
        write_json(file, done)
    return done


def tables(results: dict[int, dict[str, Any]]) -> str:
    """Mean over seeds, and every seed's value in brackets."""

    def cell(name: str, key: str) -> str:
        values = [one[name][key] for one in results.values()]
        each = ", ".join(f"{value:.3f}" for value in values)
        return f"{statistics.fmean(values):.3f} ({each})"

    def table(head: str, names: dict[str, str], columns: dict[str, str]) -> list[str]:
        """Rows of what was measured; `names` and `columns` map what is shown to what it is called in the file."""
        lines = [f"| {head} | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
        measured = {shown: name for shown, name in names.items() if all(name in one for one in results.values())}
        for shown, name in measured.items():
            lines.append(f"| {shown} | " + " | ".join(cell(name, key) for key in columns.values()) + " |")
        return [*lines, ""] if measured else []

    lines = table("SDSTrack, held-out pair IoU", {name: name for name in SDSTRACK}, {shown: shown for shown in SHOWN})
    gap = {"style gap between the students": "gap", "held-out pair IoU": "iou"}
    lines += table("CKD, style weight", {name: f"style {name}" for name in CKD}, gap)
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/evidence"))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--first-pairs", type=int, default=6400, help="of the common start")
    parser.add_argument("--pairs", type=int, default=1280, help="of every run after it")
    parser.add_argument("--variants", nargs="+", choices=(*SDSTRACK, *CKD), default=[*SDSTRACK, *CKD])
    parser.add_argument("--held-out", type=int, default=256, help="pairs to measure on, a multiple of 32")
    chosen = parser.parse_args()
    batches = held_out(chosen.held_out)
    try:
        results = {
            seed: measure(chosen.out, seed, chosen.first_pairs, chosen.pairs, batches, chosen.variants)
            for seed in range(chosen.seeds)
        }
    except TrainingInterruptedError as stopped:
        sys.exit(f"{stopped}; the same command goes on")
    print(tables(results))


if __name__ == "__main__":
    main()
