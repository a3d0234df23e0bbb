//! What a piece of code asks of the heap, counted by the allocator.
//!
//! A test binary or fuzz target installs it: `#[global_allocator] static ALLOCATOR: Counting = Counting;`.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// Allocations and reallocations; bytes asked for, freed or not.
    static ASKED: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
    /// Bytes held now and the most ever, since [`measure`] began.
    static HELD: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

/// The system's allocator, which counts. It counts per thread, so that tests do not see one another.
#[derive(Debug)]
pub struct Counting;

fn note(asked: Option<usize>, change: isize) {
    // After a thread has given up its locals nothing is counted.
    if let Some(bytes) = asked {
        let _ = ASKED.try_with(|a| a.set((a.get().0 + 1, a.get().1 + bytes)));
    }
    let _ = HELD.try_with(|h| {
        let held = h.get().0 + change;
        h.set((held, h.get().1.max(held)));
    });
}

#[expect(unsafe_code, reason = "an allocator that counts; everything is passed on unchanged")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(Some(layout.size()), layout.size() as isize);
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(Some(layout.size()), layout.size() as isize);
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        note(None, -(layout.size() as isize));
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(Some(size.saturating_sub(layout.size())), size as isize - layout.size() as isize);
        unsafe { System.realloc(place, layout, size) }
    }
}

/// What was asked of the heap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heap {
    /// Allocations and reallocations.
    pub calls: usize,
    /// Bytes asked for, freed or not.
    pub asked: usize,
    /// The most bytes held at a time.
    pub peak: usize,
    /// Bytes still held at the end, in the result.
    pub kept: isize,
}

/// The result of `work`, and what it asked of the heap.
///
/// # Panics
/// When [`Counting`] is not the allocator: then every count would be 0 and every check would pass.
pub fn measure<T>(work: impl FnOnce() -> T) -> (T, Heap) {
    let (calls, asked) = ASKED.get();
    drop(std::hint::black_box(Box::new(0u8)));
    assert_eq!(ASKED.get(), (calls + 1, asked + 1), "the counting allocator is not installed");
    HELD.set((0, 0));
    let (calls, asked) = ASKED.get();
    let result = work();
    let (kept, peak) = HELD.get();
    let now = ASKED.get();
    (result, Heap { calls: now.0 - calls, asked: now.1 - asked, peak: peak.unsigned_abs(), kept })
}

/// The bytes that may be asked for on the word of `length` bytes from the network.
pub fn allowed(length: usize) -> usize {
    (64 << 10) + 32 * length
}
