use serde::{Deserialize, Serialize};

use super::LayerParam::{self, Down, Gate, K, O, Q, Up, V};
use super::{Config, Model, ParamId};
use crate::device::Stream;
use crate::ops::{OpError, Write, product, scale};
use crate::tensor::View;

/// The matrices that can have an addition, in the order in which the forward pass meets them.
const MATRICES: [LayerParam; 7] = [Q, K, V, O, Gate, Up, Down];

/// A low-rank addition to matrices that stay as they are (LoRA, Hu et al., arXiv 2106.09685): beside w [M, K] stand A [R, K]
/// and B [M, R], and y = x wᵀ + alpha / R (x Aᵀ) Bᵀ. In settings: `{ rank = 16, alpha = 32, targets = ["q_proj", "v_proj"] }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Told", into = "Told")]
pub struct LowRank {
    rank: usize,
    alpha: f64,
    targets: Vec<LayerParam>,
}

/// Which of the two factors beside a matrix; both know the rank R.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Factor {
    /// [R, K]: from the input down to R numbers.
    A(usize),
    /// [M, R]: from there up to the output.
    B(usize),
}

/// Why a low-rank addition can't be had.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LowRankError {
    /// R is 0.
    #[error("rank 0 adds nothing: give at least 1")]
    Rank,
    /// alpha can't scale anything.
    #[error("alpha {0}: it must be a number above 0")]
    Alpha(f64),
    /// No matrix is named.
    #[error("no target: name some of {all}, or all", all = names(&MATRICES))]
    NoTarget,
    /// Not a matrix of a layer.
    #[error("target `{0}`: it must be one of {all}, or all", all = names(&MATRICES))]
    Target(String),
}

/// As it stands in settings.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Told {
    /// R, at least 1.
    rank: usize,
    /// Above 0; the addition is scaled by alpha / rank.
    alpha: f64,
    /// Names of matrices, or `all`.
    targets: Vec<String>,
}

impl LowRank {
    /// An addition of rank `rank` to the matrices of every layer that `targets` name: `q_proj` and so on, or `all`.
    ///
    /// # Errors
    /// When the rank is 0, alpha is not above 0, or a name is not one of theirs.
    pub fn new(rank: usize, alpha: f64, targets: &[impl AsRef<str>]) -> Result<Self, LowRankError> {
        if rank == 0 {
            return Err(LowRankError::Rank);
        }
        if !(alpha > 0.0 && alpha.is_finite()) {
            return Err(LowRankError::Alpha(alpha));
        }
        let known = |name: &str| name == "all" || MATRICES.iter().any(|p| p.module() == name);
        if let Some(unknown) = targets.iter().map(AsRef::as_ref).find(|name| !known(name)) {
            return Err(LowRankError::Target(unknown.to_owned()));
        }
        let named = |p: &LayerParam| targets.iter().any(|t| [p.module(), "all"].contains(&t.as_ref()));
        let targets: Vec<LayerParam> = MATRICES.into_iter().filter(named).collect();
        if targets.is_empty() { Err(LowRankError::NoTarget) } else { Ok(Self { rank, alpha, targets }) }
    }

    /// R.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// What the addition's scale is a multiple of: alpha.
    pub fn alpha(&self) -> f64 {
        self.alpha
    }

    /// What the product of the factors is multiplied by: alpha / R.
    pub fn scale(&self) -> f64 {
        self.alpha / self.rank as f64
    }

    /// Names of the matrices, in a fixed order.
    pub fn targets(&self) -> Vec<String> {
        self.targets.iter().map(|p| p.module().to_owned()).collect()
    }

    /// Every factor of a model of this shape, in the fixed order of files, gradients and updates.
    pub fn factors(&self, config: &Config) -> impl Iterator<Item = ParamId> {
        let beside = |l, p| [Factor::A(self.rank), Factor::B(self.rank)].map(|f| ParamId::Low(l, p, f));
        (0..config.layers).flat_map(move |l| self.targets.iter().flat_map(move |p| beside(l, *p)))
    }
}

/// What stands beside one matrix.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beside<'a> {
    pub(super) a: View<'a>,
    pub(super) b: View<'a>,
    /// Ids of both.
    pub(super) ids: [ParamId; 2],
    /// alpha / R.
    pub(super) scale: f64,
}

impl Model {
    /// The factors beside a layer's matrix, where an adapter is on and has some.
    pub(super) fn beside(&self, layer: usize, matrix: LayerParam) -> Option<Beside<'_>> {
        let (low, factors) = (self.config.adapter.as_ref()?, self.adapter.as_ref()?);
        let ids = [Factor::A(low.rank), Factor::B(low.rank)].map(|f| ParamId::Low(layer, matrix, f));
        Some(Beside { a: factors.find(ids[0])?, b: factors.find(ids[1])?, ids, scale: low.scale() })
    }

    /// Adds to every matrix what stands beside it, w += alpha / R B A, rounded once; the model has no adapter afterwards.
    ///
    /// # Errors
    /// None on the host.
    pub fn merge(&mut self, stream: &Stream) -> Result<(), OpError> {
        let (Some(low), Some(mut factors)) = (self.config.adapter.take(), self.adapter.take()) else {
            return Ok(());
        };
        let ids: Vec<ParamId> = low.factors(&self.config).collect();
        for beside in ids.chunks_exact(2) {
            let [a, b @ ParamId::Low(layer, matrix, _)] = [beside[0], beside[1]] else { continue };
            scale::scale(stream, factors.get_mut(b), low.scale())?;
            let w = self.params.get_mut(ParamId::Layer(layer, matrix));
            product::backward_input(stream, factors.get(b), factors.get(a), w, Write::Add)?;
        }
        Ok(())
    }
}

impl TryFrom<Told> for LowRank {
    type Error = LowRankError;

    fn try_from(told: Told) -> Result<Self, LowRankError> {
        Self::new(told.rank, told.alpha, &told.targets)
    }
}

impl From<LowRank> for Told {
    fn from(low: LowRank) -> Self {
        Self { rank: low.rank, alpha: low.alpha, targets: low.targets() }
    }
}

fn names(matrices: &[LayerParam]) -> String {
    matrices.iter().map(|p| p.module()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_stand_in_one_order_however_they_are_named() {
        let low = LowRank::new(4, 8.0, &["down_proj", "q_proj", "q_proj"]).expect("sound");
        assert_eq!(low.targets(), ["q_proj", "down_proj"]);
        assert_eq!(low.scale(), 2.0);
        let all = LowRank::new(4, 8.0, &["all"]).expect("sound");
        assert_eq!(all.targets().len(), 7);
        let text = toml::to_string(&low).expect("TOML");
        assert_eq!(toml::from_str::<LowRank>(&text).expect("its own text"), low);
    }

    #[test]
    fn what_adds_nothing_is_refused_by_name() {
        assert_eq!(LowRank::new(0, 8.0, &["all"]), Err(LowRankError::Rank));
        for alpha in [0.0, -1.0, f64::INFINITY] {
            assert_eq!(LowRank::new(4, alpha, &["all"]), Err(LowRankError::Alpha(alpha)));
        }
        assert_eq!(LowRank::new(4, 8.0, &[] as &[&str]), Err(LowRankError::NoTarget));
        let unknown = LowRank::new(4, 8.0, &["q_proj", "lm_head"]).expect_err("not a layer's");
        assert!(unknown.to_string().contains("`lm_head`") && unknown.to_string().contains("gate_proj"));
    }
}
