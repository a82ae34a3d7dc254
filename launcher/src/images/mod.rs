//! Container images as sources of disks and kernels.
