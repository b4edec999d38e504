"""Keys of other trainers lead to ours."""

import dataclasses

import pytest

from gspo_rs.groups.synonyms import meant
from gspo_rs.train.config.config import Config, ConfigError
from gspo_rs.train.config.keys import KEYS, RENAMED, near_key
from gspo_rs.train.config.toml import load

OURS = [field.name for field in dataclasses.fields(Config)]


@pytest.mark.parametrize(
    ("given", "ours"),
    [
        ("lr", "`learning_rate`"),
        ("actor_lr", "`learning_rate`"),
        ("learningRate", "`learning_rate`"),
        ("group_size", "`num_generations`"),
        ("n", "`num_generations`"),
        ("num_return_sequences", "`num_generations`"),
        ("epsilon", "`clip_low` and `clip_high`"),
        ("epsilon_high", "`clip_high`"),
        ("clip_ratio_low", "`clip_low`"),
        ("kl_coef", "`beta`"),
        ("kl_loss_type", "`kl_estimator`"),
        ("loss_type", "`loss`"),
        ("loss_agg_mode", "`reduction`"),
        ("adv_estimator", "`advantage`"),
        ("model_name_or_path", "`model`"),
        ("max_new_tokens", "`max_completion_length`"),
        ("max_response_length", "`max_completion_length`"),
        ("per_device_train_batch_size", "`prompts_per_step`"),
        ("gradient_accumulation_steps", "`micro_batch_tokens`"),
        ("ppo_epochs", "`num_iterations`"),
        ("total_epochs", "`num_train_epochs`"),
        ("reward_funcs", "`reward`"),
        ("train_files", "`prompts` and `rollouts`"),
        ("lora_rank", "`lora_r`"),
        ("bf16", "`dtype`"),
        ("grad_clip", "`max_grad_norm`"),
        ("save_freq", "`save_steps`"),
        ("opsm", "`off_policy_mask_threshold`"),
        ("shuffle", "`shuffle_dataset`"),
        ("lerning_rate", "`learning_rate`"),
    ],
)
def test_the_key_of_another_trainer_is_told_ours_before_what_is_spelled_alike(
    tmp_path, given, ours
):
    (tmp_path / "run.toml").write_text(f'model = "m"\n{given} = 1\n')
    with pytest.raises(ConfigError, match=rf"unknown key `{given}`; did you mean {ours}\?$"):
        load(tmp_path / "run.toml")


def test_a_key_that_resembles_none_does_not_list_all_of_them(tmp_path):
    (tmp_path / "run.toml").write_text('model = "m"\nxyzzy = 1\n')
    with pytest.raises(
        ConfigError, match=r"unknown key `xyzzy`; `gspo-rs train --help-all` lists all$"
    ) as caught:
        load(tmp_path / "run.toml")
    assert len(str(caught.value)) < 200 + len(str(tmp_path))


def test_every_synonym_leads_to_keys_that_there_are_and_is_none_itself():
    for theirs, ours in KEYS.items():
        assert set(ours.split()) <= set(OURS), theirs
        assert meant(theirs, OURS, KEYS) == ours.split(), theirs
        assert near_key(theirs, OURS).startswith("did you mean")


def test_a_field_that_was_renamed_is_named_by_its_new_name():
    for before, now in RENAMED.items():
        assert before not in OURS
        assert near_key(before, OURS) == f"did you mean `{now}`?"


def test_an_unknown_field_in_python_is_told_ours_too():
    with pytest.raises(TypeError, match=r"Config has no field `lr`; did you mean `learning_rate`"):
        Config(model="m", lr=1e-5)
