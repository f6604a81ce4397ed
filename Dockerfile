# Two services from one tree. `api` has no torch and cannot import it; `worker` has it, pinned and installed first.
# BASE may be any image with Python >= 3.11, its venv module and useradd: the build is checked over plain Debian too.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS source
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python3 -m venv /opt/pare
WORKDIR /src
# Dependencies first, from the metadata alone: a change of code does not download them again. What building the empty
# packages leaves behind must go: it is newer than the sources copied later, and setuptools would prefer it.
COPY pyproject.toml constraints.txt ./
COPY app/__init__.py app/
RUN mkdir worker migrations && touch README.md LICENSE worker/__init__.py migrations/__init__.py

FROM source AS api-build
RUN /opt/pare/bin/pip install -c constraints.txt . && rm -rf build *.egg-info
COPY README.md LICENSE ./
COPY app app
COPY worker worker
COPY migrations migrations
RUN /opt/pare/bin/pip install --no-deps --force-reinstall .

FROM source AS worker-build
# Empty: pip's default index, whose Linux build of torch carries CUDA. Give the CPU index for a smaller image.
ARG TORCH_INDEX=
RUN /opt/pare/bin/pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$(grep -oE 'torch==[0-9.]+' pyproject.toml | head -n 1)"
RUN /opt/pare/bin/pip install -c constraints.txt '.[worker]' && rm -rf build *.egg-info
COPY README.md LICENSE ./
COPY app app
COPY worker worker
COPY migrations migrations
COPY toolchains toolchains
RUN /opt/pare/bin/pip install --no-deps --force-reinstall .
# Converters and runtimes of other formats, such as TOOLCHAINS=openvino; each adds 0.5 to 2 GB.
ARG TOOLCHAINS=
ENV PARE_TOOLCHAINS_DIR=/opt/pare-toolchains
RUN mkdir -p "$PARE_TOOLCHAINS_DIR" && { [ -z "$TOOLCHAINS" ] || /opt/pare/bin/python -m worker toolchains install $TOOLCHAINS; }

FROM ${BASE} AS runtime
RUN useradd --system --uid 10001 --home-dir /var/lib/pare --create-home pare
COPY docker/health.py /opt/pare-health.py
ENV PATH=/opt/pare/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PARE_DATA_DIR=/var/lib/pare
WORKDIR /var/lib/pare
USER pare

FROM runtime AS worker
COPY --from=worker-build /opt/pare /opt/pare
COPY --from=worker-build /opt/pare-toolchains /opt/pare-toolchains
ENV PARE_TOOLCHAINS_DIR=/opt/pare-toolchains
# A training loop on two spinning, oversubscribed threads was 50 times slower than on one; and no telemetry.
ENV OMP_WAIT_POLICY=PASSIVE ORT_DISABLE_TELEMETRY=1
HEALTHCHECK --interval=15s --timeout=10s --start-period=60s --retries=3 CMD ["python", "/opt/pare-health.py", "worker"]
CMD ["python", "-m", "worker"]

# The worker and what examples/demo.py needs beside it; only compose's `demo` profile builds this.
FROM worker AS demo
USER root
COPY constraints.txt /opt/pare/
RUN /opt/pare/bin/pip install --no-cache-dir -c /opt/pare/constraints.txt 'pare[demo]'
COPY examples /opt/pare/examples
USER pare
HEALTHCHECK NONE
CMD ["python", "/opt/pare/examples/demo.py"]

# Last, so that a build without --target makes the small one.
FROM runtime AS api
COPY --from=api-build /opt/pare /opt/pare
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 CMD ["python", "/opt/pare-health.py", "api"]
CMD ["python", "-m", "app"]
