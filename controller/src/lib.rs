//! virt-controller.
