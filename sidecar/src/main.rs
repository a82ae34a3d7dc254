//! virt-sidecar.

fn main() {}
