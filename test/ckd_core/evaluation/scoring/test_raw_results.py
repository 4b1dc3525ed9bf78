from __future__ import annotations

import json
import shutil
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import ckd_core.commands
from ckd_core.cli import build_app
from ckd_core.data.datasets import open_dataset
from ckd_core.evaluation.scoring.annotations import find_truth, read_truths
from ckd_core.evaluation.scoring.archives import ResultsError
from ckd_core.evaluation.scoring.raw_results import read_results
from ckd_core.evaluation.scoring.rules import get_rule
from ckd_core.evaluation.scoring.score import score_benchmark

PUBLISHED = [
    ("lasher", "lasher_test", "APFNet", {"PR": 0.5001, "NPR": 0.4393, "SR": 0.3625}),
    ("lasher", "lasher_test", "MTNet", {"PR": 0.6075, "NPR": 0.5629, "SR": 0.4739}),
    ("lasher", "lasher_test", "CAT", {"PR": 0.4501, "NPR": 0.3946, "SR": 0.3135}),
    ("lasher", "lasher_test", "mfDiMP", {"PR": 0.4470, "NPR": 0.3946, "SR": 0.3434}),
    ("gtot", "gtot", "APFNet", {"MPR": 0.9062, "MSR": 0.7378}),
    ("gtot", "gtot", "CAT", {"MPR": 0.8889, "MSR": 0.7171}),
    ("gtot", "gtot", "JMMAC", {"MPR": 0.9017, "MSR": 0.7317}),
]


@pytest.mark.shared
@pytest.mark.parametrize(("benchmark", "folder", "tracker", "published"), PUBLISHED)
def test_published_numbers_are_reproduced(
    shared_data: Path, benchmark: str, folder: str, tracker: str, published: dict[str, float]
) -> None:
    rule = get_rule(benchmark)
    root = shared_data / "results" / folder
    truths = read_truths(find_truth(root / f"{tracker}.tar.gz"), rule)
    results = read_results(root / f"{tracker}.tar.gz", [t.name for t in truths], rounded=rule.round_results)
    assert len(truths) == len(results.tracks) == {"lasher": 245, "gtot": 50}[benchmark]
    assert score_benchmark(rule, truths, results.tracks).metrics == pytest.approx(published, abs=5e-4)


@pytest.mark.shared
def test_the_numbers_of_the_reference_package_are_reproduced_exactly(shared_data: Path) -> None:
    oracle = json.loads((shared_data / "results" / "lasher_rgbt.json").read_text())
    rule = get_rule("lasher")
    root = shared_data / "results" / "lasher_test"
    truths = read_truths(root / "groundtruth.tar.gz", rule)
    for tracker in ("APFNet", "MTNet", "CAT", "mfDiMP"):
        results = read_results(root / f"{tracker}.tar.gz", [t.name for t in truths], rounded=True)
        score = score_benchmark(rule, truths, results.tracks)
        assert list(score.metrics.values()) == pytest.approx(oracle[tracker], abs=1e-9)


