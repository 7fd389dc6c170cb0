//! The adapters of a model, and the sets of them that requests use.
//!
//! A set has adapters with their strengths. The device has a plan of its own for each, over the same weights
//! and KV pool. A set's number is never used again, so keys and values that were computed with one set are
//! not taken for those of another.

use super::kept::{Name, digest};
use super::{AdapterUse, Device, DeviceModel, Engine, Error, Request};
use crate::adapter::{Adapted, Adapter, AdapterFiles, AdapterInfo, Base, LowRank, adapt};

/// Sets that stay on the device at least, for requests to come.
const KEPT: usize = 3;

/// The numbers of adapters in ascending order, each with the bits of its strength.
pub(super) type Parts = Vec<(u64, u32)>;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Adapters {
    /// In the order in which they were loaded.
    pub loaded: Vec<Loaded>,
    n_loaded: u64,
    /// The sets on the device, the one used last at the end.
    pub sets: Vec<Set>,
    /// Plans that the device was ever given.
    n_plans: u32,
}

#[derive(Debug)]
pub(super) struct Loaded {
    name: String,
    pub number: u64,
    /// Of its files.
    digest: Name,
    pub adapter: Adapter,
}

#[derive(Debug)]
pub(super) struct Set {
    pub number: u32,
    pub parts: Parts,
    /// The name that the first pages with these adapters follow; see `kept.rs`.
    root: Name,
}

impl<D: Device> Engine<D> {
    /// Loads an adapter under a name. The model's weights stay as they are.
    pub fn load_adapter(&mut self, name: &str, files: AdapterFiles) -> Result<AdapterInfo, Error> {
        if name.is_empty() || name.contains(':') {
            let message = format!("{name:?} cannot name an adapter: names are not empty and have no colon");
            return Err(Error::InvalidRequest(message));
        }
        if self.adapters.loaded.iter().any(|loaded| loaded.name == name) {
            let message = format!("there is an adapter {name:?} already; unload it, or take another name");
            return Err(Error::InvalidRequest(message));
        }
        let digest = match files {
            AdapterFiles::Gguf(bytes) => digest([bytes]),
            AdapterFiles::Peft { config, weights } => digest([config, weights]),
        };
        let base = Base { architecture: &self.info.architecture, graph: self.model.graph() };
        let adapter = Adapter::read(files, base)?;
        let info = adapter.info(name);
        let adapters = &mut self.adapters;
        adapters.n_loaded += 1;
        adapters.loaded.push(Loaded { name: name.to_string(), number: adapters.n_loaded, digest, adapter });
        Ok(info)
    }

    /// The adapters, in the order in which they were loaded.
    pub fn adapters(&self) -> Vec<AdapterInfo> {
        self.adapters.loaded.iter().map(|loaded| loaded.adapter.info(&loaded.name)).collect()
    }

    /// Forgets an adapter. Fails while an answer uses it, or waits for its turn to do so.
    pub fn unload_adapter(&mut self, name: &str) -> Result<(), Error> {
        let found = self.adapters.loaded.iter().position(|loaded| loaded.name == name);
        let at = found.ok_or_else(|| self.no_adapter(name))?;
        let number = self.adapters.loaded[at].number;
        let has = |set: &Set| set.parts.iter().any(|(part, _)| *part == number);
        let is_used = self.adapters.sets.iter().any(|set| has(set) && self.is_used(set.number));
        if is_used || self.scheduler.waiting.iter().flat_map(|it| &it.adapters).any(|it| it.0 == number) {
            let message = format!("an answer uses the adapter {name:?}; wait for its end, or cancel it");
            return Err(Error::InvalidRequest(message));
        }
        let sets = &mut self.adapters.sets;
        let mut gone: Vec<u32> = sets.extract_if(.., |set| has(set)).map(|set| set.number).collect();
        // The mix may have sets that gave way since.
        let is_left = |number: &u32| sets.iter().any(|set| set.number == *number);
        gone.extend(self.scheduler.mix.take_if(|mix| !mix.sets.iter().all(is_left)).map(|mix| mix.number));
        gone.into_iter().for_each(|number| self.model.remove(number));
        self.adapters.loaded.remove(at);
        self.info.gpu_bytes = self.gpu_bytes();
        Ok(())
    }

