# syntax=docker/dockerfile:1
#
# Two images from one file:
#
#   api      the front end, the migrations and the administration; no torch
#   worker   the queue's worker and the engine
#
#   docker build --target api --tag modelpress-api .
#   docker build --target worker --tag modelpress-worker .
#   docker build --target worker --tag modelpress-worker-cpu --build-arg TORCH_INDEX=<PyTorch's index of CPU builds> .

FROM python:3.11-slim AS base
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PATH=/opt/modelpress/bin:$PATH \
    MODELPRESS_HOME=/var/lib/modelpress
# tini hands signals on and buries what the engine leaves behind.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends tini \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --user-group --home-dir /var/lib/modelpress --create-home modelpress
WORKDIR /var/lib/modelpress
ENTRYPOINT ["tini", "--"]

FROM base AS source
WORKDIR /source
COPY pyproject.toml README.md ./
COPY modelpress modelpress
COPY api api
COPY worker worker
COPY db db
COPY storage storage
COPY service service

FROM source AS api-build
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv /opt/modelpress && pip install '.[server]' \
 && python -m compileall -q /opt/modelpress/lib

FROM source AS worker-build
# A further index to take torch and torchvision from, such as PyTorch's own of CPU builds, which spares gigabytes where
# there is no GPU. The builds on the usual index are those for CUDA; they run on a CPU too.
ARG TORCH_INDEX=
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv /opt/modelpress && pip install ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} '.[server,engine]' \
 && python -m compileall -q /opt/modelpress/lib

FROM base AS worker
COPY --from=worker-build /opt/modelpress /opt/modelpress
USER modelpress
CMD ["python", "-m", "worker", "jobs"]

FROM base AS api
COPY --from=api-build /opt/modelpress /opt/modelpress
USER modelpress
EXPOSE 8000
CMD ["uvicorn", "api.app:create_app", "--factory", "--host", "0.0.0.0", "--port", "8000"]
