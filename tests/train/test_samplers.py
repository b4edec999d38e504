"""Samplers of a run: the default draws as before, one of the user's is asked, and is closed."""

import numpy as np
import polars as pl
import pytest
from safetensors.torch import load_file

from fixtures.runs import share_of_a, weights
from gspo_rs.samplers import SamplerError
from gspo_rs.train import train
from gspo_rs.train.config.config import Config, ConfigError, resolve
from gspo_rs.train.config.toml import placed
from gspo_rs.train.rollout.function import RolloutError
from gspo_rs.train.rollout.policy_sampler import PolicySampler

pytestmark = pytest.mark.usefixtures("one_thread")

# Of the commit before samplers could be chosen: what two steps sampled, and weights after them.
BEFORE = [
    [" b f", "   ? ? d ?", " c e   f c", "", " g g a f a", "   e ? h c", "", " f c a"],
    [" f c e g h", " e f a a a", "", " b g b g e", " a a", " e ? b g f", " h a f c e", " f a a"],
]
SUMS = {"lm_head.weight": -7.714897812809795, "model.norm.weight": 16.07781744003296}


@pytest.fixture
def fields(letters, tmp_path):
    def make(name, **more):
        return {
            "model": str(letters),
            "prompts": [{"prompt": text} for text in ("ab", "bc", "cd")],
            "reward": share_of_a,
            "output_dir": str(tmp_path / name),
            "max_completion_length": 5,
            "num_generations": 4,
            "prompts_per_step": 2,
            "steps_per_generation": 1,
            "max_steps": 2,
            "learning_rate": 1e-2,
            "eval_size": 0,
            "seed": 3,
            "quiet": True,
            **more,
        }

    return make


class Plain:
    """Samples as the default does, and keeps what it is asked."""

    def __init__(self, config, change=lambda found: found):
        self.config, self.change = config, change
        self.asked, self.versions, self.closed = [], [], 0

    def sample(self, prompts, *, places, seed):
        self.asked.append((prompts.texts, places.tolist(), seed))
        sampler = PolicySampler(self.policy, self.config, seed, numbers=places.tolist())
        return self.change(sampler.generate(prompts.texts))

    def refresh(self, policy, version):
        self.policy = policy
        self.versions.append(version)

    def close(self):
        self.closed += 1


FACTORY = """
from gspo_rs.train.rollout.policy_sampler import PolicySampler

class Mine:
    def __init__(self, config):
        self.config = config
    def sample(self, prompts, *, places, seed):
        sampler = PolicySampler(self.policy, self.config, seed, numbers=places.tolist())
        return sampler.generate(prompts.texts)
    def refresh(self, policy, version):
        self.policy = policy
    def close(self):
        pass
"""


def plain(fields, **more):
    names = {**fields("unused"), **more, "prompts": "p", "reward": "r"}
    names.pop("quiet")
    return Plain(resolve(Config(**names)))


def test_the_default_sampler_draws_what_it_drew_before_another_could_be_chosen(fields, tmp_path):
    train(**fields("run", log_completions=True))
    files = sorted((tmp_path / "run/completions").glob("*.parquet"))
    assert [pl.read_parquet(file)["completion"].to_list() for file in files] == BEFORE
    found = load_file(tmp_path / "run/final/model.safetensors")
    for name, expected in SUMS.items():
        assert found[name].double().sum().item() == pytest.approx(expected, abs=1e-5)


def test_a_sampler_in_memory_trains_what_the_policy_samples_by_itself(fields, tmp_path):
    mine = plain(fields)
    train(**fields("mine", eval_size=1, eval_steps=1), sampler=mine)
    train(**fields("default", eval_size=1, eval_steps=1))
    assert weights(tmp_path / "mine/final") == weights(tmp_path / "default/final")
    # The comparison before the run, a batch, a comparison, a batch, the last comparison.
    assert mine.versions == [0, 0, 1, 1, 2]
    assert mine.closed == 1
    texts, places, seeds = zip(*mine.asked, strict=True)
    assert [len(some) for some in texts] == [1, 2, 1, 2, 1]
    # A prompt that is met again in a later epoch has another place.
    assert len({*places[1], *places[3]}) == 4
    assert seeds[1] == seeds[3]


