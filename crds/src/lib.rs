//! `kubevirt.io/v1` types.
