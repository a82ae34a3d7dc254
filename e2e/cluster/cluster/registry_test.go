package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
)

func TestImagesArePulledByTheirWholeNames(t *testing.T) {
	root, layout := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "file"), []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := addImage(layout, root, []string{"docker.io/library/one:1", "registry:5000/a/two:devel"}, []string{"run"}); err != nil {
		t.Fatal(err)
	}
	server := registry{layouts: []string{filepath.Join(t.TempDir(), "none"), layout}}
	manifest, ok := server.find("docker.io/library/one:1")
	if !ok {
		t.Fatal("the layout has no image by its name")
	}
	for _, c := range []struct {
		method, url string
		status      int
		kind        string
	}{
		{"GET", "http://registry:5000/v2/", 200, ""},
		{"GET", "http://mirror/v2/library/one/manifests/1?ns=docker.io", 200, manifestType},
		{"HEAD", "http://mirror/v2/library/one/manifests/1?ns=docker.io", 200, manifestType},
		{"GET", "http://registry:5000/v2/a/two/manifests/devel", 200, manifestType},
		{"GET", "http://mirror/v2/any/manifests/" + manifest.Digest, 200, manifestType},
		{"GET", "http://mirror/v2/any/blobs/" + manifest.Digest, 200, "application/octet-stream"},
		{"GET", "http://mirror/v2/library/one/manifests/2?ns=docker.io", 404, ""},
		{"GET", "http://mirror/v2/library/one/manifests/1?ns=quay.io", 404, ""},
		{"GET", "http://mirror/v2/any/blobs/sha256:" + "../index.json", 404, ""},
		{"PUT", "http://mirror/v2/library/one/manifests/1", 405, ""},
	} {
		answer := httptest.NewRecorder()
		server.ServeHTTP(answer, httptest.NewRequest(c.method, c.url, nil))
		if kind := answer.Header().Get("Content-Type"); answer.Code != c.status || c.kind != "" && kind != c.kind {
			t.Errorf("%s %s: %d %s, want %d %s", c.method, c.url, answer.Code, kind, c.status, c.kind)
		}
		if c.method == http.MethodHead && answer.Body.Len() != 0 {
			t.Errorf("%s %s: has a body", c.method, c.url)
		}
	}
}

func TestTheSameFilesGiveTheSameImage(t *testing.T) {
	var digests [2]string
	for i := range digests {
		root, layout := t.TempDir(), t.TempDir()
		if err := os.WriteFile(filepath.Join(root, "file"), []byte("text"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := addImage(layout, root, []string{"a"}, nil); err != nil {
			t.Fatal(err)
		}
		image, _ := registry{layouts: []string{layout}}.find("a")
		digests[i] = image.Digest
	}
	if digests[0] == "" || digests[0] != digests[1] {
		t.Errorf("%q", digests)
	}
}
