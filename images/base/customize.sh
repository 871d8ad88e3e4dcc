#!/bin/sh
# customize.sh ROOT HERE: what mmdebstrap runs on the unpacked system (outside of it, with its ids): our files, the kernel,
# services on and off.
set -eu
root=$1
here=$2

# The tree may have come through an archive that keeps no modes: they are set here.
(cd "$here/files" && find . -type f) | while read -r file; do
	case $file in
	./usr/local/lib/sampan/* | ./usr/local/bin/* | ./usr/local/sbin/*) mode=755 ;;
	*) mode=644 ;;
	esac
	install -D -m "$mode" "$here/files/$file" "$root/$file"
done

# Links: "TARGET PATH" each line. The programs of the node run from the parts disk in place.
sed 's/#.*//' "$here/links" | while read -r target path; do
	[ -n "$path" ] || continue
	mkdir -p "$root$(dirname "$path")"
	ln -sfn "$target" "$root$path"
done
mkdir -p "$root/opt/sampan/parts" "$root/etc/kubernetes/manifests" "$root/var/lib/kubelet" "$root/root/.ssh"
chmod 700 "$root/root/.ssh"

# The kernel package is unpacked, not installed: its scripts would pull in an initramfs generator, and the initrd is ours.
package=$(APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-cache depends linux-image-cloud-amd64 | awk '$1 == "Depends:" { print $2; exit }')
echo "base: kernel $package"
(cd "$root/var/cache" && APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get download "$package")
# shellcheck disable=SC2086 # the name is a pattern
dpkg-deb -x "$root"/var/cache/"$package"_*.deb "$root"
rm "$root"/var/cache/"$package"_*.deb
release=${package#linux-image-}
mv "$root/boot/vmlinuz-$release" "$root/boot/vmlinuz"
rm -f "$root"/boot/System.map-* "$root/boot/config-$release"
# Unpacked modules load faster where every instruction is emulated, and a few hundred of them are of no use in any VM.
for unwanted in drivers/infiniband drivers/media drivers/net/wireless drivers/net/ethernet drivers/gpu drivers/iommu \
	drivers/mmc drivers/usb drivers/hid drivers/input drivers/target drivers/ptp drivers/edac drivers/accel \
	net/sunrpc net/rxrpc net/sctp net/dccp net/rds net/tipc net/ceph net/9p net/bluetooth net/wireless \
	fs/ocfs2 fs/gfs2 fs/ceph fs/smb fs/nfs fs/nfsd fs/afs fs/jfs fs/reiserfs fs/ubifs fs/btrfs fs/xfs fs/bcachefs fs/f2fs sound; do
	rm -rf "$root/usr/lib/modules/$release/kernel/$unwanted"
done
find "$root/usr/lib/modules/$release" -name '*.ko.xz' -exec xz -d {} +
chroot "$root" depmod "$release"

# The initrd's list, with what it depends on.
: >"$root/boot/initrd-modules"
sed 's/#.*//' "$here/initrd-modules" | while read -r module; do
	[ -n "$module" ] || continue
	chroot "$root" modprobe -S "$release" --show-depends "$module" 2>/dev/null | awk '$1 == "insmod" { print $2 }' >>"$root/boot/initrd-modules" || true
done
awk '!seen[$0]++' "$root/boot/initrd-modules" >"$root/boot/initrd-modules.new"
mv "$root/boot/initrd-modules.new" "$root/boot/initrd-modules"
install -m 755 "$here/initrd-init" "$root/boot/initrd-init"

chroot "$root" systemctl --quiet enable ssh.service systemd-networkd.service systemd-resolved.service containerd.service kubelet.service \
	sampan-seed.service sampan-grow.service
chroot "$root" systemctl --quiet mask \
	apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer \
	man-db.timer motd-news.timer systemd-tmpfiles-clean.timer systemd-timesyncd.service systemd-networkd-wait-online.service \
	systemd-pcrphase.service systemd-pcrphase-sysinit.service systemd-binfmt.service systemd-hwdb-update.service \
	systemd-journal-catalog-update.service systemd-update-done.service systemd-ask-password-wall.path systemd-ask-password-console.path \
	ldconfig.service console-getty.service getty@tty1.service systemd-firstboot.service systemd-boot-random-seed.service \
	sys-kernel-debug.mount sys-kernel-tracing.mount dev-hugepages.mount dev-mqueue.mount sys-fs-fuse-connections.mount \
	apparmor.service dbus.service dbus.socket systemd-logind.service serial-getty@.service getty.target systemd-user-sessions.service \
	sys-kernel-config.mount modprobe@configfs.service modprobe@drm.service modprobe@efi_pstore.service systemd-pstore.service \
	tmp.mount run-lock.mount proc-sys-fs-binfmt_misc.automount efi.automount systemd-hostnamed.socket systemd-creds.socket \
	systemd-initctl.socket systemd-sysext.socket systemd-sysusers.service systemd-random-seed.service systemd-udev-load-credentials.service \
	systemd-networkd-persistent-storage.service systemd-tpm2-setup.service systemd-tpm2-setup-early.service \
	systemd-hibernate-clear.service systemd-pcrmachine.service systemd-pcrproduct.service \
	netfilter-persistent.service systemd-network-generator.service ssh.socket sshd-unix-local.socket sshd-vsock.socket \
	systemd-rfkill.socket nftables.service conntrackd.service
# Of the generators only the one for fstab has something to find here.
mkdir -p "$root/etc/systemd/system-generators"
for generator in debug getty gpt-auto hibernate-resume rc-local run ssh system-update sysv tpm2; do
	ln -s /dev/null "$root/etc/systemd/system-generators/systemd-$generator-generator"
done
ln -sfn /usr/lib/systemd/system/multi-user.target "$root/etc/systemd/system/default.target"
# The profiles of desktop programs; containerd makes and loads its own.
find "$root/etc/apparmor.d" -mindepth 1 -maxdepth 1 -type f -delete
rm -rf "$root"/etc/apparmor.d/disable "$root"/etc/apparmor.d/force-complain "$root"/etc/apparmor.d/local
rm -f "$root/etc/resolv.conf"
ln -s ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"

# Nothing that would be the same in two nodes, nothing that differs between two builds.
rm -f "$root"/etc/ssh/ssh_host_* "$root/etc/hostname" "$root"/var/lib/apt/lists/*_* "$root"/var/cache/apt/*.bin "$root/var/cache/ldconfig/aux-cache"
: >"$root/etc/machine-id"
rm -rf "$root"/var/log/* "$root"/var/cache/debconf/*-old "$root"/var/lib/dpkg/*-old "$root"/usr/share/zoneinfo/right
mkdir -p "$root/var/log/journal"
rm -f "$root/usr/lib/udev/hwdb.bin" "$root/etc/udev/hwdb.bin"
