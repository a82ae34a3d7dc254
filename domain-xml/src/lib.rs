//! libvirt's domain XML as Rust types.
