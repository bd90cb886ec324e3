use std::ops::Range;

use bytemuck::Pod;

use super::{Arena, ArenaError, DType, Dims, Element};
use crate::device::{Memory, MemoryMut, Region};

/// Owner of a part of an arena: untyped memory with dims and a run-time dtype. Typed views exist only inside operators.
#[derive(Debug)]
pub struct Tensor {
    region: Region,
    dtype: DType,
    dims: Dims,
}

/// Shared access to a tensor or some of its rows.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    memory: Memory<'a>,
    dtype: DType,
    dims: Dims,
}

/// Sole access to a tensor or some of its rows.
#[derive(Debug)]
pub struct ViewMut<'a> {
    memory: MemoryMut<'a>,
    dtype: DType,
    dims: Dims,
}

impl Tensor {
    pub(super) fn new(region: Region, dtype: DType, dims: Dims) -> Self {
        Self { region, dtype, dims }
    }

    /// A zeroed host tensor with an allocation of its own: for tests and small tables.
    pub fn zeros(dtype: DType, dims: Dims) -> Self {
        Self::new(Region::host(dims.count() * dtype.size()), dtype, dims)
    }

    /// A host tensor holding `values`.
    pub fn from_slice<T: Element>(values: &[T], dims: Dims) -> Self {
        let mut tensor = Self::zeros(T::DTYPE, dims);
        tensor.view_mut().host_mut::<T>().copy_from_slice(values);
        tensor
    }

    /// A host tensor of token ids, positions or slots.
    pub fn from_ids(values: &[u32], dims: Dims) -> Self {
        let mut tensor = Self::zeros(DType::U32, dims);
        tensor.view_mut().ids_mut().copy_from_slice(values);
        tensor
    }

    /// A tensor of the same dtype and dims in `arena`.
    ///
    /// # Errors
    /// When the arena is full.
    pub fn like(&self, arena: &mut Arena) -> Result<Self, ArenaError> {
        arena.tensor(self.dtype, self.dims)
    }

    /// How elements are stored.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Named sizes.
    pub fn dims(&self) -> Dims {
        self.dims
    }

    /// Bytes it takes.
    pub fn bytes(&self) -> usize {
        self.dims.count() * self.dtype.size()
    }

    /// The whole, shared.
    pub fn view(&self) -> View<'_> {
        View { memory: self.region.memory(), dtype: self.dtype, dims: self.dims }
    }

    /// The whole, for writing.
    pub fn view_mut(&mut self) -> ViewMut<'_> {
        ViewMut { memory: self.region.memory_mut(), dtype: self.dtype, dims: self.dims }
    }

    /// Rows of the slowest dimension, shared.
    pub fn rows(&self, rows: Range<usize>) -> View<'_> {
        self.view().rows(rows)
    }

    /// Rows of the slowest dimension, for writing.
    pub fn rows_mut(&mut self, rows: Range<usize>) -> ViewMut<'_> {
        self.view_mut().rows(rows)
    }

    /// Sets every byte to 0.
    pub fn zero(&mut self) {
        self.region.memory_mut().host().fill(0);
    }
}

fn typed<T: Pod>(stored: DType, asked: DType, bytes: &[u8], count: usize) -> &[T] {
    assert_eq!(stored, asked, "a tensor of {stored:?} looked at as {asked:?}");
    &bytemuck::cast_slice(bytes)[..count]
}

fn typed_mut<T: Pod>(stored: DType, asked: DType, bytes: &mut [u8], count: usize) -> &mut [T] {
    assert_eq!(stored, asked, "a tensor of {stored:?} looked at as {asked:?}");
    &mut bytemuck::cast_slice_mut(bytes)[..count]
}

macro_rules! view {
    ($view:ident) => {
        impl<'a> $view<'a> {
            /// How elements are stored.
            pub fn dtype(&self) -> DType {
                self.dtype
            }

            /// Named sizes.
            pub fn dims(&self) -> Dims {
                self.dims
            }

            /// Rows of the slowest dimension.
            pub fn rows(self, rows: Range<usize>) -> Self {
                assert!(
                    rows.start <= rows.end && rows.end <= self.dims.rows(),
                    "rows {rows:?} of {}",
                    self.dims
                );
                let row = self.dims.row_len() * self.dtype.size();
                let dims = self.dims.with_rows(rows.len());
                Self { memory: self.memory.slice(rows.start * row..rows.end * row), dtype: self.dtype, dims }
            }

            /// The same elements under other dims of the same count.
            pub fn reshape(self, dims: Dims) -> Self {
                assert_eq!(dims.count(), self.dims.count(), "{} reshaped to {dims}", self.dims);
                Self { dims, ..self }
            }
        }
    };
}

view!(View);
view!(ViewMut);

impl<'a> View<'a> {
    /// The elements, inside a host body.
    pub fn host<T: Element>(self) -> &'a [T] {
        typed(self.dtype, T::DTYPE, self.memory.host(), self.dims.count())
    }

    /// Token ids, positions or slots, inside a host body.
    pub fn ids(self) -> &'a [u32] {
        typed(self.dtype, DType::U32, self.memory.host(), self.dims.count())
    }

    /// The raw bytes, for files.
    pub fn host_bytes(self) -> &'a [u8] {
        &self.memory.host()[..self.dims.count() * self.dtype.size()]
    }

    /// Every element as f64, for reading results.
    pub fn to_f64(self) -> Vec<f64> {
        use crate::device::Float;
        crate::with_float!(self.dtype, T => self.host::<T>().iter().map(|x| x.load().to_f64()).collect())
    }
}

impl<'a> ViewMut<'a> {
    /// A shorter sole access.
    pub fn reborrow(&mut self) -> ViewMut<'_> {
        ViewMut { memory: self.memory.reborrow(), dtype: self.dtype, dims: self.dims }
    }

    /// The same, for reading only.
    pub fn view(&self) -> View<'_> {
        View { memory: self.memory.memory(), dtype: self.dtype, dims: self.dims }
    }

    /// The elements, inside a host body.
    pub fn host_mut<T: Element>(self) -> &'a mut [T] {
        typed_mut(self.dtype, T::DTYPE, self.memory.host(), self.dims.count())
    }

    /// Token ids, positions or slots, inside a host body.
    pub fn ids_mut(self) -> &'a mut [u32] {
        typed_mut(self.dtype, DType::U32, self.memory.host(), self.dims.count())
    }

    /// The raw bytes, for files.
    pub fn host_bytes_mut(self) -> &'a mut [u8] {
        let bytes = self.dims.count() * self.dtype.size();
        &mut self.memory.host()[..bytes]
    }
}
