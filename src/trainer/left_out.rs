use serde::Serialize;

use super::sft::SftRow;
use crate::evaluation::{PreparedPair, Reading};
use crate::record::{JudgedRollout, Rollout, Side};
use crate::reward::Reward;

/// A batch whose update was left out, for whoever looks for the reason. Numbers that are not finite are `null` in its file.
#[derive(Clone, Debug, Serialize)]
pub struct LeftOut<'a> {
    /// The step, counted from 1 through both phases.
    pub step: u64,
    /// Which part of the run it belongs to.
    pub phase: &'a str,
    /// Seed of the run.
    pub seed: u64,
    /// Why it was left out.
    pub why: String,
    /// Rows of the training data that it was made of.
    pub rows: &'a [usize],
    /// What it held.
    #[serde(skip)]
    pub batch: &'a Batch,
}

/// What a step learned from.
#[derive(Clone, Debug)]
pub enum Batch {
    /// Prompts with their completions.
    Rows(Vec<SftRow>),
    /// Pairs of prompts, chosen before rejected.
    Pairs(Vec<PreparedPair>),
    /// Judgements, as a replay file holds them.
    Judged(Vec<JudgedRollout>),
}

impl Batch {
    /// One JSON object a line.
    pub(super) fn lines(&self) -> String {
        fn lines<T: Serialize>(items: impl Iterator<Item = T>) -> String {
            items.map(|item| serde_json::to_string(&item).expect("plain data") + "\n").collect()
        }
        let row = |(prompt, completion): (&[u32], &[u32])| serde_json::json!({ "prompt": prompt, "completion": completion });
        match self {
            Self::Rows(rows) => lines(rows.iter().map(|r| row((&r.prompt, &r.completion)))),
            Self::Pairs(pairs) => lines(pairs.iter().map(|p| {
                let [chosen, rejected] = p.prompts.each_ref();
                serde_json::json!({ "pair": p.pair.id, "chosen": chosen, "rejected": rejected })
            })),
            Self::Judged(judged) => lines(judged.iter()),
        }
    }
}

/// The judgements of a step as a replay file holds them: group 2 p judges pair p's chosen response, group 2 p + 1 the rejected
/// one.
pub(super) fn judged(
    pairs: &[&PreparedPair],
    rollouts: &[Rollout],
    readings: &[Reading],
    (rewards, reference): (&[Option<Reward>], Option<&[Vec<f32>]>),
) -> Vec<JudgedRollout> {
    let each = rollouts.iter().zip(readings).zip(rewards).enumerate();
    let judged = each.map(|(i, ((rollout, reading), reward))| JudgedRollout {
        pair: pairs[rollout.group as usize / 2].pair.id.clone(),
        side: if rollout.group % 2 == 0 { Side::Chosen } else { Side::Rejected },
        text: reading.text.clone(),
        score: reading.judgement().score().map(|score| score.value()),
        failure: reading.verdict.as_ref().err().map(|error| error.kind().name().to_owned()),
        reward: reward.map(|reward| reward.0),
        rollout: rollout.clone(),
        reference: reference.map(|columns| columns[i].clone()),
        policy: None,
    });
    judged.collect()
}
