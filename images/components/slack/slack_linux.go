// Package slack lets the kernel join this process's timers.
//
// A control plane that does nothing still has hundreds of timers a second (every watch cache, work queue and metric has its
// own), and each wakes a processor, which is dear on an emulated one. With a timer slack of 50 ms instead of 50 µs the kernel
// serves them in groups. Only sleeping gets coarser: whoever waits for a connection is woken at once, as before.
//
// The slack is a property of each thread, inherited by the threads and programs that it starts. The Go runtime has started
// several before the first line of ours runs, so the program starts itself once more with it. That costs next to nothing as
// long as it happens before the other packages initialise: Go does that in the order of import paths, hence this module's.
package slack

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
)

const (
	want = 50_000_000 // nanoseconds

	prSetTimerslack = 29
	prGetTimerslack = 30
)

// Only programs that stay: commands that a person waits for keep the kernel's default.
var stays = []string{
	"coredns", "etcd", "kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler", "kubelet",
	"metrics-server", "registry",
}

func init() {
	if applies(os.Args) {
		take()
	}
}

func applies(args []string) bool {
	return len(args) > 0 && slices.Contains(stays, filepath.Base(args[0]))
}

// take sets the slack and starts the program again. What fails here costs processor time only: then all goes on without.
func take() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if now, _, _ := syscall.RawSyscall(syscall.SYS_PRCTL, prGetTimerslack, 0, 0); now == want {
		return
	}
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prSetTimerslack, want, 0); errno != 0 {
		return
	}
	// With another slack than the wanted one after this, it would go round in circles.
	if now, _, _ := syscall.RawSyscall(syscall.SYS_PRCTL, prGetTimerslack, 0, 0); now == want {
		_ = syscall.Exec("/proc/self/exe", os.Args, os.Environ())
	}
}
