package main

import (
	"reflect"
	"testing"
)

func TestHierarchies(t *testing.T) {
	const unified = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n"
	const hybrid = `cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0
cgroup /sys/fs/cgroup/cpuset cgroup rw,cpuset 0 0
cgroup /sys/fs/cgroup/systemd cgroup rw,name=systemd 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0
`
	for _, c := range []struct {
		name, own, mounts string
		want              cgroups
	}{
		{"version 2", "0::/user.slice/a.scope\n", unified, cgroups{
			{hierarchy{"/sys/fs/cgroup", "/user.slice/a.scope", ""}, "/sys/fs/cgroup/x"},
		}},
		{"version 1 with a bare version 2", "3:name=systemd:/\n2:cpuset:/\n1:cpu,cpuacct:/own\n0::/\n", hybrid, cgroups{
			{hierarchy{"/sys/fs/cgroup/systemd", "/", "none,name=systemd"}, "/sys/fs/cgroup/systemd/x"},
			{hierarchy{"/sys/fs/cgroup/cpuset", "/", "cpuset"}, "/sys/fs/cgroup/cpuset/x"},
			{hierarchy{"/sys/fs/cgroup/cpu,cpuacct", "/own", "cpu,cpuacct"}, "/sys/fs/cgroup/cpu,cpuacct/own/x"},
		}},
	} {
		found, err := parseHierarchies(c.own, c.mounts)
		if got := clusterCgroups(found, "x"); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, %v, want %+v", c.name, got, err, c.want)
		}
	}
	for _, own := range []string{"", "no\n", "1:cpu:/\n"} {
		if _, err := parseHierarchies(own, ""); err == nil {
			t.Errorf("%q with no mount: want an error", own)
		}
	}
}
