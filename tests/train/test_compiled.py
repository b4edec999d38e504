"""Compiled layers: the same gradients, and sampling as before."""

import pytest
import torch

from fixtures.runs import configured
from gspo_rs.samplers.transformers import generate
from gspo_rs.train.model.layers import compile_layers
from gspo_rs.train.model.policy import load


def gradients(model, shape):
    ids = torch.randint(1, 500, shape, generator=torch.Generator().manual_seed(1))
    model.zero_grad()
    model(input_ids=ids, use_cache=False).logits.log_softmax(-1)[..., 5].mean().backward()
    return [p.grad.clone() for p in model.parameters()]


@pytest.mark.soak
def test_compiled_layers_give_the_same_gradients_and_are_not_used_to_sample(stories):
    shapes = [(4, 30), (3, 50), (1, 64)]
    plain, compiled = (load(configured(stories, torch_compile=on)) for on in (False, True))
    for policy in (plain, compiled):
        policy.model.double()  # Llama takes its norms in float32 all the same
    for shape in shapes:
        for one, other in zip(
            gradients(compiled.model, shape), gradients(plain.model, shape), strict=True
        ):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-6 * float(other.abs().max()))
    assert list(compiled.model.state_dict()) == list(plain.model.state_dict())
    compilations = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert compilations > 0
    options = {"num_generations": 2, "max_completion_length": 12, "seed": 0}
    drawn = [
        generate(policy.model, policy.tokenizer, ["Once upon"], **options)
        for policy in (plain, compiled)
    ]
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == compilations
    assert str(drawn[0]) == str(drawn[1])


def test_a_model_without_layers_is_refused():
    with pytest.raises(ValueError, match="Linear has no layers to compile"):
        compile_layers(torch.nn.Linear(2, 2))
