"""Draws the next token of each row from the policy's logits, and tells its log-probability.

Letters: ``B`` rows of a call, ``b`` of them that are still decoded, ``V`` vocabulary.
"""

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from gspo_rs.samplers.uniforms import uniforms

_AHEAD = 64
"""Positions for which random numbers are made at once."""


class TokenSampler:
    """Draws tokens by place.

    A draw costs one random number a token: ``torch.multinomial`` draws V of them. That number is a
    function of the place of the token (see `uniforms`), so that rows may be sampled together or
    apart, in any order and on any device.

    Parameters
    ----------
    seed : int
        Of the random numbers.
    temperature : float
        Above 0; logits are divided by it.
    top_p, top_k : float, int
        Draw only from the smallest set of tokens with probability `top_p`, and from the `top_k`
        most probable; 1.0 and 0 for all of them.
    known : collection of int, optional
        Tokens that may be drawn: those of the tokenizer, where the model has logits for more.

    Examples
    --------
    >>> sampler = TokenSampler(0, temperature=1.0, top_p=1.0, top_k=1)
    >>> sampler.begin([(0, 0)])
    >>> sampler.draw(torch.tensor([[0.0, 2.0, 1.0]]))
    (tensor([1]), tensor([-0.4076]))
    """

    def __init__(
        self,
        seed: int,
        *,
        temperature: float,
        top_p: float,
        top_k: int,
        known: Collection[int] | None = None,
    ) -> None:
        self.seed = seed
        self.temperature = temperature
        self.top_p = top_p
        self.top_k = top_k
        self.known = known
        self._unknown: Tensor | None = None
        self._rows: Sequence[tuple[int, int]] = ()
        self._ahead = torch.empty(0)
        self._position = 0

    def begin(self, rows: Sequence[tuple[int, int]]) -> None:
        """Say which prompt and generation each of the next B rows is; their first token is next."""
        self._rows = rows
        self._position = 0

    def draw(self, logits: Tensor, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Draw the next token of each row.

        Parameters
        ----------
        logits : Tensor, shape (b, V)
            Of any precision; computed with in float32.
        rows : Tensor of int64, shape (b,), optional
            Which of the B rows these are; all by default.

        Returns
        -------
        tokens : Tensor of int64, shape (b,)
        logprobs : Tensor of float32, shape (b,)
            In nats, at the temperature and over the whole vocabulary: `top_p`, `top_k` and `known`
            change what is drawn, not what is reported.
        """
        scores = logits.float()
        if self.temperature != 1.0:
            scores = scores / self.temperature
        candidates = self._candidates(scores)
        highest = candidates.amax(dim=-1, keepdim=True)
        # float64: next to a sum of 1, float32 has no place for a token of less than 6e-8.
        weights = torch.exp(candidates - highest).cumsum(dim=-1, dtype=torch.float64)  # (b, V)
        total = weights[:, -1:]
        tokens = torch.searchsorted(weights, self._uniform(logits, rows) * total, right=True)
        tokens.clamp_(max=scores.shape[1] - 1)
        drawn = scores.gather(1, tokens)
        if candidates is scores:
            logprobs = (drawn - highest).double() - total.log()
        else:
            logprobs = drawn - scores.logsumexp(dim=-1, keepdim=True)
        return tokens[:, 0], logprobs[:, 0].float()

    def _uniform(self, logits: Tensor, rows: Tensor | None) -> Tensor:
        """Return the random number of each row for the token that is next, (b, 1) float64."""
        place = self._position % _AHEAD
        if place == 0:
            made = uniforms(self.seed, self._rows, self._position, self._position + _AHEAD)
            self._ahead = torch.from_numpy(made).to(logits.device)
        self._position += 1
        drawn = self._ahead[:, place : place + 1]
        return drawn if rows is None else drawn[rows]

    def _candidates(self, scores: Tensor) -> Tensor:
        """Set what is not known, and what `top_k` and of its rest `top_p` leave out, to -inf."""
        if self.known is not None:
            scores = scores.masked_fill(self._beyond(scores), float("-inf"))
        if 0 < self.top_k < scores.shape[1]:
            least = scores.topk(self.top_k, dim=-1).values[:, -1:]
            scores = scores.masked_fill(scores < least, float("-inf"))
        if self.top_p < 1.0:
            ordered, tokens = scores.softmax(dim=-1).sort(dim=-1, descending=True)
            # A token stays if those before it do not yet hold `top_p`: the first always does.
            beyond = ordered.cumsum(dim=-1) - ordered >= self.top_p
            left_out = torch.zeros_like(beyond).scatter(1, tokens, beyond)
            scores = scores.masked_fill(left_out, float("-inf"))
        return scores

    def _beyond(self, scores: Tensor) -> Tensor:
        """Return which tokens of (b, V) are not known, (V,) bool."""
        assert self.known is not None
        if self._unknown is None:
            size = scores.shape[1]
            places = [token for token in self.known if token < size]
            self._unknown = torch.ones(size, dtype=torch.bool, device=scores.device)
            self._unknown[places] = False
        return self._unknown
