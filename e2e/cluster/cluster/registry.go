package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// registry serves OCI image layouts by the pull half of the OCI distribution protocol, under the
// names that their images have (`org.opencontainers.image.ref.name`), whatever registry these
// name: a client that takes it for another registry's mirror says which by `ns`, as containerd does.
// The layouts are read at each request, so an image that was just built can be pulled.
type registry struct{ layouts []string }

const refName = "org.opencontainers.image.ref.name"

var (
	blobPath     = regexp.MustCompile(`^/v2/.+/blobs/sha256:([0-9a-f]{64})$`)
	manifestPath = regexp.MustCompile(`^/v2/(.+)/manifests/(?:sha256:([0-9a-f]{64})|([\w][\w.-]{0,127}))$`)
)

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

func (g registry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	if r.URL.Path == "/v2/" {
		return
	}
	if match := blobPath.FindStringSubmatch(r.URL.Path); match != nil {
		g.serve(w, r, match[1], "application/octet-stream")
		return
	}
	match := manifestPath.FindStringSubmatch(r.URL.Path)
	if match == nil {
		notFound(w, "NAME_UNKNOWN", r.URL.Path)
		return
	}
	digest, kind := match[2], ""
	if digest == "" {
		host := r.URL.Query().Get("ns")
		if host == "" {
			host = r.Host
		}
		name := host + "/" + match[1] + ":" + match[3]
		found, ok := g.find(name)
		if !ok {
			notFound(w, "MANIFEST_UNKNOWN", name)
			return
		}
		digest, kind = strings.TrimPrefix(found.Digest, "sha256:"), found.MediaType
	}
	if kind == "" {
		kind = g.mediaType(digest)
	}
	g.serve(w, r, digest, kind)
}

func notFound(w http.ResponseWriter, code, what string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusNotFound)
	_ = json.NewEncoder(w).Encode(map[string]any{"errors": []map[string]string{{"code": code, "message": what}}})
}

// find looks an image up by its whole name.
func (g registry) find(name string) (descriptor, bool) {
	for _, layout := range g.layouts {
		data, err := os.ReadFile(filepath.Join(layout, "index.json"))
		if err != nil {
			continue
		}
		var index struct{ Manifests []descriptor }
		if json.Unmarshal(data, &index) != nil {
			continue
		}
		for _, manifest := range index.Manifests {
			if manifest.Annotations[refName] == name {
				return manifest, true
			}
		}
	}
	return descriptor{}, false
}

func (g registry) blob(digest string) (*os.File, error) {
	err := error(os.ErrNotExist)
	for _, layout := range g.layouts {
		var file *os.File
		if file, err = os.Open(filepath.Join(layout, "blobs/sha256", digest)); err == nil {
			return file, nil
		}
	}
	return nil, err
}

// mediaType is what a manifest that was asked for by digest says of itself.
func (g registry) mediaType(digest string) string {
	var manifest descriptor
	if file, err := g.blob(digest); err == nil {
		defer file.Close()
		_ = json.NewDecoder(file).Decode(&manifest)
	}
	return manifest.MediaType
}

func (g registry) serve(w http.ResponseWriter, r *http.Request, digest, kind string) {
	file, err := g.blob(digest)
	if err != nil {
		notFound(w, "BLOB_UNKNOWN", "sha256:"+digest)
		return
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Docker-Content-Digest", "sha256:"+digest)
	w.Header().Set("Etag", fmt.Sprintf("%q", digest))
	http.ServeContent(w, r, "", info.ModTime(), file)
}
