package main

import (
	"reflect"
	"strings"
	"testing"
)

func TestDispatch(t *testing.T) {
	for _, test := range []struct {
		name string
		args []string
		want string
		rest []string
	}{
		{"plain name", []string{"kubelet", "--version"}, "kubelet", []string{"kubelet", "--version"}},
		{"path", []string{"/usr/local/bin/kube-apiserver"}, "kube-apiserver", []string{"/usr/local/bin/kube-apiserver"}},
		{"windows", []string{"kubectl.exe", "get"}, "kubectl", []string{"kubectl.exe", "get"}},
		{"first argument", []string{"kubernetes", "kubeadm", "init"}, "kubeadm", []string{"kubeadm", "init"}},
		{"own name wins", []string{"kubectl", "kubelet"}, "kubectl", []string{"kubectl", "kubelet"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			program, rest, err := dispatch(test.args)
			if err != nil {
				t.Fatal(err)
			}
			if program != test.want {
				t.Errorf("%v runs %q, want %q", test.args, program, test.want)
			}
			if !reflect.DeepEqual(rest, test.rest) {
				t.Errorf("arguments %v, want %v", rest, test.rest)
			}
		})
	}
}

func TestDispatchNamesThePrograms(t *testing.T) {
	for _, args := range [][]string{nil, {"kubernetes"}, {"kubernetes", "--version"}} {
		_, _, err := dispatch(args)
		if err == nil || !strings.Contains(err.Error(), "kube-scheduler, kubeadm, kubectl, kubelet") {
			t.Errorf("dispatch(%v): %v", args, err)
		}
	}
}
