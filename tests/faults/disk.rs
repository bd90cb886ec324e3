//! Rows 26 and 30: disks that fail.
