use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::borrow::Cow;
use std::marker::PhantomData;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;

use bytemuck::Pod;
use memmap2::{Advice, MmapMut};

use super::{Address, Cuda, DeviceError};

/// Alignment of every region: one cache line, one AVX-512 register.
const ALIGN: usize = 64;

/// From this size on memory is mapped and asked for in huge pages: strided walks over weights then miss no page entries.
const HUGE: usize = 2 << 20;

/// One block of memory, zeroed when it was new. Where it lies on a device, `start` is an address that only the device follows.
#[derive(Debug)]
struct Allocation {
    start: NonNull<u8>,
    bytes: usize,
    owner: Owner,
}

/// Who gives the memory back.
#[derive(Debug)]
enum Owner {
    Heap(Layout),
    Mapping(#[allow(dead_code, reason = "dropped with the allocation")] MmapMut),
    Device(Cuda),
}

impl Allocation {
    /// `None` where the system refuses.
    fn new(bytes: usize) -> Option<Self> {
        if bytes >= HUGE
            && let Ok(mut pages) = MmapMut::map_anon(bytes.next_multiple_of(HUGE) + HUGE)
        {
            // Only speed hangs on the advice, so a kernel without huge pages may refuse it.
            let _ = pages.advise(Advice::HugePage);
            let offset = pages.as_ptr().align_offset(HUGE);
            let start = NonNull::from(&mut pages[offset..]).cast();
            return Some(Self { start, bytes, owner: Owner::Mapping(pages) });
        }
        let layout = Layout::from_size_align(bytes.max(ALIGN), ALIGN).ok()?;
        // SAFETY: the layout's size is not zero.
        let start = unsafe { alloc_zeroed(layout) };
        Some(Self { start: NonNull::new(start)?, bytes, owner: Owner::Heap(layout) })
    }

    /// `None` where the device has not so much left.
    fn on(cuda: &Cuda, bytes: usize) -> Result<Option<Self>, DeviceError> {
        let Some(at) = cuda.driver().allocate(bytes)? else { return Ok(None) };
        let start = NonNull::new(at.0 as *mut u8).expect("a driver gives no memory at address 0");
        let allocation = Self { start, bytes, owner: Owner::Device(cuda.clone()) };
        cuda.driver().zero(at, bytes)?;
        Ok(Some(allocation))
    }

    /// The device that it lies on; none: the host.
    fn cuda(&self) -> Option<&Cuda> {
        match &self.owner {
            Owner::Device(cuda) => Some(cuda),
            Owner::Heap(_) | Owner::Mapping(_) => None,
        }
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        match &self.owner {
            // SAFETY: allocated in `new` with this very layout, and no region is left: each holds an Arc of this.
            Owner::Heap(layout) => unsafe { dealloc(self.start.as_ptr(), *layout) },
            Owner::Mapping(_) => (),
            Owner::Device(cuda) => cuda.driver().free(Address(self.start.as_ptr() as u64)),
        }
    }
}

// SAFETY: the allocation is plain memory; who may touch which part is settled by `Region`.
unsafe impl Send for Allocation {}
// SAFETY: as above.
unsafe impl Sync for Allocation {}

/// Sole owner of a range of bytes. Ranges of different regions never overlap: a region is whole, or split off from one.
#[derive(Debug)]
pub struct Region {
    /// `None` while a plan is being made: bytes are counted, none exist.
    allocation: Option<Arc<Allocation>>,
    range: Range<usize>,
}

impl Region {
    /// `bytes` zeroed bytes on the host.
    pub fn host(bytes: usize) -> Self {
        let layout = || Layout::from_size_align(bytes, ALIGN).expect("a size that fits an address");
        Self::try_host(bytes).unwrap_or_else(|| handle_alloc_error(layout()))
    }

    /// The same; `None` where the system refuses.
    pub fn try_host(bytes: usize) -> Option<Self> {
        Some(Self { allocation: Some(Arc::new(Allocation::new(bytes)?)), range: 0..bytes })
    }

