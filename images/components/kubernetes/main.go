// The programs of a Kubernetes node in one file: which of them this process is, its own name (argv[0]) says.
//
// Seven programs linked apart hold the same libraries seven times; linked together they take a quarter of the
// space on the disk, in the image layer that they share and in the page cache.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	_ "time/tzdata" // time zones of CronJobs

	_ "components.sampan/slack" // first of all

	"github.com/spf13/cobra"

	_ "k8s.io/client-go/plugin/pkg/client/auth" // kubectl's login plugins
	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	_ "k8s.io/component-base/logs/json/register"          // --logging-format=json
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // client metrics
	_ "k8s.io/component-base/metrics/prometheus/version"  // version metric
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubeadm "k8s.io/kubernetes/cmd/kubeadm/app"
	kubeadmutil "k8s.io/kubernetes/cmd/kubeadm/app/util/errors"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

// programs maps a name to what runs under it; the result is the exit status.
var programs = map[string]func() int{
	"kube-apiserver":          component(apiserver.NewAPIServerCommand),
	"kube-controller-manager": component(controllermanager.NewControllerManagerCommand),
	"kube-scheduler":          component(func() *cobra.Command { return scheduler.NewSchedulerCommand() }),
	"kube-proxy":              component(proxy.NewProxyCommand),
	"kubelet":                 component(func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) }),
	"kubeadm":                 runKubeadm,
	"kubectl":                 runKubectl,
}

func component(command func() *cobra.Command) func() int {
	return func() int { return cli.Run(command()) }
}

func runKubeadm() int {
	kubeadmutil.HandleError(kubeadm.Run()) // exits with kubeadm's own status when there is an error
	return 0
}

func runKubectl() int {
	// The verbosity is wanted before the flags are parsed: building the command reads plugins and .kuberc.
	_, _ = logs.GlogSetter(kubectl.GetLogVerbosity(os.Args))
	if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
		kubectlutil.CheckErr(err) // exits
	}
	return 0
}

// dispatch says which program the arguments ask for and the arguments that it shall see. A process that is called
// by another name than a program's takes the name from its first argument: `kubernetes kubelet --version`.
func dispatch(args []string) (program string, rest []string, err error) {
	if len(args) == 0 {
		return "", nil, fmt.Errorf("no program name given, expected one of: %s", names())
	}
	own := programName(args[0])
	if programs[own] != nil {
		return own, args, nil
	}
	if len(args) > 1 && programs[args[1]] != nil {
		return args[1], args[1:], nil
	}
	return "", nil, fmt.Errorf("%s: not the name of a program in here, expected one of: %s", own, names())
}

func programName(path string) string {
	return strings.TrimSuffix(filepath.Base(path), ".exe")
}

func names() string {
	all := make([]string, 0, len(programs))
	for name := range programs {
		all = append(all, name)
	}
	sort.Strings(all)
	return strings.Join(all, ", ")
}

func main() {
	program, args, err := dispatch(os.Args)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	os.Args = args
	os.Exit(programs[program]())
}
