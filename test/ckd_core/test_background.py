from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from ckd_core import background
from ckd_core.background import WAITING, read_ahead, write_behind

if TYPE_CHECKING:
    from collections.abc import Iterator

THREADS = ("read-ahead", "write-behind")


@pytest.fixture(autouse=True)
def _no_thread_stays() -> Iterator[None]:
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith(THREADS)] == []


def test_items_come_in_order_from_one_other_thread_and_only_so_far_ahead() -> None:
    made: list[int] = []
    makers: set[str] = set()

    def items() -> Iterator[int]:
        for index in range(50):
            made.append(index)
            makers.add(threading.current_thread().name)
            yield index

    received, most = [], 0
    with read_ahead(items()) as ahead:
        for item in ahead:
            time.sleep(0.002)
            received.append(item)
            most = max(most, len(made) - len(received))
    assert received == list(range(50))
    assert makers == {"read-ahead_0"}
    assert 0 < most <= WAITING


@pytest.mark.parametrize("waiting", [0, WAITING])
def test_an_error_comes_in_its_place(waiting: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "WAITING", waiting)

    def items() -> Iterator[int]:
        yield from range(7)
        raise ValueError("the eighth is broken")

    received: list[int] = []
    with pytest.raises(ValueError, match="the eighth is broken"), read_ahead(items()) as ahead:
        received.extend(ahead)
    assert received == list(range(7))


@pytest.mark.parametrize("waiting", [0, WAITING])
@pytest.mark.parametrize("ending", [None, KeyboardInterrupt])
def test_a_caller_that_stops_closes_what_it_read(
    waiting: int, ending: type[BaseException] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "WAITING", waiting)
    seen: dict[str, str] = {}

    def items() -> Iterator[int]:
        seen["opened"] = threading.current_thread().name
        try:
            yield from range(1000)
        finally:
            seen["closed"] = threading.current_thread().name

    def use() -> None:
        with read_ahead(items()) as ahead:
            assert next(ahead) == 0
            if ending is not None:
                raise ending

    if ending is None:
        use()
    else:
        with pytest.raises(ending):
            use()
    assert seen["opened"] == seen["closed"]
    assert (seen["opened"] == "read-ahead_0") == bool(waiting)


def test_what_never_began_and_what_is_no_generator_ends_as_well() -> None:
    with read_ahead(iter(())) as ahead:
        assert list(ahead) == []
    with read_ahead([1, 2]) as ahead:
        assert list(ahead) == [1, 2]
    with read_ahead([1, 2]):
        pass


def test_calls_are_made_in_order_and_all_of_them_before_the_end() -> None:
    written: list[int] = []
    most = 0

    def write(value: int) -> None:
        time.sleep(0.002)
        written.append(value)

    with write_behind(write) as later:
        for index in range(30):
            later(index)
            most = max(most, index + 1 - len(written))
    assert written == list(range(30))
    assert 0 < most <= WAITING + 1


@pytest.mark.parametrize("calls", [4, 40])
def test_an_error_of_a_call_comes_later_or_at_the_end_and_stops_the_rest(calls: int) -> None:
    written: list[int] = []

    def write(value: int) -> None:
        if value == 3:
            raise OSError("disk full")
        written.append(value)

    with pytest.raises(OSError, match="disk full"), write_behind(write) as later:
        for index in range(calls):
            later(index)
    assert len(written) <= 3 + 2 * WAITING + 1


def test_an_error_of_the_caller_leaves_out_what_waits() -> None:
    gate, written = threading.Event(), []

    def write(value: int) -> None:
        gate.wait(10)
        written.append(value)

    with pytest.raises(ValueError, match="stopped"), write_behind(write) as later:
        for index in range(WAITING):
            later(index)
        threading.Timer(0.05, gate.set).start()
        raise ValueError("stopped")
    assert len(written) <= 1
