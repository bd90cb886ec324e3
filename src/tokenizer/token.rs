use bytemuck::{Pod, TransparentWrapper, Zeroable};
use serde::{Deserialize, Serialize};

/// One row of the vocabulary.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    Pod,
    Zeroable,
    TransparentWrapper,
)]
#[repr(transparent)]
#[serde(transparent)]
pub struct TokenId(pub u32);
