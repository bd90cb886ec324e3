use crate::ops::attention::{Source, Span};
use crate::qwen3::Packed;
use crate::tokenizer::TokenId;

/// Token sequences as a tree: what several begin with stands once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenTree {
    /// In preorder: a parent stands before its children.
    nodes: Vec<Node>,
    /// The node of each sequence's last token, in the order in which the sequences were given.
    ends: Vec<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Node {
    token: TokenId,
    parent: Option<usize>,
    /// Children that have children themselves.
    inner: usize,
    /// Whether it has children: then its own row predicts them.
    feeds: bool,
}

impl TokenTree {
    /// The tree of these sequences; an empty one stands for nothing, with probability 1.
    pub fn new(sequences: &[Vec<TokenId>]) -> Self {
        let mut order: Vec<usize> = (0..sequences.len()).collect();
        order.sort_by_key(|&place| &sequences[place]);
        let mut tree = Self { nodes: Vec::new(), ends: vec![usize::MAX; sequences.len()] };
        let mut path: Vec<usize> = Vec::new();
        for place in order {
            let sequence = &sequences[place];
            let shared = path.iter().zip(sequence).take_while(|(node, t)| tree.nodes[**node].token == **t);
            path.truncate(shared.count());
            for &token in &sequence[path.len()..] {
                let parent = path.last().copied();
                path.push(tree.nodes.len());
                tree.nodes.push(Node { token, parent, inner: 0, feeds: false });
            }
            tree.ends[place] = path.last().copied().unwrap_or(usize::MAX);
        }
        for node in (0..tree.nodes.len()).rev() {
            let Node { parent: Some(parent), feeds, .. } = tree.nodes[node] else { continue };
            tree.nodes[parent].feeds = true;
            tree.nodes[parent].inner += usize::from(feeds);
        }
        tree
    }

    /// Tokens in all, each of which has a log-probability.
    pub(super) fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// Rows that a pass needs for it.
    pub fn rows(&self) -> usize {
        self.nodes.iter().filter(|node| node.feeds).count()
    }

    /// Tokens of the longest sequence.
    pub fn depth(&self) -> usize {
        let mut depths = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            depths.push(1 + node.parent.map_or(0, |parent| depths[parent]));
        }
        depths.into_iter().max().unwrap_or(0)
    }

    /// Packs its rows behind span `stem`, whose last row is `row` at position `position`; gives every node's token and the row
    /// that predicts it.
    pub(super) fn pack(
        &self,
        batch: &mut Packed,
        (stem, row, position): (usize, u32, usize),
    ) -> Vec<(u32, u32)> {
        let mut places: Vec<(usize, u32, usize)> = Vec::with_capacity(self.nodes.len());
        let mut targets = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let (span, row, position) = node.parent.map_or((stem, row, position), |parent| places[parent]);
            targets.push((row, node.token.0));
            // The only child with a row follows its parent's row: one span holds both.
            let only = node.parent.is_some_and(|parent| self.nodes[parent].inner == 1);
            let go = if only { Go::On(span) } else { Go::From(Some(span)) };
            places.push(match node.feeds {
                false => (span, row, position),
                true => {
                    let span = append(batch, &[node.token], position + 1, go);
                    (span, batch.len() as u32 - 1, position + 1)
                }
            });
        }
        targets
    }

    /// The sum over each sequence's tokens, from one number a node.
    pub(super) fn sums(&self, values: &[f64]) -> Vec<f64> {
        let mut sums: Vec<f64> = Vec::with_capacity(values.len());
        for (node, value) in self.nodes.iter().zip(values) {
            sums.push(node.parent.map_or(0.0, |parent| sums[parent]) + value);
        }
        self.ends.iter().map(|end| sums.get(*end).copied().unwrap_or(0.0)).collect()
    }
}

/// Where packed rows belong.
#[derive(Clone, Copy, Debug)]
pub(super) enum Go {
    /// To the batch's last span.
    On(usize),
    /// To a new span, which continues another one or nothing.
    From(Option<usize>),
}

/// Packs tokens at positions from `start` on; gives their span.
pub(super) fn append(batch: &mut Packed, tokens: &[TokenId], start: usize, go: Go) -> usize {
    let first = batch.len();
    batch.tokens.extend(tokens.iter().map(|token| token.0));
    batch.positions.extend(start as u32..(start + tokens.len()) as u32);
    let end = batch.len();
    match go {
        Go::On(span) => {
            batch.spans[span].queries.end = end;
            span
        }
        Go::From(parent) => {
            batch.spans.push(Span { queries: first..end, start, source: Source::Packed { parent } });
            batch.spans.len() - 1
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(sequences: &[&[u32]]) -> TokenTree {
        let ids = |s: &&[u32]| s.iter().map(|id| TokenId(*id)).collect();
        TokenTree::new(&sequences.iter().map(ids).collect::<Vec<_>>())
    }

    #[test]
    fn what_sequences_share_stands_once() {
        let tree = tree(&[&[7, 1, 9], &[3], &[7, 2, 9], &[7, 1, 8], &[]]);
        // 3 | 7 (1 (8 | 9) | 2 (9)): 7, 1 and 2 predict something.
        assert_eq!((tree.nodes.len(), tree.rows(), tree.depth()), (7, 3, 3));
        let values = [1.0, 10.0, 100.0, 1000.0, 2000.0, 300.0, 4000.0];
        assert_eq!(tree.sums(&values), [2110.0, 1.0, 4310.0, 1110.0, 0.0]);
    }

    #[test]
    fn a_chain_is_one_span_and_branches_are_spans_of_their_own() {
        let tree = tree(&[&[5, 6, 7, 8, 1], &[5, 6, 7, 9, 2], &[5, 6, 7, 9, 3]]);
        let mut batch = Packed { tokens: vec![0; 4], positions: vec![0, 1, 2, 3], ..Packed::default() };
        batch.spans.push(Span { queries: 0..4, start: 0, source: Source::Packed { parent: None } });
        let targets = tree.pack(&mut batch, (0, 3, 3));
        assert_eq!(batch.tokens[4..], [5, 6, 7, 8, 9]);
        assert_eq!(batch.positions[4..], [4, 5, 6, 7, 7]);
        let spans: Vec<_> =
            batch.spans.iter().map(|s| (s.queries.clone(), s.start, s.source.clone())).collect();
        let child = |parent| Source::Packed { parent: Some(parent) };
        assert_eq!(spans[1..], [(4..7, 4, child(0)), (7..8, 7, child(1)), (8..9, 7, child(1))]);
        assert_eq!(targets, [(3, 5), (4, 6), (5, 7), (6, 8), (7, 1), (6, 9), (8, 2), (8, 3)]);
    }
}
