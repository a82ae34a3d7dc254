//! The files behind a VMI's volumes.
