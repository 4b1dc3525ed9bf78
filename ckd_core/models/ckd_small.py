"""`ckd_s128`: CKD's design for robots without a GPU, on 64 px templates and 128 px search regions.

One student encoder per modality over one frozen stem, fused by concatenation in the head. In training two teachers of
the same shape, each with a head of its own: style is coupled between the students, content comes from the teachers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ckd_core.models.ckd import CKDError, CKDTraining, require_teachers
from ckd_core.models.config import CKDSmallConfig
from ckd_core.models.layers.head import CenterHead
from ckd_core.models.layers.streams import expect_few_targets
from ckd_core.models.sdstrack_small import StreamEncoder
from ckd_core.models.stem_network import StemNetwork

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from ckd_core.models.layers.head import HeadOutput

BRANCHES = ("rgb_branch", "tir_branch", "teacher_rgb", "teacher_tir")


class CKDSmall(StemNetwork):
    """`rgb_branch` and `tir_branch` are the students (`tir` is the auxiliary modality, whatever it is)."""

    config: CKDSmallConfig

    def __init__(self, name: str, config: CKDSmallConfig) -> None:
        super().__init__(name, config)
        mix, wide = config.mix_channels, config.head_channels
        self.rgb_branch = StreamEncoder(config, adapted=False)
        self.tir_branch = StreamEncoder(config, adapted=False)
        self.box_head = CenterHead(2 * mix, wide)
        expect_few_targets(self.box_head)
        if config.teachers:
            self.teacher_rgb = StreamEncoder(config, adapted=False)
            self.teacher_tir = StreamEncoder(config, adapted=False)
            self.box_head_v = CenterHead(mix, wide)
            self.box_head_i = CenterHead(mix, wide)
            expect_few_targets(self.box_head_v)
            expect_few_targets(self.box_head_i)

    def _stems(self, images: Tensor) -> tuple[Tensor, Tensor]:
        rgb, aux = self.stem_features(images).chunk(2)
        return rgb, aux

    def _embed(self, template: Tensor) -> Tensor:
        rgb, aux = self._stems(template)
        tokens = (_tokens(self.rgb_branch.features(rgb)), _tokens(self.tir_branch.features(aux)))
        return torch.stack(tokens, dim=1)

    def _track(self, template_tokens: Tensor, search: Tensor, template_mask: Tensor | None) -> HeadOutput:
        del template_mask  # the whole template is compared
        rgb, aux = self._students(template_tokens, search)
        output: HeadOutput = self.box_head(torch.cat((rgb[-1], aux[-1]), dim=1))
        return output

    def _students(self, template_tokens: Tensor, search: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Mixed features [B, mix, g, g] of both students, nothing masked; see `_encode`."""
        rgb, aux = self._stems(search)
        return (
            _encode(self.rgb_branch, template_tokens[:, 0], self.rgb_branch.features(rgb)),
            _encode(self.tir_branch, template_tokens[:, 1], self.tir_branch.features(aux)),
        )

    def student_blocks(self, template: Tensor, search: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Search cells [B, g * g, mix] of the colour and the auxiliary student after the correlation and every stage.

        Args:
            template: [B, 6, z, z] normalised images.
            search: [B, 6, x, x] normalised images.
        """
        students = self._students(self._embed(template), search)
        return list(zip(*map(_blocks, students), strict=True))

    def draw_masks(self, batch: int, device: torch.device, generator: torch.Generator | None = None) -> Tensor | None:
        """Keep mask [B, search cells] bool, True = cell that the students see; None where nothing is masked."""
        chance, tokens = self.config.mask_probability, self.config.search_tokens
        if chance == 0 or self.config.mask_ratio == 0:
            return None
        mask = torch.rand(batch, tokens, generator=generator) > self.config.mask_ratio
        if chance < 1:
            mask |= torch.rand(batch, 1, generator=generator) >= chance
        return mask.to(device)

    def _forward_train(
        self, template: Tensor, search: Tensor, template_mask: Tensor | None, keep_rate: float, masks: Tensor | None
    ) -> CKDTraining:
        """Students over masked search cells, teachers over all. Block features are search cells [B, g * g, mix].

        Without elimination there is nothing to rank or to keep.
        """
        del template_mask, keep_rate
        require_teachers(self)
        z, x = self._stems(template), self._stems(search)
        grid = self.config.grid
        keep = None if masks is None else masks.to(x[0].dtype).view(-1, 1, grid, grid)
        lanes = []
        for branch, side, mask in (
            (self.rgb_branch, 0, keep),
            (self.tir_branch, 1, keep),
            (self.teacher_rgb, 0, None),
            (self.teacher_tir, 1, None),
        ):
            lanes.append(_encode(branch, _tokens(branch.features(z[side])), branch.features(x[side], mask)))
        rgb, aux, teacher_rgb, teacher_aux = lanes
        return CKDTraining(
            self.box_head(torch.cat((rgb[-1], aux[-1]), dim=1)),
            self.box_head_v(teacher_rgb[-1]),
            self.box_head_i(teacher_aux[-1]),
            student_rgb=_blocks(rgb),
            student_aux=_blocks(aux),
            teacher_rgb_blocks=_blocks(teacher_rgb),
            teacher_aux_blocks=_blocks(teacher_aux),
            removed=(),
            keep_mask=masks,
        )


def weights_from_shared_encoder(wanted: Mapping[str, Tensor], shared: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """First weights of a `CKDSmall` with the state dict `wanted`, from those of an `SDSTrackSmall`.

    Its encoder, without adapters, goes to every branch; its head to every teacher, and twice on the input axis, halved
    so that equal streams give the same maps, to the students' head.

    Raises:
        CKDError: keys or shapes that do not fit.
    """
    weights = {}
    for key, value in wanted.items():
        part, _, rest = key.partition(".")
        source = key if part == "stem" else f"encoder.{rest}" if part in BRANCHES else f"box_head.{rest}"
        if source not in shared:
            raise CKDError(f"no {source} to start {key} from; expected the weights of sdstrack_s128")
        tensor = shared[source].float() if shared[source].is_floating_point() else shared[source]
        if part == "box_head" and tensor.ndim == 4 and value.shape[1] == 2 * tensor.shape[1]:
            tensor = torch.cat((tensor, tensor), dim=1) / 2
        if tensor.shape != value.shape:
            raise CKDError(f"{source} is {list(tensor.shape)}; expected {list(value.shape)} for {key}")
        weights[key] = tensor
    return weights


def _tokens(features: Tensor) -> Tensor:
    return features.flatten(2).transpose(1, 2)  # [B, h * w, width]


def _blocks(stages: list[Tensor]) -> tuple[Tensor, ...]:
    return tuple(_tokens(stage) for stage in stages)


def _encode(branch: StreamEncoder, template: Tensor, search: Tensor) -> list[Tensor]:
    """Mixed features [B, mix, g, g] after the correlation and after every stage."""
    mixed = [branch.correlate(template, search)]
    for number in range(len(branch.stages)):
        mixed.append(branch.stage(number, mixed[-1]))
    return mixed


ROWS = {"ckd_s128": (CKDSmall, CKDSmallConfig())}
