package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// startLimit is how long a machine may take until the nodes are ready.
const startLimit = 5 * time.Minute

// up starts a cluster and waits until it is ready.
func up(directory string, spec Spec, images []string, owner int) error {
	if err := spec.Check(); err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("namespaces are root's: run it as root")
	}
	if err := os.MkdirAll(filepath.Join(directory, "log"), 0o755); err != nil {
		return err
	}
	lock, err := acquire(directory)
	if err != nil {
		return err
	}
	if lock == nil {
		running, err := readState(directory)
		if err == nil && running.Spec != spec {
			err = fmt.Errorf("cluster %s runs already, with other nodes or another CNI; `make cluster-down` stops it", spec.Name)
		}
		if err != nil {
			return err
		}
		return waitReady(directory)
	}
	// The log of what ran before, and what an end that nobody saw has left.
	if err := sweep(directory); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(directory, "log")); err != nil {
		return err
	}
	found, err := hierarchies()
	if err != nil {
		return err
	}
	hash := sha256.Sum256([]byte(directory))
	state := state{spec, clusterCgroups(found, fmt.Sprintf("ferrovirt-%s-%x", spec.Name, hash[:4])), images, owner}
	if err := state.write(directory); err != nil {
		return err
	}
	pki := filepath.Join(directory, "pki")
	if err := makePKI(pki, spec.All()); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(pki, "admin.kubeconfig"), filepath.Join(directory, "kubeconfig")); err != nil {
		return err
	}
	if err := startKeeper(directory, lock); err != nil {
		return err
	}
	lock.Close()
	return waitReady(directory)
}

func startKeeper(directory string, lock *os.File) error {
	if err := os.MkdirAll(filepath.Join(directory, "log"), 0o755); err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(directory, "log", "cluster.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	keeper := exec.Command("/proc/self/exe", "keep", directory)
	keeper.Args[0] = "cluster"
	keeper.Env = append(os.Environ(), clusterMark+"="+directory)
	keeper.Stdout, keeper.Stderr = log, log
	keeper.ExtraFiles = []*os.File{lock}
	keeper.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := keeper.Start(); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(directory, "keeper.pid"), []byte(strconv.Itoa(keeper.Process.Pid)), 0o644)
}

// keep runs the cluster's first process in namespaces of its own and, once that has ended for
// whatever reason, removes what it has left.
func keep(directory string) error {
	lock := os.NewFile(3, "lock")
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, unix.SIGTERM, unix.SIGINT)
	state, err := readState(directory)
	if err != nil {
		return err
	}
	if state.Owner != 0 {
		go func() {
			awaitEnd(state.Owner)
			stop <- unix.SIGTERM
		}()
	}
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	control := exec.Command("/proc/self/exe", "control", directory)
	control.Args[0] = "cluster"
	control.Stdout, control.Stderr = os.Stdout, os.Stderr
	// The lock is free when neither is left.
	control.ExtraFiles = []*os.File{lock, read}
	control.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
	}
	if err := control.Start(); err != nil {
		return err
	}
	read.Close()
	if err := os.WriteFile(filepath.Join(directory, "control.pid"), []byte(strconv.Itoa(control.Process.Pid)), 0o644); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- control.Wait() }()
	select {
	case err = <-ended:
		fmt.Println("the cluster ended:", err)
	case <-stop:
		_ = control.Process.Kill()
		<-ended
	}
	runtime.KeepAlive(write)
	return sweep(directory)
}

