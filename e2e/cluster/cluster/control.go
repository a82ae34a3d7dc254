package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// control is pid 1 of the cluster: the control plane and what starts nodes.
type control struct {
	directory string
	state     state
	*supervisor

	lock sync.Mutex
	// nodes holds the first process of each node that runs, by number.
	nodes map[int]*runningNode
	// waiting says what the cluster is not ready for yet; empty once it is.
	waiting string
}

type runningNode struct {
	pid   int
	ended <-chan unix.WaitStatus
}

// runControl is the cluster, until `keeper` is closed at its other end or a request comes to stop.
func runControl(directory string, keeper *os.File) error {
	state, err := readState(directory)
	if err != nil {
		return err
	}
	c := &control{
		directory: directory, state: state, nodes: map[int]*runningNode{}, waiting: "the control plane",
		supervisor: newSupervisor(filepath.Join(directory, "log")),
	}
	if err := c.prepare(); err != nil {
		return err
	}
	go func() {
		// A keeper that was killed cannot clean up: then this process does.
		_, _ = keeper.Read(make([]byte, 1))
		c.end()
	}()
	if err := c.serve(); err != nil {
		return err
	}
	go func() {
		err := http.ListenAndServe(fmt.Sprintf(":%d", registryPort), registry{layouts: state.Images})
		fmt.Fprintln(os.Stderr, "registry:", err)
	}()
	env := componentEnv()
	for _, component := range controlComponents(directory) {
		if err := c.keep(component, env); err != nil {
			return err
		}
	}
	for _, node := range state.Spec.All() {
		if err := c.startNode(node); err != nil {
			return err
		}
	}
	if err := c.becomeReady(); err != nil {
		return err
	}
	select {}
}

func (c *control) prepare() error {
	if err := mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return err
	}
	etcd := filepath.Join(c.directory, "etcd")
	if err := os.Mkdir(etcd, 0o700); err != nil {
		return err
	}
	if err := mount("tmpfs", etcd, "tmpfs", 0, "mode=700"); err != nil {
		return err
	}
	corefile := corefile(c.directory)
	if err := os.WriteFile(filepath.Join(c.directory, "Corefile"), []byte(corefile), 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(c.directory, "audit.yaml"), []byte(auditPolicy), 0o644); err != nil {
		return err
	}
	return controlNetwork(c.state.Spec.All())
}

// startNode starts a node that does not run.
func (c *control) startNode(node Node) error {
	c.lock.Lock()
	defer c.lock.Unlock()
	if c.nodes[node.Number] != nil {
		return fmt.Errorf("%s runs already", node.Name)
	}
	argument, err := json.Marshal(nodeStart{c.directory, c.state.Spec, node.Number, c.state.Cgroups})
	if err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(c.logs, node.Name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	wait, ready, err := os.Pipe()
	if err != nil {
		return err
	}
	defer wait.Close()
	defer ready.Close()
	pid, ended, err := c.start("/proc/self/exe", []string{"cluster", "enter-node", string(argument)}, &syscall.ProcAttr{
		Env:   componentEnv(),
		Files: []uintptr{wait.Fd(), log.Fd(), log.Fd()},
		Sys: &syscall.SysProcAttr{
			Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
		},
	})
	if err != nil {
		return err
	}
	c.nodes[node.Number] = &runningNode{pid, ended}
	if err := plug(node, pid); err != nil {
		return err
	}
	_, err = ready.Write([]byte{0})
	return err
}

// killNode ends a node as a power cut does.
func (c *control) killNode(node Node) error {
	c.lock.Lock()
	defer c.lock.Unlock()
	running := c.nodes[node.Number]
	if running == nil {
		return fmt.Errorf("%s does not run", node.Name)
	}
	delete(c.nodes, node.Number)
	if err := unix.Kill(running.pid, unix.SIGKILL); err != nil {
		return fmt.Errorf("kill %s: %w", node.Name, err)
	}
	// The kernel ends every process of the namespace before it reports the first one's end.
	<-running.ended
	return c.state.Cgroups.remove(node.Name, sweepLimit)
}

// restart kills a node's component; its supervisor starts it again.
func (c *control) restart(node Node, component string) error {
	c.lock.Lock()
	running := c.nodes[node.Number]
	c.lock.Unlock()
	if running == nil {
		return fmt.Errorf("%s does not run", node.Name)
	}
	// Each thread that started programs has its own.
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", running.pid))
	if err != nil {
		return err
	}
	for _, task := range tasks {
		children, err := os.ReadFile(task)
		if err != nil {
			continue
		}
		for _, child := range strings.Fields(string(children)) {
			comm, err := os.ReadFile("/proc/" + child + "/comm")
			if err != nil || strings.TrimSpace(string(comm)) != component {
				continue
			}
			pid, err := strconv.Atoi(child)
			if err != nil {
				return err
			}
			return unix.Kill(pid, unix.SIGKILL)
		}
	}
	return fmt.Errorf("%s runs no %s", node.Name, component)
}

// serve answers `cluster` from outside, on a socket in the cluster's directory.
func (c *control) serve() error {
	listener, err := listen(c.directory)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		c.lock.Lock()
		defer c.lock.Unlock()
		fmt.Fprint(w, c.waiting)
	})
	mux.HandleFunc("POST /nodes/{node}/{action}", c.act)
	mux.HandleFunc("POST /nodes/{node}/{action}/{component}", c.act)
	go func() { fmt.Fprintln(os.Stderr, "socket:", http.Serve(listener, mux)) }()
	return nil
}

