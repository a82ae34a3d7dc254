//! The command lines of `ssh` and `scp`: pure.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::{Args, value_parser};

use super::{Copy, quote};
use crate::cli::Global;
use crate::target::{Kind, Name};

/// What `ssh` and `scp` take alike.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// The private key to log in with. Default: what ssh's configuration and agent have.
    #[arg(short, long, value_name = "FILE")]
    pub identity_file: Option<PathBuf>,
    /// The port of the guest's SSH server.
    #[arg(short, long, default_value_t = 22, value_parser = value_parser!(u16).range(1..))]
    pub port: u16,
    /// Who logs in, where the machine is named without USER@. Default: ssh's own.
    #[arg(short = 'l', long, value_name = "USER")]
    pub username: Option<String>,
    /// The file of known host keys. Default: ssh's own.
    #[arg(long, value_name = "FILE")]
    pub known_hosts: Option<PathBuf>,
    /// An argument for the local client, such as "-o StrictHostKeyChecking=no"; may be repeated.
    #[arg(short = 't', long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    pub local_ssh_opts: Vec<OsString>,
    /// Of KubeVirt's clients, some of which have a client of their own besides.
    #[arg(
        long,
        hide = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        default_value = "true"
    )]
    pub local_ssh: bool,
}

/// Where the local client connects to, and how.
#[derive(Clone, Debug)]
pub struct Host {
    /// The host's name to the client: what a user's configuration matches, `vm.demo.default`.
    name: String,
    /// The name of its keys: one for the VM and its instance.
    alias: String,
    proxy_command: OsString,
}

impl Host {
    /// The machine `name`, in a cluster or `local`, reached by `virtctl` with the options that the
    /// user gave this one.
    pub fn new(name: &Name, local: bool, port: u16, global: &Global, virtctl: &OsStr) -> Self {
        let Name {
            kind,
            namespace,
            name,
        } = name;
        let kind = match kind {
            Kind::Vm => "vm",
            Kind::Vmi => "vmi",
        };
        let keys = if local { "local" } else { "vmi" };
        let alias = format!("{keys}.{name}.{namespace}");
        let mut words = vec![virtctl.to_owned()];
        words.extend(passed_on(global, local));
        words.extend([
            "port-forward".into(),
            "--stdio=true".into(),
            format!("{kind}/{name}/{namespace}").into(),
            port.to_string().into(),
        ]);
        Self {
            name: format!("{kind}.{name}.{namespace}"),
            alias: match port {
                22 => alias,
                // As ssh itself writes another port down.
                port => format!("[{alias}]:{port}"),
            },
            proxy_command: quote::proxy_command(words.iter().map(OsString::as_os_str)),
        }
    }

    /// The arguments of `ssh` for `user`, to run `command` or else a shell.
    pub fn ssh(
        &self,
        options: &Options,
        user: Option<&str>,
        command: &[OsString],
    ) -> Vec<OsString> {
        let mut arguments = self.common(options);
        if let Some(user) = user.or(options.username.as_deref()) {
            arguments.extend(["-l".into(), user.into()]);
        }
        arguments.push(self.name.clone().into());
        if !command.is_empty() {
            // What begins with a dash is the command's, not ssh's.
            arguments.push("--".into());
            arguments.extend_from_slice(command);
        }
        arguments
    }

    /// The arguments of `scp` for `copy`.
    pub fn scp(
        &self,
        options: &Options,
        copy: &Copy,
        recursive: bool,
        preserve: bool,
    ) -> Vec<OsString> {
        let mut arguments = self.common(options);
        arguments.extend(recursive.then(|| "-r".into()));
        arguments.extend(preserve.then(|| "-p".into()));
        arguments.push("--".into());
        let user = copy.guest.user.as_deref().or(options.username.as_deref());
        let user = user.map(|user| format!("{user}@")).unwrap_or_default();
        let guest = format!("{user}{}:{}", self.name, copy.path).into();
        let local = local_file(&copy.local).into();
        arguments.extend(if copy.upload {
            [local, guest]
        } else {
            [guest, local]
        });
        arguments
    }

    /// The user's own come first: of an option given twice, ssh takes the first.
    fn common(&self, options: &Options) -> Vec<OsString> {
        let mut arguments = options.local_ssh_opts.clone();
        let mut option = |key: &str, value: &OsStr| {
            let mut option = OsString::from(key);
            option.push("=");
            option.push(value);
            arguments.extend(["-o".into(), option]);
        };
        option("ProxyCommand", &self.proxy_command);
        option("HostKeyAlias", self.alias.as_ref());
        if let Some(file) = &options.known_hosts {
            option("UserKnownHostsFile", &quote::option_path(file.as_os_str()));
        }
        if let Some(file) = &options.identity_file {
            arguments.extend(["-i".into(), file.into()]);
        }
        arguments
    }
}

