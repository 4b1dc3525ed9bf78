"""What each part of the default's training is worth: `python -m tools.ablation OUT --root DATA --teacher DIR`.

Every variant is a short training (a quarter of `config/train/first_sdstrack_m256.yaml`: pairs, steps, warm-up, average)
that lacks one thing. Its last weights are scored on validation footage alone: one step from a true box, and whole
recordings with the published tracker's rules, which are the same for all. OUT keeps tracks, caches, runs and scores,
so a call goes on where one stopped.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ckd_core.evaluation.benchmark import open_plan
from ckd_core.evaluation.report.figures import box_rows
from ckd_core.evaluation.report.table_files import markdown_table
from ckd_core.evaluation.running.one_step import LONG_SHAPE, one_step_table
from ckd_core.settings import load_yaml
from tools.validation import PARTS, Request, benchmark_options, part_tracks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Recipe = dict[str, Any]

RECIPE = Path(__file__).parents[1] / "config" / "train" / "first_sdstrack_m256.yaml"
PAIRS, CLIPS = (4500, 3500), 150  # of both sources; synthetic clips among the first one's
WARMUP_STEPS, EMA_DECAY = 40, 0.992
SCORED = ("real", "starts")  # of `tools.validation`
COLUMNS = (
    "training",
    "one step, IoU",
    f"shape above {LONG_SHAPE} : 1",
    *(f"{part}, AUC" for part in SCORED),
)


@dataclass(frozen=True, slots=True)
class Variant:
    """A training that lacks something.

    Attributes:
        text: For the table.
        change: Takes it out of the recipe, which is changed in place.
        own: Sources (0: real pictures, 1: rendered ones) of which it needs other pairs than the full training.
    """

    text: str
    change: Callable[[Recipe], object]
    own: tuple[int, ...] = ()


def _overrides(**fields: Any) -> Callable[[Recipe], object]:
    return lambda recipe: recipe["model"].update(overrides=fields)


def _not_taught(recipe: Recipe) -> None:
    recipe["objective"]["imitate"] = 0.0


def _without_teacher(recipe: Recipe) -> None:
    _not_taught(recipe)
    _keep(recipe, lambda group: group["what"] != "tracks")


def _keep(recipe: Recipe, wanted: Callable[[dict[str, Any]], bool]) -> None:
    source = recipe["data"]["train"][0]
    source["groups"] = [group for group in source["groups"] if wanted(group)]


VARIANTS = {
    "full": Variant("everything", lambda _: None),
    "second_seed": Variant("everything, another seed", lambda recipe: recipe["run"].update(seed=1)),
    "plain_crops": Variant("without square boxes", _overrides(square_boxes=False), (0, 1)),
    "half_size": Variant("half the resolution", _overrides(template_size=64, search_size=128), (0, 1)),
    "no_real": Variant(
        "without real pictures", lambda recipe: _keep(recipe, lambda group: group["what"] == "scenes"), (0,)
    ),
    "no_imitation": Variant("without the teacher's features", _not_taught),
    "no_teacher": Variant("without the teacher's features and tracks", _without_teacher, (0,)),
}


def recipe_of(name: str, out: Path) -> Recipe:
    """The recipe of a variant, with everything that it writes in `out`."""
    recipe: Recipe = load_yaml(RECIPE)
    variant = VARIANTS[name]
    for number, source in enumerate(recipe["data"]["train"]):
        owner = name if number in variant.own else "full"
        source.update(count=PAIRS[number], tracks=str(out / "tracks.json"), cache=str(out / f"{owner}_{number}"))
        for group in source["groups"]:
            if group["what"] == "scenes":
                group["clips"] = CLIPS
    recipe["run"].update(out=str(out / name), samples_per_epoch=PAIRS[0])
    recipe["optim"]["schedule"]["warmup_steps"] = WARMUP_STEPS
    recipe["optim"]["ema_decay"] = EMA_DECAY
    variant.change(recipe)
    return recipe


def train(name: str, options: argparse.Namespace) -> Path:
    """Train a variant, or go on with it; returns its weights.

    Raises:
        SystemExit: A step of it failed; it has said why.
    """
    weights: Path = options.out / name / "final.safetensors"
    if weights.exists():
        return weights
    path: Path = options.out / f"{name}.yaml"
    path.write_text(yaml.safe_dump(recipe_of(name, options.out), sort_keys=False))
    teacher = ["--teacher", str(options.teacher)]
    for verb in (["label", str(path), *teacher], ["cache", str(path), *teacher], ["train", str(path), "--resume"]):
        environment = {**os.environ, "SDSTRACK_MATERIAL": str(options.root)}
        status = subprocess.run([sys.executable, "-m", "ckd_core.cli", *verb], env=environment, check=False).returncode
        if status:
            raise SystemExit(f"sdstrack {verb[0]} {path} ended with status {status}; see above")
    return weights


def score(name: str, weights: Path, options: argparse.Namespace) -> list[str]:
    """A row of the table: one-step IoU, then success AUC."""
    out = options.out / "scores" / name
    footage = options.footage or options.out / "footage"
    request = Request(out / "published", options.root, footage, weights=weights, engine=options.engine, published=True)
    parts = [part for part in PARTS if part.name in SCORED]
    plan = open_plan(replace(benchmark_options(parts[0], "full", request), out=out / "one_step"))
    means = [row.iou for row in one_step_table(plan, None, lambda *_: None) if row.sequence.startswith("mean")]
    aucs = [box_rows("", part_tracks(part, request))[-1].auc for part in parts]
    return [VARIANTS[name].text, *(f"{value:.3f}" for value in (*means, *aucs))]


def main(arguments: Sequence[str] | None = None) -> int:
    """Train what is missing, score it, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--root", type=Path, required=True, help="folder of sequences, sequences_hard and training")
    parser.add_argument("--teacher", type=Path, required=True, help="folder of NanoTrack v2's ONNX files")
    parser.add_argument("--footage", type=Path, help="footage of tools.validation; default: OUT/footage")
    parser.add_argument("--engine", default="openvino/fp32")
    parser.add_argument("--variants", default=",".join(VARIANTS), help="default: %(default)s")
    options = parser.parse_args(arguments)
    names = options.variants.split(",")
    if unknown := sorted(set(names) - VARIANTS.keys()):
        parser.error(f"unknown variants {', '.join(unknown)}; expected some of {', '.join(VARIANTS)}")
    options.out.mkdir(parents=True, exist_ok=True)
    lines = []
    for name in names:
        lines.append(score(name, train(name, options), options))
        print(" | ".join(lines[-1]), file=sys.stderr, flush=True)
    print(markdown_table(COLUMNS, lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
