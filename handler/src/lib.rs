//! virt-handler.
