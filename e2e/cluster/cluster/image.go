package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Media types of the OCI image specification.
const (
	indexType    = "application/vnd.oci.image.index.v1+json"
	manifestType = "application/vnd.oci.image.manifest.v1+json"
	configType   = "application/vnd.oci.image.config.v1+json"
	layerType    = "application/vnd.oci.image.layer.v1.tar+gzip"
)

// imageMain packs a directory as a container image with one layer and adds it to a layout, under
// every name, in the place of any image that had it. The same files give the same bytes.
func imageMain(args []string) error {
	flags := flag.NewFlagSet("image", flag.ContinueOnError)
	layout := flags.String("layout", "", "the OCI image layout to add it to")
	command := flags.String("command", "", "what a container runs, split at spaces")
	var refs names
	flags.Var(&refs, "ref", "its whole name, registry and tag included")
	if flags.Parse(args) != nil || flags.NArg() != 1 || *layout == "" || len(refs) == 0 {
		return errUsage
	}
	return addImage(*layout, flags.Arg(0), refs, strings.Fields(*command))
}

// names is a flag that can be given more than once.
type names []string

func (n *names) String() string { return strings.Join(*n, " ") }

// Set takes one more value.
func (n *names) Set(value string) error {
	*n = append(*n, value)
	return nil
}

func addImage(layout, root string, refs, command []string) error {
	if err := os.MkdirAll(filepath.Join(layout, "blobs/sha256"), 0o755); err != nil {
		return err
	}
	var layer bytes.Buffer
	packed := gzip.NewWriter(&layer)
	plain := sha256.New()
	if err := writeLayer(io.MultiWriter(packed, plain), root); err != nil {
		return err
	}
	if err := packed.Close(); err != nil {
		return err
	}
	layerBlob, err := addBlob(layout, layerType, layer.Bytes())
	if err != nil {
		return err
	}
	config, err := addJSON(layout, configType, map[string]any{
		"architecture": "amd64", "os": "linux",
		"config": map[string]any{"Cmd": command, "Env": []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", plain.Sum(nil))}},
	})
	if err != nil {
		return err
	}
	manifest, err := addJSON(layout, manifestType, map[string]any{
		"schemaVersion": 2, "mediaType": manifestType, "config": config, "layers": []descriptor{layerBlob},
	})
	if err != nil {
		return err
	}
	return addRefs(layout, refs, manifest)
}

// writeLayer writes a tree as tar, with one time and one owner.
func writeLayer(out io.Writer, root string) error {
	archive := tar.NewWriter(out)
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		target := ""
		if entry.Type()&fs.ModeSymlink != 0 {
			if target, err = os.Readlink(path); err != nil {
				return err
			}
		}
		header, err := tar.FileInfoHeader(info, target)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		header.Name, header.Format = name, tar.FormatPAX
		header.Uid, header.Gid, header.Uname, header.Gname = 0, 0, "", ""
		header.ModTime, header.AccessTime, header.ChangeTime = time.Unix(0, 0), time.Time{}, time.Time{}
		if err := archive.WriteHeader(header); err != nil || !info.Mode().IsRegular() {
			return err
		}
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		_, err = io.Copy(archive, file)
		return err
	})
	if err != nil {
		return err
	}
	return archive.Close()
}

func addJSON(layout, kind string, value any) (descriptor, error) {
	data, err := json.Marshal(value)
	if err != nil {
		return descriptor{}, err
	}
	return addBlob(layout, kind, data)
}

func addBlob(layout, kind string, data []byte) (descriptor, error) {
	digest := fmt.Sprintf("%x", sha256.Sum256(data))
	err := replace(filepath.Join(layout, "blobs/sha256", digest), data)
	return descriptor{MediaType: kind, Digest: "sha256:" + digest, Size: int64(len(data))}, err
}

func addRefs(layout string, refs []string, manifest descriptor) error {
	path := filepath.Join(layout, "index.json")
	index := struct {
		SchemaVersion int          `json:"schemaVersion"`
		MediaType     string       `json:"mediaType"`
		Manifests     []descriptor `json:"manifests"`
	}{SchemaVersion: 2, MediaType: indexType}
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, &index)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", path, err)
	}
	index.Manifests = slices.DeleteFunc(index.Manifests, func(d descriptor) bool {
		return slices.Contains(refs, d.Annotations[refName])
	})
	for _, ref := range refs {
		manifest.Annotations = map[string]string{refName: ref}
		index.Manifests = append(index.Manifests, manifest)
	}
	if data, err = json.Marshal(index); err != nil {
		return err
	}
	if err := replace(filepath.Join(layout, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`)); err != nil {
		return err
	}
	return replace(path, data)
}

// replace writes a file whole or not at all.
func replace(path string, data []byte) error {
	fresh := fmt.Sprintf("%s.%d", path, os.Getpid())
	if err := os.WriteFile(fresh, data, 0o644); err != nil {
		return err
	}
	return os.Rename(fresh, path)
}
