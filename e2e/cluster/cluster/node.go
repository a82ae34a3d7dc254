package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// nodeStart is what a node's process is told.
type nodeStart struct {
	// Directory is the cluster's.
	Directory string  `json:"directory"`
	Spec      Spec    `json:"spec"`
	Number    int     `json:"number"`
	Cgroups   cgroups `json:"cgroups"`
}

// enterNode joins the node's cgroups, makes them the root of all that the node sees, and goes on
// in runNode. It is pid 1 of the node's own pid, mount, network, IPC and UTS namespaces.
func enterNode(argument string) error {
	var start nodeStart
	if err := json.Unmarshal([]byte(argument), &start); err != nil {
		return err
	}
	if err := start.Cgroups.join(start.Spec.Node(start.Number).Name); err != nil {
		return err
	}
	// The namespace is the thread's; exec makes this thread the whole process.
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("cgroup namespace: %w", err)
	}
	return unix.Exec("/proc/self/exe", []string{"cluster", "run-node", argument}, os.Environ())
}

// runNode is the node from then on, to its end.
func runNode(argument string) error {
	var start nodeStart
	if err := json.Unmarshal([]byte(argument), &start); err != nil {
		return err
	}
	node := start.Spec.Node(start.Number)
	// The control plane says when eth0 is there.
	if n, err := os.Stdin.Read(make([]byte, 1)); n != 1 {
		return fmt.Errorf("the control plane has ended: %w", err)
	}
	if err := nodeRoot(start, node); err != nil {
		return err
	}
	if err := nodeNetwork(start.Spec, node); err != nil {
		return err
	}
	s := newSupervisor("/var/log/components")
	for _, component := range nodeComponents(node) {
		if err := s.keep(component, componentEnv()); err != nil {
			return err
		}
	}
	select {}
}

