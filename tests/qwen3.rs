//! The model against transformers with autograd (f32) and against the equations in float64 (f64); see tests/golden.

#[path = "qwen3/files.rs"]
mod files;
#[path = "qwen3/fine_tuning.rs"]
mod fine_tuning;
#[path = "qwen3/golden.rs"]
mod golden;
#[path = "qwen3/gradients.rs"]
mod gradients;
#[path = "qwen3/lora.rs"]
mod lora;
#[path = "qwen3/lora_steps.rs"]
mod lora_steps;
#[path = "qwen3/pass.rs"]
mod pass;
#[path = "qwen3/pretrained.rs"]
mod pretrained;
#[path = "qwen3/smollm2.rs"]
mod smollm2;
#[path = "qwen3/stories.rs"]
mod stories;
