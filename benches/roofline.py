"""A paper model of the head and the GSPO loss on a GPU: what each part moves and computes.

    python benches/roofline.py [--tokens 32768] [--length 1024] [--card H200] [--parts]

Nothing is run. A part takes the longer of its operations and its bytes, parts follow one another,
and the host may be slower than all of them. What is printed is the share that three products at
the measured rate, which no exact head can do without, have of that time: for the head as it was,
and after each step of its new design. `gpu_once.py` measures the same share.

Letters: ``n`` tokens, ``D`` hidden size, ``V`` vocabulary, in bfloat16, sums in float32.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from itertools import product

BF16, F32 = 2, 4
TILE = 128, 256
"""Rows and columns of a product that one multiprocessor takes at once."""
PRODUCT = 0.92
"""What a product of these shapes reaches of the best one."""
CUT = 0.3
"""A product with tiles for a share s of the multiprocessors is cut along its sum and reaches s^0.3:
60 % of the best with a quarter of them."""
ROWWISE = 0.9
"""What a kernel over rows reaches of a copy's bandwidth."""
EPILOGUE = 0.88
"""What a product of our own reaches of the best one, if its epilogue takes exponentials."""
KEPT = 8192
"""Rows of whole sequences whose residuals are kept together, unless one is longer."""
LAUNCH = 6.5e-6
"""Seconds of the host for a launch."""


@dataclass(frozen=True)
class Card:
    """What a GPU reaches: bytes a second of a copy, operations a second of its best product."""

    name: str
    bandwidth: float
    rate: float
    multiprocessors: int = 132


# Measured: a product of 8192 x 8192 x 8192 in bfloat16 and a copy from device to device, with torch
# 2.11. The H100 did 798 TFLOP/s; the difference is within what runs differ by.
CARDS = {"H100": Card("H100", 3.0e12, 790e12), "H200": Card("H200", 4.3e12, 790e12)}


@dataclass(frozen=True)
class Case:
    """What is computed: sequences of one length, off policy, of which n tokens are sampled."""

    tokens: int = 32_768
    hidden: int = 2048
    vocabulary: int = 151_936
    length: int = 1024

    @property
    def operations(self) -> int:
        """Of three products: logits, and the gradients of hidden states and head."""
        return 3 * 2 * self.tokens * self.hidden * self.vocabulary


@dataclass(frozen=True)
class Design:
    """How the head goes about it.

    ``rows`` are those of a chunk, at most; ``kept`` says that residuals are kept in bfloat16 until
    the slopes of their sequences are known, in blocks of whole sequences. ``passes`` are how often
    float32 logits are read; not at all, if the product writes the residual. ``apart`` says that the
    target's own term is computed beside the products. ``launches`` are those of a block besides the
    products and the passes over rows; 12 in all are counted by the tests where residuals are kept.
    """

    name: str
    rows: int
    passes: int = 2
    kept: bool = False
    apart: bool = False
    launches: int = 17


@dataclass(frozen=True)
class Part:
    """One kind of work: how often it is done, and what it moves and computes altogether."""

    name: str
    times: float
    moved: float
    operations: float = 0.0
    reached: float = PRODUCT

    def seconds(self, card: Card) -> float:
        if not self.operations:
            return self.moved / (card.bandwidth * ROWWISE)
        return max(self.operations / (card.rate * self.reached), self.moved / card.bandwidth)


