//! `run` on a terminal.

use e2e::{BOOT, Console, Lab, images, program};

use super::{MOMENT, example};

/// What a shell of the mini guest prints before a command.
const PROMPT: &str = "mini# ";

/// A VM that a shell runs on a terminal of its own, whose settings it prints before and after.
fn terminal(lab: &Lab) -> Console {
    let script = format!(
        "stty -g; {} --root {} run --emulation tcg --images {} {}; echo status=$?; stty -g",
        program("virt-launcher").display(),
        lab.root().display(),
        images().display(),
        example("vm.yaml").display()
    );
    let mut command = lab.command("script");
    // script(1) takes the shell from the environment. It has to be one that goes on after a Ctrl-C
    // that its foreground program handled: bash does, dash ends with status 130.
    command
        .env("SHELL", "/bin/bash")
        .args(["-qec", &script, "/dev/null"]);
    Console::start(command)
}

#[test]
fn a_terminal_gets_the_console_and_is_put_back() {
    let lab = Lab::new();
    let mut terminal = terminal(&lab);
    let before = terminal.expect("\n", MOMENT);
    terminal.expect("Ctrl-] leaves it", BOOT);
    terminal.expect(PROMPT, BOOT);
    // Ctrl-C is the guest's here.
    terminal.send("stty raw -echo; echo rea\"\"dy; head -c 1 | od -An -tx1; stty sane\n");
    terminal.expect("ready", MOMENT);
    terminal.send("\x03");
    terminal.expect(" 03", MOMENT);
    terminal.expect(PROMPT, MOMENT);
    terminal.send("\x1d");
    terminal.expect("left the console", MOMENT);
    terminal.send("\x03");
    terminal.expect("shutdown-requested", MOMENT);
    terminal.expect("removed", BOOT);
    terminal.expect("status=0\r\n", MOMENT);
    let after = terminal.expect("\n", MOMENT);
    assert_eq!(before, after, "the terminal is as before");
    assert!(terminal.ended(MOMENT).success());
    lab.assert_clean();
}

#[test]
fn a_guest_that_ends_by_itself_gives_the_terminal_back() {
    let lab = Lab::new();
    let mut terminal = terminal(&lab);
    let before = terminal.expect("\n", MOMENT);
    terminal.expect(PROMPT, BOOT);
    terminal.send("poweroff -f\n");
    terminal.expect("status=0\r\n", BOOT);
    let after = terminal.expect("\n", MOMENT);
    assert_eq!(before, after, "the terminal is as before");
    assert!(terminal.ended(MOMENT).success());
    lab.assert_clean();
}
