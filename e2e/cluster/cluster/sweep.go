package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// sweepLimit is how long the kernel may take to let go of what killed processes held.
const sweepLimit = 20 * time.Second

// state is what a cluster's directory says about it, for whoever cleans up.
type state struct {
	Spec    Spec    `json:"spec"`
	Cgroups cgroups `json:"cgroups"`
	// Images are the OCI layouts that the registry serves.
	Images []string `json:"images"`
	// Owner is a process whose end is the cluster's; none where it is 0.
	Owner int `json:"owner"`
}

func readState(directory string) (state, error) {
	var s state
	data, err := os.ReadFile(filepath.Join(directory, "state.json"))
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return s, fmt.Errorf("%s/state.json: %w", directory, err)
	}
	return s, nil
}

func (s state) write(directory string) error {
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(directory, "state.json"), data, 0o600)
}

// sweep removes all that outlives the processes of a cluster, but its logs: cgroups, loop devices,
// and files. It can be done again.
func sweep(directory string) error {
	state, err := readState(directory)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := state.Cgroups.remove("", sweepLimit); err != nil {
		return err
	}
	if err := unmountBelow(directory); err != nil {
		return err
	}
	if err := detachLoops(directory); err != nil {
		return err
	}
	entries, err := os.ReadDir(directory)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		switch entry.Name() {
		case "log", "lock", "state.json":
		default:
			if err := os.RemoveAll(filepath.Join(directory, entry.Name())); err != nil {
				return err
			}
		}
	}
	// Last: without it, nobody knows what there was.
	return os.Remove(filepath.Join(directory, "state.json"))
}

// unmountBelow leaves no mount whose contents removing a directory would remove.
func unmountBelow(directory string) error {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	var below []string
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); len(fields) > 1 && strings.HasPrefix(fields[1], directory+"/") {
			below = append(below, fields[1])
		}
	}
	sort.Sort(sort.Reverse(sort.StringSlice(below)))
	for _, path := range below {
		if err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			return fmt.Errorf("unmount %s: %w", path, err)
		}
	}
	return nil
}

// detachLoops detaches the loop devices whose files are below a directory, and those upon them.
func detachLoops(directory string) error {
	devices, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil || len(devices) == 0 {
		return err
	}
	ours, err := files(directory)
	if err != nil {
		return err
	}
	// A device upon a device has a path of /dev, and is found in the round after that one's.
	for found := true; found; {
		found = false
		for _, device := range devices {
			name := strings.Split(device, "/")[3]
			file, err := os.Open("/dev/" + name)
			if err != nil {
				continue
			}
			info, err := unix.IoctlLoopGetStatus64(int(file.Fd()))
			if err == nil && ours[[2]uint64{info.Device, info.Inode}] {
				if err = unix.IoctlSetInt(int(file.Fd()), unix.LOOP_CLR_FD, 0); err == nil {
					found = true
					var own unix.Stat_t
					if unix.Fstat(int(file.Fd()), &own) == nil {
						ours[[2]uint64{own.Dev, own.Ino}] = true
					}
				}
			}
			file.Close()
		}
	}
	return nil
}

// files are the device and inode numbers of all regular files below a directory.
func files(directory string) (map[[2]uint64]bool, error) {
	found := map[[2]uint64]bool{}
	err := filepath.WalkDir(directory, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		var stat unix.Stat_t
		if err := unix.Lstat(path, &stat); err != nil {
			return err
		}
		found[[2]uint64{stat.Dev, stat.Ino}] = true
		return nil
	})
	return found, err
}
