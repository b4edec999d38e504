import polars as pl
import pytest

from gspo_rs import data

FRAME = pl.DataFrame({"question": ["2+2=", "3+3="], "answer": [4, 6], "tags": [["a"], []]})


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_prompts_come_in_order_with_every_column_the_reward_may_need(tmp_path, suffix):
    FRAME.write_parquet(tmp_path / "p.parquet")
    FRAME.write_ndjson(tmp_path / "p.jsonl")
    prompts = data.prompts(tmp_path / f"p.{suffix}", prompt="question")
    assert prompts.texts == ["2+2=", "3+3="]
    assert prompts.columns == {"answer": [4, 6], "tags": [["a"], []]}
    assert len(prompts) == 2


def test_only_the_columns_asked_for_are_kept(tmp_path):
    FRAME.drop("tags").write_csv(tmp_path / "p.csv")
    prompts = data.prompts(tmp_path / "p.csv", prompt="question", columns=["answer"])
    assert prompts.columns == {"answer": [4, 6]}
    assert data.prompts(FRAME, prompt="question", columns=[]).columns == {}


def test_selected_prompts_keep_their_columns():
    prompts = data.prompts(FRAME, prompt="question").select([1, 1])
    assert prompts.texts == ["3+3=", "3+3="]
    assert prompts.columns == {"answer": [6, 6], "tags": [[], []]}


def test_real_questions_are_read(shared):
    prompts = data.prompts(
        shared / "data/gsm8k_test.parquet", prompt="question", columns=["final_answer_num"]
    )
    assert len(prompts) == 1319
    assert all(isinstance(text, str) and text for text in prompts.texts)
    assert len(prompts.columns["final_answer_num"]) == 1319


@pytest.mark.parametrize(
    ("frame", "options", "error", "words"),
    [
        (FRAME, {"prompt": "qestion"}, ValueError, "no column 'qestion'; did you mean 'question'"),
        (FRAME, {"prompt": "question", "columns": ["anser"]}, ValueError, "mean 'answer'"),
        (FRAME, {"prompt": "answer"}, TypeError, "'answer' of .* is Int64; it must be text"),
        (FRAME[:0], {"prompt": "question"}, ValueError, "the DataFrame has no rows"),
        (
            pl.DataFrame({"prompt": ["a", None, None]}),
            {},
            ValueError,
            "'prompt' of the DataFrame is null at row 1",
        ),
    ],
)
def test_what_cannot_be_a_prompt_is_named(frame, options, error, words):
    with pytest.raises(error, match=words):
        data.prompts(frame, **options)