    /// `bytes` zeroed bytes on a GPU.
    ///
    /// # Errors
    /// When so many are not free, or the driver refuses.
    pub fn on(cuda: &Cuda, bytes: usize) -> Result<Self, DeviceError> {
        let Some(allocation) = Allocation::on(cuda, bytes)? else {
            let [free, all] = cuda.driver().memory()?;
            return Err(DeviceError::Memory { device: cuda.driver().name(), bytes, free, all });
        };
        Ok(Self { allocation: Some(Arc::new(allocation)), range: 0..bytes })
    }

    /// `bytes` bytes that are counted but don't exist; looking at them panics.
    pub fn planned(bytes: usize) -> Self {
        Self { allocation: None, range: 0..bytes }
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.range.len()
    }

    /// Whether it holds no bytes.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// Cuts the first `bytes` off into a region of their own; `None` if there are fewer.
    pub fn split_off_front(&mut self, bytes: usize) -> Option<Self> {
        let middle = self.range.start.checked_add(bytes).filter(|&m| m <= self.range.end)?;
        let front = Self { allocation: self.allocation.clone(), range: self.range.start..middle };
        self.range.start = middle;
        Some(front)
    }

    /// Takes the first `bytes` of the allocation back if no other region of it is alive; says whether it could.
    pub fn reclaim(&mut self, bytes: usize) -> bool {
        let alone = match &mut self.allocation {
            Some(allocation) => Arc::get_mut(allocation).is_some_and(|a| a.bytes >= bytes),
            None => true,
        };
        if alone {
            self.range = 0..bytes;
        }
        alone
    }

    /// Shared access.
    pub fn memory(&self) -> Memory<'_> {
        let (start, cuda) = self.place();
        Memory { start, len: self.len(), cuda, life: PhantomData }
    }

    /// Sole access.
    pub fn memory_mut(&mut self) -> MemoryMut<'_> {
        let (start, cuda) = self.place();
        MemoryMut { start, len: self.len(), cuda, life: PhantomData }
    }

    fn place(&self) -> (NonNull<u8>, Option<&Cuda>) {
        let allocation = self.allocation.as_ref().expect("a planned region has no memory to look at");
        (further(allocation.start, self.range.start), allocation.cuda())
    }
}

/// The place `bytes` further on in the same allocation, on the host or a device.
fn further(start: NonNull<u8>, bytes: usize) -> NonNull<u8> {
    start.map_addr(|at| at.checked_add(bytes).expect("a place inside an allocation"))
}

/// Shared, untyped access to part of a region.
#[derive(Clone, Copy, Debug)]
pub struct Memory<'a> {
    start: NonNull<u8>,
    len: usize,
    cuda: Option<&'a Cuda>,
    life: PhantomData<&'a [u8]>,
}

/// Sole, untyped access to part of a region.
#[derive(Debug)]
pub struct MemoryMut<'a> {
    start: NonNull<u8>,
    len: usize,
    cuda: Option<&'a Cuda>,
    life: PhantomData<&'a mut [u8]>,
}

// SAFETY: a `Memory` is a `&[u8]`, a `MemoryMut` is a `&mut [u8]`.
unsafe impl Send for Memory<'_> {}
// SAFETY: as above.
unsafe impl Sync for Memory<'_> {}
// SAFETY: as above.
unsafe impl Send for MemoryMut<'_> {}
// SAFETY: as above.
unsafe impl Sync for MemoryMut<'_> {}

impl<'a> From<&'a [u8]> for Memory<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self { start: NonNull::from(bytes).cast(), len: bytes.len(), cuda: None, life: PhantomData }
    }
}

impl<'a> From<&'a mut [u8]> for MemoryMut<'a> {
    fn from(bytes: &'a mut [u8]) -> Self {
        Self { len: bytes.len(), start: NonNull::from(bytes).cast(), cuda: None, life: PhantomData }
    }
}

