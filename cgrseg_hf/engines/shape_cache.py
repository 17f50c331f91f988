# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""What an engine makes for one shape of input, for the shapes that come often."""

from collections import OrderedDict, deque
from collections.abc import Callable
from itertools import islice
from typing import Generic, TypeVar

_CALLS_TO_EARN_ONE = 3
_RECENT_CALLS = 8
_KEPT = 4
_CALLS_REMEMBERED = 64

T = TypeVar("T")
Shape = tuple[int, ...]


class ShapeCache(Generic[T]):
    """
    Copies of a network, each made for one shape of input.

    To make one takes as long as many calls, so a shape has to come several times among the last few. Once all places
    are taken, a copy gives way only if no call was for it for long: pictures of many sizes in turn would otherwise have
    copies made at every second call.

    Args:
        make (`Callable`): Makes a copy for a shape, or gives `None` where nothing is gained by one.
    """

    def __init__(self, make: Callable[[Shape], T | None]):
        self._make = make
        self._seen: deque[Shape] = deque(maxlen=_CALLS_REMEMBERED)
        self._copies: OrderedDict[Shape, T] = OrderedDict()

    @property
    def shapes(self) -> list[Shape]:
        """Shapes that have a copy, the last used one last."""
        return list(self._copies)

    def get(self, shape: Shape) -> T | None:
        """The copy for a call of a shape, made if it is time for one; `None` if there is none."""
        self._seen.append(shape)
        if shape in self._copies:
            self._copies.move_to_end(shape)
        elif self._earns_one(shape) and (copy := self._make(shape)) is not None:
            self._copies[shape] = copy
            if len(self._copies) > _KEPT:
                self._copies.popitem(last=False)
        return self._copies.get(shape)

    def _earns_one(self, shape: Shape) -> bool:
        is_place_left = len(self._copies) < _KEPT or next(iter(self._copies)) not in self._seen
        recent = islice(reversed(self._seen), _RECENT_CALLS)
        return is_place_left and sum(one == shape for one in recent) >= _CALLS_TO_EARN_ONE
