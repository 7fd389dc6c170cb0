//! Who makes and who reads each value, and how long it has to be kept: once, for both devices.

use super::fuse::Group;
use super::{Graph, Value, ValueId};

/// Makers and readers of a graph's values.
#[derive(Debug)]
pub struct Uses {
    makers: Vec<Option<usize>>,
    readers: Vec<Vec<usize>>,
}

impl Uses {
    /// Reads the graph's ops once.
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

    /// The op that makes a value; none of an input.
    pub fn maker(&self, id: ValueId) -> Option<usize> {
        self.makers[id.0]
    }

    /// The ops that read a value, in order; an op that reads it twice is there twice.
    pub fn readers(&self, id: ValueId) -> &[usize] {
        &self.readers[id.0]
    }
}

/// Where values lie. Values whose lives do not overlap share a place.
#[derive(Debug)]
pub struct Places {
    /// The place of each value; none where no list writes it.
    pub of: Vec<Option<usize>>,
    /// The shape of each place.
    pub shapes: Vec<Value>,
}

/// Finds places for the values that `lists` of groups read and write. Each list is a way to run the whole
/// graph, and the places serve all of them. A place is taken over by a later value of the same shape once the
/// last reader is past; a group never reads and writes one place. With `keep`, every value has a place of its
/// own.
pub fn place(graph: &Graph, lists: &[&[Group]], keep: bool) -> Places {
    // Times are numbers of ops: a group runs at its last one.
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
    // Places by number, each with the time after which it is free.
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
