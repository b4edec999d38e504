"""A chat model, made here, learns from conversations as its chat template writes them."""

import numpy as np
import pytest
from transformers import AutoTokenizer

from fixtures import alphabets
from fixtures.runs import weights
from fixtures.tiny_models import write_chat
from gspo_rs.train import metrics, train

pytestmark = pytest.mark.usefixtures("one_thread")

# In the manner of Qwen: a system turn of its own, no BOS, and an empty thought on demand.
THINKING = """\
{%- if messages[0].role != 'system' %}
    {{- '<|im_start|>system\\nBe right.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
"""
QUESTIONS = ["what is 4+4?", "12+12=", "the cat sat", "é 😀"]
ASKED = [[{"role": "user", "content": text}] for text in QUESTIONS]
ASKED[2] = [
    {"role": "system", "content": "the hat"},
    *ASKED[2],
    {"role": "assistant", "content": "on the mat"},
    {"role": "user", "content": "and then?"},
]
FIELDS = {
    "max_completion_length": 12,
    "num_generations": 4,
    "prompts_per_step": 2,
    "steps_per_generation": 1,
    "max_steps": 4,
    "learning_rate": 1e-2,
    "shuffle_dataset": False,
    "eval_size": 0,
}


@pytest.fixture(params=["no BOS", "a BOS"])
def template(request):
    return THINKING if request.param == "no BOS" else "{{- bos_token }}" + THINKING


@pytest.fixture
def chatty(template, tmp_path):
    """A model whose tokenizer puts a BOS before plain texts, with a head padded beyond it."""
    tokenizer = alphabets.byte_level(chat_template=template)
    stops = ["</s>", "<|im_end|>"]
    return write_chat(tmp_path / "chatty", tokenizer, stops=stops, padded=100)


def ids(tokenizer, messages, **options):
    return tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False, **options)


@pytest.mark.parametrize("kwargs", [{}, {"enable_thinking": False}])
def test_it_trains_online_from_messages_as_its_template_tokenizes_them(
    chatty, kwargs, tmp_path, training_batches
):
    seen = []

    def reward(prompts, completions, completion_ids, **_):
        seen.extend(zip(prompts, completions, completion_ids, strict=True))
        return [float(len(completion[0]["content"])) for completion in completions]

    train(
        model=str(chatty),
        output_dir=str(tmp_path / "run"),
        prompts=[{"prompt": asked} for asked in ASKED],
        reward=reward,
        chat_template_kwargs=kwargs,
        **FIELDS,
    )
    tokenizer = AutoTokenizer.from_pretrained(chatty)
    expected = [ids(tokenizer, asked, add_generation_prompt=True, **kwargs) for asked in ASKED]
    for step, batch in enumerate(training_batches):
        read = [batch.prompts.row(row).tolist() for row in range(len(batch.prompts))]
        assert {tuple(row) for row in read} == {tuple(expected[step * 2 % 4 + k]) for k in (0, 1)}
    bos, ends = tokenizer.bos_token_id, tokenizer.convert_tokens_to_ids(["</s>", "<|im_end|>"])
    assert all(row.count(bos) == (1 if row[0] == bos else 0) for row in expected)
    assert [prompt for prompt, _, _ in seen[::4]] == ASKED * 2
    for _, completion, tokens in seen:
        assert [*completion[0]] == ["role", "content"]
        assert completion[0]["role"] == "assistant"
        assert max(tokens) < len(tokenizer)
        spoken = tokens[:-1] if tokens[-1] in ends else tokens
        spoken = [token for token in spoken if token not in (bos, tokenizer.pad_token_id)]
        assert tokenizer.decode(spoken) == completion[0]["content"]
    records = metrics.read(tmp_path / "run/metrics.jsonl")
    assert all(record["mismatch/abs"] < 1e-5 for record in records if record["step"])
    assert weights(chatty) != weights(tmp_path / "run/final")


def test_it_trains_offline_on_conversations_as_its_template_tokenizes_them(
    chatty, tmp_path, training_batches
):
    answers = ["8", "44; what", "and <think> é", "", "8 <|im_end|>"]
    rows = [
        {
            "prompt_id": place,
            "messages": [*asked, {"role": "assistant", "content": answer}],
            "reward": float(len(answer)),
        }
        for place, asked in enumerate(ASKED)
        for answer in answers
    ]
    train(model=str(chatty), output_dir=str(tmp_path / "run"), rollouts=rows, **FIELDS)
    tokenizer = AutoTokenizer.from_pretrained(chatty)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    newline = tokenizer("\n", add_special_tokens=False)["input_ids"]
    expected = set()
    for asked in ASKED:
        prompt = ids(tokenizer, asked, add_generation_prompt=True)
        for answer in answers:
            whole = ids(tokenizer, [*asked, {"role": "assistant", "content": answer}])
            assert whole[: len(prompt)] == prompt
            completion = whole[len(prompt) : len(whole) - len(newline)]
            if answer.endswith("<|im_end|>"):  # which it has already
                completion = completion[:-1]
            assert completion.count(end) == 1
            expected.add((tuple(prompt), tuple(completion)))
    found = {
        (tuple(batch.prompts.row(row).tolist()), tuple(batch.completions.row(row).tolist()))
        for batch in training_batches
        for row in range(len(batch.prompts))
    }
    assert found == expected
    records = metrics.read(tmp_path / "run/metrics.jsonl")
    assert all(np.isfinite(record["loss"]) for record in records if record["step"])
