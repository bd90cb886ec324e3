//! Every operator's bodies on the host: gradients against finite differences, f32 and bf16 against f64, and bits that depend on
//! nothing but the operands. And its CUDA kernels, checked on the CPU, against the same f64 bodies by the same rule.

mod kernels {
    mod adamw;
    mod adamw_8bit;
    mod attention;
    mod attention_bits;
    mod attention_device;
    mod attention_plain;
    mod bandwidth;
    mod bias;
    mod bit_questions;
    mod conformance;
    mod differences;
    mod embedding;
    mod grpo_loss;
    mod head;
    mod kv_append;
    mod kv_copy;
    mod on_cpu;
    mod product;
    mod rms_norm;
    mod rope;
    mod rows;
    mod sample;
    mod scale;
    mod swiglu;
    mod tensors;
    mod tolerance;
}
