// Query, key and value heads. The weight stacks the rows of N_Q query, N_K key and N_V value heads; each
// number can be 0. Queries and keys are rotated. Keys and values go to the KV pool as f16.
// A unit is four rows of one head: two rotary pairs (see attention/rope) that fill two words of the KV pool.
//   tokens [8] rows of the step
//   table  [step rows, N_ROT / 2] (cosine, sine), see attention/rope_table
//   y      [step rows, N_Q * HEAD_DIM] f32, the rotated queries
//   kv     [n_cells, 2 * CELL] f16, two per word: KEYS keys, then values
// HEAD_DIM and N_ROT are multiples of 4. N_ROT is 0 without a rotary embedding.
#import common/token
#import common/f16
#import matmul/bias
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(6) var<uniform> tokens: array<Token, 8>;
@group(0) @binding(7) var<storage, read> table: array<vec2<f32>>;
@group(0) @binding(8) var<storage, read_write> kv: array<u32>;

override N_Q: u32;
override N_K: u32;
override N_V: u32;
override KEYS: u32;
override CELL: u32;
override HEAD_DIM: u32;
override N_ROT: u32;
override NEOX: bool;

fn n_units() -> u32 {
    return (N_Q + N_K + N_V) * (HEAD_DIM / 4u);
}

fn is_turned(unit: u32) -> bool {
    let head = unit / (HEAD_DIM / 4u);
    return head < N_Q + N_K && unit % (HEAD_DIM / 4u) < N_ROT / 4u;
}

fn unit_rows(unit: u32) -> vec4<u32> {
    let head = unit / (HEAD_DIM / 4u) * HEAD_DIM;
    let i = unit % (HEAD_DIM / 4u);
    if NEOX && is_turned(unit) {
        let row = head + 2u * i;
        return vec4<u32>(row, row + N_ROT / 2u, row + 1u, row + 1u + N_ROT / 2u);
    }
    return vec4<u32>(head + 4u * i) + vec4<u32>(0u, 1u, 2u, 3u);
}

// The word of a cell that holds this row of keys or values.
fn word(row: u32) -> u32 {
    let keys = N_K * HEAD_DIM;
    return select(KEYS + row - keys, row, row < keys) / 2u;
}

fn store(t: u32, unit: u32, sums: vec4<f32>) {
    let rows = unit_rows(unit);
    var v = biased(rows, sums);
    if is_turned(unit) {
        let at = t * (N_ROT / 2u) + 2u * (unit % (HEAD_DIM / 4u));
        let a = table[at];
        let b = table[at + 1u];
        v = vec4<f32>(
            v.x * a.x - v.y * a.y, v.x * a.y + v.y * a.x,
            v.z * b.x - v.w * b.y, v.z * b.y + v.w * b.x,
        );
    }
    // Two pairs of neighbouring rows.
    var first = rows.x;
    var second = rows.z;
    if NEOX && is_turned(unit) {
        v = v.xzyw;
        second = rows.y;
    }
    let n_q = N_Q * HEAD_DIM;
    if first < n_q {
        let at = t * n_q;
        y[at + first] = v.x;
        y[at + first + 1u] = v.y;
        y[at + second] = v.z;
        y[at + second + 1u] = v.w;
    } else {
        let at = tokens[t].cell * CELL;
        kv[at + word(first - n_q)] = pack_f16(v.xy);
        kv[at + word(second - n_q)] = pack_f16(v.zw);
    }
}
