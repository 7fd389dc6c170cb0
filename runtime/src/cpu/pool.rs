//! Threads that do one job together, each its part, and meet at barriers in between.
//!
//! A thread that waits spins for a while, since stages are short, and then sleeps. Natively the pool starts
//! its threads. In a browser the page's side starts workers on the shared memory, and each enters
//! [`Team::work`].
//!
//! A thread whose part of a job fails, panics or traps breaks the team: every thread leaves the job at its
//! next barrier, the leader gets an error, and no further job runs.

use super::CpuError;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};

/// Looks at a gate before sleeping: some tens of microseconds. Wasm has no pause instruction, so a look is
/// shorter there.
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
        // A thread that counts itself as a sleeper after this looks at the new value before it sleeps.
        if self.sleepers.load(SeqCst) > 0 {
            let _guard = self.lock.lock().unwrap_or_else(|e| e.into_inner());
            self.changed.notify_all();
        }
    }
}

/// A thread's part of a job.
type Job<'a> = dyn Fn(usize) -> Result<(), CpuError> + Sync + 'a;

/// What the threads of a pool share.
#[derive(Debug)]
pub struct Team {
    threads: usize,
    start: Gate,
    job: UnsafeCell<Option<*const Job<'static>>>,
    arrived: AtomicU32,
    barrier: Gate,
    /// Threads other than the leader that may still use the job.
    busy: AtomicU32,
    done: Gate,
    ended: AtomicBool,
    broken: AtomicBool,
}