@pytest.mark.shared
def test_the_command_scores_published_results(shared_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "score.json"
    root = shared_data / "results" / "gtot"
    arguments = ["score", str(root / "CAT.tar.gz"), str(root / "JMMAC.tar.gz"), "--benchmark", "gtot"]
    outcome = CliRunner().invoke(build_app(ckd_core.commands), [*arguments, "--out", str(out)])
    assert outcome.exit_code == 0, outcome.output
    assert "CAT: 50 files space delimited, corner points, decimals; file names start with 'CAT_'" in outcome.output
    scores = json.loads(out.read_text())["trackers"]
    assert scores["CAT"]["metrics"] == pytest.approx({"MPR": 0.8889, "MSR": 0.7171}, abs=5e-4)
    assert set(scores) == {"CAT", "JMMAC"}


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.txt").write_text(text)
    return folder


ROWS = "1,2,3,4\n5,6,7,8\n9,10,11,12\n"


def test_folders_and_archives_give_the_same_results(tmp_path: Path) -> None:
    folder = write(tmp_path / "Mine", Mine_a=ROWS, Mine_b=ROWS.replace(",", "\t"), Mine_a_time="0.1\n0.1\n")
    with tarfile.open(tmp_path / "Mine.tar.gz", "w:gz") as bundle:
        bundle.add(folder, arcname="Mine")
    with zipfile.ZipFile(tmp_path / "Mine.zip", "w") as bundle:
        for file in folder.iterdir():
            bundle.write(file, f"deep/Mine/{file.name}")
    for source in (folder, tmp_path / "Mine.tar.gz", tmp_path / "Mine.zip"):
        results = read_results(source, ["a", "b", "c"])
        assert results.tracker == "Mine"
        assert set(results.tracks) == {"a", "b"}
        assert results.prefix == "Mine_"
        assert results.formats == {"comma delimited, xywh, integers": 1, "tab delimited, xywh, integers": 1}
        np.testing.assert_array_equal(results.tracks["b"].boxes[1], [5, 6, 7, 8])


def test_corner_points_are_rounded_before_they_become_boxes(tmp_path: Path) -> None:
    folder = write(tmp_path / "r", a="0.4 0.4 10.6 0.4 10.6 20.4 0.4 20.4\n" * 2)
    boxes = read_results(folder, ["a"], rounded=True).tracks["a"].boxes
    np.testing.assert_array_equal(boxes[0], [0, 0, 11, 20])
    np.testing.assert_allclose(read_results(folder, ["a"]).tracks["a"].boxes[0], [0.4, 0.4, 10.2, 20.0])


def test_corner_layout_is_an_option(tmp_path: Path) -> None:
    folder = write(tmp_path / "r", a="10,20,30,50\n" * 2)
    results = read_results(folder, ["a"], layout="corners")
    np.testing.assert_array_equal(results.tracks["a"].boxes[0], [10, 20, 20, 30])
    assert "corners" in results.describe()


def test_vot_files_are_read_with_confidences(tmp_path: Path) -> None:
    folder = write(tmp_path / "r", a_001="1\n1,2,3,4\n0\n5,6,7,8\n")
    (folder / "a_001_confidence.value").write_text("\n0.5\n0.1\n0.7\n")
    results = read_results(folder, ["a"])
    assert "VOT codes" in results.describe()
    track = results.tracks["a"]
    assert np.isnan(track.boxes[[0, 2]]).all()
    np.testing.assert_array_equal(track.boxes[3], [5, 6, 7, 8])
    np.testing.assert_array_equal(track.confidence, [np.nan, 0.5, 0.1, 0.7])
    (folder / "a_001_confidence.value").write_text("\n0.5\nhigh\n0.7\n")
    with pytest.raises(ResultsError, match=r"its _confidence\.value does not hold one number per line: .*'high'"):
        read_results(folder, ["a"])
    five = write(tmp_path / "five", a="1,2,3,4,0.5\n5,6,7,8,0.25\n")
    np.testing.assert_array_equal(read_results(five, ["a"]).tracks["a"].confidence, [0.5, 0.25])


def test_bad_results_are_refused_by_name(tmp_path: Path) -> None:
    folder = write(tmp_path / "r", a="1,2,3,4\n1\t2\t3\t4\n")
    with pytest.raises(ResultsError, match="r: a line 2 is tab delimited, line 1 is comma delimited"):
        read_results(folder, ["a"])
    with pytest.raises(ResultsError, match=r"is named after a sequence; expected names such as b\.txt"):
        read_results(folder, ["b"])
    with pytest.raises(ResultsError, match="no file or folder"):
        read_results(tmp_path / "none", ["a"])
    write(folder / "again", a=ROWS)
    with pytest.raises(ResultsError, match="2 files for sequence a"):
        read_results(folder, ["a"])
    broken = tmp_path / "x.tar.gz"
    broken.write_bytes(b"\x1f\x8bnot really")
    with pytest.raises(ResultsError, match="cannot read"):
        read_results(broken, ["a"])
    six = write(tmp_path / "six", a="1,2,3,4,5,6\n" * 2)
    with pytest.raises(ResultsError, match="6 numbers per line"):
        read_results(six, ["a"])


def test_annotations_are_read_from_folders_and_from_files(tmp_path: Path) -> None:
    write(tmp_path / "gtot" / "Car", groundTruth_v="10 20 5 40\n" * 2, groundTruth_i="1 2 3 5\n" * 2, init=ROWS)
    (truth,) = read_truths(tmp_path / "gtot", get_rule("gtot"))
    np.testing.assert_array_equal(truth.boxes[0], [5, 20, 5, 20])
    assert truth.aux_boxes is not None
    np.testing.assert_array_equal(truth.aux_boxes[0], [1, 2, 2, 3])
    flat = read_truths(write(tmp_path / "flat", b=ROWS, a=ROWS), get_rule("lasher"))
    assert [t.name for t in flat] == ["a", "b"]
    write(tmp_path / "ve" / "s", groundtruth=ROWS, absent_label="0\n1\n1\n")
    (truth,) = read_truths(tmp_path / "ve", get_rule("visevent"))
    assert np.isnan(truth.boxes[0]).all()
    assert np.isfinite(truth.boxes[1:]).all()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ResultsError, match=r"expected SEQUENCE\.txt files, or SEQUENCE/visible\.txt"):
        read_truths(tmp_path / "empty", get_rule("rgbt234"))


