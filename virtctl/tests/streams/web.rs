//! `vnc --web`, and the browser that it opens.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::terminal::Terminal;
use super::{Cluster, eventually, program};

#[test]
fn a_browser_is_led_to_the_page_by_what_nobody_else_can_read() {
    let cluster = Cluster::new();
    let [programs, temporary] = ["programs", "temporary"].map(|name| {
        let directory = cluster.path().join(name);
        fs::create_dir(&directory).unwrap();
        directory
    });
    let seen = cluster.path().join("seen");
    let browser = programs.join("xdg-open");
    let script = "#!/bin/sh\ncp -p -- \"$@\" \"$SEEN.part\" && mv \"$SEEN.part\" \"$SEEN\"\n";
    program(&browser, script);

    let mut terminal = Terminal::new();
    let mut command = cluster.virtctl(&["vnc", "vm/guest", "--web"]);
    command
        .env("PATH", format!("{}:/usr/bin:/bin", programs.display()))
        .env("TMPDIR", &temporary)
        .env("DISPLAY", ":0")
        .env("SEEN", &seen);
    let mut session = terminal.run(&mut command);

    let page = eventually("the browser", || fs::read_to_string(&seen).ok());
    let mode = fs::metadata(&seen).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let (_, url) = page.split_once("url=").unwrap();
    let (url, _) = url.split_once('"').unwrap();
    assert!(url.starts_with("http://127.0.0.1:"), "{page}");
    terminal.expect(url);

    // Ctrl-C.
    let pid = Pid::from_raw(session.0.id().cast_signed());
    kill(pid, Signal::SIGINT).unwrap();
    assert!(session.ended().success());
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0);
}
