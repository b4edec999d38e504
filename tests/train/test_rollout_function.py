"""Rollout functions: what they are given, what is learned from what they return."""

import re
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from fixtures.runs import share_of_a, weights
from gspo_rs.data.prompt_table import Prompts
from gspo_rs.rollouts import Ragged
from gspo_rs.train import metrics, plan, train
from gspo_rs.train.config.config import Config, ConfigError, resolve
from gspo_rs.train.config.toml import placed
from gspo_rs.train.evaluate import rewards_of
from gspo_rs.train.model import policy as policies
from gspo_rs.train.model.policy import PolicyError
from gspo_rs.train.rollout.collect import sample
from gspo_rs.train.rollout.function import RolloutError
from gspo_rs.train.rollout.policy_sampler import PolicySampler
from gspo_rs.train.rollout.samplers import sampling_of
from gspo_rs.train.rollout.tokenize import LengthError

pytestmark = pytest.mark.usefixtures("one_thread")

PROMPTS = [{"prompt": text, "wanted": text[0]} for text in ("ab", "bc", "cd")]


def at_once(sampler, prompts, **_):
    """What a run does without a function."""
    return sampler.generate(prompts)


def in_two_turns(sampler, prompts, wanted, **_):
    """Go on after a tool has written the wanted letter; the reward is its own."""
    first = sampler.generate(prompts, max_completion_length=2)
    size, tokenizer = sampler.num_generations, sampler.tokenizer
    told = [tokenizer(letter)["input_ids"] for letter in wanted for _ in range(size)]
    rows = range(first.n_rollouts)
    begun = [[*first.completion_tokens.row(row).tolist(), *told[row]] for row in rows]
    so_far = [[*first.prompt_tokens.row(row).tolist(), *begun[row]] for row in rows]
    then = sampler.generate(so_far, num_generations=1, max_completion_length=3)
    mask, logprobs, tokens = [], [], []
    for row in rows:
        a, b = first.sampler_logprobs.row(row), then.sampler_logprobs.row(row)
        mask.append([True] * len(a) + [False] + [True] * len(b))
        logprobs.append([*a, np.nan, *b])
        tokens.append([*begun[row], *then.completion_tokens.row(row).tolist()])
    return replace(
        first,
        completion_tokens=Ragged.from_rows(tokens, np.int64),
        completion_mask=Ragged.from_rows(mask, np.bool_),
        sampler_logprobs=Ragged.from_rows(logprobs, np.float32),
        reward=np.array(share_of_a(then.completions)),
    )


@pytest.fixture
def fields(letters, tmp_path):
    def make(name, **more):
        return {
            "model": str(letters),
            "prompts": PROMPTS,
            "output_dir": str(tmp_path / name),
            "max_completion_length": 5,
            "num_generations": 4,
            "prompts_per_step": 3,
            "steps_per_generation": 1,
            "max_steps": 3,
            "learning_rate": 1e-2,
            "eval_size": 2,
            "quiet": True,
            **more,
        }

    return make


@pytest.fixture
def sampled(letters):
    def sampled(rollout, columns=None, rewards=None, **more):
        more = {"max_completion_length": 5, "num_generations": 4, **more}
        config = resolve(Config(model=str(letters), prompts="p", reward="r", **more))
        columns = {"wanted": ["a", "b", "c"]} if columns is None else columns
        prompts = Prompts(["ab", "bc", "cd"], columns)
        policy = policies.load(config)
        sampler = sampling_of(policy, config, rollout)
        return sample(policy, prompts, rewards or {}, config, seed=1, sampler=sampler)

    return sampled


def test_a_function_that_samples_once_trains_what_a_run_without_one_does(fields, tmp_path):
    train(**fields("with"), rollout=at_once, reward=share_of_a)
    train(**fields("without"), reward=share_of_a)
    assert weights(tmp_path / "with/final") == weights(tmp_path / "without/final")


def test_several_turns_train_on_what_was_sampled_in_each(fields, tmp_path):
    seen = []

    def recorded(sampler, prompts, **columns):
        seen.append(in_two_turns(sampler, prompts, **columns))
        return seen[-1]

    train(**fields("run", eval_size=0), rollout=recorded)
    for step, found in zip(metrics.read(tmp_path / "run/metrics.jsonl"), seen, strict=True):
        assert step["reward/mean"] == pytest.approx(found.reward.mean())
        assert step["length/mean"] == found.sampled_lengths.mean()
        assert step["length/mean"] == found.completion_tokens.lengths.mean() - 1
        assert step["skipped"] == 0


