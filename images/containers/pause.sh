#!/bin/sh
# pause.sh ROOTFS_TAR OUTDIR: the layer with /pause, compiled here. It needs nothing of the base's root file system.
set -eu
out=$2
here=$(dirname "$0")

mkdir -p "$out"
"${CC:-cc}" -Os -Wall -Wextra -Werror -static -s -Wl,--build-id=none -o "$out/pause" "$here/pause.c"
chmod 755 "$out/pause"
