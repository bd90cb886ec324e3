//! The model: Qwen3's forward over packed tokens and its mirror backward. It never sees text.