def test_the_folder_of_a_single_sequence_is_named_as_a_benchmark_names_it(tmp_path: Path) -> None:
    root = write(tmp_path / "scene", groundtruth=ROWS)
    (truth,) = read_truths(root, get_rule("folder"))
    assert (truth.name,) == open_dataset("folder", root).names == ("scene",)
    with zipfile.ZipFile(tmp_path / "packed.zip", "w") as archive:
        archive.write(root / "groundtruth.txt", "groundtruth.txt")
    (truth,) = read_truths(tmp_path / "packed.zip", get_rule("folder"))
    assert truth.name == "packed"
    write(tmp_path / "results", scene=ROWS)
    options = ["score", str(tmp_path / "results"), "--benchmark", "folder", "--truth", str(root)]
    done = CliRunner().invoke(build_app(ckd_core.commands), options)
    assert done.exit_code == 0, done.output


def test_annotations_are_found_beside_the_results(tmp_path: Path) -> None:
    results = write(tmp_path / "r" / "T", a=ROWS)
    with pytest.raises(ResultsError, match="--truth"):
        find_truth(results)
    write(tmp_path / "r" / "groundtruth", a=ROWS)
    assert find_truth(results) == tmp_path / "r" / "groundtruth"


def zip_of_blanks(path: Path, names: list[str], size: int) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, b" " * size)
    return path


def test_an_archive_of_many_large_members_is_refused_before_one_is_unpacked(tmp_path: Path) -> None:
    path = zip_of_blanks(tmp_path / "r.zip", [f"s{i}.txt" for i in range(5)], 1 << 26)
    tracemalloc.start()
    with pytest.raises(ResultsError, match=r"text files in .*r\.zip unpack to \d+ bytes or more; expected at most"):
        read_results(path, ["s0"])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 24


def test_members_that_no_sequence_is_named_after_stay_unread(tmp_path: Path) -> None:
    path = tmp_path / "r.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mine_a.txt", "1,2,3,4\n" * 3)
        archive.writestr("mine_a_time.txt", b"\xff\xfe not a text")
        archive.writestr("notes/other.txt", b"\xff\xfe not a text")
    results = read_results(path, ["a"])
    assert list(results.tracks) == ["a"]
    assert results.prefix == "mine_"


@pytest.mark.parametrize("kind", ["folder", "zip", "tar.gz"])
@pytest.mark.parametrize("hidden", ["._{}", "__MACOSX/._{}", ".{}"])
def test_hidden_files_are_no_results(tmp_path: Path, kind: str, hidden: str) -> None:
    folder = tmp_path / "mine"
    rows = "1,2,3,4\n5,6,7,8\n"
    for name, data in (("a.txt", rows.encode()), (hidden.format("a.txt"), b"\0\5\x16\7" + b"\xb0\xff" * 30)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    path = folder
    if kind != "folder":
        packer = {"zip": "zip", "tar.gz": "gztar"}[kind]
        path = Path(shutil.make_archive(str(tmp_path / "packed"), packer, folder))
    assert read_results(path, ["a"]).tracks["a"].boxes.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]


def test_a_result_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("1,2,3,4\n")
    (tmp_path / "b.txt").write_bytes(b"\xb0\xff" * 30)
    with pytest.raises(ResultsError, match=r"b\.txt in .* is not text"):
        read_results(tmp_path, ["a", "b"])
