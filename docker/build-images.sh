#!/usr/bin/env bash
# docker/build-images.sh TARGET...: build pare-TARGET images with docker, or with buildah where no docker engine runs.
# BASE: the base image. TORCH_INDEX: where torch comes from. TOOLCHAINS: for the worker. TAG: `latest`. BUILDER_FLAGS: added to the build command.
set -euo pipefail
cd "$(dirname "$0")/.."

if docker info >/dev/null 2>&1; then
    build=(docker build)
elif command -v buildah >/dev/null; then
    build=(buildah build --layers --format docker) # the OCI format has no health checks
else
    echo 'Neither a docker engine nor buildah was found: install one of them.' >&2
    exit 1
fi

read -r -a flags <<<"${BUILDER_FLAGS:-}"
for target in "${@:-api}"; do
    "${build[@]}" ${flags[@]+"${flags[@]}"} --target "$target" --tag "pare-$target:${TAG:-latest}" \
        --build-arg "BASE=${BASE:?the base image}" --build-arg "TORCH_INDEX=${TORCH_INDEX:-}" \
        --build-arg "TOOLCHAINS=${TOOLCHAINS:-}" .
done
