use crate::ops::Leaves;
use crate::ops::attention::{Source, Span};

/// What is predicted from where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Targets {
    /// The packed row that predicts each target; a prompt's last row may serve several.
    pub rows: Vec<u32>,
    /// The predicted token ids.
    pub ids: Vec<u32>,
    /// Index in the step of the sequence that each target belongs to.
    pub sequence: Vec<u32>,
}

/// LSE and entropy as they were at sampling.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    /// ln of the sum of e^(logits / T), one a target.
    pub lse: &'a [f32],
    /// Entropy, one a target, nats.
    pub entropy: &'a [f32],
}

/// Packed rows, their targets, and one number of each kind a target.
#[derive(Clone, Debug, Default)]
pub struct Packed {
    /// Token ids of the rows.
    pub tokens: Vec<u32>,
    /// Position of each row in its sequence.
    pub positions: Vec<u32>,
    /// A parent stands before its children.
    pub spans: Vec<Span>,
    /// What the rows predict.
    pub targets: Targets,
    /// Weight in the policy term.
    pub weight: Vec<f64>,
    /// Weight in the KL term.
    pub kl_weight: Vec<f64>,
    /// Weight in the entropy bonus.
    pub entropy_weight: Vec<f64>,
    /// Advantage of the target's sequence.
    pub advantage: Vec<f64>,
    /// ln p at sampling.
    pub behaviour: Vec<f32>,
    /// ln p under the reference; empty where nobody computed it.
    pub reference: Vec<f32>,
    pub(super) lse: Vec<f32>,
    pub(super) entropy: Vec<f32>,
    /// Version of the weights that drew all of it; none where there are several.
    pub(super) weights_version: Option<u64>,
    /// Ends of the joined leaves, in rows and in targets.
    pub(super) ends: Vec<[usize; 2]>,
}

impl Packed {
    /// Leaves as one resident micro-batch, in the order given.
    pub fn join<'a>(leaves: impl IntoIterator<Item = &'a Packed>) -> Packed {
        let mut all: Option<Packed> = None;
        for leaf in leaves {
            match &mut all {
                None => all = Some(leaf.clone()),
                Some(all) => all.append(leaf),
            }
        }
        all.unwrap_or_default()
    }

    /// Row ranges of its leaves: where sums over rows are cut.
    pub fn leaves(&self) -> Leaves {
        self.bounds(0)
    }

    /// Target ranges of its leaves: where the head's sums over targets are cut.
    pub fn target_leaves(&self) -> Leaves {
        self.bounds(1)
    }

    /// LSE and entropy as stored at sampling, if `weights_version` is still the one that drew all of it.
    pub fn stored_at(&self, weights_version: u64) -> Option<Stored<'_>> {
        (self.weights_version == Some(weights_version))
            .then_some(Stored { lse: &self.lse, entropy: &self.entropy })
    }

    fn bounds(&self, of: usize) -> Leaves {
        Leaves::new(std::iter::once(0).chain(self.ends.iter().map(|end| end[of])).collect())
    }

    fn append(&mut self, leaf: &Packed) {
        let (rows, spans, targets) = (self.tokens.len(), self.spans.len(), self.targets.ids.len());
        self.tokens.extend(&leaf.tokens);
        self.positions.extend(&leaf.positions);
        self.spans.extend(leaf.spans.iter().map(|span| shifted(span, rows, spans)));
        self.targets.rows.extend(leaf.targets.rows.iter().map(|row| row + rows as u32));
        self.targets.ids.extend(&leaf.targets.ids);
        self.targets.sequence.extend(&leaf.targets.sequence);
        for (all, more) in [
            (&mut self.weight, &leaf.weight),
            (&mut self.kl_weight, &leaf.kl_weight),
            (&mut self.entropy_weight, &leaf.entropy_weight),
            (&mut self.advantage, &leaf.advantage),
        ] {
            all.extend(more);
        }
        for (all, more) in [
            (&mut self.behaviour, &leaf.behaviour),
            (&mut self.reference, &leaf.reference),
            (&mut self.lse, &leaf.lse),
            (&mut self.entropy, &leaf.entropy),
        ] {
            all.extend(more);
        }
        self.weights_version = self.weights_version.filter(|_| self.weights_version == leaf.weights_version);
        self.ends.extend(leaf.ends.iter().map(|end| [end[0] + rows, end[1] + targets]));
    }

    /// Appends a span's tokens; gives its index.
    pub(super) fn push_span(&mut self, tokens: &[u32], start: usize, parent: Option<usize>) -> usize {
        let first = self.tokens.len();
        self.tokens.extend(tokens);
        self.positions.extend(start as u32..(start + tokens.len()) as u32);
        self.spans.push(Span { queries: first..self.tokens.len(), start, source: Source::Packed { parent } });
        self.spans.len() - 1
    }

    /// Appends the targets of one sequence: the first is predicted by `first_row`, the others by the rows from `rows` on.
    pub(super) fn push_targets(&mut self, ids: &[u32], sequence: u32, first_row: usize, rows: usize) {
        for (i, id) in ids.iter().enumerate() {
            let row = if i == 0 { first_row } else { rows + i - 1 };
            self.targets.rows.push(row as u32);
            self.targets.ids.push(*id);
            self.targets.sequence.push(sequence);
        }
    }

    /// Ends the leaf.
    pub(super) fn close(&mut self) {
        self.ends = vec![[self.tokens.len(), self.targets.ids.len()]];
    }
}

/// The span where `rows` rows and `spans` spans stand before its leaf.
fn shifted(span: &Span, rows: usize, spans: usize) -> Span {
    let source = match &span.source {
        Source::Packed { parent } => Source::Packed { parent: parent.map(|parent| parent + spans) },
        Source::Paged { .. } => span.source.clone(),
    };
    Span { queries: span.queries.start + rows..span.queries.end + rows, start: span.start, source }
}
