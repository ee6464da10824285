"""What a step installs when it starts: one pinned version of each package.

Imports nothing, since the Dockerfile runs it alone: `python requirements.py steps` prints what the
image of that name installs.
"""

PYTHON_IMAGE = "python:3.11.14-slim"
"""Image of every step that needs no accelerator."""

PYTORCH_IMAGE = "pytorch/pytorch:2.7.1-cuda12.6-cudnn9-runtime"
"""Image of the steps that run a model: it holds Python 3.11, torch and CUDA."""

PINS = {
    "accelerate": "1.15.0",
    "google-api-core": "2.44.0",
    "google-auth": "2.62.2",
    "google-cloud-aiplatform": "1.165.1",
    "google-cloud-storage": "3.17.1",
    "jinja2": "3.1.6",
    "jsonschema": "4.26.0",
    "msgspec": "0.22.0",
    "pyyaml": "6.0.3",
    "requests": "2.33.0",
    "rouge-score": "0.1.2",
    "sacrebleu": "2.6.0",
    "transformers": "5.23.0",
}
"""Exactly what `constraints.txt` holds, which the development environment is made from."""


def pinned(*names: str) -> list[str]:
    """`name==version` for each of `names`."""
    return [f"{name}=={PINS[name]}" for name in names]


ACCELERATOR_PACKAGES = frozenset({"accelerate", "transformers"})
"""Only the steps on `PYTORCH_IMAGE` need these."""


def image_packages(image: str) -> list[str]:
    """What a prebuilt image holds: `steps` on `PYTHON_IMAGE`, or `gpu` on `PYTORCH_IMAGE`."""
    wanted = {"steps": set(PINS) - ACCELERATOR_PACKAGES, "gpu": set(PINS)}[image]
    return pinned(*sorted(wanted))


if __name__ == "__main__":
    import sys

    print("\n".join(image_packages(sys.argv[1])))
