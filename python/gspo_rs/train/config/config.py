"""Config: all settings of a training run, as one flat frozen dataclass."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from gspo_rs.groups.synonyms import ALGORITHMS, listed
from gspo_rs.samplers.address import fault_of
from gspo_rs.train.config.keys import near_key
from gspo_rs.train.config.presets import PRESETS, Algorithm, Loss, Reduction, chosen

_RULES: list[tuple[str, Callable[[Any], bool], str]] = [
    ("num_generations", lambda v: v >= 2, "at least 2: a group of one has no signal"),
    (
        "prompts_per_step steps_per_generation num_iterations num_train_epochs max_steps"
        " max_completion_length max_prompt_length micro_batch_tokens generation_batch logging_steps"
        " logits_chunk_size save_total_limit overlong_cache max_ahead_bytes replicas",
        lambda v: v >= 1,
        "at least 1",
    ),
    ("max_resample reward_workers max_staleness", lambda v: v >= 0, "at least 0"),
    (
        "reward_timeout sampler_timeout temperature adam_epsilon tau_pos tau_neg w_max dual_clip"
        " delta off_policy_mask_threshold",
        lambda v: 0 < v < float("inf"),
        "above 0",
    ),
    ("top_p q", lambda v: 0 < v <= 1, "in (0, 1]"),
    ("adam_beta1 adam_beta2 clip_low", lambda v: 0 <= v < 1, "in [0, 1)"),
    ("label_smoothing", lambda v: 0 <= v < 0.5, "in [0, 0.5)"),
    (
        "top_k beta clip_high learning_rate weight_decay max_grad_norm warmup_steps lora_r"
        " save_steps eval_size eval_steps seed clip w_min k_pos lam_pos k_neg lam_neg delta_low"
        " delta_high correction_low correction_high",
        lambda v: 0 <= v < float("inf"),
        "finite and not negative",
    ),
    ("reward_weights", lambda v: all(map(math.isfinite, v)), "finite"),
    (
        "stop",
        lambda v: all(isinstance(s, str) and s for s in ([v] if isinstance(v, str) else v)),
        "a text or a list of texts, none empty",
    ),
    ("chat_template_kwargs", lambda v: isinstance(v, Mapping), "a table"),
]
# Fields that hold a path or a hub name.
_NAMES = ("model", "prompts", "eval_prompts", "rollouts", "grades", "output_dir", "spill_directory")
# Those of them whose thing may be in memory instead.
_THINGS = ("model", "prompts", "eval_prompts", "rollouts")

# Fields of offline runs, and of online ones: what they are, and where to look instead.
_OFFLINE = {
    "old_logprobs_column": "is a column of `rollouts`; see old_logprobs",
    "truncated_column": "is a column of `rollouts`; online the sampler knows it",
    "completion_mask_column": "is a column of `rollouts`; online see `rollout`",
    "rollout_ids_column": "is a column of `rollouts`; online see `rollout`",
    "grades": "are of `rollouts`; online `reward` grades what is sampled",
}
_ONLINE = {
    "log_completions": "writes what is sampled; offline the completions are `rollouts`",
    "rollout": "is a function that samples for `prompts`; offline they have been sampled",
    "reward": "is a function for online runs; offline see reward_column",
}


class ConfigError(ValueError):
    """A configuration that cannot be run; the message names the key and the remedy."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """What to train, on what, and how.

    Names are those of TRL, verl and Hugging Face where they mean the same. A run is *online* when
    `prompts` and `reward` are given, *offline* when `rollouts` is.

    Attributes
    ----------
    model : str
        Directory or hub name of a causal language model with its tokenizer.
    output_dir : str
        Folder for `metrics.jsonl`, `checkpoint-<step>/` and `final/`.
    prompts : str or tuple of str, optional
        Prompts to sample completions for: files, folders, globs, addresses or a data set of the
        hub. Makes the run online.
    reward : str or tuple of str, optional
        One or several reward functions with TRL's signature, written `module:function` or
        `file.py:function`.
    reward_workers : int
        Processes that call the reward functions, one completion a call, so that none of them can
        end or hang the run; 0 calls them in this process, all completions at once.
    reward_timeout : float, optional
        Seconds for a call in `reward_workers`, 10 by default; then the process is killed.
    reward_sandbox : {"process", "bwrap"}
        Whether `reward_workers` are in a sandbox of bubblewrap: no network, nothing to write on but
        an empty ``/tmp``.
    on_reward_failure : {"error", "none"}
        What to do where a call in `reward_workers` fails: stop and name the completion, or leave
        it without a reward and count it as `reward/status/*`.
    rollout : str, optional
        A function `rollout(sampler, prompts, **columns) -> Rollouts`, written like `reward`, that
        samples in place of one completion at a time: games, tools, search. Without `reward` its
        rewards are taken.
    sampler : str
        Who draws the completions: `transformers`, the policy itself in this process;
        `transformers-continuous`, likewise by continuous batching; `vllm:http://host:port`, a vLLM
        server, which is given the weights before every batch; or `module:factory` or
        `file.py:factory`, a function that gets the configuration and returns a
        `gspo_rs.samplers.Sampler`.
    sampler_timeout : float
        Seconds for one answer of the server of `sampler`. One that comes too late is asked for
        twice more. Also those without any sign of a sampler in this process that samples ahead.
    sampler_weights : {"folder", "nccl"}
        How that server gets them: by a folder that it sees, too, or by NCCL from GPU to GPU.
    sampler_folder : str, optional
        Folder in which weights are passed to that server, which sees it under the same name; by
        default in shared memory, for a server on this machine.
    rollouts : str or tuple of str, optional
        Scored completions to learn from: files, folders, globs, addresses or a data set of the hub.
        Makes the run offline.
    grades : str, optional
        Folder that `gspo-rs grade` wrote, whose rewards are those of `rollouts`.
    split : str, optional
        Split of `prompts` or `rollouts`, where a data set of the hub or a saved one has several.
    prompt : str
        Column with the prompt: text, or chat messages, for which the model's template is used. That
        of a known schema, where there is no `prompt` and nothing is given.
    completion : str
        Column of `rollouts` with the completion: text, or one message of the assistant. As `prompt`
        that of a known schema.
    chat_template : str, optional
        A file with the chat template by which messages are rendered, or the name of one of the
        tokenizer's templates; by default the tokenizer's own. It is saved with the model.
    chat_template_kwargs : dict
        Variables of the chat template, such as `{enable_thinking = false}`; one that it does not
        read is refused.
    reward_column : str or tuple of str
        One or several columns of `rollouts` with the rewards of a completion.
    reward_weights : tuple of float, optional
        Weight of each reward, 1 by default. The advantages `gdpo` and `borda` compare each reward
        separately; all others use the weighted sum, which skips unscorable rewards. With one
        reward, `gdpo` is the z-score, standardised over the batch of rollouts.
    by : str or tuple of str, optional
        Columns of `rollouts` that identify a row's group. Where there is no `prompt_id` and nothing
        is given: those of a known schema, or each row by itself if it holds lists.
    old_logprobs_column : str, optional
        Column of `rollouts` with the sampling policy's log-probability of every completion
        token, as one list per row; without it, the starting policy is the old policy.
    prompt_tokens_column : str, optional
        Column of `rollouts` with the prompt's token ids; without it, the text is tokenised.
    completion_tokens_column : str, optional
        Column of `rollouts` with the completion's token ids; without it, the text is tokenised.
    completion_mask_column : str, optional
        Column of `rollouts` with a list of bools, or of 0 and 1, for each completion: False where a
        token was not sampled but read, such as the answer of a tool. Those are not trained on.
        Needs `completion_tokens_column`.
    truncated_column : str, optional
        Column of `rollouts` that marks truncated completions: bools or finish reasons.
    reference_rewards_column : str, optional
        Column of `rollouts` with rewards of completions of the starting policy, as one list per
        row, in which the loss `qrpo` finds the quantile of a reward; without it, in the others of
        the group.
    rollout_ids_column : str, optional
        Column of `rollouts` that says which rows of a group are sequences of one rollout, such as
        the turns of an episode that were cut apart. They have one reward, which counts once in the
        group, and each gets the advantage of its rollout.
    shuffle_dataset : bool
        Visit the groups in random order, reshuffled every epoch.
    spill_directory : str, optional
        Folder in which `rollouts` with scattered groups are sorted on disk; by default the system's
        temporary folder.
    max_prompt_length : int, optional
        Maximum number of tokens per prompt; by default what the model's context leaves.
    max_completion_length : int
        Maximum number of tokens per completion; also the budget of the `constant` reduction.
    on_long : {"error", "drop"}
        What to do with a prompt or offline completion that is longer. Dropped ones are counted;
        prompts are left out before the first step, completions of their group's statistics too.
    num_generations : int
        Completions per prompt (the group size).
    prompts_per_step : int
        Prompts (groups) per optimizer step.
    steps_per_generation : int
        Optimizer steps per batch of rollouts, each on its own groups. Unlike in TRL, these are
        optimizer steps, not micro-batches.
    num_iterations : int
        Passes over each batch of rollouts.
    dynamic_sampling : bool, optional
        Fill each batch of rollouts with groups that have a signal, and sample more prompts until it
        is full; what is over is kept for the next batch. Offline, leave groups without signal out
        before their rows are read. In place of the preset's.
    max_resample : int
        Further rounds of `dynamic_sampling` for a batch at most, each of as many prompts as a batch
        has; after them it is trained on as it is.
    max_staleness : int
        Above 0, threads sample while the policy is in training: groups that are trained on were
        sampled by a policy at most this many batches of rollouts before. 0 samples and trains in
        turns.
    on_stale : {"drop", "correct"}
        What to do with a group that is older, because others overtook it: sample its prompt again,
        or train on it all the same.
    max_ahead_bytes : int
        Memory of the groups that wait to be trained on; nothing more is begun while they take as
        much.
    temperature : float
        Sampling temperature; log-probabilities use the same.
    top_p : float
        Sample from the most likely tokens of this total probability; 1 disables it.
    top_k : int
        Sample from this many most likely tokens; 0 disables it.
    stop : str or tuple of str, optional
        Texts at which a completion ends, besides the end tokens: with the token that completes one.
        Such a completion is not truncated, and the text stays in it. Offline, a completion that
        holds one gets no end token.
    old_logprobs : {"auto", "recompute", "sampler"}
        Source of the old log-probabilities online: recomputed by the training engine, or taken from
        the sampler. "auto" takes the sampler's in float32 (equal up to rounding), else recomputes.
    algorithm : str
        Preset for `advantage`, `loss`, `reduction` and the options of the loss; see
        docs/reference/losses.md.
    advantage : str, optional
        Estimator of the advantage, in place of the preset's; see docs/reference/estimators.md.
    advantage_options : dict
        Options of the advantage estimator; they override the preset.
    loss : str, optional
        Loss, in place of the preset's; see docs/reference/losses.md.
    reduction : str, optional
        How the tokens of a step are averaged, in place of the preset's; see
        docs/reference/losses.md.
    clip_low : float, optional
        The ratio may fall to `1 - clip_low`: 3e-4 suits the ratio of a sequence, 0.2 of a token.
    clip_high : float, optional
        The ratio may rise to `1 + clip_high`.
    dual_clip : float, optional
        Upper bound of the ratio where the advantage is negative, above `1 + clip_high`.
    delta : float, optional
        TRL's name for the bound `dual_clip`; give one of them.
    tau_pos : float, optional
        SAPO's steepness of the gate for tokens of positive advantage.
    tau_neg : float, optional
        SAPO's steepness of the gate for tokens of negative advantage.
    w_min : float, optional
        CISPO's lower bound of the importance weight.
    w_max : float, optional
        Upper bound of the importance weight of CISPO, DPPO and REINFORCE.
    clip : float, optional
        GMPO's bound of a token's log-ratio, in nats, on the side where it would help the loss.
    k_pos : float, optional
        VESPO's exponent of the weight at a positive advantage.
    lam_pos : float, optional
        VESPO's rate of decay of the weight at a positive advantage.
    k_neg : float, optional
        VESPO's exponent of the weight at a negative advantage.
    lam_neg : float, optional
        VESPO's rate of decay of the weight at a negative advantage.
    delta_low : float, optional
        DPPO's bound of how far the probability of a token may have fallen.
    delta_high : float, optional
        DPPO's bound of how far the probability of a token may have risen.
    divergence : {"tv", "kl"}, optional
        How DPPO measures that distance.
    q : float, optional
        Share of a group that the loss `top_fraction` lifts.
    label_smoothing : float, optional
        Chance that a preference is wrong, in the losses `dpo` and `pairwise`.
    renormalise : bool, optional
        Leave groups without signal, and what `mask_truncated` masks, out of the step as if they had
        not been sampled: out of the reduction's denominator and of a KL penalty. If false, they
        count as sequences with zero policy loss, and the step size does not depend on how many
        there are. In place of the preset's.
    overlong_penalty : {"none", "soft"}, optional
        What is added to the reward of a long completion before groups are compared, in place of the
        preset's. "soft" is DAPO's: 0 up to `overlong_cache` tokens before `max_completion_length`,
        from there falling to -1.
    overlong_cache : int, optional
        Tokens over which the soft penalty falls; by default a fifth of `max_completion_length`, as
        in DAPO's paper.
    mask_truncated : bool, optional
        Leave completions that the token limit cut off out of the loss, but not out of the
        statistics of their groups. In place of the preset's.
    correction : str
        Correction of the advantages for the mismatch between sampler and training engine: a mode
        of `gspo_rs.losses.sampler_correction`, or "none".
    correction_low : float, optional
        Lower bound of the importance ratio between the two; by default that of the mode.
    correction_high : float, optional
        Upper bound of the importance ratio between the two; by default that of the mode.
    off_policy_mask_threshold : float, optional
        Off-policy sequence masking: drop a completion with negative advantage whose tokens became
        on average this many nats less likely.
    beta : float, optional
        Weight of the KL penalty towards the starting policy; the default 0 needs no reference
        model. For `qrpo` and a loss that compares the members of a group: the factor of the
        log-ratio to the starting policy in the score, 0.1 by default.
    kl_estimator : {"k3_is", "k3", "k2"}
        Estimator of `gspo_rs.losses.kl_penalty`.
    optimizer : {"adamw", "adamw_8bit", "paged_adamw_8bit"}
        AdamW with two float32 numbers a weight, or with a byte each. The paged one moves them
        between GPU and CPU as memory runs short, and needs bitsandbytes.
    learning_rate : float
        Learning rate of AdamW, after the warm-up.
    weight_decay : float
        Weight decay of AdamW.
    adam_beta1 : float
        AdamW's decay of the mean of gradients.
    adam_beta2 : float
        AdamW's decay of the mean of squared gradients.
    adam_epsilon : float
        AdamW's addend in the denominator.
    lr_scheduler_type : {"constant", "linear", "cosine"}
        Learning rate schedule after the warm-up; the last two end at 0.
    warmup_steps : int
        Number of steps over which the learning rate rises linearly from 0.
    max_grad_norm : float
        Maximum gradient norm; 0 disables clipping.
    max_steps : int, optional
        Total number of optimizer steps; by default `num_train_epochs` passes over the data.
    num_train_epochs : int
        Passes over the data if `max_steps` is not given.
    lora_r : int
        Rank of the LoRA adapters; 0 trains all weights.
    lora_alpha : int
        Adapters are scaled by `lora_alpha / lora_r`.
    lora_target_modules : tuple of str
        Modules to which adapters are added.
    use_dora : bool
        Train the norms of the columns of an adapted weight apart from their directions (DoRA).
    lora_merge : bool
        Merge the adapters into the model that is written at the end, instead of writing them alone.
    weights : {"float32", "bfloat16"}
        Precision of the model's weights. Those in bfloat16 are computed in it; an update of 1e-6,
        which it would round away, goes into float32 master copies of what is trained. Adapters of
        LoRA are float32 whatever the weights below them.
    dtype : {"auto", "float32", "bfloat16"}
        Precision of the computation; "auto" is that of `weights` in bfloat16, and bfloat16 on a
        GPU that supports it.
    device : str
        "auto", "cpu", "cuda" or "cuda:<n>"; with several processes "cuda" is a GPU for each.
    ddp_timeout : float
        Seconds that the processes of a run wait for one another, before they end with an error.
    replicas : int
        Copies of the weights among the processes of a run. Each is cut over processes that follow
        one another, such as those of one machine; between copies only gradients are exchanged.
    attn_implementation : str, optional
        Name of the attention kernel in transformers; the model's default if not given.
    layout : {"auto", "packed", "padded"}
        Micro-batches as one row without padding, or as right-padded rows of similar length. "auto"
        packs for attention kernels that skip tokens of other sequences.
    gradient_checkpointing : bool, optional
        Recompute the activations of each layer in the backward pass: less memory, more time, the
        same gradients. By default on a GPU where fewer than 4096 tokens fit without it, and on a
        CPU for models of a billion parameters and more.
    torch_compile : bool
        Compile the layers for the training passes; needs a compiler and about a minute at first.
    micro_batch_tokens : int, optional
        Token budget per micro-batch, padding included; by default 2048 on a CPU, and on a GPU as
        many as memory has room for, up to 16384. A longer sequence gets its own micro-batch.
    logits_chunk_size : int, optional
        Most tokens of a micro-batch whose logits are there at once; fewer take less memory. By
        default what makes 128 MiB on a CPU, and 8192 on a GPU as far as memory allows, or the
        longest completion.
    generation_batch : int, optional
        Most completions sampled at once, by default all of a batch, or on a GPU as many as memory
        has room for. It does not change what is sampled, but for the rounding of logits.
    seed : int
        Seed for data order, sampling and the initialisation of new weights.
    save_steps : int
        Steps between checkpoints, each written at the end of a batch of rollouts; 0 for none.
    save_total_limit : int
        Maximum number of checkpoints to keep.
    logging_steps : int
        Steps between lines on the terminal; `metrics.jsonl` records every step.
    log_completions : bool
        Write every sampled completion with its reward and advantage to
        `completions/completions_<step>.parquet`, which all commands read.
    eval_prompts : str or tuple of str, optional
        Held-out prompts in the format of `prompts`; by default the first `eval_size` of `prompts`.
    eval_split : str, optional
        Split of `eval_prompts`, where these have several.
    eval_size : int
        Number of prompts on which the policy is compared with the starting policy; 0 for none.
    eval_steps : int
        Steps between comparisons; 0 for comparisons only before and after the run.

    Examples
    --------
    >>> config = Config(model="gpt2", prompts="p.jsonl", reward="r.py:score", algorithm="dapo")
    >>> resolve(config).clip_high
    0.28
    """

    model: str
    output_dir: str = "runs/gspo"
    prompts: str | tuple[str, ...] | None = None
    reward: str | tuple[str, ...] | None = None
    reward_workers: int = 0
    reward_timeout: float | None = None
    reward_sandbox: Literal["process", "bwrap"] = "process"
    on_reward_failure: Literal["error", "none"] = "error"
    rollout: str | None = None
    sampler: str = "transformers"
    sampler_timeout: float = 600.0
    sampler_weights: Literal["folder", "nccl"] = "folder"
    sampler_folder: str | None = None
    rollouts: str | tuple[str, ...] | None = None
    grades: str | None = None
    split: str | None = None
    prompt: str = "prompt"
    completion: str = "completion"
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] = field(default_factory=dict)
    reward_column: str | tuple[str, ...] = "reward"
    reward_weights: tuple[float, ...] | None = None
    by: str | tuple[str, ...] | None = "prompt_id"
    old_logprobs_column: str | None = None
    prompt_tokens_column: str | None = None
    completion_tokens_column: str | None = None
    completion_mask_column: str | None = None
    truncated_column: str | None = None
    reference_rewards_column: str | None = None
    rollout_ids_column: str | None = None
    shuffle_dataset: bool = True
    spill_directory: str | None = None
    max_prompt_length: int | None = None
    max_completion_length: int = 256
    on_long: Literal["error", "drop"] = "error"
    num_generations: int = 8
    prompts_per_step: int = 8
    steps_per_generation: int = 4
    num_iterations: int = 1
    dynamic_sampling: bool | None = None
    max_resample: int = 9
    max_staleness: int = 0
    on_stale: Literal["drop", "correct"] = "drop"
    max_ahead_bytes: int = 2**30
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    stop: str | tuple[str, ...] | None = None
    old_logprobs: Literal["auto", "recompute", "sampler"] = "auto"
    algorithm: Algorithm = "percentile"
    advantage: str | None = None
    advantage_options: dict[str, Any] = field(default_factory=dict)
    loss: Loss | None = None
    reduction: Reduction | None = None
    clip_low: float | None = None
    clip_high: float | None = None
    dual_clip: float | None = None
    delta: float | None = None
    tau_pos: float | None = None
    tau_neg: float | None = None
    w_min: float | None = None
    w_max: float | None = None
    clip: float | None = None
    k_pos: float | None = None
    lam_pos: float | None = None
    k_neg: float | None = None
    lam_neg: float | None = None
    delta_low: float | None = None
    delta_high: float | None = None
    divergence: Literal["tv", "kl"] | None = None
    q: float | None = None
    label_smoothing: float | None = None
    renormalise: bool | None = None
    overlong_penalty: Literal["none", "soft"] | None = None
    overlong_cache: int | None = None
    mask_truncated: bool | None = None
    correction: Literal[
        "none", "token_truncate", "token_mask", "sequence_truncate", "sequence_mask", "seq_mask"
    ] = "none"
    correction_low: float | None = None
    correction_high: float | None = None
    off_policy_mask_threshold: float | None = None
    beta: float | None = None
    kl_estimator: Literal["k3_is", "k3", "k2"] = "k3_is"
    optimizer: Literal["adamw", "adamw_8bit", "paged_adamw_8bit"] = "adamw"
    learning_rate: float = 1e-6
    weight_decay: float = 0.0
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_epsilon: float = 1e-8
    lr_scheduler_type: Literal["constant", "linear", "cosine"] = "constant"
    warmup_steps: int = 0
    max_grad_norm: float = 1.0
    max_steps: int | None = None
    num_train_epochs: int = 1
    lora_r: int = 0
    lora_alpha: int = 32
    lora_target_modules: tuple[str, ...] = ("all-linear",)
    use_dora: bool = False
    lora_merge: bool = False
    weights: Literal["float32", "bfloat16"] = "float32"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    device: str = "auto"
    ddp_timeout: float = 1800.0
    replicas: int = 1
    attn_implementation: str | None = None
    layout: Literal["auto", "packed", "padded"] = "auto"
    gradient_checkpointing: bool | None = None
    torch_compile: bool = False
    micro_batch_tokens: int | None = None
    logits_chunk_size: int | None = None
    generation_batch: int | None = None
    seed: int = 0
    save_steps: int = 50
    save_total_limit: int = 2
    logging_steps: int = 1
    log_completions: bool = False
    eval_prompts: str | tuple[str, ...] | None = None
    eval_split: str | None = None
    eval_size: int = 16
    eval_steps: int = 20

    def __new__(cls, *_: object, **fields: object) -> Self:
        """Name what an unknown field may have meant, which Python's own error does not."""
        known = cls.__dataclass_fields__
        if unknown := next((name for name in fields if name not in known), None):
            raise TypeError(f"Config has no field `{unknown}`; {near_key(unknown, known)}")
        return super().__new__(cls)

    def __post_init__(self) -> None:
        for name, value in list(vars(self).items()):
            if isinstance(value, list):  # a checkpoint, which is compared, has tuples
                object.__setattr__(self, name, tuple(value))
        if fault := _broken(self):
            raise ConfigError(fault)
        if self.algorithm not in PRESETS:
            known = listed(self.algorithm, PRESETS, ALGORITHMS)
            raise ConfigError(f"algorithm = {self.algorithm!r}: must be one of {known}")

    @property
    def online(self) -> bool:
        """Whether completions are sampled during training."""
        return self.rollouts is None


