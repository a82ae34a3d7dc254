//! What virtctl prints, as files: `tests/cmd`. `TRYCMD=overwrite` writes them anew, to be looked at.

#![allow(clippy::unwrap_used, reason = "in tests, helpers included")]

#[test]
fn commands_print_what_is_committed() {
    trycmd::TestCases::new()
        .case("tests/cmd/*.toml")
        .case("tests/cmd/*.md")
        // No cluster, but for those that a case names.
        .env("HOME", "/nonexistent")
        .env("KUBECONFIG", "")
        .env("COLUMNS", "100");
}

/// What `shell` answers to `script`, which has virtctl's completion from `$VIRTCTL`.
fn shell(shell: &str, arguments: &[&str], script: &str) -> String {
    let output = std::process::Command::new(shell)
        .args(arguments)
        .args(["-c", script])
        .env("VIRTCTL", env!("CARGO_BIN_EXE_virtctl"))
        .output()
        .unwrap();
    let (out, err) = (output.stdout, output.stderr);
    let err = String::from_utf8_lossy(&err);
    assert!(output.status.success() && err.is_empty(), "{shell}: {err}");
    String::from_utf8(out).unwrap()
}

#[test]
fn bash_completes() {
    let loaded = r#"source <("$VIRTCTL" completion bash); "#;
    let registered = format!("{loaded} complete -p virtctl");
    assert!(shell("bash", &["--norc"], &registered).contains("-F _virtctl virtctl"));
    // As bash itself does at the Tab key.
    let offered = format!(
        "{loaded} COMP_WORDS=(virtctl soft-); COMP_CWORD=1; _virtctl virtctl soft- virtctl; \
         echo \"${{COMPREPLY[@]}}\""
    );
    assert_eq!(shell("bash", &["--norc"], &offered), "soft-reboot\n");
}

#[test]
fn zsh_completes() {
    let script = r#"
        autoload -Uz compinit && compinit -D -u
        source <("$VIRTCTL" completion zsh)
        echo "${_comps[virtctl]}"
        zmodload zsh/parameter
        [[ ${functions[_virtctl_commands]} == *soft-reboot* ]] && echo commands
    "#;
    assert_eq!(shell("zsh", &["-f"], script), "_virtctl\ncommands\n");
}
