// Command cluster starts and stops Kubernetes clusters of this machine, each in namespaces of its
// own. See ../README.md.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const usage = `usage: cluster COMMAND [--name NAME] ...

  up [--nodes N] [--cni bridge|ptp] [--images DIR]... [--owner PID]
                                                        start a cluster, and wait until its nodes are ready
  down                                                  stop it; its logs stay
  exec PROGRAM [ARGUMENT]...                            run a program in its network
  node kill|start|cut|join NODE                         what happens to machines
  node restart NODE COMPONENT                           kill kubelet, containerd or kube-proxy; it is started again
  status                                                whether it runs
`

func main() {
	name := filepath.Base(os.Args[0])
	var err error
	switch {
	case name == linkLocalPtp:
		linkLocalPtpMain()
		return
	case len(os.Args) < 2:
		err = errUsage
	default:
		err = run(os.Args[1], os.Args[2:])
	}
	if errors.Is(err, errUsage) {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

var errUsage = errors.New("wrong command line")

func run(command string, args []string) error {
	switch command {
	// What `up` starts, in this order; no command of a person's.
	case "keep":
		return keep(args[0])
	case "control":
		// Of what it holds, its own children get only what they are given.
		unix.CloseOnExec(3)
		unix.CloseOnExec(4)
		return runControl(args[0], os.NewFile(4, "keeper"))
	case "enter-node":
		return enterNode(args[0])
	case "run-node":
		return runNode(args[0])
	case "image":
		return imageMain(args)
	}
	flags := flag.NewFlagSet(command, flag.ContinueOnError)
	flags.SetOutput(os.Stderr)
	spec := Spec{}
	var images list
	var owner int
	flags.StringVar(&spec.Name, "name", "default", "which cluster")
	if command == "up" {
		flags.IntVar(&spec.Nodes, "nodes", 1, "how many nodes")
		flags.StringVar(&spec.CNI, "cni", "bridge", "bridge or ptp")
		flags.IntVar(&owner, "owner", 0, "a process with whose end the cluster ends")
		flags.Var(&images, "images", "an OCI image layout that the registry serves")
	}
	if flags.Parse(args) != nil {
		return errUsage
	}
	args = flags.Args()
	directory, err := clusterDirectory(spec.Name)
	if err != nil {
		return err
	}
	switch {
	case command == "up" && len(args) == 0:
		return up(directory, spec, images, owner)
	case command == "down" && len(args) == 0:
		return down(directory)
	case command == "status" && len(args) == 0:
		return status(directory)
	case command == "exec" && len(args) > 0:
		return enter(directory, args)
	case command == "node" && len(args) >= 2:
		return nodeAction(directory, args)
	}
	return errUsage
}

// list is a flag that can be given more than once.
type list []string

func (l *list) String() string { return strings.Join(*l, ",") }

// Set takes one more value.
func (l *list) Set(value string) error {
	path, err := filepath.Abs(value)
	*l = append(*l, path)
	return err
}

// clusterDirectory is where a cluster's files are: FERROVIRT_CLUSTERS, or beside our programs.
func clusterDirectory(name string) (string, error) {
	if err := (Spec{Name: name, Nodes: 1, CNI: "bridge"}).Check(); err != nil {
		return "", err
	}
	root := os.Getenv("FERROVIRT_CLUSTERS")
	if root == "" {
		bin, err := executableDirectory()
		if err != nil {
			return "", err
		}
		root = filepath.Join(filepath.Dir(bin), "clusters")
	}
	root, err := filepath.Abs(root)
	return filepath.Join(root, name), err
}

func executableDirectory() (string, error) {
	own, err := os.Executable()
	if err != nil {
		return "", err
	}
	own, err = filepath.EvalSymlinks(own)
	return filepath.Dir(own), err
}

// clusterMark is in the environment of every process of a cluster's components, with the
// cluster's directory: so each can be told from the machine's own.
const clusterMark = "FERROVIRT_CLUSTER"

func componentEnv() []string {
	env := []string{"PATH=" + programs, "HOME=/root"}
	if mark := os.Getenv(clusterMark); mark != "" {
		env = append(env, clusterMark+"="+mark)
	}
	return env
}
