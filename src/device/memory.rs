use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::marker::PhantomData;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;

use memmap2::{Advice, MmapMut};

/// Alignment of every region: one cache line, one AVX-512 register.
const ALIGN: usize = 64;

/// From this size on memory is mapped and asked for in huge pages: strided walks over weights then miss no page entries.
const HUGE: usize = 2 << 20;

/// One block of zeroed host memory.
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
}

impl Drop for Allocation {
    fn drop(&mut self) {
        if let Owner::Heap(layout) = self.owner {
            // SAFETY: allocated in `new` with this very layout, and no region is left: each holds an Arc of this.
            unsafe { dealloc(self.start.as_ptr(), layout) }
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
        Memory { start: self.start(), len: self.len(), life: PhantomData }
    }

    /// Sole access.
    pub fn memory_mut(&mut self) -> MemoryMut<'_> {
        MemoryMut { start: self.start(), len: self.len(), life: PhantomData }
    }

    fn start(&self) -> NonNull<u8> {
        let allocation = self.allocation.as_ref().expect("a planned region has no memory to look at");
        // SAFETY: the range lies inside the allocation.
        unsafe { allocation.start.add(self.range.start) }
    }
}

/// Shared, untyped access to part of a region.
#[derive(Clone, Copy, Debug)]
pub struct Memory<'a> {
    start: NonNull<u8>,
    len: usize,
    life: PhantomData<&'a [u8]>,
}

/// Sole, untyped access to part of a region.
#[derive(Debug)]
pub struct MemoryMut<'a> {
    start: NonNull<u8>,
    len: usize,
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
        Self { start: NonNull::from(bytes).cast(), len: bytes.len(), life: PhantomData }
    }
}

impl<'a> From<&'a mut [u8]> for MemoryMut<'a> {
    fn from(bytes: &'a mut [u8]) -> Self {
        Self { len: bytes.len(), start: NonNull::from(bytes).cast(), life: PhantomData }
    }
}

impl<'a> Memory<'a> {
    /// The bytes `range` of this.
    pub fn slice(self, range: Range<usize>) -> Self {
        self.host()[range].into()
    }

    /// The bytes, where they lie on the host.
    pub fn host(self) -> &'a [u8] {
        // SAFETY: start and len describe bytes that are initialised (zeroed or written) and shared for 'a.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<'a> MemoryMut<'a> {
    /// The bytes `range` of this.
    pub fn slice(self, range: Range<usize>) -> Self {
        (&mut self.host()[range]).into()
    }

    /// A shorter sole access.
    pub fn reborrow(&mut self) -> MemoryMut<'_> {
        MemoryMut { start: self.start, len: self.len, life: PhantomData }
    }

    /// The same, for reading only.
    pub fn memory(&self) -> Memory<'_> {
        Memory { start: self.start, len: self.len, life: PhantomData }
    }

    /// The bytes, where they lie on the host.
    pub fn host(self) -> &'a mut [u8] {
        // SAFETY: start and len describe initialised bytes that nobody else touches for 'a.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}
