#!/usr/bin/env bash
# Print the newest base image of the Dockerfiles with its digest, for a build that can be repeated:
#
#   docker build --build-arg BASE="$(containers/pin-base.sh)" -f containers/slave/Dockerfile -t slave .
#
# The first argument is another image, python:3.11-slim by default. ENGINE is the program that pulls it:
# docker, or podman where docker is missing.
set -euo pipefail

image=${1:-python:3.11-slim}
engine=${ENGINE:-$(command -v docker || command -v podman)} || {
  echo "pin-base: needs docker or podman" >&2
  exit 3
}
"$engine" pull --quiet "$image" >/dev/null
digests=$("$engine" image inspect --format '{{range .RepoDigests}}{{println .}}{{end}}' "$image")
digest=${digests%%$'\n'*}
if [[ $digest != *@sha256:* ]]; then
  echo "pin-base: $image has no digest: it comes from no registry" >&2
  exit 1
fi
echo "$digest"
