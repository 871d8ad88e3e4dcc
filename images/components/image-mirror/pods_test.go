package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const pods = `{"items": [
	{"spec": {"initContainers": [{"image": "wait:1"}], "containers": [{"image": "story/app"}]}, "status": {"phase": "Pending"}},
	{"spec": {"containers": [{"image": "job:1"}]}, "status": {"phase": "Succeeded"}},
	{"spec": {"containers": [{"image": "broken:1"}]}, "status": {"phase": "Failed"}},
	{"spec": {"containers": [{"image": "web:1"}], "ephemeralContainers": [{"image": "debug:1"}]}, "status": {"phase": "Running"}}
]}`

// identity makes a key and certificate of a name, in a file as the kubelet keeps it.
func identity(t *testing.T, name string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: name},
		NotAfter:     time.Now().Add(time.Hour),
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...)
	return file(t, "identity.pem", text)
}

func file(t *testing.T, name string, text []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// serve is an API that answers so; it only speaks to who has a certificate.
func serve(t *testing.T, status int, body string) (*cluster, *string) {
	t.Helper()
	asked := new(string)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*asked = r.TLS.PeerCertificates[0].Subject.CommonName + " " + r.URL.RequestURI()
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	server.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	server.StartTLS()
	t.Cleanup(server.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	return &cluster{api: server.URL, ca: file(t, "ca.crt", ca), identity: identity(t, "system:node:sampan")}, asked
}

func TestPodsHoldImagesBeforeTheyHaveContainers(t *testing.T) {
	kubernetes, asked := serve(t, http.StatusOK, pods)
	wanted, err := kubernetes.wanted(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"docker.io/library/wait:1", "docker.io/story/app:latest", "docker.io/library/web:1", "docker.io/library/debug:1",
	} {
		if !wanted[name] {
			t.Errorf("%s is not wanted: %v", name, wanted)
		}
	}
	for _, name := range []string{"docker.io/library/job:1", "docker.io/library/broken:1"} {
		if wanted[name] {
			t.Errorf("%s is wanted", name)
		}
	}
	if *asked != "system:node:sampan /api/v1/pods?fieldSelector=spec.nodeName%3Dsampan" {
		t.Errorf("asked as %s", *asked)
	}
}

func TestWithoutAKubeletThereAreNoPods(t *testing.T) {
	kubernetes := cluster{api: "https://127.0.0.1:1", ca: "nowhere", identity: filepath.Join(t.TempDir(), "none")}
	wanted, err := kubernetes.wanted(t.Context())
	if err != nil || len(wanted) != 0 {
		t.Fatalf("%v %v", wanted, err)
	}
}

func TestWhatKubernetesDoesNotSayIsNotNothing(t *testing.T) {
	refuses, _ := serve(t, http.StatusForbidden, "{}")
	garbles, _ := serve(t, http.StatusOK, "{")
	away, _ := serve(t, http.StatusOK, pods)
	away.api = "https://127.0.0.1:1"
	stranger, _ := serve(t, http.StatusOK, pods)
	stranger.identity = identity(t, "somebody")
	for what, kubernetes := range map[string]*cluster{
		"403": refuses, "json": garbles, "127.0.0.1:1": away, "no kubelet": stranger,
	} {
		if _, err := kubernetes.wanted(t.Context()); err == nil || !strings.Contains(err.Error(), strings.TrimSuffix(what, "json")) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
