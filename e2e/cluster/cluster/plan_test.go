package main

import (
	"slices"
	"strings"
	"testing"
)

func TestSpecsThatAreRefused(t *testing.T) {
	good := Spec{Name: "a-1", Nodes: 1, CNI: "bridge"}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Spec){
		`name ""`:      func(s *Spec) { s.Name = "" },
		`name "../a"`:  func(s *Spec) { s.Name = "../a" },
		"0 nodes":      func(s *Spec) { s.Nodes = 0 },
		"201 nodes":    func(s *Spec) { s.Nodes = 201 },
		`CNI "calico"`: func(s *Spec) { s.CNI = "calico" },
	} {
		spec := good
		change(&spec)
		if err := spec.Check(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%+v: %v, want %s", spec, err, want)
		}
	}
}

func TestNodesShareNoAddress(t *testing.T) {
	var all []string
	for _, node := range (Spec{Nodes: 200}).All() {
		all = append(all, node.V4.String(), node.V6.String(), node.PodsV4.String(), node.PodsV6.String())
	}
	slices.Sort(all)
	if unique := slices.Compact(slices.Clone(all)); len(unique) != 800 {
		t.Errorf("%d of 800 are different", len(unique))
	}
}

func TestReadyNodes(t *testing.T) {
	for want, body := range []string{
		`{"items": []}`,
		`{"items": [{"status": {"conditions": [{"type": "Ready", "status": "True"}]}}, {"status": {}}]}`,
	} {
		if ready, err := readyNodes([]byte(body)); err != nil || ready != want {
			t.Errorf("%s: %d, %v, want %d", body, ready, err, want)
		}
	}
	if _, err := readyNodes([]byte("no")); err == nil {
		t.Error("not JSON: want an error")
	}
}
