//! A host for one test.

use std::fs::{File, Permissions};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

/// Lays a layer over each file's directory, in a mount namespace that ends with the command.
const HIDE: &str = r#"set -e
    layers=$1; shift
    mount --make-rprivate /
    mount -t tmpfs tmpfs "$layers"
    layer=0
    while [ "$1" != -- ]; do
        directory=$(realpath "$(dirname "$1")")
        layer=$((layer + 1))
        mkdir -p "$layers/$layer/upper" "$layers/$layer/work"
        mount -t overlay overlay "$directory" \
            -o "lowerdir=$directory,upperdir=$layers/$layer/upper,workdir=$layers/$layer/work"
        rm -f "$directory/$(basename "$1")"
        shift
    done
    shift
    exec "$@""#;

/// A network namespace that plays the host's, and a directory for all state.
#[derive(Debug)]
pub struct Lab {
    directory: tempfile::TempDir,
    /// What `virt-launcher` sees at `/etc/resolv.conf`, where it is not the machine's.
    resolv_conf: Option<PathBuf>,
}

impl Lab {
    /// A new host with nothing but its loopback interface.
    ///
    /// # Panics
    /// Without root.
    pub fn new() -> Self {
        // Other users read manifests in it.
        let directory = tempfile::Builder::new()
            .prefix("ferrovirt-")
            .permissions(Permissions::from_mode(0o755))
            .tempdir();
        let lab = Self {
            directory: directory.expect("a temporary directory can be made"),
            resolv_conf: None,
        };
        let netns = lab.netns();
        File::create(&netns).expect("the directory can be written");
        std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("network namespaces take root");
            let own = Path::new("/proc/thread-self/ns/net");
            mount(
                Some(own),
                &netns,
                None::<&str>,
                MsFlags::MS_BIND,
                None::<&str>,
            )
            .expect("the namespace can be kept");
        })
        .join()
        .expect("the thread made the namespace");
        let up = lab.command("ip").args(["link", "set", "lo", "up"]).status();
        assert!(up.expect("ip is installed").success());
        lab
    }

    /// The test's own directory.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Where virt-launcher keeps everything.
    pub fn root(&self) -> PathBuf {
        self.path().join("root")
    }

    /// The host's network namespace.
    pub fn netns(&self) -> PathBuf {
        self.path().join("netns")
    }

    /// A command that runs on this host.
    #[expect(
        unsafe_code,
        reason = "a child enters the namespace between fork and exec"
    )]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let netns = File::open(self.netns()).expect("the lab's namespace is kept");
        let mut command = Command::new(program);
        // SAFETY: one system call on a descriptor that was opened before the fork.
        unsafe {
            command
                .pre_exec(move || setns(&netns, CloneFlags::CLONE_NEWNET).map_err(io::Error::from))
        };
        command
    }

    /// Gives the host name servers and search domains of its own.
    ///
    /// # Panics
    /// Where the lab's directory cannot be written.
    pub fn set_resolv_conf(&mut self, text: &str) {
        let path = self.path().join("resolv.conf");
        std::fs::write(&path, text).expect("the directory can be written");
        self.resolv_conf = Some(path);
    }

    /// A CNI configuration, in a file.
    ///
    /// # Panics
    /// Where the lab's directory cannot be written.
    pub fn cni(&self, text: &str) -> String {
        let path = self.path().join("cni.conf");
        std::fs::write(&path, text).expect("the directory can be written");
        path.display().to_string()
    }

    /// A CNI plugin of the test's own; returns its directory, for `--cni-bin`.
    ///
    /// # Panics
    /// Where the lab's directory cannot be written.
    pub fn plugin(&self, name: &str, script: &str) -> String {
        let text = self.path().join("plugin");
        std::fs::write(&text, format!("#!/bin/sh\n{script}\n"))
            .expect("the directory can be written");
        let directory = self.path().join("bin");
        crate::install(&text, &directory.join(name));
        directory.display().to_string()
    }

    /// `virt-launcher` on this host.
    #[expect(
        unsafe_code,
        reason = "a child gets its resolv.conf between fork and exec"
    )]
    pub fn launcher(&self) -> Command {
        let mut command = self.command(crate::program("virt-launcher"));
        command.arg("--root").arg(self.root());
        if let Some(file) = self.resolv_conf.clone() {
            // SAFETY: system calls alone.
            unsafe {
                command.pre_exec(move || {
                    unshare(CloneFlags::CLONE_NEWNS)?;
                    let slave = MsFlags::MS_REC | MsFlags::MS_SLAVE;
                    mount(None::<&str>, "/", None::<&str>, slave, None::<&str>)?;
                    let (to, bind) = ("/etc/resolv.conf", MsFlags::MS_BIND);
                    mount(Some(&file), to, None::<&str>, bind, None::<&str>)
                        .map_err(io::Error::from)
                })
            };
        }
        command
    }

    /// Runs a command on this host where the files at `paths` do not exist.
    ///
    /// # Panics
    /// Where the kernel has no overlay file system.
    pub fn without(&self, paths: &[&str], command: &Command) -> Output {
        let layers = self.path().join("layers");
        std::fs::create_dir_all(&layers).expect("the directory can be written");
        let mut hidden = self.command("unshare");
        hidden
            .args(["--mount", "sh", "-c", HIDE, "sh"])
            .arg(&layers)
            .args(paths)
            .arg("--");
        hidden
            .arg(command.get_program())
            .args(command.get_args())
            .stdin(Stdio::null());
        hidden.output().expect("unshare is installed")
    }

    /// Runs `virt-launcher` to its end.
    pub fn launcher_output(&self, args: &[&str]) -> Output {
        let mut command = self.launcher();
        command
            .args(args)
            .stdin(Stdio::null())
            .output()
            .expect("virt-launcher is built")
    }

    /// Connects from this host.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn connect(&self, to: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
        self.enter(move || TcpStream::connect_timeout(&to, limit))
    }

    /// Runs `task` on a thread inside the host's namespace.
    pub fn enter<T: Send + 'static>(&self, task: impl FnOnce() -> T + Send + 'static) -> T {
        let netns = File::open(self.netns()).expect("the lab's namespace is kept");
        let thread = std::thread::spawn(move || {
            setns(netns, CloneFlags::CLONE_NEWNET).expect("the namespace can be entered");
            task()
        });
        thread.join().expect("the task does not panic")
    }

    /// Writes a manifest; returns its path.
    pub fn manifest(&self, text: &str) -> PathBuf {
        let path = self.path().join("vm.yaml");
        std::fs::write(&path, text).expect("the directory can be written");
        path
    }

    /// Everything of this lab that a VM which has ended should not have left.
    pub fn leftovers(&self) -> Vec<String> {
        let here = self.path().display().to_string();
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let netns = self.netns().display().to_string();
        let mounts = mounts
            .lines()
            .filter(|line| line.contains(&here) && !line.contains(&netns));
        let sandboxes = std::fs::read_dir(self.root().join("sandboxes"))
            .into_iter()
            .flatten();
        let sandboxes = sandboxes
            .flatten()
            .map(|entry| entry.path().display().to_string());
        let links = self
            .command("ip")
            .args(["-br", "link"])
            .output()
            .expect("ip is installed");
        let links = String::from_utf8_lossy(&links.stdout).into_owned();
        let links = links
            .lines()
            .filter(|line| !line.starts_with("lo "))
            .map(str::to_owned);
        let addresses = std::fs::read_dir(self.root().join("cni/ferrovirt"))
            .into_iter()
            .flatten();
        let addresses = addresses
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse::<IpAddr>().ok());
        let rules = ["iptables-save", "ip6tables-save"].map(|program| {
            let rules = self
                .command(program)
                .output()
                .expect("iptables is installed");
            String::from_utf8_lossy(&rules.stdout).into_owned()
        });
        let rules = rules
            .iter()
            .flat_map(|rules| rules.lines())
            .filter(|line| line.contains("CNI-"))
            .map(str::to_owned);
        let processes = processes().filter(|(_, args)| args.contains(&here));
        mounts
            .map(|line| format!("mount {line}"))
            .chain(sandboxes.map(|path| format!("directory {path}")))
            .chain(links.map(|line| format!("link {line}")))
            .chain(addresses.map(|address| format!("address {address}")))
            .chain(rules.map(|line| format!("rule {line}")))
            .chain(processes.map(|(pid, args)| format!("process {pid} {args}")))
            .collect()
    }

    /// Waits until nothing is left by a VM whose maker was killed.
    ///
    /// # Panics
    /// Naming all that is left, when `limit` has passed.
    pub fn assert_becomes_clean(&self, limit: Duration) {
        let until = Instant::now() + limit;
        while !self.leftovers().is_empty() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(50));
        }
        self.assert_clean();
    }

    /// Fails where something was left.
    ///
    /// # Panics
    /// Naming all of it.
    pub fn assert_clean(&self) {
        let left = self.leftovers();
        assert!(left.is_empty(), "left behind:\n{}", left.join("\n"));
    }
}

impl Default for Lab {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // The namespace ends with its last process and this mount.
        let _ = umount2(&self.netns(), MntFlags::MNT_DETACH);
    }
}

/// Every process with its arguments.
pub fn processes() -> impl Iterator<Item = (i32, String)> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let args = std::fs::read(entry.path().join("cmdline")).ok()?;
        Some((pid, String::from_utf8_lossy(&args).replace('\0', " ")))
    })
}
