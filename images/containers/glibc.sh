#!/bin/sh
# glibc.sh ROOTFS_TAR OUTDIR: the layer with the C library and its loader, for programs that need nothing else (envoy).
set -eu
tar=$1
out=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

tar -C "$work" -xf "$tar" --no-same-owner --wildcards ./lib ./lib64 './usr/lib64*' './usr/lib/*-linux-gnu/*.so*'
libraries=$(dirname "$(find "$work/usr/lib" -name 'libc.so.6' | head -n 1)")
[ "$libraries" != . ] || { echo "glibc.sh: no libc.so.6 in $tar" >&2; exit 1; }

# The last two are for names of hosts.
set -- "$libraries"/ld-linux-*.so.*
loader=$(basename "$1")
mkdir -p "$out/usr/lib64" "$out/tmp" "$out/etc"
for name in "$loader" libc.so.6 libm.so.6 libdl.so.2 libpthread.so.0 librt.so.1 libresolv.so.2 libnss_dns.so.2; do
	install -D -m 755 "$(readlink -f "$libraries/$name")" "$out/usr/lib/$(basename "$libraries")/$name"
done
chmod 1777 "$out/tmp"
printf 'root:x:0:0:root:/:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n' >"$out/etc/passwd"
# The places where programs look for the loader: /lib64 on amd64, /lib on arm64.
ln -s "../lib/$(basename "$libraries")/$loader" "$out/usr/lib64/$loader"
[ -e "$out/usr/lib/$loader" ] || ln -s "$(basename "$libraries")/$loader" "$out/usr/lib/$loader"
ln -s usr/lib "$out/lib"
ln -s usr/lib64 "$out/lib64"
