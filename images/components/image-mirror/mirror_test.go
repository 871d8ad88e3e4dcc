package main

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// fake has the two lists; an image's ID is the digest of its target's text.
type fake struct {
	moby, k8s map[string]images.Image
	used      map[string]bool
	unknown   error
	broken    string
	gave      int
}

func of(name, content string, labels map[string]string) images.Image {
	return images.Image{Name: name, Target: ocispec.Descriptor{Digest: digest.FromString(content)}, Labels: labels}
}

func id(content string) digest.Digest {
	return digest.FromString(digest.FromString(content).String())
}

func list(all map[string]images.Image) []images.Image {
	var some []images.Image
	for _, image := range all {
		some = append(some, image)
	}
	return some
}

func (f *fake) docker(context.Context) ([]images.Image, error)     { return list(f.moby), nil }
func (f *fake) kubernetes(context.Context) ([]images.Image, error) { return list(f.k8s), nil }
func (f *fake) inUse(context.Context) (map[string]bool, error) {
	return f.used, f.unknown
}

func (f *fake) idOf(_ context.Context, image images.Image) (digest.Digest, error) {
	return digest.FromString(image.Target.Digest.String()), nil
}

func (f *fake) give(_ context.Context, image images.Image) error {
	if image.Name == f.broken {
		return errors.New("broken")
	}
	f.gave++
	alias := digest.FromString(image.Target.Digest.String()).String()
	f.k8s[alias] = images.Image{Name: alias, Target: image.Target}
	f.k8s[image.Name] = images.Image{Name: image.Name, Target: image.Target, Labels: map[string]string{labelFrom: fromValue}}
	return nil
}

func (f *fake) mark(_ context.Context, image images.Image) error {
	image.Labels = map[string]string{labelMirrored: image.Target.Digest.String()}
	f.moby[image.Name] = image
	return nil
}

func (f *fake) leave(_ context.Context, name string) error {
	f.k8s[name] = images.Image{Name: name, Target: f.k8s[name].Target}
	return nil
}

func (f *fake) take(_ context.Context, name string) error {
	delete(f.k8s, name)
	return nil
}

