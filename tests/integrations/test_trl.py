import datetime
import json
from importlib.metadata import version
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("trl", reason="TRL is not installed")
datasets = pytest.importorskip("datasets", reason="datasets is not installed")

from trl import GRPOConfig, GRPOTrainer  # noqa: E402

import gspo_rs as gs  # noqa: E402
from fixtures.places import ROOT  # noqa: E402
from fixtures.processes import accelerate_launch  # noqa: E402
from gspo_rs.integrations.trl import GSPOMixin, GSPOTrainer, check_version  # noqa: E402
from gspo_rs.rewards import load as load_reward  # noqa: E402

EXAMPLES = ROOT / "examples"


class Recorder(GRPOTrainer):
    """TRL as it is, with its advantages, losses and gradients written down."""

    seen = None

    def _generate_and_score_completions(self, inputs):
        output = super()._generate_and_score_completions(inputs)
        self.seen = self.seen or []
        self.seen.append(output["advantages"].clone())
        return output


class Both(GSPOMixin, Recorder):
    seen = None


def settings(folder, **changes):
    base = {
        "output_dir": str(folder),
        "use_cpu": True,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "seed": 1,
        "bf16": False,
        "max_steps": 2,
        "logging_steps": 1,
        "per_device_train_batch_size": 8,
        "num_generations": 4,
        "max_completion_length": 8,
        "learning_rate": 1e-3,
        "beta": 0.0,
        "loss_type": "grpo",
        "importance_sampling_level": "sequence",
        "epsilon": 3e-4,
        "epsilon_high": 4e-4,
        "logging_first_step": True,
    }
    return GRPOConfig(**{**base, **changes})


def letters_data(n=16):
    rows = [{"prompt": f"{a}{b}", "visit": i} for i, (a, b) in enumerate(_pairs(n))]
    return datasets.Dataset.from_list(rows)


def _pairs(n):
    letters = "abcdefgh"
    return [(letters[i % 8], letters[i // 8]) for i in range(n)]


def untied(completions, completion_ids, **_):
    # A text decides its reward, with a grain of its place so that no two are equal.
    return [
        sum(ids) % 7 + 0.37 * place + 0.01 * place**2 for place, ids in enumerate(completion_ids)
    ]


def test_zscore_with_trls_eps_gives_trls_own_advantages_on_untied_groups(letters, tmp_path):
    trainer = Both(
        model=str(letters),
        reward_funcs=untied,
        args=settings(tmp_path),
        train_dataset=letters_data(),
        estimator="zscore",
        estimator_options={"eps": 1e-4},
    )
    ours = []
    inner = trainer._generate_and_score_completions
    trainer._generate_and_score_completions = lambda inputs: ours.append(inner(inputs)) or ours[-1]
    trainer.train()
    assert len(trainer.seen) == len(ours) == 2
    for theirs, output in zip(trainer.seen, ours, strict=True):
        assert theirs.abs().max() > 0.5
        torch.testing.assert_close(output["advantages"], theirs, atol=1e-6, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["gspo", "gspo_token"])
@pytest.mark.parametrize("beta", [0.0, 0.1])
def test_the_papers_loss_teaches_what_trls_sequence_loss_teaches(letters, tmp_path, loss, beta):
    weights = []
    for kind, more in ((GRPOTrainer, {}), (GSPOTrainer, {"loss": loss, "estimator": "zscore"})):
        if more:
            more["estimator_options"] = {"eps": 1e-4}
        torch.manual_seed(0)
        trainer = kind(
            model=str(letters),
            reward_funcs=untied,
            args=settings(
                tmp_path, beta=beta, steps_per_generation=2, gradient_accumulation_steps=2
            ),
            train_dataset=letters_data(),
            **more,
        )
        trainer.train()
        weights.append([p.detach().clone() for p in trainer.model.parameters()])
    start = list(_fresh(letters).parameters())
    moved = max(float((a - b).abs().max()) for a, b in zip(weights[0], start, strict=True))
    assert moved > 1e-4
    for theirs, ours in zip(*weights, strict=True):
        torch.testing.assert_close(ours, theirs, atol=moved * 1e-2, rtol=1e-4)


def _fresh(folder):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder)


def test_groups_without_signal_teach_nothing_and_are_reported(letters, tmp_path):
    trainer = GSPOTrainer(
        model=str(letters),
        # 0.95 has no exact mean in float32: TRL's own advantages are not 0 here.
        reward_funcs=lambda completions, **_: [0.95] * len(completions),
        args=settings(tmp_path, max_steps=1),
        train_dataset=letters_data(),
    )
    before = [p.detach().clone() for p in trainer.model.parameters()]
    trainer.train()
    log = next(entry for entry in trainer.state.log_history if "group/count" in entry)
    assert log["group/zero_variance_frac"] == 1.0
    assert (log["group/count"], log["group/size_min"], log["adv/abs_mean"]) == (2, 4, 0)
    assert "seq_ratio/mean" in log
    assert all(
        torch.equal(a, b.detach()) for a, b in zip(before, trainer.model.parameters(), strict=True)
    )


def test_rows_of_one_id_are_one_group_whatever_their_place(letters, tmp_path):
    data = letters_data().map(lambda row: {"visit": "all the same"})
    trainer = GSPOTrainer(
        model=str(letters),
        reward_funcs=[untied, lambda completions, **_: [None] * len(completions)],
        args=settings(tmp_path, max_steps=1, reward_weights=[2.0, 1.0]),
        train_dataset=data,
        by="visit",
    )
    outputs = []
    inner = trainer._generate_and_score_completions
    trainer._generate_and_score_completions = lambda i: outputs.append(inner(i)) or outputs[-1]
    trainer.train()
    log = next(entry for entry in trainer.state.log_history if "group/count" in entry)
    assert (log["group/count"], log["group/size_max"]) == (1, 8)
    rewards = untied(None, [row[m.bool()].tolist() for row, m in _completions(outputs[0])])
    expected = gs.advantage(rewards, ["all the same"] * 8)
    np.testing.assert_allclose(outputs[0]["advantages"].numpy(), expected, atol=1e-6)
    assert list(trainer._logs["advantages"]) == pytest.approx(expected, abs=1e-6)


def _completions(output):
    return zip(output["completion_ids"], output["completion_mask"], strict=True)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"loss_type": "dapo"}, "loss_type is 'dapo'"),
        ({"importance_sampling_level": "token"}, "importance_sampling_level is 'token'"),
        ({"top_entropy_quantile": 0.2}, "top_entropy_quantile is 0.2"),
    ],
)
def test_an_option_of_trl_that_the_paper_does_not_have_is_refused(
    letters, tmp_path, changes, named
):
    with pytest.raises(ValueError, match=named):
        GSPOTrainer(
            model=str(letters),
            reward_funcs=untied,
            args=settings(tmp_path, **changes),
            train_dataset=letters_data(),
        )


