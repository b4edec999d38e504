import numpy as np
import pytest
import torch
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from gspo_rs.samplers.token_sampler import TokenSampler

ROWS, COLUMNS = 200, 100


def drawn(logits, **options):
    """Tokens and log-probabilities of draws from the same logits, `COLUMNS` in each of `ROWS`."""
    options = {"temperature": 1.0, "top_p": 1.0, "top_k": 0} | options
    sampler = TokenSampler(0, **options)
    sampler.begin([(row, 0) for row in range(ROWS)])
    found = [sampler.draw(logits.expand(ROWS, -1)) for _ in range(COLUMNS)]
    tokens, logprobs = (torch.stack(parts, dim=1) for parts in zip(*found, strict=True))
    return tokens.flatten(), logprobs.flatten()


def assert_drawn_as_often(counts, share, draws):
    """Counts lie within four standard deviations of what a binomial draw gives."""
    spread = np.sqrt(draws * share * (1 - share))
    assert (np.abs(counts - draws * share) <= 4 * spread + 1e-3).all(), counts


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0.5},
        {"top_k": 3},
        {"top_p": 0.6},
        {"temperature": 2.0, "top_k": 6, "top_p": 0.7},
        {"top_k": 1},
    ],
)
def test_tokens_are_drawn_as_often_as_transformers_would_draw_them(options):
    logits = torch.tensor([[1.0, -0.3, 2.0, 0.1, float("-inf"), 1.4, -4.0, 0.8]])
    expected = TemperatureLogitsWarper(options.get("temperature", 1.0))(None, logits)
    if "top_k" in options:
        expected = TopKLogitsWarper(options["top_k"])(None, expected)
    if "top_p" in options:
        expected = TopPLogitsWarper(options["top_p"])(None, expected)
    share = expected.softmax(-1)[0].double().numpy()
    tokens, _ = drawn(logits, **options)
    counts = np.bincount(tokens.numpy(), minlength=8)
    assert_drawn_as_often(counts, share, len(tokens))
    drawn_at_all = share > 0
    assert not counts[~drawn_at_all].any()
    expected = share[drawn_at_all] * len(tokens)
    # 0.999 of chi-square with seven degrees, the most that these have.
    assert ((counts[drawn_at_all] - expected) ** 2 / expected).sum() < 24.4


def test_the_logprob_is_the_whole_policys_whatever_the_candidates():
    logits = torch.tensor([[1.0, 2.0, 3.0, 0.0]])
    tokens, logprobs = drawn(logits, temperature=0.5, top_k=2, top_p=0.9)
    expected = torch.log_softmax(logits.double() / 0.5, -1)[0, tokens]
    torch.testing.assert_close(logprobs.double(), expected, rtol=1e-6, atol=1e-6)


def test_rows_that_are_left_draw_what_they_would_among_all():
    torch.manual_seed(0)
    logits = torch.randn(70, ROWS, 8)  # more positions than random numbers are made for at once
    rows = torch.tensor([3, 50, 199])
    options = {"temperature": 0.8, "top_p": 1.0, "top_k": 0}
    every, some = TokenSampler(0, **options), TokenSampler(0, **options)
    for sampler in (every, some):
        sampler.begin([(row, 0) for row in range(ROWS)])
    for step in logits:
        tokens, logprobs = every.draw(step)
        alone = some.draw(step[rows], rows)
        assert torch.equal(alone[0], tokens[rows])
        torch.testing.assert_close(alone[1], logprobs[rows], rtol=0, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"top_k": 3}, {"top_p": 0.8}, {"temperature": 0.5}])
def test_tokens_that_are_not_known_are_never_drawn_and_the_others_as_without_them(options):
    logits = torch.tensor([[1.0, 5.0, 2.0, 0.5, 4.0, -1.0, 6.0, 3.0]])
    known = [0, 2, 3, 5]
    tokens, logprobs = drawn(logits, known=known, **options)
    alone, _ = drawn(logits[:, known], **options)
    assert tokens.tolist() == [known[token] for token in alone.tolist()]
    # What is reported is the policy's own, which the training pass computes over the whole head.
    whole = torch.log_softmax(logits.double() / options.get("temperature", 1.0), -1)[0, tokens]
    torch.testing.assert_close(logprobs.double(), whole, rtol=1e-6, atol=1e-6)
