package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/opencontainers/go-digest"
)

const (
	// On Docker's record: the digest that Kubernetes was given under this name. Kubernetes may pull something newer afterwards,
	// which is not taken from it again.
	labelMirrored = "sampan.dev/mirrored"
	// On Kubernetes' record: it is there because Docker has, or had, an image of this name.
	labelFrom = "sampan.dev/from"
	fromValue = "docker"

	// What containerd's CRI names images besides their names: the digest of their configuration.
	idPrefix = "sha256:"
	// How Docker keeps an image that has no name.
	danglingPrefix = "moby-dangling@"
)

// records is what the mirror does with containerd.
type records interface {
	// docker and kubernetes list the images of each.
	docker(context.Context) ([]images.Image, error)
	kubernetes(context.Context) ([]images.Image, error)
	// inUse has the IDs of the images that containers of pods are made of, and the names that the pods gave for them: a name may
	// have been built anew since, and the next pod of its kind will ask for it.
	inUse(context.Context) (map[string]bool, error)
	// idOf is the ID of an image of Kubernetes'.
	idOf(context.Context, images.Image) (digest.Digest, error)
	// give lets Kubernetes have an image of Docker's.
	give(context.Context, images.Image) error
	// mark notes on Docker's record what was given.
	mark(context.Context, images.Image) error
	// leave lets Kubernetes keep an image as its own.
	leave(ctx context.Context, name string) error
	// take removes a record of Kubernetes'.
	take(ctx context.Context, name string) error
}

type mirror struct {
	store records
	own   map[string]bool
	// Names that Docker has no more, and since when. Docker takes a name away for a moment when it is built anew.
	missing map[string]time.Time
}

// What Docker has not had for so long it has forgotten.
const forgotten = 3 * time.Second

// pass compares the two lists once and does what is to be done. It goes on with the others where one image fails.
func (m *mirror) pass(ctx context.Context) error {
	docker, err := m.store.docker(ctx)
	if err != nil {
		return fmt.Errorf("images of Docker: %w", err)
	}
	kubernetes, err := m.store.kubernetes(ctx)
	if err != nil {
		return fmt.Errorf("images of Kubernetes: %w", err)
	}
	there := map[string]images.Image{}
	for _, image := range kubernetes {
		there[image.Name] = image
	}
	wanted := map[string]bool{}
	var failed []error
	for _, image := range docker {
		if !m.concerns(image.Name) {
			continue
		}
		wanted[image.Name] = true
		if _, has := there[image.Name]; has && image.Labels[labelMirrored] == image.Target.Digest.String() {
			continue
		}
		if err := m.give(ctx, image); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", image.Name, err))
		}
	}
	if err := m.forget(ctx, there, wanted); err != nil {
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}

func (m *mirror) concerns(name string) bool {
	return !m.own[name] && !strings.HasPrefix(name, danglingPrefix) && !strings.HasPrefix(name, idPrefix)
}

func (m *mirror) give(ctx context.Context, image images.Image) error {
	if err := m.store.give(ctx, image); err != nil {
		return err
	}
	log.Printf("%s is %s for pods", image.Name, image.Target.Digest)
	return m.store.mark(ctx, image)
}

// forget removes what Kubernetes has only from Docker, where Docker has it no more and no pod is made of it. What pods are made of is
// not Docker's any more even when they go: others of their kind may be about to come.
func (m *mirror) forget(ctx context.Context, there map[string]images.Image, wanted map[string]bool) error {
	gone, missing := map[string]images.Image{}, map[string]time.Time{}
	for name, image := range there {
		if image.Labels[labelFrom] != fromValue || wanted[name] || strings.HasPrefix(name, idPrefix) || m.own[name] {
			continue
		}
		since, known := m.missing[name]
		if !known {
			since = time.Now()
		}
		if time.Since(since) < forgotten {
			missing[name] = since
		} else {
			gone[name] = image
		}
	}
	m.missing = missing
	if len(gone) == 0 {
		return nil
	}
	used, err := m.store.inUse(ctx)
	if err != nil {
		return fmt.Errorf("containers of pods: %w", err)
	}
	var failed []error
	for _, name := range slices.Sorted(maps.Keys(gone)) {
		if err := m.forgetOne(ctx, there, gone[name], used); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", name, err))
		}
	}
	return errors.Join(failed...)
}

func (m *mirror) forgetOne(
	ctx context.Context, there map[string]images.Image, image images.Image, used map[string]bool,
) error {
	id, err := m.store.idOf(ctx, image)
	if err != nil {
		return err
	}
	if used[id.String()] || used[image.Name] {
		log.Printf("%s stays for pods", image.Name)
		return m.store.leave(ctx, image.Name)
	}
	if err := m.store.take(ctx, image.Name); err != nil {
		return err
	}
	log.Printf("%s is gone for pods, too", image.Name)
	delete(there, image.Name)
	// The CRI's own name for the image would keep it; it goes with the last name that people gave.
	alias, has := there[id.String()]
	if !has || alias.Target.Digest != image.Target.Digest {
		return nil
	}
	for name, other := range there {
		if other.Target.Digest == image.Target.Digest && !strings.HasPrefix(name, idPrefix) {
			return nil
		}
	}
	delete(there, alias.Name)
	return m.store.take(ctx, alias.Name)
}
