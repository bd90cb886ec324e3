//! Every operator's host bodies: gradients against finite differences, f32 and bf16 against f64, and bits that depend on
//! nothing but the operands.

mod kernels {
    mod adamw;
    mod attention;
    mod attention_bits;
    mod attention_plain;
    mod bias;
    mod differences;
    mod embedding;
    mod grpo_loss;
    mod head;
    mod kv_append;
    mod rms_norm;
    mod rope;
    mod sample;
    mod swiglu;
    mod tensors;
    mod tolerance;
}
