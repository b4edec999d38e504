"""The cells of the matrix that are refused: why, and what the error says to do instead."""

from dataclasses import dataclass

from matrix.containers import CONTAINERS

OUTPUTS = {"wide output folder", "narrow output folder"}


@dataclass(frozen=True)
class Refusal:
    """Why a cell is refused, and the remedy that its error has to name, as a pattern."""

    reason: str
    remedy: str


NO_OUTPUT = Refusal(
    "`verify` checks an output of `score`: give the folder or file that it wrote.",
    "gspo-rs score|score into",
)
NO_LISTS = Refusal("A row is one completion already; `nest` makes lists of them.", "gspo-rs nest")
NESTED = Refusal("A row holds its whole group already; `explode` splits it.", "gspo-rs explode")
SCORED = Refusal(
    "The rows have scores already: `--suffix` gives the new ones an ending, `--drop` leaves out "
    "the old ones; or score the source.",
    "--suffix",
)


def refusal(verb: str, container: str) -> Refusal | None:
    """Return why a cell is refused, or None where it works."""
    nested = CONTAINERS[container].nested
    if verb == "gs.verify" and container not in OUTPUTS:
        return NO_OUTPUT
    if verb == "gs.explode" and not nested:
        return NO_LISTS
    if verb == "gs.nest" and nested:
        return NESTED
    if verb == "gs.score" and container in OUTPUTS:
        return SCORED
    return None


def applies(verb: str, container: str) -> bool:
    """Tell whether there is such a cell: a command line has no frames of Python."""
    return not (verb == "gspo-rs scan" and CONTAINERS[container].in_memory)
