#!/bin/sh
# disk.sh ROOTFS_TAR OUTDIR: turns the root file system into disk.raw, vmlinuz, bzimage and initrd.img in OUTDIR. OUTDIR
# holds the file cmdline and an empty folder tree; runs with ids that may own what is in the tar (root or a user namespace).
set -eu
tar=$1
out=$2
here=$(cd "$(dirname "$0")" && pwd)
tree=$out/tree
export E2FSPROGS_FAKE_TIME="$SOURCE_DATE_EPOCH"

# Fixed names, so that two builds give the same disk.
disk_id=5a3d9a1e-7c55-4b0e-9d2f-5a3b70a50001
esp_part_id=5a3d9a1e-7c55-4b0e-9d2f-5a3b70a50002
root_part_id=5a3d9a1e-7c55-4b0e-9d2f-5a3b70a50003
bios_part_id=5a3d9a1e-7c55-4b0e-9d2f-5a3b70a50004
root_fs_id=5a3d9a1e-7c55-4b0e-9d2f-5a3b70a50005
hash_seed=5a3d9a1e-7c55-4b0e-9d2f-5a3b70a50006
# In sectors of 512 bytes.
bios_start=2048 bios_size=2048
esp_start=4096 esp_size=16384
root_start=20480
root_mib=1024

tar -C "$tree" --numeric-owner -xf "$tar" --exclude='./dev/*' --exclude='./boot/initrd-*'

make_initrd() {
	stage=$out/initrd
	mkdir -p "$stage/bin" "$stage/modules" "$stage/dev" "$stage/proc" "$stage/sys" "$stage/sysroot"
	tar -C "$out" -xf "$tar" ./boot/initrd-init ./boot/initrd-modules
	cp "$out/boot/initrd-init" "$stage/init"
	cp "$tree/bin/busybox" "$stage/bin/busybox"
	for applet in sh mount insmod findfs switch_root sleep cat; do ln -s busybox "$stage/bin/$applet"; done
	while read -r module; do
		name=$(basename "$module" .ko)
		# /lib and /usr/lib are the same folder.
		cp "$tree/usr/lib/modules/${module##*/lib/modules/}" "$stage/modules/$name.ko"
		echo "$name"
	done <"$out/boot/initrd-modules" >"$stage/modules/order"
	find "$stage" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
	(cd "$stage" && find . | LC_ALL=C sort | cpio --quiet --reproducible -R 0:0 -H newc -o) >"$out/initrd.img"
	rm -rf "$stage" "$out/boot"
}

# The kernel as an ELF file: QEMU enters it directly (PVH), which saves unpacking it under emulation. And as Debian ships it:
# hyperkit starts only what has the setup header of a compressed kernel.
make_kernel() {
	sh "$here/extract-vmlinux.sh" "$tree/boot/vmlinuz" "$out/vmlinuz"
	cp "$tree/boot/vmlinuz" "$out/bzimage"
}

# mib_of SECTORS
make_root() {
	rm -f "$out/root.ext4"
	truncate -s "${root_mib}M" "$out/root.ext4"
	mke2fs -q -t ext4 -L sampan-root -U "$root_fs_id" -m 0 -J size=64 \
		-O ^metadata_csum_seed -E "hash_seed=$hash_seed,nodiscard,lazy_itable_init=1,resize=67108864" \
		-d "$tree" "$out/root.ext4"
}

make_esp() {
	config=$out/grub.cfg
	sed "/^#/d; s|@CMDLINE@|$(cat "$out/cmdline")|" "$here/grub.cfg" >"$config"
	grub-mkstandalone -O x86_64-efi -o "$out/bootx64.efi" --locales= --fonts= --themes= \
		--install-modules="part_gpt ext2 linux search search_label normal boot" \
		--modules="part_gpt ext2 linux search search_label" "boot/grub/grub.cfg=$config"
	truncate -s "$((esp_size / 2))K" "$out/esp.fat"
	mkfs.fat -i 5a3b70a5 -n SAMPAN-ESP --invariant "$out/esp.fat" >/dev/null
	mmd -i "$out/esp.fat" ::/EFI ::/EFI/BOOT
	mcopy -i "$out/esp.fat" "$out/bootx64.efi" ::/EFI/BOOT/BOOTX64.EFI
	grub-mkimage -O i386-pc -o "$out/core.img" -c "$config" -p /boot/grub biosdisk part_gpt ext2 linux search search_label normal boot
}

# little_endian VALUE: 8 bytes
little_endian() {
	value=$1
	i=0
	while [ "$i" -lt 8 ]; do
		# shellcheck disable=SC2059 # the format is made here
		printf "\\$(printf %o $((value & 255)))"
		value=$((value >> 8))
		i=$((i + 1))
	done
}

# poke FILE OFFSET: standard input over the bytes at OFFSET
poke() {
	dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

make_disk() {
	disk=$out/disk.raw
	rm -f "$disk"
	truncate -s "$((root_start * 512 + root_mib * 1048576 + 1048576))" "$disk"
	sfdisk --quiet "$disk" <<-EOF
		label: gpt
		label-id: $disk_id
		start=$bios_start, size=$bios_size, type=21686148-6449-6E6F-744E-656564454649, uuid=$bios_part_id, name=bios
		start=$esp_start, size=$esp_size, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, uuid=$esp_part_id, name=esp
		start=$root_start, size=$((root_mib * 2048)), type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709, uuid=$root_part_id, name=sampan-root
	EOF
	# What grub-install would do: boot.img into the first sector (its first 440 bytes; the partition table stays) with the
	# address of core.img in it, and in core.img's first sector the address of the rest.
	grub=/usr/lib/grub/i386-pc
	dd if="$grub/boot.img" of="$disk" bs=440 count=1 conv=notrunc status=none
	little_endian "$bios_start" | poke "$disk" 92
	printf '\220\220' | poke "$disk" 102
	little_endian "$((bios_start + 1))" | poke "$out/core.img" 500
	dd if="$out/core.img" of="$disk" bs=512 seek="$bios_start" conv=notrunc status=none
	dd if="$out/esp.fat" of="$disk" bs=512 seek="$esp_start" conv=notrunc,sparse status=none
	dd if="$out/root.ext4" of="$disk" bs=1M oflag=seek_bytes seek="$((root_start * 512))" conv=notrunc,sparse status=none
}

make_initrd
make_kernel
cp "$out/initrd.img" "$tree/boot/initrd.img"
make_root
make_esp
make_disk
rm -rf "$out/root.ext4" "$out/esp.fat" "$out/core.img" "$out/bootx64.efi" "$out/grub.cfg"
