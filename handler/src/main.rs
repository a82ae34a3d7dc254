//! virt-handler.

fn main() {}
