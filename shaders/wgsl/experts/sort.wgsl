// Sorts the pairs of a row and one of its experts by expert, and cuts them into tiles of pairs with the same
// expert, at most TILE each. Pair t * N_USED + s is expert s of row t.
//
//   route   [step rows, 2 * N_USED] f32: numbers of experts, then weights
//   sorted  u32: the number of tiles; (expert, first place, place after the last) of each tile; from PAIRS_AT
//           on, the pairs
//
// One workgroup. The order of an expert's pairs is not fixed, and does not matter.
#import common/rows
@group(0) @binding(1) var<storage, read> route: array<f32>;
@group(0) @binding(2) var<storage, read_write> sorted: array<u32>;

override N_EXPERTS: u32;
override N_USED: u32;
override PAIRS_AT: u32;

const TILE = 32u;

// Pairs of each expert, then the place of its next pair. N_EXPERTS is at most 1024.
var<workgroup> counts: array<atomic<u32>, 1024>;

fn expert(pair: u32) -> u32 {
    return min(u32(route[pair / N_USED * 2u * N_USED + pair % N_USED]), N_EXPERTS - 1u);
}

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) thread: u32) {
    let n = step_rows() * N_USED;
    for (var i = thread; i < N_EXPERTS; i += 256u) {
        atomicStore(&counts[i], 0u);
    }
    workgroupBarrier();
    for (var pair = thread; pair < n; pair += 256u) {
        atomicAdd(&counts[expert(pair)], 1u);
    }
    workgroupBarrier();
    if thread == 0u {
        var tiles = 0u;
        var start = 0u;
        for (var i = 0u; i < N_EXPERTS; i++) {
            let end = start + atomicLoad(&counts[i]);
            atomicStore(&counts[i], start);
            while start < end {
                let next = min(start + TILE, end);
                sorted[1u + 3u * tiles] = i;
                sorted[2u + 3u * tiles] = start;
                sorted[3u + 3u * tiles] = next;
                tiles++;
                start = next;
            }
        }
        sorted[0] = tiles;
    }
    workgroupBarrier();
    for (var pair = thread; pair < n; pair += 256u) {
        sorted[PAIRS_AT + atomicAdd(&counts[expert(pair)], 1u)] = pair;
    }
}
