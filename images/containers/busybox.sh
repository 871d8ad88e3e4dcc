#!/bin/sh
# busybox.sh ROOTFS_TAR OUTDIR: the layer with Debian's static busybox under all its names.
set -eu
tar=$1
out=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

tar -C "$work" -xf "$tar" --no-same-owner ./usr/bin/busybox
mkdir -p "$out/bin" "$out/tmp"
chmod 1777 "$out/tmp"
install -m 755 "$work/usr/bin/busybox" "$out/bin/busybox"
"$out/bin/busybox" --list | while read -r applet; do
	[ "$applet" = busybox ] || ln -s busybox "$out/bin/$applet"
done
