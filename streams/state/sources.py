"""What has arrived of whoever numbers frames: each frame counts once, and a hole shows."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Source:
    """What has arrived of one source's numbered frames."""

    floor: int = -1  # every frame up to this number has arrived
    beyond: set[int] = field(default_factory=set)  # arrived above a hole
    items_total: int = 0
    items_received: int = 0

    def take(self, number: int, items: int, items_total: int) -> bool:
        """Note a frame's arrival. False: it was here before."""
        if number <= self.floor or number in self.beyond:
            return False
        self.beyond.add(number)
        while self.floor + 1 in self.beyond:
            self.floor += 1
            self.beyond.remove(self.floor)
        self.items_total = max(self.items_total, items_total)
        self.items_received += items
        return True
