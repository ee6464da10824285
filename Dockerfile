# syntax=docker/dockerfile:1.7
# Images for `vertex-sft compile --image`: what the steps install, and nothing of their code, which
# the templates carry. Versions are those of constraints.txt.
#
#   docker build --target steps -t IMAGE:TAG .
#   docker build --target gpu -t IMAGE:TAG-gpu .

# The steps that run a model. Tag and digest name the same image; the digest counts.
FROM pytorch/pytorch:2.7.1-cuda12.6-cudnn9-runtime@sha256:2b59b1b91885677814f78be1f8df48a25d5dc952eb6580eaecfefca510f9afd3 AS gpu
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# torch is the base image's, built for its CUDA: the lock's is the one of the development machines.
RUN --mount=type=bind,source=constraints.txt,target=/lock/constraints.txt \
    --mount=type=bind,source=components/sft_components/requirements.py,target=/lock/requirements.py \
    python /lock/requirements.py gpu > /tmp/packages.txt \
    && grep -v '^torch==' /lock/constraints.txt > /tmp/constraints.txt \
    && pip install --no-cache-dir -c /tmp/constraints.txt -r /tmp/packages.txt \
    && pip install --no-cache-dir --no-deps -c /tmp/constraints.txt kfp \
    && rm /tmp/packages.txt /tmp/constraints.txt \
    && useradd --uid 10001 --create-home step
USER 10001

# The steps that need no accelerator; the last stage, hence what a plain `docker build` makes.
FROM python:3.11.14-slim@sha256:c8271b1f627d0068857dce5b53e14a9558603b527e46f1f901722f935b786a39 AS steps
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1
RUN --mount=type=bind,source=constraints.txt,target=/lock/constraints.txt \
    --mount=type=bind,source=components/sft_components/requirements.py,target=/lock/requirements.py \
    python /lock/requirements.py steps > /tmp/packages.txt \
    && pip install --no-cache-dir -c /lock/constraints.txt -r /tmp/packages.txt \
    && pip install --no-cache-dir --no-deps -c /lock/constraints.txt kfp \
    && rm /tmp/packages.txt \
    && useradd --uid 10001 --create-home step
USER 10001