// awaitEnd waits until a process has ended.
func awaitEnd(pid int) {
	process, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(process)
	for {
		if n, err := unix.Poll([]unix.PollFd{{Fd: int32(process), Events: unix.POLLIN}}, -1); n > 0 || !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// acquire takes the lock of a cluster's directory; nil where a cluster has it.
func acquire(directory string) (*os.File, error) {
	lock, err := os.OpenFile(filepath.Join(directory, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	switch err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); {
	case errors.Is(err, unix.EWOULDBLOCK):
		lock.Close()
		return nil, nil
	case err != nil:
		lock.Close()
		return nil, fmt.Errorf("lock %s: %w", directory, err)
	}
	return lock, nil
}

func waitReady(directory string) error {
	waiting := "its first process"
	for until := time.Now().Add(startLimit); time.Now().Before(until); time.Sleep(50 * time.Millisecond) {
		answer, err := request(directory, http.MethodGet, "/status")
		if err == nil {
			if waiting = answer; waiting == "" {
				return nil
			}
			continue
		}
		if lock, err := acquire(directory); err != nil || lock != nil {
			log, _ := os.ReadFile(filepath.Join(directory, "log", "cluster.log"))
			return fmt.Errorf("it ended while waiting for %s:\n%s", waiting, log)
		}
	}
	return fmt.Errorf("after %s it still waits for %s; logs are in %s/log", startLimit, waiting, directory)
}

// down stops a cluster; one that does not run has nothing left afterwards either.
func down(directory string) error {
	if _, err := os.Stat(directory); err != nil {
		return nil
	}
	// Where there is a keeper, it cleans up, and this is done when it has ended.
	if pid, err := process(directory, "keeper.pid", "keep"); err == nil {
		if err := terminate(pid); err != nil {
			return fmt.Errorf("stop process %d: %w", pid, err)
		}
	}
	// Where there is none, the cluster's first process may be at it.
	for until := time.Now().Add(sweepLimit); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
		lock, err := acquire(directory)
		if err != nil {
			return err
		}
		if lock != nil {
			return sweep(directory)
		}
	}
	return fmt.Errorf("it has not ended; logs are in %s/log", directory)
}

// terminate asks a process to end, and waits until it has.
func terminate(pid int) error {
	process, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(process)
	if err := unix.PidfdSendSignal(process, unix.SIGTERM, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	events := []unix.PollFd{{Fd: int32(process), Events: unix.POLLIN}}
	for until := time.Now().Add(2 * sweepLimit); ; {
		n, err := unix.Poll(events, int(time.Until(until).Milliseconds()))
		switch {
		case n > 0:
			return nil
		case err == nil:
			return errors.New("it does not end")
		case !errors.Is(err, unix.EINTR):
			return err
		}
	}
}

// process reads a pid from a file, and sees that it is still that process's.
func process(directory, file, role string) (int, error) {
	text, err := os.ReadFile(filepath.Join(directory, file))
	if err != nil {
		return 0, errors.New("it does not run; `make cluster` starts it")
	}
	args, err := os.ReadFile("/proc/" + string(text) + "/cmdline")
	if err != nil || !bytes.Equal(args, []byte("cluster\x00"+role+"\x00"+directory+"\x00")) {
		return 0, errors.New("it does not run any more; `make cluster` starts it anew")
	}
	return strconv.Atoi(string(text))
}

// enter becomes a program in the cluster's network namespace, which has its kubeconfig.
func enter(directory string, args []string) error {
	pid, err := process(directory, "control.pid", "control")
	if err != nil {
		return err
	}
	path, err := exec.LookPath(args[0])
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	namespace, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return err
	}
	if err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter the network namespace: %w", err)
	}
	env := append(os.Environ(), "KUBECONFIG="+filepath.Join(directory, "kubeconfig"))
	return unix.Exec(path, args, env)
}

func status(directory string) error {
	answer, err := request(directory, http.MethodGet, "/status")
	if err != nil {
		return errors.New("it does not run")
	}
	if answer == "" {
		answer = "ready"
	} else {
		answer = "waiting for " + answer
	}
	fmt.Println(answer)
	return nil
}

func nodeAction(directory string, args []string) error {
	action, node := args[0], args[1]
	path := "/nodes/" + node + "/" + action
	if action == "restart" {
		if len(args) != 3 {
			return errUsage
		}
		path += "/" + args[2]
	} else if len(args) != 2 {
		return errUsage
	}
	_, err := request(directory, http.MethodPost, path)
	return err
}

// request asks the cluster's first process, over its socket.
func request(directory, method, path string) (string, error) {
	client := &http.Client{Timeout: 2 * sweepLimit, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			path, done, err := socket(directory)
			if err != nil {
				return nil, err
			}
			defer done()
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
	}}
	question, err := http.NewRequest(method, "http://cluster"+path, nil)
	if err != nil {
		return "", err
	}
	answer, err := client.Do(question)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode >= 300 {
		err = errors.New(strings.TrimSpace(string(text)))
	}
	return string(text), err
}
