use std::borrow::Cow;
use std::ops::Range;

use bytemuck::Pod;

use super::{Arena, ArenaError, DType, Dims, Element};
use crate::device::{Address, Device, DeviceError, Float, Memory, MemoryMut, Region};

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

    /// A zeroed tensor on `device` with an allocation of its own: for small columns of numbers.
    ///
    /// # Errors
    /// When the device has no room.
    pub fn on(device: &Device, dtype: DType, dims: Dims) -> Result<Self, DeviceError> {
        let bytes = dims.count() * dtype.size();
        let region = match device {
            Device::Host(_) => Region::host(bytes),
            Device::Cuda(cuda) => Region::on(cuda, bytes)?,
        };
        Ok(Self::new(region, dtype, dims))
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
    ///
    /// # Errors
    /// When the device refuses.
    pub fn zero(&mut self) -> Result<(), DeviceError> {
        self.region.memory_mut().zero()
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

    /// Codes, inside a host body.
    pub fn codes(self) -> &'a [u8] {
        typed(self.dtype, DType::U8, self.memory.host(), self.dims.count())
    }

    /// The raw bytes, for files.
    pub fn host_bytes(self) -> &'a [u8] {
        &self.memory.host()[..self.dims.count() * self.dtype.size()]
    }

    /// Where the elements lie on a GPU.
    pub fn address(self) -> Address {
        self.memory.address()
    }

    /// Bytes it takes.
    pub fn bytes(self) -> usize {
        self.dims.count() * self.dtype.size()
    }

    /// The raw bytes, wherever they lie: for files.
    ///
    /// # Errors
    /// What a device says, of this or of work before it.
    pub fn read_bytes(self) -> Result<Cow<'a, [u8]>, DeviceError> {
        self.memory.read(self.bytes())
    }

    /// Every element as f64, wherever it lies: for reading results.
    ///
    /// # Errors
    /// What a device says, of this or of work before it.
    pub fn read(self) -> Result<Vec<f64>, DeviceError> {
        Ok(crate::with_float!(self.dtype, T => {
            self.memory.read::<T>(self.dims.count())?.iter().map(|x| x.load().to_f64()).collect()
        }))
    }

    /// Every element as f64, of a tensor on the host.
    pub fn to_f64(self) -> Vec<f64> {
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

    /// Where the elements lie on a GPU.
    pub fn address(&self) -> Address {
        self.memory.memory().address()
    }

    /// Writes `values` over the first elements, wherever they lie.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn write<T: Element>(self, values: &[T]) -> Result<(), DeviceError> {
        self.write_pod(T::DTYPE, values)
    }

    /// Writes numbers over the first elements, wherever they lie, each rounded to the dtype.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn write_f64(self, values: impl Iterator<Item = f64>) -> Result<(), DeviceError> {
        crate::with_float!(self.dtype, T => {
            let values: Vec<T> = values.map(|x| T::store(Float::from_f64(x))).collect();
            self.write(&values)
        })
    }

    /// Writes token ids, positions or slots over the first elements, wherever they lie.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn write_ids(self, ids: &[u32]) -> Result<(), DeviceError> {
        self.write_pod(DType::U32, ids)
    }

    fn write_pod<T: Pod>(self, asked: DType, values: &[T]) -> Result<(), DeviceError> {
        assert_eq!(self.dtype, asked, "a tensor of {:?} written as {asked:?}", self.dtype);
        assert!(values.len() <= self.dims.count(), "{} values for {}", values.len(), self.dims);
        self.memory.write(values)
    }

    /// Lets `fill` write every raw byte: in place on the host, in a copy that goes to a device.
    ///
    /// # Errors
    /// What `fill` says, or the device.
    pub fn write_bytes<E: From<DeviceError>>(
        self,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let bytes = self.dims.count() * self.dtype.size();
        self.memory.write_with(bytes, fill)
    }

    /// Token ids, positions or slots, inside a host body.
    pub fn ids_mut(self) -> &'a mut [u32] {
        typed_mut(self.dtype, DType::U32, self.memory.host(), self.dims.count())
    }

    /// Codes, inside a host body.
    pub fn codes_mut(self) -> &'a mut [u8] {
        typed_mut(self.dtype, DType::U8, self.memory.host(), self.dims.count())
    }

    /// The raw bytes, for files.
    pub fn host_bytes_mut(self) -> &'a mut [u8] {
        let bytes = self.dims.count() * self.dtype.size();
        &mut self.memory.host()[..bytes]
    }
}
