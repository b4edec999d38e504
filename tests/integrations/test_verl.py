import os
import subprocess
import sys

import numpy as np
import pytest
import torch

pytest.importorskip(
    "verl", reason="verl is not installed: its import needs tensordict, hydra and ray"
)

from verl.trainer.ppo.core_algos import get_adv_estimator_fn, get_policy_loss_fn
from verl.workers.config import ActorConfig

import gspo_rs as gs
import gspo_rs.integrations.verl as ours


def batch(rewards, width=5, seed=0):
    """Token rewards at the last token, as verl has them, and a ragged mask."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, width + 1, len(rewards))
    mask = torch.from_numpy(np.arange(width) < lengths[:, None]).long()
    token_rewards = torch.zeros(len(rewards), width)
    token_rewards[torch.arange(len(rewards)), torch.from_numpy(lengths) - 1] = torch.tensor(
        rewards, dtype=torch.float32
    )
    return token_rewards, mask


def compare(name, theirs, rewards, uid):
    token_rewards, mask = batch(rewards)
    uid = np.array(uid, dtype=object)
    found = get_adv_estimator_fn(name)(
        token_level_rewards=token_rewards.clone(), response_mask=mask, index=uid, config=None
    )
    expected = get_adv_estimator_fn(theirs)(
        token_level_rewards=token_rewards.clone(), response_mask=mask, index=uid
    )
    return found[0], expected[0]


def test_zscore_is_verls_grpo_on_untied_groups():
    rng = np.random.default_rng(1)
    uid = rng.permutation(np.repeat([f"p{i}" for i in range(6)], [2, 3, 4, 5, 6, 7])).tolist()
    found, expected = compare("gspo_rs.zscore", "grpo", rng.normal(size=27).tolist(), uid)
    assert expected.abs().max() > 1
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_rloo_is_verls_rloo_on_groups_of_at_least_two():
    rng = np.random.default_rng(2)
    uid = rng.permutation(np.repeat(["a", "b", "c"], [2, 5, 9])).tolist()
    found, expected = compare("gspo_rs.rloo", "rloo", rng.normal(size=16).tolist(), uid)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_a_tied_group_and_a_lone_answer_get_no_advantage_where_verl_gives_some():
    found, expected = compare("gspo_rs.zscore", "grpo", [0.95] * 8 + [3.0], ["t"] * 8 + ["lone"])
    assert found.abs().max() == 0
    assert expected[:8].abs().max() > 0.01  # float32 leaves a deviation
    assert expected[8].max() == pytest.approx(3.0, abs=1e-4)  # the raw reward


@pytest.mark.parametrize("name", ours.FREE)
def test_every_estimator_that_needs_no_option_is_in_verls_registry(name):
    rewards, uid = [0.5, 1.0, 0.0, 0.25, 2.0], ["a", "b", "a", "b", "a"]
    token_rewards, mask = batch(rewards)
    options = {"lengths": mask.sum(1).numpy()} if name == "opo" else {}
    found, again = get_adv_estimator_fn(f"gspo_rs.{name}")(
        token_level_rewards=token_rewards, response_mask=mask, index=np.array(uid, dtype=object)
    )
    expected = torch.from_numpy(gs.advantage(rewards, uid, name, **options))[:, None] * mask
    torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=1e-6)
    assert again is found


def actor(**info):
    config = ActorConfig(
        strategy="fsdp",
        rollout_n=4,
        ppo_micro_batch_size_per_gpu=2,
        clip_ratio_low=3e-4,
        clip_ratio_high=4e-4,
    )
    config.global_batch_info.update(info)
    return config


@pytest.mark.parametrize("info", [{}, {"global_batch_size": 40, "dp_size": 4}])
@pytest.mark.parametrize("spread", [1e-4, 0.05])
@pytest.mark.parametrize("corrected", [False, True])
def test_the_loss_and_its_gradient_are_those_of_verls_gspo(info, spread, corrected):
    torch.manual_seed(0)
    _, mask = batch([0.0] * 9, width=7)
    old = -torch.rand(9, 7, dtype=torch.float64)
    new = (old + spread * torch.randn(9, 7, dtype=torch.float64)).requires_grad_()
    advantages = torch.randn(9, 1, dtype=torch.float64).expand(9, 7) * mask
    weights = torch.rand(9, 7, dtype=torch.float64) if corrected else None
    results = []
    for name in ("gspo_rs", "gspo"):
        loss, metrics = get_policy_loss_fn(name)(
            old_log_prob=old,
            log_prob=new,
            advantages=advantages,
            response_mask=mask,
            loss_agg_mode="seq-mean-token-mean",
            config=actor(**info),
            rollout_is_weights=weights,
        )
        results.append((loss, torch.autograd.grad(loss, new)[0], metrics))
    (loss, gradient, metrics), (their_loss, their_gradient, theirs) = results
    assert their_gradient.abs().max() > 0
    torch.testing.assert_close(loss, their_loss, atol=1e-9, rtol=1e-7)
    torch.testing.assert_close(gradient, their_gradient, atol=1e-9, rtol=1e-6)
    assert metrics["actor/kl/old_k1"] == pytest.approx(theirs["actor/ppo_kl"], abs=1e-9)


def test_another_mean_than_the_papers_is_refused():
    _, mask = batch([0.0] * 2)
    zeros = torch.zeros(2, 5)
    with pytest.raises(ValueError, match="loss_agg_mode is 'token-mean'"):
        ours.policy_loss(zeros, zeros, zeros, mask, "token-mean", config=actor())


def test_an_estimator_without_ids_is_refused():
    token_rewards, mask = batch([0.0, 1.0])
    with pytest.raises(ValueError, match=r"gspo_rs\.mean got no index"):
        ours.estimator_of("mean")(token_rewards, mask)


@pytest.mark.slow
def test_one_line_of_environment_registers_all_in_a_fresh_process():
    script = (
        "import verl; from verl.trainer.ppo.core_algos import *; "
        "print(get_adv_estimator_fn('gspo_rs.percentile'))"
    )
    environment = os.environ | {"VERL_USE_EXTERNAL_MODULES": "gspo_rs.integrations.verl"}
    run = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert "group_advantage" in run.stdout