def test_a_factory_in_a_file_makes_the_sampler_and_its_path_is_that_of_the_run_file(
    fields, tmp_path
):
    (tmp_path / "mine.py").write_text(FACTORY)
    train(**fields("mine", sampler=f"{tmp_path}/mine.py:Mine"))
    train(**fields("default"))
    assert weights(tmp_path / "mine/final") == weights(tmp_path / "default/final")
    config = Config(model="m", prompts="p", reward="r.py:f", sampler="mine.py:Mine")
    assert placed(config, tmp_path).sampler == f"{tmp_path}/mine.py:Mine"


def test_a_sampler_is_closed_where_the_run_fails(fields):
    mine = plain(fields)

    def broken(completions, **_):
        raise ValueError("no reward today")

    with pytest.raises(ValueError, match="no reward today"):
        train(**fields("run", reward=broken), sampler=mine)
    assert mine.closed == 1


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda found: found.completions, "sampler Plain answered a list, not gspo_rs.rollouts.Ro"),
        (lambda found: found.select([0]), None),
        (
            lambda found: found.__class__(**{**vars_of(found), "sampler_logprobs": None}),
            "sampler Plain answered rollouts without sampler_logprobs",
        ),
    ],
)
def test_what_a_sampler_returns_is_checked(fields, change, problem):
    mine = plain(fields)
    mine.change = change
    if problem is None:  # a prompt without completions is left out and counted
        result = train(**fields("run", max_steps=1), sampler=mine)
        assert result.metrics["dropped_prompts"] == 1
        return
    with pytest.raises(RolloutError, match=problem):
        train(**fields("run"), sampler=mine)


def vars_of(rollouts):
    return {name: getattr(rollouts, name) for name in rollouts.__dataclass_fields__}


def test_what_a_sampler_counts_is_logged_with_its_batch(fields, tmp_path):
    mine = plain(fields)
    mine.take_metrics = lambda: {"sampler/failed": [2.0]}
    assert train(**fields("run"), sampler=mine).metrics["sampler/failed"] == 2


def test_a_sampler_may_give_the_rewards_itself(fields):
    mine = plain(fields)

    def rewarded(found):
        parts = {**vars_of(found), "reward": np.array(share_of_a(found.completions))}
        return found.__class__(**parts)

    mine.change = rewarded
    given = fields("run")
    given.pop("reward")
    assert train(**given, sampler=mine).metrics["reward/mean"] > 0


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"sampler": "openai:http://localhost:1"}, "cannot be given the weights of the policy"),
        ({"sampler": "vllm:localhost:8000"}, r"'localhost:8000' is no address; write vllm:http"),
        (
            {"sampler": "vlm"},
            "expected transformers, transformers-continuous, vllm:http://host:port",
        ),
        ({"prompts": None, "reward": None, "rollouts": "r"}, "draws for `prompts`; offline"),
    ],
)
def test_a_sampler_that_cannot_serve_a_run_is_refused_before_anything_is_read(changes, problem):
    given = {"model": "m", "prompts": "p", "reward": "r", "sampler": "mine.py:Mine"}
    with pytest.raises(ConfigError, match=problem):
        resolve(Config(**{**given, **changes}))


def test_what_is_no_sampler_is_named_with_what_it_lacks(fields):
    with pytest.raises(SamplerError, match="sampler object is a object without sample, refresh, "):
        train(**fields("run"), sampler=object())


def test_a_sampler_of_the_users_does_not_take_a_rollout_function(fields):
    with pytest.raises(ConfigError, match="let the sampler call the function, and leave rollout"):
        train(**fields("run"), sampler=plain(fields), rollout=lambda sampler, prompts: None)
