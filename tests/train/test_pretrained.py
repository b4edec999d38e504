"""Models that are not there, broken, or adapters: told in one line, or trained from there on."""

import shutil

import pytest
import torch
from huggingface_hub import HfApi, constants
from peft import LoraConfig, PeftModel, PromptTuningConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from fixtures.forked import finished
from fixtures.runs import configured
from gspo_rs.train.model import pretrained
from gspo_rs.train.model.policy import PolicyError, freeze, load, starting
from gspo_rs.train.model.pretrained import load_pretrained, refuse_absent, with_adapter


@pytest.fixture
def adapter(letters, tmp_path):
    """An adapter that has been trained: its weights are not zero."""
    torch.manual_seed(1)
    base = AutoModelForCausalLM.from_pretrained(letters)
    settings = LoraConfig(r=2, lora_alpha=6, target_modules=["q_proj"], task_type="CAUSAL_LM")
    model = get_peft_model(base, settings)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    model.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


TOKENS = torch.tensor([[2, 3, 4, 5, 6, 7]])


def logits(model):
    with torch.no_grad():
        return model(TOKENS).logits


def expected(letters, adapter):
    base = AutoModelForCausalLM.from_pretrained(letters)
    return logits(PeftModel.from_pretrained(base, adapter).eval())


def test_an_adapter_that_was_trained_is_trained_further_and_not_dropped(letters, adapter, tmp_path):
    policy = load(configured(adapter, lora_r=2, lora_alpha=6))
    torch.testing.assert_close(logits(policy.model), expected(letters, adapter))
    assert policy.trainable()
    assert all("lora_" in name for name in policy.trainable())
    with torch.no_grad():
        for parameter in policy.trainable().values():
            parameter += 0.1
    policy.save(tmp_path / "final")
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "final").eval()
    torch.testing.assert_close(logits(found), logits(policy.model))


def test_an_adapter_without_lora_r_is_merged_and_all_weights_are_trained(
    letters, adapter, tmp_path
):
    policy = load(configured(adapter))
    torch.testing.assert_close(logits(policy.model), expected(letters, adapter))
    assert len(policy.trainable()) == len(list(policy.model.parameters()))
    assert not [name for name in policy.trainable() if "lora" in name]
    policy.save(tmp_path / "final")
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "final").eval()
    torch.testing.assert_close(logits(found), logits(policy.model))


@pytest.mark.parametrize("fields", [{}, {"lora_r": 2, "lora_alpha": 6}])
def test_the_starting_policy_of_an_adapter_is_what_the_adapter_was(letters, adapter, fields):
    settings = configured(adapter, **fields)
    policy, frozen = load(settings), freeze(settings)
    with torch.no_grad():
        for parameter in policy.trainable().values():
            parameter += 0.1
    with starting(policy, settings, frozen) as start:
        torch.testing.assert_close(logits(start.model), expected(letters, adapter))
    assert not torch.allclose(logits(policy.model), expected(letters, adapter))


def test_a_resumed_adapter_is_that_of_the_checkpoint(letters, adapter, tmp_path):
    settings = configured(adapter, lora_r=2, lora_alpha=6)
    policy = load(settings)
    with torch.no_grad():
        for parameter in policy.trainable().values():
            parameter += 0.1
    policy.save(tmp_path / "checkpoint")
    resumed = load(settings, tmp_path / "checkpoint")
    torch.testing.assert_close(logits(resumed.model), logits(policy.model))
    assert resumed.trainable()


@pytest.mark.parametrize("fields", [{"lora_r": 4}, {"lora_r": 2}, {"lora_r": 4, "lora_alpha": 6}])
def test_an_adapter_of_another_rank_or_scale_is_refused_with_its_own(adapter, fields):
    with pytest.raises(PolicyError, match="lora_r = 2 and lora_alpha = 6, the run has lora_r"):
        load(configured(adapter, **fields))


