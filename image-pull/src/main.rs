//! Pulls an image.
fn main() {}