// SAFETY: `job` is written by the leader only while the others wait for `start`, and read by them only after
// it.
unsafe impl Sync for Team {}
// SAFETY: the pointer in `job` is used only while the leader is in `run`, when what it points to is alive and
// `Sync`.
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
            busy: AtomicU32::new(0),
            done: Gate::default(),
            ended: AtomicBool::new(false),
            broken: AtomicBool::new(false),
        })
    }

    /// How many threads there are.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// What a thread other than the leader does: every job, until the team ends or breaks. `start` advances
    /// for a job and for the end alone, so that a thread leaves each job once.
    pub fn work(&self, thread: usize) {
        for seen in 0.. {
            self.start.wait_past(seen);
            if self.ended.load(SeqCst) {
                return;
            }
            // What comes of it is in `broken`.
            let _ = self.attempt(|| {
                self.check()?;
                // SAFETY: the leader has written it before it advanced `start`, and waits until this thread
                // leaves.
                let job = unsafe { *self.job.get() };
                // SAFETY: as above: what it points to is alive until this thread leaves.
                job.map_or(Ok(()), |job| unsafe { (*job)(thread) })
            });
            let is_broken = self.check().is_err();
            self.leave();
            if is_broken {
                return;
            }
        }
    }

    /// Runs a job on all threads and waits until all have left it. Only the leader calls it. After an error,
    /// the other threads end.
    pub(super) fn run(&self, job: &Job<'_>) -> Result<(), CpuError> {
        let result = self.start_and_wait(job);
        if result.is_err() {
            self.end();
        }
        result
    }

    fn start_and_wait(&self, job: &Job<'_>) -> Result<(), CpuError> {
        if self.threads == 1 {
            self.check()?;
            return self.attempt(|| job(0));
        }
        let seen = self.done.value.load(SeqCst);
        self.busy.store(self.threads as u32 - 1, SeqCst);
        // After `busy` is set: a thread that fails from here on is counted there.
        self.check()?;
        let pointer: *const Job<'_> = job;
        // SAFETY: only the lifetime is forgotten; no thread uses the job once `busy` is 0.
        let pointer = unsafe { std::mem::transmute::<*const Job<'_>, *const Job<'static>>(pointer) };
        // SAFETY: the others wait for `start`.
        unsafe { *self.job.get() = Some(pointer) };
        self.start.advance();
        let result = self.attempt(|| job(0));
        self.done.wait_past(seen);
        result.and_then(|()| self.check())
    }

    /// Waits until all threads are here. An error means that the team is broken: the caller leaves the job.
    pub(super) fn meet(&self) -> Result<(), CpuError> {
        if self.threads == 1 {
            return Ok(());
        }
        let seen = self.barrier.value.load(SeqCst);
        // After `seen` is read: whatever breaks the team from here on advances the barrier past it.
        self.check()?;
        if self.arrived.fetch_add(1, SeqCst) + 1 == self.threads as u32 {
            self.arrived.store(0, SeqCst);
            self.barrier.advance();
        } else {
            self.barrier.wait_past(seen);
        }
        self.check()
    }

    /// Tells the team that this thread, not the leader, ended within a job and left it: a trap in wasm, which
    /// nothing in wasm can catch. Called once for such a thread, by that thread.
    pub fn fail(&self) {
        self.break_up();
        self.leave();
    }

    /// Does a thread's part of a job; the team is broken where that fails or panics.
    fn attempt(&self, part: impl FnOnce() -> Result<(), CpuError>) -> Result<(), CpuError> {
        let result = catch_unwind(AssertUnwindSafe(part)).unwrap_or(Err(CpuError::Thread));
        if result.is_err() {
            self.break_up();
        }
        result
    }

    /// An error if the team is broken.
    fn check(&self) -> Result<(), CpuError> {
        if self.broken.load(SeqCst) { Err(CpuError::Thread) } else { Ok(()) }
    }

    fn break_up(&self) {
        self.broken.store(true, SeqCst);
        self.barrier.advance();
    }

    /// Counts a thread as out of the job.
    fn leave(&self) {
        let left = self.busy.fetch_update(SeqCst, SeqCst, |busy| busy.checked_sub(1));
        if left == Ok(1) {
            self.done.advance();
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

    /// A team whose other threads have been started elsewhere.
    pub fn of(team: Arc<Team>) -> Self {
        Self { team, handles: Vec::new() }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.team.end();
        for handle in self.handles.drain(..) {
            // Threads catch their panics.
            let _ = handle.join();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Every thread sees what the others wrote before the barrier, however often.
    #[test]
    fn threads_meet() {
        for threads in [1, 2, 5] {
            let pool = Pool::start(threads).unwrap();
            let counts: Vec<AtomicU32> = (0..threads).map(|_| AtomicU32::new(0)).collect();
            for round in 0..200 {
                let job = |thread: usize| {
                    for step in 0..3 {
                        counts[thread].fetch_add(1, SeqCst);
                        pool.team.meet()?;
                        let expected = round * 3 + step + 1;
                        assert!(counts.iter().all(|count| count.load(SeqCst) == expected));
                        pool.team.meet()?;
                    }
                    Ok(())
                };
                assert_eq!(pool.team.run(&job), Ok(()));
            }
        }
    }

    /// Before, between and after barriers, on the leader and on another thread.
    #[test]
    fn a_panic_in_one_thread_ends_the_job_with_an_error() {
        for threads in [1, 2, 4] {
            for who in (0..threads).take(2) {
                for when in 0..3 {
                    let pool = Pool::start(threads).unwrap();
                    let after = AtomicU32::new(0);
                    let job = |thread: usize| {
                        for step in 0..3 {
                            assert!((thread, step) != (who, when), "as the test wants it");
                            pool.team.meet()?;
                        }
                        after.fetch_add(1, SeqCst);
                        Ok(())
                    };
                    assert_eq!(pool.team.run(&|_| Ok(())), Ok(()));
                    assert_eq!(pool.team.run(&job), Err(CpuError::Thread));
                    assert_eq!(after.load(SeqCst), 0);
                    // What is broken stays so, and no thread waits for ever when the pool is dropped.
                    assert_eq!(pool.team.run(&|_| Ok(())), Err(CpuError::Thread));
                }
            }
        }
    }

    /// Threads that are done with the job, one that fails, and one that is still at work.
    #[test]
    fn no_thread_is_in_a_job_that_has_ended() {
        let pool = Pool::start(4).unwrap();
        let inside = AtomicU32::new(0);
        let job = |thread: usize| {
            inside.fetch_add(1, SeqCst);
            std::thread::sleep(Duration::from_millis([0, 0, 20, 100][thread]));
            inside.fetch_sub(1, SeqCst);
            if thread == 2 { Err(CpuError::Thread) } else { Ok(()) }
        };
        assert_eq!(pool.team.run(&job), Err(CpuError::Thread));
        assert_eq!(inside.load(SeqCst), 0);
    }

    #[test]
    fn a_job_that_fails_gives_its_error() {
        let pool = Pool::start(2).unwrap();
        let wrong = CpuError::Internal("wrong".into());
        let job = |thread: usize| if thread == 0 { Err(wrong.clone()) } else { pool.team.meet() };
        assert_eq!(pool.team.run(&job), Err(wrong.clone()));
    }

    /// As in wasm, where a thread that traps never comes back from its job.
    #[test]
    fn a_thread_that_is_gone_ends_the_job_with_an_error() {
        let team = Team::new(3);
        for thread in 1..3 {
            let team = team.clone();
            // One of them is never joined.
            std::thread::spawn(move || team.work(thread));
        }
        let job = |thread: usize| {
            if thread == 2 {
                team.fail();
                loop {
                    std::thread::park();
                }
            }
            team.meet()
        };
        assert_eq!(team.run(&job), Err(CpuError::Thread));
        assert_eq!(team.run(&|_| Ok(())), Err(CpuError::Thread));
    }
}