def resolve(config: Config) -> Config:
    """Fill in the preset's values and check that the run is either online or offline.

    Parameters
    ----------
    config : Config
        As the user wrote it.

    Returns
    -------
    Config
        With `advantage`, `loss`, `reduction`, `beta`, the options of loss and advantage and all
        else that a preset decides set.

    Raises
    ------
    ConfigError
        If neither or both of `prompts` and `rollouts` are given, one has a key of the other, there
        are more or fewer weights than rewards, the loss does not read a field that is set, or the
        advantage or one of its options is not known.

    Examples
    --------
    >>> config = resolve(Config(model="gpt2", rollouts="scored.parquet", algorithm="gspo"))
    >>> config.advantage, config.clip_low, config.reduction
    ('zscore', 0.0003, 'seq_mean')
    """
    if fault := _contradicted(config):
        raise ConfigError(fault)
    try:
        return dataclasses.replace(config, **chosen(dataclasses.asdict(config)))
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _broken(config: object) -> str | None:
    """Return the first field of a configuration that breaks its rule.

    Parameters
    ----------
    config : object
        Whose attributes are the fields; None obeys every rule.

    Returns
    -------
    str or None
        The field, its value and the rule.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> fields = {name: None for names, _, _ in _RULES for name in names.split()}
    >>> _broken(SimpleNamespace(**{**fields, "top_p": 1.5}))
    'top_p = 1.5: must be in (0, 1]'
    """
    for names, holds, rule in _RULES:
        for name in names.split():
            value = getattr(config, name)
            if value is not None and not holds(value):
                return f"{name} = {value!r}: must be {rule}"
    return None


