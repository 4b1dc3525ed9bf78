"""Torch files of other projects: published layouts come out whole, and no pickle gets anything run."""

from __future__ import annotations

import collections
import io
import os
import pickle
import struct
import subprocess
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fickling.analysis import Severity, check_safety
from fickling.fickle import Pickled

from ckd_core.models.checkpoint import WeightsFileError, load_tensors
from ckd_core.models.torch_files import ForeignFileError, Placeholder, read_foreign, state_dict_of


class Settings:
    """Like the settings objects inside published files."""

    def __init__(self) -> None:
        self.device, self.values = torch.device("cpu"), [1, 2]


class Options(dict[str, Any]):
    """Like the configuration objects inside published files: filled as a dict, with attributes beside."""


class History(list[float]):
    """A list of a class of its own."""


def published_like() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(1)
    base = torch.randn(6, 8, generator=generator)
    net = collections.OrderedDict(
        plain=base,
        view=base[1:4, ::2],
        transposed=base.t(),
        scalar=torch.tensor(7),
        empty=torch.zeros(0, 3),
        half=base.half(),
        brain=base.bfloat16(),
        double=base.double(),
        flags=base > 0,
        bytes=torch.arange(9, dtype=torch.uint8),
        parameter=torch.nn.Parameter(base + 1),
    )
    optimizer = {"state": {0: {"exp_avg": base}}, "param_groups": [{"lr": 1e-4, "betas": (0.9, 0.999)}]}
    return {"epoch": 40, "net": net, "settings": Settings(), "stats": {"loss": [0.5]}, "optimizer": optimizer}


@pytest.mark.parametrize("zipped", [True, False])
def test_everything_of_a_published_file_comes_out(tmp_path: Path, zipped: bool) -> None:
    content = published_like()
    torch.save(content, tmp_path / "a.pth.tar", _use_new_zipfile_serialization=zipped)
    restored, replaced = read_foreign(tmp_path / "a.pth.tar")
    assert restored["epoch"] == 40
    assert restored["stats"] == content["stats"]
    assert restored["optimizer"]["param_groups"] == content["optimizer"]["param_groups"]
    assert torch.equal(restored["optimizer"]["state"][0]["exp_avg"], content["net"]["plain"])
    assert isinstance(restored["settings"], Placeholder)
    assert any(name.endswith(".Settings") for name in replaced)
    weights = state_dict_of(restored)
    assert list(weights) == list(content["net"])
    for key, tensor in content["net"].items():
        assert weights[key].dtype == tensor.dtype
        assert torch.equal(weights[key], tensor.detach())


@pytest.mark.parametrize("zipped", [True, False])
def test_classes_that_are_filled_like_dicts_and_lists_keep_what_they_hold(tmp_path: Path, zipped: bool) -> None:
    options = Options(lr=1e-4, inner=Options(depth=12))
    options.note = "an attribute"  # type: ignore[attr-defined]
    content = {
        "net": {"a": torch.ones(2)},
        "options": options,
        "history": History([0.5, 0.25]),
        "counts": collections.defaultdict(list, {"a": [1]}),
        "best": np.float64(0.5),
        "order": np.arange(3),
        "path": Path("somewhere"),
    }
    torch.save(content, tmp_path / "a.pth.tar", _use_new_zipfile_serialization=zipped)
    restored, replaced = read_foreign(tmp_path / "a.pth.tar")
    assert restored["options"] == {"lr": 1e-4, "inner": {"depth": 12}}
    assert restored["history"] == [0.5, 0.25]
    assert restored["counts"] == {"a": [1]}
    assert all(isinstance(restored[key], Placeholder) for key in ("best", "order", "path"))
    assert {"collections.defaultdict", "builtins.list", "numpy.dtype"} <= replaced
    assert torch.equal(state_dict_of(restored)["a"], torch.ones(2))
    assert not [name for name in torch.serialization.get_safe_globals() if isinstance(name, tuple)]


def test_where_the_weights_are() -> None:
    tensor = torch.zeros(1)
    assert state_dict_of({"state_dict": {"module.a": tensor, "module.b": tensor}}).keys() == {"a", "b"}
    assert state_dict_of({"model": {"module.a": tensor, "b": tensor}}).keys() == {"module.a", "b"}
    assert state_dict_of({"a": tensor, "epoch": 3}).keys() == {"a"}
    for nothing in ({"net": {}}, [tensor], {"epoch": 3}, None):
        with pytest.raises(ForeignFileError, match="holds no weights"):
            state_dict_of(nothing)