def test_the_completions_of_tokens_are_those_of_the_text_which_they_spell(letters):
    config = resolve(Config(model=str(letters), prompts="p", reward="r", max_completion_length=5))
    policy = policies.load(config)
    texts = ["ab", "cde"]
    said = PolicySampler(policy, config, seed=5).generate(texts)
    tokens = policy.tokenizer(texts)["input_ids"]
    found = PolicySampler(policy, config, seed=5).generate(tokens)
    assert found.completions == said.completions
    assert found.prompts == [policy.tokenizer.decode(row) for row in tokens for _ in range(8)]
    assert_array_equal(found.completion_tokens.values, said.completion_tokens.values)
    assert_array_equal(found.sampler_logprobs.values, said.sampler_logprobs.values)
    assert PolicySampler(policy, config, seed=5).generate([]).n_rollouts == 0


def test_stop_strings_are_those_of_the_run_until_a_call_has_its_own(letters):
    fields = {"model": str(letters), "prompts": "p", "reward": "r", "max_completion_length": 12}
    policy = policies.load(resolve(Config(**fields)))

    def completions(config, **options):
        sampler = PolicySampler(policy, config, seed=5)
        found = sampler.generate(["ab"], num_generations=20, **options)
        assert found.truncated.any()
        return found.completions

    whole = completions(resolve(Config(**fields)))
    stopping = resolve(Config(**fields, stop=("c", "ab")))
    expected = [re.match(".*?(c|ab)|.*", text)[0] for text in whole]
    assert completions(stopping) == expected != whole
    assert completions(stopping, stop=()) == whole
    assert completions(stopping, stop="d") == [re.match(".*?d|.*", text)[0] for text in whole]


def test_each_call_of_a_sampler_draws_anew_and_the_same_again_from_its_seed(letters):
    config = resolve(Config(model=str(letters), prompts="p", reward="r", max_completion_length=5))
    policy = policies.load(config)
    once, again = (PolicySampler(policy, config, seed=5) for _ in range(2))
    first, second = (once.generate(["ab"]).completions for _ in range(2))
    assert first != second
    assert [first, second] == [again.generate(["ab"]).completions for _ in range(2)]


def test_what_a_turn_draws_follows_from_the_prompt_and_not_from_those_beside_it(letters):
    config = resolve(Config(model=str(letters), prompts="p", reward="r", max_completion_length=5))
    policy = policies.load(config)
    policy.model.double()

    def two_turns(texts, numbers):
        sampler = PolicySampler(policy, config, seed=5, numbers=numbers)
        first = sampler.generate(texts, num_generations=3)
        so_far = [
            [*first.prompt_tokens.row(row).tolist(), *first.completion_tokens.row(row).tolist()]
            for row in range(first.n_rollouts)
        ]
        then = sampler.generate(so_far, num_generations=1)
        rest = sampler.generate(so_far[:2] * 2 + so_far[:1], num_generations=1)
        turns = zip(first.completions, then.completions, strict=True)
        return dict(zip(numbers, np.array(list(turns)).reshape(-1, 6).tolist(), strict=True)), rest

    one, rest = two_turns(["ab", "cde", "f"], [4, 2, 9])
    assert two_turns(["f", "ab", "cde"], [9, 4, 2])[0] == one
    # Of some of the rows, each call of each batch draws anew.
    assert two_turns(["ab", "cde", "f"], [5, 2, 9])[1].completions != rest.completions
    assert len(set(rest.completions)) > 2


def test_the_groups_of_a_function_may_come_in_any_order_and_of_any_size(sampled):
    def backwards(sampler, prompts, **_):
        return sampler.generate(prompts).select([2, 0])

    def wanted_first(completions, wanted, **_):
        return [float(ord(letter)) for _, letter in zip(completions, wanted, strict=True)]

    batch = sampled(backwards, rewards={"wanted_first": wanted_first})
    assert batch.rollouts.group_ids == [0, 2]
    assert batch.rollouts.prompts == ["ab"] * 4 + ["cd"] * 4
    assert batch.rollouts.reward.tolist() == [ord("a")] * 4 + [ord("c")] * 4
    assert batch.dropped == 1


def test_comparisons_take_groups_of_any_size(letters):
    config = resolve(Config(model=str(letters), prompts="p", rollout="r", max_completion_length=5))

    def some(sampler, prompts, **_):
        found = sampler.generate(prompts[1:], num_generations=3)
        return replace(found, group_ids=[1], reward=np.array([1.0, 2.0, 3.0]))

    prompts = Prompts(["ab", "bc"], {})
    policy = policies.load(config)
    sampler = sampling_of(policy, config, some)
    found, _ = rewards_of(policy, prompts, {}, config, draw=0, sampler=sampler)
    assert found.shape == (2, 8)
    assert found[1, :3].tolist() == [1, 2, 3]
    assert np.isnan(found[0]).all()
    assert np.isnan(found[1, 3:]).all()


