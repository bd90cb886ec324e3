use super::{Counts, Packed, TrainBatch};
use crate::grpo::{GrpoError, token_mean};

/// A prompt and the completion that is to be learned.
#[derive(Clone, Copy, Debug)]
pub struct Example<'a> {
    /// Token ids, at least one.
    pub prompt: &'a [u32],
    /// Token ids, the end-of-sequence token included.
    pub completion: &'a [u32],
}

/// Packs one supervised step: the loss is the mean over all completion tokens.
///
/// # Errors
/// When a prompt is empty or an example is larger than a leaf of `capacity` rows.
pub fn pack_examples(examples: &[Example<'_>], capacity: usize) -> Result<TrainBatch, GrpoError> {
    let lengths: Vec<usize> = examples.iter().map(|example| example.completion.len()).collect();
    let weights = token_mean(&lengths);
    let mut batch = TrainBatch::default();
    let mut open = Packed::default();
    for (i, (example, weight)) in examples.iter().zip(weights).enumerate() {
        let Some((_, fed)) = example.completion.split_last() else { continue };
        if example.prompt.is_empty() {
            return Err(GrpoError::Prompt {
                group: i,
                reason: "its prompt is empty: nothing predicts the first token",
            });
        }
        let tokens = [example.prompt, fed].concat();
        if tokens.len() > capacity {
            return Err(GrpoError::TooLong { sequence: i as u32, rows: tokens.len(), capacity });
        }
        if open.tokens.len() + tokens.len() > capacity {
            open.close();
            batch.leaves.push(std::mem::take(&mut open));
        }
        let first = open.tokens.len() + example.prompt.len();
        open.push_span(&tokens, 0, None);
        open.push_targets(example.completion, i as u32, first - 1, first);
        open.weight.resize(open.targets.ids.len(), weight);
    }
    if !open.tokens.is_empty() {
        open.close();
        batch.leaves.push(open);
    }
    let sequences = lengths.iter().filter(|&&n| n > 0).count();
    let rows = batch.leaves.iter().map(|leaf| leaf.tokens.len()).sum();
    batch.counts = Counts { sequences, targets: lengths.iter().sum(), rows, ..Counts::default() };
    Ok(batch)
}
