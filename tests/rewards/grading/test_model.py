import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from fixtures.tiny_models import write_reward_model
from gspo_rs.rewards.errors import RewardError
from gspo_rs.rewards.grading.engine import Slice
from gspo_rs.rewards.grading.model import ModelEngine
from gspo_rs.rewards.model_folder import batches_of

DRAW = np.random.default_rng(0)
TEXTS = ["".join(DRAW.choice(list("abcdefgh"), size)) for size in DRAW.integers(1, 90, 40)]


@pytest.fixture(scope="module", params=["llama", "bert"])
def folder(request, letters, tmp_path_factory):
    return write_reward_model(tmp_path_factory.mktemp("reward"), letters, request.param)


@pytest.fixture
def small_batches(monkeypatch):
    """Few enough tokens that rows come in several batches of one length."""
    from gspo_rs.rewards.grading import model

    monkeypatch.setattr(model, "tokens_of", lambda _: 512)


def scores(engine, completions, prompts=None):
    found = engine.grade(Slice(prompts, list(completions)))
    assert {grade.status for grade in found} == {"ok"}
    return np.array([grade.reward for grade in found])


def test_a_score_is_the_same_to_the_bit_alone_and_among_any_others(
    folder, small_batches, one_thread
):
    engine = ModelEngine(folder)
    alone = np.concatenate([scores(engine, [text]) for text in TEXTS])
    for seed in range(4):
        order = np.random.default_rng(seed).permutation(len(TEXTS))
        together = scores(engine, [TEXTS[row] for row in order])
        assert np.abs(together - alone[order]).max() == 0
    assert len(np.unique(alone)) == len(set(TEXTS))


def test_a_score_is_what_transformers_gives_the_row_without_padding(folder, one_thread):
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float64).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model.config.pad_token_id = 10  # a space, which no text ends with
    wanted = []
    for text in TEXTS:
        ids = torch.tensor([tokenizer("abc", text)["input_ids"]])
        with torch.no_grad():
            wanted.append(float(model(input_ids=ids).logits))
    found = scores(ModelEngine(folder), TEXTS, ["abc"] * len(TEXTS))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_a_row_that_ends_with_the_id_that_pads_others_is_read_to_its_end(folder, one_thread):
    engine = ModelEngine(folder)
    engine._tokenizer.pad_token = "a"
    assert len(np.unique(scores(engine, ["b", "ba", "baa"]))) == 3


def test_messages_are_rendered_by_the_chat_template(folder):
    engine = ModelEngine(folder)
    engine._tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    chat = [[{"role": "user", "content": "ab"}]]
    answer = [[{"role": "assistant", "content": "cd"}]]
    found = [scores(engine, answer, chat), scores(engine, ["cd"], ["ab"])]
    engine._tokenizer.chat_template = None
    assert found[0] == found[1] == scores(engine, ["abcd"])


def test_a_row_that_the_model_cannot_read_is_an_error_and_the_others_have_their_scores(folder):
    engine = ModelEngine(folder)
    long, empty, fine = engine.grade(Slice(None, ["a" * 129, "", "abc"]))
    assert (long.status, empty.status, fine.status) == ("error", "error", "ok")
    assert long.error == "has 129 tokens; the model reads 1 to 128"
    assert [fine.reward] == scores(engine, ["abc"])


def test_what_is_no_reward_model_is_refused(letters, tmp_path):
    with pytest.raises(RewardError, match=r"has no config\.json"):
        ModelEngine(tmp_path)
    two = write_reward_model(tmp_path / "two", letters, labels=2)
    with pytest.raises(RewardError, match="has 2 labels; a reward model has one"):
        ModelEngine(two)
    one = write_reward_model(tmp_path / "one", letters)
    (one / "model.safetensors").unlink()
    policy = AutoModelForCausalLM.from_pretrained(letters)
    policy.config.num_labels = 1
    policy.save_pretrained(tmp_path / "policy")
    AutoTokenizer.from_pretrained(letters).save_pretrained(tmp_path / "policy")
    with pytest.raises(RewardError, match=r"'score\.weight', which would be drawn at random"):
        ModelEngine(tmp_path / "policy")
    with pytest.raises(RewardError, match=r"one cannot be loaded as a reward model"):
        ModelEngine(one)
    with pytest.raises(RewardError, match="dtype is 'int8'"):
        ModelEngine(one, dtype="int8")


def test_a_change_of_any_file_is_another_scorer(letters, tmp_path):
    folder = write_reward_model(tmp_path / "reward", letters)
    before = ModelEngine(folder).scorer
    assert ModelEngine(folder).scorer == before != ModelEngine(folder, dtype="bfloat16").scorer
    (folder / "README.md").write_text("Other weights.")
    assert ModelEngine(folder).scorer != before


def test_every_row_is_in_one_batch_whose_length_it_fits():
    lengths = DRAW.integers(1, 5000, 500).tolist()
    batches = list(batches_of(lengths, 4999, 8192))
    assert sorted(row for rows, _, _ in batches for row in rows) == list(range(500))
    for rows, padded, size in batches:
        assert all(lengths[row] <= padded < max(2 * lengths[row], 33) for row in rows)
        assert len(rows) <= size == max(8192 // padded, 1)
