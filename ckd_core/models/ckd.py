"""CKD (ACM MM 2024): one student per modality, fused in the head, and in training two teachers beside them.

Branches are plain calls. In joint elimination the element-wise maximum of both students' attention rows ranks the
search tokens of all branches, so that concatenated features stay aligned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from torch import nn

from ckd_core.errors import TrackingError
from ckd_core.models.config import CKDConfig
from ckd_core.models.layers.elimination import Ranking, keep_count, refill, renumber, search_scores, take
from ckd_core.models.layers.head import CenterHead, to_map
from ckd_core.models.layers.vit import (
    NORM_EPS,
    Block,
    PatchEmbed,
    draw_normal,
    drop_path_rates,
    initialise,
    resize_positions,
    zeros_table,
)
from ckd_core.models.network import TrackingNetwork

if TYPE_CHECKING:
    from torch import Tensor

    from ckd_core.models.layers.head import HeadOutput


class CKDError(TrackingError):
    """A call that this variant of CKD cannot serve."""


class CKDTraining(NamedTuple):
    """Training forward of students and teachers.

    Attributes:
        fused: Maps of the students' common head.
        teacher_rgb: Maps of the colour teacher's head.
        teacher_aux: Maps of the auxiliary teacher's head.
        student_rgb: Output [B, template + n, width] of every block.
        student_aux: The same of the auxiliary student.
        teacher_rgb_blocks: The same of the colour teacher.
        teacher_aux_blocks: The same of the auxiliary teacher.
        removed: Per joint elimination, search-grid positions [B, k] in falling order of attention; the same for all
            four.
        keep_mask: [B, search tokens] bool, True = token that the students saw; None = all.
    """

    fused: HeadOutput
    teacher_rgb: HeadOutput
    teacher_aux: HeadOutput
    student_rgb: tuple[Tensor, ...]
    student_aux: tuple[Tensor, ...]
    teacher_rgb_blocks: tuple[Tensor, ...]
    teacher_aux_blocks: tuple[Tensor, ...]
    removed: tuple[Tensor, ...]
    keep_mask: Tensor | None


class Lane(NamedTuple):
    """A branch and the tokens in it."""

    branch: Branch
    x: Tensor

    def block(self, i: int) -> Block:
        """Block `i` of the branch."""
        return cast("Block", self.branch.blocks[i])


class Encoded(NamedTuple):
    """Lanes after the last block; `position` [B, n]: places of the remaining search tokens, None = all in order."""

    students: list[Lane]
    teachers: list[Lane]
    position: Tensor | None
    removed: tuple[Tensor, ...]


class Branch(nn.Module):
    """A one-modality tracker's transformer under its published names; `cls_token` and `pos_embed` never run."""

    def __init__(self, config: CKDConfig) -> None:
        super().__init__()
        width, side = config.width, 224 // config.stride
        self.cls_token = zeros_table(1, width)
        self.pos_embed = zeros_table(side * side + 1, width)
        self.patch_embed = PatchEmbed(config.stride, width)
        self.blocks = nn.ModuleList(Block(config, rate) for rate in drop_path_rates(config))
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.apply(initialise)
        draw_normal(self.cls_token)
        draw_normal(self.pos_embed)
        table = self.pos_embed.detach()
        self.pos_embed_z = nn.Parameter(resize_positions(table, config.template_grid, prefix=1).clone())
        self.pos_embed_x = nn.Parameter(resize_positions(table, config.grid, prefix=1).clone())

    def search_tokens(self, search: Tensor, keep_mask: Tensor | None = None) -> Tensor:
        """Search tokens [B, nx, C] with positions; tokens outside `keep_mask` are blanked before that."""
        patches: Tensor = self.patch_embed(search)
        if keep_mask is not None:
            patches = patches * keep_mask[:, :, None]
        return patches + self.pos_embed_x

    def template_tokens(self, template: Tensor) -> Tensor:
        """Template tokens [B, nz, C] with positions."""
        tokens: Tensor = self.patch_embed(template) + self.pos_embed_z
        return tokens


