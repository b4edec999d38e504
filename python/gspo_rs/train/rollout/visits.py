"""Which visits to prompts are begun, sampled, trained on or dropped: none is lost, none twice.

A *place* numbers the visits of a run: prompt ``place % n`` of the order of epoch ``place // n``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from gspo_rs.train.world import World

__all__ = ["Stage", "Visits", "restored"]

Stage = Literal["again", "sampling", "sampled", "training"]
"""Where an open visit is: to be sampled again, in a sampler's hands, ready, or in a batch."""

# From which stage a visit may go to which; what is trained on or dropped is not open any more.
_FROM: dict[str, tuple[str, ...]] = {
    "again": ("sampling", "sampled"),
    "sampling": ("again",),
    "sampled": ("sampling",),
    "training": ("sampled",),
    "trained": ("training",),
    "dropped": ("sampling", "sampled"),
}


@dataclass
class Visits:
    """The visits of this process: each is begun once, and ends as trained on or as dropped.

    Attributes
    ----------
    size : int
        Visits of a batch, over all processes.
    share : range
        Which of those of a batch are this process's.
    batch : int
        The first batch none of whose visits is begun.
    open : dict of int to str
        The stage of each visit that is begun and not over, by place, in the order of beginning.
    dropped : list of int
        Visits that are over without having been trained on, until that is recorded.

    Examples
    --------
    >>> visits = Visits(size=2, share=range(2))
    >>> places = visits.begin()
    >>> visits.move(places, "sampled")
    >>> visits.move([1], "training"), visits.move([1], "trained"), visits.open
    (None, None, {0: 'sampled'})
    """

    size: int
    share: range
    batch: int = 0
    open: dict[int, Stage] = field(default_factory=dict)
    dropped: list[int] = field(default_factory=list)

    def begin(self) -> list[int]:
        """Begin visits: those to be sampled again, otherwise this process's of the next batch."""
        waiting = self.at("again")[: len(self.share)]
        if waiting:
            self.move(waiting, "sampling")
            return waiting
        places = [self.batch * self.size + place for place in self.share]
        self.batch += 1
        self.open |= dict.fromkeys(places, "sampling")
        return places

    def move(self, places: Iterable[int], to: Stage | Literal["trained", "dropped"]) -> None:
        """Say what became of visits.

        Raises
        ------
        RuntimeError
            If one is not where it could have come from: it would be lost, or trained on twice.
        """
        for place in places:
            stage = self.open.get(place)
            if stage not in _FROM[to]:
                raise RuntimeError(f"visit {place} is {stage or 'not open'}; it cannot be {to}")
            if to == "trained" or to == "dropped":
                del self.open[place]
                self.dropped += [place] * (to == "dropped")
            else:
                self.open[place] = to

    def at(self, stage: Stage) -> list[int]:
        """Return the visits at a stage, in the order in which they were begun."""
        return [place for place, where in self.open.items() if where == stage]

    def state(self) -> dict[str, Any]:
        """Return all of it for a checkpoint, as JSON can hold it."""
        return {
            "share": [self.share.start, self.share.stop],
            "batch": self.batch,
            "open": [[place, stage] for place, stage in self.open.items()],
            "dropped": list(self.dropped),
        }


def restored(states: Sequence[Mapping[str, Any]], size: int, world: World) -> Visits:
    """Return the visits of this process from the states of all processes that there were.

    Parameters
    ----------
    states : sequence of mapping
        From `Visits.state` of each; none of a run that begins.
    size : int
        Visits of a batch.
    world : World
        The processes that there are now: each gets about as many of what is open.

    Returns
    -------
    Visits
        What was in a sampler's hands is to be sampled again; the main process has all that was
        dropped.
    """
    batch = max((state["batch"] for state in states), default=0)
    found: dict[Stage, list[int]] = {"training": [], "sampled": [], "again": []}
    dropped: list[int] = []
    for state in states:
        dropped += state["dropped"]
        for place, stage in state["open"]:
            found["again" if stage == "sampling" else stage].append(place)
        # Batches that another process has begun already, and this one not.
        missed = range(state["batch"], batch)
        found["again"] += [one * size + place for one in missed for place in range(*state["share"])]
    mine = {
        place: stage
        for stage, places in found.items()
        for place in sorted(places)[world.rank :: world.size]
    }
    return Visits(size, world.share(size), batch, mine, dropped if world.main else [])
