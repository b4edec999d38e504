"""Cosines of embeddings, against transformers in float64 on each text alone."""

import json
from functools import partial

import numpy as np
import polars as pl
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from fixtures.commands import call
from fixtures.tiny_models import write_reward_model
from gspo_rs.rewards.errors import RewardError
from gspo_rs.rewards.grading import embedding
from gspo_rs.rewards.grading.embedding import EmbeddingEngine
from gspo_rs.rewards.grading.engine import Slice
from gspo_rs.rewards.library import embedding_cosine

DRAW = np.random.default_rng(0)
TEXTS = ["".join(DRAW.choice(list("abcdefgh"), size)) for size in DRAW.integers(1, 90, 30)]
RIGHT = [TEXTS[i // 5] for i in range(30)]


@pytest.fixture(scope="module")
def folder(letters, tmp_path_factory):
    """A classifier is an encoder with a head that nothing here reads."""
    return write_reward_model(tmp_path_factory.mktemp("encoder"), letters, "bert")


def graded(engine, texts, right):
    return engine.grade(Slice(None, list(texts), {"answer": list(right)}))


def alone(folder, text, *, first=False):
    model = AutoModel.from_pretrained(folder, dtype=torch.float64).eval()
    ids = torch.tensor([AutoTokenizer.from_pretrained(folder)(text)["input_ids"]])
    with torch.no_grad():
        states = model(input_ids=ids).last_hidden_state[0]
    return states[0] if first else states.mean(0)


def test_a_reward_is_the_cosine_of_the_mean_states_of_both_texts(folder, one_thread):
    vectors = {text: alone(folder, text) for text in TEXTS}
    expected = [
        float(torch.cosine_similarity(vectors[one], vectors[right], dim=0))
        for one, right in zip(TEXTS, RIGHT, strict=True)
    ]
    found = graded(EmbeddingEngine(folder), TEXTS, RIGHT)
    np.testing.assert_allclose([grade.reward for grade in found], expected, atol=1e-5)
    assert np.std(expected) > 1e-3
    near = partial(embedding_cosine, model=str(folder))
    by_function = near(completions=[*TEXTS, "a"], answer=[*RIGHT, None])
    np.testing.assert_allclose(by_function[:-1], expected, atol=1e-5)
    assert by_function[-1] is None


def test_a_reward_is_the_same_to_the_bit_alone_and_among_any_others(
    folder, one_thread, monkeypatch
):
    monkeypatch.setattr(embedding, "tokens_of", lambda _: 512)
    engine = EmbeddingEngine(folder)
    by_itself = [graded(engine, [a], [b])[0].reward for a, b in zip(TEXTS, RIGHT, strict=True)]
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(30)
        found = graded(engine, [TEXTS[i] for i in order], [RIGHT[i] for i in order])
        assert [grade.reward for grade in found] == [by_itself[i] for i in order]


def test_settings_of_sentence_transformers_choose_the_token_or_are_refused(letters, tmp_path):
    folder = write_reward_model(tmp_path / "encoder", letters, "bert")
    parts = [{"path": "", "type": "x.Transformer"}, {"path": "1_Pooling", "type": "x.Pooling"}]
    (folder / "modules.json").write_text(json.dumps(parts))
    (folder / "1_Pooling").mkdir()
    settings = folder / "1_Pooling" / "config.json"
    settings.write_text('{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}')
    (found,) = graded(EmbeddingEngine(folder), ["ab"], ["cd"])
    first = [alone(folder, text, first=True) for text in ("ab", "cd")]
    assert found.reward == pytest.approx(float(torch.cosine_similarity(*first, dim=0)), abs=1e-5)
    settings.write_text('{"pooling_mode_max_tokens": true}')
    with pytest.raises(RewardError, match="pools by max_tokens; mean_tokens and cls_token are"):
        EmbeddingEngine(folder)
    (folder / "modules.json").write_text(json.dumps([*parts, {"path": "2", "type": "x.Dense"}]))
    with pytest.raises(RewardError, match="has a part Dense, which is not known"):
        EmbeddingEngine(folder)


def test_a_text_that_cannot_be_read_is_an_error_and_a_missing_answer_none(folder):
    engine = EmbeddingEngine(folder)
    found = graded(engine, ["a" * 129, "abc", "abc", "abc"], ["a", "abc", None, "b" * 129])
    assert [grade.status for grade in found] == ["error", "ok", "none", "error"]
    assert found[0].error == found[3].error == "has 129 tokens; the model reads 1 to 128"
    assert found[1].reward == pytest.approx(1.0)
    with pytest.raises(RewardError, match="hand it on with --pass answer"):
        engine.grade(Slice(None, ["abc"]))
    with pytest.raises(RewardError, match="needs the folder of an encoder"):
        embedding_cosine(completions=["a"], answer=["a"])


def test_the_command_grades_by_an_encoder(folder, tmp_path):
    frame = pl.DataFrame({"completion": ["abc", "hgf"], "right": ["abc", "abc"]})
    frame.write_parquet(tmp_path / "rows.parquet")
    words = ["--embedding", folder, "--pass", "answer=right"]
    assert call("grade", tmp_path / "rows.parquet", "-o", tmp_path / "out", *words) == 0
    same, other = pl.read_parquet(tmp_path / "out" / "*.parquet")["reward_embedding"]
    assert same == pytest.approx(1.0)
    assert other < same
