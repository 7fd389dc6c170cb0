//! Pages of the prefix cache that are kept outside of the engine, so that a conversation goes on at once
//! after a restart.
//!
//! The name of a page is a digest of all that its keys and values depend on: the model's files, their format,
//! the device's kernels, the files and strengths of adapters, and the tokens up to its end. So what is found
//! under a name is right, or damaged; and what conversations have in common is kept once. Only full pages are
//! kept.

use super::device::{Device, DeviceModel};
use super::{Engine, Error, Request};
use crate::graph::{KvFormat, PAGE};
use crate::load::hex;
use serde::Serialize;
use sha2::{Digest, Sha256};

/// Changes with what the bytes mean.
const VERSION: &str = "nomoat page 1";
const DIGEST: usize = 32;

/// A page's name.
pub(super) type Name = [u8; DIGEST];

/// The pages of a prompt.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PromptPages {
    /// The set of adapters that they are computed with, for [`Engine::restore_page`].
    pub set: Option<u32>,
    /// The tokens of its full pages.
    pub ids: Vec<u32>,
    /// The names of these pages.
    pub names: Vec<String>,
    /// How many of them the engine has.
    pub cached: usize,
}

/// The name that all first pages follow.
pub(super) fn root(kernels: &str, format: KvFormat, files: &[String]) -> Name {
    digest([VERSION.as_bytes(), kernels.as_bytes(), format.name().as_bytes(), files.concat().as_bytes()])
}

pub(super) fn digest<const N: usize>(parts: [&[u8]; N]) -> Name {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

fn next(before: Name, ids: &[u32]) -> Name {
    digest([&before, bytemuck::cast_slice(ids)])
}

/// The name that [`hex`] has written.
fn parsed(text: &str) -> Option<Name> {
    let mut name = [0; DIGEST];
    for (i, byte) in name.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * i..2 * i + 2)?, 16).ok()?;
    }
    (text.len() == 2 * DIGEST).then_some(name)
}

impl<D: Device> Engine<D> {
    /// The names of the cached pages, in the order in which they should be kept: what was used last first,
    /// and no page before the one that it follows.
    pub fn cached_pages(&self) -> Vec<String> {
        self.named_pages().iter().map(|(name, _)| hex(name)).collect()
    }

    fn named_pages(&self) -> Vec<(Name, u32)> {
        self.scheduler.cache.named(|set| self.root_of(set), next)
    }

    /// A cached page as bytes; none if it is no longer cached. Running answers may go on meanwhile.
    pub async fn read_page(&mut self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let Some(name) = parsed(name) else { return Ok(None) };
        let Some((_, page)) = self.named_pages().into_iter().find(|(found, _)| *found == name) else {
            return Ok(None);
        };
        let mut bytes = self.model.read_page(page).await?;
        let check = digest([&name, &bytes]);
        bytes.extend_from_slice(&check);
        Ok(Some(bytes))
    }

    /// What [`Self::restore_page`] can restore before a request starts; nothing for a request that
    /// computes all of its prompt, or that cannot be started.
    pub fn prompt_pages(&mut self, request: &Request) -> PromptPages {
        if request.reads_prompt() {
            return PromptPages::default();
        }
        self.restorable(request).unwrap_or_default()
    }

    fn restorable(&mut self, request: &Request) -> Result<PromptPages, Error> {
        let tools = request.callable()?;
        let (prompt, _) = self.fitting_prompt(request, tools.is_some())?;
        let mut ids = self.with_answer(request, prompt);
        self.check_length(&ids)?;
        let set = self.set_of(self.parts_of(&self.uses(request)?)?)?;
        let root = self.root_of(set).unwrap_or(self.page_root);
        // The last token is computed anyway, for its logits.
        ids.pop();
        ids.truncate(ids.len() - ids.len() % PAGE as usize);
        let pages = ids.chunks(PAGE as usize);
        let names: Vec<Name> = pages
            .scan(root, |name, ids| {
                *name = next(*name, ids);
                Some(*name)
            })
            .collect();
        let cached = self.named_pages();
        let is_cached = |name: &&Name| cached.iter().any(|(cached, _)| cached == *name);
        let cached = names.iter().take_while(is_cached).count();
        Ok(PromptPages { set, ids, names: names.iter().map(|name| hex(name)).collect(), cached })
    }

    /// Caches the page of the last tokens, from bytes of [`Self::read_page`]. False if they are damaged or of
    /// another page, if the pages before it are missing, if there is no room, or if the set of adapters is
    /// not on the device.
    pub fn restore_page(&mut self, set: Option<u32>, ids: &[u32], bytes: &[u8]) -> bool {
        let size = self.model.graph().kv_bytes(PAGE);
        let Some((data, check)) = bytes.split_last_chunk::<DIGEST>() else { return false };
        let Some(root) = self.root_of(set) else { return false };
        let name = ids.chunks(PAGE as usize).fold(root, next);
        let is_page = ids.len().is_multiple_of(PAGE as usize) && !ids.is_empty() && data.len() as u64 == size;
        if !is_page || *check != digest([&name, data]) {
            return false;
        }
        self.scheduler.cache.restore(set, ids, |page| self.model.write_page(page, data))
    }

    /// Forgets all cached pages.
    pub fn forget(&mut self) {
        self.scheduler.cache.clear();
    }
}
