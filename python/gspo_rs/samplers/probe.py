"""The proof that a server draws from this policy: its tokens, seeds, log-probabilities, weights."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gspo_rs.samplers import Policy, SamplerError
from gspo_rs.samplers.calls import RefusedError, UnansweredError
from gspo_rs.samplers.client import Client
from gspo_rs.samplers.completions import Drawn
from gspo_rs.samplers.special_tokens import before, framed, text_rows
from gspo_rs.samplers.token_server import STARTED, How, TokenServer

__all__ = ["check_served", "compared", "served"]

_log = logging.getLogger("gspo_rs")
TOKENS = 20
"""How many are drawn to be compared, and how many texts are tokenised."""
LIMIT = 5e-4
"""Largest mean difference of a log-probability, in nats a token, that is rounding: float32 of
another implementation made 5e-6."""
_ALIKE = 8  # first tokens of one seed that have to be the same twice


def served(client: Client) -> tuple[str, int | None]:
    """Return the name and the context of the model that a server has.

    Raises
    ------
    SamplerError
        If it does not answer, or as no server of models does.
    """
    try:
        first = client.get("/v1/models")["data"][0]
    except (RefusedError, UnansweredError) as error:
        raise SamplerError(f"no vLLM server is there: {error}; start it as {STARTED}") from error
    except (KeyError, IndexError, TypeError) as error:
        raise SamplerError(
            f"{client.url}/v1/models names no model; start a server as {STARTED}"
        ) from error
    return str(first["id"]), first.get("max_model_len")


def check_served(server: TokenServer, policy: Policy) -> None:
    """Check that a server has the vocabulary and the tokenizer of the policy.

    Raises
    ------
    SamplerError
        Names the first text of which it makes other tokens, or that it lacks the last token.
    """
    tokenizer, url = policy.tokenizer, server.client.url
    for text in _texts(tokenizer):
        ours, theirs = text_rows(tokenizer, [text])[0], server.tokenised(text)
        if ours != theirs:
            raise SamplerError(
                f"{url} serves {server.model!r} with another tokenizer: of {text!r} it makes"
                f" {theirs}, the run's makes {ours}; start it with the model of the run"
            )
    last = len(tokenizer) - 1
    try:
        server.complete([last], 0, How(max_tokens=1, temperature=1.0))
    except RefusedError as error:
        raise SamplerError(
            f"{url} serves {server.model!r}, which does not know token {last} of the run's"
            f" {last + 1}: {error}; start it with the model of the run"
        ) from error


def compared(
    server: TokenServer, policy: Policy, version: int, *, exact: bool, seeds: bool
) -> None:
    """Compare the log-probabilities of some tokens that a server draws with the policy's.

    Parameters
    ----------
    server : TokenServer
        Has been given the weights.
    policy : Policy
        With the same weights; of several processes all have to call.
    version : int
        Of them.
    exact : bool
        Whether a difference is an error, or logged.
    seeds : bool
        Whether to check that a seed decides what is drawn.

    Raises
    ------
    SamplerError
        Names the difference, its likely cause, and the remedy.
    """
    prompt = _prompt(policy.tokenizer)
    room = TOKENS if server.context is None else min(TOKENS, server.context - len(prompt))
    how = How(max_tokens=room, temperature=policy.temperature)
    drawn = server.complete(prompt, version, how)
    if seeds:
        again = server.complete(prompt, version, how)
        other = server.complete(prompt, version + 1, how)
        _check_seeds(server, drawn, again, other)
    at_temperature, raw = _logprobs(policy, prompt, drawn.tokens)
    apart = float(np.abs(drawn.logprobs - at_temperature).mean())
    if apart <= LIMIT:
        return
    url = server.client.url
    if np.abs(drawn.logprobs - raw).mean() < apart / 10:
        raise SamplerError(
            f"{url} answers log-probabilities that do not know the temperature of"
            f" {policy.temperature:g}: {apart:.2g} nats a token from the policy's; start it with"
            " --logprobs-mode processed_logprobs"
        )
    found = (
        f"{url} was given the weights of step {version}, and draws with others, or at another"
        f" precision: its log-probabilities of {len(drawn.tokens)} tokens are {apart:.2g} nats a"
        f" token from the policy's, where rounding makes at most {LIMIT:g}"
    )
    if not exact:
        _log.warning("%s", found)
        return
    raise SamplerError(
        f"{found}; start it with --dtype float32 and the model of the run. With old_logprobs ="
        " 'recompute', or a correction such as 'token_truncate', the run goes on all the same"
    )


def _check_seeds(server: TokenServer, drawn: Drawn, again: Drawn, other: Drawn) -> None:
    """Check that a seed draws the same twice, and another one something else."""
    place = f"{server.client.url} ignores the seed of a completion"
    if not np.array_equal(drawn.tokens[:_ALIKE], again.tokens[:_ALIKE]):
        raise SamplerError(f"{place}: one seed drew two completions; start it as {STARTED}")
    # That two draws are the same by chance has the probability of one of them.
    if np.array_equal(drawn.tokens, other.tokens) and drawn.logprobs.sum() < -_ALIKE:
        raise SamplerError(f"{place}: two seeds drew one completion; start it as {STARTED}")


def _logprobs(
    policy: Policy, prompt: list[int], tokens: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the policy's log-probabilities of a completion, at its temperature and at 1."""

    @torch.no_grad()
    def read(model: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        ids = torch.tensor([[*prompt, *tokens.tolist()]], device=model.device)
        logits = model(input_ids=ids).logits[0, len(prompt) - 1 : -1].float()
        drawn = ids[0, len(prompt) :, None]
        both = [
            torch.log_softmax(logits / temperature, -1).gather(1, drawn)[:, 0].cpu().numpy()
            for temperature in (policy.temperature, 1.0)
        ]
        return both[0], both[1]

    found: tuple[NDArray[np.float32], NDArray[np.float32]] = policy.sampling(read)
    return found


def _prompt(tokenizer: Any) -> list[int]:
    """Return a prompt of a few tokens."""
    row = framed(text_rows(tokenizer, ["Hello"])[0], before(tokenizer))
    return row or [0]


def _texts(tokenizer: Any) -> list[str]:
    """Return texts that use a vocabulary from its beginning to its end."""
    size = len(tokenizer)
    special = set(tokenizer.all_special_ids)
    starts = np.linspace(0, max(size - 3, 0), TOKENS).astype(int).tolist()
    some = [list(range(at, min(at + 3, size))) for at in starts]
    rows = [[token for token in row if token not in special] for row in some]
    return [text for row in rows if row and (text := tokenizer.decode(row))]
