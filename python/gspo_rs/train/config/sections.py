"""The fields of `Config` in sections, with what each is: for help, printing and the reference."""

import dataclasses
import inspect
import re
from collections.abc import Mapping
from functools import cache

from gspo_rs.train.config.config import Config

__all__ = ["MAIN", "SECTIONS", "default_of", "documented", "option_of"]

# Title → its fields, in the order in which they are shown. Every field is in one of them.
SECTIONS: Mapping[str, tuple[str, ...]] = {
    title: tuple(names.split())
    for title, names in {
        "Run": "model output_dir seed device ddp_timeout replicas",
        "Data": (
            "prompts reward reward_workers reward_timeout reward_sandbox on_reward_failure rollout"
            " rollouts grades split by prompt completion chat_template chat_template_kwargs"
            " reward_column reward_weights old_logprobs_column prompt_tokens_column"
            " completion_tokens_column completion_mask_column truncated_column"
            " reference_rewards_column rollout_ids_column shuffle_dataset spill_directory"
            " max_prompt_length on_long"
        ),
        "Sampling": (
            "sampler sampler_timeout sampler_weights sampler_folder num_generations"
            " prompts_per_step steps_per_generation num_iterations dynamic_sampling max_resample"
            " max_staleness on_stale max_ahead_bytes max_completion_length temperature top_p"
            " top_k stop old_logprobs"
        ),
        "Algorithm": (
            "algorithm advantage advantage_options loss reduction beta kl_estimator renormalise"
            " overlong_penalty overlong_cache mask_truncated correction correction_low"
            " correction_high off_policy_mask_threshold"
        ),
        "Options of the loss": (
            "clip_low clip_high dual_clip delta tau_pos tau_neg w_min w_max clip k_pos lam_pos"
            " k_neg lam_neg delta_low delta_high divergence q label_smoothing"
        ),
        "Optimizer": (
            "optimizer learning_rate lr_scheduler_type warmup_steps max_grad_norm weight_decay"
            " adam_beta1 adam_beta2 adam_epsilon max_steps num_train_epochs"
        ),
        "Model and memory": (
            "lora_r lora_alpha lora_target_modules use_dora lora_merge weights dtype"
            " attn_implementation layout micro_batch_tokens logits_chunk_size generation_batch"
            " gradient_checkpointing torch_compile"
        ),
        "Checkpoints and comparisons": (
            "save_steps save_total_limit logging_steps log_completions eval_prompts eval_split"
            " eval_size eval_steps"
        ),
    }.items()
}
# What `--help` shows; `--help-all` shows all fields.
_MAIN = (
    "model prompts reward rollouts by reward_column output_dir algorithm num_generations"
    " prompts_per_step max_completion_length learning_rate max_steps beta lora_r device seed"
)
MAIN = frozenset(_MAIN.split())


@cache
def documented() -> dict[str, str]:
    """Return what the docstring of `Config` says of each field, in one line.

    Examples
    --------
    >>> documented()["num_generations"]
    'Completions per prompt (the group size).'
    """
    text = inspect.cleandoc(Config.__doc__ or "").partition("----------\n")[2]
    text = text.partition("\n\nExamples\n")[0]
    parts = re.split(r"^(\w+) : .*$", text, flags=re.MULTILINE)[1:]
    return {
        name: " ".join(meaning.split())
        for name, meaning in zip(parts[::2], parts[1::2], strict=True)
    }


def default_of(name: str) -> object:
    """Return the default of a field; `dataclasses.MISSING` for `model`, which has none.

    Examples
    --------
    >>> default_of("seed"), default_of("advantage_options")
    (0, {})
    """
    field = Config.__dataclass_fields__[name]
    made = field.default_factory
    return field.default if made is dataclasses.MISSING else made()


def option_of(key: str) -> str:
    """Return the option of a field.

    Examples
    --------
    >>> option_of("max_steps")
    '--max-steps'
    """
    return f"--{key.replace('_', '-')}"
