#!/bin/sh
# make.sh OUTDIR: a stand-in for Debian 13's generic cloud image, made as the cloud team makes theirs: same partitions, file system
# options, packages, boot loader and configuration of cloud-init; for tests on a machine that cannot reach the real one. Leaves in OUTDIR
#   disk.qcow2   the image
#   debs/*.deb   what the image lacks of the packages of sampan's own base (images/base/packages), with what these depend on
#   upstream/*.deb   the packages that a fetched bundle brings (images/upstream.toml)
# Runs as root or, through user namespaces, as a user; mounts nothing itself, uses no loop device. The log goes to stderr.
# SAMPAN_DEBIAN_MIRROR names another Debian mirror than the one of the host's apt.
set -eu

[ $# -eq 1 ] || { echo "usage: $0 OUTDIR" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
base=$here/../../images/base
mkdir -p "$1/debs" "$1/upstream"
out=$(cd "$1" && pwd)
export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-1767225600}"
export LC_ALL=C TZ=UTC PATH="$PATH:/usr/sbin:/sbin"
umask 022
exec >&2

root_part_id=7d0cfe1a-52a3-4c65-9f3f-0c10d6a50001
esp_part_id=7d0cfe1a-52a3-4c65-9f3f-0c10d6a50002
root_fs_id=7d0cfe1a-52a3-4c65-9f3f-0c10d6a50003
# In sectors of 512 bytes, as upstream has them; the root partition is the first by number and the last by place.
bios_start=2048 bios_size=6144
esp_start=8192 esp_size=253952
root_start=262144
disk_mib=3072

# The function of the same name in the base's own recipe: which mirror the host's apt uses.
eval "$(sed -n '/^host_mirror() {/,/^}/p' "$base/build.sh")"

words() { sed 's/#.*//' "$1" | tr -s '[:space:]' "$2" | sed "s/^$2//;s/$2\$//"; }

root=false mode=unshare
[ "$(id -u)" -ne 0 ] || { root=true; mode=root; }
in_namespace() {
	if $root; then "$@"; else mmdebstrap --unshare-helper "$@"; fi
}

mirror=${SAMPAN_DEBIAN_MIRROR:-$(host_mirror)}
work=$(mktemp -d "$out/.work.XXXXXX")
trap 'in_namespace rm -rf "$work/tree"; rm -rf "$work"' EXIT

