"""TRL's `GRPOTrainer` with advantages by ids and the GSPO loss of the paper.

Letters: ``B`` completions of a micro-batch, ``T`` their padded length.
"""

from __future__ import annotations

import json
import re
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from gspo_rs.groups.advantages import advantage
from gspo_rs.groups.batch_estimators import weighted_sum
from gspo_rs.groups.checks import as_several
from gspo_rs.groups.estimators import estimator_named, resolve
from gspo_rs.groups.groups import Groups
from gspo_rs.groups.statistics import stats
from gspo_rs.losses import gspo_loss, gspo_token_loss, kl_penalty

__all__ = ["GSPOMixin", "GSPOTrainer"]

OLDEST, NEWEST = (1, 13), (1, 16)


def check_version(found: str) -> None:
    """Refuse a TRL whose inner workings are not known.

    Raises
    ------
    ImportError
        If `found` is older than 1.13 or newer than 1.16.

    Examples
    --------
    >>> check_version("1.16.0")
    """
    numbers = re.match(r"(\d+)\.(\d+)", found)
    if numbers is None or not OLDEST <= (int(numbers[1]), int(numbers[2])) <= NEWEST:
        raise ImportError(
            f"gspo_rs.integrations.trl does not know trl {found}; it is tested with 1.13 to 1.16: "
            "pip install 'trl>=1.13,<1.17'"
        )


check_version(version("trl"))

from trl import GRPOTrainer  # noqa: E402 - an unknown version may not even import

if TYPE_CHECKING:
    Base = GRPOTrainer
else:
    Base = object

Loss = Literal["gspo", "gspo_token", "trl"]

# Options of TRL that change its loss and have no place in the paper's.
FOREIGN = {
    "loss_type": ("grpo",),
    "importance_sampling_level": ("sequence",),
    "delta": (None,),
    "top_entropy_quantile": (1.0,),
    "off_policy_mask_threshold": (None,),
    "entropy_coef": (0.0, None),
    "use_adaptive_entropy": (False,),
    "use_liger_kernel": (False,),
    "vllm_importance_sampling_correction": (False,),
}


