# syntax=docker/dockerfile:1
# Two images from one file: `--target api` (no torch, a few hundred MB) and `--target worker` (torch, CUDA).
# Neither runs as root; both keep their data below /data.

FROM python:3.11-slim-bookworm AS base
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN useradd --create-home --uid 10001 deft && mkdir -p /data /models && chown deft:deft /data /models
WORKDIR /srv/deft
ENV DEFT_DATA_FOLDER=/data DEFT_MODEL_ROOTS=/models

FROM scratch AS source
COPY pyproject.toml README.md LICENSE /source/
COPY api /source/api
COPY cli /source/cli
COPY deft /source/deft
COPY deft_client /source/deft_client
COPY migrations /source/migrations
COPY store /source/store
COPY worker /source/worker

FROM base AS api
COPY requirements/server.txt requirements/
RUN pip install --no-deps --require-hashes -r requirements/server.txt
COPY --from=source /source ./
RUN pip install --no-deps .
USER deft
EXPOSE 8000
CMD ["uvicorn", "--factory", "api.main:create", "--host", "0.0.0.0", "--port", "8000"]

FROM base AS worker
ARG PIP_TORCH_ARGS=""
RUN pip install ${PIP_TORCH_ARGS} torch==2.13.0
COPY requirements/worker.txt requirements/
RUN pip install --no-deps --require-hashes -r requirements/worker.txt
COPY --from=source /source ./
RUN pip install --no-deps .
USER deft
STOPSIGNAL SIGTERM
CMD ["python", "-m", "worker.main"]
