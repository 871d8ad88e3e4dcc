// image-mirror gives Kubernetes every image that Docker has.
//
// Docker and Kubernetes each have a namespace of their own in the node's one containerd. What an image is made of is stored once,
// whoever has it; only the records that name images are each namespace's own. This program keeps Kubernetes' records in step
// with Docker's: an image that is built, loaded, pulled or tagged in Docker is there for pods under the same name, without a copy.
// When Docker forgets an image, Kubernetes does so too, unless some container of a pod is made of it, or some pod of the node asks for
// it: then the image is Kubernetes' own from there on, and goes when the kubelet collects it. As long as Kubernetes does not say which
// pods there are, nothing is forgotten.
//
// It compares the two lists when it starts and whenever containerd says that something happened to an image, and waits in between.
package main

import (
	"context"
	"flag"
	"log"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/coreos/go-systemd/v22/daemon"
)

const (
	// A burst of events (a build makes many) is answered once.
	settle = 20 * time.Millisecond
	// What went wrong is tried again, without a new event.
	retryFirst = 500 * time.Millisecond
	retryLast  = time.Minute
)

func main() {
	log.SetFlags(0)
	socket := flag.String("containerd", "/run/containerd/containerd.sock", "containerd's socket")
	from := flag.String("from", "moby", "Docker's namespace")
	to := flag.String("to", "k8s.io", "Kubernetes' namespace")
	own := flag.String("own", "", "file with the names of the node's own images, one a line: Docker's of the same name are not mirrored")
	var kubernetes cluster
	flag.StringVar(&kubernetes.api, "api", "https://127.0.0.1:8443", "Kubernetes' API")
	flag.StringVar(&kubernetes.ca, "ca", "/etc/kubernetes/pki/ca.crt", "certificate of its authority")
	flag.StringVar(&kubernetes.identity, "identity", "/var/lib/kubelet/pki/kubelet-client-current.pem",
		"key and certificate of this node's kubelet; without the file there is no cluster")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	names, err := readNames(*own)
	if err != nil {
		log.Fatal(err)
	}
	client, err := containerd.New(*socket, containerd.WithTimeout(time.Minute))
	if err != nil {
		log.Fatalf("containerd at %s: %v", *socket, err)
	}
	defer client.Close()
	m := &mirror{store: &store{client: client, from: *from, to: *to, cluster: &kubernetes}, own: names}
	if err := run(ctx, client, m, *from, *to); err != nil && ctx.Err() == nil {
		log.Fatal(err)
	}
}

// run mirrors until the context ends or containerd's events do; whoever supervises the program starts it again.
func run(ctx context.Context, client *containerd.Client, m *mirror, from, to string) error {
	// Before the first comparison: what happens during it is seen after it.
	events, failed := client.Subscribe(ctx,
		`topic~="^/images/",namespace=="`+from+`"`,
		`topic~="^/images/",namespace=="`+to+`"`,
	)
	if err := m.pass(ctx); err != nil {
		return err
	}
	_, _ = daemon.SdNotify(false, daemon.SdNotifyReady)

	// What is missing now may be missing for good.
	due, soon := time.After(forgotten), false
	retry := retryFirst
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case event := <-events:
			if !soon && event != nil {
				due, soon = time.After(settle), true
			}
		case <-due:
			due, soon = nil, false
			if err := m.pass(ctx); err != nil {
				log.Printf("will try again: %v", err)
				due = time.After(retry)
				retry = min(2*retry, retryLast)
				continue
			}
			retry = retryFirst
			if len(m.missing) > 0 {
				due = time.After(forgotten)
			}
		}
	}
}

func readNames(path string) (map[string]bool, error) {
	names := map[string]bool{}
	if path == "" {
		return names, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for name := range strings.FieldsSeq(string(text)) {
		names[name] = true
	}
	return names, nil
}
