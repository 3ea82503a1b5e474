//! The system's allocator, which can count.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicU64, Ordering::Relaxed};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Off while a clock runs, so that a contestant which allocates does not pay for being counted.
static COUNTING: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static LIVE_BYTES: AtomicIsize = AtomicIsize::new(0);

struct Counting;

impl Counting {
    #[inline]
    fn note(allocations: u64, bytes: isize) {
        if COUNTING.load(Relaxed) {
            ALLOCATIONS.fetch_add(allocations, Relaxed);
            LIVE_BYTES.fetch_add(bytes, Relaxed);
        }
    }
}

/// A layout's size; it is at most `isize::MAX`.
fn size(bytes: usize) -> isize {
    isize::try_from(bytes).unwrap_or(isize::MAX)
}

// SAFETY: every call is passed on as it is to the system's allocator, which keeps the contract; the counters
// do not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::note(1, size(layout.size()));
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::note(1, size(layout.size()));
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        Self::note(1, size(new_size) - size(layout.size()));
        unsafe { System.realloc(at, layout, new_size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        Self::note(0, -size(layout.size()));
        unsafe { System.dealloc(at, layout) }
    }
}

/// Runs `work`, and returns how often it allocated and how many bytes more are live after it.
pub fn count<R>(work: impl FnOnce() -> R) -> (R, u64, isize) {
    let (allocations, live) = (ALLOCATIONS.load(Relaxed), LIVE_BYTES.load(Relaxed));
    COUNTING.store(true, Relaxed);
    let result = work();
    COUNTING.store(false, Relaxed);
    (result, ALLOCATIONS.load(Relaxed) - allocations, LIVE_BYTES.load(Relaxed) - live)
}
