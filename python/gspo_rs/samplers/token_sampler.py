"""Draws the next tokens inside transformers' generation and stores their log-probabilities.

Letters: ``B`` rows, ``V`` vocabulary, ``T`` tokens drawn so far.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import LogitsProcessor

from gspo_rs.samplers.uniforms import uniforms

_AHEAD = 64
"""Positions for which random numbers are made at once."""


class Sampler(LogitsProcessor):
    """A logits processor that leaves greedy search one choice: the token it has drawn.

    Drawing here, from the policy's own logits, gives the log-probability of each token without
    the (B, T, V) scores, and costs one random number per token: ``torch.multinomial`` draws V of
    them. That number is a function of the place of the token (see `uniforms`), so that rows may be
    sampled together or apart, in any order and on any device.

    Parameters
    ----------
    seed : int
        Of the random numbers.
    temperature : float
        Above 0; logits are divided by it.
    top_p, top_k : float, int
        Draw only from the smallest set of tokens with probability `top_p`, and from the `top_k`
        most probable; 1.0 and 0 for all of them.

    Examples
    --------
    >>> sampler = Sampler(0, temperature=1.0, top_p=1.0, top_k=1)
    >>> sampler.begin([(0, 0)])
    >>> sampler(torch.tensor([[7]]), torch.tensor([[0.0, 2.0, 1.0]])).argmax(dim=-1)
    tensor([1])
    >>> sampler.logprobs()
    tensor([[-0.4076]])
    """

    def __init__(self, seed: int, *, temperature: float, top_p: float, top_k: int) -> None:
        self.seed = seed
        self.temperature = temperature
        self.top_p = top_p
        self.top_k = top_k
        self._rows: Sequence[tuple[int, int]] = ()
        self._ahead = torch.empty(0)
        self._drawn: list[Tensor] = []

    def begin(self, rows: Sequence[tuple[int, int]]) -> None:
        """Say which prompt and generation each of the next B rows is; their first token is next."""
        self._rows = rows
        self._drawn.clear()

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # noqa: ARG002
        """Draw one token per row of `scores` (B, V); return them with that token's score raised."""
        logprobs = torch.log_softmax(scores / self.temperature, dim=-1)
        tokens = self._draw(self._candidates(logprobs).exp())  # (B, 1)
        self._drawn.append(logprobs.gather(1, tokens))
        return scores.scatter(1, tokens, float("inf"))

    def logprobs(self) -> Tensor:
        """Return and forget the log-probabilities of the tokens drawn: (B, T) float32, in nats.

        They are those at the temperature, over the whole vocabulary: `top_p` and `top_k` change
        what is drawn, not what is reported.
        """
        drawn = torch.cat(self._drawn, dim=1)
        self._drawn.clear()
        return drawn

    def _uniform(self, device: torch.device) -> Tensor:
        """Return the random number of each row for the token that is next, (B, 1) float64."""
        position = len(self._drawn)
        place = position % _AHEAD
        if place == 0:
            made = uniforms(self.seed, self._rows, position, position + _AHEAD)
            self._ahead = torch.from_numpy(made).to(device)
        return self._ahead[:, place : place + 1]

    def _draw(self, weights: Tensor) -> Tensor:
        # float64: next to a sum of 1, float32 has no place for a token of less than 6e-8.
        cumulative = weights.double().cumsum(dim=-1)  # (B, V)
        uniform = self._uniform(weights.device)
        tokens = torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True)
        return tokens.clamp_(max=weights.shape[1] - 1)

    def _candidates(self, logprobs: Tensor) -> Tensor:
        """Set what `top_k`, and of its renormalised rest `top_p`, leave out to -inf."""
        if 0 < self.top_k < logprobs.shape[1]:
            least = logprobs.topk(self.top_k, dim=-1).values[:, -1:]
            logprobs = logprobs.masked_fill(logprobs < least, float("-inf"))
        if self.top_p < 1.0:
            ordered, tokens = logprobs.softmax(dim=-1).sort(dim=-1, descending=True)
            # A token stays if those before it do not yet hold `top_p`: the first always does.
            beyond = ordered.cumsum(dim=-1) - ordered >= self.top_p
            left_out = torch.zeros_like(beyond).scatter(1, tokens, beyond)
            logprobs = logprobs.masked_fill(left_out, float("-inf"))
        return logprobs
