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
        turns: Whether a case takes the room of those that were kept first, where there is none left; else it is made
            ready again each time.
    """

    def __init__(self, count: int, make: Callable[[int], Held], room: Room, *, turns: bool = False) -> None:
        self.count, self.make, self.room, self.turns = count, make, room, turns
        self._kept: dict[int, Held] = {}

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Held:
        if index in self._kept:
            return self._kept[index]
        case = self.make(index)
        while self.turns and self._kept and case.nbytes > self.room.left:
            self.room.left += self._kept.pop(next(iter(self._kept))).nbytes
        self._keep(index, case)
        return case

    def _keep(self, index: int, case: Held) -> bool:
        """Keep a case if there is room."""
        if case.nbytes > self.room.left:
            return False
        self.room.left -= case.nbytes
        self._kept[index] = case
        return True

    def fill(self, told: Callable[[int], None] | None = None) -> None:
        """Make cases ready until the limit, so that processes that are forked later find them."""
        for index in range(self.count):
            if index not in self._kept and not self._keep(index, self.make(index)):
                return
            if told is not None:
                told(index + 1)
