//! The training step that reads in the order of the data path, and the run around it.
