use super::{Counts, Group, Packed, Scored, Sharing, TrainBatch};
use crate::grpo::{GrpoError, Life, LossConfig, token_mean};
use crate::record::Rollout;

/// One sequence that stays in the batch.
#[derive(Clone, Copy)]
struct Sequence<'a> {
    scored: Scored<'a>,
    /// Index among all rollouts of the step.
    index: u32,
    advantage: f64,
    weight: f64,
    kl_weight: f64,
    entropy_weight: f64,
}

/// Packs one optimizer step's groups into leaves of at most `capacity` rows.
///
/// Weights are normalised over all sequences that stay: the policy's and the entropy bonus' over those of live groups, the
/// KL's over all. Masked rollouts and, without a KL term, groups without an advantage leave the batch. A family that is larger
/// than a leaf is cut between completions, and its prompt repeated; where it is cut depends on `capacity` alone.
///
/// # Errors
/// When a group's prompts differ, a rollout's columns do not fit its completion, a single sequence is larger than a leaf, or the
/// KL term lacks its reference.
pub fn pack(
    groups: &[Group<'_>],
    loss: &LossConfig,
    sharing: Sharing,
    capacity: usize,
) -> Result<TrainBatch, GrpoError> {
    let mut counts = count(groups);
    let mut families = kept(groups, loss)?;
    weigh(&mut families, loss);
    let mut packer = Packer { capacity, leaves: Vec::new(), open: Packed::default() };
    for family in &families {
        match sharing {
            Sharing::Prefix => packer.family(family)?,
            Sharing::Off => family.iter().try_for_each(|sequence| packer.alone(sequence))?,
        }
    }
    let leaves = packer.finish();
    counts.sequences = families.iter().map(Vec::len).sum();
    counts.targets = leaves.iter().map(|leaf| leaf.targets.ids.len()).sum();
    counts.rows = leaves.iter().map(|leaf| leaf.tokens.len()).sum();
    Ok(TrainBatch { leaves, counts })
}

fn count(groups: &[Group<'_>]) -> Counts {
    let with = |life| groups.iter().filter(|group| group.life == life).count();
    let rollouts = groups.iter().flat_map(|group| &group.rollouts);
    Counts {
        groups: groups.len(),
        alive: with(Life::Alive),
        too_few: with(Life::TooFew),
        equal: with(Life::Equal),
        masked: rollouts.filter(|scored| scored.advantage.is_none()).count(),
        ..Counts::default()
    }
}

/// The sequences that stay, by group, with weight 1 where they count.
fn kept<'a>(groups: &[Group<'a>], loss: &LossConfig) -> Result<Vec<Vec<Sequence<'a>>>, GrpoError> {
    let mut families = Vec::new();
    let mut indices = 0u32..;
    for (number, group) in groups.iter().enumerate() {
        check_prompts(number, group)?;
        let alive = f64::from(u8::from(group.life == Life::Alive));
        let stays = group.life == Life::Alive || loss.keeps_dead_groups();
        let mut family = Vec::new();
        for (scored, index) in group.rollouts.iter().zip(&mut indices) {
            let Some(advantage) = scored.advantage.filter(|_| stays) else { continue };
            check_columns(index, scored, loss)?;
            family.push(Sequence {
                scored: *scored,
                index,
                advantage: advantage.0,
                weight: alive,
                kl_weight: 1.0,
                entropy_weight: alive,
            });
        }
        families.push(family);
    }
    Ok(families)
}

fn check_prompts(group: usize, of: &Group<'_>) -> Result<(), GrpoError> {
    let Some(first) = of.rollouts.first() else { return Ok(()) };
    let prompt = &first.rollout.prompt;
    if of.rollouts.iter().any(|scored| scored.rollout.prompt != *prompt) {
        return Err(GrpoError::Prompt { group, reason: "its rollouts have different prompts" });
    }
    if prompt.is_empty() {
        return Err(GrpoError::Prompt {
            group,
            reason: "its prompt is empty: nothing predicts the first token",
        });
    }
    Ok(())
}

fn check_columns(sequence: u32, scored: &Scored<'_>, loss: &LossConfig) -> Result<(), GrpoError> {
    let Rollout { completion, logprob, lse, entropy, .. } = scored.rollout;
    let expected = completion.len();
    let reference = scored.reference.map(|reference| ("reference log-probabilities", reference.len()));
    let own = [("log-probabilities", logprob.len()), ("LSE values", lse.len()), ("entropies", entropy.len())];
    for (what, got) in own.into_iter().chain(reference) {
        if got != expected {
            return Err(GrpoError::Columns { sequence, what, got, expected });
        }
    }
    match scored.reference {
        None if loss.kl != 0.0 => Err(GrpoError::NoReference { sequence }),
        _ => Ok(()),
    }
}

