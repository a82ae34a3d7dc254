//! Tests of the whole crate against KubeVirt's own description of its API.

mod openapi;
