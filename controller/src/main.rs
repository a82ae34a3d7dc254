//! virt-controller.

fn main() {}
