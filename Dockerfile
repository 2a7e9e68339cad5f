# The backend's image: gunicorn with its workers and the metrics exporter, as a user that owns nothing.
#
#   docker build -t baliblissed/backend:1.0.0 .
#   docker run --read-only --cap-drop ALL --security-opt no-new-privileges --stop-timeout 40 \
#     --tmpfs /run/metrics --tmpfs /tmp -e DATABASE_URL=... -e REDIS_URL=... -p 127.0.0.1:8000:8000 baliblissed/backend:1.0.0
#
# Any Debian with Python 3.11 or newer and its venv module serves as the base, and either of the engine's builders builds it.
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS build
# An index of one's own: --build-arg PIP_INDEX_URL=... . It is set in this stage only, so it is no part of what ships.
ARG PIP_INDEX_URL
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /build
COPY requirements.lock .
# Two environments: one that has pip, and one that ships and has none. Wheels only, so no compiler is needed and no
# package's set-up code runs; every file must have the hash that the lock file gives.
RUN python3 -m venv /build/installer \
    && python3 -m venv --without-pip /opt/venv \
    && /build/installer/bin/pip --python /opt/venv/bin/python install --quiet --no-deps --no-compile \
       --only-binary :all: --require-hashes --requirement requirements.lock
WORKDIR /app
COPY gunicorn_conf.py .
COPY app app
# COPY keeps the modes of the checkout, and one made with umask 077 gives files that the service's user cannot read.
# The root is read-only at run time, so the byte code is made here. Its validity does not hang on the files' times, which
# builders and registries may change: it is not checked at all.
RUN chmod -R a+rX /app \
    && /opt/venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/venv/lib /app

FROM ${BASE_IMAGE}
# The commit, where the builder says it: --build-arg REVISION=$(git rev-parse HEAD)
ARG REVISION=unknown
LABEL org.opencontainers.image.title="baliblissed-backend" \
      org.opencontainers.image.description="BaliBlissed travel API on several processes, with its metrics exporter" \
      org.opencontainers.image.version="1.0.0" \
      org.opencontainers.image.revision="${REVISION}"
# The numbers are part of the interface: volumes and pod security contexts name them. The metrics directory may be
# written by anybody because an engine that puts a tmpfs over it takes over its mode, but not its owner.
RUN groupadd --gid 10001 baliblissed \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin baliblissed \
    && install --directory --mode 1777 /run/metrics
COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    ENVIRONMENT=production \
    HOST=0.0.0.0 \
    METRICS_HOST=0.0.0.0 \
    PROMETHEUS_MULTIPROC_DIR=/run/metrics
WORKDIR /app
USER 10001:10001
EXPOSE 8000 9090
STOPSIGNAL SIGTERM
# Liveness and not readiness: engines that act on this restart the container, and a restart repairs no database.
# docker-compose.yaml replaces it by readiness, since it decides the order of the start there.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-ISc", "import os, sys, http.client as h; c = h.HTTPConnection('127.0.0.1', int(os.environ.get('PORT') or 8000), timeout=4); c.request('GET', '/health/live'); sys.exit(c.getresponse().status != 200)"]
CMD ["gunicorn", "-c", "gunicorn_conf.py"]