class GSPOMixin(Base):  # type: ignore[misc, valid-type]
    """Put before a `GRPOTrainer`, or a subclass of it, among the bases of a class.

    Parameters
    ----------
    *args, **kwargs
        Those of the trainer.
    estimator : str
        Of `gspo_rs.advantage`. Several rewards are summed with TRL's `reward_weights`, or go to
        ``gdpo`` and ``borda`` as they are.
    estimator_options : dict, optional
        Its options; the ``lengths`` of ``opo`` are filled in.
    by : str, optional
        The column of the data set that names the group of a row. Without it the prompt does: all
        completions of equal prompts in a generation batch are one group.
    loss : {"gspo", "gspo_token", "trl"}
        The paper's, with TRL's `epsilon` and `epsilon_high` as its clip; or that of TRL's options.

    Raises
    ------
    ValueError
        If an option of TRL has no place in the paper's loss, is not summed before its groups are
        formed, or there is no column `by`; names it.
    TypeError
        For an unknown option of the estimator.

    Notes
    -----
    The loss of an optimizer step is the mean over its completions of ``-min(s_i A_i, clip(s_i)
    A_i)`` [1]_, however it is cut into micro-batches of equal numbers; a completion without a
    token counts in that mean, as in TRL. `beta` adds TRL's penalty at the level of the sequence.

    Logged besides what TRL logs: ``group/zero_variance_frac`` (groups whose scored rewards are
    equal, by ``max == min``), ``group/count``, ``group/size_min``, ``group/size_max``,
    ``adv/abs_mean``, and for the paper's losses the names of `gspo_rs.losses.policy_metrics`.

    References
    ----------
    .. [1] C. Zheng et al. (2025). Group Sequence Policy Optimization. arXiv 2507.18071.
    """

    def __init__(
        self,
        *args: Any,
        estimator: str = "percentile",
        estimator_options: dict[str, Any] | None = None,
        by: str | None = None,
        loss: Loss = "gspo",
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if loss not in ("gspo", "gspo_token", "trl"):
            raise ValueError(f"loss is {loss!r}; one of 'gspo', 'gspo_token', 'trl'")
        self._estimator, self._by, self._loss = estimator, by, loss
        self._options = dict(estimator_options or {})
        self._needs_lengths = "lengths" in estimator_named(estimator).needs
        ready: dict[str, Any] = {"lengths": []} if self._needs_lengths else {}
        resolve(estimator, {**self._options, **ready})
        self._scored: tuple[np.ndarray[Any, Any], list[Any], list[int]] | None = None
        self._logprobs: Tensor | None = None
        for name, allowed in FOREIGN.items() if loss != "trl" else ():
            value = getattr(self.args, name, allowed[0])
            live = self.args.use_vllm if name.startswith("vllm") else True
            if live and value not in allowed:
                raise ValueError(
                    f"{name} is {value!r}; the paper's loss needs {allowed[0]!r}. Set it, or give "
                    "loss='trl' to keep TRL's loss"
                )

    def _calculate_rewards(
        self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any
    ) -> Tensor:
        per_function: Tensor = super()._calculate_rewards(
            inputs, prompts, completions, completion_ids_list
        )
        from accelerate.utils import gather_object

        ids = [self._group_id(row, prompt) for row, prompt in zip(inputs, prompts, strict=True)]
        lengths = [len(tokens) for tokens in completion_ids_list]
        rewards = per_function.double().cpu().numpy()
        self._scored = rewards, gather_object(ids), gather_object(lengths)
        return per_function

    def _group_id(self, row: dict[str, Any], prompt: Any) -> str:
        if self._by is not None:
            if self._by not in row:
                raise ValueError(f"the data set has no column {self._by!r}; it has {sorted(row)}")
            prompt = row[self._by]
        try:
            return json.dumps(prompt)
        except TypeError as error:
            problem = f"{self._by or 'a prompt'} does not name a group: {error}"
            raise ValueError(f"{problem}; give `by` a column of numbers or texts") from error

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        assert self._scored is not None
        rewards, ids, lengths = self._scored
        groups = Groups(ids)
        weights = self.reward_weights.double().cpu().numpy()
        options = dict(self._options)
        if self._needs_lengths:
            options["lengths"] = lengths
        found = advantage(rewards, groups, self._estimator, weights=weights, **options)
        self._log_groups(weighted_sum(as_several(rewards), weights), groups, found)
        everyone = torch.from_numpy(found).to(output["advantages"])
        # TRL has written its own down for the table of completions.
        written = self._logs["advantages"]
        for _ in range(min(len(everyone), len(written))):
            written.pop()
        written.extend(everyone.tolist())
        first = self.accelerator.process_index * len(inputs)
        output["advantages"] = everyone[first : first + len(inputs)]
        return output

    def _log_groups(self, rewards: Any, groups: Groups, found: Any) -> None:
        described = stats(rewards, groups)
        for name, value in {
            "group/zero_variance_frac": 1.0 - described.informative.mean(),
            "group/count": groups.n_groups,
            "group/size_min": groups.sizes.min(),
            "group/size_max": groups.sizes.max(),
            "adv/abs_mean": np.abs(found).mean(),
        }.items():
            self._metrics[self._mode][name].append(float(value))

    @property
    def _mode(self) -> str:
        return "train" if self.model.training else "eval"

    def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> Any:
        found = super()._get_per_token_logps_and_entropies(*args, **kwargs)
        self._logprobs = found[0]
        return found

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        # TRL's own runs the model and logs; where the loss is ours, its value is not used.
        loss: Tensor = super()._compute_loss(model, inputs)
        if self._loss == "trl":
            return loss
        logprobs, self._logprobs = self._logprobs, None
        assert logprobs is not None
        mask = inputs["completion_mask"].bool()  # (B, T)
        if "tool_mask" in inputs:
            mask = mask & inputs["tool_mask"].bool()
        old = inputs.get("old_per_token_logps")
        old = logprobs.detach() if old is None else old
        parts = self.current_gradient_accumulation_steps if self._mode == "train" else 1
        weights = 1.0 / (mask.sum(dim=1).clamp(min=1) * len(mask) * parts)  # (B,)
        policy_loss = gspo_loss if self._loss == "gspo" else gspo_token_loss
        ours, metrics = policy_loss(
            logprobs,
            old,
            inputs["advantages"],
            mask,
            weights,
            clip_low=self.epsilon_low,
            clip_high=self.epsilon_high,
        )
        if self.beta != 0.0:
            penalty, more = kl_penalty(
                logprobs,
                inputs["ref_per_token_logps"],
                mask,
                weights,
                estimator="k3_is" if self.args.use_bias_correction_kl else "k3",
                old_logprobs=old,
                level="sequence",
            )
            ours, metrics = ours + self.beta * penalty, metrics | more
        self._log_policy(metrics)
        return ours

    def _log_policy(self, metrics: dict[str, Tensor]) -> None:
        values = self.accelerator.gather(torch.stack(list(metrics.values()))[None])
        for name, column in zip(metrics, values.T, strict=True):
            known = column[~column.isnan()]
            if name.endswith(("max", "min")) and len(known):
                value = known.max() if name.endswith("max") else known.min()
            else:
                value = column.nanmean()
            self._metrics[self._mode][name].append(value.item())


class GSPOTrainer(GSPOMixin, GRPOTrainer):  # type: ignore[misc]
    """TRL's `GRPOTrainer` with advantages by ids and the GSPO loss; see `GSPOMixin`."""
