from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ckd_core.evaluation.scoring.archives import ResultsError
from ckd_core.evaluation.scoring.attributes import FLAG_ORDER, read_attributes
from ckd_core.evaluation.scoring.rules import get_rule
from ckd_core.evaluation.scoring.score_files import score_files

if TYPE_CHECKING:
    from pathlib import Path

LASHER, VISEVENT, RGBT234 = get_rule("lasher"), get_rule("visevent"), get_rule("rgbt234")


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.txt").write_text(text)
    return folder


def row(benchmark: str, *marks: str) -> str:
    return ",".join(str(int(name in marks)) for name in FLAG_ORDER[benchmark])


def test_one_file_per_sequence_in_the_benchmarks_order(tmp_path: Path) -> None:
    assert read_attributes(write(tmp_path / "l", s=row("lasher", "HO", "FM")), LASHER).marks == {"s": ("HO", "FM")}
    folder = write(tmp_path / "v", dog_attribute=row("visevent", "CM", "BOM"), cat=row("visevent", "OE"))
    read = read_attributes(folder, VISEVENT)
    assert read.marks == {"dog": ("CM", "BOM"), "cat": ("OE",)}
    assert len(read.names) == 17
    assert set(read.unused({"dog"})) == set(read.names) - {"CM", "BOM"}


def test_one_file_per_attribute_beside_the_list_of_sequences(tmp_path: Path) -> None:
    folder = write(tmp_path, SequencesName="a\nb\nc\n", FM="1\n0\n1\n", LI="0\n0\n1\n", HO="0\n0\n0\n")
    read = read_attributes(folder, get_rule("gtot"))
    assert read.marks == {"a": ("FM",), "b": (), "c": ("FM", "LI")}
    assert read.unused({"a", "b", "c"}) == ("HO",)
    with pytest.raises(ResultsError, match=r"FM\.txt has 2 flags; expected one for each of the 3 lines"):
        read_attributes(write(tmp_path, FM="1\n0\n"), RGBT234)


def test_one_tagged_frame_marks_a_depthtrack_sequence(tmp_path: Path) -> None:
    (tmp_path / "ball").mkdir()
    (tmp_path / "ball" / "dark-scene.tag").write_text("0\n0\n1\n")
    (tmp_path / "ball" / "out-of-frame.tag").write_text("0\n0\n0\n")
    read = read_attributes(tmp_path, get_rule("depthtrack"))
    assert (read.names, read.marks) == (("dark-scene", "out-of-frame"), {"ball": ("dark-scene",)})


def test_a_table_is_read_for_any_benchmark(tmp_path: Path) -> None:
    path = tmp_path / "vtuav.csv"
    path.write_text("sequence,TB,CM\ncar_004,1,0\nbus_014,0,0\n")
    read = read_attributes(path, get_rule("vtuav"))
    assert read.marks == {"car_004": ("TB",), "bus_014": ()}
    path.write_text("TB,SequencesName,CM\n1,car_004,1\n0,bus_014,0\n")  # as MATLAB writes VTUAV's own struct
    read = read_attributes(path, get_rule("vtuav"))
    assert (read.names, read.marks) == (("TB", "CM"), {"car_004": ("TB", "CM"), "bus_014": ()})
    path.write_text("sequence,TB,CM\ncar_004,1\n")
    with pytest.raises(ResultsError, match="line 2 is 'car_004,1'; expected a name and 2 flags, 0 or 1"):
        read_attributes(path, get_rule("vtuav"))
    path.write_text("name,TB\n")
    with pytest.raises(ResultsError, match="begins with 'name,TB'; expected a header sequence,ATTRIBUTE"):
        read_attributes(path, get_rule("vtuav"))


def test_another_benchmarks_flags_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"s\.txt has 17 flags; expected 19 \(LasHeR\), and this may be visevent's"):
        read_attributes(write(tmp_path / "v", s=row("visevent", "CM")), LASHER)
    with pytest.raises(ResultsError, match=r"s\.txt has 3 flags; expected 19 \(LasHeR\), or one for each line"):
        read_attributes(write(tmp_path / "three", s="1,0,1"), LASHER)
    with pytest.raises(
        ResultsError, match=r"the order of flags in SEQUENCE\.txt is known of lasher and visevent, not of"
    ):
        read_attributes(write(tmp_path / "o", s=row("lasher")), RGBT234)
    with pytest.raises(ResultsError, match=r"s\.txt has no flags; expected 19"):
        read_attributes(write(tmp_path / "empty", s="\n"), LASHER)
    (tmp_path / "none").mkdir()
    with pytest.raises(ResultsError, match=r"has no attributes: expected SEQUENCE\.txt with a row"):
        read_attributes(tmp_path / "none", LASHER)


def test_scoring_says_which_attributes_have_no_sequence(tmp_path: Path) -> None:
    results, truth = (write(tmp_path / name, a="5,5,9,9\n" * 3, b="5,5,9,9\n" * 3) for name in ("t", "groundtruth"))
    said: list[str] = []
    marks = write(tmp_path / "marks", a=row("lasher", "FM"))
    (score,) = score_files([results], "lasher", truth, marks, echo=said.append)
    assert set(score.per_attribute) == {"FM"}
    assert f"  1 sequences have no attributes in {marks}: b" in said
    (unused,) = [line for line in said if line.startswith("  no sequence has the attribute ")]
    assert "NO, PO, TO" in unused
    assert "FM" not in unused
    with pytest.raises(ResultsError, match="none of which is among the 2 of this benchmark; expected names such as a"):
        score_files([results], "lasher", truth, write(tmp_path / "other", zebra=row("lasher")))
