#!/bin/sh
# build.sh OUTDIR: makes the node's base system. Leaves in OUTDIR
#   rootfs.tar   the root file system, for the scripts that make image layers
#   disk.raw     GPT disk, sparse: BIOS boot, ESP and (last) the root partition; boots by firmware
#   vmlinuz initrd.img cmdline   the same system for direct boot
#   bzimage      the kernel still compressed, for hypervisors that start only such
# Runs as root or, through user namespaces, as a user; mounts nothing, uses no loop device. The log goes to stderr.
# SAMPAN_DEBIAN_MIRROR names another Debian mirror than the one of the host's apt.
set -eu

[ $# -eq 1 ] || { echo "usage: $0 OUTDIR" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
out=$(cd "$1" && pwd)
suite=trixie
export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-1767225600}"
export LC_ALL=C TZ=UTC PATH="$PATH:/usr/sbin:/sbin"
umask 022
exec >&2

# The URIs that the host's apt uses for Debian, most specific first; nothing on other distributions.
host_mirror() {
	grep -qs '^ID=debian$' /etc/os-release || return 0
	cat /etc/apt/sources.list.d/*.sources 2>/dev/null | awk -v RS= -v FS='\n' '
		!/(^|\n)Enabled: *no/ && /(^|\n)Suites:[^\n]*-updates/ {
			for (i = 1; i <= NF; i++) if ($i ~ /^URIs:/) { split($i, word, " "); print word[2]; exit }
		}'
}

root=false
mode=unshare
[ "$(id -u)" -ne 0 ] || { root=true; mode=root; }

# in_namespace CMD…: as a user, CMD sees the ids that the root file system needs.
in_namespace() {
	if $root; then "$@"; else mmdebstrap --unshare-helper "$@"; fi
}

mirror=${SAMPAN_DEBIAN_MIRROR:-$(host_mirror)}
packages=$(sed 's/#.*//' "$here/packages" | tr -s '[:space:]' ',' | sed 's/^,//;s/,$//')
work=$(mktemp -d "$out/.work.XXXXXX")
# What belongs to the sub-ids of a user namespace only that namespace can remove.
trap 'in_namespace rm -rf "$work/tree"; rm -rf "$work"' EXIT

echo "base: debian $suite from ${mirror:-the default mirror}, mode $mode"
mmdebstrap --mode="$mode" --variant=minbase --format=tar \
	--include="$packages" \
	--aptopt='Apt::Install-Recommends "false"' \
	--aptopt='Acquire::Languages { "none"; }' \
	--dpkgopt='path-exclude=/usr/share/man/*' \
	--dpkgopt='path-exclude=/usr/share/doc/*' \
	--dpkgopt='path-include=/usr/share/doc/*/copyright' \
	--dpkgopt='path-exclude=/usr/share/locale/*' \
	--dpkgopt='path-exclude=/usr/share/info/*' \
	--dpkgopt='path-exclude=/usr/share/bash-completion/*' \
	--customize-hook="sh '$here/customize.sh' \"\$1\" '$here' '$out'" \
	"$suite" "$work/rootfs.tar" ${mirror:+"$mirror"}

cp "$here/cmdline" "$work/cmdline"
mkdir "$work/tree"
in_namespace sh "$here/disk.sh" "$work/rootfs.tar" "$work"

# All or nothing: whoever sees disk.raw sees a whole base.
for file in rootfs.tar vmlinuz bzimage initrd.img cmdline disk.raw; do
	mv "$work/$file" "$out/$file"
done
echo "base: done, $(du -h "$out/disk.raw" | cut -f1) on the disk"
