import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPT2Model,
    LlamaConfig,
    LlamaForCausalLM,
)

from fixtures.tiny_models import has, tiny
from gspo_rs.logprobs import model_logprobs, model_logprobs_and_entropy

LENGTHS = [9, 4, 12]
SMALL = {"vocab_size": 61, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8}


def llama(**changes):
    return LlamaForCausalLM(LlamaConfig(**SMALL, **HEADS, **changes))


def gpt2():
    config = GPT2Config(vocab_size=61, n_embd=16, n_layer=2, n_head=2, n_positions=64)
    return GPT2LMHeadModel(config)


def gemma2():
    config = Gemma2Config(**SMALL, **HEADS, final_logit_softcapping=0.5, initializer_range=0.3)
    return Gemma2ForCausalLM(config)


def cohere():
    return CohereForCausalLM(CohereConfig(**SMALL, **HEADS, logit_scale=0.25))


def adapted(*targets, **options):
    config = LoraConfig(r=4, target_modules=list(targets), init_lora_weights=False, **options)
    return get_peft_model(llama(), config)


MODELS = {
    "untied": lambda: llama(tie_word_embeddings=False),
    "tied": lambda: llama(tie_word_embeddings=True),
    "gpt2": gpt2,
    "softcapped": gemma2,
    "scaled": cohere,
    "adapter": lambda: adapted("q_proj", "v_proj"),
    "adapter on the head": lambda: adapted("q_proj", "lm_head"),
    "head trained beside the adapter": lambda: adapted("q_proj", modules_to_save=["lm_head"]),
}


def made(name):
    torch.manual_seed(5)
    return MODELS[name]().double().eval()


def sequences(vocabulary):
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(3, vocabulary, (n,), generator=generator) for n in LENGTHS]


def padded(texts):
    ids = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True)
    mask = torch.arange(ids.shape[1]) < torch.tensor([[len(text)] for text in texts])
    places = [torch.arange(len(t) - 1) + row * ids.shape[1] for row, t in enumerate(texts)]
    return {"input_ids": ids, "attention_mask": mask.long(), "positions": torch.cat(places)}


def packed(texts):
    starts = [sum(LENGTHS[:row]) for row in range(len(texts))]
    places = [torch.arange(len(t) - 1) + start for t, start in zip(texts, starts, strict=True)]
    restarting = torch.cat([torch.arange(len(text)) for text in texts])
    return {
        "input_ids": torch.cat(texts)[None],
        "position_ids": restarting[None],
        "positions": torch.cat(places),
    }


def own(model, texts, temperature=1.0):
    """Each text alone through the model, its logits as the model returns them."""
    logits = [model(input_ids=text[None]).logits[0, :-1] / temperature for text in texts]
    dists = [torch.distributions.Categorical(logits=x.double()) for x in logits]
    found = [dist.log_prob(text[1:]) for dist, text in zip(dists, texts, strict=True)]
    return torch.cat(found), torch.cat([dist.entropy() for dist in dists])


@pytest.mark.parametrize(
    ("kind", "fields", "without"),
    [
        ("falcon_h1", {"lm_head_multiplier": 0.5}, 1.0),
        ("recurrent_gemma", {"logits_soft_cap": 0.5}, 1e6),
        ("granite", {"logits_scaling": 2.0}, 1.0),
        ("hyperclovax", {"logits_scaling": 2.0}, 1.0),
        ("minicpm3", {"dim_model_base": 8}, 16),
    ],
)
def test_a_scale_or_a_cap_is_known_whatever_its_configuration_calls_it(kind, fields, without):
    if not has(kind):
        pytest.skip(f"this transformers has no {kind}")
    model, texts = tiny(kind, **fields), sequences(11)
    options = padded(texts) | {"targets": torch.cat([text[1:] for text in texts])}
    del options["attention_mask"]
    with torch.no_grad():
        found, entropy = model_logprobs_and_entropy(model, **options)
        expected = own(model, texts)
        plain = own(tiny(kind, **dict.fromkeys(fields, without)), texts)
    torch.testing.assert_close(found.double(), expected[0], rtol=0, atol=2e-5)
    torch.testing.assert_close(entropy.double(), expected[1], rtol=0, atol=2e-5)
    assert float((plain[0] - expected[0]).abs().max()) > 1e-2


