"""Real material to cached features: what is cut, what is refused, and that nothing is skipped silently."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np
import pytest

from ckd_core.data.pairs import collate
from ckd_core.data.real.crops import (
    MISALIGNED_PX,
    NO_TROUBLE,
    OTHERS_SHARE,
    SMOKE_SHARE,
    PairCutter,
    RealPair,
    TroubleSettings,
    _misaligned,
    _turned,
)
from ckd_core.data.real.features import FeaturePairs, FeatureSource, cached, read_manifest, write_cache
from ckd_core.data.real.material import GroupSettings, Material, MaterialError, list_files
from ckd_core.data.real.paste import paste, random_box
from ckd_core.data.real.scenes import scene_pairs
from ckd_core.data.real.teacher import LabelSettings, TeacherError, Track, read_tracks, write_tracks
from ckd_core.data.real.video import VideoError, read_video
from ckd_core.data.synthetic.pairs import ABSENT_BOX, STRETCH
from ckd_core.models.layers.stem import COARSE_CHANNELS, CoarseStem
from ckd_core.models.registry import model_config
from ckd_core.settings import SettingsError, build

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

FRAMES, SIZE = 12, (160, 120)
NETWORK = model_config("sdstrack_m256")
GROUPS = (
    GroupSettings("annotated", "boxes", ("clips/*.mp4",), share=0.5),
    GroupSettings("tracked", "tracks", ("clips/*.mp4",), share=0.3, thermal=True),
    GroupSettings("patches", "patches", ("photos/*.png",), share=0.1),
    GroupSettings("pasted", "pasted", ("photos/*.png", "clips/*.mp4"), share=0.1),
    GroupSettings("scenes", "scenes", share=0.1, clips=2),
)


def picture(seed: int) -> NDArray[np.uint8]:
    """An image with texture everywhere, coarse enough for a codec."""
    small = np.random.default_rng(seed).integers(0, 255, (12, 16, 3)).astype(np.uint8)
    return cv2.resize(small, SIZE, interpolation=cv2.INTER_CUBIC)


def box_at(index: int) -> tuple[float, float, float, float]:
    """Box of the clip's target in one frame."""
    return 20.0 + 4 * index, 30.0, 18.0, 40.0


def write_clip(path: Path, boxes: bool = True) -> None:
    """Write a clip of a tall white target that moves over a still background."""
    path.parent.mkdir(parents=True, exist_ok=True)
    video = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 20, SIZE)  # type: ignore[attr-defined]
    for index in range(FRAMES):
        frame = picture(3)
        x, y, w, h = (int(value) for value in box_at(index))
        frame[y : y + h, x : x + w] = 255
        video.write(frame)
    video.release()
    if boxes:
        path.with_suffix(".txt").write_text("".join(f"{','.join(map(str, box_at(i)))}\n" for i in range(FRAMES)))


def make_source(tmp_path: Path) -> FeatureSource:
    """Write a clip with boxes and a track, and a photograph."""
    write_clip(tmp_path / "clips" / "walk.mp4")
    (tmp_path / "photos").mkdir()
    cv2.imwrite(str(tmp_path / "photos" / "place.png"), picture(5))
    track = Track(1, "moving", tuple(box_at(index) for index in range(1, 9)))
    write_tracks(tmp_path / "tracks.json", LabelSettings(), {"clips/walk.mp4": [track]})
    return FeatureSource(tmp_path, GROUPS, tmp_path / "tracks.json", tmp_path / "cache", 64, seed=4, max_refused=0.5)


@pytest.fixture
def source(tmp_path: Path) -> FeatureSource:
    """Material that a test may change."""
    return make_source(tmp_path)


@pytest.fixture(scope="module")
def cached_source(tmp_path_factory: pytest.TempPathFactory) -> FeatureSource:
    """Material with its cache."""
    source = make_source(tmp_path_factory.mktemp("material"))
    with pytest.raises(MaterialError, match="sdstrack cache makes them"):
        read_manifest(source, NETWORK)
    write_cache(source, NETWORK, CoarseStem())
    return source


