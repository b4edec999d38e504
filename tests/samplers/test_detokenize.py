"""The text of what was sampled: what the reward sees is what the policy wrote."""

import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer, ByT5Tokenizer

from fixtures.alphabets import KINDS, WHOLE
from gspo_rs.samplers.detokenize import completion_texts
from gspo_rs.samplers.special_tokens import text_rows
from gspo_rs.samplers.transformers import generate

made = {name: functools.cache(build) for name, build in KINDS.items()}
PROMPTS = ["2+2=", "", "the cat", "the ", "what is\n", "😀", "the cat <think>", "🙂 a"]


def text_of(tokenizer, prompt, tokens):
    (text,) = completion_texts(tokenizer, [prompt], text_rows(tokenizer, [prompt]), [tokens])
    return text


@pytest.mark.parametrize("kind", WHOLE)
@given(st.data())
def test_prompt_and_completion_are_the_text_of_all_tokens(kind, data):
    tokenizer = made[kind]()
    silent = {tokenizer.bos_token_id, tokenizer.pad_token_id}
    tokens = st.sampled_from([t for t in range(len(tokenizer)) if t not in silent])
    row = data.draw(st.lists(tokens, max_size=8))
    prompt = data.draw(st.sampled_from(PROMPTS))
    start = text_rows(tokenizer, [prompt])[0]
    whole = tokenizer.backend_tokenizer.decode([*start, *row], skip_special_tokens=False)
    text = text_of(tokenizer, prompt, row)
    if whole.startswith(prompt):
        assert prompt + text == whole
    else:  # only bytes that run into those of the prompt
        assert "🙂" in prompt or "\ufffd" in whole or not start


@pytest.mark.parametrize("kind", KINDS)
def test_a_completion_keeps_the_blank_that_it_begins_with(kind):
    tokenizer = made[kind]()
    for text in (" 4", "4", "  4"):
        whole = text_rows(tokenizer, ["2+2=" + text])[0]
        start = text_rows(tokenizer, ["2+2="])[0]
        if whole[: len(start)] == start:
            assert text_of(tokenizer, "2+2=", whole[len(start) :]) == text


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_tokenizer_calls_special_is_seen_but_for_bos_and_pad(kind):
    tokenizer = made[kind]()
    marks = tokenizer.convert_tokens_to_ids(["<s>", "<think>", "<pad>", "<|im_start|>"])
    text = text_of(tokenizer, "2", marks)
    assert text == "<think><|im_start|>"


def test_half_a_character_does_not_take_the_one_before_it_along(stories):
    tokenizer = AutoTokenizer.from_pretrained(stories)
    half, whole = tokenizer.convert_tokens_to_ids(["<0x80>", "<0x41>"])
    start = text_rows(tokenizer, ["a🙂"])[0]
    assert "🙂" not in tokenizer.decode([*start, half])
    assert text_of(tokenizer, "a🙂", [half]) == "\ufffd"
    assert text_of(tokenizer, "a🙂", [whole]) == "A"


def test_a_slow_tokenizer_writes_no_blanks_around_what_is_special():
    tokenizer = ByT5Tokenizer()
    extra = tokenizer.convert_tokens_to_ids("<extra_id_0>")
    assert text_of(tokenizer, "ab", [extra, *text_rows(tokenizer, ["c"])[0]]) == "<extra_id_0>c"


def test_sampled_texts_follow_their_prompts_and_do_not_show_their_end(stories):
    tokenizer = AutoTokenizer.from_pretrained(stories)
    model = AutoModelForCausalLM.from_pretrained(stories)
    model.generation_config.eos_token_id = [2, *text_rows(tokenizer, [" a the was"])[0]]
    prompts = ["Once upon a time", "2+2=", "Tom had a ball. It", "<s>Lily"]
    found = generate(model, tokenizer, prompts, num_generations=8, max_completion_length=12, seed=0)
    assert 0 < found.truncated.sum() < len(found.truncated)
    for row, prompt in enumerate(found.prompts):
        start = text_rows(tokenizer, [prompt])[0]
        tokens = found.completion_tokens.row(row).tolist()
        spoken = tokens if found.truncated[row] else tokens[:-1]
        before, whole = tokenizer.decode(start), tokenizer.decode([*start, *spoken])
        assert before + found.completions[row] == whole