@pytest.mark.parametrize("layout", [padded, packed])
@pytest.mark.parametrize("name", MODELS)
def test_log_probabilities_are_those_of_the_models_own_logits(name, layout):
    model = made(name)
    texts = sequences(61)
    targets = torch.cat([text[1:] for text in texts])
    expected, entropy = own(model, texts, temperature=0.7)
    options = {**layout(texts), "targets": targets, "temperature": 0.7}
    found, found_entropy = model_logprobs_and_entropy(model, **options)
    # Attention over padding or a pack sums in another order than over the text alone; so do norms
    # that some models compute in float32 whatever their dtype.
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)
    torch.testing.assert_close(found_entropy, entropy, rtol=0, atol=2e-6)
    assert not found_entropy.requires_grad
    torch.testing.assert_close(model_logprobs(model, **options), found, rtol=0, atol=0)


@pytest.mark.parametrize("name", MODELS)
def test_every_trained_weight_gets_the_gradient_of_the_models_own_logits(name):
    model = made(name)
    texts = sequences(61)
    targets = torch.cat([text[1:] for text in texts])
    upstream = torch.linspace(-1, 1, len(targets), dtype=torch.float64)
    weights = {n: p for n, p in model.named_parameters() if p.requires_grad}
    expected = torch.autograd.grad(own(model, texts)[0] @ upstream, list(weights.values()))
    found = model_logprobs(model, **packed(texts), targets=targets) @ upstream
    gradients = torch.autograd.grad(found, list(weights.values()))
    for weight, one, other in zip(weights, gradients, expected, strict=True):
        torch.testing.assert_close(
            one, other, rtol=1e-5, atol=2e-6, msg=lambda m, weight=weight: f"{weight}: {m}"
        )


@pytest.mark.parametrize("layout", [padded, packed])
@pytest.mark.parametrize("lora", [False, True])
def test_the_story_model_gives_its_own_log_probabilities(stories, layout, lora):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(stories)
    if lora:
        model = get_peft_model(model, LoraConfig(r=4, init_lora_weights=False))
    texts = sequences(512)
    targets = torch.cat([text[1:] for text in texts])
    expected, _ = own(model, texts)
    found = model_logprobs(model, **layout(texts), targets=targets)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


def test_a_bfloat16_model_gives_float32_log_probabilities(stories):
    model = AutoModelForCausalLM.from_pretrained(stories, dtype=torch.bfloat16)
    texts = sequences(512)
    targets = torch.cat([text[1:] for text in texts])
    found = model_logprobs(model, **packed(texts), targets=targets)
    expected, _ = own(model.float(), texts)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=0.05, atol=0.3)


def test_the_models_logits_are_whole_again_afterwards():
    model = made("untied")
    texts = sequences(61)
    before = model(input_ids=texts[0][None]).logits
    model_logprobs(model, **packed(texts), targets=torch.cat([text[1:] for text in texts]))
    torch.testing.assert_close(model(input_ids=texts[0][None]).logits, before, rtol=0, atol=0)


def test_a_model_without_a_head_is_named():
    headless = GPT2Model(GPT2Config(vocab_size=8, n_embd=8, n_layer=1, n_head=1))
    place = torch.tensor([0])
    with pytest.raises(ValueError, match="GPT2Model has no output head"):
        model_logprobs(headless, torch.tensor([[1, 2]]), positions=place, targets=place)


class Shifted(LlamaForCausalLM):
    """A model that does to its logits what no config says."""

    def forward(self, *args, **kwargs):
        output = super().forward(*args, **kwargs)
        output.logits = output.logits * 1.5
        return output


def test_a_model_whose_logits_are_not_those_of_its_head_is_refused():
    torch.manual_seed(0)
    model = Shifted(LlamaConfig(**SMALL, **HEADS))
    place = torch.tensor([0])
    for _ in range(2):
        with pytest.raises(ValueError, match="Shifted turns the output of its head"):
            model_logprobs(model, torch.tensor([[1, 2]]), positions=place, targets=place)


def test_a_temperature_that_is_not_positive_is_refused():
    place = torch.tensor([0])
    with pytest.raises(ValueError, match=r"temperature is 0\.0"):
        model_logprobs(
            made("gpt2"), torch.tensor([[1, 2]]), positions=place, targets=place, temperature=0.0
        )


def test_a_model_that_has_diverged_gives_nan_and_no_word_about_its_head():
    model = llama()
    with torch.no_grad():
        model.lm_head.weight.fill_(float("nan"))
    ids = torch.arange(4)[None]
    found = model_logprobs(model, ids, positions=torch.tensor([1]), targets=torch.tensor([2]))
    assert found.isnan().all()
