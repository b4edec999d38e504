"""One architecture, small, with fresh weights: sampler, training pass, layouts and gradient.

What the package computes in float32 is compared with each other, and with one sequence at a time
through the model itself in float64: no padding, no cache, no product of ours.
"""

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fixtures.runs import share_of_a
from fixtures.tiny_models import saved, tiny
from gspo_rs.rollouts.rollouts import Ragged
from gspo_rs.samplers.generation import GenerationError
from gspo_rs.samplers.transformers import generate
from gspo_rs.train import Config, train
from gspo_rs.train.config.config import resolve
from gspo_rs.train.model.policy import Policy, PolicyError, load
from gspo_rs.train.step.training_batch import TrainingBatch, recompute
from gspo_rs.train.step.update import backward

PROMPTS = ["abcdefgh", "ba", "c", "hg", "fedcbahgfedcb"]


def stages(kind: str, letters: Path, folder: Path) -> Iterator[dict[str, Any]]:
    """Yield what is known of an architecture, measurement after measurement."""
    model = tiny(kind, std=0.2)
    count = sum(weight.numel() for weight in model.parameters())
    yield {"class": type(model).__name__, "parameters": count}
    place = saved(model, letters, folder / "model")
    config = resolve(
        Config(model=str(place), rollouts="-", dtype="float32", device="cpu", layout="padded")
    )
    refused = refusal(place, folder)
    yield {"refused": refused}
    if refused is not None:
        return
    policy = load(config)
    batch, sampled = drawn(policy)
    padded = recompute(policy, batch, config).values
    yield {"sampler": apart(padded, sampled.values)}
    packed = recompute(replace(policy, shape="packed"), batch, config).values
    yield {"packed": apart(packed, padded), "packed_refused": packing_refused(config)}
    yield exact(policy, batch, config, padded)


def refusal(model: Path, folder: Path) -> str | None:
    """Return why a run of one step refuses a model, or None."""
    settings = {"max_completion_length": 8, "prompts_per_step": 5, "num_generations": 3}
    settings |= {"max_steps": 1, "steps_per_generation": 1, "eval_size": 0, "save_steps": 0}
    config = Config(
        model=str(model),
        output_dir=str(folder / "run"),
        learning_rate=1e-3,
        dtype="float32",
        device="cpu",
        **settings,
    )
    prompts = [{"prompt": text} for text in PROMPTS]
    try:
        train(config, prompts=prompts, reward=share_of_a, quiet=True)
    except (GenerationError, PolicyError) as error:
        return str(error)
    return None


def packing_refused(config: Config) -> str | None:
    """Return why packed micro-batches are refused, or None."""
    try:
        load(replace(config, layout="packed"))
    except PolicyError as error:
        return str(error)
    return None


def drawn(policy: Policy) -> tuple[TrainingBatch, Ragged]:
    """Sample, and return the sequences with advantages, and the sampler's log-probabilities."""
    options: dict[str, Any] = {"num_generations": 3, "max_completion_length": 12, "seed": 0}
    rollouts = generate(policy.model, policy.tokenizer, PROMPTS, **options)
    assert rollouts.prompt_tokens is not None
    assert rollouts.completion_tokens is not None
    assert rollouts.sampler_logprobs is not None
    advantages = np.random.default_rng(0).standard_normal(rollouts.n_rollouts)
    weights = 1 / (rollouts.completion_tokens.lengths * rollouts.n_rollouts)
    batch = TrainingBatch(
        rollouts.prompt_tokens,
        rollouts.completion_tokens,
        torch.tensor(advantages, dtype=torch.float32),
        torch.tensor(weights, dtype=torch.float32),
    )
    return batch, rollouts.sampler_logprobs


def exact(
    policy: Policy, batch: TrainingBatch, config: Config, padded: np.ndarray
) -> dict[str, Any]:
    """Return how far float32 is from float64, in log-probabilities and in the gradient."""
    model, reference = copy.deepcopy(policy.model).double(), "float64"
    model.set_experts_implementation("eager")  # the product of all experts has no float64
    try:
        known = alone(model, batch)
    except RuntimeError:  # a part of it computes in float32 whatever its weights are
        model, reference = copy.deepcopy(policy.model), "float32"
        known = alone(model, batch)
    backward(policy, batch, config)
    pairs = zip(policy.model.parameters(), model.parameters(), strict=True)
    ours, theirs = torch.cat([torch.stack([_grad(a), _grad(b)], 1) for a, b in pairs]).T
    gradient = torch.linalg.vector_norm(ours - theirs) / torch.linalg.vector_norm(theirs)
    return {
        "reference": reference,
        "rounding": apart(padded, known),
        "gradient": float(gradient),
    }


def alone(model: torch.nn.Module, batch: TrainingBatch) -> np.ndarray:
    """Return the log-probabilities of one sequence after another, and add their gradient."""
    known, loss = [], torch.zeros((), dtype=torch.float64)
    for row, (advantage, weight) in enumerate(zip(batch.advantages, batch.weights, strict=True)):
        prompt, text = batch.prompts.row(row), torch.tensor(batch.completions.row(row))
        ids = torch.cat([torch.tensor(prompt), text])[None]
        logits = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1]
        logprobs = logits.double().log_softmax(-1).gather(1, text[:, None])[:, 0]
        # At the weights that sampled every ratio is 1, and this is the gradient of GSPO.
        loss = loss - weight.double() * advantage.double() * logprobs.sum()
        known.append(logprobs.detach().numpy())
    loss.backward()
    return np.concatenate(known)


def _grad(weight: torch.nn.Parameter) -> torch.Tensor:
    found = torch.zeros_like(weight) if weight.grad is None else weight.grad
    return found.flatten().double()


def apart(one: np.ndarray, other: np.ndarray) -> float:
    """Return the largest difference."""
    return float(np.abs(one.astype(np.float64) - other).max())
