"""Weights in half the bytes: sampled from as transformers loads them, and given back to the bit."""

import copy
import dataclasses

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from gspo_rs.train.config.config import Config, resolve
from gspo_rs.train.inputs import NOTHING, Inputs
from gspo_rs.train.memory import cache_bytes, measured
from gspo_rs.train.model import policy as policies
from gspo_rs.train.model.narrow import freeze_narrow, narrow_bytes, narrowed

pytestmark = pytest.mark.usefixtures("one_thread")

IDS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])
GPU = torch.device("cuda")


@pytest.fixture(params=[False, True], ids=["apart", "tied"])
def model(request):
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2}
    shape |= {"num_key_value_heads": 1, "num_hidden_layers": 2, "vocab_size": 40}
    return LlamaForCausalLM(LlamaConfig(**shape, tie_word_embeddings=request.param)).eval()


def on_a_gpu(letters):
    """A policy that takes itself to be on a GPU, its model on the CPU."""
    policy = policies.load(resolve(Config(model=str(letters), prompts="p", reward="r:f")))
    return dataclasses.replace(policy, device=GPU, autocast=torch.bfloat16)


def test_narrowed_weights_compute_what_those_do_that_transformers_loads_narrow(model, tmp_path):
    model.save_pretrained(tmp_path)
    expected = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16)(IDS)
    with torch.inference_mode(), narrowed(model, torch.bfloat16):
        found = model(IDS)
    assert found.logits.dtype == torch.bfloat16
    assert torch.equal(found.logits, expected.logits)


def test_narrowed_weights_come_back_to_the_bit_also_after_an_error(model):
    before = copy.deepcopy(model.state_dict())
    places = [part.data_ptr() for part in model.parameters()]

    def sample():
        assert {part.dtype for part in model.parameters()} == {torch.bfloat16}
        head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
        same = head.weight.data_ptr() == embedding.weight.data_ptr()
        assert same == model.config.tie_word_embeddings
        assert narrow_bytes(model) == 0
        raise KeyError("stopped")

    with pytest.raises(KeyError, match="stopped"), narrowed(model, torch.bfloat16):
        sample()
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())
    assert [part.data_ptr() for part in model.parameters()] == places
    assert narrow_bytes(model) == sum(2 * part.numel() for part in model.parameters())


def test_training_goes_on_from_weights_that_were_narrowed_in_between(model):
    other = copy.deepcopy(model)
    for one in (model, other):
        optimizer = torch.optim.AdamW(one.parameters(), lr=1e-3)
        for _ in range(2):
            one(IDS, labels=IDS).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            if one is model:
                with narrowed(model, torch.bfloat16):
                    pass
    assert all(map(torch.equal, model.state_dict().values(), other.state_dict().values()))


def test_on_a_gpu_keys_and_values_are_as_narrow_as_the_weights_that_sample(letters):
    policy = on_a_gpu(letters)
    plain = dataclasses.replace(policy, device=torch.device("cpu"), autocast=None)
    assert cache_bytes(plain, 3, 10) == 2 * cache_bytes(policy, 3, 10) > 0
    assert policy.sampling(lambda model: model.dtype) == torch.bfloat16
    assert plain.sampling(lambda model: model.dtype) == torch.float32
    assert policy.model.dtype == torch.float32


def test_the_copy_that_samples_is_counted_where_there_is_one(letters):
    policy = on_a_gpu(letters)
    config = resolve(Config(model=str(letters), prompts="p", reward="r:f"))
    given = {"reference": False, "cache": 100, "largest": None}
    found = measured(policy, config, **given)
    assert found.copy == found.gradients // 2
    assert found.total == found.weights + found.optimizer + max(found.copy + 100, found.gradients)
    plain = dataclasses.replace(policy, device=torch.device("cpu"))
    assert measured(plain, config, **given).copy == 0
    offline = resolve(Config(model=str(letters), rollouts="r.parquet"))
    assert measured(policy, offline, **given).copy == 0


def adapted(model):
    torch.manual_seed(1)
    lora = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
    found = get_peft_model(model, lora).eval()
    for name, part in found.named_parameters():
        if "lora_B" in name:  # which begin as 0
            torch.nn.init.normal_(part, std=0.1)
    return found


def test_rounding_what_autocast_rounds_keeps_logits_and_gradients_to_the_bit(model):
    model = adapted(model)
    found = []
    for narrow in (False, True):
        if narrow:
            freeze_narrow(model, torch.bfloat16)
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            output = model(input_ids=IDS, labels=IDS)
        output.loss.backward()
        gradients = [p.grad.clone() for p in model.parameters() if p.requires_grad]
        found.append([output.logits.detach(), *gradients])
    assert all(map(torch.equal, *found))
    kinds = {name: part.dtype for name, part in model.named_parameters()}
    base = {name: kind for name, kind in kinds.items() if "base_layer" in name}
    assert set(base.values()) == {torch.bfloat16}
    tied = model.config.tie_word_embeddings
    others = {kind for name, kind in kinds.items() if name not in base and "lm_head" not in name}
    assert others == {torch.float32}
    assert tied or kinds["base_model.model.lm_head.weight"] == torch.bfloat16


def test_weights_that_are_trained_are_never_rounded(model):
    freeze_narrow(model, torch.bfloat16)
    assert {part.dtype for part in model.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("fields", "inputs", "device", "rounded"),
    [
        ({}, NOTHING, "cuda", True),
        ({}, NOTHING, "cpu", False),
        ({"use_dora": True}, NOTHING, "cuda", False),
        ({}, Inputs(model=object()), "cuda", False),
        ({"lora_merge": True}, NOTHING, "cuda", False),
    ],
)
def test_frozen_weights_are_rounded_on_a_gpu_unless_someone_needs_them(
    letters, fields, inputs, device, rounded
):
    config = resolve(Config(model=str(letters), prompts="p", reward="r:f", lora_r=2, **fields))
    assert policies.may_round_frozen(config, inputs, torch.device(device)) == rounded