# What mmdebstrap runs on the unpacked system, as `sh -c … ROOT`.
cat >"$work/customize" <<-'HOOK'
	set -eu
	root=$1 here=$2 work=$3 wanted=$4 root_part=$5 esp_part=$6 fs=$7 fetched=$8
	cp -R "$here/files/." "$root/"
	kernel=$(basename "$root"/boot/vmlinuz-*)
	release=${kernel#vmlinuz-}
	[ -e "$root/boot/initrd.img-$release" ] || chroot "$root" update-initramfs -c -k "$release"
	cat >"$root/etc/fstab" <<-FSTAB
		PARTUUID=$root_part / ext4 rw,discard,errors=remount-ro,x-systemd.growfs 0 1
		PARTUUID=$esp_part /boot/efi vfat defaults 0 0
	FSTAB
	mkdir -p "$root/boot/efi" "$root/boot/grub/i386-pc"
	cp "$root"/usr/lib/grub/i386-pc/*.mod "$root"/usr/lib/grub/i386-pc/*.lst "$root/boot/grub/i386-pc/"
	sed -e "s|@RELEASE@|$release|g; s|@FSUUID@|$fs|g; s|@PARTUUID@|$root_part|g" "$here/grub.cfg" >"$root/boot/grub/grub.cfg"
	# What our own base has and this image lacks, with dependencies, for this release of Debian.
	APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get --yes --download-only --no-install-recommends -o Dir::Cache::archives="$work/debs" install $wanted
	(cd "$work/upstream" && APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get download $fetched)
	chroot "$root" systemctl --quiet enable systemd-networkd.service systemd-resolved.service
	rm -f "$root/etc/resolv.conf"
	ln -s ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
	rm -f "$root"/etc/ssh/ssh_host_* "$root"/var/lib/apt/lists/*_* "$root"/var/cache/apt/*.bin "$root/var/lib/dbus/machine-id"
	: >"$root/etc/hostname"
	: >"$root/etc/machine-id"
	rm -rf "$root"/var/log/apt "$root/var/log/dpkg.log" "$root/var/log/bootstrap.log"
HOOK

mkdir -p "$work/debs/partial" "$work/upstream" "$work/tree"
fetched=$(sed -n '/^\[\[package\]\]/{n;s/^name = "\(.*\)"/\1/p}' "$here/../../images/upstream.toml" | tr '\n' ' ')
echo "cloud image: debian trixie from ${mirror:-the default mirror}, mode $mode"
mmdebstrap --mode="$mode" --variant=minbase --format=tar \
	--include="$(words "$here/packages" ,)" \
	--aptopt='Apt::Install-Recommends "false"' \
	--aptopt='Acquire::Languages { "none"; }' \
	--dpkgopt='path-exclude=/usr/share/man/*' \
	--dpkgopt='path-exclude=/usr/share/doc/*' \
	--dpkgopt='path-exclude=/usr/share/locale/*' \
	--customize-hook="sh '$work/customize' \"\$1\" '$here' '$work' '$(words "$base/packages" ' ')' $root_part_id $esp_part_id $root_fs_id '$fetched'" \
	trixie "$work/rootfs.tar" ${mirror:+"$mirror"}

# Makes the root file system, with upstream's features; runs with ids that may own what is in it.
cat >"$work/filesystem" <<-'SCRIPT'
	set -eu
	work=$1 fs=$2 mib=$3
	tar -C "$work/tree" --numeric-owner -xf "$work/rootfs.tar" --exclude='./dev/*'
	truncate -s "${mib}M" "$work/root.ext4"
	mke2fs -q -t ext4 -U "$fs" -m 0 -E nodiscard,lazy_itable_init=1 \
		-O none,sparse_super,large_file,filetype,resize_inode,dir_index,ext_attr,has_journal,extent,huge_file,flex_bg,metadata_csum,metadata_csum_seed,64bit,dir_nlink,extra_isize,orphan_file \
		-d "$work/tree" "$work/root.ext4"
SCRIPT
in_namespace sh "$work/filesystem" "$work" "$root_fs_id" "$((disk_mib - root_start / 2048 - 1))"

printf 'search.fs_uuid %s root\nset prefix=($root)/boot/grub\nnormal\n' "$root_fs_id" >"$work/early.cfg"
modules="part_gpt ext2 search search_fs_uuid normal linux configfile boot serial echo test"
grub-mkimage -O i386-pc -o "$work/core.img" -c "$work/early.cfg" -p /boot/grub biosdisk $modules
grub-mkimage -O x86_64-efi -o "$work/bootx64.efi" -c "$work/early.cfg" -p /boot/grub $modules
truncate -s "$((esp_size / 2))K" "$work/esp.fat"
mkfs.fat "$work/esp.fat" >/dev/null
mmd -i "$work/esp.fat" ::/EFI ::/EFI/BOOT
mcopy -i "$work/esp.fat" "$work/bootx64.efi" ::/EFI/BOOT/BOOTX64.EFI

disk=$work/disk.raw
truncate -s "${disk_mib}M" "$disk"
sfdisk --quiet "$disk" <<-TABLE
	label: gpt
	unit: sectors
	${disk}14 : start=$bios_start, size=$bios_size, type=21686148-6449-6E6F-744E-656564454649
	${disk}15 : start=$esp_start, size=$esp_size, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, uuid=$esp_part_id
	${disk}1 : start=$root_start, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709, uuid=$root_part_id
TABLE
# What grub-bios-setup would do: boot.img with the place of core.img, and in core.img the place of its rest.
eval "$(sed -n '/^little_endian() {/,/^}/p; /^poke() {/,/^}/p' "$base/disk.sh")"
dd if=/usr/lib/grub/i386-pc/boot.img of="$disk" bs=440 count=1 conv=notrunc status=none
little_endian "$bios_start" | poke "$disk" 92
printf '\220\220' | poke "$disk" 102
little_endian "$((bios_start + 1))" | poke "$work/core.img" 500
dd if="$work/core.img" of="$disk" bs=512 seek="$bios_start" conv=notrunc status=none
dd if="$work/esp.fat" of="$disk" bs=512 seek="$esp_start" conv=notrunc,sparse status=none
dd if="$work/root.ext4" of="$disk" bs=1M oflag=seek_bytes seek="$((root_start * 512))" conv=notrunc,sparse status=none

qemu-img convert -f raw -O qcow2 "$disk" "$work/disk.qcow2"
rm -f "$out"/debs/*.deb "$out"/upstream/*.deb
mv "$work"/debs/*.deb "$out/debs/"
mv "$work"/upstream/*.deb "$out/upstream/"
mv "$work/disk.qcow2" "$out/disk.qcow2"
echo "cloud image: done, $(du -h "$out/disk.qcow2" | cut -f1), lacking $(ls "$out/debs" | wc -l) packages"