def test_the_target_is_square_in_its_template_and_where_the_box_says() -> None:
    image = np.zeros((200, 300, 3), dtype=np.uint8)
    image[60:140, 100:120] = 255  # 20 x 80
    box = np.array((100.0, 60.0, 20.0, 80.0))
    cutter = PairCutter(NETWORK)
    matches = 0
    for seed in range(30):
        cut = cutter.cut(RealPair((image, image), None, (box, box)), np.random.default_rng(seed))
        x, y, w, h = cut.box
        if x < 0 or y < 0 or x + w > 1 or y + h > 1:
            continue
        bright = cut.search[0].mean(axis=2) > cut.search[0].mean() + 30
        rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
        if not len(rows):
            continue  # degraded until nothing is bright, or occluded
        visible = np.array((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)) / 256
        matches += bool(np.abs(visible - (x, y, x + w, y + h)).max() < 0.03)
        inside = cut.template[0, 44:84, 44:84].mean()
        assert inside > cut.template[0].mean()
    assert matches >= 12


def test_a_target_that_is_away_or_covered_is_nothing_to_find() -> None:
    image, box = picture(7), np.array((60.0, 40.0, 30.0, 40.0))
    cutter = PairCutter(NETWORK)

    def boxes(pair: RealPair) -> NDArray[np.float32]:
        return np.stack([cutter.cut(pair, np.random.default_rng(seed)).box for seed in range(300)])

    gone = boxes(RealPair((image, image), None, (box, box), away=True))
    assert (gone == np.float32(ABSENT_BOX)).all()
    covered = (boxes(RealPair((image, image), None, (box, box))) == np.float32(ABSENT_BOX)).all(axis=1).mean()
    assert 0.02 < covered < 0.15  # those that a patch hides


def test_some_search_regions_lie_around_another_target() -> None:
    image = np.zeros((400, 600, 3), dtype=np.uint8)
    box, other = np.array((60.0, 60.0, 30.0, 40.0)), np.array((420.0, 260.0, 30.0, 40.0))
    cutter = PairCutter(NETWORK)

    def far(pair: RealPair) -> float:
        x, y = np.stack([cutter.cut(pair, np.random.default_rng(seed)).box[:2] for seed in range(300)]).T
        return float(((x < -1) | (y < -1) | (x > 2) | (y > 2)).mean())  # several search regions away

    assert far(RealPair((image, image), None, (box, box))) < 0.02
    assert abs(far(RealPair((image, image), None, (box, box), (other,))) - OTHERS_SHARE) < 0.08


def test_another_target_stands_beside_the_target_or_hides_it() -> None:
    """The target is white, the other one red; everything else is black."""
    image = np.zeros((400, 600, 3), dtype=np.uint8)
    image[60:100, 60:90] = 255
    image[260:300, 420:450] = (255, 0, 0)
    box, other = np.array((60.0, 60.0, 30.0, 40.0)), np.array((420.0, 260.0, 30.0, 40.0))
    cutter = PairCutter(NETWORK)
    beside = hidden = 0
    for seed in range(80):
        crops = [np.zeros((size, size, 3), dtype=np.uint8) for size in (128, 256)]
        crops[1][96:160, 96:160] = 255
        covered = cutter._neighbour(
            RealPair((image, image), None, (box, box), (other,)),
            [crops, None],
            (0.5, 0.5, 0.25, 0.25),
            np.random.default_rng(seed),
        )
        red = (crops[1][..., 0] > 150) & (crops[1][..., 1] < 100)
        white = (crops[1] > 200).all(axis=2)
        assert not crops[0].any(), "the template stays as it is"
        assert abs(covered - (1 - white.sum() / 64**2)) < 0.12
        if red.sum() > 0.5 * 64**2:
            beside, hidden = beside + (covered < 0.5), hidden + (covered > 0.7)
    assert beside > 20
    assert hidden > 3


