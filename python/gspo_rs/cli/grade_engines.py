"""What grades beside reward functions, from the options of `gspo-rs grade`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cyclopts import Parameter

from gspo_rs.cli.outcome import Outcome, counted
from gspo_rs.cli.parameters import Whole

if TYPE_CHECKING:
    from gspo_rs.rewards.grading.engine import Engine

__all__ = ["Judging", "ready_ones"]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Judging:
    """Options of reward models and judges.

    Parameters
    ----------
    model
        Folder of a reward model: a sequence classifier with one label.
    endpoint
        Address of a vLLM server that runs it with --runner pooling; without, it is loaded here.
    embedding
        Folder of an encoder of texts, which compares completions with --pass answer.
    device
        Of the reward model and the encoder, such as cuda.
    dtype
        Of its weights.
    judge
        Address of a judge of OpenAI's protocol, such as http://localhost:8000/v1; the key is in
        OPENAI_API_KEY.
    pairwise
        The same, of a judge that compares two completions of a group, in both orders.
    pairwise_method
        What makes rewards of wins: Borda's net share, or the strength of Bradley and Terry's model.
    judge_model
        Name of the model behind the address.
    judge_prompt
        File with a text that has places such as {{ prompt }} and {{ completion }}; for --pairwise
        {{ a }} and {{ b }}.
    judge_scale
        Scores that the judge gives, as A..B.
    judge_max_tokens
        Tokens of a reply.
    judge_timeout
        Seconds for a request.
    retries
        Further tries of a request that fails.
    rpm
        Requests a minute, in every minute.
    tpm
        Tokens a minute, likewise.
    concurrency
        Requests at once.
    cache
        Folder of replies, which are not asked for again.
    """

    model: Path | None = None
    endpoint: str | None = None
    embedding: Path | None = None
    device: str = "cpu"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    judge: str | None = None
    pairwise: str | None = None
    pairwise_method: Literal["borda", "bradley_terry"] = "borda"
    judge_model: str | None = None
    judge_prompt: Path | None = None
    judge_scale: str = "1..10"
    judge_max_tokens: Whole = 1024
    judge_timeout: float = 120.0
    retries: Whole = 3
    rpm: Whole | None = None
    tpm: Whole | None = None
    concurrency: Whole = 8
    cache: Path | None = None

    def engines(self) -> list[Engine]:
        """Make the engines that are asked for."""
        found: list[Engine] = []
        if self.model is not None:
            found.append(self._model(self.model))
        if self.embedding is not None:
            from gspo_rs.rewards.grading.embedding import EmbeddingEngine

            found.append(EmbeddingEngine(self.embedding, device=self.device, dtype=self.dtype))
        if self.judge is not None and self.pairwise is not None:
            raise ValueError("--judge and --pairwise have one --judge-prompt; grade in two runs")
        if self.judge is not None:
            from gspo_rs.rewards.grading.judge import JudgeEngine

            found.append(JudgeEngine(self._judge(self.judge), self.judge_scale))
        if self.pairwise is not None:
            from gspo_rs.rewards.grading.pairwise import PairwiseEngine

            found.append(PairwiseEngine(self._judge(self.pairwise), self.pairwise_method))
        self._refuse_alone()
        return found

    def _model(self, folder: Path) -> Engine:
        from gspo_rs.rewards.grading.model import ModelEngine
        from gspo_rs.rewards.grading.served_model import ServedModelEngine

        if self.endpoint is None:
            return ModelEngine(folder, device=self.device, dtype=self.dtype)
        return ServedModelEngine(self.endpoint, folder, self._limits())

    def _limits(self) -> Any:
        from gspo_rs.rewards.judges.endpoint import Limits

        return Limits(self.concurrency, self.rpm, self.tpm, self.retries, self.judge_timeout)

    def _judge(self, url: str) -> Any:
        from gspo_rs.rewards.grading.requests import Judge

        if self.judge_model is None or self.judge_prompt is None:
            raise ValueError("a judge needs --judge-model and --judge-prompt")
        return Judge(
            url,
            self.judge_model,
            self.judge_prompt,
            self.judge_max_tokens,
            self._limits(),
            self.cache,
        )

    def _refuse_alone(self) -> None:
        """Raise for an option without what it is of."""
        if self.endpoint is not None and self.model is None:
            raise ValueError(
                "--endpoint serves a reward model, and its tokenizer is read here: name its folder"
                " with --model"
            )
        asked = {"judge_model", "judge_prompt", "rpm", "tpm", "cache"}
        if self.judge is None and self.pairwise is None:
            for name in sorted(asked):
                if getattr(self, name) is not None:
                    option = name.replace("_", "-")
                    raise ValueError(f"--{option} is of a judge; give its address with --judge")


def ready_ones() -> Outcome:
    """List the ready rewards, one a line with the columns that each needs."""
    from gspo_rs.rewards.library import listed

    found, lines = listed(), []
    for one in found:
        needs = [f"--pass {name}" for name in one.columns]
        needs += [f"pip install gspo_rs[{one.extra}]"] if one.extra else []
        lines += [" ".join([one.spec, *needs]), f"    {one.meaning}"]
    facts = {"verb": "grade", "ready": [vars(one) for one in found]}
    return Outcome([counted(len(found), "rewards")], facts, result="\n".join(lines) + "\n")
