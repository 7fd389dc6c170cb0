//! How many rows of a prompt go into a step. A step should take a fraction of a second: systems reset a
//! device that is busy for seconds, and an answer can be stopped only between steps.

use web_time::{Duration, Instant};

/// After a step that takes longer, the next one has half the rows.
const LONG: Duration = Duration::from_millis(600);
/// After a step that takes less, the next one has twice the rows.
const SHORT: Duration = Duration::from_millis(150);
/// Rows of the smallest steps; smaller ones are no faster.
const LEAST: usize = 16;
/// Rows of the first step.
const FIRST: usize = 128;

/// The pace of a device with one model.
#[derive(Debug)]
pub(super) struct Pace {
    rows: usize,
    most: usize,
    /// When the last step ended.
    last: Instant,
}

impl Pace {
    /// A pace with at most this many rows per step.
    pub fn new(most: usize) -> Self {
        Self { rows: FIRST.min(most), most, last: Instant::now() }
    }

    /// Rows of the next step.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Records that a step has ended. The device runs steps one after the other, so a step that was submitted
    /// early began when the previous one ended.
    pub fn ended(&mut self, rows: usize, begun: Instant) {
        let now = Instant::now();
        self.took(rows, now - begun.max(self.last));
        self.last = now;
    }

    fn took(&mut self, rows: usize, time: Duration) {
        if time > LONG {
            self.rows = (rows / 2).max(LEAST).min(self.rows);
        } else if time < SHORT && rows == self.rows {
            self.rows = (2 * rows).min(self.most);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_grow_on_fast_devices_and_shrink_on_slow_ones() {
        let mut pace = Pace::new(512);
        let (short, long) = (Duration::from_millis(20), Duration::from_secs(2));
        for rows in [128, 256, 512, 512] {
            assert_eq!(pace.rows(), rows);
            pace.took(rows, short);
        }
        // The last, short step of a prompt does not count.
        pace.took(3, short);
        assert_eq!(pace.rows(), 512);
        for rows in [512, 256, 128, 64, 32, 16, 16] {
            assert_eq!(pace.rows(), rows);
            pace.took(rows, long);
        }
        pace.took(16, Duration::from_millis(300));
        assert_eq!(pace.rows(), 16);
        assert_eq!(Pace::new(32).rows(), 32);
    }
}