def test_an_adapter_whose_base_is_gone_or_that_is_no_lora_is_named(letters, adapter, tmp_path):
    gone = shutil.copytree(letters, tmp_path / "gone")
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(gone),
        PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2),
    )
    model.save_pretrained(tmp_path / "prompts")
    with pytest.raises(PolicyError, match="PROMPT_TUNING, not LoRA"):
        load(configured(tmp_path / "prompts"))
    text = (adapter / "adapter_config.json").read_text()
    (adapter / "adapter_config.json").write_text(text.replace(str(letters), str(tmp_path / "no")))
    with pytest.raises(PolicyError, match=r"the base model of .*/no': there is no such folder"):
        load(configured(adapter))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("/no/where", "there is no such folder"),
        ("./model", "there is no such folder"),
        ("runs/a/final", "there is no such folder"),
        ("no model?", "there is no such folder"),
        (
            "some/model-that-is-not-there",
            "no such folder in .* and it could not be loaded",
        ),
    ],
)
def test_a_model_that_is_not_there_is_told_at_once_in_one_line(name, words, tmp_path):
    (tmp_path / "run.toml").write_text(f'model = "{name}"\nrollouts = "r.parquet"\n')
    (tmp_path / "r.parquet").touch()
    program = (
        f"from gspo_rs.train.model.pretrained import load_pretrained; load_pretrained({name!r})"
    )
    run = finished(code=program, cwd=tmp_path)
    last = run.stderr.splitlines()[-1]
    assert "PolicyError: model " in last
    assert name in last
    assert "Retrying" not in run.stderr
    with pytest.raises(PolicyError, match=words):
        load_pretrained(name)


def test_a_file_and_a_folder_without_a_model_are_told_apart(copied, tmp_path):
    with pytest.raises(PolicyError, match="is a file; give the folder"):
        load_pretrained(str(copied / "config.json"))
    (copied / "config.json").unlink()
    with pytest.raises(PolicyError, match=r"has no config\.json, but generation_config\.json"):
        load_pretrained(str(copied))


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_pointer_of_git_lfs_is_told_for_what_it_is(copied, file):
    (copied / file).write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 123\n"
    )
    with pytest.raises(PolicyError, match=rf"{file} is a pointer of Git LFS.*git lfs pull"):
        load_pretrained(str(copied))


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "config.json"])
@pytest.mark.parametrize("content", [b"", b"\x00" * 64, b'{"a":', b"x" * 5000])
def test_a_broken_file_of_a_model_is_one_line(copied, file, content):
    (copied / file).write_bytes(content)
    with pytest.raises(PolicyError) as told:
        load_pretrained(str(copied))
    assert "\n" not in str(told.value)
    assert "model" in str(told.value)


def test_weights_that_were_cut_are_one_line(copied):
    data = (copied / "model.safetensors").read_bytes()
    for stop in (8, 100, len(data) // 2, len(data) - 1):
        (copied / "model.safetensors").write_bytes(data[:stop])
        with pytest.raises(PolicyError, match="weights are damaged"):
            load_pretrained(str(copied))


@pytest.mark.parametrize("attention", ["flash_attention_2", "flash_attention_3"])
def test_a_package_that_is_missing_is_one_line(letters, attention):
    with pytest.raises(PolicyError) as told:
        load_pretrained(str(letters), attention)
    assert "\n" not in str(told.value)
    assert "flash" in str(told.value).lower()


def test_a_tokenizer_of_an_adapter_comes_before_that_of_its_base(letters, adapter):
    assert load_pretrained(str(adapter)).tokenizer.eos_token == "$"
    tokenizer = AutoTokenizer.from_pretrained(letters)
    tokenizer.eos_token = "?"
    tokenizer.save_pretrained(adapter)
    assert load_pretrained(str(adapter)).tokenizer.eos_token == "?"


@pytest.mark.parametrize("which", ["letters", "adapter"])
def test_an_empty_model_takes_no_memory_and_has_the_shapes_of_the_whole_one(request, which):
    name = str(request.getfixturevalue(which))
    whole, empty = load_pretrained(name), load_pretrained(name, empty=True)
    if whole.adapter is not None:
        for found in (whole, empty):
            with_adapter(found.model, name)
    shapes = [
        [(key, weight.shape, weight.dtype) for key, weight in found.model.named_parameters()]
        for found in (whole, empty)
    ]
    assert shapes[0] == shapes[1]
    assert {weight.device.type for weight in empty.model.parameters()} == {"meta"}
    assert whole.model.generation_config.to_dict() == empty.model.generation_config.to_dict()


def test_a_model_in_the_cache_is_loaded_without_asking_a_hub_that_does_not_answer(monkeypatch):
    asked = []

    def silent(*_, **__):
        asked.append(1)
        raise ConnectionError("no route to host")

    monkeypatch.setattr(HfApi, "model_info", silent)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(pretrained, "try_to_load_from_cache", lambda *_: "/cache/config.json")
    refuse_absent("someone/model")
    assert (len(asked), constants.HF_HUB_OFFLINE) == (1, True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(pretrained, "try_to_load_from_cache", lambda *_: None)
    with pytest.raises(PolicyError, match="could not be loaded from the hub: no route to host"):
        refuse_absent("someone/model")
    assert not constants.HF_HUB_OFFLINE
