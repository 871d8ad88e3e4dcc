package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// How long what was begun is kept should this program be killed in the middle.
	leaseTime = 10 * time.Minute

	// The reference from an image's configuration to what it is unpacked to: each namespace's own.
	gcSnapshot = "containerd.io/gc.ref.snapshot."

	// Where the CRI keeps what it knows of a container, and how a container is told from a pod.
	criContainer = "io.cri-containerd.container.metadata"
)

// store is containerd with its two namespaces.
type store struct {
	client   *containerd.Client
	from, to string
	cluster  *cluster
}

func (s *store) docker(ctx context.Context) ([]images.Image, error) {
	return s.client.ImageService().List(s.in(ctx, s.from))
}

func (s *store) kubernetes(ctx context.Context) ([]images.Image, error) {
	return s.client.ImageService().List(s.in(ctx, s.to))
}

func (s *store) in(ctx context.Context, namespace string) context.Context {
	return namespaces.WithNamespace(ctx, namespace)
}

func (s *store) inUse(ctx context.Context) (map[string]bool, error) {
	containers, err := s.client.ContainerService().List(s.in(ctx, s.to))
	if err != nil {
		return nil, err
	}
	used, err := s.cluster.wanted(ctx)
	if err != nil {
		return nil, err
	}
	if used == nil {
		used = map[string]bool{}
	}
	for _, container := range containers {
		extension, has := container.Extensions[criContainer]
		if !has {
			continue
		}
		var known struct {
			Metadata struct {
				ImageRef string
				Config   struct {
					Image struct {
						Name string `json:"user_specified_image"`
					} `json:"image"`
				}
			}
		}
		if err := json.Unmarshal(extension.GetValue(), &known); err != nil {
			return nil, fmt.Errorf("container %s: %w", container.ID, err)
		}
		used[known.Metadata.ImageRef] = true
		if name, err := reference.ParseDockerRef(known.Metadata.Config.Image.Name); err == nil {
			used[name.String()] = true
		}
	}
	return used, nil
}

func (s *store) idOf(ctx context.Context, image images.Image) (digest.Digest, error) {
	config, err := image.Config(s.in(ctx, s.to), s.client.ContentStore(), platforms.Default())
	if errdefs.IsNotFound(err) {
		// Not for this machine, so no container is made of it.
		return image.Target.Digest, nil
	}
	return config.Digest, err
}

func (s *store) mark(ctx context.Context, image images.Image) error {
	image.Labels = maps.Clone(image.Labels)
	if image.Labels == nil {
		image.Labels = map[string]string{}
	}
	image.Labels[labelMirrored] = image.Target.Digest.String()
	// Only this label: Docker may have given the name to another image meanwhile.
	_, err := s.client.ImageService().Update(s.in(ctx, s.from), image, "labels."+labelMirrored)
	return notFoundIsFine(err)
}

func (s *store) leave(ctx context.Context, name string) error {
	// An empty label is none.
	record := images.Image{Name: name, Labels: map[string]string{labelFrom: ""}}
	_, err := s.client.ImageService().Update(s.in(ctx, s.to), record, "labels."+labelFrom)
	return notFoundIsFine(err)
}

func (s *store) take(ctx context.Context, name string) error {
	return notFoundIsFine(s.client.ImageService().Delete(s.in(ctx, s.to), name))
}

// give adds all that the image is made of to Kubernetes' namespace, then the record. A lease holds it together meanwhile.
func (s *store) give(ctx context.Context, image images.Image) error {
	target := s.in(ctx, s.to)
	lease, err := s.client.LeasesService().Create(target, leases.WithRandomID(), leases.WithExpiration(leaseTime))
	if err != nil {
		return err
	}
	defer s.client.LeasesService().Delete(context.WithoutCancel(target), lease)
	if err := s.share(ctx, leases.WithLease(target, lease.ID), image.Target); err != nil {
		return err
	}
	record := images.Image{Name: image.Name, Target: image.Target, Labels: map[string]string{labelFrom: fromValue}}
	_, err = s.client.ImageService().Create(target, record)
	if errdefs.IsAlreadyExists(err) {
		_, err = s.client.ImageService().Update(target, record, "target", "labels."+labelFrom)
	}
	return err
}

// share adds one blob and all it refers to. Children first: a blob never refers to what is not there.
func (s *store) share(ctx, target context.Context, desc ocispec.Descriptor) error {
	source := s.in(ctx, s.from)
	blobs := s.client.ContentStore()
	info, err := blobs.Info(source, desc.Digest)
	if errdefs.IsNotFound(err) {
		// Of an image for several kinds of machines, Docker has only the part that was asked for.
		return nil
	}
	if err != nil {
		return err
	}
	children, err := images.Children(source, blobs, desc)
	if err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	for _, child := range children {
		if err := s.share(ctx, target, child); err != nil {
			return err
		}
	}
	labels := map[string]string{}
	for key, value := range info.Labels {
		if !strings.HasPrefix(key, gcSnapshot) && !strings.HasPrefix(key, "containerd.io/gc.root") {
			labels[key] = value
		}
	}
	return adopt(target, blobs, ocispec.Descriptor{Digest: desc.Digest, Size: info.Size}, labels)
}

// adopt makes a blob, which another namespace has, one of the target's too. Nothing is copied: containerd knows it by its digest.
func adopt(target context.Context, blobs content.Store, desc ocispec.Descriptor, labels map[string]string) error {
	writer, err := blobs.Writer(target, content.WithRef("image-mirror-"+desc.Digest.String()), content.WithDescriptor(desc))
	if errdefs.IsAlreadyExists(err) {
		return complete(target, blobs, desc.Digest, labels)
	}
	if err != nil {
		return err
	}
	defer writer.Close()
	err = writer.Commit(target, desc.Size, desc.Digest, content.WithLabels(labels))
	if errdefs.IsAlreadyExists(err) {
		return complete(target, blobs, desc.Digest, labels)
	}
	return err
}

// complete adds labels that a blob lacks: they are what holds its children.
func complete(target context.Context, blobs content.Store, blob digest.Digest, labels map[string]string) error {
	if len(labels) == 0 {
		return nil
	}
	info, err := blobs.Info(target, blob)
	if err != nil {
		return err
	}
	var fields []string
	update := content.Info{Digest: blob, Labels: map[string]string{}}
	for key, value := range labels {
		if _, has := info.Labels[key]; !has {
			update.Labels[key] = value
			fields = append(fields, "labels."+key)
		}
	}
	if len(fields) == 0 {
		return nil
	}
	_, err = blobs.Update(target, update, fields...)
	return err
}

func notFoundIsFine(err error) error {
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}
