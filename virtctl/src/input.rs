//! Files that users name.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// No manifest, key or password is longer, in bytes.
const LONGEST: u64 = 4 << 20;

/// A file cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {path}")]
pub struct InputError {
    path: String,
    source: io::Error,
}

/// The text of `path`; `-` is standard input.
///
/// # Errors
/// [`InputError`], also where the text is no UTF-8 or longer than 4 MiB.
pub fn read(path: &Path) -> Result<String, InputError> {
    text(path).map_err(|source| InputError {
        path: path.display().to_string(),
        source,
    })
}

fn text(path: &Path) -> io::Result<String> {
    let source: Box<dyn Read> = if path.as_os_str() == "-" {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(path)?)
    };
    let mut text = String::new();
    source.take(LONGEST + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LONGEST {
        return Err(io::Error::other("it is longer than 4 MiB"));
    }
    Ok(text)
}
