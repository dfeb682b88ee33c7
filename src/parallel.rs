//! Work on many items at once, on threads of its own.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Does some work on each item and gives what was made, in their order; the first failure ends it.
///
/// # Errors
/// Of the first item, in their order, whose work failed.
pub(crate) fn in_parallel<I: Sync, T: Send>(
    items: &[I],
    threads: NonZeroUsize,
    work: impl Fn(&I) -> anyhow::Result<T> + Sync,
) -> anyhow::Result<Vec<T>> {
    let next = AtomicUsize::new(0);
    let slots: Vec<Mutex<Option<anyhow::Result<T>>>> = items.iter().map(|_| Mutex::new(None)).collect();
    let take = || {
        let at = next.fetch_add(1, Ordering::Relaxed);
        items.get(at).zip(slots.get(at))
    };
    let go = || {
        while let Some((item, slot)) = take() {
            let made = work(item);
            if made.is_err() {
                next.store(items.len(), Ordering::Relaxed);
            }
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(made);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.get().min(items.len()) {
            scope.spawn(go);
        }
    });
    slots.into_iter().filter_map(|slot| slot.into_inner().unwrap_or_else(PoisonError::into_inner)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_kept_and_a_failure_ends_it() {
        let threads = NonZeroUsize::new(4).expect("four");
        let items: Vec<u32> = (0..100).collect();
        let doubled = in_parallel(&items, threads, |item| Ok(2 * item)).expect("works");
        assert_eq!(doubled, (0..100).map(|item| 2 * item).collect::<Vec<_>>());
        let failed = in_parallel(&items, threads, |item| if *item == 7 { anyhow::bail!("seven") } else { Ok(()) });
        assert_eq!(failed.expect_err("fails").to_string(), "seven");
    }
}