def _contradicted(config: Any) -> str | None:
    """Return the first contradiction between fields of a configuration.

    Parameters
    ----------
    config : Config
        Not yet resolved.

    Returns
    -------
    str or None
        The first such fields and the remedy.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> none = dict.fromkeys([*_NAMES, "prompts", "rollouts"])
    >>> _contradicted(SimpleNamespace(**none))
    'give either `prompts` (online) or `rollouts` (offline)'
    """
    if fault := _unnamed(config):
        return fault
    if (config.prompts is None) == (config.rollouts is None):
        return "give either `prompts` (online) or `rollouts` (offline)"
    if (
        fault := _misplaced(config)
        or _without_workers(config)
        or fault_of(config.sampler, online=config.online)
        or _too_stale(config)
    ):
        return fault
    if config.correction != "none" and (not config.online or config.old_logprobs == "sampler"):
        return (
            f"correction = {config.correction!r}: compares the sampler with a pass of the training"
            " engine; it needs `prompts`, and old_logprobs = 'recompute' or 'auto'"
        )
    if (weights := config.advantage_options.get("weights")) is not None:
        return f"advantage_options weights = {weights!r}: rewards have theirs in reward_weights"
    for name in ("use_dora", "lora_merge"):
        if getattr(config, name) and not config.lora_r:
            return f"{name} = True: is of adapters; give their rank, lora_r"
    if config.weights == "bfloat16" and config.dtype == "float32":
        return "dtype = 'float32': weights in bfloat16 are computed in it; set one of both back"
    if config.online:
        return None  # a function given in place of a name is not known here
    names = config.reward_column
    return unweighable(
        "reward_column", [names] if isinstance(names, str) else names, config.reward_weights
    )


