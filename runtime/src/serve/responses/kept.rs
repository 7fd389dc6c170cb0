//! Items of the last answers, for clients that send references to them.

use serde_json::Value;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

/// How many items are kept.
const MAX_KEPT: usize = 1000;

/// Items by their ids. They are random, so that only those who got an item can name it.
#[derive(Default)]
pub struct Kept(Mutex<Items>);

#[derive(Default)]
struct Items {
    by_id: HashMap<String, Value>,
    /// The oldest first.
    ids: VecDeque<String>,
}

impl Kept {
    /// An item of an earlier answer.
    pub fn find(&self, id: &str) -> Option<Value> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).by_id.get(id).cloned()
    }

    /// Keeps the items of a response.
    pub fn keep(&self, response: &Value) {
        let mut items = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for item in response["output"].as_array().into_iter().flatten() {
            let id = item["id"].as_str().unwrap_or_default().to_owned();
            items.ids.push_back(id.clone());
            items.by_id.insert(id, item.clone());
        }
        while items.ids.len() > MAX_KEPT {
            if let Some(id) = items.ids.pop_front() {
                items.by_id.remove(&id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_last_items_are_kept() {
        let kept = Kept::default();
        for i in 0..MAX_KEPT + 2 {
            kept.keep(&json!({ "output": [{ "id": i.to_string(), "number": i }] }));
        }
        let found: Vec<bool> = [0, 1, 2, MAX_KEPT + 1].map(|i| kept.find(&i.to_string()).is_some()).into();
        assert_eq!(found, [false, false, true, true]);
        assert_eq!(kept.find("5"), Some(json!({ "id": "5", "number": 5 })));
    }
}
