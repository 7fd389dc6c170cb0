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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::fuse::{Fuses, Part, Products, fuse, unfused};
    use crate::graph::testing::{HeadNorms, Layers, layers};
    use crate::quant::Format;

    struct Takes(bool);

    impl Fuses for Takes {
        fn takes(&self, part: &Part) -> bool {
            self.0 || !matches!(part, Part::KvWrite(..) | Part::Rope(_))
        }

        fn accepts(&self, _: &Graph, _: &Products) -> bool {
            true
        }
    }

    /// Runs a list and checks that every group finds in its inputs' places what was put there.
    fn check(graph: &Graph, list: &[Group], places: &Places) {
        let mut held: Vec<Option<ValueId>> = vec![None; places.shapes.len()];
        let uses = Uses::of(graph);
        for i in (0..graph.values.len()).filter(|i| uses.maker(ValueId(*i)).is_none()) {
            held[places.of[i].unwrap_or(usize::MAX)] = Some(ValueId(i));
        }
        for group in list {
            let read: Vec<_> = group.inputs().iter().map(|input| places.of[input.0]).collect();
            for (input, place) in group.inputs().iter().zip(&read) {
                assert_eq!(place.map(|place| held[place]), Some(Some(*input)), "{group:?}");
            }
            for out in group.outs() {
                assert!(!read.contains(&places.of[out.0]), "{group:?} writes what it reads");
                assert_eq!(places.of[out.0].map(|place| places.shapes[place]), Some(graph.value(out)));
                held[places.of[out.0].unwrap_or(usize::MAX)] = Some(out);
            }
        }
        assert!(graph.logits.is_none_or(|id| held.contains(&Some(id))), "the logits are lost");
    }

    #[test]
    fn nothing_is_overwritten_before_it_is_read() {
        for shape in [
            Layers { n_layers: 3, ..Layers::of(Format::F32) },
            Layers { n_layers: 2, biases: true, head_norms: HeadNorms::Heads, ..Layers::of(Format::F32) },
        ] {
            let graph = layers(shape, &[1]).graph;
            let lists = [unfused(&graph), fuse(&graph, &Takes(true)), fuse(&graph, &Takes(false))];
            let all: Vec<&[Group]> = lists.iter().map(Vec::as_slice).collect();
            let shared = place(&graph, &all, false);
            let kept = place(&graph, &all, true);
            for list in &lists {
                check(&graph, list, &shared);
                check(&graph, list, &kept);
                check(&graph, list, &place(&graph, &[list], false));
            }
            assert!(shared.shapes.len() < kept.shapes.len() / 2, "places are not shared");
        }
    }

    #[test]
    fn values_inside_of_groups_have_no_place() {
        let graph = layers(Layers::of(Format::F32), &[1]).graph;
        let groups = fuse(&graph, &Takes(true));
        let places = place(&graph, &[&groups], false);
        let written: usize = groups.iter().map(|group| group.outs().len()).sum();
        // And the input.
        assert_eq!(places.of.iter().flatten().count(), written + 1);
    }

    #[test]
    fn makers_and_readers_are_found() {
        let graph = layers(Layers::of(Format::F32), &[1]).graph;
        let uses = Uses::of(&graph);
        for (i, op) in graph.ops.iter().enumerate() {
            assert_eq!(op.out().map(|out| uses.maker(out)), op.out().map(|_| Some(i)));
            assert!(op.inputs().iter().all(|input| uses.readers(*input).contains(&i)));
        }
    }
}
