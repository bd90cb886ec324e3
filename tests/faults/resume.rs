//! Rows 27 to 29: run folders that are damaged, changed or taken.