/// The options by which another virtctl finds the same machine.
fn passed_on(global: &Global, local: bool) -> Vec<OsString> {
    let mut arguments = Vec::new();
    let mut option = |name: &str, value: &OsStr| arguments.extend([name.into(), value.to_owned()]);
    if local {
        option("--root", global.root.as_os_str());
        arguments.push("--local".into());
        return arguments;
    }
    if let Some(file) = &global.kubeconfig {
        option("--kubeconfig", file.as_os_str());
    }
    if let Some(context) = &global.context {
        option("--context", context.as_ref());
    }
    if let Some(user) = &global.impersonate {
        option("--as", user.as_ref());
    }
    for group in &global.impersonate_groups {
        option("--as-group", group.as_ref());
    }
    arguments
}

/// scp takes what has a colon before its first slash for another machine's.
fn local_file(path: &str) -> String {
    match path.find([':', '/']) {
        Some(at) if path.get(at..).is_some_and(|rest| rest.starts_with(':')) => format!("./{path}"),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Cli;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn options(line: &[&str]) -> Options {
        let line = ["ssh"].iter().chain(line);
        Line::try_parse_from(line).unwrap().options
    }

    fn host(kind: Kind, port: u16, line: &[&str]) -> Host {
        let line = ["virtctl"].iter().chain(line).chain(&["start", "demo"]);
        let global = Cli::try_parse_from(line).unwrap().global;
        let name = Name {
            kind,
            namespace: "lab".to_owned(),
            name: "demo".to_owned(),
        };
        Host::new(&name, global.local, port, &global, "/my/virtctl".as_ref())
    }

    fn joined(arguments: &[OsString]) -> String {
        arguments.join(" ".as_ref()).into_string().unwrap()
    }

    #[test]
    fn the_proxy_finds_the_machine_as_this_virtctl_did() {
        for (kind, port, line, proxy, alias) in [
            (
                Kind::Vm,
                22,
                &[][..],
                "/my/virtctl port-forward --stdio=true vm/demo/lab 22",
                "vmi.demo.lab",
            ),
            (
                Kind::Vmi,
                2222,
                &[
                    "--kubeconfig",
                    "my config",
                    "--context=c",
                    "--as=me",
                    "--as-group=us",
                ],
                "/my/virtctl --kubeconfig 'my config' --context c --as me --as-group us \
                 port-forward --stdio=true vmi/demo/lab 2222",
                "[vmi.demo.lab]:2222",
            ),
            (
                Kind::Vmi,
                22,
                &["--local", "--root=/vms", "--kubeconfig=unused"],
                "/my/virtctl --root /vms --local port-forward --stdio=true vmi/demo/lab 22",
                "local.demo.lab",
            ),
        ] {
            let host = host(kind, port, line);
            assert_eq!(host.proxy_command, proxy);
            assert_eq!(host.alias, alias);
        }
    }

    #[test]
    fn ssh_logs_in_as_the_user_says() {
        let host = host(Kind::Vm, 22, &[]);
        let fixed = "-o ProxyCommand=/my/virtctl port-forward --stdio=true vm/demo/lab 22 \
                     -o HostKeyAlias=vmi.demo.lab";
        for (line, user, command, expected) in [
            (&[][..], None, &[][..], format!("{fixed} vm.demo.lab")),
            (
                &["-l", "you"],
                Some("me"),
                &["ls", "-l"],
                format!("{fixed} -l me vm.demo.lab -- ls -l"),
            ),
            (
                &[
                    "-t",
                    "-o X=y",
                    "--local-ssh-opts=-v",
                    "-i",
                    "key",
                    "--username=you",
                ],
                None,
                &[],
                format!("-o X=y -v {fixed} -i key -l you vm.demo.lab"),
            ),
            (
                &["--known-hosts", "my hosts", "--local-ssh"],
                None,
                &[],
                format!("{fixed} -o UserKnownHostsFile=\"my hosts\" vm.demo.lab"),
            ),
        ] {
            let command: Vec<OsString> = command.iter().map(Into::into).collect();
            let arguments = host.ssh(&options(line), user, &command);
            assert_eq!(joined(&arguments), expected);
        }
    }

    #[test]
    fn scp_copies_either_way() {
        let host = host(Kind::Vm, 22, &[]);
        for (source, target, line, expected) in [
            ("a", "me@vm/demo/lab:b", &[][..], "-- a me@vm.demo.lab:b"),
            ("demo:b c", ".", &["-l", "me"], "-- me@vm.demo.lab:b c ."),
            ("./a:b", "demo:", &[], "-- ./a:b vm.demo.lab:"),
            ("-a", "demo:", &[], "-- -a vm.demo.lab:"),
        ] {
            let copy = Copy::parse(source, target).unwrap();
            let arguments = joined(&host.scp(&options(line), &copy, false, false));
            assert!(arguments.ends_with(expected), "{arguments}");
        }
        let copy = Copy::parse("a", "demo:b").unwrap();
        let arguments = joined(&host.scp(&options(&[]), &copy, true, true));
        assert!(
            arguments.ends_with("-r -p -- a vm.demo.lab:b"),
            "{arguments}"
        );
    }

    #[test]
    fn a_file_here_is_never_taken_for_another_machines() {
        for (path, expected) in [
            ("a", "a"),
            ("a:b", "./a:b"),
            (":", "./:"),
            ("./a:b", "./a:b"),
            ("/a:b", "/a:b"),
            ("dir/a:b", "dir/a:b"),
        ] {
            assert_eq!(local_file(path), expected);
        }
    }
}