def test_troubles_are_of_one_camera_and_of_the_search_region(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both cameras see the same picture, so that what differs is the trouble."""
    monkeypatch.setattr("ckd_core.data.real.crops._degrade", lambda crop, _: crop)
    monkeypatch.setattr("ckd_core.data.real.crops._color_matrix", lambda _: None)
    image, box = picture(7), np.array((60.0, 40.0, 30.0, 40.0))

    def differ(troubles: TroubleSettings, rgb: bool = True) -> tuple[float, float]:
        """Share of pairs whose cameras differ by more than noise in template and search region."""
        cutter = PairCutter(NETWORK, troubles=troubles)
        pair = RealPair((image, image) if rgb else None, (image, image), (box, box))
        cuts = [cutter.cut(pair, np.random.default_rng(seed)) for seed in range(24)]

        def share(crops: list[NDArray[np.uint8]]) -> float:
            """After exposure, which a dim camera changes, is taken out."""
            seen = [(rgb, aux) for rgb, aux in crops if rgb.std() > 0 and aux.std() > 0]
            return float(np.mean([np.corrcoef(rgb.ravel(), aux.ravel())[0, 1] < 0.9 for rgb, aux in seen]))

        return share([cut.template for cut in cuts]), share([cut.search for cut in cuts])

    assert differ(NO_TROUBLE) == (0.0, pytest.approx(SMOKE_SHARE, abs=0.15))
    for name in ("misaligned", "haze"):
        template, search = differ(TroubleSettings(**{name: 1.0}))
        assert search > 0.5, name
        assert template < (0.75 if name == "misaligned" else 0.01), name
    template, search = differ(TroubleSettings(smoky=1.0), rgb=False)
    assert (template, search > 0.5) == (0.0, True)
    with pytest.raises(SettingsError, match=r"'misaligned' is 1\.5; expected 0\.0 to 1\.0"):
        build(TroubleSettings, {"misaligned": 1.5}, "recipe")


def test_a_camera_that_is_not_registered_shows_the_target_beside_its_place() -> None:
    aux = [np.zeros((128, 128, 3), dtype=np.uint8), np.zeros((256, 256, 3), dtype=np.uint8)]
    aux[0][32:96, 32:96], aux[1][96:160, 96:160] = 255, 255
    shifts, templates = [], []
    for seed in range(200):
        template, search = _misaligned(aux, np.array((0.0, 0.0, 40.0, 80.0)), (0.25, 0.25), np.random.default_rng(seed))
        rows, columns = np.nonzero(search[..., 0] > 128)
        shifts.append(((columns.mean() - 127.5) / 64 * 40, (rows.mean() - 127.5) / 64 * 80))  # px of the frame
        templates.append(bool((template == aux[0]).all()))
    reach = np.hypot(*np.array(shifts).T)
    assert MISALIGNED_PX * 0.8 < reach.max() < MISALIGNED_PX * 1.05
    assert 0.4 < np.mean(templates) < 0.6


def test_a_stretched_search_region_lies_around_a_box_of_another_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ckd_core.data.real.crops._degrade", lambda crop, _: crop)
    image, box = picture(7), np.array((60.0, 40.0, 30.0, 40.0))

    def shapes(troubles: TroubleSettings) -> NDArray[np.float64]:
        """Logarithms of the target's width and height as multiples of the believed box's sides; [n, 2]."""
        cutter = PairCutter(NETWORK, troubles=troubles)
        pair = RealPair((image, image), None, (box, box))
        cuts = [cutter.cut(pair, np.random.default_rng(seed)).box for seed in range(300)]
        return np.log(np.array([cut[2:] for cut in cuts if cut[2] > 0], dtype=np.float64) * 4)

    usual, stretched = shapes(NO_TROUBLE), shapes(TroubleSettings(stretched=1.0))
    wide, rare = (np.mean(np.abs(each[:, 0] - each[:, 1]) > 0.5) for each in (stretched, usual))
    assert wide > 0.2 > 0.05 > rare
    assert np.abs(stretched - stretched.mean(axis=0)).max() < STRETCH + np.log(2) + 0.1  # an enlarged region twice


def test_a_turned_search_frame_has_the_box_of_an_ellipse() -> None:
    """The target is a white ellipse that fills its box, twice as high as wide."""
    image = np.zeros((300, 400, 3), dtype=np.uint8)
    cv2.ellipse(image, (200, 150), (20, 40), 0, 0, 360, (255, 255, 255), -1)
    box = np.array((180.0, 110.0, 40.0, 80.0))
    angles = []
    for seed in range(20):
        pair = _turned(RealPair((image, image), (image, image), (box, box), (box,)), np.random.default_rng(seed))
        assert pair.rgb is not None
        assert pair.aux is not None
        assert (pair.rgb[0] == image).all()
        assert (pair.aux[1] == pair.rgb[1]).all()
        assert pair.others == ()  # where they are now is not known
        rows, columns = np.nonzero(pair.rgb[1][..., 0] > 128)
        seen = np.array((columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1))
        assert np.abs(seen - pair.boxes[1]).max() < 4
        angles.append(pair.boxes[1][2] / pair.boxes[1][3])
    assert max(angles) > 1.3


def test_scenes_have_lookalikes_and_targets_that_leave() -> None:
    pairs = [pair for _, pair in scene_pairs(2, 40, np.random.default_rng(0))]
    assert len(pairs) == 80
    assert any(pair.others for pair in pairs)
    away = [pair.away for pair in pairs]
    assert not any(away[:40])  # every second recording has an absence
    assert any(away[40:])
    for pair in pairs:
        assert pair.rgb is not None
        assert pair.aux is not None
        assert all(image.shape == (360, 480, 3) for image in (*pair.rgb, *pair.aux))
        assert np.isfinite(np.concatenate(pair.boxes)).all()


@pytest.mark.parametrize(("what", "files"), [("scenes", ("a.mp4",)), ("tracks", ())])
def test_files_of_scenes_and_groups_without_files_are_refused(
    tmp_path: Path, what: Literal["scenes", "tracks"], files: tuple[str, ...]
) -> None:
    with pytest.raises(MaterialError, match=f"group g: files is .*expected (no|patterns of) files for {what}"):
        list_files(tmp_path, GroupSettings("g", what, files, share=1.0))


def test_a_patch_fills_its_box_on_both_backgrounds() -> None:
    piece, rng = np.full((100, 100, 3), 250, dtype=np.uint8), np.random.default_rng(1)
    grey = np.full((300, 400, 3), 20, dtype=np.uint8)
    both = paste(piece, np.array((10.0, 20.0, 40.0, 60.0)), (grey, grey), rng)
    assert both is not None
    for image, (x, y, w, h) in both:
        rows, columns = (np.flatnonzero((image[..., 0] > 120).any(axis=axis)) for axis in (1, 0))
        assert abs(columns[0] - x) <= 2
        assert abs(rows[0] - y) <= 2
        assert abs(columns[-1] + 1 - x - w) <= 2
        assert abs(rows[-1] + 1 - y - h) <= 2
    assert random_box(grey, rng) is None  # no texture anywhere


def test_a_cache_holds_the_requested_pairs_and_each_depends_on_seed_and_index_alone(
    cached_source: FeatureSource,
) -> None:
    manifest = read_manifest(cached_source, NETWORK)
    assert cached(cached_source, NETWORK)
    assert 40 <= manifest["pairs"] <= 64
    assert set(manifest["groups"]) == {"annotated", "tracked", "patches", "pasted", "scenes"}
    pairs, again = FeaturePairs(cached_source, NETWORK, 7), FeaturePairs(cached_source, NETWORK, 7)
    batch = collate([(index, pairs[index]) for index in range(8)])
    assert batch.template.shape == (8, 2 * COARSE_CHANNELS, 8, 8)
    assert batch.search.shape == (8, 2 * COARSE_CHANNELS, 16, 16)
    later = pairs[manifest["pairs"] + 3]  # of another epoch, before the first one is read again
    for index in (5, 0):
        assert (again[index].search == pairs[index].search).all()
    assert (again[manifest["pairs"] + 3].search == later.search).all()
    first_epoch = {pairs[index].source for index in range(manifest["pairs"])}
    assert len(first_epoch) == manifest["pairs"]


def test_a_lost_camera_shows_the_other_one_or_an_unrelated_pair(cached_source: FeatureSource) -> None:
    whole, lossy = (
        FeaturePairs(replace(cached_source, drop=0.0), NETWORK, 7),
        FeaturePairs(replace(cached_source, drop=1.0), NETWORK, 7),
    )
    for index in range(10):
        search, original = lossy[index].search.chunk(2), whole[index].search.chunk(2)
        assert sum(bool((a == b).all()) for a, b in zip(search, original, strict=True)) == 1


def test_a_cache_of_other_settings_is_refused(cached_source: FeatureSource) -> None:
    read_manifest(replace(cached_source, drop=0.9, ratio=3.0), NETWORK)  # of training, not of the cache
    with pytest.raises(MaterialError, match=r"other settings \(seed\)"):
        FeaturePairs(replace(cached_source, seed=5), NETWORK, 0)


def test_a_cache_of_crops_for_another_network_is_refused(cached_source: FeatureSource) -> None:
    """Features of stretched and of square cuts have the same shape: nothing else would tell."""
    other = replace(NETWORK, square_boxes=False)
    with pytest.raises(MaterialError, match=r"was made with other settings \(crops\)"):
        FeaturePairs(cached_source, other, 0)
    assert not cached(cached_source, other)


def test_what_cannot_be_used_is_named_and_counted(source: FeatureSource) -> None:
    root = source.root
    (root / "clips" / "broken.mp4").write_bytes(b"no video")
    (root / "clips" / "broken.txt").write_text("1,1,9,9\n")
    write_clip(root / "clips" / "edge.mp4")
    lines = [box_at(i) for i in range(FRAMES)]
    lines[4:6] = [(150.0, 30.0, 40.0, 40.0), (10.0, 10.0, 3.0, 3.0)]  # outside, and too small
    (root / "clips" / "edge.txt").write_text("".join(f"{','.join(map(str, box))}\n" for box in lines))
    log_lines: list[str] = []
    strict = replace(source, max_refused=0.0, groups=GROUPS[:1])
    small = replace(NETWORK, template_size=64, search_size=128)
    with pytest.raises(MaterialError, match=r"1 of 3 files could not be used; expected at most max_refused = 0"):
        write_cache(strict, small, CoarseStem(), lambda line: log_lines.append(str(line)))
    log = "\n".join(log_lines)
    assert "broken.mp4 decodes to 0 frames" in log
    assert "edge.mp4: 2 boxes outside the picture or smaller than 7 px" in log
    assert not cached(strict, NETWORK)


def test_missing_material_is_an_error_with_its_path(source: FeatureSource, tmp_path: Path) -> None:
    missing = GroupSettings("missing", "boxes", ("nowhere/*.mp4",), share=1.0)
    with pytest.raises(MaterialError, match=r"group missing: nothing fits .*nowhere"):
        Material(source.root, (missing,), source.tracks)
    with pytest.raises(TeacherError, match=r"none\.json.*sdstrack label writes them"):
        Material(source.root, GROUPS, tmp_path / "none.json")
    (tmp_path / "other.json").write_text('{"clips": [1]}')
    with pytest.raises(TeacherError, match="is not what sdstrack label writes"):
        read_tracks(tmp_path / "other.json")
    with pytest.raises(VideoError, match="no clip"):
        read_video(tmp_path / "no.mp4")


def test_tracks_survive_their_file(source: FeatureSource) -> None:
    tracks = read_tracks(source.tracks)
    (track,) = tracks["clips/walk.mp4"]
    assert track.boxes[2] == box_at(3)
    assert (track.first, track.detector) == (1, "moving")


CTRL_C_AFTERWARDS = """
import signal
import numpy as np
from ckd_core.data.real.features import FeatureRunner
from ckd_core.models.layers.stem import CoarseStem

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
runner = FeatureRunner(CoarseStem())
for side in (64, 96):
    runner(np.zeros((2, side, side, 3), np.uint8))
assert len(runner._programs) == 2
del runner
try:
    signal.raise_signal(signal.SIGINT)  # to this thread, and not to any of the process
except KeyboardInterrupt:
    print("interrupted")
"""


def test_ctrl_c_after_two_compiled_sizes_is_no_crash() -> None:
    """With an OpenVINO core of its own per size, the first one to end took the thread's signal stack along."""
    done = subprocess.run([sys.executable, "-c", CTRL_C_AFTERWARDS], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr
