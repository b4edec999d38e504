"""What memory decides: as many tokens and rows as fit, and nothing that the user has said."""

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gspo_rs.data.prompt_table import Prompts
from gspo_rs.train import estimate, fit
from gspo_rs.train.config.config import Config, resolve
from gspo_rs.train.fit import Room, fitted, micro_batch, rows_within
from gspo_rs.train.memory import Memory, cache_bytes, expected_pass, measured
from gspo_rs.train.model import policy as policies
from gspo_rs.train.model.layers import recomputes
from gspo_rs.train.pass_memory import PassMemory, pass_memory
from gspo_rs.train.world import World

pytestmark = pytest.mark.usefixtures("one_thread")

GB = 1e9
OPEN = resolve(Config(model="m", prompts="p", reward="r:f"))
# Measured with hooks on saved tensors: Qwen2.5-1.5B below autocast.
LARGE = PassMemory(const=3.1 * GB, token=28 * 116e3, pair=0, layers=28, input=2 * 1536)
PROMPTS = Prompts(["ab", "bcdef", "cd"], {})

kept = st.builds(
    PassMemory,
    const=st.integers(0, 1000).map(float),
    token=st.integers(1, 1000).map(float),
    pair=st.sampled_from([0.0, 0.5, 3.0]),
    layers=st.integers(1, 40),
    input=st.integers(1, 64),
    recomputed=st.booleans(),
)


@given(kept, st.integers(0, 10**7), st.integers(1, 64))
def test_as_many_tokens_are_within_a_room_as_fit_and_no_more(kept, room, columns):
    rows = kept.tokens_within(room, columns) // columns
    assert rows == 0 or kept.of(rows, columns) <= room + 1
    assert kept.of(rows + 1, columns) > room - 1


def memory_of(parameters, *, trained, copy=True):
    """Memory of a run in float32 with AdamW, without what it learns from."""
    return Memory(
        weights=4 * parameters,
        reference=0,
        gradients=4 * trained,
        optimizer=8 * trained,
        cache=0,
        activations=0,
        logits=0,
        copy=2 * parameters if copy else 0,
    )


