//! Machines of `virt-launcher run` on this machine.

use std::path::Path;

use serde_json::Value;

use crate::stream::{ByteStream, Stream};
use crate::target::{Action, CallError, Name, OpenError, Question};

/// A machine on this machine.
#[derive(Clone, Debug)]
pub struct Machine {
    name: Name,
}

/// The machine `name` below `root`.
///
/// # Errors
/// [`CallError::NotFound`].
pub fn find(root: &Path, name: Name) -> Result<Machine, CallError> {
    let _ = root;
    let message = format!("no {name} runs here; `virtctl ps` lists the machines that do");
    Err(CallError::NotFound { name, message })
}

impl Machine {
    pub(crate) fn name(&self) -> &Name {
        &self.name
    }

    pub(crate) async fn open(&self, stream: Stream) -> Result<ByteStream, OpenError> {
        Err(self.cannot(&format!("{stream:?}")).into())
    }

    pub(crate) async fn screenshot(&self, _move_cursor: bool) -> Result<Vec<u8>, OpenError> {
        Err(self.cannot("screenshot").into())
    }

    pub(crate) async fn act(&self, action: Action, _dry_run: bool) -> Result<(), CallError> {
        Err(self.cannot(action.verb()))
    }

    pub(crate) async fn ask(&self, question: Question) -> Result<Value, CallError> {
        Err(self.cannot(&format!("{question:?}")))
    }

    fn cannot(&self, what: &str) -> CallError {
        let message = format!("{what} of a local machine is not supported");
        CallError::Unsupported { message }
    }
}