class Evil:
    """Pickles as a call of anything with any arguments."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> Any:
        return self.function, self.arguments


ATTACKS = {
    "os.system": lambda mark: Evil(os.system, f"touch {mark}"),
    "subprocess": lambda mark: Evil(subprocess.Popen, ["touch", str(mark)]),
    "eval": lambda mark: Evil(eval, f"open({str(mark)!r}, 'w')"),
    "path": lambda mark: Evil(Path.touch, Path(mark)),
    "getattr": lambda mark: Evil(getattr, Evil(__import__, "os"), "system"),
    "nested": lambda mark: Evil(map, Evil(os.system, f"touch {mark}"), [Evil(open, str(mark), "w")]),
    "torch": lambda mark: Evil(torch.hub.download_url_to_file, "file:///etc/hostname", str(mark)),
}


# What torch refuses whatever it is given: modules that it blocks, and the call of what a call returned.
REFUSED = {
    "os.system": "GLOBAL posix.system whose module posix is blocked",
    "path": "call reduce for unrecognized function <getattr object",
    "nested": "GLOBAL posix.system whose module posix is blocked",
}


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("zipped", [True, False])
def test_nothing_in_a_pickle_runs(tmp_path: Path, attack: str, zipped: bool) -> None:
    mark = tmp_path / "ran"
    content = {"net": {"a": torch.ones(2)}, "settings": ATTACKS[attack](mark)}
    torch.save(content, tmp_path / "evil.pth", _use_new_zipfile_serialization=zipped)
    if attack in REFUSED:
        with pytest.raises(ForeignFileError, match=REFUSED[attack]) as failure:
            read_foreign(tmp_path / "evil.pth")
        assert "weights_only" not in str(failure.value)  # torch's own message recommends to run the file
        assert not mark.exists()
        return
    restored, replaced = read_foreign(tmp_path / "evil.pth")
    assert not mark.exists()
    assert isinstance(restored["settings"], Placeholder)
    assert replaced
    assert torch.equal(state_dict_of(restored)["a"], torch.ones(2))


def second_opinion(content: object) -> Severity:
    """What fickling, which shares no code with torch, says about the pickle of a torch file."""
    stream = io.BytesIO()
    torch.save(content, stream)
    with zipfile.ZipFile(stream) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        return check_safety(Pickled.load(archive.read(name))).severity


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_second_opinion_calls_every_attack_malicious(tmp_path: Path, attack: str) -> None:
    weights = {"net": {"a": torch.ones(2)}}
    assert second_opinion(weights) < Severity.LIKELY_OVERTLY_MALICIOUS
    assert second_opinion({**weights, "settings": ATTACKS[attack](tmp_path)}) >= Severity.LIKELY_OVERTLY_MALICIOUS


def test_a_legacy_file_with_endless_class_names_is_refused(tmp_path: Path) -> None:
    content = {"net": {"a": torch.ones(2)}, "many": [type(f"C{i}", (), {"__module__": "m"}) for i in range(300)]}
    module = types.ModuleType("m")
    for one in content["many"]:
        setattr(module, one.__name__, one)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "m", module)
        torch.save(content, tmp_path / "a", _use_new_zipfile_serialization=False)
    with pytest.raises(ForeignFileError, match="names more than 200 unknown classes"):
        read_foreign(tmp_path / "a")


def test_an_old_torch_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"net": {"a": torch.ones(2)}}, tmp_path / "a")
    monkeypatch.setattr(torch, "__version__", torch.torch_version.TorchVersion("2.5.1+cpu"))
    with pytest.raises(ForeignFileError, match=r"safely needs torch 2\.6 or later; this is 2\.5\.1\+cpu"):
        read_foreign(tmp_path / "a")


def test_the_attacks_would_work_elsewhere(tmp_path: Path) -> None:
    """The test above proves something only if a plain unpickler does run them."""
    mark = tmp_path / "ran"
    pickle.loads(pickle.dumps(ATTACKS["os.system"](mark)))  # noqa: S301 - the point of this test
    assert mark.exists()


def as_torch_file(path: Path, pickled: bytes, storages: dict[str, bytes], **options: Any) -> Path:
    with zipfile.ZipFile(path, "w", **options) as archive:
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/data.pkl", pickled)
        for key, data in storages.items():
            archive.writestr(f"archive/data/{key}", data)
    return path


def handmade(size: tuple[int, ...], stride: tuple[int, ...], offset: int = 0, numel: int = 4) -> bytes:
    """Pickle of {'a': tensor} over a float storage '0' with the given numbers, true or not."""

    class Reference:
        pass

    class Rebuild:
        def __reduce__(self) -> Any:
            return torch._utils._rebuild_tensor_v2, (Reference(), offset, size, stride, False, None)

    class Pickler(pickle.Pickler):
        def persistent_id(self, thing: Any) -> Any:
            return ("storage", torch.FloatStorage, "0", "cpu", numel) if isinstance(thing, Reference) else None

    stream = io.BytesIO()
    Pickler(stream, protocol=2).dump({"a": Rebuild()})
    return stream.getvalue()


def test_handmade_file_is_read(tmp_path: Path) -> None:
    path = as_torch_file(tmp_path / "a", handmade((2, 2), (2, 1)), {"0": torch.arange(4.0).numpy().tobytes()})
    assert torch.equal(read_foreign(path)[0]["a"], torch.arange(4.0).view(2, 2))


@pytest.mark.parametrize(
    ("size", "stride", "offset", "numel", "message"),
    [
        ((3, 2), (2, 1), 0, 4, "resize storage that is not resizable"),
        ((2, 2), (2, 1), 1, 4, "resize storage that is not resizable"),
        ((2, 2), (2, 1), -1, 4, "invalid storage offset -1"),
        ((2, -2), (2, 1), 0, 4, "overflow"),
        ((2, 2), (-2, 1), 3, 4, r"overflowed with sizes=\[2, 2\] and strides=\[-2, 1\]"),
        ((100_000, 100_000), (0, 0), 0, 4, r"tensor a of shape \[100000, 100000\] reaches outside its 16 bytes"),
        ((2, 2), (2, 1), 0, 10**12, r"record size \(16 bytes\) does not match expected size \(4000000000000 bytes"),
        ((2, 2), (2, 1), 0, 5, r"record size \(16 bytes\) does not match expected size \(20 bytes"),
    ],
)
def test_tensors_that_lie_about_their_memory(
    tmp_path: Path, size: tuple[int, ...], stride: tuple[int, ...], offset: int, numel: int, message: str
) -> None:
    pickled = handmade(size, stride, offset, numel)
    path = as_torch_file(tmp_path / "a", pickled, {"0": torch.arange(4.0).numpy().tobytes()})
    with pytest.raises(ForeignFileError, match=message):
        state_dict_of(read_foreign(path)[0])


@pytest.mark.parametrize("tensor", [torch.empty(3, device="meta"), torch.eye(3).to_sparse()])
def test_weights_must_be_plain_dense_tensors(tmp_path: Path, tensor: torch.Tensor) -> None:
    torch.save({"a": tensor}, tmp_path / "a")
    with pytest.raises(ForeignFileError, match=r"tensor a is .*; it must be a plain dense tensor"):
        state_dict_of(read_foreign(tmp_path / "a")[0])


def test_damaged_archives(tmp_path: Path) -> None:
    good, data = handmade((2, 2), (2, 1)), torch.arange(4.0).numpy().tobytes()
    with pytest.raises(ForeignFileError, match="failed locating file data/0"):
        read_foreign(as_torch_file(tmp_path / "a", good, {}))
    with pytest.raises(ForeignFileError, match="compressed entries"):
        read_foreign(as_torch_file(tmp_path / "b", good, {"0": data}, compression=zipfile.ZIP_DEFLATED))
    with pytest.raises(ForeignFileError, match="cannot be read as a torch file"):
        read_foreign(as_torch_file(tmp_path / "c", good[:-7], {"0": data}))
    path = as_torch_file(tmp_path / "d", good, {"0": data})
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ForeignFileError, match=str(path)):
        read_foreign(path)
    with zipfile.ZipFile(tmp_path / "e", "w") as archive:
        archive.writestr("something", b"else")
    with pytest.raises(ForeignFileError, match=r"0 entries called data\.pkl"):
        read_foreign(tmp_path / "e")


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x02}.", pickle.dumps([1]) * 4])
def test_other_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ForeignFileError, match=str(tmp_path / "a")):
        read_foreign(tmp_path / "a")
    with pytest.raises(ForeignFileError, match="is not a file"):
        read_foreign(tmp_path)


def test_truncated_legacy_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    torch.save({"net": {"a": torch.ones(50)}}, path, _use_new_zipfile_serialization=False)
    data = path.read_bytes()
    for share in (0.1, 0.5, 0.9, 0.99):
        path.write_bytes(data[: int(share * len(data))])
        with pytest.raises(ForeignFileError, match=str(path)):
            read_foreign(path)


@pytest.mark.parametrize(
    "prefix",
    [
        "module.", "model.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model._orig_mod.module.",
        "module.model.", "model.module._orig_mod.",
    ],
)  # fmt: skip
def test_prefixes_of_wrappers_are_dropped_in_any_order(prefix: str) -> None:
    tensor = torch.zeros(1)
    wrapped = {prefix + "backbone.norm.weight": tensor, prefix + "box_head.model.bias": tensor}
    assert state_dict_of({"net": wrapped}).keys() == {"backbone.norm.weight", "box_head.model.bias"}
    assert state_dict_of({"ema": {"n_averaged": tensor, **wrapped}, "epoch": 1}).keys() >= {"backbone.norm.weight"}
    part = {"backbone._orig_mod.norm.weight": tensor, "box_head.bias": tensor}
    assert state_dict_of(part).keys() == {"backbone.norm.weight", "box_head.bias"}
    with pytest.raises(ForeignFileError, match="differ only in the prefixes"):
        state_dict_of({"a._orig_mod.b": tensor, "a.b": tensor})


@pytest.mark.parametrize("entry", ["state_dict", "model", "net", "ema", "state_dict_ema", "model_state_dict"])
def test_the_entry_that_holds_weights_is_found_or_has_to_be_named(entry: str) -> None:
    weights = {"a": torch.ones(1)}
    others = {"epoch": 3, "optimizer": {"state": {}}, "best": torch.zeros(1)}
    assert state_dict_of({**others, entry: weights})["a"] == 1
    second = "net" if entry != "net" else "ema"
    both = {entry: weights, second: {"a": torch.zeros(1)}, **others}
    with pytest.raises(ForeignFileError, match=rf"{entry}.*convert FILE --entry|--entry {entry}"):
        state_dict_of(both)
    assert state_dict_of(both, entry)["a"] == 1
    with pytest.raises(ForeignFileError, match=f"no weights under 'teacher'; expected one of: {entry}, {second}"):
        state_dict_of(both, "teacher")
    assert state_dict_of({"epoch": 3, "student": weights}, "student")["a"] == 1
    with pytest.raises(ForeignFileError, match="--entry student"):
        state_dict_of({"epoch": 3, "student": weights})


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.2, 0.6, 0.95])
def test_an_unfinished_download_is_called_truncated(tmp_path: Path, zipped: bool, share: float) -> None:
    path = tmp_path / "a.pth.tar"
    torch.save({"net": {"a": torch.ones(500)}}, path, _use_new_zipfile_serialization=zipped)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ForeignFileError, match=rf"is truncated \({int(len(data) * share)} bytes.*download it again"):
        read_foreign(path)


def test_a_long_name_in_a_pickle_is_shortened_in_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "long.pth"
    path.write_bytes(b"\x80\x02c" + b"m\x00" * 300 + b"\n" + b" " * 200 + b"\n.")
    with pytest.raises(ForeignFileError, match="cannot be read as a torch file") as caught:
        read_foreign(path)
    assert len(str(caught.value)) < len(str(path)) + 1000


def test_what_a_download_gives_in_place_of_a_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.pth.tar"
    for text, message in (
        ("<!DOCTYPE html><html>sign in</html>", "is a web page"),
        ("\n<html>quota exceeded</html>", "is a web page"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "pointer of Git LFS"),
    ):
        path.write_text(text)
        with pytest.raises(ForeignFileError, match=message):
            read_foreign(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_torch_file_given_as_weights_names_the_conversion(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "a.pth.tar"
    torch.save({"net": {"a": torch.ones(5)}}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsFileError, match=r"is a torch file.*sdstrack convert a.pth.tar --model"):
        load_tensors(path)


def test_an_archive_whose_directory_is_damaged_is_refused_by_name(tmp_path: Path) -> None:
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 1, 0, 1)  # on disk 1 of 1: zipfile itself raises in is_zipfile
    path = tmp_path / "damaged.pth"
    path.write_bytes(b"PK\x03\x04" + bytes(60) + locator + b"PK\x05\x06" + bytes(18))
    with pytest.raises(ForeignFileError, match=r"damaged\.pth"):
        read_foreign(path)
