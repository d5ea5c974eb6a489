# syntax=docker/dockerfile:1
# Two images: `service` (the last one, so the default), which also runs the HTTP gateway, and `samples` for trials.

FROM python:3.13-slim AS build
WORKDIR /src
COPY requirements-dev.lock ./
RUN pip install --no-cache-dir --no-deps --only-binary :all: --require-hashes -r requirements-dev.lock
COPY pyproject.toml README.md ./
COPY audience_service audience_service
RUN pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /out .

FROM python:3.13-slim AS installed
WORKDIR /src
COPY requirements.lock ./
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir --no-deps --only-binary :all: --require-hashes -r requirements.lock
COPY --from=build /out/*.whl ./
RUN /venv/bin/pip install --no-cache-dir --no-deps --no-index ./*.whl

# The service with sample contacts, whose packages the production lock omits. compose.yaml uses it.
FROM build AS samples
RUN pip install --no-cache-dir --no-deps --no-index /out/*.whl
USER 65532:65532
ENTRYPOINT ["audience-service"]
CMD ["seed"]

FROM python:3.13-slim AS service
# The service writes no files at run time, so the root file system can be read-only.
ENV PATH=/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    AUDIENCE_LISTEN=0.0.0.0:50051 AUDIENCE_HTTP_LISTEN=0.0.0.0:8080 AUDIENCE_LOG_FORMAT=json
COPY --from=installed /venv /venv
COPY deploy/health_probe.py /health_probe.py
USER 65532:65532
EXPOSE 50051 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s CMD ["python", "-I", "-S", "/health_probe.py"]
ENTRYPOINT ["audience-service"]
CMD ["serve"]
