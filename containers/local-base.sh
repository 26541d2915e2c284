#!/usr/bin/env bash
# Make a `python:3.11-slim` from Debian's packages, and print the settings with which buildah and podman
# build and run the images, on a machine without a container daemon and without an image registry.
#
#   eval "$(containers/local-base.sh)"
#   buildah build $BUILD_FLAGS -t slave -f containers/slave/Dockerfile .
#   podman run --rm -p 8080:8080 -e SYNC_TOKENS=secret slave
#
# The stand-in has the real image's packages of Debian and Python, unpacked but not configured, which
# takes seconds instead of minutes. It is kept in $WEBHOOK_SYNC_IMAGES (a folder of the user's cache).
# Root is required. Missing tools are installed if CI or INSTALL is set; otherwise the script lists
# them and exits with code 3.
set -euo pipefail

state=${WEBHOOK_SYNC_IMAGES:-${XDG_CACHE_HOME:-$HOME/.cache}/webhook-sync/images}
image=localhost/python:3.11-slim
tools=(buildah podman runc mmdebstrap)

stop() {
  echo "local-base: $1" >&2
  exit "${2:-1}"
}

[[ $EUID -eq 0 ]] || stop "needs root" 3
missing=()
for tool in "${tools[@]}"; do
  command -v "$tool" >/dev/null || missing+=("$tool")
done
if ((${#missing[@]})); then
  [[ -n ${CI:-}${INSTALL:-} ]] || stop "missing: ${missing[*]} (INSTALL=1 installs them)" 3
  { apt-get update -q && apt-get install -y -q --no-install-recommends "${missing[@]}"; } >&2 ||
    stop "cannot install ${missing[*]}"
fi

mkdir -p "$state"
exec 9>"$state/lock"
flock 9

# Share the machine's network and limits: a nested container may not create its own.
cat >"$state/containers.conf" <<'END'
[containers]
netns = "host"
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
END
export CONTAINERS_CONF=$state/containers.conf CONTAINERS_STORAGE_CONF=$state/storage.conf

use_driver() {
  printf '[storage]\ndriver = "%s"\ngraphroot = "%s/%s"\nrunroot = "%s/run"\n' \
    "$1" "$state" "$1" "$state" >"$CONTAINERS_STORAGE_CONF"
  podman info >/dev/null 2>&1
}
use_driver overlay || use_driver vfs || stop "podman works neither on overlay nor on vfs"

make_image() {
  local suite mirror packages root=$state/root.tar
  suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | head -n 1)
  [[ -n $mirror ]] || stop "apt knows no archive of packages"
  packages=base-files,dash,coreutils,sed,grep,findutils,libc-bin,apt,ca-certificates,python3,python3-pip
  mmdebstrap --quiet --variant=extract --include="$packages" \
    --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
    --customize-hook='ln -s /usr/bin/python3 "$1/usr/local/bin/python3"' \
    --customize-hook='echo root:x:0:0::/root:/bin/sh >"$1/etc/passwd"' \
    --customize-hook='echo root:x:0: >"$1/etc/group"' \
    "$suite" "$root" "$mirror" >&2
  podman import --quiet --change 'ENV LANG=C.UTF-8' --change 'CMD ["python3"]' "$root" "$image" >&2
  rm "$root"
}
podman image exists "$image" || make_image

# pip inside a build uses the index and the certificates of pip outside it; neither stays in an image.
flags="--isolation chroot --network host --pull=never --layers"
for file in "$HOME/.config/pip/pip.conf" /etc/pip.conf; do
  if [[ -e $file ]]; then
    flags+=" -v $file:/etc/pip.conf:ro"
    break
  fi
done
certificates=/etc/ssl/certs/ca-certificates.crt
[[ -e $certificates ]] && flags+=" -v $certificates:$certificates:ro"

printf "export %s='%s'\n" CONTAINERS_CONF "$CONTAINERS_CONF" \
  CONTAINERS_STORAGE_CONF "$CONTAINERS_STORAGE_CONF" BUILD_FLAGS "$flags"
