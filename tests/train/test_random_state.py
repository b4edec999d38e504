"""Random generators: restored as they stood, and of all GPUs only that of the policy is asked."""

import random

import numpy as np
import pytest
import torch

from gspo_rs.train import evaluate
from gspo_rs.train.random_state import Generators, seed_generators

CPU, SECOND = torch.device("cpu"), torch.device("cuda:1")


@pytest.fixture
def gpus(monkeypatch):
    """Two GPUs, and which of them were asked for their generator, or had it set."""
    touched = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)

    def get(device="cuda"):
        touched.append(("get", device))
        return torch.zeros(16, dtype=torch.uint8)

    monkeypatch.setattr(torch.cuda, "get_rng_state", get)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda _, device: touched.append(device))
    return touched


def drawn():
    return random.random(), np.random.random(), float(torch.rand(()))


def test_generators_go_on_where_they_stood():
    seed_generators(3)
    stood = Generators.now()
    expected = drawn()
    assert drawn() != expected
    stood.restore()
    assert drawn() == expected


def test_a_policy_on_the_cpu_touches_no_gpu(gpus):
    Generators.now(CPU).restore(CPU)
    with evaluate._undisturbed(1, CPU):
        pass
    assert gpus == []


def test_a_policy_on_a_gpu_has_the_generator_of_that_one_saved_and_restored(gpus):
    Generators.now(SECOND).restore(SECOND)
    assert gpus == [("get", SECOND), SECOND]
    gpus.clear()
    Generators.now(SECOND).restore(CPU)
    assert gpus == [("get", SECOND)]


def test_an_evaluation_leaves_the_generator_of_its_gpu_as_it_was(gpus):
    with evaluate._undisturbed(1, SECOND):
        pass
    assert gpus == [("get", SECOND), SECOND]
