"""Losses and gradients against those of other projects' own code, every entry of the file."""

from itertools import product

import pytest
import torch

from gspo_rs import losses
from gspo_rs.losses import off_policy_mask, sequence_weights
from oracles import golden

INPUTS, ENTRIES = golden.losses()
CASES = ["full_b4t6", "holes_b8t17", "extreme_b4t8"]
CLIP = {"clip_low": 0.2, "clip_high": 0.2}
DAPO = {"clip_low": 0.2, "clip_high": 0.28}
PAPER = {"clip_low": 3e-4, "clip_high": 4e-4}
WIDE = {"clip_low": 0.05, "clip_high": 0.08}
DPPO = {"delta_low": 0.15, "delta_high": 0.15, "w_max": 20.0}
KL = {"kl": "k3", "beta": 0.04}
KL_IS = {"kl": "k3_is", "beta": 0.04}

# Entry of the file → loss, reduction, options of the loss, and what is added or multiplied.
# The comments name what a project does unlike the paper, and the setting that reproduces it.
SETTINGS = {
    "grpo/trl": ("grpo", "seq_mean", CLIP, {}),
    "grpo/trl_fused": ("grpo", "seq_mean", CLIP, {}),
    "grpo/slime": ("grpo", "seq_mean", CLIP, {}),
    "bnpo/trl": ("grpo", "token_mean", CLIP, {}),  # of the micro-batch; here of the step
    "dapo/trl": ("grpo", "token_mean", DAPO, {}),
    "dapo/trl_fused": ("grpo", "token_mean", DAPO, {}),
    "dapo_paper_prompt_mean/reference": ("grpo", "prompt_mean", DAPO, {}),
    "dr_grpo/trl": ("grpo", "constant", CLIP, {}),
    "dr_grpo/trl_fused": ("grpo", "constant", CLIP, {}),
    "grpo_kl_k3/trl": ("grpo", "seq_mean", CLIP, KL),
    "grpo_kl_k3_is/trl": ("grpo", "seq_mean", CLIP, KL_IS),
    "grpo_two_sided_delta/trl": ("grpo", "seq_mean", {**CLIP, "delta": 1.5}, {}),
    "grpo_tis/trl": ("grpo", "seq_mean", CLIP, {"factor": "is_token"}),
    "grpo_opsm/trl": ("grpo", "seq_mean", CLIP, {"opsm": 0.02}),
    "dapo_dualclip_c3/verl": ("grpo", "token_mean", {**DAPO, "dual_clip": 3.0}, {}),
    "grpo_dualclip_c3/verl": ("grpo", "seq_mean", {**CLIP, "dual_clip": 3.0}, {}),
    "ppo_token/openrlhf": ("grpo", "token_mean", DAPO, {}),
    "gspo_paper/trl": ("gspo", "seq_mean", PAPER, {}),
    "gspo_paper/trl_fused": ("gspo", "seq_mean", PAPER, {}),
    "gspo_paper/slime": ("gspo", "seq_mean", PAPER, {}),
    "gspo_paper/openrlhf": ("gspo", "seq_mean", PAPER, {}),
    "gspo_paper/verl": ("gspo_token", "seq_mean", PAPER, {}),
    "gspo_token_paper/trl": ("gspo_token", "seq_mean", PAPER, {}),
    "gspo_paper_token_mean/areal": ("gspo", "token_mean", PAPER, {}),  # AReaL's only reduction
    "gspo_wide/trl": ("gspo", "seq_mean", WIDE, {}),
    "gspo_wide/trl_fused": ("gspo", "seq_mean", WIDE, {}),
    "gspo_wide/slime": ("gspo", "seq_mean", WIDE, {}),
    "gspo_wide/openrlhf": ("gspo", "seq_mean", WIDE, {}),
    "gspo_wide/verl": ("gspo_token", "seq_mean", WIDE, {}),
    "gspo_token_wide/trl": ("gspo_token", "seq_mean", WIDE, {}),
    "gspo_wide_token_mean/areal": ("gspo", "token_mean", WIDE, {}),
    "gspo_kl_k3_is/trl": ("gspo", "seq_mean", WIDE, KL_IS),
    "luspo/trl": ("luspo", "seq_sum", {}, {}),
    "sapo/trl": ("sapo", "seq_mean", {}, {}),
    "sapo/trl_fused": ("sapo", "seq_mean", {}, {}),
    "sapo/verl": ("sapo", "seq_mean", {}, {}),
    "sapo_token_mean/areal": ("sapo", "token_mean", {}, {}),  # AReaL's only reduction
    "cispo/trl": ("cispo", "token_mean", {}, {}),
    "cispo/trl_fused": ("cispo", "token_mean", {}, {}),
    "cispo/verl": ("cispo", "token_mean", {}, {}),
    "cispo_seqmean/slime": ("cispo", "seq_mean", {}, {}),
    # TRL's default bound caps every weight at 0.2; verl's clips it to 1 -+ 0.2.
    "cispo_trl_default_eps_0.2/trl": ("cispo", "token_mean", {"w_max": 0.2}, {}),
    "cispo_verl_default_eps_0.2/verl": ("cispo", "token_mean", {"w_min": 0.8, "w_max": 1.2}, {}),
    "gmpo/trl": ("gmpo", "seq_mean", {}, {}),
    "gmpo/verl": ("gmpo", "seq_mean", {}, {}),
    "vespo/trl": ("vespo", "token_mean", {}, {}),
    "dppo_tv/verl": ("dppo", "token_mean", DPPO, {}),
}
LEFT_OUT: dict[str, str] = {}  # entry → why no setting of ours reproduces it


