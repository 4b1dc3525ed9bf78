"""The restricted reader: published layouts come out whole, and no pickle gets anything run."""

from __future__ import annotations

import collections
import io
import os
import pickle
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from ckd_core.models.torch_files import ForeignFileError, Placeholder, read_foreign, state_dict_of


class Settings:
    """Like the settings objects inside published files."""

    def __init__(self) -> None:
        self.device, self.values = torch.device("cpu"), [1, 2]


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
    found, replaced = read_foreign(tmp_path / "a.pth.tar")
    assert found["epoch"] == 40
    assert found["stats"] == content["stats"]
    assert found["optimizer"]["param_groups"] == content["optimizer"]["param_groups"]
    assert torch.equal(found["optimizer"]["state"][0]["exp_avg"], content["net"]["plain"])
    assert isinstance(found["settings"], Placeholder)
    assert any(name.endswith(".Settings") for name in replaced)
    weights = state_dict_of(found)
    assert list(weights) == list(content["net"])
    for key, tensor in content["net"].items():
        assert weights[key].dtype == tensor.dtype
        assert torch.equal(weights[key], tensor.detach())


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


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("zipped", [True, False])
def test_nothing_in_a_pickle_runs(tmp_path: Path, attack: str, zipped: bool) -> None:
    mark = tmp_path / "ran"
    content = {"net": {"a": torch.ones(2)}, "settings": ATTACKS[attack](mark)}
    torch.save(content, tmp_path / "evil.pth", _use_new_zipfile_serialization=zipped)
    found, replaced = read_foreign(tmp_path / "evil.pth")
    assert not mark.exists()
    assert isinstance(found["settings"], Placeholder)
    assert replaced
    assert torch.equal(state_dict_of(found)["a"], torch.ones(2))


def test_the_attacks_would_work_elsewhere(tmp_path: Path) -> None:
    """The test above proves something only if a plain unpickler does run them."""
    mark = tmp_path / "ran"
    pickle.loads(pickle.dumps(ATTACKS["os.system"](mark)))  # noqa: S301 - the point of this test
    assert mark.exists()


def as_torch_file(path: Path, pickled: bytes, storages: dict[str, bytes], **options: Any) -> Path:
    with zipfile.ZipFile(path, "w", **options) as archive:
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
        ((3, 2), (2, 1), 0, 4, "reaches outside its 4 elements"),
        ((2, 2), (2, 1), 1, 4, "reaches outside its 4 elements"),
        ((2, 2), (2, 1), -1, 4, "refers to no valid storage"),
        ((2, -2), (2, 1), 0, 4, "refers to no valid storage"),
        ((2, 2), (-2, 1), 3, 4, "refers to no valid storage"),
        ((100_000, 100_000), (0, 0), 0, 4, "reaches outside its 4 elements"),
        ((2, 2), (2, 1), 0, 10**12, "claim 4000000000000 bytes, more than the file has"),
        ((2, 2), (2, 1), 0, 5, "a storage has 16 bytes; the pickle says 20"),
    ],
)
def test_tensors_that_lie_about_their_memory(
    tmp_path: Path, size: tuple[int, ...], stride: tuple[int, ...], offset: int, numel: int, message: str
) -> None:
    pickled = handmade(size, stride, offset, numel)
    path = as_torch_file(tmp_path / "a", pickled, {"0": torch.arange(4.0).numpy().tobytes()})
    with pytest.raises(ForeignFileError, match=message):
        read_foreign(path)


def test_damaged_archives(tmp_path: Path) -> None:
    good, data = handmade((2, 2), (2, 1)), torch.arange(4.0).numpy().tobytes()
    with pytest.raises(ForeignFileError, match="storage '0' is missing"):
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
    with pytest.raises(ForeignFileError, match="is no file"):
        read_foreign(tmp_path)


def test_truncated_legacy_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    torch.save({"net": {"a": torch.ones(50)}}, path, _use_new_zipfile_serialization=False)
    data = path.read_bytes()
    for share in (0.1, 0.5, 0.9, 0.99):
        path.write_bytes(data[: int(share * len(data))])
        with pytest.raises(ForeignFileError, match=str(path)):
            read_foreign(path)
