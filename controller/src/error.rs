//! Errors, as one line of a log.

use std::error::Error;
use std::fmt;

/// Writes an error and its causes, each once. Of what the API server says, its message is enough:
/// `kube` writes the whole answer out, and several times.
pub struct Chain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut error = Some(self.0);
        let mut first = true;
        while let Some(this) = error {
            let separator = if first { "" } else { ": " };
            if let Some(kube_client::Error::Api(status)) = this.downcast_ref() {
                return write!(f, "{separator}{} ({})", status.message, status.code);
            }
            let source = this.source();
            let text = this.to_string();
            // What ends in its source has said it.
            let said = source.map(|source| source.to_string()).unwrap_or_default();
            let own = text
                .strip_suffix(&said)
                .map(|own| own.trim_end_matches(": "));
            let own = own.filter(|_| !said.is_empty()).unwrap_or(&text);
            if !own.is_empty() {
                write!(f, "{separator}{own}")?;
                first = false;
            }
            error = source;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use kube_core::Status;
    use kube_runtime::watcher;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("writing")]
    struct Outer(#[source] kube_client::Error);

    fn refused() -> kube_client::Error {
        kube_client::Error::Api(Box::new(
            Status::failure("it is not allowed", "Forbidden").with_code(403),
        ))
    }

    #[test]
    fn everything_is_said_once() {
        let line = |error: &(dyn Error + 'static)| Chain(error).to_string();
        assert_eq!(line(&refused()), "it is not allowed (403)");
        assert_eq!(line(&Outer(refused())), "writing: it is not allowed (403)");
        assert_eq!(
            line(&watcher::Error::InitialListFailed(refused())),
            "failed to perform initial object list: it is not allowed (403)"
        );
        let io = std::io::Error::other("no route");
        assert_eq!(line(&io), "no route");
    }
}
