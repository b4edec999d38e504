"""What is reported while a batch is sampled."""

import numpy as np
import pytest
from transformers import AutoTokenizer

from fixtures.tiny_models import tiny
from gspo_rs.samplers import progress
from gspo_rs.samplers.transformers import generate


@pytest.mark.parametrize("kind", ["mixtral", "mamba2"])  # padded together, and by length
def test_each_report_is_the_number_of_completions_that_have_ended(kind, letters, monkeypatch):
    monkeypatch.setattr(progress.time, "monotonic", iter(range(10_000)).__next__)
    tokenizer, model = AutoTokenizer.from_pretrained(letters), tiny(kind)
    prompts, reports = ["ab", "cd", "abc"], []
    options = {"num_generations": 4, "max_completion_length": 12, "seed": 0}
    found = generate(
        model, tokenizer, prompts, **options, progress=lambda *counts: reports.append(counts)
    )
    assert {total for _, total in reports} == {12}
    done = [count for count, _ in reports]
    assert done == sorted(done)
    assert done[-1] == 12
    # Called after each token of a call: what has ended by then, and all rows after the call.
    lengths = found.completion_tokens.lengths
    ended = np.where(found.truncated, 99, lengths)
    calls = [range(12)] if kind == "mixtral" else [range(8), range(8, 12)]
    expected, before = [], 0
    for rows in calls:
        some = ended[list(rows)]
        tokens = int(lengths[list(rows)].max())
        expected += [before + int((some <= k).sum()) for k in range(1, tokens + 1)]
        before += len(some)
        expected.append(before)
    assert done == expected


def test_watching_does_not_change_what_is_sampled(letters):
    tokenizer, model = AutoTokenizer.from_pretrained(letters), tiny("mixtral")
    options = {"num_generations": 4, "max_completion_length": 12, "seed": 3}
    plain = generate(model, tokenizer, ["ab", "abc"], **options)
    watched = generate(model, tokenizer, ["ab", "abc"], **options, progress=lambda *_: None)
    assert plain.completions == watched.completions
    assert plain.sampler_logprobs.values.tobytes() == watched.sampler_logprobs.values.tobytes()