// nodeRoot makes the node's root file system and moves there. /usr is the machine's, read-only;
// /var is a directory of the cluster's; everything else is made new in memory.
func nodeRoot(start nodeStart, node Node) error {
	if err := mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	own := filepath.Join(start.Directory, "nodes", node.Name)
	root := filepath.Join(own, "root")
	at := func(path string) string { return filepath.Join(root, path) }
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	if err := mount("tmpfs", root, "tmpfs", 0, "mode=755"); err != nil {
		return err
	}
	logs := filepath.Join(start.Directory, "log", node.Name)
	for _, directory := range []string{
		filepath.Join(own, "var/lib"), filepath.Join(own, "var/log/components"), filepath.Join(own, "var/log/pods"),
		filepath.Join(own, "var/tmp"), logs,
		at("usr"), at("var"), at("proc"), at("sys"), at("dev"), at("run"), at("root"), at("mnt"), at("old"),
		at("opt/cluster/bin"), at("opt/cni/bin"), at("etc"),
	} {
		if err := os.MkdirAll(directory, 0o755); err != nil {
			return err
		}
	}
	if err := os.Mkdir(at("tmp"), 0o777|fs.ModeSticky); err != nil {
		return err
	}
	if err := topLevel(root); err != nil {
		return err
	}
	if err := nodeEtc(start, node, at("etc")); err != nil {
		return err
	}
	if err := cniPlugins(at("opt/cni/bin")); err != nil {
		return err
	}
	bin, err := executableDirectory()
	if err != nil {
		return err
	}
	for _, m := range []struct {
		source, target, kind string
		flags                uintptr
		data                 string
	}{
		{"/usr", "usr", "", unix.MS_BIND, ""},
		{"", "usr", "", unix.MS_BIND | unix.MS_REMOUNT | unix.MS_RDONLY, ""},
		{bin, "opt/cluster/bin", "", unix.MS_BIND, ""},
		{"", "opt/cluster/bin", "", unix.MS_BIND | unix.MS_REMOUNT | unix.MS_RDONLY, ""},
		{filepath.Join(own, "var"), "var", "", unix.MS_BIND, ""},
		{logs, "var/log/components", "", unix.MS_BIND, ""},
		{"proc", "proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"sysfs", "sys", "sysfs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"/dev", "dev", "", unix.MS_BIND, ""},
		{"devpts", "dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620"},
		{"tmpfs", "dev/shm", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, ""},
		{"tmpfs", "run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=755"},
	} {
		if err := mount(m.source, at(m.target), m.kind, m.flags, m.data); err != nil {
			return err
		}
	}
	if err := start.Cgroups.mount(at("sys/fs/cgroup")); err != nil {
		return err
	}
	if err := kernelSettings(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(root, at("old")); err != nil {
		return fmt.Errorf("pivot_root %s: %w", root, err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	if err := unix.Unmount("/old", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount the machine's root: %w", err)
	}
	if err := os.Remove("/old"); err != nil {
		return err
	}
	// What a privileged pod mounts for others to see reaches them.
	if err := mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return err
	}
	if err := os.WriteFile("/proc/sys/kernel/hostname", []byte(node.Name), 0); err != nil {
		return fmt.Errorf("hostname: %w", err)
	}
	return nil
}

// topLevel gives a root the /bin, /lib and so on that the machine has.
func topLevel(root string) error {
	for _, name := range []string{"bin", "sbin", "lib", "lib32", "lib64", "libx32"} {
		target, err := os.Readlink("/" + name)
		switch {
		case err == nil:
			err = os.Symlink(target, filepath.Join(root, name))
		case errors.Is(err, fs.ErrNotExist):
			continue
		default:
			err = fmt.Errorf("/%s is no link into /usr: install usrmerge (Debian 12 has it)", name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// nodeEtc makes a node's /etc: what programs of /usr read there, and what makes it this node.
func nodeEtc(start nodeStart, node Node, etc string) error {
	for _, name := range []string{
		"alternatives", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "nsswitch.conf", "passwd", "group", "protocols", "services",
		"os-release",
	} {
		if err := copyTree(filepath.Join("/etc", name), filepath.Join(etc, name)); err != nil {
			return err
		}
	}
	files := nodeFiles(start.Spec, node)
	for from, to := range map[string]string{
		"ca.crt":                   "ca.crt",
		node.Name + "-kubelet.crt": "kubelet.crt",
		node.Name + "-kubelet.key": "kubelet.key",
		node.Name + ".kubeconfig":  "kubelet.kubeconfig",
		"proxy.kubeconfig":         "proxy.kubeconfig",
	} {
		data, err := os.ReadFile(filepath.Join(start.Directory, "pki", from))
		if err != nil {
			return err
		}
		files["kubernetes/"+to] = string(data)
	}
	for name, text := range files {
		path := filepath.Join(etc, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		mode := fs.FileMode(0o644)
		if strings.HasPrefix(name, "kubernetes/") {
			mode = 0o600
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			return err
		}
	}
	return nil
}

// copyTree copies files, directories and links; what is missing stays so.
func copyTree(from, to string) error {
	info, err := os.Lstat(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(from)
		if err != nil {
			return err
		}
		return os.Symlink(target, to)
	case info.IsDir():
		entries, err := os.ReadDir(from)
		if err != nil {
			return err
		}
		if err := os.Mkdir(to, info.Mode().Perm()); err != nil {
			return err
		}
		for _, entry := range entries {
			if err := copyTree(filepath.Join(from, entry.Name()), filepath.Join(to, entry.Name())); err != nil {
				return err
			}
		}
		return nil
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, info.Mode().Perm())
}

// cniPlugins links Debian's plugins and ours, in a directory that more may be put into.
func cniPlugins(directory string) error {
	plugins, err := os.ReadDir("/usr/lib/cni")
	if err != nil {
		return fmt.Errorf("CNI plugins: %w; install containernetworking-plugins", err)
	}
	for _, plugin := range plugins {
		if err := os.Symlink("/usr/lib/cni/"+plugin.Name(), filepath.Join(directory, plugin.Name())); err != nil {
			return err
		}
	}
	return os.Symlink("/opt/cluster/bin/cluster", filepath.Join(directory, linkLocalPtp))
}

// kernelSettings shows the kubelet the values that it wants of settings which are the whole
// machine's, so that it writes none.
func kernelSettings(root string) error {
	for name, value := range map[string]string{
		"vm/overcommit_memory": "1", "vm/panic_on_oom": "0",
		"kernel/panic": "10", "kernel/panic_on_oops": "1",
		"kernel/keys/root_maxkeys": "1000000", "kernel/keys/root_maxbytes": "25000000",
	} {
		shown := filepath.Join(root, "etc/kubernetes/sys", name)
		if err := os.MkdirAll(filepath.Dir(shown), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(shown, []byte(value+"\n"), 0o444); err != nil {
			return err
		}
		err := mount(shown, filepath.Join(root, "proc/sys", name), "", unix.MS_BIND, "")
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return nil
}
