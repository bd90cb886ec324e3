//! What the cold start reads: judge prompts with judgements in the output grammar whose scores are drawn blindly. It never sees
//! which side of a pair was chosen, so all opinion comes from reinforcement learning.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::sft::SftRow;
use super::{TrainConfig, TrainError};
use crate::demo;
use crate::evaluation::{Judge, JudgeError, PreparedPair, Subject};
use crate::rubric::{Spacing, format_verdict};
use crate::tokenizer::TokenId;

/// Distinct texts that the embedded cold start draws from.
const DEMO_ROWS: usize = 20_000;

/// Rows of the embedded demo, or both responses of every training pair with template judgements.
pub(super) fn rows(
    config: &TrainConfig,
    judge: &Judge,
    train: &[PreparedPair],
) -> Result<Vec<SftRow>, TrainError> {
    if config.data.path.is_none() {
        return demo_rows(config, judge);
    }
    let mut generator = ChaCha8Rng::seed_from_u64(config.seed);
    let mut below = |bound| generator.random_range(0..bound);
    let mut rows = Vec::with_capacity(2 * train.len());
    for prepared in train {
        let task = judge.rubric.task(&prepared.pair.task).map_err(JudgeError::from)?;
        for prompt in &prepared.prompts {
            let text = format_verdict(&task.template_judgement(&mut below), Spacing::Compact)
                .expect("a task's template was checked when it was read");
            rows.push(row(judge, prompt.iter().copied(), &text)?);
        }
    }
    Ok(rows)
}

fn demo_rows(config: &TrainConfig, judge: &Judge) -> Result<Vec<SftRow>, TrainError> {
    let openings = demo::openings(config.seed, DEMO_ROWS, config.sft.share_right);
    let rows = openings.into_iter().map(|opening| {
        let reading = &opening.reading;
        let subject =
            Subject { task: &reading.task, messages: &reading.messages, response: &reading.response };
        row(judge, judge.prompt(subject)?.iter().copied(), &opening.verdict_text())
    });
    rows.collect()
}

fn row(judge: &Judge, prompt: impl Iterator<Item = TokenId>, verdict: &str) -> Result<SftRow, TrainError> {
    let completion = judge.tokenizer.encode(verdict).map_err(JudgeError::from)?;
    let end = judge.tokenizer.eos().first().copied();
    let ids = |tokens: &mut dyn Iterator<Item = TokenId>| tokens.map(|token| token.0).collect();
    Ok(SftRow { prompt: ids(&mut { prompt }), completion: ids(&mut completion.into_iter().chain(end)) })
}
