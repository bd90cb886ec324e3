//! One file a subcommand: as typed, checked, one library call.