def before(vocabulary: int) -> Design:
    """Return the head as it was: chunks of 2^25 logits, 512 rows at least."""
    return Design("before", max(512, 2**25 // vocabulary), launches=186)


def designs(case: Case) -> list[Design]:
    """Return the head as it was, and with each step of the new design on top of those before."""
    old = before(case.vocabulary)
    rows = replace(old, name="chunks of 4096 rows", rows=4096)
    closed = replace(rows, name="slopes in closed form", launches=9)
    known = replace(
        closed, name="known normaliser, target apart", passes=1, apart=True, launches=17
    )
    kept = replace(
        known, name="residuals kept, kernels between products", rows=2048, kept=True, launches=2
    )
    epilogue = replace(kept, name="exponential in the product", rows=KEPT, passes=0, launches=4)
    return [old, rows, closed, known, kept, epilogue]


def parts(case: Case, design: Design, card: Card) -> list[Part]:
    """List what a design does for a case."""
    n, d, v = case.tokens, case.hidden, case.vocabulary
    rows, block, late = _cut(case, design)
    chunks, blocks, one = n / rows, n / block, 2 * n * d * v
    sums = F32 * v * d
    written = BF16 if design.passes == 0 else F32
    reached = EPILOGUE if design.passes == 0 else PRODUCT
    # Gradients of one block of whole sequences, if residuals are kept; else of one chunk.
    wide, turns, ends = (block, blocks, 1) if design.kept else (rows, chunks, 3)
    found = [
        Part("logits", chunks, chunks * BF16 * v * d + n * v * written, one, reached),
        Part("gradient of hidden", turns, n * v * BF16, one, PRODUCT * _filled(wide, d, card)),
        Part("gradient of the head", turns, turns * 2 * sums + n * v * BF16, one),
        # Set to zero, scaled by token (hidden only), rounded, multiplied by the gradient upstream:
        # the last two at once, if residuals are kept.
        Part("once", 1, v * d * (2 * F32 + ends * BF16) + n * d * (4 * F32 + ends * BF16)),
    ]
    if not design.passes:  # sums of the rows of each tile, and the target's logit
        found.insert(1, Part("sums of tiles", blocks, n * (2 * F32 * v / TILE[0] + 2 * BF16 * d)))
    else:
        found.insert(1, Part("rows", chunks, n * v * (F32 * design.passes + BF16)))
    if late:  # a sum of its own, added scaled and set to zero after each sequence
        found.append(Part("sums apart", n / case.length, n / case.length * 4 * sums))
    if design.apart:  # one pass over the gradient of hidden and its word; terms sorted by word
        found.append(Part("target apart", blocks, n * d * (4 * BF16 + 4 * F32)))
    return found


def _cut(case: Case, design: Design) -> tuple[float, float, bool]:
    """Return the rows of a chunk and of a block, and whether sums are kept apart."""
    whole = min(case.length, case.tokens)
    if design.kept:
        block = min(max(KEPT // whole, 1) * whole, case.tokens)
        return min(design.rows, block), block, False
    if whole > design.rows:  # a sequence in the fewest chunks of like size
        return whole / -(-whole // design.rows), whole, True
    block = min(design.rows // whole * whole, case.tokens)
    return block, block, False


def _filled(rows: float, columns: int, card: Card) -> float:
    tiles = -(-rows // TILE[0]) * -(-columns // TILE[1])
    return min(tiles / card.multiprocessors, 1.0) ** CUT


def launches(case: Case, design: Design) -> int:
    """Return the launches of the host for a block of whole sequences."""
    rows, block, _ = _cut(case, design)
    chunks = round(block / rows)
    of_chunks = chunks * (1 + bool(design.passes)) + 2 * (1 if design.kept else chunks)
    return of_chunks + design.launches


def seconds(case: Case, design: Design, card: Card) -> float:
    """Return the time of a forward and backward pass: of the device, or of the host if longer."""
    device = sum(part.seconds(card) for part in parts(case, design, card))
    blocks = case.tokens / _cut(case, design)[1]
    return max(device, blocks * launches(case, design) * LAUNCH)


def share(case: Case, design: Design, card: Card) -> float:
    """Return what three products at the card's best rate have of the time."""
    return case.operations / card.rate / seconds(case, design, card)


def memory(case: Case, design: Design) -> float:
    """Return the bytes held above the inputs: logits, residuals, sums."""
    rows, block, late = _cut(case, design)
    logits = rows * case.vocabulary * F32 if design.passes else 0
    residuals = (block if design.kept else rows) * case.vocabulary * BF16
    sums = F32 * (case.vocabulary * case.hidden * (1 + late) + case.tokens * case.hidden)
    return logits + residuals + sums


def shares_table(case: Case) -> str:
    """Return the shares of every design on every card, by D and V, as Markdown."""
    sizes = [
        replace(case, hidden=d, vocabulary=v) for d, v in product((2048, 4096), (32_000, 151_936))
    ]
    heads = [f"D {one.hidden}, V {one.vocabulary}: {card}" for one in sizes for card in CARDS]
    lines = [f"| design | {' | '.join(heads)} |", "|---|" + "---:|" * len(heads)]
    for place, design in enumerate(designs(case)):
        cells = [
            f"{share(one, designs(one)[place], card):.0%}"
            for one in sizes
            for card in CARDS.values()
        ]
        lines.append(f"| {design.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def parts_table(case: Case, card: Card) -> str:
    """Return bytes, operations and time of each part of every design, as Markdown."""
    lines = ["| design | part | times | GB | TFLOP | ms |", "|---|---|---:|---:|---:|---:|"]
    for design in designs(case):
        for part in parts(case, design, card):
            figures = part.moved / 1e9, part.operations / 1e12, part.seconds(card) * 1e3
            cells = " | ".join(f"{figure:.1f}" for figure in figures)
            lines.append(f"| {design.name} | {part.name} | {part.times:.0f} | {cells} |")
        total = seconds(case, design, card) * 1e3
        held = f"{memory(case, design) / 2**30:.1f} GiB held"
        host = f"{launches(case, design)} launches a block"
        lines.append(f"| {design.name} | **all**: {host}, {held} | | | | {total:.1f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=Case.tokens)
    parser.add_argument("--hidden", type=int, default=Case.hidden, help="of the parts")
    parser.add_argument("--vocabulary", type=int, default=Case.vocabulary, help="of the parts")
    parser.add_argument("--length", type=int, default=Case.length, help="tokens of a sequence")
    parser.add_argument("--card", choices=CARDS, default="H200", help="of the parts")
    parser.add_argument("--parts", action="store_true", help="say what each part moves and takes")
    options = parser.parse_args()
    case = Case(options.tokens, options.hidden, options.vocabulary, options.length)
    print(f"{case.tokens} tokens in sequences of {case.length}; predicted, not measured\n")
    print(shares_table(case))
    if options.parts:
        print(f"\nD {case.hidden}, V {case.vocabulary}, {options.card}:\n")
        print(parts_table(case, CARDS[options.card]))


if __name__ == "__main__":
    main()
