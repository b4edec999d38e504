"""What a judge is asked to answer, in a schema, and what it answered."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gspo_rs.rewards.errors import RewardError

__all__ = ["Rubric", "Scale", "better_schema", "read_better", "read_score", "score_schema"]

_PLACE = re.compile(r"\{\{\s*(\w+)\s*\}\}")


class Scale:
    """The scores that a judge may give.

    Parameters
    ----------
    text : str
        ``A..B``, such as ``1..10``.

    Examples
    --------
    >>> scale = Scale("1..10")
    >>> scale.low, scale.high
    (1.0, 10.0)
    """

    def __init__(self, text: str) -> None:
        low, dots, high = text.partition("..")
        try:
            self.low, self.high = float(low), float(high)
        except ValueError:
            self.low = self.high = math.nan
        if not (dots and self.low < self.high and math.isfinite(self.high - self.low)):
            raise RewardError(f"{text!r} is no scale of a judge; write A..B, such as 1..10")

    def __str__(self) -> str:
        return f"{self.low:g}..{self.high:g}"


class Rubric:
    """A text with places such as ``{{ prompt }}`` that are filled for each request.

    Parameters
    ----------
    file : Path
        UTF-8.
    needed : tuple of str
        Places that it must have.

    Raises
    ------
    RewardError
        If it cannot be read, or lacks a place; says what to write.
    """

    def __init__(self, file: Path, needed: tuple[str, ...]) -> None:
        try:
            self.text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RewardError(f"the rubric {file} cannot be read: {error}") from error
        self._name, self.places = str(file), tuple(dict.fromkeys(_PLACE.findall(self.text)))
        for name in needed:
            if name not in self.places:
                raise RewardError(
                    f"the rubric {file} has no place {{{{ {name} }}}}: the judge would not see it"
                )

    def filled(self, values: Mapping[str, Any]) -> str:
        """Return the text with the values of a row; what they hold is not looked at for places.

        Raises
        ------
        RewardError
            If a place has no value; lists those that there are.
        """
        for name in self.places:
            if name not in values:
                known = ", ".join(values) or "none"
                raise RewardError(
                    f"the rubric {self._name} has a place {{{{ {name} }}}}, and the rows have no"
                    f" such column; hand it on with --pass. They have {known}"
                )
        return _PLACE.sub(lambda place: str(values[place[1]]), self.text)


def score_schema(scale: Scale) -> dict[str, Any]:
    """Return the format of a reply with a score in a scale."""
    text = f"From {scale.low:g} (worst) to {scale.high:g} (best)."
    return _schema("score", {"type": "number", "description": text})


def better_schema() -> dict[str, Any]:
    """Return the format of a reply that prefers A or B, or neither."""
    return _schema("better", {"type": "string", "enum": ["A", "B", "tie"]})


def read_score(text: str, scale: Scale) -> float:
    """Return the score of a reply.

    Raises
    ------
    ValueError
        If it is not JSON of the schema, or its score is not finite or outside of the scale.

    Examples
    --------
    >>> read_score('{"reason": "short", "score": 7}', Scale("1..10"))
    7.0
    """
    found = _answer(text, "score")
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise ValueError(f"the judge's score is {found!r}, not a number")
    if not scale.low <= found <= scale.high:  # NaN too
        raise ValueError(f"the judge's score is {found!r}, outside of {scale}")
    return float(found)


def read_better(text: str) -> str:
    """Return what a reply prefers: A, B or tie.

    Raises
    ------
    ValueError
        If it is not JSON of the schema.
    """
    found = _answer(text, "better")
    if found not in ("A", "B", "tie"):
        raise ValueError(f"the judge prefers {found!r}, none of A, B and tie")
    return str(found)


def _schema(name: str, kind: Mapping[str, Any]) -> dict[str, Any]:
    # The reason comes first, so that the judge thinks before it decides.
    schema = {
        "type": "object",
        "properties": {"reason": {"type": "string"}, name: kind},
        "required": ["reason", name],
        "additionalProperties": False,
    }
    described = {"name": name, "strict": True, "schema": schema}
    return {"type": "json_schema", "json_schema": described}


def _answer(text: str, name: str) -> Any:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not {name} <= set(found) <= {name, "reason"}:
        raise ValueError(f"the judge answered {text[:100]!r}, not JSON with a reason and a {name}")
    return found[name]
