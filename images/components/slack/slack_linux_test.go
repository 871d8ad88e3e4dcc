package slack

import "testing"

func TestApplies(t *testing.T) {
	for name, want := range map[string]bool{
		"/usr/local/bin/kube-apiserver": true,
		"etcd":                          true,
		"/coredns":                      true,
		"kubelet":                       true,
		"/metrics-server":               true,
		"kubectl":                       false,
		"kubeadm":                       false,
		"":                              false,
	} {
		if got := applies([]string{name}); got != want {
			t.Errorf("applies(%q) = %v", name, got)
		}
	}
	if applies(nil) {
		t.Error("applies to a process without a name")
	}
}
