//! Threads that do one job together, each its part, and meet at barriers in between.
//!
//! Who waits spins for a while, since stages are short, and then sleeps. Natively the pool starts its threads; in a browser the
//! page's side starts workers on the shared memory, and each enters [`Team::work`].

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};

/// Looks at a gate before sleeping: some tens of microseconds. Wasm has no pause instruction, so a look is shorter there.
const SPINS: u32 = if cfg!(target_arch = "wasm32") { 20_000 } else { 2_000 };

/// A number that threads wait to see change.
#[derive(Debug, Default)]
struct Gate {
    value: AtomicU32,
    sleepers: AtomicU32,
    lock: Mutex<()>,
    changed: Condvar,
}

impl Gate {
    fn wait_past(&self, seen: u32) {
        for _ in 0..SPINS {
            if self.value.load(SeqCst) != seen {
                return;
            }
            std::hint::spin_loop();
        }
        self.sleepers.fetch_add(1, SeqCst);
        // A poisoned lock still locks, and nothing is kept in it.
        let mut guard = self.lock.lock().unwrap_or_else(|e| e.into_inner());
        while self.value.load(SeqCst) == seen {
            guard = self.changed.wait(guard).unwrap_or_else(|e| e.into_inner());
        }
        drop(guard);
        self.sleepers.fetch_sub(1, SeqCst);
    }

    fn advance(&self) {
        self.value.fetch_add(1, SeqCst);
        // Who counts itself a sleeper after this looks at the new value before it sleeps.
        if self.sleepers.load(SeqCst) > 0 {
            let _guard = self.lock.lock().unwrap_or_else(|e| e.into_inner());
            self.changed.notify_all();
        }
    }
}

type Job<'a> = dyn Fn(usize) + Sync + 'a;

/// What the threads of a pool share.
#[derive(Debug)]
pub struct Team {
    threads: usize,
    start: Gate,
    job: UnsafeCell<Option<*const Job<'static>>>,
    arrived: AtomicU32,
    barrier: Gate,
    ended: AtomicBool,
}

// SAFETY: `job` is written by the leader only while the others wait for `start`, and read by them only after it.
unsafe impl Sync for Team {}
// SAFETY: the pointer in `job` is used between `start` and the last barrier only, when what it points to is alive and `Sync`.
unsafe impl Send for Team {}

impl Team {
    /// A team of so many threads, the caller's among them.
    pub fn new(threads: usize) -> Arc<Self> {
        Arc::new(Self {
            threads: threads.max(1),
            start: Gate::default(),
            job: UnsafeCell::new(None),
            arrived: AtomicU32::new(0),
            barrier: Gate::default(),
            ended: AtomicBool::new(false),
        })
    }

    /// How many threads there are.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// What a thread other than the leader does: every job, until the team ends.
    pub fn work(&self, thread: usize) {
        for seen in 0.. {
            self.start.wait_past(seen);
            if self.ended.load(SeqCst) {
                return;
            }
            // SAFETY: the leader has written it before it advanced `start`, and waits for `meet` before it goes on.
            if let Some(job) = unsafe { *self.job.get() } {
                // SAFETY: as above: what it points to outlives the last barrier.
                unsafe { (*job)(thread) };
            }
            self.meet();
        }
    }

    /// Runs a job on all threads and waits until all have done it. Only the leader calls it.
    pub(super) fn run(&self, job: &Job<'_>) {
        if self.threads > 1 {
            let job: *const Job<'_> = job;
            // SAFETY: the lifetime is only forgotten; no thread uses the job after the barrier below.
            let job = unsafe { std::mem::transmute::<*const Job<'_>, *const Job<'static>>(job) };
            // SAFETY: the others wait for `start`.
            unsafe { *self.job.get() = Some(job) };
            self.start.advance();
        }
        job(0);
        self.meet();
    }

    /// Waits until all threads are here.
    pub(super) fn meet(&self) {
        if self.threads == 1 {
            return;
        }
        let seen = self.barrier.value.load(SeqCst);
        if self.arrived.fetch_add(1, SeqCst) + 1 == self.threads as u32 {
            self.arrived.store(0, SeqCst);
            self.barrier.advance();
        } else {
            self.barrier.wait_past(seen);
        }
    }

    fn end(&self) {
        self.ended.store(true, SeqCst);
        self.start.advance();
    }
}

/// A team whose other threads run.
#[derive(Debug)]
pub(super) struct Pool {
    pub team: Arc<Team>,
    handles: Vec<std::thread::JoinHandle<()>>,
}

impl Pool {
    /// Starts the other threads.
    pub fn start(threads: usize) -> std::io::Result<Self> {
        let mut pool = Self::of(Team::new(threads));
        for thread in 1..pool.team.threads() {
            let team = pool.team.clone();
            let builder = std::thread::Builder::new().name(format!("nomoat-{thread}"));
            pool.handles.push(builder.spawn(move || team.work(thread))?);
        }
        Ok(pool)
    }

    /// A team whose other threads someone else has started.
    pub fn of(team: Arc<Team>) -> Self {
        Self { team, handles: Vec::new() }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.team.end();
        for handle in self.handles.drain(..) {
            // A thread that panicked has said so.
            let _ = handle.join();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Every thread sees what the others wrote before the barrier, however often.
    #[test]
    fn threads_meet() {
        for threads in [1, 2, 5] {
            let pool = Pool::start(threads).unwrap();
            let counts: Vec<AtomicU32> = (0..threads).map(|_| AtomicU32::new(0)).collect();
            for round in 0..200 {
                pool.team.run(&|thread| {
                    for step in 0..3 {
                        counts[thread].fetch_add(1, SeqCst);
                        pool.team.meet();
                        let expected = round * 3 + step + 1;
                        assert!(counts.iter().all(|count| count.load(SeqCst) == expected));
                        pool.team.meet();
                    }
                });
            }
        }
    }
}
