"""Prompts that are conversations: rendered by the model's template, judged as messages."""

import numpy as np
import pytest
from transformers import AutoTokenizer

from fixtures.runs import TWO_STEPS, weights
from gspo_rs.data.prompt_table import Prompts
from gspo_rs.rewards.functions import RewardError
from gspo_rs.rollouts.rollouts import Rollouts
from gspo_rs.train import train
from gspo_rs.train.config.config import Config, resolve
from gspo_rs.train.model import policy as policies
from gspo_rs.train.model.policy import PolicyError
from gspo_rs.train.rollout.chat import as_texts, rendered
from gspo_rs.train.rollout.collect import sample

pytestmark = pytest.mark.usefixtures("one_thread")

# Of letters that the tokenizer has: a for the user, b for the assistant.
TEMPLATE = (
    "{% for m in messages %}{{ 'a' if m.role == 'user' else 'b' }}{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}b{% endif %}"
)
ASKED = [[{"role": "user", "content": "cd"}], [{"role": "user", "content": "efg"}]]


@pytest.fixture
def chatting(copied):
    """The folder of a model whose tokenizer has a template for conversations."""
    tokenizer = AutoTokenizer.from_pretrained(copied)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(copied)
    return copied


@pytest.fixture
def sampled():
    def sampled(model, prompts, reward):
        fields = {"num_generations": 2, "max_completion_length": 4, "prompts": "p", "reward": "r"}
        config = resolve(Config(model=str(model), **fields))
        return sample(policies.load(config), prompts, {"reward": reward}, config, seed=1)

    return sampled


def test_messages_are_sampled_for_as_the_text_that_the_template_makes(chatting, sampled):
    seen = []

    def reward(prompts, completions, answer, **_):
        seen.extend(zip(prompts, completions, answer, strict=True))
        return [float(len(completion[0]["content"])) for completion in completions]

    chat = sampled(chatting, Prompts(ASKED, {"answer": ["x", "y"]}), reward).rollouts
    assert chat.prompts == ["acdb", "acdb", "aefgb", "aefgb"]
    prompts, completions, answers = zip(*seen, strict=True)
    assert list(prompts) == [ASKED[0], ASKED[0], ASKED[1], ASKED[1]]
    assert [answer[0]["content"] for answer in completions] == chat.completions
    assert {answer[0]["role"] for answer in completions} == {"assistant"}
    assert answers == ("x", "x", "y", "y")
    assert chat.reward.tolist() == [float(len(text)) for text in chat.completions]


def test_the_completions_are_those_of_the_same_text(chatting, sampled):
    def length(completions, **_):
        return [float(len(completion)) for completion in completions]

    chat = sampled(chatting, Prompts(ASKED, {}), length).rollouts
    plain = sampled(chatting, Prompts(["acdb", "aefgb"], {}), length).rollouts
    assert chat.completions == plain.completions
    assert chat.sampler_logprobs.values.tolist() == plain.sampler_logprobs.values.tolist()


def test_texts_are_left_as_they_are(letters):
    assert rendered(AutoTokenizer.from_pretrained(letters), ["ab", "c"]) == ["ab", "c"]


def test_messages_without_a_template_are_refused(letters, sampled):
    with pytest.raises(PolicyError, match="messages, and the tokenizer has no chat template"):
        sampled(letters, Prompts(ASKED, {}), lambda completions, **_: [0.0] * len(completions))


def test_messages_that_the_template_refuses_are_named(chatting):
    tokenizer = AutoTokenizer.from_pretrained(chatting)
    tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(PolicyError, match=r"refuses .*'content': 'cd'.*roles must alternate"):
        rendered(tokenizer, ASKED)


def test_a_reward_that_cannot_judge_messages_is_named_with_what_was_said(chatting, sampled):
    with pytest.raises(RewardError, match=r"prompt 'cd', completion "):
        sampled(
            chatting,
            Prompts(ASKED, {}),
            lambda completions, **_: [c.count("a") + "" for c in completions],
        )


def of(prompts, completions):
    n = len(prompts)
    return Rollouts(
        offsets=np.array([0, n]), prompts=prompts, completions=completions, reward=np.zeros(n)
    )


def test_scored_conversations_are_read_as_texts(chatting):
    tokenizer = AutoTokenizer.from_pretrained(chatting)
    said = [[{"role": "assistant", "content": "gh"}], []]
    found = as_texts(of(ASKED, said), tokenizer)
    assert (found.prompts, found.completions) == (["acdb", "aefgb"], ["gh", ""])
    found = as_texts(of(ASKED, ["gh", "h"]), tokenizer)
    assert (found.prompts, found.completions) == (["acdb", "aefgb"], ["gh", "h"])
    plain = of(["a", "b"], ["c", "d"])
    assert as_texts(plain, tokenizer) is plain


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": "a"}],
        [{"role": "assistant", "content": None}],
        [{"role": "assistant", "content": "a"}, {"role": "tool", "content": "b"}],
    ],
)
def test_a_completion_that_is_not_one_answer_in_words_is_refused(chatting, messages):
    with pytest.raises(ValueError, match="one message of the assistant, with text"):
        as_texts(of(ASKED[:1], [messages]), AutoTokenizer.from_pretrained(chatting))


@pytest.fixture
def fields(chatting, tmp_path):
    def make(name):
        return {
            "model": str(chatting),
            "output_dir": str(tmp_path / name),
            **TWO_STEPS,
        }

    return make


def length(completions, **_):
    return [float(len(completion)) for completion in completions]


def letters_in(completions, **_):
    return [float(len(completion[0]["content"])) for completion in completions]


@pytest.mark.parametrize("column", ["prompt", "messages"])
def test_a_run_from_conversations_is_the_run_from_the_texts_of_them(fields, tmp_path, column):
    train(**fields("chat"), prompts=[{column: asked} for asked in ASKED], reward=letters_in)
    train(**fields("text"), prompts=[{"prompt": "acdb"}, {"prompt": "aefgb"}], reward=length)
    assert weights(tmp_path / "chat/final") == weights(tmp_path / "text/final")


@pytest.mark.parametrize("layout", ["two columns", "one conversation"])
def test_scored_conversations_train_what_their_texts_do(fields, tmp_path, layout):
    texts = [
        {"prompt_id": place // 2, "prompt": prompt, "completion": answer, "reward": float(place)}
        for place, (prompt, answer) in enumerate(
            [("acdb", "ab"), ("acdb", "gh"), ("aefgb", "h"), ("aefgb", "ac")]
        )
    ]
    asked = {"acdb": ASKED[0], "aefgb": ASKED[1]}
    chat = []
    for row in texts:
        prompt = asked[row["prompt"]]
        answer = [{"role": "assistant", "content": row["completion"]}]
        parts = {"prompt": prompt, "completion": answer}
        if layout == "one conversation":
            parts = {"messages": [*prompt, *answer]}
        chat.append({"prompt_id": row["prompt_id"], "reward": row["reward"], **parts})
    train(**fields("chat"), rollouts=chat)
    train(**fields("text"), rollouts=texts)
    assert weights(tmp_path / "chat/final") == weights(tmp_path / "text/final")
