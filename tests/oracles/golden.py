"""The figures of tests/golden: what other projects' own code gives for the same inputs."""

import json
from functools import cache
from typing import NamedTuple

import numpy as np

from fixtures.places import ROOT

FOLDER = ROOT / "tests" / "golden"


class Advantages(NamedTuple):
    """The advantages of one case by one estimator of one source."""

    source: str
    estimator: str
    case: str
    values: np.ndarray


class Loss(NamedTuple):
    """The value and the gradient of one loss for one case, and the settings that gave them."""

    source: str
    options: dict
    value: float
    gradient: np.ndarray


@cache
def read(name):
    """One of the files as it is."""
    return json.loads((FOLDER / f"{name}.json").read_text())


def advantages():
    """The rewards and groups of each case, and the advantages of them."""
    file = read("advantages")
    cases = {name: {k: np.array(v) for k, v in of.items()} for name, of in file["cases"].items()}
    values = [
        Advantages(source, estimator, case, np.array(values))
        for source, estimators in file["sources"].items()
        for estimator, of in estimators.items()
        for case, values in of.items()
    ]
    return cases, values


def losses():
    """The inputs of each case, and by case and entry the loss of them with its gradient."""
    file = read("losses")
    cases = {
        name: {k: np.array(v, dtype=np.float64) for k, v in of.items()}
        for name, of in file["cases"].items()
    }
    found = {}
    for name, entry in file["entries"].items():
        for case in entry.keys() & cases.keys():
            gradient = entry[case]["gradient"]
            # Equal to the last bit to that of an entry before, which is named in its place.
            array = found[case, gradient].gradient if isinstance(gradient, str) else gradient
            given = entry["source"], entry["options"], entry[case]["loss"]
            found[case, name] = Loss(*given, np.array(array))
    return cases, found


def listwise():
    """Scores, values of the head, loss and gradient of each loss of ranked lists."""
    file = read("listwise")
    return [{**file["cases"][entry["case"]], **entry} for entry in file["entries"]]