def _misplaced(config: Any) -> str | None:
    """Return the first field of offline runs in an online one, or the other way round."""
    for name, why in (_OFFLINE if config.online else _ONLINE).items():
        if getattr(config, name) not in (None, False):
            return f"{name} {why}"
    if config.completion_mask_column is not None and config.completion_tokens_column is None:
        return "completion_mask_column marks the tokens of completion_tokens_column; give that too"
    return None


def _without_workers(config: Any) -> str | None:
    """Return the first field of reward workers where there are none."""
    if config.reward_workers:
        offline = "reward_workers call reward functions; offline the rewards are in `rollouts`"
        return None if config.online else offline
    defaults = {"reward_timeout": None, "reward_sandbox": "process", "on_reward_failure": "error"}
    for name, default in defaults.items():
        if (value := getattr(config, name, default)) != default:
            return f"{name} = {value!r}: is of reward_workers; give their number, such as 2"
    return None


def _too_stale(config: Any) -> str | None:
    """Return the first field that does not go with sampling ahead, or is of that alone."""
    ahead = f"max_staleness = {config.max_staleness}"
    if not config.max_staleness:
        alone = f"on_stale = {config.on_stale!r}: is of sampling ahead; set max_staleness"
        return None if config.on_stale == "drop" else alone
    if not config.online:
        return f"{ahead}: samples ahead of training; offline the completions are in `rollouts`"
    if config.old_logprobs == "recompute" and config.correction == "none":
        return (
            f"{ahead}: with old_logprobs = 'recompute' old completions would count as new ones; set"
            " correction, such as 'token_truncate' or 'seq_mask', or old_logprobs = 'sampler'"
        )
    if config.sampler == "transformers-continuous":
        return (
            f"{ahead}: continuous batching reads the model that is trained, and sets its attention;"
            " set sampler = 'transformers', or sample with a server"
        )
    if config.torch_compile and config.sampler == "transformers":
        return (
            f"{ahead}: transformers samples without compiled layers, and that setting is of the"
            " whole process; set torch_compile = false, or sample with a server"
        )
    return None


