package main

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// supervisor is what pid 1 of a namespace does: it starts programs, reaps every orphan, and starts
// again what ends.
type supervisor struct {
	// logs gets one NAME.log each.
	logs string
	// lock is held from before a fork until its pid is known, so that no end is missed.
	lock  sync.Mutex
	ended map[int]chan unix.WaitStatus
}

func newSupervisor(logs string) *supervisor {
	s := &supervisor{logs: logs, ended: map[int]chan unix.WaitStatus{}}
	children := make(chan os.Signal, 1)
	signal.Notify(children, unix.SIGCHLD)
	go func() {
		for range children {
			s.reap()
		}
	}()
	return s
}

func (s *supervisor) reap() {
	for {
		var status unix.WaitStatus
		s.lock.Lock()
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		ended := s.ended[pid]
		delete(s.ended, pid)
		s.lock.Unlock()
		if pid <= 0 || err != nil {
			return
		}
		if ended != nil {
			ended <- status
		}
	}
}

// start runs a program; its end is sent on the channel.
func (s *supervisor) start(path string, args []string, attributes *syscall.ProcAttr) (int, <-chan unix.WaitStatus, error) {
	s.lock.Lock()
	defer s.lock.Unlock()
	pid, err := syscall.ForkExec(path, args, attributes)
	if err != nil {
		return 0, nil, fmt.Errorf("start %s: %w", path, err)
	}
	ended := make(chan unix.WaitStatus, 1)
	s.ended[pid] = ended
	return pid, ended, nil
}

// keep runs a component from now on.
func (s *supervisor) keep(component Component, env []string) error {
	path, err := lookPath(component.Name)
	if err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(s.logs, component.Name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	attributes := &syscall.ProcAttr{
		Env:   env,
		Files: []uintptr{null.Fd(), log.Fd(), log.Fd()},
	}
	args := append([]string{component.Name}, component.Args...)
	go func() {
		for {
			_, ended, err := s.start(path, args, attributes)
			if err != nil {
				fmt.Fprintln(log, "cluster:", err)
			} else {
				fmt.Fprintf(log, "cluster: %s ended with %s\n", component.Name, describe(<-ended))
			}
			time.Sleep(500 * time.Millisecond)
		}
	}()
	return nil
}

func describe(status unix.WaitStatus) string {
	if status.Signaled() {
		return status.Signal().String()
	}
	return fmt.Sprintf("status %d", status.ExitStatus())
}

// programs is where a node looks for programs: ours first.
const programs = "/opt/cluster/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

func lookPath(name string) (string, error) {
	directories := filepath.SplitList(programs)
	// The control plane has the machine's own root, in which ours lie beside this one.
	if own, err := executableDirectory(); err == nil {
		directories = append([]string{own}, directories...)
	}
	for _, directory := range directories {
		path := filepath.Join(directory, name)
		if info, err := os.Stat(path); err == nil && !info.IsDir() {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s: not found in %s", name, programs)
}
