"""The experiences that came before, for methods that read their images again."""

from __future__ import annotations

from typing import Any


def whole_stream(experience: Any) -> Any:
    """Return the stream that an experience is of, uncut, so that experience i stands at place i.

    Avalanche's ``origin_stream`` is the part of it that the experience was taken from, as
    ``train_stream[2:4]``.

    Args:
        experience: of a benchmark.

    Raises:
        ValueError: if it is not.
    """
    try:
        stream = experience.origin_stream
        return stream.benchmark.streams[stream.name]
    except (AttributeError, KeyError) as error:
        raise ValueError(
            "this method reads images of earlier experiences again, and finds them through the "
            f"experience's origin_stream and its benchmark, which this one lacks ({error!r}): "
            "take experiences from benchmark.train_stream"
        ) from error
