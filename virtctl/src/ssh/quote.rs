//! Text that passes through a shell and through ssh's own syntax.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// A command line for `ProxyCommand`: words for the user's shell, in which ssh has replaced its
/// `%` tokens (ssh_config(5), TOKENS).
pub fn proxy_command<'a>(words: impl IntoIterator<Item = &'a OsStr>) -> OsString {
    let words: Vec<_> = words.into_iter().map(shell_word).collect();
    OsString::from_vec(double(b'%', &words.join(&b' ')))
}

/// A path as the value of an option of ssh_config(5): one word, taken as it is.
pub fn option_path(path: &OsStr) -> OsString {
    let mut value = vec![b'"'];
    for &byte in path.as_bytes() {
        match byte {
            b'"' | b'\\' => value.extend([b'\\', byte]),
            b'%' => value.extend(b"%%"),
            _ => value.push(byte),
        }
    }
    value.push(b'"');
    OsString::from_vec(value)
}

/// Quotes only where needed: what the user sees in `ps` stays readable, and shells that are not
/// POSIX's differ only there.
fn shell_word(word: &OsStr) -> Vec<u8> {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+=:,@%".contains(byte);
    let word = word.as_bytes();
    if !word.is_empty() && word.iter().all(plain) {
        return word.to_vec();
    }
    let mut quoted = vec![b'\''];
    for &byte in word {
        match byte {
            b'\'' => quoted.extend(b"'\\''"),
            _ => quoted.push(byte),
        }
    }
    quoted.push(b'\'');
    quoted
}

fn double(which: u8, bytes: &[u8]) -> Vec<u8> {
    let mut doubled = Vec::with_capacity(bytes.len());
    for &byte in bytes {
        doubled.extend((byte == which).then_some(byte));
        doubled.push(byte);
    }
    doubled
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_proxy_command_is_quoted_where_it_must_be() {
        for (words, expected) in [
            (
                &["/usr/bin/virtctl", "vm/demo/lab"][..],
                "/usr/bin/virtctl vm/demo/lab",
            ),
            (&["/my tools/virtctl", ""], "'/my tools/virtctl' ''"),
            (&["it's", "$HOME", "100%"], "'it'\\''s' '$HOME' 100%%"),
        ] {
            let command = proxy_command(words.iter().map(OsStr::new));
            assert_eq!(command, expected, "{words:?}");
        }
    }

    #[test]
    fn ssh_and_the_shell_read_what_was_written() {
        // ssh -G prints the option as ssh has understood it; sh prints its words.
        let words = ["/my tools/virt'ctl", "a\"b", "c\\d", "#e", "100%h", "*"];
        let written = proxy_command(words.iter().map(OsStr::new));
        let mut option = OsString::from("ProxyCommand=");
        option.push(&written);
        let mut hosts = OsString::from("UserKnownHostsFile=");
        hosts.push(option_path(OsStr::new("/my tools/known\"hosts\\100%")));
        let understood = Command::new("ssh")
            .args(["-G", "-F", "none", "-o"])
            .arg(&option)
            .arg("-o")
            .arg(&hosts)
            .arg("vm.demo.lab")
            .output()
            .unwrap();
        let understood = String::from_utf8(understood.stdout).unwrap();
        let value = |key: &str| {
            let mut lines = understood.lines();
            lines.find_map(|line| line.strip_prefix(key)).unwrap()
        };
        assert_eq!(value("userknownhostsfile "), "/my tools/known\"hosts\\100%");
        let command = value("proxycommand ").replace("%%", "%");
        let said = Command::new("sh")
            .args(["-c", &format!("printf '%s\\n' {command}")])
            .output()
            .unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        assert_eq!(said.lines().collect::<Vec<_>>(), words);
    }
}