@pytest.mark.parametrize(("by", "named"), [("visit", "visit"), (None, "a prompt")])
def test_what_cannot_name_a_group_is_refused_by_its_column(by, named):
    day = datetime.date(2026, 1, 1)
    with pytest.raises(ValueError, match=f"^{named} does not name a group.*numbers or texts"):
        GSPOMixin._group_id(SimpleNamespace(_by=by), {"visit": day}, day)


@pytest.mark.parametrize("found", ["1.12.0", "1.17.0", "2.0", "0.29.1", "unknown"])
def test_an_unknown_trl_is_refused_by_name(found):
    with pytest.raises(ImportError, match=rf"does not know trl {found}.*trl>=1.13,<1.17"):
        check_version(found)
    check_version(version("trl"))


def train_stories(stories, folder, **changes):
    # Few prompts, all of them in every step: rewards of other prompts would not compare.
    rows = [json.loads(line) for line in (EXAMPLES / "stories_prompts.jsonl").open()][:8]
    arguments = settings(
        folder,
        per_device_train_batch_size=64,
        num_generations=8,
        max_completion_length=32,
        lr_scheduler_type="constant",
        **{"learning_rate": 2e-3, **changes},
    )
    trainer = GSPOTrainer(
        model=str(stories),
        reward_funcs=load_reward(f"{EXAMPLES}/stories_reward.py:story"),
        args=arguments,
        train_dataset=datasets.Dataset.from_list(rows),
        estimator="percentile",
    )
    trainer.train()
    return [entry["reward"] for entry in trainer.state.log_history if "reward" in entry]


@pytest.mark.slow
def test_a_story_model_earns_more_by_percentile(stories, tmp_path):
    rewards = train_stories(stories, tmp_path, max_steps=8)
    assert np.mean(rewards[-2:]) > np.mean(rewards[:2]) + 0.05


@pytest.mark.soak
def test_a_story_model_earns_more_by_percentile_and_sequence_ratio(stories, tmp_path):
    # Two optimizer steps on each batch of rollouts: the second is off policy, and clips.
    rewards = train_stories(stories, tmp_path, max_steps=20, num_iterations=2, learning_rate=1e-3)
    assert np.mean(rewards[-3:]) > rewards[0] + 0.1


@pytest.mark.slow
def test_a_group_that_lies_in_two_processes_is_compared_whole(letters, tmp_path):
    ended = accelerate_launch(2, "-m", "fixtures.trl_ranks", letters, tmp_path)
    assert not ended.returncode, ended.stderr[-4000:]
    ranks = [
        [json.loads(line) for line in (tmp_path / f"{rank}.jsonl").read_text().splitlines()]
        for rank in range(2)
    ]
    assert len(ranks[0]) == len(ranks[1]) == 2
    for first, second in zip(*ranks, strict=True):
        assert set(first["own"]) & set(second["own"])
        assert first["rewards"] == second["rewards"]
        assert first["ids"] == second["ids"]
        expected = gs.advantage(np.array(first["rewards"]), first["ids"], "percentile")
        assert np.abs(expected).max() > 0
        np.testing.assert_allclose(first["advantages"] + second["advantages"], expected, atol=1e-6)
