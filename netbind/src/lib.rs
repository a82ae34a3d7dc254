//! Pod network to guest network.
