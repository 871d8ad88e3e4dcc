package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/distribution/reference"
)

// Kubernetes answers in far less, or not at all for now.
const askTime = 15 * time.Second

// cluster is how to ask Kubernetes for the node's pods: as its kubelet, which may.
type cluster struct {
	// api is the server's address, ca the file with its authority, identity the kubelet's key and certificate.
	api, ca, identity string
}

type container struct {
	Image string `json:"image"`
}

type podList struct {
	Items []struct {
		Spec struct {
			Containers          []container `json:"containers"`
			InitContainers      []container `json:"initContainers"`
			EphemeralContainers []container `json:"ephemeralContainers"`
		} `json:"spec"`
		Status struct {
			Phase string `json:"phase"`
		} `json:"status"`
	} `json:"items"`
}

// wanted has the names of the images that the node's pods are or will be made of, also where there is no container yet: the one
// that waits for its init containers, or that was scheduled just now. A node that is no cluster's has no pods.
func (c *cluster) wanted(ctx context.Context) (map[string]bool, error) {
	identity, err := tls.LoadX509KeyPair(c.identity, c.identity)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.identity, err)
	}
	authority, err := os.ReadFile(c.ca)
	if err != nil {
		return nil, err
	}
	trusted := x509.NewCertPool()
	if !trusted.AppendCertsFromPEM(authority) {
		return nil, fmt.Errorf("%s: no certificate in it", c.ca)
	}
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: trusted, Certificates: []tls.Certificate{identity}},
		DisableKeepAlives: true,
	}
	ctx, stop := context.WithTimeout(ctx, askTime)
	defer stop()
	node, err := nodeOf(identity)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.identity, err)
	}
	query := url.Values{"fieldSelector": {"spec.nodeName=" + node}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.api+"/api/v1/pods?"+query.Encode(), nil)
	if err != nil {
		return nil, err
	}
	answer, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", request.URL, answer.Status)
	}
	var pods podList
	if err := json.NewDecoder(answer.Body).Decode(&pods); err != nil {
		return nil, fmt.Errorf("%s: %w", request.URL, err)
	}
	return pods.images(), nil
}

// nodeOf is the name that the kubelet's certificate gives the node.
func nodeOf(identity tls.Certificate) (string, error) {
	const prefix = "system:node:"
	name := identity.Leaf.Subject.CommonName
	if len(name) <= len(prefix) || name[:len(prefix)] != prefix {
		return "", fmt.Errorf("the certificate of %q is no kubelet's", name)
	}
	return name[len(prefix):], nil
}

// images are the names in the pods, both as containerd writes them and as they stand there; what has ended makes no more containers.
func (p podList) images() map[string]bool {
	wanted := map[string]bool{}
	for _, pod := range p.Items {
		if pod.Status.Phase == "Succeeded" || pod.Status.Phase == "Failed" {
			continue
		}
		for _, some := range [][]container{pod.Spec.InitContainers, pod.Spec.Containers, pod.Spec.EphemeralContainers} {
			for _, one := range some {
				wanted[one.Image] = true
				if name, err := reference.ParseDockerRef(one.Image); err == nil {
					wanted[name.String()] = true
				}
			}
		}
	}
	return wanted
}
