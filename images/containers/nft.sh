#!/bin/sh
# nft.sh ROOTFS_TAR OUTDIR: the layer with nft and just the libraries that it needs, for kube-proxy in mode nftables.
# The libraries are found by the guest's own loader, so this runs on a host of the same architecture.
set -eu
tar=$1
out=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

tar -C "$work" -xf "$tar" --no-same-owner --wildcards ./lib ./lib64 './usr/lib64*' './usr/sbin/nft' './usr/lib/*-linux-gnu/*.so*'
loader=$(find "$work/usr/lib64" "$work/usr/lib" -name 'ld-linux-*.so.*' | head -n 1)
libraries=$(dirname "$(find "$work/usr/lib" -name 'libnftables.so.*' | head -n 1)")
[ -n "$loader" ] && [ -n "$libraries" ] || { echo "nft.sh: no loader or libnftables in $tar" >&2; exit 1; }

# put PATH: a file or the link and the file it ends at, at the same place in the layer.
put() {
	install -D -m 755 "$(readlink -f "$1")" "$out/${1#"$work/"}"
}

mkdir -p "$out"
put "$work/usr/sbin/nft"
"$loader" --library-path "$libraries" --list "$work/usr/sbin/nft" | awk '$3 ~ /^\// { print $3 }' | while read -r library; do
	put "$library"
done
# The place where programs look for the loader.
name=$(basename "$loader")
put "$(find "$libraries" -name "$name")"
mkdir -p "$out/usr/lib64" "$out/tmp"
chmod 1777 "$out/tmp"
ln -sfn "../lib/$(basename "$libraries")/$name" "$out/usr/lib64/$name"
ln -s usr/lib "$out/lib"
ln -s usr/lib64 "$out/lib64"
ln -s usr/sbin "$out/sbin"
