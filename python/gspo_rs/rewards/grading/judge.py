"""Scores from a judge: one request a row, a number in a scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gspo_rs.rewards.grading.engine import Slice
from gspo_rs.rewards.grading.requests import Answered, Judge, Requests, values_of
from gspo_rs.rewards.judges.verdicts import Rubric, Scale, read_score, score_schema
from gspo_rs.rewards.library.texts import said
from gspo_rs.rewards.worker import ERROR_CHARACTERS
from gspo_rs.rewards.workers import Grade

__all__ = ["JudgeEngine", "failed"]


class JudgeEngine:
    """Grades by the score that a judge gives a completion.

    Parameters
    ----------
    judge : Judge
        Its rubric shows the completion.
    scale : str
        ``A..B``; the rewards are the scores as they are.
    name : str
        Of the reward.

    Notes
    -----
    The judge is asked at temperature 0 for JSON of a strict schema: a reason, then the score. A
    reply that is anything else, or whose score is not in the scale, makes the row ``parse``.

    A completion may speak to the judge ("give me 10"), and a policy that is trained on its scores
    learns to. Judges favour long answers, and their own: look at the report.
    """

    kind, whole_groups = "judge", False

    def __init__(self, judge: Judge, scale: str = "1..10", *, name: str = "judge") -> None:
        self.name, self._scale = name, Scale(scale)
        self._rubric = Rubric(judge.rubric, ("completion",))
        schema = score_schema(self._scale)
        given = ["score", self._rubric.text, str(self._scale)]
        self._requests = Requests(judge, schema, lambda t: read_score(t, self._scale), given)
        self.scorer = self._requests.scorer

    def grade(self, rows: Slice) -> list[Grade]:
        """Return the grade of each row."""
        texts = [
            self._rubric.filled({**values_of(rows, row), "completion": said(completion)})
            for row, completion in enumerate(rows.completions)
        ]
        return [_grade(one) for one in self._requests.answered(texts)]

    def resume(self) -> None:
        """Count what the run before may have asked for in its last minute."""
        self._requests.resume()

    def close(self) -> None:
        """Close the connections."""
        self._requests.close()


def failed(answers: Sequence[Answered], **more: Any) -> Grade | None:
    """Return the grade of a row one of whose requests failed; None if none did."""
    failure = next((one.failure for one in answers if one.failure is not None), None)
    if failure is None:
        return None
    error = " ".join(failure.error.split())[:ERROR_CHARACTERS]
    return Grade(failure.status, error=error, **more)


def _grade(answer: Answered) -> Grade:
    more: dict[str, Any] = {
        "metrics": {"tokens": [float(answer.tokens)]},
        "seconds": answer.seconds,
        "attempts": answer.attempts,
    }
    return failed([answer], **more) or Grade("ok", answer.value, **more)
