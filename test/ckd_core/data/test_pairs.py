from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from ckd_core.data.pairs import PairError, TrainingSample, check_sample, collate

BOX = torch.tensor([0.25, 0.25, 0.5, 0.5])
GOOD = TrainingSample(torch.zeros(6, 64, 64), torch.zeros(6, 128, 128), BOX, BOX, "cat", ("bad.jpg",))


def test_pairs_become_a_batch_in_order() -> None:
    batch = collate([(7, GOOD), (9, replace(GOOD, search_box=BOX / 2, skipped=()))])
    assert len(batch) == 2
    assert batch.index.tolist() == [7, 9]
    assert batch.sources == ("cat", "cat")
    assert batch.skipped == ("bad.jpg",)
    first, second = batch.chunks(2)
    assert torch.equal(second.search_box[0], BOX / 2)
    assert first.index.tolist() == [7]
    assert batch.to("cpu").template.shape == (2, 6, 64, 64)
    with pytest.raises(PairError, match="2 pairs do not split into 3"):
        batch.chunks(3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"search": torch.zeros(3, 128, 128)},
            r"search is torch.float32 \[3, 128, 128\]; expected float32 \[6, h, w\]",
        ),
        ({"template": torch.zeros(6, 64, 64, dtype=torch.uint8)}, r"template is torch.uint8 .*\(cat\)"),
        ({"search_box": torch.tensor([0.1, 0.1, 0.0, 0.2])}, r"search_box is .*with w, h > 0"),
        ({"search_box": torch.tensor([0.1, float("nan"), 0.1, 0.2])}, r"search_box is .*finite"),
        ({"template_box": torch.tensor([1.5, 0.1, 0.1, 0.2])}, r"template_box .* has no area inside its crop"),
    ],
)
def test_pairs_that_no_network_can_learn_from_are_refused(change: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(PairError, match=message):
        check_sample(replace(GOOD, **change))


def test_an_absent_target_is_a_box_outside_the_search_region() -> None:
    check_sample(replace(GOOD, search_box=torch.tensor([2.0, 2.0, 0.25, 0.25])))


def test_pairs_of_different_sizes_are_refused() -> None:
    other = replace(GOOD, search=torch.zeros(6, 256, 256), source="dog")
    with pytest.raises(PairError, match=r"differ in size: .*\[6, 256, 256\] \(dog\) beside .*\[6, 128, 128\] \(cat\)"):
        collate([(0, GOOD), (1, other)])
    with pytest.raises(PairError, match="no pairs"):
        collate([])
