from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ckd_core.data.box_files import BoxFileError, parse_table, to_xywh
from ckd_core.data.sequences import SequenceError, open_folder, open_sequence, read_auxiliary, read_color
from ckd_core.data.sequences import write_sequence as save_sequence
from ckd_core.data.synthetic import clip
from ckd_core.frame import Modality, MultiModalFrame, check_frame

if TYPE_CHECKING:
    from pathlib import Path


def write_sequence(folder: Path, count: int = 3, aux: str | None = "infrared", truth: str | None = None) -> Path:
    rng = np.random.default_rng(7)
    for name in ["visible"] + ([aux] if aux else []):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            image = rng.integers(0, 255, (24, 32, 3), dtype=np.uint8)
            if name == "depth":
                image = rng.integers(0, 5000, (24, 32), dtype=np.uint16)
            cv2.imwrite(str(folder / name / f"{index + 8}.png"), image)
    lines = truth if truth is not None else "".join(f"{i},2,8,9\n" for i in range(count))
    (folder / "groundtruth.txt").write_text(lines)
    return folder


@pytest.mark.parametrize(("aux", "modality"), [("infrared", "thermal"), ("depth", "depth"), ("event", "event")])
def test_the_plain_layout_is_read(tmp_path: Path, aux: str, modality: str) -> None:
    sequence = open_sequence(write_sequence(tmp_path / "walk", aux=aux))
    assert (sequence.name, len(sequence), sequence.modality) == ("walk", 3, Modality(modality))
    assert [path.stem for path in sequence.rgb_paths] == ["8", "9", "10"]
    frame = sequence.frame(1)
    stored = cv2.imread(str(sequence.rgb_paths[1]))
    assert stored is not None
    np.testing.assert_array_equal(frame.rgb, stored[:, :, ::-1])
    assert frame.aux is not None
    assert frame.aux.dtype == (np.uint16 if aux == "depth" else np.uint8)
    assert frame.aux.shape == ((24, 32) if aux == "depth" else (24, 32, 3))
    assert frame.stamp == pytest.approx(1 / 30)
    np.testing.assert_array_equal(sequence.boxes[2], [2, 2, 8, 9])
    with pytest.raises(SequenceError, match=r"no frame 3; it has 0\.\.2"):
        sequence.frame(3)


def test_absences_the_first_box_and_stamps_are_read(tmp_path: Path) -> None:
    folder = write_sequence(tmp_path / "s", truth="nan,nan,nan,nan\n1,1,4,4\nnan\n")
    (folder / "timestamps.txt").write_text("0.5\n0.75\n1.5\n")
    sequence = open_sequence(folder)
    assert sequence.start == 1
    assert sequence.absent.tolist() == [True, False, True]
    assert sequence.frame(2).stamp == 1.5
    (folder / "timestamps.txt").write_text("0.5\n0.4\n1.5\n")
    with pytest.raises(SequenceError, match="3 rising numbers"):
        open_sequence(folder)


def test_a_thermal_grey_file_stays_one_channel(tmp_path: Path) -> None:
    path = tmp_path / "t.png"
    cv2.imwrite(str(path), np.full((5, 6), 900, dtype=np.uint16))
    assert read_auxiliary(path, Modality.THERMAL).shape == (5, 6)
    assert read_auxiliary(path, Modality.THERMAL).dtype == np.uint16


def test_depth_in_a_colour_file_is_read_for_trackers(tmp_path: Path) -> None:
    folder = write_sequence(tmp_path / "walk", aux="depth")
    image = np.full((24, 32, 3), 900, dtype=np.uint16)
    cv2.imwrite(str(folder / "depth" / "8.png"), image)
    frame = open_sequence(folder).frame(0)
    check_frame(frame)
    np.testing.assert_array_equal(frame.aux, image[:, :, 0])


def test_a_sequence_may_have_colour_alone_and_no_ground_truth(tmp_path: Path) -> None:
    folder = write_sequence(tmp_path / "s", aux=None)
    assert open_sequence(folder).frame(0).presence == (True, False)
    (folder / "groundtruth.txt").unlink()
    with pytest.raises(SequenceError, match=r"no file .*groundtruth\.txt"):
        open_sequence(folder)
    sequence = open_sequence(folder, ground_truth=False)
    assert not sequence.labelled.any()
    with pytest.raises(SequenceError, match="no frame with a box"):
        _ = sequence.start


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "infrared" / "9.png").unlink(), "3 images in visible/ and 2 in infrared/"),
        (lambda f: (f / "groundtruth.txt").write_text("1,2,3,4\n"), "1 lines for 3 images"),
        (lambda f: (f / "groundtruth.txt").write_text("1,2,3,4\n1\t2\t3\t4\n1,2,3,4\n"), "line 2 is tab delimited"),
        (
            lambda f: (f / "groundtruth.txt").write_text("1,2,3,4\n1,2,3,inf\n1,2,3,4\n"),
            r"line 2 is \[1.0, 2.0, 3.0, inf\]; expected finite",
        ),
        (lambda f: (f / "depth").mkdir(), "infrared and depth"),
    ],
)
def test_a_broken_sequence_is_refused_with_its_fault(tmp_path: Path, damage: object, message: str) -> None:
    folder = write_sequence(tmp_path / "s")
    damage(folder)  # type: ignore[operator]
    with pytest.raises(SequenceError, match=message):
        open_sequence(folder)


def test_a_truncated_image_is_named(tmp_path: Path) -> None:
    sequence = open_sequence(write_sequence(tmp_path / "s"))
    sequence.aux_paths[0].write_bytes(b"")
    with pytest.raises(SequenceError, match=r"8\.png \(0 bytes\) is not an image"):
        sequence.frame(0)
    sequence.aux_paths[0].unlink()
    with pytest.raises(SequenceError, match=r"cannot read image .*8\.png"):
        sequence.frame(0)


def test_a_folder_of_sequences_opens(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write_sequence(tmp_path / name)
    assert [sequence.name for sequence in open_folder(tmp_path)] == ["a", "b"]
    assert [sequence.name for sequence in open_folder(tmp_path / "b")] == ["b"]
    with pytest.raises(SequenceError, match="holds no sequence"):
        open_folder(tmp_path / "a" / "visible")


@pytest.mark.shared
def test_every_real_sequence_opens(shared_data: Path) -> None:
    sequences = open_folder(shared_data / "sequences")
    assert len(sequences) == 11
    for sequence in sequences:
        assert sequence.frame(sequence.start).rgb is not None
    magazine = next(sequence for sequence in sequences if sequence.name == "rgbd_kitchen7s_magazine")
    assert magazine.frame(0).aux is not None
    assert magazine.frame(0).aux.dtype == np.uint16  # type: ignore[union-attr]
    assert magazine.absent.any()


@pytest.mark.parametrize(
    ("text", "delimiter", "integers"),
    [
        ("1,2,3,4\r\n5,6,7,8\r\n", "comma", True),
        ("1\t2\t3\t4\n5\t6\t7\t8", "tab", True),
        ("1 2  3 4\n 5 6 7 8\n\n", "space", True),
        ("1.0, 2, 3, 4\n5,6,7,8\n", "comma", False),
        ("1;2;3;4\n5;6;7;8\n", "semicolon", True),
        ("1.0e+00 2 3 4\n5 6 7 8", "space", False),
    ],
)
def test_the_delimiter_is_detected(text: str, delimiter: str, integers: bool) -> None:
    table = parse_table(text, "f")
    assert (table.delimiter, table.integers) == (delimiter, integers)
    np.testing.assert_array_equal(table.values, [[1, 2, 3, 4], [5, 6, 7, 8]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "f is empty"),
        ("1,2\t3,4\n", "line 1 mixes delimiters"),
        ("1,2,3,4\n1 2 3 4\n", "line 2 is space delimited, line 1 is comma delimited"),
        ("1,2,3,4\n\n1,2,3,4\n", "line 2 is empty"),
        ("1,2,3,4\n1,2,3\n", "line 2 has 3 numbers, line 1 has 4"),
        ("1 2 3 4\n1 2 x 4\n", "line 2 is not numbers"),
        ("1 2 3 4\n1 2 1.2.3 4\n", "line 2 is not numbers"),
        ("1,2,3,4\n1,2 3,4\n", "line 2 is not numbers"),
        ("1,2,3,4\n1-2,3,4,5\n", "line 2 is not numbers"),
    ],
)
def test_ambiguous_tables_are_refused(text: str, message: str) -> None:
    with pytest.raises(BoxFileError, match=message):
        parse_table(text, "f")


def test_missing_rows_become_nan() -> None:
    values = parse_table("1,2,3,4\nnan\n,,,\n", "f").values
    assert np.isnan(values[1:]).all()


