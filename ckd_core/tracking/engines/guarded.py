"""An engine that may fail in the middle of a stream: the caller learns why, and another engine takes over.

A device that vanished fails at every call, memory that ran out may be free again at the next one, and a network whose
numbers are not finite fails without an error. The first failures cost their frames; after `MAX_FAILURES` of one call in
a row the spare engine is started, templates are embedded anew from their crops, and the targets go on.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ckd_core.errors import TrackingError
from ckd_core.text import MAX_REASON, shown
from ckd_core.tracking.engines.base import Engine, EngineFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from ckd_core.tracking.engines.base import Templates
    from ckd_core.tracking.sampling import FrameImages

    Spare = Callable[[], Engine]

T = TypeVar("T")

logger = logging.getLogger(__name__)
MAX_FAILURES = 3
# Attributes that have a default in `Engine`, such as `chosen_by`.
FACTS = [name for name, value in vars(Engine).items() if not name.startswith("_") and not callable(value)]


@dataclass(slots=True, eq=False)
class _Templates:
    """Tokens, and how to make them again.

    Attributes:
        make: Makes them with any engine.
        tokens: Of `engine`.
        engine: Which one made them.
    """

    make: Callable[[Engine], Any]
    tokens: Any
    engine: Engine


class GuardedEngine(Engine):
    """Another engine, watched.

    Attributes:
        trouble: What is wrong with the engine, in words; '' while nothing is.
    """

    def __init__(self, engine: Engine, spare: Spare | None = None) -> None:
        """Take over an engine.

        Args:
            engine: What runs.
            spare: Starts the engine that replaces it when it keeps failing; None: nothing does.
        """
        super().__init__(engine.name, engine.device, engine.spec)
        self._engine = engine
        self._take_facts()
        self._spare = spare
        self._failures: Counter[str] = Counter()  # in a row, by call: one program may fail while the other works

    def template_crops(self, count: int) -> NDArray[np.uint8]:
        """See `Engine`."""
        return self._engine.template_crops(count)

    def search_crops(self, count: int, side: int = 0) -> NDArray[np.uint8]:
        """See `Engine`."""
        return self._engine.search_crops(count, side)

    def response_weights(self, count: int, side: int = 0) -> NDArray[np.float32]:
        """See `Engine`."""
        return self._engine.response_weights(count, side)

    def embed_template(self, crops: NDArray[np.uint8]) -> Templates:
        """See `Engine`; raises as `track`."""
        crops = crops.copy()  # the buffer is used again, and is the failing engine's
        return self._made("embed_template", lambda engine: engine.embed_template(crops))

    def blend(self, first: Templates, newest: Templates, share: float) -> Templates:
        """See `Engine`; raises as `track`."""
        return self._made("blend", lambda engine: engine.blend(_tokens(first, engine), _tokens(newest, engine), share))

    def tokens_of(self, templates: Templates) -> NDArray[np.float32]:
        """See `Engine`; raises as `track`."""
        return self._watched("tokens_of", lambda engine: engine.tokens_of(_tokens(templates, engine)))

    def track(
        self, templates: Templates, crops: NDArray[np.uint8], response_weights: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """See `Engine`.

        Raises:
            EngineFailedError: The engine failed, or its numbers are not finite.
        """
        return self._watched(
            "track", lambda engine: _finite(engine.track(_tokens(templates, engine), crops, response_weights))
        )

    def track_images(
        self, templates: Templates, images: FrameImages, response_weights: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """See `Engine`; raises as `track`."""
        return self._watched(
            "track_images",
            lambda engine: _finite(engine.track_images(_tokens(templates, engine), images, response_weights)),
        )

    def join(self, templates: Sequence[Templates]) -> Templates:
        """See `Engine`; raises as `track`."""
        parts = tuple(templates)
        return self._made("join", lambda engine: engine.join([_tokens(part, engine) for part in parts]))

    def _made(self, name: str, make: Callable[[Engine], Any]) -> _Templates:
        return self._watched(name, lambda engine: _Templates(make, make(engine), engine))

    def _watched(self, name: str, call: Callable[[Engine], T]) -> T:
        try:
            value = call(self._engine)
        except Exception as error:  # whatever a library raises when its device is gone
            self._failures[name] += 1
            reason = shown(
                error if isinstance(error, TrackingError) else f"{type(error).__name__}: {error}", MAX_REASON
            )
            self.trouble = f"{self.name} on {self.device} failed {self._failures[name]} times in a row: {reason}"
            if self._failures[name] < MAX_FAILURES or self._spare is None or not self._replaced():
                raise EngineFailedError(self.trouble) from error
            return self._watched(name, call)
        if self._failures.pop(name, 0) and not self._failures:
            self.trouble = ""
        return value

    def _replaced(self) -> bool:
        """Start the spare engine in the failing one's place; False where that fails as well, and then for good."""
        spare, self._spare = self._spare, None
        assert spare is not None  # noqa: S101  # the caller has looked
        try:
            engine = spare()
        except Exception as error:  # noqa: BLE001  # weights that are gone, a library that is broken by the same fault
            self.trouble += f"; the CPU cannot take over: {shown(error)}"
            logger.error("%s", self.trouble)
            return False
        chosen_by = f"in place of {self.name} on {self.device}, which failed"
        logger.error("%s; %s on %s takes over", self.trouble, engine.name, engine.device)
        self._engine, self.name, self.device = engine, engine.name, engine.device
        self._take_facts()
        self.chosen_by = chosen_by
        self._failures.clear()
        self.trouble = ""
        return True

    def _take_facts(self) -> None:
        """Say of itself what the engine inside says of itself."""
        for name in FACTS:
            setattr(self, name, getattr(self._engine, name))


def _finite(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    if not np.isfinite(rows).all():
        raise EngineFailedError("the network's output has NaN or infinity; expected finite numbers")
    return rows


def _tokens(templates: _Templates, engine: Engine) -> Any:
    """The tokens of an engine, made anew where another one made them."""
    if templates.engine is not engine:
        templates.tokens, templates.engine = templates.make(engine), engine
    return templates.tokens
