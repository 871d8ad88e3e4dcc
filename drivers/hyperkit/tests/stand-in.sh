# A stand-in for hyperkit, for tests where there is no Mac: takes hyperkit's command line and runs the same disks, kernel and memory under
# QEMU. Sourced by a script that sets
#   leases    the lease file to write to, as macOS's DHCP server does
#   name      the name the guest gives itself
#   address   the address the "DHCP server" gives it: one of 127.0.0.0/8 on which QEMU listens for it
#   ports     the guest's ports to be reached there
# What is hyperkit's: switches it does not know are an error, the pidfile must not exist, SIGTERM presses the power button, the kernel has to
# be a compressed one, leases have no leading zeros. shellcheck shell=sh
usage() { echo "Usage: hyperkit [-behuwxMACHPWY] [-c vcpus] [-F <pidfile>] -f <fw>: $1"; exit 1; }

[ "$1" = -v ] && { printf 'hyperkit: 0.20210107\n\nHomepage: https://github.com/docker/hyperkit\nLicense: BSD\n\n'; exit 0; }

cpus=1 memory=256M uuid='' pidfile='' firmware='' log='' bridge='' lpc='' net=''
set_drives() { drives="$drives -drive if=virtio,format=raw,file=$1"; }
drives=''
while getopts behvuwxMACHPWY:f:F:g:c:s:m:l:U: switch; do
	case $switch in
	A | u) ;;
	F) pidfile=$OPTARG ;;
	c) cpus=$OPTARG ;;
	m) memory=$OPTARG ;;
	U) uuid=$OPTARG ;;
	f) firmware=$OPTARG ;;
	l)
		case $OPTARG in
		com1,autopty=*,log=*) log=${OPTARG##*,log=} ;;
		*) usage "-l $OPTARG" ;;
		esac
		;;
	s)
		device=${OPTARG#*,}
		case $device in
		hostbridge) bridge=${OPTARG%%,*} ;;
		lpc) lpc=${OPTARG%%,*} ;;
		virtio-net) net=${OPTARG%%,*} ;;
		virtio-rnd) ;;
		virtio-blk,*,ro)
			device=${device%,ro}
			set_drives "${device#virtio-blk,},readonly=on"
			;;
		virtio-blk,*) set_drives "${device#virtio-blk,},cache=unsafe" ;;
		*) usage "-s $OPTARG" ;;
		esac
		;;
	*) usage "-$switch" ;;
	esac
done
[ "$bridge/$lpc" = 0:0/31 ] || usage "no host bridge, no LPC bridge"
[ "${#uuid}" = 36 ] || usage "-U $uuid"
case $firmware in
kexec,*,*,*) ;;
*) usage "-f $firmware" ;;
esac
kernel=${firmware#kexec,}
cmdline=${kernel#*,*,}
initrd=${kernel#*,}
initrd=${initrd%%,*}
kernel=${kernel%%,*}
[ "$(head -c 518 "$kernel" | tail -c 4)" = HdrS ] || { echo "kexec: failed to load kernel $kernel"; exit 134; }
[ -n "$net" ] || usage "no network"

(set -C && printf %s $$ >"$pidfile") 2>/dev/null || { echo "Failed to set up pidfile"; echo "pidfile error -1"; exit 1; }
trap 'rm -f "$pidfile"' EXIT

# One machine at a time on this disk: what is left of one that was killed a moment ago still has its ports.
exec 9>>"$leases.lock-$uuid"
flock -w 10 9 || { echo "the machine before does not end"; exit 1; }

forwards=''
for port in $ports; do forwards="$forwards,hostfwd=tcp:$address:$port-:$port"; done
rm -f "$pidfile.monitor" && mkfifo -m 600 "$pidfile.monitor" && exec 8<>"$pidfile.monitor" && rm "$pidfile.monitor"
# shellcheck disable=SC2086 # drives are words: paths of tests have no spaces
setpriv --pdeathsig KILL qemu-system-x86_64 -nodefaults -display none -machine q35,hpet=off -accel tcg,thread=multi -cpu max,la57=off \
	-smp "$cpus" -m "$memory" -uuid "$uuid" $drives -netdev "user,id=net0$forwards" -device virtio-net-pci,netdev=net0 \
	-device virtio-rng-pci -serial "file:$log" -monitor stdio \
	-kernel "$kernel" -initrd "$initrd" -append "$cmdline" <&8 >"$pidfile.said" &
guest=$!
# QEMU's prompt: all is set up, and the guest runs.
until grep -qs '(qemu)' "$pidfile.said"; do
	kill -0 $guest 2>/dev/null || break
	sleep 0.02
done
rm -f "$pidfile.said"
trap 'echo system_powerdown >&8' TERM

mac=2:0:$(echo "$uuid" | sed 's/^\(..\)\(..\)\(..\)\(..\).*/\1:\2:\3:\4/; s/^0//; s/:0/:/g')
kill -0 $guest 2>/dev/null && printf '{\n\tname=%s\n\tip_address=%s\n\thw_address=1,%s\n\tidentifier=1,%s\n\tlease=0x%x\n}\n' \
	"$name" "$address" "$mac" "$mac" "$(($(date +%s) + 86400))" >>"$leases"

# `wait` returns early when a signal comes in.
while :; do
	wait $guest
	status=$?
	kill -0 $guest 2>/dev/null || exit $status
done
