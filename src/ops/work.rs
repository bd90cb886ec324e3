use std::ops::Add;

use serde::Serialize;

use crate::tensor::DType;

/// What an operator must at least do, whatever its body: what its shapes and dtypes say, before anyone has measured.
///
/// Divided by measured seconds it is the effective speed; beside a device's limits it says which of them binds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Work {
    /// Bytes of every operand read once and of every result written once; what is added to counts twice.
    pub bytes: u64,
    /// Multiplications and additions of products, two a multiply-add; keys that a mask hides are not counted. Operators without
    /// products have none: bytes bind them.
    pub flops: u64,
}

impl Work {
    /// `bytes` moved, nothing multiplied.
    pub(super) fn moving(bytes: usize) -> Self {
        Self { bytes: bytes as u64, flops: 0 }
    }

    /// The same with `flops` of products.
    pub(super) fn computing(self, flops: u64) -> Self {
        Self { flops: self.flops + flops, ..self }
    }
}

impl Add for Work {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { bytes: self.bytes + other.bytes, flops: self.flops + other.flops }
    }
}

/// 2 n m k: a multiply-add each.
pub(super) fn product_flops([n, m, k]: [usize; 3]) -> u64 {
    2 * n as u64 * m as u64 * k as u64
}

/// Bytes of `count` elements.
pub(super) fn of(dtype: DType, count: usize) -> usize {
    dtype.size() * count
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ops::attention::{self, Heads, Source, Span};
    use crate::ops::{
        Write, adamw, embedding, grad_norm, grpo_loss, head, kv_append, product, rms_norm, rope, rows,
        sample, swiglu,
    };
    use crate::tensor::DType::{BF16, F32};

    fn span(len: usize, start: usize, source: Source) -> Span {
        Span { queries: 0..len, start, source }
    }

    #[test]
    fn a_product_reads_both_operands_and_writes_the_third() {
        // 3 x 5 times 5 x 7.
        let sides = [3, 7, 5];
        let bytes = 2 * (15 + 35) + 2 * 21;
        assert_eq!(product::forward_work(sides, BF16, (BF16, Write::Set)), Work { bytes, flops: 210 });
        let added = product::forward_work(sides, BF16, (F32, Write::Add));
        assert_eq!(added, Work { bytes: 2 * (15 + 35) + 2 * 4 * 21, flops: 210 });
        let dx = product::backward_input_work(sides, BF16, (BF16, Write::Set));
        assert_eq!(dx, Work { bytes: 2 * (21 + 35) + 2 * 15, flops: 210 });
        let dw = product::backward_weight_work(sides, BF16);
        assert_eq!(dw, Work { bytes: 2 * (21 + 15) + 2 * 4 * 35, flops: 210 });
    }

    #[test]
    fn the_head_of_8b_takes_three_products_of_38_ms_at_798_tflops() {
        let sizes = [8192, 4096, 151_936];
        let [one, three] =
            [head::token_logprob_work(sizes, BF16), head::gradient_work(sizes, BF16, head::Known::Stored)];
        assert_eq!(one.flops, 10_196_252_360_704);
        assert_eq!(three.flops, 3 * one.flops);
        assert!((one.flops as f64 / 798e12 - 12.8e-3).abs() < 5e-5);
        assert!((three.flops as f64 / 798e12 - 38.3e-3).abs() < 5e-5);
        // x and w in bf16, targets, three columns of f32.
        assert_eq!(one.bytes, 2 * (8192 * 4096 + 151_936 * 4096) + 4 * 4 * 8192);
        // dx beside x, dw in f32 read and written, targets, LSE and coefficients.
        let columns = 3 * 4 * 8192;
        assert_eq!(three.bytes, 2 * (2 * 8192 * 4096 + 151_936 * 4096) + 8 * 151_936 * 4096 + columns);
        let one_row = head::logits_work([1, 4096, 151_936], BF16);
        assert_eq!(one_row.bytes, 2 * (4096 + 151_936 * 4096) + 4 * 151_936);
    }

    #[test]
    fn an_update_moves_what_the_optimizers_state_takes() {
        let all = |g, moments, master| adamw::work(1, [BF16, g, moments], master).bytes;
        assert_eq!(all(BF16, F32, None), 22);
        assert_eq!(all(BF16, F32, Some(F32)), 28);
        assert_eq!(all(BF16, BF16, None), 14);
        assert_eq!(all(F32, F32, None), 24, "gradients are f32 here");
        assert_eq!(adamw::work(1000, [F32, F32, F32], None).bytes, 28_000);
    }

    #[test]
    fn attention_counts_the_keys_that_a_query_sees() {
        let heads = Heads { query: 4, key: 2, d: 8 };
        let packed = |len, start, parent| span(len, start, Source::Packed { parent });
        // Three queries see 1 + 2 + 3 keys.
        let alone = attention::forward_work(&[packed(3, 0, None)], heads, BF16);
        assert_eq!(alone.flops, 4 * 8 * 4 * 6);
        assert_eq!(alone.bytes, 2 * 3 * 8 * (4 + 4 + 2 + 2) + 4 * 3 * 4);
        let back = attention::backward_work(&[packed(3, 0, None)], heads, BF16);
        assert_eq!(back.flops, 10 * 8 * 4 * 6);
        assert_eq!(back.bytes, 2 * 3 * 8 * (4 * 4 + 4 * 2) + 4 * 3 * 4);
        // Two more queries of a continuation see 4 + 5; every packed key is read once.
        let both = attention::forward_work(&[packed(3, 0, None), packed(2, 3, Some(0))], heads, BF16);
        assert_eq!(both.flops, 4 * 8 * 4 * 15);
        assert_eq!(both.bytes, 2 * 5 * 8 * (4 + 4 + 2 + 2) + 4 * 5 * 4);
    }

    #[test]
    fn attention_of_8b_is_half_a_square() {
        let heads = Heads { query: 32, key: 8, d: 128 };
        let n = 16_384;
        let work =
            attention::forward_work(&[span(n, 0, Source::Packed { parent: None })], heads, BF16).flops as f64;
        let half_a_square = 2.0 * 32.0 * 128.0 * (n as f64).powi(2);
        assert!((work / half_a_square - 1.0 - 1.0 / n as f64).abs() < 1e-9, "{work}");
    }

    #[test]
    fn decoding_reads_its_blocks_once_however_many_sequences_share_them() {
        let heads = Heads { query: 32, key: 8, d: 128 };
        let at = |row: usize, start, blocks: &[u32]| {
            let source = Source::Paged { blocks: Arc::from(blocks) };
            Span { queries: row..row + 1, start, source }
        };
        // 100 and 70 keys, of which the first block's 64 are the same.
        let spans = [at(0, 99, &[7, 3]), at(1, 69, &[7, 5])];
        let work = attention::forward_work(&spans, heads, BF16);
        assert_eq!(work.flops, 4 * 128 * 32 * 170);
        let keys = 64 + 36 + 6;
        assert_eq!(work.bytes, 2 * 2 * keys * 8 * 128 + 2 * 2 * 2 * 32 * 128 + 4 * 2 * 32);
        // 8B, one layer of 36: 4 KiB a token.
        let one = attention::forward_work(&[at(0, 1 << 20, &vec![0; 16_385])], heads, BF16);
        assert!(one.bytes < 4096 * 65 + (1 << 16), "one block, read once: {}", one.bytes);
    }

    #[test]
    fn elementwise_operators_move_their_operands() {
        let [n, c] = [31usize, 64usize];
        let cells = (n * c) as u64;
        let bytes = |work: Work| {
            assert_eq!(work.flops, 0);
            work.bytes
        };
        assert_eq!(bytes(embedding::forward_work([n, c], BF16)), 4 * cells + 4 * 31);
        assert_eq!(bytes(embedding::backward_work([n, 1000, c], BF16)), (2 + 8) * cells + 4 * 31);
        assert_eq!(bytes(embedding::backward_work([n, 5, c], BF16)), 2 * cells + 8 * 5 * 64 + 4 * 31);
        assert_eq!(bytes(rms_norm::forward_work([n, c], BF16)), 4 * cells + 4 * (64 + 31));
        assert_eq!(
            bytes(rms_norm::backward_work([n, c], BF16, Write::Set)),
            6 * cells + 4 * (64 + 31 + 2 * 64)
        );
        assert_eq!(
            bytes(rms_norm::backward_work([n, c], BF16, Write::Add)),
            8 * cells + 4 * (64 + 31 + 2 * 64)
        );
        assert_eq!(bytes(rope::work([n, 4, 16], 100, BF16)), 4 * cells + 4 * 31 + 4 * 31 * 16);
        assert_eq!(bytes(rope::work([n, 4, 16], 3, BF16)), 4 * cells + 4 * 31 + 4 * 3 * 16);
        assert_eq!(bytes(swiglu::forward_work([n, c], BF16)), 6 * cells);
        assert_eq!(bytes(swiglu::backward_work([n, c], BF16)), 10 * cells);
        assert_eq!(bytes(grad_norm::work(1000, F32)), 4000);
        assert_eq!(bytes(kv_append::work([n, 4, 16], BF16)), 8 * cells + 4 * 31);
        assert_eq!(bytes(rows::copy_work([n, c], BF16)), 4 * cells);
        assert_eq!(bytes(rows::gather_work([n, c], BF16)), 4 * cells + 4 * 31);
        assert_eq!(bytes(rows::scatter_work([n, 7, c], BF16)), 2 * cells + 2 * 7 * 64 + 4 * 31);
        assert_eq!(bytes(sample::work([2, 151_936], F32)), 2 * 151_936 * 4);
        assert_eq!(bytes(grpo_loss::work(1000, F32, grpo_loss::Reference::Absent)), 40_000);
        assert_eq!(bytes(grpo_loss::work(1000, F32, grpo_loss::Reference::Present)), 44_000);
    }

    #[test]
    fn logits_of_16384_tokens_would_be_5_gb() {
        let work = sample::work([16_384, 151_936], BF16);
        assert!((work.bytes as f64 / 4.98e9 - 1.0).abs() < 1e-3);
        let two = work + work;
        assert_eq!(two.bytes, 2 * work.bytes);
    }
}
