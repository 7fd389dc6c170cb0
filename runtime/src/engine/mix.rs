//! Answers with different sets of adapters in the same steps.
//!
//! While such answers run, a further plan, the *mix*, has the adapters of all their sets, and each row says
//! which set it uses. So these answers share steps, and weights are read once for all of them.

use super::adapters::{Parts, Set};
use super::scheduler::Scheduler;
use super::{Device, DeviceModel, Engine};
use crate::adapter::{LowRank, adapt_rows};

/// Sets whose sequences share steps.
#[derive(Debug)]
pub(super) struct Mix {
    /// The number of its plan.
    pub number: u32,
    /// Those that have adapters.
    pub sets: Vec<u32>,
}

impl Mix {
    /// What rows say that use a set; none if the mix does not have it.
    pub fn index(&self, set: Option<u32>) -> Option<u32> {
        let Some(set) = set else { return Some(0) };
        self.sets.iter().position(|known| *known == set).map(|at| at as u32 + 1)
    }
}

impl Scheduler {
    /// The sets of adapters that running answers use.
    pub fn sets(&self) -> Vec<Option<u32>> {
        let running = self.sequences.iter().filter(|sequence| sequence.answer.is_some());
        let mut sets: Vec<Option<u32>> = running.map(|sequence| sequence.set).collect();
        sets.sort_unstable();
        sets.dedup();
        sets
    }
}

impl<D: Device> Engine<D> {
    /// Makes a plan in which answers with a set share steps with those that run. If there is no room for it,
    /// sets take turns.
    pub(super) fn mix(&mut self, set: Option<u32>) {
        let mut all = self.scheduler.sets();
        all.push(set);
        let sets: Vec<&Set> =
            self.adapters.sets.iter().filter(|known| all.contains(&Some(known.number))).collect();
        let n_mixed = sets.len() + usize::from(all.contains(&None));
        let has_all = |mix: &Mix| sets.iter().all(|set| mix.sets.contains(&set.number));
        if n_mixed < 2 || self.scheduler.mix.as_ref().is_some_and(has_all) {
            return;
        }
        let used = |number: u64| sets.iter().any(|set| set.parts.iter().any(|part| part.0 == number));
        let mut paths: Vec<(&LowRank, f32)> = Vec::new();
        // For each path the number of its adapter.
        let mut numbers: Vec<u64> = Vec::new();
        for loaded in self.adapters.loaded.iter().filter(|loaded| used(loaded.number)) {
            paths.extend(loaded.adapter.paths.iter().map(|(path, factor)| (path, *factor)));
            numbers.resize(paths.len(), loaded.number);
        }
        let strengths = |parts: &Parts| -> Vec<f32> {
            let strength = |number: &u64| parts.iter().find(|part| part.0 == *number);
            numbers.iter().map(|number| strength(number).map_or(0.0, |part| f32::from_bits(part.1))).collect()
        };
        // The first is the model as it is.
        let none = Parts::new();
        let parts = std::iter::once(&none).chain(sets.iter().map(|set| &set.parts));
        let adapted = adapt_rows(self.model.graph(), &paths, &parts.map(strengths).collect::<Vec<_>>());
        let sets = sets.iter().map(|set| set.number).collect();
        if let Some(old) = self.scheduler.mix.take() {
            self.model.remove(old.number);
        }
        self.scheduler.mix = self.add_plan(&adapted).ok().map(|number| Mix { number, sets });
    }
}