func (f *fake) names() []string {
	var names []string
	for name := range f.k8s {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func newMirror() (*fake, *mirror) {
	f := &fake{moby: map[string]images.Image{}, k8s: map[string]images.Image{}, used: map[string]bool{}}
	return f, &mirror{store: f, own: map[string]bool{"pause:1": true}}
}

func (f *fake) build(name, content string) { f.moby[name] = of(name, content, nil) }

// pass makes one, and another long after it.
func pass(t *testing.T, m *mirror) {
	t.Helper()
	once(t, m)
	for name := range m.missing {
		m.missing[name] = time.Now().Add(-forgotten)
	}
	once(t, m)
}

func once(t *testing.T, m *mirror) {
	t.Helper()
	if err := m.pass(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestWhatDockerHasKubernetesGets(t *testing.T) {
	f, m := newMirror()
	f.build("app:1", "one")
	f.build(danglingPrefix+"sha256:00", "layer")
	pass(t, m)
	if f.k8s["app:1"].Target.Digest != digest.FromString("one") || len(f.k8s) != 2 {
		t.Fatalf("%v", f.names())
	}
	pass(t, m)
	if f.gave != 1 {
		t.Fatalf("given %d times", f.gave)
	}
	f.build("app:1", "two")
	pass(t, m)
	if f.k8s["app:1"].Target.Digest != digest.FromString("two") {
		t.Fatal("still the old one")
	}
}

func TestWhatWasCollectedComesBack(t *testing.T) {
	f, m := newMirror()
	f.build("app:1", "one")
	pass(t, m)
	clear(f.k8s)
	pass(t, m)
	if _, has := f.k8s["app:1"]; !has {
		t.Fatal("not there")
	}
}

func TestWhatKubernetesPulledLaterStays(t *testing.T) {
	f, m := newMirror()
	f.build("app:1", "one")
	pass(t, m)
	f.k8s["app:1"] = of("app:1", "newer", nil)
	pass(t, m)
	delete(f.moby, "app:1")
	pass(t, m)
	if f.k8s["app:1"].Target.Digest != digest.FromString("newer") {
		t.Fatalf("%v", f.k8s["app:1"])
	}
}

func TestWhatDockerForgetsGoesUnlessAPodIsMadeOfIt(t *testing.T) {
	f, m := newMirror()
	f.build("app:1", "one")
	f.build("app:2", "two")
	pass(t, m)
	f.used[id("one").String()] = true
	clear(f.moby)
	pass(t, m)
	if names := f.names(); !slices.Contains(names, "app:1") || slices.Contains(names, "app:2") || len(names) != 2 {
		t.Fatalf("%v", names)
	}
	// Its pod goes, and another may be about to come.
	clear(f.used)
	pass(t, m)
	if names := f.names(); len(names) != 2 {
		t.Fatalf("%v", names)
	}
	// Built and forgotten again, with no pod: it goes.
	f.build("app:1", "one")
	pass(t, m)
	clear(f.moby)
	pass(t, m)
	if names := f.names(); len(names) != 0 {
		t.Fatalf("%v", names)
	}
}

func TestNothingIsForgottenWhileKubernetesDoesNotAnswer(t *testing.T) {
	f, m := newMirror()
	f.build("app:1", "one")
	pass(t, m)
	clear(f.moby)
	once(t, m)
	m.missing["app:1"] = time.Now().Add(-forgotten)
	f.unknown = errors.New("no answer")
	for range 2 {
		if err := m.pass(t.Context()); err == nil {
			t.Fatal("no error, so it is not tried again")
		}
		if _, has := f.k8s["app:1"]; !has {
			t.Fatal("gone")
		}
		// It goes on being looked for, however often it fails.
		m.missing["app:1"] = time.Now().Add(-forgotten)
	}
	f.unknown = nil
	f.used["app:1"] = true
	once(t, m)
	if _, has := f.k8s["app:1"]; !has {
		t.Fatal("a pod asks for it")
	}
}

func TestANameThatIsAwayForAMomentStays(t *testing.T) {
	f, m := newMirror()
	f.build("app:1", "one")
	once(t, m)
	delete(f.moby, "app:1")
	once(t, m)
	if _, has := f.k8s["app:1"]; !has {
		t.Fatal("gone at once")
	}
	f.build("app:1", "two")
	once(t, m)
	if f.k8s["app:1"].Target.Digest != digest.FromString("two") || len(m.missing) != 0 {
		t.Fatalf("%v %v", f.k8s["app:1"], m.missing)
	}
}

func TestANameThatAPodGaveStaysThoughItWasBuiltAnew(t *testing.T) {
	f, m := newMirror()
	f.build("app:1", "one")
	pass(t, m)
	f.used[id("one").String()], f.used["app:1"] = true, true
	f.build("app:1", "two")
	pass(t, m)
	delete(f.moby, "app:1")
	pass(t, m)
	if f.k8s["app:1"].Target.Digest != digest.FromString("two") {
		t.Fatalf("%v", f.names())
	}
}

func TestTheIDStaysWithTheLastName(t *testing.T) {
	f, m := newMirror()
	f.build("app:1", "one")
	f.build("app:latest", "one")
	pass(t, m)
	delete(f.moby, "app:latest")
	pass(t, m)
	if names := f.names(); len(names) != 2 || !slices.Contains(names, id("one").String()) {
		t.Fatalf("%v", names)
	}
}

func TestTheNodesOwnImagesAreNeverTouched(t *testing.T) {
	f, m := newMirror()
	f.k8s["pause:1"] = of("pause:1", "real", map[string]string{labelFrom: fromValue})
	f.build("pause:1", "other")
	pass(t, m)
	delete(f.moby, "pause:1")
	pass(t, m)
	if f.k8s["pause:1"].Target.Digest != digest.FromString("real") {
		t.Fatal("another one")
	}
}

func TestOneBrokenImageDoesNotStopTheOthers(t *testing.T) {
	f, m := newMirror()
	f.build("app:1", "one")
	f.build("bad:1", "bad")
	f.broken = "bad:1"
	if err := m.pass(t.Context()); err == nil {
		t.Fatal("no error")
	}
	if _, has := f.k8s["app:1"]; !has {
		t.Fatal("not there")
	}
}
