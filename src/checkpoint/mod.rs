//! Hugging Face folders in and out; training state, bit-exact.
