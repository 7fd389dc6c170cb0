//! Which ops write and read each value, and how long it must be kept. Both devices use this.

use super::fuse::Group;
use super::{Graph, Value, ValueId};

/// The ops that write and read each value of a graph.
#[derive(Debug)]
pub struct Uses {
    makers: Vec<Option<usize>>,
    readers: Vec<Vec<usize>>,
}

impl Uses {
    /// Finds the uses of all values of the graph.
    pub fn of(graph: &Graph) -> Self {
        let mut uses =
            Self { makers: vec![None; graph.values.len()], readers: vec![Vec::new(); graph.values.len()] };
        for (i, op) in graph.ops.iter().enumerate() {
            op.inputs().iter().for_each(|input| uses.readers[input.0].push(i));
            if let Some(out) = op.out() {
                uses.makers[out.0] = Some(i);
            }
        }
        uses
    }

    /// The op that writes a value; none for an input.
    pub fn maker(&self, id: ValueId) -> Option<usize> {
        self.makers[id.0]
    }

    /// The ops that read a value, in order. An op that reads it twice is listed twice.
    pub fn readers(&self, id: ValueId) -> &[usize] {
        &self.readers[id.0]
    }
}

/// Where values are stored. Values whose lifetimes do not overlap can share a place.
#[derive(Debug)]
pub struct Places {
    /// The place of each value; none if no list writes it.
    pub of: Vec<Option<usize>>,
    /// The shape of each place.
    pub shapes: Vec<Value>,
}

/// Finds places for the values that the groups of `lists` read and write. Each list is one way to run the
/// whole graph; the places are valid for all of them. A later value of the same shape reuses a place after
/// the last reader of the earlier value. A group never reads and writes the same place. With `keep`, every
/// value has its own place.
pub fn place(graph: &Graph, lists: &[&[Group]], keep: bool) -> Places {
    // Time is counted in ops: a group runs at its last op.
    let mut made = vec![usize::MAX; graph.values.len()];
    let mut read = vec![0; graph.values.len()];
    let uses = Uses::of(graph);
    for group in lists.iter().flat_map(|list| list.iter()) {
        for input in group.inputs() {
            read[input.0] = read[input.0].max(group.last_op);
        }
        for out in group.outs() {
            made[out.0] = made[out.0].min(group.last_op);
        }
    }
    // For each place, the time after which it is free.
    let mut places = Places { of: vec![None; graph.values.len()], shapes: Vec::new() };
    let mut free_after: Vec<usize> = Vec::new();
    let mut order: Vec<usize> = (0..graph.values.len()).collect();
    order.sort_by_key(|i| (made[*i], *i));
    for i in order {
        let is_input = uses.maker(ValueId(i)).is_none();
        if made[i] == usize::MAX && !is_input {
            continue;
        }
        let stays = keep || is_input || graph.logits == Some(ValueId(i));
        let until = if stays { usize::MAX } else { read[i].max(made[i]) };
        let fits = |place: &usize| places.shapes[*place] == graph.values[i] && free_after[*place] < made[i];
        let known = (0..places.shapes.len()).find(|place| !stays && fits(place));
        let place = known.unwrap_or_else(|| {
            places.shapes.push(graph.values[i]);
            free_after.push(0);
            places.shapes.len() - 1
        });
        free_after[place] = until;
        places.of[i] = Some(place);
    }
    places
}
