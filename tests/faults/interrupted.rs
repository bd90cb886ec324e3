//! Rows 24 and 25: runs that are stopped or killed.
