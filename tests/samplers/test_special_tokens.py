"""What stands before a prompt and after a completion."""

import pytest
import torch
from transformers import ByT5Tokenizer, LlamaConfig, LlamaForCausalLM

from fixtures.alphabets import CHATML, KINDS, WHOLE, byte_level, letters, metaspace, prepending
from gspo_rs.samplers.special_tokens import Ends, before, end_tokens, framed, text_rows, turn_end
from gspo_rs.samplers.transformers import generate

TURNS = [{"role": "user", "content": "the cat"}]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("frame", ["$A", "<s> $A", "<s> $A </s>", "$A </s>"])
def test_what_a_tokenizer_puts_after_every_text_does_not_end_a_prompt(kind, frame):
    tokenizer = KINDS[kind](frame)
    start = [tokenizer.bos_token_id] if frame.startswith("<s>") else []
    assert before(tokenizer) == start
    body = text_rows(tokenizer, ["2+2="])[0]
    end = [tokenizer.eos_token_id] if frame.endswith("</s>") else []
    assert tokenizer("2+2=")["input_ids"] == [*start, *body, *end]
    assert framed(body, before(tokenizer)) == [*start, *body]


@pytest.mark.parametrize("kind", WHOLE)
def test_a_rendered_prompt_gets_no_second_bos(kind):
    tokenizer = KINDS[kind](chat_template=CHATML)
    options = {"add_generation_prompt": True}
    text = tokenizer.apply_chat_template(TURNS, tokenize=False, **options)
    expected = tokenizer.apply_chat_template(TURNS, tokenize=True, return_dict=False, **options)
    assert tokenizer(text)["input_ids"][:2] == [tokenizer.bos_token_id] * 2
    assert framed(text_rows(tokenizer, [text])[0], before(tokenizer)) == expected


def test_a_frame_of_several_tokens_is_completed_and_not_repeated():
    assert framed([5], [1, 2]) == [1, 2, 5]
    assert framed([1, 2, 5], [1, 2]) == [1, 2, 5]
    assert framed([2, 5], [1, 2]) == [1, 2, 5]
    assert framed([], [1]) == [1]


def test_a_tokenizer_that_ends_every_text_ends_no_prompt_though_it_has_no_offsets():
    slow = ByT5Tokenizer()
    assert slow("ab")["input_ids"][-1] == slow.eos_token_id
    assert before(slow) == []


@pytest.fixture
def model():
    """A model with random weights and a place for every letter."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 1, "num_key_value_heads": 1, "eos_token_id": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=len(letters()), **sizes, **heads))


def test_sampling_reads_prompts_as_they_are_framed(model):
    tokenizer = letters("<s> $A </s>")
    lengths = {"num_generations": 2, "max_completion_length": 3}
    found = generate(model, tokenizer, ["ab", "<s>ab", ""], **lengths)
    bos, a, b = tokenizer.convert_tokens_to_ids(["<s>", "a", "b"])
    rows = [found.prompt_tokens.row(row).tolist() for row in (0, 2, 4)]
    assert rows == [[bos, a, b], [bos, a, b], [bos]]


HEADERS = "{% for m in messages %}<|im_start|>{{ m.role }}\n\n{{ m.content | trim }}<|im_end|>"
BRACKETS = "{% for m in messages %}{% if loop.first %}[Q] {{ m.content }} [/Q]{% else %}"


@pytest.mark.parametrize(
    ("template", "end"),
    [
        (CHATML, "<|im_end|>"),
        (HEADERS + "{% endfor %}", "<|im_end|>"),
        (HEADERS + "{% endfor %}</s>", "<|im_end|>"),
        (BRACKETS + "<think>\n\n{{ m.content }} </s>{% endif %}{% endfor %}", "</s>"),
        (BRACKETS + "{{ m.content }}\n{{ eos_token }}\n{% endif %}{% endfor %}", "</s>"),
        (BRACKETS + "{{ m.content }}\n{% endif %}{% endfor %}", None),
        (BRACKETS + "{{ m.content }} [Q]</s>{% endif %}{% endfor %}", None),
        (BRACKETS + "{% endif %}{% endfor %}</s>", None),
        (None, None),
    ],
)
@pytest.mark.parametrize("build", [byte_level, letters, metaspace, prepending])
def test_a_turn_ends_as_the_chat_template_ends_it(build, template, end):
    tokenizer = build(chat_template=template)
    found = turn_end(tokenizer)
    assert (None if found is None else tokenizer.decode([found])) == end


def test_a_chat_template_that_fails_is_told(caplog):
    broken = "{{ raise_exception('system first') }}"
    assert turn_end(letters(chat_template=broken)) is None
    assert "chat template cannot be rendered" in caplog.text
    assert "system first" in caplog.text


def test_a_completion_ends_with_the_turn_where_the_model_stops_or_the_prompt_shows_turns():
    chat = letters(chat_template=CHATML)
    end, eos, a = chat.convert_tokens_to_ids(["<|im_end|>", "</s>", "a"])
    assert Ends.of(chat).after([a]) == end
    assert Ends.of(chat, [eos, end]).after([a]) == end
    # A base model that came with a template: it does not stop at the end of a turn.
    assert Ends.of(chat, [eos]).after([a]) == eos
    assert Ends.of(chat, [eos]).after([a, end, a]) == end
    assert Ends.of(chat, [eos]).named() == "'</s>', or '<|im_end|>' where the prompt has it"
    assert Ends.of(chat).named() == "'<|im_end|>'"
    plain = letters()
    assert Ends.of(plain, [eos, end]).after([a]) == eos
    assert Ends.of(plain, [eos, end]).after([a, end, a]) == end
    # What a model stops at may be any token; a text that has it is no conversation.
    assert Ends.of(plain, [eos, a]).after([a]) == eos


def test_without_an_end_token_of_the_tokenizer_it_is_the_models(model):
    bare = letters()
    bare.eos_token = None
    assert end_tokens(model, bare) == [2]
    assert Ends.of(bare, [2]).after([9]) == 2
    assert Ends.of(bare).after([9]) is None
    assert not Ends.of(bare).ended("a")
    assert Ends.of(bare).named() == "no token"
