package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// hierarchy is one cgroup hierarchy of the machine, and where in it this process was found.
type hierarchy struct {
	// Mount is where it is mounted.
	Mount string
	// Path is the process's own cgroup, from the hierarchy's root.
	Path string
	// Options are what `mount -t cgroup` takes for it; empty for version 2.
	Options string
}

// hierarchies reads those of this process. A version 2 hierarchy beside version 1 ones has no
// controllers and is left out, unless it is the only one.
func hierarchies() ([]hierarchy, error) {
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, err
	}
	return parseHierarchies(string(own), string(mounts))
}

func parseHierarchies(own, mounts string) ([]hierarchy, error) {
	var v1, v2 []hierarchy
	for line := range strings.Lines(own) {
		// cgroups(7): hierarchy-ID:controller-list:cgroup-path
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) != 3 {
			return nil, fmt.Errorf("/proc/self/cgroup: %q: it has three fields", line)
		}
		controllers, path := fields[1], fields[2]
		if controllers == "" {
			if mount := cgroupMount(mounts, "cgroup2", nil); mount != "" {
				v2 = append(v2, hierarchy{Mount: mount, Path: path})
			}
			continue
		}
		mount := cgroupMount(mounts, "cgroup", strings.Split(controllers, ","))
		if mount == "" {
			continue
		}
		options := controllers
		if strings.HasPrefix(options, "name=") {
			options = "none," + options
		}
		v1 = append(v1, hierarchy{Mount: mount, Path: path, Options: options})
	}
	switch {
	case len(v1) > 0:
		return v1, nil
	case len(v2) > 0:
		return v2, nil
	}
	return nil, errors.New("no cgroup hierarchy is mounted; mount one at /sys/fs/cgroup")
}

// cgroupMount finds the mount of one type that has all of the options.
func cgroupMount(mounts, kind string, options []string) string {
	for line := range strings.Lines(mounts) {
		fields := strings.Fields(line)
		if len(fields) < 4 || fields[2] != kind {
			continue
		}
		has := "," + fields[3] + ","
		all := true
		for _, option := range options {
			all = all && strings.Contains(has, ","+option+",")
		}
		if all {
			return fields[1]
		}
	}
	return ""
}

// cgroups are the directories of a cluster, one a hierarchy.
type cgroups []cgroup

type cgroup struct {
	hierarchy
	// Directory is the cluster's own.
	Directory string
}

// clusterCgroups says where a cluster's cgroups are: below this process's, where version 1 lets
// processes and children share a parent, and at the root in version 2, which does not.
func clusterCgroups(found []hierarchy, name string) cgroups {
	var all cgroups
	for _, h := range found {
		parent := h.Path
		if h.Options == "" {
			parent = "/"
		}
		all = append(all, cgroup{h, filepath.Join(h.Mount, parent, name)})
	}
	return all
}

// join makes the node's cgroup in each hierarchy, and moves this process there.
func (c cgroups) join(node string) error {
	for _, g := range c {
		directory := filepath.Join(g.Directory, node)
		if g.Options == "" {
			// A parent with controllers for its children has no processes itself.
			directory = filepath.Join(directory, "init")
		}
		if err := os.MkdirAll(directory, 0o755); err != nil {
			return err
		}
		var err error
		switch {
		case g.Options == "":
			err = delegate(g.Mount, filepath.Dir(directory))
		case strings.Contains(","+g.Options+",", ",cpuset,"):
			err = inheritCpuset(filepath.Dir(g.Directory), directory)
		}
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(directory, "cgroup.procs"), []byte("0"), 0); err != nil {
			return fmt.Errorf("join %s: %w", directory, err)
		}
	}
	return nil
}

// delegate gives every controller to the children of each cgroup from root down to directory.
func delegate(root, directory string) error {
	available, err := os.ReadFile(filepath.Join(root, "cgroup.controllers"))
	if err != nil {
		return err
	}
	below, err := filepath.Rel(root, directory)
	if err != nil {
		return err
	}
	step := root
	for _, name := range append([]string{"."}, strings.Split(below, "/")...) {
		step = filepath.Join(step, name)
		for _, controller := range strings.Fields(string(available)) {
			// One at a time: one that cannot be had keeps no other from being given.
			_ = os.WriteFile(filepath.Join(step, "cgroup.subtree_control"), []byte("+"+controller), 0)
		}
	}
	return nil
}

// inheritCpuset fills what a new cgroup of version 1 has empty, from root down to directory.
func inheritCpuset(root, directory string) error {
	below, err := filepath.Rel(root, directory)
	if err != nil {
		return err
	}
	step := root
	for _, name := range strings.Split(below, "/") {
		parent := step
		step = filepath.Join(step, name)
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			value, err := os.ReadFile(filepath.Join(parent, file))
			if err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(step, file), value, 0); err != nil {
				return err
			}
		}
	}
	return nil
}

// remove takes away the cgroups below a name, "" for all of the cluster's, within the limit:
// the kernel keeps a cgroup until its last process has been reaped.
func (c cgroups) remove(name string, limit time.Duration) error {
	until := time.Now().Add(limit)
	for _, g := range c {
		for {
			err := removeTree(filepath.Join(g.Directory, name))
			if err == nil {
				break
			}
			if time.Now().After(until) {
				return err
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	return nil
}

// removeTree removes directories alone: the kernel's files in them go with them.
func removeTree(directory string) error {
	entries, err := os.ReadDir(directory)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.IsDir() {
			if err := removeTree(filepath.Join(directory, entry.Name())); err != nil {
				return err
			}
		}
	}
	if err := unix.Rmdir(directory); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("rmdir %s: %w", directory, err)
	}
	return nil
}

// mount mounts the hierarchies at a directory, as this process's cgroup namespace shows them.
func (c cgroups) mount(at string) error {
	if len(c) == 1 && c[0].Options == "" {
		return mount("cgroup2", at, "cgroup2", 0, "")
	}
	if err := mount("tmpfs", at, "tmpfs", 0, "mode=755"); err != nil {
		return err
	}
	for _, g := range c {
		directory := filepath.Join(at, filepath.Base(g.Mount))
		if err := os.Mkdir(directory, 0o755); err != nil {
			return err
		}
		if err := mount("cgroup", directory, "cgroup", 0, g.Options); err != nil {
			return err
		}
	}
	return nil
}

// mount is mount(2), with its operands in the error.
func mount(source, target, kind string, flags uintptr, data string) error {
	if err := unix.Mount(source, target, kind, flags, data); err != nil {
		return fmt.Errorf("mount %s at %s: %w", source, target, err)
	}
	return nil
}
