"""Every network by name: build, forward, backward, state dict, export, compile."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import Any

import pytest
import torch

from ckd_core.models.ckd import CKD
from ckd_core.models.config import CKDConfig, ConfigError, SDSTrackConfig
from ckd_core.models.registry import build_model, list_models, model_config
from ckd_core.models.sdstrack import SDSTrack
from testkit.reliability.lengths import LONG, ONLY_LONG

SMALLEST = ("sdstrack_tiny_test", "ckd_tiny_test")
WIDE = 512  # networks from this width on are cut in depth and image size for the tests that run over all names


def small(name: str, **overrides: Any) -> Any:
    """A network as registered, but a wide one with fewer blocks and tokens: the same code at a cost tests can pay."""
    config = model_config(name)
    if config.width >= WIDE:
        cut: dict[str, Any] = {"depth": 2, "template_size": 64, "search_size": 128}
        cut["ce_blocks"] = (1,) if config.ce_blocks else ()
        if isinstance(config, SDSTrackConfig):
            cut["cross_blocks"] = (0, 1)
        overrides = {**cut, **overrides}
    return build_model(name, **overrides)


def images(model: Any, batch: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    sides = (model.config.template_size, model.config.search_size)
    template, search = (torch.randn(batch, 6, side, side, generator=generator) for side in sides)
    return template, search


def test_names() -> None:
    required = {"sdstrack_b256", "ckd_b256", "ckd_b256_mce", "ckd_b256_shared", "sdstrack_tiny_test"}
    assert required <= set(list_models())
    assert list_models() == sorted(list_models())


@pytest.mark.parametrize("name", list_models())
def test_forward_and_backward(name: str) -> None:
    model = small(name)
    template, search = images(model, batch=2)
    model.eval()
    with torch.inference_mode():
        output = model(template, search)
        tokens = model.embed_template(template)
        one = model.track(tokens[1:], search[1:])
    grid = model.config.grid
    assert tokens.shape == (2, 2, model.config.template_tokens, model.config.width)
    assert [tuple(maps.shape) for maps in output] == [(2, 1, grid, grid), (2, 2, grid, grid), (2, 2, grid, grid)]
    for together, alone in zip(output, one, strict=True):
        torch.testing.assert_close(together[1:], alone, rtol=1e-3, atol=1e-4)
    model.train()
    sum(maps.square().mean() for maps in model(template, search)).backward()
    reached = [name for name, parameter in model.named_parameters() if parameter.grad is not None]
    assert any("box_head" in name for name in reached)
    assert any(part in name for name in reached for part in ("blocks.0.", "encoder", "branch"))
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", list_models())
def test_state_dict_round_trip(name: str) -> None:
    model = small(name).eval()
    other = build_model(name, seed=1, **_differences(name, model.config)).eval()
    template, search = images(model)
    with torch.inference_mode():
        wanted = model(template, search)
        assert not torch.equal(other(template, search).score_map, wanted.score_map)
        other.load_state_dict(model.state_dict(), strict=True)
        for maps, expected in zip(other(template, search), wanted, strict=True):
            assert torch.equal(maps, expected)


def _differences(name: str, config: Any) -> dict[str, Any]:
    default = model_config(name)
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return {field: value for field, value in values.items() if value != getattr(default, field)}


@pytest.mark.parametrize("name", list_models())
def test_export_and_compile(name: str) -> None:
    """Strict export and a compile without graph breaks: no host synchronisation, no data-dependent shape.

    A strict export traces as the compiler does and allows no graph break either, so the short form compiles the
    smallest network of each family alone.
    """
    model = small(name).eval()
    template, search = images(model)
    with torch.inference_mode():
        expected = model(template, search)
        exported = torch.export.export(model, (template, search), strict=True)
        variants = [exported.module()]
        if LONG or name in SMALLEST:
            variants.append(torch.compile(model, fullgraph=True, backend="aot_eager"))
        for variant in variants:
            for maps, wanted in zip(variant(template, search), expected, strict=True):
                torch.testing.assert_close(maps, wanted, rtol=1e-4, atol=1e-5)
    targets = {str(node.target) for node in exported.graph.nodes}
    if isinstance(model, (SDSTrack, CKD)):
        assert any("scaled_dot_product_attention" in target for target in targets)
    waits = ("nonzero", "aten.item", "_local_scalar_dense", "masked_select", "aten.index.Tensor")
    assert not {target for target in targets if any(wait in target for wait in waits)}


@pytest.mark.skipif(not LONG, reason=ONLY_LONG)
def test_export_of_the_published_size(golden_model: Any, golden_input: Any, golden: Any) -> None:
    """The short form exports every network with fewer blocks, see above, and compares this one without an export."""
    model = golden_model("sdstrack_b256")
    template, search = golden_input("template", 1, 6, 128, 128), golden_input("search", 1, 6, 256, 256)
    exported = torch.export.export(model, (template, search), strict=True)
    with torch.inference_mode():
        output = exported.module()(template, search)
    torch.testing.assert_close(
        output.score_map, torch.from_numpy(golden("sdstrack_infer_ce")["score_map"]), rtol=0, atol=2e-5
    )


@pytest.mark.skipif(not LONG, reason=ONLY_LONG)
def test_compile_to_machine_code() -> None:
    """The network alone; `test_compiled_gives_the_same_boxes` compiles it with what makes a box of its maps."""
    model = build_model("sdstrack_tiny_test").eval()
    template, search = images(model)
    with torch.inference_mode():
        expected = model.track(model.embed_template(template), search)
        track = torch.compile(model.track, fullgraph=True)
        for maps, wanted in zip(track(model.embed_template(template), search), expected, strict=True):
            torch.testing.assert_close(maps, wanted, rtol=1e-4, atol=1e-5)


def test_manifests_both_ways(manifest: Any) -> None:
    """Our keys and shapes are exactly the published ones."""
    with torch.device("meta"):
        pairs = {
            "sdstrack": build_model("sdstrack_b256"),
            "ckd_infer": build_model("ckd_b256"),
            "ckd_train": build_model("ckd_b256_mce", teachers=True),
        }
    for name, model in pairs.items():
        published = {key: (value["shape"], value["dtype"]) for key, value in manifest(name).items()}
        own = {key: (list(t.shape), str(t.dtype).removeprefix("torch.")) for key, t in model.state_dict().items()}
        assert own == published
    sizes = {name: sum(p.numel() for p in model.parameters()) for name, model in pairs.items()}
    assert sizes == {"sdstrack": 107_802_501, "ckd_infer": 183_871_365, "ckd_train": 368_908_431}
    assert sum(p.numel() for p in pairs["sdstrack"].box_head.parameters()) == 6_474_117


def test_compact_drops_what_never_runs(golden_model: Any, golden_input: Any) -> None:
    whole = golden_model("sdstrack_b256")
    template, search = golden_input("template", 1, 6, 128, 128), golden_input("search", 1, 6, 256, 256)
    with torch.device("meta"):
        compact = build_model("sdstrack_b256").compact()
        rebuilt = build_model("sdstrack_b256", compact=True)
    kept = compact.state_dict().keys()
    assert kept == rebuilt.state_dict().keys()
    dropped = {name: p.numel() for name, p in whole.named_parameters() if name not in kept}
    assert sum(dropped.values()) == 4_733_952
    assert len(dropped) == 64
    assert all("_X_X_DTE_Adapter" in name for name in dropped)
    compact.load_state_dict({key: value for key, value in whole.state_dict().items() if key in kept}, assign=True)
    compact.eval()
    with torch.inference_mode():
        for maps, wanted in zip(compact(template, search), whole(template, search), strict=True):
            assert torch.equal(maps, wanted)


def test_initialisation_is_seeded_and_leaves_the_global_generator() -> None:
    torch.manual_seed(11)
    before = torch.get_rng_state()
    first, second = build_model("ckd_tiny_test"), build_model("ckd_tiny_test")
    other = build_model("ckd_tiny_test", seed=1)
    assert torch.equal(before, torch.get_rng_state())
    assert all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )
    assert not torch.equal(first.rgb_branch.patch_embed.proj.weight, other.rgb_branch.patch_embed.proj.weight)


def test_initialisation_is_the_published_one() -> None:
    model = build_model("sdstrack_b256", depth=1, ce_blocks=(), cross_blocks=())
    adapter = model.backbone.blocks[0].Space_X_DTE_Adapter
    assert adapter.D_fc1.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert not adapter.D_fc1.bias.any()
    assert not model.backbone.pos_embed_x.any()
    assert not torch.equal(model.backbone.patch_embed.proj.weight, model.backbone.patch_embed_multimodal.proj.weight)
    branch = build_model("ckd_b256", depth=1).rgb_branch
    table = branch.pos_embed[:, 1:].transpose(1, 2).reshape(1, 768, 14, 14)
    resized = torch.nn.functional.interpolate(table, size=(16, 16), mode="bicubic", align_corners=False)
    torch.testing.assert_close(branch.pos_embed_x, resized.flatten(2).transpose(1, 2))


def test_shared_student_is_one_module_and_equals_two_equal_ones() -> None:
    shared = build_model("ckd_tiny_test", shared_student=True).eval()
    apart = build_model("ckd_tiny_test").eval()
    assert shared.rgb_branch is shared.tir_branch
    apart.load_state_dict(shared.state_dict(), strict=True)
    template, search = images(shared, batch=2)
    with torch.inference_mode():
        for maps, wanted in zip(shared(template, search), apart(template, search), strict=True):
            torch.testing.assert_close(maps, wanted)


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("sdstrack_b999", {}, "unknown network 'sdstrack_b999'; expected one of ckd_b256"),
        ("sdstrack_b256", {"teacher": True}, "no field teacher; expected one of"),
        ("sdstrack_b256", {"search_size": 250}, "search_size is 250; it must be a positive multiple of 16"),
        ("sdstrack_b256", {"ce_keep": 0.0}, "ce_keep is 0.0"),
        (
            "sdstrack_b256",
            {"ce_blocks": (3, 12)},
            r"ce_blocks is \(3, 12\); it must be distinct block numbers below 12",
        ),
        ("sdstrack_b256", {"template_mask": "middle"}, "template_mask is 'middle'; it must be one of all"),
        ("ckd_b256", {"heads": 7}, "width is 768; it must be a multiple of 7 heads"),
    ],
)
def test_what_cannot_be_built(name: str, overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_model(name, **overrides)


def test_families() -> None:
    kinds = {"sdstrack_b256": (SDSTrack, SDSTrackConfig), "ckd_b256_mce": (CKD, CKDConfig)}
    for name, (family, config) in kinds.items():
        with torch.device("meta"):
            model = build_model(name)
        assert type(model) is family
        assert type(model.config) is config
        assert model.name == name
        with pytest.raises(dataclasses.FrozenInstanceError):
            model.config.depth = 1


@pytest.mark.parametrize("name", ["sdstrack_tiny_test", "ckd_tiny_test"])
def test_bfloat16_stays_close(name: str) -> None:
    model = build_model(name, ce_blocks=()).eval()
    template, search = images(model)
    with torch.inference_mode():
        wanted = model(template, search)
        lowered = model.to(torch.bfloat16)(template.bfloat16(), search.bfloat16())
    assert {maps.dtype for maps in lowered} == {torch.float32}
    for near, exact in zip(lowered, wanted, strict=True):
        assert (near - exact).abs().max() < 0.1


def test_no_network_and_no_tracker_needs_timm() -> None:
    """timm only starts a training; a robot does not install it."""
    code = (
        "import sys; sys.modules['timm'] = None\n"  # from here on, importing it fails
        "import torch\n"
        "from ckd_core.models.registry import build_model, list_models\n"
        "from ckd_core.tracking import build_tracker\n"
        "import ckd_core.models.published.starts\n"
        "with torch.device('meta'):\n"
        "    for name in list_models(): build_model(name)\n"
        "print(type(build_tracker(engine='torch/fp32')).__name__)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["Tracker"]
