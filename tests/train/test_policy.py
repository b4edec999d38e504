"""Loading a policy: what cannot be trained is named before anything is sampled."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BertConfig,
    BertModel,
    MambaConfig,
    MambaForCausalLM,
)

from fixtures.runs import configured
from gspo_rs.train.inputs import Inputs
from gspo_rs.train.model import policy as policies
from gspo_rs.train.model.device import device_of
from gspo_rs.train.model.policy import PolicyError, freeze, load


def test_a_model_is_loaded_in_float32_without_dropout_and_trained_whole(letters):
    policy = load(configured(letters))
    assert not policy.model.training
    assert {p.dtype for p in policy.trainable().values()} == {torch.float32}
    assert len(policy.trainable()) == len(list(policy.model.parameters()))
    assert policy.context == 64


def test_bfloat16_is_chosen_only_where_a_gpu_multiplies_it(letters, monkeypatch):
    for native in (True, False):
        monkeypatch.setattr(
            torch.cuda,
            "is_bf16_supported",
            lambda including_emulation=True, native=native: native or including_emulation,
        )
        found = policies._autocast(configured(letters), torch.device("cuda"))
        assert found == (torch.bfloat16 if native else None)


def test_a_policy_takes_as_many_logits_at_once_as_its_configuration_says(letters):
    assert load(configured(letters, logits_chunk_size=7)).chunk_size == 7
    assert load(configured(letters)).chunk_size is None


def test_a_folder_that_is_not_a_model_is_named(tmp_path):
    with pytest.raises(PolicyError, match="nowhere"):
        load(configured(tmp_path / "nowhere"))


def test_a_model_without_a_causal_head_is_named(letters, tmp_path):
    folder = tmp_path / "bert"
    shape = {"num_hidden_layers": 1, "hidden_size": 8, "num_attention_heads": 1}
    BertModel(BertConfig(vocab_size=16, intermediate_size=8, **shape)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(letters).save_pretrained(folder)
    with pytest.raises(PolicyError, match=r"has no weights for .*is it a causal LM"):
        load(configured(folder))


def test_a_model_whose_head_has_no_weights_is_named(copied):
    weights = load_file(copied / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, copied / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(PolicyError, match=r"no weights for lm_head\.weight"):
        load(configured(copied))


def test_a_model_that_needs_code_of_its_own_is_named(copied):
    settings = json.loads((copied / "config.json").read_text())
    settings["model_type"] = "own"
    settings["auto_map"] = {
        "AutoConfig": "own.OwnConfig",
        "AutoModelForCausalLM": "own.OwnModel",
    }
    (copied / "config.json").write_text(json.dumps(settings))
    (copied / "own.py").write_text("raise SystemExit('this code must not run')")
    with pytest.raises(PolicyError, match="needs code from its repository"):
        load(configured(copied))


def test_a_tokenizer_with_more_tokens_than_the_model_is_named(copied):
    tokenizer = AutoTokenizer.from_pretrained(copied)
    tokenizer.add_tokens(["<new>"])
    tokenizer.save_pretrained(copied)
    with pytest.raises(PolicyError, match="knows 11 tokens, its tokenizer 12"):
        load(configured(copied))


def test_a_model_that_sees_later_tokens_is_refused(letters, tmp_path):
    from transformers import BertLMHeadModel

    folder = tmp_path / "bert"
    shape = {"num_hidden_layers": 1, "hidden_size": 8, "num_attention_heads": 1}
    settings = BertConfig(vocab_size=16, intermediate_size=8, is_decoder=False, **shape)
    BertLMHeadModel(settings).save_pretrained(folder)
    AutoTokenizer.from_pretrained(letters).save_pretrained(folder)
    with pytest.raises(PolicyError, match="is not causal"):
        load(configured(folder))


def test_a_model_that_needs_more_than_tokens_is_refused_with_what_it_says(letters):
    model = AutoModelForCausalLM.from_pretrained(letters)

    def forward(input_ids, image_embeddings=None, **_):
        return input_ids + image_embeddings.shape[0]

    model.forward = forward
    inputs = Inputs(model=model, tokenizer=AutoTokenizer.from_pretrained(letters))
    reason = "its LlamaForCausalLM does not read a row of tokens, .*AttributeError: 'NoneType'"
    with pytest.raises(PolicyError, match=reason):
        load(configured(letters), inputs=inputs)


def test_a_configuration_that_writes_minus_one_for_no_limit_has_none(letters):
    model = AutoModelForCausalLM.from_pretrained(letters)
    model.config.max_position_embeddings = -1
    inputs = Inputs(model=model, tokenizer=AutoTokenizer.from_pretrained(letters))
    assert load(configured(letters), inputs=inputs).context is None


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_a_device_that_is_not_there_is_named(letters, device):
    if device.startswith("cuda") and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(PolicyError, match=device):
        load(configured(letters, device=device))


def test_packing_is_refused_where_sequences_would_see_one_another(letters, tmp_path):
    # A recurrent model carries its state from one sequence of a row into the next.
    folder = tmp_path / "mamba"
    shape = {"hidden_size": 8, "state_size": 4, "num_hidden_layers": 1}
    settings = MambaConfig(vocab_size=11, tie_word_embeddings=False, **shape)
    MambaForCausalLM(settings).save_pretrained(folder)
    AutoTokenizer.from_pretrained(letters).save_pretrained(folder)
    with pytest.raises(PolicyError, match="lets packed sequences see one another"):
        load(configured(folder, layout="packed"))
    assert load(configured(folder)).shape == "padded"
    assert load(configured(letters, layout="packed")).shape == "packed"


def test_a_frozen_copy_takes_no_gradient_and_adapters_need_none(letters):
    frozen = freeze(configured(letters))
    assert frozen.trainable() == {}
    assert freeze(configured(letters, lora_r=2)) is None


def test_lora_trains_only_its_adapters(letters):
    policy = load(configured(letters, lora_r=2, lora_target_modules=("q_proj",)))
    assert policy.trainable()
    assert all("q_proj.lora_" in name for name in policy.trainable())


@pytest.fixture
def four_gpus(monkeypatch):
    """A machine of four GPUs, of which no more is asked; returns which was made the current one."""
    chosen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    return chosen


@pytest.mark.parametrize("name", ["cuda", "auto"])
def test_each_of_several_processes_has_the_gpu_of_its_number(four_gpus, monkeypatch, name):
    monkeypatch.setenv("WORLD_SIZE", "8")
    for rank in range(4):
        monkeypatch.setenv("LOCAL_RANK", str(rank))
        assert device_of(name) == torch.device("cuda", rank)
    assert four_gpus == [torch.device("cuda", rank) for rank in range(4)]
    monkeypatch.setenv("LOCAL_RANK", "4")
    with pytest.raises(PolicyError, match=r"process 4 of this machine, .* finds 4 CUDA devices"):
        device_of(name)
    with pytest.raises(PolicyError, match=r"device 'cuda:1': all processes would have the one GPU"):
        device_of("cuda:1")


def test_one_process_has_the_current_gpu_or_the_one_it_names(four_gpus, monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert device_of("cuda") == torch.device("cuda")
    assert not four_gpus
    assert device_of("cuda:2") == torch.device("cuda", 2)
    assert four_gpus == [torch.device("cuda", 2)]


def test_a_gpu_that_is_not_there_is_named(four_gpus):
    with pytest.raises(PolicyError, match=r"'cuda:4': torch finds 4, the last is cuda:3"):
        device_of("cuda:4")
    assert not four_gpus