class CKD(TrackingNetwork):
    """CKD; parameters are those of the published files, see `TrackingNetwork` for the calls.

    `rgb_branch` and `tir_branch` are the students (`tir` is the auxiliary modality, whatever it is).
    """

    config: CKDConfig

    def __init__(self, name: str, config: CKDConfig) -> None:
        super().__init__(name, config)
        self.rgb_branch = Branch(config)
        self.tir_branch = self.rgb_branch if config.shared_student else Branch(config)
        if config.teachers:
            self.teacher_rgb = Branch(config)
            self.teacher_tir = Branch(config)
            self.box_head_v = CenterHead(config.width, config.head_channels)
            self.box_head_i = CenterHead(config.width, config.head_channels)
        self.box_head = CenterHead(2 * config.width, config.head_channels)

    def _embed(self, template: Tensor) -> Tensor:
        rgb = self.rgb_branch.template_tokens(template[:, :3])
        aux = self.tir_branch.template_tokens(template[:, 3:])
        return torch.stack((rgb, aux), dim=1)  # [B, 2, nz, C]

    def _track(self, template_tokens: Tensor, search: Tensor, template_mask: Tensor | None) -> HeadOutput:
        rgb = torch.cat((template_tokens[:, 0], self.rgb_branch.search_tokens(search[:, :3])), dim=1)
        aux = torch.cat((template_tokens[:, 1], self.tir_branch.search_tokens(search[:, 3:])), dim=1)  # [B, nz + nx, C]
        encoded = self._encode(self._students(rgb, aux), [], self._ranking(template_mask), self.config.ce_keep)
        return self._fused(encoded)

    def _students(self, rgb: Tensor, aux: Tensor) -> list[Lane]:
        if self.config.shared_student:
            return [Lane(self.rgb_branch, torch.cat((rgb, aux)))]  # [2B, N, C], colour first
        return [Lane(self.rgb_branch, rgb), Lane(self.tir_branch, aux)]

    def _encode(
        self,
        students: list[Lane],
        teachers: list[Lane],
        ranking: Ranking | None,
        rate: float,
        outputs: list[tuple[Tensor, ...]] | None = None,
    ) -> Encoded:
        """Run all blocks of all lanes; where a block eliminates, the students decide and every lane follows.

        Args:
            students: one lane per modality, or one that holds both.
            teachers: lanes of the teachers; empty while tracking.
            ranking: which template queries rank the search tokens; None = no elimination.
            rate: share of the search tokens that each elimination keeps.
            outputs: receives the tokens of every lane after each block, students split by modality.
        """
        n_template, lanes = self.config.template_tokens, [*students, *teachers]
        position: Tensor | None = None
        removed: list[Tensor] = []
        for i in range(self.config.depth):
            rank = ranking if i in self.config.ce_blocks else None
            attended = [lane.block(i).attend(lane.x, rank, n_template) for lane in students]
            attended += [lane.block(i).attend(lane.x, None, n_template) for lane in teachers]
            xs = [x for x, _ in attended]
            order = None if rank is None else joint_order([rows for _, rows in attended if rows is not None], rank)
            keep = 0 if order is None else keep_count(order.shape[1], rate)
            if order is not None and keep < order.shape[1]:
                xs = [take(x, order[:, :keep].repeat(x.shape[0] // order.shape[0], 1), n_template) for x in xs]
                ordered = renumber(position, order)
                position = ordered[:, :keep]
                removed.append(ordered[:, keep:])
            lanes = [lane._replace(x=lane.block(i).feed(x)) for lane, x in zip(lanes, xs, strict=True)]
            students, teachers = lanes[: len(students)], lanes[len(students) :]
            if outputs is not None:
                outputs.append((*_by_modality(students), *(lane.x for lane in teachers)))
        return Encoded(students, teachers, position, tuple(removed))

    def _features(self, lane: Lane, position: Tensor | None) -> Tensor:
        """Search tokens [B, nx, C] after the final norm; removed ones are zero."""
        search = lane.branch.norm(lane.x[:, self.config.template_tokens :])
        if position is not None:
            position = position.repeat(search.shape[0] // position.shape[0], 1)
        return refill(search, position, self.config.search_tokens)

    def _fused(self, encoded: Encoded) -> HeadOutput:
        lanes = torch.cat([self._features(lane, encoded.position) for lane in encoded.students])  # [2B, nx, C]
        output: HeadOutput = self.box_head(to_map(torch.cat(lanes.chunk(2), dim=2), self.config.grid))
        return output

    def student_blocks(self, template: Tensor, search: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Tokens [B, N, C] of the colour and the auxiliary student after every block, nothing masked or eliminated.

        Args:
            template: [B, 6, z, z] normalised images.
            search: [B, 6, x, x] normalised images.
        """
        tokens = self._embed(template)
        rgb = torch.cat((tokens[:, 0], self.rgb_branch.search_tokens(search[:, :3])), dim=1)
        aux = torch.cat((tokens[:, 1], self.tir_branch.search_tokens(search[:, 3:])), dim=1)
        outputs: list[tuple[Tensor, ...]] = []
        self._encode(self._students(rgb, aux), [], None, 1.0, outputs)
        return [(block[0], block[1]) for block in outputs]

    def draw_masks(self, batch: int, device: torch.device, generator: torch.Generator | None = None) -> Tensor | None:
        """Keep mask [B, search tokens] bool, True = token that the students see; None where nothing is masked.

        Drawn sample by sample.
        """
        chance, tokens = self.config.mask_probability, self.config.search_tokens
        if chance == 0 or self.config.mask_ratio == 0:
            return None

        def draw() -> Tensor:
            if chance < 1 and float(torch.rand((), generator=generator)) >= chance:
                return torch.ones(tokens, dtype=torch.bool)
            return torch.rand(tokens, generator=generator) > self.config.mask_ratio

        return torch.stack([draw() for _ in range(batch)]).to(device)

    def _forward_train(
        self, template: Tensor, search: Tensor, template_mask: Tensor | None, keep_rate: float, masks: Tensor | None
    ) -> CKDTraining:
        """Students over masked search tokens, teachers over all; all three heads."""
        require_teachers(self)

        def lane(branch: Branch, first: int, mask: Tensor | None) -> Lane:
            z = branch.template_tokens(template[:, first : first + 3])
            x = branch.search_tokens(search[:, first : first + 3], mask)
            return Lane(branch, torch.cat((z, x), dim=1))

        rgb, aux = lane(self.rgb_branch, 0, masks), lane(self.tir_branch, 3, masks)
        teachers = [lane(self.teacher_rgb, 0, None), lane(self.teacher_tir, 3, None)]
        outputs: list[tuple[Tensor, ...]] = []
        encoded = self._encode(self._students(rgb.x, aux.x), teachers, self._ranking(template_mask), keep_rate, outputs)
        teacher_rgb, teacher_aux = (self._features(lane, encoded.position) for lane in encoded.teachers)
        student_rgb, student_aux, teacher_rgb_blocks, teacher_aux_blocks = zip(*outputs, strict=True)
        return CKDTraining(
            self._fused(encoded),
            self.box_head_v(to_map(teacher_rgb, self.config.grid)),
            self.box_head_i(to_map(teacher_aux, self.config.grid)),
            student_rgb,
            student_aux,
            teacher_rgb_blocks,
            teacher_aux_blocks,
            removed=encoded.removed,
            keep_mask=masks,
        )


def require_teachers(network: TrackingNetwork) -> None:
    """Refuse to train a network of students alone.

    Raises:
        CKDError: built without teachers.
    """
    if not hasattr(network, "teacher_rgb"):
        raise CKDError(
            f"{network.name} was built without teachers; build_model({network.name!r}, teachers=True) has them"
        )


def joint_order(rows: list[Tensor], ranking: Ranking) -> Tensor:
    """Search tokens [B, n] in falling order of the element-wise maximum of both modalities' attention rows.

    Args:
        rows: [B, heads, queries, n] of both, or one tensor with colour and auxiliary on the first axis.
        ranking: Which queries count, and how much.
    """
    rgb, aux = torch.cat(rows).chunk(2)
    return search_scores(torch.maximum(rgb, aux), ranking).argsort(dim=1, descending=True)


def _by_modality(students: list[Lane]) -> tuple[Tensor, ...]:
    if len(students) == 1:
        return students[0].x.chunk(2)
    return tuple(lane.x for lane in students)


_TINY = CKDConfig(template_size=64, search_size=128, width=48, depth=4, heads=3, head_channels=32, ce_blocks=(1, 2))

ROWS = {
    "ckd_b256": (CKD, CKDConfig()),
    "ckd_b256_mce": (CKD, CKDConfig(ce_blocks=(3, 6, 9), mask_probability=0.0, mask_ratio=0.0)),
    "ckd_b256_shared": (CKD, CKDConfig(shared_student=True)),
    "ckd_tiny_test": (CKD, _TINY),
}