@pytest.mark.parametrize(
    ("gigabytes", "tokens", "recompute"),
    # 80 and 141 less the weights of 1.54 billion numbers; 16384 tokens took 54.5 GB before.
    [(73.8, 13_805, False), (134.8, 16_384, False), (34.0, 16_384, True), (26.0, 16_384, True)],
)
def test_a_model_of_one_and_a_half_billion_gets_what_a_gpu_has_room_for(
    gigabytes, tokens, recompute
):
    n = 1_540_000_000
    room = Room.of(int(gigabytes * GB), memory_of(n, trained=n))
    assert micro_batch(room.learning, LARGE, 2048, OPEN) == (tokens, recompute)
    chosen = LARGE.recomputing() if recompute else LARGE
    assert chosen.of(tokens // 2048, 2048) <= room.learning


def test_a_sequence_is_a_micro_batch_whether_it_fits_or_not():
    assert micro_batch(0, LARGE, 9000, OPEN) == (9000, True)


def test_what_the_user_has_said_stays():
    given = dataclasses.replace(OPEN, micro_batch_tokens=500, gradient_checkpointing=False)
    assert micro_batch(0, LARGE, 100, given) == (500, False)
    on = dataclasses.replace(OPEN, gradient_checkpointing=True)
    assert micro_batch(1000 * GB, LARGE, 100, on) == (16_384, True)
    # So few that they fit: nothing is computed twice for more.
    few = dataclasses.replace(OPEN, micro_batch_tokens=500)
    assert micro_batch(10 * GB, LARGE, 100, few) == (500, False)


def test_rows_at_once_are_all_or_as_many_as_fit_and_one_at_least():
    assert rows_within(60 * GB, 2048 * 28_700, 512) is None
    assert rows_within(60 * GB, 2048 * 57_400, 1024) == 510
    assert rows_within(-5, 100, 8) == 1


@pytest.fixture
def policy(letters):
    """A policy that takes itself to be on a GPU, its model on the CPU, in float32."""
    found = policies.load(dataclasses.replace(OPEN, model=str(letters)))
    return dataclasses.replace(found, device=torch.device("cuda"))


@pytest.fixture
def config(letters):
    fields = {"max_completion_length": 40, "prompts_per_step": 8, "num_generations": 8}
    return resolve(Config(model=str(letters), prompts="p", reward="r:f", **fields))


def on_cpu(policy):
    return dataclasses.replace(policy, device=torch.device("cpu"))


def total(policy, config):
    """What a run takes beside its weights, as the line says that it begins with."""
    columns = estimate.columns(policy, config, PROMPTS)
    rows = config.generation_batch or estimate.rows(config)
    found = measured(
        policy,
        config,
        reference=False,
        cache=cache_bytes(policy, rows, columns),
        largest=expected_pass(on_cpu(policy), config, columns - config.max_completion_length),
    )
    return found.total - found.weights


def test_with_much_memory_nothing_is_recomputed_and_all_rows_are_sampled_at_once(policy, config):
    found = fitted(policy, config, PROMPTS, free=int(100 * GB))
    assert (found.micro_batch_tokens, found.generation_batch) == (fit.MOST, None)
    assert not recomputes(policy.model)
    assert total(policy, found) <= 100 * GB


def test_with_little_memory_activations_are_recomputed_and_the_run_still_fits(policy, config):
    kept = pass_memory(policy)
    columns = estimate.columns(policy, config, PROMPTS)
    memory = measured(policy, config, reference=False, cache=0, largest=None)
    fixed = memory.optimizer + memory.gradients + fit.head_bytes(policy, fit.MOST)
    free = int((fixed + kept.of(3, columns)) / fit.USED)
    found = fitted(policy, config, PROMPTS, free=free)
    assert recomputes(policy.model)
    assert columns <= found.micro_batch_tokens < fit.MOST
    assert total(policy, found) <= free


def test_rows_at_once_are_fewer_where_their_keys_and_values_do_not_fit(policy, config):
    memory = measured(policy, config, reference=False, cache=0, largest=None)
    row = cache_bytes(policy, 1, estimate.columns(policy, config, PROMPTS))
    free = int((memory.optimizer + 5.5 * row) / fit.USED)
    found = fitted(policy, config, PROMPTS, free=free)
    assert found.generation_batch == 5
    said = dataclasses.replace(config, generation_batch=9)
    assert fitted(policy, said, PROMPTS, free=free).generation_batch == 9


def test_where_a_server_samples_no_room_is_kept_for_it_here(policy, config):
    narrow = dataclasses.replace(policy, autocast=torch.bfloat16)
    server = dataclasses.replace(config, sampler="vllm:http://localhost:8000")
    given = {"reference": False, "cache": 0, "largest": None}
    assert measured(narrow, config, **given).copy > 0 == measured(narrow, server, **given).copy
    assert fitted(policy, server, PROMPTS, free=10**4).generation_batch is None
    assert "sampling" in estimate.line(on_cpu(policy), config, PROMPTS, reference=False)
    assert "sampling" not in estimate.line(on_cpu(policy), server, PROMPTS, reference=False)


def test_a_run_on_a_cpu_decides_nothing_by_memory(letters, config):
    policy = policies.load(config)
    assert fit.free_bytes(policy.device) is None
    found, line = fit.begun(policy, config, PROMPTS, reference=False, shown=True)
    assert found is config
    assert line.startswith("memory: about ")
    assert "chosen" not in line
    assert fit.begun(policy, config, PROMPTS, reference=False, shown=False) == (config, "")


def test_a_run_on_a_gpu_says_what_was_chosen(policy, config, monkeypatch):
    monkeypatch.setattr(fit, "free_bytes", lambda _: int(100 * GB))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (int(90 * GB), int(100 * GB)))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 0)
    monkeypatch.setattr(estimate, "expected_pass", lambda *_: None)
    found, line = fit.begun(policy, config, PROMPTS, reference=False, shown=True)
    assert found.micro_batch_tokens == 16_384
    chosen = "micro_batch_tokens = 16384, gradient_checkpointing = false"
    assert line.endswith(f"; chosen: {chosen}")


@dataclasses.dataclass(frozen=True)
class Two(World):
    """Two processes, of which the other has so many bytes free."""

    size: int = 2
    free: int = 0

    def gathered(self, tensors):
        return [dict(tensors), {"free": torch.tensor(self.free)}]


def test_several_processes_decide_by_the_least_memory_and_by_a_part_of_the_weights(policy, config):
    n = sum(p.numel() for p in policy.model.parameters())
    layers = policy.model.model.layers
    layer = sum(p.numel() for p in layers[0].parameters())
    alone = measured(policy, config, reference=False, cache=0, largest=None)
    several = dataclasses.replace(policy, world=Two(free=10**12))
    part = measured(several, config, reference=False, cache=0, largest=None)
    for name in ("weights", "gradients", "optimizer"):
        assert getattr(part, name) == getattr(alone, name) // 2
    rest = n - layer * len(layers)
    assert (alone.gathered, part.gathered) == (0, 4 * (2 * layer + rest) + 4 * (layer + rest))
    assert (alone.copy, part.copy) == (0, 4 * n)
    # Half of the rows have room in a part of the memory: once both have it, and once only one.
    row = cache_bytes(policy, 1, estimate.columns(policy, config, PROMPTS))
    free = int((part.optimizer + part.copy + 5.5 * row) / fit.USED)
    assert fitted(several, config, PROMPTS, free=free).generation_batch == 5
    other = dataclasses.replace(policy, world=Two(free=free))
    assert fitted(other, config, PROMPTS, free=10**12).generation_batch == 5
    assert fitted(several, config, PROMPTS, free=10**12).generation_batch is None
