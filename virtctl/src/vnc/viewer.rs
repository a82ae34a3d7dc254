//! VNC viewers, and how each is told where to connect to.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use tokio::process::{Child, Command};

/// What a viewer's command line looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Type {
    /// virt-viewer's.
    RemoteViewer,
    /// TigerVNC's, and any that takes HOST::PORT.
    Tiger,
    /// TightVNC's.
    Tight,
    /// RealVNC's.
    Real,
    /// Chicken of the VNC.
    Chicken,
}

/// The viewers that are looked for, the best first. Which one Debian's `vncviewer` is, is the
/// administrator's choice: all of them take HOST::PORT.
const KNOWN: [(Type, &str); 5] = [
    (Type::RemoteViewer, "remote-viewer"),
    (Type::Tiger, "vncviewer"),
    (Type::Tiger, "xtigervncviewer"),
    (Type::Tight, "xtightvncviewer"),
    (Type::Real, "realvnc-vncviewer"),
];

/// A viewer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Viewer {
    /// What it looks like.
    pub kind: Type,
    /// Its file, or its name in `$PATH`.
    pub program: PathBuf,
}

/// No viewer runs.
#[derive(Debug, thiserror::Error)]
pub enum ViewerError {
    /// None is installed.
    #[error(
        "no VNC viewer is installed (looked for {names}): install virt-viewer or TigerVNC, name \
         yours with --vnc-path, or use --web or --proxy-only"
    )]
    None {
        /// What was looked for.
        names: String,
    },
    /// It does not start.
    #[error("cannot start the viewer {}; --vnc-path names another", program.display())]
    Start {
        /// Its file.
        program: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// The viewers to try, in order, where the user asked for that type and that program.
pub fn candidates(kind: Option<Type>, program: Option<&Path>) -> Vec<Viewer> {
    if let Some(program) = program {
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        let looks = || {
            let known = KNOWN.iter().find(|(_, known)| *known == name);
            known.map_or(Type::Tiger, |&(kind, _)| kind)
        };
        return vec![Viewer {
            kind: kind.unwrap_or_else(looks),
            program: program.to_owned(),
        }];
    }
    let any = |kind| Viewer {
        kind,
        program: "vncviewer".into(),
    };
    let mut found: Vec<_> = KNOWN
        .into_iter()
        .filter(|&(of, _)| kind.is_none_or(|kind| kind == of))
        .map(|(kind, name)| Viewer {
            kind,
            program: name.into(),
        })
        .collect();
    // Under its makers' own name.
    if let Some(kind @ (Type::Tight | Type::Real | Type::Chicken)) = kind {
        found.push(any(kind));
    }
    found
}

/// Starts the first of `viewers` that is installed, at `address`. It ends with the value.
///
/// # Errors
/// [`ViewerError`].
pub fn start(viewers: &[Viewer], address: SocketAddr) -> Result<Child, ViewerError> {
    for Viewer { kind, program } in viewers {
        let started = Command::new(program)
            .args(arguments(*kind, address))
            .kill_on_drop(true)
            .spawn();
        match started {
            Ok(child) => return Ok(child),
            Err(error) if error.kind() == io::ErrorKind::NotFound && viewers.len() > 1 => {}
            Err(source) => {
                return Err(ViewerError::Start {
                    program: program.clone(),
                    source,
                });
            }
        }
    }
    let names: Vec<_> = viewers
        .iter()
        .map(|viewer| viewer.program.to_string_lossy())
        .collect();
    let names = names.join(", ");
    Err(ViewerError::None { names })
}

fn arguments(kind: Type, address: SocketAddr) -> Vec<String> {
    // One colon would be a display's number.
    let host = match address {
        SocketAddr::V4(address) => format!("{}::{}", address.ip(), address.port()),
        SocketAddr::V6(address) => format!("[{}]::{}", address.ip(), address.port()),
    };
    match kind {
        Type::RemoteViewer => vec![format!("vnc://{address}")],
        Type::Tiger | Type::Tight => vec![host],
        Type::Chicken => vec![address.to_string()],
        // Encryption is the cluster's; the viewer would warn at each start.
        Type::Real => vec![host, "-WarnUnencrypted=0".to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_viewer_is_the_users_choice() {
        let choose = |kind, program: Option<&str>| -> Vec<(Type, String)> {
            candidates(kind, program.map(Path::new))
                .into_iter()
                .map(|viewer| (viewer.kind, viewer.program.display().to_string()))
                .collect()
        };
        let one = |kind, program: &str| vec![(kind, program.to_owned())];
        let all = choose(None, None);
        assert_eq!(all[0], (Type::RemoteViewer, "remote-viewer".to_owned()));
        assert_eq!(all[1], (Type::Tiger, "vncviewer".to_owned()));
        assert_eq!(
            choose(None, Some("/opt/remote-viewer")),
            one(Type::RemoteViewer, "/opt/remote-viewer")
        );
        assert_eq!(
            choose(None, Some("/opt/mine")),
            one(Type::Tiger, "/opt/mine")
        );
        assert_eq!(
            choose(Some(Type::Real), Some("/opt/remote-viewer")),
            one(Type::Real, "/opt/remote-viewer")
        );
        assert_eq!(
            choose(Some(Type::Chicken), None),
            one(Type::Chicken, "vncviewer")
        );
        assert!(
            choose(Some(Type::Tiger), None)
                .iter()
                .all(|(kind, _)| *kind == Type::Tiger)
        );
    }

    #[test]
    fn each_viewer_is_told_where_the_screen_is() {
        let v4 = "127.0.0.1:40123".parse().unwrap();
        let v6 = "[::1]:40123".parse().unwrap();
        for (kind, address, expected) in [
            (Type::RemoteViewer, v4, "vnc://127.0.0.1:40123"),
            (Type::RemoteViewer, v6, "vnc://[::1]:40123"),
            (Type::Tiger, v4, "127.0.0.1::40123"),
            (Type::Tiger, v6, "[::1]::40123"),
            (Type::Tight, v4, "127.0.0.1::40123"),
            (Type::Chicken, v4, "127.0.0.1:40123"),
            (Type::Real, v4, "127.0.0.1::40123 -WarnUnencrypted=0"),
        ] {
            assert_eq!(arguments(kind, address).join(" "), expected);
        }
    }

    #[tokio::test]
    async fn a_viewer_that_is_not_installed_is_passed_over() {
        let viewer = |program: &str| Viewer {
            kind: Type::Tiger,
            program: program.into(),
        };
        let address = "127.0.0.1:5900".parse().unwrap();
        let viewers = [viewer("no-such-viewer"), viewer("true")];
        let mut child = start(&viewers, address).unwrap();
        assert!(child.wait().await.unwrap().success());
        let none = [viewer("no-such-viewer"), viewer("no-other-viewer")];
        let said = start(&none, address).unwrap_err().to_string();
        assert!(said.contains("no-such-viewer, no-other-viewer"), "{said}");
        let said = start(&none[..1], address).unwrap_err().to_string();
        assert!(said.contains("cannot start the viewer no-such-viewer"));
    }
}
