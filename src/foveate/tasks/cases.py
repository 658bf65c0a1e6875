"""Cases and volumes made ready for a network, kept in memory as far as there is room."""

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

__all__ = ["CaseStore", "Room"]

MIB = 2**20


class Sized(Protocol):
    """What takes memory."""

    @property
    def nbytes(self) -> int: ...


Held = TypeVar("Held", bound=Sized)


class Room:
    """Memory that stores of cases share.

    Args:
        mib: Of all that is kept.
    """

    def __init__(self, mib: int) -> None:
        self.left = mib * MIB


class CaseStore(Generic[Held]):
    """Cases made ready for the network, kept in memory as far as there is room.

    Args:
        count: Cases.
        make: Makes one ready.
        room: For those that are kept.
    """

    def __init__(self, count: int, make: Callable[[int], Held], room: Room) -> None:
        self.count, self.make, self.room = count, make, room
        self._kept: dict[int, Held] = {}

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Held:
        if index in self._kept:
            return self._kept[index]
        case = self.make(index)
        if case.nbytes <= self.room.left:
            self.room.left -= case.nbytes
            self._kept[index] = case
        return case

    def fill(self, told: Callable[[int], None] | None = None) -> None:
        """Make cases ready until the limit, so that processes that are forked later find them."""
        for index in range(self.count):
            if self[index] is not self._kept.get(index):
                return
            if told is not None:
                told(index + 1)