    /// The adapters that a request names.
    pub(super) fn uses(&self, request: &Request) -> Result<Vec<AdapterUse>, Error> {
        let model = request.model.as_deref().filter(|model| *model != self.info.name);
        match model.and_then(|model| model.rsplit_once(':')) {
            None => Ok(request.adapters.clone()),
            Some(_) if !request.adapters.is_empty() => {
                let message = "a request has either adapters or a model with an adapter's name after a colon";
                Err(Error::InvalidRequest(message.into()))
            }
            Some((_, name)) => Ok(vec![AdapterUse { name: name.to_string(), scale: 1.0 }]),
        }
    }

    /// What is used; empty if it changes nothing.
    pub(super) fn parts_of(&self, uses: &[AdapterUse]) -> Result<Parts, Error> {
        let mut parts = Parts::new();
        for AdapterUse { name, scale } in uses {
            let loaded = self.adapters.loaded.iter().find(|loaded| loaded.name == *name);
            let number = loaded.ok_or_else(|| self.no_adapter(name))?.number;
            if !scale.is_finite() {
                let message = format!("the scale of the adapter {name:?} is not a number");
                return Err(Error::InvalidRequest(message));
            }
            if parts.iter().any(|(part, _)| *part == number) {
                return Err(Error::InvalidRequest(format!("the adapter {name:?} is named twice")));
            }
            parts.push((number, scale.to_bits()));
        }
        parts.retain(|(_, scale)| f32::from_bits(*scale) != 0.0);
        parts.sort_unstable();
        Ok(parts)
    }

    /// The name that the first pages of a set follow; none if it is not on the device.
    pub(super) fn root_of(&self, set: Option<u32>) -> Option<Name> {
        let Some(number) = set else { return Some(self.page_root) };
        self.adapters.sets.iter().find(|set| set.number == number).map(|set| set.root)
    }

    /// The number of a set of adapters, which is then on the device; none for the model as it is.
    pub(super) fn set_of(&mut self, parts: Parts) -> Result<Option<u32>, Error> {
        if parts.is_empty() {
            return Ok(None);
        }
        let sets = &mut self.adapters.sets;
        if let Some(at) = sets.iter().position(|set| set.parts == parts) {
            let set = sets.remove(at);
            let number = set.number;
            sets.push(set);
            return Ok(Some(number));
        }
        self.add_set(parts).map(Some)
    }

    fn add_set(&mut self, parts: Parts) -> Result<u32, Error> {
        while self.adapters.sets.len() >= KEPT
            && let Some(at) = self.adapters.sets.iter().position(|set| !self.is_used(set.number))
        {
            let set = self.adapters.sets.remove(at);
            self.model.remove(set.number);
        }
        let mut paths: Vec<(&LowRank, f32)> = Vec::new();
        let mut root = self.page_root;
        for (number, scale) in &parts {
            for loaded in self.adapters.loaded.iter().filter(|loaded| loaded.number == *number) {
                let own = loaded.adapter.paths.iter();
                paths.extend(own.map(|(path, factor)| (path, factor * f32::from_bits(*scale))));
                root = digest([&root, &loaded.digest, &scale.to_le_bytes()]);
            }
        }
        let adapted = adapt(self.model.graph(), &paths);
        let number = self.add_plan(&adapted)?;
        self.adapters.sets.push(Set { number, parts, root });
        Ok(number)
    }

    /// Puts a plan on the device, under a number that is never used again.
    pub(super) fn add_plan(&mut self, adapted: &Adapted) -> Result<u32, Error> {
        self.adapters.n_plans += 1;
        let number = self.adapters.n_plans;
        let added = self.model.add(number, adapted);
        self.info.gpu_bytes = self.gpu_bytes();
        added.map(|()| number)
    }

    /// Whether a running answer uses a set.
    fn is_used(&self, number: u32) -> bool {
        self.scheduler.sets().contains(&Some(number))
    }

    fn no_adapter(&self, name: &str) -> Error {
        let names: Vec<String> =
            self.adapters.loaded.iter().map(|loaded| format!("{:?}", loaded.name)).collect();
        let known = if names.is_empty() { "none is loaded".into() } else { names.join(", ") };
        Error::InvalidRequest(format!("there is no adapter {name:?}; loaded: {known}"))
    }
}
