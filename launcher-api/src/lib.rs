//! The launcher's protocol.
