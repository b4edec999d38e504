"""Completions as tokens: those of prompt and completion as one text, cut where they meet."""

import copy
import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken
from transformers import AutoTokenizer, ByT5Tokenizer

from fixtures.alphabets import KINDS, WHOLE, byte_level, letters, metaspace, prepending
from gspo_rs.samplers.special_tokens import text_rows
from gspo_rs.train.rollout.boundary import completion_rows

made = {name: functools.cache(build) for name, build in KINDS.items()}
words = st.lists(
    st.sampled_from(
        ["2+2=", "4", " 4", "the", " cat", "\n", " ", "é", "😀", "🙂", "<think>", "mat"]
    )
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=3),
    max_size=6,
).map("".join)


def cut(tokenizer, prompt, completion):
    (row,) = completion_rows(tokenizer, [prompt], [completion], text_rows(tokenizer, [prompt]))
    return row


@pytest.mark.parametrize("kind", KINDS)
@given(words, words)
def test_the_tokens_of_prompt_and_completion_are_those_of_the_whole_text(kind, prompt, completion):
    tokenizer = made[kind]()
    row = cut(tokenizer, prompt, completion)
    start, whole = text_rows(tokenizer, [prompt, prompt + completion])
    if row is not None:
        assert start + row == whole
        assert bool(row) == (whole != start)
    elif kind.startswith("byte level"):
        # Bytes write every text: here alone what is refused is what the prompt's tokens overlap.
        assert whole[: len(start)] != start


@given(words, words)
def test_an_exact_border_is_where_the_prompt_ends_byte_for_byte(prompt, completion):
    tokenizer = made["byte level"]()
    if (row := cut(tokenizer, prompt, completion)) is not None:
        assert tokenizer.decode(row) == completion


@pytest.mark.parametrize("kind", WHOLE)
def test_an_empty_completion_has_no_tokens(kind):
    assert cut(made[kind](), "the cat", "") == []


def test_a_completion_does_not_begin_with_a_blank_that_its_text_does_not_have(stories):
    tokenizer = AutoTokenizer.from_pretrained(stories)
    assert tokenizer.tokenize("4") == ["▁", "4"]
    assert tokenizer.convert_ids_to_tokens(cut(tokenizer, "2+2=", "4")) == ["4"]
    there = cut(tokenizer, "Once upon a time", " there was")
    assert tokenizer.convert_ids_to_tokens(there) == ["▁there", "▁was"]


@pytest.mark.parametrize("build", [byte_level, metaspace, prepending])
def test_a_border_inside_a_token_is_refused_and_never_moved(build):
    tokenizer = build()
    assert any("at" in token for token in tokenizer.tokenize("the cat sat"))
    assert cut(tokenizer, "the cat sa", "t on") is None
    assert cut(tokenizer, "the cat sa", "") == []


def test_a_blank_that_the_next_token_takes_from_the_prompt_is_a_border_inside_it():
    tokenizer = byte_level()  # whose trimmed offsets leave the blank out
    assert tokenizer.tokenize("the cat") == ["the", "Ġcat"]
    assert cut(tokenizer, "the ", "cat") is None
    assert tokenizer.convert_ids_to_tokens(cut(tokenizer, "the", " cat")) == ["Ġcat"]


def test_a_marker_that_takes_the_blank_after_it_is_a_border_inside_it():
    tokenizer = letters()
    tokenizer.add_tokens(AddedToken("<|user|>", rstrip=True, special=True))
    assert cut(tokenizer, "<|user|>", " a") is None
    assert tokenizer.convert_ids_to_tokens(cut(tokenizer, "<|user|>", "a")) == ["a"]


def test_unknown_text_that_runs_over_the_border_is_refused():
    tokenizer = metaspace(kind="unigram")
    assert tokenizer("字字", add_special_tokens=False)["input_ids"][-1] == tokenizer.unk_token_id
    assert cut(tokenizer, "the 字", "字") is None


def test_a_tokenizer_without_offsets_is_cut_where_its_tokens_write_the_completion():
    slow = ByT5Tokenizer()
    assert not slow.is_fast
    assert slow.decode(cut(slow, "2+2=", "4 é")) == "4 é"
    lossy = copy.copy(slow)
    lossy.decode = lambda row, **_: slow.decode(row).replace("é", "e")
    assert cut(lossy, "2+2=", "4 é") is None


def test_a_prompt_whose_own_tokens_are_others_in_the_whole_is_refused():
    class Contextual:
        """Writes the last letter of a text in another way."""

        is_fast = True

        def __call__(self, texts, **_):
            rows = [[*map(ord, text[:-1]), -ord(text[-1])] for text in texts]
            return {"input_ids": rows, "offset_mapping": [[(0, 1), (1, 2)]] * len(texts)}

    starts = [[-ord("a")], [ord("a")]]
    assert completion_rows(Contextual(), ["a", "a"], ["b", "b"], starts) == [None, [-ord("b")]]


def test_many_rows_are_cut_as_each_alone():
    tokenizer = metaspace()
    completions = [f"{number}" * (number % 3) for number in range(150)]
    prompts = ["the cat " if number % 7 else "2+2=" for number in range(150)]
    found = completion_rows(tokenizer, prompts, completions, text_rows(tokenizer, prompts))
    assert found == [cut(tokenizer, *pair) for pair in zip(prompts, completions, strict=True)]
    assert None in found


def test_no_rows_are_no_tokens():
    assert completion_rows(letters(), [], [], []) == []
