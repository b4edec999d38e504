"""What `gpu_once.py` has found, as Markdown tables made of its rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

Row = dict[str, Any]
PRODUCTS = ("logits", "gradient of hidden", "gradient of the head")


def table(rows: Sequence[Row]) -> str:
    """Return all that is known so far; a share is of the best rate of the three products."""
    done = [row for row in rows if row["state"] == "done"]
    rate = max((row.get("operations_a_second", 0.0) for row in done), default=0.0)
    of = {stage: [row for row in done if row["stage"] == stage] for stage in SECTIONS}
    found = [SECTIONS[stage](some, rate) for stage, some in of.items() if some]
    left = [row for row in rows if row["state"] != "done"]
    if left:
        found.append(section("Not run, or not to its end", *_left(left)))
    return "\n\n".join(found) + "\n"


def section(title: str, heads: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
    rows = [heads, ["---", *["---:"] * (len(heads) - 1)], *lines]
    return f"## {title}\n\n" + "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)


def milliseconds(row: Row) -> str:
    spent = row["seconds"]
    median, least, most = (f"{spent[key] * 1e3:.3g}" for key in ("median", "least", "most"))
    return f"{median} ({least} to {most})"


def share(row: Row, rate: float) -> str:
    return f"{row['operations'] / row['seconds']['median'] / rate:.0%}" if rate else ""


def mebibytes(row: Row) -> str:
    return "" if row.get("MiB") is None else f"{row['MiB']:.0f}"


def off(row: Row, key: str) -> str:
    return f"{row[key]:.1e}" if key in row else ""


def _pairs(rows: list[Row]) -> Iterable[Sequence[Any]]:
    hidden = ("stage", "state", "name")
    for row in rows:
        for key, value in row.items():
            if key not in hidden:
                yield row["name"], key, f"{value:.4g}" if isinstance(value, float) else value


def _machine(rows: list[Row], _rate: float) -> str:
    return section("Machine, and small heads against exact gradients", ("", "", ""), _pairs(rows))


def _tools(title: str) -> Callable[[list[Row], float], str]:
    return lambda rows, _rate: section(title, ("", "", ""), _pairs(rows))


def _ceilings(rows: list[Row], _rate: float) -> str:
    lines = [
        (
            row["name"],
            milliseconds(row),
            f"{row['operations_a_second'] / 1e12:.3g} TFLOP/s"
            if row["name"] in PRODUCTS
            else f"{row['bytes_a_second'] / 1e12:.3g} TB/s",
        )
        for row in rows
    ]
    return section("Ceilings", ("", "ms (least to most)", "rate"), lines)


def _sweep(rows: list[Row], rate: float) -> str:
    heads = ("tokens of a sequence", "of a chunk", "ms (least to most)", "share", "peak MiB")
    lines = [
        (row["length"], row["name"], milliseconds(row), share(row, rate), mebibytes(row))
        for row in rows
    ]
    return section("Chunks of `linear_gspo_loss`", heads, lines)


def _rivals(rows: list[Row], rate: float) -> str:
    heads = (
        *("", "data", "loss", "products", "logits", "ms (least to most)", "share", "peak MiB"),
        *("hidden off by", "head off by", "log-probabilities off by"),
    )
    keys = ("hidden_off_by", "weight_off_by", "logprobs_off_by")
    lines = [
        (
            *(row[key] for key in ("name", "data", "loss", "products", "logits")),
            milliseconds(row),
            share(row, rate),
            mebibytes(row),
            *(off(row, key) for key in keys),
        )
        for row in rows
    ]
    return section("Heads, forward and backward", heads, lines)


def _step(rows: list[Row], _rate: float) -> str:
    phases = [row for row in rows if "seconds" not in row]
    lines = [(row["name"], milliseconds(row), mebibytes(row)) for row in rows if "seconds" in row]
    parts = [section("A training step", ("", "", ""), _pairs(phases))] if phases else []
    heads = ("", "ms (least to most)", "peak MiB")
    if lines:
        parts.append(section("Its forward and backward passes", heads, lines))
    return "\n\n".join(parts)


def _left(rows: list[Row]) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
    said = [(row["stage"], row["name"], row["state"], _cell(row["says"])) for row in rows]
    return ("stage", "name", "state", "reason"), said


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


SECTIONS: dict[str, Callable[[list[Row], float], str]] = {
    "smoke": _machine,
    "tests": _tools("Tests"),
    "memcheck": _tools("Memory, checked"),
    "ceilings": _ceilings,
    "sweep": _sweep,
    "rivals": _rivals,
    "step": _step,
    "once": _tools("All of it"),
}
