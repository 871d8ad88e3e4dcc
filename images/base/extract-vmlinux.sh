#!/bin/sh
# extract-vmlinux.sh BZIMAGE OUT: takes the ELF kernel out of a compressed kernel image (as the kernel's own
# scripts/extract-vmlinux does): finds a compression's magic number and tries to unpack from there.
set -eu
image=$1
out=$2

# try MAGIC(printf octal) PROGRAM…
try() {
	magic=$(printf "$1")
	shift
	for at in $(LC_ALL=C grep -abo -F "$magic" "$image" | cut -d: -f1); do
		tail -c "+$((at + 1))" "$image" | "$@" >"$out.new" 2>/dev/null || true
		if [ "$(head -c 4 "$out.new" | tail -c 3)" = ELF ]; then
			mv "$out.new" "$out"
			return 0
		fi
	done
	return 1
}

try '\050\265\057\375' zstd -dc ||
	try '\3757zXZ' xz -dc --single-stream ||
	try '\037\213\010' gzip -dc ||
	{ rm -f "$out.new"; echo "no kernel found in $image" >&2; exit 1; }
