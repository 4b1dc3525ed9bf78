"""The VOT toolkit's binary trajectories (`.bin`), which it writes unless VOT_RESULTS_BINARY is false."""

from __future__ import annotations

import struct

from ckd_core.evaluation.scoring.archives import ResultsError

VERSION = 1
SPECIAL, RECTANGLE, POLYGON = 0, 1, 2
_HEADER, _CODE, _BOX, _COUNT = struct.Struct("<hI"), struct.Struct("<I"), struct.Struct("<4f"), struct.Struct("<H")


def trajectory_text(data: bytes, source: str) -> str:
    """A binary trajectory as the toolkit's text: per frame a code, `x,y,w,h`, or the corners of a polygon.

    Raises:
        ResultsError: Another format or version, a frame with a mask, or a file that ends too early or too late.
    """
    try:
        version, count = _HEADER.unpack_from(data)
        if version != VERSION:
            raise ResultsError(f"{source} is no trajectory of the VOT toolkit: version {version}; expected {VERSION}")
        at, lines = _HEADER.size, []
        for frame in range(count):
            kind, at = data[at], at + 1
            if kind == SPECIAL:
                numbers, at = _CODE.unpack_from(data, at), at + _CODE.size
            elif kind == RECTANGLE:
                numbers, at = _BOX.unpack_from(data, at), at + _BOX.size
            elif kind == POLYGON:
                (corners,) = _COUNT.unpack_from(data, at)
                shape = struct.Struct(f"<{2 * corners}f")
                numbers, at = shape.unpack_from(data, at + _COUNT.size), at + _COUNT.size + shape.size
            else:
                raise ResultsError(
                    f"{source}: frame {frame + 1} is a region of kind {kind}; expected rectangles (1) or polygons (2), "
                    "not masks"
                )
            lines.append(",".join(map(repr, numbers)))
    except (struct.error, IndexError) as error:
        raise ResultsError(f"{source} ends after {len(data)} bytes; a trajectory of its header is longer") from error
    if at != len(data):
        raise ResultsError(f"{source} has {len(data)} bytes; its header's {count} frames end after {at}")
    return "".join(line + "\n" for line in lines)