def _unnamed(config: Any) -> str | None:
    """Return the first field that holds an object instead of a path or name."""
    for name in _NAMES:
        value = getattr(config, name)
        for item in value if isinstance(value, tuple | list) else [value]:
            if item is not None and not isinstance(item, str):
                kind = f"{type(item).__module__}.{type(item).__qualname__}"
                remedy = f", or the thing itself as train(config, {name}=…)" * (name in _THINGS)
                return f"{name} is a {kind}; here, give the path or name as text{remedy}"
    return None


def unweighable(key: str, names: Sequence[str], weights: Sequence[float] | None) -> str | None:
    """Return why rewards cannot be distinguished or weighted.

    Parameters
    ----------
    key : str
        The field that names them.
    names : sequence of str
        Of the functions or columns.
    weights : sequence of float or None
        Those of `reward_weights`.

    Returns
    -------
    str or None
        What is wrong and the remedy.

    Examples
    --------
    >>> unweighable("reward", ["right", "short"], [1.0])
    'reward_weights = [1.0]: give 2, one for each of right, short'
    """
    if not names:
        return f"{key} is empty; name at least one reward"
    if twice := [name for place, name in enumerate(names) if name in names[:place]]:
        return f"{key} has two named {twice[0]}; names must differ, so rename one"
    if weights is not None and len(weights) != len(names):
        remedy = f"give {len(names)}, one for each of {', '.join(names)}"
        return f"reward_weights = {weights!r}: {remedy}"
    return None