impl<'a> Memory<'a> {
    /// The bytes `range` of this.
    pub fn slice(self, range: Range<usize>) -> Self {
        inside(&range, self.len);
        Self { start: further(self.start, range.start), len: range.len(), ..self }
    }

    /// The bytes, where they lie on the host.
    pub fn host(self) -> &'a [u8] {
        assert!(self.cuda.is_none(), "memory of a GPU looked at on the host");
        // SAFETY: start and len describe bytes that are initialised (zeroed or written) and shared for 'a.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    /// Where they lie on a GPU.
    pub fn address(self) -> Address {
        assert!(self.cuda.is_some(), "memory of the host handed to a GPU");
        Address(self.start.as_ptr() as u64)
    }

    /// The first `count` elements, wherever they lie; those of a GPU once all work before is done.
    ///
    /// # Errors
    /// What the driver says, of this or of work before it.
    pub fn read<T: Pod>(self, count: usize) -> Result<Cow<'a, [T]>, DeviceError> {
        let Some(cuda) = self.cuda else {
            return Ok(Cow::Borrowed(&bytemuck::cast_slice(self.host())[..count]));
        };
        inside(&(0..count * size_of::<T>()), self.len);
        let mut values = vec![T::zeroed(); count];
        cuda.driver().download(self.address(), bytemuck::cast_slice_mut(&mut values))?;
        Ok(Cow::Owned(values))
    }
}

impl<'a> MemoryMut<'a> {
    /// The bytes `range` of this.
    pub fn slice(self, range: Range<usize>) -> Self {
        inside(&range, self.len);
        Self { start: further(self.start, range.start), len: range.len(), ..self }
    }

    /// A shorter sole access.
    pub fn reborrow(&mut self) -> MemoryMut<'_> {
        MemoryMut { start: self.start, len: self.len, cuda: self.cuda, life: PhantomData }
    }

    /// The same, for reading only.
    pub fn memory(&self) -> Memory<'_> {
        Memory { start: self.start, len: self.len, cuda: self.cuda, life: PhantomData }
    }

    /// The bytes, where they lie on the host.
    pub fn host(self) -> &'a mut [u8] {
        assert!(self.cuda.is_none(), "memory of a GPU looked at on the host");
        // SAFETY: start and len describe initialised bytes that nobody else touches for 'a.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }

    /// Writes `values` to the front, wherever it lies.
    ///
    /// # Errors
    /// What the driver says.
    pub fn write<T: Pod>(self, values: &[T]) -> Result<(), DeviceError> {
        let bytes = bytemuck::cast_slice(values);
        inside(&(0..bytes.len()), self.len);
        match self.cuda {
            None => self.host()[..bytes.len()].copy_from_slice(bytes),
            Some(cuda) => cuda.driver().upload(bytes, self.memory().address())?,
        }
        Ok(())
    }

    /// Lets `fill` write the first `len` bytes: in place on the host, in a copy that goes to a device.
    ///
    /// # Errors
    /// What `fill` says, or the driver.
    pub fn write_with<E: From<DeviceError>>(
        self,
        len: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(_) = self.cuda else { return fill(&mut self.host()[..len]) };
        let mut bytes = vec![0; len];
        fill(&mut bytes)?;
        Ok(self.write(&bytes)?)
    }

    /// Sets every byte to 0, wherever it lies.
    ///
    /// # Errors
    /// What the driver says.
    pub fn zero(self) -> Result<(), DeviceError> {
        match self.cuda {
            None => self.host().fill(0),
            Some(cuda) => cuda.driver().zero(self.memory().address(), self.len)?,
        }
        Ok(())
    }
}

fn inside(range: &Range<usize>, len: usize) {
    assert!(range.start <= range.end && range.end <= len, "bytes {range:?} of {len}");
}
