#!/usr/bin/env bash
# docker/check-image.sh [TARGET...]: build the images and run them without a container engine.
# Needs root, buildah and debootstrap (Debian packages). The base is made from Debian packages: Python and nothing else.
# BUILDER_FLAGS: for a registry behind a proxy or a pip configuration, e.g. `--volume /etc/pip.conf:/etc/pip.conf:ro`.
set -euo pipefail
cd "$(dirname "$0")/.."
export STORAGE_DRIVER=${STORAGE_DRIVER:-vfs} BUILDAH_ISOLATION=chroot # neither overlay mounts nor namespaces needed
export BASE=localhost/pare-base:latest TAG=check BUILDER_FLAGS="--network host ${BUILDER_FLAGS:-}"
targets=("${@:-api}")

# Start the API on its embedded database, no broker behind the URL, and wait for its own health check to pass.
SERVE='export PARE_BROKER_URL=redis://127.0.0.1:1/0 PARE_PORT=18001
python -m migrations || exit 1
python -m app & started=$!
for _ in $(seq 30); do sleep 1; python /opt/pare-health.py api 2>/dev/null && healthy=yes && break; done
kill $started; wait $started; test "${healthy:-no}" = yes && echo "pare-api: healthy"'

make_base() {
    if buildah inspect --type image "$BASE" >/dev/null 2>&1; then return; fi
    local root container
    root=$(mktemp -d)
    debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$root"
    container=$(buildah from scratch)
    buildah add --quiet "$container" "$root" /
    buildah commit --quiet --rm "$container" "$BASE"
    rm -rf "$root"
}

in_image() { # in_image TARGET COMMAND...: run a command in a throw-away container, as the image's user
    local container status=0
    container=$(buildah from --pull-never "localhost/pare-$1:$TAG")
    shift
    buildah run "$container" -- "$@" || status=$?
    buildah rm "$container" >/dev/null
    return "$status"
}

expect_absent() { # expect_absent TARGET MODULE
    in_image "$1" python -c "import importlib.util, sys; sys.exit(importlib.util.find_spec('$2') and 'pare-$1 has $2')"
    echo "pare-$1: no $2"
}

check_api() {
    in_image api python -c 'import os, app.settings, migrations; assert os.getuid() == 10001, os.getuid()'
    in_image api python -m migrations # SQLite in the image's data directory: the migrations are in the package
    in_image api sh -c "$SERVE" # the templates and everything else the service reads are in the package too
    for module in torch onnx onnxruntime; do expect_absent api "$module"; done
}

check_worker() {
    in_image worker python -c 'import os, torch, onnx, onnxruntime; assert os.getuid() == 10001; print("torch", torch.__version__)'
    expect_absent worker pytest
}

make_base
for target in "${targets[@]}"; do
    docker/build-images.sh "$target"
    "check_$target"
    echo "pare-$target: checked"
done