def test_every_entry_of_the_file_is_compared_or_left_out_with_a_reason():
    assert not SETTINGS.keys() & LEFT_OUT.keys()
    assert set(ENTRIES) == set(product(CASES, [*SETTINGS, *LEFT_OUT]))


def valued(of, entry, setting, flat):
    """Loss and gradient of one entry by our own settings."""
    name, reduction, options, extra = setting
    mask = of["mask"] != 0
    lengths = mask.sum(dim=1)
    weights = sequence_weights(
        lengths, reduction, groups=of["groups"].long(), budget=entry.options.get("max_len")
    )
    advantages = of["advantages"]
    if "factor" in extra:
        advantages = advantages[:, None] * of[extra["factor"]]
    if "opsm" in extra:
        kept, _ = off_policy_mask(
            of["logprobs"], of["old_logprobs"], advantages, mask, delta=extra["opsm"]
        )
        advantages = advantages * kept

    def cut(tokens):
        return tokens[mask] if flat and tokens.dim() == 2 else tokens

    layout = {"mask": None, "lengths": lengths} if flat else {"mask": mask}
    leaf = of["logprobs"].clone().requires_grad_()
    new, old = cut(leaf), cut(of["old_logprobs"])
    loss_of = getattr(losses, f"{name}_loss")
    loss, _ = loss_of(new, old, cut(advantages), weights=weights, **layout, **options)
    if "kl" in extra:
        penalty, _ = losses.kl_penalty(
            new,
            cut(of["ref_logprobs"]),
            weights=weights,
            old_logprobs=old,
            estimator=extra["kl"],
            level="sequence" if name == "gspo" else "token",
            **layout,
        )
        loss = loss + extra["beta"] * penalty
    loss.backward()
    return loss.detach(), leaf.grad


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:clip_low=.* hardly ever clip:UserWarning")
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", SETTINGS)
def test_losses_and_gradients_are_those_of_other_projects(name, case):
    entry = ENTRIES[case, name]
    expected = torch.from_numpy(entry.gradient)
    for dtype, flat in product([torch.float64, torch.float32], [False, True]):
        of = {key: torch.from_numpy(value).to(dtype) for key, value in INPUTS[case].items()}
        loss, gradient = valued(of, entry, SETTINGS[name], flat)
        # verl and OpenRLHF add 1e-8 to denominators.
        rough = 1e-8 if name.endswith(("/verl", "/openrlhf")) else 1e-12
        tolerance = 1e-5 if dtype == torch.float32 else rough
        assert float(loss) == pytest.approx(entry.value, rel=tolerance, abs=tolerance)
        scale = float(expected.abs().max())
        torch.testing.assert_close(
            gradient.double(), expected, rtol=tolerance, atol=tolerance * scale
        )


LISTWISE = {
    "plackett_luce_strict": lambda entry: (losses.plackett_luce_loss, {}),
    "plackett_luce_bucket": lambda entry: (losses.plackett_luce_loss, {}),
    "pairwise_all": lambda entry: (losses.pairwise_loss, {}),
    "top_fraction_ce": lambda entry: (losses.top_fraction_loss, {"q": entry["q"]}),
}


def test_every_listwise_loss_and_gradient_is_that_of_the_reference():
    entries = golden.listwise()
    assert {entry["kind"] for entry in entries} == set(LISTWISE)
    for entry in entries:
        h = torch.tensor(entry["h"], dtype=torch.float64, requires_grad=True)
        loss_of, options = LISTWISE[entry["kind"]](entry)
        loss, _ = loss_of(h, entry["scores"], [0] * len(h), **options)
        loss.backward()
        assert float(loss.detach()) == pytest.approx(entry["loss"], rel=1e-12, abs=1e-13)
        expected = torch.tensor(entry["gradient"], dtype=torch.float64)
        torch.testing.assert_close(h.grad, expected, rtol=1e-12, atol=1e-13)
