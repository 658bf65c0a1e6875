"""What is not as it should be in data, and was left out or put right: counted, and told with where it was first."""

from dataclasses import dataclass, field

__all__ = ["Finding", "Tally"]


@dataclass(frozen=True)
class Finding:
    """Something in the data that is not as it should be, and that was left out or put right.

    Args:
        split: "train", "val" or "test".
        what: In words, with what was done: "boxes without area, left out".
        count: How many.
        first: Where the first is.
    """

    split: str
    what: str
    count: int
    first: str

    def __str__(self) -> str:
        return f"{self.split}: {self.count} {self.what}; the first: {self.first}"


@dataclass
class Tally:
    """How often something was found in a split, and where first."""

    split: str
    found: dict[str, tuple[int, str]] = field(default_factory=dict)

    def add(self, what: str, where: str) -> None:
        count, first = self.found.get(what, (0, where))
        self.found[what] = (count + 1, first)

    def findings(self) -> list[Finding]:
        return [Finding(self.split, what, count, first) for what, (count, first) in self.found.items()]
