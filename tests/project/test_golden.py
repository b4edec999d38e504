"""The golden figures in the repository: those they were taken from, each with its source."""

import json

import numpy as np
import pytest

from oracles import golden

PROJECTS = {
    "trl 1.13.0": "TRL 1.13.0: ",
    "verl": "verl 1dda039b: ",
    "slime": "slime 624b824a: ",
    "openrlhf": "OpenRLHF 3c3be623: ",
    "areal": "AReaL 4aef98d8: ",
    "ms-swift": "ms-swift 3602360a: ",
    "RUCAIBox/Passk_Training": "Passk_Training c3ba575e: ",
}
INPUTS = {
    "logprobs": "logps",
    "old_logprobs": "old_logps",
    "ref_logprobs": "ref_logps",
    "sampler_logprobs": "rollout_logps",
    "groups": "group_index",
    **{name: name for name in ("is_token", "mask", "advantages", "rewards")},
}


def bits(values):
    """What two arrays share that are equal to the last bit, the sign of a zero too."""
    values = np.asarray(values, dtype=np.float64)
    return values.shape, values.tobytes()


def named(source):
    """A source as the files here name it, without remarks in parentheses."""
    for project, name in PROJECTS.items():
        if source.startswith(f"peer:{project} "):
            return name + source.removeprefix(f"peer:{project} ").split(" (")[0]
    assert source.startswith("reference")
    return "reference"


@pytest.fixture
def origin(shared):
    return lambda name: json.loads((shared / "golden" / f"{name}.json").read_text())


def test_losses_and_their_inputs_are_to_the_bit_those_they_were_taken_from(origin, shared):
    cases, entries = golden.losses()
    with np.load(shared / "golden" / "losses.npz") as file:
        arrays = dict(file)
    inputs = {f"{case}/{INPUTS[name]}": v for case, of in cases.items() for name, v in of.items()}
    gradients = {f"{case}/grad/{name}": of.gradient for (case, name), of in entries.items()}
    found = {name: bits(values) for name, values in (inputs | gradients).items()}
    assert found == {name: bits(values) for name, values in arrays.items()}
    assert {key: (of.source, of.options, bits(of.value)) for key, of in entries.items()} == {
        (e["case"], e["entry"]): (named(e["source"]), e["params"], bits(e["loss"]))
        for e in origin("losses")["entries"]
    }


def test_losses_of_ranks_are_to_the_bit_those_they_were_taken_from(origin):
    keys = {"loss": "loss", "gradient": "grad", "h": "h", "scores": "scores"}

    def held(entries, keys):
        return {(e["case"], e["kind"], e.get("q")): [bits(e[key]) for key in keys] for e in entries}

    expected = origin("listwise")
    assert {named(entry["source"]) for entry in expected} == {"reference"}
    assert held(golden.listwise(), keys.keys()) == held(expected, keys.values())


def test_advantages_are_to_the_bit_those_they_were_taken_from(origin):
    expected = origin("advantages")
    cases, values = golden.advantages()
    assert {name: (bits(of["rewards"]), bits(of["groups"])) for name, of in cases.items()} == {
        name: (bits(of["rewards"]), bits(of["group"])) for name, of in expected["cases"].items()
    }
    assert {(of.source, of.estimator, of.case): bits(of.values) for of in values} == {
        (named(e["source"]), e["estimator"], e["case"]): bits(e["advantages"])
        for e in expected["entries"]
    }


def test_advantages_of_several_rewards_are_to_the_bit_those_they_were_taken_from(origin):
    found, expected = golden.read("advantages")["gdpo"], origin("advantages")["gdpo"]
    assert bits(found["rewards"]) == bits(expected["rewards_per_func"])
    for key in ("weights", "group_size", "eps"):
        assert found[key] == expected[key]
    reference, other = found["advantages"].values()
    assert bits(reference) == bits(expected["reference"])
    assert bits(other) == bits(expected["peer_ms_swift"])


def test_every_source_is_in_the_table_of_projects_with_its_version():
    rows = [line.split("|") for line in (golden.FOLDER / "README.md").read_text().splitlines()]
    table = {(row[1].split("]")[0].strip(" ["), row[2].strip()) for row in rows if len(row) == 5}
    sources = {entry.source for entry in [*golden.advantages()[1], *golden.losses()[1].values()]}
    sources |= golden.read("advantages")["gdpo"]["advantages"].keys()
    assert len(sources) > 15
    for source in sources - {"reference"}:
        assert tuple(source.split(":")[0].rsplit(" ", 1)) in table
