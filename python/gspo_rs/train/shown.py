"""What a person sees of a step: the metrics that matter most, in numbers short enough to read."""

from collections.abc import Mapping, Sequence

from gspo_rs.train.metric_table import described

__all__ = ["cells", "own", "packed", "short"]

Record = Mapping[str, float]


def short(value: float) -> str:
    """Write a number in at most eight characters.

    Examples
    --------
    >>> [short(value) for value in (0.5, -0.01234, 31.25, 1234.5, -1.2e-5, 0.0)]
    ['0.500', '-0.0123', '31.25', '1,234', '-1.2e-05', '0.000']
    """
    size = abs(value)
    for below, digits in ((0.1, 4), (10, 3), (100, 2), (1000, 1), (1e6, 0)):
        if size < below and (size >= 1e-3 or size == 0):
            return f"{value:,.{digits if size else 3}f}"
    return f"{value:.1e}"


def cells(record: Record) -> dict[str, str]:
    """Return the metrics that a line shows, by title; those that the step lacks are left out.

    Parameters
    ----------
    record : mapping of str to float
        Of a step.

    Returns
    -------
    dict of str to str
        ``signal`` is the share of groups with one, ``kl`` that to the starting policy where the
        loss has a penalty, otherwise to the old policy. Those of reward functions come last.

    Examples
    --------
    >>> cells(
    ...     {"step": 3, "reward/mean": 0.5, "group/zero_variance_frac": 0.25, "clip/token": 0.031}
    ... )
    {'reward': '0.500', 'signal': '75%', 'clip': '3.1%'}
    """
    shown = {
        "reward": _number(record, "reward/mean"),
        "deviation": _number(record, "reward/std"),
        "signal": _share(record, "group/zero_variance_frac", of_rest=True),
        "percentile": _fixed(record, "eval/percentile", 2),
        "loss": _number(record, "loss"),
        "entropy": _number(record, "entropy"),
        "kl": _number(record, "kl/ref_k3") or _number(record, "kl/old_k3"),
        "clip": _share(record, "clip/token", digits=1),
        "tokens/s": _number(record, "speed/tokens_per_s", whole=True),
        "ratio": _fixed(record, "seq_ratio/mean", 5),
        "grad norm": _number(record, "grad_norm"),
        "length": _number(record, "length/mean"),
        "dropped": _number(record, "dropped_groups", whole=True),
    }
    logged = {f"{name} (logged)" if name in shown else name: text for name, text in own(record)}
    return {title: text for title, text in (shown | logged).items() if text is not None}


def own(record: Record) -> list[tuple[str, str]]:
    """Return name and value of the metrics that reward functions have logged.

    Examples
    --------
    >>> own({"step": 3, "reward/mean": 0.5, "right": 0.25})
    [('right', '0.250')]
    """
    return [(name, short(value)) for name, value in record.items() if described(name) is None]


def _number(record: Record, name: str, *, whole: bool = False) -> str | None:
    if name not in record:
        return None
    value = record[name]
    return f"{value:,.0f}" if whole and abs(value) < 1e6 else short(value)


def _fixed(record: Record, name: str, digits: int) -> str | None:
    return f"{record[name]:.{digits}f}" if name in record else None


def _share(record: Record, name: str, *, digits: int = 0, of_rest: bool = False) -> str | None:
    if name not in record:
        return None
    return f"{1 - record[name] if of_rest else record[name]:.{digits}%}"


def packed(parts: Sequence[str], width: int, gap: str = "  ") -> list[str]:
    """Put as many parts on each line as fit; a part is never divided.

    Examples
    --------
    >>> packed(["one", "two", "three"], 9)
    ['one  two', 'three']
    """
    lines = [""]
    for part in parts:
        longer = f"{lines[-1]}{gap}{part}" if lines[-1] else part
        if len(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(part)
    return lines
