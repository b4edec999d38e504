"""The model at the end of a run: in the dtype that it came in, whole or as adapters."""

import json
import shutil

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from fixtures.runs import configured, contents, make
from gspo_rs.train import checkpoint, train
from gspo_rs.train.config.config import ConfigError
from gspo_rs.train.config.toml import load
from gspo_rs.train.model import policy as policies

pytestmark = pytest.mark.usefixtures("one_thread")
SHORT = {"eval_size": 0, "max_steps": 2}
IDS = torch.tensor([[2, 5, 3, 9]])


@pytest.fixture
def half(letters, tmp_path):
    """The model of random letters in bfloat16, in a folder that may go."""
    folder = tmp_path / "half"
    AutoModelForCausalLM.from_pretrained(letters, dtype=torch.bfloat16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(letters).save_pretrained(folder)
    return folder


def logits(model):
    with torch.no_grad():
        return model(input_ids=IDS).logits


def final_and_checkpoint(folder):
    (last,) = checkpoint.steps(folder)[-1:]
    return [load_file(path / "model.safetensors") for path in (folder / "final", last / "model")]


def test_a_model_is_written_in_the_dtype_it_came_in_and_trained_in_float32(half, tmp_path):
    result = train(load(make(tmp_path, half, **SHORT)))
    final, kept = final_and_checkpoint(tmp_path / "run")
    assert {t.dtype for t in kept.values()} == {torch.float32}
    assert {t.dtype for t in final.values()} == {torch.bfloat16}
    assert final.keys() == kept.keys()
    assert all(torch.equal(final[name], kept[name].bfloat16()) for name in final)
    assert json.loads((result.final / "config.json").read_text())["dtype"] == "bfloat16"
    assert AutoModelForCausalLM.from_pretrained(result.final).dtype == torch.bfloat16


def test_a_run_goes_on_to_the_same_dtype_where_its_model_is_gone(half, tmp_path):
    path = make(tmp_path, half, **SHORT)
    train(load(path, ["max_steps=1"]))
    shutil.rmtree(half)
    train(load(path), resume=True)
    final, _ = final_and_checkpoint(tmp_path / "run")
    assert {t.dtype for t in final.values()} == {torch.bfloat16}


def test_of_a_finished_run_nothing_is_touched_and_a_damaged_model_is_written_again(half, tmp_path):
    path = make(tmp_path, half, **SHORT)
    train(load(path))
    before = contents(tmp_path / "run")
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "run/final").iterdir()}
    train(load(path), resume=True)
    assert contents(tmp_path / "run") == before
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "run/final").iterdir()} == times
    (tmp_path / "run/final/model.safetensors").write_bytes(b"damaged")
    train(load(path), resume=True)
    assert contents(tmp_path / "run") == before


@pytest.mark.parametrize("fields", [{}, {"use_dora": True}, {"weights": "bfloat16"}])
def test_merged_adapters_are_a_whole_model_that_computes_as_with_them(letters, tmp_path, fields):
    path = make(tmp_path, letters, **SHORT, lora_r=2, lora_merge=True, **fields)
    result = train(load(path))
    (last,) = checkpoint.steps(tmp_path / "run")[-1:]
    kept = getattr(torch, fields.get("weights", "float32"))
    base = AutoModelForCausalLM.from_pretrained(letters, dtype=kept).float()
    expected = logits(PeftModel.from_pretrained(base, last / "model").eval())
    assert not (result.final / "adapter_config.json").exists()
    merged = AutoModelForCausalLM.from_pretrained(result.final).eval()
    assert merged.dtype == torch.float32
    torch.testing.assert_close(logits(merged), expected, rtol=1e-4, atol=1e-5)
    start = logits(AutoModelForCausalLM.from_pretrained(letters).eval())
    assert not torch.allclose(start, expected, atol=1e-3)
    before = contents(tmp_path / "run")
    train(load(path), resume=True)
    assert contents(tmp_path / "run") == before


def test_dora_trains_norms_beside_adapters_and_begins_as_the_model(letters):
    torch.manual_seed(0)
    policy = policies.load(configured(letters, lora_r=2, use_dora=True))
    names = list(policy.trainable())
    assert any("magnitude" in name for name in names)
    plain = AutoModelForCausalLM.from_pretrained(letters).eval()
    torch.testing.assert_close(logits(policy.model), logits(plain))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"use_dora": True}, "is an adapter with use_dora = False, the run has use_dora = True"),
        ({"lora_target_modules": ("up_proj",)}, r"adapter of .*q_proj.*lora_target_modules = \["),
    ],
)
def test_an_adapter_is_not_gone_on_with_as_another_kind(letters, tmp_path, fields, reason):
    folder = tmp_path / "adapter"
    how = {"lora_r": 2, "lora_target_modules": ("q_proj",)}
    policies.load(configured(letters, **how)).save(folder)
    policies.load(configured(folder, **how))
    with pytest.raises(policies.PolicyError, match=reason):
        policies.load(configured(folder, **(how | fields)))


@pytest.mark.parametrize("name", ["use_dora", "lora_merge"])
def test_what_is_of_adapters_needs_their_rank(name):
    with pytest.raises(ConfigError, match=f"{name} = True: is of adapters; give their rank"):
        configured(**{name: True})