def without(field):
    return lambda sampler, prompts, **_: replace(sampler.generate(prompts), **{field: None})


def with_ids(*ids):
    return lambda sampler, prompts, **_: replace(sampler.generate(prompts), group_ids=list(ids))


def not_finite(sampler, prompts, **_):
    found = sampler.generate(prompts)
    found.sampler_logprobs.values[0] = np.nan
    return found


def two_of_three(sampler, prompts, **_):
    return replace(sampler.generate(prompts[:2]), group_ids=None)


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (lambda **_: ["ab"], "rollout function <lambda> answered a list, not gspo_rs.rollouts.Rol"),
        (without("sampler_logprobs"), "answered rollouts without sampler_logprobs; give what"),
        (with_ids(0, 1, 3), r"answered group_ids\[2\] = 3; .* 0 to 2"),
        (with_ids(0, 1, "b"), r"answered group_ids\[2\] = 'b'; "),
        (with_ids(0, 1, 0), "answered two groups of prompt 0, 0 and 2"),
        (two_of_three, "answered 2 groups for 3 prompts"),
        (not_finite, "sampler_logprobs that are not finite .* row 0 of the batch, group 0; mask"),
    ],
)
def test_what_is_not_rollouts_of_the_prompts_is_refused(sampled, function, problem):
    with pytest.raises(RolloutError, match=problem):
        sampled(function)


def test_a_column_with_the_name_of_an_argument_is_named(sampled):
    with pytest.raises(RolloutError, match=r"column .sampler. of the prompts cannot go to a rol"):
        sampled(at_once, columns={"sampler": ["a", "b", "c"]})


def test_tokens_that_the_model_does_not_have_are_refused(sampled):
    def foreign(sampler, prompts, **_):
        found = sampler.generate(prompts)
        found.completion_tokens.values[0] = 99
        return found

    with pytest.raises(ValueError, match="completion_tokens holds 99"):
        sampled(foreign)


@pytest.mark.parametrize("on_long", ["error", "drop"])
def test_rollouts_beyond_the_context_are_refused_or_dropped(sampled, on_long):
    def longer(sampler, prompts, **_):
        found = sampler.generate(prompts)
        tokens = [[*found.completion_tokens.row(row), *[2] * 70 * (row == 5)] for row in range(12)]
        mask = [np.arange(len(row)) < 1 for row in tokens]
        return replace(
            found,
            completion_tokens=Ragged.from_rows(tokens, np.int64),
            completion_mask=Ragged.from_rows(mask, np.bool_),
            sampler_logprobs=Ragged.from_rows([np.zeros(len(row)) for row in tokens], np.float32),
        )

    if on_long == "error":
        with pytest.raises(LengthError, match="row 5 of the batch, group 1: prompt and completion"):
            sampled(longer)
    else:
        assert np.flatnonzero(sampled(longer, on_long="drop").too_long).tolist() == [5]


def test_log_probabilities_of_another_policy_stop_the_run(fields):
    def other(sampler, prompts, wanted, **_):
        found = in_two_turns(sampler, prompts, wanted)
        logprobs = Ragged(found.sampler_logprobs.values - 0.5, found.sampler_logprobs.lengths)
        return replace(found, sampler_logprobs=logprobs)

    with pytest.raises(PolicyError, match=r"sampler and its training pass disagree, by 0\.5 nats"):
        train(**fields("run", eval_size=0), rollout=other)


CODE = """
def play(sampler, prompts, **_):
    return sampler.generate(prompts)
"""


def test_a_function_in_a_file_is_found_by_its_name_and_rehearsed(fields, tmp_path):
    (tmp_path / "game.py").write_text(CODE)
    given = fields("run", rollout=f"{tmp_path}/game.py:play", reward=share_of_a)
    given.pop("quiet")
    assert plan(**given).sampled == 3
    train(**given)
    config = Config(model="m", prompts="p", rollout="game.py:play")
    assert placed(config, tmp_path).rollout == f"{tmp_path}/game.py:play"


def test_a_run_offline_has_no_rollout_function():
    with pytest.raises(ConfigError, match="rollout is a function that samples for `prompts`"):
        resolve(Config(model="m", rollouts="r", rollout="game.py:play"))


def test_a_function_in_memory_is_to_be_given_again(fields):
    train(**fields("run", max_steps=1), rollout=at_once, reward=share_of_a)
    with pytest.raises(
        ConfigError, match=r"rollout = None, but .* was trained with .memory://function."
    ):
        train(**fields("run", max_steps=2), reward=share_of_a, resume=True)
    train(**fields("run", max_steps=2), rollout=at_once, reward=share_of_a, resume=True)