def test_corners_and_polygons_become_xywh() -> None:
    np.testing.assert_array_equal(to_xywh(np.array([[9.0, 8, 4, 2]]), "corners"), [[4, 2, 5, 6]])
    np.testing.assert_array_equal(to_xywh(np.array([[9.0, 8, 4, 2]]), "corners", inclusive=True), [[4, 2, 6, 7]])
    polygon = np.array([[1.0, 2, 5, 2, 5, 9, 1, 9]])
    np.testing.assert_array_equal(to_xywh(polygon), [[1, 2, 4, 7]])
    with pytest.raises(BoxFileError, match="6 numbers per line"):
        to_xywh(np.zeros((1, 6)))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(*[st.floats(-1e6, 1e6) | st.just(float("nan"))] * 4), min_size=1, max_size=20)
    | st.lists(st.tuples(*[st.integers(-(10**9), 10**9)] * 4), min_size=1, max_size=20),
    st.sampled_from([",", "\t", " ", ";", ", "]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_any_numbers_come_back_exactly(rows: list[tuple[float, ...]], sign: str, end: str) -> None:
    text = end.join(sign.join(map(repr, row)) for row in rows) + end
    np.testing.assert_array_equal(parse_table(text, "f").values, np.array(rows))


@pytest.mark.parametrize("modality", list(Modality))
def test_a_written_sequence_reads_back_exactly(tmp_path: Path, modality: Modality) -> None:
    recording = clip(5, modality, frames=4, size=(96, 80), absent=(0.5, 1.0))
    folder = save_sequence(tmp_path / "walk", recording.frames, recording.boxes)
    sequence = open_sequence(folder)
    assert (sequence.modality, len(sequence)) == (modality, 4)
    np.testing.assert_allclose(sequence.boxes, recording.boxes, atol=1e-4)
    for index, frame in enumerate(recording.frames):
        again = sequence.frame(index)
        assert again.stamp == pytest.approx(frame.stamp)
        np.testing.assert_array_equal(again.rgb, frame.rgb)
        np.testing.assert_array_equal(again.aux, frame.aux)


def test_frames_that_png_cannot_hold_are_refused(tmp_path: Path) -> None:
    rgb = np.zeros((8, 8, 3), np.uint8)
    frame = MultiModalFrame(0.0, rgb, np.zeros((8, 8), np.float32), Modality.DEPTH)
    with pytest.raises(SequenceError, match=r"00000\.png: the image is float32; expected uint8 or uint16"):
        save_sequence(tmp_path / "a", [frame], np.zeros((1, 4)))
    with pytest.raises(SequenceError, match="2 boxes for 1 frames"):
        save_sequence(tmp_path / "b", [MultiModalFrame(0.0, rgb, None, Modality.DEPTH)], np.zeros((2, 4)))
    assert not (tmp_path / "b" / "groundtruth.txt").exists()


COMPANION = b"\x00\x05\x16\x07\x00\x02\x00\x00" + bytes(100) + b"\xff\xb0"


@pytest.mark.parametrize("hidden", ["._{}", ".{}", ".hidden_{}"])
def test_hidden_files_are_no_images_and_hidden_folders_no_sequences(tmp_path: Path, hidden: str) -> None:
    frames = [
        MultiModalFrame(i / 30, np.full((6, 8, 3), i, np.uint8), np.full((6, 8), i, np.uint8), Modality.THERMAL)
        for i in range(3)
    ]
    folder = save_sequence(tmp_path / "walk", frames, np.full((3, 4), 2.0))
    for path in [item for item in folder.rglob("*") if item.is_file()]:
        path.with_name(hidden.format(path.name)).write_bytes(COMPANION)
    (tmp_path / hidden.format("walk")).mkdir()
    (tmp_path / hidden.format("walk") / "groundtruth.txt").write_bytes(COMPANION)
    (opened,) = open_folder(tmp_path)
    assert len(opened) == 3
    assert [frame.rgb[0, 0, 0] for frame in opened.frames() if frame.rgb is not None] == [0, 1, 2]


def with_orientation(jpeg: bytes, orientation: int) -> bytes:
    """The JPEG with an EXIF segment that holds only the orientation."""
    tiff = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    exif = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("aux", ["infrared", "event"])
def test_both_cameras_follow_the_exif_orientation(tmp_path: Path, orientation: int, aux: str) -> None:
    picture = np.zeros((24, 32, 3), np.uint8)
    picture[:8, :8] = 255
    jpeg = cv2.imencode(".jpg", picture)[1].tobytes()
    for name in ("visible", aux):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.jpg").write_bytes(with_orientation(jpeg, orientation))
    (tmp_path / "groundtruth.txt").write_text("1,1,4,4\n")
    frame = open_sequence(tmp_path).frame(0)
    assert frame.rgb is not None
    assert frame.aux is not None
    np.testing.assert_array_equal(frame.rgb, frame.aux)
    assert frame.rgb.shape == ((24, 32, 3) if orientation < 5 else (32, 24, 3))
    ends = np.s_[:4, :4], np.s_[:4, -4:], np.s_[-4:, -4:], np.s_[-4:, :4]
    bright = [frame.rgb[end].mean() > 200 for end in ends]
    assert bright == [orientation in corner for corner in ((1, 5), (2, 6), (3, 7), (4, 8))]


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_three_channels_of_16_bits_are_read_by_both_cameras(tmp_path: Path, suffix: str) -> None:
    pixels = np.random.default_rng(4).integers(0, 1 << 16, (24, 32, 3), dtype=np.uint16)
    path = tmp_path / f"1{suffix}"
    cv2.imwrite(str(path), pixels)
    upper = (pixels[..., ::-1] >> 8).astype(int)
    for image in (read_color(path), *(read_auxiliary(path, Modality(kind)) for kind in ("thermal", "event"))):
        assert image.dtype == np.uint8
        assert np.abs(image - upper).max() <= 1
    depth = read_auxiliary(path, Modality.DEPTH)
    np.testing.assert_array_equal(depth, pixels[..., 0])
    cv2.imwrite(str(path), np.dstack([pixels[..., 1]] * 3))
    np.testing.assert_array_equal(read_auxiliary(path, Modality.THERMAL), pixels[..., 1])
