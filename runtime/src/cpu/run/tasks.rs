//! Which tasks a thread does: its share of them, which lie side by side, and then what is left of the shares
//! of others. Memory that a thread reads in one piece is fetched in time; two threads that take turns in
//! pieces of a few pages read much less, since each core fetches ahead what the other needs.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// How many tasks of each thread's share are taken.
#[derive(Debug)]
pub(in crate::cpu) struct Taken(Vec<Count>);

/// In a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Count(AtomicUsize);

impl Taken {
    pub fn new(threads: usize) -> Self {
        Self((0..threads).map(|_| Count::default()).collect())
    }

    /// No task is taken.
    pub fn clear(&mut self) {
        self.0.iter_mut().for_each(|Count(count)| *count.get_mut() = 0);
    }
}

/// The tasks of one thread.
#[derive(Clone, Copy, Debug)]
pub(in crate::cpu) struct Tasks<'a> {
    pub taken: &'a Taken,
    pub thread: usize,
}

impl<'a> Tasks<'a> {
    /// The numbers of the tasks that this thread does, of `n`.
    pub fn of(self, n: usize) -> impl Iterator<Item = usize> + use<'a> {
        let Taken(counts) = self.taken;
        let threads = counts.len();
        let shares = (0..threads).map(move |i| (self.thread + i) % threads);
        shares.flat_map(move |share| {
            let (first, end) = (share * n / threads, (share + 1) * n / threads);
            let next = move || Some(first + counts[share].0.fetch_add(1, Relaxed));
            std::iter::from_fn(move || next().filter(|task| *task < end))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_is_done_once_and_shares_lie_side_by_side() {
        for threads in 1..5 {
            for n in [0, 1, 3, 17] {
                let taken = Taken::new(threads);
                let mut iterators: Vec<_> =
                    (0..threads).map(|thread| Tasks { taken: &taken, thread }.of(n)).collect();
                let mut done: Vec<Vec<usize>> = vec![Vec::new(); threads];
                // The last thread is held up: the others do its share.
                while iterators.iter_mut().zip(&mut done).take((threads - 1).max(1)).any(|(next, done)| {
                    let task = next.next();
                    done.extend(task);
                    task.is_some()
                }) {}
                for (done, next) in done.iter_mut().zip(iterators) {
                    done.extend(next);
                }
                for (thread, done) in done.iter().enumerate().filter(|(thread, _)| thread + 1 < threads) {
                    let share: Vec<usize> = (thread * n / threads..(thread + 1) * n / threads).collect();
                    assert!(done.starts_with(&share) || done.is_empty(), "{threads} {n}: {done:?}");
                }
                let mut all = done.concat();
                all.sort_unstable();
                assert_eq!(all, (0..n).collect::<Vec<_>>(), "{threads} threads");
            }
        }
    }
}
