//! Samples judgements: scheduler, KV pool, generate.