/// Turns the ones into weights.
fn weigh(families: &mut [Vec<Sequence<'_>>], loss: &LossConfig) {
    let all = || families.iter().flatten();
    let lengths = |counts: fn(&Sequence<'_>) -> f64| -> Vec<usize> {
        all()
            .map(|sequence| if counts(sequence) > 0.0 { sequence.scored.rollout.drawn() } else { 0 })
            .collect()
    };
    let live = lengths(|sequence| sequence.weight);
    let (policy, entropy) = (loss.weights(&live), token_mean(&live));
    let kl = loss.weights(&lengths(|sequence| sequence.kl_weight));
    for (i, sequence) in families.iter_mut().flatten().enumerate() {
        sequence.weight *= policy[i];
        sequence.entropy_weight *= entropy[i];
        sequence.kl_weight *= kl[i];
    }
}

/// Leaves in the making: the next family opens a new leaf when it does not fit the open one.
struct Packer {
    capacity: usize,
    leaves: Vec<Packed>,
    open: Packed,
}

impl Packer {
    fn finish(mut self) -> Vec<Packed> {
        self.seal();
        self.leaves
    }

    fn seal(&mut self) {
        if !self.open.targets.ids.is_empty() {
            self.open.close();
            self.leaves.push(std::mem::take(&mut self.open));
        }
    }

    /// Makes room for `rows`.
    fn reserve(&mut self, rows: usize, sequence: u32) -> Result<(), GrpoError> {
        if rows > self.capacity {
            return Err(GrpoError::TooLong { sequence, rows, capacity: self.capacity });
        }
        if self.open.tokens.len() + rows > self.capacity {
            self.seal();
        }
        Ok(())
    }

    /// A sequence with a prompt of its own.
    fn alone(&mut self, sequence: &Sequence<'_>) -> Result<(), GrpoError> {
        let rollout = sequence.scored.rollout;
        let Some((_, fed)) = rollout.completion.split_last() else { return Ok(()) };
        let tokens: Vec<u32> = rollout.prompt.iter().chain(fed).map(|id| id.0).collect();
        self.reserve(tokens.len(), sequence.index)?;
        let first = self.open.tokens.len() + rollout.prompt.len();
        self.open.push_span(&tokens, 0, None);
        sequence.push_to(&mut self.open, first - 1, first);
        Ok(())
    }

    /// Completions of one prompt, in as few parts as leaves hold.
    fn family(&mut self, family: &[Sequence<'_>]) -> Result<(), GrpoError> {
        let mut rest = family;
        while let Some(first) = rest.first() {
            let prompt = first.scored.rollout.prompt.len();
            let mut rows = prompt + first.fed();
            let mut count = 1;
            while let Some(next) = rest.get(count).filter(|next| rows + next.fed() <= self.capacity) {
                rows += next.fed();
                count += 1;
            }
            self.reserve(rows, first.index)?;
            self.part(&rest[..count]);
            rest = &rest[count..];
        }
        Ok(())
    }

    fn part(&mut self, part: &[Sequence<'_>]) {
        let prompt: Vec<u32> = part[0].scored.rollout.prompt.iter().map(|id| id.0).collect();
        let parent = self.open.push_span(&prompt, 0, None);
        let last = self.open.tokens.len() - 1;
        for sequence in part {
            let fed: Vec<u32> = sequence.scored.rollout.completion.iter().map(|id| id.0).collect();
            let rows = self.open.tokens.len();
            if let Some((_, fed)) = fed.split_last().filter(|(_, fed)| !fed.is_empty()) {
                self.open.push_span(fed, prompt.len(), Some(parent));
            }
            sequence.push_to(&mut self.open, last, rows);
        }
    }
}

impl Sequence<'_> {
    /// Rows of its completion: all but the last token.
    fn fed(&self) -> usize {
        self.scored.rollout.completion.len().saturating_sub(1)
    }

    /// Appends its targets and their numbers.
    fn push_to(&self, packed: &mut Packed, first_row: usize, rows: usize) {
        let rollout = self.scored.rollout;
        let ids: Vec<u32> = rollout.completion.iter().map(|id| id.0).collect();
        let fresh = packed.targets.ids.is_empty();
        packed.push_targets(&ids, self.index, first_row, rows);
        let (first, count) = (packed.targets.ids.len() - ids.len(), packed.targets.ids.len());
        for (column, value) in [
            (&mut packed.weight, self.weight),
            (&mut packed.kl_weight, self.kl_weight),
            (&mut packed.entropy_weight, self.entropy_weight),
        ] {
            column.resize(count, value);
            // What the policy did not draw teaches it nothing.
            rollout.forced.iter().for_each(|place| column[first + *place as usize] = 0.0);
        }
        packed.advantage.resize(count, self.advantage);
        packed.behaviour.extend(&rollout.logprob);
        packed.lse.extend(&rollout.lse);
        packed.entropy.extend(&rollout.entropy);
        packed.reference.extend(self.scored.reference.unwrap_or_default());
        let version = Some(rollout.weights_version);
        packed.weights_version = if fresh {
            version
        } else {
            packed.weights_version.filter(|_| packed.weights_version == version)
        };
    }
}
