"""Conversations as the model reads them: by the chat template of its tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from gspo_rs.rollouts.rollouts import Rollouts
from gspo_rs.train.model.policy import PolicyError

__all__ = ["as_answers", "as_texts", "is_chat", "rendered"]


def is_chat(said: Sequence[Any]) -> bool:
    """Return whether what is said are lists of messages, as all of a column are, or texts.

    Examples
    --------
    >>> is_chat(["2+2="]), is_chat([[{"role": "user", "content": "2+2="}]])
    (False, True)
    """
    return bool(len(said)) and not isinstance(said[0], str)


def rendered(tokenizer: Any, prompts: Sequence[Any]) -> list[str]:
    """Return prompts as texts that end where the answer begins; texts stay as they are.

    Raises
    ------
    PolicyError
        If they are messages, and the tokenizer has no template for them, or it takes no such ones;
        names the prompt.
    """
    if not is_chat(prompts):
        return list(prompts)
    if not getattr(tokenizer, "chat_template", None):
        raise PolicyError(
            "the prompts are lists of chat messages, and the tokenizer has no chat template; give"
            " a model that was trained to chat, or prompts as text"
        )
    texts = []
    for messages in prompts:
        try:
            text = tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True
            )
        except Exception as error:  # whatever a template raises is its word on these messages
            raise PolicyError(f"the chat template refuses {messages!r:.200}: {error}") from error
        texts.append(str(text))
    return texts


def as_answers(completions: Sequence[str]) -> list[list[dict[str, str]]]:
    """Return completions as TRL gives them to reward functions where prompts are messages.

    Examples
    --------
    >>> as_answers(["4"])
    [[{'role': 'assistant', 'content': '4'}]]
    """
    return [[{"role": "assistant", "content": text}] for text in completions]


def as_texts(rollouts: Rollouts, tokenizer: Any) -> Rollouts:
    """Return rollouts whose prompts and completions are texts, where tokens are to be made of them.

    Raises
    ------
    PolicyError
        As `rendered`.
    ValueError
        If a completion is more than one answer of the assistant in words; names it.
    """
    prompts, completions = rollouts.prompts, rollouts.completions
    if rollouts.completion_tokens is None and is_chat(completions):
        completions = list(map(_answer, completions))
    if is_chat(prompts) and None in (rollouts.prompt_tokens, rollouts.completion_tokens):
        prompts = rendered(tokenizer, prompts)
    if prompts is rollouts.prompts and completions is rollouts.completions:
        return rollouts
    return replace(rollouts, prompts=prompts, completions=completions)


def _answer(messages: Sequence[Any]) -> str:
    if not messages:  # of a completion that is missing, whose reward is missing too
        return ""
    if len(messages) == 1 and messages[0].get("role") == "assistant":
        content = messages[0].get("content")
        if isinstance(content, str):
            return content
    raise ValueError(
        f"a completion is {messages!r:.200}; training takes one message of the assistant, with text"
    )
