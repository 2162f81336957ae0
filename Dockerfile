# An image of the command line, without root.
#
#   docker build -t codegen .
#   docker run --rm -v "$PWD:/work" codegen doctor
#
# EXTRAS chooses what is installed (docs/install.md); PIP_EXTRA_INDEX_URL may name PyTorch's CPU index.
# The sandbox needs to make namespaces: docs/install.md says with which options of `docker run`.
ARG PYTHON=3.13
FROM python:${PYTHON}-slim-trixie AS build
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
ENV CODEGEN_REQUIRE_COMPILED=1
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:${PYTHON}-slim-trixie
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends bubblewrap \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 codegen
ARG EXTRAS=all
ARG PIP_EXTRA_INDEX_URL=
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir "$(ls /wheels/*.whl)[${EXTRAS}]"
USER 1000
WORKDIR /work
ENTRYPOINT ["codegen"]
CMD ["--help"]