func (c *control) act(w http.ResponseWriter, r *http.Request) {
	err := fmt.Errorf("%s: no such node", r.PathValue("node"))
	for _, node := range c.state.Spec.All() {
		if node.Name != r.PathValue("node") {
			continue
		}
		switch action, component := r.PathValue("action"), r.PathValue("component"); action {
		case "kill":
			err = c.killNode(node)
		case "start":
			err = c.startNode(node)
		case "cut":
			err = setLink(node, false)
		case "join":
			err = setLink(node, true)
		case "restart":
			err = c.restart(node, component)
		default:
			err = fmt.Errorf("%s: no such action; there are kill, start, cut, join and restart", action)
		}
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
	}
}

// listen makes the cluster's socket; by descriptor, as a path may be longer than an address.
func listen(directory string) (net.Listener, error) {
	path, done, err := socket(directory)
	if err != nil {
		return nil, err
	}
	defer done()
	return net.Listen("unix", path)
}

// socket gives a short path for the cluster's socket, good until done is called.
func socket(directory string) (path string, done func(), err error) {
	handle, err := os.Open(directory)
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/control.sock", handle.Fd()), func() { handle.Close() }, nil
}

// end kills everything in the cluster, cleans up after it and ends.
func (c *control) end() {
	_ = unix.Kill(-1, unix.SIGKILL)
	if err := sweep(c.directory); err != nil && !errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintln(os.Stderr, "sweep:", err)
	}
	os.Exit(0)
}

// becomeReady makes the objects that a cluster has, and waits for its nodes.
func (c *control) becomeReady() error {
	api, err := newAPI(filepath.Join(c.directory, "pki"))
	if err != nil {
		return err
	}
	steps := []struct {
		waiting string
		check   func() error
	}{
		{"the API server", api.ready},
		{"the cluster's DNS Service", api.applyDNS},
		{"the nodes", func() error { return api.nodesReady(c.state.Spec.Nodes) }},
		{"service accounts", api.serviceAccount},
	}
	for _, step := range steps {
		for err := errors.New("not tried yet"); err != nil; {
			if err = step.check(); err != nil {
				c.setWaiting(step.waiting + ": " + err.Error())
				time.Sleep(100 * time.Millisecond)
			}
		}
	}
	c.setWaiting("")
	return nil
}

func (c *control) setWaiting(what string) {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.waiting = what
}
