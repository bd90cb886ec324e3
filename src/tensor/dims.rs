use std::fmt;

/// Name of a dimension; the table stands in the module's documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Axis {
    B,
    T,
    S,
    N,
    C,
    H,
    KVH,
    D,
    F,
    V,
    L,
    G,
    R,
    /// Blocks of KV, or of elements that share a scale.
    Blocks,
    /// The two halves K and V of a KV block.
    Pair,
}

const MOST: usize = 6;

/// Named sizes, slowest dimension first, row-major without gaps.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Dims {
    len: u8,
    axes: [(Axis, usize); MOST],
}

impl Dims {
    /// At most six dimensions.
    pub fn new(axes: &[(Axis, usize)]) -> Self {
        assert!(axes.len() <= MOST, "a tensor has at most {MOST} dimensions");
        let mut all = [(Axis::N, 1); MOST];
        all[..axes.len()].copy_from_slice(axes);
        Self { len: axes.len() as u8, axes: all }
    }

    /// Names and sizes.
    pub fn axes(&self) -> &[(Axis, usize)] {
        &self.axes[..usize::from(self.len)]
    }

    /// Number of elements.
    pub fn count(&self) -> usize {
        self.axes().iter().map(|(_, size)| size).product()
    }

    /// Size of the slowest dimension.
    pub fn rows(&self) -> usize {
        self.axes().first().map_or(1, |(_, size)| *size)
    }

    /// Elements in one row of the slowest dimension.
    pub fn row_len(&self) -> usize {
        self.axes().iter().skip(1).map(|(_, size)| size).product()
    }

    /// Size of the fastest dimension.
    pub fn last(&self) -> usize {
        self.axes().last().map_or(1, |(_, size)| *size)
    }

    /// The same with `rows` in the slowest dimension.
    pub fn with_rows(mut self, rows: usize) -> Self {
        self.axes[0].1 = rows;
        self
    }
}

impl fmt::Display for Dims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (i, (axis, size)) in self.axes().iter().enumerate() {
            write!(f, "{}{axis:?}={size}", if i == 0 { "" } else { ", " })?;
        }
        f.write_str("]")
    }
}

impl fmt::Debug for Dims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
